//! Rows that do not open any more: they keep nothing else from being revoked, and a person gets rid of them.

use std::sync::Arc;

use daypass_storage::evil::{EvilBackend, Fault, Step};
use daypass_storage::{Backend, MemoryBackend, Space};
use daypass_testkit::{Setup, TestServer};
use serde_json::{Value, json};

use crate::identity::House;
use crate::lender::NOTHING;
use crate::revoking::{CREATE, added, child, damage, damaged, lender, many, pause, seconds, sweep, tokens, under_way};

/// Story: one damaged row of a token stopped the sweep that met it for good, and with it all sweeps that were asked for later.
#[tokio::test]
async fn a_damaged_token_or_lease_keeps_no_sweep_from_the_others() {
    let (server, book, evil) = lender().await;
    let before = tokens(&server).await;
    let make = child(&server, "auth/token/create/many", server.root());
    damaged(&server, &**evil.inner(), Space::Token, make).await;
    many(&server, "auth/token/create/many").await;
    sweep(&server, "auth/token/create/many").await;
    let lend = async || server.put("numbers/lend", json!({ "ttl": "10h" })).await.ok().lease();
    damaged(&server, &**evil.inner(), Space::Lease, lend()).await;
    for _ in 0..510 {
        lend().await;
    }
    sweep(&server, "numbers").await;
    let last = many(&server, "auth/token/create/more").await;
    sweep(&server, "auth/token/create/more").await;
    seconds(&server, 10).await;
    assert_eq!(server.status_of(&last[0]).await, 403);
    assert_eq!(tokens(&server).await, before + 1, "all but the damaged one");
    assert_eq!(book.out().len(), 1, "all but the damaged one's");
    assert_eq!(under_way(&server).await, ["auth/token/create/many/", "numbers/"], "they are tried again");
    // A list shows the others, too.
    assert_eq!(server.list("auth/token/accessors").await.ok()["data"]["keys"].as_array().unwrap().len(), before);
    // Who waits for such a sweep learns of it, and what to do.
    many(&server, "auth/token/create/many").await;
    let waiting = tokio::spawn(server.put("sys/leases/revoke-prefix/auth/token/create/many", json!({})).into_future());
    seconds(&server, 5).await;
    let told = waiting.await.unwrap();
    assert!(
        told.refused(500).trim_end().ends_with("What is damaged goes with: daypass lease revoke -force -prefix auth/token/create/many/"),
        "{}",
        told.body
    );
    for prefix in ["auth/token/create/many", "numbers"] {
        server.put(&format!("sys/leases/revoke-force/{prefix}"), Value::Null).await.ok();
    }
    seconds(&server, 130).await;
    assert_eq!((under_way(&server).await, tokens(&server).await, book.out().len()), (Vec::new(), before, 1));
}

/// Story: a revocation by prefix that is asked for every night and meets a damaged row stays under way. Each night added one, until the hundredth was refused
/// with all others.
#[tokio::test]
async fn a_sweep_that_is_asked_for_again_takes_the_place_of_the_old_one() {
    let (server, _, evil) = lender().await;
    let before = tokens(&server).await;
    damaged(&server, &**evil.inner(), Space::Token, child(&server, "auth/token/create/many", server.root())).await;
    for _ in 0..3 {
        many(&server, "auth/token/create/many").await;
        sweep(&server, "auth/token/create/many").await;
        assert_eq!(under_way(&server).await, ["auth/token/create/many/"]);
        seconds(&server, 10).await;
        assert_eq!(tokens(&server).await, before + 1, "all but the damaged one");
    }
    assert_eq!(under_way(&server).await, ["auth/token/create/many/"]);
}

