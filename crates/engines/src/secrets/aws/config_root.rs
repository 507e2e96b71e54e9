//! `config/root` and `config/rotate-root`: how this mount reaches AWS.
//!
//! A mount works without it: then the server's own identity and AWS's own endpoints are used.

use std::sync::Arc;

use daypass_aws::{StsEndpoint, Target};
use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Reply, Result, Seconds, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::aws_keys::notes;
use crate::aws_keys::own::OwnKey;
use crate::aws_keys::schedule::Wanted;
use crate::secrets::at_aws::needs_endpoint;
use crate::secrets::federation::{self, Federation};

use super::names::{self, DEFAULT_TEMPLATE};
use super::{Aws, rotate_root, user_rows};

pub(super) const KEY: &str = "config/root";
/// Most fallback endpoints.
const FALLBACKS_MAX: usize = 10;

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at([KEY])
            .summary("Configure the root credentials that are used to manage IAM.")
            .help(HELP)
            .on(Operation::Read, read_root)
            .on(Operation::Update, write_root)
            .exists(root_exists),
        Endpoint::at(["config/rotate-root"])
            .summary("Request to rotate the AWS credentials used by the server.")
            .help(ROTATE_HELP)
            .on(Operation::Update, rotate_root::rotate),
    ]
}

/// What is stored. Empty texts mean "not set".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RootConfig {
    #[serde(flatten)]
    pub(super) key: OwnKey,
    region: String,
    iam_endpoint: String,
    sts_endpoint: String,
    sts_region: String,
    sts_fallback_endpoints: Vec<String>,
    sts_fallback_regions: Vec<String>,
    max_retries: i64,
    pub(super) username_template: String,
    role_arn: String,
    identity_token_audience: String,
    identity_token_ttl: Seconds,
}

impl Default for RootConfig {
    fn default() -> Self {
        Self {
            key: OwnKey::default(),
            region: String::new(),
            iam_endpoint: String::new(),
            sts_endpoint: String::new(),
            sts_region: String::new(),
            sts_fallback_endpoints: Vec::new(),
            sts_fallback_regions: Vec::new(),
            max_retries: -1,
            username_template: DEFAULT_TEMPLATE.to_owned(),
            role_arn: String::new(),
            identity_token_audience: String::new(),
            identity_token_ttl: Seconds::ZERO,
        }
    }
}

impl RootConfig {
    /// Where AWS calls of this mount go. Errors: `BadRequest` when one key is set without the other: to fall back to the server's
    /// own identity then would give out credentials that nobody meant to.
    pub(super) fn target(&self, cx: &Cx) -> Result<Target> {
        if self.key.access_key.is_empty() != self.key.secret_key.is_empty() {
            return Err(Error::bad_request(
                "static AWS client credentials haven't been properly configured (the access key or secret key were provided but not \
                 both): write both to config/root, or neither",
            ));
        }
        let mut sts_endpoints = Vec::new();
        if let Some(url) = set(&self.sts_endpoint) {
            sts_endpoints.push(StsEndpoint { url, region: set(&self.sts_region) });
            let fallbacks = self.sts_fallback_endpoints.iter().zip(&self.sts_fallback_regions);
            sts_endpoints.extend(fallbacks.map(|(url, region)| StsEndpoint { url: url.clone(), region: set(region) }));
        }
        Ok(Target {
            region: set(&self.region),
            sts_endpoints,
            iam_endpoint: set(&self.iam_endpoint),
            keys: self.key.is_whole().then(|| self.key.signing()),
            session_token: None,
            web_identity: self.federation().map(|federation| federation.identity(cx)),
            max_retries: u32::try_from(self.max_retries).ok(),
        })
    }

