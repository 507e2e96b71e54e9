//! Times as a key keeps them: when versions are deleted, and points in time as numbers.

use std::borrow::Cow;
use std::time::Duration;

use daypass_base::duration::{self, go_string};
use daypass_sdk::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// After which time new versions are deleted: never, seconds, or switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum DeleteAfter {
    /// No version of the key (or, set on the mount, of any key) is deleted by time.
    Off,
    /// Seconds, never 0.
    Seconds(u64),
    /// Nothing is said.
    #[default]
    Unset,
}

/// As Go prints it; `-1s` when it is switched off.
impl std::fmt::Display for DeleteAfter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("-1s"),
            Self::Seconds(seconds) => f.write_str(&go_string(Duration::from_secs(*seconds))),
            Self::Unset => f.write_str("0s"),
        }
    }
}

impl Serialize for DeleteAfter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(match self {
            Self::Off => -1,
            Self::Seconds(seconds) => i64::try_from(*seconds).unwrap_or(i64::MAX),
            Self::Unset => 0,
        })
    }
}

/// Reads whole seconds and texts such as `"3h25m"`; a negative duration switches it off.
impl<'de> Deserialize<'de> for DeleteAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text,
            _ => return Err(de::Error::custom("could not parse duration from input")),
        };
        let after = duration::parse(&text).map_err(de::Error::custom)?;
        Ok(match (after.negative, after.size.as_secs()) {
            (true, _) if !after.size.is_zero() => Self::Off,
            (_, 0) => Self::Unset,
            (_, seconds) => Self::Seconds(seconds),
        })
    }
}

impl JsonSchema for DeleteAfter {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DeleteAfter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "seconds", "x-daypass-unit": "seconds" })
    }
}

/// Times as nanoseconds: a third of the length of their text, and nothing to parse on a read.
pub(super) mod nanos {
    use super::{Deserialize, Deserializer, Timestamp};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
    pub(in super::super) fn serialize<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.nanos())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_nanos)
    }
}

/// The same for times that may be absent.
pub(super) mod maybe_nanos {
    use super::{Deserialize, Deserializer, Timestamp};

    #[expect(clippy::ref_option, reason = "serde hands the field over by reference")]
    pub(in super::super) fn serialize<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_i64(time.nanos()),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.map(Timestamp::from_nanos))
    }
}
