//! The keys of a server: new root tokens, new shares and new data keys, over restarts and at the same moment.

use std::time::Duration;

use daypass_barrier::{Share, shamir};
use daypass_base::Receipt;
use daypass_testkit::{Ask, Setup, TestServer};
use serde_json::{Value, json};

/// A share as people hold it.
pub(crate) fn text(share: &Share) -> String {
    shamir::encode_hex(share).expose().clone()
}

fn texts(server: &TestServer, count: usize) -> Vec<String> {
    server.shares().iter().take(count).map(text).collect()
}

async fn three_of_five() -> TestServer {
    Setup::default().shares(5, 3).start().await
}

/// Whether these shares unseal the server after it was sealed.
async fn unseals(server: &TestServer, keys: &[String]) -> bool {
    server.put("sys/unseal", json!({ "reset": true })).nobody().await;
    let mut sealed = true;
    for key in keys {
        sealed = server.put("sys/unseal", json!({ "key": key })).nobody().await["sealed"] != json!(false);
    }
    !sealed
}

/// A whole rekey with these old shares; the last answer.
async fn rekey(server: &TestServer, how: Value, old: &[String]) -> daypass_testkit::Answer {
    let mut last = server.put("sys/rekey/init", how).nobody().await.ok();
    let nonce = last.text("/nonce");
    for key in old {
        last = server.put("sys/rekey/update", json!({ "key": key, "nonce": nonce })).nobody().await;
    }
    last
}

fn keys(answer: &daypass_testkit::Answer) -> Vec<String> {
    serde_json::from_value(answer["keys"].clone()).unwrap_or_default()
}

#[tokio::test]
async fn three_shares_make_a_root_token_that_works() {
    let server = three_of_five().await;
    let started = server.put("sys/generate-root/attempt", json!({})).nobody().await.ok();
    let mut last = started.clone();
    for key in texts(&server, 3) {
        last = server.put("sys/generate-root/update", json!({ "key": key, "nonce": started["nonce"] })).nobody().await.ok();
    }
    assert_eq!((&last["complete"], last.number("/progress")), (&json!(true), 3));
    let fields = json!({ "encoded_token": last["encoded_token"], "otp": started["otp"] });
    let token = server.put("sys/decode-token", fields).nobody().await.ok().text("/data/token");
    assert_eq!((token.len(), token.starts_with("hvs.")), (28, true));
    let seen = server.get("auth/token/lookup-self").token(&token).await.ok();
    assert_eq!(seen.body["data"]["policies"], json!(["root"]));
    assert_eq!(server.get("sys/generate-root/attempt").nobody().await["started"], json!(false));
}

#[tokio::test]
async fn a_wrong_share_spoils_the_attempt_only_when_it_is_complete() {
    let server = three_of_five().await;
    let nonce = server.put("sys/generate-root/attempt", json!({})).nobody().await.ok().text("/nonce");
    let mut given = texts(&server, 2);
    given.push("ab".repeat(33));
    let mut last = None;
    for key in given {
        last = Some(server.put("sys/generate-root/update", json!({ "key": key, "nonce": nonce })).nobody().await);
    }
    assert!(last.unwrap().refused(400).starts_with("root generation aborted: "));
    let status = server.get("sys/generate-root/attempt").nobody().await.ok();
    assert_eq!((status.number("/progress"), &status["started"]), (0, &json!(true)));
}

