use daypass_base::sim::SimClock;

use super::super::snapshot::SqliteStaging;
use super::upkeep::HELD_PAUSE;
use super::*;
use crate::snapshot::{Content, Staging};

pub(super) fn failure(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

pub(super) fn committer(root: &tempfile::TempDir) -> Committer {
    committer_at(root, SimClock::default())
}

/// One that takes the pace of its own work from this clock.
pub(super) fn committer_at(root: &tempfile::TempDir, clock: SimClock) -> Committer {
    let place = super::super::place::take(&root.path().join("store.db")).unwrap();
    let options = SqliteOptions::default();
    let opened = schema::open_writer(&place.path, &options).unwrap();
    let (_, queue) = std::sync::mpsc::channel();
    let readers = Arc::new(Readers::new(place.path.clone(), &options));
    let versions = Versions::of(&opened.connection).unwrap();
    Committer::new((opened, versions), queue, Arc::new(Shared::new(0, &options)), readers, options, Arc::new(clock), place)
}

/// Commits a batch as the committer's loop does.
pub(super) fn commit(committer: &mut Committer, batch: Batch) -> Result<u64, CommitError> {
    let (answer, mut answered) = oneshot::channel();
    let permit = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    committer.settle(vec![(Work::Commit { batch, answer }, permit)]);
    answered.try_recv().unwrap()
}

#[test]
fn after_a_failed_sync_nothing_is_promised_or_written_any_more() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    run(&committer.connection, "BEGIN IMMEDIATE").unwrap();
    assert!(matches!(committer.commit_failed(&failure(ffi::SQLITE_IOERR_FSYNC)), CommitError::Unknown(_)));
    assert!(committer.connection.is_autocommit(), "the transaction was ended");
    let later = committer.transact(&[]).err().unwrap();
    assert!(matches!(&later, CommitError::Stopped(text) if text.contains("restart")), "{later}");
    // Story: whoever waited was told of any failure, of which a client learns no more than that.
    assert!(matches!(commit(&mut committer, Batch::new()), Err(CommitError::Stopped(_))));
}

/// Story: whatever failed in a COMMIT but its sync was told as "nothing was changed", and the store went on. The index of the WAL is written after the sync, and
/// needs memory and room: the batch was on the disk, and a restart after a kill found it.
#[test]
fn a_commit_that_fails_when_it_may_be_on_the_disk_is_told_so_and_stops_the_store() {
    for code in [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMMAP, ffi::SQLITE_NOMEM, ffi::SQLITE_IOERR_NOMEM, ffi::SQLITE_IOERR_READ] {
        let root = tempfile::tempdir().unwrap();
        let mut committer = committer(&root);
        let told = committer.commit_failed(&failure(code));
        assert!(matches!(told, CommitError::Unknown(_)), "{code}: {told}");
        let later = commit(&mut committer, Batch::new()).unwrap_err();
        assert!(matches!(&later, CommitError::Stopped(text) if text.contains("restart")), "{code}: {later}");
    }
}

/// What the files of a store were at each step of being replaced: a kill there leaves these. Names of steps with what is found in them.
#[test]
fn a_kill_at_any_step_of_a_replacement_leaves_the_old_store_or_the_new_one() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    let put = |connection: &Connection, value: &str| {
        connection
            .prepare_cached(SpaceSql::of(crate::Space::Config).put)
            .unwrap()
            .execute(params![b"k".as_slice(), 1, value.as_bytes()])
            .unwrap();
    };
    put(&committer.connection, "old");
    // A reader that was at work, so that there is a WAL with something in it.
    let key = Key::new(crate::Space::Config, "k");
    assert_eq!(committer.readers.get(&key).unwrap().unwrap().value, "old");
    let only_one = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    let mut staging = SqliteStaging::begin(&committer.place.path, &committer.options, only_one).unwrap();
    staging.put(&key, b"new").unwrap();
    let Content::File(file) = (Box::new(staging) as Box<dyn Staging>).finish(7).unwrap().0 else { panic!("a file") };
    let mut seen = Vec::new();
    let copies = tempfile::tempdir().unwrap();
    let source = root.path().to_owned();
    let look = |step| {
        let copy = copies.path().join(format!("{step:?}"));
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(&source).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        let place = super::super::place::take(&copy.join("store.db")).unwrap();
        snapshot::remove_leftovers(&place.path).unwrap();
        let connection = schema::open_writer(&place.path, &SqliteOptions::default()).unwrap().connection;
        let value: Vec<u8> = connection.query_row("SELECT v FROM kv WHERE k = CAST('k' AS BLOB)", [], |row| row.get(0)).unwrap();
        assert!(!copy.join("store.db.restore").exists());
        seen.push((step, String::from_utf8(value).unwrap()));
    };
    committer.replace(&file, look).unwrap();
    let old = "old".to_owned();
    assert_eq!(seen, [(Swap::Readers, old.clone()), (Swap::Closed, old), (Swap::Renamed, "new".to_owned())]);
    assert_eq!(committer.readers.get(&key).unwrap().unwrap().value, "new");
    assert_eq!(committer.shared.config_version.load(Ordering::Acquire), 8);
    put(&committer.connection, "newer");
    assert_eq!(committer.readers.get(&key).unwrap().unwrap().value, "newer");
}

