//! The server's own identity by web identity federation: a signed token, which says which mount asks, is exchanged for a session of an IAM
//! role. Nobody signs that call; the token is the proof. Source: STS API reference, AssumeRoleWithWebIdentity.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::Clock;

use super::endpoint::{self, Endpoint};
use super::query::Form;
use super::retry::{Failed, Progress, Remedy, Retries};
use super::sts::{bucket, in_time, not_understood, understand};
use crate::api::{Credential, Result, Target, WebIdentity};
use crate::{AwsError, ErrorKind};

/// Time for a new session, with all attempts: whoever waits for it has a deadline besides.
const FETCH_MAX: Duration = Duration::from_secs(30);

/// What makes sessions for one target.
pub(super) struct Web {
    identity: WebIdentity,
    endpoints: Arc<[std::result::Result<Endpoint, String>]>,
    clock: Arc<dyn Clock>,
    retries: Arc<Retries>,
    /// How often an attempt is made again; `None`: until [`FETCH_MAX`].
    most: Option<u32>,
    bucket: String,
    /// The endpoint that answered last: to this, or to a call that such a session signed.
    pub(super) good: Arc<AtomicUsize>,
}

impl Web {
    /// `None` where the target has another identity.
    pub(super) fn of(
        target: &Target,
        endpoints: &Arc<[std::result::Result<Endpoint, String>]>,
        clock: &Arc<dyn Clock>,
        retries: &Arc<Retries>,
        most: Option<u32>,
    ) -> Option<Self> {
        Some(Self {
            identity: target.web_identity.clone()?,
            endpoints: Arc::clone(endpoints),
            clock: Arc::clone(clock),
            retries: Arc::clone(retries),
            most,
            bucket: bucket(target, "web identity"),
            good: Arc::default(),
        })
    }

    /// A new session. Throttles and outages are tried again as those of other calls. Errors: `NoIdentity` for a refusal.
    pub(super) async fn fetch(&self) -> Result<Credential> {
        let began = self.clock.elapsed();
        let mut progress = Progress::of(self.bucket.clone(), began, began + FETCH_MAX);
        progress.most = self.most;
        loop {
            let failed = match self.attempt().await {
                Ok(session) => return Ok(session),
                Err(failed) => failed,
            };
            let Some(wait) = self.retries.wait(&mut progress, failed.remedy) else { return Err(self.own(failed.error)) };
            tracing::debug!(error = %failed.error, ?wait, "a session for the server's own identity is asked for again");
            self.clock.sleep(wait).await;
        }
    }

    /// One attempt, with a token of its own: one that waited for long could be over. The endpoint that answered last comes first: whoever was refused has no time
    /// to wait for another one that hangs.
    async fn attempt(&self) -> std::result::Result<Credential, Failed> {
        let hopeless = |error| Failed { error, remedy: Remedy::None };
        let token = self.identity.tokens.token().await.map_err(|detail| hopeless(AwsError::no_web_identity(detail)))?;
        let mut form = Form::new("AssumeRoleWithWebIdentity");
        form.add("RoleArn", &self.identity.role_arn);
        form.add("RoleSessionName", &self.identity.session_name);
        // To STS, which it is made for; it is good for little else and not for long.
        form.add("WebIdentityToken", token.expose());
        let body = form.done();
        let mut last = hopeless(AwsError::unreachable("no STS endpoint is configured"));
        let (start, count) = (self.good.load(Ordering::Relaxed), self.endpoints.len());
        for step in 0..count {
            let at = (start + step) % count.max(1);
            let Some(endpoint) = self.endpoints.get(at) else { break };
            let answer = match endpoint {
                Ok(endpoint) => self.ask(endpoint, &body).await,
                Err(detail) => Err(hopeless(AwsError::unreachable(detail))),
            };
            match answer {
                Err(failed) if failed.error.kind == ErrorKind::Unreachable => {
                    let remedy = if failed.remedy == Remedy::None { last.remedy } else { failed.remedy };
                    last = Failed { remedy, ..failed };
                }
                answer => {
                    self.good.store(at, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(last)
    }

    async fn ask(&self, endpoint: &Endpoint, body: &bytes::Bytes) -> std::result::Result<Credential, Failed> {
        let sent = pin!(endpoint.wire.send(|| Ok(endpoint.unsigned(body))));
        let answer = in_time(&*self.clock, endpoint, sent).await?;
        let now = endpoint::millis(super::time::SdkClock(Arc::clone(&self.clock)).system_time());
        let understood = understand(&answer, now).map_err(|failed| {
            // STS could not reach us just now, to read the keys.
            let again = failed.error.code == "IDPCommunicationError";
            if again { Failed { remedy: Remedy::Wait(None), ..failed } } else { failed }
        })?;
        let session = understood.fields.credential(Some("AssumedRoleUser"));
        session.ok_or_else(|| Failed { error: not_understood("an element is missing", &understood), remedy: Remedy::None })
    }

    /// An error of a call that the client never asked for: it says what it was for. A refusal is no refusal of the client's call.
    fn own(&self, mut error: AwsError) -> AwsError {
        if !matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unreachable) {
            error.kind = ErrorKind::NoIdentity;
        }
        error.message = format!(
            "{}\n\tthis was AssumeRoleWithWebIdentity of {}, for the server's own identity: see that the role trusts the server's identity tokens",
            error.message, self.identity.role_arn
        );
        error
    }
}
