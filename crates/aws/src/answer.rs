//! The small XML documents that AWS's query protocol answers with.

use daypass_base::Secret;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

use crate::api::Identity;

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

impl Fields {
    /// Reads a whole answer. Errors: where it is not understood, without a word of what it says.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::from_reader(body);
        let (mut path, mut fields, mut text) = (Vec::<String>::new(), Vec::new(), String::new());
        loop {
            let place = reader.buffer_position();
            let bad = |why: &str| format!("{why} at byte {place} of {}", body.len());
            match reader.read_event().map_err(|_quotes_the_answer| bad("no XML"))? {
                Event::Start(start) => {
                    if path.len() >= DEPTH_MAX || fields.len() >= FIELDS_MAX {
                        return Err(bad("too many elements"));
                    }
                    path.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
                    text.clear();
                }
                Event::Text(more) => text.push_str(&more.decode().map_err(|_quotes| bad("no UTF-8"))?),
                Event::CData(more) => text.push_str(&more.decode().map_err(|_quotes| bad("no UTF-8"))?),
                Event::GeneralRef(reference) => {
                    if let Ok(Some(character)) = reference.resolve_char_ref() {
                        text.push(character);
                    } else {
                        let name = reference.decode().map_err(|_quotes| bad("no UTF-8"))?;
                        text.push_str(resolve_xml_entity(&name).ok_or_else(|| bad("an unknown entity"))?);
                    }
                }
                Event::End(_) => {
                    let name = path.pop().unwrap_or_default();
                    let parent = path.last().cloned().unwrap_or_default();
                    fields.push(Field { parent, name, text: Secret::new(std::mem::take(&mut text)) });
                }
                Event::Eof if path.is_empty() && !fields.is_empty() => return Ok(Self(fields)),
                Event::Eof => return Err(bad("an early end")),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
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
