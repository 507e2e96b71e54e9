//! Syncs and writes that really fail, at the system call, and what the disk has then: a library that stands before libc fails them for files that a test names.

use std::process::Command;

use super::*;

/// What happens to a file goes by what is beside it, with this behind its name:
/// - `.fails`: no sync of it succeeds. As in the kernel, what was to be synced counts as written from then on.
/// - `.cut`: every other page of it reaches the disk, and the sync fails.
/// - `.full`: nothing can be written to it.
/// - `.disk`: what the disk has of it, kept up by each sync. The order in which such files are written is in `writes`, in their directory.
const LIBRARY: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static struct range { char path[256]; off_t from, to; } dirty[1 << 16];
static int ranges;
static int path_of(int file, char *path) {
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", file);
    ssize_t length = readlink(own, path, 239);
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}
static int marked(const char *path, const char *mark) {
    char name[256];
    snprintf(name, sizeof name, "%s%s", path, mark);
    return access(name, F_OK) == 0;
}
static void wrote(const char *path, off_t at, size_t bytes) {
    static char last[256];
    char name[256];
    if (!marked(path, ".disk")) return;
    if (ranges < 1 << 16) {
        struct range *next = &dirty[ranges++];
        strcpy(next->path, path);
        next->from = at / 4096;
        next->to = (at + bytes + 4095) / 4096;
    }
    snprintf(name, sizeof name, "%.*s/writes", (int)(strrchr(path, '/') - path), path);
    if (strcmp(last, path) == 0 && access(name, F_OK) == 0) return;
    strcpy(last, path);
    FILE *order = fopen(name, "a");
    fprintf(order, "%s\n", strrchr(path, '/') + 1);
    fclose(order);
}
static void reach(int file, const char *path, int step) {
    char name[256], page[4096];
    struct stat found;
    int kept = 0;
    snprintf(name, sizeof name, "%s.disk", path);
    int disk = step ? open(name, O_WRONLY) : -1;
    for (int n = 0; n < ranges; n++) {
        if (strcmp(dirty[n].path, path) != 0) { dirty[kept++] = dirty[n]; continue; }
        for (off_t at = dirty[n].from; at < dirty[n].to; at++) {
            if (disk < 0 || at % step) continue;
            ssize_t read = pread(file, page, sizeof page, at * 4096);
            if (read > 0) syscall(SYS_pwrite64, disk, page, read, at * 4096);
        }
    }
    ranges = kept;
    if (disk < 0) return;
    if (step == 1 && fstat(file, &found) == 0) syscall(SYS_ftruncate, disk, found.st_size);
    close(disk);
}
static int sync_by(long call, int file) {
    char path[256];
    if (!path_of(file, path)) return (int)syscall(call, file);
    int fails = marked(path, ".fails"), cut = marked(path, ".cut");
    reach(file, path, fails ? 0 : cut ? 2 : 1);
    if (!fails && !cut) return (int)syscall(call, file);
    errno = EIO;
    return -1;
}
int fsync(int file) { return sync_by(SYS_fsync, file); }
int fdatasync(int file) { return sync_by(SYS_fdatasync, file); }
ssize_t pwrite64(int file, const void *from, size_t bytes, off_t at) {
    char path[256];
    int named = path_of(file, path);
    if (named && marked(path, ".full")) { errno = ENOSPC; return -1; }
    ssize_t done = syscall(SYS_pwrite64, file, from, bytes, at);
    if (named && done > 0) wrote(path, at, done);
    return done;
}
ssize_t pwrite(int file, const void *from, size_t bytes, off_t at) { return pwrite64(file, from, bytes, at); }
"#;

/// Whether this is the process whose syncs can be made to fail. Elsewhere the test of this name is run in such a process, and has to end well there.
fn syncs_can_fail(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("syncs.c"), folder.path().join("syncs.so"));
    std::fs::write(&source, LIBRARY).unwrap();
    // What SQLite is compiled with.
    let built = Command::new("cc").args(["-D_GNU_SOURCE", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.unwrap().success());
    let module = module_path!().split_once("::").unwrap().1;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::{test}"), "--nocapture"]).env(MARK, "1").env("LD_PRELOAD", &library);
    let run = command.output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&run.stderr));
    false
}

