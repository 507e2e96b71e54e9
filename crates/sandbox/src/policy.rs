//! IAM policy documents: reading them as AWS does, and judging one request by one document.
//!
//! Pure. Who is named in a trust policy is decided in `trust.rs`; which documents count for a caller in `authority.rs`.

use serde_json::{Map, Value};

use crate::condition::Condition;
use crate::fault::{Fault, Result};

/// A parsed policy document.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) statements: Vec<Statement>,
    /// Policy variables (`${aws:username}`) exist only since the version of 2012.
    variables: bool,
}

/// What a document is attached to: the grammar differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Attached to a user, group or role, or passed as a session policy.
    Identity,
    /// A role's trust policy.
    Trust,
}

#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) effect: Effect,
    pub(crate) principals: Option<Principals>,
    actions: Patterns,
    resources: Option<Patterns>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// Patterns with `*` and `?`; `negated` for `NotAction` and `NotResource`.
#[derive(Debug)]
struct Patterns {
    negated: bool,
    list: Vec<String>,
}

/// The `Principal` or `NotPrincipal` element.
#[derive(Debug, Default)]
pub(crate) struct Principals {
    pub(crate) negated: bool,
    pub(crate) aws: Vec<String>,
    pub(crate) federated: Vec<String>,
    pub(crate) service: Vec<String>,
}

/// What one or more documents say about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// A statement denies it explicitly; nothing can overrule that.
    Denied,
    /// No statement speaks of it.
    Silent,
}

impl Verdict {
    /// Deny beats allow beats silence.
    pub(crate) fn and_also(self, other: Self) -> Self {
        match (self, other) {
            (Self::Denied, _) | (_, Self::Denied) => Self::Denied,
            (Self::Allowed, _) | (_, Self::Allowed) => Self::Allowed,
            _ => Self::Silent,
        }
    }
}

/// Where conditions and policy variables find their values. Keys arrive in lower case; no values means that the key is absent.
pub(crate) trait Facts {
    fn values(&self, key: &str) -> Vec<String>;
}

impl Document {
    /// Reads a document, failing with `MalformedPolicyDocument` in AWS's words.
    pub(crate) fn parse(text: &str, used: Use) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|_syntax| {
            Fault::malformed_policy(if used == Use::Trust { "This policy contains invalid Json" } else { "Syntax errors in policy." })
        })?;
        Self::from_value(&value, used)
    }

    pub(crate) fn from_value(value: &Value, used: Use) -> Result<Self> {
        let Value::Object(document) = value else { return Err(syntax()) };
        if let Some(unknown) = document.keys().find(|key| !matches!(key.as_str(), "Version" | "Id" | "Statement")) {
            return Err(Fault::malformed_policy(format!("Syntax errors in policy. Unknown element {unknown}.")));
        }
        let variables = match document.get("Version") {
            None => false,
            Some(Value::String(version)) if version == "2012-10-17" => true,
            Some(Value::String(version)) if version == "2008-10-17" => false,
            Some(_) => return Err(Fault::malformed_policy("The policy must contain a valid version string")),
        };
        let statements = match document.get("Statement") {
            Some(Value::Array(list)) => list.iter().map(|item| Statement::parse(item, used)).collect::<Result<_>>()?,
            Some(single @ Value::Object(_)) => vec![Statement::parse(single, used)?],
            _ => return Err(syntax()),
        };
        Ok(Self { statements, variables })
    }

    /// What the document says, without regard to principals.
    pub(crate) fn judge(&self, action: &str, resource: &str, facts: &dyn Facts) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in &self.statements {
            if self.speaks_of(statement, action, Some(resource), facts) {
                match statement.effect {
                    Effect::Deny => return Verdict::Denied,
                    Effect::Allow => verdict = Verdict::Allowed,
                }
            }
        }
        verdict
    }

    /// Whether action, resource and conditions of `statement` (one of ours) fit.
    pub(crate) fn speaks_of(&self, statement: &Statement, action: &str, resource: Option<&str>, facts: &dyn Facts) -> bool {
        let action = action.to_ascii_lowercase();
        let acts = statement.actions.list.iter().any(|pattern| like(pattern, &action));
        if acts == statement.actions.negated {
            return false;
        }
        if let (Some(patterns), Some(resource)) = (&statement.resources, resource) {
            let named = patterns.list.iter().any(|pattern| like(&self.fill(pattern, facts), resource));
            if named == patterns.negated {
                return false;
            }
        }
        statement.conditions.iter().all(|condition| condition.holds(facts, &|value| self.fill(value, facts)))
    }

    /// Puts policy variables in. An unknown one stays as it is and therefore matches nothing real.
    fn fill(&self, pattern: &str, facts: &dyn Facts) -> String {
        if !self.variables || !pattern.contains("${") {
            return pattern.to_owned();
        }
        let mut out = String::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                out.push_str("${");
                rest = after;
                continue;
            };
            rest = tail;
            match (name, facts.values(&name.to_ascii_lowercase()).as_slice()) {
                // ${*} means the plain character, but is taken for the wildcard here: a known difference from AWS.
                ("*" | "?" | "$", _) => out.push_str(name),
                (_, [value]) => out.push_str(value),
                _ => out.extend(["${", name, "}"]),
            }
        }
        out.push_str(rest);
        out
    }
}

