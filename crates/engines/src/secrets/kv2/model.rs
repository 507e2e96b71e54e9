//! The engine against a model that a page of code can hold: any sequence of operations must read the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Kv2;
use super::key::INLINE_BYTES_MAX;
use crate::testing::Bench;

/// One thing that a client may do to one of a few keys.
#[derive(Debug, Clone)]
enum Act {
    Cas(usize, u64, u32),
    Config(u32),
    Delete(usize, Vec<i64>),
    DeleteLatest(usize),
    Destroy(usize, Vec<i64>),
    MaxVersions(usize, u32),
    Patch(usize, u32),
    Remove(usize),
    Undelete(usize, Vec<i64>),
    Write(usize, u32),
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Deleted,
    Destroyed,
    Live,
}

#[derive(Debug, Default, Clone)]
struct ModelKey {
    current: u64,
    oldest: u64,
    max: u32,
    versions: BTreeMap<u64, (Value, State)>,
}

#[derive(Debug, Default)]
struct Model {
    max: u32,
    keys: BTreeMap<usize, ModelKey>,
}

impl Model {
    /// Applies an act and tells the status that the server must answer.
    fn apply(&mut self, act: &Act) -> u16 {
        match act {
            Act::Config(max) => self.max = *max,
            Act::MaxVersions(key, max) => self.keys.entry(*key).or_default().max = *max,
            Act::Write(key, value) => return self.write(*key, secret(*value)),
            Act::Cas(key, cas, value) => {
                if self.keys.get(key).map_or(0, |key| key.current) != *cas {
                    return 400;
                }
                return self.write(*key, secret(*value));
            }
            Act::Patch(key, value) => {
                let latest = self.keys.get(key).and_then(|key| key.versions.get(&key.current));
                let Some((data, State::Live)) = latest.cloned() else { return 404 };
                let mut data = data;
                data["p"] = json!(value);
                return self.write(*key, data);
            }
            Act::DeleteLatest(key) => {
                let current = self.keys.get(key).map_or(0, |key| key.current);
                self.mark(*key, &[i64::try_from(current).unwrap()], &State::Live, &State::Deleted);
            }
            Act::Delete(key, versions) => self.mark(*key, versions, &State::Live, &State::Deleted),
            Act::Undelete(key, versions) => self.mark(*key, versions, &State::Deleted, &State::Live),
            Act::Destroy(key, versions) => {
                self.mark(*key, versions, &State::Live, &State::Destroyed);
                self.mark(*key, versions, &State::Deleted, &State::Destroyed);
            }
            Act::Remove(key) => {
                self.keys.remove(key);
            }
        }
        204
    }

    fn write(&mut self, key: usize, data: Value) -> u16 {
        let key = self.keys.entry(key).or_default();
        key.current += 1;
        key.versions.insert(key.current, (data, State::Live));
        let keep = match key.max.max(self.max) {
            0 => 10,
            set => u64::from(set),
        };
        if key.current - key.oldest >= keep {
            key.oldest = key.current - keep + 1;
            key.versions.retain(|number, _| *number >= key.oldest);
        }
        200
    }

    fn mark(&mut self, key: usize, versions: &[i64], from: &State, to: &State) {
        let Some(key) = self.keys.get_mut(&key) else { return };
        for number in versions {
            if let Some((_, state)) =
                u64::try_from(*number).ok().and_then(|number| key.versions.get_mut(&number)).filter(|(_, state)| state == from)
            {
                *state = to.clone();
            }
        }
    }
}

/// One in four is too large for the key's own row.
fn secret(value: u32) -> Value {
    if value.is_multiple_of(4) { json!({ "v": value, "long": "x".repeat(INLINE_BYTES_MAX) }) } else { json!({ "v": value }) }
}

const PATHS: [&str; 3] = ["a", "a/1", "a/1/2"];

