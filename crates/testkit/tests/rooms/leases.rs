//! Leases: signed ones that are stored nowhere, and stored ones that an engine has to take back.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::Gate;
use daypass_base::Clock;
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, MemoryBackend, Space};
use daypass_testkit::{Answer, Ask, Setup, TestServer};
use serde_json::{Value, json};

use crate::identity::House;
use crate::lender::{self, Book, NOTHING};

const STS: &str = "cdp/aws/staging/sts/deploy";

async fn aws() -> TestServer {
    let server = TestServer::start().await;
    server.mount_aws("cdp/aws/staging").await;
    server
}

async fn lender() -> (TestServer, Arc<Book>) {
    let (setup, book) = lender::setup();
    let server = setup.start().await;
    server.put("sys/mounts/team/numbers", json!({ "type": "lender" })).await.ok();
    (server, book)
}

async fn look_up(server: &TestServer, lease: &str) -> Answer {
    server.put("sys/leases/lookup", json!({ "lease_id": lease })).await
}

#[tokio::test]
async fn the_lease_of_an_sts_credential_says_the_truth_and_is_stored_nowhere() {
    let server = aws().await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    let minted = server.put(STS, json!({ "ttl": "60m" })).await.ok();
    assert_eq!((minted.number("/lease_duration"), minted["renewable"].clone()), (3600, json!(false)));
    assert!(minted.lease().starts_with("cdp/aws/staging/sts/deploy/"));
    assert_eq!((server.keys().await, server.expiry_entries().await), (keys, entries));
    server.seconds(100).await;
    let seen = look_up(&server, &minted.lease()).await.ok();
    assert_eq!((seen.number("/data/ttl"), seen["data"]["renewable"].clone()), (3500, json!(false)));
    assert_eq!(seen.text("/data/issue_time"), "2026-01-02T03:04:05Z");
    assert_eq!(seen.text("/data/expire_time"), "2026-01-02T04:04:05Z");
    assert_eq!(seen["data"]["last_renewal"], Value::Null);
    for path in ["sys/leases/renew", "sys/renew"] {
        assert_eq!(server.put(path, json!({ "lease_id": minted.lease() })).await.refused(400), "lease is not renewable");
    }
    server.seconds(3500).await;
    assert_eq!(look_up(&server, &minted.lease()).await.refused(400), "invalid lease");
    assert_eq!(server.put("sys/leases/renew", json!({ "lease_id": minted.lease() })).await.refused(400), "lease not found");
}

#[tokio::test]
async fn a_revoked_sts_lease_is_invalid_to_its_end_and_its_marker_goes_with_it() {
    let server = aws().await;
    // The mint ledger remembers who got a credential, also when its lease is over.
    let kept = async |server: &TestServer| {
        let keys: Vec<String> = server.keys().await.into_iter().filter(|key| !key.contains("core/mints/")).collect();
        (keys, server.expiry_entries().await)
    };
    let before = kept(&server).await;
    let (one, other) = (server.get(STS).await.ok().lease(), server.get(STS).await.ok().lease());
    server.put("sys/leases/revoke", json!({ "lease_id": one })).await.ok();
    assert_eq!(look_up(&server, &one).await.refused(400), "invalid lease");
    look_up(&server, &other).await.ok();
    let server = server.restart().await;
    assert_eq!(look_up(&server, &one).await.refused(400), "invalid lease");
    look_up(&server, &other).await.ok();
    server.seconds(3600).await;
    assert_eq!(kept(&server).await, before);
}

#[tokio::test]
async fn revoking_a_prefix_ends_the_sts_leases_below_it_and_no_others() {
    let server = aws().await;
    server.mount_aws("cdp/aws/staging2").await;
    let neighbour = server.get("cdp/aws/staging2/sts/deploy").await.ok().lease();
    for prefix in ["cdp/aws/staging/sts/deploy", "cdp/aws/staging/sts", "cdp/aws/staging"] {
        let lease = server.get(STS).await.ok().lease();
        server.put(&format!("sys/leases/revoke-prefix/{prefix}"), Value::Null).await.ok();
        assert_eq!(look_up(&server, &lease).await.refused(400), "invalid lease", "{prefix}");
        // What is minted afterwards stands.
        server.seconds(1).await;
        let later = server.get(STS).await.ok().lease();
        look_up(&server, &later).await.ok();
    }
    look_up(&server, &neighbour).await.ok();
    // As Vault: no write goes to a path that ends in a slash.
    let refused = server.put("sys/leases/revoke-prefix/cdp/aws/staging2/", Value::Null).await;
    assert_eq!(refused.refused(400), "cannot write to a path ending in '/'");
    look_up(&server, &neighbour).await.ok();
}