#[test]
fn a_replacement_that_cannot_be_made_leaves_the_store_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    let only_one = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    let staging = Box::new(SqliteStaging::begin(&committer.place.path, &committer.options, only_one).unwrap());
    let Content::File(file) = (staging as Box<dyn Staging>).finish(7).unwrap().0 else { panic!("a file") };
    // Another program reads the store: its WAL stays when ours is closed.
    let other = Connection::open(&committer.place.path).unwrap();
    let busy = other.query_row("SELECT count(*) FROM kv", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(busy, 0);
    committer.connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO kv VALUES(x'01', 1, x'02'); COMMIT").unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM kv").unwrap();
    committer.connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO kv VALUES(x'03', 1, x'04'); COMMIT").unwrap();
    let refused = committer.replace(&file, |_step| {});
    assert!(matches!(refused, Err(CommitError::Held(_))), "{refused:?}");
    // Nor while it does nothing: it has the index of the WAL, with the number of pages that the old file has.
    other.execute_batch("COMMIT").unwrap();
    let refused = committer.replace(&file, |step| assert_ne!(step, Swap::Renamed));
    assert!(matches!(&refused, Err(CommitError::Held(text)) if text.contains("nothing was changed")), "{refused:?}");
    assert!(committer.transact(&[]).is_ok());
    let rows: i64 = committer.connection.query_row("SELECT count(*) FROM kv", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
    drop(other);
    committer.replace(&file, |_step| {}).unwrap();
}

/// Story: a restore was refused because a shell had the store open, and said that nothing was changed. The shell was writing just then, which was taken for a fault of
/// the disk: no writes until a restart.
#[test]
fn a_replacement_that_is_refused_beside_a_program_that_writes_stops_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    let put = |connection: &Connection| connection.execute("INSERT INTO kv(k, ver, v) VALUES(randomblob(8), 1, x'02')", []).unwrap();
    put(&committer.connection);
    let version = committer.shared.config_version.load(Ordering::Acquire);
    let only_one = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    let staging = Box::new(SqliteStaging::begin(&committer.place.path, &committer.options, only_one).unwrap());
    let Content::File(file) = (staging as Box<dyn Staging>).finish(7).unwrap().0 else { panic!("a file") };
    let other = Connection::open(&committer.place.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    put(&other);
    committer.connection.busy_timeout(Duration::ZERO).unwrap();
    let refused = committer.replace(&file, |step| assert_ne!(step, Swap::Renamed));
    assert!(matches!(&refused, Err(CommitError::Held(text)) if text.contains("nothing was changed")), "{refused:?}");
    assert!(!committer.is_stopped());
    // It is written to again once the other is done.
    other.execute_batch("COMMIT").unwrap();
    committer.lasting().unwrap();
    put(&committer.connection);
    assert_eq!(committer.shared.config_version.load(Ordering::Acquire), version, "nothing was changed");
    let rows: i64 = committer.connection.query_row("SELECT count(*) FROM kv", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3);
    drop(other);
    committer.replace(&file, |_step| {}).unwrap();
}

