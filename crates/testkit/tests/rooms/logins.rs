//! Logins through AppRole and userpass: exact under load, silent towards strangers, and with every field of a role in the token.

use daypass_base::{Clock, Timestamp};
use daypass_testkit::{Answer, Ask, Setup, TestServer};
use serde_json::{Value, json};

const WRONG_ROLE: &str = "invalid role or secret ID";
const WRONG_USER: &str = "invalid username or password";

async fn approle(server: TestServer, role: Value) -> (TestServer, String) {
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    server.put("auth/approle/role/r", role).await.ok();
    let role_id = server.get("auth/approle/role/r/role-id").await.ok().text("/data/role_id");
    (server, role_id)
}

async fn secret_id(server: &TestServer, fields: Value) -> String {
    server.put("auth/approle/role/r/secret-id", fields).await.ok().text("/data/secret_id")
}

fn log_in(server: &TestServer, role_id: &str, secret_id: &str) -> Ask {
    server.put("auth/approle/login", json!({ "role_id": role_id, "secret_id": secret_id })).nobody()
}

async fn userpass() -> TestServer {
    let server = TestServer::start().await;
    server.put("sys/auth/up", json!({ "type": "userpass" })).await.ok();
    server.put("auth/up/users/bob", json!({ "password": "right", "token_policies": "p" })).await.ok();
    server
}

fn try_user(server: &TestServer, user: &str, password: &str) -> Ask {
    server.put(&format!("auth/up/login/{user}"), json!({ "password": password })).nobody()
}

/// Story: the networks that a secret id was given for its tokens stood in place of the role's. Whoever narrowed the role later believed that it held for all.
#[tokio::test]
async fn a_secret_id_takes_no_token_out_of_the_networks_of_its_role() {
    let (server, role_id) = approle(TestServer::start().await, json!({ "token_bound_cidrs": "10.0.0.0/8" })).await;
    let secret = secret_id(&server, json!({ "token_bound_cidrs": ["10.1.0.0/16", "10.7.7.0/24"] })).await;
    let from = |address: &str| log_in(&server, &role_id, &secret).from(address);
    let narrow = |networks: &str| server.put("auth/approle/role/r", json!({ "token_bound_cidrs": networks }));
    from("10.1.9.9").await.ok();
    from("10.2.0.1").await.refused(403);
    narrow("10.1.2.0/24,10.7.0.0/16").await.ok();
    from("10.1.9.9").await.refused(403);
    from("10.7.8.1").await.refused(403);
    from("10.7.7.1").await.ok();
    let token = from("10.1.2.3").await.ok().token();
    let status = async |address: &str| server.get("auth/token/lookup-self").token(&token).from(address).await.status;
    assert_eq!((status("10.1.2.9").await, status("10.1.9.9").await), (200, 403));
    // With nothing in common it is of no use, and that is not taken for no networks at all.
    narrow("172.16.0.0/12").await.ok();
    for address in ["10.1.2.3", "172.16.0.1"] {
        from(address).await.refused(403);
    }
    narrow("").await.ok();
    from("10.1.9.9").await.ok();
    from("10.2.0.1").await.refused(403);
}

/// Story: a role's networks were changed so that a secret id's had nothing in common with them. Each login was refused for that, and took a use all the same:
/// when the mistake was mended, the secret id was used up.
#[tokio::test]
async fn a_secret_id_whose_tokens_could_be_used_from_nowhere_loses_no_use() {
    let (server, role_id) = approle(TestServer::start().await, json!({ "token_bound_cidrs": "10.0.0.0/8" })).await;
    let secret = secret_id(&server, json!({ "token_bound_cidrs": "10.1.0.0/16", "num_uses": 1 })).await;
    let networks = |networks: &str| server.put("auth/approle/role/r", json!({ "token_bound_cidrs": networks }));
    networks("172.16.0.0/12").await.ok();
    for _ in 0..2 {
        log_in(&server, &role_id, &secret).from("10.1.2.3").await.refused(403);
    }
    networks("10.0.0.0/8").await.ok();
    log_in(&server, &role_id, &secret).from("10.1.2.3").await.ok();
    assert_eq!(log_in(&server, &role_id, &secret).from("10.1.2.3").await.refused(400), WRONG_ROLE, "it had one use");
}

