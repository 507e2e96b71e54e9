//! `config/root`: how this mount reaches AWS.
//!
//! A mount works without it: then the server's own identity and AWS's own endpoints are used.

use std::sync::Arc;

use daypass_aws::{StaticKeys, StsEndpoint, Target};
use daypass_base::Brief;
use daypass_sdk::{Changes, Cx, Endpoint, Error, Json, Operation, Reply, Result, Seconds, Secret, into_the_sealed_store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::secrets::at_aws::needs_endpoint;
use crate::secrets::federation::Federation;

use super::Ecr;
use super::role::is_region;

pub(super) const KEY: &str = "config/root";

pub(super) fn endpoints() -> Vec<Endpoint<Ecr>> {
    vec![
        Endpoint::at([KEY])
            .summary("Configure how this mount reaches AWS.")
            .help(HELP)
            .on(Operation::Read, read_root)
            .on(Operation::Update, write_root)
            .on(Operation::Delete, delete_root)
            .exists(root_exists),
    ]
}

/// What is stored. Empty texts mean "not set".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    access_key: String,
    #[serde(serialize_with = "into_the_sealed_store")]
    secret_key: Secret<String>,
    pub(super) region: String,
    pub(super) ecr_endpoint: String,
    sts_endpoint: String,
    sts_region: String,
    max_retries: i64,
    role_arn: String,
    identity_token_audience: String,
    identity_token_ttl: Seconds,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            access_key: String::new(),
            secret_key: Secret::default(),
            region: String::new(),
            ecr_endpoint: String::new(),
            sts_endpoint: String::new(),
            sts_region: String::new(),
            max_retries: -1,
            role_arn: String::new(),
            identity_token_audience: String::new(),
            identity_token_ttl: Seconds::ZERO,
        }
    }
}

impl Config {
    /// Where AWS calls of this mount go, with the region to fall back to.
    pub(super) fn target(&self, cx: &Cx, region: Option<&str>) -> Target {
        let set = |text: &String| (!text.is_empty()).then(|| text.clone());
        let sts_endpoints = set(&self.sts_endpoint).map(|url| StsEndpoint { url, region: set(&self.sts_region) }).into_iter().collect();
        let keys = (!self.access_key.is_empty())
            .then(|| StaticKeys { access_key_id: self.access_key.clone(), secret_access_key: self.secret_key.clone() });
        Target {
            region: set(&self.region).or_else(|| region.map(str::to_owned)),
            sts_endpoints,
            iam_endpoint: None,
            keys,
            session_token: None,
            web_identity: self.federation().map(|federation| federation.identity(cx)),
            max_retries: u32::try_from(self.max_retries).ok(),
        }
    }

    /// How AWS knows this mount, where it does by identity tokens.
    fn federation(&self) -> Option<Federation<'_>> {
        let Self { role_arn, identity_token_audience: audience, identity_token_ttl: ttl, .. } = self;
        (!audience.is_empty()).then_some(Federation { role_arn, audience, ttl: *ttl })
    }

    /// Refuses what cannot work. Errors: `BadRequest`.
    fn checked(&self) -> Result<()> {
        if let Some(federation) = self.federation() {
            if !self.access_key.is_empty() {
                return Err(Error::bad_request("only one of 'access_key' or 'identity_token_audience' can be set"));
            }
            federation.check()?;
        }
        // To fall back to the server's own identity would give out logins that nobody meant to.
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return Err(Error::bad_request("access_key and secret_key belong together: write both, or neither"));
        }
        for (field, url) in [("ecr_endpoint", &self.ecr_endpoint), ("sts_endpoint", &self.sts_endpoint)] {
            if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Error::bad_request(format!("{field} {:?} is no URL: it must start with https:// or http://", Brief(url))));
            }
        }
        for (field, region) in [("region", &self.region), ("sts_region", &self.sts_region)] {
            if !region.is_empty() && !is_region(region) {
                return Err(Error::bad_request(format!("{field} {:?} is no name of a region, such as eu-west-1", Brief(region))));
            }
        }
        Ok(())
    }

    fn shown(&self) -> Value {
        json!({
            "access_key": self.access_key,
            "region": self.region,
            "ecr_endpoint": self.ecr_endpoint,
            "sts_endpoint": self.sts_endpoint,
            "sts_region": self.sts_region,
            "max_retries": self.max_retries,
            "role_arn": self.role_arn,
            "identity_token_audience": self.identity_token_audience,
            "identity_token_ttl": self.identity_token_ttl,
        })
    }
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// The fields of `config/root`. Those that are left out keep what is stored.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Access key id of an IAM user; leave it out to use the server's own AWS identity. Example: `AKIAIOSFODNN7EXAMPLE`.
    access_key: Option<String>,
    /// Secret of `access_key`. It is never shown again.
    secret_key: Option<Secret<String>>,
    /// Region of registries and of STS where the role names none; else the server's own. Example: `eu-west-1`.
    region: Option<String>,
    /// URL of ECR's API, when it is not AWS's: a VPC endpoint, a test. Example: `https://api.ecr.eu-west-1.amazonaws.com`.
    ecr_endpoint: Option<String>,
    /// URL of STS, when it is not AWS's regional one. Example: `https://sts.eu-west-1.amazonaws.com`.
    sts_endpoint: Option<String>,
    /// Region to sign STS requests for; only together with `sts_endpoint`. Example: `eu-west-1`.
    sts_region: Option<String>,
    /// Attempts after the first one when AWS throttles or fails; -1 for the SDK's default. Example: `3`.
    max_retries: Option<i64>,
    /// IAM role whose sessions the server works with, together with `identity_token_audience`. Example: `arn:aws:iam::111111111111:role/daypass`.
    role_arn: Option<String>,
    /// Audience of the identity tokens by which the server proves itself to AWS, in place of keys: web identity federation. Example: `sts.amazonaws.com`.
    identity_token_audience: Option<String>,
    /// Lifetime of identity tokens, in seconds or as a duration, 60 seconds at least; an hour when zero. Example: `10m`.
    identity_token_ttl: Option<Seconds>,
}

