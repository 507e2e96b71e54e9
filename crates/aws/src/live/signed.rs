//! Requests to services whose SDK crates would cost more than their one call: signed here by AWS's own signer, sent by [`super::plain`].

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;

use super::sort::causes;
use super::time::SdkClock;
use super::{Clients, LiveAws};
use crate::AwsError;
use crate::api::Result;

/// Who signs, and for where.
pub(super) struct Signer {
    pub(super) credentials: Credentials,
    pub(super) region: String,
}

/// A request that is to be signed.
pub(super) struct Outgoing<'a> {
    pub(super) service: &'static str,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(&'static str, &'static str)],
    pub(super) body: &'a [u8],
}

/// Signs a POST with AWS's own signer.
pub(super) fn signed(signer: &Signer, outgoing: &Outgoing<'_>, now: SystemTime) -> Result<HttpRequest> {
    let identity = signer.credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&signer.region)
        .name(outgoing.service)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| AwsError::unreachable(causes(&error)))?
        .into();
    let signable = SignableRequest::new("POST", outgoing.url, outgoing.headers.iter().copied(), SignableBody::Bytes(outgoing.body))
        .map_err(|error| AwsError::unreachable(causes(&error)))?;
    let (instructions, _signature) = sign(signable, &params).map_err(|error| AwsError::unreachable(causes(&error)))?.into_parts();
    let mut request = HttpRequest::new(SdkBody::from(outgoing.body));
    request.set_method("POST").map_err(|error| AwsError::unreachable(causes(&error)))?;
    request.set_uri(outgoing.url).map_err(|error| AwsError::unreachable(causes(&error)))?;
    for (name, value) in outgoing.headers {
        request.headers_mut().insert(*name, *value);
    }
    for (name, value) in instructions.headers() {
        request.headers_mut().insert(name.to_owned(), value.to_owned());
    }
    Ok(request)
}

impl LiveAws {
    /// The time that signatures are made at.
    pub(super) fn signing_time(&self) -> SystemTime {
        SdkClock(Arc::clone(&self.clock)).system_time()
    }
}

impl Clients {
    /// The keys to sign with. Errors: `NoIdentity`.
    pub(super) async fn signing_keys(&self) -> Result<Credentials> {
        let identity = self.keys.identity().await?;
        identity.data::<Credentials>().cloned().ok_or_else(|| AwsError::no_identity("the identity is not one that signs"))
    }
}
