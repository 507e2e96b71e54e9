//! What every backend promises, as one suite. A new backend is done when [`suite`] passes on it.
//!
//! Each section starts with an empty store, so that sections can be read and can fail alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test suite: failing loudly is its work")]

use std::sync::Arc;

use bytes::Bytes;
use daypass_base::Timestamp;

use crate::{
    BATCH_BYTES_MAX, BATCH_CHANGES_MAX, Backend, Batch, Claim, CommitError, Condition, Due, KEY_BYTES_MAX, Key, OWNER_BYTES_MAX,
    SCAN_BYTES_MAX, Space, VALUE_BYTES_MAX,
};

/// Runs every section against stores from `make`, each of which must be empty and its own. Needs a tokio runtime.
///
/// # Panics
/// When a promise is broken.
pub async fn suite<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Arc<dyn Backend>>,
{
    empty_store_is_empty(&*make().await).await;
    put_get_delete(&*make().await).await;
    spaces_are_apart(&*make().await).await;
    conditions_hold_or_nothing_changes(&*make().await).await;
    a_batch_may_demand_that_nothing_lies_below_a_key(&*make().await).await;
    no_version_is_given_twice(&*make().await).await;
    removals_come_before_additions(&*make().await).await;
    get_many_keeps_the_order(&*make().await).await;
    list_folds_at_slashes(&*make().await).await;
    list_goes_on_after_a_name(&*make().await).await;
    scan_is_flat(&*make().await).await;
    keys_are_bytes(&*make().await).await;
    due_is_in_order_of_time(&*make().await).await;
    claims_fence(&*make().await).await;
    config_version_counts_changes(&*make().await).await;
    limits_are_kept(&*make().await).await;
    long_answers_are_whole(&*make().await).await;
    large_rows_end_a_page_early(&*make().await).await;
    versions_decide_between_many_writers(make().await).await;
    a_config_version_never_runs_ahead_of_the_rows(make().await).await;
    closed_store_refuses(&*make().await).await;
}

async fn empty_store_is_empty(store: &dyn Backend) {
    assert!(!store.kind().is_empty());
    let read = store.get(&key("a")).await.unwrap();
    assert_eq!((read.found, read.config_version), (None, 0));
    assert_eq!(names(store, "", None, 10).await, [""; 0]);
    assert_eq!(store.due(0, Timestamp::from_nanos(i64::MAX), 10).await.unwrap(), []);
    assert_eq!(store.get_many(&[]).await.unwrap().found, []);
    assert_eq!(store.commit(Batch::new()).await.unwrap(), 0, "an empty batch is no error");
}

async fn put_get_delete(store: &dyn Backend) {
    store.commit(Batch::new().put(key("a"), "1").put(key("b"), "")).await.unwrap();
    assert_eq!(value(store, "a").await.as_deref(), Some(b"1".as_slice()));
    assert_eq!(value(store, "b").await.as_deref(), Some(b"".as_slice()), "an empty value is a value");
    store.commit(Batch::new().put(key("a"), "2").delete(key("b")).delete(key("never"))).await.unwrap();
    assert_eq!(value(store, "a").await.as_deref(), Some(b"2".as_slice()));
    assert_eq!(value(store, "b").await, None);
}

async fn spaces_are_apart(store: &dyn Backend) {
    let spaces = [Space::Config, Space::Token, Space::Lease, Space::Index];
    for space in spaces {
        store.commit(Batch::new().put(Key::new(space, "same"), format!("{space:?}"))).await.unwrap();
    }
    for space in spaces {
        let read = store.get(&Key::new(space, "same")).await.unwrap();
        assert_eq!(read.found.unwrap().value, format!("{space:?}"));
        let all = Key::new(space, "");
        assert_eq!(store.list(&all, None, 10).await.unwrap(), ["same"]);
        assert_eq!(store.scan(&all, None, 10).await.unwrap().rows.len(), 1);
    }
}

