//! Why a request may go on or not, for people: the rule that counts, what it lacks, and which other rules match but do not count.
//!
//! Decides nothing: the verdict is [`Acl::judge`]'s own. What is said besides is looked up in the same arrangement of rules.

use serde_json::Value;

use crate::acl::described;
use crate::pattern::Rank;
use crate::{Acl, Capability, Operation, Question, Reason, Rule, Verdict};

/// A verdict with all that led to it.
#[derive(Debug, Clone)]
pub struct Explanation<'a> {
    /// The verdict.
    pub verdict: Verdict<'a>,
    /// How the rule that counts was found; empty without one.
    pub found: &'static str,
    /// What would have to be different, or what else the reader should know; may be empty.
    pub remark: String,
    /// Rules that match the path, too, and do not count.
    pub others: Vec<Loser<'a>>,
}

/// A rule that matches and does not count.
#[derive(Debug, Clone)]
pub struct Loser<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Which rule of precedence it lost by.
    pub because: String,
}

impl Rule {
    /// What it permits, in the shape of `sys/internal/ui/resultant-acl`.
    #[must_use]
    pub fn permits(&self) -> Value {
        described(self.permissions())
    }
}

/// A rule that matches. The lower the tier the sooner it counts; within one, the greater rank.
struct Candidate<'a> {
    tier: Tier,
    rank: Option<&'a Rank>,
    rule: &'a Rule,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Exact,
    ExactBare,
    WildcardBare,
    Wildcard,
}

impl Acl {
    /// Explains what [`Acl::judge`] says to a question.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use daypass_policy::{Acl, Identity, Operation, Policy, Question};
    /// let text = "path \"kv/*\" { capabilities = [\"read\"] }\npath \"kv/+/x\" { capabilities = [\"list\"] }";
    /// let acl = Acl::compile(&[Arc::new(Policy::parse("ci", text).unwrap())], &Identity::default());
    /// let explained = acl.explain(&Question::new("kv/a/x", Operation::Read));
    /// assert_eq!(explained.verdict.to_string(), "denied by \"kv/+/x\" of policy ci: capability \"read\" is not granted");
    /// assert_eq!(explained.others[0].because, "it ends in *, the other does not");
    /// ```
    #[must_use]
    pub fn explain<'a>(&'a self, question: &Question<'a>) -> Explanation<'a> {
        let verdict = self.judge(question);
        let mut candidates = self.candidates(question.path, question.operation);
        let winner = verdict.rule.map(|rule| {
            let at = candidates.iter().position(|candidate| std::ptr::eq(candidate.rule, rule))?;
            Some(candidates.remove(at))
        });
        let is_denied = verdict.reason == Reason::Denied;
        let (found, others) = match &winner {
            None => ("", Vec::new()),
            Some(winner) => {
                let loser = |candidate: &Candidate<'a>| Loser {
                    rule: candidate.rule,
                    because: match (winner, verdict.elsewhere) {
                        (Some(winner), _) => because(candidate, winner),
                        (None, Some(_)) => "what holds at another path to the same thing holds here, whatever is granted".to_owned(),
                        (None, None) if is_denied => "a deny counts for every spelling of what it denies".to_owned(),
                        (None, None) => "a narrower rule for the folded spelling has to grant it, too".to_owned(),
                    },
                };
                let unlisted = match verdict.elsewhere {
                    Some(_) => ELSEWHERE,
                    None if is_denied => FOLDED,
                    None => NARROWER,
                };
                (winner.as_ref().map_or(unlisted, |winner| winner.tier.found()), candidates.iter().map(loser).collect())
            }
        };
        Explanation { verdict, found, remark: remark(&verdict, question), others }
    }

    fn candidates<'a>(&'a self, path: &'a str, operation: Operation) -> Vec<Candidate<'a>> {
        let path = path.trim_start_matches('/');
        let bare = if operation == Operation::List { path.strip_suffix('/') } else { None };
        let mut out: Vec<Candidate<'a>> = Vec::new();
        let mut add = |tier, rank, rule: &'a Rule| {
            if !out.iter().any(|candidate| std::ptr::eq(candidate.rule, rule)) {
                out.push(Candidate { tier, rank, rule });
            }
        };
        if let Some(rule) = self.exact_rule(path) {
            add(Tier::Exact, None, rule);
        }
        if let Some(rule) = bare.and_then(|bare| self.exact_rule(bare)) {
            add(Tier::ExactBare, None, rule);
        }
        for (rank, rule) in bare.into_iter().flat_map(|bare| self.wildcards(bare)) {
            add(Tier::WildcardBare, Some(rank), rule);
        }
        for (rank, rule) in self.wildcards(path) {
            add(Tier::Wildcard, Some(rank), rule);
        }
        out
    }
}

