use std::path::Path;

use super::*;
use crate::{Condition, MemoryBackend, Space};

mod property;
mod room;
mod snapshots;
// A program that is linked statically has no library before it.
#[cfg(target_env = "gnu")]
mod syncs;

fn open(path: &Path) -> Arc<SqliteBackend> {
    SqliteBackend::open(path, SqliteOptions::default()).unwrap()
}

fn refused(path: &Path) -> OpenError {
    SqliteBackend::open(path, SqliteOptions::default()).err().unwrap()
}

fn key(name: &str) -> Key {
    Key::new(Space::Config, name.as_bytes().to_vec())
}

fn number(connection: &rusqlite::Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let made = AtomicU64::new(0);
    crate::contract::suite(|| async {
        let path = root.path().join(format!("{}.db", made.fetch_add(1, Ordering::Relaxed)));
        open(&path) as Arc<dyn Backend>
    })
    .await;
}

#[tokio::test]
async fn everything_is_there_after_closing_and_opening() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let at = Timestamp::from_seconds(5);
    let due = Due { shard: 1, at, id: Bytes::from("x") };
    let store = open(&path);
    store.commit(Batch::new().put(key("a"), "1").put(key("a"), "2").due(due.clone()).config_change()).await.unwrap();
    store.claim(1, "me", at, at + Duration::from_secs(15)).await.unwrap();
    store.close().await;
    assert!(!root.path().join("store.db-wal").exists(), "a clean close leaves no WAL behind");
    let store = open(&path);
    let read = store.get(&key("a")).await.unwrap();
    assert_eq!((read.found.unwrap().version, read.config_version), (2, 1));
    assert_eq!(store.due(1, at, 9).await.unwrap(), [due]);
    assert_eq!(store.claim(1, "other", at, at).await.unwrap(), None);
    assert_eq!(store.commit(Batch::new().config_change()).await.unwrap(), 2);
}

#[tokio::test]
async fn dropping_the_store_finishes_and_frees_the_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("a"), "1")).await.unwrap();
    drop(store);
    assert!(open(&path).get(&key("a")).await.unwrap().found.is_some());
}

#[tokio::test]
async fn batches_handed_over_before_a_close_are_answered_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    let mut waiting: Vec<_> = (0..100).map(|number| store.commit(Batch::new().put(key(&number.to_string()), "1"))).collect();
    // Polled once each: now they are with the committer.
    for future in &mut waiting {
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await);
    }
    store.close().await;
    for future in waiting {
        future.await.unwrap();
    }
    drop(store);
    assert_eq!(open(&path).scan(&key(""), None, 999).await.unwrap().rows.len(), 100);
}