async fn conditions_hold_or_nothing_changes(store: &dyn Backend) {
    store.commit(Batch::new().put(key("a"), "1").put(key("a"), "2")).await.unwrap();
    let change = || Batch::new().put(key("new"), "x").delete(key("a")).due(due(0, 1, "x")).config_change();
    let broken = [
        (key("a"), Condition::Absent),
        (key("b"), Condition::Exists),
        (key("a"), Condition::Version(1)),
        (key("a"), Condition::Version(3)),
        (key("a"), Condition::Version(0)),
        (key("a"), Condition::Version(u64::MAX)),
        (key("b"), Condition::Version(0)),
    ];
    for (at, condition) in broken {
        let batch = change().require(key("a"), Condition::Exists).require(at.clone(), condition);
        assert_conflict(store.commit(batch).await, 1, &format!("{condition:?} of {at:?}"));
        let only_the_first = change().require(at, condition).require(key("b"), Condition::Exists);
        assert_conflict(store.commit(only_the_first).await, 0, "the first broken one is named");
    }
    assert_eq!(value(store, "new").await, None);
    assert_eq!(value(store, "a").await.as_deref(), Some(b"2".as_slice()));
    assert_eq!(store.due(0, Timestamp::from_seconds(9), 9).await.unwrap(), []);
    assert_eq!(store.get(&key("a")).await.unwrap().config_version, 0);
    let all = change()
        .require(key("a"), Condition::Exists)
        .require(key("a"), Condition::Version(2))
        .require(key("b"), Condition::Absent)
        // Against the state before the batch: the batch itself makes this key.
        .require(key("new"), Condition::Absent);
    assert_eq!(store.commit(all).await.unwrap(), 1);
    assert_eq!(value(store, "new").await.as_deref(), Some(b"x".as_slice()));
    assert_eq!(value(store, "a").await, None);
}

async fn a_batch_may_demand_that_nothing_lies_below_a_key(store: &dyn Backend) {
    put_all(store, &["b/1", "d"]).await;
    let other = Batch::new().put(Key::new(Space::Token, "c/1"), "another space");
    store.commit(other).await.unwrap();
    for (at, empty) in [("a", true), ("b", false), ("b/", false), ("b/1", false), ("b/2", true), ("c", true), ("d", false), ("e", true)] {
        let batch = Batch::new().require(key(at), Condition::NothingBelow).put(key("seen"), at.to_owned());
        match store.commit(batch).await {
            result if !empty => assert_conflict(result, 0, at),
            result => assert!(result.is_ok(), "nothing lies below {at}"),
        }
    }
    assert_eq!(value(store, "seen").await.as_deref(), Some(b"e".as_slice()));
}

/// Story: versions were counted per key and began at 1 again after a delete. A slow writer that had read a row of version 1 then overwrote another row of
/// version 1, which had come in its place meanwhile: a deleted secret came back, and an acknowledged one was lost.
async fn no_version_is_given_twice(store: &dyn Backend) {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for round in 0..6 {
        store.commit(Batch::new().put(key("a"), "same value").put(key("b"), "another")).await.unwrap();
        of_a.push(version(store, "a").await.unwrap());
        of_b.push(version(store, "b").await.unwrap());
        if round % 3 == 2 {
            store.commit(Batch::new().delete(key("a")).delete(key("b"))).await.unwrap();
            assert_eq!(version(store, "a").await, None);
        }
    }
    for seen in [&of_a, &of_b] {
        assert!(seen.is_sorted_by(|before, after| before < after) && !seen.contains(&0), "{seen:?}");
        assert_eq!(
            seen.iter().zip(seen.iter().skip(1)).filter(|(before, after)| **before + 1 == **after).count(),
            4,
            "a change raises it by one"
        );
    }
    store.commit(Batch::new().put(key("a"), "other")).await.unwrap();
    for old in of_a {
        let late = Batch::new().require(key("a"), Condition::Version(old)).put(key("a"), "late");
        assert_conflict(store.commit(late).await, 0, "a");
    }
}

