//! `config/client`: how this mount reaches AWS, and what it asks of logins.
//!
//! A mount works without it: then the server's own identity and AWS's own endpoints are used, and a login is sent to the STS endpoint that
//! it was signed for.

use std::sync::Arc;

use daypass_aws::{StsEndpoint, Target};
use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Changes, Cx, Endpoint, Error, Operation, Reply, Result, Seconds, Secret, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AwsAuth;
use crate::aws_keys::notes;
use crate::aws_keys::own::OwnKey;
use crate::aws_keys::schedule::Wanted;
use crate::secrets::federation::Federation;

/// What is stored. Empty texts mean "not set".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClientConfig {
    #[serde(flatten)]
    pub(super) key: OwnKey,
    endpoint: String,
    iam_endpoint: String,
    sts_endpoint: String,
    sts_region: String,
    use_sts_region_from_client: bool,
    pub(super) iam_server_id_header_value: String,
    pub(super) allowed_sts_header_values: Vec<String>,
    pub(super) allow_signature_reuse: bool,
    max_retries: i64,
    role_arn: String,
    identity_token_audience: String,
    identity_token_ttl: Seconds,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            key: OwnKey::default(),
            endpoint: String::new(),
            iam_endpoint: String::new(),
            sts_endpoint: String::new(),
            sts_region: String::new(),
            use_sts_region_from_client: false,
            iam_server_id_header_value: String::new(),
            allowed_sts_header_values: Vec::new(),
            allow_signature_reuse: false,
            max_retries: -1,
            role_arn: String::new(),
            identity_token_audience: String::new(),
            identity_token_ttl: Seconds::ZERO,
        }
    }
}

impl ClientConfig {
    /// Reads the configuration, or its defaults.
    pub(super) async fn find(cx: &Cx) -> Result<Self> {
        Ok(cx.store.get_json(KEY).await?.unwrap_or_default())
    }

    /// Where calls of ours go, with whose keys.
    pub(super) fn target(&self, cx: &Cx) -> Target {
        let region = set(&self.sts_region);
        let keys = (!self.key.access_key.is_empty()).then(|| self.key.signing());
        Target {
            sts_endpoints: set(&self.sts_endpoint).map(|url| StsEndpoint { url, region: region.clone() }).into_iter().collect(),
            region,
            iam_endpoint: set(&self.iam_endpoint),
            keys,
            web_identity: self.federation().map(|federation| federation.identity(cx)),
            max_retries: u32::try_from(self.max_retries).ok(),
            ..Target::default()
        }
    }

    /// Where logins are sent on: a configured endpoint, else STS where the login was signed for.
    pub(super) fn login_target(&self, cx: &Cx) -> Target {
        let mut target = self.target(cx);
        if self.use_sts_region_from_client {
            target.sts_endpoints.clear();
        }
        target
    }

    /// How AWS knows this mount, where it does by identity tokens.
    pub(super) fn federation(&self) -> Option<Federation<'_>> {
        let Self { role_arn, identity_token_audience: audience, identity_token_ttl: ttl, .. } = self;
        (!audience.is_empty()).then_some(Federation { role_arn, audience, ttl: *ttl })
    }

    /// Where EC2 is, when it is not AWS's.
    pub(super) fn ec2_endpoint(&self) -> Option<&str> {
        Some(self.endpoint.as_str()).filter(|url| !url.is_empty())
    }

    fn shown(&self) -> Value {
        let mut shown = json!({
            "access_key": self.key.access_key,
            "endpoint": self.endpoint,
            "iam_endpoint": self.iam_endpoint,
            "sts_endpoint": self.sts_endpoint,
            "sts_region": self.sts_region,
            "use_sts_region_from_client": self.use_sts_region_from_client,
            "iam_server_id_header_value": self.iam_server_id_header_value,
            "allowed_sts_header_values": self.allowed_sts_header_values,
            "max_retries": self.max_retries,
            "role_arn": self.role_arn,
            "identity_token_audience": self.identity_token_audience,
            "identity_token_ttl": self.identity_token_ttl,
            "rotation_period": self.key.rotation.rotation_period,
            "rotation_schedule": self.key.rotation.rotation_schedule,
            "rotation_window": self.key.rotation.rotation_window,
            "disable_automated_rotation": self.key.disable_automated_rotation,
        });
        // Vault does not have it, so clients that compare what they wrote see it only where it was written.
        if let Some(shown) = shown.as_object_mut().filter(|_| self.allow_signature_reuse) {
            shown.insert("allow_signature_reuse".to_owned(), true.into());
        }
        shown
    }

    /// Refuses what cannot work. Errors: `BadRequest`.
    fn checked(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::bad_request(text));
        if !self.identity_token_audience.is_empty() && !self.key.access_key.is_empty() {
            return refuse("only one of 'access_key' or 'identity_token_audience' can be set".to_owned());
        }
        if let Some(federation) = self.federation() {
            federation.check()?;
        }
        self.key.check()?;
        for (field, url) in [("endpoint", &self.endpoint), ("iam_endpoint", &self.iam_endpoint), ("sts_endpoint", &self.sts_endpoint)] {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if !url.is_empty() && rest.is_none_or(|rest| rest.is_empty() || url.len() > TEXT_MAX || url.contains(['@', '?', '#'])) {
                return refuse(format!("{field} {:?} is no URL of an endpoint: it must be https://HOST or http://HOST", Brief(url)));
            }
        }
        if self.iam_server_id_header_value.len() > TEXT_MAX || self.allowed_sts_header_values.len() > ALLOWED_MAX {
            return refuse(format!(
                "iam_server_id_header_value may have {TEXT_MAX} bytes, allowed_sts_header_values {ALLOWED_MAX} names at most"
            ));
        }
        Ok(())
    }
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NoParams {}

