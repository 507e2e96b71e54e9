//! A JSON Web Token taken apart, strictly: nothing in it is believed before a key of the configuration has verified it.
//!
//! Only the compact form is read, without padding, without a name that stands twice, without `crit`. What a header offers as its own key
//! (`jwk`, `jku`, `x5c`, `x5u`) is never looked at. Sources: RFC 7515, RFC 7519, RFC 8725.

use data_encoding::BASE64URL_NOPAD;
use daypass_base::Brief;
use daypass_idp::strict;
use serde_json::Value;

/// Longest token, in bytes.
pub(in crate::auth) const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// Longest header, in bytes as written.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// About how many bytes of memory header and claims may take each: a thousand groups take a quarter of it.
const CLAIMS_MEMORY_MAX: usize = 512 << 10;
/// Audiences of one token.
const AUDIENCES_MAX: usize = 64;
/// Longest key id, in bytes.
const KEY_ID_BYTES_MAX: usize = 1024;

/// How a token may be signed. HMAC and `none` are not here, so they cannot be allowed by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::auth) enum Algorithm {
    EdDsa,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
    Rs256,
    Rs384,
    Rs512,
}

impl Algorithm {
    /// All of them, as a configuration without a list allows them.
    const ALL: [Self; 10] =
        [Self::EdDsa, Self::Es256, Self::Es384, Self::Es512, Self::Ps256, Self::Ps384, Self::Ps512, Self::Rs256, Self::Rs384, Self::Rs512];

    /// By its name in RFC 7518 and RFC 8037; case matters.
    pub(in crate::auth) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    pub(in crate::auth) fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }
}

/// A token, of which nothing is verified yet.
pub(in crate::auth) struct Token<'t> {
    /// What the signature is about.
    pub(in crate::auth) signed: &'t str,
    pub(in crate::auth) signature: Vec<u8>,
    pub(in crate::auth) algorithm: Algorithm,
    /// Chooses among the keys that we have; nothing else is done with it.
    pub(in crate::auth) key_id: Option<String>,
    /// An object. Private, so that nobody reads it before a key has verified the token.
    claims: Value,
}

/// The claims of a token that one of our keys verified.
#[derive(Clone)]
pub(in crate::auth) struct Verified(pub(in crate::auth) Value);

impl<'t> Token<'t> {
    /// Takes a token apart. Errors: what is wrong with it, without its content.
    pub(in crate::auth) fn parse(text: &'t str) -> Result<Self, String> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(format!("the token has {} bytes, over the limit of {TOKEN_BYTES_MAX}", text.len()));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("malformed token: it must have three parts with a dot between them".to_owned());
        };
        if header.len() > HEADER_BYTES_MAX {
            return Err(format!("malformed token: its header has more than {HEADER_BYTES_MAX} bytes"));
        }
        let signed = text.get(..header.len() + 1 + claims.len()).unwrap_or_default();
        let header = strict::object_within(&decoded("header", header)?, CLAIMS_MEMORY_MAX)
            .map_err(|why| format!("malformed token: its header cannot be read: {why}"))?;
        let claims = strict::object_within(&decoded("payload", claims)?, CLAIMS_MEMORY_MAX)
            .map_err(|why| format!("malformed token: its payload cannot be read: {why}"))?;
        let signature = decoded("signature", signature)?;
        if header.contains_key("crit") {
            return Err("malformed token: its header has critical extensions (crit), none of which is supported".to_owned());
        }
        let named = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let Some(algorithm) = Algorithm::parse(named) else {
            let known = Algorithm::ALL.map(Algorithm::name).join(", ");
            return Err(format!("invalid algorithm (alg) header parameter: {:?} is never accepted, only {known}", Brief(named)));
        };
        let key_id = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.len() <= KEY_ID_BYTES_MAX => Some(id.clone()),
            Some(_) => return Err(format!("malformed token: its key id (kid) is no text of at most {KEY_ID_BYTES_MAX} bytes")),
        };
        Ok(Self { signed, signature, algorithm, key_id, claims: Value::Object(claims) })
    }

    /// The audiences that the token claims, to be asked about and not to be believed.
    pub(in crate::auth) fn claimed_audiences(&self) -> Result<Vec<String>, String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let found = match self.claims.get("aud") {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(items)) if items.len() <= AUDIENCES_MAX => items.iter().map(text).collect(),
            Some(one) => text(one).map(|one| vec![one]),
        };
        found.ok_or_else(|| format!("invalid audience (aud) claim: it is neither a text nor a list of at most {AUDIENCES_MAX} texts"))
    }

    /// The claims, once an API server of Kubernetes said whose this very token is.
    pub(in crate::auth) fn reviewed(self, _by: &daypass_idp::kubernetes::Account) -> Verified {
        Verified(self.claims)
    }

    /// The claims, once somebody says that a key verified them.
    pub(in crate::auth) fn believed(self, _by: super::key::Proven) -> Verified {
        Verified(self.claims)
    }
}

impl Verified {
    /// A claim by its plain name, whatever it looks like.
    pub(in crate::auth) fn plain(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A claim that is a text; empty without.
    pub(in crate::auth) fn text(&self, name: &str) -> &str {
        self.plain(name).and_then(Value::as_str).unwrap_or_default()
    }
}

fn decoded(part: &str, text: &str) -> Result<Vec<u8>, String> {
    let error = |_where_it_stands| format!("malformed token: its {part} is no base64url without padding");
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(error)
}
