//! Exports beside the rest of the store's life.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use super::*;

/// Rows whose export takes more than one look at whether it is still wanted.
async fn filled(path: &Path) -> Arc<SqliteBackend> {
    let store = open(path);
    for number in 0..12 {
        store.commit(Batch::new().put(key(&number.to_string()), vec![1; 1024 * 1024])).await.unwrap();
    }
    store
}

#[tokio::test]
async fn an_export_whose_caller_has_gone_ends_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = filled(&path).await;
    let given_up = AtomicBool::new(true);
    let ended = snapshot::export(&path, &store.options, &store.shared, &given_up).err().unwrap();
    assert!(matches!(&ended, CommitError::Failed(text) if text.contains("nobody waits")), "{ended}");
    let mut dropped = store.export();
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx).is_pending())).await);
    drop(dropped);
    drop(store.shared.exports.write());
    assert!(store.export().await.is_ok());
}

/// Story: a store that was closed while a snapshot was taken waited five seconds for it in vain, and gave up its lock while a connection of the snapshot
/// still had the file open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_exports_and_leaves_no_wal() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = filled(&path).await;
    let exporting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.export().await.map(drop) }
    });
    tokio::task::yield_now().await;
    store.close().await;
    // It was done before, or ended for the close; never is the file open afterwards.
    if let Err(ended) = exporting.await.unwrap() {
        assert!(matches!(&ended, CommitError::Failed(text) if text.contains("closed")), "{ended}");
    }
    assert!(!root.path().join("store.db-wal").exists(), "nobody else had it open");
    let given_up = AtomicBool::new(false);
    assert!(snapshot::export(&path, &store.options, &store.shared, &given_up).is_err(), "none begins afterwards");
}

/// Story: the root key that was sealed under an exchanged key file stayed in the free space of the store's file, and the old key file opened it.
#[tokio::test]
async fn a_store_that_is_written_anew_has_nothing_left_of_what_was_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    let at = Timestamp::from_seconds(5);
    let due = Due { shard: 1, at, id: Bytes::from("x") };
    store
        .commit(
            Batch::new()
                .put(key("a"), format!("what was before{}", ".".repeat(200)))
                .put(key("b"), "kept")
                .due(due.clone())
                .config_change(),
        )
        .await
        .unwrap();
    store.commit(Batch::new().delete(key("a"))).await.unwrap();
    store.commit(Batch::new().put(key("a"), "new")).await.unwrap();
    let found = || std::fs::read(&path).unwrap().windows(15).any(|bytes| bytes == b"what was before");
    store.close().await;
    assert!(found(), "this is what it is about");
    let store = open(&path);
    crate::snapshot::rewrite(&*store).await.unwrap();
    let read = store.get(&key("a")).await.unwrap();
    assert_eq!((&*read.found.unwrap().value, read.config_version > 1), (&b"new"[..], true));
    assert_eq!(store.due(1, at, 9).await.unwrap(), [due]);
    store.close().await;
    assert!(!found());
}

/// Another program that has read the store and still has it open, until the end of its input.
fn another_program(path: &Path) -> Child {
    let own = format!("{}::{}", module_path!().split_once("::").unwrap().1, "the_other_program");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &own, "--nocapture"]).env(OTHER, path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut started = command.spawn().unwrap();
    let said = BufReader::new(started.stdout.as_mut().unwrap()).lines().map_while(Result::ok).any(|line| line.contains(HAS_READ));
    assert!(said, "it has read the store");
    started
}

const OTHER: &str = "DAYPASS_TEST_OTHER_PROGRAM";
const HAS_READ: &str = "the store was read";

/// What [`another_program`] runs; nothing otherwise.
#[test]
fn the_other_program() {
    let Some(path) = std::env::var_os(OTHER) else { return };
    let connection = rusqlite::Connection::open(path).unwrap();
    number(&connection, "SELECT count(*) FROM kv");
    writeln!(std::io::stdout(), "{HAS_READ}").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Story: a Python shell had read the store and done nothing since. A larger snapshot was restored; the index of the WAL that the shell had open said how many pages the old file had, and the new
/// one "is not a daypass store". The server was sealed, and did not start again until the shell was closed.
#[tokio::test]
async fn a_store_that_another_program_has_open_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("old"), "1")).await.unwrap();
    let staged = async || {
        let mut staging = store.stage().await.unwrap();
        staging.put(&key("new"), &vec![1; 1024 * 1024]).unwrap();
        staging.finish(1).unwrap()
    };
    let mut other = another_program(&path);
    let refused = store.replace(staged().await).await.unwrap_err();
    let process = format!("(process {}, ", other.id());
    assert!(matches!(&refused, CommitError::Held(text) if text.contains(&process)), "{refused}");
    assert!(store.get(&key("old")).await.unwrap().found.is_some());
    store.commit(Batch::new().put(key("later"), "1")).await.unwrap();
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    store.replace(staged().await).await.unwrap();
    assert!(store.get(&key("new")).await.unwrap().found.is_some() && store.get(&key("later")).await.unwrap().found.is_none());
    store.commit(Batch::new().put(key("later"), "1")).await.unwrap();
}
