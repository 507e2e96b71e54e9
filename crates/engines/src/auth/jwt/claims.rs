//! What verified claims say: when they hold, for whom, and whether they are those that a role wants. Pure.
//!
//! Source: Vault API, "JWT/OIDC auth method"; RFC 7519 for the registered names; RFC 6901 for pointers.

use std::collections::BTreeMap;

use daypass_base::Brief;
use daypass_sdk::{Seconds, Timestamp};
use serde_json::{Map, Number, Value};

use crate::auth::glob::glob;
use crate::auth::jose::token::Verified;

/// A leeway where a role says 0.
const LEEWAY: i64 = 150;
/// A skew of clocks where a role says 0.
const SKEW: i64 = 60;
/// Furthest time that is taken for one, in seconds.
const TIME_MAX: i64 = 100_000_000_000;

/// The leeways of a role, in seconds: 0 is the default, below it none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Leeways {
    /// Lifetime of a token that names no end.
    pub(super) expiration: i64,
    /// How long before its end a token begins that names no begin.
    pub(super) not_before: i64,
    /// How far the clocks may be apart.
    pub(super) skew: i64,
}

impl Verified {
    /// A claim: by name, or by pointer where the name begins with a slash. `null` counts as absent.
    pub(super) fn claim(&self, name: &str) -> Option<&Value> {
        let found = if name.starts_with('/') { self.0.pointer(name) } else { self.0.get(name) };
        found.filter(|value| !value.is_null())
    }

    /// Takes what the userinfo endpoint tells about the same subject. What the signed token says stays.
    pub(super) fn completed_by(&mut self, more: Map<String, Value>) {
        if more.get("sub").and_then(Value::as_str) != Some(self.text("sub")) {
            return;
        }
        if let Value::Object(claims) = &mut self.0 {
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
    }

    /// Whether the token holds now. At least one of its times must be there; what is missing follows from the others.
    pub(super) fn holds(&self, now: Timestamp, leeways: Leeways) -> Result<(), String> {
        let (issued, begin, end) = (self.time("iat")?, self.time("nbf")?, self.time("exp")?);
        if issued.is_none() && begin.is_none() && end.is_none() {
            return Err("no issued at (iat), not before (nbf), or expiration time (exp) claims in token".to_owned());
        }
        let skew = seconds(leeways.skew, SKEW);
        let end = end.unwrap_or_else(|| issued.max(begin).unwrap_or(0) + seconds(leeways.expiration, LEEWAY));
        let begin = begin.or(issued).unwrap_or_else(|| end - seconds(leeways.not_before, LEEWAY));
        let now = i128::from(now.nanos());
        let nanos = |seconds: i64| i128::from(seconds) * 1_000_000_000;
        if now < nanos(begin - skew) {
            return Err("invalid not before (nbf) claim: token not yet valid".to_owned());
        }
        if now > nanos(end + skew) {
            return Err("invalid expiration time (exp) claim: token is expired".to_owned());
        }
        if issued.is_some_and(|issued| now < nanos(issued - skew)) {
            return Err("invalid issued at (iat) claim: token issued in the future".to_owned());
        }
        Ok(())
    }

    /// Whether somebody logged in at the provider within this time. Without a limit anything holds.
    pub(super) fn is_fresh(&self, now: Timestamp, max_age: Seconds, leeways: Leeways) -> Result<(), String> {
        if max_age.is_zero() {
            return Ok(());
        }
        let Some(at) = self.time("auth_time")? else { return Err("auth_time claim is missing, which max_age needs".to_owned()) };
        let age = i64::try_from(max_age.0).unwrap_or(TIME_MAX).min(TIME_MAX);
        let last = i128::from(at + age + seconds(leeways.skew, SKEW)) * 1_000_000_000;
        if i128::from(now.nanos()) > last { Err("auth_time is further back than max_age allows".to_owned()) } else { Ok(()) }
    }

    /// A time in seconds since 1970; fractions are cut off.
    fn time(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.plain(name) else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, reason = "a float saturates, and the range is checked below")]
        let seconds = value.as_i64().or_else(|| value.as_f64().map(|number| number as i64));
        match seconds {
            Some(seconds) if (-TIME_MAX..=TIME_MAX).contains(&seconds) => Ok(Some(seconds)),
            _ => Err(format!("claim {name:?} is no time in seconds")),
        }
    }

    /// The audiences: one text or a list of them. Errors: when it is something else.
    pub(super) fn audiences(&self) -> Result<Vec<&str>, String> {
        let wrong = || "invalid audience (aud) claim: it is no text and no list of texts".to_owned();
        match self.plain("aud") {
            None => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(list)) => list.iter().map(|item| item.as_str().ok_or_else(wrong)).collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// Whether one of the audiences is bound; nothing bound is nothing asked.
    pub(super) fn is_for(&self, bound: &[String]) -> Result<(), String> {
        let audiences = self.audiences()?;
        if bound.is_empty() || audiences.iter().any(|audience| bound.iter().any(|bound| bound == audience)) {
            return Ok(());
        }
        Err("invalid audience (aud) claim: audience claim does not match any bound audience".to_owned())
    }

    /// Whether every bound claim is there with one of the values that it may have.
    pub(super) fn has(&self, bound: &BTreeMap<String, Value>, matching: Matching) -> Result<(), String> {
        for (name, wanted) in bound {
            let Some(actual) = self.claim(name) else { return Err(format!("claim {name:?} is missing")) };
            let actual = listed(actual).ok_or_else(|| format!("received claim {name:?} is not a string or list"))?;
            let wanted = listed(wanted).ok_or_else(|| format!("bound claim {name:?} is not a string or list"))?;
            let fits = |value: &&Value| wanted.iter().any(|wanted| matching.fits(wanted, value));
            if !actual.iter().any(|value| fits(&value)) {
                return Err(format!("claim {name:?} does not match any associated bound claim values"));
            }
        }
        Ok(())
    }
}