/// What is stored, or what holds without.
pub(super) async fn stored(cx: &Cx) -> Result<Config> {
    Ok(cx.store.get_json(KEY).await?.unwrap_or_default())
}

async fn read_root(_: Arc<Ecr>, cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let config: Config = cx.store.get_json(KEY).await?.ok_or_else(Error::not_found)?;
    Ok(Json(config.shown()))
}

async fn root_exists(_: Arc<Ecr>, cx: Cx, _: Fields) -> Result<bool> {
    Ok(cx.store.get(KEY).await?.is_some())
}

async fn delete_root(engine: Arc<Ecr>, cx: Cx, _: Nothing) -> Result<()> {
    cx.store.delete(KEY).await?;
    daypass_sdk::Engine::invalidate(engine.as_ref());
    Ok(())
}

async fn write_root(engine: Arc<Ecr>, cx: Cx, params: Fields) -> Result<Reply> {
    let read = cx.store.get(KEY).await?;
    let stored: Config = match &read {
        Some(entry) => daypass_sdk::from_json(KEY, &entry.value)?,
        None => Config::default(),
    };
    let config = params.over(stored);
    config.checked()?;
    cx.store.commit(Changes::new().unchanged(KEY, read.as_ref()).put_json(KEY, &config)?).await?;
    daypass_sdk::Engine::invalidate(engine.as_ref());
    let idle = !config.sts_region.is_empty() && config.sts_endpoint.is_empty();
    Ok(if idle { Reply::nothing().warn(needs_endpoint(&["sts_region"])) } else { Reply::nothing() })
}

impl Fields {
    fn over(self, stored: Config) -> Config {
        Config {
            access_key: self.access_key.unwrap_or(stored.access_key),
            secret_key: self.secret_key.unwrap_or(stored.secret_key),
            region: self.region.unwrap_or(stored.region),
            ecr_endpoint: self.ecr_endpoint.unwrap_or(stored.ecr_endpoint),
            sts_endpoint: self.sts_endpoint.unwrap_or(stored.sts_endpoint),
            sts_region: self.sts_region.unwrap_or(stored.sts_region),
            max_retries: self.max_retries.unwrap_or(stored.max_retries),
            role_arn: self.role_arn.unwrap_or(stored.role_arn),
            identity_token_audience: self.identity_token_audience.unwrap_or(stored.identity_token_audience),
            identity_token_ttl: self.identity_token_ttl.unwrap_or(stored.identity_token_ttl),
        }
    }
}

const HELP: &str = "Without this configuration the server uses its own AWS identity: environment, profile, web identity, container role or
instance profile. Outside AWS, set identity_token_audience and role_arn, as in config/root of an aws mount. Set access_key
and secret_key only where neither will do.

No AWS call is made when it is written, so wrong keys are noticed when the first login is asked for.";
