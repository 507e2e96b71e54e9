use aws_lc_rs::signature::{self, UnparsedPublicKey};
use data_encoding::HEXLOWER;

use super::super::pem;
use super::*;

async fn sign(bench: &Bench, path: &str, mut body: Value) -> Value {
    body["input"] = b64("hello").into();
    ok(bench, "POST", &format!("sign/{path}"), body).await["signature"].clone()
}

async fn verify(bench: &Bench, path: &str, input: &str, signature: &Value, mut body: Value) -> Value {
    body["input"] = b64(input).into();
    body["signature"] = signature.clone();
    ok(bench, "POST", &format!("verify/{path}"), body).await["valid"].clone()
}

#[tokio::test]
async fn every_key_that_signs_verifies_its_own_and_nothing_else() {
    let bench = bench();
    for key_type in ["ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048"] {
        key(&bench, key_type, json!({ "type": key_type })).await;
        // ed25519 has a hash of its own; naming it asks for another form.
        for hash in ["sha2-256", "sha2-384", "sha2-512"].into_iter().filter(|hash| key_type != "ed25519" || *hash != "sha2-512") {
            for how in [json!({}), json!({ "marshaling_algorithm": "jws" }), json!({ "signature_algorithm": "pkcs1v15" })] {
                let path = format!("{key_type}/{hash}");
                let signature = sign(&bench, &path, how.clone()).await;
                assert_eq!(verify(&bench, &path, "hello", &signature, how.clone()).await, true, "{path} {how}");
                assert_eq!(verify(&bench, &path, "hellp", &signature, how.clone()).await, false, "{path} {how}");
            }
        }
    }
    assert_eq!(refused(&bench, "sign/none", json!({ "input": "" })).await, "signing key not found");
    let signature = json!({ "input": "", "signature": "vault:v1:AAAA" });
    assert_eq!(refused(&bench, "verify/none", signature).await, "signature verification key not found");
    key(&bench, "aes", json!({})).await;
    assert_eq!(refused(&bench, "sign/aes", json!({ "input": "" })).await, "key type aes256-gcm96 does not support signing");
}

#[tokio::test]
async fn curves_take_digests_of_any_hash() {
    let bench = bench();
    for key_type in ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"] {
        key(&bench, key_type, json!({ "type": key_type })).await;
        for hash in ["sha1", "sha2-224", "sha3-256", "sha3-384", "sha3-512"] {
            let path = format!("{key_type}/{hash}");
            let signature = sign(&bench, &path, json!({})).await;
            assert_eq!(verify(&bench, &path, "hello", &signature, json!({})).await, true, "{path}");
        }
    }
    // The library's own way to use SHA-512 with P-256, and SHA-256 with P-384, agrees.
    for (key_type, hash, algorithm) in [
        ("ecdsa-p256", "sha2-512", &signature::ECDSA_P256_SHA512_ASN1),
        ("ecdsa-p384", "sha2-256", &signature::ECDSA_P384_SHA256_ASN1),
        ("ecdsa-p521", "sha2-224", &signature::ECDSA_P521_SHA224_ASN1),
        ("ecdsa-p521", "sha1", &signature::ECDSA_P521_SHA1_ASN1),
    ] {
        let shown = ok(&bench, "GET", &format!("keys/{key_type}"), Value::Null).await;
        let public = pem::read("PUBLIC KEY", &text(&shown["keys"]["1"]["public_key"])).unwrap();
        let made = text(&sign(&bench, &format!("{key_type}/{hash}"), json!({})).await);
        let made = BASE64.decode(made.strip_prefix("vault:v1:").unwrap().as_bytes()).unwrap();
        UnparsedPublicKey::new(algorithm, public).verify(b"hello", &made).unwrap();
    }
}