async fn removals_come_before_additions(store: &dyn Backend) {
    let entry = due(7, 10, "lease");
    store.commit(Batch::new().put(key("a"), "1").put(key("a"), "2").due(entry.clone())).await.unwrap();
    let both = Batch::new().put(key("a"), "3").delete(key("a")).due(entry.clone()).not_due(entry.clone());
    store.commit(both).await.unwrap();
    assert_eq!(value(store, "a").await.as_deref(), Some(b"3".as_slice()));
    assert_eq!(store.due(7, Timestamp::from_seconds(10), 9).await.unwrap(), [entry]);
}

async fn get_many_keeps_the_order(store: &dyn Backend) {
    store.commit(Batch::new().put(key("a"), "1").put(Key::new(Space::Token, "t"), "2").config_change()).await.unwrap();
    let keys = [Key::new(Space::Token, "t"), key("none"), key("a"), key("a")];
    let read = store.get_many(&keys).await.unwrap();
    let values: Vec<_> = read.found.into_iter().map(|row| row.map(|row| row.value)).collect();
    assert_eq!(values, [Some(Bytes::from("2")), None, Some(Bytes::from("1")), Some(Bytes::from("1"))]);
    assert_eq!(read.config_version, 1);
}

async fn list_folds_at_slashes(store: &dyn Backend) {
    put_all(store, &["p/a", "p/a-b", "p/a/1", "p/a/2/3", "p/a0", "p/b/", "p/c/x", "p/", "q/z", "o/y", "p"]).await;
    assert_eq!(names(store, "p/", None, 100).await, ["a", "a-b", "a/", "a0", "b/", "c/"]);
    assert_eq!(names(store, "p/a/", None, 100).await, ["1", "2/"]);
    assert_eq!(names(store, "", None, 100).await, ["o/", "p", "p/", "q/"]);
    assert_eq!(names(store, "p/c", None, 100).await, ["/"], "a prefix need not end with a slash");
    assert_eq!(names(store, "p/none/", None, 100).await, [""; 0]);
    assert_eq!(names(store, "p/b/", None, 100).await, [""; 0], "a key that equals the prefix has no name");
}

async fn list_goes_on_after_a_name(store: &dyn Backend) {
    put_all(store, &["p/a", "p/a/1", "p/a/2", "p/b", "p/c/1", "p/d"]).await;
    let all = ["a", "a/", "b", "c/", "d"];
    assert_eq!(names(store, "p/", None, 0).await, [""; 0]);
    for limit in 1..=6 {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let after = seen.last().cloned();
            let page = names(store, "p/", after.as_deref(), limit).await;
            assert!(page.len() <= limit);
            let ended = page.len() < limit;
            seen.extend(page);
            if ended {
                break;
            }
        }
        assert_eq!(seen, all, "in pages of {limit}");
    }
    assert_eq!(names(store, "p/", Some(""), 9).await, all);
    assert_eq!(names(store, "p/", Some("aa"), 9).await, ["b", "c/", "d"], "a name that is not there");
    assert_eq!(names(store, "p/", Some("a/1"), 9).await, ["b", "c/", "d"], "a name beneath a folder");
    assert_eq!(names(store, "p/", Some("zz"), 9).await, [""; 0]);
}

