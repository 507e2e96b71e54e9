use std::sync::Arc;

use daypass_sdk::{Kind, Operation, Seconds};
use serde_json::{Map, Value, json};

use super::AppRole;
use crate::testing::Send::{Body, Core};
use crate::testing::{Bench, replay};

fn bench() -> Bench {
    Bench::new(AppRole::default(), "auth/approle/", "approle")
}

/// A role with this name; its role id and a secret id.
async fn role(bench: &Bench, name: &str, fields: Value) -> (String, String) {
    assert_eq!(bench.call("POST", &format!("role/{name}"), fields).await.status, 204);
    let id = bench.call("GET", &format!("role/{name}/role-id"), Value::Null).await.body["data"]["role_id"].clone();
    let secret = bench.call("POST", &format!("role/{name}/secret-id"), json!({})).await.body["data"]["secret_id"].clone();
    (id.as_str().unwrap().to_owned(), secret.as_str().unwrap_or_default().to_owned())
}

async fn login(bench: &Bench, role_id: &str, secret_id: &str) -> crate::testing::Answer {
    bench.call("POST", "login", json!({"role_id": role_id, "secret_id": secret_id})).await
}

#[tokio::test]
async fn a_whole_life_as_recorded() {
    let bench = bench();
    bench.call("POST", "role/r", json!({
        "token_policies": ["default", "p"], "token_ttl": "20m", "token_max_ttl": "30m", "secret_id_ttl": "10m", "secret_id_num_uses": 5,
    })).await;
    let rid = bench.call("GET", "role/R/role-id", Value::Null).await.body["data"]["role_id"].clone();
    let made = bench.call("POST", "role/r/secret-id", json!({})).await.body["data"].clone();
    assert_eq!((&made["secret_id_num_uses"], &made["secret_id_ttl"]), (&json!(5), &json!(600)));
    let first = bench.call("POST", "login", json!({"role_id": rid, "secret_id": made["secret_id"]})).await;
    assert_eq!(first.body["auth"]["metadata"], json!({"role_name": "r"}));
    assert_eq!((&first.body["auth"]["policies"], &first.body["auth"]["lease_duration"]), (&json!(["default", "p"]), &json!(1200)));
    let looked = bench.call("POST", "role/r/secret-id/lookup", json!({"secret_id": made["secret_id"]})).await;
    let by_accessor =
        bench.call("POST", "role/r/secret-id-accessor/lookup", json!({"secret_id_accessor": made["secret_id_accessor"]})).await;
    assert_eq!((looked.status, &looked), (200, &by_accessor));
    assert_eq!((&looked.body["data"]["secret_id_num_uses"], &looked.body["data"]["cidr_list"]), (&json!(4), &json!([])));
    assert_eq!(bench.call("LIST", "role/r/secret-id", Value::Null).await.body["data"]["keys"], json!([made["secret_id_accessor"]]));
    for (body, status, text) in [
        (json!({"role_id": rid, "secret_id": "wrong"}), 400, "invalid role or secret ID"),
        (json!({"role_id": "wrong", "secret_id": made["secret_id"]}), 400, "invalid role or secret ID"),
        (json!({"role_id": rid}), 400, "missing secret_id"),
        (json!({"secret_id": made["secret_id"]}), 500, "failed to determine alias name from login request"),
        (json!({}), 500, "failed to determine alias name from login request"),
        (json!({"role_id": 5, "secret_id": made["secret_id"]}), 400, "invalid role or secret ID"),
    ] {
        let answer = bench.call("POST", "login", body.clone()).await;
        assert_eq!((answer.status, &answer.body["errors"][0]), (status, &json!(text)), "{body}");
    }
    let second = json!({"metadata": "{\"job\": \"build\"}", "cidr_list": ["127.0.0.1/32"], "num_uses": 1, "ttl": "5m"});
    let once = bench.call("POST", "role/r/secret-id", second).await.body["data"]["secret_id"].clone();
    let used = login(&bench, rid.as_str().unwrap(), once.as_str().unwrap()).await;
    assert_eq!(used.body["auth"]["metadata"], json!({"job": "build", "role_name": "r"}));
    assert_eq!(login(&bench, rid.as_str().unwrap(), once.as_str().unwrap()).await.status, 400);
    assert_eq!(bench.call("DELETE", "role/r", Value::Null).await.status, 204);
    assert_eq!(login(&bench, rid.as_str().unwrap(), made["secret_id"].as_str().unwrap()).await.status, 400);
}

