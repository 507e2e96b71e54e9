//! What an entry says of OCSP.

use daypass_base::lenient::CommaList;
use daypass_idp::{Trust, Url};
use daypass_sdk::Seconds;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::pem;
use super::signer::Signer;
use crate::hash::sha256;

/// The fields as they are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(in super::super) struct Ocsp {
    pub(in super::super) enabled: bool,
    ca_certificates: String,
    servers_override: Vec<String>,
    fail_open: bool,
    query_all_servers: bool,
    this_update_max_age: Seconds,
    max_retries: i64,
}

/// The fields as a request names them.
#[derive(Default)]
pub(in super::super) struct OcspParams {
    pub(in super::super) enabled: Option<bool>,
    pub(in super::super) ca_certificates: Option<String>,
    pub(in super::super) servers_override: Option<CommaList>,
    pub(in super::super) fail_open: Option<bool>,
    pub(in super::super) query_all_servers: Option<bool>,
    pub(in super::super) this_update_max_age: Option<Seconds>,
    pub(in super::super) max_retries: Option<i64>,
}

/// The fields as asking goes by them.
#[derive(Debug)]
pub(in super::super) struct Responders {
    /// Instead of those that certificates name; none for those.
    pub(super) instead: Vec<Url>,
    /// Who may sign answers besides the issuers.
    pub(super) named: Vec<Signer>,
    /// Whose certificates are good for responders over TLS: answers are signed, whoever brings them.
    pub(super) trust: Trust,
    pub(super) fail_open: bool,
    pub(super) all: bool,
    /// Zero for any age.
    pub(super) max_age: Seconds,
    pub(super) retries: u32,
    /// What was told under other settings does not count under these.
    pub(super) fingerprint: [u8; 32],
}

impl Default for Ocsp {
    fn default() -> Self {
        Self {
            enabled: false,
            ca_certificates: String::new(),
            servers_override: Vec::new(),
            fail_open: false,
            query_all_servers: false,
            this_update_max_age: Seconds::ZERO,
            max_retries: 4,
        }
    }
}

impl Ocsp {
    /// Takes what a request names. What that amounts to is checked by [`Ocsp::read`].
    pub(in super::super) fn apply(&mut self, params: OcspParams) {
        self.enabled = params.enabled.unwrap_or(self.enabled);
        if let Some(certificates) = params.ca_certificates {
            self.ca_certificates = certificates;
        }
        if let Some(servers) = params.servers_override {
            self.servers_override = servers.0;
        }
        self.fail_open = params.fail_open.unwrap_or(self.fail_open);
        self.query_all_servers = params.query_all_servers.unwrap_or(self.query_all_servers);
        self.this_update_max_age = params.this_update_max_age.unwrap_or(self.this_update_max_age);
        self.max_retries = params.max_retries.unwrap_or(self.max_retries);
    }

    /// Errors: which field is wrong, and why.
    pub(in super::super) fn read(&self) -> Result<Responders, String> {
        if self.max_retries < 0 {
            return Err("ocsp_max_retries can not be a negative number".to_owned());
        }
        let retries = u32::try_from(self.max_retries).ok().filter(|retries| *retries <= RETRIES_MAX);
        let retries = retries.ok_or_else(|| format!("ocsp_max_retries is {}, over the limit of {RETRIES_MAX}", self.max_retries))?;
        if self.servers_override.len() > SERVERS_MAX {
            return Err(format!("ocsp_servers_override has {} servers; at most {SERVERS_MAX} are allowed", self.servers_override.len()));
        }
        let instead: Result<Vec<Url>, String> = self.servers_override.iter().map(|url| Url::parse_of_signed(url)).collect();
        let certificates = pem::certificates(&self.ca_certificates).and_then(|all| {
            if all.is_empty() && !self.ca_certificates.trim().is_empty() {
                return Err("there is no certificate in it".to_owned());
            }
            all.iter().map(|der| Signer::read(der)).collect::<Result<Vec<_>, _>>()
        });
        let trust = if self.ca_certificates.trim().is_empty() { Trust::System } else { Trust::Also(self.ca_certificates.clone()) };
        Ok(Responders {
            instead: instead.map_err(|why| format!("ocsp_servers_override: {why}"))?,
            named: certificates.map_err(|why| format!("failed to parse ocsp_ca_certificates: {why}"))?,
            trust,
            fail_open: self.fail_open,
            all: self.query_all_servers,
            max_age: self.this_update_max_age,
            retries,
            fingerprint: sha256(json!(self).to_string().as_bytes()),
        })
    }

    /// As a read of the entry shows them.
    pub(in super::super) fn shown(&self) -> [(&'static str, Value); 7] {
        [
            ("ocsp_ca_certificates", json!(self.ca_certificates)),
            ("ocsp_enabled", json!(self.enabled)),
            ("ocsp_fail_open", json!(self.fail_open)),
            ("ocsp_max_retries", json!(self.max_retries)),
            ("ocsp_query_all_servers", json!(self.query_all_servers)),
            ("ocsp_servers_override", json!(self.servers_override)),
            ("ocsp_this_update_max_age", json!(self.this_update_max_age)),
        ]
    }
}

/// Responders that an entry or a certificate may name.
pub(super) const SERVERS_MAX: usize = 8;
/// How often a responder may be asked again.
const RETRIES_MAX: u32 = 10;
