//! Lists: whole or in parts, and never cut short in silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daypass_core::Limits;
use daypass_sdk::{Error, Page, whole};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

async fn keys(server: &TestServer, path: &str) -> Value {
    server.get(path).await.ok()["data"]["keys"].clone()
}

#[tokio::test]
async fn every_list_comes_in_parts_to_those_who_ask() {
    let server = TestServer::start().await;
    server.put("sys/mounts/one", json!({ "type": "kv" })).await.ok();
    server.put("sys/mounts/two", json!({ "type": "kv-v2" })).await.ok();
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    for name in ["a", "b", "dir/x", "dir/y", "e"] {
        server.put(&format!("one/{name}"), json!({ "v": 1 })).await.ok();
        server.put(&format!("two/data/{name}"), json!({ "data": {} })).await.ok();
        server.put(&format!("cubbyhole/{name}"), json!({ "v": 1 })).await.ok();
    }
    for name in ["a", "b", "e"] {
        server.put(&format!("auth/approle/role/{name}"), json!({})).await.ok();
        server.policy(name, "path \"x\" {}").await;
    }
    for folder in ["one", "two/metadata", "cubbyhole"] {
        let part = |query: &str| format!("{folder}?list=true&{query}");
        assert_eq!(keys(&server, &part("limit=2")).await, json!(["a", "b"]), "{folder}");
        assert_eq!(keys(&server, &part("after=b&limit=1")).await, json!(["dir/"]), "{folder}");
        assert_eq!(keys(&server, &part("after=dir/")).await, json!(["e"]), "{folder}: a folder is left out as a whole");
        assert_eq!(keys(&server, &part("limit=0&after=")).await, json!(["a", "b", "dir/", "e"]), "{folder}");
        server.get(&part("after=e")).await.refused(404);
        assert!(server.get(&part("limit=few")).await.refused(400).starts_with("invalid limit \"few\""));
    }
    assert_eq!(keys(&server, "auth/approle/role?list=true&after=a&limit=1").await, json!(["b"]));
    assert_eq!(keys(&server, "sys/policies/acl?list=true&after=a&limit=2").await, json!(["b", "default"]));
    let answer = server.list("sys/policies/acl?after=a&limit=2").await.ok();
    assert_eq!(answer["warnings"], Value::Null, "these are no unknown parameters");
    server.get("one/a?after=x").await.ok();
}

#[tokio::test]
async fn accessors_and_leases_come_in_parts_that_make_up_the_whole() {
    let server = TestServer::start().await;
    for _ in 0..7 {
        server.token(json!({ "ttl": "1h" })).await;
    }
    for path in ["auth/token/accessors", "sys/leases/lookup/auth/token/create"] {
        let all: Vec<String> = serde_json::from_value(keys(&server, &format!("{path}?list=true")).await).unwrap();
        let mut parts: Vec<String> = Vec::new();
        loop {
            let after = parts.last().cloned().unwrap_or_default();
            let part = server.list(&format!("{path}?limit=3&after={after}")).await;
            if part.status == 404 {
                break;
            }
            parts.extend(serde_json::from_value::<Vec<String>>(part.ok()["data"]["keys"].clone()).unwrap());
        }
        assert!(all.len() >= 7 && parts.len() == all.len() && all.iter().all(|name| parts.contains(name)), "{path}: {parts:?} of {all:?}");
    }
}

#[test]
fn a_list_that_is_too_long_for_one_answer_says_how_to_get_at_it() {
    let names: Vec<String> = (0..4).map(|number| number.to_string()).collect();
    assert_eq!(whole(names.clone(), 4).unwrap(), names);
    let Error { message, .. } = whole(names.clone(), 3).unwrap_err();
    assert_eq!(message, "the list has more than 3 names: ask for parts of it with the query parameters limit=N and after=NAME");
    assert_eq!(Page { after: Some("1".to_owned()), limit: None }.of(names), ["2", "3"]);
}