/// Seen in a simulation: the second revocation of a prefix, after the clock had been put back a little, took back what the first one had revoked; and
/// the end of the first one's marker was the end of the second one's.
#[tokio::test]
async fn a_prefix_that_is_revoked_again_stays_revoked() {
    let server = aws().await;
    let revoke = async || server.put("sys/leases/revoke-prefix/cdp/aws/staging", Value::Null).await.ok();
    let first = server.get(STS).await.ok().lease();
    revoke().await;
    server.clock().jump_to(server.clock().now() - Duration::from_millis(300));
    revoke().await;
    assert_eq!(look_up(&server, &first).await.refused(400), "invalid lease");
    server.seconds(30 * 3600).await;
    let second = server.put(STS, json!({ "ttl": "12h" })).await.ok().lease();
    revoke().await;
    // The first marker would end now.
    server.seconds(6 * 3600 + 60).await;
    assert_eq!(look_up(&server, &second).await.refused(400), "invalid lease");
}

/// Story: lists showed the leases of revoked tokens until they would have ended, which a look-up did not find any more.
#[tokio::test]
async fn lists_show_the_sts_leases_that_a_look_up_finds() {
    let server = aws().await;
    server.operator().await;
    let mut dead = Vec::new();
    let mut living = Vec::new();
    for number in 0..6 {
        let token = server.token(json!({ "policies": ["everything"], "ttl": "10m" })).await;
        let lease = server.get(STS).token(&token).await.ok().lease();
        let name = lease.rsplit('/').next().unwrap().to_owned();
        if number % 2 == 0 {
            server.put("auth/token/revoke", json!({ "token": token })).await.ok();
            dead.push(name);
        } else {
            living.push(name);
        }
    }
    living.sort();
    let list = async |query: &str| server.list(&format!("sys/leases/lookup/{STS}{query}")).await;
    let names = |answer: Answer| serde_json::from_value::<Vec<String>>(answer.ok()["data"]["keys"].clone()).unwrap();
    assert_eq!(names(list("").await), living, "not {dead:?}");
    // Parts are full as long as there is more.
    assert_eq!(names(list("?limit=2").await), living[..2]);
    assert_eq!(names(list(&format!("?limit=2&after={}", living[1])).await), living[2..]);
    assert_eq!(list(&format!("?limit=2&after={}", living[2])).await.status, 404);
}

#[tokio::test]
async fn an_sts_lease_goes_with_its_token() {
    let server = aws().await;
    server.operator().await;
    let token = server.token(json!({ "policies": ["everything"], "ttl": "10m" })).await;
    let child = server.put("auth/token/create", json!({ "type": "batch", "ttl": "10m" })).token(&token).await.ok().token();
    let (own, of_child) = (server.get(STS).token(&token).await.ok(), server.get(STS).token(&child).await.ok());
    assert_eq!((own.number("/lease_duration"), of_child.number("/lease_duration")), (3600, 600), "a batch token's lease ends with it");
    look_up(&server, &own.lease()).await.ok();
    look_up(&server, &of_child.lease()).await.ok();
    server.put("auth/token/revoke", json!({ "token": token })).await.ok();
    assert_eq!(look_up(&server, &own.lease()).await.refused(400), "invalid lease");
    assert_eq!(look_up(&server, &of_child.lease()).await.refused(400), "invalid lease");

    let ending = server.token(json!({ "policies": ["everything"], "ttl": "10m" })).await;
    let lease = server.get(STS).token(&ending).await.ok().lease();
    server.seconds(600).await;
    assert_eq!(look_up(&server, &lease).await.refused(400), "invalid lease");
}

