//! Sessions of IAM roles: whom they are for, which roles a pattern covers, what is handed out again, and how many there may be.

use daypass_aws::{AssumeRole, Gate, Made};
use daypass_base::{Clock, Seconds};
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const APP: &str = "arn:aws:iam::111111111111:role/ci-app";

/// A server with an aws mount, its role `r`, and an AppRole whose logins prove what their secret id says.
async fn server(role: Value) -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    write_role(&server, role).await.ok();
    server
        .policy("ci", r#"path "aws/*" { capabilities = ["read", "update"] } path "auth/token/create" { capabilities = ["update"] }"#)
        .await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    server.put("auth/approle/role/jenkins", json!({ "token_policies": "ci" })).await.ok();
    server
}

async fn write_role(server: &TestServer, fields: Value) -> Answer {
    let mut role = json!({ "credential_type": "assumed_role", "role_arns": APP });
    for (name, value) in fields.as_object().unwrap() {
        role[name] = value.clone();
    }
    server.put("aws/roles/r", role).await
}

/// Logs in as a build that proves these claims.
async fn build(server: &TestServer, claims: Value) -> String {
    let role_id = server.get("auth/approle/role/jenkins/role-id").await.ok().text("/data/role_id");
    let secret_id = server.put("auth/approle/role/jenkins/secret-id", json!({ "metadata": claims.to_string() })).await.ok();
    let login = json!({ "role_id": role_id, "secret_id": secret_id.text("/data/secret_id") });
    server.put("auth/approle/login", login).nobody().await.ok().token()
}

fn assumed(server: &TestServer) -> Vec<AssumeRole> {
    let inputs = server.aws().made().into_iter().filter_map(|made| match made {
        Made::AssumeRole(_, input) => Some(input),
        _ => None,
    });
    inputs.collect()
}

fn attributed() -> Value {
    json!({
        "session_name": "{{ .Claims.repository }}-{{ .Claims.run_id }}",
        "source_identity": "{{ .Claims.repository | replace \"/\" \".\" }}",
        "session_tags": { "repository": "{{ .Claims.repository }}", "team": "build" },
        "transitive_tag_keys": "repository",
        "policy_document": r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*","Resource":"arn:aws:ecr:*:*:repository/{{ .Claims.repository }}"}]}"#,
    })
}

#[tokio::test]
async fn a_session_carries_what_the_login_proved() {
    let server = server(attributed()).await;
    let token = build(&server, json!({ "repository": "acme/app", "run_id": "42" })).await;
    server.get("aws/sts/r").token(&token).await.ok();
    let inputs = assumed(&server);
    let [input] = inputs.as_slice() else { panic!("{inputs:?}") };
    assert_eq!((input.session_name.as_str(), input.source_identity.as_deref()), ("acme_app-42", Some("acme.app")));
    assert_eq!((input.tags["repository"].as_str(), input.tags["team"].as_str()), ("acme/app", "build"));
    assert_eq!(input.transitive_tag_keys, ["repository"]);
    assert!(input.policy.as_ref().unwrap().contains("repository/acme/app\""), "{:?}", input.policy);
}

#[tokio::test]
async fn a_child_token_keeps_the_claims_of_its_parent_whatever_metadata_it_is_given() {
    let server = server(attributed()).await;
    let parent = build(&server, json!({ "repository": "acme/app", "run_id": "42" })).await;
    let forged = json!({ "meta": { "repository": "acme/payroll", "run_id": "1" } });
    let child = server.put("auth/token/create", forged).token(&parent).await.ok().token();
    let batch = server.put("auth/token/create", json!({ "type": "batch", "meta": { "repository": "acme/payroll" } }));
    let batch = batch.token(&parent).await.ok().token();
    for token in [child, batch] {
        server.get("aws/sts/r").token(&token).await.ok();
    }
    assert!(assumed(&server).iter().all(|input| input.session_name == "acme_app-42"), "{:?}", assumed(&server));
    // A token that no login stands behind has no claims, even where its maker wrote some.
    let orphan = server.token(json!({ "policies": ["ci"], "meta": { "repository": "acme/app", "run_id": "42" } })).await;
    let refusal = server.get("aws/sts/r").token(&orphan).await;
    assert!(refusal.refused(400).contains("the caller's login proved no \"repository\""), "{refusal:?}");
}

