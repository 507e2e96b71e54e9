//! Shares and root tokens for holders of PGP keys: only they can read what is handed out, and it is what unseals.

use std::io::Read;

use data_encoding::{BASE64, HEXLOWER};
use daypass_barrier::pgp::base64_of_file;
use daypass_base::Timestamp;
use daypass_testkit::{Answer, Setup, TestServer};
use pgp::composed::{Deserializable, Message, SignedSecretKey};
use pgp::types::Password;
use serde_json::{Value, json};

use crate::seal::{begun, text};

struct Holder {
    public: &'static [u8],
    secret: &'static str,
    fingerprint: &'static str,
}

// Made by GnuPG, for the tests of the barrier.
const ADA: Holder = Holder {
    public: include_bytes!("../../../barrier/src/pgp/tests/ada.asc"),
    secret: include_str!("../../../barrier/src/pgp/tests/ada.sec.asc"),
    fingerprint: "0416869cc51eb7777c9fc2cceeabcb0deed5eed3",
};
const BOB: Holder = Holder {
    public: include_bytes!("../../../barrier/src/pgp/tests/bob.asc"),
    secret: include_str!("../../../barrier/src/pgp/tests/bob.sec.asc"),
    fingerprint: "24422ca25194ed2b920fa0f945830cb7b69ebdba",
};
const EXPIRED: &[u8] = include_bytes!("../../../barrier/src/pgp/tests/expired.asc");

impl Holder {
    fn key(&self) -> String {
        base64_of_file(self.public).unwrap()
    }

    fn reads(&self, message: &[u8]) -> Option<String> {
        let (secret, _) = SignedSecretKey::from_string(self.secret).unwrap();
        let mut message = Message::from_bytes(message).unwrap().decrypt(&Password::empty(), &secret).ok()?;
        let mut out = String::new();
        message.read_to_string(&mut out).ok()?;
        Some(out)
    }

    fn reads_hex(&self, text: &Value) -> String {
        self.reads(&HEXLOWER.decode(text.as_str().unwrap().as_bytes()).unwrap()).expect("the holder can read it")
    }

    fn reads_base64(&self, text: &Value) -> String {
        self.reads(&BASE64.decode(text.as_str().unwrap().as_bytes()).unwrap()).expect("the holder can read it")
    }
}

/// When the keys are in force, but the expired one.
const JUNE: Timestamp = Timestamp::from_seconds(1_780_272_000);

/// A server at that time.
async fn in_june(setup: Setup) -> TestServer {
    setup.clock().jump_to(JUNE);
    setup.start().await
}

/// A new one.
fn not_initialised() -> TestServer {
    let setup = Setup::default();
    setup.clock().jump_to(JUNE);
    setup.wait()
}

async fn three_of_five() -> TestServer {
    in_june(Setup::default().shares(5, 3)).await
}

/// A whole rekey for Ada and Bob; the first answer and the last.
async fn rekey(server: &TestServer, more: &Value) -> (Answer, Answer) {
    let mut how = json!({ "secret_shares": 3, "secret_threshold": 2, "pgp_keys": [ADA.key(), BOB.key(), ADA.key()] });
    for (name, value) in more.as_object().unwrap() {
        how[name] = value.clone();
    }
    let first = server.put("sys/rekey/init", how).nobody().await.ok();
    let mut last = first.clone();
    for share in server.shares().iter().take(3) {
        last = server.put("sys/rekey/update", json!({ "key": text(share), "nonce": first["nonce"] })).nobody().await.ok();
    }
    (first, last)
}

#[tokio::test]
async fn new_shares_are_for_their_holders_in_the_order_of_the_keys_and_unseal() {
    let server = three_of_five().await;
    let (first, done) = rekey(&server, &json!({})).await;
    let holders = json!([ADA.fingerprint, BOB.fingerprint, ADA.fingerprint]);
    assert_eq!((&first["pgp_fingerprints"], &first["backup"]), (&holders, &json!(false)));
    assert_eq!((&done["pgp_fingerprints"], &done["backup"], &done["complete"]), (&holders, &json!(false), &json!(true)));
    let shares = [ADA.reads_hex(&done["keys"][0]), BOB.reads_hex(&done["keys"][1]), ADA.reads_base64(&done["keys_base64"][2])];
    // What stands in the message is what people type: hex, 33 bytes of it.
    assert!(shares.iter().all(|share| share.len() == 66), "{:?}", shares.each_ref().map(String::len));
    assert_eq!(ADA.reads(&HEXLOWER.decode(done["keys"][1].as_str().unwrap().as_bytes()).unwrap()), None, "Ada reads nothing of Bob's");
    server.get("sys/rekey/backup").await.refused(400);
    server.put("sys/seal", json!({})).await.ok();
    server.put("sys/unseal", json!({ "key": shares[2] })).nobody().await.ok();
    let sealed = server.put("sys/unseal", json!({ "key": shares[1] })).nobody().await.ok();
    assert_eq!(sealed["sealed"], json!(false));
}

