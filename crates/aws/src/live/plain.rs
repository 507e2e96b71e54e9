//! Requests that no SDK client makes: sent by the SDK's HTTP client, tried again as the SDK would, within the caller's deadline.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;

use super::places::{Told, origin_of, taken};
use super::sort::causes;
use super::{ATTEMPT_MAX, LiveAws};
use crate::api::{Result, Target};
use crate::{AwsError, ErrorKind};

/// Attempts where the target says nothing: the SDK's own number.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt, doubled for each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Time to connect, as the SDK has it.
const CONNECT_MAX: Duration = Duration::from_millis(3100);
/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 256 * 1024;

/// An answer whose body has been read.
pub(super) struct PlainAnswer {
    pub(super) status: u16,
    /// AWS's code in the header of its JSON services, without what stands around it.
    pub(super) code: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) body: Vec<u8>,
}

impl LiveAws {
    /// Sends one request, once there is a place for it, for which `told` says that it waits. Errors: `Unreachable` when there is no answer, or too long a one.
    pub(super) async fn send(&self, request: HttpRequest, told: &Told) -> Result<PlainAnswer> {
        let origin = origin_of(request.uri());
        let share = self.queues.usual.share(&origin);
        let _place = taken(&self.queues.usual, &share, &origin, told).await?;
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_MAX).read_timeout(ATTEMPT_MAX).build();
        let response = self.http.connector(&settings).call(request).await.map_err(|error| AwsError::unreachable(causes(&error)))?;
        let header = |name: &str| response.headers().get(name).map(str::to_owned);
        let status = response.status().as_u16();
        let code = header("x-amzn-errortype").map(|code| bare_code(&code).to_owned());
        let request_id = header("x-amzn-requestid");
        let body = ByteStream::new(response.into_body()).collect().await.map_err(|error| AwsError::unreachable(causes(&error)))?;
        let body = body.into_bytes();
        if body.len() > ANSWER_MAX {
            return Err(AwsError::unreachable(format!("the answer has {} bytes, over the limit of {ANSWER_MAX}", body.len())));
        }
        Ok(PlainAnswer { status, code, request_id, body: body.to_vec() })
    }

    /// Makes attempts until one succeeds or fails for good: throttles and outages are tried again, refusals never.
    pub(super) async fn patiently<T, F, Fut>(&self, target: &Target, attempt: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.while_worth_it(target, attempt, |error| matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unreachable)).await
    }

    /// The same for what must not be done twice: only where AWS answered that it did nothing, because it was asked too often.
    pub(super) async fn unless_throttled<T, F, Fut>(&self, target: &Target, attempt: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.while_worth_it(target, attempt, |error| error.kind == ErrorKind::Throttled && error.status.is_some()).await
    }

    async fn while_worth_it<T, F, Fut>(&self, target: &Target, attempt: F, again: impl Fn(&AwsError) -> bool) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let most = target.max_retries.map_or(ATTEMPTS, |retries| retries.saturating_add(1));
        let mut made = 1;
        loop {
            match attempt().await {
                Err(error) if made < most && again(&error) => {
                    self.clock.sleep(self.pause(made)).await;
                    made += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Half of it is spread by the time of day in nanoseconds, so that callers who failed together do not come back together.
    fn pause(&self, made: u32) -> Duration {
        let whole = PAUSE_FIRST.saturating_mul(1 << made.saturating_sub(1).min(6));
        let chance = u32::try_from(self.clock.now().nanos().rem_euclid(1024)).unwrap_or(0);
        whole / 2 + (whole / 2).saturating_mul(chance) / 1024
    }
}

/// `com.amazonaws.ecr#ServerException:http://…` as `ServerException`.
pub(super) fn bare_code(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_without_what_stands_around_them() {
        for code in ["ServerException", "com.amazonaws.ecr#ServerException", "ServerException:http://internal.amazon.com/coral/"] {
            assert_eq!(bare_code(code), "ServerException", "{code}");
        }
    }
}
