//! What a server answers to a read or a write, kept as it came so that it can be shown as it came.

use super::Error;
use crate::show::value::Value;

/// The envelope of a successful answer. Source: Vault API, "Response structure"; the order of the keys is that of Go's client.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// UUID of the request.
    pub(crate) request_id: String,
    /// Lease of the secret, or empty.
    pub(crate) lease_id: String,
    /// Seconds until the lease ends.
    pub(crate) lease_duration: i64,
    /// Whether the lease can be renewed.
    pub(crate) renewable: bool,
    /// What was asked for: a map, or null.
    data: Value,
    /// Remarks for the person who reads the answer.
    pub(crate) warnings: Vec<String>,
    /// The token, after a login or `auth/token/create`: a map, or null.
    pub(crate) auth: Value,
    /// Where the answer was put instead, when wrapping was asked for: a map, or null.
    pub(crate) wrap_info: Value,
    /// Type of the mount that answered, or empty.
    pub(crate) mount_type: String,
}

impl Answer {
    /// Reads a body. An object without any key of the envelope counts as `data`, as Go's client has it.
    pub(crate) fn parse(body: &str) -> Result<Self, serde_json::Error> {
        let value = Value::parse(body)?;
        let enveloped = ["data", "auth", "wrap_info", "lease_id", "request_id", "warnings"].iter().any(|key| value.get(key).is_some());
        let section = |key: &str| value.get(key).filter(|section| matches!(section, Value::Map(_))).cloned().unwrap_or(Value::Null);
        Ok(Self {
            request_id: value.text_at("request_id").to_owned(),
            lease_id: value.text_at("lease_id").to_owned(),
            lease_duration: value.get("lease_duration").and_then(Value::as_integer).unwrap_or(0),
            renewable: value.get("renewable").is_some_and(Value::is_true),
            data: if enveloped { section("data") } else { value.clone() },
            warnings: value.texts_at("warnings").into_iter().map(str::to_owned).collect(),
            auth: section("auth"),
            wrap_info: section("wrap_info"),
            mount_type: value.text_at("mount_type").to_owned(),
        })
    }

    /// What was asked for. `None` where it was put aside to be unwrapped: that is not the same as nothing, and what there is to show is [`Self::wrap_info`].
    pub(crate) fn data(&self) -> Option<&Value> {
        self.wrap_info.is_null().then_some(&self.data)
    }

    /// The token that was made, in the place of what was asked for.
    pub(crate) fn with_auth(self, auth: Value) -> Self {
        Self { auth, data: Value::Null, ..self }
    }

    /// Whether there is anything to show.
    pub(crate) fn is_bare(&self) -> bool {
        self.data.entries().is_empty() && self.auth.is_null() && self.wrap_info.is_null() && self.warnings.is_empty()
    }

    /// The value that `-field=name` means, if the answer has it. The names of token and wrapping fields are those of the table.
    pub(crate) fn field(&self, name: &str) -> Option<Value> {
        let special = if !self.auth.is_null() {
            auth_key(name).map(|key| self.auth.get(key).cloned())
        } else if !self.wrap_info.is_null() {
            wrap_key(name).map(|key| self.wrap_info.get(key).cloned())
        } else {
            match name {
                "lease_duration" | "refresh_interval" => Some(Some(Value::number(self.lease_duration))),
                "lease_id" => Some(Some(Value::text(&*self.lease_id))),
                "request_id" => Some(Some(Value::text(&*self.request_id))),
                "renewable" => Some(Some(Value::Bool(self.renewable))),
                "data" => Some(Some(self.data.get("data").unwrap_or(&self.data).clone())),
                _ => None,
            }
        };
        special.unwrap_or_else(|| self.data.get(name).cloned()).filter(|value| !value.is_null())
    }

    /// The answer as one value, keys in the order that Go's client writes them.
    pub(crate) fn to_value(&self) -> Value {
        let warnings = if self.warnings.is_empty() { Value::Null } else { Value::texts(self.warnings.iter().cloned()) };
        let mut value = Value::map([
            ("request_id", Value::text(&*self.request_id)),
            ("lease_id", Value::text(&*self.lease_id)),
            ("lease_duration", Value::number(self.lease_duration)),
            ("renewable", Value::Bool(self.renewable)),
            ("data", self.data.clone()),
            ("warnings", warnings),
        ]);
        if !self.auth.is_null() {
            value.set("auth", ordered(&self.auth, &AUTH_KEYS));
        }
        if !self.wrap_info.is_null() {
            let mut wrap = ordered(&self.wrap_info, &WRAP_KEYS);
            if let Value::Map(entries) = &mut wrap {
                entries.retain(|(key, value)| key != "wrapped_accessor" || value.as_text().is_some_and(|text| !text.is_empty()));
            }
            value.set("wrap_info", wrap);
        }
        if !self.mount_type.is_empty() {
            value.set("mount_type", Value::text(&*self.mount_type));
        }
        value
    }

