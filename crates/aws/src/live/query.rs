//! AWS's query protocol: a form goes out, a small XML document ([`Fields`]) comes back.

use std::fmt::Write;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use daypass_base::Timestamp;

use crate::answer::Fields;
use crate::api::{Credential, Identity};

/// The version of STS's API.
const VERSION: &str = "2011-06-15";

/// A request's form.
pub(super) struct Form(String);

impl Form {
    pub(super) fn new(action: &str) -> Self {
        Self::of(action, VERSION)
    }

    /// A form for another service than STS.
    pub(super) fn of(action: &str, version: &str) -> Self {
        Self(format!("Action={action}&Version={version}"))
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

impl Fields {
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

    pub(super) fn identity(&self) -> Option<Identity> {
        let field = |name: &str| self.text("GetCallerIdentityResult", name);
        Some(Identity { account: field("Account")?, arn: field("Arn")?, user_id: field("UserId").unwrap_or_default() })
    }
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
}
