//! The small XML documents that AWS's query protocol answers with.

use daypass_base::Secret;

use crate::api::Identity;
use crate::xml::{self, Bounds, Taker};

/// What the answer of `GetCallerIdentity` has its identity in.
const RESULT: &str = "GetCallerIdentityResult";
/// Elements inside each other; AWS's answers have four.
const DEPTH_MAX: usize = 16;
/// Elements in an answer; AWS's have a dozen.
const FIELDS_MAX: usize = 256;

/// The texts of an answer's elements, each with its own name and its parent's.
pub(crate) struct Fields(Vec<Field>);

struct Field {
    parent: String,
    name: String,
    // Some of these are the credentials; the others are none the worse for it.
    text: Secret<String>,
}

impl Taker for Fields {
    fn leaves(&mut self, path: &[String], text: String) -> Result<(), &'static str> {
        let mut names = path.iter().rev();
        let mut next = || names.next().cloned().unwrap_or_default();
        let (name, parent) = (next(), next());
        self.0.push(Field { parent, name, text: Secret::new(text) });
        Ok(())
    }
}

impl Fields {
    /// Reads a whole answer. Errors: where it is not understood, without a word of what it says.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let mut fields = Self(Vec::new());
        xml::walk(body, &Bounds { depth: DEPTH_MAX, elements: FIELDS_MAX }, &mut fields)?;
        Ok(fields)
    }

    pub(crate) fn secret(&self, parent: &str, name: &str) -> Option<Secret<String>> {
        self.0.iter().find(|field| field.parent == parent && field.name == name).map(|field| field.text.clone())
    }

    pub(crate) fn text(&self, parent: &str, name: &str) -> Option<String> {
        // No secret: the names that are asked for say so.
        self.secret(parent, name).map(|text| text.expose().clone())
    }

    /// The request id, which AWS puts in different places of successes and refusals.
    pub(crate) fn request_id(&self) -> Option<String> {
        self.0.iter().rev().find(|field| matches!(field.name.as_str(), "RequestId" | "RequestID")).map(|field| field.text.expose().clone())
    }

    /// The identity of an answer that holds one and nothing that could be mistaken for it: what a stranger signed led to it.
    pub(crate) fn only_identity(&self) -> Option<Identity> {
        let root = self.0.last().filter(|field| field.parent.is_empty() && field.name == "GetCallerIdentityResponse")?;
        let mut results = self.0.iter().filter(|field| field.name == RESULT);
        let (result, second) = (results.next()?, results.next());
        if second.is_some() || result.parent != root.name {
            return None;
        }
        let field = |name: &str| only(&self.0, name).map(str::to_owned);
        Some(Identity { account: field("Account")?, arn: field("Arn")?, user_id: field("UserId")? })
    }
}

/// One text of an identity, where there is exactly one and it says something.
fn only<'a>(fields: &'a [Field], name: &str) -> Option<&'a str> {
    let mut found = fields.iter().filter(|field| field.name == name);
    let (first, second) = (found.next()?, found.next());
    // No secret: an ARN, an id or an account.
    let text = first.text.expose().trim();
    (second.is_none() && first.parent == RESULT && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_refused_without_quoting_it() {
        for body in ["", "secret", "<a><b>secret</b>", "<a>&secret;</a>", "<a>secret</b>", "<a>\u{0}<"] {
            let error = Fields::read(body.as_bytes()).err().unwrap_or_else(|| panic!("{body:?} is understood"));
            assert!(error.contains(" at byte ") && !error.contains("secret"), "{error}");
        }
        let deep = "<a>".repeat(DEPTH_MAX + 1);
        assert!(Fields::read(deep.as_bytes()).err().unwrap().starts_with("too many elements"));
        let wide = format!("<a>{}</a>", "<b>x</b>".repeat(FIELDS_MAX + 1));
        assert!(Fields::read(wide.as_bytes()).err().unwrap().starts_with("too many elements"));
    }
}