async fn uses_are_exact(server: TestServer) {
    let (server, role_id) = approle(server, json!({ "token_ttl": "5m" })).await;
    for uses in [1, 7] {
        let secret = secret_id(&server, json!({ "num_uses": uses })).await;
        let asked: Vec<_> = (0..64).map(|_| tokio::spawn(log_in(&server, &role_id, &secret).into_future())).collect();
        let mut tokens = 0;
        for answer in asked {
            let answer = answer.await.unwrap();
            match answer.status {
                200 => tokens += 1,
                // Five wrong ones in a row lock the role out for a while, as with Vault.
                403 => {}
                _ => assert_eq!(answer.refused(400), WRONG_ROLE),
            }
        }
        assert_eq!(tokens, uses);
        let mount = server.get("sys/auth").await.ok()["data"]["approle/"]["accessor"].as_str().unwrap().to_owned();
        server.put(&format!("sys/locked-users/{mount}/unlock/{role_id}"), Value::Null).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_logins_at_once_get_no_use_too_many() {
    uses_are_exact(TestServer::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_logins_at_once_get_no_use_too_many_from_a_disk() {
    uses_are_exact(Setup::default().on_disk().start().await).await;
}

#[tokio::test]
async fn a_wrapped_secret_id_names_its_accessor_and_comes_out_once() {
    let (server, role_id) = approle(TestServer::start().await, json!({})).await;
    let wrapped = server.put("auth/approle/role/r/secret-id", json!({ "metadata": "{\"job\":\"build\"}" })).wrap("60s").await.ok();
    assert_eq!(wrapped["data"], Value::Null);
    let inner = server.put("sys/wrapping/unwrap", Value::Null).token(&wrapped.wrapped()).await.ok();
    assert_eq!(inner.text("/data/secret_id_accessor"), wrapped.text("/wrap_info/wrapped_accessor"));
    let login = log_in(&server, &role_id, &inner.text("/data/secret_id")).await.ok();
    assert_eq!(login["auth"]["metadata"], json!({ "job": "build", "role_name": "r" }));
    server.put("sys/wrapping/unwrap", Value::Null).token(&wrapped.wrapped()).await.refused(400);
}

#[tokio::test]
async fn a_role_without_secret_ids_is_bound_by_its_networks() {
    let role = json!({ "bind_secret_id": false, "secret_id_bound_cidrs": "10.0.0.0/8", "token_bound_cidrs": "10.1.0.0/16" });
    let (server, role_id) = approle(TestServer::start().await, role).await;
    assert_eq!(server.put("auth/approle/role/r/secret-id", json!({})).await.refused(400), "bind_secret_id is not set on the role");
    let login = || server.put("auth/approle/login", json!({ "role_id": role_id })).nobody();
    assert!(login().from("11.0.0.1").await.refused(400).contains("unauthorized by CIDR restrictions on the role"));
    assert_eq!(login().from("10.2.0.1").await.status, 403, "the token could not be used from there");
    let token = login().from("::ffff:10.1.0.1").await.ok().token();
    assert_eq!(server.get("auth/token/lookup-self").token(&token).from("10.1.2.3").await.status, 200);
    assert_eq!(server.get("auth/token/lookup-self").token(&token).from("10.2.0.1").await.status, 403);
    let open = server.put("auth/approle/role/open", json!({ "bind_secret_id": false })).await;
    assert!(open.refused(500).contains("at least one constraint should be enabled on the role"));
}

#[tokio::test]
async fn every_token_field_of_a_role_is_in_its_tokens() {
    let role = json!({
        "token_policies": ["P", "q"], "token_ttl": "5m", "token_max_ttl": "10m", "token_explicit_max_ttl": "8m", "token_num_uses": 9,
        "token_no_default_policy": true, "token_bound_cidrs": ["127.0.0.1"], "token_type": "service",
    });
    let (server, role_id) = approle(TestServer::start().await, role).await;
    server.policy("p", r#"path "auth/token/*" { capabilities = ["read", "update"] }"#).await;
    let login = log_in(&server, &role_id, &secret_id(&server, json!({})).await).await.ok();
    assert_eq!(login["auth"]["policies"], json!(["p", "q"]));
    let seen = server.get("auth/token/lookup-self").token(&login.token()).await.ok();
    let data = &seen["data"];
    assert_eq!(
        (data["creation_ttl"].clone(), data["explicit_max_ttl"].clone(), data["num_uses"].clone()),
        (json!(300), json!(480), json!(8))
    );
    assert_eq!(
        (data["bound_cidrs"].clone(), data["orphan"].clone(), data["type"].clone()),
        (json!(["127.0.0.1"]), json!(true), json!("service"))
    );
    assert_eq!((data["path"].clone(), data["display_name"].clone()), (json!("auth/approle/login"), json!("approle")));
    server.seconds(240).await;
    let renew = |token: &str| server.put("auth/token/renew-self", json!({})).token(token);
    assert_eq!(renew(&login.token()).await.ok().number("/auth/lease_duration"), 240, "up to the explicit maximum");

    server.put("auth/approle/role/r", json!({ "token_period": "60s", "token_explicit_max_ttl": 0, "token_num_uses": 0 })).await.ok();
    let periodic = log_in(&server, &role_id, &secret_id(&server, json!({})).await).await.ok();
    for _ in 0..20 {
        server.seconds(50).await;
        assert_eq!(renew(&periodic.token()).await.ok().number("/auth/lease_duration"), 60, "past every maximum");
    }
    server.delete("auth/approle/role/r").await.ok();
    assert!(renew(&periodic.token()).await.refused(400).contains("does not exist during renewal"));
    server.seconds(60).await;
    assert_eq!(server.status_of(&periodic.token()).await, 403);
}

#[tokio::test]
async fn secret_ids_end_with_their_time_their_role_and_by_hand() {
    let (server, role_id) = approle(TestServer::start().await, json!({ "secret_id_ttl": "10m" })).await;
    let by_time = secret_id(&server, json!({ "ttl": "60s" })).await;
    let by_hand = secret_id(&server, json!({})).await;
    let made = server.put("auth/approle/role/r/custom-secret-id", json!({ "secret_id": "of my choice" })).await.ok();
    let works = async |secret: &str| log_in(&server, &role_id, secret).await.status == 200;
    assert!(works(&by_time).await && works(&by_hand).await && works("of my choice").await);
    server.seconds(60).await;
    assert!(!works(&by_time).await && works(&by_hand).await);
    server.put("auth/approle/role/r/secret-id/destroy", json!({ "secret_id": by_hand })).await.ok();
    let accessor = json!({ "secret_id_accessor": made.text("/data/secret_id_accessor") });
    server.put("auth/approle/role/r/secret-id-accessor/lookup", accessor.clone()).await.ok();
    server.put("auth/approle/role/r/secret-id-accessor/destroy", accessor.clone()).await.ok();
    assert_eq!(server.put("auth/approle/role/r/secret-id-accessor/lookup", accessor).await.status, 404);
    assert!(!works(&by_hand).await && !works("of my choice").await);
    assert_eq!(server.put("auth/approle/tidy/secret-id", Value::Null).await.status, 202);
    server.seconds(61).await;
    assert_eq!(server.list("auth/approle/role/r/secret-id").await.status, 404, "nothing is left of them");
}

/// What a stranger sees of an answer.
fn shape(answer: &Answer) -> (u16, Value, Vec<&'static str>) {
    (answer.status, answer.body.clone(), answer.headers.iter().map(|(name, _)| *name).collect())
}

#[tokio::test]
async fn an_unknown_name_and_a_wrong_secret_look_alike() {
    let server = userpass().await;
    let (wrong, unknown) = (try_user(&server, "bob", "wrong").await, try_user(&server, "nobody", "wrong").await);
    assert_eq!(wrong.refused(400), WRONG_USER);
    assert_eq!(shape(&wrong), shape(&unknown));
    let (server, role_id) = approle(server, json!({})).await;
    let (wrong, unknown) = (log_in(&server, &role_id, "wrong").await, log_in(&server, "nobody", "wrong").await);
    assert_eq!(wrong.refused(400), WRONG_ROLE);
    assert_eq!(shape(&wrong), shape(&unknown));
}

#[tokio::test]
async fn who_guesses_is_locked_out_for_a_while_and_seen_and_let_in_again() {
    let server = userpass().await;
    for name in ["bob", "nobody"] {
        for _ in 0..5 {
            assert_eq!(try_user(&server, name, "wrong").await.refused(400), WRONG_USER);
        }
        // Locked or not cannot be told from unknown: both names are refused alike.
        assert_eq!(try_user(&server, name, "right").await.refused(403), "permission denied");
    }
    let seen = server.get("sys/locked-users").await.ok();
    assert_eq!(seen["data"]["total"], 2);
    let mount = &seen["data"]["by_namespace"][0]["mount_accessors"][0];
    assert_eq!(mount["alias_identifiers"], json!(["bob", "nobody"]));
    let accessor = mount["mount_accessor"].as_str().unwrap();
    server.put(&format!("sys/locked-users/{accessor}/unlock/bob"), Value::Null).await.ok();
    try_user(&server, "BOB", "right").await.ok();
    for _ in 0..5 {
        try_user(&server, "Bob", "wrong").await.refused(400);
    }
    assert_eq!(try_user(&server, "bob", "right").await.status, 403, "case does not matter");
    server.seconds(900).await;
    try_user(&server, "bob", "right").await.ok();
    server.put("sys/auth/up/tune", json!({ "user_lockout_config": { "lockout_disable": true } })).await.ok();
    for _ in 0..9 {
        assert_eq!(try_user(&server, "bob", "wrong").await.refused(400), WRONG_USER);
    }
    try_user(&server, "bob", "right").await.ok();
}

/// Story: a clock that was put on let in at once whoever had been locked out, and one that was put back kept people out for as long.
#[tokio::test]
async fn a_lockout_lasts_as_long_whoever_sets_the_clock() {
    for by in [86_400, -86_400] {
        let server = userpass().await;
        for _ in 0..5 {
            try_user(&server, "bob", "wrong").await.refused(400);
        }
        server.clock().jump_to(Timestamp::from_seconds(server.clock().now().seconds() + by));
        server.seconds(899).await;
        assert_eq!(try_user(&server, "bob", "right").await.status, 403, "{by}");
        server.seconds(1).await;
        try_user(&server, "bob", "right").await.ok();
    }
}

/// Story: each made-up role id stood in the lock-out table as it was sent, up to 4 KiB long, and nothing took it out again: a hundred thousand of them took half
/// a gigabyte.
#[tokio::test]
async fn a_long_name_is_locked_out_under_its_hash_and_let_in_by_either() {
    let (server, _) = approle(TestServer::start().await, json!({})).await;
    let long = "r".repeat(129);
    server.put("auth/approle/role/r/role-id", json!({ "role_id": long })).await.ok();
    let secret = secret_id(&server, json!({})).await;
    let lock = async || {
        for _ in 0..5 {
            assert_eq!(log_in(&server, &long, "wrong").await.refused(400), WRONG_ROLE);
        }
        assert_eq!(log_in(&server, &long, &secret).await.status, 403);
        let seen = server.get("sys/locked-users").await.ok();
        let mount = &seen["data"]["by_namespace"][0]["mount_accessors"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&mount["mount_accessor"]), text(&mount["alias_identifiers"][0]))
    };
    let (accessor, shown) = lock().await;
    assert!(shown.starts_with("sha256:") && shown.len() == 71, "{shown}");
    server.put(&format!("sys/locked-users/{accessor}/unlock/{long}"), Value::Null).await.ok();
    log_in(&server, &long, &secret).await.ok();
    let (accessor, shown) = lock().await;
    server.put(&format!("sys/locked-users/{accessor}/unlock/{shown}"), Value::Null).await.ok();
    log_in(&server, &long, &secret).await.ok();
}

/// Story: of the numbers of a lock-out those that were not said became 0. A mount that was told the threshold alone locked nobody out any more, and one
/// that was told how long alone locked out whoever mistyped once.
#[tokio::test]
async fn what_is_not_said_of_a_lockout_is_as_usual() {
    for (said, guesses, locked_for) in [
        (json!({ "lockout_disable": false }), 5, 900),
        (json!({ "lockout_threshold": 3 }), 3, 900),
        (json!({ "lockout_duration": "60s" }), 5, 60),
        (json!({ "lockout_counter_reset_duration": "60s" }), 5, 900),
        (json!({ "lockout_threshold": 0, "lockout_duration": 0 }), 5, 900),
    ] {
        let server = userpass().await;
        server.put("sys/auth/up/tune", json!({ "user_lockout_config": said })).await.ok();
        for _ in 0..guesses {
            assert_eq!(try_user(&server, "bob", "wrong").await.refused(400), WRONG_USER, "{said}");
        }
        assert_eq!(try_user(&server, "bob", "right").await.status, 403, "{said}");
        server.seconds(locked_for - 1).await;
        assert_eq!(try_user(&server, "bob", "right").await.status, 403, "{said}");
        server.seconds(1).await;
        try_user(&server, "bob", "right").await.ok();
    }
    // The same when the mount is made; what was not said is shown as nothing, as Vault does.
    let server = TestServer::start().await;
    let config = json!({ "user_lockout_config": { "lockout_threshold": 2 } });
    server.put("sys/auth/up", json!({ "type": "userpass", "config": config })).await.ok();
    server.put("auth/up/users/bob", json!({ "password": "right" })).await.ok();
    let shown = server.get("sys/auth/up/tune").await.ok();
    assert_eq!((shown.number("/data/user_lockout_threshold"), shown.number("/data/user_lockout_duration")), (2, 0));
    for _ in 0..2 {
        try_user(&server, "bob", "wrong").await.refused(400);
    }
    assert_eq!(try_user(&server, "bob", "right").await.status, 403);
}

/// Story: a quota of a path was compared letter by letter, and the method does not: a login as `ZED` was not counted with those as `zed`.
#[tokio::test]
async fn a_quota_of_a_login_counts_it_however_the_user_is_spelled() {
    let server = userpass().await;
    server.put("sys/quotas/rate-limit/one", json!({ "path": "auth/up/login/Bob", "rate": 2, "interval": "1h" })).await.ok();
    server.put("sys/quotas/rate-limit/some", json!({ "path": "auth/up/login/z*", "rate": 2, "interval": "1h" })).await.ok();
    for [one, other] in [["bob", "BOB"], ["zed", "ZED"]] {
        for name in [one, other] {
            assert_ne!(try_user(&server, name, "right").await.status, 429, "{name}");
        }
        for name in [one, other] {
            assert!(try_user(&server, name, "right").await.refused(429).ends_with("rate limit quota exceeded"), "{name}");
        }
    }
    assert_eq!(try_user(&server, "ann", "right").await.refused(400), WRONG_USER);
    // Who wants both spellings counted apart says so.
    server.put("sys/quotas/rate-limit/apart", json!({ "path": "auth/up/login/BOB", "rate": 1, "interval": "1h" })).await.ok();
    try_user(&server, "BOB", "right").await.ok();
    assert_eq!([try_user(&server, "BOB", "right").await.status, try_user(&server, "bob", "right").await.status], [429, 429]);
}

#[tokio::test]
async fn a_renewal_asks_whether_the_user_may_still_have_what_the_token_has() {
    let server = userpass().await;
    let token = try_user(&server, "bob", "right").await.ok().token();
    let renew = || server.put("auth/token/renew-self", json!({})).token(&token);
    renew().await.ok();
    server.put("auth/up/users/bob/policies", json!({ "token_policies": "p,more" })).await.ok();
    assert!(renew().await.refused(400).contains("policies have changed, not renewing"));
    server.delete("auth/up/users/bob").await.ok();
    renew().await;
    assert_eq!(server.status_of(&token).await, 200, "it keeps the end that it has");
    assert_eq!(try_user(&server, "bob", "right").await.refused(400), WRONG_USER);
}

/// Every guess was looked at before any of them was counted: sixty-four at once got sixty-four tries where five are allowed. Now a guess counts
/// before it is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guesses_that_come_together_get_no_further_than_one_after_the_other() {
    let server = userpass().await;
    let asked: Vec<_> = (0..64).map(|n| tokio::spawn(try_user(&server, "bob", &format!("guess-{n}")).into_future())).collect();
    let (mut looked_at, mut locked_out) = (0, 0);
    for answer in asked {
        let answer = answer.await.unwrap();
        match answer.status {
            400 if answer.refused(400) == WRONG_USER => looked_at += 1,
            403 => locked_out += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!((looked_at, locked_out), (5, 59));
    assert_eq!(try_user(&server, "bob", "right").await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn good_logins_that_come_together_all_get_in_also_after_failures() {
    let (server, role_id) = approle(TestServer::start().await, json!({ "token_ttl": "5m" })).await;
    let secret = secret_id(&server, json!({})).await;
    for _ in 0..4 {
        assert_eq!(log_in(&server, &role_id, "wrong").await.refused(400), WRONG_ROLE);
    }
    let asked: Vec<_> = (0..64).map(|_| tokio::spawn(log_in(&server, &role_id, &secret).into_future())).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

/// Story: thousands of logins with made-up names waited for their passwords to be hashed, each with one of the turns that a listener has for all its requests.
#[tokio::test]
async fn a_flood_of_logins_is_told_to_come_again_and_takes_neither_places_nor_names_of_others() {
    let server = userpass().await;
    let asked = |name: &str, address: &str| tokio::spawn(try_user(&server, name, "right").from(address).into_future());
    let flood: Vec<_> = (0..140).map(|n| asked(&format!("nobody-{n}"), "192.0.2.1")).collect();
    let from_there: Vec<_> = (0..10).map(|_| asked("bob", "192.0.2.1")).collect();
    try_user(&server, "bob", "right").from("192.0.2.2").await.ok();
    let mut refused = 0;
    for answer in flood {
        let answer = answer.await.unwrap();
        if answer.status == 429 {
            assert!(answer.refused(429).contains("96 from this address"), "{answer:?}");
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        } else {
            assert_eq!(answer.refused(400), WRONG_USER);
        }
    }
    assert!(refused > 0);
    for answer in from_there {
        let answer = answer.await.unwrap();
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
    }
    try_user(&server, "bob", "right").from("192.0.2.1").await.ok();
    assert_eq!(server.get("sys/locked-users").await.ok()["data"]["total"], json!(0), "nobody has failed often");
}