    /// The rows of the Key/Value table, data aside.
    pub(crate) fn head_rows(&self) -> Vec<(String, Value)> {
        let mut rows = Vec::new();
        if self.lease_duration > 0 {
            let duration = Value::number(self.lease_duration);
            if self.lease_id.is_empty() {
                // A secret that merely stands there: the server says when to look again.
                rows.push(("refresh_interval".to_owned(), duration));
            } else {
                rows.push(("lease_id".to_owned(), Value::text(&*self.lease_id)));
                rows.push(("lease_duration".to_owned(), duration));
                rows.push(("lease_renewable".to_owned(), Value::Bool(self.renewable)));
            }
        }
        rows
    }
}

/// An answer that was asked for without wrapping: its data is the whole truth.
#[derive(Debug)]
pub(crate) struct Known(Answer);

impl Known {
    /// Errors: a server that wraps what nobody wanted wrapped.
    pub(super) fn of(answer: Answer) -> Result<Self, Error> {
        match answer.data() {
            Some(_) => Ok(Self(answer)),
            None => Err(Error::Unreadable("the answer is wrapped, which was not asked for".to_owned())),
        }
    }

    /// What was asked for: a map, or null.
    pub(crate) fn data(&self) -> &Value {
        &self.0.data
    }

    /// [`Self::data`], for good.
    pub(crate) fn into_data(self) -> Value {
        self.0.data
    }

    /// All of it, to be shown.
    pub(crate) fn answer(&self) -> &Answer {
        &self.0
    }
}

const AUTH_KEYS: [&str; 11] = [
    "client_token",
    "accessor",
    "policies",
    "token_policies",
    "identity_policies",
    "metadata",
    "orphan",
    "entity_id",
    "lease_duration",
    "renewable",
    "mfa_requirement",
];
const WRAP_KEYS: [&str; 6] = ["token", "accessor", "ttl", "creation_time", "creation_path", "wrapped_accessor"];

fn auth_key(field: &str) -> Option<&'static str> {
    Some(match field {
        "token" => "client_token",
        "token_accessor" => "accessor",
        "token_duration" => "lease_duration",
        "token_renewable" => "renewable",
        "token_policies" => "token_policies",
        "identity_policies" => "identity_policies",
        "policies" => "policies",
        _ => return None,
    })
}

fn wrap_key(field: &str) -> Option<&'static str> {
    Some(match field {
        "wrapping_token" => "token",
        "wrapping_accessor" => "accessor",
        "wrapping_token_ttl" => "ttl",
        "wrapping_token_creation_time" => "creation_time",
        "wrapping_token_creation_path" => "creation_path",
        "wrapped_accessor" => "wrapped_accessor",
        _ => return None,
    })
}

/// Exactly these keys of `map`, in this order; null for those that it lacks.
fn ordered(map: &Value, keys: &[&str]) -> Value {
    Value::map(keys.iter().map(|key| (*key, map.get(key).cloned().unwrap_or(Value::Null))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_envelope_is_data() {
        let answer = Answer::parse(r#"{"keys":["a"]}"#).unwrap();
        assert_eq!(answer.data.texts_at("keys"), ["a"]);
    }

    #[test]
    fn fields_of_a_token_have_the_names_of_the_table() {
        let answer = Answer::parse(r#"{"auth":{"client_token":"t","lease_duration":60},"data":{"x":"y"}}"#).unwrap();
        assert_eq!(answer.field("token").unwrap().go(), "t");
        assert_eq!(answer.field("token_duration").unwrap().go(), "60");
        assert_eq!(answer.field("x").unwrap().go(), "y");
        assert!(answer.field("identity_policies").is_none());
    }

    #[test]
    fn json_has_the_order_of_gos_client() {
        let answer = Answer::parse(r#"{"warnings":["w"],"data":{"a":1},"request_id":"r","mount_type":"kv"}"#).unwrap();
        let wanted =
            r#"{"request_id":"r","lease_id":"","lease_duration":0,"renewable":false,"data":{"a":1},"warnings":["w"],"mount_type":"kv"}"#;
        assert_eq!(answer.to_value().compact(), wanted);
    }
}