#[tokio::test]
async fn a_lease_id_that_daypass_did_not_make_is_invalid_everywhere() {
    let server = aws().await;
    server.mount_aws("other").await;
    let genuine = server.get(STS).await.ok().lease();
    let mut forged = vec![
        genuine.replacen("cdp/aws/staging", "other", 1),
        genuine.replacen("deploy", "admin", 1),
        genuine[..genuine.len() - 1].to_owned(),
        format!("{genuine}a"),
        "cdp/aws/staging/sts/deploy/".to_owned(),
        "cdp/aws/staging/sts/deploy/aaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
        "auth/token/create/h00000000000000000000000000000000".to_owned(),
        "x".to_owned(),
        "a/\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}".to_owned(),
    ];
    for at in STS.len() + 1..genuine.len() {
        let mut bytes = genuine.clone().into_bytes();
        bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
        forged.push(String::from_utf8(bytes).unwrap());
    }
    let keys = server.keys().await;
    for id in forged {
        assert_eq!(look_up(&server, &id).await.refused(400), "invalid lease", "{id}");
        assert_eq!(server.put("sys/leases/renew", json!({ "lease_id": id })).await.refused(400), "lease not found", "{id}");
        // As with Vault, revoking what does not exist is a success; it must leave no trace.
        assert_eq!(server.put("sys/leases/revoke", json!({ "lease_id": id })).await.status, 204, "{id}");
    }
    assert_eq!(server.keys().await, keys);
    look_up(&server, &genuine).await.ok();
    for path in ["lookup", "renew", "revoke"] {
        let refused = server.put(&format!("sys/leases/{path}"), json!({ "lease_id": "" })).await;
        assert_eq!(refused.refused(400), "lease_id must be specified");
    }
}

#[tokio::test]
async fn live_leases_are_listed_and_ended_ones_are_not() {
    let server = aws().await;
    let lease = server.get(STS).await.ok().lease();
    let tail = lease.rsplit('/').next().unwrap();
    let listed = |path: &'static str| server.list(&format!("sys/leases/lookup/{path}"));
    assert_eq!(listed("cdp/aws/staging").await.ok()["data"]["keys"], json!(["sts/"]));
    assert_eq!(listed("cdp/aws/staging/sts/deploy").await.ok()["data"]["keys"], json!([tail]));
    server.seconds(3600).await;
    listed("cdp/aws/staging/sts/deploy").await.refused(404);
}