#[tokio::test]
async fn attempts_end_when_the_server_is_sealed() {
    let server = three_of_five().await;
    server.put("sys/generate-root/attempt", json!({})).nobody().await.ok();
    server.put("sys/rekey/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).nobody().await.ok();
    server.put("sys/seal", Value::Null).await.ok();
    for path in ["sys/generate-root/attempt", "sys/rekey/init", "sys/rekey/verify"] {
        assert_eq!(server.get(path).nobody().await.refused(503), "Vault is sealed");
    }
    server.unseal().await;
    assert_eq!(server.get("sys/generate-root/attempt").nobody().await["started"], json!(false));
    assert_eq!(server.get("sys/rekey/init").nobody().await["started"], json!(false));
}

#[tokio::test]
async fn after_a_rekey_the_new_shares_open_the_server_and_the_old_ones_do_not() {
    let server = three_of_five().await;
    server.mount_aws("cloud").await;
    let old = texts(&server, 3);
    let new = keys(&rekey(&server, json!({ "secret_shares": 3, "secret_threshold": 2 }), &old).await.ok());
    assert_eq!(new.len(), 3);
    server.put("sys/seal", Value::Null).await.ok();
    assert!(!unseals(&server, &old).await);
    assert!(unseals(&server, &new[1..]).await);
    server.get("cloud/roles/deploy").await.ok();
    // A rotation afterwards is stored under the new root key.
    server.put("sys/rotate", Value::Null).await.ok();
    server.put("sys/seal", Value::Null).await.ok();
    assert!(unseals(&server, &new[..2]).await);
    assert_eq!(server.get("sys/key-status").await.number("/term"), 2);
}

/// A rekey to three shares, two of which open, whose last answer nobody reads; the new shares all the same.
async fn lost_rekey(server: &TestServer, old: &[String]) -> Vec<String> {
    unread_rekey(server, old, Ask::hanging_up).await
}

/// The same; `how` says what becomes of the answer.
async fn unread_rekey(server: &TestServer, old: &[String], becomes: impl Fn(Ask) -> Ask) -> Vec<String> {
    let how = json!({ "secret_shares": 3, "secret_threshold": 2 });
    let nonce = server.put("sys/rekey/init", how).nobody().await.ok().text("/nonce");
    let (last, first) = old.split_last().unwrap();
    for key in first {
        server.put("sys/rekey/update", json!({ "key": key, "nonce": nonce })).nobody().await.ok();
    }
    let made = becomes(server.put("sys/rekey/update", json!({ "key": last, "nonce": nonce })).nobody()).await.ok();
    server.work().await;
    keys(&made)
}

/// Whether these shares bring new ones, in any number that is asked for.
async fn old_shares_exchange(server: &TestServer, old: &[String]) -> bool {
    let nonce = server.put("sys/rekey/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).nobody().await.ok().text("/nonce");
    let mut done = false;
    for key in old {
        done |= server.put("sys/rekey/update", json!({ "key": key, "nonce": nonce })).nobody().await["complete"] == json!(true);
    }
    server.ask("DELETE", "sys/rekey/init").json(&json!({ "nonce": nonce })).nobody().await;
    done
}

/// Whatever is tried with old shares fails, and new ones open the server.
async fn only_new_shares_count(server: &TestServer, old: &[String], new: &[String]) {
    assert!(!old_shares_serve(server).await);
    assert!(!old_shares_exchange(server, old).await);
    server.put("sys/seal", Value::Null).await.ok();
    assert!(!unseals(server, old).await);
    assert!(unseals(server, &new[..2]).await);
}

async fn old_shares_serve(server: &TestServer) -> bool {
    server.get("sys/seal-status").nobody().await["previous_shares_unseal"] == json!(true)
}

/// Story: a client hung up on the answer to the last share of a rekey. The new shares existed nowhere, and the old ones failed from then on:
/// after the next restart nobody could have opened the server.
#[tokio::test]
async fn a_client_that_hangs_up_on_the_new_shares_locks_nobody_out() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    lost_rekey(&server, &old).await;
    assert!(old_shares_serve(&server).await, "whoever asks is told");
    // Upkeep takes nothing away.
    server.seconds(300).await;
    // With the server open: once more, and this time somebody listens.
    let new = keys(&rekey(&server, json!({ "secret_shares": 3, "secret_threshold": 2 }), &old).await.ok());
    server.work().await;
    only_new_shares_count(&server, &old, &new).await;
}

#[tokio::test]
async fn after_a_rekey_whose_answer_was_lost_the_old_shares_unseal_and_take_it_back() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    lost_rekey(&server, &old).await;
    server.put("sys/seal", Value::Null).await.ok();
    assert!(old_shares_serve(&server).await, "also while it is sealed");
    assert!(unseals(&server, &old).await);
    assert!(!old_shares_serve(&server).await);
    assert_eq!(server.get("sys/seal-status").await["t"], 3);
    // A rotation afterwards is stored under the key that the old shares open.
    server.put("sys/rotate", Value::Null).await.ok();
    server.put("sys/seal", Value::Null).await.ok();
    assert!(unseals(&server, &old).await);
}

