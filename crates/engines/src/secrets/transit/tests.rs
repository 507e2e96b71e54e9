mod batches;
mod certificates;
mod import;
mod keys;
mod property;
mod signatures;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType as Length, Salt};
use aws_lc_rs::hmac;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::Transit;
use crate::testing::{Answer, Bench};

pub(super) fn bench() -> Bench {
    Bench::new(Transit::default(), "transit/", "transit")
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes.as_ref())
}

pub(super) async fn ok(bench: &Bench, method: &str, path: &str, body: Value) -> Value {
    let answer = bench.call(method, path, body).await;
    assert!(matches!(answer.status, 200 | 204), "{method} {path}: {answer:?}");
    answer.body["data"].clone()
}

pub(super) async fn refused(bench: &Bench, path: &str, body: Value) -> String {
    let answer = bench.call("POST", path, body).await;
    assert_eq!(answer.status, 400, "{path}: {answer:?}");
    message(&answer)
}

pub(super) fn message(answer: &Answer) -> String {
    answer.body["errors"][0].as_str().unwrap_or_default().to_owned()
}

pub(super) async fn key(bench: &Bench, name: &str, body: Value) {
    ok(bench, "POST", &format!("keys/{name}"), body).await;
}

pub(super) async fn encrypt(bench: &Bench, name: &str, plaintext: &str) -> String {
    let data = ok(bench, "POST", &format!("encrypt/{name}"), json!({ "plaintext": b64(plaintext) })).await;
    data["ciphertext"].as_str().unwrap().to_owned()
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

struct Bytes64;

impl Length for Bytes64 {
    fn len(&self) -> usize {
        64
    }
}

#[tokio::test]
async fn every_cipher_gives_back_what_it_was_given() {
    let bench = bench();
    for key_type in ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "rsa-2048"] {
        key(&bench, key_type, json!({ "type": key_type })).await;
        for plaintext in ["", "hello"] {
            let ciphertext = encrypt(&bench, key_type, plaintext).await;
            assert!(ciphertext.starts_with("vault:v1:"), "{ciphertext}");
            let data = ok(&bench, "POST", &format!("decrypt/{key_type}"), json!({ "ciphertext": ciphertext })).await;
            assert_eq!(data, json!({ "plaintext": b64(plaintext) }), "{key_type}");
        }
    }
    let wrapped = json!({ "plaintext": b64("hello"), "padding_scheme": "pkcs1v15" });
    let ciphertext = ok(&bench, "POST", "encrypt/rsa-2048", wrapped).await["ciphertext"].clone();
    assert!(refused(&bench, "decrypt/rsa-2048", json!({ "ciphertext": ciphertext })).await.ends_with("decryption error"));
    let asked = json!({ "ciphertext": ciphertext, "padding_scheme": "pkcs1v15" });
    assert_eq!(ok(&bench, "POST", "decrypt/rsa-2048", asked).await["plaintext"], b64("hello"));
    let long = json!({ "plaintext": b64([0; 200]) });
    assert!(refused(&bench, "encrypt/rsa-2048", long).await.contains("message too long"));
}

#[tokio::test]
async fn payloads_have_vaults_layout() {
    let bench = bench();
    key(&bench, "k", json!({ "exportable": true })).await;
    let ciphertext = encrypt(&bench, "k", "hello").await;
    let mut payload = BASE64.decode(ciphertext.strip_prefix("vault:v1:").unwrap().as_bytes()).unwrap();
    assert_eq!(payload.len(), 12 + 5 + 16);
    let exported = ok(&bench, "GET", "export/encryption-key/k", Value::Null).await;
    let exported = BASE64.decode(text(&exported["keys"]["1"]).as_bytes()).unwrap();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &exported).unwrap());
    let (nonce, body) = payload.split_first_chunk_mut::<12>().unwrap();
    assert_eq!(cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), body).unwrap(), b"hello");
}