/// Story: a child whose row was damaged kept its parent and up to all of its siblings from being revoked, and a damaged lease its token and other leases.
#[tokio::test]
async fn what_is_damaged_keeps_nothing_but_those_above_it() {
    let (server, book, evil) = lender().await;
    let before = tokens(&server).await;
    let parent = child(&server, CREATE, server.root()).await;
    let middle = child(&server, CREATE, &parent).await;
    damaged(&server, &**evil.inner(), Space::Token, child(&server, CREATE, &middle)).await;
    for _ in 0..600 {
        child(&server, CREATE, &middle).await;
    }
    let other = child(&server, CREATE, &parent).await;
    let lend = async || server.put("numbers/lend", json!({ "ttl": "10h" })).token(&other).await.ok().lease();
    damaged(&server, &**evil.inner(), Space::Lease, lend()).await;
    lend().await;
    server.put("auth/token/revoke", json!({ "token": parent })).await.refused(500);
    server.seconds(1).await;
    assert_eq!(tokens(&server).await, before + 3, "the damaged one and the two above it");
    for token in [&parent, &middle, &other] {
        assert_eq!(server.status_of(token).await, 403);
    }
    assert_eq!(book.out().len(), 1, "the damaged one's");
    // What ends later does not wait for it, and tidying comes to its end.
    let later = server.token(json!({ "policies": ["default"], "ttl": "100s" })).await;
    child(&server, CREATE, server.root()).await;
    server.seconds(100).await;
    assert_eq!((server.status_of(&later).await, tokens(&server).await), (403, before + 4));
    for what in ["auth/token/tidy", "sys/leases/tidy"] {
        assert_eq!(server.put(what, Value::Null).await.status, 202);
        server.work().await;
        assert!(!server.put(what, Value::Null).await.body.to_string().contains("already in progress"), "{what}");
        server.work().await;
    }
}

/// Story: among tokens that came due together one damaged row had each of the others revoked alone, again and again.
#[tokio::test]
async fn a_damaged_token_that_comes_due_keeps_nobody() {
    let (server, _, evil) = lender().await;
    let before = tokens(&server).await;
    damaged(&server, &**evil.inner(), Space::Token, child(&server, CREATE, server.root())).await;
    for _ in 0..5 {
        let parent = child(&server, CREATE, server.root()).await;
        child(&server, CREATE, &parent).await;
    }
    for _ in 0..5 {
        server.seconds(3600).await;
    }
    assert_eq!((tokens(&server).await, server.expiry_entries().await), (before + 1, 1), "it is looked at again");
}

const MANY: &str = "auth/token/create/many";

/// A token that goes on for as long as it is renewed.
async fn periodic(server: &TestServer, by: &str) -> String {
    server.put(CREATE, json!({ "policies": ["root"], "period": "1000h" })).token(by).await.ok().token()
}

/// Story: nobody looked at the children of a token whose row was damaged: they and what they were lent went on after the revocation of those above, of the
/// prefix and after the end of that token, periodic ones for ever.
#[tokio::test]
async fn what_descends_from_a_damaged_token_is_revoked_without_it() {
    for way in ["revoked", "ended", "by prefix", "later", "swept"] {
        let (server, book, evil) = lender().await;
        let before = tokens(&server).await;
        let top = periodic(&server, server.root()).await;
        let (middle, row) = added(&server, Space::Token, child(&server, MANY, &top)).await;
        let (below, other) = (periodic(&server, &middle).await, periodic(&server, &middle).await);
        let deeper = periodic(&server, &below).await;
        for token in [&middle, &below, &deeper] {
            server.put("numbers/lend", json!({ "ttl": "10h" })).token(token).await.ok();
        }
        damage(&**evil.inner(), row).await;
        assert_eq!((server.status_of(&below).await, server.status_of(&middle).await), (200, 500), "{way}");
        let under = format!("sys/leases/revoke-prefix/{MANY}");
        match way {
            "revoked" => drop(server.put("auth/token/revoke", json!({ "token": top })).await.refused(500).to_owned()),
            "ended" => server.seconds(3601).await,
            "by prefix" | "later" => {
                let told = server.put(&under, json!({ "sync": way == "by prefix" })).await;
                let text = told.refused(500);
                assert!(text.contains("keep from being revoked: \"auth/token/create/many/h") && !text.contains("and more"), "{text}");
                assert!(
                    text.trim_end().ends_with("then remove the rows: daypass lease revoke -force -prefix auth/token/create/many/"),
                    "{text}"
                );
            }
            _ => {
                many(&server, MANY).await;
                sweep(&server, MANY).await;
            }
        }
        seconds(&server, 5).await;
        for token in [&below, &other, &deeper] {
            assert_eq!(server.status_of(token).await, 403, "{way}");
        }
        assert_eq!((tokens(&server).await, book.out()), (before + 2, NOTHING.to_vec()), "{way}: the damaged one and the one above it");
    }
}

