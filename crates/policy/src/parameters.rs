//! `allowed_parameters` and `denied_parameters`: names with the values that count.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use daypass_base::lenient::parse_bool;
use serde_json::{Number, Value};

use crate::fold::fold_name;

/// Names, lower case, each with the values that it stands for; no values means any value. `*` stands for all other names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters(BTreeMap<String, Vec<Value>>);

impl Parameters {
    /// Whether no name is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many names are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The names with their values, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Value])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Adds a name, in lower case, as it is read from a stanza: written twice, the values add up.
    pub fn add(&mut self, name: &str, values: Vec<Value>) {
        self.0.entry(name.to_lowercase()).or_default().extend(values);
    }

    /// Those of several stanzas together: "any value" in one of them wins; values that differ are kept in order, each once.
    pub(crate) fn united<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        // `None`: any value.
        let mut names: BTreeMap<&str, Option<Vec<&Value>>> = BTreeMap::new();
        for (name, values) in all.flat_map(|parameters| &parameters.0) {
            match names.entry(name).or_insert_with(|| Some(Vec::new())) {
                Some(listed) if !values.is_empty() => listed.extend(values),
                any => *any = None,
            }
        }
        Self(names.into_iter().map(|(name, listed)| (name.to_owned(), each_once(listed.unwrap_or_default()))).collect())
    }

    /// About how much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, values)| 2 * size_of::<String>() + name.len() + values.iter().map(bytes).sum::<usize>()).sum()
    }

    /// Whether `*` is in it.
    #[must_use]
    pub fn has_all(&self) -> bool {
        self.0.contains_key("*")
    }

    /// The values of a name, whatever case it is sent in.
    #[must_use]
    pub fn values(&self, name: &str) -> Option<&[Value]> {
        self.0.get(lower(name).as_ref()).map(Vec::as_slice)
    }
}

/// About how much memory a value takes.
fn bytes(value: &Value) -> usize {
    let below = match value {
        Value::Array(entries) => entries.iter().map(bytes).sum(),
        Value::Object(entries) => entries.iter().map(|(name, value)| size_of::<String>() + name.len() + bytes(value)).sum(),
        Value::String(text) => text.len(),
        Value::Bool(_) | Value::Null | Value::Number(_) => 0,
    };
    size_of::<Value>() + below
}

/// Without what was there before. Looked up, not searched for: lists may have a hundred thousand entries.
pub(crate) fn each_once<T: Clone + Eq + Hash>(all: Vec<&T>) -> Vec<T> {
    let mut seen = HashSet::with_capacity(all.len());
    all.into_iter().filter(|entry| seen.insert(*entry)).cloned().collect()
}

/// Whether a value sent is one that an allow list has. Of a list each entry must be; of a text that the endpoint reads as a
/// list (`comma_list`) each part must be.
pub(crate) fn is_allowed(sent: &Value, listed: &[Value], comma_list: bool) -> bool {
    if listed.is_empty() || is_listed(sent, listed) {
        return true;
    }
    match sent {
        Value::Array(entries) => entries.iter().all(|entry| is_listed(entry, listed)),
        Value::String(text) if comma_list => text.split(',').all(|part| is_text_listed(part.trim(), listed)),
        _ => false,
    }
}

/// Whether a value sent is one that a deny list has. Of a list one such entry is enough. What handlers take for the same is the same here:
/// case and blanks around a text do not count, nor does it whether a number or a boolean is sent as such or as a text.
pub(crate) fn is_denied(sent: &Value, listed: &[Value], comma_list: bool) -> bool {
    if listed.is_empty() || is_denied_alone(sent, listed) {
        return true;
    }
    let in_text = |text: &str| comma_list && text.split(',').any(|part| is_text_denied(part, listed));
    match sent {
        Value::Array(entries) => entries.iter().any(|entry| is_denied_alone(entry, listed)),
        Value::String(text) => in_text(text),
        _ => false,
    }
}

fn is_denied_alone(sent: &Value, listed: &[Value]) -> bool {
    is_listed(sent, listed)
        || match sent {
            Value::String(text) => is_text_denied(text, listed),
            Value::Number(number) => {
                let is_set = number.as_f64() != Some(0.0);
                is_text_denied(&number.to_string(), listed) || listed.contains(&Value::Bool(is_set))
            }
            Value::Bool(flag) => {
                let number = |value: &Value| matches!(value, Value::Number(own) if same_number(own, &Number::from(u8::from(*flag))));
                let texts = if *flag { ["true", "1"] } else { ["false", "0"] };
                listed.iter().any(number) || texts.into_iter().any(|text| is_text_denied(text, listed))
            }
            _ => false,
        }
}