#[tokio::test]
async fn the_last_use_of_a_token_gets_no_lease() {
    let (server, book) = lender().await;
    server.policy("p", r#"path "team/*" { capabilities = ["read"] }"#).await;
    let token = server.token(json!({ "policies": ["p"], "num_uses": 1 })).await;
    let refused = server.get("team/numbers/lend").token(&token).await;
    assert!(refused.refused(400).starts_with("Secret cannot be returned; token had one use left"));
    assert_eq!((book.lent(), book.out()), (1, vec![]));
}

#[tokio::test]
async fn a_stored_lease_is_taken_back_at_its_end() {
    let (server, book) = lender().await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    let lent = server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok();
    assert_eq!((lent.number("/lease_duration"), lent["renewable"].clone()), (100, json!(true)));
    server.seconds(99).await;
    assert_eq!(look_up(&server, &lent.lease()).await.ok().number("/data/ttl"), 1);
    assert_eq!(book.out().len(), 1);
    server.seconds(1).await;
    assert_eq!(book.out(), NOTHING);
    assert_eq!(look_up(&server, &lent.lease()).await.refused(400), "invalid lease");
    assert_eq!((server.keys().await, server.expiry_entries().await), (keys, entries));
}

#[tokio::test]
async fn a_renewed_lease_lives_on_to_its_maximum() {
    let (server, book) = lender().await;
    let lease = server.put("team/numbers/lend", json!({ "ttl": "100s", "max_ttl": "250s" })).await.ok().lease();
    let renew = |increment: &str| server.put("sys/leases/renew", json!({ "lease_id": lease, "increment": increment }));
    server.seconds(90).await;
    assert_eq!(renew("").await.ok().number("/lease_duration"), 100);
    server.seconds(90).await;
    let capped = renew("100s").await.ok();
    assert_eq!(capped.number("/lease_duration"), 70);
    assert!(capped.text("/warnings/0").contains("capped accordingly"), "{:?}", capped.body);
    let seen = look_up(&server, &lease).await.ok();
    assert_eq!((seen.number("/data/ttl"), seen.text("/data/last_renewal")), (70, "2026-01-02T03:07:05Z".to_owned()));
    // A renewal may shorten, too.
    assert_eq!(renew("5s").await.ok().number("/lease_duration"), 5);
    server.seconds(5).await;
    assert_eq!(book.out(), NOTHING);
    assert_eq!(renew("5s").await.refused(400), "lease not found");
}

#[tokio::test]
async fn what_a_token_was_lent_goes_with_it_and_with_its_parent() {
    let (server, book) = lender().await;
    server.operator().await;
    for how in ["revoke", "expire", "revoke-self", "use up"] {
        let parent = server.token(json!({ "policies": ["everything"], "ttl": "1h" })).await;
        let child = server.put("auth/token/create", json!({ "ttl": "1h" })).token(&parent).await.ok().token();
        let batch = server.put("auth/token/create", json!({ "type": "batch", "ttl": "1h" })).token(&child).await.ok().token();
        let limited = server.put("auth/token/create", json!({ "num_uses": 2 })).token(&parent).await.ok().token();
        for token in [&parent, &child, &batch, &limited] {
            server.put("team/numbers/lend", json!({ "ttl": "10h" })).token(token).await.ok();
        }
        assert_eq!(book.out().len(), 4, "{how}");
        match how {
            "revoke" => drop(server.put("auth/token/revoke", json!({ "token": parent })).await.ok()),
            "expire" => server.seconds(3600).await,
            "revoke-self" => drop(server.put("auth/token/revoke-self", Value::Null).token(&parent).await.ok()),
            _ => {
                assert_eq!(server.status_of(&limited).await, 200);
                server.work().await;
                assert_eq!(book.out().len(), 3);
                server.put("auth/token/revoke-accessor", accessor(&server, &parent).await).await.ok();
            }
        }
        server.work().await;
        assert_eq!(book.out(), NOTHING, "{how}");
    }
}

async fn accessor(server: &TestServer, token: &str) -> Value {
    let seen = server.put("auth/token/lookup", json!({ "token": token })).await.ok();
    json!({ "accessor": seen["data"]["accessor"] })
}

#[tokio::test]
async fn an_engine_that_fails_is_asked_again_later_and_later() {
    let (server, book) = lender().await;
    let (keys, entries) = (server.keys().await, server.expiry_entries().await);
    server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok();
    book.refuse(4);
    server.seconds(100).await;
    // 10 s, doubled each time, half more or less by chance.
    for (tries, before, after) in [(1, 4, 11), (2, 9, 21), (3, 19, 41), (4, 39, 81)] {
        assert_eq!(book.tries(), tries);
        server.seconds(before).await;
        assert_eq!(book.tries(), tries, "it is too early for another try");
        server.seconds(after).await;
    }
    assert_eq!((book.tries(), book.out()), (5, vec![]));
    assert_eq!((server.keys().await, server.expiry_entries().await), (keys, entries));
}

#[tokio::test]
async fn force_forgets_what_cannot_be_taken_back() {
    let (server, book) = lender().await;
    let keys = server.keys().await;
    let leases = [server.get("team/numbers/lend").await.ok().lease(), server.get("team/numbers/lend").await.ok().lease()];
    book.refuse(1_000);
    let refused = server.put("sys/leases/revoke-prefix/team/numbers", Value::Null).await;
    assert!(refused.refused(400).contains("the counter is closed"));
    look_up(&server, &leases[0]).await.ok();
    server.put("sys/leases/revoke-force/team/numbers", Value::Null).await.ok();
    for lease in &leases {
        assert_eq!(look_up(&server, lease).await.refused(400), "invalid lease");
    }
    assert_eq!(book.out().len(), 2);
    // Markers of the prefix stay until no STS lease of before can live; nothing else does.
    let left: Vec<String> = server.keys().await.into_iter().filter(|key| !keys.contains(key)).collect();
    assert!(left.iter().all(|key| key.starts_with("Lease R")), "{left:?}");
    server.seconds(36 * 3600).await;
    server.work().await;
    assert_eq!(server.keys().await, keys);
}

#[tokio::test]
async fn a_lease_that_is_revoked_while_it_comes_due_is_taken_back_and_gone() {
    let (server, book) = lender().await;
    let lease = server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok().lease();
    server.clock().advance(Duration::from_secs(100));
    let revoked = tokio::spawn(server.put("sys/leases/revoke", json!({ "lease_id": lease })).into_future());
    server.work().await;
    revoked.await.unwrap().ok();
    assert_eq!(book.out(), NOTHING);
    assert!(server.rows(Space::Lease).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lent_for_good_to_a_token_that_is_revoked_meanwhile() {
    let (server, book) = lender().await;
    server.operator().await;
    let keys = server.keys().await;
    for _ in 0..20 {
        let token = server.token(json!({ "policies": ["everything"] })).await;
        let asked: Vec<_> = (0..16).map(|_| tokio::spawn(server.get("team/numbers/lend").token(&token).into_future())).collect();
        let revoked = tokio::spawn(server.put("auth/token/revoke", json!({ "token": token })).into_future());
        let mut held = Vec::new();
        for answer in asked {
            let answer = answer.await.unwrap();
            assert!(matches!(answer.status, 200 | 400 | 403), "{answer:?}");
            held.extend((answer.status == 200).then(|| answer.lease()));
        }
        revoked.await.unwrap().ok();
        server.work().await;
        assert_eq!(book.out(), NOTHING);
        for lease in held {
            assert_eq!(look_up(&server, &lease).await.status, 400);
        }
    }
    assert_eq!(server.keys().await, keys);
}

/// Story: what was under way when the caller's entity was disabled or deleted was handed out all the same; so was what a batch token without a parent had asked
/// for before its end, with a lease of no time at all.
#[tokio::test]
async fn what_took_long_goes_to_nobody_whose_right_ended_meanwhile() {
    let house = House::open().await;
    house.mount_aws("aws").await;
    house.put("aws/config/root", json!({ "access_key": "AKIAROOT", "secret_key": "root-secret", "region": "eu-west-1" })).await.ok();
    house.put("aws/roles/user", json!({ "credential_type": "iam_user" })).await.ok();
    house.policy("mints", r#"path "aws/*" { capabilities = ["read"] }"#).await;
    house.aws().guard(|action| match action {
        "AssumeRole" | "CreateUser" => Gate::Late(Duration::from_secs(20)),
        _ => Gate::Open,
    });
    let told = async |token: String, path: &str, end: Ask| {
        let asked = tokio::spawn(house.get(path).token(&token).into_future());
        house.seconds(1).await;
        end.await.ok();
        for _ in 0..30 {
            house.seconds(1).await;
        }
        asked.await.unwrap().refused(400).to_owned()
    };
    for (number, path) in ["aws/sts/deploy", "aws/creds/user"].into_iter().enumerate() {
        let batch = json!({ "type": "batch", "policies": ["mints"], "no_parent": true, "ttl": "10s" });
        let mut cases = vec![(house.token(batch).await, house.get("sys/seal-status"))];
        for name in ["disabled", "deleted"] {
            let (token, entity) = house.login(json!({ "name": format!("{name}-{number}"), "policies": "mints" })).await;
            let entity = format!("identity/entity/id/{entity}");
            let end = if name == "deleted" { house.delete(&entity) } else { house.put(&entity, json!({ "disabled": true })) };
            cases.push((token, end));
        }
        for (token, end) in cases {
            assert_eq!(told(token, path, end).await, "the token ended before its secret was handed out", "{path}");
        }
    }
    house.seconds(60).await;
    assert!(house.aws().users().is_empty(), "{:?}", house.aws().users());
}

/// Seen in review: between the engine taking a secret back and the lease going, a renewal found the lease whole and answered that it lives on.
#[tokio::test]
async fn nothing_renews_a_lease_once_its_revocation_has_begun() {
    let (setup, book) = lender::setup();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock()) as Arc<dyn Clock>));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    server.put("sys/mounts/team/numbers", json!({ "type": "lender" })).await.ok();
    let lease = server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok().lease();
    let (renew, revoke) = ("sys/leases/renew", "sys/leases/revoke");
    let ask = |path: &str| server.put(path, json!({ "lease_id": lease }));
    // Refused by the engine: the lease goes on.
    book.refuse(1);
    ask(revoke).await.refused(400);
    ask(renew).await.ok();
    // Taken back, but the store stumbles before the lease is gone: the mark is written, the removal is not.
    evil.at(Step::Write(evil.calls().writes + 2), Fault::Fail);
    ask(revoke).await.refused(400);
    assert_eq!(book.out(), NOTHING);
    assert_eq!(ask(renew).await.refused(400), "lease expired");
    ask(revoke).await.ok();
    assert_eq!(look_up(&server, &lease).await.refused(400), "invalid lease");
    assert!(server.rows(Space::Lease).await.is_empty());
}

#[tokio::test]
async fn an_engine_that_hangs_holds_up_none_of_the_others() {
    let (server, book) = lender().await;
    for _ in 0..20 {
        server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok();
    }
    book.hang(1);
    server.clock().advance(Duration::from_secs(100));
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(book.out().len(), 1, "all but the one that hangs");
    // It is given up and tried again later.
    for _ in 0..10 {
        server.seconds(30).await;
    }
    assert_eq!(book.out(), NOTHING);
}

/// Story: what was being taken back went on only while the worker had nothing else to do. With a lease-count quota a commit that was left half-way
/// held the lock that the worker's own next commit waited for: nothing ended any more, quotas could not be written, and the server could not be sealed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_tokens_that_end_together_do_not_wait_for_each_other() {
    let (setup, book) = lender::setup();
    let server = setup.on_disk().start().await;
    server.put("sys/mounts/team/numbers", json!({ "type": "lender" })).await.ok();
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("sys/quotas/lease-count/q", json!({ "path": "team/numbers", "max_leases": 100_000 })).await.ok();
    for second in 0..20 {
        for _ in 0..6 {
            server.put("team/numbers/lend", json!({ "ttl": format!("{}s", 100 + second) })).await.ok();
            server.put("auth/token/create", json!({ "policies": ["default"], "ttl": format!("{}s", 100 + second) })).await.ok();
        }
    }
    server.clock().advance(Duration::from_secs(100));
    for round in 0..3_000 {
        server.clock().advance(Duration::from_millis(500));
        // A durable write takes as long as those of the worker.
        server.put("kv/pace", json!({ "round": round })).await.ok();
        if book.out() == NOTHING && server.expiry_entries().await == 0 {
            break;
        }
    }
    assert_eq!((book.out().len(), server.expiry_entries().await), (0, 0));
    server.put("sys/quotas/lease-count/q2", json!({ "path": "kv", "max_leases": 100_000 })).await.ok();
    server.put("sys/seal", json!({})).await.ok();
}