/// A rekey to three shares, two of which open; the new shares, and what to tell the server of their answer.
async fn undecided_rekey(server: &TestServer, old: &[String]) -> (Vec<String>, Receipt) {
    let how = json!({ "secret_shares": 3, "secret_threshold": 2 });
    let nonce = server.put("sys/rekey/init", how).nobody().await.ok().text("/nonce");
    let (last, first) = old.split_last().unwrap();
    for key in first {
        server.put("sys/rekey/update", json!({ "key": key, "nonce": nonce })).nobody().await.ok();
    }
    let (made, receipt) = server.put("sys/rekey/update", json!({ "key": last, "nonce": nonce })).nobody().with_receipt().await;
    (keys(&made.ok()), receipt.unwrap())
}

/// The process begins to end in good order.
fn stopping(server: &TestServer) -> tokio::task::JoinHandle<()> {
    let core = server.core().clone();
    tokio::spawn(async move { core.seal().await })
}

/// The process ends in good order, and another one starts on the same store.
pub(crate) async fn stopped_and_started(server: TestServer) -> TestServer {
    let ending = stopping(&server);
    while !ending.is_finished() {
        server.seconds(1).await;
    }
    ending.await.unwrap();
    server.restart_sealed()
}

/// Story: an operator exchanged the shares, read the new ones, sealed the server and stopped it. What waited for the answer's fate, which is known after
/// some seconds, ended with the seal; with the next start the old shares were back, and whoever handed them in made the new ones worthless.
#[tokio::test]
async fn a_rekey_and_then_a_seal_and_a_stop_do_not_bring_the_old_shares_back() {
    for (delivered_while_sealed, dies) in [(true, false), (true, true), (false, false)] {
        let server = three_of_five().await;
        let old = texts(&server, 3);
        let (new, receipt) = undecided_rekey(&server, &old).await;
        server.put("sys/seal", Value::Null).await.ok();
        let server = if delivered_while_sealed {
            server.seconds(4).await;
            receipt.delivered();
            server.seconds(1).await;
            assert!(!old_shares_serve(&server).await);
            if dies { server.restart_sealed() } else { stopped_and_started(server).await }
        } else {
            let ending = stopping(&server);
            // One for the work after the seal to begin its wait, one for that to be over.
            server.seconds(1).await;
            server.seconds(1).await;
            assert!(!ending.is_finished(), "it waits to hear of the answer");
            receipt.delivered();
            ending.await.unwrap();
            server.restart_sealed()
        };
        assert!(!old_shares_serve(&server).await);
        assert!(!unseals(&server, &old).await);
        assert!(unseals(&server, &new[..2]).await);
    }
}

/// The end of the process does not wait for ever, and what it does not know locks nobody out.
#[tokio::test]
async fn a_stop_while_new_shares_are_on_their_way_leaves_both_good() {
    for by_old in [true, false] {
        let server = three_of_five().await;
        let old = texts(&server, 3);
        let (new, _on_its_way) = undecided_rekey(&server, &old).await;
        server.put("sys/seal", Value::Null).await.ok();
        let server = stopped_and_started(server).await;
        assert!(old_shares_serve(&server).await);
        assert!(unseals(&server, if by_old { &old } else { &new[..2] }).await);
    }
}

