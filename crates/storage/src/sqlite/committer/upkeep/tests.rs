use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use daypass_base::sim::SimClock;
use rusqlite::{Connection, ffi};

use super::*;
use crate::sqlite::committer::tests::{commit, committer, committer_at, failure};
use crate::{Batch, Key, Space};

fn key(name: &str) -> Key {
    Key::new(Space::Config, name.as_bytes().to_vec())
}

/// About so many pages.
fn pages(name: &str, pages: usize) -> Batch {
    Batch::new().put(key(name), vec![1; pages * 4096])
}

/// How many of the WAL's pages were written back.
fn written_back(connection: &Connection) -> i64 {
    connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(2)).unwrap()
}

/// Somebody who reads until a COMMIT.
fn reading(path: &Path) -> Connection {
    let reader = schema::open_reader(path, 1024).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM kv").unwrap();
    reader
}

#[test]
fn the_wal_is_written_back_after_the_answer_and_does_not_grow_while_writes_go_on() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    let mut longest = 0;
    for number in 0..40 {
        commit(&mut committer, pages(&number.to_string(), 150)).unwrap();
        let answered = schema::wal_pages(&committer.connection).unwrap();
        longest = longest.max(answered);
        let before = written_back(&committer.connection);
        assert!(before == 0 || answered == before, "nothing was written back on the way to the answer");
        committer.keep_up();
        let all = answered < WAL_PAGES || written_back(&committer.connection) == answered;
        assert!(all, "{answered} pages are written back at once");
    }
    assert!((WAL_PAGES..WAL_PAGES + 400).contains(&longest), "{longest}");
    assert!(std::fs::metadata(&committer.place.path).unwrap().len() > 30 * 150 * 4096);
}

#[test]
fn a_wal_that_somebody_read_for_a_while_is_written_back_and_begins_anew_after_that() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    commit(&mut committer, pages("a", 10)).unwrap();
    let reader = reading(&committer.place.path);
    for number in 0..10 {
        commit(&mut committer, pages(&number.to_string(), 150)).unwrap();
        committer.keep_up();
    }
    assert!(written_back(&committer.connection) < WAL_PAGES && !committer.is_stopped());
    reader.execute_batch("COMMIT").unwrap();
    for _ in 0..2 {
        commit(&mut committer, pages("last", 1)).unwrap();
        committer.keep_up();
    }
    assert!(schema::wal_pages(&committer.connection).unwrap() < 20);
}

/// Story: pages were copied out of the WAL while somebody read, without a sync, and the disk did not take them. After the stop, closing the store copied what was left of the
/// WAL and removed it: commits that had been acknowledged were gone, and nobody was told.
#[test]
fn after_a_stop_the_next_start_takes_all_from_the_wal_whatever_was_copied_out_of_it() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    let path = committer.place.path.clone();
    commit(&mut committer, pages("first", 1)).unwrap();
    schema::write_back(&committer.connection).unwrap();
    commit(&mut committer, pages("copied", 50)).unwrap();
    let reader = reading(&path);
    commit(&mut committer, pages("in-the-wal", 50)).unwrap();
    let on_disk = std::fs::read(&path).unwrap();
    schema::write_back_some(&committer.connection).unwrap();
    let (copied, all) = (written_back(&committer.connection), schema::wal_pages(&committer.connection).unwrap());
    assert!(copied > 50 && copied < all, "{copied} of {all}");
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    // What the disk has: the pages were never written there, and the kernel has let go of them.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(on_disk.len() as u64).unwrap();
    file.write_all_at(&on_disk, 0).unwrap();
    committer.upkeep_failed(&failure(ffi::SQLITE_IOERR_FSYNC), "written back");
    assert!(committer.is_stopped());
    assert_eq!(
        written_back(&committer.connection),
        0,
        "another program that has the index open goes by this, and so does a start meanwhile"
    );
    assert!(matches!(committer.reclaim(), Tidy::Done));
    committer.keep_up();
    assert_eq!(schema::wal_pages(&committer.connection).unwrap(), all, "nothing is written any more");
    committer.close();
    assert!(wal_bytes(&path) > 0);
    let connection = schema::open_writer(&path, &crate::sqlite::SqliteOptions::default()).unwrap().connection;
    let rows: i64 = connection.query_row("SELECT count(*) FROM kv WHERE length(v) IN (4096, 50 * 4096)", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3);
    let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
}