#[tokio::test]
async fn a_backup_is_kept_for_holders_who_lose_theirs_until_it_is_deleted() {
    let server = three_of_five().await;
    let (first, done) = rekey(&server, &json!({ "backup": true })).await;
    assert_eq!((&first["backup"], &done["backup"]), (&json!(true), &json!(true)));
    server.get("sys/rekey/backup").nobody().await.refused(403);
    server.put("sys/seal", json!({})).await.ok();
    for share in [ADA.reads_hex(&done["keys"][0]), BOB.reads_hex(&done["keys"][1])] {
        server.put("sys/unseal", json!({ "key": share })).nobody().await.ok();
    }
    let kept = server.get("sys/rekey/backup").await.ok();
    let data = &kept["data"];
    assert_eq!(data["nonce"], first["nonce"]);
    assert_eq!(data["keys"], json!({ (ADA.fingerprint): [done["keys"][0], done["keys"][2]], (BOB.fingerprint): [done["keys"][1]] }));
    assert_eq!(data["keys_base64"][BOB.fingerprint], json!([done["keys_base64"][1]]));
    server.ask("DELETE", "sys/rekey/backup").await.ok();
    assert_eq!(server.get("sys/rekey/backup").await.refused(400), "no backed-up keys found");
    server.ask("DELETE", "sys/rekey/backup").await.ok();
}

#[tokio::test]
async fn shares_that_must_be_verified_are_read_by_their_holders_first() {
    let server = three_of_five().await;
    let (_, done) = rekey(&server, &json!({ "backup": true, "require_verification": true })).await;
    assert_eq!(done["verification_required"], json!(true));
    // The backup is there already: a holder may have to look there for what is verified.
    let kept = server.get("sys/rekey/backup").await.ok();
    assert_eq!(kept["data"]["keys"][BOB.fingerprint], json!([done["keys"][1]]));
    let mut last = done.clone();
    for share in [BOB.reads_hex(&done["keys"][1]), ADA.reads_hex(&done["keys"][2])] {
        last = server.put("sys/rekey/verify", json!({ "key": share, "nonce": done["verification_nonce"] })).nobody().await.ok();
    }
    assert_eq!(last["complete"], json!(true));
}

#[tokio::test]
async fn a_root_token_is_for_the_holder_of_the_key() {
    let server = three_of_five().await;
    let started = server.put("sys/generate-root/attempt", json!({ "pgp_key": BOB.key() })).nobody().await.ok();
    assert_eq!((&started["pgp_fingerprint"], &started["otp"]), (&json!(BOB.fingerprint), &json!("")));
    let mut last = started.clone();
    for share in server.shares().iter().take(3) {
        last = server.put("sys/generate-root/update", json!({ "key": text(share), "nonce": started["nonce"] })).nobody().await.ok();
    }
    assert_eq!((&last["complete"], &last["pgp_fingerprint"]), (&json!(true), &json!(BOB.fingerprint)));
    assert_eq!(last["encoded_token"], last["encoded_root_token"]);
    let token = BOB.reads_base64(&last["encoded_token"]);
    assert_eq!(server.get("auth/token/lookup-self").token(&token).await.ok()["data"]["policies"], json!(["root"]));
    assert_eq!(server.get("sys/generate-root/attempt").nobody().await["pgp_fingerprint"], json!(""));
}