/// Story: the worker waited for the whole batch before it looked again. A mount whose AWS did not answer held up what came due of all others, and
/// revocations by prefix, for 30 seconds and each eight of its leases: half an hour and more.
#[tokio::test]
async fn a_mount_that_hangs_holds_up_neither_other_mounts_nor_sweeps() {
    let (server, book) = lender().await;
    server.put("sys/mounts/team/others", json!({ "type": "lender" })).await.ok();
    for _ in 0..40 {
        server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok();
    }
    server.put("team/others/lend", json!({ "ttl": "103s" })).await.ok();
    for _ in 0..501 {
        server.put("auth/token/create", json!({ "policies": ["default"], "ttl": "1h" })).await.ok();
    }
    let later = async |times: u32| {
        for _ in 0..times {
            server.clock().advance(Duration::from_millis(500));
            for _ in 0..500 {
                tokio::task::yield_now().await;
            }
        }
    };
    book.hang_mount(Some("team/numbers"));
    server.clock().advance(Duration::from_secs(100));
    later(2).await;
    assert_eq!((book.out().len(), book.tries()), (41, 8), "one mount has so many places");
    assert_eq!(server.put("sys/leases/revoke-prefix/auth/token/create", json!({ "sync": false })).await.status, 202);
    later(6).await;
    assert_eq!(book.out().len(), 40, "what came due of the other mount since");
    assert_eq!(server.get("sys/leases/revoking").await.ok()["data"]["revoking"], json!([]));
    // None has answered: from now on it is asked about one, and the others wait.
    later(60).await;
    assert!(book.tries() <= 12, "{}", book.tries());
    book.hang_mount(None);
    for _ in 0..10 {
        later(60).await;
    }
    assert_eq!(book.out(), NOTHING);
    assert!(server.rows(Space::Lease).await.iter().all(|(key, _)| key.starts_with(b"R")), "nothing but the mark of the prefix");
}