impl Tier {
    fn found(self) -> &'static str {
        match self {
            Self::Exact => "it is the path itself",
            Self::ExactBare => "it is the path without its final slash, which counts for a list",
            Self::WildcardBare => "the best pattern with wildcards for the path without its final slash, which goes first for a list",
            Self::Wildcard => "the best pattern with wildcards",
        }
    }
}

const ELSEWHERE: &str = "it counts for another path to the same thing: what is denied, demanded or taken away there is so here";
const FOLDED: &str = "a deny counts for every spelling of what it denies: case, blanks and a final slash make no difference";
const NARROWER: &str = "it is narrower, and counts for every spelling of the name: handlers fold case, blanks and a final slash";

fn because(loser: &Candidate<'_>, winner: &Candidate<'_>) -> String {
    if let (true, Some(own), Some(other)) = (loser.tier == winner.tier, loser.rank, winner.rank) {
        return own.loses_to(other);
    }
    match winner.tier {
        Tier::Exact | Tier::ExactBare if loser.tier > Tier::ExactBare => "a pattern without wildcards goes before all with wildcards",
        Tier::Exact | Tier::ExactBare => "the pattern with the final slash goes before the one without",
        Tier::Wildcard => "for a list, a deny counts whether it is found with the final slash of the path or without",
        Tier::WildcardBare => "for a list, patterns that match the path without its final slash go first",
    }
    .to_owned()
}

