//! What fuzz targets reach of the engine: readers of what operators write and logins bring. Not part of the API.

use std::sync::Arc;

use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_sdk::sim::MemoryStorage;
use daypass_sdk::{Cx, Mount, Request, Seconds, Store, Timestamp};
use serde_json::{Value, json};

use super::attribution::Attribution;
use super::template::{Claims, Facts, Template};
use crate::aws_keys::schedule::Schedule;
use crate::secrets::arn;

/// A caller whose login proved `claim` under the name `c`.
fn cx(claim: &str) -> Cx {
    let mut request = Request::default();
    Arc::make_mut(&mut request.caller).claims.insert("c".to_owned(), claim.to_owned());
    Cx {
        request: Arc::new(request),
        mount: Arc::new(Mount::default()),
        store: Store::new(Arc::new(MemoryStorage::new())),
        clock: Arc::new(SimClock::default()),
        entropy: Arc::new(SeededEntropy::new(1)),
        identity: Arc::new(daypass_sdk::NoIdentity),
    }
}

/// Parses and fills a template, for any claim and for this one.
///
/// # Panics
/// When it makes more than it may.
pub fn template(text: &str, claim: &str) {
    let cx = cx(claim);
    let Ok(parsed) = Template::parse(text) else { return };
    for claims in [Claims::Absent, Claims::Any, Claims::Of(&cx.request.caller.claims)] {
        let facts =
            Facts { kind: "IAM", display_name: "token", policy_name: "role", claims, quote: Ok, clock: &cx.clock, entropy: &cx.entropy };
        if let Ok(filled) = parsed.fill(&facts) {
            assert!(filled.len() <= 16 * 1024, "a template makes {} bytes", filled.len());
        }
    }
}

/// Puts a claim wherever templates may stand.
///
/// # Panics
/// When it becomes more than a value there.
pub fn claim(claim: &str) {
    let cx = cx(claim);
    let attribution = Attribution::of(&cx, "role");
    let document = json!({ "Statement": [{ "Resource": "arn:x/{{ .Claims.c }}/end" }] });
    if let Ok(Some(policy)) = attribution.policy(&document.to_string()) {
        let read: Value = serde_json::from_str(&policy).unwrap_or_default();
        let wanted = json!({ "Statement": [{ "Resource": format!("arn:x/{claim}/end") }] });
        assert_eq!(read, wanted, "a claim changed more than its place");
        assert!(!claim.contains(['*', '?', '$']), "a claim matches more than itself");
    }
    if let Ok(arn) = attribution.arn("role_arns", "arn:aws:iam::{{ .Claims.c }}:role/x") {
        assert_eq!(arn.matches(':').count(), 5, "a claim added a segment");
        assert_eq!(arn.matches('/').count(), 1, "a claim added a path");
        assert!(!arn.contains('*'), "a claim matches more than itself");
    }
    if let Ok(Some(name)) = attribution.session_name("{{ .Claims.c }}") {
        assert!((2..=64).contains(&name.len()), "AWS takes no name of {} bytes", name.len());
    }
    if let Ok(Some(name)) = attribution.source_identity("{{ .Claims.c }}") {
        assert_eq!(name, claim, "a source identity stands for somebody else");
    }
}

/// Matches a pattern of ARNs.
///
/// # Panics
/// When a star reaches over a border.
pub fn pattern(pattern: &str, text: &str) {
    let borders = |text: &str| text.bytes().filter(|byte| matches!(byte, b':' | b'/')).count();
    if arn::matches(pattern, text) {
        assert_eq!(borders(pattern), borders(text), "a star matched a border");
    }
    assert!(pattern.contains('*') || arn::matches(pattern, text) == (pattern == text), "without a star a pattern matches itself alone");
}

/// Reads a cron line.
///
/// # Panics
/// When the next time is not later.
pub fn cron(line: &str) {
    let schedule = Schedule { rotation_schedule: line.to_owned(), rotation_window: Seconds(3600), ..Schedule::default() };
    let now = Timestamp::from_seconds(1_767_323_045);
    if let Some(next) = schedule.next(now) {
        assert!(next > now, "the next time is not later");
        assert!(schedule.next(next).is_none_or(|after| after > next), "time stands still");
    }
}