async fn scan_is_flat(store: &dyn Backend) {
    put_all(store, &["p/a", "p/b/1", "p/b/2", "p/", "p0", "o"]).await;
    let scan = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = store.scan(&key(prefix), after.map(str::as_bytes), limit).await.unwrap();
        for (at, row) in &found.rows {
            assert!(row.value == *at && row.version > 0);
        }
        assert_eq!(found.more, found.rows.len() >= limit, "small rows fill a page");
        let keys = store.keys(&key(prefix), after.map(str::as_bytes), limit).await.unwrap();
        assert_eq!(keys, found.rows.iter().map(|(at, _)| at.clone()).collect::<Vec<_>>(), "the keys are those of the rows");
        found.rows.into_iter().map(|(at, _)| String::from_utf8(at.to_vec()).unwrap()).collect()
    };
    assert_eq!(scan("p/", None, 9).await, ["p/", "p/a", "p/b/1", "p/b/2"]);
    assert_eq!(scan("p/", Some("p/a"), 9).await, ["p/b/1", "p/b/2"]);
    assert_eq!(scan("p/", Some("p/a"), 1).await, ["p/b/1"]);
    assert_eq!(scan("p/", Some("a"), 9).await.len(), 4, "an `after` before the prefix is no limit");
    assert_eq!(scan("p/", Some("q"), 9).await, [""; 0]);
    assert_eq!(scan("p/", None, 0).await, [""; 0]);
    assert_eq!(scan("", None, 99).await.len(), 6);
}

async fn keys_are_bytes(store: &dyn Backend) {
    let odd: [&[u8]; 8] = [b"", &[0], &[0, 0], &[0, 255], b"a\0b", &[255], &[255, 0], &[255, 255]];
    for bytes in odd {
        store.commit(Batch::new().put(Key::new(Space::Lease, bytes), bytes)).await.unwrap();
    }
    for bytes in odd {
        let read = store.get(&Key::new(Space::Lease, bytes)).await.unwrap();
        assert_eq!(read.found.unwrap().value, bytes);
    }
    let found = store.scan(&Key::new(Space::Lease, ""), None, 99).await.unwrap();
    assert_eq!(found.rows.iter().map(|(at, _)| at.to_vec()).collect::<Vec<_>>(), odd, "in byte order");
    let below = store.scan(&Key::new(Space::Lease, [255].as_slice()), Some([255].as_slice()), 99).await.unwrap();
    assert_eq!(below.rows.len(), 2);
    let listed = store.list(&Key::new(Space::Lease, [255].as_slice()), None, 99).await.unwrap();
    assert_eq!(listed, [[0].as_slice(), [255].as_slice()]);
}

async fn due_is_in_order_of_time(store: &dyn Backend) {
    let entries = [due(1, -5, "before 1970"), due(1, 10, "a"), due(1, 10, "b"), due(1, 11, "a"), due(1, 300, "late")];
    let mut batch = Batch::new().due(due(0, 1, "other")).due(due(2, 1, "other"));
    for entry in entries.iter().rev().chain(&entries) {
        batch = batch.due(entry.clone());
    }
    store.commit(batch).await.unwrap();
    let read = async |until, limit| store.due(1, Timestamp::from_seconds(until), limit).await.unwrap();
    assert_eq!(read(10, 99).await, [due(1, -5, "before 1970"), due(1, 10, "a"), due(1, 10, "b")]);
    assert_eq!(read(10, 2).await, [due(1, -5, "before 1970"), due(1, 10, "a")]);
    assert_eq!(read(9, 99).await.len(), 1);
    assert_eq!(read(1_000, 99).await, entries);
    assert_eq!(read(1_000, 0).await, []);
    let behind = async |after: &Due, until, limit| store.due_behind(after, Timestamp::from_seconds(until), limit).await.unwrap();
    assert_eq!(behind(&entries[1], 1_000, 99).await, entries[2..]);
    assert_eq!(behind(&due(1, 10, "aa"), 11, 99).await, entries[2..4], "between two");
    assert_eq!(behind(&entries[0], 1_000, 1).await, entries[1..2]);
    assert_eq!(behind(&entries[4], 1_000, 99).await, [], "nothing of the next shard");
    assert_eq!(behind(&entries[3], 11, 99).await, []);
    let remove = Batch::new().not_due(due(1, 10, "a")).not_due(due(1, 99, "never there"));
    store.commit(remove).await.unwrap();
    assert_eq!(read(10, 99).await, [due(1, -5, "before 1970"), due(1, 10, "b")]);
    let last = Due { shard: 255, at: Timestamp::from_nanos(i64::MAX), id: Bytes::from_static(&[255, 0]) };
    store.commit(Batch::new().due(last.clone())).await.unwrap();
    assert_eq!(store.due(255, last.at, 9).await.unwrap(), [last]);
}

