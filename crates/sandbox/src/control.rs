//! What a test can do to the fake: make calls fail or wait, shorten credentials, register identity providers, and see who called.
//!
//! The same things are reachable as methods of [`Control`] and as JSON over HTTP (`http.rs`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use daypass_base::{Entropy, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::request::Params;
use crate::session::Caller;

/// A handle on a running sandbox; clones steer the same one.
#[derive(Clone, Default)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Whether `rules` has any, so that ordinary calls need no lock.
    disturbed: AtomicBool,
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<VecDeque<Call>>,
    /// Seconds; 0 means as asked for.
    session_lifetime: AtomicI64,
    /// Seconds that credentials of the container and metadata endpoints live; 0 means the default.
    endpoint_lifetime: AtomicI64,
    /// Seconds until a new access key works.
    key_delay: AtomicI64,
}

/// A disturbance of some calls.
///
/// ```
/// let rule: daypass_sandbox::Rule = serde_json::from_str(r#"{"service": "sts", "action": "AssumeRole", "effect": "throttle", "times": 2}"#).unwrap();
/// assert_eq!(rule.times, Some(2));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `sts`, `iam`, `ecr`, `ecr-public`; all when absent.
    #[serde(default)]
    pub service: Option<String>,
    /// Such as `AssumeRole`; all when absent.
    #[serde(default)]
    pub action: Option<String>,
    /// What happens to a call that fits.
    pub effect: Effect,
    /// How many calls, then the rule is gone; without end when absent.
    #[serde(default)]
    pub times: Option<u64>,
    /// Share of the calls that are hit, 0 to 1; all when absent.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Milliseconds that a delayed call waits, at most 10 minutes. For `delay` only.
    #[serde(default)]
    pub milliseconds: u64,
}

/// What a [`Rule`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The call waits, then goes its way.
    Delay,
    /// The connection is closed without an answer.
    Drop,
    /// `InternalFailure`, 500.
    InternalFailure,
    /// `Throttling` (`ThrottlingException` at JSON services), 400.
    Throttle,
    /// The call is done, and the connection is closed in the middle of its answer; a refusal arrives whole.
    Truncate,
    /// `ServiceUnavailable`, 503.
    Unavailable,
}

/// A call that was made, without anything secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// As in the answer.
    pub request_id: String,
    /// `sts`, `iam`, `ecr`, `ecr-public`.
    pub service: String,
    /// Such as `AssumeRole`.
    pub action: String,
    /// ARN of the caller; absent when the call was not authenticated.
    pub caller: Option<String>,
    /// Access key id of the caller.
    pub access_key_id: Option<String>,
    /// `RoleArn` of the request.
    pub role_arn: Option<String>,
    /// `RoleSessionName` of the request.
    pub session_name: Option<String>,
    /// `UserName` of the request.
    pub user_name: Option<String>,
    /// `DurationSeconds` of the request.
    pub duration: Option<String>,
    /// AWS's error code, or `None` for a success.
    pub error: Option<String>,
}

/// Why a control order cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too many rules are in force.
    #[error("{0} rules are in force, which is the limit: clear them first")]
    TooMany(usize),
    /// A value outside its range.
    #[error("{0}")]
    Value(String),
}

/// What happens to a call now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    None,
    Delay(Duration),
    Drop,
    Refuse(Fault),
    Truncate,
}

impl Control {
    /// Adds a disturbance. Rules are tried in the order in which they came; the first that fits a call decides.
    pub fn add(&self, rule: Rule) -> Result<(), ControlError> {
        if rule.rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return Err(ControlError::Value("rate must be from 0 to 1".to_owned()));
        }
        if rule.times == Some(0) {
            return Err(ControlError::Value("times must be 1 or more, or absent for no end".to_owned()));
        }
        if rule.milliseconds > DELAY_MAX_MS {
            return Err(ControlError::Value(format!("milliseconds {} is more than {DELAY_MAX_MS}", rule.milliseconds)));
        }
        let mut rules = self.shared.rules.lock();
        if rules.len() >= RULES_MAX {
            return Err(ControlError::TooMany(RULES_MAX));
        }
        rules.push(rule);
        self.shared.disturbed.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes all disturbances away.
    pub fn clear(&self) {
        self.shared.rules.lock().clear();
        self.shared.disturbed.store(false, Ordering::Release);
    }

    /// The rules in force.
    pub fn rules(&self) -> Vec<Rule> {
        self.shared.rules.lock().clone()
    }

    /// Sessions made from now on live at most so long, whatever was asked for; zero ends this.
    pub fn limit_sessions(&self, life: Duration) {
        self.shared.session_lifetime.store(whole_seconds(life), Ordering::Relaxed);
    }

    /// Credentials of the container and metadata endpoints live so long from now on (15 minutes at first).
    pub fn set_endpoint_lifetime(&self, life: Duration) {
        self.shared.endpoint_lifetime.store(whole_seconds(life), Ordering::Relaxed);
    }

    /// New access keys of IAM users begin to work after this time, as at AWS, where it takes about ten seconds; zero at first.
    pub fn set_key_delay(&self, delay: Duration) {
        self.shared.key_delay.store(whole_seconds(delay), Ordering::Relaxed);
    }

