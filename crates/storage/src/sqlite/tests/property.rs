//! Random histories on the memory store and on SQLite: every answer and the state after them must be the same.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Commit(Batch),
    Claim(u8, &'static str, i64, i64),
    Get(Key),
    List(Key, Option<Vec<u8>>, usize),
    Scan(Key, Option<Vec<u8>>, usize),
    Due(u8, i64, usize),
}

fn space() -> impl Strategy<Value = Space> {
    prop_oneof![Just(Space::Config), Just(Space::Token), Just(Space::Lease), Just(Space::Index)]
}

/// Few and short, so that histories meet each other's keys.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop_oneof![4 => Just(b'a'), 2 => Just(b'b'), 4 => Just(b'/'), 1 => Just(0), 1 => Just(255), 1 => Just(b'0')],
        0..5,
    )
}

fn any_key() -> impl Strategy<Value = Key> {
    (space(), bytes()).prop_map(|(space, bytes)| Key::new(space, bytes))
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![4 => Just(Condition::Absent), 1 => Just(Condition::Exists), 2 => (1..4_u64).prop_map(Condition::Version)]
}

fn any_due() -> impl Strategy<Value = Due> {
    (0..3_u8, -2..4_i64, bytes()).prop_map(|(shard, at, id)| Due { shard, at: Timestamp::from_seconds(at), id: id.into() })
}

fn batch() -> impl Strategy<Value = Batch> {
    (
        prop::collection::vec((any_key(), condition()), 0..2),
        prop::option::weighted(0.2, (0..3_u8, 1..4_u64).prop_map(|(shard, epoch)| Claim { shard, epoch })),
        prop::collection::vec((any_key(), bytes().prop_map(Bytes::from)), 0..5),
        prop::collection::vec(any_key(), 0..3),
        prop::collection::vec(any_due(), 0..3),
        prop::collection::vec(any_due(), 0..3),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(conditions, claim, puts, deletes, due_add, due_remove, config_changed, takes_back)| Batch {
            conditions,
            claim,
            puts,
            deletes,
            due_add,
            due_remove,
            config_changed,
            takes_back,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let owner = prop_oneof![Just("one"), Just("two")];
    prop_oneof![
        8 => batch().prop_map(Step::Commit),
        1 => (0..3_u8, owner, 0..9_i64, 0..9_i64).prop_map(|(shard, owner, now, more)| Step::Claim(shard, owner, now, now + more)),
        2 => any_key().prop_map(Step::Get),
        2 => (any_key(), prop::option::of(bytes()), 0..6_usize).prop_map(|(key, after, limit)| Step::List(key, after, limit)),
        2 => (any_key(), prop::option::of(bytes()), 0..6_usize).prop_map(|(key, after, limit)| Step::Scan(key, after, limit)),
        1 => (0..3_u8, -2..4_i64, 0..6_usize).prop_map(|(shard, until, limit)| Step::Due(shard, until, limit)),
    ]
}

/// What a client could see, as text.
async fn play(store: &dyn Backend, steps: &[Step]) -> Vec<String> {
    let mut seen = Vec::new();
    for step in steps {
        seen.push(match step {
            Step::Commit(batch) => format!("{:?}", store.commit(batch.clone()).await),
            Step::Claim(shard, owner, now, until) => {
                format!("{:?}", store.claim(*shard, owner, Timestamp::from_seconds(*now), Timestamp::from_seconds(*until)).await)
            }
            Step::Get(key) => format!("{:?}", store.get(key).await),
            Step::List(key, after, limit) => format!("{:?}", store.list(key, after.as_deref(), *limit).await),
            Step::Scan(key, after, limit) => {
                let (keys, page) = (store.keys(key, after.as_deref(), *limit).await, store.scan(key, after.as_deref(), *limit).await);
                format!("{keys:?} {page:?}")
            }
            Step::Due(shard, until, limit) => format!("{:?}", store.due(*shard, Timestamp::from_seconds(*until), *limit).await),
        });
    }
    for space in [Space::Config, Space::Token, Space::Lease, Space::Index] {
        let all = Key::new(space, "");
        seen.push(format!("{:?}", store.scan(&all, None, usize::MAX).await));
        seen.push(format!("{:?}", store.list(&all, None, usize::MAX).await));
    }
    for shard in 0..3 {
        seen.push(format!("{:?}", store.due(shard, Timestamp::from_nanos(i64::MAX), usize::MAX).await));
    }
    seen.push(format!("{:?}", store.get_many(&[key("a"), key("b"), key("a/")]).await));
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_cannot_be_told_apart(steps in prop::collection::vec(step(), 1..60)) {
        let root = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (memory, sqlite) = runtime.block_on(async {
            let memory = play(&MemoryBackend::new(), &steps).await;
            let sqlite = play(&*open(&root.path().join("store.db")), &steps).await;
            (memory, sqlite)
        });
        for (number, (memory, sqlite)) in memory.iter().zip(&sqlite).enumerate() {
            prop_assert_eq!(memory, sqlite, "answer {} of {:?}", number, steps.get(number));
        }
    }
}
