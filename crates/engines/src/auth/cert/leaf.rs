//! What a client's certificate says: its names and extensions, read strictly. Nothing of it is to be believed before its chain is verified.

use std::collections::BTreeMap;

use daypass_sdk::Timestamp;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) der: Vec<u8>,
    /// The last common name of the subject; empty without one.
    pub(super) common_name: String,
    pub(super) dns_names: Vec<String>,
    pub(super) emails: Vec<String>,
    pub(super) uris: Vec<String>,
    pub(super) organizational_units: Vec<String>,
    pub(super) organizations: Vec<String>,
    /// Extensions by object id, with the content of their octet strings.
    pub(super) extensions: BTreeMap<String, Vec<u8>>,
    /// In decimal.
    pub(super) serial_number: String,
    pub(super) subject_key_id: Vec<u8>,
    pub(super) authority_key_id: Vec<u8>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Whether it may be used by clients: it does not say what it is for, or says so.
    pub(super) for_clients: bool,
    /// Whether it says to be an authority's.
    pub(super) authority: bool,
}

impl Leaf {
    /// Reads a certificate in DER. Errors: what is wrong with it.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_its_text_says_no_more| "it is no X.509 certificate".to_owned())?;
        if !rest.is_empty() {
            return Err("something follows the certificate".to_owned());
        }
        // Of two extensions of one kind, each reader might believe another.
        parsed.extensions_map().map_err(|_duplicate| "an extension is there twice".to_owned())?;
        let subject = parsed.subject();
        let mut leaf = Self {
            der: der.to_vec(),
            common_name: subject.iter_common_name().last().map(text_of).transpose()?.unwrap_or_default(),
            dns_names: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            organizational_units: subject.iter_organizational_unit().map(text_of).collect::<Result<_, _>>()?,
            organizations: subject.iter_organization().map(text_of).collect::<Result<_, _>>()?,
            extensions: parsed.extensions().iter().map(|one| (one.oid.to_id_string(), one.value.to_vec())).collect(),
            serial_number: parsed.tbs_certificate.serial.to_string(),
            subject_key_id: Vec::new(),
            authority_key_id: Vec::new(),
            not_before: Timestamp::from_seconds(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
            for_clients: true,
            authority: parsed.is_ca(),
        };
        for extension in parsed.extensions() {
            leaf.take(extension.parsed_extension())?;
        }
        leaf.plain()?;
        Ok(leaf)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>) -> Result<(), String> {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
                        GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
                        GeneralName::URI(name) => self.uris.push((*name).to_owned()),
                        GeneralName::Invalid(..) => return Err("an alternative name cannot be read".to_owned()),
                        _ => {}
                    }
                }
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = id.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec()).unwrap_or_default();
            }
            ParsedExtension::ExtendedKeyUsage(usage) => self.for_clients = usage.client_auth || usage.any,
            // One that cannot be read might say anything.
            ParsedExtension::ParseError { .. } => return Err("an extension cannot be read".to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// Names become policies' and logs' texts: one with a control character could look like another there.
    fn plain(&self) -> Result<(), String> {
        let lists = [&self.dns_names, &self.emails, &self.uris, &self.organizational_units, &self.organizations];
        let mut names = lists.into_iter().flatten().chain([&self.common_name]);
        if names.any(|name| name.chars().any(char::is_control)) {
            return Err("a name has control characters".to_owned());
        }
        Ok(())
    }

    /// An extension's value as a text: that of the string in it; empty when it holds something else. `None` without that extension.
    pub(super) fn extension_text(&self, oid: &str) -> Option<String> {
        let value = self.extensions.get(oid)?;
        let text = match Any::from_der(value) {
            Ok(([], any)) => string(&any).filter(|text| !text.chars().any(char::is_control)),
            _ => None,
        };
        Some(text.unwrap_or_default())
    }

    /// An extension's value in hex digits.
    pub(super) fn extension_hex(&self, oid: &str) -> Option<String> {
        self.extensions.get(oid).map(|value| data_encoding::HEXLOWER.encode(value))
    }
}

fn text_of(attribute: &AttributeTypeAndValue<'_>) -> Result<String, String> {
    string(attribute.attr_value()).ok_or_else(|| "a name in its subject cannot be read".to_owned())
}

/// The text of the string types that certificates have.
fn string(any: &Any<'_>) -> Option<String> {
    match any.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            std::str::from_utf8(any.data).ok().map(str::to_owned)
        }
        Tag::T61String if any.data.is_ascii() => std::str::from_utf8(any.data).ok().map(str::to_owned),
        Tag::BmpString if any.data.len().is_multiple_of(2) => {
            let units = any.data.chunks_exact(2).map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        _ => None,
    }
}
