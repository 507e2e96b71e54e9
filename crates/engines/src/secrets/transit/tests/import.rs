use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};

use super::super::pem;
use super::*;

/// Wraps key material as a client does.
async fn wrap(bench: &Bench, material: &[u8]) -> String {
    let shown = ok(bench, "GET", "wrapping_key", Value::Null).await;
    let der = pem::read("PUBLIC KEY", &text(&shown["public_key"])).unwrap();
    let wrapping = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).unwrap()).unwrap();
    let ephemeral = [9; 32];
    let mut wrapped = vec![0; 512];
    wrapping.encrypt(&OAEP_SHA256_MGF1SHA256, &ephemeral, &mut wrapped, None).unwrap();
    let mut body = vec![0; material.len() + 15];
    wrapped.extend_from_slice(AesKek::new(&AES_256, &ephemeral).unwrap().wrap_with_padding(material, &mut body).unwrap());
    b64(wrapped)
}

pub(super) async fn import(bench: &Bench, name: &str, key_type: &str, material: &[u8], mut body: Value) {
    body["type"] = key_type.into();
    body["ciphertext"] = wrap(bench, material).await.into();
    ok(bench, "POST", &format!("keys/{name}/import"), body).await;
}

#[tokio::test]
async fn keys_are_brought_in_under_the_wrapping_key() {
    let bench = bench();
    import(&bench, "aes", "aes256-gcm96", &[7; 32], json!({ "exportable": true })).await;
    assert_eq!(ok(&bench, "GET", "export/encryption-key/aes", Value::Null).await["keys"]["1"], b64([7; 32]));
    let shown = ok(&bench, "GET", "keys/aes", Value::Null).await;
    assert_eq!((&shown["imported_key"], &shown["imported_key_allow_rotation"]), (&json!(true), &json!(false)));
    assert_eq!(refused(&bench, "keys/aes/rotate", json!({})).await, "imported key aes does not allow rotation within Vault");
    let next = wrap(&bench, &[8; 32]).await;
    ok(&bench, "POST", "keys/aes/import_version", json!({ "ciphertext": next })).await;
    assert_eq!(ok(&bench, "GET", "export/encryption-key/aes", Value::Null).await["keys"]["2"], b64([8; 32]));

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    import(&bench, "ec", "ecdsa-p256", pair.to_pkcs8v1().unwrap().as_ref(), json!({ "allow_rotation": true })).await;
    let shown = ok(&bench, "GET", "keys/ec", Value::Null).await;
    let public = pair.public_key().as_der().unwrap();
    assert_eq!(pem::read("PUBLIC KEY", &text(&shown["keys"]["1"]["public_key"])).unwrap(), public.as_ref());
    ok(&bench, "POST", "keys/ec/rotate", json!({})).await;

    let exists = "the import path cannot be used with an existing key; use import-version to rotate an existing imported key";
    assert_eq!(refused(&bench, "keys/aes/import", json!({ "ciphertext": next })).await, exists);
    let wrong = json!({ "ciphertext": next, "type": "rsa-2048" });
    assert_eq!(refused(&bench, "keys/x/import", wrong).await, "the key material is no key of type rsa-2048");
    assert!(refused(&bench, "keys/x/import", json!({ "ciphertext": b64([1; 600]) })).await.contains("is not wrapped with"));
    assert!(refused(&bench, "keys/x/import", json!({ "ciphertext": b64([1; 6]) })).await.starts_with("the ciphertext has 6 bytes"));
    key(&bench, "own", json!({})).await;
    let own = "the import_version endpoint can only be used with an imported key";
    assert_eq!(refused(&bench, "keys/own/import_version", json!({ "ciphertext": next })).await, own);
    assert!(refused(&bench, "keys/none/import_version", json!({ "ciphertext": next })).await.starts_with("no key found with name none"));
}

