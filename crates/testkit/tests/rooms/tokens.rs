//! Tokens over time, in families, and used by many at once.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::Clock;
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, Batch, Key, MemoryBackend, Space};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

const INVALID: &str = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";

#[tokio::test]
async fn a_token_ends_to_the_second_and_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let token = server.token(json!({ "ttl": "60s" })).await;
    server.put("cubbyhole/a", json!({ "x": 1 })).token(&token).await.ok();
    server.seconds(59).await;
    assert_eq!(server.get("auth/token/lookup-self").token(&token).await.ok().number("/data/ttl"), 1);
    server.seconds(1).await;
    assert_eq!(server.get("auth/token/lookup-self").token(&token).await.refused(403), INVALID);
    server.work().await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

#[tokio::test]
async fn an_ended_token_is_refused_also_where_no_worker_came_by() {
    let server = TestServer::start().await;
    let token = server.token(json!({ "ttl": "60s" })).await;
    // The clock alone: nobody gets to run in between.
    server.clock().advance(Duration::from_mins(1));
    assert_eq!(server.status_of(&token).await, 403);
    assert_eq!(server.put("auth/token/lookup", json!({ "token": token })).await.refused(403), "bad token");
}

/// Story: a token of a chosen text was revoked, and its batch children with it. Made anew, it brought them back.
#[tokio::test]
async fn a_token_that_is_made_anew_is_not_the_parent_of_the_old_ones_batch_tokens() {
    let server = TestServer::start().await;
    server.operator().await;
    let make = async || server.token(json!({ "id": "build-7", "policies": ["everything"], "ttl": "50h" })).await;
    let child =
        async |parent: &str| server.put("auth/token/create", json!({ "type": "batch", "ttl": "10h" })).token(parent).await.ok().token();
    let parent = make().await;
    let old = child(&parent).await;
    assert_eq!(server.status_of(&old).await, 200);
    server.put("auth/token/revoke", json!({ "token": parent })).await.ok();
    assert_eq!(server.status_of(&old).await, 403);
    server.seconds(1).await;
    let parent = make().await;
    assert_eq!(server.status_of(&old).await, 403);
    assert_eq!(server.status_of(&child(&parent).await).await, 200);
}

/// Story: whether the parent of a batch token is still the same was told from which of both was made first. Where the clock had been put back in between, the
/// batch tokens of a parent of a chosen text, or of a root token, were refused from birth.
#[tokio::test]
async fn a_clock_that_was_put_back_parts_no_batch_token_from_its_parent() {
    let server = TestServer::start().await;
    server.operator().await;
    let make = async || server.token(json!({ "id": "build-7", "policies": ["everything"], "ttl": "50h" })).await;
    let child = async |parent: &str| {
        let made =
            server.put("auth/token/create", json!({ "type": "batch", "ttl": "10h", "policies": ["default"] })).token(parent).await.ok();
        assert_eq!(made.number("/auth/lease_duration"), 36_000);
        made.token()
    };
    let parent = make().await;
    let put_back = || server.clock().jump_to(server.clock().now() - Duration::from_mins(1));
    put_back();
    let (old, of_root) = (child(&parent).await, child(server.root()).await);
    assert_eq!((server.status_of(&old).await, server.status_of(&of_root).await), (200, 200));
    // Nor does it bring back those of a parent that was there before.
    server.put("auth/token/revoke", json!({ "token": parent })).await.ok();
    put_back();
    let parent = make().await;
    assert_eq!((server.status_of(&old).await, server.status_of(&of_root).await), (403, 200));
    assert_eq!(server.status_of(&child(&parent).await).await, 200);
}

