//! A stored entry of `certs/`, and every decision about it: pure. As everywhere in Vault's method, it is called a certificate there.

use std::collections::BTreeMap;

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Error, Result, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::leaf::Leaf;
use super::ocsp::{Ocsp, OcspParams, Responders};
use super::trusted::Trusted;
use crate::auth::glob::glob;
use crate::auth::token_fields::{OlderNames, OlderParams, TokenFields, With};

/// An entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    pub(super) certificate: String,
    pub(super) display_name: String,
    allowed_names: Vec<String>,
    allowed_common_names: Vec<String>,
    allowed_dns_sans: Vec<String>,
    allowed_email_sans: Vec<String>,
    allowed_uri_sans: Vec<String>,
    allowed_organizational_units: Vec<String>,
    allowed_organizations: Vec<String>,
    required_extensions: Vec<String>,
    allowed_metadata_extensions: Vec<String>,
    ocsp: Ocsp,
    pub(super) token: TokenFields,
    /// The older names of token fields that were used, and are shown again.
    older: OlderNames,
}

/// An entry and what its certificates are.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Role")]
pub(super) struct Entry {
    pub(super) role: Role,
    pub(super) trusted: Trusted,
    /// Who is asked whether certificates were revoked, if anybody is.
    pub(super) responders: Option<Responders>,
}

/// An entry's own fields as a request names them; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RoleParams {
    /// Name of the certificate; case does not matter. Example: `runners`.
    pub(super) name: String,
    /// The trusted certificate in PEM. That of an authority lets in whoever has a certificate from it; any other lets in whoever shows this very
    /// certificate. Several authorities may stand one after the other, at most 64.
    certificate: Option<String>,
    /// Names of which the certificate's common name, DNS names or e-mail addresses must have one; empty for any. A star stands for any text.
    /// Example: `*.builds.acme.example`.
    allowed_names: Option<CommaList>,
    /// Common names that the certificate may have; empty for any. A star stands for any text. Example: `runner-*`.
    allowed_common_names: Option<CommaList>,
    /// DNS names of which the certificate must have one; empty for any. A star stands for any text. Example: `*.builds.acme.example`.
    allowed_dns_sans: Option<CommaList>,
    /// E-mail addresses of which the certificate must have one; empty for any. A star stands for any text. Example: `*@acme.example`.
    allowed_email_sans: Option<CommaList>,
    /// URIs of which the certificate must have one; empty for any. A star stands for any text. Example: `spiffe://acme.example/ci/*`.
    allowed_uri_sans: Option<CommaList>,
    /// Organizational units of which the certificate's subject must have one; empty for any. A star stands for any text. Example: `builds`.
    allowed_organizational_units: Option<CommaList>,
    /// Organizations of which the certificate's subject must have one; empty for any. A star stands for any text. Example: `Acme`.
    allowed_organizations: Option<CommaList>,
    /// Extensions that the certificate must have, all of them: the object id, a colon, and the text in it, in which a star stands for any text; with
    /// `hex:` before it the whole value in hex digits. Example: `1.2.3.45:ci-*`.
    required_extensions: Option<CommaList>,
    /// Object ids of extensions whose texts become metadata of the login, under the id with dashes for dots. Example: `1.2.3.45`.
    allowed_metadata_extensions: Option<CommaList>,
    /// What the token is called; empty for the name of the certificate. Example: `runners`.
    display_name: Option<String>,
    /// Ask by OCSP at each login and renewal whether the client's certificate was revoked, and every authority's between it and the trusted one that names a
    /// responder; false at first. For a certificate that is trusted by itself, its issuer's has to stand behind it in `certificate`.
    ocsp_enabled: Option<bool>,
    /// Certificates in PEM, at most 64, whose signatures under answers of OCSP count besides the issuer's: responders, or authorities of responders.
    ocsp_ca_certificates: Option<String>,
    /// Responders to ask instead of those that certificates name; at most 8. Answers are signed, so plain `http://` is allowed. Example:
    /// `http://ocsp.acme.example`.
    ocsp_servers_override: Option<CommaList>,
    /// Let certificates in when no responder can be reached or knows them; false at first. One that was revoked, or whose answer cannot be believed, is
    /// refused all the same.
    ocsp_fail_open: Option<bool>,
    /// Ask all responders, who have to agree, instead of one after the other until one knows; false at first.
    ocsp_query_all_servers: Option<bool>,
    /// Oldest answer that counts, by its `thisUpdate`; 0 at first, for any that is not out of date. Example: `1h`.
    ocsp_this_update_max_age: Option<Seconds>,
    /// How often a responder that cannot be reached is asked again, at most 10. Example: `4`.
    ocsp_max_retries: Option<i64>,
    /// Older name of `token_policies`.
    policies: Option<CommaList>,
    /// Still older name of `token_ttl`.
    lease: Option<Seconds>,
    /// Older name of `token_ttl`.
    ttl: Option<Seconds>,
    /// Older name of `token_max_ttl`.
    max_ttl: Option<Seconds>,
    /// Older name of `token_period`.
    period: Option<Seconds>,
    /// Older name of `token_bound_cidrs`.
    bound_cidrs: Option<CommaList>,
}