/// Story: the worker waited for the engines' regular work, one mount after the other. A rotation at an AWS that did not answer put everything off that
/// came due meanwhile, and a seal had to wait for it.
#[tokio::test]
async fn regular_work_that_hangs_holds_up_nothing_else() {
    let (server, book) = lender().await;
    server.put("sys/mounts/team/others", json!({ "type": "lender" })).await.ok();
    server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok();
    book.hang_work(Some("team/numbers/"));
    for _ in 0..3 {
        server.seconds(60).await;
    }
    assert_eq!(book.out(), NOTHING);
    assert_eq!((book.worked("team/numbers/"), book.worked("team/others/")), (1, 3), "what hangs is not begun twice");
    let sealing = tokio::spawn(server.put("sys/seal", json!({})).into_future());
    server.seconds(10).await;
    sealing.await.unwrap().ok();
}

/// Story: the worker always took the first 512 entries that were due. Where so many were of one mount that was busy, without hanging, nothing else ended
/// until it had come to the rest: children of ended tokens could be used, and leases of other mounts lived on, for minutes.
#[tokio::test]
async fn a_mount_that_is_busy_starves_nobody_else() {
    let (server, book) = lender().await;
    server.put("sys/mounts/team/others", json!({ "type": "lender" })).await.ok();
    for _ in 0..700 {
        server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok();
    }
    server.put("team/others/lend", json!({ "ttl": "101s" })).await.ok();
    let parent = server.token(json!({ "policies": ["root"], "ttl": "101s" })).await;
    let child = server.put("auth/token/create", json!({ "policies": ["default"], "ttl": "1h" })).token(&parent).await.ok().token();
    book.busy_mount("team/numbers", Duration::from_secs(4));
    server.clock().advance(Duration::from_secs(100));
    let pass = async |seconds: u32| {
        for _ in 0..seconds * 2 {
            server.clock().advance(Duration::from_millis(500));
            for _ in 0..500 {
                tokio::task::yield_now().await;
            }
        }
    };
    pass(6).await;
    assert_eq!(server.get("auth/token/lookup-self").token(&child).await.status, 403);
    let out = book.out().len();
    assert!((670..=700).contains(&out), "the other mount's is back, and what eight places give back in five seconds: {out}");
    // Eight places, four seconds each: two a second. None of them is left idle for long.
    pass(380).await;
    assert_eq!(book.out(), NOTHING);
}