const MARK: &str = "DAYPASS_TEST_SYNCS_FAIL";

/// From now on no sync of this file succeeds, until what this returns is removed.
fn fail_syncs(path: &Path) -> PathBuf {
    mark(path, ".fails")
}

/// Changes what happens to a file, until what this returns is removed.
fn mark(path: &Path, what: &str) -> PathBuf {
    let mark = snapshot::beside(path, what);
    std::fs::write(&mark, "").unwrap();
    mark
}

/// A store whose last commit is in the WAL, with a sync that failed: the memory of this machine has what its disk has not.
async fn left_unsynced(path: &Path, batch: Batch) {
    let store = open(path);
    store.commit(Batch::new().put(key("answered"), "1")).await.unwrap();
    let failing = fail_syncs(&snapshot::beside(path, "-wal"));
    let unknown = store.commit(batch).await.unwrap_err();
    assert!(matches!(unknown, CommitError::Unknown(_)), "{unknown}");
    std::fs::remove_file(failing).unwrap();
    store.close().await;
}

fn wal_bytes(path: &Path) -> u64 {
    std::fs::metadata(snapshot::beside(path, "-wal")).map_or(0, |found| found.len())
}

/// Story: a sync of the store's file failed within a COMMIT, where SQLite writes the WAL back by itself and drops the error. The commit was acknowledged, and
/// so were those after it; the next sync succeeded without the pages that the disk had refused, and the WAL, which had them, was written over.
#[tokio::test]
async fn a_failed_sync_of_the_file_stops_the_store_and_the_next_start_has_all_that_was_answered() {
    if !syncs_can_fail("a_failed_sync_of_the_file_stops_the_store_and_the_next_start_has_all_that_was_answered") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("first"), "1")).await.unwrap();
    let on_disk = std::fs::read(&path).unwrap();
    let failing = fail_syncs(&path);
    store.commit(Batch::new().put(key("long"), vec![1; 6 * 1024 * 1024])).await.unwrap();
    let refused = store.commit(Batch::new().put(key("later"), "1")).await.unwrap_err();
    assert!(matches!(&refused, CommitError::Stopped(text) if text.contains("a sync failed")), "{refused}");
    assert!(store.stopped().is_some());
    assert!(store.get(&key("long")).await.unwrap().found.is_some(), "reads go on");
    // The kernel tells of it once.
    std::fs::remove_file(failing).unwrap();
    store.close().await;
    assert!(wal_bytes(&path) > 6 * 1024 * 1024, "the WAL stays");
    std::fs::write(&path, on_disk).unwrap();
    let store = open(&path);
    assert_eq!(store.get(&key("long")).await.unwrap().found.unwrap().value.len(), 6 * 1024 * 1024);
    store.commit(Batch::new().put(key("later"), "1")).await.unwrap();
    assert!(store.get(&key("first")).await.unwrap().found.is_some());
    store.close().await;
    assert_eq!(wal_bytes(&path), 0);
}

#[tokio::test]
async fn a_commit_whose_sync_failed_is_not_seen_before_a_restart_and_may_be_after_it() {
    if !syncs_can_fail("a_commit_whose_sync_failed_is_not_seen_before_a_restart_and_may_be_after_it") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("first"), "1")).await.unwrap();
    let failing = fail_syncs(&snapshot::beside(&path, "-wal"));
    let unknown = store.commit(Batch::new().put(key("unknown"), vec![1; 100_000])).await.unwrap_err();
    assert!(matches!(unknown, CommitError::Unknown(_)), "{unknown}");
    std::fs::remove_file(failing).unwrap();
    let refused = store.commit(Batch::new().put(key("later"), "1")).await.unwrap_err();
    assert!(matches!(refused, CommitError::Stopped(_)), "{refused}");
    assert_eq!(store.get(&key("unknown")).await.unwrap().found, None);
    store.close().await;
    assert!(wal_bytes(&path) > 100_000, "the WAL stays");
    // The memory of this machine has what its disk may not have. So it is written once more before anything is built on it.
    let store = open(&path);
    assert!(store.get(&key("unknown")).await.unwrap().found.is_some());
    store.commit(Batch::new().put(key("later"), "1")).await.unwrap();
    store.close().await;
    assert_eq!(wal_bytes(&path), 0);
}

