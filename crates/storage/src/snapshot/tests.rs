use std::sync::Arc;

use bytes::Bytes;
use daypass_base::Timestamp;

use super::*;
use crate::sqlite::SqliteOptions;
use crate::{Backend, Batch, Due, MemoryBackend, SqliteBackend};

fn key(name: &str) -> Key {
    Key::new(Space::Config, name.to_owned())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn disk(root: &tempfile::TempDir, name: &str) -> Arc<dyn Backend> {
    SqliteBackend::open(&root.path().join(name), SqliteOptions::default()).unwrap()
}

/// A store with something of every kind.
async fn fill(store: &dyn Backend) {
    let due = |id: &'static str, seconds| Due { shard: 1, at: at(seconds), id: Bytes::from(id) };
    let batch = Batch::new()
        .put(key("core/mounts"), "1")
        .put(key("core/mounts"), "2")
        .put(key("a/ü"), vec![7; 300_000])
        .put(Key::new(Space::Config, vec![0xff, 0]), "no text")
        .put(Key::new(Space::Token, vec![1, 2]), "token")
        .put(Key::new(Space::Lease, vec![1, 2]), "")
        .put(Key::new(Space::Index, vec![3]), "edge")
        .due(due("x", 5))
        .due(due("y", -5))
        .config_change();
    store.commit(batch).await.unwrap();
    store.claim(1, "me", at(1), at(16)).await.unwrap().unwrap();
}

async fn file_of(store: &dyn Backend) -> Vec<u8> {
    let archive = Archive::new(store.export().await.unwrap(), "daypass test", at(1_700_000_000));
    let mut file = Vec::new();
    archive.write(b"sealed", &mut file).unwrap();
    file
}

#[derive(Default)]
struct Kept(Vec<Record>);

impl Sink for Kept {
    fn record(&mut self, record: Record) -> Result<(), CommitError> {
        self.0.push(record);
        Ok(())
    }
}

fn records(file: &[u8]) -> Vec<Record> {
    let mut kept = Kept::default();
    read(file, &mut kept).unwrap();
    kept.0
}

fn refused(file: &[u8]) -> String {
    read(file, &mut Kept::default()).unwrap_err().to_string()
}

async fn restore(file: &[u8], store: &dyn Backend, also: &Key) {
    struct Into(Box<dyn Staging>);
    impl Sink for Into {
        fn record(&mut self, record: Record) -> Result<(), CommitError> {
            self.0.add(&record)
        }
    }
    let mut sink = Into(store.stage().await.unwrap());
    let whole = read(file, &mut sink).unwrap();
    sink.0.put(also, b"also").unwrap();
    store.replace(sink.0.finish(whole.manifest.config_version).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_store_had_every_other_has_after_a_restore() {
    let root = tempfile::tempdir().unwrap();
    let from: [Arc<dyn Backend>; 2] = [Arc::new(MemoryBackend::new()), disk(&root, "from.db")];
    for (number, from) in from.into_iter().enumerate() {
        fill(&*from).await;
        let file = file_of(&*from).await;
        let to: [Arc<dyn Backend>; 2] = [Arc::new(MemoryBackend::new()), disk(&root, &format!("to{number}.db"))];
        for to in to {
            to.commit(Batch::new().put(key("old"), "1").config_change().due(Due { shard: 0, at: at(1), id: Bytes::from("old") }))
                .await
                .unwrap();
            for _ in 0..5 {
                to.commit(Batch::new().config_change()).await.unwrap();
            }
            assert!(to.get(&key("old")).await.unwrap().found.is_some());
            restore(&file, &*to, &key("also")).await;
            let read = to.get(&key("old")).await.unwrap();
            assert_eq!(
                (read.found, read.config_version),
                (None, 7),
                "the old row is gone from memory too, and caches of configuration are stale"
            );
            let mut now = records(&file_of(&*to).await);
            let also = now.iter().position(|record| matches!(record, Record::Row(row, _) if *row == key("also"))).unwrap();
            now.remove(also);
            assert_eq!(now, records(&file));
            assert_eq!(to.commit(Batch::new().put(key("new"), "1").config_change()).await.unwrap(), 8);
            let again = to.claim(1, "another", at(2), at(3)).await.unwrap();
            assert!(again.is_none(), "claims came along");
        }
    }
}

#[tokio::test]
async fn a_file_that_was_cut_or_altered_anywhere_is_refused() {
    let store = MemoryBackend::new();
    store.commit(Batch::new().put(key("core/keyring"), "secret").put(Key::new(Space::Token, vec![9]), "t")).await.unwrap();
    let file = file_of(&store).await;
    assert_eq!(records(&file).len(), 2);
    for length in 0..file.len() {
        let text = refused(&file[..length]);
        assert!(text.contains("cut off"), "{length}: {text}");
    }
    for position in 0..file.len() {
        let mut altered = file.clone();
        altered[position] ^= 0x20;
        // gzip has bits that mean nothing, such as the time in its header.
        let mut kept = Kept::default();
        let taken = read(altered.as_slice(), &mut kept).is_ok();
        assert!(!taken || kept.0 == records(&file), "byte {position}");
    }
    assert!(refused(&[file.as_slice(), b"more"].concat()).contains("behind the end"));
    assert!(refused(b"").contains("cut off"));
    assert!(refused(b"no gzip at all, but long enough to look at").contains("no whole snapshot"));
}

#[test]
fn what_no_writer_writes_is_refused_though_the_sums_fit() {
    let row = |name: &str| RecordRefs(vec![(name.as_bytes().to_vec(), 1)]);
    assert!(row("a").refusal().is_none());
    let twice = RecordRefs(vec![(b"a".to_vec(), 1), (b"a".to_vec(), 1)]);
    assert!(twice.refusal().unwrap().contains("out of order"));
    assert!(RecordRefs(vec![(b"b".to_vec(), 1), (b"a".to_vec(), 1)]).refusal().unwrap().contains("out of order"));
    assert!(RecordRefs(vec![(b"a".to_vec(), 0)]).refusal().unwrap().contains("version 0"));
    assert!(RecordRefs(vec![(b"a".to_vec(), u64::MAX)]).refusal().unwrap().contains("too large"));
    assert!(RecordRefs(vec![(vec![b'a'; 5000], 1)]).refusal().unwrap().contains("over the limit"));
}

/// Story: anybody can make a file whose sums fit; what it said of its maker went to the terminal of whoever looked into it.
#[test]
fn a_maker_whose_name_gives_a_terminal_orders_is_refused() {
    let file_by = |maker: &str| {
        let (bytes, totals) = export::Recorder::new(Vec::new()).finish().unwrap();
        let export = Export { state: Box::new(std::io::Cursor::new(bytes)), totals, config_version: 1 };
        let mut file = Vec::new();
        Archive::new(export, maker, at(0)).write(b"sealed", &mut file).unwrap();
        file
    };
    assert_eq!(records(&file_by("daypass 0.1.0 (größer)")), []);
    for maker in ["daypass\u{1b}[2J", "day\npass", "daypass\u{9b}1m", &"d".repeat(257)] {
        let why = refused(&file_by(maker));
        assert!(why.contains("more than 256 bytes or with control characters") && !why.contains(maker), "{why:?}");
    }
}

/// Rows of the configuration, keys and versions.
struct RecordRefs(Vec<(Vec<u8>, u64)>);

impl RecordRefs {
    fn refusal(&self) -> Option<String> {
        let mut recorder = export::Recorder::new(Vec::new());
        for (key, version) in &self.0 {
            recorder.add(&RecordRef::Row { space: Space::Config, key, version: *version, value: b"v" }).unwrap();
        }
        let (bytes, totals) = recorder.finish().unwrap();
        let export = Export { state: Box::new(std::io::Cursor::new(bytes)), totals, config_version: 1 };
        let mut file = Vec::new();
        Archive::new(export, "test", at(0)).write(b"sealed", &mut file).unwrap();
        read(file.as_slice(), &mut Kept::default()).err().map(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_staged_store_that_is_given_up_leaves_nothing_and_there_is_one_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let store = disk(&root, "store.db");
    fill(&*store).await;
    let before = std::fs::read_dir(root.path()).unwrap().count();
    let staging = store.stage().await.unwrap();
    assert!(store.stage().await.err().unwrap().to_string().contains("already"));
    drop(staging);
    let staged = store.stage().await.unwrap().finish(3).unwrap();
    drop(staged);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), before);
    let foreign = MemoryBackend::new().stage().await.unwrap().finish(1).unwrap();
    assert!(store.replace(foreign).await.is_err());
    assert!(store.get(&key("core/mounts")).await.unwrap().found.is_some());
}

#[tokio::test]
async fn an_export_has_no_name_and_needs_room_beside_the_reserve() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let store = SqliteBackend::open(&path, SqliteOptions::default()).unwrap();
    for number in 0..6 {
        store.commit(Batch::new().put(key(&number.to_string()), vec![1; 1024 * 1024])).await.unwrap();
    }
    let before = std::fs::read_dir(root.path()).unwrap().count();
    let export = store.export().await.unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), before);
    assert_eq!(export.totals.rows.all(), 6);
    drop(export);
    store.close().await;
    let store = SqliteBackend::open(&path, SqliteOptions { reserve_bytes: u64::MAX, ..SqliteOptions::default() }).unwrap();
    let full = store.export().await.err().unwrap();
    assert!(matches!(&full, CommitError::Full(text) if text.contains("store.db") && text.contains("make room")), "{full}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_under_writes_is_one_state() {
    let root = tempfile::tempdir().unwrap();
    let store = disk(&root, "store.db");
    let pair = |number: u64| Batch::new().put(key("a"), number.to_string()).put(Key::new(Space::Index, "z"), number.to_string());
    store.commit(pair(0)).await.unwrap();
    let filler = (0..500).fold(Batch::new(), |batch, number| batch.put(key(&format!("m{number}")), vec![1; 2000]));
    store.commit(filler).await.unwrap();
    let (writing, done) = (Arc::clone(&store), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let writer = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut number = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                number += 1;
                writing.commit(pair(number)).await.unwrap();
            }
        }
    });
    for _ in 0..20 {
        let found = records(&file_of(&*store).await);
        let values: Vec<&Bytes> = [found.first(), found.last()]
            .into_iter()
            .map(|record| match record {
                Some(Record::Row(_, row)) => &row.value,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(values[0], values[1]);
    }
    done.store(true, std::sync::atomic::Ordering::Release);
    writer.await.unwrap();
}