/// The steps of `approle-flow` whose bodies do not hold ids that were just made.
#[tokio::test]
async fn recorded_refusals_come_back() {
    let bench = bench();
    role(&bench, "r", json!({"token_policies": "default", "secret_id_ttl": "10m", "secret_id_num_uses": 5})).await;
    let steps = [
        ("role/r/custom-secret-id", json!({"secret_id": "c", "token_bound_cidrs": "127.0.0.0/8"}), 22),
        ("role/r/custom-secret-id", json!({"secret_id": "c"}), 24),
        ("role/r/custom-secret-id", json!({}), 25),
        ("role/r/secret-id", json!({"metadata": "not json"}), 26),
        ("role/r/secret-id", json!({"cidr_list": "nope"}), 27),
        ("role/r/secret-id", json!({"ttl": "abc"}), 28),
        ("role/r/secret-id", json!({"num_uses": -1}), 29),
        ("role/r/secret-id", json!({"num_uses": 50}), 30),
        ("role/r/secret-id/destroy", json!({"secret_id": "c"}), 31),
        ("role/r/secret-id/lookup", json!({"secret_id": "c"}), 32),
        ("role/r/secret-id/lookup", json!({}), 33),
        ("role/r/secret-id-accessor/lookup", json!({"secret_id_accessor": "nothing"}), 34),
        ("role/none/secret-id", json!({}), 35),
        ("tidy/secret-id", json!({}), 40),
    ];
    let recorded: Value = serde_json::from_str(include_str!("../../../../testkit/recorded/approle-flow.json")).unwrap();
    for (path, body, step) in steps {
        let answer = bench.call("POST", path, body).await;
        let step = &recorded["steps"][step];
        assert_eq!(json!(answer.status), step["status"], "{path}");
        if answer.status == 200 {
            continue;
        }
        let expected = if step["body"] == json!({ "$empty": true }) { Value::Null } else { step["body"].clone() };
        assert_eq!(answer.body, expected, "{path}");
    }
    for step in [16, 43] {
        let method = if step == 43 { "GET" } else { "POST" };
        assert_eq!(bench.call(method, "login", Value::Null).await.body, recorded["steps"][step]["body"]);
    }
    assert_eq!(bench.call("GET", "role/none/role-id", Value::Null).await.body, recorded["steps"][36]["body"]);
}

#[tokio::test]
async fn recorded_role_fields_come_back() {
    let none = || Body(Value::Null);
    let mut sends = vec![Body(json!({})), none()];
    sends.push(Body(json!({
        "bind_secret_id": false, "secret_id_bound_cidrs": "127.0.0.0/8", "token_bound_cidrs": ["127.0.0.1/32"],
        "token_explicit_max_ttl": "1h", "token_no_default_policy": true, "token_num_uses": 4, "token_period": "5m", "token_type": "service",
        "token_policies": "a,b", "local_secret_ids": true, "role_id": "full-id",
    })));
    sends.extend([none(), Core]); // reads the random role id, which is fixed here
    sends.push(Body(json!({"role_id": "full-id"})));
    sends.extend((0..13).map(|_| none()));
    sends.extend([Body(json!({"token_ttl": "7m"})), none(), none()]);
    sends.extend([Body(json!({"role_id": "{{id}}-fixed"})), none(), Body(json!({"role_id": "{{id}}-fixed"}))]);
    for body in [
        json!({"bind_secret_id": false}),
        json!({"token_ttl": "2h", "token_max_ttl": "1h"}),
        json!({"token_type": "strange"}),
        json!({"token_type": "batch", "token_num_uses": 4}),
        json!({"token_type": "batch", "token_period": "1h"}),
        json!({"secret_id_bound_cidrs": "bad"}),
        json!({"token_bound_cidrs": "bad"}),
        json!({"secret_id_num_uses": -1}),
        json!({"secret_id_ttl": "-1m"}),
        json!({"policies": "x", "token_policies": "y"}),
        json!({"role_id": "{{id}}-own", "unknown": 1}),
        Value::Null,
        json!({"token_type": "batch", "token_ttl": "5m", "token_policies": "default"}),
    ] {
        sends.push(Body(body));
    }
    sends.extend([Core, Core, Core]); // random ids: the batch login is tested by name
    replay(&bench(), include_str!("../../../../testkit/recorded/approle-role-fields.json"), "auth/{{id}}/", sends).await;
}