/// Story: old shares, which still counted, began an exchange that was to be verified. Then the new ones were used, or their answer arrived after all, and
/// the old ones opened nothing any more; but that exchange went on to its end, and the new shares were worthless.
#[tokio::test]
async fn an_exchange_that_old_shares_began_ends_with_them() {
    for used in [true, false] {
        let server = three_of_five().await;
        let old = texts(&server, 3);
        let (new, receipt) = undecided_rekey(&server, &old).await;
        let receipt = if used {
            // As far as anybody knows, lost.
            drop(receipt);
            None
        } else {
            Some(receipt)
        };
        let how = json!({ "secret_shares": 1, "secret_threshold": 1, "require_verification": true });
        let (begun, ()) = tokio::join!(rekey(&server, how, &old), server.seconds(11));
        let begun = begun.ok();
        assert_eq!(begun["verification_required"], json!(true));
        if let Some(receipt) = receipt {
            receipt.delivered();
        } else {
            let nonce = server.put("sys/generate-root/attempt", json!({})).nobody().await.ok().text("/nonce");
            for key in &new[..2] {
                server.put("sys/generate-root/update", json!({ "key": key, "nonce": nonce })).nobody().await.ok();
            }
            assert_eq!(server.get("sys/rekey/init").nobody().await["started"], json!(false), "it is given up at once");
        }
        let verify = json!({ "key": keys(&begun)[0], "nonce": begun["verification_nonce"] });
        let refused = server.put("sys/rekey/verify", verify).nobody().await.refused(400).to_owned();
        let wanted = if used { "no rekey verification in progress" } else { "rekey aborted: the shares are not of the seal in force" };
        assert_eq!(refused, wanted);
        assert_eq!(server.get("sys/rekey/init").nobody().await["started"], json!(false));
        only_new_shares_count(&server, &old, &new).await;
    }
}

/// Story: a snapshot of a time when new shares had been lost was restored, while the answer to a later exchange was on its way. When that arrived, the old
/// shares went from the restored store, of which nobody had others.
#[tokio::test]
async fn an_answer_that_arrives_after_a_restore_says_nothing_about_the_restored_shares() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    lost_rekey(&server, &old).await;
    let (_, taken) = server.get("sys/storage/raft/snapshot").download().await;
    let (_, receipt) = undecided_rekey(&server, &old).await;
    let kind = "application/x-www-form-urlencoded";
    server.ask("POST", "sys/storage/raft/snapshot-force").header("content-type", kind).raw(taken).await.ok();
    receipt.delivered();
    server.seconds(1).await;
    assert!(old_shares_serve(&server).await);
    assert!(unseals(&server, &old).await);
}

/// What was believed lost came in after all: the first use of the new shares ends the old ones, which may have been stolen.
#[tokio::test]
async fn old_shares_end_when_new_ones_are_used() {
    for by_unsealing in [true, false] {
        let server = three_of_five().await;
        let old = texts(&server, 3);
        let new = lost_rekey(&server, &old).await;
        if by_unsealing {
            server.put("sys/seal", Value::Null).await.ok();
            assert!(unseals(&server, &new[1..]).await);
        } else {
            // Old shares make no root token, whatever became of the new ones.
            for (shares, works) in [(&old[..2], false), (&new[..2], true)] {
                let nonce = server.put("sys/generate-root/attempt", json!({})).nobody().await.ok().text("/nonce");
                let mut last = Value::Null;
                for key in shares {
                    last = server.put("sys/generate-root/update", json!({ "key": key, "nonce": nonce })).nobody().await.body;
                }
                assert_eq!(last["complete"] == json!(true), works, "{last}");
                server.ask("DELETE", "sys/generate-root/attempt").nobody().await.ok();
            }
        }
        only_new_shares_count(&server, &old, &new).await;
    }
}

