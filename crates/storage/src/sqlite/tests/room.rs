//! A file system that is full or nearly so: what goes on, what is refused, and what it says.

use super::*;

#[tokio::test]
async fn a_full_store_says_so_reads_on_and_recovers() {
    let root = tempfile::tempdir().unwrap();
    let options = SqliteOptions { file_bytes_max: Some(512 * 1024), ..SqliteOptions::default() };
    let store = SqliteBackend::open(&root.path().join("store.db"), options).unwrap();
    let mut stored = 0;
    let full = loop {
        match store.commit(Batch::new().put(key(&format!("{stored:04}")), vec![1; 8 * 1024]).config_change()).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&full, CommitError::Full(text) if text.contains("store.db")), "{full}");
    let read = store.get(&key("0000")).await.unwrap();
    assert_eq!(read.config_version, stored, "what was refused has raised nothing");
    assert_eq!(store.scan(&key(""), None, 999).await.unwrap().rows.len(), usize::try_from(stored).unwrap());
    store.commit(Batch::new().delete(key("0000")).delete(key("0001"))).await.unwrap();
    store.commit(Batch::new().put(key("new"), vec![2; 8 * 1024])).await.unwrap();
}

#[tokio::test]
async fn with_little_room_rows_can_change_and_go_but_not_come() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let entry = |at| Due { shard: 0, at: Timestamp::from_seconds(at), id: Bytes::from("a") };
    let store = open(&path);
    store.commit(Batch::new().put(key("a"), "1").due(entry(1))).await.unwrap();
    store.close().await;
    let options = SqliteOptions { reserve_bytes: u64::MAX, ..SqliteOptions::default() };
    let store = SqliteBackend::open(&path, options).unwrap();
    for grows in [Batch::new().put(key("b"), "1"), Batch::new().due(entry(2)), Batch::new().put(key("b"), "1").delete(key("a"))] {
        let full = store.commit(grows).await.unwrap_err();
        assert!(matches!(&full, CommitError::Full(text) if text.contains("make room")), "{full}");
    }
    store.commit(Batch::new().put(key("a"), "revoking").not_due(entry(1)).due(entry(2)).config_change()).await.unwrap();
    store.claim(0, "me", Timestamp::default(), Timestamp::from_seconds(1)).await.unwrap().unwrap();
    store.commit(Batch::new().delete(key("a")).not_due(entry(2))).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().found, None);
}

#[tokio::test]
async fn a_batch_that_does_not_fit_takes_no_other_with_it() {
    let root = tempfile::tempdir().unwrap();
    let options = SqliteOptions { file_bytes_max: Some(512 * 1024), ..SqliteOptions::default() };
    let store = SqliteBackend::open(&root.path().join("store.db"), options).unwrap();
    let small = |number: u32| store.commit(Batch::new().put(key(&number.to_string()), "small"));
    let large = store.commit(Batch::new().put(key("part"), "x").put(key("large"), vec![1; 1024 * 1024]));
    let mut all = vec![small(0), small(1), large, small(2), small(3)];
    for future in &mut all {
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await);
    }
    let mut ended = Vec::new();
    for future in all {
        ended.push(future.await);
    }
    assert!(matches!(ended.remove(2), Err(CommitError::Full(_))));
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert_eq!(store.list(&key(""), None, 99).await.unwrap(), ["0", "1", "2", "3"]);
}

fn entry(at: i64) -> Due {
    Due { shard: 0, at: Timestamp::from_seconds(at), id: Bytes::from("a") }
}

/// The store at `path`, on a file system that has no more room than what is kept for revocations.
fn nearly_full(path: &Path) -> Arc<SqliteBackend> {
    SqliteBackend::open(path, SqliteOptions { reserve_bytes: u64::MAX, ..SqliteOptions::default() }).unwrap()
}

/// Story: the last 16 MiB were kept "for revocations", but the mark that a revoked STS lease leaves is a new row, and was refused like any other. The one thing
/// that the room was kept for could not be done.
#[tokio::test]
async fn with_little_room_what_takes_something_back_may_add_rows() {
    let root = tempfile::tempdir().unwrap();
    let store = nearly_full(&root.path().join("store.db"));
    let mark = || Batch::new().put(key("revoked"), "1").due(entry(1));
    let full = store.commit(mark()).await.unwrap_err();
    assert!(matches!(&full, CommitError::Full(text) if text.contains("kept for revocations")), "{full}");
    store.commit(mark().taking_back()).await.unwrap();
    assert!(store.get(&key("revoked")).await.unwrap().found.is_some());
    assert_eq!(store.due(0, Timestamp::from_seconds(1), 9).await.unwrap(), [entry(1)]);
}

/// Story: a key that was there could become as long as it liked, and took the room that was kept: afterwards neither a revocation nor a deletion found any.
#[tokio::test]
async fn with_little_room_rows_that_change_do_not_become_much_longer() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("a"), "ten bytes!").put(key("long"), vec![1; 100_000])).await.unwrap();
    store.close().await;
    let store = nearly_full(&path);
    let full = store.commit(Batch::new().put(key("a"), vec![1; 1024 * 1024])).await.unwrap_err();
    assert!(matches!(&full, CommitError::Full(text) if text.contains("make room")), "{full}");
    store.commit(Batch::new().put(key("a"), vec![1; 1000])).await.unwrap();
    store.commit(Batch::new().put(key("long"), vec![2; 100_000])).await.unwrap();
    store.commit(Batch::new().put(key("long"), "short")).await.unwrap();
    store.commit(Batch::new().put(key("a"), vec![1; 1024 * 1024]).taking_back()).await.unwrap();
}

/// Story: a server that was stopped on a full disk did not start again, and all it said was `disk I/O error`.
#[test]
fn a_start_on_a_full_file_system_says_so_and_what_to_do() {
    let path = Path::new("/var/lib/daypass/daypass.db");
    let sqlite = |code| OpenError::Sqlite {
        path: path.to_owned(),
        source: rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some("disk I/O error".to_owned())),
    };
    let io = |kind: io::ErrorKind| OpenError::Io { action: "write", path: path.to_owned(), source: kind.into() };
    let all = [
        (sqlite(rusqlite::ffi::SQLITE_FULL), 5_000_000),
        (sqlite(rusqlite::ffi::SQLITE_IOERR_SHMSIZE), 4096),
        (sqlite(rusqlite::ffi::SQLITE_CANTOPEN), 0),
        (io(io::ErrorKind::StorageFull), 4096),
        (io(io::ErrorKind::QuotaExceeded), 1 << 40),
    ];
    for (error, free) in all {
        let text = explain(error, path, Some(free)).to_string();
        assert!(text.contains("file system of /var/lib/daypass/daypass.db is full") && text.contains("make room"), "{text}");
        assert!(text.contains(&format!("{free} bytes are left")), "{text}");
    }
    let room = explain(sqlite(rusqlite::ffi::SQLITE_IOERR_READ), path, Some(1 << 40));
    assert!(matches!(room, OpenError::Sqlite { .. }), "a disk that fails is not full: {room}");
    assert!(matches!(explain(io(io::ErrorKind::PermissionDenied), path, Some(0)), OpenError::Io { .. }));
}