    /// How AWS knows this mount, where it does by identity tokens.
    pub(super) fn federation(&self) -> Option<Federation<'_>> {
        let Self { role_arn, identity_token_audience: audience, identity_token_ttl: ttl, .. } = self;
        (!audience.is_empty()).then_some(Federation { role_arn, audience, ttl: *ttl })
    }

    fn shown(&self) -> Value {
        json!({
            "access_key": self.key.access_key,
            "region": self.region,
            "iam_endpoint": self.iam_endpoint,
            "sts_endpoint": self.sts_endpoint,
            "sts_region": self.sts_region,
            "sts_fallback_endpoints": self.sts_fallback_endpoints,
            "sts_fallback_regions": self.sts_fallback_regions,
            "max_retries": self.max_retries,
            "username_template": self.username_template,
            "role_arn": self.role_arn,
            "identity_token_audience": self.identity_token_audience,
            "identity_token_ttl": self.identity_token_ttl,
            "rotation_period": self.key.rotation.rotation_period,
            "rotation_schedule": self.key.rotation.rotation_schedule,
            "rotation_window": self.key.rotation.rotation_window,
            "disable_automated_rotation": self.key.disable_automated_rotation,
        })
    }

    /// Refuses what cannot work, in Vault's words. Errors: `BadRequest`.
    fn checked(&self) -> Result<()> {
        let refusal = if !self.identity_token_audience.is_empty() && !self.key.access_key.is_empty() {
            "only one of 'access_key' or 'identity_token_audience' can be set"
        } else if self.sts_fallback_endpoints.len() != self.sts_fallback_regions.len() {
            "fallback endpoints and fallback regions must be the same length"
        } else {
            self.key.check()?;
            return self.bounded();
        };
        Err(Error::bad_request(refusal))
    }

    /// What is stored and, as in Vault, without effect.
    fn without_effect(&self) -> Option<String> {
        let fields =
            [("sts_region", self.sts_region.is_empty()), ("sts_fallback_endpoints", self.sts_fallback_endpoints.is_empty())].into_iter();
        let idle: Vec<&str> = fields.filter(|(_, empty)| !empty).map(|(field, _)| field).collect();
        (self.sts_endpoint.is_empty() && !idle.is_empty()).then(|| needs_endpoint(&idle))
    }

    /// What works as it is written, but hardly as it is meant.
    async fn doubts(&self, cx: &Cx) -> Option<String> {
        if self.federation().is_none() {
            let unused = !self.role_arn.is_empty();
            return unused.then(|| {
                "role_arn has no effect without identity_token_audience: the role of a credential is set at roles/<name>".to_owned()
            });
        }
        cx.identity.claims().await.ok().as_ref().and_then(federation::caveat)
    }

    fn bounded(&self) -> Result<()> {
        if let Some(federation) = self.federation() {
            federation.check()?;
        }
        let fallbacks = self.sts_fallback_endpoints.len();
        if fallbacks > FALLBACKS_MAX {
            return Err(Error::bad_request(format!("sts_fallback_endpoints has {fallbacks} entries, over the limit of {FALLBACKS_MAX}")));
        }
        let urls = [("iam_endpoint", &self.iam_endpoint), ("sts_endpoint", &self.sts_endpoint)].into_iter();
        let fallbacks = self.sts_fallback_endpoints.iter().map(|url| ("sts_fallback_endpoints", url));
        for (field, url) in urls.chain(fallbacks) {
            if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(Error::bad_request(format!("{field} {:?} is no URL: it must start with https:// or http://", Brief(url))));
            }
        }
        Ok(())
    }
}

fn set(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Nothing {}

/// The fields of `config/root`. Those that are left out keep what is stored, but `username_template`, which falls back to the default.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Access key id of an IAM user; leave it out to use the server's own AWS identity. Example: `AKIAIOSFODNN7EXAMPLE`.
    access_key: Option<String>,
    /// Secret of `access_key`. It is never shown again.
    secret_key: Option<Secret<String>>,
    /// Region of IAM and STS; else `AWS_REGION`, `AWS_DEFAULT_REGION`, the instance's own, `us-east-1`. Example: `eu-west-1`.
    region: Option<String>,
    /// URL of IAM, when it is not AWS's. Example: `https://iam.amazonaws.com`.
    iam_endpoint: Option<String>,
    /// URL of STS, when it is not AWS's regional one. Example: `https://sts.eu-west-1.amazonaws.com`.
    sts_endpoint: Option<String>,
    /// Region to sign STS requests for; only together with `sts_endpoint`. Example: `eu-west-1`.
    sts_region: Option<String>,
    /// URLs of STS to try in this order when `sts_endpoint` does not answer; only together with it.
    sts_fallback_endpoints: Option<CommaList>,
    /// Regions of `sts_fallback_endpoints`, one for each.
    sts_fallback_regions: Option<CommaList>,
    /// Attempts after the first one when AWS throttles or fails; -1 for the SDK's default. Example: `3`.
    max_retries: Option<i64>,
    /// Template of user and session names. Example: `{{ .DisplayName }}-{{ unix_time }}`.
    username_template: Option<String>,
    /// IAM role whose sessions the server works with, together with `identity_token_audience`. Example: `arn:aws:iam::111111111111:role/daypass`.
    role_arn: Option<String>,
    /// Audience of the identity tokens by which the server proves itself to AWS, in place of keys: web identity federation. Example: `sts.amazonaws.com`.
    identity_token_audience: Option<String>,
    /// Lifetime of identity tokens, in seconds or as a duration, 60 seconds at least; an hour when zero. Example: `10m`.
    identity_token_ttl: Option<Seconds>,
    /// Time between rotations of `access_key`, in seconds or as a duration. Example: `24h`.
    rotation_period: Option<Seconds>,
    /// When to rotate `access_key`, as a cron line of five fields in UTC. Example: `0 0 * * SUN`.
    rotation_schedule: Option<String>,
    /// How long after `rotation_schedule` a rotation may begin, in seconds or as a duration; later it waits for the next time. Example: `1h`.
    rotation_window: Option<Seconds>,
    /// Stops automatic rotation.
    disable_automated_rotation: Option<bool>,
}