/// Story: new shares authorised another exchange, whose new shares were to be verified first. The old ones stayed good meanwhile, and after that
/// exchange was given up.
#[tokio::test]
async fn old_shares_end_when_new_ones_authorise_an_exchange_that_is_to_be_verified() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    let new = lost_rekey(&server, &old).await;
    let how = json!({ "secret_shares": 5, "secret_threshold": 3, "require_verification": true });
    let begun = rekey(&server, how, &new[..2]).await.ok();
    assert_eq!(begun["verification_required"], json!(true));
    assert!(!old_shares_serve(&server).await);
    server.ask("DELETE", "sys/rekey/init").json(&json!({ "nonce": begun["nonce"] })).nobody().await.ok();
    only_new_shares_count(&server, &old, &new).await;
}

/// Story: while the first share after a rekey waited for what became of the answer, for ten seconds at most, so did everybody who only asked how
/// the server is, probes of a load balancer among them; and likewise while old shares waited to authorise another exchange.
#[tokio::test]
async fn whoever_asks_for_the_state_does_not_wait_for_an_answer_that_is_on_its_way() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    unread_rekey(&server, &old, Ask::on_its_way).await;
    let nonce = server.put("sys/rekey/init", json!({ "secret_shares": 3, "secret_threshold": 2 })).nobody().await.ok().text("/nonce");
    let give = |key: &String| server.put("sys/rekey/update", json!({ "key": key, "nonce": nonce })).nobody();
    give(&old[0]).await.ok();
    give(&old[1]).await.ok();
    let exchange = begun(give(&old[2]).on_its_way()).await;
    assert!(at_once(server.get("sys/rekey/init").nobody()).await.is_some_and(|answer| answer["started"] == json!(true)));
    assert!(!exchange.is_finished());
    server.seconds(11).await;
    let new = keys(&exchange.await.unwrap().ok());

    server.put("sys/seal", Value::Null).await.ok();
    let unseal = begun(server.put("sys/unseal", json!({ "key": new[0] })).nobody()).await;
    assert!(at_once(server.get("sys/health").nobody()).await.is_some_and(|answer| answer.status == 503));
    assert!(at_once(server.get("sys/seal-status").nobody()).await.is_some_and(|answer| answer["progress"] == json!(0)));
    assert!(!unseal.is_finished());
    server.seconds(11).await;
    assert_eq!(unseal.await.unwrap().ok()["progress"], json!(1));
    assert_eq!(server.get("sys/seal-status").nobody().await["progress"], json!(1));
}

/// A request that has come as far as it can without the clock moving on.
pub(crate) async fn begun(ask: Ask) -> tokio::task::JoinHandle<daypass_testkit::Answer> {
    let request = tokio::spawn(ask.into_future());
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    request
}

/// Its answer, if that comes without the clock moving on.
async fn at_once(ask: Ask) -> Option<daypass_testkit::Answer> {
    let request = begun(ask).await;
    if request.is_finished() { request.await.ok() } else { None }
}

/// A rekey that was begun with old shares while they still counted does not end with them once new ones were used.
#[tokio::test]
async fn a_rekey_under_way_with_old_shares_fails_once_new_ones_were_used() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    let new = lost_rekey(&server, &old).await;
    let begun = server.put("sys/rekey/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).nobody().await.ok();
    let give = |key: &String| server.put("sys/rekey/update", json!({ "key": key, "nonce": begun["nonce"] })).nobody();
    give(&old[0]).await.ok();
    give(&old[1]).await.ok();
    let nonce = server.put("sys/generate-root/attempt", json!({})).nobody().await.ok().text("/nonce");
    for key in &new[..2] {
        server.put("sys/generate-root/update", json!({ "key": key, "nonce": nonce })).nobody().await.ok();
    }
    assert_eq!(give(&old[2]).await.refused(400), "rekey aborted: the shares are not of the seal in force");
}

/// Nobody has new shares after a restore either.
#[tokio::test]
async fn a_restore_does_not_end_old_shares_that_are_still_needed() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    lost_rekey(&server, &old).await;
    let (_, taken) = server.get("sys/storage/raft/snapshot").download().await;
    let kind = "application/x-www-form-urlencoded";
    server.ask("POST", "sys/storage/raft/snapshot").header("content-type", kind).raw(taken).await.ok();
    server.seconds(1).await;
    assert!(old_shares_serve(&server).await);
    server.put("sys/seal", Value::Null).await.ok();
    assert!(unseals(&server, &old).await);
}