#[tokio::test]
async fn rsa_signs_with_the_salt_that_is_asked_for() {
    let bench = bench();
    key(&bench, "r", json!({ "type": "rsa-2048" })).await;
    let salt = |length: &str| json!({ "salt_length": length });
    let longest = (256 - 32 - 2).to_string();
    for length in ["auto", "hash", "0", "7", &longest] {
        let signature = sign(&bench, "r", salt(length)).await;
        assert_eq!(verify(&bench, "r", "hello", &signature, salt("auto")).await, true, "{length}");
        assert_eq!(verify(&bench, "r", "hello", &signature, salt(length)).await, true, "{length}");
        assert_eq!(verify(&bench, "r", "hello", &signature, salt("9")).await, false, "{length}");
    }
    let too_long = json!({ "input": b64("hello"), "salt_length": "300" });
    assert_eq!(refused(&bench, "sign/r", too_long).await, "salt_length 300 is too long: this key and hash leave room for 222 bytes");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"hello");
    let prehashed = json!({ "input": b64(digest), "prehashed": true });
    let signature = ok(&bench, "POST", "sign/r", prehashed).await["signature"].clone();
    assert_eq!(verify(&bench, "r", "hello", &signature, json!({})).await, true);
}

/// Story: a wrong signature was compared with every length of salt, hundreds of operations of an RSA key, and a batch may bring 2,000 of them:
/// one request took a processor for a minute.
#[tokio::test]
async fn a_request_looks_through_only_so_many_lengths_of_salt() {
    let bench = bench();
    key(&bench, "r", json!({ "type": "rsa-2048" })).await;
    let mut signatures = Vec::new();
    for salt in ["auto", "hash", "7"] {
        signatures.push(sign(&bench, "r", json!({ "salt_length": salt })).await);
    }
    let item = |input: &str, signature: &Value| json!({ "input": b64(input), "signature": signature });
    let checked = async |items: Vec<Value>, salt: &str| {
        let body = json!({ "batch_input": items, "salt_length": salt });
        ok(&bench, "POST", "verify/r", body).await["batch_results"].as_array().unwrap().clone()
    };
    // 221 lengths for each wrong one: enough for four of them.
    let wrong: Vec<Value> = (0..6).map(|_| item("other", &signatures[0])).collect();
    let right: Vec<Value> = signatures.iter().map(|signature| item("hello", signature)).collect();
    let results = checked([&right[2..], &wrong, &right].concat(), "auto").await;
    let plain = |valid: bool| json!({ "valid": valid, "reference": "" });
    assert_eq!(results[..5], [plain(true), plain(false), plain(false), plain(false), plain(false)]);
    for result in &results[5..7] {
        let said = "this request has tried 1000 other lengths, the limit: name salt_length";
        assert!(result["valid"] == false && text(&result["error"]).ends_with(said), "{result}");
    }
    assert_eq!(results[7..], [plain(true), plain(true), plain(true)], "lengths in use are known, and so is one that was found");
    assert!(checked(wrong, "7").await.iter().all(|result| *result == plain(false)));
    let short = json!({ "input": "", "signature": format!("vault:v1:{}", b64([1; 300])) });
    assert_eq!(ok(&bench, "POST", "verify/r", short).await["valid"], false);
}

