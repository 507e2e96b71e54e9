//! What clients sent, where an error speaks of it: never the whole of what is long. An answer that repeated a value of a mebibyte, quoted for people
//! and again for JSON, would be seven of them, and nobody could read it.

use std::fmt;

/// A text as errors show it: quoted by `{:?}`, as it is by `{}`, and cut behind its first 128 characters. One that is shorter is shown as by itself.
///
/// ```
/// use daypass_base::Brief;
/// assert_eq!(format!("{:?} {}", Brief("a\"b"), Brief("a\"b")), "\"a\\\"b\" a\"b");
/// let long = "x".repeat(129);
/// assert_eq!(format!("{:?}", Brief(&long)), format!("\"{}\"…", "x".repeat(128)));
/// ```
#[derive(Clone, Copy)]
pub struct Brief<'a>(pub &'a str);

impl<'a> Brief<'a> {
    /// What is shown, and the mark behind what was cut.
    fn parts(self) -> (&'a str, &'static str) {
        match self.0.char_indices().nth(CHARACTERS_MAX) {
            Some((end, _)) => (self.0.get(..end).unwrap_or_default(), "…"),
            None => (self.0, ""),
        }
    }
}

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, mark) = self.parts();
        f.write_str(shown)?;
        f.write_str(mark)
    }
}

impl fmt::Debug for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, mark) = self.parts();
        fmt::Debug::fmt(shown, f)?;
        f.write_str(mark)
    }
}

/// A text for a client, of 16 KiB at most: what is longer is cut, and says so at its end.
///
/// ```
/// use daypass_base::brief::cut;
/// assert_eq!(cut("short".to_owned()), "short");
/// assert!(cut("x".repeat(20_000)).ends_with("x… (cut here: the whole text has 20000 bytes)"));
/// ```
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let note = format!("… (cut here: the whole text has {} bytes)", text.len());
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX.saturating_sub(note.len())));
        text.push_str(&note);
        text.shrink_to_fit();
    }
    text
}

/// As much of a value as lets its sender know it again; a name of AWS's has no more.
const CHARACTERS_MAX: usize = 128;
/// A page of mistakes in a policy fits.
const TEXT_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_shown_as_by_itself() {
        for text in ["", "a", "\"\\\n\u{7f}\u{0}é日", &"é".repeat(CHARACTERS_MAX)] {
            assert_eq!((format!("{:?}", Brief(text)), Brief(text).to_string()), (format!("{text:?}"), text.to_owned()));
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(CHARACTERS_MAX + 1);
        let shown = "é".repeat(CHARACTERS_MAX);
        assert_eq!((format!("{:?}", Brief(&long)), Brief(&long).to_string()), (format!("\"{shown}\"…"), format!("{shown}…")));
    }

    #[test]
    fn a_text_for_a_client_is_cut_once() {
        let fits = "é".repeat(TEXT_BYTES_MAX / 2);
        assert_eq!(cut(fits.clone()), fits);
        let once = cut(format!("x{}", "é".repeat(TEXT_BYTES_MAX)));
        assert!(
            once.len() <= TEXT_BYTES_MAX
                && once.capacity() <= TEXT_BYTES_MAX
                && once.ends_with("é… (cut here: the whole text has 32769 bytes)")
        );
        assert_eq!(cut(once.clone()), once);
    }
}