fn remark(verdict: &Verdict<'_>, question: &Question<'_>) -> String {
    let Some(rule) = verdict.rule else {
        return if verdict.reason == Reason::NoPattern { "what no pattern covers is denied".to_owned() } else { String::new() };
    };
    let permissions = rule.permissions();
    let listed = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    match verdict.reason {
        Reason::Denied => {
            let names: Vec<&str> = verdict.granting().collect();
            format!("denied in {}; a deny wins over whatever else is granted on the same pattern", names.join(", "))
        }
        Reason::DeniedParameter(name) => match permissions.denied.values(name) {
            Some(values) if !values.is_empty() => format!("denied values of {name:?}: {}", listed(values)),
            Some(_) => format!("{name:?} is denied with any value"),
            None => "every parameter is denied".to_owned(),
        },
        Reason::ParameterNotAllowed(name) => permissions.allowed.values(name).map_or_else(
            || {
                let names: Vec<&str> = permissions.allowed.iter().map(|(name, _)| name).collect();
                format!("allowed parameters are only: {}", names.join(", "))
            },
            |values| format!("{name:?} may be: {}", listed(values)),
        ),
        Reason::MissingParameter(name) if question.data.is_none_or(serde_json::Map::is_empty) => {
            format!("nothing was sent; {name:?} has to be, in lower case")
        }
        Reason::MissingCapability(Capability::Sudo) => {
            "the path is protected for root: besides the capability of the operation it needs sudo".to_owned()
        }
        Reason::MissingCapability(Capability::Create) if permissions.capabilities.has(Capability::Update) => {
            "update changes what exists; what does not exist yet needs create".to_owned()
        }
        Reason::MissingCapability(Capability::Update) if permissions.capabilities.has(Capability::Create) => {
            "create makes what does not exist; what exists already needs update".to_owned()
        }
        Reason::WrapTtl { .. } => match question.wrap_ttl {
            None => "the request asks for no wrapping; send X-Vault-Wrap-TTL".to_owned(),
            Some(ttl) => format!("the request asks for {ttl}"),
        },
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daypass_base::Seconds;
    use serde_json::json;

    use super::*;
    use crate::{Identity, Policy};

    fn acl(texts: &[&str]) -> Acl {
        let parse = |(index, text): (usize, &&str)| Arc::new(Policy::parse(&format!("p{index}"), text).unwrap());
        Acl::compile(&texts.iter().enumerate().map(parse).collect::<Vec<_>>(), &Identity::default())
    }

    fn losers(acl: &Acl, path: &str, operation: Operation) -> Vec<(String, String)> {
        let explained = acl.explain(&Question::new(path, operation));
        explained.others.iter().map(|loser| (loser.rule.pattern().to_owned(), loser.because.clone())).collect()
    }

    #[test]
    fn every_rule_of_precedence_is_named() {
        for (winner, loser, path, operation, because) in [
            ("a/b", "a/*", "a/b", Operation::Read, "a pattern without wildcards goes before all with wildcards"),
            ("a/b/", "a/b", "a/b/", Operation::List, "the pattern with the final slash goes before the one without"),
            ("a/b*", "a/b/*", "a/b/", Operation::List, "for a list, patterns that match the path without its final slash go first"),
            ("a/b/+", "a/+/c", "a/b/c", Operation::Read, "its first wildcard stands earlier: after 2 characters, not 4"),
            ("a/+", "a/*", "a/b", Operation::Read, "it ends in *, the other does not"),
            ("a/+/c", "a/+/+", "a/b/c", Operation::Read, "it has more + segments: 2, not 1"),
        ] {
            let text = |pattern: &str| format!("path {pattern:?} {{ capabilities = [\"read\", \"list\"] }}");
            let acl = acl(&[&text(loser), &text(winner)]);
            assert_eq!(acl.rule_for(path, operation).unwrap().pattern(), winner);
            assert_eq!(losers(&acl, path, operation), [(loser.to_owned(), because.to_owned())]);
        }
    }

    #[test]
    fn the_remark_says_what_would_have_to_be_different() {
        let acl = acl(&[r#"
            path "only" { capabilities = ["update"] allowed_parameters = { "ttl" = ["15m", 900] "name" = [] } }
            path "not" { capabilities = ["update"] denied_parameters = { "x" = ["a"] "y" = [] } required_parameters = ["z"] }
            path "wrapped" { capabilities = ["read"] min_wrapping_ttl = "1m" max_wrapping_ttl = "5m" }
            path "none" { capabilities = ["deny"] }"#]);
        let asked = |path: &'static str, operation, data: Value| {
            let data = data.as_object().cloned().unwrap_or_default();
            let explained = acl.explain(&Question { data: Some(&data), sudo_path: path == "wrapped", ..Question::new(path, operation) });
            (explained.verdict.allowed, explained.remark)
        };
        let says = |text: &str| (false, text.to_owned());
        assert_eq!(asked("only", Operation::Update, json!({ "ttl": "1h" })), says("\"ttl\" may be: \"15m\", 900"));
        assert_eq!(asked("only", Operation::Update, json!({ "k": 1 })), says("allowed parameters are only: name, ttl"));
        assert_eq!(asked("only", Operation::Create, json!({})), says("update changes what exists; what does not exist yet needs create"));
        assert_eq!(asked("not", Operation::Update, json!({ "x": "a", "z": 1 })), says("denied values of \"x\": \"a\""));
        assert_eq!(asked("not", Operation::Update, json!({ "y": "a", "z": 1 })), says("\"y\" is denied with any value"));
        assert_eq!(asked("not", Operation::Update, json!({})), says("nothing was sent; \"z\" has to be, in lower case"));
        assert_eq!(asked("wrapped", Operation::Read, json!({})), says("the request asks for no wrapping; send X-Vault-Wrap-TTL"));
        assert_eq!(
            asked("none", Operation::Read, json!({})),
            says("denied in p0; a deny wins over whatever else is granted on the same pattern")
        );
        assert_eq!(asked("nowhere", Operation::Read, json!({})), says("what no pattern covers is denied"));
        let wrapped = Question { wrap_ttl: Some(Seconds(120)), sudo_path: true, ..Question::new("wrapped", Operation::Read) };
        assert!(acl.explain(&wrapped).remark.starts_with("the path is protected for root"));
        assert_eq!(asked("only", Operation::Update, json!({ "TTL": 900.0 })), (true, String::new()));
    }
}
