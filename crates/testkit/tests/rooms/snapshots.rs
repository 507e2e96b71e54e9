//! Snapshots of a server that runs, restored into it or into another; and that nothing is taken back after that until somebody says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use daypass_base::download::BrokenOff;
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, MemoryBackend};
use daypass_testkit::{Ask, Setup, TestServer};
use serde_json::json;
use tokio::sync::mpsc::Receiver;

async fn bytes(ask: Ask) -> Vec<u8> {
    let (answer, bytes) = ask.download().await;
    answer.ok();
    bytes
}

async fn snapshot(server: &TestServer) -> Vec<u8> {
    bytes(server.get("sys/storage/raft/snapshot")).await
}

fn restored(server: &TestServer, path: &str, snapshot: &[u8]) -> Ask {
    server.ask("POST", path).header("content-type", "application/x-www-form-urlencoded").raw(snapshot.to_vec())
}

async fn secret(server: &TestServer) -> String {
    server.get("secret/app").await.text("/data/value")
}

async fn with_secret(setup: Setup, value: &str) -> TestServer {
    let server = setup.start().await;
    server.put("sys/mounts/secret", json!({ "type": "kv" })).await.ok();
    server.put("secret/app", json!({ "value": value })).await.ok();
    server
}

async fn with_users(server: &TestServer) {
    server.put("sys/mounts/aws", json!({ "type": "aws" })).await.ok();
    let root = json!({ "access_key": "AKIAROOT", "secret_key": "root-secret", "region": "eu-west-1" });
    server.put("aws/config/root", root).await.ok();
    let role = json!({ "credential_type": "iam_user", "policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess" });
    server.put("aws/roles/ci", role).await.ok();
    server.put("aws/config/lease", json!({ "lease": "30m", "lease_max": "1h" })).await.ok();
}

async fn paused(server: &TestServer) -> bool {
    server.get("sys/storage/revocation").await.ok()["data"]["paused"] == true
}

#[tokio::test]
async fn a_server_goes_back_to_its_own_snapshot_without_being_unsealed() {
    for setup in [Setup::default(), Setup::default().on_disk()] {
        let server = with_secret(setup, "then").await;
        let (answer, then) = server.get("sys/storage/snapshot").download().await;
        assert_eq!(answer.header("content-type"), Some("application/gzip"));
        assert_eq!(answer.header("content-disposition"), Some("attachment"));
        let token = server.token(json!({ "policies": "root", "ttl": "1h" })).await;
        server.put("secret/app", json!({ "value": "now" })).await.ok();
        assert_eq!(secret(&server).await, "now");
        restored(&server, "sys/storage/raft/snapshot", &then).await.ok();
        assert_eq!(server.get("sys/seal-status").await["sealed"], false);
        assert_eq!(secret(&server).await, "then", "no cache shows what was replaced");
        server.get("secret/app").token(&token).await.refused(403);
        assert!(paused(&server).await);
        server.put("secret/app", json!({ "value": "later" })).await.ok();
        // What was in memory before is wound up, and the server is as good as new.
        server.seconds(1).await;
        let server = server.restart().await;
        assert_eq!(secret(&server).await, "later");
        assert!(paused(&server).await, "a restart does not forget it");
    }
}

#[tokio::test]
async fn another_servers_snapshot_is_refused_unless_forced_and_its_shares_unseal_it_then() {
    let production = with_secret(Setup::default().shares(2, 2), "production").await;
    let taken = snapshot(&production).await;
    let server = with_secret(Setup::default().seed(99).on_disk(), "test").await;
    let text = "could not verify hash file, possibly the snapshot is using a different set of unseal keys; use the snapshot-force API to bypass this check";
    assert_eq!(restored(&server, "sys/storage/raft/snapshot", &taken).await.refused(400), text);
    assert_eq!(secret(&server).await, "test");
    assert!(!paused(&server).await);
    restored(&server, "sys/storage/raft/snapshot-force", &taken).await.ok();
    assert_eq!(server.get("sys/seal-status").await["sealed"], true);
    assert_eq!(server.get("sys/seal-status").await["n"], 2);
    server.seconds(1).await;
    for share in production.shares() {
        server.core().unseal(share.clone()).await.unwrap();
    }
    assert_eq!(server.get("secret/app").token(production.root()).await.text("/data/value"), "production");
    server.get("secret/app").await.refused(403);
}

