//! A store that a key file opens: the file is exchanged while no server runs, and dies with it at the worst moments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daypass_base::sim::SeededEntropy;
use daypass_core::{FileRekey, opens_by_file, rekey_by_file};
use daypass_storage::MemoryBackend;
use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

struct Keys {
    folder: tempfile::TempDir,
    old: PathBuf,
    new: PathBuf,
}

impl Keys {
    fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        Self { old: at("old.key"), new: at("new.key"), folder }
    }
}

/// A server over this store that the file opens, with something stored.
async fn server(store: &Arc<MemoryBackend>, key: &Path) -> (Setup, TestServer) {
    let setup = Setup::default().over(Arc::clone(store) as Arc<_>).key_file(key);
    let server = setup.clone().start().await;
    server.put("sys/policies/acl/kept", json!({ "policy": "path \"a\" {}" })).await.ok();
    (setup, server)
}

async fn rekey(store: &dyn daypass_storage::Backend, keys: &Keys) -> Result<FileRekey, String> {
    rekey_by_file(store, &keys.old, &keys.new, Arc::new(SeededEntropy::new(99))).await.map_err(|error| error.to_string())
}

/// Whether a server that is configured with this file opens itself and has what was stored.
async fn serves(setup: &Setup, key: &Path, root: &str) -> bool {
    let server = setup.clone().key_file(key).seed(8).wait();
    let opened = server.core().unseal_by_file().await.unwrap_or(false);
    let found = server.get("sys/policies/acl/kept").token(root).await;
    assert_eq!(opened, found.status == 200, "{found:?}");
    opened
}

#[tokio::test]
async fn a_store_dies_with_its_key_file_exchanged_or_not_and_one_of_both_opens_it() {
    for (fault, done, opens) in [
        (None, Some(FileRekey::Now), "new"),
        (Some(Fault::CrashBefore), None, "old"),
        (Some(Fault::CrashAfter), None, "new"),
        (Some(Fault::Fail), None, "old"),
        (Some(Fault::Full), None, "old"),
        // What the store says afterwards counts for more than a lost answer.
        (Some(Fault::LoseAnswer), Some(FileRekey::Now), "new"),
        // Story: but not after a sync that failed. The store shows the old rows until its next start finds the new ones on the disk, and whoever had
        // removed the new file as "of no use" had no key to it.
        (Some(Fault::Unsynced), None, "new"),
    ] {
        let (store, keys) = (Arc::new(MemoryBackend::new()), Keys::fresh());
        let (setup, running) = server(&store, &keys.old).await;
        let root = running.root().to_owned();
        drop(running);
        let evil = EvilBackend::new(Arc::clone(&store), Arc::new(setup.clock()));
        if let Some(fault) = fault {
            evil.at(Step::Write(1), fault);
        }
        let made = rekey(&evil, &keys).await;
        assert_eq!(made.as_ref().ok().copied(), done, "{fault:?}: {made:?}");
        assert!(keys.old.exists() && keys.new.exists(), "{fault:?}: no file is removed");
        evil.restart();
        opens_by_file(&evil, if opens == "old" { &keys.old } else { &keys.new }).await.unwrap();
        let found = (serves(&setup, &keys.old, &root).await, serves(&setup, &keys.new, &root).await);
        assert_eq!(found, (opens == "old", opens == "new"), "{fault:?}");
        if matches!(fault, Some(Fault::CrashAfter | Fault::Unsynced)) {
            assert!(made.unwrap_err().contains("keep both files"));
            assert_eq!(rekey(&*store, &keys).await, Ok(FileRekey::Before));
        }
    }
}

#[tokio::test]
async fn a_new_file_is_never_one_that_is_there_and_the_root_key_is_another_one() {
    let (store, keys) = (Arc::new(MemoryBackend::new()), Keys::fresh());
    assert!(rekey(&*store, &keys).await.unwrap_err().contains("never initialised"));
    let (_, running) = server(&store, &keys.old).await;
    running.put("sys/seal", Value::Null).await.ok();
    std::fs::copy(&keys.old, &keys.new).unwrap();
    assert!(
        rekey(&*store, &keys)
            .await
            .unwrap_err()
            .contains("exists already; it is never overwritten: its key is the one that opens this store now")
    );
    std::fs::write(&keys.new, "no key").unwrap();
    assert!(rekey(&*store, &keys).await.unwrap_err().contains("it is no key that could be tried"));
    std::fs::remove_file(&keys.new).unwrap();
    let same = Keys { new: keys.old.clone(), old: keys.old.clone(), ..Keys::fresh() };
    assert_eq!(rekey(&*store, &same).await, Ok(FileRekey::Before), "the configuration names the new one already");
    assert_eq!(rekey(&*store, &keys).await, Ok(FileRekey::Now));
    assert!(opens_by_file(&*store, &keys.old).await.unwrap_err().to_string().contains("does not open this store"));
    opens_by_file(&*store, &keys.new).await.unwrap();
    // The file of another server opens nothing and changes nothing.
    let strange = Keys { old: keys.folder.path().join("strange.key"), new: keys.folder.path().join("newest.key"), ..Keys::fresh() };
    let _made = Setup::default().seed(5).key_file(&strange.old);
    assert!(rekey(&*store, &strange).await.unwrap_err().contains("does not open this store"));
    assert!(!strange.new.exists());
}

/// Story: a key file named for a store of shares was tried as a key all the same, and the answer was that it is the wrong one.
/// Story: the key file was moved away, and what watches the seal went on saying that all was well.
#[tokio::test]
async fn a_seal_that_will_not_open_at_the_next_start_is_not_healthy() {
    let keys = Keys::fresh();
    let (_, server) = server(&Arc::new(MemoryBackend::new()), &keys.old).await;
    let healthy = async || server.get("sys/seal-backend-status").nobody().await.ok()["healthy"].clone();
    assert_eq!(healthy().await, true);
    std::fs::rename(&keys.old, &keys.new).unwrap();
    assert_eq!(healthy().await, true, "it is looked at once a minute");
    server.advance(std::time::Duration::from_mins(1)).await;
    assert_eq!(healthy().await, false);
    std::fs::rename(&keys.new, &keys.old).unwrap();
    server.advance(std::time::Duration::from_mins(1)).await;
    assert_eq!(healthy().await, true);
}

#[tokio::test]
async fn a_store_of_shares_is_told_from_one_with_the_wrong_file() {
    let (store, keys) = (Arc::new(MemoryBackend::new()), Keys::fresh());
    let setup = Setup::default().over(Arc::clone(&store) as Arc<_>);
    drop(setup.clone().start().await);
    let server = setup.key_file(&keys.old).wait();
    assert!(server.core().unseal_by_file().await.unwrap_err().to_string().contains("sealed by shares, not by a key file"));
    assert!(rekey(&*store, &keys).await.unwrap_err().contains("is not offered"));
    assert!(!keys.new.exists());
}
