use std::sync::Arc;

use daypass_base::Clock as _;
use daypass_sdk::Operation;
use daypass_sdk::sim::MemoryStorage;
use serde_json::{Value, json};

use super::{Kv2, rows};
use crate::secrets::kv1::Kv1;
use crate::testing::Send::{Body, Core};
use crate::testing::{Bench, replay};

fn bench() -> Bench {
    Bench::new(Kv2::default(), "kv/", "kv")
}

fn none() -> crate::testing::Send {
    Body(Value::Null)
}

fn data(value: Value) -> Value {
    json!({ "data": value })
}

#[tokio::test]
async fn recorded_versions_come_back() {
    let versions = |value: Value| Body(json!({ "versions": value }));
    let mut sends = vec![none(), none(), none(), Body(data(json!({"x": "1"}))), none()];
    sends.push(Body(json!({"data": {"x": "2", "y": 3}, "options": {}})));
    sends.extend((0..9).map(|_| none()));
    sends.push(versions(json!([2])));
    sends.push(none());
    sends.push(versions(json!([1, 2])));
    sends.push(none());
    sends.push(versions(json!("1,2")));
    sends.push(versions(json!([1])));
    sends.push(none());
    sends.push(versions(json!([1])));
    sends.push(none());
    sends.extend((0..3).map(|_| Body(json!({}))));
    sends.extend((0..3).map(|_| versions(json!([1]))));
    sends.push(Core); // a detail of a parser's own wording; see below
    sends.extend((0..5).map(|_| none()));
    let bench = bench();
    replay(&bench, include_str!("../../../../testkit/recorded/kv2-versions.json"), "{{id}}/", sends).await;
    let answer = bench.call("POST", "delete/a", json!({"versions": ["x"]})).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.to_string().contains("Field validation failed: error converting input for field \\\"versions\\\": "));
}

#[tokio::test]
async fn recorded_check_and_set_and_config_come_back() {
    let write = |cas: Value, x: &str| Body(json!({"options": {"cas": cas}, "data": {"x": x}}));
    let mut sends = vec![none()];
    sends.extend(
        [(json!(0), "1"), (json!(0), "2"), (json!(1), "2"), (json!(7), "2"), (json!("x"), "2"), (json!(-1), "2")]
            .map(|(cas, x)| write(cas, x)),
    );
    for body in [
        json!({}),
        data(json!("text")),
        data(Value::Null),
        data(json!([])),
        data(json!({})),
        json!({"foo": {"x": "1"}}),
        json!({"options": "x", "data": {"x": "1"}}),
        json!({"max_versions": 3, "cas_required": true, "delete_version_after": "3h25m19s"}),
        Value::Null,
        data(json!({"x": "3"})),
    ] {
        sends.push(Body(body));
    }
    sends.push(write(json!(3), "3"));
    for body in [
        json!({"cas_required": false, "delete_version_after": "0s"}),
        Value::Null,
        json!({"max_versions": "abc"}),
        json!({"delete_version_after": "xyz"}),
        json!({"delete_version_after": "-1h"}),
        json!({"cas_required": "perhaps"}),
        json!({"max_versions": -1}),
        json!({"max_versions": 2, "cas_required": false}),
    ] {
        sends.push(Body(body));
    }
    sends.extend(["1", "2", "3", "4"].map(|n| Body(data(json!({ "n": n })))));
    sends.extend((0..3).map(|_| none()));
    replay(&bench(), include_str!("../../../../testkit/recorded/kv2-cas-and-config.json"), "{{id}}/", sends).await;
}