#[tokio::test]
async fn a_public_half_verifies_and_encrypts() {
    let bench = bench();
    let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let public = pem::write("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
    ok(&bench, "POST", "keys/r/import", json!({ "type": "rsa-2048", "public_key": public })).await;
    let mut made = vec![0; 256];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&aws_lc_rs::signature::RSA_PKCS1_SHA256, &random, b"hello", &mut made).unwrap();
    let body = json!({ "input": b64("hello"), "signature": format!("vault:v1:{}", b64(made)), "signature_algorithm": "pkcs1v15" });
    assert_eq!(ok(&bench, "POST", "verify/r", body).await["valid"], true);
    let ciphertext = encrypt(&bench, "r", "hello").await;
    let wanted = "this version of the key has no private part and cannot decrypt";
    assert_eq!(refused(&bench, "decrypt/r", json!({ "ciphertext": ciphertext })).await, wanted);
    assert!(refused(&bench, "sign/r", json!({ "input": "" })).await.contains("cannot sign"));
    assert!(
        refused(&bench, "keys/x/import", json!({ "type": "rsa-3072", "public_key": public })).await.contains("no key of type rsa-3072")
    );
    assert!(refused(&bench, "keys/x/import", json!({ "public_key": public })).await.contains("have no public half"));
}

/// Story: the private half of a key whose public half was there already became another version, and what had been encrypted to the first could
/// not be read. Which version was meant could be said, and was not heard.
#[tokio::test]
async fn a_private_half_completes_its_version() {
    let bench = bench();
    let pairs = [(); 3].map(|()| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap());
    let public = |number: usize| pem::write("PUBLIC KEY", pairs[number].public_key().as_der().unwrap().as_ref());
    let private = async |number: usize| json!({ "ciphertext": wrap(&bench, pairs[number].to_pkcs8v1().unwrap().as_ref()).await });
    let named = |mut body: Value, version: i64| {
        body["version"] = version.into();
        body
    };
    ok(&bench, "POST", "keys/k/import", json!({ "type": "ecdsa-p256", "public_key": public(0) })).await;
    ok(&bench, "POST", "keys/k/import_version", json!({ "public_key": public(1) })).await;
    let mac = ok(&bench, "POST", "hmac/k", json!({ "input": "", "key_version": 1 })).await;
    let before = ok(&bench, "GET", "keys/k", Value::Null).await;
    bench.advance(60);

    let refuse = async |body: Value| refused(&bench, "keys/k/import_version", body).await;
    for version in [-1, 0, 3] {
        let said = refuse(named(private(0).await, version)).await;
        assert_eq!(said, format!("version {version} of the key does not exist, so it cannot be completed"));
    }
    assert_eq!(refuse(named(private(0).await, 2)).await, "the private half that was sent is not that of version 2");
    let public_again = named(json!({ "public_key": public(1) }), 2);
    assert_eq!(refuse(public_again).await, "version 2 has its public half: send the private one, wrapped, as ciphertext");
    // The latest by itself, whatever the case of the hash; an older one by its number.
    let mut latest = private(1).await;
    latest["hash_function"] = "sha256".into();
    ok(&bench, "POST", "keys/k/import_version", latest).await;
    ok(&bench, "POST", "keys/k/import_version", named(private(0).await, 1)).await;
    let already = "version 1 has its private half already: leave version out to bring a new one in";
    assert_eq!(refuse(named(private(0).await, 1)).await, already);

    assert_eq!(ok(&bench, "GET", "keys/k", Value::Null).await, before, "no version more, and none younger");
    assert_eq!(ok(&bench, "POST", "hmac/k", json!({ "input": "", "key_version": 1 })).await, mac);
    for version in [1, 2] {
        let signed = ok(&bench, "POST", "sign/k", json!({ "input": "", "key_version": version })).await;
        assert_eq!(ok(&bench, "POST", "verify/k", json!({ "input": "", "signature": signed["signature"] })).await["valid"], true);
    }
    // Of another key it is a new version, as before.
    ok(&bench, "POST", "keys/k/import_version", private(2).await).await;
    assert_eq!(ok(&bench, "GET", "keys/k", Value::Null).await["latest_version"], 3);
}

