use serde_json::{Value, json};

use super::Kv1;
use crate::testing::Send::{Body, Core};
use crate::testing::{Bench, replay};

fn bench() -> Bench {
    Bench::new(Kv1, "kv/", "kv")
}

#[tokio::test]
async fn recorded_answers_come_back() {
    let none = || Body(Value::Null);
    let first = json!({
        "x": "1", "number": 7, "float": 1.5, "big": 12_345_678_901_234_567_890_u64, "list": [1, "two"], "nested": {"a": {"b": null}},
        "flag": true, "none": null, "": "empty key", "uni é": "ß✓",
    });
    let sends = vec![
        none(),
        none(),
        Body(first),
        none(),
        Body(json!({"only": "this"})),
        none(),
        Body(json!({"y": "1"})),
        Body(json!({"y": "1"})),
        Body(json!({"y": "key and folder"})),
        none(),
        none(),
        none(),
        none(),
        none(),
        Core, // a `list` that is no boolean
        none(),
        none(),
        Body(json!({"x": "1", "ttl": "90s"})),
        none(),
        Body(json!({"x": "1", "lease": "2h"})),
        none(),
        Body(json!({"x": "1", "ttl": "soon"})),
        none(),
        Body(json!({})),
        none(),
        Body(json!({"a": "1"})),
        Body(json!({"a": "1"})),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        Body(json!({"a": "1"})),
        Core, // HEAD
        none(),
    ];
    replay(&bench(), include_str!("../../../../testkit/recorded/kv1.json"), "{{id}}/", sends).await;
}

#[tokio::test]
async fn data_named_path_is_stored_as_sent() {
    let bench = bench();
    let data = json!({"path": "mine", "list": "x", "min": i64::MIN, "max": u64::MAX, "f": 1e300});
    assert_eq!(bench.call("POST", "a/b", data.clone()).await.status, 204);
    assert_eq!(bench.call("GET", "a/b", Value::Null).await.body["data"], data);
}

#[tokio::test]
async fn paths_that_cannot_be_stored_are_refused() {
    let bench = bench();
    for path in ["..dots", "a/../b", &"x".repeat(3501)] {
        assert_eq!(bench.call("PUT", path, json!({"v": 1})).await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn a_lifetime_is_any_form_of_a_duration() {
    let bench = bench();
    for (said, seconds) in [
        (json!(90), 90),
        (json!("90"), 90),
        (json!("1h"), 3600),
        (json!(true), 2_764_800),
        (json!(-5), 2_764_800),
        (json!(null), 2_764_800),
        (json!([1]), 2_764_800),
        // Go's clients read no answer with a number beyond 63 bits.
        (json!(u64::MAX), 9_223_372_036_u64),
    ] {
        bench.call("PUT", "a", json!({"ttl": said, "x": 1})).await;
        assert_eq!(bench.call("GET", "a", Value::Null).await.body["lease_duration"], json!(seconds), "{said}");
    }
}
