//! Syncs that really fail, at the system call: a library that stands before libc fails them for files that a test names.

use std::process::Command;

use super::*;

/// `fsync` and `fdatasync` of a file fail while there is one beside it with `.fails` behind its name.
const LIBRARY: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static int fails(int file) {
    char own[64], path[4096];
    snprintf(own, sizeof own, "/proc/self/fd/%d", file);
    ssize_t length = readlink(own, path, sizeof path - 16);
    if (length <= 0) return 0;
    strcpy(path + length, ".fails");
    if (access(path, F_OK) != 0) return 0;
    errno = EIO;
    return 1;
}
int fsync(int file) { return fails(file) ? -1 : (int)syscall(SYS_fsync, file); }
int fdatasync(int file) { return fails(file) ? -1 : (int)syscall(SYS_fdatasync, file); }
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
    let mark = snapshot::beside(path, ".fails");
    std::fs::write(&mark, "").unwrap();
    mark
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
    assert!(wal_bytes(&path) < 100_000 && store.get(&key("first")).await.unwrap().found.is_some());
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
    assert!(wal_bytes(&path) < 100_000);
}
