//! Durations as Vault's clients write them, and as Go prints them.
//!
//! Accepted: bare seconds (`3600`), Go's grammar (`1h30m`, `1.5h`, `250ms`), and whole days (`1d`, also in front: `1d12h`).
//! Source: Vault API, "Duration format string".

use std::time::Duration;

use crate::Brief;

/// Why a text is no duration. The text itself is echoed, as far as it is short; durations are never secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit.
    #[error("time: invalid duration {:?}", Brief(.0))]
    Invalid(String),
    /// A number without a unit inside a longer duration.
    #[error("time: missing unit in duration {:?}", Brief(.0))]
    MissingUnit(String),
    /// A unit that nobody knows.
    #[error("time: unknown unit {:?} in duration {:?}", Brief(.unit), Brief(.text))]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// A duration that may be negative: sign and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// Whether it is below zero.
    pub negative: bool,
    /// How long.
    pub size: Duration,
}

/// Reads a duration. The empty text is zero.
///
/// ```
/// use std::time::Duration;
/// use daypass_base::duration::parse;
/// assert_eq!(parse("60m").unwrap().size, Duration::from_secs(3600));
/// assert_eq!(parse("3600").unwrap().size, Duration::from_secs(3600));
/// assert!(parse("-5").unwrap().negative);
/// assert!(parse("1 hour").is_err());
/// ```
pub fn parse(text: &str) -> Result<Signed, DurationError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(Signed { negative: false, size: Duration::ZERO });
    }
    let (negative, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let invalid = || DurationError::Invalid(text.to_owned());
    if rest.is_empty() {
        return Err(invalid());
    }
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = rest.parse().map_err(|_too_large| invalid())?;
        return bounded(negative, u128::from(seconds) * 1_000_000_000).ok_or_else(invalid);
    }
    let mut total: u128 = 0;
    let mut left = rest;
    while !left.is_empty() {
        let number_end = left.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(left.len());
        let (number, after) = left.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let nanos = unit_nanos(unit).ok_or_else(|| DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
        total = total.checked_add(scaled(number, nanos).ok_or_else(invalid)?).ok_or_else(invalid)?;
        left = next;
    }
    bounded(negative, total).ok_or_else(invalid)
}

/// Prints as Go does: `1h0m0s`, `30m0s`, `45s`, `1.5s`, `0s`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(daypass_base::duration::go_string(Duration::from_secs(3600)), "1h0m0s");
/// ```
#[must_use]
pub fn go_string(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanos = duration.subsec_nanos();
    if seconds == 0 && nanos > 0 {
        let (divisor, unit) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{}{unit}", nanos / divisor, fraction(nanos % divisor, divisor));
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let tail = format!("{rest}{}s", fraction(nanos, 1_000_000_000));
    match (hours, minutes) {
        (0, 0) => tail,
        (0, _) => format!("{minutes}m{tail}"),
        _ => format!("{hours}h{minutes}m{tail}"),
    }
}

/// Prints as Vault's warnings and its CLI do, without empty units: `1h`, `1h30m`, `45s`, `768h`, `0s`.
#[must_use]
pub fn short_string(duration: Duration) -> String {
    let mut text = go_string(duration);
    if text.ends_with("m0s") {
        text.truncate(text.len() - 2);
    }
    if text.ends_with("h0m") {
        text.truncate(text.len() - 2);
    }
    text
}

fn bounded(negative: bool, nanos: u128) -> Option<Signed> {
    // Go keeps durations in 63 bits of nanoseconds (292 years); longer ones are refused there too.
    let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos <= i64::MAX.unsigned_abs())?;
    Some(Signed { negative, size: Duration::from_nanos(nanos) })
}

fn scaled(number: &str, unit_nanos: u128) -> Option<u128> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if decimals.contains('.') || whole.len() > 20 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit_nanos)?;
    let mut place = unit_nanos;
    for digit in decimals.bytes().take(18) {
        place /= 10;
        total = total.checked_add(place * u128::from(digit - b'0'))?;
    }
    Some(total)
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    })
}

fn fraction(part: u32, whole: u32) -> String {
    if part == 0 {
        return String::new();
    }
    let digits = whole.ilog10() as usize;
    let text = format!(".{part:0digits$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_forms_round_trip() {
        for (text, printed) in [
            ("60m", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m0s"),
            ("1d", "24h0m0s"),
            ("", "0s"),
            ("1500ms", "1.5s"),
            ("250us", "250µs"),
        ] {
            assert_eq!(go_string(parse(text).unwrap().size), printed, "{text}");
        }
        assert_eq!(short_string(Duration::from_hours(768)), "768h");
        assert_eq!(short_string(Duration::from_mins(90)), "1h30m");
        assert_eq!(short_string(Duration::from_secs(30)), "30s");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["x", "1x", "1h2", "--1", ".h", "1..5s", "999999999999999999999s", "1 h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
