//! Wrapped answers: fetched once, by one, in time.

use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

const INVALID: &str = "wrapping token is not valid or does not exist";

async fn server() -> TestServer {
    with_secret(TestServer::start().await).await
}

async fn with_secret(server: TestServer) -> TestServer {
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("kv/a", json!({ "x": "the secret" })).await.ok();
    server
}

/// Seen: now and then nobody got the answer. A loser that presented the spent token was itself taken for its last use, and tidied the
/// answer away before the winner had read it. Now only the request that spends a token tidies up, and the answer is read before.
async fn unwrapped_once(server: TestServer) {
    for round in 0..3 {
        let before = server.keys().await;
        let token = server.get("kv/a").wrap("60s").await.ok().wrapped();
        // Half of them in each of the two forms.
        let ask = |number: usize| match number % 2 {
            0 => server.put("sys/wrapping/unwrap", Value::Null).token(&token),
            _ => server.put("sys/wrapping/unwrap", json!({ "token": token })),
        };
        let asked: Vec<_> = (0..64).map(|number| tokio::spawn(ask(number).into_future())).collect();
        let mut secrets = Vec::new();
        for answer in asked {
            let answer = answer.await.unwrap();
            match answer.status {
                200 => secrets.push(answer.text("/data/x")),
                _ => assert_eq!(answer.refused(400), INVALID),
            }
        }
        assert_eq!(secrets, ["the secret"], "round {round}");
        assert_eq!(server.keys().await, before, "nothing is left of it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixty_four_who_unwrap_one_gets_the_answer() {
    unwrapped_once(server().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixty_four_who_unwrap_one_gets_the_answer_from_a_disk() {
    unwrapped_once(with_secret(Setup::default().on_disk().start().await).await).await;
}

#[tokio::test]
async fn an_answer_comes_out_as_it_went_in() {
    let server = server().await;
    server.mount_aws("cdp/aws/staging").await;
    let wrapped = server.put("cdp/aws/staging/sts/deploy", json!({ "ttl": "60m" })).wrap("5m").await.ok();
    assert_eq!(wrapped["data"], Value::Null);
    assert_eq!((wrapped["lease_id"].clone(), wrapped["wrap_info"]["ttl"].clone()), (json!(""), json!(300)));
    assert_eq!(wrapped.text("/wrap_info/creation_path"), "cdp/aws/staging/sts/deploy");
    let looked = server.put("sys/wrapping/lookup", json!({ "token": wrapped.wrapped() })).nobody().await.ok();
    assert_eq!(looked["data"]["creation_path"], "cdp/aws/staging/sts/deploy");
    server.seconds(299).await;
    let answer = server.put("sys/wrapping/unwrap", Value::Null).token(&wrapped.wrapped()).await.ok();
    assert!(answer.text("/data/access_key").starts_with("ASIAFAKE"));
    assert_eq!(answer.number("/lease_duration"), 3600);
    // The lease is that of the token which asked, not of the wrapping token: it goes on.
    let lease = server.put("sys/leases/lookup", json!({ "lease_id": answer.lease() })).await.ok();
    assert_eq!(lease.number("/data/ttl"), 3600 - 299);
}

#[tokio::test]
async fn a_wrapped_login_names_its_accessor_and_its_token_works() {
    let server = server().await;
    let wrapped = server.put("auth/token/create", json!({ "ttl": "1h" })).wrap("60s").await.ok();
    let accessor = wrapped.text("/wrap_info/wrapped_accessor");
    let inner = server.put("sys/wrapping/unwrap", Value::Null).token(&wrapped.wrapped()).await.ok();
    assert_eq!(inner.text("/auth/accessor"), accessor);
    assert_eq!(server.status_of(&inner.token()).await, 200);
}

/// Seen: an expiry entry was left where the worker came later than the end to the second. A revocation made an entry of its own for the
/// moment it began, and forgot that. Now the row says under which entry it stands.
#[tokio::test]
async fn nobody_unwraps_too_late_and_nothing_is_left() {
    let server = server().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let token = server.get("kv/a").wrap("60s").await.ok().wrapped();
    server.clock().advance(std::time::Duration::from_mins(1));
    for path in ["unwrap", "lookup", "rewrap"] {
        assert_eq!(server.put(&format!("sys/wrapping/{path}"), json!({ "token": token })).await.refused(400), INVALID, "{path}");
    }
    server.work().await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

#[tokio::test]
async fn rewrapping_spends_the_old_token_and_starts_its_time_anew() {
    let server = server().await;
    let first = server.get("kv/a").wrap("60s").await.ok().wrapped();
    server.seconds(50).await;
    let again = server.put("sys/wrapping/rewrap", Value::Null).token(&first).await.ok();
    assert_eq!((again.number("/wrap_info/ttl"), again.text("/wrap_info/creation_path")), (60, "kv/a".to_owned()));
    assert_eq!(server.put("sys/wrapping/unwrap", Value::Null).token(&first).await.refused(400), INVALID);
    server.seconds(50).await;
    let answer = server.put("sys/wrapping/unwrap", Value::Null).token(&again.wrapped()).await.ok();
    assert_eq!(answer.text("/data/x"), "the secret");
}

#[tokio::test]
async fn a_stolen_wrapping_token_is_good_for_nothing_else_and_spent_by_trying() {
    let server = server().await;
    for path in ["kv/a", "auth/token/lookup-self", "sys/mounts", "cubbyhole/wrapinfo", "no/such/mount"] {
        let token = server.get("kv/a").wrap("60s").await.ok().wrapped();
        assert_eq!(server.get(path).token(&token).await.status, 403, "{path}");
        // Whose token it was learns of the theft.
        assert_eq!(server.put("sys/wrapping/unwrap", Value::Null).token(&token).await.refused(400), INVALID, "{path}");
        assert_eq!(server.put("sys/wrapping/lookup", json!({ "token": token })).await.refused(400), INVALID, "{path}");
    }
}

#[tokio::test]
async fn a_wrapping_token_neither_renews_nor_makes_tokens() {
    let server = server().await;
    for path in ["auth/token/renew-self", "auth/token/create", "sys/wrapping/wrap"] {
        let token = server.get("kv/a").wrap("60s").await.ok().wrapped();
        assert_eq!(server.put(path, json!({ "x": "1" })).token(&token).wrap("60s").await.status, 403, "{path}");
    }
    let token = server.get("kv/a").wrap("60s").await.ok().wrapped();
    assert_eq!(server.put("auth/token/renew", json!({ "token": token, "increment": "9h" })).await.refused(400), "lease is not renewable");
}

#[tokio::test]
async fn no_other_token_is_taken_for_a_wrapping_token() {
    let server = server().await;
    let one_use = server.token(json!({ "num_uses": 1, "policies": ["default"] })).await;
    let batch = server.token(json!({ "type": "batch", "policies": ["default"], "ttl": "1h" })).await;
    for token in [server.root(), &one_use, &batch, "hvs.nonsense", "made-up"] {
        assert_eq!(server.put("sys/wrapping/unwrap", json!({ "token": token })).await.refused(400), INVALID, "{token}");
    }
    assert_eq!(server.status_of(&one_use).await, 200, "trying did not spend it");
}

#[tokio::test]
async fn refusals_and_empty_answers_are_not_wrapped() {
    let server = server().await;
    assert_eq!(server.get("kv/none").wrap("60s").await.status, 404);
    assert_eq!(server.put("kv/b", json!({ "x": 1 })).wrap("60s").await.status, 204);
    assert_eq!(server.get("kv/a").token("wrong").wrap("60s").await.status, 403);
    for ttl in ["-1s", "never"] {
        assert_eq!(server.get("kv/a").wrap(ttl).await.status, 400, "{ttl}");
    }
}
