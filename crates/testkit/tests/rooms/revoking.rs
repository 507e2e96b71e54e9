//! Revocation of much at a time: what a sweep refuses, who waits for a large family, and tokens whose last use was taken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::Clock;
use daypass_base::sim::SeededEntropy;
use daypass_storage::evil::{EvilBackend, Fault};
use daypass_storage::{Backend, Batch, Key, MemoryBackend, Space};
use daypass_testkit::TestServer;
use serde_json::{Value, json};

use crate::lender::{self, Book, NOTHING};

/// A server with an engine that lends, over a store at hand.
pub(crate) async fn lender() -> (TestServer, Arc<Book>, Arc<EvilBackend<MemoryBackend>>) {
    let (setup, book) = lender::setup();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock()) as Arc<dyn Clock>));
    let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    server.put("sys/mounts/numbers", json!({ "type": "lender" })).await.ok();
    server.put("auth/token/roles/many", json!({})).await.ok();
    server.put("auth/token/roles/more", json!({})).await.ok();
    (server, book, evil)
}

pub(crate) const CREATE: &str = "auth/token/create";

/// A root token with an end, made by this one.
pub(crate) async fn child(server: &TestServer, path: &str, by: &str) -> String {
    server.put(path, json!({ "policies": ["root"], "ttl": "1h" })).token(by).await.ok().token()
}

/// More tokens than a request waits for.
pub(crate) async fn many(server: &TestServer, path: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for _ in 0..520 {
        tokens.push(server.put(path, json!({ "policies": ["default"], "ttl": "1h" })).await.ok().token());
    }
    tokens
}

pub(crate) async fn sweep(server: &TestServer, prefix: &str) {
    assert_eq!(server.put(&format!("sys/leases/revoke-prefix/{prefix}"), json!({ "sync": false })).await.status, 202);
}

pub(crate) async fn pause(server: &TestServer, paused: bool) {
    server.put("sys/storage/revocation", json!({ "paused": paused })).await.ok();
}