/// Force removes damaged rows of tokens where they are met, once nothing hangs on them.
#[tokio::test]
async fn a_revocation_by_force_removes_damaged_tokens() {
    let (server, book, evil) = lender().await;
    let before = (server.keys().await, server.expiry_entries().await);
    let top = child(&server, MANY, server.root()).await;
    let (middle, row) = added(&server, Space::Token, child(&server, CREATE, &top)).await;
    let (below, last) = added(&server, Space::Token, child(&server, CREATE, &middle)).await;
    server.put("numbers/lend", json!({ "ttl": "10h" })).token(&below).await.ok();
    for row in [row, last] {
        damage(&**evil.inner(), row).await;
    }
    let told = server.put(&format!("sys/leases/revoke-prefix/{MANY}"), json!({})).await;
    let text = told.refused(500);
    assert!(text.contains("keep from being revoked: the token whose accessor begins with "), "{text}");
    server.put(&format!("sys/leases/revoke-force/{MANY}"), Value::Null).await.ok();
    server.seconds(1).await;
    assert_eq!(book.out(), NOTHING);
    server.put("sys/leases/tidy", Value::Null).await;
    server.work().await;
    // Revocations by prefix are remembered for so long.
    server.seconds(36 * 3600 + 1).await;
    assert_eq!((server.keys().await, server.expiry_entries().await), before);
}

/// One that is damaged is named and removed by its own id, and nothing else below its path goes with it.
#[tokio::test]
async fn one_damaged_lease_or_token_is_removed_by_its_id() {
    let (server, book, evil) = lender().await;
    let before = tokens(&server).await;
    let lend = async || server.put("numbers/lend", json!({ "ttl": "10h" })).await.ok().lease();
    let lease = damaged(&server, &**evil.inner(), Space::Lease, lend()).await;
    damaged(&server, &**evil.inner(), Space::Token, child(&server, MANY, server.root())).await;
    let listed = server.list(&format!("sys/leases/lookup/{MANY}")).await.ok();
    let token = format!("{MANY}/{}", listed["data"]["keys"][0].as_str().unwrap());
    let (other, living) = (lend().await, child(&server, MANY, server.root()).await);
    for id in [&lease, &token] {
        for body in [json!({}), json!({ "sync": false })] {
            let told = server.put(&format!("sys/leases/revoke-prefix/{id}"), body).await;
            let text = told.refused(500);
            assert!(text.contains(&format!("keep from being revoked: {id:?}.")), "{text}");
            assert!(text.trim_end().ends_with(&format!("daypass lease revoke -force -prefix {id}")), "{text}");
        }
        server.put(&format!("sys/leases/revoke-force/{id}"), Value::Null).await.ok();
        server.put(&format!("sys/leases/revoke-prefix/{id}"), json!({})).await.ok();
    }
    assert_eq!((server.status_of(&living).await, tokens(&server).await), (200, before + 1));
    assert_eq!(server.put("sys/leases/lookup", json!({ "lease_id": other })).await.status, 200);
    assert_eq!(book.out().len(), 2);
}

