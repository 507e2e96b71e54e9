//! What a role grants, and how much of it.

use std::collections::BTreeMap;

use daypass_aws::{AssumeRole, Skew};
use daypass_base::Clock;
use daypass_sdk::{Operation, Seconds};
use serde_json::{Value, json};

use super::{bench, error};
use crate::secrets::aws::creds::Grant;
use crate::secrets::aws::limits::Limits;
use crate::secrets::aws::ours::Ours;
use crate::secrets::revoked::Revoked;

/// Story: the template of an IAM role that nobody had asked for needed a claim that the caller's login had not proved, and he was refused the one that he had
/// asked for.
#[tokio::test]
async fn templates_that_a_caller_cannot_fill_keep_nobody_from_the_others() {
    let (mut bench, _) = bench();
    let role = |what: &str| format!("arn:aws:iam::123456789012:role/{what}");
    let arns = [role("team-{{ .Claims.team }}"), role("repo-{{ .Claims.repo }}")].join(",");
    let pattern = role("env-{{ .Claims.env }}-*");
    let written =
        bench.call("PUT", "roles/r", json!({ "role_arns": arns, "role_arn_pattern": pattern, "credential_type": "assumed_role" }));
    assert_eq!(written.await.status, 204);
    for (claim, granted) in [("team", "team-x"), ("repo", "repo-x"), ("env", "env-x-1")] {
        bench.caller.claims = BTreeMap::from([(claim.to_owned(), "x".to_owned())]);
        let answer = bench.call("PUT", "sts/r", json!({ "role_arn": role(granted) })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // What fits nothing may fit what is not filled.
        let answer = bench.call("PUT", "sts/r", json!({ "role_arn": role("other") })).await;
        assert!(answer.status == 400 && !error(&answer).contains("not in allowed"), "{answer:?}");
    }
    bench.caller.claims = ["team", "repo", "env"].map(|claim| (claim.to_owned(), "x".to_owned())).into();
    let answer = bench.call("PUT", "sts/r", json!({ "role_arn": role("other") })).await;
    assert!(answer.status == 400 && error(&answer).contains("not in allowed role arns"), "{answer:?}");
    assert_eq!(bench.call("PUT", "sts/r", Value::Null).await.status, 400);
}

/// Story: a credential counted as live for its lifetime from when AWS was asked. A call that took a minute, with its repetitions, made room for another one while it
/// was good for a minute yet.
#[test]
fn a_credential_is_live_until_aws_takes_it_no_more() {
    let (bench, _) = bench();
    let (cx, limits, revoked) = (bench.cx("sts/r", Operation::Read), Limits::default(), Revoked::default());
    let ours = Ours { limit_live: 1, ..Ours::default() };
    let input = AssumeRole { duration: Seconds(900), ..AssumeRole::default() };
    let grant = Grant::Assume { input, is_stable: true, chained_from: None };
    let mint = || limits.take(&cx, ("r", &ours), &grant, &revoked);
    let taken = mint().unwrap();
    bench.advance(60);
    let end = Skew::default().theirs(bench.clock.now()) + Seconds(900);
    taken.minted(end, || bench.clock.elapsed() + Seconds(900).duration(), &revoked);
    bench.advance(840);
    let Err(refused) = mint() else { panic!("one is live") };
    assert_eq!(refused.retry_after, Seconds(60));
    bench.advance(60);
    assert!(mint().is_ok());
}
