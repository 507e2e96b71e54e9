//! `config`: what holds for the whole mount.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::Cert;

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) disable_binding: bool,
    enable_identity_alias_metadata: bool,
    ocsp_cache_size: i64,
    role_cache_size: i64,
}

impl Config {
    /// Answers of OCSP that are kept.
    pub(super) fn ocsp_cache_size(&self) -> usize {
        usize::try_from(self.ocsp_cache_size.clamp(2, CACHE_MAX)).unwrap_or(2)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { disable_binding: false, enable_identity_alias_metadata: false, ocsp_cache_size: 100, role_cache_size: 200 }
    }
}

/// The configuration; what is absent stays as it is.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ConfigParams {
    /// Let a token be renewed by whoever holds it, whatever certificate they show; false at first: the certificate of the login has to be shown.
    disable_binding: Option<bool>,
    /// Kept for clients that send it: what a login proved is always at hand for templates of policies, as metadata of its alias.
    enable_identity_alias_metadata: Option<bool>,
    /// Has to be false: a refused login tells nothing of the certificate.
    enable_metadata_on_failures: Option<bool>,
    /// How many answers of OCSP are kept in memory, until they end and for an hour at most. From 2 to 10000. Example: `100`.
    ocsp_cache_size: Option<i64>,
    /// Kept for clients that send it: what is kept in memory is bounded by its size. At most 10000; -1 for none. Example: `200`.
    role_cache_size: Option<i64>,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn endpoint() -> Endpoint<Cert> {
    Endpoint::at(["config"])
        .summary("Say what holds for all certificates of the mount, or read that.")
        .on(Operation::Read, read)
        .on(Operation::Update, write)
}

/// The configuration in force.
pub(super) async fn find(cx: &Cx) -> Result<Config> {
    Ok(cx.store.get_json(ROW).await?.unwrap_or_default())
}

async fn read(_: Arc<Cert>, cx: Cx, _: NoParams) -> Result<Reply> {
    let config = find(&cx).await?;
    let fields = [
        ("disable_binding", json!(config.disable_binding)),
        ("enable_identity_alias_metadata", json!(config.enable_identity_alias_metadata)),
        ("enable_metadata_on_failures", json!(false)),
        ("ocsp_cache_size", json!(config.ocsp_cache_size)),
        ("role_cache_size", json!(config.role_cache_size)),
    ];
    Ok(Reply::data(Map::from_iter(fields.map(|(name, value)| (name.to_owned(), value)))))
}

/// Fails with `BadRequest` for what cannot be.
async fn write(_: Arc<Cert>, cx: Cx, params: ConfigParams) -> Result<()> {
    if params.enable_metadata_on_failures == Some(true) {
        return Err(Error::bad_request("enable_metadata_on_failures is not supported: leave it false"));
    }
    if params.ocsp_cache_size.is_some_and(|size| !(2..=CACHE_MAX).contains(&size)) {
        return Err(Error::bad_request(format!("invalid cache size, must be >= 2 and <= {CACHE_MAX}")));
    }
    if params.role_cache_size.is_some_and(|size| !(-1..=CACHE_MAX).contains(&size)) {
        return Err(Error::bad_request(format!("invalid role cache size, must be <= {CACHE_MAX} or -1 to disable role caching")));
    }
    let decide = |stored: Option<Config>| {
        let mut config = stored.unwrap_or_default();
        config.disable_binding = params.disable_binding.unwrap_or(config.disable_binding);
        config.enable_identity_alias_metadata = params.enable_identity_alias_metadata.unwrap_or(config.enable_identity_alias_metadata);
        config.ocsp_cache_size = params.ocsp_cache_size.unwrap_or(config.ocsp_cache_size);
        config.role_cache_size = params.role_cache_size.unwrap_or(config.role_cache_size);
        Ok(config)
    };
    cx.store.change(ROW, decide).await.map(drop)
}

const ROW: &str = "config";
/// Largest size of a cache that may be named.
const CACHE_MAX: i64 = 10_000;
