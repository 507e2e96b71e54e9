//! Who a session is for: the templates of a role, filled with what the caller's login proved.
//!
//! Nothing here can be set by the caller: claims come from the login behind the token, also for the children of that token, and never from
//! metadata that somebody wrote into a token. What a template shows is quoted for the place where it stands. Where it would widen a right
//! or stand for somebody else, it is refused; only session names, which grant nothing, are made to fit.

use std::collections::BTreeMap;

use daypass_base::Brief;
use daypass_sdk::{Cx, Error, Result};
use serde_json::Value;

use super::names;
use super::role::{CredentialType, Role};
use super::template::{Claims, Facts, Quote, Template};
use super::text::quoted;

/// AWS's longest session name and source identity.
const NAME_SIZE_MAX: usize = 64;
/// AWS's shortest.
const NAME_SIZE_MIN: usize = 2;
/// AWS's longest value of a session tag, in characters.
const TAG_SIZE_MAX: usize = 256;
/// AWS's longest session policy, in characters, before it is packed.
const POLICY_SIZE_MAX: usize = 2048;

/// Fills the templates of one role for one caller.
pub(super) struct Attribution<'a> {
    cx: &'a Cx,
    /// Name of the daypass role.
    role_name: &'a str,
    claims: Claims<'a>,
}

impl<'a> Attribution<'a> {
    pub(super) fn of(cx: &'a Cx, role_name: &'a str) -> Self {
        Self { cx, role_name, claims: Claims::Of(&cx.request.caller.claims) }
    }

    /// Takes any claim to be there: what a template is checked with when it is written.
    pub(super) fn sample(cx: &'a Cx, role_name: &'a str) -> Self {
        Self { cx, role_name, claims: Claims::Any }
    }

    /// Everything that is wrong with the templates of a role.
    pub(super) fn problems(&self, role: &Role) -> Vec<String> {
        let ours = &role.ours;
        let mut filled = vec![
            self.session_name(&ours.session_name).map(drop),
            self.source_identity(&ours.source_identity).map(drop),
            self.tags(&role.session_tags).map(drop),
            self.policy(&role.policy_document).map(drop),
            self.arn("role_arn_pattern", &ours.role_arn_pattern).map(drop),
        ];
        filled.extend(role.iam_role_arns.iter().map(|arn| self.arn("role_arns", arn).map(drop)));
        if role.policy_document.contains("{{") && role.credential_types.iter().any(|kind| *kind != CredentialType::AssumedRole) {
            filled.push(Err(Error::bad_request(
                "policy_document has {{...}}, which is filled in for credential_type assumed_role alone: AWS would get the braces as they are",
            )));
        }
        filled.into_iter().filter_map(Result::err).map(|error| error.message).collect()
    }

    /// A session name; `None` when the role says none.
    pub(super) fn session_name(&self, template: &str) -> Result<Option<String>> {
        if template.is_empty() {
            return Ok(None);
        }
        let name = names::safe(&self.fill("session_name", template, Ok)?);
        sized("session_name", &name).map(Some)
    }

    /// A source identity, which stays with a session through role chaining; `None` when the role says none.
    pub(super) fn source_identity(&self, template: &str) -> Result<Option<String>> {
        if template.is_empty() {
            return Ok(None);
        }
        let name = self.fill("source_identity", template, name_only)?;
        if name != names::safe(&name) {
            return Err(refused("source_identity", &name, "it takes letters, digits and +=,.@_- alone"));
        }
        if name.to_ascii_lowercase().starts_with("aws:") {
            return Err(refused("source_identity", &name, "what begins with aws: is AWS's own"));
        }
        sized("source_identity", &name).map(Some)
    }

    /// Session tags.
    pub(super) fn tags(&self, templates: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        let filled = templates.iter().map(|(key, template)| {
            if !template.contains("{{") {
                return Ok((key.clone(), template.clone()));
            }
            let value = self.fill("session_tags", template, tag_value)?;
            if value.chars().count() > TAG_SIZE_MAX {
                return Err(refused("session_tags", &value, "AWS takes at most 256 characters; cut it with truncate"));
            }
            Ok((key.clone(), value))
        });
        filled.collect()
    }