/// Story: the networks of a secret id's tokens were shown without their `/32`, and a bare address was taken, where Vault keeps them as they are
/// written and wants CIDR form; a role took an empty role id as none, and kept `default-batch`, which nothing overrules.
#[tokio::test]
async fn what_vault_refuses_or_settles_is_refused_or_settled() {
    let bench = bench();
    bench.call("POST", "role/r", json!({"role_id": "mine"})).await;
    let made = bench.call("POST", "role/r/secret-id", json!({"token_bound_cidrs": "127.0.0.1/32,::1/128"})).await.body["data"].clone();
    let looked = bench.call("POST", "role/r/secret-id/lookup", json!({"secret_id": made["secret_id"]})).await;
    assert_eq!(looked.body["data"]["token_bound_cidrs"], json!(["127.0.0.1/32", "::1/128"]));
    let refused = bench.call("POST", "role/r/secret-id", json!({"token_bound_cidrs": "127.0.0.1"})).await;
    let text = "1 error occurred:\n\t* failed to validate token CIDR blocks: invalid CIDR address: 127.0.0.1\n\n";
    assert_eq!((refused.status, &refused.body["errors"][0]), (500, &json!(text)));
    for role in ["r", "new"] {
        let refused = bench.call("POST", &format!("role/{role}"), json!({"role_id": " "})).await;
        let text = "invalid role_id supplied, or failed to generate a role_id";
        assert_eq!((refused.status, &refused.body["errors"][0]), (400, &json!(text)), "{role}");
    }
    for (asked, kind, text) in [
        ("default-batch", "batch", "default-batch has no useful meaning; adjusting to batch"),
        ("default-service", "service", "default-service has no useful meaning; adjusting to service"),
    ] {
        assert_eq!(bench.call("POST", "role/r", json!({"token_type": asked})).await.body["warnings"], json!([text]));
        assert_eq!(bench.call("GET", "role/r", Value::Null).await.body["data"]["token_type"], kind);
    }
}