#[tokio::test]
async fn a_claim_cannot_stand_for_more_than_itself() {
    let server = server(attributed()).await;
    for (repository, why) in
        [("acme/*", "means more than itself"), ("a${aws:username}", "means more"), ("", "empty text"), ("a?", "means more")]
    {
        let token = build(&server, json!({ "repository": repository, "run_id": "1" })).await;
        let only_policy = json!({ "session_name": "", "source_identity": "", "session_tags": {}, "transitive_tag_keys": [] });
        write_role(&server, only_policy).await.ok();
        let refusal = server.get("aws/sts/r").token(&token).await;
        assert!(refusal.refused(400).contains(why), "{repository}: {refusal:?}");
    }
    let quotes = build(&server, json!({ "repository": "x\",\"Action\":\"*", "run_id": "1" })).await;
    server.get("aws/sts/r").token(&quotes).await.refused(400);
    write_role(&server, json!({ "policy_document": "", "session_tags": { "repository": "{{ .Claims.repository }}" } })).await.ok();
    for repository in ["a*", "a\nb", "a<b>"] {
        let token = build(&server, json!({ "repository": repository })).await;
        assert!(server.get("aws/sts/r").token(&token).await.refused(400).contains("does not take in a tag"), "{repository:?}");
    }
    write_role(&server, json!({ "session_tags": {}, "role_arns": "arn:aws:iam::{{ .Claims.account }}:role/ci" })).await.ok();
    for account in ["111111111111:role/admin", "1/2", "*", ""] {
        let token = build(&server, json!({ "account": account })).await;
        server.get("aws/sts/r").token(&token).await.refused(400);
    }
    assert!(assumed(&server).is_empty(), "nothing was asked of AWS");
    let token = build(&server, json!({ "account": "222222222222" })).await;
    server.get("aws/sts/r").token(&token).await.ok();
    assert_eq!(assumed(&server)[0].role_arn, "arn:aws:iam::222222222222:role/ci");
}

#[tokio::test]
async fn callers_cannot_rename_a_session_that_the_role_names() {
    let server = server(json!({ "session_name": "{{ .Claims.job }}" })).await;
    let token = build(&server, json!({ "job": "nightly" })).await;
    let named = || server.put("aws/sts/r", json!({ "role_session_name": "admin" })).token(&token);
    assert!(named().await.refused(400).contains("allow_role_session_name"));
    write_role(&server, json!({ "allow_role_session_name": true })).await.ok();
    named().await.ok();
    assert_eq!(assumed(&server)[0].session_name, "admin");
}

#[tokio::test]
async fn one_role_serves_an_organisation() {
    let fields =
        json!({ "role_arns": "", "role_arn_pattern": "arn:aws:iam::*:role/ci-*", "allowed_accounts": "111111111111,222222222222" });
    let server = server(fields).await;
    let ask = |arn: &str| server.put("aws/sts/r", json!({ "role_arn": arn }));
    for good in [APP, "arn:aws:iam::222222222222:role/ci-x"] {
        ask(good).await.ok();
    }
    for bad in [
        "arn:aws:iam::333333333333:role/ci-x",
        "arn:aws:iam::111111111111:role/admin",
        "arn:aws:iam::111111111111:role/ci-x/y",
        "arn:aws-cn:iam::111111111111:role/ci-x",
        "arn:aws:iam::*:role/ci-x",
        "ci-x",
    ] {
        assert!(ask(bad).await.refused(400).contains("not in allowed role arns"), "{bad}");
    }
    assert_eq!(assumed(&server).len(), 2);
}