pub(crate) async fn under_way(server: &TestServer) -> Vec<String> {
    let revoking = server.get("sys/leases/revoking").await.ok()["data"]["revoking"].clone();
    revoking.as_array().unwrap().iter().map(|one| one["prefix"].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn seconds(server: &TestServer, seconds: u32) {
    for _ in 0..seconds {
        server.seconds(1).await;
    }
}

pub(crate) async fn tokens(server: &TestServer) -> usize {
    server.rows(Space::Token).await.len()
}

/// What `make` gives, and the key of the one row that it adds to a space.
pub(crate) async fn added<T>(server: &TestServer, space: Space, make: impl Future<Output = T>) -> (T, Key) {
    let keys = async || server.rows(space).await.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>();
    let before = keys().await;
    let made = make.await;
    let new: Vec<_> = keys().await.difference(&before).cloned().collect();
    assert_eq!(new.len(), 1);
    (made, Key::new(space, new[0].clone()))
}

/// Makes a row unreadable.
pub(crate) async fn damage(store: &dyn Backend, row: Key) {
    store.commit(Batch::new().put(row, b"no row of ours".to_vec())).await.unwrap();
}

/// Makes the one row unreadable that `make` adds to a space.
pub(crate) async fn damaged<T>(server: &TestServer, store: &dyn Backend, space: Space, make: impl Future<Output = T>) -> T {
    let (made, row) = added(server, space, make).await;
    damage(store, row).await;
    made
}

/// Story: a sweep refused every token of its path, also those without an end, which have no lease id and which no sweep finds. While revocation was paused
/// after a restore they were refused for good, and root tokens among them: nobody could resume it.
#[tokio::test]
async fn a_sweep_does_not_refuse_tokens_that_it_never_revokes() {
    let (server, ..) = lender().await;
    let swept = many(&server, CREATE).await;
    let endless = server.token(json!({ "policies": ["root"] })).await;
    sweep(&server, CREATE).await;
    pause(&server, true).await;
    assert_eq!((server.status_of(&swept[0]).await, server.status_of(&endless).await), (403, 200));
    server.put("sys/storage/revocation", json!({ "paused": false })).token(&endless).await.ok();
    seconds(&server, 5).await;
    assert_eq!((under_way(&server).await, server.status_of(&endless).await), (Vec::new(), 200));
}

/// Story: children of the tokens that a sweep had refused could be used until it came to them; while revocation was paused, for good.
#[tokio::test]
async fn a_sweep_refuses_the_families_of_its_tokens_at_once() {
    let (server, ..) = lender().await;
    many(&server, "auth/token/create/many").await;
    let parent = child(&server, "auth/token/create/many", server.root()).await;
    let first = child(&server, CREATE, &parent).await;
    let second = child(&server, CREATE, &first).await;
    let batch = server.put(CREATE, json!({ "type": "batch", "policies": ["default"], "ttl": "1h" })).token(&first).await.ok().token();
    let orphan = child(&server, "auth/token/create-orphan", &first).await;
    let other = child(&server, CREATE, server.root()).await;
    sweep(&server, "auth/token/create/many").await;
    pause(&server, true).await;
    for (token, expected) in [(&parent, 403), (&first, 403), (&second, 403), (&batch, 403), (&orphan, 200), (&other, 200)] {
        assert_eq!(server.status_of(token).await, expected);
    }
    pause(&server, false).await;
    seconds(&server, 5).await;
    assert_eq!(under_way(&server).await, Vec::<String>::new());
    for (token, expected) in [(&second, 403), (&orphan, 200), (&other, 200)] {
        assert_eq!(server.status_of(token).await, expected);
    }
}

/// A family of two thousand five hundred, which ends in a hundred seconds.
async fn family(server: &TestServer) -> String {
    let parent = server.token(json!({ "policies": ["root"], "ttl": "100s" })).await;
    for _ in 0..2_500 {
        server.put(CREATE, json!({ "policies": ["default"], "ttl": "1h" })).token(&parent).await.ok();
    }
    parent
}

/// Story: a token with very many children that ended was revoked in one go, and until it was done nothing else that came due was even begun.
#[tokio::test]
async fn a_large_family_that_ends_gives_others_their_turn() {
    let (server, book, _) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let parent = family(&server).await;
    server.put("numbers/lend", json!({ "ttl": "100s" })).await.ok();
    server.clock().advance(Duration::from_secs(100));
    while book.out() != NOTHING {
        tokio::task::yield_now().await;
    }
    let left = tokens(&server).await;
    assert!(left > 500, "{left}");
    assert_eq!(server.status_of(&parent).await, 403);
    server.seconds(1).await;
    server.seconds(1).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// Story: a seal, a restore and the end of the process waited until a family was gone that had just ended: minutes, with a million children.
#[tokio::test]
async fn a_seal_does_not_wait_for_a_large_family() {
    let (server, _, evil) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await, tokens(&server).await);
    family(&server).await;
    evil.give_way(Arc::new(SeededEntropy::new(1)));
    server.clock().advance(Duration::from_secs(100));
    while tokens(&server).await > before.2 + 2_300 {
        tokio::task::yield_now().await;
    }
    server.core().seal().await;
    let left = tokens(&server).await;
    assert!(left > before.2 + 1_000, "{left}");
    server.unseal().await;
    seconds(&server, 5).await;
    assert_eq!((server.keys().await, server.expiry_entries().await, tokens(&server).await), before);
}

/// Something in the cubbyhole of a token, so many times.
async fn fill(server: &TestServer, token: &str, times: u32) {
    for number in 0..times {
        server.put(&format!("cubbyhole/{number}"), json!({ "x": 1 })).token(token).await.ok();
    }
}

/// How much lies in all cubbyholes.
async fn stowed(server: &TestServer) -> usize {
    server.rows(Space::Config).await.iter().filter(|(key, _)| key.starts_with(b"cubbyhole/")).count()
}

/// Story: the cubbyhole of a token that ended was cleared in one go, which counted as one change: until it was empty nothing else that came due was begun.
#[tokio::test]
async fn a_large_cubbyhole_gives_others_their_turn() {
    let (server, book, _) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let token = server.token(json!({ "policies": ["root"], "ttl": "100s" })).await;
    fill(&server, &token, 3_500).await;
    server.put("numbers/lend", json!({ "ttl": "100s" })).await.ok();
    server.clock().advance(Duration::from_secs(100));
    while book.out() != NOTHING {
        tokio::task::yield_now().await;
    }
    let left = stowed(&server).await;
    assert!(left >= 500, "{left}");
    server.seconds(1).await;
    server.seconds(1).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// Story: a seal, a restore and the end of the process waited until it was empty.
#[tokio::test]
async fn a_seal_does_not_wait_for_a_large_cubbyhole() {
    let (server, _, evil) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let parent = server.token(json!({ "policies": ["root"], "ttl": "100s" })).await;
    let of_child = child(&server, CREATE, &parent).await;
    fill(&server, &of_child, 2_600).await;
    evil.give_way(Arc::new(SeededEntropy::new(1)));
    server.clock().advance(Duration::from_secs(100));
    while stowed(&server).await == 2_600 {
        tokio::task::yield_now().await;
    }
    server.core().seal().await;
    let left = stowed(&server).await;
    assert!(left >= 500, "{left}");
    server.unseal().await;
    seconds(&server, 5).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// Who waits for the revocation of a large family does it himself, to its end, and beside the worker.
#[tokio::test]
async fn a_large_family_is_revoked_on_request_while_the_client_waits() {
    let (server, ..) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let parent = family(&server).await;
    server.put("auth/token/revoke", json!({ "token": parent })).await.ok();
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// A line is found again from its top in each turn, and still comes to its end.
#[tokio::test]
async fn a_long_line_of_descendants_comes_to_its_end_in_turns() {
    let (server, ..) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let mut last = server.token(json!({ "policies": ["root"], "ttl": "100s" })).await;
    for _ in 0..2_500 {
        last = child(&server, CREATE, &last).await;
    }
    server.seconds(100).await;
    seconds(&server, 5).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// A token with two uses, one of which is taken for a number.
async fn with_one_use_left(server: &TestServer, mut fields: Value) -> String {
    fields["num_uses"] = json!(2);
    let token = server.token(fields).await;
    server.put("numbers/lend", json!({ "ttl": "100h" })).token(&token).await.ok();
    token
}

/// Story: a token that was used up while revocation was paused was not revoked after that either: what it was lent lived on to the token's end, and for ever
/// where it had none.
#[tokio::test]
async fn a_token_that_was_used_up_during_a_pause_is_revoked_after_it() {
    for fields in
        [json!({ "policies": ["root"] }), json!({ "policies": ["root"], "ttl": "10h" }), json!({ "policies": ["root"], "ttl": "5s" })]
    {
        let (server, book, _) = lender().await;
        let before = (server.keys().await, server.expiry_entries().await);
        let token = with_one_use_left(&server, fields.clone()).await;
        pause(&server, true).await;
        let last = server.get("auth/token/lookup-self").token(&token).await.ok();
        let ttl = match fields["ttl"].as_str() {
            Some("10h") => 36_000,
            Some(_) => 5,
            None => 0,
        };
        assert_eq!(last.number("/data/ttl"), ttl, "the last use sees the token as it is");
        assert_eq!(server.status_of(&token).await, 403);
        for _ in 0..40 {
            server.clock().advance(Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
        assert_eq!(book.out().len(), 1, "{fields}");
        pause(&server, false).await;
        seconds(&server, 2).await;
        assert_eq!((book.out(), server.keys().await, server.expiry_entries().await), (NOTHING.to_vec(), before.0, before.1), "{fields}");
    }
}

/// Story: the same where the process was killed while it answered the last use.
#[tokio::test]
async fn a_token_whose_last_use_was_cut_short_is_revoked_when_the_request_would_be_over() {
    for fields in [json!({ "policies": ["root"] }), json!({ "policies": ["root"], "ttl": "10h" })] {
        let (server, book, evil) = lender().await;
        let before = (server.keys().await, server.expiry_entries().await);
        let token = with_one_use_left(&server, fields.clone()).await;
        evil.at_next_write(Fault::CrashAfter);
        assert_ne!(server.status_of(&token).await, 200);
        let server = server.restart_over(Arc::clone(evil.inner()) as Arc<dyn Backend>).await;
        assert_eq!((server.status_of(&token).await, book.out().len()), (403, 1));
        server.seconds(89).await;
        assert_eq!(book.out().len(), 1, "the request might go on: {fields}");
        seconds(&server, 3).await;
        assert_eq!((book.out(), server.keys().await, server.expiry_entries().await), (NOTHING.to_vec(), before.0, before.1), "{fields}");
    }
}

/// A last use that renews the token itself, and one that revokes it, leave nothing behind.
#[tokio::test]
async fn a_last_use_that_changes_its_own_token_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let before = (server.keys().await, server.expiry_entries().await);
    for path in ["auth/token/renew-self", "auth/token/revoke-self"] {
        let token = server.token(json!({ "policies": ["root"], "ttl": "1h", "num_uses": 1 })).await;
        server.put(path, json!({})).token(&token).await.ok();
        assert_eq!((server.keys().await, server.expiry_entries().await), before, "{path}");
    }
}

/// Lets time go by where something stays due.
async fn go_by(server: &TestServer, seconds: u32) {
    for _ in 0..seconds {
        server.clock().advance(Duration::from_secs(1));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

/// Story: while revocation was paused, nobody came to the children of a token that had ended, so that these went on to their own end, periodic ones for ever.
/// Batch tokens and leases ask of whom they are; service tokens did not.
#[tokio::test]
async fn tokens_end_with_those_they_descend_from_also_while_revocation_is_paused() {
    let (server, ..) = lender().await;
    let before = tokens(&server).await;
    let parent = server.token(json!({ "policies": ["root"], "ttl": "100s" })).await;
    let first = child(&server, CREATE, &parent).await;
    let second = child(&server, CREATE, &first).await;
    let orphan = child(&server, "auth/token/create-orphan", &first).await;
    let batch = server.put(CREATE, json!({ "type": "batch", "policies": ["default"], "ttl": "1h" })).token(&second).await.ok().token();
    let other = child(&server, CREATE, server.root()).await;
    let accessor = server.get("auth/token/lookup-self").token(&second).await.ok().text("/data/accessor");
    pause(&server, true).await;
    go_by(&server, 90).await;
    let all = [&parent, &first, &second, &batch, &orphan, &other];
    for (number, token) in all.iter().enumerate() {
        assert_eq!(server.status_of(token).await, 200, "{number}");
    }
    go_by(&server, 10).await;
    let expected = [403, 403, 403, 403, 200, 200];
    for (number, (token, expected)) in all.iter().zip(expected).enumerate() {
        assert_eq!(server.status_of(token).await, expected, "{number}");
    }
    assert_ne!(server.put("auth/token/lookup-accessor", json!({ "accessor": accessor })).await.status, 200);
    assert_eq!(tokens(&server).await, before + 5, "nothing is removed");
    // When it goes on, none of them is good again until the worker has come to it.
    server.put("sys/storage/revocation", json!({ "paused": false })).await.ok();
    assert_eq!(server.status_of(&second).await, 403);
    seconds(&server, 20).await;
    for (number, (token, expected)) in all.iter().zip(expected).enumerate() {
        assert_eq!(server.status_of(token).await, expected, "{number}");
    }
    assert_eq!(tokens(&server).await, before + 2);
}

/// The same where the store takes no writes any more.
#[tokio::test]
async fn tokens_end_with_those_they_descend_from_where_nothing_can_be_revoked() {
    let (server, _, evil) = lender().await;
    let parent = server.token(json!({ "policies": ["root"], "ttl": "100s" })).await;
    let first = child(&server, CREATE, &parent).await;
    let second = child(&server, CREATE, &first).await;
    evil.stop();
    go_by(&server, 99).await;
    assert_eq!((server.status_of(&parent).await, server.status_of(&second).await), (200, 200));
    go_by(&server, 30).await;
    assert_eq!((server.status_of(&parent).await, server.status_of(&second).await), (403, 403));
}

/// Who descends from a token whose row is damaged is refused while nobody can tell whether that one has ended, and no longer.
#[tokio::test]
async fn descendants_of_a_damaged_token_are_refused_during_a_pause_alone() {
    let (server, _, evil) = lender().await;
    let (parent, row) = added(&server, Space::Token, child(&server, CREATE, server.root())).await;
    let below = child(&server, CREATE, &parent).await;
    damage(&**evil.inner(), row).await;
    for (paused, expected) in [(false, 200), (true, 403), (false, 200)] {
        pause(&server, paused).await;
        go_by(&server, 20).await;
        assert_eq!(server.status_of(&below).await, expected, "{paused}");
    }
}