impl Statement {
    fn parse(value: &Value, used: Use) -> Result<Self> {
        let Value::Object(fields) = value else { return Err(syntax()) };
        check_elements(fields, used)?;
        let effect = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return Err(syntax()),
        };
        let mut actions = Patterns::parse(fields, "Action", "NotAction")?
            .ok_or_else(|| Fault::malformed_policy("Policy statement must contain actions."))?;
        // Actions are compared without regard to case.
        actions.list.iter_mut().for_each(|action| action.make_ascii_lowercase());
        if actions.list.is_empty() {
            return Err(Fault::malformed_policy("Policy statement must contain actions."));
        }
        if actions.list.iter().any(|action| action != "*" && !action.contains(':')) {
            return Err(Fault::malformed_policy("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."));
        }
        let resources = Patterns::parse(fields, "Resource", "NotResource")?;
        let principals = Principals::parse(fields)?;
        match used {
            Use::Identity if resources.as_ref().is_none_or(|resources| resources.list.is_empty()) => {
                return Err(Fault::malformed_policy("Policy statement must contain resources."));
            }
            Use::Trust if principals.is_none() => return Err(Fault::malformed_policy("Missing required field Principal")),
            Use::Trust if actions.list.iter().any(|action| !action.starts_with("sts:")) => {
                return Err(Fault::malformed_policy("AssumeRole policy may only specify STS AssumeRole actions."));
            }
            _ => {}
        }
        let conditions = match fields.get("Condition") {
            None => Vec::new(),
            Some(Value::Object(blocks)) => Condition::parse_all(blocks)?,
            Some(_) => return Err(syntax()),
        };
        Ok(Self { effect, principals, actions, resources, conditions })
    }
}

fn check_elements(fields: &Map<String, Value>, used: Use) -> Result<()> {
    for name in fields.keys() {
        match (name.as_str(), used) {
            ("Sid" | "Effect" | "Action" | "NotAction" | "Condition", _)
            | ("Principal" | "NotPrincipal", Use::Trust)
            | ("Resource" | "NotResource", Use::Identity) => {}
            ("Principal" | "NotPrincipal", Use::Identity) => {
                return Err(Fault::malformed_policy("Policy document should not specify a principal."));
            }
            ("Resource" | "NotResource", Use::Trust) => return Err(Fault::malformed_policy("Has prohibited field Resource")),
            _ => return Err(syntax()),
        }
    }
    Ok(())
}

impl Patterns {
    fn parse(fields: &Map<String, Value>, plain: &str, negated: &str) -> Result<Option<Self>> {
        match (fields.get(plain), fields.get(negated)) {
            (Some(_), Some(_)) => Err(syntax()),
            (Some(value), None) => Ok(Some(Self { negated: false, list: texts(value)? })),
            (None, Some(value)) => Ok(Some(Self { negated: true, list: texts(value)? })),
            (None, None) => Ok(None),
        }
    }
}

impl Principals {
    fn parse(fields: &Map<String, Value>) -> Result<Option<Self>> {
        let (value, negated) = match (fields.get("Principal"), fields.get("NotPrincipal")) {
            (Some(_), Some(_)) => return Err(syntax()),
            (Some(value), None) => (value, false),
            (None, Some(value)) => (value, true),
            (None, None) => return Ok(None),
        };
        let mut principals = Self { negated, ..Self::default() };
        match value {
            Value::String(all) if all == "*" => principals.aws.push("*".to_owned()),
            Value::Object(kinds) => {
                for (kind, names) in kinds {
                    match kind.as_str() {
                        "AWS" => principals.aws = texts(names)?,
                        "Federated" => principals.federated = texts(names)?,
                        "Service" => principals.service = texts(names)?,
                        "CanonicalUser" => {}
                        _ => return Err(Fault::malformed_policy(format!("Invalid principal in policy: {kind:?}"))),
                    }
                }
            }
            _ => return Err(Fault::malformed_policy("Invalid principal in policy.")),
        }
        Ok(Some(principals))
    }
}

/// One text or a list of them.
pub(crate) fn texts(value: &Value) -> Result<Vec<String>> {
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(syntax)).collect(),
        _ => Err(syntax()),
    }
}

pub(crate) fn syntax() -> Fault {
    Fault::malformed_policy("Syntax errors in policy.")
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of characters and `?` for one. Never worse than the product of the lengths.
pub(crate) fn like(pattern: &str, text: &str) -> bool {
    let mut pattern_left = pattern.chars();
    let mut text_left = text.chars();
    // Where to resume when a match after the last star fails: the pattern after the star, and the text from which it was tried.
    let mut resume: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let here = text_left.clone();
        match (pattern_left.next(), text_left.next()) {
            (Some('*'), _) => {
                resume = Some((pattern_left.clone(), here.clone()));
                text_left = here;
            }
            (None, None) => return true,
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after_star, mut tried)) = resume.take() else { return false };
                if tried.next().is_none() {
                    return false;
                }
                pattern_left = after_star.clone();
                text_left = tried.clone();
                resume = Some((after_star, tried));
            }
        }
    }
}

/// ARNs are compared part by part, so that a star does not reach over a colon of the first five.
pub(crate) fn arn_like(pattern: &str, arn: &str) -> bool {
    let mut wanted = pattern.splitn(6, ':');
    let mut found = arn.splitn(6, ':');
    if pattern == "*" {
        return true;
    }
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if like(wanted, found) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