    /// A session policy: templates stand inside its strings, and are filled there.
    pub(super) fn policy(&self, document: &str) -> Result<Option<String>> {
        if !document.contains("{{") {
            return Ok((!document.is_empty()).then(|| document.to_owned()));
        }
        let mut value: Value = serde_json::from_str(document).map_err(|error| Error::bad_request(format!("policy_document: {error}")))?;
        self.fill_strings(&mut value)?;
        let text = value.to_string();
        let size = text.chars().count();
        if size > POLICY_SIZE_MAX {
            return Err(Error::bad_request(format!(
                "policy_document has {size} characters once its templates are filled, over AWS's limit of {POLICY_SIZE_MAX}"
            )));
        }
        Ok(Some(text))
    }

    /// An ARN, or a pattern of ARNs.
    pub(super) fn arn(&self, field: &str, template: &str) -> Result<String> {
        self.fill(field, template, name_only)
    }

    fn fill_strings(&self, value: &mut Value) -> Result<()> {
        match value {
            Value::String(text) if text.contains("{{") => *text = self.fill("policy_document", text, policy_value)?,
            Value::Array(items) => {
                for item in items {
                    self.fill_strings(item)?;
                }
            }
            Value::Object(map) => {
                if let Some(key) = map.keys().find(|key| key.contains("{{")) {
                    return Err(refused("policy_document", key, "names of fields cannot be templates"));
                }
                for item in map.values_mut() {
                    self.fill_strings(item)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fill(&self, field: &str, template: &str, quote: Quote) -> Result<String> {
        if !template.contains("{{") {
            return Ok(template.to_owned());
        }
        let facts = Facts {
            kind: "IAM",
            display_name: &self.cx.request.caller.display_name,
            policy_name: self.role_name,
            claims: self.claims,
            quote,
            clock: &self.cx.clock,
            entropy: &self.cx.entropy,
        };
        Template::parse(template)
            .and_then(|template| template.fill(&facts))
            .map_err(|problem| Error::bad_request(format!("{field} of role {}: {problem}", quoted(self.role_name))))
    }
}

fn sized(field: &str, name: &str) -> Result<String> {
    let size = name.chars().count();
    if (NAME_SIZE_MIN..=NAME_SIZE_MAX).contains(&size) {
        return Ok(name.to_owned());
    }
    let limits = format!("it has {size} characters, AWS takes {NAME_SIZE_MIN} to {NAME_SIZE_MAX}; cut it with truncate");
    Err(refused(field, name, &limits))
}

fn refused(field: &str, value: &str, why: &str) -> Error {
    Error::bad_request(format!("{field} cannot be {}: {why}", quoted(&Brief(value).to_string())))
}

/// A value that can be nothing but a name: it cannot end a segment of an ARN, nor match more than itself.
fn name_only(value: String) -> Result<String, String> {
    if value.is_empty() {
        return Err("a template gives an empty text, which could stand for more than one".to_owned());
    }
    match value.chars().find(|c| !(c.is_ascii_alphanumeric() || "+=,.@_-".contains(*c))) {
        Some(c) => Err(format!("{} has a {c:?}; only letters, digits and +=,.@_- can stand here (replace changes it)", quoted(&value))),
        None => Ok(value),
    }
}

/// A value that AWS takes for a tag. Another character is refused rather than changed: tags are compared by policies, and two values must
/// not become one.
fn tag_value(value: String) -> Result<String, String> {
    match value.chars().find(|c| !(c.is_alphanumeric() || *c == ' ' || "_.:/=+-@".contains(*c))) {
        Some(c) => Err(format!("{} has a {c:?}, which AWS does not take in a tag (replace changes it)", quoted(&value))),
        None => Ok(value),
    }
}

/// A value inside a string of a policy: what would match more than itself is refused. JSON's own quoting happens when the policy is written.
fn policy_value(value: String) -> Result<String, String> {
    if value.is_empty() {
        return Err("a template gives an empty text, which could stand for more than one".to_owned());
    }
    match value.chars().find(|c| matches!(c, '*' | '?' | '$' | '{' | '}') || c.is_control()) {
        Some(c) => Err(format!("{} has a {c:?}, which means more than itself in a policy", quoted(&value))),
        None => Ok(value),
    }
}