/// Story: a sync of the WAL failed, the store stopped, and was started again. The kernel took the pages that the disk had refused for written, so the sync before the first checkpoint succeeded without
/// them; the checkpoint was cut off halfway. The disk then had a file that was half of what was refused, and no WAL to make it whole: rows that had been answered long before were lost.
#[tokio::test]
async fn what_no_sync_could_make_last_is_not_copied_over_the_file_before_it_lasts() {
    if !syncs_can_fail("what_no_sync_could_make_last_is_not_copied_over_the_file_before_it_lasts") {
        return;
    }
    let (root, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, wal) = (root.path().join("store.db"), root.path().join("store.db-wal"));
    let large = |byte| Batch::new().put(key("large"), vec![byte; 6 * 1024 * 1024]);
    let store = open(&path);
    store.commit(large(1)).await.unwrap();
    store.close().await;
    std::fs::copy(&path, mark(&path, ".disk")).unwrap();
    mark(&wal, ".disk");
    left_unsynced(&path, large(2)).await;

    std::fs::remove_file(root.path().join("writes")).unwrap();
    mark(&path, ".cut");
    let store = open(&path);
    let later = store.commit(Batch::new().put(key("later"), "1")).await;
    assert!(store.get(&key("large")).await.unwrap().found.is_some(), "reads go on");
    store.close().await;
    let writes = std::fs::read_to_string(root.path().join("writes")).unwrap();
    assert!(writes.contains("store.db\n"), "a checkpoint was cut off: {writes}");

    // The machine ends here.
    for file in ["store.db", "store.db-wal"] {
        std::fs::copy(root.path().join(format!("{file}.disk")), disk.path().join(file)).unwrap();
    }
    let store = open(&disk.path().join("store.db"));
    let found = store.get(&key("large")).await.unwrap().found.expect("it was answered");
    assert!(found.value.len() == 6 * 1024 * 1024 && found.value.iter().all(|byte| *byte == found.value[0]), "half of it is another value");
    assert!(store.get(&key("answered")).await.unwrap().found.is_some());
    assert_eq!(store.get(&key("later")).await.unwrap().found.is_some(), later.is_ok());
    store.close().await;
    let connection = rusqlite::Connection::open(disk.path().join("store.db")).unwrap();
    let whole: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    assert!(writes.starts_with("store.db-wal\nstore.db\n"), "the WAL comes first: {writes}");
}