async fn claims_fence(store: &dyn Backend) {
    let at = Timestamp::from_seconds;
    let claimed = async |shard, owner, now, until| store.claim(shard, owner, at(now), at(until)).await.unwrap();
    let write = async |shard, epoch| {
        let batch = Batch { claim: Some(Claim { shard, epoch }), ..Batch::new().put(key("a"), "x") };
        store.commit(batch).await
    };
    assert!(matches!(write(3, 1).await, Err(CommitError::Fenced(Claim { shard: 3, epoch: 1 }))), "nobody has claimed it");
    assert_eq!(claimed(3, "one", 0, 15).await, Some(Claim { shard: 3, epoch: 1 }));
    assert_eq!(claimed(4, "two", 0, 15).await, Some(Claim { shard: 4, epoch: 1 }), "shards are apart");
    assert_eq!(claimed(3, "two", 14, 30).await, None);
    assert_eq!(claimed(3, "one", 14, 29).await, Some(Claim { shard: 3, epoch: 1 }), "kept");
    assert_eq!(claimed(3, "two", 15, 30).await, None, "it was kept until 29");
    write(3, 1).await.unwrap();
    let written = version(store, "a").await;
    assert_eq!(claimed(3, "two", 29, 40).await, Some(Claim { shard: 3, epoch: 2 }));
    assert!(matches!(write(3, 1).await, Err(CommitError::Fenced(_))));
    assert_eq!(version(store, "a").await, written, "nothing was changed");
    assert!(matches!(write(3, 3).await, Err(CommitError::Fenced(_))), "nor does an epoch from the future count");
    write(3, 2).await.unwrap();
    assert_eq!(claimed(3, "two", 30, 30).await, Some(Claim { shard: 3, epoch: 2 }), "given up");
    assert_eq!(claimed(3, "two", 31, 50).await, Some(Claim { shard: 3, epoch: 3 }), "back late: what it began before is fenced");
    let broken = Batch { claim: Some(Claim { shard: 3, epoch: 1 }), ..Batch::new().require(key("none"), Condition::Exists) };
    assert!(store.commit(broken).await.is_err());
}

async fn config_version_counts_changes(store: &dyn Backend) {
    assert_eq!(store.commit(Batch::new().put(key("policy"), "1").config_change()).await.unwrap(), 1);
    assert_eq!(store.commit(Batch::new().put(key("secret"), "1")).await.unwrap(), 1);
    assert_eq!(store.commit(Batch::new().config_change()).await.unwrap(), 2);
    assert_eq!(store.get(&key("policy")).await.unwrap().config_version, 2);
    assert_eq!(store.get_many(&[key("a"), key("b")]).await.unwrap().config_version, 2);
}

