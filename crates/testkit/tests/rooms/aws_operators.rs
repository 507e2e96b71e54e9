//! What operators ask of an aws mount: where a chain breaks, which IAM policies a role needs, and the end of all sessions.

use daypass_aws::{FakeGroup, Gate, Identity};
use daypass_base::Clock;
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const TASK: &str = "arn:aws:iam::123456789012:role/daypass";
const NEAR: &str = "arn:aws:iam::123456789012:role/near";
const FAR: &str = "arn:aws:iam::111111111111:role/far";

async fn server(fields: Value) -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    let mut role = json!({ "credential_type": "assumed_role", "role_arns": NEAR });
    for (name, value) in fields.as_object().unwrap() {
        role[name] = value.clone();
    }
    server.put("aws/roles/r", role).await.ok();
    server
}

/// The steps: name, outcome and detail.
fn steps(answer: &Answer) -> Vec<(String, Value, String)> {
    let steps = answer["data"]["steps"].as_array().unwrap().iter();
    steps.map(|step| (step["step"].as_str().unwrap().to_owned(), step["ok"].clone(), step["detail"].as_str().unwrap().to_owned())).collect()
}

/// The answer comes when the moment has: three to four seconds later.
async fn revoke(server: &TestServer, body: Value) -> Answer {
    let time = async {
        for _ in 0..6 {
            server.seconds(1).await;
        }
    };
    tokio::join!(server.put("aws/revoke-sessions/r", body), time).0
}

async fn key(server: &TestServer, path: &str) -> String {
    server.get(path).await.ok().text("/data/access_key")
}

async fn check(server: &TestServer) -> Answer {
    server.put("aws/check/r", json!({})).await.ok()
}

#[tokio::test]
async fn a_chain_that_holds_is_walked_to_its_end() {
    let server = server(json!({})).await;
    let answer = check(&server).await;
    assert_eq!(answer["data"]["ok"], json!(true), "{answer:?}");
    let names: Vec<String> = steps(&answer).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(
        names,
        ["server identity", &format!("assume {NEAR}"), "the credential works", "lifetime", &format!("permissions of {NEAR}")]
    );
}

/// Story: only the role was simulated. A session policy that allowed nothing of what was asked for was not looked at, and the check was ok.
#[tokio::test]
async fn what_a_session_policy_takes_away_is_not_allowed() {
    let reads = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;
    let server = server(json!({ "policy_document": reads })).await;
    let asked = async |action: &str| server.put("aws/check/r", json!({ "actions": action })).await.ok();
    assert_eq!(asked("s3:GetObject").await["data"]["ok"], json!(true));
    let answer = asked("s3:PutObject").await;
    let (_, ok, detail) = steps(&answer).pop().unwrap();
    assert!(
        ok == json!(false) && detail.contains("the session policy (policy_document, iam_groups) does not allow s3:PutObject"),
        "{detail}"
    );
    let mend = &answer["data"]["steps"].as_array().unwrap().last().unwrap()["mend"]["session_policy"];
    assert_eq!(mend["Statement"][0]["Action"], json!(["s3:PutObject"]));

    server.put("aws/roles/r", json!({ "policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess" })).await.ok();
    let (_, ok, detail) = steps(&asked("s3:GetObject").await).pop().unwrap();
    assert!(ok.is_null() && detail.contains("arn:aws:iam::aws:policy/ReadOnlyAccess"), "{detail}");
    server.aws().forbid(NEAR, "s3:GetObject");
    let (_, ok, detail) = steps(&asked("s3:GetObject").await).pop().unwrap();
    assert!(ok == json!(false) && detail.contains("no policy allows s3:GetObject"), "what the role may not do no policy allows: {detail}");
}

