//! Wrapped answers: fetched once, by one, in time.

use std::time::Duration;

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
    let again = server.put("sys/wrapping/rewrap", json!({ "token": first })).await.ok();
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

async fn wrapped(server: &TestServer) -> String {
    server.get("kv/a").wrap("60s").await.ok().wrapped()
}

/// Story: whoever held a wrapping token could wrap its answer anew for the whole time, again and again, and needed no other token. Now policies
/// decide who may; neither `default` nor the wrapping token's own says so.
#[tokio::test]
async fn holding_a_wrapping_token_is_no_right_to_wrap_anew() {
    let server = server().await;
    server.policy("rewraps", r#"path "sys/wrapping/rewrap" { capabilities = ["update"] }"#).await;
    let token = wrapped(&server).await;
    let rewrap = |fields: Value| server.put("sys/wrapping/rewrap", fields);
    assert_eq!(rewrap(json!({ "token": token })).nobody().await.refused(403), "permission denied");
    let holder = server.token(json!({ "policies": ["default"] })).await;
    assert_eq!(rewrap(json!({ "token": token })).token(&holder).await.status, 403);
    let may = server.token(json!({ "policies": ["rewraps"] })).await;
    let again = rewrap(json!({ "token": token })).token(&may).await.ok().wrapped();
    for fields in [Value::Null, json!({ "token": again })] {
        assert_eq!(rewrap(fields).token(&again).await.status, 403);
        assert_eq!(server.put("sys/wrapping/unwrap", json!({ "token": again })).await.refused(400), INVALID, "spent by trying");
    }
}

/// Story: a wrapping token in the body was all that counted: a policy that denied the path, a token that was made up, one from another network
/// and one without uses left were as good as any.
#[tokio::test]
async fn whoever_names_a_wrapping_token_is_judged() {
    let server = server().await;
    server.policy("denies", r#"path "sys/wrapping/unwrap" { capabilities = ["deny"] }"#).await;
    server.put("auth/token/roles/inside", json!({ "token_bound_cidrs": "10.1.0.0/16" })).await.ok();
    let denied = server.token(json!({ "policies": ["default", "denies"] })).await;
    let bare = server.token(json!({ "policies": ["none"], "no_default_policy": true })).await;
    let inside = server.put("auth/token/create/inside", json!({ "policies": ["default"] })).await.ok().token();
    let once = server.token(json!({ "policies": ["default"], "num_uses": 1 })).await;
    let over = server.token(json!({ "policies": ["default"], "ttl": "10s" })).await;
    server.seconds(10).await;
    let token = wrapped(&server).await;
    let unwrap = |fields: Value| server.put("sys/wrapping/unwrap", fields);
    let made_up = "hvs.none".to_owned();
    for (what, caller) in [("denied", &denied), ("bare", &bare), ("outside", &inside), ("over", &over), ("made up", &made_up)] {
        assert_eq!(unwrap(json!({ "token": token })).token(caller).from("192.0.2.1").await.status, 403, "{what}");
    }
    for named in [json!(token), json!([token]), json!({ "x": token }), json!(5), json!(true)] {
        assert_eq!(unwrap(json!({ "token": named })).nobody().await.refused(403), "permission denied", "{named}");
    }
    for (caller, told) in [(&denied, "deny"), (&bare, "deny"), (&once, "update")] {
        let asked = json!({ "token": caller, "paths": ["sys/wrapping/unwrap"] });
        assert_eq!(server.put("sys/capabilities", asked).await.ok().text("/data/capabilities/0"), told);
    }
    assert_eq!(unwrap(json!({ "token": token })).token(&once).await.ok().text("/data/x"), "the secret");
    assert_eq!(server.status_of(&once).await, 403, "that was its use");
}

/// In Vault one that is presented and named at once is spent for nothing.
#[tokio::test]
async fn a_wrapping_token_that_is_presented_needs_no_other_right() {
    let server = server().await;
    for form in 0..5 {
        let token = wrapped(&server).await;
        let fields = match form {
            0 => Value::Null,
            1 => json!({}),
            2 => json!({ "token": "" }),
            3 => json!({ "token": null }),
            _ => json!({ "token": token }),
        };
        assert_eq!(server.put("sys/wrapping/unwrap", fields).token(&token).await.ok().text("/data/x"), "the secret", "{form}");
    }
    // One wrapping token presented for another is a caller as any: judged, and used up.
    let (presented, named) = (wrapped(&server).await, wrapped(&server).await);
    let opened = server.put("sys/wrapping/unwrap", json!({ "token": named })).token(&presented).await.ok();
    assert_eq!(opened.text("/data/x"), "the secret");
    assert_eq!(server.put("sys/wrapping/unwrap", Value::Null).token(&presented).await.refused(400), INVALID);
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

/// Story: a duration below one second was rounded down to none, and no duration means no wrapping: the secret came in clear.
#[tokio::test]
async fn less_than_a_second_is_a_second_and_none_is_no_wrapping() {
    let server = server().await;
    for ttl in ["900ms", "0.5s", "1ns"] {
        let wrapped = server.get("kv/a").wrap(ttl).await.ok();
        assert_eq!((wrapped["data"].clone(), wrapped.number("/wrap_info/ttl")), (Value::Null, 1), "{ttl}");
        let inner = server.put("sys/wrapping/unwrap", json!({ "token": wrapped.wrapped() })).await.ok();
        assert_eq!(inner.text("/data/x"), "the secret");
    }
    for ttl in ["0", "0s", "-0s"] {
        assert_eq!(server.get("kv/a").wrap(ttl).await.ok().text("/data/x"), "the secret", "{ttl}");
    }
}

/// Story: only answers in the envelope were wrapped. What `unwrap` answers is put together elsewhere, so a client that wanted it wrapped
/// again got it in clear.
#[tokio::test]
async fn what_is_unwrapped_can_be_wrapped_again() {
    let server = server().await;
    for (given, by_itself) in [("kv/a", false), ("kv/a", true)] {
        let before = server.keys().await;
        let first = server.get(given).wrap("60s").await.ok().wrapped();
        let ask = if by_itself {
            server.put("sys/wrapping/unwrap", Value::Null).token(&first)
        } else {
            server.put("sys/wrapping/unwrap", json!({ "token": first }))
        };
        let again = ask.wrap("30s").await.ok();
        assert!(!again.body.to_string().contains("the secret"), "{again:?}");
        assert_eq!((again.text("/wrap_info/creation_path"), again.number("/wrap_info/ttl")), ("sys/wrapping/unwrap".to_owned(), 30));
        assert_eq!(server.put("sys/wrapping/unwrap", json!({ "token": first })).wrap("30s").await.refused(400), INVALID);
        let inner = server.put("sys/wrapping/unwrap", json!({ "token": again.wrapped() })).await.ok();
        assert_eq!((inner.text("/data/x"), inner["wrap_info"].clone()), ("the secret".to_owned(), Value::Null));
        assert_eq!(server.keys().await, before, "nothing is left of it");
    }
}

#[tokio::test]
async fn a_look_at_a_wrapping_token_can_be_wrapped_too() {
    let server = server().await;
    let token = server.get("kv/a").wrap("60s").await.ok().wrapped();
    let wrapped = server.put("sys/wrapping/lookup", json!({ "token": token })).nobody().wrap("60s").await.ok();
    let inner = server.put("sys/wrapping/unwrap", json!({ "token": wrapped.wrapped() })).await.ok();
    assert_eq!(inner.text("/data/creation_path"), "kv/a");
}

/// Story: whoever held a wrapping token of a minute could have any number of rows stored for the server's longest lease: a look at it spends nothing, and could be
/// wrapped for any time.
#[tokio::test]
async fn a_look_is_wrapped_for_no_longer_than_the_token_has_left() {
    let server = server().await;
    let before = server.keys().await;
    let token = server.get("kv/a").wrap("60s").await.ok().wrapped();
    let look = |token: &str| server.put("sys/wrapping/lookup", json!({ "token": token })).nobody();
    assert_eq!(look(&token).wrap("20s").await.ok().number("/wrap_info/ttl"), 20);
    server.seconds(10).await;
    let wrapped = look(&token).wrap("768h").await.ok();
    assert_eq!((wrapped.number("/wrap_info/ttl"), wrapped.text("/wrap_info/creation_path")), (50, "sys/wrapping/lookup".to_owned()));
    let itself = server.put("sys/wrapping/lookup", Value::Null).token(&token).wrap("768h").await.ok();
    assert_eq!(itself.number("/wrap_info/ttl"), 50);
    // What is wrapped can be looked at in its turn, and ends no later for that.
    let mut last = wrapped.wrapped();
    for left in [49, 48, 47] {
        server.clock().advance(Duration::from_millis(300));
        let wrapped = look(&last).wrap("768h").await.ok();
        assert_eq!(wrapped.number("/wrap_info/ttl"), left);
        last = wrapped.wrapped();
    }
    server.seconds(46).await;
    server.clock().advance(Duration::from_millis(300));
    assert!(look(&last).wrap("768h").await.refused(400).contains("less than a second left"));
    assert_eq!(look(&last).await.ok().number("/data/creation_ttl"), 47);
    server.seconds(60).await;
    server.work().await;
    assert_eq!(server.keys().await, before, "nothing is left of it");
}

/// Story: what a look gives was wrapped for no longer than the token has left, but with that, or with the token itself, `unwrap` and the cubbyhole gave one of any
/// time: whoever held a wrapping token of a minute had any number of rows stored for the server's longest lease again.
#[tokio::test]
async fn a_wrapping_token_gives_nothing_that_outlives_it() {
    let server = server().await;
    let before = server.keys().await;
    let first = wrapped(&server).await;
    server.seconds(10).await;
    let look = async || server.put("sys/wrapping/lookup", json!({ "token": first })).nobody().wrap("768h").await.ok().wrapped();
    let mut last = Vec::new();
    for form in 0..4 {
        let (presented, named) = (look().await, look().await);
        let ask = match form {
            0 => server.put("sys/wrapping/unwrap", Value::Null).token(&presented),
            1 => server.put("sys/wrapping/unwrap", json!({ "token": presented })).token(&presented),
            // One that is presented for another is a caller as any, but has no more to show than it is.
            2 => server.put("sys/wrapping/unwrap", json!({ "token": named })).token(&presented),
            _ => server.get("cubbyhole/response").token(&presented),
        };
        let again = ask.wrap("768h").await.ok();
        assert_eq!(again.number("/wrap_info/ttl"), 50, "{form}");
        last.push(again.wrapped());
    }
    // Again and again it ends no later, and a moment before the end it is given in clear alone.
    server.clock().advance(Duration::from_millis(300));
    let shorter = server.put("sys/wrapping/unwrap", Value::Null).token(&last[0]).wrap("768h").await.ok();
    assert_eq!(shorter.number("/wrap_info/ttl"), 49);
    let token = shorter.wrapped();
    server.seconds(48).await;
    server.clock().advance(Duration::from_millis(300));
    let ask = || server.put("sys/wrapping/unwrap", Value::Null).token(&token);
    assert!(ask().wrap("768h").await.refused(400).contains("less than a second left"));
    assert_eq!(ask().await.ok().text("/data/creation_path"), "kv/a");
    server.seconds(10).await;
    server.work().await;
    assert_eq!(server.keys().await, before, "nothing is left of it");
    // Whom a policy lets name one may have it for longer.
    let other = wrapped(&server).await;
    let holder = server.token(json!({ "policies": ["default"] })).await;
    let longer = server.put("sys/wrapping/unwrap", json!({ "token": other })).token(&holder).wrap("1h").await.ok();
    assert_eq!(longer.number("/wrap_info/ttl"), 3600);
}

/// What answers anybody is put away for who has a token all the same. One of few uses is not spent there, so that it would be good for any number.
#[tokio::test]
async fn what_needs_no_token_is_wrapped_for_a_good_one_alone() {
    let server = server().await;
    let path = "sys/internal/ui/mounts";
    let wrapped = server.get(path).wrap("60s").await.ok().wrapped();
    let inner = server.put("sys/wrapping/unwrap", json!({ "token": wrapped })).await.ok();
    assert_eq!(inner["data"]["secret"]["kv/"]["type"], "kv");
    let few = server.token(json!({ "policies": ["default"], "num_uses": 5 })).await;
    let ended = server.token(json!({ "policies": ["default"], "ttl": "1m" })).await;
    server.seconds(60).await;
    let before = server.keys().await;
    for token in [few.as_str(), ended.as_str(), "nonsense"] {
        assert!(server.get(path).token(token).wrap("60s").await.refused(400).contains("present a token"), "{token}");
    }
    assert_eq!(server.keys().await, before);
}

/// Story: a wrapping token could be had for centuries.
#[tokio::test]
async fn nothing_is_wrapped_for_longer_than_the_servers_longest_lease() {
    let server = server().await;
    assert_eq!(server.get("kv/a").wrap("768h").await.ok().number("/wrap_info/ttl"), 768 * 3600);
    for asked in ["876000h", "2764801"] {
        let refused = server.get("kv/a").wrap(asked).await;
        assert!(refused.refused(400).contains("over max_lease_ttl 768h of the server"), "{refused:?}");
    }
    let login = server.put("auth/token/create", json!({})).wrap("769h").await;
    assert_eq!(login.status, 400);
}

/// As OpenBao does it: the shorter of both times.
#[tokio::test]
async fn rewrapping_for_a_time_never_lengthens_it() {
    let server = server().await;
    for (asked, ttl) in [("5s", 5), ("5m", 60)] {
        let first = server.get("kv/a").wrap("60s").await.ok().wrapped();
        let again = server.put("sys/wrapping/rewrap", json!({ "token": first })).wrap(asked).await.ok();
        assert_eq!((again.number("/wrap_info/ttl"), again.text("/wrap_info/creation_path")), (ttl, "kv/a".to_owned()));
        let inner = server.put("sys/wrapping/unwrap", json!({ "token": again.wrapped() })).await.ok();
        assert_eq!(inner.text("/data/x"), "the secret", "it is wrapped once, not twice");
    }
}

/// A deleted version is a 404 that tells of it: the status is kept with it.
#[tokio::test]
async fn a_404_that_says_something_is_wrapped_with_its_status() {
    let server = server().await;
    server.put("sys/mounts/kv2", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    server.put("kv2/data/a", json!({ "data": { "x": "1" } })).await.ok();
    server.delete("kv2/data/a").await;
    let first = server.get("kv2/data/a").wrap("60s").await.ok();
    let again = server.put("sys/wrapping/rewrap", json!({ "token": first.wrapped() })).await.ok();
    let third = server.put("sys/wrapping/unwrap", json!({ "token": again.wrapped() })).wrap("60s").await.ok();
    let inner = server.put("sys/wrapping/unwrap", json!({ "token": third.wrapped() })).await;
    assert_eq!((inner.status, inner.number("/data/metadata/version")), (404, 1), "{inner:?}");
    assert_eq!(server.get("kv2/data/none").wrap("60s").await.status, 404, "one that says nothing is not");
}

/// Programs read them as they are, and nothing in them is secret: OpenBao leaves the header aside at most of them, too.
#[tokio::test]
async fn what_has_no_envelope_and_no_secret_is_sent_as_it_is() {
    let server = server().await;
    for path in ["sys/health", "sys/seal-status", "sys/leader", "sys/init", "sys/metrics", "sys/internal/specs/openapi", "kv/a?help=1"] {
        let answer = server.get(path).wrap("60s").await.ok();
        assert!(answer.body.is_object() && answer.body.get("wrap_info").is_none(), "{path}: {}", answer.body);
    }
    let (answer, archive) = server.get("sys/storage/snapshot").wrap("60s").download().await;
    assert_eq!((answer.status, archive.get(..2)), (200, Some(&[0x1f, 0x8b][..])), "sealed as the store is");
}