async fn limits_are_kept(store: &dyn Backend) {
    let longest = Key::new(Space::Config, vec![b'k'; KEY_BYTES_MAX]);
    let too_long = Key::new(Space::Config, vec![b'k'; KEY_BYTES_MAX + 1]);
    store.commit(Batch::new().put(longest.clone(), "1")).await.unwrap();
    assert!(store.get(&longest).await.unwrap().found.is_some());
    let large = Bytes::from(vec![7; 3 * 1024 * 1024]);
    store.commit(Batch::new().put(key("large"), large.clone())).await.unwrap();
    assert_eq!(value(store, "large").await, Some(large));
    let half = Bytes::from(vec![0; BATCH_BYTES_MAX / 2]);
    let many = |count| (0..count).map(|number| due(0, number, "x")).collect::<Vec<_>>();
    let largest = i64::try_from(BATCH_CHANGES_MAX).unwrap();
    store.commit(Batch { due_add: many(largest), ..Batch::new() }).await.unwrap();
    let too_large = [
        Batch::new().put(too_long.clone(), "1"),
        Batch::new().delete(too_long.clone()),
        Batch::new().require(too_long.clone(), Condition::Absent),
        Batch::new().put(key("a"), vec![0; VALUE_BYTES_MAX + 1]),
        Batch::new().due(Due { shard: 0, at: Timestamp::default(), id: too_long.bytes }),
        Batch::new().put(key("a"), half.clone()).put(key("b"), half).put(key("c"), "one more"),
        Batch { due_remove: many(largest + 1), ..Batch::new() },
    ];
    for batch in too_large {
        match store.commit(batch.put(key("mark"), "1")).await {
            Err(CommitError::TooLarge(text)) => assert!(text.contains("at most"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(value(store, "mark").await, None);
    let owner = "o".repeat(OWNER_BYTES_MAX + 1);
    let claim = store.claim(0, &owner, Timestamp::default(), Timestamp::from_seconds(1)).await;
    assert!(matches!(claim, Err(CommitError::TooLarge(_))));
}

async fn long_answers_are_whole(store: &dyn Backend) {
    let count: usize = 2_345;
    let name = |number: usize| format!("p/{number:05}");
    let mut batch = Batch::new();
    for number in 0..count {
        let folder = format!("{}/below", name(number));
        batch = batch.put(key(&name(number)), "leaf").put(key(&folder), "x").due(due(9, i64::try_from(number / 100).unwrap(), &folder));
    }
    store.commit(batch).await.unwrap();
    assert_eq!(names(store, "p/", None, usize::MAX).await.len(), 2 * count);
    assert_eq!(store.scan(&key("p/"), None, usize::MAX).await.unwrap().rows.len(), 2 * count);
    assert_eq!(store.scan(&key("p/"), None, 1_500).await.unwrap().rows.len(), 1_500);
    assert_eq!(store.keys(&key("p/"), None, usize::MAX).await.unwrap().len(), 2 * count);
    let all = store.due(9, Timestamp::from_seconds(1_000), usize::MAX).await.unwrap();
    assert!(all.len() == count && all.is_sorted());
    assert_eq!(store.due(9, Timestamp::from_seconds(1_000), 1_500).await.unwrap(), all.split_at(1_500).0);
}

/// Story: a page was as many rows as were asked for, whatever their bytes. Somebody put 500 values of 32 MiB into a cubbyhole; the revocation of the
/// token read them all, to delete them, and the process had no memory for that, nor after any restart.
async fn large_rows_end_a_page_early(store: &dyn Backend) {
    let each = 3 * SCAN_BYTES_MAX / 8;
    for number in 0..7 {
        store.commit(Batch::new().put(key(&format!("p/{number}")), vec![number; each])).await.unwrap();
    }
    let (mut seen, mut pages, mut after) = (0, Vec::new(), None);
    loop {
        let page = store.scan(&key("p/"), after.as_deref(), 100).await.unwrap();
        assert!(page.rows.iter().all(|(_, row)| row.value.len() == each));
        seen += page.rows.len();
        pages.push(page.rows.len());
        after = page.rows.last().map(|(at, _)| at.to_vec());
        if !page.more {
            break;
        }
    }
    assert_eq!((seen, pages), (7, vec![3, 3, 1]), "a page ends with the row that is over, and is never empty before the end");
    assert_eq!(store.keys(&key("p/"), None, 100).await.unwrap().len(), 7, "keys are no values");
}

/// 64 tasks add to one number; a lost update would show in the sum.
async fn versions_decide_between_many_writers(store: Arc<dyn Backend>) {
    store.commit(Batch::new().put(key("sum"), "0")).await.unwrap();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let own = Key::new(Space::Token, format!("{task}/{round}"));
                    add_one(&*store, own).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let expected = u64::try_from(WRITERS * ROUNDS).unwrap();
    assert_eq!(value(&*store, "sum").await.unwrap(), expected.to_string());
    let done = store.scan(&Key::new(Space::Token, ""), None, usize::MAX).await.unwrap();
    assert_eq!(done.rows.len(), WRITERS * ROUNDS, "each winning batch brought its other row along");
}

async fn add_one(store: &dyn Backend, own: Key) {
    loop {
        let row = store.get(&key("sum")).await.unwrap().found.unwrap();
        let sum: u64 = std::str::from_utf8(&row.value).unwrap().parse().unwrap();
        let batch = Batch::new().require(key("sum"), Condition::Version(row.version)).put(key("sum"), (sum + 1).to_string());
        match store.commit(batch.put(own.clone(), "done")).await {
            Ok(_) => return,
            Err(CommitError::Conflict(0)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// A row counts the configuration changes; a reader must never be told of more changes than the row shows.
async fn a_config_version_never_runs_ahead_of_the_rows(store: Arc<dyn Backend>) {
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in 1..=100_u64 {
                let changed = store.commit(Batch::new().put(key("count"), number.to_string()).config_change()).await.unwrap();
                assert_eq!(changed, number);
                let read = store.get(&key("count")).await.unwrap();
                assert_eq!(read.config_version, number, "whoever was answered sees the new version");
            }
        }
    });
    let mut seen = 0;
    while seen < 100 {
        let read = store.get(&key("count")).await.unwrap();
        let rows: u64 = read.found.map_or(0, |row| std::str::from_utf8(&row.value).unwrap().parse().unwrap());
        assert!(read.config_version <= rows, "version {} with a row of {rows}", read.config_version);
        assert!(seen <= rows, "time runs forward");
        seen = rows;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

async fn closed_store_refuses(store: &dyn Backend) {
    store.commit(Batch::new().put(key("a"), "1")).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(matches!(store.commit(Batch::new()).await, Err(CommitError::Failed(_))));
    assert!(matches!(store.claim(0, "me", Timestamp::default(), Timestamp::default()).await, Err(CommitError::Failed(_))));
    assert!(store.get(&key("a")).await.is_err());
    assert!(store.list(&key(""), None, 1).await.is_err());
}

fn key(name: &str) -> Key {
    Key::new(Space::Config, name.as_bytes().to_vec())
}

fn due(shard: u8, seconds: i64, id: &str) -> Due {
    Due { shard, at: Timestamp::from_seconds(seconds), id: Bytes::from(id.as_bytes().to_vec()) }
}

/// Puts each name with itself as its value.
async fn put_all(store: &dyn Backend, all: &[&str]) {
    let put = |batch: Batch, name: &&str| batch.put(key(name), name.as_bytes().to_vec());
    store.commit(all.iter().fold(Batch::new(), put)).await.unwrap();
}

async fn names(store: &dyn Backend, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let found = store.list(&key(prefix), after.map(str::as_bytes), limit).await.unwrap();
    found.into_iter().map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

async fn value(store: &dyn Backend, name: &str) -> Option<Bytes> {
    store.get(&key(name)).await.unwrap().found.map(|row| row.value)
}

async fn version(store: &dyn Backend, name: &str) -> Option<u64> {
    store.get(&key(name)).await.unwrap().found.map(|row| row.version)
}

fn assert_conflict(result: Result<u64, CommitError>, index: usize, what: &str) {
    match result {
        Err(CommitError::Conflict(found)) => assert_eq!(found, index, "{what}"),
        other => panic!("{what}: {other:?}"),
    }
}

const WRITERS: usize = 64;
const ROUNDS: usize = 10;