/// How bound values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Matching {
    /// With `*` for any text, also an empty one.
    Glob,
    /// To the letter.
    #[default]
    String,
}

impl Matching {
    /// Values fit as what they are, as in Vault: the text `true` is not the truth, `5` no number, and `*` stands for texts alone.
    fn fits(self, wanted: &Value, actual: &Value) -> bool {
        match (wanted, actual) {
            (Value::String(wanted), Value::String(actual)) if self == Self::Glob => glob(wanted, actual),
            (Value::Number(wanted), Value::Number(actual)) => shortest(wanted) == shortest(actual),
            _ => wanted == actual,
        }
    }
}

/// A value, or each of a list.
fn listed(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        Value::Object(_) | Value::Null => None,
        one => Some(std::slice::from_ref(one)),
    }
}

/// A claim as a text in metadata, which Vault has for texts alone: build numbers are numbers with Jenkins and Buildkite.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(shortest(number)),
        _ => None,
    }
}

/// A number as a text: a whole one reads the same whether it was written 3, 3.0 or 3e0.
fn shortest(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9.0e15 => format!("{float:.0}"),
        _ => number.to_string(),
    }
}

/// Who logs in, as a role reads it from the claims.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Name of the alias.
    pub(super) user: String,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) groups: Vec<String>,
}

/// Which claims say who somebody is.
pub(super) struct Reading<'r> {
    pub(super) user_claim: &'r str,
    pub(super) user_claim_is_pointer: bool,
    pub(super) mappings: &'r BTreeMap<String, String>,
    pub(super) groups_claim: &'r str,
}

impl Reading<'_> {
    /// Reads who somebody is.
    pub(super) fn of(&self, claims: &Verified) -> Result<Identity, String> {
        let name = self.user_claim;
        let user = if self.user_claim_is_pointer { claims.claim(name) } else { claims.plain(name) };
        let user = user.ok_or_else(|| format!("claim {name:?} not found in token"))?;
        let user = user.as_str().ok_or_else(|| format!("claim {name:?} could not be converted to string"))?;
        let user = sound(name, user)?;
        if user.is_empty() {
            return Err(format!("claim {name:?} is empty"));
        }
        let mut metadata = BTreeMap::new();
        for (claim, key) in self.mappings {
            let Some(value) = claims.claim(claim) else { continue };
            let text = scalar(value).ok_or_else(|| format!("error converting claim '{claim}' to string"))?;
            metadata.insert(key.clone(), sound(claim, &text)?);
        }
        Ok(Identity { user, metadata, groups: self.groups(claims)? })
    }

    fn groups(&self, claims: &Verified) -> Result<Vec<String>, String> {
        let name = self.groups_claim;
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let claim = claims.claim(name).ok_or_else(|| format!("{name:?} claim not found in token"))?;
        let items = match claim {
            Value::String(_) => std::slice::from_ref(claim),
            Value::Array(items) => items,
            _ => return Err(format!("{name:?} claim could not be converted to string list")),
        };
        if items.len() > GROUPS_MAX {
            return Err(format!("{name:?} claim has {} groups, over the limit of {GROUPS_MAX}", items.len()));
        }
        let mut groups = Vec::new();
        for item in items {
            let group = item
                .as_str()
                .ok_or_else(|| format!("value {:?} in groups claim could not be parsed as string", Brief(&item.to_string())))?;
            if !group.is_empty() {
                groups.push(sound(name, group)?);
            }
        }
        Ok(groups)
    }
}

/// A claim that becomes a name here: of bearable length, and nothing that a log or a terminal would act on.
fn sound(claim: &str, text: &str) -> Result<String, String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("claim {claim:?} has {} bytes, over the limit of {NAME_BYTES_MAX}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("claim {claim:?} has control characters"));
    }
    Ok(text.to_owned())
}

fn seconds(given: i64, default: i64) -> i64 {
    match given {
        0 => default,
        below if below < 0 => 0,
        given => given.min(TIME_MAX),
    }
}

/// Groups of one login; the core takes more.
const GROUPS_MAX: usize = 1_000;
/// Longest name that a claim gives, in bytes: the longest that an alias can have.
const NAME_BYTES_MAX: usize = 512;
