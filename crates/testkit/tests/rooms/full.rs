//! A full disk: what reads goes on, STS credentials are still handed out, what has to write says so clearly, and nothing is half done.

use std::sync::Arc;

use daypass_base::Clock;
use daypass_storage::evil::{EvilBackend, Fault};
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