#[tokio::test]
async fn a_batch_role_gives_batch_tokens() {
    let bench = bench();
    let (id, secret) = role(&bench, "batch", json!({"token_type": "batch", "token_ttl": "5m"})).await;
    let auth = login(&bench, &id, &secret).await.body["auth"].clone();
    assert_eq!((&auth["token_type"], &auth["renewable"], &auth["lease_duration"]), (&json!("batch"), &json!(false), &json!(300)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_logins_at_once_no_more_succeed_than_uses_are_left() {
    let bench = Arc::new(bench());
    let (id, secret) = role(&bench, "r", json!({"secret_id_num_uses": 7})).await;
    let logins: Vec<_> = (0..64)
        .map(|_| {
            let (bench, id, secret) = (Arc::clone(&bench), id.clone(), secret.clone());
            tokio::spawn(async move { login(&bench, &id, &secret).await.status })
        })
        .collect();
    let mut won = 0;
    for login in logins {
        won += usize::from(login.await.unwrap() == 200);
    }
    assert_eq!(won, 7);
    // Nothing is left of a secret id that is used up.
    assert!(!bench.storage.keys().iter().any(|key| key.starts_with("secret/") || key.starts_with("by/") || key.starts_with("accessor/")));
}

#[tokio::test]
async fn networks_bind_and_a_limited_secret_id_pays_for_the_try() {
    let mut bench = bench();
    let (id, _) = role(&bench, "r", json!({"secret_id_num_uses": 3})).await;
    let limited = json!({"cidr_list": "10.0.0.0/8", "num_uses": 2});
    let secret = bench.call("POST", "role/r/secret-id", limited).await.body["data"]["secret_id"].as_str().unwrap().to_owned();
    let refused = login(&bench, &id, &secret).await;
    assert_eq!(
        refused.body["errors"][0],
        json!("source address \"127.0.0.1\" unauthorized by CIDR restrictions on the secret ID: %!w(<nil>)")
    );
    bench.remote = Some("10.1.2.3".parse().unwrap());
    assert_eq!(login(&bench, &id, &secret).await.status, 200);
    assert_eq!(login(&bench, &id, &secret).await.body["errors"][0], json!("invalid role or secret ID"));
    bench.call("POST", "role/r", json!({"secret_id_bound_cidrs": "192.168.0.0/16"})).await;
    let outside = bench.call("POST", "role/r/secret-id", json!({"cidr_list": "10.0.0.0/8"})).await;
    assert_eq!(outside.status, 500);
    let inside = bench.call("POST", "role/r/secret-id", json!({"cidr_list": "192.168.7.0/24"})).await;
    let refused = login(&bench, &id, inside.body["data"]["secret_id"].as_str().unwrap()).await;
    let unlimited = json!("source address \"10.1.2.3\" unauthorized by CIDR restrictions on the secret ID: %!w(<nil>)");
    assert_eq!(refused.body["errors"][0], unlimited, "a secret id takes its uses from the role");
    bench.call("POST", "role/r", json!({"secret_id_num_uses": 0})).await;
    let inside = bench.call("POST", "role/r/secret-id", json!({"cidr_list": "192.168.7.0/24"})).await;
    let refused = login(&bench, &id, inside.body["data"]["secret_id"].as_str().unwrap()).await;
    let unlimited = json!("source address \"10.1.2.3\" unauthorized through CIDR restrictions on the secret ID");
    assert_eq!(refused.body["errors"][0], unlimited);
    let anywhere = bench.call("POST", "role/r/secret-id", json!({})).await;
    let refused = login(&bench, &id, anywhere.body["data"]["secret_id"].as_str().unwrap()).await;
    let of_role = json!("source address \"10.1.2.3\" unauthorized by CIDR restrictions on the role: %!w(<nil>)");
    assert_eq!(refused.body["errors"][0], of_role);
}

#[tokio::test]
async fn secret_ids_end_and_are_cleared() {
    let bench = bench();
    let (id, secret) = role(&bench, "r", json!({"secret_id_ttl": "10m"})).await;
    bench.advance(599);
    assert_eq!(login(&bench, &id, &secret).await.status, 200);
    bench.advance(1);
    assert_eq!(login(&bench, &id, &secret).await.status, 400);
    assert_eq!(bench.call("POST", "role/r/secret-id/lookup", json!({ "secret_id": secret })).await.status, 204);
    let rows = bench.storage.keys().len();
    bench.mounted.tick(bench.cx("", Operation::Update)).await.unwrap();
    assert_eq!(bench.storage.keys().len(), rows, "an hour is not over yet");
    assert_eq!(bench.call("POST", "tidy/secret-id", json!({})).await.status, 202);
    bench.mounted.tick(bench.cx("", Operation::Update)).await.unwrap();
    assert_eq!(bench.storage.keys().len(), rows - 3);
}

#[tokio::test]
async fn a_new_role_of_an_old_name_knows_none_of_the_old_secret_ids() {
    let bench = bench();
    let (_, secret) = role(&bench, "r", json!({"role_id": "fixed"})).await;
    bench.call("DELETE", "role/r", Value::Null).await;
    let (id, new) = role(&bench, "r", json!({"role_id": "fixed"})).await;
    assert_eq!(login(&bench, &id, &secret).await.status, 400);
    assert_eq!(login(&bench, &id, &new).await.status, 200);
    let rows = bench.storage.keys().len();
    bench.mounted.tick(bench.cx("", Operation::Update)).await.unwrap();
    // Three rows of the old secret id, and the note that they were to go.
    assert_eq!(bench.storage.keys().len(), rows - 4);
    assert_eq!(login(&bench, &id, &new).await.status, 200);
}

#[tokio::test]
async fn an_accessor_belongs_to_its_role() {
    let bench = bench();
    role(&bench, "a", json!({})).await;
    role(&bench, "b", json!({})).await;
    let accessor = bench.call("LIST", "role/a/secret-id", Value::Null).await.body["data"]["keys"][0].clone();
    let body = json!({ "secret_id_accessor": accessor });
    assert_eq!(bench.call("POST", "role/b/secret-id-accessor/destroy", body.clone()).await.status, 403);
    assert_eq!(bench.call("POST", "role/a/secret-id-accessor/destroy", body.clone()).await.status, 204);
    let gone = bench.call("POST", "role/a/secret-id-accessor/destroy", body).await;
    assert_eq!(gone.status, 500);
    assert!(gone.body["errors"][0].as_str().unwrap().contains("failed to find accessor entry for secret_id_accessor: \""));
}

#[tokio::test]
async fn every_field_can_be_set_alone_and_reset() {
    let bench = bench();
    role(&bench, "r", json!({})).await;
    for (field, name, value, shown, default) in [
        ("policies", "policies", json!("x,y"), json!(["x", "y"]), json!([])),
        ("token-ttl", "token_ttl", json!("7m"), json!(420), json!(0)),
        ("token-max-ttl", "token_max_ttl", json!("8m"), json!(480), json!(0)),
        ("token-num-uses", "token_num_uses", json!(3), json!(3), json!(0)),
        ("period", "period", json!("9m"), json!(540), json!(0)),
        ("secret-id-num-uses", "secret_id_num_uses", json!("4"), json!(4), json!(0)),
        ("secret-id-ttl", "secret_id_ttl", json!(60), json!(60), json!(0)),
        ("token-bound-cidrs", "token_bound_cidrs", json!("10.0.0.0/8"), json!(["10.0.0.0/8"]), json!([])),
        ("secret-id-bound-cidrs", "secret_id_bound_cidrs", json!("10.0.0.0/8"), json!(["10.0.0.0/8"]), Value::Null),
        ("bind-secret-id", "bind_secret_id", json!(false), json!(false), json!(true)),
    ] {
        let path = format!("role/r/{field}");
        let in_answers = match name {
            "policies" | "period" => format!("token_{name}"),
            _ => name.to_owned(),
        };
        if field == "bind-secret-id" {
            bench.call("POST", "role/r", json!({"secret_id_bound_cidrs": "10.0.0.0/8"})).await;
        }
        assert_eq!(bench.call("POST", &path, json!({ name: value })).await.status, 204, "{field}");
        assert_eq!(bench.call("GET", &path, Value::Null).await.body["data"][&in_answers], shown, "{field}");
        assert_eq!(bench.call("DELETE", &path, Value::Null).await.status, 204, "{field}");
        assert_eq!(bench.call("GET", &path, Value::Null).await.body["data"][&in_answers], default, "{field}");
        assert_eq!(bench.call("POST", &path, json!({})).await.body["errors"][0], json!(format!("missing {in_answers}")));
        assert_eq!(bench.call("POST", &path.replace("/r/", "/none/"), json!({ name: value })).await.status, 404, "{field}");
    }
}

#[tokio::test]
async fn renewal_follows_the_role() {
    let bench = bench();
    role(&bench, "r", json!({"token_ttl": "10m", "token_period": "5m"})).await;
    let renew = || bench.mounted.renew_login(bench.cx("", Operation::Update), json!({"role_name": "r"}));
    let renewal = renew().await.unwrap();
    assert_eq!((renewal.terms.ttl, renewal.period), (Seconds(600), Seconds(300)));
    bench.call("DELETE", "role/r", Value::Null).await;
    assert_eq!(renew().await.unwrap_err().kind, Kind::BadRequest);
}

#[tokio::test]
async fn no_row_names_or_holds_an_id_in_clear() {
    let bench = bench();
    let (_, secret) = role(&bench, "r", json!({"role_id": "my-role-id"})).await;
    let store = bench.cx("", Operation::Read).store;
    for key in bench.storage.keys() {
        assert!(!key.contains("my-role-id") && !key.contains(&secret), "{key}");
        let value = String::from_utf8_lossy(&store.get(&key).await.unwrap().unwrap().value).into_owned();
        assert!(!value.contains(&secret), "{key}");
    }
    let alias = |fields: Value| bench.mounted.login_alias("login", fields.as_object().unwrap_or(&Map::new()));
    assert_eq!((alias(json!({"role_id": "x"})).as_deref(), alias(json!({}))), (Some("x"), None));
}

#[tokio::test]
async fn a_role_id_moves_with_its_role_and_is_free_again() {
    let bench = bench();
    let (_, secret) = role(&bench, "a", json!({"role_id": "one"})).await;
    role(&bench, "b", json!({})).await;
    assert_eq!(bench.call("POST", "role/a/role-id", json!({"role_id": "two"})).await.status, 204);
    assert_eq!(login(&bench, "one", &secret).await.status, 400);
    assert_eq!(login(&bench, "two", &secret).await.status, 200);
    assert_eq!(bench.call("POST", "role/b/role-id", json!({"role_id": "one"})).await.status, 204);
    assert_eq!(bench.call("POST", "role/b/role-id", json!({"role_id": "two"})).await.status, 500);
    let change = bench.call("POST", "role/a", json!({"local_secret_ids": true})).await;
    assert_eq!(change.body["errors"][0], json!("local_secret_ids can only be modified during role creation"));
}

/// Story: ids came out of files that ended with a newline, and nobody could log in with them, while Vault trims them.
#[tokio::test]
async fn white_space_around_ids_does_not_matter() {
    let bench = bench();
    let (id, secret) = role(&bench, "r", json!({})).await;
    assert_eq!(login(&bench, &format!("{id}\n"), &format!("\t{secret}\r\n")).await.status, 200);
    assert_eq!(login(&bench, &id, " \n").await.body["errors"][0], json!("missing secret_id"));
    assert_eq!(login(&bench, "\n", &secret).await.status, 500);
    // Ids of one's own come out of files too.
    assert_eq!(bench.call("POST", "role/r/role-id", json!({"role_id": "own\n"})).await.status, 204);
    assert_eq!(bench.call("POST", "role/r/role-id", json!({"role_id": " "})).await.status, 400);
    assert_eq!(bench.call("GET", "role/r/role-id", Value::Null).await.body["data"]["role_id"], "own");
    let made = bench.call("POST", "role/r/custom-secret-id", json!({"secret_id": "mine\n"})).await;
    assert_eq!(made.body["data"]["secret_id"], "mine");
    assert_eq!(login(&bench, "own", "mine").await.status, 200);
    assert_eq!(login(&bench, "own\n", "mine\n").await.status, 200);
    assert_eq!(bench.call("POST", "role/r/secret-id/lookup", json!({"secret_id": "mine\n"})).await.status, 200);
}

/// Story: failures were counted under the role id as it was written, so whoever was locked out wrote it another way and guessed on.
#[tokio::test]
async fn every_way_to_write_a_role_id_is_counted_as_one() {
    let bench = bench();
    let (_, secret) = role(&bench, "r", json!({"role_id": "1"})).await;
    let alias = |id: &Value| bench.mounted.login_alias("login", &Map::from_iter([("role_id".to_owned(), id.clone())]));
    for id in [json!("1"), json!(1), json!(true), json!("1\n"), json!(" 1\u{a0}")] {
        let answer = bench.call("POST", "login", json!({"role_id": id, "secret_id": secret})).await;
        assert_eq!((answer.status, alias(&id).as_deref()), (200, Some("1")), "{id}");
    }
    for id in [json!(null), json!(" "), json!([1]), json!({})] {
        assert_eq!(alias(&id), None, "{id}");
    }
}