/// What Vault's third version makes of "hello" with the context "ctx" and a key that may be exported: 64 bytes of HKDF, of which the first half encrypts and the
/// second makes the nonce. The associated data has no part in that.
async fn convergent_by_hand(bench: &Bench, associated: &[u8]) -> String {
    let exported = text(&ok(bench, "GET", "export/encryption-key/k", Value::Null).await["keys"]["1"]);
    let mut derived = [0; 64];
    let prk = Salt::new(HKDF_SHA256, &[]).extract(&BASE64.decode(exported.as_bytes()).unwrap());
    prk.expand(&[b"ctx"], Bytes64).unwrap().fill(&mut derived).unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &derived[32..]), b"hello");
    let nonce: [u8; 12] = tag.as_ref()[..12].try_into().unwrap();
    let mut sealed = b"hello".to_vec();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derived[..32]).unwrap());
    cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), &mut sealed).unwrap();
    format!("vault:v1:{}", b64([&nonce[..], &sealed].concat()))
}

#[tokio::test]
async fn convergent_encryption_is_vaults_third_version() {
    let bench = bench();
    key(&bench, "k", json!({ "derived": true, "convergent_encryption": true, "exportable": true })).await;
    let body = json!({ "plaintext": b64("hello"), "context": b64("ctx") });
    let first = ok(&bench, "POST", "encrypt/k", body.clone()).await;
    assert_eq!(first, ok(&bench, "POST", "encrypt/k", body).await);
    assert_eq!(text(&first["ciphertext"]), convergent_by_hand(&bench, b"").await);

    let other = json!({ "plaintext": b64("hello"), "context": b64("other") });
    assert_ne!(ok(&bench, "POST", "encrypt/k", other).await["ciphertext"], first["ciphertext"]);
    assert!(refused(&bench, "encrypt/k", json!({ "plaintext": "" })).await.starts_with("missing 'context' for key derivation"));
    let nonce = json!({ "plaintext": "", "context": b64("ctx"), "nonce": b64([0; 12]) });
    assert_eq!(refused(&bench, "encrypt/k", nonce).await, "provided nonce not allowed for this key");
    let shown = ok(&bench, "GET", "keys/k", Value::Null).await;
    assert_eq!((&shown["kdf"], &shown["convergent_encryption"]), (&json!("hkdf_sha256"), &json!(true)));
}

/// Story: the nonce came from the plaintext alone, as in Vault, so what was encrypted with two different associated data had one key and one nonce: whoever
/// saw both could work out the key that AES-GCM authenticates with, and forge.
#[tokio::test]
async fn no_two_associated_data_share_a_nonce() {
    let bench = bench();
    for key_type in ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"] {
        key(&bench, key_type, json!({ "type": key_type, "derived": true, "convergent_encryption": true })).await;
        let ask = |plaintext: &[u8], associated: &[u8]| json!({ "plaintext": b64(plaintext), "context": b64("ctx"), "associated_data": b64(associated) });
        let encrypt = async |plaintext: &[u8], associated: &[u8]| {
            text(&ok(&bench, "POST", &format!("encrypt/{key_type}"), ask(plaintext, associated)).await["ciphertext"])
        };
        let mut nonces = std::collections::BTreeSet::new();
        // The last two have the bytes of the one before them, counted and split otherwise.
        let all: [(&[u8], &[u8]); 6] = [
            (b"hello", b""),
            (b"hello", b"row 7"),
            (b"hello", b"row 8"),
            (b"lo", b"row 7hel"),
            (b"row 7hello", b""),
            (b"\0\0\0\0\0\0\0\x05row 7hello", b""),
        ];
        for (plaintext, associated) in all {
            let ciphertext = encrypt(plaintext, associated).await;
            assert_eq!(ciphertext, encrypt(plaintext, associated).await, "the same stays the same");
            let bytes = BASE64.decode(ciphertext.strip_prefix("vault:v1:").unwrap().as_bytes()).unwrap();
            assert!(nonces.insert(bytes[..12].to_vec()), "{key_type}: a nonce for {plaintext:?} with {associated:?} was there before");
            let body = json!({ "ciphertext": ciphertext, "context": b64("ctx"), "associated_data": b64(associated) });
            assert_eq!(ok(&bench, "POST", &format!("decrypt/{key_type}"), body).await["plaintext"], b64(plaintext));
        }
    }
}