/// Story: the checkpoint that gives space back waited five seconds for whoever read, on the thread that commits. A snapshot reads for minutes, so after every
/// two seconds without a write all writers stood still for five.
#[test]
fn a_snapshot_holds_up_no_checkpoint_and_the_wal_is_looked_at_again_later() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    let put = |connection: &Connection| connection.execute("INSERT INTO kv(k, ver, v) VALUES(randomblob(8), 1, x'02')", []).unwrap();
    put(&committer.connection);
    // As an export does.
    let reader = schema::open_reader(&committer.place.path, 1024).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM kv").unwrap();
    put(&committer.connection);
    for _ in 0..2 {
        let next = committer.reclaim();
        assert!(matches!(next, Tidy::After(HELD_PAUSE)), "not given up, and not tried in a circle");
    }
    let waits: i64 = committer.connection.query_row("PRAGMA busy_timeout", [], |row| row.get(0)).unwrap();
    assert_eq!(waits, 5000, "other waits are as long as before");
    reader.execute_batch("COMMIT").unwrap();
    assert!(matches!(committer.reclaim(), Tidy::Done));
    assert_eq!(std::fs::metadata(snapshot::beside(&committer.place.path, "-wal")).unwrap().len(), 0);
    // Nor is the end of a store held up.
    committer.connection.execute_batch("INSERT INTO kv(k, ver, v) VALUES(x'09', 1, x'02')").unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM kv").unwrap();
    assert!(committer.transact(&[]).is_ok());
    committer.close();
}

/// Story: a restore was refused nothing while a copy of the old state was still being made for a client that had gone: two connections then had two
/// files open under one name, with one index of the WAL between them.
#[test]
fn nothing_is_replaced_while_a_copy_is_made() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    let only_one = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    let staging = Box::new(SqliteStaging::begin(&committer.place.path, &committer.options, only_one).unwrap());
    let Content::File(file) = (staging as Box<dyn Staging>).finish(7).unwrap().0 else { panic!("a file") };
    let shared = Arc::clone(&committer.shared);
    let export = shared.exports.read();
    let refused = committer.replace(&file, |_step| panic!("nothing is done")).unwrap_err();
    assert!(matches!(&refused, CommitError::Failed(text) if text.contains("when that is done")), "{refused}");
    drop(export);
    committer.replace(&file, |_step| {}).unwrap();
}

#[test]
fn a_write_that_fails_before_the_sync_changed_nothing_and_the_next_may_succeed() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    assert!(matches!(committer.commit_failed(&failure(ffi::SQLITE_IOERR_WRITE)), CommitError::Failed(_)));
    assert!(matches!(committer.commit_failed(&failure(ffi::SQLITE_FULL)), CommitError::Full(_)));
    assert!(matches!(committer.commit_failed(&failure(ffi::SQLITE_BUSY)), CommitError::Failed(_)));
    assert!(committer.transact(&[]).is_ok());
}

fn put(bytes: usize) -> Batch {
    Batch::new().put(Key::new(crate::Space::Config, "k"), vec![1; bytes])
}

#[test]
fn a_batch_that_would_use_up_the_reserve_is_refused_before_it_does() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    committer.room.free = Some(committer.options.reserve_bytes + 1000);
    let full = committer.refusal(&put(600)).unwrap();
    assert!(matches!(&full, Some(CommitError::Full(text)) if text.contains("this may take 1202")), "{full:?}");
    // Written to the WAL and to its place: twice 201, and what one batch of a group takes is not there for the next.
    for _ in 0..4 {
        assert!(committer.refusal(&put(100)).unwrap().is_none());
    }
    assert!(committer.refusal(&put(100)).unwrap().is_some());
    assert!(committer.refusal(&put(100).taking_back()).unwrap().is_none());
    assert!(committer.refusal(&Batch::new().delete(Key::new(crate::Space::Config, "k"))).unwrap().is_none());
}

#[test]
fn many_small_steps_do_not_use_up_the_reserve_either() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    committer.connection.prepare_cached(SpaceSql::of(crate::Space::Config).put).unwrap().execute(params![b"k", 1, b"".as_slice()]).unwrap();
    committer.room.free = Some(0);
    let steps = (0..10_000).take_while(|_| committer.refusal(&put(4000)).unwrap().is_none()).count() as u64;
    assert_eq!(steps, committer.options.reserve_bytes / GROWN_PART / 4000);
    assert!(committer.refusal(&put(0)).unwrap().is_none(), "what becomes no longer goes on");
    // There is room again.
    committer.transact(&[]).unwrap();
    committer.room.free = Some(0);
    assert!(committer.refusal(&put(4000)).unwrap().is_none());
}
