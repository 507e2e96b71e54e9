//! Cross-origin requests: which web pages may call the API from a browser (`sys/config/cors`).
//!
//! Decides, sends nothing. Without configuration nothing happens at all, whatever a browser asks.

use arc_swap::ArcSwap;
use daypass_sdk::{Error, Result};
use daypass_storage::{Batch, Key};
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};

use crate::node::core_key;
use crate::rows::Rows;

/// The configuration, as it is stored and in memory.
pub(crate) struct Cors {
    rules: ArcSwap<Rules>,
    /// Version of the row that is in force, so that of two who change it the later one's stays.
    version: parking_lot::Mutex<u64>,
}

/// Which origins may call, with which headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rules {
    pub(crate) enabled: bool,
    /// Origins; `*` alone is all.
    pub(crate) origins: Vec<String>,
    /// All allowed headers, the usual ones among them.
    pub(crate) headers: Vec<String>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes on; its answer gets these headers.
    Pass(Vec<(&'static str, String)>),
    /// It was only a question whether another request may be sent: this status, an empty body, these headers.
    Preflight(u16, Vec<(&'static str, String)>),
    /// 403 `origin not allowed`.
    Refused,
}

impl Cors {
    /// Reads the stored configuration.
    pub(crate) async fn load(rows: &Rows) -> Result<Self> {
        let cors = Self { rules: ArcSwap::default(), version: parking_lot::Mutex::default() };
        cors.reload(rows).await?;
        Ok(cors)
    }

    /// Reads the stored configuration again: another node may have changed it.
    pub(crate) async fn reload(&self, rows: &Rows) -> Result<()> {
        let Some((rules, version)) = rows.get_json::<Rules>(&key()).await? else { return Ok(()) };
        let mut in_force = self.version.lock();
        if version > *in_force {
            *in_force = version;
            self.rules.store(rules.into());
        }
        Ok(())
    }

    /// The configuration in force.
    pub(crate) fn rules(&self) -> std::sync::Arc<Rules> {
        self.rules.load_full()
    }

    /// Stores a configuration and takes it into use.
    pub(crate) async fn set(&self, rows: &Rows, rules: Rules) -> Result<()> {
        rows.commit(rows.put_json(Batch::new().config_change(), key(), &rules)?).await?;
        self.reload(rows).await
    }

    /// Decides about a request.
    pub(crate) fn decide(&self, method: &Method, headers: &HeaderMap) -> Decision {
        self.rules.load().decide(method, headers)
    }
}

impl Rules {
    /// Rules for these origins, with the usual headers and these. Errors: `Failed` with Vault's texts.
    pub(crate) fn new(origins: Vec<String>, headers: Vec<String>) -> Result<Self> {
        if origins.is_empty() {
            return Err(Error::failed("at least one origin or the wildcard must be provided"));
        }
        if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
            return Err(Error::failed("to allow all origins the '*' must be the only value for allowed_origins"));
        }
        if origins.len() > ORIGINS_MAX || headers.len() > ORIGINS_MAX {
            return Err(Error::bad_request(format!("more than {ORIGINS_MAX} origins or headers")));
        }
        let usual = USUAL_HEADERS.iter().map(|name| (*name).to_owned());
        Ok(Self { enabled: true, origins, headers: usual.chain(headers).collect() })
    }

    fn decide(&self, method: &Method, headers: &HeaderMap) -> Decision {
        let origin = headers.get("origin").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !self.enabled || origin.is_empty() {
            return Decision::Pass(Vec::new());
        }
        if !self.origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
            return Decision::Refused;
        }
        let asked = headers.get("access-control-request-method").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let preflight = *method == Method::OPTIONS;
        if preflight && !METHODS.contains(&asked) {
            return Decision::Preflight(405, Vec::new());
        }
        let mut answer = vec![("access-control-allow-origin", origin.to_owned()), ("vary", "Origin".to_owned())];
        if !preflight {
            return Decision::Pass(answer);
        }
        answer.push(("access-control-allow-methods", METHODS.join(",")));
        answer.push(("access-control-allow-headers", self.headers.join(",")));
        answer.push(("access-control-max-age", "300".to_owned()));
        Decision::Preflight(200, answer)
    }
}

fn key() -> Key {
    core_key("cors")
}

const METHODS: [&str; 7] = ["DELETE", "GET", "OPTIONS", "POST", "PUT", "PATCH", "LIST"];
const ORIGINS_MAX: usize = 1_000;
/// Headers that are allowed without being configured.
const USUAL_HEADERS: [&str; 10] = [
    "Content-Type",
    "X-Requested-With",
    "X-Vault-AWS-IAM-Server-ID",
    "X-Vault-MFA",
    "X-Vault-No-Request-Forwarding",
    "X-Vault-Wrap-Format",
    "X-Vault-Wrap-TTL",
    "X-Vault-Policy-Override",
    "Authorization",
    "X-Vault-Token",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn without_configuration_nothing_happens() {
        assert_eq!(Rules::default().decide(&Method::OPTIONS, &asking(&[("origin", "http://a")])), Decision::Pass(Vec::new()));
    }

    #[test]
    fn only_known_origins_pass() {
        let rules = Rules::new(vec!["http://a".to_owned()], Vec::new()).unwrap();
        assert_eq!(rules.decide(&Method::GET, &asking(&[("origin", "http://b")])), Decision::Refused);
        assert_eq!(rules.decide(&Method::GET, &asking(&[])), Decision::Pass(Vec::new()));
        let Decision::Pass(headers) = rules.decide(&Method::GET, &asking(&[("origin", "http://a")])) else { panic!("refused") };
        assert_eq!(headers, [("access-control-allow-origin", "http://a".to_owned()), ("vary", "Origin".to_owned())]);
    }

    #[test]
    fn a_preflight_is_answered_and_an_odd_method_refused() {
        let rules = Rules::new(vec!["*".to_owned()], vec!["X-Mine".to_owned()]).unwrap();
        let ask = |method| rules.decide(&Method::OPTIONS, &asking(&[("origin", "http://a"), ("access-control-request-method", method)]));
        assert_eq!(ask("FOO"), Decision::Preflight(405, Vec::new()));
        let Decision::Preflight(200, headers) = ask("PUT") else { panic!("refused") };
        assert!(headers.iter().any(|(name, value)| *name == "access-control-allow-headers" && value.ends_with("X-Vault-Token,X-Mine")));
    }

    #[test]
    fn the_wildcard_stands_alone() {
        assert!(Rules::new(vec!["*".to_owned(), "http://a".to_owned()], Vec::new()).is_err());
        assert_eq!(Rules::new(Vec::new(), Vec::new()).unwrap_err().message, "at least one origin or the wildcard must be provided");
    }
}