/// The nonce stands in the ciphertext: what was encrypted before associated data went into it is decrypted as ever.
#[tokio::test]
async fn convergent_ciphertexts_from_before_are_decrypted() {
    let bench = bench();
    key(&bench, "k", json!({ "derived": true, "convergent_encryption": true, "exportable": true })).await;
    let ciphertext = convergent_by_hand(&bench, b"row 7").await;
    let body = json!({ "ciphertext": ciphertext, "context": b64("ctx"), "associated_data": b64("row 7") });
    assert_eq!(ok(&bench, "POST", "decrypt/k", body.clone()).await["plaintext"], b64("hello"));
    let again = text(&ok(&bench, "POST", "rewrap/k", body).await["ciphertext"]);
    assert_ne!(again, ciphertext, "and encrypted anew it has a nonce of its own");
}

#[tokio::test]
async fn associated_data_is_authenticated() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    let sent = json!({ "plaintext": b64("hello"), "associated_data": b64("row 7") });
    let ciphertext = ok(&bench, "POST", "encrypt/k", sent).await["ciphertext"].clone();
    let right = json!({ "ciphertext": ciphertext, "associated_data": b64("row 7") });
    assert_eq!(ok(&bench, "POST", "decrypt/k", right).await["plaintext"], b64("hello"));
    for wrong in [json!({ "ciphertext": ciphertext }), json!({ "ciphertext": ciphertext, "associated_data": b64("row 8") })] {
        assert_eq!(refused(&bench, "decrypt/k", wrong).await, "cipher: message authentication failed");
    }
    key(&bench, "r", json!({ "type": "rsa-2048" })).await;
    let sent = json!({ "plaintext": "", "associated_data": b64("x") });
    assert_eq!(refused(&bench, "encrypt/r", sent).await, "'[0].associated_data' provided for non-AEAD cipher suite rsa-2048");
}

#[tokio::test]
async fn data_keys_decrypt_to_what_was_shown() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    for (sent, bytes) in [(json!({ "bits": 128 }), 16), (json!({}), 32), (json!({ "bits": "512" }), 64)] {
        let made = ok(&bench, "POST", "datakey/plaintext/k", sent).await;
        assert_eq!(BASE64.decode(text(&made["plaintext"]).as_bytes()).unwrap().len(), bytes);
        let opened = ok(&bench, "POST", "decrypt/k", json!({ "ciphertext": made["ciphertext"] })).await;
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
    let wrapped = ok(&bench, "POST", "datakey/wrapped/k", json!({})).await;
    assert_eq!(wrapped.get("plaintext"), None);
    assert_eq!(refused(&bench, "datakey/plaintext/k", json!({ "bits": 100 })).await, "invalid bit length");
    assert_eq!(refused(&bench, "datakey/other/k", json!({})).await, "Invalid path, must be 'plaintext' or 'wrapped'");
    assert_eq!(refused(&bench, "datakey/wrapped/none", json!({})).await, "encryption key not found");
}

#[tokio::test]
async fn hashes_and_random_bytes_come_in_the_form_that_is_asked_for() {
    let bench = bench();
    let empty = ok(&bench, "POST", "hash", json!({ "input": "" })).await;
    assert_eq!(empty["sum"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let sha3 = ok(&bench, "POST", "hash/sha3-256", json!({ "input": "" })).await;
    assert_eq!(sha3["sum"], "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a");
    assert_eq!(refused(&bench, "hash/md5", json!({ "input": "" })).await, "unsupported algorithm md5");
    assert_eq!(refused(&bench, "hash", json!({})).await, "input missing");
    for (path, body, length) in [("random", json!({}), 44), ("random/16", json!({"format": "hex"}), 32), ("random/seal/3", json!({}), 4)] {
        assert_eq!(text(&ok(&bench, "POST", path, body).await["random_bytes"]).len(), length, "{path}");
    }
    assert_eq!(refused(&bench, "random/0", json!({})).await, "\"bytes\" cannot be less than 1");
    assert_eq!(refused(&bench, "random/200000", json!({})).await, "\"bytes\" should be less than 131072");
    assert!(refused(&bench, "random/moon", json!({})).await.starts_with("unsupported entropy source \"moon\""));
}