impl TryFrom<Role> for Entry {
    type Error = String;

    fn try_from(role: Role) -> Result<Self, String> {
        let trusted = Trusted::read(&role.certificate)?;
        // What is not in force is checked when it is written alone.
        let responders = role.ocsp.enabled.then(|| role.ocsp.read()).transpose()?;
        if responders.is_some() && matches!(&trusted, Trusted::Leaf(pinned) if pinned.issuer.is_none()) {
            let text =
                "ocsp_enabled: nobody can be asked about this certificate without that of its issuer: put that behind it in certificate";
            return Err(text.to_owned());
        }
        Ok(Self { role, trusted, responders })
    }
}

impl Role {
    /// Takes what a request names and checks the whole. Errors: `BadRequest`.
    pub(super) fn apply(&mut self, params: With<RoleParams>) -> Result<()> {
        let With { own, token } = params;
        let older = OlderParams {
            policies: own.policies.clone(),
            ttl: own.ttl.or(own.lease),
            max_ttl: own.max_ttl,
            period: own.period,
            num_uses: None,
            bound_cidrs: own.bound_cidrs.clone(),
        };
        let token = self.older.merge(token, older);
        self.token.apply(token)?;
        self.apply_own(own).map_err(Error::bad_request)
    }

    fn apply_own(&mut self, own: RoleParams) -> Result<(), String> {
        let lists = [
            (&mut self.allowed_names, own.allowed_names),
            (&mut self.allowed_common_names, own.allowed_common_names),
            (&mut self.allowed_dns_sans, own.allowed_dns_sans),
            (&mut self.allowed_email_sans, own.allowed_email_sans),
            (&mut self.allowed_uri_sans, own.allowed_uri_sans),
            (&mut self.allowed_organizational_units, own.allowed_organizational_units),
            (&mut self.allowed_organizations, own.allowed_organizations),
            (&mut self.required_extensions, own.required_extensions),
            (&mut self.allowed_metadata_extensions, own.allowed_metadata_extensions),
        ];
        for (list, given) in lists {
            if let Some(given) = given {
                *list = given.0;
            }
            if list.len() > ITEMS_MAX || list.iter().any(|item| item.len() > ITEM_BYTES_MAX) {
                return Err(format!("a field has more than {ITEMS_MAX} entries, or one of more than {ITEM_BYTES_MAX} bytes"));
            }
        }
        if let Some(certificate) = own.certificate {
            self.certificate = certificate;
        }
        if let Some(name) = own.display_name {
            self.display_name = name;
        }
        if self.display_name.is_empty() {
            self.display_name = own.name.to_lowercase();
        }
        self.ocsp.apply(OcspParams {
            enabled: own.ocsp_enabled,
            ca_certificates: own.ocsp_ca_certificates,
            servers_override: own.ocsp_servers_override,
            fail_open: own.ocsp_fail_open,
            query_all_servers: own.ocsp_query_all_servers,
            this_update_max_age: own.ocsp_this_update_max_age,
            max_retries: own.ocsp_max_retries,
        });
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        if self.display_name.len() > ITEM_BYTES_MAX || self.display_name.chars().any(char::is_control) {
            return Err(format!("display_name has control characters or more than {ITEM_BYTES_MAX} bytes"));
        }
        for required in &self.required_extensions {
            let (oid, _) = required.strip_prefix("hex:").unwrap_or(required).split_once(':').unwrap_or_default();
            if !is_oid(oid) {
                return Err(format!("required_extensions: {:?} is not of the form 1.2.3:text or hex:1.2.3:digits", Brief(required)));
            }
        }
        if let Some(wrong) = self.allowed_metadata_extensions.iter().find(|oid| !is_oid(oid)) {
            return Err(format!("allowed_metadata_extensions: {:?} is no object id such as 1.2.3", Brief(wrong)));
        }
        self.ocsp.read()?;
        Entry::try_from(self.clone()).map(drop)
    }

