//! A full disk: what reads goes on, STS credentials are still handed out, what has to write says so clearly, and nothing is half done.

use std::sync::Arc;

use daypass_base::Clock;
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, MemoryBackend};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

use crate::lender::{self, NOTHING};

const FULL: &str = "the store is full: nothing more was changed; free space on its disk, reads go on meanwhile";
const STS: &str = "cdp/aws/staging/sts/deploy";

pub(crate) type Evil = Arc<EvilBackend<MemoryBackend>>;

pub(crate) async fn over_evil(setup: Setup) -> (TestServer, Evil) {
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock()) as Arc<dyn Clock>));
    (setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await, evil)
}

#[tokio::test]
async fn what_only_reads_goes_on_and_what_writes_says_why_it_does_not() {
    let (server, evil) = over_evil(Setup::default()).await;
    server.mount_aws("cdp/aws/staging").await;
    server.operator().await;
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("kv/a", json!({ "x": 1 })).await.ok();
    let token = server.token(json!({ "policies": ["everything"], "ttl": "1h" })).await;
    let limited = server.token(json!({ "policies": ["everything"], "num_uses": 5 })).await;
    let keys = server.keys().await;
    evil.at_next_write(Fault::Full);
    for _ in 0..2 {
        // The main job writes nothing.
        let minted = server.put(STS, json!({ "ttl": "15m" })).token(&token).await.ok();
        assert!(minted.text("/data/access_key").starts_with("ASIAFAKE"));
        server.put("sys/leases/lookup", json!({ "lease_id": minted.lease() })).await.ok();
        server.get("kv/a").token(&token).await.ok();
        server.list("kv").token(&token).await.ok();
        server.put("auth/token/create", json!({ "type": "batch", "ttl": "5m" })).token(&token).await.ok();
        assert_eq!(server.status_of(&token).await, 200);
        for (path, body) in [
            ("kv/b", json!({ "x": 2 })),
            ("auth/token/create", json!({ "ttl": "5m" })),
            ("auth/token/renew-self", json!({})),
            ("auth/token/revoke-self", Value::Null),
            ("sys/policies/acl/p", json!({ "policy": "path \"a\" { capabilities = [\"read\"] }" })),
            ("sys/mounts/kv2", json!({ "type": "kv" })),
            ("sys/leases/revoke", json!({ "lease_id": minted.lease() })),
        ] {
            assert_eq!(server.put(path, body).token(&token).await.refused(503), FULL, "{path}");
        }
        // A use that cannot be counted is none.
        assert_eq!(server.get("kv/a").token(&limited).await.refused(503), FULL);
        assert_eq!(server.get("kv/a").token(&token).wrap("60s").await.refused(503), FULL);
    }
    assert_eq!(server.keys().await, keys, "nothing is half done");
    evil.heal();
    server.put("kv/b", json!({ "x": 2 })).token(&token).await.ok();
    let left = server.get("auth/token/lookup-self").token(&limited).await.ok();
    assert_eq!(left.number("/data/num_uses"), 4);
    server.put("auth/token/revoke-self", Value::Null).token(&token).await.ok();
    assert_eq!(server.status_of(&token).await, 403);
}

/// Story: after a sync that failed nothing was written until a restart, and nobody was told: health was 200, no metric said so, and clients read `internal error`.
#[tokio::test]
async fn a_store_that_is_stopped_says_so_wherever_somebody_looks() {
    let (server, evil) = over_evil(Setup::default()).await;
    server.mount_aws("cdp/aws/staging").await;
    assert_eq!(server.get("sys/health").await.status, 200);
    evil.stop();
    let text =
        "the store takes no writes until the server is started again: its disk failed; look at the server's log and at the disk first";
    assert_eq!(server.put("auth/token/create", json!({ "ttl": "5m" })).await.refused(503), text);
    server.put(STS, json!({ "ttl": "15m" })).await.ok();
    let snapshot = server.get("sys/storage/snapshot").download().await.1;
    let restored = server.ask("POST", "sys/storage/snapshot").raw(snapshot).await;
    assert_eq!(restored.refused(503), text);
    assert_eq!(server.get("sys/health?activecode=204").await.status, 503);
    assert!(server.get("sys/metrics?format=prometheus").await.ok().body.to_string().contains("daypass_store_stopped 1"));
    let server = server.restart().await;
    server.put("auth/token/create", json!({ "ttl": "5m" })).await.refused(503);
}