#[tokio::test]
async fn waiting_batches_share_a_transaction() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("store.db"));
    let tasks: Vec<_> = (0..256)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(Batch::new().put(key(&number.to_string()), "1")).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let counts = store.counts();
    assert_eq!(counts.batches, 256);
    assert!(counts.transactions < 256, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_in_memory_is_never_older_than_an_answered_commit() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("store.db"));
    let (answered, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, answered, done) = (Arc::clone(&store), Arc::clone(&answered), Arc::clone(&done));
            tokio::spawn(async move {
                let keys = [key("a"), key("b")];
                let number = |row: Option<&Row>| row.map_or(0, |row| std::str::from_utf8(&row.value).unwrap().parse::<u64>().unwrap());
                while !done.load(Ordering::Acquire) {
                    let at_least = answered.load(Ordering::Acquire);
                    let alone = number(store.get(&keys[0]).await.unwrap().found.as_ref());
                    assert!(alone >= at_least, "{alone} was read after {at_least} was answered");
                    let both = store.get_many(&keys).await.unwrap().found;
                    let both: Vec<u64> = both.iter().map(|row| number(row.as_ref())).collect();
                    assert!(both[0] == both[1] && both[0] >= alone, "{both:?} after {alone}: not one state of the store");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for written in 1..=500_u64 {
        store.commit(Batch::new().put(key("a"), written.to_string()).put(key("b"), written.to_string())).await.unwrap();
        answered.store(written, Ordering::Release);
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_second_open_is_refused_until_the_first_closes() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    let text = refused(&path).to_string();
    assert!(text.contains("in use by another process") && text.contains("store.db"), "{text}");
    store.close().await;
    open(&path);
}

#[tokio::test]
async fn a_file_of_a_newer_format_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    open(&path).close().await;
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE meta SET value = 99 WHERE name = 'format'", []).unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::Newer { found: 99, supported: schema::FORMAT, .. }), "{error}");
    assert!(error.to_string().contains("format 99"), "{error}");
}

/// A file of an earlier format: what is the same in all of them, and what is particular to one.
fn of_format(format: i64, kv: &str, rows: &str) -> String {
    format!(
        "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;
         CREATE TABLE kv({kv};
         CREATE TABLE tok(k BLOB PRIMARY KEY, ver INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE lease(k BLOB PRIMARY KEY, ver INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE idx(k BLOB PRIMARY KEY, ver INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE exp(shard INTEGER NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY(shard, at, id)) WITHOUT ROWID;
         CREATE TABLE claim(shard INTEGER PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, until INTEGER NOT NULL);
         CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
         INSERT INTO meta VALUES('format', {format}), ('config_version', 7);
         PRAGMA application_id=0x64617970;
         {rows}"
    )
}

#[tokio::test]
async fn a_file_of_the_first_format_is_brought_to_this_one_with_all_it_has() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(&of_format(
            1,
            "k BLOB PRIMARY KEY, ver INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID",
            "INSERT INTO kv VALUES(CAST('a' AS BLOB), 3, CAST('x' AS BLOB)), (CAST('b/c' AS BLOB), 1, zeroblob(5000));
         INSERT INTO tok VALUES(x'01', 1, x'ff');",
        ))
        .unwrap();
    for _ in 0..2 {
        let store = open(&path);
        let read = store.get(&key("a")).await.unwrap();
        assert_eq!((read.found.unwrap(), read.config_version), (Row { value: Bytes::from("x"), version: 3 }, 7));
        assert_eq!(store.get(&key("b/c")).await.unwrap().found.unwrap().value.len(), 5000);
        assert!(store.get(&Key::new(Space::Token, vec![1])).await.unwrap().found.is_some());
        assert_eq!(store.list(&key(""), None, 9).await.unwrap(), ["a", "b/"]);
        store.close().await;
    }
    let connection = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(number(&connection, "SELECT value FROM meta WHERE name = 'format'"), schema::FORMAT);
    assert_eq!(number(&connection, "SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%kv%'"), 1, "nothing of the old table is left");
}

#[tokio::test]
async fn a_file_of_the_second_format_is_taken_as_it_is_and_refused_by_older_programs_from_then_on() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(&of_format(
            2,
            "k BLOB NOT NULL UNIQUE, ver INTEGER NOT NULL, v BLOB NOT NULL)",
            "INSERT INTO kv(k, ver, v) VALUES(CAST('a' AS BLOB), 3, CAST('x' AS BLOB));",
        ))
        .unwrap();
    let store = open(&path);
    let read = store.get(&key("a")).await.unwrap();
    assert_eq!((read.found.unwrap(), read.config_version), (Row { value: Bytes::from("x"), version: 3 }, 7));
    store.close().await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(number(&connection, "SELECT value FROM meta WHERE name = 'format'"), schema::FORMAT);
}

/// Story: a store that another program had open could not be read, and its operator was told to give a path to a new file.
#[tokio::test]
async fn a_file_that_does_not_fit_together_may_be_open_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    open(&path).close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    // The kind of the first page.
    bytes[100] = 0;
    std::fs::write(&path, bytes).unwrap();
    let text = refused(&path).to_string();
    assert!(text.contains("another program may have it open") && !text.contains("new file"), "{text}");
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let text = root.path().join("notes.txt");
    std::fs::write(&text, "shopping list, long enough to be no empty file ".repeat(100)).unwrap();
    assert!(matches!(refused(&text), OpenError::NotDaypass { .. }));
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("shopping"));
    let foreign = root.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    assert!(matches!(refused(&foreign), OpenError::NotDaypass { .. }));
    let directory = refused(root.path()).to_string();
    assert!(directory.contains("is a directory"), "{directory}");
}

#[tokio::test]
async fn the_file_is_set_up_as_decided() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("a"), "1")).await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(number(&connection, "PRAGMA page_size"), 4096);
    assert_eq!(number(&connection, "PRAGMA auto_vacuum"), 2);
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", schema::DUE_FROM)).unwrap();
    let plan: String = plan.query_row(rusqlite::params![0, 0, [0_u8], 0, 0], |row| row.get(3)).unwrap();
    assert!(plan.starts_with("SEARCH exp USING PRIMARY KEY (shard=?"), "{plan}");
}

#[tokio::test]
async fn reads_go_on_while_another_connection_writes() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("a"), "1")).await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE kv SET ver = 9").unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.commit(Batch::new().put(key("b"), "1")).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(store.get(&key("a")).await.unwrap().found.unwrap().version, 1);
    other.execute_batch("ROLLBACK").unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn free_pages_are_given_back_when_idle() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let options = SqliteOptions { idle_before_reclaim: Duration::ZERO, spare_pages: 16, ..SqliteOptions::default() };
    let store = SqliteBackend::open(&path, options).unwrap();
    for number in 0..8 {
        store.commit(Batch::new().put(key(&number.to_string()), vec![1; 1024 * 1024])).await.unwrap();
    }
    let gone = (0..8).fold(Batch::new(), |batch, number| batch.delete(key(&number.to_string())));
    store.commit(gone).await.unwrap();
    let watcher = rusqlite::Connection::open(&path).unwrap();
    let mut looks = 0;
    while number(&watcher, "PRAGMA page_count") > 200 {
        looks += 1;
        assert!(looks < 1_000_000, "nothing was given back");
        tokio::task::yield_now().await;
    }
    let free = number(&watcher, "PRAGMA freelist_count");
    assert!(free >= 16, "{free} spare pages");
}

#[tokio::test]
async fn a_dropped_request_does_not_disturb_the_others() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("store.db"));
    let mut dropped = store.commit(Batch::new().put(key("a"), "1"));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx).is_pending())).await);
    drop(dropped);
    store.commit(Batch::new().require(key("a"), Condition::Exists).put(key("b"), "1")).await.unwrap();
}