fn is_text_denied(text: &str, listed: &[Value]) -> bool {
    let folded = fold_name(text);
    listed.iter().any(|value| match value {
        Value::String(pattern) => text_matches(&fold_name(pattern), &folded) || text_matches(pattern, text),
        Value::Number(number) => folded.parse::<Number>().is_ok_and(|sent| same_number(number, &sent)),
        Value::Bool(flag) => !folded.is_empty() && parse_bool(&folded) == Some(*flag),
        _ => false,
    })
}

/// The name in lower case, without a copy where it is already.
pub(crate) fn lower(name: &str) -> Cow<'_, str> {
    if name.chars().any(char::is_uppercase) { name.to_lowercase().into() } else { name.into() }
}

fn is_listed(sent: &Value, listed: &[Value]) -> bool {
    match sent {
        Value::String(text) => is_text_listed(text, listed),
        Value::Number(number) => listed.iter().any(|value| matches!(value, Value::Number(own) if same_number(own, number))),
        other => listed.contains(other),
    }
}

fn is_text_listed(text: &str, listed: &[Value]) -> bool {
    listed.iter().any(|value| matches!(value, Value::String(pattern) if text_matches(pattern, text)))
}

/// `*` counts at either end only, and a lone `*` is itself.
fn text_matches(pattern: &str, text: &str) -> bool {
    if pattern.len() < 2 {
        return pattern == text;
    }
    let (head, tail) = (pattern.strip_prefix('*'), pattern.strip_suffix('*'));
    match (head, tail) {
        (Some(head), Some(_)) => text.contains(head.strip_suffix('*').unwrap_or(head)),
        (Some(head), None) => text.ends_with(head),
        (None, Some(tail)) => text.starts_with(tail),
        (None, None) => pattern == text,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    // `900` and `900.0` are one number to whoever wrote the policy.
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a.to_bits() == b.to_bits())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_match_with_stars_at_their_ends() {
        for (pattern, text, expected) in [
            ("*", "anything", false),
            ("*", "*", true),
            ("", "", true),
            ("**", "anything", true),
            ("pre-*", "pre-x", true),
            ("pre-*", "pre", false),
            ("*-post", "x-post", true),
            ("*mid*", "a mid b", true),
            ("a*b", "axb", false),
        ] {
            assert_eq!(text_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn lists_are_judged_by_entry() {
        let listed = [json!("a"), json!("b*"), json!(5), json!(true), json!(null)];
        assert!(is_allowed(&json!(["a", "bb", 5.0, true, null]), &listed, false));
        assert!(!is_allowed(&json!(["a", "c"]), &listed, false));
        assert!(is_denied(&json!(["c", "a"]), &listed, false));
        assert!(!is_denied(&json!(["c", "6", 0, false]), &listed, false));
        assert!(is_allowed(&json!("a, bx"), &listed, true) && !is_allowed(&json!("a,c"), &listed, true));
        assert!(is_denied(&json!("c, a"), &listed, true) && !is_denied(&json!("c, a"), &listed, false));
        assert!(!is_allowed(&json!("5"), &listed, false));
    }

    /// Story: who may not give the policy `admin` sent `Admin`, ` admin` or, where it is called `7`, the number: the handler took it for
    /// the same, the policy did not.
    #[test]
    fn a_denied_value_is_denied_however_it_is_sent() {
        let listed = [json!("admin"), json!("Ops-*"), json!("7"), json!(900), json!(true)];
        for sent in [
            json!("Admin"),
            json!(" admin\t"),
            json!(["x", "ADMIN "]),
            json!("oPS-1"),
            json!(" ops-1"),
            json!(7),
            json!([7]),
            json!("900"),
            json!(" 900"),
            json!("9e2"),
            json!("true"),
            json!("T"),
            json!("1"),
            json!(1),
        ] {
            assert!(is_denied(&sent, &listed, false), "{sent}");
        }
        for sent in [json!("administrator"), json!("x,admin"), json!("ops"), json!(0), json!(false), json!(""), json!({ "admin": 1 })] {
            assert!(!is_denied(&sent, &listed, false), "{sent}");
        }
        assert!(is_denied(&json!("x, Admin"), &listed, true));
        assert!(is_denied(&json!(false), &[json!("0")], false) && is_denied(&json!(false), &[json!(0)], false));
        assert!(!is_allowed(&json!("Admin"), &listed, false), "what is allowed is allowed to the letter");
    }
}