#[tokio::test]
async fn what_is_not_offered_is_refused_in_words() {
    let bench = bench();
    key(&bench, "r", json!({ "type": "rsa-2048" })).await;
    key(&bench, "e", json!({ "type": "ed25519" })).await;
    let none = "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15";
    for (path, body, wanted) in [
        ("sign/r", json!({ "hash_algorithm": "none" }), none),
        ("sign/r/sha2-224", json!({}), "hash_algorithm sha2-224 is not available for RSA keys: use sha2-256, sha2-384 or sha2-512"),
        ("sign/r/md5", json!({}), "invalid hash algorithm \"md5\""),
        ("sign/r/sha3-224", json!({}), "sha3-224 is not available here: use sha3-256, sha3-384, sha3-512 or a sha2 hash"),
        ("sign/r", json!({ "prehashed": true }), "crypto/rsa: input must be hashed message"),
        ("sign/r", json!({ "salt_length": "x" }), "invalid salt length \"x\""),
        ("sign/r", json!({ "signature_algorithm": "x" }), "unsupported rsa signature algorithm x"),
        ("sign/r", json!({ "marshaling_algorithm": "x" }), "invalid marshaling type \"x\""),
        ("sign/e", json!({ "signature_context": "YQ==" }), "only Pure Ed25519 signatures supported, signature_context must be empty"),
        ("sign/e", json!({ "prehashed": true }), "only Pure Ed25519 signatures supported, prehashed must be false"),
        ("sign/e", json!({ "hash_algorithm": "sha2-512" }), "only Pure Ed25519 signatures supported, hash_alogithm should not be set"),
        ("sign/e/sha2-512", json!({}), "only Pure Ed25519 signatures supported, hash_alogithm should not be set"),
        (
            "verify/e",
            json!({ "prehashed": true, "signature": "vault:v1:AAAA" }),
            "only Pure Ed25519 signatures supported, prehashed must be false",
        ),
        ("verify/e", json!({}), "provide one of 'signature', 'hmac' or 'cmac'"),
        ("verify/e", json!({ "cmac": "x" }), "cmac is not available: verify a signature or an hmac"),
        ("verify/e", json!({ "signature": "junk" }), "invalid signature: no prefix"),
        ("verify/e", json!({ "hmac": "junk" }), "invalid HMAC to verify: no prefix"),
        ("hmac/e/md5", json!({}), "unsupported algorithm \"md5\""),
    ] {
        let mut body = body;
        body["input"] = b64("hello").into();
        assert_eq!(refused(&bench, path, body).await, wanted, "{path}");
    }
    // Other keys know no such context, and in a batch each item is refused alone.
    let ignored = json!({ "input": b64("hello"), "signature_context": "YQ==" });
    ok(&bench, "POST", "sign/r", ignored).await;
    let batch = json!({ "batch_input": [{ "input": b64("a"), "signature_context": "YQ==" }, { "input": b64("a") }] });
    let results = ok(&bench, "POST", "sign/e", batch).await["batch_results"].clone();
    assert_eq!(results[0]["error"], "only Pure Ed25519 signatures supported, signature_context must be empty");
    assert!(text(&results[1]["signature"]).starts_with("vault:v1:"));
    assert_eq!(refused(&bench, "hmac/e", json!({})).await, "missing input for HMAC");
}

/// Story: `sign` and `verify` refused a request without `input`, where Vault signs the empty text and only items of a batch must bring one.
#[tokio::test]
async fn no_input_is_an_empty_one_except_in_a_batch() {
    let bench = bench();
    key(&bench, "e", json!({ "type": "ed25519" })).await;
    let signature = ok(&bench, "POST", "sign/e", json!({})).await["signature"].clone();
    assert_eq!(ok(&bench, "POST", "verify/e", json!({ "signature": signature })).await["valid"], true);
    assert_eq!(ok(&bench, "POST", "verify/e", json!({ "signature": signature, "input": "" })).await["valid"], true);
    let batch = ok(&bench, "POST", "sign/e", json!({ "batch_input": [{}] })).await["batch_results"].clone();
    assert_eq!(batch[0]["error"], "missing input");
    let batch = ok(&bench, "POST", "verify/e", json!({ "batch_input": [{ "signature": signature }] })).await["batch_results"].clone();
    assert_eq!(batch[0]["error"], "missing input");
}

/// Story: bytes that are no ECDSA signature at all were answered with `valid: false`, where Vault says that they are malformed.
#[tokio::test]
async fn what_is_no_signature_of_a_curve_is_refused() {
    let bench = bench();
    key(&bench, "c", json!({ "type": "ecdsa-p256" })).await;
    let invalid = "supplied signature is invalid";
    for (bytes, text) in [
        (&b"a"[..], invalid),
        (b"", invalid),
        (b"\x30\x03\x02\x01\x01", invalid),
        (b"\x30\x80\x02\x01\x01\x02\x01\x01\x00\x00", invalid),
        (b"\x30\x07\x02\x02\x00\x01\x02\x01\x01", invalid),
        (b"\x30\x05\x02\x00\x02\x01\x01", invalid),
        (b"\x30\x06\x02\x01\x01\x02\x01\x01\x00", "supplied signature contains extra data"),
    ] {
        let signature = format!("vault:v1:{}", BASE64.encode(bytes));
        assert_eq!(refused(&bench, "verify/c", json!({ "input": "", "signature": signature })).await, text, "{bytes:x?}");
        let batch = json!({ "batch_input": [{ "input": "", "signature": signature }] });
        assert_eq!(
            ok(&bench, "POST", "verify/c", batch).await["batch_results"][0],
            json!({ "error": text, "valid": false, "reference": "" })
        );
        // In its other form a signature is two numbers without any frame.
        let jws = json!({ "input": "", "signature": "vault:v1:YQ", "marshaling_algorithm": "jws" });
        assert_eq!(ok(&bench, "POST", "verify/c", jws).await["valid"], false);
    }
    let strange = json!({ "input": "", "signature": format!("vault:v1:{}", BASE64.encode(b"\x30\x06\x02\x01\x01\x02\x01\x01")) });
    assert_eq!(ok(&bench, "POST", "verify/c", strange).await["valid"], false, "a signature, and a wrong one");
}