async fn read_root(_: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let config: RootConfig = cx.store.get_json(KEY).await?.ok_or_else(Error::not_found)?;
    Ok(Json(config.shown()))
}

async fn root_exists(_: Arc<Aws>, cx: Cx, _: Fields) -> Result<bool> {
    Ok(cx.store.get(KEY).await?.is_some())
}

async fn write_root(engine: Arc<Aws>, cx: Cx, params: Fields) -> Result<Reply> {
    let read = cx.store.get(KEY).await?;
    let stored: RootConfig = match &read {
        Some(entry) => daypass_sdk::from_json(KEY, &entry.value)?,
        None => RootConfig::default(),
    };
    let old = stored.target(&cx).ok();
    let key = stored.key.clone();
    let mut config = params.over(stored)?;
    config.checked()?;
    if config.key.starts_anew_after(&key, cx.clock.now()) {
        engine.upkeep.forget_trouble();
    }
    let mut warnings = names::check(&cx, &config.username_template)?;
    warnings.extend(config.doubts(&cx).await);
    warnings.extend(config.without_effect());
    if old.as_ref() != config.target(&cx).ok().as_ref() {
        // What failed attempts left is in the account that is reached now.
        warnings.extend(notes::settle(&*engine, &cx).await?);
        warnings.extend(user_rows::left_behind(&cx).await?);
    }
    let changes = daypass_sdk::Changes::new().unchanged(KEY, read.as_ref()).put_json(KEY, &config)?;
    cx.store.commit(changes).await?;
    if let Some(old) = old {
        engine.aws.forget(&old);
    }
    Ok(warnings.into_iter().fold(Reply::nothing(), Reply::warn))
}

impl Fields {
    fn over(self, mut config: RootConfig) -> Result<RootConfig> {
        fn put<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        put(&mut config.key.access_key, self.access_key);
        put(&mut config.key.secret_key, self.secret_key);
        put(&mut config.region, self.region);
        put(&mut config.iam_endpoint, self.iam_endpoint);
        put(&mut config.sts_endpoint, self.sts_endpoint);
        put(&mut config.sts_region, self.sts_region);
        put(&mut config.sts_fallback_endpoints, self.sts_fallback_endpoints.map(|list| list.0));
        put(&mut config.sts_fallback_regions, self.sts_fallback_regions.map(|list| list.0));
        put(&mut config.max_retries, self.max_retries);
        // Vault forgets the template when a write leaves it out (fixture aws-config); clients that send all fields rely on neither.
        let template = self.username_template.filter(|template| !template.is_empty());
        config.username_template = template.unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned());
        put(&mut config.role_arn, self.role_arn);
        put(&mut config.identity_token_audience, self.identity_token_audience);
        put(&mut config.identity_token_ttl, self.identity_token_ttl);
        put(&mut config.key.disable_automated_rotation, self.disable_automated_rotation);
        let wanted = Wanted { period: self.rotation_period, line: self.rotation_schedule, window: self.rotation_window };
        config.key.rotation = config.key.rotation.with(wanted)?;
        Ok(config)
    }
}

const HELP: &str = "Without this configuration the server uses its own AWS identity: environment, profile, web identity, container role or
instance profile. Outside AWS, set identity_token_audience and role_arn: the server signs tokens that say which mount it is, and
works with the sessions of that role, which trusts them (see policy-for). Set access_key and secret_key only where neither
will do, or for roles of type federation_token and session_token, which AWS gives to IAM users alone.

No AWS call is made when it is written, so wrong keys are noticed when the first credential is asked for.";

const ROTATE_HELP: &str =
    "Replaces access_key by a new key of the same IAM user: makes it, waits until AWS accepts it, stores it, and deletes the
old one. The new secret is shown to nobody. rotation_period or rotation_schedule of config/root do so by themselves.";

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of this form are in stores.
    #[test]
    fn the_key_and_its_schedule_stand_in_the_row_as_they_always_did() {
        let row = json!({
            "access_key": "AKIA1", "secret_key": "s", "region": "eu-west-1", "rotation_period": 86_400, "rotation_schedule": "",
            "rotation_window": 0, "disable_automated_rotation": true, "rotated": "2026-11-29T00:00:00Z",
        });
        let config: RootConfig = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(config.key.rotation.rotation_period, Seconds(86_400));
        assert!(config.key.is_whole() && config.max_retries == -1);
        let written = serde_json::to_value(&config).unwrap();
        for (name, value) in row.as_object().unwrap() {
            assert_eq!(&written[name], value, "{name}");
        }
    }
}