#[tokio::test]
async fn shares_that_must_be_verified_are_in_force_only_then() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    let how = json!({ "secret_shares": 3, "secret_threshold": 2, "require_verification": true });
    let made = rekey(&server, how, &old).await.ok();
    let (new, nonce) = (keys(&made), made.text("/verification_nonce"));
    let verify = |key: String, nonce: String| server.put("sys/rekey/verify", json!({ "key": key, "nonce": nonce })).nobody();
    assert!(verify(new[0].clone(), "other".to_owned()).await.refused(400).starts_with("incorrect nonce supplied"));
    verify(new[0].clone(), nonce.clone()).await.ok();
    let refused = verify(old[0].clone(), nonce.clone()).await;
    assert_eq!(refused.refused(400), "rekey verification failed; incorrect key shares supplied");
    verify(new[0].clone(), nonce.clone()).await.ok();
    assert_eq!(verify(new[2].clone(), nonce).await.ok()["complete"], json!(true));
    server.put("sys/seal", Value::Null).await.ok();
    assert!(!unseals(&server, &old).await);
    assert!(unseals(&server, &new[..2]).await);
}

#[tokio::test]
async fn unverified_shares_are_forgotten_with_their_attempt() {
    let server = three_of_five().await;
    let old = texts(&server, 3);
    let made = rekey(&server, json!({ "secret_shares": 1, "secret_threshold": 1, "require_verification": true }), &old).await.ok();
    server.ask("DELETE", "sys/rekey/init").json(&json!({ "nonce": made["nonce"] })).nobody().await.ok();
    server.put("sys/seal", Value::Null).await.ok();
    assert!(!unseals(&server, &keys(&made)).await);
    assert!(unseals(&server, &old).await);
}

#[tokio::test]
async fn a_stranger_cannot_cancel_a_young_rekey() {
    let server = three_of_five().await;
    server.put("sys/rekey/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).nobody().await.ok();
    let cancel = || server.ask("DELETE", "sys/rekey/init").nobody();
    assert_eq!(cancel().await.refused(400), "invalid request");
    server.seconds(600).await;
    cancel().await.ok();
}

#[tokio::test]
async fn the_backup_of_shares_needs_a_token() {
    let server = three_of_five().await;
    server.get("sys/rekey/backup").nobody().await.refused(403);
    assert_eq!(server.get("sys/rekey/backup").await.refused(400), "no backed-up keys found");
    assert_eq!(server.get("sys/rekey-recovery-key/init").nobody().await.refused(400), "recovery keys not supported");
}

#[tokio::test]
async fn a_new_data_key_is_started_by_itself_when_the_interval_is_over() {
    let server = three_of_five().await;
    server.put("sys/rotate/config", json!({ "interval": "24h" })).await.ok();
    server.seconds(23 * 3600).await;
    assert_eq!(server.get("sys/key-status").await.number("/term"), 1);
    server.seconds(3700).await;
    server.work().await;
    assert_eq!(server.get("sys/key-status").await.number("/term"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotations_during_a_rekey_leave_a_store_that_opens() {
    let server = three_of_five().await;
    let mut shares = texts(&server, 3);
    for _ in 0..5 {
        let rotations: Vec<_> = (0..8).map(|_| tokio::spawn(server.put("sys/rotate", Value::Null).into_future())).collect();
        let upkeep = server.advance(Duration::from_secs(61));
        let (made, ()) = tokio::join!(rekey(&server, json!({ "secret_shares": 5, "secret_threshold": 3 }), &shares), upkeep);
        for rotation in rotations {
            rotation.await.unwrap().ok();
        }
        shares = keys(&made.ok()).into_iter().take(3).collect();
        server.put("sys/seal", Value::Null).await.ok();
        assert!(unseals(&server, &shares).await);
    }
    assert_eq!(server.get("sys/key-status").await.number("/term"), 41);
}