#[tokio::test]
async fn what_a_role_says_is_checked_when_it_is_written() {
    let server = server(json!({})).await;
    for (fields, why) in [
        (json!({ "session_name": "{{ .Claims.x" }), "unclosed action"),
        (json!({ "session_name": "x" }), "AWS takes 2 to 64"),
        (json!({ "source_identity": "aws:x" }), "letters, digits"),
        (json!({ "source_identity": "a b" }), "letters, digits"),
        (json!({ "transitive_tag_keys": "nope" }), "none of the keys of session_tags"),
        (json!({ "role_arns": "arn:aws:iam::111111111111:user/x" }), "no ARN of an IAM role"),
        (json!({ "role_arn_pattern": "arn:aws:iam::*:role/x" }), "name the accounts"),
        (json!({ "role_arn_pattern": "arn:aws:iam::*:role/x", "allowed_accounts": "12" }), "no account number"),
        (json!({ "allowed_accounts": "111111111111" }), "means nothing without role_arn_pattern"),
        (json!({ "via_role_arn": "hub" }), "invalid prefix"),
        (json!({ "via_external_id": "xx" }), "means nothing without via_role_arn"),
        (json!({ "via_role_arn": APP, "max_sts_ttl": "2h" }), "one hour at most"),
        (json!({ "reuse_shared": true }), "mean nothing without reuse_window"),
        (json!({ "reuse_window": "40h" }), "over the longest"),
        (
            json!({ "reuse_window": "1m", "session_name": "ci-{{ random 8 }}" }),
            "session_name has random, which gives something else each time",
        ),
        (
            json!({ "reuse_window": "1m", "session_name": "{{ if true }}a-{{ printf \"%s\" (unix_time) }}{{ end }}" }),
            "session_name has unix_time",
        ),
        (json!({ "reuse_window": "1m", "session_tags": { "at": "{{ timestamp \"2006\" }}" } }), "session_tags has timestamp"),
        (json!({ "limit_by": "team" }), "means nothing without"),
        (json!({ "limit_live": 1_000_000 }), "highest limit"),
        (json!({ "credential_type": "session_token", "role_arns": "", "reuse_window": "1m" }), "isn't assumed_role"),
        (json!({ "policy_document": r#"{"{{ .Claims.x }}":1}"# }), "names of fields"),
    ] {
        let refusal = write_role(&server, fields.clone()).await;
        assert!(refusal.refused(400).contains(why), "{fields}: {refusal:?}");
    }
    let shown = server.get("aws/roles/r").await.ok();
    assert!(shown["data"].get("session_name").is_none(), "what is not set is not shown, as in Vault: {shown:?}");
    write_role(&server, json!({ "reuse_window": "2m", "limit_by": "team", "limit_live": 5 })).await.ok();
    let shown = server.get("aws/roles/r").await.ok();
    assert_eq!((shown["data"]["reuse_window"].clone(), shown["data"]["limit_live"].clone()), (json!(120), json!(5)));
}

#[tokio::test]
async fn the_way_over_another_role_is_taken_once_for_many_and_lasts_an_hour_at_most() {
    let hub = "arn:aws:iam::999999999999:role/hub";
    let server = server(json!({ "via_role_arn": hub, "via_external_id": "partner-7" })).await;
    let first = server.put("aws/sts/r", json!({ "ttl": "2h" })).await.ok();
    assert!(first.body["warnings"][0].as_str().unwrap().contains("ttl 7200s was lowered to 3600s"), "{first:?}");
    server.get("aws/sts/r").await.ok();
    let inputs = assumed(&server);
    let [way, one, _] = inputs.as_slice() else { panic!("{inputs:?}") };
    assert_eq!((way.role_arn.as_str(), way.external_id.as_deref(), way.duration), (hub, Some("partner-7"), Seconds(3600)));
    assert_eq!((one.role_arn.as_str(), one.duration), (APP, Seconds(3600)));
    let signers = server.aws().made().into_iter().filter_map(|made| match made {
        Made::AssumeRole(target, _) => Some(target.keys.map(|keys| keys.access_key_id)),
        _ => None,
    });
    let hub_session = Some("ASIAFAKE000000000001".to_owned());
    assert_eq!(signers.collect::<Vec<_>>(), [None, hub_session.clone(), hub_session]);
    server.seconds(3001).await;
    server.get("aws/sts/r").await.ok();
    assert_eq!(assumed(&server)[3].role_arn, hub, "ten minutes before its end it is taken anew");
}

/// Story: the role on the way was deleted and made again. AWS did not know its session any more, and every mint failed for up to fifty minutes with
/// words that blamed the server's own keys.
#[tokio::test]
async fn a_session_of_the_role_on_the_way_that_aws_does_not_know_is_replaced() {
    let hub = "arn:aws:iam::999999999999:role/hub";
    let server = server(json!({ "via_role_arn": hub })).await;
    let of_hub = || assumed(&server).iter().filter(|input| input.role_arn == hub).count();
    let unknown = || server.aws().refuse("InvalidClientTokenId", "The security token included in the request is invalid.", 403);
    server.get("aws/sts/r").await.ok();
    for (round, code) in [(2, "InvalidClientTokenId"), (3, "ExpiredToken")] {
        server.aws().refuse(code, "gone", 403);
        server.get("aws/sts/r").await.ok();
        assert_eq!(of_hub(), round, "{code}");
    }
    // Once: what the new one cannot do either is told, and whose session it was.
    unknown();
    server.aws().answer(Ok(daypass_aws::Credential {
        access_key_id: "ASIAHUB".to_owned(),
        secret_access_key: daypass_base::Secret::from("s"),
        session_token: daypass_base::Secret::from("t"),
        expiration: server.clock().now() + Seconds(3600),
        arn: None,
    }));
    unknown();
    let refusal = server.get("aws/sts/r").await;
    let said = refusal.refused(400);
    assert!(
        said.starts_with("Error assuming role: InvalidClientTokenId") && said.contains(&format!("a session of {hub} (via_role_arn)")),
        "{said}"
    );
    assert_eq!(of_hub(), 4);
    server.get("aws/sts/r").await.ok();
    assert_eq!(of_hub(), 5, "and it is not kept");
}

/// Story: a policy on the role on the way ended its sessions (AWSRevokeOlderSessions). AWS says AccessDenied then, and the session was kept: every
/// mint over it failed for up to fifty minutes.
#[tokio::test]
async fn a_session_of_the_role_on_the_way_that_a_policy_ended_is_replaced() {
    let hub = "arn:aws:iam::999999999999:role/hub";
    let server = server(json!({ "via_role_arn": hub })).await;
    let counts = || {
        let inputs = assumed(&server);
        (inputs.iter().filter(|input| input.role_arn == hub).count(), inputs.len())
    };
    let deny = || server.aws().refuse("AccessDenied", "with an explicit deny in an identity-based policy", 403);
    let issued = |id: &str| {
        server.aws().answer(Ok(daypass_aws::Credential {
            access_key_id: id.to_owned(),
            secret_access_key: daypass_base::Secret::from("s"),
            session_token: daypass_base::Secret::from("t"),
            expiration: server.clock().now() + Seconds(3600),
            arn: None,
        }));
    };
    server.get("aws/sts/r").await.ok();
    server.seconds(60).await;
    deny();
    server.get("aws/sts/r").await.ok();
    assert_eq!(counts(), (2, 5));
    // A role that may not be assumed at all: its refusal is told, and costs the others no session of theirs each time.
    deny();
    assert!(server.get("aws/sts/r").await.refused(400).starts_with("Error assuming role: AccessDenied"));
    assert_eq!(counts(), (2, 6), "the session is new: it is not that");
    server.seconds(11).await;
    deny();
    issued("ASIAHUB");
    deny();
    assert!(server.get("aws/sts/r").await.refused(400).starts_with("Error assuming role: AccessDenied"));
    assert_eq!(counts(), (3, 9), "once more, and not again");
    for _ in 0..3 {
        deny();
        server.get("aws/sts/r").await.refused(400);
    }
    assert_eq!(counts(), (3, 12));
    server.get("aws/sts/r").await.ok();
    assert_eq!(counts(), (3, 13), "and the new one stays for others");
}

/// All who are refused at the same moment share one new session.
#[tokio::test]
async fn many_who_are_refused_over_the_role_on_the_way_assume_it_once() {
    let hub = "arn:aws:iam::999999999999:role/hub";
    let server = server(json!({ "via_role_arn": hub })).await;
    server.get("aws/sts/r").await.ok();
    server.seconds(60).await;
    for _ in 0..20 {
        server.aws().refuse("AccessDenied", "with an explicit deny in an identity-based policy", 403);
    }
    server.aws().guard(|action| if action == "AssumeRole" { Gate::Late(std::time::Duration::from_secs(1)) } else { Gate::Open });
    let time = async {
        for _ in 0..10 {
            server.seconds(1).await;
        }
    };
    let reads = futures_all((0..20).map(|_| server.get("aws/sts/r").into_future()));
    let (answers, ()) = tokio::join!(reads, time);
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let inputs = assumed(&server);
    assert_eq!((inputs.iter().filter(|input| input.role_arn == hub).count(), inputs.len()), (2, 43));
}

#[tokio::test]
async fn within_the_window_the_same_caller_gets_the_same_credential() {
    let server = server(json!({ "reuse_window": "2m" })).await;
    let (one, other) = (build(&server, json!({})).await, build(&server, json!({})).await);
    let key = async |token: &str| server.get("aws/sts/r").token(token).await.ok().text("/data/access_key");
    let first = key(&one).await;
    assert_eq!(key(&one).await, first);
    assert_ne!(key(&other).await, first, "another caller has its own");
    let asked_otherwise = server.put("aws/sts/r", json!({ "ttl": "20m" })).token(&one).await.ok();
    assert_ne!(asked_otherwise.text("/data/access_key"), first);
    server.seconds(60).await;
    let again = server.get("aws/sts/r").token(&one).await.ok();
    assert_eq!((again.text("/data/access_key"), again.number("/lease_duration")), (first.clone(), 3540));
    server.seconds(61).await;
    let later = key(&one).await;
    assert_ne!(later, first, "the window is over");
    write_role(&server, json!({ "policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess" })).await.ok();
    assert_ne!(key(&one).await, later, "a role that was changed gives a new one");
    write_role(&server, json!({ "reuse_shared": true })).await.ok();
    assert_eq!(key(&one).await, key(&other).await);
}

/// Story: a row's first version is always 1, so a role that was deleted and made again, on another way or with fewer rights, handed out the
/// credentials of the role that it replaced.
#[tokio::test]
async fn a_role_that_was_made_again_hands_out_nothing_of_the_one_before() {
    let fields = json!({ "reuse_window": "1h", "reuse_min_ttl": "1m", "reuse_shared": true });
    let server = server(fields.clone()).await;
    let key = async || server.get("aws/sts/r").await.ok().text("/data/access_key");
    let first = key().await;
    assert_eq!(key().await, first);
    server.delete("aws/roles/r").await.ok();
    let mut through = fields.clone();
    through["via_role_arn"] = json!("arn:aws:iam::999999999999:role/hub");
    write_role(&server, through).await.ok();
    let second = key().await;
    assert_ne!(second, first);
    assert_eq!(key().await, second);
    server.delete("aws/roles/r").await.ok();
    assert!(server.get("aws/sts/r").await.refused(400).contains("not found"));
    let mut grouped = fields;
    grouped["iam_groups"] = json!("readers");
    let readers = daypass_aws::FakeGroup { attached: vec!["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()], ..Default::default() };
    server.aws().add_group("readers", readers);
    write_role(&server, grouped).await.ok();
    assert!(![first, second].contains(&key().await));
    assert_eq!(assumed(&server).last().unwrap().policy_arns, ["arn:aws:iam::aws:policy/ReadOnlyAccess"]);
    let shown = server.get("aws/roles/r").await.ok();
    assert!(shown["data"].get("generation").is_none(), "{shown:?}");
}

#[tokio::test]
async fn a_credential_that_is_soon_over_is_not_handed_out_again() {
    let server = server(json!({ "reuse_window": "50m", "reuse_min_ttl": "40m" })).await;
    let key = async || server.get("aws/sts/r").await.ok().text("/data/access_key");
    let first = key().await;
    server.seconds(1199).await;
    assert_eq!(key().await, first);
    server.seconds(2).await;
    assert_ne!(key().await, first);
}

#[tokio::test]
async fn a_thousand_reads_at_once_by_one_caller_ask_aws_once_and_by_a_thousand_callers_a_thousand_times() {
    let server = server(json!({ "reuse_window": "2m" })).await;
    let token = build(&server, json!({})).await;
    let reads = |tokens: Vec<String>| {
        let server = &server;
        let reads = tokens.into_iter().map(move |token| async move { server.get("aws/sts/r").token(&token).await.ok() });
        futures_all(reads)
    };
    reads(vec![token.clone(); 1000]).await;
    assert_eq!(assumed(&server).len(), 1);
    let mut tokens = Vec::new();
    for _ in 0..1000 {
        tokens.push(server.put("auth/token/create", json!({})).token(&token).await.ok().token());
    }
    reads(tokens.clone()).await;
    assert_eq!(assumed(&server).len(), 1001);
    write_role(&server, json!({ "reuse_shared": true })).await.ok();
    reads(tokens).await;
    assert_eq!(assumed(&server).len(), 1002, "where the role shares, all of them ask once");
}

/// Runs all of them at the same time.
async fn futures_all<F: Future>(work: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = work.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |cx| {
        running.retain_mut(|piece| match piece.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(std::mem::take(&mut done)) } else { std::task::Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn a_failure_goes_to_those_who_waited_and_the_next_one_tries_anew() {
    let server = server(json!({ "reuse_window": "2m" })).await;
    server.aws().refuse("AccessDenied", "no", 403);
    assert!(server.get("aws/sts/r").await.refused(400).contains("AccessDenied"));
    server.get("aws/sts/r").await.ok();
}

/// Story: what was kept of a failure that several share was its text alone: without Retry-After clients asked again at once.
#[tokio::test]
async fn who_is_over_a_limit_is_told_when_to_come_back_also_where_credentials_are_shared() {
    let server = server(json!({ "reuse_window": "2m", "limit_mints": 1 })).await;
    let (one, other) = (build(&server, json!({})).await, build(&server, json!({})).await);
    server.get("aws/sts/r").token(&one).await.ok();
    let refusal = server.get("aws/sts/r").token(&other).await;
    assert!(refusal.refused(429).contains("try again in 60 s"), "{refusal:?}");
    assert_eq!(refusal.header("retry-after"), Some("60"));
}

#[tokio::test]
async fn a_role_gives_so_many_a_minute_and_so_many_at_one_time() {
    let server = server(json!({ "limit_mints": 2, "limit_by": "team" })).await;
    let (red, blue) = (build(&server, json!({ "team": "red" })).await, build(&server, json!({ "team": "blue" })).await);
    let ask = |token: &str| server.get("aws/sts/r").token(token);
    ask(&red).await.ok();
    server.seconds(20).await;
    ask(&red).await.ok();
    let refusal = ask(&red).await;
    assert!(refusal.refused(429).contains("limit_mints allows 2 a minute; try again in 40 s"), "{refusal:?}");
    assert_eq!(refusal.header("retry-after"), Some("40"));
    ask(&blue).await.ok();
    server.seconds(40).await;
    ask(&red).await.ok();
    assert!(ask(&build(&server, json!({})).await).await.refused(400).contains("counts by the claim \"team\""));

    write_role(&server, json!({ "limit_mints": 0, "limit_by": "", "limit_live": 2, "default_sts_ttl": "15m" })).await.ok();
    server.aws().refuse("AccessDenied", "no", 403);
    ask(&red).await.refused(400);
    ask(&red).await.ok();
    server.seconds(300).await;
    ask(&blue).await.ok();
    let refusal = ask(&red).await;
    assert!(refusal.refused(429).contains("limit_live allows 2 live at one time"), "a refused mint took no place: {refusal:?}");
    assert_eq!(refusal.header("retry-after"), Some("600"));
    server.seconds(601).await;
    ask(&red).await.ok();
}
