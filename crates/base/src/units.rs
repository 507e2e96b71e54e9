//! Quantities with their unit in the type: [`Seconds`] and [`Timestamp`].

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Brief, duration};

/// A whole number of seconds. Reads `3600`, `"3600"`, `"60m"`, `"1h30m"`, `"1d"`; writes a number.
///
/// ```
/// use daypass_base::Seconds;
/// let ttl: Seconds = serde_json::from_str("\"60m\"").unwrap();
/// assert_eq!(ttl, Seconds(3600));
/// assert!(serde_json::from_str::<Seconds>("-5").is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seconds(pub u64);

impl Seconds {
    /// No time at all; in most fields of Vault's API this means "not set".
    pub const ZERO: Self = Self(0);

    /// An hour: the default lifetime of an STS credential.
    #[must_use]
    pub fn hour() -> Self {
        Self(3600)
    }

    /// Whether it is zero, which mostly means "not set".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// `None` when it is zero.
    #[must_use]
    pub fn set(self) -> Option<Self> {
        (self.0 != 0).then_some(self)
    }

    /// The same length as a [`Duration`].
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// Reads a text as Vault does. Fractions of a second are cut off.
    pub fn parse(text: &str) -> Result<Self, String> {
        let signed = duration::parse(text).map_err(|error| error.to_string())?;
        if signed.negative && !signed.size.is_zero() {
            return Err(format!("cannot provide negative value '-{}'", signed.size.as_secs()));
        }
        Ok(Self(signed.size.as_secs()))
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs())
    }
}

/// `1h0m0s`, as Go prints it.
impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&duration::go_string(self.duration()))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

struct SecondsVisitor;

/// 292 years: the longest duration that Go knows, and a text may hold.
const SECONDS_MAX: u64 = 9_223_372_036;

impl<'de> Visitor<'de> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number of seconds or a duration such as \"60m\"")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seconds, E> {
        // Cut and not refused: rows of before may hold more, and what was written must be read again.
        Ok(Seconds(value.min(SECONDS_MAX)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seconds, E> {
        u64::try_from(value)
            .map(|value| Seconds(value.min(SECONDS_MAX)))
            .map_err(|_negative| E::custom(format!("cannot provide negative value '{value}'")))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range just before; the fraction is meant to go"
    )]
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Seconds, E> {
        if value < 0.0 {
            return Err(E::custom(format!("cannot provide negative value '{value}'")));
        }
        if value.is_finite() && value < 9.0e9 { Ok(Seconds(value as u64)) } else { Err(E::custom(format!("{value} seconds is too long"))) }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Seconds, E> {
        Seconds::parse(value).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Seconds, E> {
        Err(E::custom("could not parse duration from input"))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<Seconds, A::Error> {
        Err(de::Error::custom("could not parse duration from input"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<Seconds, A::Error> {
        Err(de::Error::custom("could not parse duration from input"))
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "seconds", "x-daypass-unit": "seconds" })
    }
}

/// A moment: nanoseconds since 1970 in UTC. Writes RFC 3339 with nanoseconds and `Z`.
///
/// ```
/// use daypass_base::Timestamp;
/// let t = Timestamp::from_nanos(1_767_323_045_678_901_234);
/// assert_eq!(t.to_string(), "2026-01-02T03:04:05.678901234Z");
/// assert_eq!("2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap().seconds(), 1_767_323_045);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since 1970.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since 1970; beyond the year 2262 it stays at the last moment that fits.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since 1970, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// How much later this is than `earlier`; zero when it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment as a calendar date and time in UTC.
    #[must_use]
    pub fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl std::ops::Add<Seconds> for Timestamp {
    type Output = Self;
    fn add(self, seconds: Seconds) -> Self {
        self + seconds.duration()
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // By hand: a time stands in every answer and in every line of audit.
        let at = self.date_time();
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        put_digits(&mut text, 0..4, at.year().unsigned_abs());
        for (place, number) in [(5, u8::from(at.month())), (8, at.day()), (11, at.hour()), (14, at.minute()), (17, at.second())] {
            put_digits(&mut text, place..place + 2, u32::from(number));
        }
        put_digits(&mut text, 20..29, at.nanosecond());
        let text = std::str::from_utf8(&text).unwrap_or_default();
        // Zeros at the end of the fraction go, and the point with them when nothing is left.
        let short = text.trim_end_matches('Z').trim_end_matches('0');
        f.write_str(if at.nanosecond() == 0 { text.get(..19).unwrap_or_default() } else { short })?;
        f.write_str("Z")
    }
}

/// Writes a number into its place, with zeros in front.
fn put_digits(text: &mut [u8], place: std::ops::Range<usize>, mut number: u32) {
    for digit in text.get_mut(place).unwrap_or_default().iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| format!("{:?} is no RFC 3339 time: {error}", Brief(text)))?;
        i64::try_from(parsed.unix_timestamp_nanos())
            .map(Self)
            .map_err(|_far| format!("{:?} is outside the years 1678 to 2262", Brief(text)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (nanos, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_767_323_045_000_000_000, "2026-01-02T03:04:05Z"),
            (1_767_323_045_100_000_000, "2026-01-02T03:04:05.1Z"),
            (1_767_323_040_000_100_000, "2026-01-02T03:04:00.0001Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            let at = Timestamp::from_nanos(nanos);
            assert_eq!(at.to_string(), written);
            assert_eq!(at.date_time().format(&Rfc3339).unwrap(), written, "as the library writes it");
            assert_eq!(written.parse(), Ok(at));
        }
    }
}
