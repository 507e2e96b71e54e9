//! The process dies at each write of a change of keys: whoever has the shares that were handed out last can open the store.

use std::sync::Arc;

use daypass_storage::evil::{EvilBackend, Fault};
use daypass_storage::{Backend, MemoryBackend};
use daypass_testkit::Setup;
use serde_json::{Value, json};

use crate::seal::text;

/// Writes that a rekey or a rotation makes, and some more.
const WRITES: usize = 4;

/// Whether these shares open what the store holds, in another process.
async fn opens(setup: &Setup, store: &Arc<MemoryBackend>, shares: &[String]) -> bool {
    let core = setup.clone().over(Arc::clone(store) as Arc<dyn Backend>).core();
    for share in shares {
        let share = daypass_barrier::shamir::decode_share(share, 16, 33).unwrap();
        if core.unseal(share).await.unwrap_or(false) {
            return true;
        }
    }
    false
}

async fn dies_while_rekeying(fault: Fault, skip: usize) {
    let store = Arc::new(MemoryBackend::new());
    let setup = Setup::default().shares(5, 3);
    let evil = Arc::new(EvilBackend::new(Arc::clone(&store), Arc::new(setup.clock())));
    let server = setup.clone().over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    let old: Vec<String> = server.shares().iter().take(3).map(text).collect();
    let next = evil.calls().writes + 1 + u64::try_from(skip).unwrap();
    evil.at(daypass_storage::evil::Step::Write(next), fault);
    let nonce = server.put("sys/rekey/init", json!({ "secret_shares": 3, "secret_threshold": 2 })).nobody().await.ok().text("/nonce");
    let mut last = Value::Null;
    for key in &old {
        last = server.put("sys/rekey/update", json!({ "key": key, "nonce": nonce })).nobody().await.body;
    }
    server.put("sys/rotate", Value::Null).await;
    let handed_out: Option<Vec<String>> = serde_json::from_value(last["keys"].clone()).ok();
    drop(server);
    match handed_out {
        Some(new) => assert!(opens(&setup, &store, &new[..2]).await, "new shares after {fault:?} at write {skip}"),
        None => assert!(opens(&setup, &store, &old).await, "old shares after {fault:?} at write {skip}: {last}"),
    }
}

#[tokio::test]
async fn a_rekey_that_is_cut_short_locks_nobody_out() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::Fail, Fault::LoseAnswer, Fault::Full] {
        for skip in 0..WRITES {
            dies_while_rekeying(fault, skip).await;
        }
    }
}

#[tokio::test]
async fn a_rotation_that_is_cut_short_leaves_every_value_readable() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::Fail, Fault::LoseAnswer, Fault::Full] {
        let store = Arc::new(MemoryBackend::new());
        let setup = Setup::default();
        let evil = Arc::new(EvilBackend::new(Arc::clone(&store), Arc::new(setup.clock())));
        let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
        evil.at_next_write(fault);
        server.put("sys/rotate", Value::Null).await;
        let written = server.put("cubbyhole/a", json!({ "b": "c" })).await.status < 300;
        let server = server.restart_over(store as Arc<dyn Backend>).await;
        assert_eq!(server.get("cubbyhole/a").await.status == 200, written, "{fault:?}");
    }
}