    /// Whether a certificate's names and extensions fit.
    pub(super) fn admits(&self, leaf: &Leaf) -> bool {
        let common = std::slice::from_ref(&leaf.common_name);
        let names: Vec<String> = [common, &leaf.dns_names, &leaf.emails].concat();
        among(&self.allowed_names, &names)
            && among(&self.allowed_common_names, common)
            && among(&self.allowed_dns_sans, &leaf.dns_names)
            && among(&self.allowed_email_sans, &leaf.emails)
            && among(&self.allowed_uri_sans, &leaf.uris)
            && among(&self.allowed_organizational_units, &leaf.organizational_units)
            && among(&self.allowed_organizations, &leaf.organizations)
            && self.required_extensions.iter().all(|required| has_extension(leaf, required))
    }

    /// What a login under this entry proves.
    pub(super) fn metadata(&self, name: &str, leaf: &Leaf) -> BTreeMap<String, String> {
        let mut out = BTreeMap::from([
            ("cert_name".to_owned(), name.to_owned()),
            ("common_name".to_owned(), leaf.common_name.clone()),
            ("serial_number".to_owned(), leaf.serial_number.clone()),
            ("subject_key_id".to_owned(), colons(&leaf.subject_key_id)),
            ("authority_key_id".to_owned(), colons(&leaf.authority_key_id)),
        ]);
        let named = |oid: &String| Some((oid.replace('.', "-"), leaf.extension_text(oid)?));
        out.extend(self.allowed_metadata_extensions.iter().filter_map(named));
        out
    }

    /// As a read shows it.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let own = [
            ("allowed_common_names", json!(self.allowed_common_names)),
            ("allowed_dns_sans", json!(self.allowed_dns_sans)),
            ("allowed_email_sans", json!(self.allowed_email_sans)),
            ("allowed_metadata_extensions", json!(self.allowed_metadata_extensions)),
            ("allowed_names", json!(self.allowed_names)),
            ("allowed_organizational_units", json!(self.allowed_organizational_units)),
            ("allowed_organizations", json!(self.allowed_organizations)),
            ("allowed_uri_sans", json!(self.allowed_uri_sans)),
            ("certificate", json!(self.certificate)),
            ("display_name", json!(self.display_name)),
            ("required_extensions", json!(self.required_extensions)),
        ];
        let mut out = Map::new();
        self.token.show(&mut out);
        out.extend(own.into_iter().chain(self.ocsp.shown()).map(|(name, value)| (name.to_owned(), value)));
        self.older.show(&self.token, &mut out);
        out
    }
}

/// Whether one of the names fits one of the patterns; without patterns, whatever the names.
fn among(patterns: &[String], names: &[String]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| names.iter().any(|name| glob(pattern, name)))
}

fn has_extension(leaf: &Leaf, required: &str) -> bool {
    let (in_hex, rest) = required.strip_prefix("hex:").map_or((false, required), |rest| (true, rest));
    let Some((oid, pattern)) = rest.split_once(':') else { return false };
    let value = if in_hex { leaf.extension_hex(oid) } else { leaf.extension_text(oid) };
    value.is_some_and(|value| glob(pattern, &value))
}

fn is_oid(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('.') && text.split('.').all(number)
}

/// Two hex digits for each byte, with colons between them.
fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Entries of one field.
const ITEMS_MAX: usize = 256;
/// Longest entry of a field, in bytes.
const ITEM_BYTES_MAX: usize = 1024;