#[tokio::test]
async fn what_came_due_meanwhile_is_settled_when_there_is_room_again() {
    let (setup, book) = lender::setup();
    let (server, evil) = over_evil(setup).await;
    server.put("sys/mounts/numbers", json!({ "type": "lender" })).await.ok();
    let before = (server.keys().await, server.expiry_entries().await);
    let token = server.token(json!({ "ttl": "60s" })).await;
    server.put("numbers/lend", json!({ "ttl": "60s" })).await.ok();
    evil.at_next_write(Fault::Full);
    server.clock().advance(std::time::Duration::from_mins(1));
    assert_eq!(server.status_of(&token).await, 403, "it ended on time all the same");
    let refused = server.put("numbers/lend", json!({ "ttl": "60s" })).await;
    assert_eq!(refused.status, 503, "{:?}", refused.body);
    evil.heal();
    for _ in 0..10 {
        server.seconds(60).await;
    }
    assert_eq!(book.out(), NOTHING, "also what was lent when its lease could not be stored");
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// Story: when less than 16 MiB were left, the room that was kept "for revocations" was kept from them too. An STS lease is revoked by a mark, which is a new
/// row, and a new row was refused; so were a revocation by prefix, the end of a root token, the pause, the parking of a lease, and
/// the removal of a static role.
#[tokio::test]
async fn what_is_kept_for_revocations_is_there_for_all_of_them() {
    let (setup, book) = lender::setup();
    let (server, evil) = over_evil(setup).await;
    server.mount_aws("cdp/aws/staging").await;
    server.operator().await;
    server.put("sys/mounts/numbers", json!({ "type": "lender" })).await.ok();
    server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
    server.put("kv/a", json!({ "x": 1 })).await.ok();
    let endless = server.token(json!({ "policies": ["root"] })).await;
    let token = server.token(json!({ "policies": ["everything"], "ttl": "1h" })).await;
    let lent = server.put("numbers/lend", json!({ "ttl": "1h" })).token(&token).await.ok().lease();
    let (one, other) = (server.put(STS, json!({ "ttl": "15m" })).await.ok(), server.put(STS, json!({ "ttl": "15m" })).await.ok());
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    server.aws().add_user("legacy");
    server.put("aws/static-roles/legacy", json!({ "username": "legacy", "rotation_period": "1h" })).await.ok();
    evil.at_next_write(Fault::Low);
    for (path, body) in [
        ("kv/b", json!({ "x": 2 })),
        ("kv/a", json!({ "x": "longer".repeat(2000) })),
        ("auth/token/create", json!({ "ttl": "5m" })),
        ("sys/mounts/kv2", json!({ "type": "kv", "description": "longer".repeat(2000) })),
    ] {
        assert_eq!(server.put(path, body).await.refused(503), FULL, "{path}");
    }
    let lives = async |lease: String| server.put("sys/leases/lookup", json!({ "lease_id": lease })).await.status == 200;
    server.put("sys/leases/revoke", json!({ "lease_id": one.lease() })).await.ok();
    assert!(!lives(one.lease()).await && lives(other.lease()).await);
    server.put("sys/leases/revoke-prefix/cdp/aws/staging", Value::Null).await.ok();
    assert!(!lives(other.lease()).await);
    server.put("auth/token/revoke", json!({ "token": endless })).await.ok();
    assert_eq!(server.status_of(&endless).await, 403);
    server.put("sys/storage/revocation", json!({ "paused": true })).await.ok();
    server.put("sys/storage/revocation", json!({ "paused": false })).await.ok();
    // It leaves a note of its key, until AWS has deleted that.
    server.delete("aws/static-roles/legacy").await.ok();
    assert_eq!(server.aws().holdings("legacy"), []);
    book.refuse(1_000);
    server.put("auth/token/revoke", json!({ "token": token })).await.ok();
    for _ in 0..50 {
        server.seconds(600).await;
    }
    assert_eq!(book.tries(), 6);
    let parked = server.get("sys/leases?type=irrevocable").await.ok();
    assert_eq!(parked["data"]["leases"][0]["lease_id"], json!(lent), "it is shown to people");
}

/// Story: a rewrap, and an unwrap whose answer was to be wrapped, spent the old token, and then wanted to put the answer under a new one. A store that
/// did not take that had the answer lost: nobody could fetch it any more, though the refusal said that nothing was changed.
#[tokio::test]
async fn what_cannot_be_wrapped_anew_stays_under_its_old_token() {
    for (fault, path) in [
        (Fault::Full, "sys/wrapping/rewrap"),
        (Fault::Low, "sys/wrapping/rewrap"),
        (Fault::Fail, "sys/wrapping/rewrap"),
        (Fault::Full, "sys/wrapping/unwrap"),
        (Fault::Low, "sys/wrapping/unwrap"),
    ] {
        let (server, evil) = over_evil(Setup::default()).await;
        server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
        server.put("kv/a", json!({ "x": "the secret" })).await.ok();
        let before = server.keys().await;
        let first = server.get("kv/a").wrap("60s").await.ok().wrapped();
        let again = || server.put(path, json!({ "token": first })).wrap("30s");
        evil.at_next_write(fault);
        assert!(again().await.status >= 500, "{fault:?} {path}");
        evil.heal();
        let second = again().await.ok().wrapped();
        assert_eq!(again().await.status, 400, "it is under one token");
        let answer = server.put("sys/wrapping/unwrap", json!({ "token": second })).await.ok();
        assert_eq!(answer.text("/data/x"), "the secret");
        assert_eq!(server.keys().await, before);
    }
}

/// Story: once its token was spent, an answer was lost when what was left of the token could not be removed.
#[tokio::test]
async fn an_answer_whose_token_is_spent_is_given_out_whatever_becomes_of_the_rest() {
    let paths = ["sys/wrapping/unwrap", "sys/wrapping/rewrap"];
    // The rest goes with the token's time, and when the request that spent it would be over.
    for (path, wrap, gone) in paths.into_iter().flat_map(|path| [(path, "60s", 61), (path, "10h", 91)]) {
        let (server, evil) = over_evil(Setup::default()).await;
        server.put("sys/mounts/kv", json!({ "type": "kv" })).await.ok();
        server.put("kv/a", json!({ "x": "the secret" })).await.ok();
        let before = (server.keys().await, server.expiry_entries().await);
        let first = server.get("kv/a").wrap(wrap).await.ok().wrapped();
        evil.at(Step::Write(evil.calls().writes + 2), Fault::Full);
        let answer = server.put(path, json!({ "token": first })).await.ok();
        evil.heal();
        let answer = if path.ends_with("rewrap") {
            server.put("sys/wrapping/unwrap", json!({ "token": answer.wrapped() })).await.ok()
        } else {
            answer
        };
        assert_eq!(answer.text("/data/x"), "the secret");
        assert_eq!(server.put("sys/wrapping/unwrap", json!({ "token": first })).await.status, 400);
        server.seconds(gone).await;
        server.work().await;
        assert_eq!((server.keys().await, server.expiry_entries().await), before, "it went with its time: {path}, {wrap}");
    }
}

/// Story: that an entity is deleted is noted, so that its tokens end; the note was a new row, which a store with little room left refused.
#[tokio::test]
async fn an_entity_can_be_deleted_with_what_is_kept_for_revocations() {
    let (server, evil) = over_evil(Setup::default()).await;
    server.put("sys/auth/userpass", json!({ "type": "userpass" })).await.ok();
    server.put("auth/userpass/users/ann", json!({ "password": "p" })).await.ok();
    let login = server.put("auth/userpass/login/ann", json!({ "password": "p" })).await.ok();
    evil.at_next_write(Fault::Low);
    server.delete(&format!("identity/entity/id/{}", login.text("/auth/entity_id"))).await.ok();
    assert_eq!(server.status_of(&login.token()).await, 403);
}

/// Story: with little room left the list of what is being revoked could not be written either, so what is more than a request can wait for was not revoked at all.
#[tokio::test]
async fn a_revocation_of_many_tokens_goes_on_with_what_is_kept_for_it() {
    let (server, evil) = over_evil(Setup::default()).await;
    let mut tokens = Vec::new();
    for _ in 0..600 {
        tokens.push(server.token(json!({ "policies": ["default"], "ttl": "1h" })).await);
    }
    server.seconds(1).await;
    evil.at_next_write(Fault::Low);
    assert_eq!(server.put("auth/token/create", json!({ "ttl": "5m" })).await.refused(503), FULL);
    assert_eq!(server.put("sys/leases/revoke-prefix/auth/token/create", json!({ "sync": false })).await.status, 202);
    assert_eq!(server.status_of(&tokens[0]).await, 403, "refused before it is gone");
    for _ in 0..10 {
        server.seconds(1).await;
    }
    assert_eq!(server.get("sys/leases/revoking").await.ok()["data"]["revoking"], json!([]));
    server.list("sys/leases/lookup/auth/token/create").await.refused(404);
}