#[tokio::test]
async fn recorded_metadata_comes_back() {
    let notes = |value: Value| Body(json!({ "custom_metadata": value }));
    let mut sends = vec![none()];
    sends.push(Body(json!({
        "max_versions": 5, "cas_required": true, "delete_version_after": "1h", "custom_metadata": {"owner": "ops", "tier": "1"},
    })));
    sends.extend([none(), none(), Body(data(json!({"x": "1"}))), Body(json!({"options": {"cas": 0}, "data": {"x": "1"}})), none()]);
    sends.extend([notes(json!({"owner": null, "region": "eu"})), none(), notes(json!({"a": "b"}))]);
    sends.push(Body(json!({"max_versions": "abc"})));
    sends.extend([notes(json!({"a": 5})), notes(json!({"a": {"b": "c"}})), notes(json!("text"))]);
    sends.extend([Body(json!({"max_versions": -1})), Body(json!({"delete_version_after": "bogus"}))]);
    sends.extend([notes(json!({})), none()]);
    sends.extend((0..3).map(|_| Body(data(json!({"x": "1"})))));
    sends.extend((0..8).map(|_| none()));
    replay(&bench(), include_str!("../../../../testkit/recorded/kv2-metadata.json"), "{{id}}/", sends).await;
}

#[tokio::test]
async fn recorded_patches_and_subkeys_come_back() {
    let mut sends = vec![none(), Body(data(json!({"x": "1"})))];
    sends.push(Body(data(json!({"x": "1", "keep": "k", "deep": {"p": 1, "q": {"r": [1]}}}))));
    sends.push(Body(data(json!({"x": null, "deep": {"p": 2, "s": "new"}}))));
    sends.extend([none(), Body(data(json!({"y": "1"}))), Core, Core]); // two content types that the core refuses
    sends.push(Body(json!({"options": {"cas": 1}, "data": {"y": "2"}})));
    sends.push(Body(json!({"options": {"cas": 3}, "data": {"y": "2"}})));
    sends.push(Body(json!({})));
    sends.extend((0..7).map(|_| none()));
    sends.extend([Body(data(json!({"y": "3"}))), Body(json!({})), none(), Body(json!({"x": "1"})), none(), none(), none()]);
    replay(&bench(), include_str!("../../../../testkit/recorded/kv2-patch-and-subkeys.json"), "{{id}}/", sends).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_version_is_lost_among_64_writers() {
    let bench = Arc::new(bench());
    bench.call("POST", "config", json!({"max_versions": 100})).await;
    let writers: Vec<_> = (0..64)
        .map(|n| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.call("PUT", "data/a", data(json!({ "n": n }))).await })
        })
        .collect();
    let mut numbers = Vec::new();
    for writer in writers {
        numbers.push(writer.await.unwrap().body["data"]["version"].as_u64().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=64).collect::<Vec<_>>());
    let mut written = Vec::new();
    for number in 1..=64 {
        written.push(bench.call("GET", &format!("data/a?version={number}"), Value::Null).await.body["data"]["data"]["n"].as_u64().unwrap());
    }
    written.sort_unstable();
    assert_eq!(written, (0..64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_check_and_set_writers_wins() {
    let bench = Arc::new(bench());
    let writers: Vec<_> = (0..32)
        .map(|n| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.call("PUT", "data/a", json!({"data": {"n": n}, "options": {"cas": 0}})).await.status })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        won += usize::from(writer.await.unwrap() == 200);
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_write_is_one_commit_and_keeps_as_many_rows_as_versions() {
    let bench = bench();
    for n in 0..15 {
        let before = bench.storage.commits();
        bench.call("PUT", "data/a", data(json!({ "n": n }))).await;
        assert_eq!(bench.storage.commits(), before + 1);
    }
    // Ten versions are kept; the newest lives in the key's own row.
    assert_eq!(bench.storage.keys().len(), 10);
    bench.call("DELETE", "metadata/a", Value::Null).await;
    assert!(bench.storage.keys().is_empty());
}

/// Story: `DELETE metadata/a/` answered 204 and left the secret with all its versions where it was; Vault deletes it. Policies judge the path with
/// the slash, so another name is not meant here: it is refused, as writes are.
#[tokio::test]
async fn no_delete_of_a_name_with_a_slash_claims_success() {
    let bench = bench();
    bench.call("PUT", "data/a", data(json!({ "n": 1 }))).await;
    for (method, path, body) in [
        ("DELETE", "metadata/a/", Value::Null),
        ("DELETE", "data/a/", Value::Null),
        ("PUT", "delete/a/", json!({ "versions": [1] })),
        ("PUT", "undelete/a/", json!({ "versions": [1] })),
        ("PUT", "destroy/a/", json!({ "versions": [1] })),
    ] {
        let answer = bench.call(method, path, body).await;
        assert!(matches!(answer.status, 400 | 404), "{method} {path}: {answer:?}");
    }
    assert_eq!(bench.call("GET", "data/a", Value::Null).await.body["data"]["data"], json!({ "n": 1 }));
}

#[tokio::test]
async fn large_data_has_its_own_row_and_reads_the_same() {
    let bench = bench();
    let large = json!({ "blob": "x".repeat(40_000) });
    bench.call("PUT", "data/a", data(large.clone())).await;
    assert_eq!(bench.storage.keys(), ["d/a/1", "m/a"]);
    assert_eq!(bench.call("GET", "data/a", Value::Null).await.body["data"]["data"], large);
    bench.call("PATCH", "data/a", data(json!({"blob": null, "y": 1}))).await;
    assert_eq!(bench.call("GET", "data/a", Value::Null).await.body["data"]["data"], json!({"y": 1}));
    assert_eq!(bench.call("GET", "data/a?version=1", Value::Null).await.body["data"]["data"], large);
    bench.call("PUT", "destroy/a", json!({"versions": [1]})).await;
    assert_eq!(bench.storage.keys(), ["m/a"]);
}

#[tokio::test]
async fn keys_that_look_like_versions_of_others_stay_apart() {
    let bench = bench();
    for path in ["a", "a/1", "a/1/1", "a/2"] {
        for n in 1..=2 {
            bench.call("PUT", &format!("data/{path}"), data(json!({ "at": path, "n": n }))).await;
        }
    }
    bench.call("DELETE", "metadata/a", Value::Null).await;
    for path in ["a/1", "a/1/1", "a/2"] {
        let read = bench.call("GET", &format!("data/{path}?version=1"), Value::Null).await;
        assert_eq!(read.body["data"]["data"], json!({ "at": path, "n": 1 }));
    }
    assert_eq!(bench.call("LIST", "metadata/a", Value::Null).await.body["data"]["keys"], json!(["1", "1/", "2"]));
}

#[tokio::test]
async fn versions_end_when_their_time_has_come_and_undelete_gives_them_a_new_one() {
    let bench = bench();
    bench.call("POST", "config", json!({"delete_version_after": "1h"})).await;
    bench.call("POST", "metadata/a", json!({"delete_version_after": "10m"})).await;
    bench.call("PUT", "data/a", data(json!({"x": 1}))).await;
    bench.advance(599);
    assert_eq!(bench.call("GET", "data/a", Value::Null).await.status, 200);
    bench.advance(1);
    let gone = bench.call("GET", "data/a", Value::Null).await;
    assert_eq!((gone.status, &gone.body["data"]["data"]), (404, &Value::Null));
    bench.call("POST", "undelete/a", json!({"versions": [1]})).await;
    bench.advance(599);
    assert_eq!(bench.call("GET", "data/a", Value::Null).await.status, 200);
    bench.call("POST", "metadata/b", json!({"delete_version_after": "-1s"})).await;
    let off = bench.call("PUT", "data/b", data(json!({"x": 1}))).await;
    assert_eq!(off.body["data"]["deletion_time"], json!(""));
}

/// Seen: a secret that was deleted could be read again for as long as the clock had been put back by.
#[tokio::test]
async fn what_was_deleted_stays_deleted_when_the_clock_is_put_back() {
    let bench = bench();
    bench.call("POST", "data/a", data(json!({ "x": 1 }))).await;
    bench.call("DELETE", "data/a", Value::Null).await;
    bench.clock.jump_to(bench.clock.now() - std::time::Duration::from_secs(5));
    assert_eq!(bench.call("GET", "data/a", Value::Null).await.status, 404);
    bench.call("POST", "undelete/a", json!({ "versions": [1] })).await;
    assert_eq!(bench.call("GET", "data/a", Value::Null).await.status, 200);
}

#[tokio::test]
async fn lowering_max_versions_takes_effect_at_the_next_write() {
    let bench = bench();
    for n in 0..6 {
        bench.call("PUT", "data/a", data(json!({ "n": n }))).await;
    }
    bench.call("POST", "metadata/a", json!({"max_versions": 2})).await;
    assert_eq!(bench.call("GET", "data/a?version=1", Value::Null).await.status, 200);
    bench.call("PUT", "data/a", data(json!({"n": 6}))).await;
    let metadata = bench.call("GET", "metadata/a", Value::Null).await.body;
    assert_eq!(metadata["data"]["oldest_version"], json!(6));
    assert_eq!(metadata["data"]["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["6", "7"]);
    bench.call("POST", "metadata/a", json!({"max_versions": 1})).await;
    bench.call("PUT", "data/a", data(json!({"n": 7}))).await;
    assert_eq!(bench.storage.keys(), ["m/a"]);
}

#[tokio::test]
async fn a_new_version_takes_the_row_of_the_one_that_it_drops() {
    let bench = bench();
    let mut rows = Vec::new();
    for n in 1..=25 {
        bench.call("PUT", "data/a", data(json!({ "n": n }))).await;
        if n == 10 {
            rows = bench.storage.keys();
        }
    }
    assert_eq!((rows.len(), bench.storage.keys()), (10, rows));
    for n in 16..=25 {
        let read = bench.call("GET", &format!("data/a?version={n}"), Value::Null).await;
        assert_eq!((&read.body["data"]["data"], &read.body["data"]["metadata"]["version"]), (&json!({ "n": n }), &json!(n)));
    }
    bench.call("PUT", "destroy/a", json!({ "versions": [17, 18] })).await;
    assert_eq!(bench.storage.keys().len(), 8);
    assert_eq!(bench.call("GET", "data/a?version=19", Value::Null).await.body["data"]["data"], json!({ "n": 19 }));
    bench.call("DELETE", "metadata/a", Value::Null).await;
    assert_eq!(bench.storage.keys(), Vec::<String>::new());
}

/// Whoever has read a key and comes to a row that was given to another version meanwhile must look at the key again.
#[tokio::test]
async fn a_row_that_was_taken_over_is_not_taken_for_the_version_that_had_it() {
    let bench = bench();
    let write = async |count: u64| {
        for n in 0..count {
            bench.call("PUT", "data/a", data(json!({ "n": n }))).await;
        }
    };
    write(10).await;
    let cx = bench.cx("data/a", Operation::Read);
    let before = rows::read_key(&cx, "a").await.unwrap().unwrap();
    let found = rows::data_of(&cx, "a", &before, 1).await.unwrap();
    assert_eq!(found.unwrap().get("n"), Some(&json!(0)));
    write(1).await;
    assert_eq!(rows::data_of(&cx, "a", &before, 1).await.unwrap(), None);
    write(10).await;
    assert_eq!(rows::data_of(&cx, "a", &before, 2).await.unwrap(), None);
}

#[tokio::test]
async fn a_mandate_of_the_mount_is_named_when_a_key_tries_to_lift_it() {
    let bench = bench();
    bench.call("POST", "config", json!({"cas_required": true})).await;
    let answer = bench.call("POST", "metadata/a", json!({"cas_required": false})).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body["warnings"][0].as_str().unwrap().starts_with("\"cas_required\" set to false, but is mandated"));
    assert_eq!(bench.call("PUT", "data/a", data(json!({"x": 1}))).await.status, 400);
    assert_eq!(bench.call("PUT", "data/a", json!({"data": {"x": 1}, "options": {"cas": "0"}})).await.status, 200);
}

#[tokio::test]
async fn secrets_of_version_1_become_first_versions_at_once() {
    let storage = Arc::new(MemoryStorage::new());
    let old = Bench::over(Kv1, "kv/", "kv", Arc::clone(&storage));
    for path in ["a", "dir", "dir/b", "dir/sub/c"] {
        old.call("PUT", path, json!({ "at": path })).await;
    }
    let new = Bench::over(Kv2::default(), "kv/", "kv", Arc::clone(&storage));
    assert_eq!(new.call("LIST", "metadata", Value::Null).await.body["data"]["keys"], json!(["a", "dir", "dir/"]));
    for path in ["a", "dir", "dir/b", "dir/sub/c"] {
        let read = new.call("GET", &format!("data/{path}"), Value::Null).await.body;
        assert_eq!((&read["data"]["data"], &read["data"]["metadata"]["version"]), (&json!({ "at": path }), &json!(1)));
    }
    // Story: whoever asked first, here for a list, was shown as the author of them all. Nobody knows who wrote them.
    let metadata = new.call("GET", "metadata/dir/b", Value::Null).await.body;
    assert_eq!((&metadata["data"]["last_updated_by"], &metadata["data"]["versions"]["1"]["created_by"]), (&Value::Null, &Value::Null));
    assert!(storage.keys().iter().all(|key| key.starts_with("m/")));
    new.call("PUT", "data/a", data(json!({ "x": 1 }))).await;
    let metadata = new.call("GET", "metadata/a", Value::Null).await.body;
    assert_eq!(metadata["data"]["versions"]["2"]["created_by"]["actor"], "token", "what is written from then on has its author");
}

/// Story: a patch of a secret's metadata with `max_versions` of -2 kept 4294967294 versions.
#[tokio::test]
async fn no_patch_keeps_less_than_no_versions() {
    let bench = bench();
    bench.call("POST", "metadata/a", json!({"max_versions": 3})).await;
    let refused = bench.call("PATCH", "metadata/a", json!({"max_versions": -2})).await;
    assert_eq!((refused.status, &refused.body["errors"][0]), (400, &json!("max_versions of -2 is below zero; 0 leaves it to the mount")));
    assert_eq!(bench.call("GET", "metadata/a", Value::Null).await.body["data"]["max_versions"], 3);
}

#[tokio::test]
async fn patching_is_a_version_with_its_own_author() {
    let mut bench = bench();
    bench.caller.entity_id = "e-1".to_owned();
    bench.call("PUT", "data/a", data(json!({"x": 1}))).await;
    bench.call("PATCH", "data/a", data(json!({"y": 2}))).await;
    let metadata = bench.call("GET", "metadata/a", Value::Null).await.body;
    let author = json!({"actor": "token", "operation": "patch", "client_id": "client", "entity_id": "e-1"});
    assert_eq!((&metadata["data"]["last_updated_by"], &metadata["data"]["versions"]["2"]["created_by"]), (&author, &author));
}

#[tokio::test]
async fn subkeys_hide_every_value() {
    let bench = bench();
    bench.call("PUT", "data/a", data(json!({"s": "secret", "l": [{"k": 1}], "o": {"p": {"q": "secret"}}, "e": {}}))).await;
    let shown = |answer: crate::testing::Answer| answer.body["data"]["subkeys"].clone();
    let all = shown(bench.call("GET", "subkeys/a", Value::Null).await);
    assert_eq!(all, json!({"s": null, "l": null, "o": {"p": {"q": null}}, "e": null}));
    let two = shown(bench.call("GET", "subkeys/a?depth=2", Value::Null).await);
    assert_eq!(two, json!({"s": null, "l": null, "o": {"p": null}, "e": null}));
}

#[tokio::test]
async fn invalid_paths_name_the_command_that_works() {
    let bench = bench();
    for (method, path, command) in
        [("DELETE", "a", "delete"), ("GET", "data/dir/", "get"), ("DELETE", "data/dir/", "delete"), ("LIST", "", "list")]
    {
        let answer = bench.call(method, path, Value::Null).await;
        let expected = format!("use 'vault kv {command}' for this operation.");
        assert_eq!(answer.status, 404);
        assert!(answer.body["warnings"][0].as_str().unwrap().ends_with(&expected), "{method} {path}: {}", answer.body);
    }
    // The CLI falls back to read and write on 405.
    assert_eq!(bench.call("PATCH", "a", json!({"x": 1})).await.status, 405);
}

#[tokio::test]
async fn a_failing_store_is_an_error_and_not_an_empty_answer() {
    let bench = bench();
    bench.call("PUT", "data/a", data(json!({"x": 1}))).await;
    bench.storage.set_failing(true);
    for (method, path) in [("GET", "data/a"), ("LIST", "metadata"), ("GET", "config"), ("DELETE", "data/a")] {
        assert_eq!(bench.call(method, path, Value::Null).await.status, 500, "{method} {path}");
    }
}
