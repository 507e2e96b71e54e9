//! AWS's query protocol: a form goes out, a small XML document comes back.

use std::fmt::Write;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use daypass_base::{Secret, Timestamp};
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

use crate::api::{Credential, Identity};

/// The version of STS's API.
const VERSION: &str = "2011-06-15";
/// What the answer of `GetCallerIdentity` has its identity in.
const RESULT: &str = "GetCallerIdentityResult";
/// Elements inside each other; AWS's answers have four.
const DEPTH_MAX: usize = 16;
/// Elements in an answer; AWS's have a dozen.
const FIELDS_MAX: usize = 256;

/// A request's form.
pub(super) struct Form(String);

impl Form {
    pub(super) fn new(action: &str) -> Self {
        Self(format!("Action={action}&Version={VERSION}"))
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.0.push('&');
        self.0.push_str(name);
        self.0.push('=');
        encode(&mut self.0, value);
    }

    pub(super) fn add_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    pub(super) fn done(self) -> Bytes {
        self.0.into()
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(out: &mut String, value: &str) {
    out.reserve(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
}

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

    fn secret(&self, parent: &str, name: &str) -> Option<Secret<String>> {
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

    /// The credentials of an answer, and the ARN that `arn_of` has.
    pub(super) fn credential(&self, arn_of: Option<&str>) -> Option<Credential> {
        Some(Credential {
            access_key_id: self.text("Credentials", "AccessKeyId")?,
            secret_access_key: self.secret("Credentials", "SecretAccessKey")?,
            session_token: self.secret("Credentials", "SessionToken")?,
            expiration: time(&self.text("Credentials", "Expiration")?)?,
            arn: arn_of.and_then(|parent| self.text(parent, "Arn")),
        })
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

    pub(super) fn identity(&self) -> Option<Identity> {
        let field = |name: &str| self.text("GetCallerIdentityResult", name);
        Some(Identity { account: field("Account")?, arn: field("Arn")?, user_id: field("UserId").unwrap_or_default() })
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

fn time(text: &str) -> Option<Timestamp> {
    let time = DateTime::from_str(text.trim(), Format::DateTime).ok()?;
    Some(Timestamp::from_nanos(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded_strictly() {
        let mut form = Form::new("AssumeRole");
        form.add("Policy", "{\"a\": \"b+c&d=é~\"}");
        form.add_some("ExternalId", None);
        let body = form.done();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            "Action=AssumeRole&Version=2011-06-15&Policy=%7B%22a%22%3A%20%22b%2Bc%26d%3D%C3%A9~%22%7D"
        );
    }

    #[test]
    fn an_answer_is_read_with_its_entities() {
        let xml = br#"<?xml version="1.0"?><AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
            <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/a/b</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIA1</AccessKeyId>
            <SecretAccessKey>a&amp;b&#x2B;</SecretAccessKey><SessionToken><![CDATA[t<>]]></SessionToken><Expiration>2026-01-02T03:04:05Z</Expiration>
            </Credentials></AssumeRoleResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></AssumeRoleResponse>"#;
        let fields = Fields::read(xml).unwrap();
        let made = fields.credential(Some("AssumedRoleUser")).unwrap();
        assert_eq!((made.access_key_id.as_str(), made.secret_access_key.expose().as_str()), ("ASIA1", "a&b+"));
        assert_eq!((made.session_token.expose().as_str(), made.arn.as_deref()), ("t<>", Some("arn:aws:sts::1:assumed-role/a/b")));
        assert_eq!(made.expiration, Timestamp::from_seconds(1_767_323_045));
        assert_eq!(fields.request_id().as_deref(), Some("r-1"));
    }

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