#[tokio::test]
async fn a_family_goes_with_its_eldest_however_deep() {
    let server = TestServer::start().await;
    server.operator().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let eldest = server.token(json!({ "policies": ["everything"], "ttl": "1h" })).await;
    let mut line = vec![eldest.clone()];
    for _ in 0..150 {
        let child = server.put("auth/token/create", json!({ "ttl": "50h" })).token(line.last().unwrap()).await.ok().token();
        line.push(child);
    }
    server.put("auth/token/revoke", json!({ "token": eldest })).await.ok();
    for token in &line {
        assert_eq!(server.status_of(token).await, 403);
    }
    server.work().await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

#[tokio::test]
async fn a_family_goes_with_its_eldest_however_wide_and_by_time_too() {
    let server = TestServer::start().await;
    server.operator().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let eldest = server.token(json!({ "policies": ["everything"], "ttl": "1h" })).await;
    let mut children = Vec::new();
    // More than two pages of a revocation.
    for _ in 0..1_100 {
        children.push(server.put("auth/token/create", json!({ "ttl": "50h" })).token(&eldest).await.ok().token());
    }
    let grandchild = server.put("auth/token/create", json!({ "ttl": "50h" })).token(&children[777]).await.ok().token();
    server.seconds(3_600).await;
    server.work().await;
    for token in children.iter().chain([&grandchild]) {
        assert_eq!(server.status_of(token).await, 403);
    }
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

#[tokio::test]
async fn orphans_outlive_who_made_them() {
    let server = TestServer::start().await;
    server.operator().await;
    let parent = server.token(json!({ "policies": ["everything"] })).await;
    let made = |path: &'static str, body: Value| server.put(path, body).token(&parent);
    let child = made("auth/token/create", json!({})).await.ok().token();
    let orphans = [
        made("auth/token/create-orphan", json!({})).await.ok().token(),
        made("auth/token/create", json!({ "no_parent": true })).await.ok().token(),
    ];
    server.put("auth/token/roles/o", json!({ "orphan": true })).await.ok();
    let by_role = made("auth/token/create/o", json!({})).await.ok().token();
    server.put("auth/token/revoke", json!({ "token": parent })).await.ok();
    assert_eq!(server.status_of(&child).await, 403);
    for orphan in orphans.iter().chain([&by_role]) {
        let seen = server.get("auth/token/lookup-self").token(orphan).await.ok();
        assert_eq!(seen["data"]["orphan"], true);
    }
}

#[tokio::test]
async fn revoking_a_parent_alone_makes_orphans() {
    let server = TestServer::start().await;
    server.operator().await;
    let parent = server.token(json!({ "policies": ["everything"] })).await;
    let child = server.put("auth/token/create", json!({})).token(&parent).await.ok().token();
    let grandchild = server.put("auth/token/create", json!({})).token(&child).await.ok().token();
    server.put("auth/token/revoke-orphan", json!({ "token": parent })).await.ok();
    assert_eq!(server.status_of(&parent).await, 403);
    assert_eq!(server.get("auth/token/lookup-self").token(&child).await.ok()["data"]["orphan"], true);
    assert_eq!(server.get("auth/token/lookup-self").token(&grandchild).await.ok()["data"]["orphan"], false);
    server.put("auth/token/revoke", json!({ "token": child })).await.ok();
    assert_eq!(server.status_of(&grandchild).await, 403);
}

#[tokio::test]
async fn a_periodic_token_lives_past_every_maximum_while_it_is_renewed_and_not_longer() {
    let server = TestServer::start().await;
    server.put("sys/auth/token/tune", json!({ "max_lease_ttl": "120s", "default_lease_ttl": "120s" })).await.ok();
    let token = server.token(json!({ "period": "60s" })).await;
    let plain = server.token(json!({ "ttl": "100s" })).await;
    for round in 0..10 {
        server.seconds(50).await;
        let renewed = server.put("auth/token/renew-self", json!({ "increment": "9h" })).token(&token).await.ok();
        assert_eq!(renewed.number("/auth/lease_duration"), 60, "round {round}");
        if round == 0 {
            server.put("auth/token/renew-self", json!({ "increment": "9h" })).token(&plain).await.ok();
        }
    }
    assert_eq!(server.status_of(&plain).await, 403);
    server.seconds(60).await;
    assert_eq!(server.status_of(&token).await, 403);
}

#[tokio::test]
async fn no_renewal_moves_an_explicit_maximum() {
    let server = TestServer::start().await;
    for fields in [json!({ "ttl": "60s", "explicit_max_ttl": "100s" }), json!({ "period": "60s", "explicit_max_ttl": "100s" })] {
        let token = server.token(fields.clone()).await;
        server.seconds(50).await;
        let renewed = server.put("auth/token/renew-self", json!({})).token(&token).await.ok();
        assert_eq!(renewed.number("/auth/lease_duration"), 50, "{fields}");
        assert!(renewed.text("/warnings/0").contains("capped accordingly"), "{:?}", renewed.body);
        server.seconds(49).await;
        assert_eq!(server.put("auth/token/renew-self", json!({})).token(&token).await.ok().number("/auth/lease_duration"), 1);
        server.seconds(1).await;
        assert_eq!(server.status_of(&token).await, 403, "{fields}");
    }
}

#[tokio::test]
async fn a_renewal_may_shorten_and_may_lengthen_a_life() {
    let server = TestServer::start().await;
    let (short, long) = (server.token(json!({ "ttl": "1h" })).await, server.token(json!({ "ttl": "60s" })).await);
    let renewed = server.put("auth/token/renew", json!({ "token": short, "increment": "10s" })).await.ok();
    assert_eq!((renewed.number("/auth/lease_duration"), renewed.token()), (10, short.clone()));
    server.put("auth/token/renew-self", json!({ "increment": 600 })).token(&long).await.ok();
    server.seconds(10).await;
    assert_eq!(server.status_of(&short).await, 403);
    // Past the end that it was made with.
    server.seconds(500).await;
    assert_eq!(server.status_of(&long).await, 200);
    server.seconds(90).await;
    assert_eq!(server.status_of(&long).await, 403);
}

async fn uses_are_exact(server: TestServer) {
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("kv/a", json!({ "x": 1 })).await.ok();
    server.policy("reader", r#"path "kv/*" { capabilities = ["read"] }"#).await;
    let before = server.keys().await;
    for uses in [1, 10] {
        let token = server.token(json!({ "num_uses": uses, "policies": ["reader"] })).await;
        let asked: Vec<_> = (0..64).map(|_| tokio::spawn(server.get("kv/a").token(&token).into_future())).collect();
        let mut served = 0;
        for answer in asked {
            let answer = answer.await.unwrap();
            match answer.status {
                200 => served += 1,
                _ => assert_eq!(answer.refused(403), INVALID),
            }
        }
        assert_eq!(served, uses);
        assert_eq!(server.keys().await, before, "a used-up token is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_users_at_once_get_no_use_too_many() {
    uses_are_exact(TestServer::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_users_at_once_get_no_use_too_many_from_a_disk() {
    uses_are_exact(Setup::default().on_disk().start().await).await;
}

#[tokio::test]
async fn a_refused_request_uses_a_token_up_like_any_other() {
    let server = TestServer::start().await;
    let token = server.token(json!({ "num_uses": 2, "policies": ["default"] })).await;
    server.get("sys/mounts").token(&token).await.refused(403);
    assert_eq!(server.status_of(&token).await, 200);
    assert_eq!(server.status_of(&token).await, 403);
}

#[tokio::test]
async fn a_token_may_have_a_text_of_its_makers_choice() {
    let server = TestServer::start().await;
    let made = server.put("auth/token/create", json!({ "id": "build-7", "ttl": "60s" })).await.ok();
    assert_eq!(made.token(), "build-7");
    assert_eq!(server.get("auth/token/lookup-self").token("build-7").await.ok().text("/data/id"), "build-7");
    let again = server.put("auth/token/create", json!({ "id": "build-7" })).await;
    assert_eq!(again.refused(400), "cannot create a token with a duplicate ID");
    for text in ["hvs.x", "s.x", "a.b", "a b", "a\nb"] {
        server.put("auth/token/create", json!({ "id": text })).await.refused(400);
    }
    server.policy("maker", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let maker = server.token(json!({ "policies": ["maker"] })).await;
    let refused = server.put("auth/token/create", json!({ "id": "mine" })).token(&maker).await;
    assert_eq!(refused.refused(400), "root or sudo privileges required to specify token id");
    server.seconds(60).await;
    server.work().await;
    assert_eq!(server.status_of("build-7").await, 403);
    // Gone for good: the name is free again.
    server.put("auth/token/create", json!({ "id": "build-7" })).await.ok();
    assert_eq!(server.status_of("build-7").await, 200);
}

#[tokio::test]
async fn a_batch_token_ends_on_time_and_with_its_parent() {
    let server = TestServer::start().await;
    server.operator().await;
    let parent = server.token(json!({ "policies": ["everything"], "ttl": "1h" })).await;
    let batch = |ttl: &str| server.put("auth/token/create", json!({ "type": "batch", "ttl": ttl })).token(&parent);
    let keys = server.keys().await;
    let (short, long) = (batch("60s").await.ok(), batch("50h").await.ok());
    assert_eq!(server.keys().await, keys, "nothing is stored of a batch token");
    assert_eq!((short.text("/auth/accessor"), short["auth"]["renewable"].clone()), (String::new(), json!(false)));
    let (short, long) = (short.token(), long.token());
    for (path, text) in [
        ("auth/token/renew-self", "batch tokens cannot be renewed"),
        ("auth/token/revoke-self", "batch tokens cannot be revoked"),
        ("auth/token/create", "batch tokens cannot create more tokens"),
        ("cubbyhole/a", "cubbyhole operations are only supported by \"service\" type tokens"),
    ] {
        assert_eq!(server.put(path, json!({ "x": "1" })).token(&long).await.refused(400), text, "{path}");
    }
    server.seconds(60).await;
    assert_eq!((server.status_of(&short).await, server.status_of(&long).await), (403, 200));
    server.put("auth/token/revoke", json!({ "token": parent })).await.ok();
    assert_eq!(server.status_of(&long).await, 403);
    assert_eq!(server.put("auth/token/lookup", json!({ "token": long })).await.refused(403), "bad token");
}

/// Story: a batch token carries all that it knows. With many policies or much metadata it was longer than any token that is looked at: it was
/// handed out all the same, and refused at every use.
#[tokio::test]
async fn a_batch_token_that_is_handed_out_can_be_used() {
    let server = TestServer::start().await;
    let mut refused = 0;
    for count in [10, 100, 110, 120, 130, 800] {
        let policies: Vec<String> = (0..count).map(|number| format!("p{number:04}{}", "y".repeat(95))).collect();
        let answer = server.put("auth/token/create", json!({ "type": "batch", "ttl": "1h", "policies": policies })).await;
        if answer.status == 200 {
            let token = answer.token();
            assert_eq!(server.status_of(&token).await, 200, "{count} policies, {} characters", token.len());
        } else {
            refused += 1;
            let said = answer.refused(400);
            assert!(said.starts_with("the token's names, policies and metadata take "), "{said}");
            assert!(said.ends_with(" bytes in the text of a batch token, the limit is 16384: give it less of them"), "{said}");
        }
    }
    assert!((1..6).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_batch_token_that_was_altered_is_none() {
    let server = TestServer::start().await;
    let token = server.token(json!({ "type": "batch", "ttl": "1h", "policies": ["default"] })).await;
    assert_eq!(server.status_of(&token).await, 200);
    for at in [4, token.len() / 2, token.len() - 1] {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(server.status_of(&String::from_utf8(bytes).unwrap()).await, 403, "character {at}");
    }
}

#[tokio::test]
async fn an_accessor_names_a_token_and_gives_nothing_of_it_away() {
    let server = TestServer::start().await;
    let made = server.put("auth/token/create", json!({ "ttl": "60s" })).await.ok();
    let (token, accessor) = (made.token(), made.text("/auth/accessor"));
    let by = json!({ "accessor": accessor });
    assert_eq!(server.put("auth/token/lookup-accessor", by.clone()).await.ok().text("/data/id"), "");
    let renewed = server.put("auth/token/renew-accessor", by.clone()).await.ok();
    assert_eq!((renewed.token(), renewed.number("/auth/lease_duration")), (String::new(), 60));
    // It is no token itself, and one that was made up from it names nothing.
    assert_eq!(server.status_of(&accessor).await, 403);
    let last = if accessor.ends_with('a') { "b" } else { "a" };
    let made_up = json!({ "accessor": format!("{}{last}", &accessor[..accessor.len() - 1]) });
    let refused = server.put("auth/token/lookup-accessor", made_up.clone()).await;
    assert_eq!(refused.refused(400), "1 error occurred:\n\t* invalid accessor\n\n");
    let revoked = server.put("auth/token/revoke-accessor", made_up).await.ok();
    assert_eq!((revoked.status, revoked.text("/warnings/0")), (200, "No token found with this accessor".to_owned()));
    assert_eq!(server.status_of(&token).await, 200);
    assert!(server.list("auth/token/accessors").await.ok()["data"]["keys"].as_array().unwrap().contains(&json!(accessor)));
    assert_eq!(server.put("auth/token/revoke-accessor", by.clone()).await.ok().status, 204);
    assert_eq!(server.status_of(&token).await, 403);
    assert!(!server.list("auth/token/accessors").await.ok()["data"]["keys"].as_array().unwrap().contains(&json!(accessor)));
    server.put("auth/token/lookup-accessor", by).await.refused(400);
}

#[tokio::test]
async fn a_token_of_a_network_is_of_no_use_elsewhere() {
    let server = TestServer::start().await;
    server.put("auth/token/roles/r", json!({ "token_bound_cidrs": "10.1.0.0/16,2001:db8::/32", "token_num_uses": 3 })).await.ok();
    let token = server.put("auth/token/create/r", json!({ "policies": ["default"] })).await.ok().token();
    let ask = |address: &str| server.get("auth/token/lookup-self").token(&token).from(address);
    for address in ["10.2.0.1", "11.1.0.1", "127.0.0.1", "2001:db9::1", "unix socket"] {
        assert_eq!(ask(address).await.refused(403), "permission denied", "{address}");
    }
    // None of that used it up.
    assert_eq!(ask("10.1.255.255").await.ok().number("/data/num_uses"), 2);
    assert_eq!(ask("2001:db8:1::2").await.status, 200);
    assert_eq!(ask("::ffff:10.1.0.1").await.status, 200);
    assert_eq!(ask("10.1.0.1").await.status, 403);
}

#[tokio::test]
async fn children_are_bound_to_the_networks_of_their_parents() {
    let server = TestServer::start().await;
    server.operator().await;
    server.put("auth/token/roles/r", json!({ "token_bound_cidrs": "10.1.0.0/16" })).await.ok();
    let parent = server.put("auth/token/create/r", json!({ "policies": ["everything"] })).await.ok().token();
    let child = server.put("auth/token/create", json!({})).token(&parent).from("10.1.2.3").await.ok().token();
    assert_eq!(server.get("auth/token/lookup-self").token(&child).from("10.1.2.3").await.status, 200);
    assert_eq!(server.get("auth/token/lookup-self").token(&child).await.status, 403);
}

#[tokio::test]
async fn tokens_and_cubbyholes_outlive_a_restart_and_end_on_time_after_it() {
    let server = TestServer::start().await;
    let token = server.token(json!({ "ttl": "60s", "policies": ["default"] })).await;
    server.put("cubbyhole/a", json!({ "x": "mine" })).token(&token).await.ok();
    let server = server.restart().await;
    assert_eq!(server.get("cubbyhole/a").token(&token).await.ok().text("/data/x"), "mine");
    server.get("cubbyhole/a").await.refused(404);
    // It ends while no server runs.
    server.clock().advance(Duration::from_mins(1));
    let server = server.restart().await;
    assert_eq!(server.status_of(&token).await, 403);
    server.work().await;
    assert!(!server.keys().await.iter().any(|key| key.starts_with("Config cubbyhole/")));
}

#[tokio::test]
async fn tidying_mends_what_faults_have_left_and_touches_nothing_else() {
    let backend = Arc::new(MemoryBackend::new());
    let server = Setup::default().over(Arc::clone(&backend) as Arc<_>).start().await;
    server.operator().await;
    let stays = server.token(json!({ "policies": ["everything"], "ttl": "9h" })).await;
    let child_stays = server.put("auth/token/create", json!({})).token(&stays).await.ok().token();
    let before = (server.keys().await, server.expiry_entries().await);
    let rows = server.rows(Space::Token).await;
    let parent = server.token(json!({ "policies": ["everything"], "ttl": "1h" })).await;
    let row =
        server.rows(Space::Token).await.into_iter().map(|(key, _)| key).find(|key| rows.iter().all(|(other, _)| other != key)).unwrap();
    let child = server.put("auth/token/create", json!({ "ttl": "9h" })).token(&parent).await.ok().token();
    // A token whose row was lost, an edge to a child that never was, and an index entry that leads nowhere.
    let edge = Key::new(Space::Index, [b"c".as_slice(), &[9; 16], &[7; 16]].concat());
    let index = Key::new(Space::Index, b"pauth/token/create/hgone".to_vec());
    let entry = [b"T".as_slice(), &[7; 16]].concat();
    backend.commit(Batch::new().delete(Key::new(Space::Token, row)).put(edge, Vec::new()).put(index, entry)).await.unwrap();
    assert_eq!(server.status_of(&child).await, 200);
    assert_eq!(server.put("auth/token/tidy", Value::Null).await.status, 202);
    let again = server.put("auth/token/tidy", Value::Null).await.ok();
    assert_eq!(again.text("/warnings/0"), "Tidy operation already in progress.");
    server.work().await;
    assert_eq!(server.put("sys/leases/tidy", Value::Null).await.status, 202);
    server.seconds(3_600).await;
    server.work().await;
    assert_eq!((server.status_of(&child).await, server.status_of(&stays).await, server.status_of(&child_stays).await), (403, 200, 200));
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
    assert_eq!(server.put("auth/token/tidy", Value::Null).await.status, 202, "the next run may start");
}

#[tokio::test]
async fn a_renewal_goes_by_what_the_role_says_now() {
    let server = TestServer::start().await;
    server.put("auth/token/roles/r", json!({ "token_period": "60s", "orphan": true })).await.ok();
    let token = server.put("auth/token/create/r", json!({ "policies": ["default"] })).await.ok().token();
    let renew = || server.put("auth/token/renew-self", json!({})).token(&token);
    assert_eq!(renew().await.ok().number("/auth/lease_duration"), 60);
    server.put("auth/token/roles/r", json!({ "token_period": "90s", "token_explicit_max_ttl": "100s" })).await.ok();
    server.seconds(30).await;
    assert_eq!(renew().await.ok().number("/auth/lease_duration"), 70, "the new maximum counts from the beginning");
    server.delete("auth/token/roles/r").await.ok();
    assert!(renew().await.refused(500).contains("failed to renew entry: original token role \"r\" could not be found, not renewing"));
    assert_eq!(server.status_of(&token).await, 200, "it keeps the end that it has");
    server.seconds(70).await;
    assert_eq!(server.status_of(&token).await, 403);
}

#[tokio::test]
async fn an_ipv4_network_in_ipv6_form_is_what_it_is() {
    let server = TestServer::start().await;
    server.put("auth/token/roles/r", json!({ "token_bound_cidrs": "::ffff:10.0.0.0/104,2001:db8::/32" })).await.ok();
    let token = server.put("auth/token/create/r", json!({ "policies": ["default"] })).await.ok().token();
    for (from, status) in
        [("10.1.2.3", 200), ("::ffff:10.1.2.3", 200), ("2001:db8:1::1", 200), ("11.0.0.1", 403), ("::1", 403), ("unix", 403)]
    {
        assert_eq!(server.get("auth/token/lookup-self").token(&token).from(from).await.status, status, "{from}");
    }
    for bad in ["10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0.0/", "x"] {
        server.put("auth/token/roles/r", json!({ "token_bound_cidrs": bad })).await.refused(400);
    }
}

#[tokio::test]
async fn a_path_suffix_fits_vaults_pattern() {
    let server = TestServer::start().await;
    for bad in ["a", "ab", "a/b", "!!!", "-.-", "a..", "./."] {
        let refused = server.put("auth/token/roles/r", json!({ "path_suffix": bad })).await;
        assert_eq!(refused.refused(400), r"given role path suffix contains invalid characters; must match \w[\w-.]+\w", "{bad}");
    }
    for good in ["", "abc", "a-b", "bad suffix!"] {
        server.put("auth/token/roles/r", json!({ "path_suffix": good })).await.ok();
    }
}

/// Seen: a write that reached the store while its token's revocation had cleared the cubbyhole, but not removed the token yet, lay there for
/// good, with its secret.
#[tokio::test]
async fn a_cubbyhole_takes_nothing_from_a_token_that_is_being_revoked() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let token = server.token(json!({ "ttl": "1h" })).await;
    let (done, seconds) = (evil.calls().writes, std::time::Duration::from_secs);
    // The write of the cubbyhole comes between the two of the revocation.
    evil.at(Step::Write(done + 1), Fault::Delay(seconds(5)));
    evil.at(Step::Write(done + 3), Fault::Delay(seconds(10)));
    let begun = async |writes: u64| {
        while evil.calls().writes < done + writes {
            tokio::task::yield_now().await;
        }
    };
    let write = tokio::spawn(server.put("cubbyhole/a", json!({ "x": 1 })).token(&token).into_future());
    begun(1).await;
    let revocation = tokio::spawn(server.put("auth/token/revoke", json!({ "token": token })).into_future());
    begun(3).await;
    server.clock().advance(seconds(5));
    assert_eq!(write.await.unwrap().refused(403), INVALID);
    server.clock().advance(seconds(5));
    revocation.await.unwrap().ok();
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// Seen: a store that could not be read made the creation of a token say that the maker's token does not exist.
#[tokio::test]
async fn a_store_that_fails_is_not_taken_for_a_parent_that_is_gone() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    let first = evil.calls().reads;
    let token = server.put("auth/token/create", json!({ "ttl": "1h" })).await.ok();
    let reads = evil.calls().reads - first;
    for read in 1..=reads {
        evil.at(Step::Read(evil.calls().reads + read), Fault::Fail);
        let answer = server.put("auth/token/create", json!({ "ttl": "1h" })).await;
        assert_eq!(answer.status, 500, "read {read} of {reads}: {:?}", answer.body);
        evil.heal();
    }
    assert_eq!(server.status_of(&token.token()).await, 200);
}

/// Seen in a simulation: a token whose last use was spent, and whose revocation had to wait, was renewed by somebody else.
#[tokio::test]
async fn a_used_up_token_that_waits_for_its_end_is_not_renewed() {
    let server = TestServer::start().await;
    server.put("sys/storage/revocation", json!({ "paused": true })).await;
    let made = server.put("auth/token/create", json!({ "ttl": "1h", "num_uses": 1 })).await.ok();
    let (token, accessor) = (made.token(), made.text("/auth/accessor"));
    server.get("auth/token/lookup-self").token(&token).await.ok();
    assert_eq!(server.put("auth/token/renew", json!({ "token": token })).await.refused(400), "token not found");
    assert_eq!(server.put("auth/token/renew-accessor", json!({ "accessor": accessor })).await.refused(400), "token not found");
}

/// Seen in a simulation: a token whose time was over was revoked before the worker came by, and lived again when the clock was put back.
#[tokio::test]
async fn what_is_revoked_after_its_time_stays_revoked_when_the_clock_is_put_back() {
    for by_accessor in [false, true] {
        let server = TestServer::start().await;
        server.put("sys/storage/revocation", json!({ "paused": true })).await.ok();
        let made = server.put("auth/token/create", json!({ "ttl": "60s" })).await.ok();
        let (token, accessor) = (made.token(), made.text("/auth/accessor"));
        server.clock().advance(Duration::from_secs(61));
        let revoked = if by_accessor {
            server.put("auth/token/revoke-accessor", json!({ "accessor": accessor })).await
        } else {
            server.put("auth/token/revoke", json!({ "token": token })).await
        };
        assert_eq!(revoked.ok().status, 204);
        server.clock().jump_to(server.clock().now() - Duration::from_secs(5));
        assert_eq!(server.status_of(&token).await, 403);
    }
}

/// Story: what the core keeps for wrapping was refused in a request, but given to whoever came by a role that names it, or by a login.
#[tokio::test]
async fn no_role_and_no_login_gives_a_policy_that_the_core_keeps_for_its_own() {
    let server = TestServer::start().await;
    server.put("sys/auth/userpass", json!({ "type": "userpass" })).await.ok();
    for policy in ["response-wrapping", "control-group"] {
        let refusal = format!("cannot assign policy {policy:?}");
        server.put("auth/token/roles/r", json!({ "allowed_policies": [policy] })).await.ok();
        for body in [json!({}), json!({ "policies": [policy] })] {
            assert_eq!(server.put("auth/token/create/r", body).await.refused(400), refusal);
        }
        assert_eq!(server.put("auth/token/create", json!({ "policies": [policy] })).await.refused(400), refusal);
        server.put("auth/userpass/users/u", json!({ "password": "x", "token_policies": [policy.to_uppercase()] })).await.ok();
        assert_eq!(server.put("auth/userpass/login/u", json!({ "password": "x" })).nobody().await.refused(400), refusal);
    }
}

/// Story: `no_default_policy` kept `default` from being added, but not from being asked for; and a role that forbids `def*` added `default`
/// by itself and refused it then.
#[tokio::test]
async fn default_is_left_out_where_it_is_not_wanted() {
    let server = TestServer::start().await;
    server.policy("p", r#"path "kv/*" { capabilities = ["read"] }"#).await;
    server.policy("makes", r#"path "auth/token/create" { capabilities = ["update"] }"#).await;
    let policies = async |path: &str, body: Value| server.put(path, body).await.ok()["auth"]["token_policies"].clone();
    let body = json!({ "policies": ["default", "p"], "no_default_policy": true });
    assert_eq!(policies("auth/token/create", body.clone()).await, json!(["p"]));
    let parent = server.token(json!({ "policies": ["makes", "p"] })).await;
    let child = server.put("auth/token/create", body).token(&parent).await.ok();
    assert_eq!(child["auth"]["token_policies"], json!(["p"]));
    for role in [
        json!({ "disallowed_policies_glob": "def*" }),
        json!({ "disallowed_policies": "default" }),
        json!({ "allowed_policies_glob": "p*", "disallowed_policies_glob": "Def*" }),
    ] {
        server.put("auth/token/roles/r", role).await.ok();
        assert_eq!(policies("auth/token/create/r", json!({ "policies": ["p"] })).await, json!(["p"]));
        server.put("auth/token/create/r", json!({ "policies": ["p", "default"] })).await.refused(400);
        server.delete("auth/token/roles/r").await.ok();
    }
    // A role's own word keeps `default` from being added; who asks for it gets it.
    server.put("auth/token/roles/r", json!({ "token_no_default_policy": true })).await.ok();
    assert_eq!(policies("auth/token/create/r", json!({ "policies": ["p", "default"] })).await, json!(["default", "p"]));
    assert_eq!(policies("auth/token/create/r", json!({ "policies": ["p"] })).await, json!(["p"]));
}

/// Story: `vault token create -policy="$UNSET"` sends one blank name. It was taken for no list at all, and the new token had its maker's policies:
/// a root token, where Vault gives one with `default`.
#[tokio::test]
async fn blank_names_of_policies_inherit_nothing() {
    let server = TestServer::start().await;
    let policies = async |path: &str, body: Value| server.put(path, body).await.ok()["auth"]["token_policies"].clone();
    for blank in [json!([""]), json!(["", " "])] {
        assert_eq!(policies("auth/token/create", json!({ "policies": blank })).await, json!(["default"]), "{blank}");
        assert_eq!(policies("auth/token/create-orphan", json!({ "policies": blank })).await, json!(["default"]), "{blank}");
        let bare = json!({ "policies": blank, "no_default_policy": true });
        assert_eq!(policies("auth/token/create", bare.clone()).await, json!([]), "{blank}");
        server.put("auth/token/roles/r", json!({ "disallowed_policies": "x" })).await.ok();
        assert_eq!(policies("auth/token/create/r", json!({ "policies": blank })).await, json!(["default"]), "{blank}");
        assert_eq!(policies("auth/token/create/r", bare).await, json!([]), "{blank}");
        server.put("auth/token/roles/lists", json!({ "allowed_policies": "admin,ops" })).await.ok();
        assert_eq!(policies("auth/token/create/lists", json!({ "policies": blank })).await, json!(["default"]), "{blank}");
    }
    assert_eq!(policies("auth/token/create/lists", json!({ "policies": [] })).await, json!(["admin", "default", "ops"]));
    for nothing in [json!({}), json!({ "policies": [] }), json!({ "policies": null }), json!({ "policies": "" })] {
        assert_eq!(policies("auth/token/create", nothing.clone()).await, json!(["root"]), "{nothing}");
    }
}

/// Story: a role of tokens showed its networks as they were sent, `127.0.0.1/32`, where Vault shows the address alone; Terraform saw a change that
/// nobody made.
#[tokio::test]
async fn networks_and_patterns_are_shown_as_vault_shows_them() {
    let server = TestServer::start().await;
    let role = json!({ "bound_cidrs": "127.0.0.1/32,::1/128,10.0.0.0/8", "allowed_entity_aliases": "a,B*" });
    server.put("auth/token/roles/r", role).await.ok();
    let wanted = json!(["127.0.0.1", "::1", "10.0.0.0/8"]);
    let role = server.get("auth/token/roles/r").await.ok();
    assert_eq!((&role["data"]["token_bound_cidrs"], &role["data"]["bound_cidrs"]), (&wanted, &wanted));
    assert_eq!(role["data"]["allowed_entity_aliases"], json!(["a", "b*"]));
    let token = server.put("auth/token/create/r", json!({ "policies": ["default"] })).await.ok().token();
    assert_eq!(server.put("auth/token/lookup", json!({ "token": token })).await.ok()["data"]["bound_cidrs"], wanted);
    // No lifetime was asked for, so none is cut.
    let root = server.put("auth/token/create", json!({ "explicit_max_ttl": "1h" })).await.ok();
    assert_eq!((root.number("/auth/lease_duration"), &root["warnings"]), (3_600, &Value::Null));
}

/// Story: a stanza that gives `sudo` on `auth/token/create` and demands a parameter gave no `sudo`, because it was judged once more without
/// what was sent.
#[tokio::test]
async fn sudo_on_making_tokens_counts_whatever_else_the_stanza_demands() {
    let server = TestServer::start().await;
    let text = r#"path "auth/token/create" { capabilities = ["update", "sudo"] required_parameters = ["no_parent"] }"#;
    server.policy("makes", text).await;
    let maker = server.token(json!({ "policies": ["makes"] })).await;
    let made = server.put("auth/token/create", json!({ "no_parent": true, "policies": ["default"] })).token(&maker).await.ok();
    assert_eq!(made["auth"]["orphan"], json!(true));
    server.put("auth/token/create", json!({})).token(&maker).await.refused(403);
}

/// Story: whoever had a token with the `default` policy could fill its cubbyhole with large values. When the token went, up to 500 of them were read at
/// once in order to delete them; the process ended for want of memory, and again after each start, since the revocation is tried again.
#[tokio::test]
async fn what_a_cubbyhole_holds_is_not_read_when_it_goes() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    let before = server.keys().await;
    let token = server.token(json!({ "policies": ["default"], "ttl": "1h" })).await;
    for number in 0..30 {
        server.put(&format!("cubbyhole/{number}"), json!({ "x": "x".repeat(100_000) })).token(&token).await.ok();
    }
    let read = evil.calls().bytes;
    server.put("auth/token/revoke", json!({ "token": token })).await.ok();
    assert!(evil.calls().bytes - read < 100_000, "{} bytes were read", evil.calls().bytes - read);
    assert_eq!(server.keys().await, before);
}

/// Story: a token's `meta` could have 32 MiB, and tokens that expire are read 512 at a time.
#[tokio::test]
async fn a_token_carries_so_much_and_many_large_ones_go_in_several_pieces() {
    let server = TestServer::start().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let create = |bytes: usize| server.put("auth/token/create", json!({ "meta": { "k": "x".repeat(bytes) }, "ttl": "1h" }));
    assert_eq!(create(64 * 1024).await.refused(400), "the metadata has 65537 bytes, the limit for all of a token's is 65536: give it less");
    let names: Vec<String> = (0..4_000).map(|number| format!("{number}-{}", "p".repeat(80))).collect();
    let refused = server.put("auth/token/create", json!({ "policies": names })).await;
    assert!(refused.refused(400).contains("the limit is 262144"), "{refused:?}");
    for _ in 0..100 {
        create(64 * 1024 - 1).await.ok();
    }
    server.seconds(3_600).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before, "they expire");
    let mut tokens = Vec::new();
    for _ in 0..100 {
        tokens.push(create(64 * 1024 - 1).await.ok().token());
    }
    server.put("sys/leases/revoke-prefix/auth/token/create", json!({ "sync": false })).await.ok();
    let left: Vec<String> = server.keys().await.into_iter().filter(|key| key != "Lease Rauth/token/create").collect();
    assert_eq!(left, before.0, "they are revoked by prefix, which leaves its mark");
    assert_eq!(server.status_of(&tokens[99]).await, 403);
}

/// Story: tidying read 500 tokens and went by what it had read. A token that was renewed before its turn came, and the child of a token that
/// `revoke-orphan` had taken meanwhile, were revoked with all below them.
#[tokio::test]
async fn tidying_spares_what_was_renewed_or_made_an_orphan_meanwhile() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    server.operator().await;
    let before = server.rows(Space::Token).await.len();
    server.put("sys/storage/revocation", json!({ "paused": true })).await.ok();
    let first = server.token(json!({ "ttl": "10s" })).await;
    let renewed = server.token(json!({ "policies": ["everything"], "ttl": "60s" })).await;
    let below = server.put("auth/token/create", json!({ "ttl": "9h" })).token(&renewed).await.ok().token();
    let parent = server.token(json!({ "policies": ["everything"], "ttl": "9h" })).await;
    let child = server.put("auth/token/create", json!({ "ttl": "9h" })).token(&parent).await.ok().token();
    server.advance(std::time::Duration::from_secs(30)).await;
    let done = evil.calls().writes;
    evil.at(Step::Write(done + 1), Fault::Delay(std::time::Duration::from_mins(1)));
    assert_eq!(server.put("auth/token/tidy", Value::Null).await.status, 202);
    while evil.calls().writes == done {
        tokio::task::yield_now().await;
    }
    // It has read them all, and waits to mark the first one.
    server.put("auth/token/renew-self", json!({ "increment": "1h" })).token(&renewed).await.ok();
    server.put("auth/token/revoke-orphan", json!({ "token": parent })).await.ok();
    server.advance(std::time::Duration::from_mins(1)).await;
    for token in [&renewed, &below, &child] {
        assert_eq!(server.status_of(token).await, 200);
    }
    assert_eq!(server.put("auth/token/tidy", Value::Null).await.status, 202, "that run is done");
    server.work().await;
    assert_eq!(server.status_of(&first).await, 403);
    assert_eq!(server.rows(Space::Token).await.len(), before + 3);
}
