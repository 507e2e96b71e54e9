//! The other side of a login with an IAM identity: a `GetCallerIdentity` that is signed with the keys at hand and not sent.

use std::time::SystemTime;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_async::time::TimeSource;
use daypass_base::Secret;

use super::LiveAws;
use super::identity::Source;
use super::sort::causes;
use super::time::SdkClock;
use crate::api::Result;
use crate::partition::Partition;
use crate::{AwsError, Target};

/// A signed request, as `auth/aws/login` takes it.
#[derive(Debug, Clone)]
pub struct LoginRequest {
    /// Where it would be sent.
    pub url: String,
    /// Its form.
    pub body: &'static str,
    /// Its headers, without `Host`, which the URL says. They hold a signature and may hold a session token.
    pub headers: Vec<(String, Secret<String>)>,
}

impl LiveAws {
    /// Signs a login with the target's keys, or else with the SDK's chain of credentials: environment, profile, web identity, container, instance.
    /// Without a region, for the one that the environment names. Errors: `NoIdentity`; `Unreachable` for what cannot be signed.
    pub async fn sign_login(&self, target: &Target, server_id: Option<&str>) -> Result<LoginRequest> {
        let base = self.base(if target.is_own() { Source::Own } else { Source::Configured }).await;
        let own = base.config.region().map(|region| region.as_ref().to_owned());
        let region = target.region.clone().or(own).unwrap_or_else(|| super::identity::REGION_FALLBACK.to_owned());
        let url = if region == super::identity::REGION_FALLBACK {
            // What every client of this method signs, so that every server takes it.
            "https://sts.amazonaws.com/".to_owned()
        } else {
            format!("https://sts.{region}.{}/", Partition::of_region(&region).dns_suffix())
        };
        let identity = self.clients(target).await.keys.identity().await?;
        let now: SystemTime = SdkClock(std::sync::Arc::clone(&self.clock)).now();
        let unsigned = |detail: String| AwsError::unreachable(format!("the login cannot be signed: {detail}"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name("sts")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(error.to_string()))?
            .into();
        let host = url.trim_start_matches("https://").trim_end_matches('/').to_owned();
        let length = BODY.len().to_string();
        let mut headers = vec![("Content-Length", length.as_str()), ("Content-Type", FORM)];
        headers.extend(server_id.map(|id| ("X-Vault-AWS-IAM-Server-ID", id)));
        let signed = headers.iter().copied().chain([("Host", host.as_str())]);
        let signable = SignableRequest::new("POST", url.as_str(), signed, SignableBody::Bytes(BODY.as_bytes()));
        let signable = signable.map_err(|error| unsigned(causes(&error)))?;
        let (instructions, _signature) = sign(signable, &params).map_err(|error| unsigned(causes(&error)))?.into_parts();
        let (signatures, _no_parameters) = instructions.into_parts();
        let mut out: Vec<(String, Secret<String>)> =
            headers.into_iter().map(|(name, value)| (name.to_owned(), Secret::from(value))).collect();
        out.extend(signatures.iter().map(|header| (header.name().to_owned(), Secret::from(header.value()))));
        Ok(LoginRequest { url, body: BODY, headers: out })
    }
}

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