/// Story: who revoked by prefix and waited for it waited until the request was given up when the server was sealed meanwhile.
#[tokio::test]
async fn a_sweep_that_is_waited_for_ends_with_the_seal() {
    let (server, _) = lender().await;
    for _ in 0..2_000 {
        server.put("auth/token/create", json!({ "policies": ["default"], "ttl": "1h" })).await.ok();
    }
    let waiting = tokio::spawn(server.put("sys/leases/revoke-prefix/auth/token/create", json!({ "sync": true })).into_future());
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    server.put("sys/seal", json!({})).await.ok();
    for _ in 0..5 {
        server.seconds(1).await;
    }
    assert_eq!(waiting.await.unwrap().status, 503);
}

/// Story: requests that were under way when the server was sealed went on writing after the next unsealing, with the mounts, locks and counts of before: a
/// quota counted leases that were gone, and a mount's removal forgot leases of the next mount at its path without taking their secrets back.
#[tokio::test]
async fn what_was_under_way_when_the_server_was_sealed_writes_nothing_after_the_next_unsealing() {
    let (server, book) = lender().await;
    server.put("sys/quotas/lease-count/q", json!({ "path": "team/numbers", "max_leases": 1 })).await.ok();
    let lease = server.put("team/numbers/lend", json!({ "ttl": "1h" })).await.ok().lease();
    book.busy_mount("team/numbers", Duration::from_secs(5));
    let under_way = tokio::spawn(server.put("sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).into_future());
    while book.tries() == 0 {
        tokio::task::yield_now().await;
    }
    server.put("sys/seal", json!({})).await.ok();
    server.unseal().await;
    server.seconds(5).await;
    assert!(under_way.await.unwrap().refused(400).ends_with("Vault is sealed"));
    // The worker takes up what was begun.
    for _ in 0..100 {
        server.seconds(10).await;
    }
    assert_eq!(book.out(), NOTHING);
    assert_eq!(look_up(&server, &lease).await.refused(400), "invalid lease");
    assert_eq!(server.get("sys/quotas/lease-count/q").await.ok()["data"]["counter"], 0);
}

/// Story: a restore waited for what was under way with a mount that hung, and whoever unsealed the server meanwhile had two states at work on one store;
/// the restore was given up for it.
#[tokio::test]
async fn nobody_unseals_a_server_while_a_restore_waits_for_a_mount_that_hangs() {
    let (server, book) = lender().await;
    let (_, snapshot) = server.get("sys/storage/snapshot").download().await;
    server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok();
    book.hang_mount(Some("team/numbers"));
    server.clock().advance(Duration::from_secs(100));
    while book.tries() == 0 {
        tokio::task::yield_now().await;
    }
    let restore = server.ask("POST", "sys/storage/snapshot").header("content-type", "application/gzip").raw(snapshot);
    let restoring = tokio::spawn(restore.into_future());
    while server.get("sys/seal-status").await["sealed"] == false {
        tokio::task::yield_now().await;
    }
    let mut unsealing = std::pin::pin!(server.unseal());
    for _ in 0..200 {
        let early = std::future::poll_fn(|cx| std::task::Poll::Ready(unsealing.as_mut().poll(cx).is_ready())).await;
        assert!(!early, "the old state still writes");
        tokio::task::yield_now().await;
    }
    server.clock().advance(Duration::from_secs(10));
    restoring.await.unwrap().ok();
    unsealing.await;
    assert_eq!(server.get("sys/seal-status").await["sealed"], false);
    assert_eq!(server.list("sys/leases/lookup/team/numbers/lend").await.status, 404, "as of the snapshot");
}

/// Story: a server that was unsealed right behind the seal had its audit devices closed at once, and the seal was answered 500 though it was done.
#[tokio::test]
async fn what_is_answered_around_a_seal_is_put_on_record_also_when_the_server_is_unsealed_at_once() {
    let (server, _) = lender().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    server.put("sys/audit/file", json!({ "type": "file", "options": { "file_path": log.display().to_string() } })).await.ok();
    for _ in 0..20 {
        let sealing = tokio::spawn(server.put("sys/seal", json!({})).into_future());
        while server.get("sys/seal-status").await["sealed"] == false {
            tokio::task::yield_now().await;
        }
        server.unseal().await;
        assert_eq!(sealing.await.unwrap().status, 204);
    }
}

async fn on_evil() -> (TestServer, Arc<EvilBackend<MemoryBackend>>) {
    let (setup, _) = lender::setup();
    on_evil_with(setup).await
}

async fn on_evil_with(setup: Setup) -> (TestServer, Arc<EvilBackend<MemoryBackend>>) {
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock()) as Arc<dyn Clock>));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    (server, evil)
}