#[tokio::test]
async fn a_snapshot_from_before_a_rotation_is_our_own_and_one_that_was_altered_is_nobodys() {
    let server = with_secret(Setup::default(), "then").await;
    let then = snapshot(&server).await;
    server.put("sys/rotate", json!(null)).await.ok();
    server.put("secret/app", json!({ "value": "now" })).await.ok();
    for broken in [&then[..then.len() - 1], &then[..then.len() / 2], &[][..], b"no snapshot at all"] {
        for path in ["sys/storage/raft/snapshot", "sys/storage/raft/snapshot-force"] {
            let answer = restored(&server, path, broken).await;
            assert!(answer.refused(400).contains("nothing was changed"), "{answer:?}");
        }
    }
    assert_eq!(secret(&server).await, "now");
    restored(&server, "sys/storage/raft/snapshot", &then).await.ok();
    assert_eq!(secret(&server).await, "then");
}

/// Story: after an older snapshot was restored, the server's own newer one was refused: the keyring in use had none of the keys that were made
/// in between.
#[tokio::test]
async fn a_server_goes_forward_to_its_newer_snapshot_after_an_older_one() {
    let server = with_secret(Setup::default(), "then").await;
    let then = snapshot(&server).await;
    server.put("sys/rotate", json!(null)).await.ok();
    server.put("secret/app", json!({ "value": "now" })).await.ok();
    let now = snapshot(&server).await;
    restored(&server, "sys/storage/raft/snapshot", &then).await.ok();
    assert_eq!(secret(&server).await, "then");
    server.seconds(1).await;
    restored(&server, "sys/storage/raft/snapshot", &now).await.ok();
    assert_eq!(secret(&server).await, "now");
    assert_eq!(server.get("sys/key-status").await.number("/term"), 2);
}