    /// The last calls, oldest first, at most 1024.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().iter().cloned().collect()
    }

    /// Forgets the calls.
    pub fn forget_calls(&self) {
        self.shared.calls.lock().clear();
    }

    pub(crate) fn session_lifetime(&self) -> Option<i64> {
        Some(self.shared.session_lifetime.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }

    pub(crate) fn endpoint_lifetime(&self) -> i64 {
        Some(self.shared.endpoint_lifetime.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0).unwrap_or(ENDPOINT_SECONDS)
    }

    pub(crate) fn key_delay(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.shared.key_delay.load(Ordering::Relaxed)).unwrap_or(0))
    }

    pub(crate) fn disturbance(&self, service: &str, action: &str, entropy: &dyn Entropy) -> Disturbance {
        if !self.shared.disturbed.load(Ordering::Acquire) {
            return Disturbance::None;
        }
        let mut rules = self.shared.rules.lock();
        let fits = |rule: &Rule| {
            rule.service.as_deref().is_none_or(|wanted| wanted == service) && rule.action.as_deref().is_none_or(|wanted| wanted == action)
        };
        let lot = |rule: &Rule| rule.rate.is_none_or(|rate| chance(entropy) < rate);
        let Some(index) = rules.iter().position(|rule| fits(rule) && lot(rule)) else { return Disturbance::None };
        let Some(rule) = rules.get_mut(index) else { return Disturbance::None };
        let (effect, wait) = (rule.effect, Duration::from_millis(rule.milliseconds));
        if let Some(left) = &mut rule.times {
            *left = left.saturating_sub(1);
            if *left == 0 {
                rules.remove(index);
            }
        }
        self.shared.disturbed.store(!rules.is_empty(), Ordering::Release);
        match effect {
            Effect::Delay => Disturbance::Delay(wait),
            Effect::Drop => Disturbance::Drop,
            Effect::InternalFailure => Disturbance::Refuse(Fault::new(
                500,
                "InternalFailure",
                "The request processing has failed because of an unknown error, exception or failure.",
            )),
            Effect::Throttle => Disturbance::Refuse(Fault::throttled()),
            Effect::Truncate => Disturbance::Truncate,
            Effect::Unavailable => Disturbance::Refuse(Fault::unavailable()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one line of the log, from one place")]
    pub(crate) fn note(
        &self,
        at: Timestamp,
        request_id: &str,
        service: &str,
        action: &str,
        caller: Option<&Caller>,
        params: &Params,
        fault: Option<&Fault>,
    ) {
        let param = |name: &str| params.get(name).map(|value| value.chars().take(256).collect::<String>());
        let call = Call {
            at,
            request_id: request_id.to_owned(),
            service: service.to_owned(),
            action: action.to_owned(),
            caller: caller.map(|caller| caller.arn.clone()),
            access_key_id: caller.map(|caller| caller.key_id.clone()),
            role_arn: param("RoleArn"),
            session_name: param("RoleSessionName"),
            user_name: param("UserName"),
            duration: param("DurationSeconds"),
            error: fault.map(|fault| fault.code.to_owned()),
        };
        let mut calls = self.shared.calls.lock();
        if calls.len() >= CALLS_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }
}

/// From 0 up to, not including, 1.
fn chance(entropy: &dyn Entropy) -> f64 {
    f64::from(u32::from_le_bytes(entropy.bytes::<4>())) / (f64::from(u32::MAX) + 1.0)
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Fifteen minutes.
const ENDPOINT_SECONDS: i64 = 900;
const RULES_MAX: usize = 64;
const CALLS_MAX: usize = 1024;
const DELAY_MAX_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use daypass_base::sim::SeededEntropy;

    fn rule(effect: Effect) -> Rule {
        Rule { service: Some("sts".to_owned()), action: None, effect, times: None, rate: None, milliseconds: 0 }
    }

    #[test]
    fn rules_fit_by_service_and_run_out() {
        let (control, entropy) = (Control::default(), SeededEntropy::new(1));
        control.add(Rule { times: Some(2), ..rule(Effect::Throttle) }).unwrap();
        assert_eq!(control.disturbance("iam", "GetUser", &entropy), Disturbance::None);
        for _ in 0..2 {
            assert_eq!(control.disturbance("sts", "AssumeRole", &entropy), Disturbance::Refuse(Fault::throttled()));
        }
        assert_eq!(control.disturbance("sts", "AssumeRole", &entropy), Disturbance::None);
        assert!(control.rules().is_empty());
    }

    #[test]
    fn a_rate_hits_about_its_share() {
        let (control, entropy) = (Control::default(), SeededEntropy::new(7));
        control.add(Rule { rate: Some(0.25), ..rule(Effect::Drop) }).unwrap();
        let hit = (0..2000).filter(|_| control.disturbance("sts", "x", &entropy) == Disturbance::Drop).count();
        assert!((400..600).contains(&hit), "{hit}");
        assert!(control.add(Rule { rate: Some(1.5), ..rule(Effect::Drop) }).is_err());
    }

    #[test]
    fn rules_and_calls_are_bounded() {
        let control = Control::default();
        for _ in 0..RULES_MAX {
            control.add(rule(Effect::Drop)).unwrap();
        }
        assert_eq!(control.add(rule(Effect::Drop)), Err(ControlError::TooMany(RULES_MAX)));
        for number in 0..CALLS_MAX + 5 {
            control.note(Timestamp::default(), &number.to_string(), "sts", "x", None, &Params::default(), None);
        }
        let calls = control.calls();
        assert_eq!((calls.len(), calls[0].request_id.as_str()), (CALLS_MAX, "5"));
    }
}
