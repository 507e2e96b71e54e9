//! The causes of an error in one line.

use std::error::Error;

/// The error and what lies behind it, joined by `: `, each text said once: libraries repeat their causes in their own texts.
///
/// ```
/// let error = "x".parse::<u8>().unwrap_err();
/// assert_eq!(daypass_base::causes(&error), "invalid digit found in string");
/// ```
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut out = String::new();
    for cause in std::iter::successors(Some(error), |&error| error.source()) {
        let text = cause.to_string();
        if out.contains(&text) {
            continue;
        }
        if !out.is_empty() {
            out.push_str(": ");
        }
        out.push_str(&text);
    }
    out
}
