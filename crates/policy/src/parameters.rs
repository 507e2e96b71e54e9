//! `allowed_parameters` and `denied_parameters`: names with the values that count.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use daypass_base::Seconds;
use daypass_base::lenient::{parse_bool, parse_int};
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
/// case and blanks around a text do not count, nor does it how a number or a boolean is written, or whether 0 is sent as nothing at all.
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
                // Seconds are whole: their reader drops a fraction.
                let whole = number.is_f64().then(|| number.as_f64()).flatten().map(|number| number.trunc().to_string());
                let denied = |text: String| is_text_denied(&text, listed);
                denied(number.to_string()) || whole.is_some_and(denied) || listed.contains(&Value::Bool(is_set))
            }
            Value::Bool(flag) => {
                let texts = if *flag { ["true", "1"] } else { ["false", "0"] };
                texts.into_iter().any(|text| is_text_denied(text, listed))
            }
            Value::Null => is_text_denied("", listed),
            _ => false,
        }
}

fn is_text_denied(text: &str, listed: &[Value]) -> bool {
    let folded = fold_name(text);
    let sent = numbers(&folded);
    let is_sent = |number: &Number| sent.iter().flatten().any(|sent| same_number(number, sent));
    listed.iter().any(|value| match value {
        Value::String(pattern) => {
            let own = fold_name(pattern);
            let is_number = || sent.iter().any(Option::is_some) && !own.is_empty() && numbers(&own).iter().flatten().any(is_sent);
            text_matches(&own, &folded) || text_matches(pattern, text) || is_number()
        }
        Value::Number(number) => is_sent(number),
        Value::Bool(flag) => parse_bool(&folded) == Some(*flag),
        _ => false,
    })
}

/// The numbers that handlers may read in a folded text: a whole one, any other, and seconds. Of the empty text it is 0.
fn numbers(folded: &str) -> [Option<Number>; 3] {
    if folded.starts_with(|first: char| !first.is_ascii_digit() && !matches!(first, '+' | '-' | '.')) {
        return [None, None, None];
    }
    let whole = parse_int(folded);
    // `010` is eight to one reader and ten to another.
    let also_any = whole.is_none() || folded.trim_start_matches(['+', '-']).starts_with('0');
    let any = folded.parse().ok().filter(|_| also_any).and_then(Number::from_f64);
    [whole.map(Number::from), any, Seconds::parse(folded).ok().map(|seconds| Number::from(seconds.0))]
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
    if a == b {
        return true;
    }
    // Whole numbers are compared as such: beyond 53 bits a fraction's form makes one of neighbours.
    let whole = |number: &Number| number.is_i64() || number.is_u64();
    if whole(a) && whole(b) {
        return false;
    }
    // `900` and `900.0` are one number to whoever wrote the policy.
    let bits = |number: &Number| number.as_f64().map(|number| (number + 0.0).to_bits());
    bits(a).is_some_and(|own| bits(b) == Some(own))
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

    /// Story: who may not set a limit to 0, which is none, set it to `"0x0"`, `"00"`, `""` or null: handlers read 0 in all of them.
    #[test]
    fn a_denied_number_is_denied_however_it_is_written() {
        for listed in [json!(0), json!("0"), json!(0.0), json!("0s")] {
            let zeros =
                [json!("0x0"), json!("00"), json!("+0"), json!("-0"), json!(""), json!(" "), json!(null), json!("0.0"), json!("0e5")];
            for sent in zeros.into_iter().chain([
                json!("0s"),
                json!("0h0m"),
                json!("0B0"),
                json!(-0.0),
                json!(0.5),
                json!(false),
                json!(["1", "0o0"]),
            ]) {
                assert!(is_denied(&sent, std::slice::from_ref(&listed), false), "{sent} of {listed}");
            }
            for sent in [json!("1"), json!("0x1"), json!("1s"), json!(1), json!("x"), json!("0x"), json!("-"), json!([]), json!({})] {
                assert!(!is_denied(&sent, std::slice::from_ref(&listed), false), "{sent} of {listed}");
            }
            assert!(is_denied(&json!("1, 0x0"), &[listed], true));
        }
        for sent in [json!("0x384"), json!("15m"), json!("900s"), json!("+900"), json!("01604"), json!("900.0"), json!(900)] {
            assert!(is_denied(&sent, &[json!(900)], false) && is_denied(&sent, &[json!("x"), json!("15m")], false), "{sent}");
        }
        // A sign behind the mark of a base is none, and long numbers have neighbours.
        assert!(!is_denied(&json!("-0x-8000000000000000"), &[json!(1), json!("1")], false));
        for neighbour in [json!("12345678901234567"), json!(12_345_678_901_234_567_u64)] {
            assert!(!is_denied(&neighbour, &[json!("12345678901234568"), json!(12_345_678_901_234_568_u64)], false), "{neighbour}");
        }
        assert!(is_denied(&json!(null), &[json!(false)], false) && is_denied(&json!(""), &[json!(false)], false));
        assert!(!is_denied(&json!(null), &[json!(true), json!(1), json!("a*"), json!("*")], false));
        assert!(!is_denied(&json!(0), &[json!("")], false), "nothing is 0, but 0 is not nothing");
        assert!(!is_allowed(&json!("0x0"), &[json!(0), json!("0")], false), "what is allowed is allowed to the letter");
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