/// Story: where files are never written in place, a full disk kept the WAL from being written once more. That was logged, and commits were built on it and answered; two seconds
/// later it was written back all the same.
#[tokio::test]
async fn without_room_to_make_the_wal_last_nothing_is_written_until_there_is() {
    if !syncs_can_fail("without_room_to_make_the_wal_last_nothing_is_written_until_there_is") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (path, wal) = (root.path().join("store.db"), root.path().join("store.db-wal"));
    left_unsynced(&path, Batch::new().put(key("unknown"), vec![1; 100_000])).await;
    let files = || (std::fs::read(&path).unwrap(), std::fs::read(&wal).unwrap());
    let left = files();
    let full = mark(&wal, ".full");
    let hasty = SqliteOptions { idle_before_reclaim: Duration::ZERO, ..SqliteOptions::default() };
    for _ in 0..2 {
        let store = SqliteBackend::open(&path, hasty.clone()).unwrap();
        assert!(store.get(&key("unknown")).await.unwrap().found.is_some(), "reads go on");
        for batch in [Batch::new().put(key("later"), "1"), Batch::new().delete(key("answered")), Batch::new().taking_back()] {
            let refused = store.commit(batch).await.unwrap_err();
            assert!(matches!(&refused, CommitError::Full(text) if text.contains("make room")), "{refused}");
        }
        assert_eq!(store.stopped(), None, "it goes on by itself");
        store.close().await;
        assert!(files() == left, "nothing was written");
    }
    let store = SqliteBackend::open(&path, hasty).unwrap();
    store.commit(Batch::new().put(key("later"), "1")).await.unwrap_err();
    std::fs::remove_file(full).unwrap();
    store.commit(Batch::new().put(key("later"), "1")).await.unwrap();
    store.close().await;
    assert_eq!(wal_bytes(&path), 0);
    for name in ["answered", "unknown", "later"] {
        assert!(open(&path).get(&key(name)).await.unwrap().found.is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_wal_that_cannot_be_written_once_more_stops_the_store_and_a_file_of_an_old_format_stays_as_it_is() {
    if !syncs_can_fail("a_wal_that_cannot_be_written_once_more_stops_the_store_and_a_file_of_an_old_format_stays_as_it_is") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (path, wal) = (root.path().join("store.db"), root.path().join("store.db-wal"));
    left_unsynced(&path, Batch::new().put(key("unknown"), vec![1; 100_000])).await;
    let files = || (std::fs::read(&path).unwrap(), std::fs::read(&wal).unwrap());
    let left = files();
    let failing = fail_syncs(&wal);
    let store = open(&path);
    let refused = store.commit(Batch::new().put(key("later"), "1")).await.unwrap_err();
    assert!(matches!(&refused, CommitError::Stopped(text) if text.contains("check the disk")), "{refused}");
    assert!(store.get(&key("unknown")).await.unwrap().found.is_some(), "reads go on");
    store.close().await;
    assert!(files() == left, "nothing was changed");
    std::fs::remove_file(failing).unwrap();
    let store = open(&path);
    store.commit(Batch::new().put(key("later"), "1")).await.unwrap();
    store.close().await;

    // A newer program finds a WAL that does not last, and a format that it is to change.
    let old = rusqlite::Connection::open(&path).unwrap();
    old.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    old.execute("UPDATE meta SET value = 2 WHERE name = 'format'", []).unwrap();
    drop(old);
    let left = files();
    for (what, said) in [(".full", "make room"), (".fails", "write once more")] {
        let stands = mark(&wal, what);
        let text = super::refused(&path).to_string();
        assert!(text.contains(said), "{text}");
        std::fs::remove_file(stands).unwrap();
        assert!(files() == left, "{what}: nothing was changed");
    }
    open(&path).close().await;
}

/// Story: the name of a new WAL was synced by SQLite alone, which drops the error. A power cut could take the WAL, and with it all that had been answered.
#[tokio::test]
async fn a_wal_whose_name_cannot_be_recorded_is_not_written_to() {
    if !syncs_can_fail("a_wal_whose_name_cannot_be_recorded_is_not_written_to") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let directory = std::fs::canonicalize(root.path()).unwrap().join("store");
    let path = directory.join("store.db");
    let store = open(&path);
    store.commit(Batch::new().put(key("a"), "1")).await.unwrap();
    store.close().await;
    let failing = fail_syncs(&directory);
    let store = open(&path);
    let refused = store.commit(Batch::new().put(key("b"), "1")).await.unwrap_err();
    assert!(matches!(&refused, CommitError::Stopped(text) if text.contains("its name cannot be recorded")), "{refused}");
    assert!(store.get(&key("a")).await.unwrap().found.is_some(), "reads go on");
    store.close().await;
    std::fs::remove_file(failing).unwrap();
    open(&path).commit(Batch::new().put(key("a"), "1")).await.unwrap();
}