#[tokio::test]
async fn a_derived_key_signs_with_another_key_for_each_context() {
    let bench = bench();
    key(&bench, "d", json!({ "type": "ed25519", "derived": true })).await;
    let sent = json!({ "input": b64("hello"), "context": b64("a") });
    let signed = ok(&bench, "POST", "sign/d", sent).await;
    let public = BASE64.decode(text(&signed["public_key"]).as_bytes()).unwrap();
    let raw = text(&signed["signature"]);
    let raw = BASE64.decode(raw.strip_prefix("vault:v1:").unwrap().as_bytes()).unwrap();
    UnparsedPublicKey::new(&signature::ED25519, public).verify(b"hello", &raw).unwrap();
    for (context, valid) in [("a", true), ("b", false)] {
        assert_eq!(verify(&bench, "d", "hello", &signed["signature"], json!({ "context": b64(context) })).await, valid);
    }
    assert!(refused(&bench, "sign/d", json!({ "input": "" })).await.starts_with("missing 'context'"));
    let shown = ok(&bench, "GET", &format!("keys/d?context={}", b64("a")), Value::Null).await;
    assert_eq!(shown["keys"]["1"]["public_key"], signed["public_key"]);
    assert_eq!(refused(&bench, "sign/d", json!({ "input": "", "context": "%" })).await, "failed to base64-decode context");
}

#[tokio::test]
async fn hmacs_are_those_of_the_exported_key() {
    let bench = bench();
    for key_type in ["hmac", "aes256-gcm96", "rsa-2048"] {
        key(&bench, key_type, json!({ "type": key_type, "exportable": true })).await;
        let exported = text(&ok(&bench, "GET", &format!("export/hmac-key/{key_type}"), Value::Null).await["keys"]["1"]);
        let by_hand = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(exported.as_bytes()).unwrap()), b"hello");
        let made = text(&ok(&bench, "POST", &format!("hmac/{key_type}"), json!({ "input": b64("hello") })).await["hmac"]);
        assert_eq!(made, format!("vault:v1:{}", b64(by_hand)));
        for hash in ["sha1", "sha2-512", "sha3-512"] {
            let body = json!({ "input": b64("hello"), "algorithm": hash });
            let made = ok(&bench, "POST", &format!("hmac/{key_type}"), body).await["hmac"].clone();
            let body = json!({ "input": b64("hello"), "hmac": made });
            assert_eq!(ok(&bench, "POST", &format!("verify/{key_type}/{hash}"), body.clone()).await["valid"], true);
            assert_eq!(ok(&bench, "POST", &format!("verify/{key_type}/sha2-256"), body).await["valid"], false);
        }
    }
}

/// RFC 8032, 7.1, test 2: what an imported seed signs is known.
#[tokio::test]
async fn ed25519_signs_as_its_rfc_says() {
    let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let seed = HEXLOWER.decode(seed.as_bytes()).unwrap();
    let pkcs8 = [HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap(), seed].concat();
    let bench = bench();
    import::import(&bench, "k", "ed25519", &pkcs8, json!({})).await;
    let signed = ok(&bench, "POST", "sign/k", json!({ "input": b64([0x72]) })).await;
    let wanted =
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    assert_eq!(text(&signed["signature"]), format!("vault:v1:{}", b64(HEXLOWER.decode(wanted.as_bytes()).unwrap())));
}
