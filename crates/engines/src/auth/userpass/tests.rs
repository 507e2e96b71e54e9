use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Waker};

use daypass_sdk::{BoxFuture, Error, Kind, Operation, Reply, Result, Seconds};
use serde_json::{Value, json};

use super::Userpass;
use super::password::Cost;
use crate::testing::Send::{Body, Core};
use crate::testing::{Bench, replay};

fn bench() -> Bench {
    Bench::new(Userpass::default(), "auth/userpass/", "userpass")
}

fn password(text: &str) -> Value {
    json!({ "password": text })
}

#[tokio::test]
async fn recorded_answers_come_back() {
    let none = || Body(Value::Null);
    let mut sends = vec![none(), none()];
    sends.push(Body(json!({"password": "s3cret", "token_policies": "default,a-p", "token_ttl": "10m", "token_max_ttl": "1h"})));
    sends.extend([none(), none()]);
    sends.extend((0..3).map(|_| Body(password("s3cret"))));
    sends.extend([Body(password("wrong")), Body(password("")), Body(json!({})), Body(json!({"password": 5})), Body(password("x"))]);
    sends.extend([Body(password("changed")), Body(password("s3cret")), Body(password("changed"))]);
    sends.extend([Body(json!({"token_policies": ["default"]})), none(), Body(password("x")), Body(json!({}))]);
    sends.extend((0..3).map(|_| Body(password("x"))));
    for body in [
        json!({}),
        password(""),
        json!({"password": "x", "token_ttl": "abc"}),
        json!({"password": "x", "token_type": "odd"}),
        json!({"password": "x", "token_bound_cidrs": "bad"}),
        json!({"password_hash": "notahash"}),
        json!({"password": "x", "token_ttl": "2h", "token_max_ttl": "1h"}),
    ] {
        sends.push(Body(body));
    }
    sends.extend([none(), none(), none(), Body(password("changed"))]);
    sends.extend([Core, Core]); // a login by GET and one without a name: refused before any engine is asked
    // The recording's own policy sorted before `default`.
    let recorded = include_str!("../../../../testkit/recorded/userpass-flow.json").replace("{{id}}-p", "a-p");
    replay(&bench(), &recorded, "auth/{{id}}/", sends).await;
}

#[tokio::test]
async fn a_brought_bcrypt_hash_logs_in() {
    let bench = bench();
    let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    assert_eq!(bench.call("POST", "users/u", json!({ "password_hash": hash })).await.status, 204);
    assert_eq!(bench.call("POST", "login/u", password("U*U")).await.status, 200);
    assert_eq!(bench.call("POST", "login/u", password("U*V")).await.status, 400);
    let both = bench.call("POST", "users/u", json!({"password_hash": hash, "password": "x"})).await;
    assert_eq!(both.body["errors"][0], json!("\"password\" and \"password_hash\" cannot be supplied together"));
}

#[tokio::test]
async fn the_older_names_of_fields_work_and_are_shown_again() {
    let bench = bench();
    bench
        .call("POST", "users/u", json!({"password": "x", "policies": "a,b", "ttl": "1h", "max_ttl": "2h", "bound_cidrs": "10.0.0.0/8"}))
        .await;
    let shown = bench.call("GET", "users/U", Value::Null).await.body["data"].clone();
    assert_eq!((&shown["policies"], &shown["token_policies"]), (&json!(["a", "b"]), &json!(["a", "b"])));
    assert_eq!((&shown["ttl"], &shown["token_ttl"], &shown["max_ttl"]), (&json!(3600), &json!(3600), &json!(7200)));
    assert_eq!((&shown["bound_cidrs"], &shown["token_bound_cidrs"]), (&json!(["10.0.0.0/8"]), &json!(["10.0.0.0/8"])));
    bench.call("POST", "users/u", json!({"token_ttl": "30m"})).await;
    let shown = bench.call("GET", "users/u", Value::Null).await.body["data"].clone();
    assert_eq!((shown.get("ttl"), &shown["token_ttl"], &shown["policies"]), (None, &json!(1800), &json!(["a", "b"])));
}