/// Story: a derived key of which only the public half was brought in verified with keys that were derived from nothing, which anybody can do.
#[tokio::test]
async fn nothing_is_derived_from_a_public_half() {
    let bench = bench();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
    let public = pem::write("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
    let body = json!({ "type": "ed25519", "public_key": public, "derived": true });
    let needs = "a key with derivation needs its private half: nothing can be derived from the public one";
    assert_eq!(refused(&bench, "keys/d/import", body).await, needs);
    ok(&bench, "POST", "keys/d/import", json!({ "type": "ed25519", "public_key": public })).await;
    keys::patch_row(&bench, "d", |row| row["derived"] = true.into()).await;
    let signature = format!("vault:v1:{}", b64([0; 64]));
    let body = json!({ "input": "", "signature": signature, "context": b64("c") });
    assert_eq!(refused(&bench, "verify/d", body).await, "this version of the key has no private part to derive from");
}

/// Story: a derived key with a version that has only its public half, from before such were refused, was backed up, and the backup was none to restore.
#[tokio::test]
async fn what_is_backed_up_can_be_restored() {
    let bench = bench();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
    let public = pem::write("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
    ok(&bench, "POST", "keys/d/import", json!({ "type": "ed25519", "public_key": public, "allow_rotation": true })).await;
    keys::patch_row(&bench, "d", |row| {
        for field in ["derived", "exportable", "allow_plaintext_backup"] {
            row[field] = true.into();
        }
    })
    .await;
    let refused = message(&bench.call("GET", "backup/d", Value::Null).await);
    assert!(refused.starts_with("version 1, the latest, has no private half") && refused.contains("rotate the key"), "{refused}");
    ok(&bench, "POST", "keys/d/rotate", Value::Null).await;
    let backup = ok(&bench, "GET", "backup/d", Value::Null).await["backup"].clone();
    ok(&bench, "POST", "restore/twin", json!({ "backup": backup })).await;
    let body = json!({ "input": "", "context": b64("c") });
    let signed = ok(&bench, "POST", "sign/twin", body.clone()).await["signature"].clone();
    let verify = json!({ "input": "", "context": b64("c"), "signature": signed });
    assert_eq!(ok(&bench, "POST", "verify/d", verify).await["valid"], true);
    let old = json!({ "input": "", "context": b64("c"), "signature": format!("vault:v1:{}", b64([0; 64])) });
    assert_eq!(super::refused(&bench, "verify/twin", old).await, "this version of the key has no private part to derive from");
}

#[tokio::test]
async fn keys_move_to_another_server_without_being_seen() {
    let (here, there) = (bench(), bench());
    let wrapping = ok(&there, "GET", "wrapping_key", Value::Null).await["public_key"].clone();
    ok(&here, "POST", "keys/there/import", json!({ "type": "rsa-4096", "public_key": wrapping })).await;
    for key_type in ["aes128-gcm96", "ed25519", "ecdsa-p256", "hmac"] {
        key(&here, key_type, json!({ "type": key_type })).await;
        let path = format!("byok-export/there/{key_type}");
        assert_eq!(message(&here.call("GET", &path, Value::Null).await), "private key material is not exportable");
        ok(&here, "POST", &format!("keys/{key_type}/config"), json!({ "exportable": true })).await;
        let wrapped = ok(&here, "GET", &path, Value::Null).await;
        let body = json!({ "type": key_type, "ciphertext": wrapped["keys"]["1"], "exportable": true });
        ok(&there, "POST", &format!("keys/{key_type}/import"), body).await;
        let part = if key_type.starts_with('e') { "signing-key" } else { "encryption-key" };
        let export = format!("export/{}/{key_type}", if key_type == "hmac" { "hmac-key" } else { part });
        assert_eq!(ok(&here, "GET", &export, Value::Null).await["keys"], ok(&there, "GET", &export, Value::Null).await["keys"]);
    }
    let wrong = message(&here.call("GET", "byok-export/hmac/hmac", Value::Null).await);
    assert_eq!(wrong, "the destination is a key of type hmac; wrapping keys are of type rsa-4096");
}