#[tokio::test]
async fn what_the_restored_state_calls_overdue_is_left_alone_until_revocation_goes_on() {
    let server = with_secret(Setup::default(), "x").await;
    with_users(&server).await;
    server.get("aws/creds/ci").await.ok();
    let token = server.token(json!({ "policies": "default", "ttl": "20m" })).await;
    let used_up = server.token(json!({ "policies": "root", "num_uses": 2, "ttl": "2h" })).await;
    server.get("aws/creds/ci").token(&used_up).await.ok();
    assert_eq!(server.aws().users().len(), 2);
    let then = snapshot(&server).await;
    restored(&server, "sys/storage/snapshot", &then).await.ok();
    let calls = server.aws().users().len();
    // Not `seconds`, which waits until nothing is due any more: here something stays due.
    for _ in 0..180 {
        server.clock().advance(std::time::Duration::from_mins(1));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(server.aws().users().len(), calls, "no user is deleted while revocation is paused");
    server.get("auth/token/lookup-self").token(&token).await.refused(403);
    let state = server.get("sys/storage/revocation").await.ok();
    assert_eq!((state.text("/data/reason").as_str(), state["data"]["paused"].clone()), ("restore", json!(true)));
    let made = server.get("aws/creds/ci").await.ok();
    server.put("sys/leases/revoke", json!({ "lease_id": made.lease() })).await.ok();
    assert_eq!(server.aws().users().len(), calls, "what an operator asks for is done");
    assert!(server.get("sys/metrics?format=prometheus").await.body.to_string().contains("daypass_revocation_paused 1"));
    server.put("sys/storage/revocation", json!({})).await.refused(400);
    server.put("sys/storage/revocation", json!({ "paused": false })).await.ok();
    assert!(!paused(&server).await);
    for _ in 0..5 {
        server.seconds(60).await;
    }
    assert!(server.aws().users().is_empty(), "{:?}", server.aws().users());
    server.put("sys/storage/revocation", json!({ "paused": true })).await.ok();
    assert_eq!(server.get("sys/storage/revocation").await.text("/data/reason"), "operator");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_under_writes_is_one_state_that_restores() {
    let server = with_secret(Setup::default().on_disk(), "0").await;
    let done = Arc::new(AtomicBool::new(false));
    let writes = {
        let (done, ask) = (Arc::clone(&done), server.ask("PUT", "secret/app"));
        tokio::spawn(async move {
            let mut count = 0;
            while !done.load(Ordering::Acquire) {
                count += 1;
                ask.clone().json(&json!({ "value": count.to_string() })).await.ok();
            }
            count
        })
    };
    let mut last = Vec::new();
    for _ in 0..5 {
        last = snapshot(&server).await;
    }
    done.store(true, Ordering::Release);
    assert!(writes.await.unwrap() > 0);
    restored(&server, "sys/storage/snapshot", &last).await.ok();
    assert!(secret(&server).await.parse::<u64>().is_ok());
}

/// A server that holds more than fits between the writer of a snapshot and a reader that does not read.
async fn with_much(setup: Setup) -> TestServer {
    let server = with_secret(setup, "x").await;
    for number in 0..4 {
        let noise: String = (0..900_000_u32).map(|at| char::from(b'a' + u8::try_from((at % 7919 + number) % 26).unwrap())).collect();
        server.put(&format!("secret/large{number}"), json!({ "value": noise })).await.ok();
    }
    server
}

/// Waits until a snapshot may be taken, and takes it.
async fn next_snapshot(server: &TestServer) -> Vec<u8> {
    let mut tries = 0;
    loop {
        let (answer, bytes) = server.get("sys/storage/snapshot").download().await;
        if answer.status != 429 {
            answer.ok();
            return bytes;
        }
        tries += 1;
        assert!(tries < 100_000, "the turn is not given back");
        tokio::task::yield_now().await;
    }
}

async fn rest(mut reading: Receiver<Bytes>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = reading.recv().await {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// Whether these bytes are a whole snapshot: one that was given up lacks its end.
async fn is_whole(server: &TestServer, bytes: &[u8]) -> bool {
    restored(server, "sys/storage/snapshot", bytes).await.status == 204
}

#[tokio::test]
async fn one_snapshot_is_taken_at_a_time_and_ends_with_its_reader_or_a_seal() {
    let server = with_much(Setup::default().on_disk()).await;
    let reading = server.get("sys/storage/snapshot").stream(200).await;
    assert!(server.get("sys/storage/snapshot").await.refused(429).contains("already"));
    let then = b"any";
    assert!(restored(&server, "sys/storage/snapshot", then).await.refused(429).contains("already"));
    drop(reading);
    assert!(!next_snapshot(&server).await.is_empty());
}

/// Story: a client of a backup stopped reading, and stayed. Nobody could take or restore a snapshot any more, root by force neither, until the server was
/// sealed or restarted.
#[tokio::test]
async fn a_snapshot_whose_client_stops_reading_is_given_up() {
    let server = with_much(Setup::default().on_disk()).await;
    let mut reading = server.get("sys/storage/snapshot").stream(200).await;
    // A client that takes a piece now and then is a slow one.
    for _ in 0..4 {
        while reading.len() < reading.max_capacity() {
            tokio::task::yield_now().await;
        }
        server.seconds(20).await;
        assert!(reading.recv().await.is_some());
    }
    server.get("sys/storage/snapshot").await.refused(429);
    // What writes it is a thread with a time of its own, and may have to come so far first.
    let mut waited = 0;
    let after = loop {
        let (answer, after) = server.get("sys/storage/snapshot").download().await;
        if answer.status != 429 {
            break after;
        }
        waited += 5;
        assert!(waited < 3600, "the turn is not given back");
        server.seconds(5).await;
    };
    assert!(!is_whole(&server, &rest(reading).await).await);
    assert!(is_whole(&server, &after).await);
}

#[tokio::test]
async fn a_snapshot_ends_with_its_token_and_comes_whole_for_the_last_use_of_one() {
    let server = with_much(Setup::default().on_disk()).await;
    server.policy("backup", r#"path "sys/storage/snapshot" { capabilities = ["read"] }"#).await;
    let token = server.token(json!({ "policies": "backup" })).await;
    let reading = server.get("sys/storage/snapshot").token(&token).stream(200).await;
    server.put("auth/token/revoke", json!({ "token": token })).await.ok();
    server.seconds(6).await;
    next_snapshot(&server).await;
    assert!(!is_whole(&server, &rest(reading).await).await);
    let once = server.token(json!({ "policies": "backup", "num_uses": 1 })).await;
    let reading = server.get("sys/storage/snapshot").token(&once).stream(200).await;
    server.seconds(20).await;
    assert!(is_whole(&server, &rest(reading).await).await);
}

/// Story: whoever did not read a backup held up the end of the server by half a minute.
#[tokio::test]
async fn a_snapshot_ends_when_the_server_is_sealed_or_stops() {
    let server = with_much(Setup::default().on_disk()).await;
    let mut reading = server.get("sys/storage/snapshot").follow(200).await;
    server.core().end_streams().await;
    let last = loop {
        match reading.next().await {
            Some(Ok(_)) => {}
            last => break last,
        }
    };
    assert_eq!(last, Some(Err(BrokenOff)), "one that looked whole would be a backup that looks good");
    assert_eq!(server.get("sys/storage/snapshot").await.status, 503, "none begins while the server stops");

    let server = with_much(Setup::default().on_disk()).await;
    let reading = server.get("sys/storage/snapshot").stream(200).await;
    server.put("sys/seal", json!({})).await.ok();
    server.seconds(1).await;
    rest(reading).await;
}

#[tokio::test]
async fn vaults_policies_for_backup_jobs_go_on_to_work_and_force_needs_sudo() {
    let server = with_secret(Setup::default(), "x").await;
    server.policy("backup", r#"path "sys/storage/raft/snapshot" { capabilities = ["read"] }"#).await;
    server.policy("restore", r#"path "sys/storage/raft/snapshot*" { capabilities = ["create", "update"] }"#).await;
    let backup = server.token(json!({ "policies": "backup" })).await;
    let restore = server.token(json!({ "policies": "restore" })).await;
    let taken = bytes(server.get("sys/storage/raft/snapshot").token(&backup)).await;
    restored(&server, "sys/storage/raft/snapshot", &taken).token(&backup).await.refused(403);
    server.get("sys/storage/raft/snapshot").token(&restore).await.refused(403);
    restored(&server, "sys/storage/raft/snapshot-force", &taken).token(&restore).await.refused(403);
    restored(&server, "sys/storage/raft/snapshot", &taken).token(&restore).await.ok();
    assert_eq!(secret(&server).await, "x");
}

/// Story: the audit devices of the replaced state closed a moment after it was left, and the record of the answer goes to them. Where the server took longer to open
/// itself again, a restore that had succeeded was answered with 500.
#[tokio::test]
async fn a_restore_is_answered_however_long_the_server_takes_to_open() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let server = with_secret(setup.over(Arc::clone(&evil) as Arc<dyn Backend>), "then").await;
    let folder = tempfile::tempdir().unwrap();
    let file = json!({ "file_path": folder.path().join("audit.log") });
    server.put("sys/audit/file", json!({ "type": "file", "options": file })).await.ok();
    let then = snapshot(&server).await;
    let before = evil.calls().reads;
    restored(&server, "sys/storage/snapshot", &then).await.ok();
    let reads = evil.calls().reads - before;
    assert!(reads > 5, "{reads}");
    for read in 1..=reads {
        server.seconds(1).await;
        let slow = evil.calls().reads + read;
        evil.at(Step::Read(slow), Fault::Delay(Duration::from_secs(1)));
        let restoring = tokio::spawn(restored(&server, "sys/storage/snapshot", &then).into_future());
        while evil.calls().reads < slow && !restoring.is_finished() {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            server.clock().advance(Duration::from_millis(500));
            // Devices have threads of their own.
            for _ in 0..200 {
                let _given_way = tokio::task::spawn_blocking(std::thread::yield_now).await;
            }
        }
        assert_eq!(restoring.await.unwrap().status, 204, "read {read} of {reads}");
        assert_eq!(secret(&server).await, "then");
    }
}