/// The fields of `config/client`; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Access key id for looking up principals; leave it out to use the server's own AWS identity. Example: `AKIAIOSFODNN7EXAMPLE`.
    access_key: Option<String>,
    /// Secret of `access_key`. It is never shown again.
    secret_key: Option<Secret<String>>,
    /// URL of EC2, when it is not AWS's of the instance's region. Example: `https://ec2.eu-west-1.amazonaws.com`.
    endpoint: Option<String>,
    /// URL of IAM, when it is not AWS's. Example: `https://iam.amazonaws.com`.
    iam_endpoint: Option<String>,
    /// URL of STS to which every login is sent; by default the one that it was signed for. Example: `https://sts.eu-west-1.amazonaws.com`.
    sts_endpoint: Option<String>,
    /// Region to sign our own STS requests for. Example: `eu-west-1`.
    sts_region: Option<String>,
    /// Send logins to STS in the region that they were signed for, also where `sts_endpoint` is set. Example: `true`.
    use_sts_region_from_client: Option<bool>,
    /// What the signed header `X-Vault-AWS-IAM-Server-ID` of each login must be; empty to ask for none. Example: `vault.example.com`.
    iam_server_id_header_value: Option<String>,
    /// Names of further `X-Amz-` headers that a login may have. Example: `X-Amz-Custom-Header`.
    allowed_sts_header_values: Option<CommaList>,
    /// Let a signature be used more than once, by anybody who has it, until STS finds it too old. Example: `false`.
    allow_signature_reuse: Option<bool>,
    /// Attempts after the first one when AWS throttles or fails; -1 for the SDK's default. Example: `3`.
    max_retries: Option<i64>,
    /// IAM role whose sessions the server works with, together with `identity_token_audience`. Example: `arn:aws:iam::111111111111:role/daypass`.
    role_arn: Option<String>,
    /// Audience of the tokens by which the server proves at AWS which mount it is; in place of `access_key`. Example: `vault.example.com`.
    identity_token_audience: Option<String>,
    /// Lifetime of identity tokens, in seconds or as a duration. Example: `1h`.
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

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at([KEY])
        .summary("Configure how AWS is reached and what is asked of logins.")
        .help(HELP)
        .exists(exists)
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

async fn exists(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<bool> {
    Ok(cx.store.get(KEY).await?.is_some())
}

async fn read(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Reply> {
    let config: ClientConfig = cx.store.get_json(KEY).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::json(config.shown()))
}

/// Fails with `BadRequest` for what cannot work.
async fn write(engine: Arc<AwsAuth>, cx: Cx, fields: Fields) -> Result<Reply> {
    let read = cx.store.get(KEY).await?;
    let old: ClientConfig = read.as_ref().map(|entry| from_json(KEY, &entry.value)).transpose()?.unwrap_or_default();
    let mut config = fields.over(old.clone())?;
    config.checked()?;
    if config.key.starts_anew_after(&old.key, cx.clock.now()) {
        engine.upkeep.forget_trouble();
    }
    if let Some(federation) = config.federation() {
        federation.try_out(&cx).await?;
    }
    let before = old.target(&cx);
    // The key that is replaced, or that goes with the configuration, is the one that can delete what a rotation left.
    let left = if before == config.target(&cx) { None } else { notes::settle(&*engine, &cx).await? };
    // A key that was replaced in the meantime must not come back.
    cx.store.commit(Changes::new().unchanged(KEY, read.as_ref()).put_json(KEY, &config)?).await?;
    engine.aws.forget(&before);
    engine.full_arns.forget();
    Ok(left.into_iter().fold(Reply::nothing(), Reply::warn))
}

async fn delete(engine: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Reply> {
    let left = notes::settle(&*engine, &cx).await?;
    engine.aws.forget(&ClientConfig::find(&cx).await?.target(&cx));
    engine.full_arns.forget();
    cx.store.delete(KEY).await?;
    Ok(left.into_iter().fold(Reply::nothing(), Reply::warn))
}

impl Fields {
    fn over(self, mut config: ClientConfig) -> Result<ClientConfig> {
        fn put<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        put(&mut config.key.access_key, self.access_key);
        put(&mut config.key.secret_key, self.secret_key);
        put(&mut config.endpoint, self.endpoint);
        put(&mut config.iam_endpoint, self.iam_endpoint);
        put(&mut config.sts_endpoint, self.sts_endpoint);
        put(&mut config.sts_region, self.sts_region);
        put(&mut config.use_sts_region_from_client, self.use_sts_region_from_client);
        put(&mut config.iam_server_id_header_value, self.iam_server_id_header_value);
        put(&mut config.allowed_sts_header_values, self.allowed_sts_header_values.map(|list| list.0));
        put(&mut config.allow_signature_reuse, self.allow_signature_reuse);
        put(&mut config.max_retries, self.max_retries);
        put(&mut config.role_arn, self.role_arn);
        put(&mut config.identity_token_audience, self.identity_token_audience);
        put(&mut config.identity_token_ttl, self.identity_token_ttl);
        put(&mut config.key.disable_automated_rotation, self.disable_automated_rotation);
        let wanted = Wanted { period: self.rotation_period, line: self.rotation_schedule, window: self.rotation_window };
        config.key.rotation = config.key.rotation.with(wanted)?;
        Ok(config)
    }
}

fn set(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) const KEY: &str = "config/client";
const TEXT_MAX: usize = 1024;
const ALLOWED_MAX: usize = 64;
const HELP: &str =
    "Without this configuration principals are looked up with the server's own AWS identity, and each login is sent to the STS
endpoint that it was signed for: the global one, or that of a region. The login never chooses another host.

Set iam_server_id_header_value to this server's name: then a login that was signed for another server is of no use here.";