/// Story: lists of entities, groups and their aliases ended at the limit of names as if there were no more.
#[tokio::test]
async fn lists_of_the_identity_store_are_whole_or_refused_and_come_in_parts() {
    let server = Setup::default().limits(Limits { list_names: 3, ..Limits::default() }).start().await;
    server.put("sys/auth/approle", json!({ "type": "approle" })).await.ok();
    let accessor = server.get("sys/auth/approle").await.ok().text("/data/accessor");
    // Their ids are not in the order of their names.
    for name in ["d", "b", "a", "c"] {
        for kind in ["entity", "group"] {
            let fields = if kind == "group" { json!({ "name": name, "type": "external" }) } else { json!({ "name": name }) };
            let id = server.put(&format!("identity/{kind}"), fields).await.ok().text("/data/id");
            let alias = json!({ "name": name, "mount_accessor": accessor, "canonical_id": id });
            server.put(&format!("identity/{kind}-alias"), alias).await.ok();
        }
    }
    let lists = ["entity/id", "entity/name", "entity-alias/id", "group/id", "group/name", "group-alias/id"];
    for list in lists.map(|list| format!("identity/{list}")) {
        assert!(server.list(&list).await.refused(400).contains("more than 3 names"), "{list}");
        let first = keys(&server, &format!("{list}?list=true&limit=3")).await;
        let rest = keys(&server, &format!("{list}?list=true&after={}", first[2].as_str().unwrap())).await;
        let all: Vec<String> = serde_json::from_value::<Vec<String>>(first).unwrap();
        let last: Vec<String> = serde_json::from_value(rest).unwrap();
        assert!(all.is_sorted() && all.len() == 3 && last.len() == 1 && last > all[2..].to_vec(), "{list}: {all:?} {last:?}");
        assert_eq!(server.list(&format!("{list}?after={}", last[0])).await.status, 404, "{list}");
    }
    assert_eq!(server.get("sys/internal/counters/entities").await.ok().number("/data/counters/entities/total"), 4);
    let one = keys(&server, "identity/entity/name?list=true&limit=1").await[0].as_str().unwrap().to_owned();
    server.delete(&format!("identity/entity/name/{one}")).await.ok();
    for list in ["id", "name"] {
        assert_eq!(keys(&server, &format!("identity/entity/{list}?list=true")).await.as_array().map(Vec::len), Some(3));
    }
}

/// More names than any page of the store: whole, in order, and in parts. The same was seen with a hundred thousand.
#[tokio::test]
async fn a_folder_of_many_keys_is_listed_whole_and_in_parts() {
    const COUNT: usize = 3_000;
    let server = TestServer::start().await;
    server.put("sys/mounts/many", json!({ "type": "kv" })).await.ok();
    for number in 0..COUNT {
        server.put(&format!("many/folder/{number:06}"), json!({ "v": 1 })).await.ok();
    }
    let listed = server.list("many/folder").await.ok();
    let names = listed["data"]["keys"].as_array().unwrap();
    assert!(names.len() == COUNT && names.iter().enumerate().all(|(number, name)| name.as_str() == Some(&format!("{number:06}"))));
    assert_eq!(keys(&server, "many?list=true").await, json!(["folder/"]), "a folder is one name");
    let part = server.list("many/folder?after=001777&limit=2").await.ok();
    assert_eq!(part["data"]["keys"], json!(["001778", "001779"]));
}

/// How often others have their turn on this thread while a request is worked on.
async fn turns(asked: daypass_testkit::Ask) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let others = tokio::spawn({
        let count = Arc::clone(&count);
        async move {
            loop {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    tokio::task::yield_now().await;
    let before = count.load(Ordering::Relaxed);
    asked.await.ok();
    others.abort();
    count.load(Ordering::Relaxed) - before
}

/// Story: whoever listed the accessors of hundreds of thousands of tokens had a thread for himself until all rows were read, and all other connections of that
/// thread waited.
#[tokio::test]
async fn a_long_list_gives_others_their_turns() {
    let server = TestServer::start().await;
    let lists = ["auth/token/accessors", "identity/entity/id"];
    server.put("identity/entity", json!({ "name": "first" })).await.ok();
    let mut few = Vec::new();
    for list in lists {
        few.push(turns(server.list(list)).await);
    }
    for number in 0..1_100 {
        server.token(json!({ "ttl": "1h" })).await;
        server.put("identity/entity", json!({ "name": number.to_string() })).await.ok();
    }
    for (list, few) in lists.into_iter().zip(few) {
        let many = turns(server.list(list)).await;
        assert!(many >= few + 2, "{list}: {many} turns in three pages, {few} in one that is short");
    }
}