/// Story: the groups were not asked for. A role with one that did not exist, or that the server may not read, was ok, and every mint failed.
#[tokio::test]
async fn groups_are_read_as_a_mint_reads_them() {
    let server = server(json!({ "iam_groups": "builders" })).await;
    let answer = check(&server).await;
    let (name, ok, detail) = steps(&answer).pop().unwrap();
    assert_eq!((name.as_str(), ok), ("policies of iam_groups builders", json!(false)));
    assert!(detail.starts_with("Error reading the policies of IAM group \"builders\": NoSuchEntity"), "{detail}");
    let needed = server.get("aws/policy-for/r").await.ok();
    assert_eq!(needed["data"]["server_policy"]["Statement"][1]["Resource"], json!(["arn:aws:iam::123456789012:group/builders"]));

    let inline = [("push".to_owned(), r#"{"Statement":{"Effect":"Allow","Action":"ecr:*","Resource":"*"}}"#.to_owned())].into();
    server.aws().add_group("builders", FakeGroup { attached: Vec::new(), inline });
    let answer = check(&server).await;
    assert_eq!(answer["data"]["ok"], json!(true), "{answer:?}");
    let other = server.put("aws/check/r", json!({ "actions": "s3:GetObject" })).await.ok();
    assert_eq!(steps(&other).pop().unwrap().1, json!(false), "the group does not allow it");
}

/// Story: the check made a session of 900 seconds, whatever the role's own lifetime was. A server that is a session itself was refused every longer
/// one than an hour, and the check was ok.
#[tokio::test]
async fn the_lifetime_of_mints_is_one_that_aws_gives() {
    let server = server(json!({ "default_sts_ttl": "2h" })).await;
    let lifetime = async || {
        let answer = check(&server).await;
        steps(&answer).into_iter().find(|(name, ..)| name == "lifetime").unwrap()
    };
    let (_, ok, detail) = lifetime().await;
    assert!(ok == json!(false) && detail.contains("7200s") && detail.contains("one hour at most"), "{detail}");

    let user = Identity {
        account: "123456789012".to_owned(),
        arn: "arn:aws:iam::123456789012:user/daypass".to_owned(),
        user_id: "AIDA".to_owned(),
    };
    server.aws().set_identity(Ok(user));
    let (_, ok, detail) = lifetime().await;
    assert!(ok.is_null() && detail.contains("iam:GetRole"), "{detail}");
    server.aws().add_role("near", "{}");
    let (_, ok, detail) = lifetime().await;
    assert!(ok == json!(false) && detail.contains("MaxSessionDuration") && detail.contains("3600s"), "{detail}");
    server.aws().allow_session("near", daypass_base::Seconds(7200));
    assert_eq!(lifetime().await.1, json!(true));

    server.put("aws/roles/r", json!({ "default_sts_ttl": "600s" })).await.ok();
    let (_, ok, detail) = lifetime().await;
    assert!(ok == json!(false) && detail.contains("AWS's shortest session has 900s"), "{detail}");
    let hub = "arn:aws:iam::123456789012:role/hub";
    server.put("aws/roles/r", json!({ "default_sts_ttl": 0, "via_role_arn": hub })).await.ok();
    assert_eq!(lifetime().await.1, json!(true));
}

#[tokio::test]
async fn the_hop_that_fails_is_named_with_the_statement_that_mends_it() {
    let server = server(json!({ "external_id": "ext" })).await;
    let refuse = || server.aws().refuse("AccessDenied", "no", 403);
    let last = |answer: &Answer| answer["data"]["steps"].as_array().unwrap().last().unwrap().clone();

    server.aws().add_role(
        "near",
        &json!({ "Statement": { "Effect": "Allow", "Principal": { "Service": "x" }, "Action": "sts:AssumeRole" } }).to_string(),
    );
    refuse();
    let answer = check(&server).await;
    let step = last(&answer);
    assert_eq!((answer["data"]["ok"].clone(), step["ok"].clone()), (json!(false), json!(false)));
    assert!(step["detail"].as_str().unwrap().contains("names nobody"), "{step}");
    let statement = &step["mend"]["trust_policy"]["Statement"][0];
    assert_eq!(
        (statement["Principal"]["AWS"].clone(), statement["Condition"]["StringEquals"]["sts:ExternalId"].clone()),
        (json!(TASK), json!("ext"))
    );

    let let_in = json!({ "Statement": { "Effect": "Allow", "Principal": { "AWS": TASK }, "Action": "sts:AssumeRole", "Condition": { "StringEquals": { "sts:ExternalId": "y" } } } });
    server.aws().add_role("near", &let_in.to_string());
    refuse();
    assert!(last(&check(&server).await)["detail"].as_str().unwrap().contains("conditions on sts:ExternalId"));

    server.aws().forbid(TASK, "sts:AssumeRole");
    refuse();
    let step = last(&check(&server).await);
    assert!(step["detail"].as_str().unwrap().contains("has no policy that allows sts:AssumeRole"), "{step}");
    assert_eq!(step["mend"]["identity_policy"]["Statement"][0]["Resource"], json!([NEAR]));
}

#[tokio::test]
async fn permissions_that_a_push_needs_are_looked_at() {
    let server = server(json!({})).await;
    server.aws().forbid(NEAR, "ecr:PutImage");
    let answer = check(&server).await;
    let (_, ok, detail) = steps(&answer).pop().unwrap();
    assert_eq!(ok, json!(false));
    assert!(detail.contains("no policy allows ecr:PutImage"), "{detail}");
    let other = server.put("aws/check/r", json!({ "actions": "s3:GetObject", "resource": "arn:aws:s3:::b/*" })).await.ok();
    assert_eq!(other["data"]["ok"], json!(true), "{other:?}");
    server.put("aws/roles/r", json!({ "role_arns": FAR })).await.ok();
    let (_, ok, detail) = steps(&check(&server).await).pop().unwrap();
    assert!(ok.is_null() && detail.contains("another account"), "{detail}");
}

#[tokio::test]
async fn the_policies_that_a_role_needs_can_be_printed() {
    let fields =
        json!({ "role_arns": [FAR, "arn:aws:iam::{{ .Claims.account }}:role/ci"], "external_id": "ext", "session_tags": { "a": "b" } });
    let server = server(fields).await;
    let repository = "arn:aws:ecr:eu-west-1:111111111111:repository/app";
    let answer = server.get(&format!("aws/policy-for/r?repositories={repository}")).await.ok();
    let data = &answer["data"];
    assert_eq!(data["principal"], json!(TASK));
    assert_eq!(data["server_policy"]["Statement"][0]["Resource"], json!([FAR, "arn:aws:iam::*:role/ci"]));
    assert_eq!(data["server_policy"]["Statement"][0]["Action"], json!(["sts:AssumeRole", "sts:TagSession"]));
    assert_eq!(data["trust_policies"][FAR]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"], json!("ext"));
    assert_eq!(data["push_policy"]["Statement"][1]["Resource"], json!([repository]));
    assert!(server.get("aws/policy-for/r?repositories=app").await.refused(400).contains("no ARN of a repository"));

    let hub = "arn:aws:iam::999999999999:role/hub";
    let fields = json!({ "role_arns": "", "via_role_arn": hub, "role_arn_pattern": "arn:aws:iam::*:role/ci-*", "allowed_accounts": "111111111111,222222222222" });
    server.put("aws/roles/r", fields).await.ok();
    let answer = server.get("aws/policy-for/r").await.ok();
    assert_eq!(answer["data"]["server_policy"]["Statement"][0]["Resource"], json!([hub]));
    let reached = json!(["arn:aws:iam::111111111111:role/ci-*", "arn:aws:iam::222222222222:role/ci-*"]);
    assert_eq!(answer["data"]["via_policy"]["Statement"][0]["Resource"], reached);
    assert_eq!(answer["data"]["trust_policies"][hub]["Statement"][0]["Principal"]["AWS"], json!(TASK));

    // Where callers say which IAM role they mean, its path has to be looked at before its sessions are ended.
    assert!(answer["data"].get("revoke_policy").is_none());
    server.put("aws/roles/r", json!({ "allow_revoke_sessions": true })).await.ok();
    let needed = server.get("aws/policy-for/r").await.ok()["data"]["revoke_policy"]["Statement"][0].clone();
    assert_eq!((&needed["Action"][2], &needed["Resource"]), (&json!("iam:GetRole"), &reached));
    server
        .put("aws/roles/listed", json!({ "credential_type": "assumed_role", "role_arns": NEAR, "allow_revoke_sessions": true }))
        .await
        .ok();
    let needed = server.get("aws/policy-for/listed").await.ok()["data"]["revoke_policy"]["Statement"][0].clone();
    assert_eq!((&needed["Action"], &needed["Resource"]), (&json!(["iam:PutRolePolicy", "iam:DeleteRolePolicy"]), &json!([NEAR])));

    // A source identity is set on the first role of a chain: both ways need the right to.
    server.put("aws/roles/r", json!({ "source_identity": "acme.app" })).await.ok();
    let answer = server.get("aws/policy-for/r").await.ok();
    for document in [&answer["data"]["server_policy"], &answer["data"]["via_policy"], &answer["data"]["trust_policies"][hub]] {
        assert!(document["Statement"][0]["Action"].to_string().contains("sts:SetSourceIdentity"), "{document}");
    }
}

/// Story: whoever ended the sessions of one identity after those of another, or of everybody, brought the first ones back to life.
#[tokio::test]
async fn ending_some_sessions_never_brings_others_back() {
    let server = server(json!({ "allow_revoke_sessions": true })).await;
    server.aws().add_role("near", "{}");
    for body in [json!({ "source_identity": "stolen" }), json!({}), json!({ "source_identity": "other" })] {
        revoke(&server, body).await.ok();
    }
    let policies = server.aws().role_policies("near");
    let denied = |name: &str| serde_json::from_str::<Value>(&policies[name]).unwrap()["Statement"][0]["Condition"].clone();
    assert_eq!(policies.len(), 3);
    assert!(denied("daypass-revoked-sessions").get("StringEquals").is_none());
    for identity in ["stolen", "other"] {
        assert_eq!(denied(&format!("daypass-revoked-sessions-of-{identity}"))["StringEquals"]["aws:SourceIdentity"], json!(identity));
    }
}

#[tokio::test]
async fn all_sessions_that_began_before_can_be_ended_and_that_undone() {
    let server = server(json!({ "reuse_window": "5m" })).await;
    server.aws().add_role("near", "{}");
    assert!(server.put("aws/revoke-sessions/r", json!({})).await.refused(400).contains("allow_revoke_sessions=true"));
    server.put("aws/roles/r", json!({ "allow_revoke_sessions": true })).await.ok();
    let before = server.get("aws/sts/r").await.ok().text("/data/access_key");
    let answer = revoke(&server, json!({ "source_identity": "acme.app" })).await.ok();
    assert_eq!(answer["data"]["role_arn"], json!(NEAR));
    let policies = server.aws().role_policies("near");
    let policy: Value = serde_json::from_str(&policies["daypass-revoked-sessions-of-acme.app"]).unwrap();
    assert_eq!(policy["Statement"][0]["Effect"], json!("Deny"));
    assert_eq!(policy["Statement"][0]["Condition"]["StringEquals"]["aws:SourceIdentity"], json!("acme.app"));
    assert!(policy["Statement"][0]["Condition"]["DateLessThan"]["aws:TokenIssueTime"].as_str().unwrap().starts_with("2026-01-02T03:04:"));
    assert_ne!(server.get("aws/sts/r").await.ok().text("/data/access_key"), before, "a kept credential would be dead");
    assert!(server.put("aws/revoke-sessions/r", json!({ "source_identity": "acme*" })).await.refused(400).contains("cannot be one"));
    // A variable that nobody set, which meant one identity, ended the sessions of all, and undid that for all.
    for blank in [json!(""), json!(" "), Value::Null] {
        let answer = server.put("aws/revoke-sessions/r", json!({ "source_identity": blank })).await;
        assert!(answer.refused(400).contains("source_identity is blank: name the source identity"));
    }
    assert!(server.delete("aws/revoke-sessions/r?source_identity=").await.refused(400).contains("source_identity is blank"));
    let undone = server.delete("aws/revoke-sessions/r").await.ok();
    assert!(undone["warnings"][0].as_str().unwrap().contains("nothing was undone"), "{}", undone.body);
    assert_eq!(server.aws().role_policies("near").len(), 1);
    server.delete("aws/revoke-sessions/r?source_identity=acme.app").await.ok();
    assert!(server.aws().role_policies("near").is_empty());

    server.put("aws/roles/r", json!({ "role_arns": FAR })).await.ok();
    assert!(server.put("aws/revoke-sessions/r", json!({})).await.refused(400).contains("write revoke_role_arn"));
    // The policy goes by the role's name: it would have gone to a role of the same name in the wrong account, with an answer that all was done.
    server.put("aws/roles/r", json!({ "revoke_role_arn": "arn:aws:iam::999999999999:role/revoker" })).await.ok();
    let answer = server.put("aws/revoke-sessions/r", json!({})).await;
    assert!(
        answer.refused(400).contains("and revoke_role_arn arn:aws:iam::999999999999:role/revoker of account 999999999999"),
        "{answer:?}"
    );
}

/// Story: the moment had nanoseconds, and the time that AWS compares has whole seconds: a session made after the answer, but within its second, was dead
/// and was kept for the whole window.
#[tokio::test]
async fn what_is_handed_out_after_the_answer_began_after_the_moment() {
    let server = server(json!({ "allow_revoke_sessions": true, "reuse_window": "30m" })).await;
    server.aws().add_role("near", "{}");
    server.advance(std::time::Duration::from_millis(300)).await;
    let before = server.clock().now();
    let old = key(&server, "aws/sts/r").await;
    let answer = server.put("aws/revoke-sessions/r", json!({}));
    let after = async {
        for _ in 0..50 {
            server.advance(std::time::Duration::from_millis(100)).await;
        }
    };
    let (answer, ()) = tokio::join!(answer, after);
    let moment: daypass_sdk::Timestamp = answer.ok().text("/data/sessions_before").parse().unwrap();
    assert_eq!(moment.nanos() % 1_000_000_000, 0);
    assert!(moment > before && server.clock().now() >= moment, "the answer waits for it");
    server.seconds(1).await;
    let new = key(&server, "aws/sts/r").await;
    assert_ne!(new, old);
    assert_eq!(key(&server, "aws/sts/r").await, new, "one that lives is kept");
}

/// Story: each mount forgot what it kept itself, and another one with the same IAM role handed out dead credentials until its window was over.
#[tokio::test]
async fn what_was_ended_at_one_mount_is_handed_out_at_none() {
    let shared = json!({ "allow_revoke_sessions": true, "reuse_window": "30m", "source_identity": "acme" });
    let server = server(shared).await;
    server.aws().add_role("near", "{}");
    server.put("sys/mounts/second", json!({ "type": "aws" })).await.ok();
    let role = |identity: &str| json!({ "credential_type": "assumed_role", "role_arns": NEAR, "reuse_window": "30m", "source_identity": identity });
    server.put("second/roles/r", role("acme")).await.ok();
    server.put("second/roles/other", role("other")).await.ok();
    server.put("sys/mounts/ecr", json!({ "type": "ecr" })).await.ok();
    server.put("ecr/roles/app", json!({ "role_arn": NEAR, "region": "eu-west-1" })).await.ok();
    let (old, other) = (key(&server, "second/sts/r").await, key(&server, "second/sts/other").await);
    let login = async || server.get("ecr/creds/app").await.ok().text("/data/password");
    let first = login().await;
    revoke(&server, json!({ "source_identity": "acme" })).await.ok();
    assert_ne!(key(&server, "second/sts/r").await, old);
    assert_eq!((key(&server, "second/sts/other").await, login().await), (other.clone(), first.clone()), "nobody else's");
    revoke(&server, json!({})).await.ok();
    assert_ne!(key(&server, "second/sts/other").await, other);
    assert_ne!(login().await, first);
}

/// Story: the policy of the call that began first reached AWS last, with the earlier moment. The sessions in between lived on, although the later call
/// had been answered that they were over.
#[tokio::test]
async fn of_two_revocations_at_the_same_time_the_later_moment_holds() {
    let server = server(json!({ "allow_revoke_sessions": true })).await;
    server.aws().add_role("near", "{}");
    let is_first = std::sync::atomic::AtomicBool::new(true);
    server.aws().guard(move |action| {
        let is_late = action == "PutRolePolicy" && is_first.swap(false, std::sync::atomic::Ordering::Relaxed);
        if is_late { Gate::Late(std::time::Duration::from_secs(10)) } else { Gate::Open }
    });
    let time = async {
        for _ in 0..30 {
            server.seconds(1).await;
        }
    };
    let second = async {
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
        server.put("aws/revoke-sessions/r", json!({})).await.ok()
    };
    let (first, second, ()) = tokio::join!(server.put("aws/revoke-sessions/r", json!({})).into_future(), second, time);
    let moments = [first.ok().text("/data/sessions_before"), second.text("/data/sessions_before")];
    assert!(moments[0] < moments[1], "{moments:?}");
    let policy: Value = serde_json::from_str(&server.aws().role_policies("near")["daypass-revoked-sessions"]).unwrap();
    assert_eq!(policy["Statement"][0]["Condition"]["DateLessThan"]["aws:TokenIssueTime"], json!(moments[1]));
}

/// Story: the template of a role was filled with the claims of the operator, who has none: the kill switch could not be used for such roles.
#[tokio::test]
async fn sessions_of_a_role_with_templates_are_ended_by_naming_the_iam_role() {
    let mine = "arn:aws:iam::123456789012:role/ci-acme";
    let fields = json!({ "allow_revoke_sessions": true, "role_arns": "arn:aws:iam::123456789012:role/ci-{{ .Claims.team }}" });
    let server = server(fields).await;
    server.aws().add_role("ci-acme", "{}");
    assert!(server.put("aws/revoke-sessions/r", json!({})).await.refused(400).contains("say which one with role_arn"));
    for stranger in
        ["arn:aws:iam::123456789012:role/admin", "arn:aws:iam::123456789012:role/ci-a/b", "arn:aws:iam::123456789012:role/ci-*", "ci-x"]
    {
        let refused = server.put("aws/revoke-sessions/r", json!({ "role_arn": stranger })).await;
        assert!(refused.refused(400).contains("not in allowed role arns"), "{stranger}");
    }
    assert_eq!(revoke(&server, json!({ "role_arn": mine })).await.ok().text("/data/role_arn"), mine);
    server.delete(&format!("aws/revoke-sessions/r?role_arn={mine}")).await.ok();
    assert!(server.aws().role_policies("ci-acme").is_empty());

    let pattern =
        json!({ "role_arns": "", "role_arn_pattern": "arn:aws:iam::*:role/ci-{{ .Claims.team }}", "allowed_accounts": "123456789012" });
    server.put("aws/roles/r", pattern).await.ok();
    assert!(server.put("aws/revoke-sessions/r", json!({})).await.refused(400).contains("say which one with role_arn"));
    let elsewhere = json!({ "role_arn": "arn:aws:iam::111111111111:role/ci-acme" });
    assert!(server.put("aws/revoke-sessions/r", elsewhere).await.refused(400).contains("not in allowed role arns"));
    revoke(&server, json!({ "role_arn": mine })).await.ok();
}

/// Story: a server whose clock was minutes behind ended the sessions that were older than so many minutes, and let the stolen one live; its leases
/// said that credentials live longer than they do.
#[tokio::test]
async fn the_kill_switch_and_lifetimes_go_by_awss_clock() {
    let server = server(json!({ "allow_revoke_sessions": true, "reuse_window": "30m" })).await;
    server.aws().add_role("near", "{}");
    server.aws().differ(daypass_aws::Skew::seen(240_000));
    assert_eq!(server.get("aws/sts/r").await.ok().number("/lease_duration"), 3_600);
    let before = server.clock().now();
    let answer = revoke(&server, json!({})).await.ok();
    let moment: daypass_sdk::Timestamp = answer.text("/data/sessions_before").parse().unwrap();
    // The clock runs on while the request waits.
    assert!(moment > before + daypass_base::Seconds(243) && moment <= before + daypass_base::Seconds(246), "{moment} {before}");
    // A minute before its end by AWS's clock.
    server.aws().differ(daypass_aws::Skew::seen(-240_000));
    assert_eq!(server.get("aws/sts/r").await.ok().number("/lease_duration"), 3_600);
}

#[tokio::test]
async fn a_role_that_has_no_room_for_a_policy_says_what_can_go() {
    let server = server(json!({ "allow_revoke_sessions": true })).await;
    server.aws().add_role("near", "{}");
    server.aws().fail("PutRolePolicy", "LimitExceeded", 409);
    let refused = server.put("aws/revoke-sessions/r", json!({ "source_identity": "acme" })).await;
    let said = refused.refused(400);
    assert!(
        said.contains("aws iam list-role-policies --role-name near") && said.contains("daypass-revoked-sessions-of-<identity>"),
        "{said}"
    );
}

/// Story: they were stored, and calls went to the region of the mount, as in Vault; nobody was told.
#[tokio::test]
async fn settings_of_sts_without_its_endpoint_are_remarked_on() {
    let server = server(json!({})).await;
    let fields = json!({ "sts_region": "eu-west-1", "sts_fallback_endpoints": "https://sts.eu-central-1.amazonaws.com", "sts_fallback_regions": "eu-central-1" });
    let told = server.put("aws/config/root", fields).await.ok();
    assert!(
        told["warnings"][0].as_str().unwrap().starts_with("sts_region and sts_fallback_endpoints have no effect without sts_endpoint"),
        "{told:?}"
    );
    server.put("sys/mounts/ecr", json!({ "type": "ecr" })).await.ok();
    let told = server.put("ecr/config/root", json!({ "sts_region": "eu-west-1" })).await.ok();
    assert!(told["warnings"][0].as_str().unwrap().starts_with("sts_region has no effect without sts_endpoint"), "{told:?}");
    let quiet = server.put("aws/config/root", json!({ "sts_endpoint": "https://sts.eu-west-1.amazonaws.com" })).await.ok();
    assert!(quiet.body.get("warnings").is_none_or(Value::is_null), "{quiet:?}");
}