/// Story: a mount with one damaged lease or token could not be removed, and nothing could be mounted in its place: it stayed closed, whether its leases
/// were revoked by force or tidied. The answer was "internal error".
#[tokio::test]
async fn a_mount_with_damaged_rows_is_removed_once_they_are_forgotten() {
    let (server, book, evil) = lender().await;
    let before = (server.keys().await.len(), server.expiry_entries().await);
    let token = server.token(json!({ "policies": ["root"], "period": "1000h" })).await;
    let lend = async || server.put("numbers/lend", json!({ "ttl": "10h" })).token(&token).await.ok().lease();
    let mut broken = Vec::new();
    for _ in 0..7 {
        broken.push(damaged(&server, &**evil.inner(), Space::Lease, lend()).await);
        lend().await;
    }
    let told = server.delete("sys/mounts/numbers").await;
    let text = told.refused(500);
    assert_eq!(broken.iter().filter(|lease| text.contains(lease.as_str())).count(), 5, "{text}");
    assert!(text.contains(" and more.") && text.trim_end().ends_with("daypass lease revoke -force -prefix numbers/"), "{text}");
    assert_eq!(book.out().len(), 7, "only theirs");
    server.put("sys/mounts/numbers", json!({ "type": "lender" })).await.refused(400);
    server.put("sys/leases/revoke-force/numbers", Value::Null).await.ok();
    server.delete("sys/mounts/numbers").await.ok();
    server.put("sys/mounts/numbers", json!({ "type": "lender" })).await.ok();
    server.put("auth/token/revoke", json!({ "token": token })).await.ok();
    server.seconds(36 * 3600 + 1).await;
    assert_eq!((server.keys().await.len(), server.expiry_entries().await), before);
}

/// Story: the same for a method with a damaged token of a login.
#[tokio::test]
async fn a_method_with_a_damaged_token_is_removed_once_it_is_forgotten() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let house = House::of(setup.over(Arc::clone(&evil) as Arc<dyn Backend>)).await;
    damaged(&house, &**evil.inner(), Space::Token, house.login(json!({ "name": "ann" }))).await;
    let told = house.delete("sys/auth/gate").await;
    assert!(told.refused(500).contains("\"auth/gate/login/h"), "{}", told.body);
    house.put("sys/leases/revoke-force/auth/gate", Value::Null).await.ok();
    house.delete("sys/auth/gate").await.ok();
    house.put("sys/auth/gate", json!({ "type": "gate" })).await.ok();
}

/// Story: whether a sweep comes to a token is asked of those it descends from. Where one of them could not be read, be it damaged or the store at that
/// moment, the token was let through.
#[tokio::test]
async fn a_token_is_refused_while_a_sweep_may_come_to_it() {
    let (server, _, evil) = lender().await;
    many(&server, MANY).await;
    let swept = child(&server, MANY, server.root()).await;
    let first = child(&server, CREATE, &swept).await;
    let (second, row) = added(&server, Space::Token, child(&server, "auth/token/create/more", &first)).await;
    let third = child(&server, CREATE, &second).await;
    sweep(&server, MANY).await;
    pause(&server, true).await;
    let mut read = 0;
    let mut struck = true;
    while struck {
        read += 1;
        let before = evil.calls();
        evil.at(Step::Read(before.reads + read), Fault::Fail);
        assert_ne!(server.status_of(&third).await, 200, "read {read}");
        struck = evil.calls().struck > before.struck;
    }
    assert!(read > 3, "{read}");
    evil.heal();
    damage(&**evil.inner(), row).await;
    assert_eq!(server.status_of(&third).await, 403);
    assert_eq!(server.status_of(&child(&server, CREATE, server.root()).await).await, 200);
}

/// Story: a list of STS leases failed for one lease of a token whose row was damaged.
#[tokio::test]
async fn leases_of_a_damaged_token_are_left_out_of_lists() {
    let setup = Setup::default();
    let evil = Arc::new(EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(setup.clock())));
    let server: TestServer = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
    server.mount_aws("aws").await;
    let mint = async |token: &str| server.get("aws/sts/deploy").token(token).await.ok().lease();
    let (token, row) = added(&server, Space::Token, child(&server, CREATE, server.root())).await;
    let (dead, living) = (mint(&token).await, mint(server.root()).await);
    damage(&**evil.inner(), row).await;
    let listed = server.list("sys/leases/lookup/aws/sts/deploy").await.ok()["data"]["keys"].clone();
    assert_eq!(listed, json!([living.rsplit('/').next()]));
    assert_eq!(server.put("sys/leases/lookup", json!({ "lease_id": dead })).await.refused(400), "invalid lease");
}
