//! What the engines that call AWS have in common: time for a call, refusals as clients see them, leases of what ends by itself.

use std::time::Duration;

use daypass_aws::{Aws, AwsError, Call, ErrorKind, Target};
use daypass_base::duration::short_string;
use daypass_sdk::{Cx, Error, Kind, Leased, Reply, Seconds};
use parking_lot::Mutex;
use serde_json::{Map, Value};

/// Time for AWS when the request does not bring a limit.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// Several calls of one request together are made again for so long where nobody says how often: as one alone is.
const TOGETHER_MAX: Duration = Duration::from_secs(15);
/// Time that is left to a call in any case.
const ONWARD_MIN: Duration = Duration::from_secs(3);
/// Longest name of a session, in characters: AWS's limit.
pub(crate) const SESSION_SIZE_MAX: usize = 64;
/// Said behind AWS's text when it is the server's own credentials that are over.
pub(super) const OWN_IDENTITY_OVER: &str = "\n\tthese are the credentials of the server itself: see that its AWS identity is renewed";

/// Time that is left for AWS.
pub(crate) fn deadline(cx: &Cx) -> Duration {
    if cx.request.deadline.is_zero() { DEADLINE_DEFAULT } else { cx.request.deadline }
}

/// Time for a call of a request that has spent some on another one. Clients ask three times within 60 s, and
/// then give up: nobody would be told AWS's reason.
pub(super) fn onward(call: Call<'_>, spent: Duration) -> Duration {
    let together = if call.target.max_retries.is_some() { call.deadline } else { call.deadline.min(TOGETHER_MAX) };
    if spent.is_zero() { call.deadline } else { together.saturating_sub(spent).max(ONWARD_MIN.min(call.deadline)) }
}

/// Sorts an AWS error into what the client sees.
pub(super) fn upstream(text: String, error: AwsError) -> Error {
    let kind = match error.kind {
        ErrorKind::Throttled => Kind::UpstreamThrottled,
        ErrorKind::Malformed if error.status.is_none() => Kind::BadRequest,
        _ => Kind::Upstream,
    };
    Error::new(kind, text).because(error)
}

/// Replaces what AWS does not take in session names by `_`.
pub(crate) fn safe(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | ',' | '.' | '@' | '_' | '-');
    text.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// A secret that ends by itself when that much time is over; `ttl` is added to its fields. Its lease lasts as long, but not longer than the mount allows.
pub(super) fn lent<'a>(
    cx: &Cx,
    mut data: Map<String, Value>,
    left: Duration,
    facts: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Reply {
    // A lease of zero would mean the mount's default: that is never said of what is over.
    let ttl = Seconds::from(left).max(Seconds(1));
    data.insert("ttl".to_owned(), ttl.0.into());
    let most = cx.mount.max_lease_ttl.set().unwrap_or(Seconds(u64::MAX));
    let leased = Leased::not_renewable(Value::Object(data), ttl.min(most)).ends(cx.clock.now() + left);
    let reply = Reply::from(facts.into_iter().fold(leased, |leased, (name, value)| leased.fact(name, value)));
    if ttl <= most {
        return reply;
    }
    reply.warn(format!(
        "TTL of \"{}\" exceeded the effective max_ttl of \"{}\"; TTL value is capped accordingly",
        short_string(ttl.duration()),
        short_string(most.duration())
    ))
}

/// A remark on fields that mean nothing without `sts_endpoint`.
pub(super) fn needs_endpoint(fields: &[&str]) -> String {
    let verb = if let [_] = fields { "has" } else { "have" };
    format!(
        "{} {verb} no effect without sts_endpoint: calls go to STS of region. Set region, or sts_endpoint such as https://sts.eu-west-1.amazonaws.com",
        fields.join(" and ")
    )
}

/// Where the last call went: forgotten when another node changed the configuration.
#[derive(Default)]
pub(super) struct LastTarget(Mutex<Option<Target>>);

impl LastTarget {
    pub(super) fn remember(&self, target: &Target) {
        let mut last = self.0.lock();
        if last.as_ref() != Some(target) {
            *last = Some(target.clone());
        }
    }

    pub(super) fn forget(&self, aws: &dyn Aws) {
        let last = self.0.lock().take();
        if let Some(target) = last {
            aws.forget(&target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_one_request_are_made_again_for_as_long_as_one_alone() {
        let left = |max_retries, spent| {
            let target = Target { max_retries, ..Target::default() };
            onward(Call::usual(&target, Duration::from_secs(90)), Duration::from_secs(spent)).as_secs()
        };
        assert_eq!([0, 5, 14, 80].map(|spent| left(None, spent)), [90, 10, 3, 3]);
        assert_eq!([0, 5, 80, 89].map(|spent| left(Some(9), spent)), [90, 85, 10, 3]);
    }
}