#[tokio::test]
async fn a_new_server_hands_nothing_out_in_clear() {
    let server = not_initialised();
    let init = json!({ "secret_shares": 2, "secret_threshold": 2, "pgp_keys": [BOB.key(), ADA.key()], "root_token_pgp_key": ADA.key() });
    let made = server.put("sys/init", init).nobody().await.ok();
    let shares = [BOB.reads_hex(&made["keys"][0]), ADA.reads_base64(&made["keys_base64"][1])];
    let token = ADA.reads_base64(&made["root_token"]);
    for share in shares {
        server.put("sys/unseal", json!({ "key": share })).nobody().await.ok();
    }
    assert_eq!(server.get("auth/token/lookup-self").token(&token).await.ok()["data"]["policies"], json!(["root"]));
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_refused_before_anything_is_made() {
    let server = not_initialised();
    let expired = base64_of_file(EXPIRED).unwrap();
    let parts = |keys: Value| json!({ "secret_shares": 2, "secret_threshold": 2, "pgp_keys": keys });
    for (body, wanted) in [
        (parts(json!([ADA.key()])), "incorrect number of PGP keys"),
        (parts(json!([ADA.key(), "a"])), "invalid seal configuration: error decoding given PGP key: illegal base64 data at input byte"),
        (parts(json!([ADA.key(), "aGVsbG8="])), "invalid seal configuration: error parsing given PGP key: openpgp: invalid data"),
        (
            parts(json!([ADA.key(), "mQEABA=="])),
            "invalid seal configuration: error parsing given PGP key: openpgp: invalid data: it is damaged, or of a kind that is not read here; \
             export it again",
        ),
        (parts(json!([ADA.key(), expired])), "has expired"),
        (json!({ "secret_shares": 1, "secret_threshold": 1, "root_token_pgp_key": "%" }), "root token encryption failed: error decoding"),
        (
            json!({ "secret_shares": 1, "secret_threshold": 1, "recovery_pgp_keys": [ADA.key()] }),
            "parameters recovery_pgp_keys not applicable to seal type shamir",
        ),
    ] {
        let text = server.put("sys/init", body).nobody().await.refused(400).to_owned();
        assert!(text.contains(wanted), "{text}");
    }
    assert_eq!(server.get("sys/init").nobody().await["initialized"], json!(false));
}

#[tokio::test]
async fn a_rekey_or_a_root_token_with_a_key_that_cannot_be_used_does_not_begin() {
    let server = three_of_five().await;
    let expired = base64_of_file(EXPIRED).unwrap();
    let start = |keys: Value| json!({ "secret_shares": 2, "secret_threshold": 2, "pgp_keys": keys });
    let refused = server.put("sys/rekey/init", start(json!([ADA.key()]))).nobody().await.refused(400).to_owned();
    assert_eq!(refused, "incorrect number of PGP keys for rekey");
    let refused = server.put("sys/rekey/init", start(json!([ADA.key(), expired]))).nobody().await.refused(400).to_owned();
    assert!(
        refused.starts_with("invalid rekey seal configuration: error parsing given PGP key: key e496b1fec223d863d1a99e48bd604aebdd0d9bc6"),
        "{refused}"
    );
    let backup = json!({ "secret_shares": 1, "secret_threshold": 1, "backup": true });
    let refused = server.put("sys/rekey/init", backup).nobody().await.refused(400).to_owned();
    assert_eq!(refused, "cannot request a backup of the new keys without providing PGP keys for encryption");
    assert_eq!(server.get("sys/rekey/init").nobody().await["started"], json!(false));
    let refused = server.put("sys/generate-root/attempt", json!({ "pgp_key": "short" })).nobody().await.refused(400).to_owned();
    assert_eq!(refused, "error parsing PGP key: error decoding given PGP key: illegal base64 data at input byte 4");
    assert_eq!(server.get("sys/generate-root/attempt").nobody().await["started"], json!(false));
}

/// Story: a stranger's key was read, which may take a moment, before the server looked whether there was anything to read it for.
#[tokio::test]
async fn keys_are_not_read_where_nothing_can_begin() {
    let server = three_of_five().await;
    server.put("sys/generate-root/attempt", json!({})).nobody().await.ok();
    let refused = server.put("sys/generate-root/attempt", json!({ "pgp_key": "no key" })).nobody().await.refused(400).to_owned();
    assert_eq!(refused, "root generation already in progress");
    let init = json!({ "secret_shares": 1, "secret_threshold": 1, "pgp_keys": ["no key"] });
    assert_eq!(server.put("sys/init", init).nobody().await.refused(400), "Vault is already initialized");
}

/// Story: whoever had many keys read made everybody else wait until all of them were. Now a second request from the same address is told to come again,
/// and others have a turn in between.
#[tokio::test]
async fn a_stranger_with_many_keys_keeps_nobody_from_theirs() {
    let server = three_of_five().await;
    let many = json!({ "secret_shares": 20, "secret_threshold": 2, "pgp_keys": vec![ADA.key(); 20] });
    let ask = |address: &str| server.put("sys/rekey/init", many.clone()).nobody().from(address);
    let stranger = begun(ask("192.0.2.1")).await;
    let again = ask("192.0.2.1").await;
    assert_eq!(again.refused(429), "PGP keys of another request are being read: try again in a moment");
    let operator = server.put("sys/generate-root/attempt", json!({ "pgp_key": ADA.key() })).nobody().from("192.0.2.2").await.ok();
    assert_eq!(operator["pgp_fingerprint"], json!(ADA.fingerprint));
    assert!(!stranger.is_finished(), "the operator has gone in between");
    stranger.await.unwrap().ok();
}
