//! Label selectors: which namespaces, by their labels. Pure. Source: Kubernetes API reference, LabelSelector v1.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A selector: all of it must fit. An empty one fits everything.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Selector {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Operator {
    DoesNotExist,
    Exists,
    In,
    NotIn,
}

impl Selector {
    /// From its JSON. `None` for what is no selector.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        // A list would be read as the fields in their order, and an empty one as a selector that fits everything.
        let object = serde_json::from_str::<serde_json::Value>(text).ok().filter(serde_json::Value::is_object)?;
        let selector: Self = serde_json::from_value(object).ok()?;
        let sound = |one: &Expression| match one.operator {
            Operator::In | Operator::NotIn => !one.values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => one.values.is_empty(),
        };
        selector.match_expressions.iter().all(sound).then_some(selector)
    }

    /// Whether it names labels that there have to be.
    pub(super) fn wants_labels(&self) -> bool {
        let wants = |one: &Expression| matches!(one.operator, Operator::Exists | Operator::In);
        !self.match_labels.is_empty() || self.match_expressions.iter().any(wants)
    }

    /// Whether something with these labels is meant.
    pub(super) fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let equal = self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        equal
            && self.match_expressions.iter().all(|one| {
                let label = labels.get(&one.key);
                match one.operator {
                    Operator::DoesNotExist => label.is_none(),
                    Operator::Exists => label.is_some(),
                    Operator::In => label.is_some_and(|label| one.values.contains(label)),
                    Operator::NotIn => label.is_none_or(|label| !one.values.contains(label)),
                }
            })
    }
}

/// Longest selector, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Selector::parse(selector).unwrap().fits(&labels)
    }

    #[test]
    fn all_of_a_selector_must_fit() {
        let team = r#"{"matchLabels": {"team": "build"}}"#;
        assert!(fits(team, &[("team", "build"), ("x", "y")]) && !fits(team, &[("team", "other")]) && !fits(team, &[]));
        let one =
            |operator: &str, values: &str| format!(r#"{{"matchExpressions": [{{"key": "team", "operator": "{operator}"{values}}}]}}"#);
        let of = r#", "values": ["a", "b"]"#;
        assert!(fits(&one("In", of), &[("team", "a")]) && !fits(&one("In", of), &[("team", "c")]) && !fits(&one("In", of), &[]));
        assert!(fits(&one("NotIn", of), &[("team", "c")]) && fits(&one("NotIn", of), &[]) && !fits(&one("NotIn", of), &[("team", "b")]));
        assert!(fits(&one("Exists", ""), &[("team", "")]) && !fits(&one("Exists", ""), &[]));
        assert!(fits(&one("DoesNotExist", ""), &[]) && !fits(&one("DoesNotExist", ""), &[("team", "a")]));
        assert!(fits("{}", &[]));
    }

    #[test]
    fn what_is_no_selector_is_none() {
        for text in [
            "",
            "[]",
            "team=build",
            r#"{"matchLabel": {}}"#,
            r#"{"matchExpressions": [{"key": "a", "operator": "Near"}]}"#,
            r#"{"matchExpressions": [{"key": "a", "operator": "In"}]}"#,
            r#"{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}"#,
        ] {
            assert!(Selector::parse(text).is_none(), "{text}");
        }
    }
}