/// Has the next write wait for five seconds, and returns once `work` has begun with it.
async fn held_up<T: Send + 'static>(
    evil: &EvilBackend<MemoryBackend>,
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let done = evil.calls().writes;
    evil.at_next_write(Fault::Delay(Duration::from_secs(5)));
    let work = tokio::spawn(work);
    while evil.calls().writes == done {
        tokio::task::yield_now().await;
    }
    work
}

/// Story: of two renewals of one lease at the same moment one was answered 500: it tried to store what it had decided once, where a token's renewal
/// decides anew.
#[tokio::test]
async fn renewals_at_the_same_moment_all_hold_and_one_beside_a_revocation_is_told() {
    let (server, evil) = on_evil().await;
    server.put("sys/mounts/team/numbers", json!({ "type": "lender" })).await.ok();
    let lease = server.put("team/numbers/lend", json!({ "ttl": "100s" })).await.ok().lease();
    let renew = |seconds: u64| server.put("sys/leases/renew", json!({ "lease_id": lease, "increment": seconds })).into_future();
    let first = held_up(&evil, renew(300)).await;
    assert_eq!(renew(200).await.ok().number("/lease_duration"), 200);
    server.clock().advance(Duration::from_secs(5));
    assert_eq!(first.await.unwrap().ok().number("/lease_duration"), 300);
    let first = held_up(&evil, renew(300)).await;
    server.put("sys/leases/revoke", json!({ "lease_id": lease })).await.ok();
    server.clock().advance(Duration::from_secs(5));
    assert_eq!(first.await.unwrap().refused(400), "lease not found");
    assert!(server.rows(Space::Lease).await.is_empty());
}

/// Story: the marker of a prefix that was revoked ends after 36 hours. Whoever revoked the prefix again at that moment had the new marker taken by the
/// end of the old one, and what was just revoked was valid again.
#[tokio::test]
async fn the_end_of_an_old_marker_takes_no_new_one_along() {
    let (server, evil) = on_evil_with(Setup::default()).await;
    server.mount_aws("cdp/aws/staging").await;
    let revoke = || server.put("sys/leases/revoke-prefix/cdp/aws/staging", Value::Null).into_future();
    revoke().await.ok();
    server.seconds(36 * 3600 - 20).await;
    let lease = server.put(STS, json!({ "ttl": "1h" })).await.ok().lease();
    server.seconds(5).await;
    look_up(&server, &lease).await.ok();
    let done = evil.calls().writes;
    evil.at_next_write(Fault::Delay(Duration::from_secs(5)));
    server.clock().advance(Duration::from_secs(15));
    while evil.calls().writes == done {
        tokio::task::yield_now().await;
    }
    revoke().await.ok();
    assert_eq!(look_up(&server, &lease).await.refused(400), "invalid lease");
    server.seconds(5).await;
    assert_eq!(look_up(&server, &lease).await.refused(400), "invalid lease");
    server.seconds(36 * 3600).await;
    assert!(server.rows(Space::Lease).await.is_empty(), "the new marker has an end, too");
}