fn wal_bytes(path: &Path) -> u64 {
    std::fs::metadata(beside(path, "-wal")).map_or(0, |found| found.len())
}

/// A store of which an earlier process has left something in the WAL, which it could not sync.
fn left_behind(root: &tempfile::TempDir) -> PathBuf {
    let mut earlier = committer(root);
    let path = earlier.place.path.clone();
    commit(&mut earlier, pages("a", 50)).unwrap();
    earlier.sync_failed(&failure(ffi::SQLITE_IOERR_FSYNC));
    earlier.close();
    assert!(wal_bytes(&path) > 0);
    path
}

/// Story: another program read the store, and what had been left was written back in part. The first commit came behind it, on what no sync could make last.
#[test]
fn what_an_earlier_process_left_in_the_wal_is_written_once_more_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let path = left_behind(&root);
    let reader = reading(&path);
    let (wal, old) = (beside(&path, "-wal"), std::time::SystemTime::UNIX_EPOCH);
    let (left, file) = (std::fs::read(&wal).unwrap(), std::fs::File::options().write(true).open(&wal).unwrap());
    file.set_modified(old).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut committer = committer(&root);
    assert!(!committer.is_stopped() && std::fs::read(&wal).unwrap() == left);
    assert!(file.metadata().unwrap().modified().unwrap() > old, "it was written");
    assert!(std::fs::read(&path).unwrap() == before, "the file comes later");
    reader.execute_batch("COMMIT").unwrap();
    commit(&mut committer, pages("b", 1)).unwrap();
    let rows: i64 =
        committer.connection.query_row("SELECT count(*) FROM kv WHERE length(v) IN (4096, 50 * 4096)", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
    assert!(matches!(committer.reclaim(), Tidy::Done));
    assert_eq!(wal_bytes(&path), 0, "written back when nothing else is to be done");
}

#[test]
fn nothing_is_written_or_written_back_before_what_was_left_lasts() {
    let root = tempfile::tempdir().unwrap();
    let path = left_behind(&root);
    let mut committer = committer(&root);
    committer.take_over(Err(NotLasting::Unwritten(std::io::ErrorKind::StorageFull.into())));
    // Another program writes just now, so that it cannot be made to last.
    committer.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let files = || (std::fs::read(&path).unwrap(), std::fs::read(beside(&path, "-wal")).unwrap());
    let left = files();
    for _ in 0..2 {
        let refused = commit(&mut committer, Batch::new()).unwrap_err();
        assert!(matches!(&refused, CommitError::Failed(text) if text.contains("does not last yet")), "{refused}");
        committer.keep_up();
        assert!(matches!(committer.reclaim(), Tidy::After(HELD_PAUSE)), "it comes again");
        committer.write_back_last();
    }
    assert!(files() == left && !committer.is_stopped());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(committer.reclaim(), Tidy::Done), "without a restart, and without a write that is tried");
    assert_eq!(wal_bytes(&path), 0);
    commit(&mut committer, pages("b", 1)).unwrap();
}

/// Story: a checkpoint that filled the disk ended halfway. The WAL could not begin anew, and what is kept for revocations was gone.
#[test]
fn nothing_is_written_back_that_the_disk_has_no_room_for() {
    let page = schema::PAGE_BYTES;
    for (pages, bytes, free, fits) in [
        (10, 10 * page, 0, true),
        (10, 20 * page, 0, true),
        (11, 10 * page, page - 1, false),
        // Story: a MiB had to be left. With less than that free, what the WAL takes was not given back, and nothing could be revoked.
        (11, 10 * page, page, true),
        (1_000, 0, 999 * page, false),
    ] {
        assert_eq!(has_room(pages, bytes, free), fits, "{pages} pages, {bytes} bytes, {free} free");
    }
}