async fn run(bench: &Bench, act: &Act) -> u16 {
    let path = |group: &str, key: usize| format!("{group}/{}", PATHS[key]);
    let versions = |versions: &[i64]| json!({ "versions": versions });
    let (method, path, body) = match act {
        Act::Config(max) => ("POST", "config".to_owned(), json!({ "max_versions": max })),
        Act::MaxVersions(key, max) => ("POST", path("metadata", *key), json!({ "max_versions": max })),
        Act::Write(key, value) => ("PUT", path("data", *key), json!({ "data": secret(*value) })),
        Act::Cas(key, cas, value) => ("PUT", path("data", *key), json!({"data": secret(*value), "options": {"cas": cas}})),
        Act::Patch(key, value) => ("PATCH", path("data", *key), json!({"data": {"p": value}})),
        Act::DeleteLatest(key) => ("DELETE", path("data", *key), Value::Null),
        Act::Delete(key, numbers) => ("PUT", path("delete", *key), versions(numbers)),
        Act::Undelete(key, numbers) => ("PUT", path("undelete", *key), versions(numbers)),
        Act::Destroy(key, numbers) => ("PUT", path("destroy", *key), versions(numbers)),
        Act::Remove(key) => ("DELETE", path("metadata", *key), Value::Null),
    };
    bench.call(method, &path, body).await.status
}

async fn compare(bench: &Bench, model: &Model) {
    let mut rows = 0;
    for (index, path) in PATHS.iter().enumerate() {
        let metadata = bench.call("GET", &format!("metadata/{path}"), Value::Null).await;
        let Some(key) = model.keys.get(&index) else {
            assert_eq!(metadata.status, 404);
            continue;
        };
        rows += 1;
        let shown = &metadata.body["data"];
        assert_eq!((&shown["current_version"], &shown["oldest_version"]), (&json!(key.current), &json!(key.oldest)));
        assert_eq!(shown["versions"].as_object().unwrap().len(), key.versions.len());
        for number in 1..=key.current + 1 {
            let read = bench.call("GET", &format!("data/{path}?version={number}"), Value::Null).await;
            match key.versions.get(&number) {
                None => assert_eq!((read.status, &read.body["data"]), (404, &Value::Null)),
                Some((data, State::Live)) => assert_eq!((read.status, &read.body["data"]["data"]), (200, data)),
                Some((_, state)) => {
                    assert_eq!((read.status, &read.body["data"]["data"]), (404, &Value::Null));
                    assert_eq!(read.body["data"]["metadata"]["destroyed"], json!(*state == State::Destroyed));
                }
            }
            let of_its_own =
                |(data, state): &(Value, State)| *state != State::Destroyed && (number != key.current || !data["long"].is_null());
            rows += usize::from(key.versions.get(&number).is_some_and(of_its_own));
        }
    }
    // Nothing is left behind and nothing is stored twice.
    let stored = bench.storage.keys().into_iter().filter(|key| key != "config").count();
    assert_eq!(stored, rows);
}

fn act() -> impl Strategy<Value = Act> {
    let key = 0..PATHS.len();
    let versions = proptest::collection::vec(-1_i64..14, 1..4);
    prop_oneof![
        8 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Act::Write(key, value)),
        3 => (key.clone(), 0_u64..8, any::<u32>()).prop_map(|(key, cas, value)| Act::Cas(key, cas, value)),
        3 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Act::Patch(key, value)),
        2 => key.clone().prop_map(Act::DeleteLatest),
        2 => (key.clone(), versions.clone()).prop_map(|(key, versions)| Act::Delete(key, versions)),
        2 => (key.clone(), versions.clone()).prop_map(|(key, versions)| Act::Undelete(key, versions)),
        2 => (key.clone(), versions).prop_map(|(key, versions)| Act::Destroy(key, versions)),
        1 => (key.clone(), 0_u32..6).prop_map(|(key, max)| Act::MaxVersions(key, max)),
        1 => key.prop_map(Act::Remove),
        1 => (0_u32..6).prop_map(Act::Config),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_operations_equals_the_model(acts in proptest::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new(Kv2::default(), "kv/", "kv");
            let mut model = Model::default();
            for act in &acts {
                bench.advance(1);
                let expected = model.apply(act);
                assert_eq!(run(&bench, act).await, expected, "{act:?}");
            }
            compare(&bench, &model).await;
        });
    }
}