#[tokio::test]
async fn renewal_follows_the_user() {
    let bench = bench();
    bench.call("POST", "users/u", json!({"password": "x", "token_policies": "a", "token_ttl": "10m", "token_max_ttl": "20m"})).await;
    let internal = json!({"username": "u", "policies": ["default", "A"]});
    let renew = |internal: Value| bench.mounted.renew_login(bench.cx("", Operation::Update), internal);
    let renewal = renew(internal.clone()).await.unwrap();
    assert_eq!((renewal.terms.ttl, renewal.terms.max_ttl, renewal.period), (Seconds(600), Seconds(1200), Seconds::ZERO));
    bench.call("POST", "users/u/policies", json!({"policies": "a,b"})).await;
    assert_eq!(renew(internal.clone()).await.unwrap_err().message, "policies have changed, not renewing");
    bench.call("DELETE", "users/u", Value::Null).await;
    assert_eq!(renew(internal).await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test]
async fn the_core_learns_who_tried_and_what_counts_as_a_failure() {
    let bench = bench();
    bench.call("POST", "users/u", password("x")).await;
    let alias = |below: &str| bench.mounted.login_alias(below, &serde_json::Map::new());
    assert_eq!((alias("login/Bob").as_deref(), alias("login/"), alias("users/bob")), (Some("bob"), None, None));
    for (name, text, counts) in [("u", "wrong", true), ("nobody", "x", true), ("u", "", false)] {
        let found = bench.mounted.find(&format!("login/{name}")).unwrap();
        let fields = serde_json::Map::from_iter([("password".to_owned(), json!(text))]);
        let input = daypass_sdk::Input { fields, captures: found.captures.clone() };
        let error = bench.mounted.run(&found, bench.cx("login/x", Operation::Update), Operation::Update, input).await.unwrap_err();
        assert_eq!(error.wrong_credentials, counts, "{name} {text:?}");
    }
}

#[tokio::test]
async fn nothing_stored_or_shown_holds_a_password() {
    let bench = bench();
    bench.call("POST", "users/u", password("correct horse")).await;
    let store = bench.cx("", Operation::Read).store;
    let stored = String::from_utf8(store.get("user/u").await.unwrap().unwrap().value).unwrap();
    assert!(stored.contains("$argon2id$v=19$m=19456,t=2,p=1$") && !stored.contains("correct horse"));
    assert!(!bench.call("GET", "users/u", Value::Null).await.body.to_string().contains("argon2"));
    assert_eq!(bench.call("POST", "users/u", password(&"x".repeat(5000))).await.status, 400);
    assert_eq!(bench.call("POST", "login/u", password(&"x".repeat(5000))).await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_logins_at_once_wait_for_their_turn() {
    let bench = Arc::new(bench());
    bench.call("POST", "users/u", password("x")).await;
    let logins: Vec<_> = (0..8)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.call("POST", "login/u", password("x")).await.status })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), 200);
    }
}

/// A user's hash may be argon2id or a bcrypt of any cost, and what it costs to verify can be told from outside. A name that nobody has costs
/// what one of them does, and always the same one.
#[tokio::test]
async fn a_login_of_nobody_costs_as_much_as_one_of_somebody() {
    let userpass = Userpass::default();
    let hashing = Arc::clone(&userpass.hashing);
    let bench = Bench::new(userpass, "auth/userpass/", "userpass");
    let spent = || std::mem::take(&mut *hashing.spent.lock());
    bench.call("POST", "users/ours", password("right")).await;
    for user in ["ours", "nobody"] {
        assert_eq!(bench.call("POST", &format!("login/{user}"), password("wrong")).await.status, 400);
        assert_eq!(spent(), [Cost::Argon2], "{user}");
    }
    let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    bench.call("POST", "users/brought", json!({ "password_hash": hash })).await;
    bench.call("POST", "login/brought", password("wrong")).await;
    assert_eq!(spent(), [Cost::Bcrypt(5)]);
    let mut seen = Vec::new();
    for number in 0..12 {
        let name = format!("login/nobody-{number}");
        bench.call("POST", &name, password("wrong")).await;
        bench.call("POST", &name, password("wrong")).await;
        let both = spent();
        assert_eq!((both.len(), both[0]), (2, both[1]), "{name}");
        seen.push(both[0]);
    }
    assert!(seen.contains(&Cost::Argon2) && seen.contains(&Cost::Bcrypt(5)), "{seen:?}");
}

/// A login from an address, as the core sees it.
fn login_from(bench: &Bench, last: u8, name: &str) -> BoxFuture<'static, Result<Reply>> {
    let below = format!("login/{name}");
    let found = bench.mounted.find(&below).unwrap();
    let mut cx = bench.cx(&below, Operation::Update);
    Arc::make_mut(&mut cx.request).remote = Some(IpAddr::from([192, 0, 2, last]));
    let fields = serde_json::Map::from_iter([("password".to_owned(), json!("x"))]);
    let input = daypass_sdk::Input { fields, captures: found.captures.clone() };
    bench.mounted.run(&found, cx, Operation::Update, input)
}

/// Story: there was no end to the logins that waited for their password to be hashed. Four thousand of them, with made-up names, took all the turns of a
/// listener for a minute, and mints and health checks were answered 503.
#[tokio::test]
async fn a_login_that_finds_too_many_is_told_to_come_again_and_has_not_failed() {
    let make = Userpass::maker();
    let (userpass, elsewhere) = (make(), Bench::new(make(), "auth/other/", "userpass"));
    let hashing = Arc::clone(&userpass.hashing);
    let bench = Bench::new(userpass, "auth/userpass/", "userpass");
    bench.call("POST", "users/u", password("x")).await;
    let nothing_is_hashed = hashing.turns.hold(4).await;
    let refused = |error: Error| {
        assert_eq!((error.kind, error.retry_after, error.wrong_credentials), (Kind::TooMany, Seconds(1), false));
        assert!(error.message.starts_with("256 requests have passwords hashed or wait for that, or 96 from this address"), "{error}");
    };
    let mut waiting = Vec::new();
    // Story: places were 80, and 20 for one address: of 30 builds that began at once ten were refused.
    for (last, places) in [(1, 96), (2, 96), (3, 64)] {
        for number in 0..places {
            let mut one = login_from(&bench, last, &format!("nobody-{number}"));
            assert!(one.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            waiting.push(one);
        }
        // Also one who has the right password: nothing was looked at.
        refused(login_from(&bench, last, "u").await.err().unwrap());
    }
    refused(login_from(&bench, 5, "u").await.err().unwrap());
    refused(login_from(&elsewhere, 5, "u").await.err().unwrap());
    drop(nothing_is_hashed);
    waiting.truncate(20);
    for one in waiting {
        assert!(one.await.err().unwrap().wrong_credentials);
    }
    assert!(login_from(&bench, 1, "u").await.is_ok());
}