/// Story: all that was free was taken out of the file before anything was written back. What had to be moved for it went through the WAL, which took a third of the file.
#[test]
fn giving_space_back_does_not_make_the_wal_long() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    for number in 0..60 {
        commit(&mut committer, pages(&number.to_string(), 150)).unwrap();
        committer.keep_up();
    }
    for number in 0..40 {
        commit(&mut committer, Batch::new().delete(key(&number.to_string()))).unwrap();
        committer.keep_up();
    }
    let before = schema::pages(&committer.connection).unwrap();
    assert!(before.free > 5_000, "{}", before.free);
    let reader = reading(&committer.place.path);
    let mut longest = 0;
    let mut steps = |committer: &mut Committer| {
        for _ in 0..1_000 {
            let tidy = committer.reclaim();
            longest = longest.max(schema::wal_pages(&committer.connection).unwrap());
            match tidy {
                Tidy::After(pause) if pause == RECLAIM_PAUSE => {}
                tidy => return matches!(tidy, Tidy::Done),
            }
        }
        false
    };
    assert!(!steps(&mut committer) && schema::pages(&committer.connection).unwrap().free > 1_000, "it waits for whoever reads");
    reader.execute_batch("COMMIT").unwrap();
    assert!(steps(&mut committer));
    let after = schema::pages(&committer.connection).unwrap();
    assert!(
        after.free <= committer.options.spare_pages.into() && after.all < before.all / 2,
        "{} of {} pages are free",
        after.free,
        after.all
    );
    assert!(longest < WAL_PAGES + 3 * IDLE_PAGES, "{longest}");
}

#[test]
fn only_a_failed_sync_of_a_write_back_stops_the_store() {
    let root = tempfile::tempdir().unwrap();
    let mut committer = committer(&root);
    for code in [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_TRUNCATE] {
        committer.upkeep_failed(&failure(code), "written back");
    }
    commit(&mut committer, pages("a", 1)).unwrap();
    committer.upkeep_failed(&failure(ffi::SQLITE_IOERR_DIR_FSYNC), "written back");
    assert!(commit(&mut committer, pages("a", 1)).is_err());
}

/// Story: space was given back after two seconds without a write. A server with ten writes a second has no such pause, and its file stayed as large as it
/// ever was: a mass expiry gave nothing back.
#[test]
fn space_is_given_back_between_writes_where_much_is_free() {
    let root = tempfile::tempdir().unwrap();
    let clock = SimClock::default();
    let mut committer = committer_at(&root, clock.clone());
    for number in 0..100 {
        commit(&mut committer, pages(&number.to_string(), 100)).unwrap();
        committer.keep_up();
    }
    let peak = schema::pages(&committer.connection).unwrap().all;
    for number in 0..80 {
        commit(&mut committer, Batch::new().delete(key(&number.to_string()))).unwrap();
        committer.keep_up();
    }
    assert!(schema::pages(&committer.connection).unwrap().all == peak, "no time has passed: the pace has a limit");
    for _ in 0..200 {
        clock.advance(LOOSE_PAUSE);
        commit(&mut committer, pages("a", 1)).unwrap();
        committer.keep_up();
    }
    let after = schema::pages(&committer.connection).unwrap();
    assert!(after.free <= (after.all / 10 * LOOSE_TENTHS).max(LOOSE_PAGES), "{} of {} pages are free", after.free, after.all);
    assert!(after.free > LOOSE_PAGES / 2 && after.all < peak / 2, "{} of {} pages are free", after.free, after.all);
}
