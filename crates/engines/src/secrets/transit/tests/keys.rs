use std::sync::Arc;

use daypass_sdk::{Changes, Operation};

use super::super::cache::Cache;
use super::*;

#[tokio::test]
async fn a_key_is_described_as_vault_does() {
    let bench = bench();
    let made = ok(&bench, "POST", "keys/k", json!({})).await;
    assert_eq!(made, ok(&bench, "GET", "keys/k", Value::Null).await);
    assert_eq!(
        (&made["type"], &made["latest_version"], &made["keys"]["1"]),
        (&json!("aes256-gcm96"), &json!(1), &json!(bench_seconds(&bench)))
    );
    let again = bench.call("POST", "keys/k", json!({ "type": "rsa-2048" })).await;
    assert_eq!((&again.body["data"], &again.body["warnings"]), (&made, &json!(["key k already existed"])));
    for (key_type, name, prefix) in [
        ("rsa-2048", "rsa-2048", "-----BEGIN PUBLIC KEY-----\n"),
        ("ecdsa-p256", "P-256", "-----BEGIN PUBLIC KEY-----\n"),
        ("ecdsa-p521", "P-521", "-----BEGIN PUBLIC KEY-----\n"),
        ("ed25519", "ed25519", ""),
    ] {
        let shown = ok(&bench, "POST", &format!("keys/{key_type}"), json!({ "type": key_type })).await;
        let version = &shown["keys"]["1"];
        assert_eq!(version["name"], name);
        assert!(text(&version["public_key"]).starts_with(prefix), "{version}");
    }
    let sized = ok(&bench, "POST", "keys/h", json!({ "type": "hmac", "key_size": 64 })).await;
    assert_eq!((&sized["key_size"], &sized["supports_encryption"]), (&json!(64), &json!(false)));
}

fn bench_seconds(bench: &Bench) -> i64 {
    use daypass_base::Clock;
    bench.clock.now().seconds()
}

#[tokio::test]
async fn keys_that_make_no_sense_are_refused() {
    let bench = bench();
    for (body, wanted) in [
        (json!({ "type": "rot13" }), "unknown key type rot13"),
        (json!({ "convergent_encryption": true }), "convergent encryption requires derivation to be enabled"),
        (
            json!({ "type": "rsa-2048", "derived": true }),
            "key derivation and convergent encryption not supported for keys of type rsa-2048",
        ),
        (
            json!({ "type": "ed25519", "derived": true, "convergent_encryption": true }),
            "convergent encryption not supported for keys of type ed25519",
        ),
        (json!({ "auto_rotate_period": "10m" }), "auto rotate period must be 0 to disable or at least an hour"),
        (json!({ "key_size": 64 }), "key_size is not valid for algorithm aes256-gcm96"),
        (json!({ "type": "hmac", "key_size": 8 }), "invalid key size 8 for HMAC key, must be between 32 and 512 bytes"),
    ] {
        assert_eq!(refused(&bench, "keys/k", body).await, wanted);
    }
    assert_eq!(bench.call("LIST", "keys", Value::Null).await.status, 404);
}

#[tokio::test]
async fn versions_go_out_of_use_and_then_away() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    let first = encrypt(&bench, "k", "hello").await;
    ok(&bench, "POST", "keys/k/rotate", Value::Null).await;
    let rewrapped = ok(&bench, "POST", "rewrap/k", json!({ "ciphertext": first })).await;
    assert!(text(&rewrapped["ciphertext"]).starts_with("vault:v2:") && rewrapped["key_version"] == 2);
    let old = ok(&bench, "POST", "encrypt/k", json!({ "plaintext": "", "key_version": 1 })).await;
    assert!(text(&old["ciphertext"]).starts_with("vault:v1:"));
    for (version, wanted) in [
        (-1, "requested version for encryption is negative"),
        (3, "requested version for encryption is higher than the latest key version"),
    ] {
        assert_eq!(refused(&bench, "encrypt/k", json!({ "plaintext": "", "key_version": version })).await, wanted);
    }
    for (body, wanted) in [
        (json!({ "min_decryption_version": -1 }), "min decryption version cannot be negative"),
        (json!({ "min_decryption_version": 5 }), "cannot set min decryption version of 5, latest key version is 2"),
        (json!({ "min_encryption_version": 5 }), "cannot set min encryption version of 5, latest key version is 2"),
        (
            json!({ "min_encryption_version": 1, "min_decryption_version": 2 }),
            "cannot set min encryption/decryption values; min encryption version of 1 must be greater than or equal to min decryption version of 2",
        ),
    ] {
        assert_eq!(refused(&bench, "keys/k/config", body).await, wanted);
    }
    let trim = |version: i64| json!({ "min_available_version": version });
    let unset = "minimum available version cannot be set when minimum encryption version is not set";
    assert_eq!(refused(&bench, "keys/k/trim", trim(2)).await, unset);
    ok(&bench, "POST", "keys/k/config", json!({ "min_encryption_version": 2, "min_decryption_version": 2 })).await;
    let too_old = "ciphertext or signature version is disallowed by policy (too old)";
    assert_eq!(refused(&bench, "decrypt/k", json!({ "ciphertext": first })).await, too_old);
    let wanted = "requested version for encryption is less than the minimum encryption key version";
    assert_eq!(refused(&bench, "encrypt/k", json!({ "plaintext": "", "key_version": 1 })).await, wanted);
    assert_eq!(refused(&bench, "keys/k/trim", trim(3)).await, "minimum available version cannot be greater than the latest key version");
    let trimmed = ok(&bench, "POST", "keys/k/trim", trim(2)).await;
    assert_eq!((&trimmed["min_available_version"], trimmed["keys"].as_object().unwrap().len()), (&json!(2), 1));
    assert_eq!(refused(&bench, "keys/k/trim", trim(1)).await, "minimum available version cannot be decremented");
    let below = "min decryption version should not be less than min available version";
    assert_eq!(refused(&bench, "keys/k/config", json!({ "min_decryption_version": 1 })).await, below);
    assert_eq!(ok(&bench, "POST", "decrypt/k", json!({ "ciphertext": rewrapped["ciphertext"] })).await["plaintext"], b64("hello"));
}

#[tokio::test]
async fn a_key_is_only_deleted_when_that_is_allowed() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    let answer = bench.call("DELETE", "keys/k", Value::Null).await;
    assert_eq!((answer.status, message(&answer).as_str()), (400, "error deleting policy k: deletion is not allowed for this key"));
    ok(&bench, "POST", "keys/k/config", json!({ "deletion_allowed": true })).await;
    let ciphertext = encrypt(&bench, "k", "hello").await;
    assert_eq!(bench.call("DELETE", "keys/k", Value::Null).await.status, 204);
    // A new key of the same name is another key, also to the cache.
    key(&bench, "k", json!({})).await;
    assert_eq!(refused(&bench, "decrypt/k", json!({ "ciphertext": ciphertext })).await, "cipher: message authentication failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_version_is_lost_among_32_rotations() {
    let bench = Arc::new(bench());
    key(&bench, "k", json!({})).await;
    let ciphertext = encrypt(&bench, "k", "hello").await;
    let rotations: Vec<_> = (0..32)
        .map(|n| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                ok(&bench, "POST", "keys/k/rotate", Value::Null).await;
                ok(&bench, "POST", "keys/k/config", json!({ "exportable": n % 2 == 0 })).await;
                ok(&bench, "POST", "encrypt/k", json!({ "plaintext": b64("x") })).await["ciphertext"].clone()
            })
        })
        .collect();
    for rotation in rotations {
        ok(&bench, "POST", "decrypt/k", json!({ "ciphertext": rotation.await.unwrap() })).await;
    }
    let shown = ok(&bench, "GET", "keys/k", Value::Null).await;
    assert_eq!((&shown["latest_version"], shown["keys"].as_object().unwrap().len()), (&json!(33), 33));
    assert_eq!(ok(&bench, "POST", "decrypt/k", json!({ "ciphertext": ciphertext })).await["plaintext"], b64("hello"));
}

#[tokio::test]
async fn keys_are_made_by_encrypting_unless_that_is_disabled() {
    let bench = bench();
    encrypt(&bench, "new", "hello").await;
    let derived = json!({ "plaintext": "", "context": b64("c"), "type": "chacha20-poly1305", "convergent_encryption": true });
    ok(&bench, "POST", "encrypt/derived", derived).await;
    let shown = ok(&bench, "GET", "keys/derived", Value::Null).await;
    assert_eq!(
        (&shown["type"], &shown["derived"], &shown["convergent_encryption"]),
        (&json!("chacha20-poly1305"), &json!(true), &json!(true))
    );
    let wanted = "key type rsa-2048 not supported for this operation";
    assert_eq!(refused(&bench, "encrypt/r", json!({ "plaintext": "", "type": "rsa-2048" })).await, wanted);
    ok(&bench, "POST", "config/keys", json!({ "disable_upsert": true })).await;
    assert_eq!(ok(&bench, "GET", "config/keys", Value::Null).await, json!({ "disable_upsert": true }));
    assert_eq!(refused(&bench, "encrypt/other", json!({ "plaintext": "" })).await, "encryption key not found");
    assert_eq!(ok(&bench, "LIST", "keys", Value::Null).await["keys"], json!(["derived", "new"]));
}

#[tokio::test]
async fn keys_rotate_when_their_time_has_come() {
    let bench = bench();
    key(&bench, "hourly", json!({ "auto_rotate_period": "1h" })).await;
    key(&bench, "never", json!({})).await;
    let tick = async || bench.mounted.tick(bench.cx("", Operation::Update)).await.unwrap();
    let latest = async |name: &str| ok(&bench, "GET", &format!("keys/{name}"), Value::Null).await["latest_version"].clone();
    tick().await;
    assert_eq!(latest("hourly").await, 1);
    bench.advance(3_599);
    tick().await;
    assert_eq!(latest("hourly").await, 1);
    bench.advance(1);
    tick().await;
    tick().await;
    assert_eq!((latest("hourly").await, latest("never").await), (json!(2), json!(1)));
}

#[tokio::test]
async fn exports_need_the_keys_consent() {
    let bench = bench();
    for key_type in ["aes256-gcm96", "rsa-2048", "ecdsa-p384", "ed25519", "hmac"] {
        key(&bench, key_type, json!({ "type": key_type })).await;
        let answer = bench.call("GET", &format!("export/hmac-key/{key_type}"), Value::Null).await;
        assert_eq!((answer.status, message(&answer).as_str()), (400, "private key material is not exportable"));
        ok(&bench, "POST", &format!("keys/{key_type}/config"), json!({ "exportable": true })).await;
    }
    let export = async |path: &str| {
        let data = ok(&bench, "GET", &format!("export/{path}"), Value::Null).await;
        text(&data["keys"]["1"])
    };
    assert!(export("encryption-key/rsa-2048").await.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    assert!(export("signing-key/rsa-2048/1").await.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    assert!(export("signing-key/ecdsa-p384/latest").await.starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
    assert_eq!(export("signing-key/ed25519").await.len(), 88);
    assert_eq!(export("public-key/ed25519").await.len(), 44);
    assert_eq!(export("hmac-key/hmac").await.len(), 44);
    for (path, wanted) in [
        ("signing-key/aes256-gcm96", "signing not supported for the key"),
        ("encryption-key/ed25519", "encryption not supported for the key"),
        ("public-key/hmac", "unknown key type hmac for export type public-key"),
        ("hmac-key/hmac/7", "version does not exist or cannot be found"),
        ("poem/hmac", "invalid export type: poem"),
    ] {
        assert_eq!(message(&bench.call("GET", &format!("export/{path}"), Value::Null).await), wanted);
    }
    assert_eq!(bench.call("GET", "export/hmac-key/none", Value::Null).await.status, 404);
    // Consent cannot be taken back.
    assert_eq!(ok(&bench, "POST", "keys/hmac/config", json!({ "exportable": false })).await["exportable"], true);
}

#[tokio::test]
async fn a_backup_restores_the_whole_key() {
    let bench = bench();
    key(&bench, "k", json!({ "exportable": true })).await;
    let answer = bench.call("GET", "backup/k", Value::Null).await;
    assert_eq!(message(&answer), "plaintext backup is disallowed on the policy");
    ok(&bench, "POST", "keys/k/config", json!({ "allow_plaintext_backup": true, "deletion_allowed": true })).await;
    let ciphertext = encrypt(&bench, "k", "hello").await;
    ok(&bench, "POST", "keys/k/rotate", Value::Null).await;
    let backup = ok(&bench, "GET", "backup/k", Value::Null).await["backup"].clone();
    assert_eq!(refused(&bench, "restore", json!({ "backup": backup })).await, "key \"k\" already exists");
    ok(&bench, "DELETE", "keys/k", Value::Null).await;
    ok(&bench, "POST", "restore", json!({ "backup": backup })).await;
    ok(&bench, "POST", "restore/twin", json!({ "backup": backup })).await;
    ok(&bench, "POST", "restore/twin", json!({ "backup": backup, "force": true })).await;
    for name in ["k", "twin"] {
        let opened = ok(&bench, "POST", &format!("decrypt/{name}"), json!({ "ciphertext": ciphertext })).await;
        assert_eq!(opened["plaintext"], b64("hello"));
    }
    let shown = ok(&bench, "GET", "keys/k", Value::Null).await;
    assert_eq!((&shown["latest_version"], &shown["restore_info"]["version"]), (&json!(2), &json!(2)));
    assert_eq!(refused(&bench, "restore", json!({})).await, "'backup' must be supplied");
    for bad in ["%", "e30=", "bm9uc2Vuc2U="] {
        refused(&bench, "restore/x", json!({ "backup": bad })).await;
    }
    assert_eq!(bench.call("LIST", "keys", Value::Null).await.body["data"]["keys"], json!(["k", "twin"]));
}

/// A key that may be backed up, and what its backup holds.
async fn backed_up(bench: &Bench, mut body: Value) -> Value {
    (body["exportable"], body["allow_plaintext_backup"]) = (json!(true), json!(true));
    key(bench, "k", body).await;
    let backup = text(&ok(bench, "GET", "backup/k", Value::Null).await["backup"]);
    serde_json::from_slice(&BASE64.decode(backup.as_bytes()).unwrap()).unwrap()
}

fn restore(backup: &Value) -> Value {
    json!({ "backup": b64(backup.to_string()), "force": true })
}

/// Changes the row of a key behind the engine's back.
pub(super) async fn patch_row(bench: &Bench, name: &str, change: impl FnOnce(&mut Value)) {
    let (store, row) = (bench.cx("", Operation::Update).store, format!("key/{name}"));
    let mut stored: Value = store.get_json(&row).await.unwrap().unwrap();
    change(&mut stored);
    store.commit(Changes::new().put_json(&row, &stored).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_backup_that_does_not_fit_together_is_refused() {
    let bench = bench();
    let good = backed_up(&bench, json!({ "type": "ed25519" })).await;
    for (pointer, value) in [
        ("/daypass_transit", json!(2)),
        ("/name", json!("a/b")),
        ("/key/latest", json!(2)),
        ("/key/latest", json!(u64::MAX)),
        ("/key/min_available", json!(2)),
        ("/key/min_decryption", json!(9)),
        ("/key/min_decryption", json!(0)),
        ("/key/min_encryption", json!(2)),
        ("/key/type", json!("rsa-2048")),
        ("/key/key_size", json!(32)),
        ("/key/convergent", json!(true)),
        ("/key/auto_rotate_period", json!(5)),
        ("/key/backed_up/version", json!(2)),
        ("/key/versions", json!({})),
        ("/key/versions/1/public", json!(b64([7; 32]))),
        ("/key/versions/1/secret", json!(b64([7; 31]))),
        ("/key/versions/1/hmac_key", json!("")),
        ("/key/versions/1/hmac_key", json!(b64([7; 513]))),
        ("/key/versions/1/created", json!("1969-12-31T23:59:59Z")),
        ("/key/versions/1/created", json!("2200-01-01T00:00:00Z")),
        ("/key/versions/1/chain", json!("words")),
    ] {
        let mut bad = good.clone();
        if pointer.ends_with("chain") {
            bad["key"]["versions"]["1"]["chain"] = json!("");
        }
        *bad.pointer_mut(pointer).unwrap() = value;
        let said = refused(&bench, "restore", restore(&bad)).await;
        assert!(said.starts_with("this is no backup") || said.contains("is no name of a key"), "{pointer}: {said}");
    }
    ok(&bench, "POST", "restore", restore(&good)).await;
    // Only the public half: fine, but not to derive from.
    let mut bare = good;
    bare["key"]["versions"]["1"]["secret"] = json!("");
    ok(&bench, "POST", "restore", restore(&bare)).await;
    bare["key"]["derived"] = json!(true);
    refused(&bench, "restore", restore(&bare)).await;
    bare["key"]["derived"] = json!(false);
    let long = json!({ "backup": "A".repeat(1_500_000) });
    assert!(refused(&bench, "restore", long).await.contains("1500000 bytes, over the limit of"));
}

#[tokio::test]
async fn a_backup_has_all_versions_between_its_ends() {
    let bench = bench();
    let mut backup = backed_up(&bench, json!({})).await;
    let version = backup["key"]["versions"]["1"].clone();
    backup["key"]["latest"] = json!(3);
    backup["key"]["versions"] = json!({ "1": version, "3": version });
    assert!(refused(&bench, "restore", restore(&backup)).await.contains("its versions are not all from 1, the oldest available, to 3"));
    backup["key"]["versions"]["2"] = version;
    ok(&bench, "POST", "restore", restore(&backup)).await;
}

/// What the fuzzer demands of any backup that is read, of those that are made here.
#[tokio::test]
async fn a_restored_key_does_what_is_asked_of_it() {
    for key_type in ["aes128-gcm96", "chacha20-poly1305", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "hmac", "rsa-2048"] {
        let bench = bench();
        let backup = backed_up(&bench, json!({ "type": key_type })).await;
        super::super::fuzzing::read_backup(backup.to_string().as_bytes());
        ok(&bench, "POST", "restore", restore(&backup)).await;
    }
}

/// Story: one request stopped the server for good. In the backup of an HMAC key it was written that a new version has 2^62 bytes; nobody looked,
/// and the next rotation asked for that much memory, which ends the process. With a rotation by time it did so at every start.
#[tokio::test]
async fn no_size_from_a_backup_is_asked_of_the_memory() {
    let bench = bench();
    let mut backup = backed_up(&bench, json!({ "type": "hmac", "auto_rotate_period": "1h" })).await;
    for size in [1_u64, 31, 513, 1 << 62, u64::MAX] {
        backup["key"]["key_size"] = json!(size);
        assert!(refused(&bench, "restore", restore(&backup)).await.contains("must be between 32 and 512 bytes"), "{size}");
    }
    for size in [0, 32, 512] {
        backup["key"]["key_size"] = json!(size);
        ok(&bench, "POST", "restore", restore(&backup)).await;
    }
    // A row that was restored before is not rotated, and holds up nothing.
    key(&bench, "z", json!({ "auto_rotate_period": "1h" })).await;
    patch_row(&bench, "k", |row| row["key_size"] = json!(1_u64 << 62)).await;
    bench.advance(7_200);
    bench.mounted.tick(bench.cx("", Operation::Update)).await.unwrap();
    assert!(refused(&bench, "keys/k/rotate", json!({})).await.starts_with("invalid key size 4611686018427387904 for HMAC key"));
    assert_eq!(ok(&bench, "GET", "keys/z", Value::Null).await["latest_version"], 2);
}

/// Story: a restored key could have version 2^64-1 as its latest, and the next one was 0.
#[tokio::test]
async fn versions_have_a_last_number() {
    let bench = bench();
    let mut backup = backed_up(&bench, json!({})).await;
    let version = backup["key"]["versions"]["1"].clone();
    let mut numbered = |number: u64| {
        for field in ["latest", "min_available", "min_decryption"] {
            backup["key"][field] = json!(number);
        }
        backup["key"]["versions"] = json!({ number.to_string(): version });
        restore(&backup)
    };
    let last = u64::from(u32::MAX);
    for number in [u64::MAX, last + 1] {
        assert!(refused(&bench, "restore", numbered(number)).await.contains("which is at most 4294967295"), "{number}");
    }
    ok(&bench, "POST", "restore", numbered(last)).await;
    assert!(encrypt(&bench, "k", "hello").await.starts_with("vault:v4294967295:"));
    let full = "the key has reached version 4294967295, the limit: make a new key";
    assert_eq!(refused(&bench, "keys/k/rotate", json!({})).await, full);
    patch_row(&bench, "k", |row| row["latest"] = json!(u64::MAX)).await;
    assert_eq!(refused(&bench, "keys/k/rotate", json!({})).await, full);
}

#[tokio::test]
async fn the_cache_is_bounded_and_forgets_on_demand() {
    let bench = bench();
    assert_eq!(refused(&bench, "cache-config", json!({ "size": 5 })).await, "size must be 0 or a value greater or equal to 10");
    ok(&bench, "POST", "cache-config", json!({ "size": 10 })).await;
    assert_eq!(ok(&bench, "GET", "cache-config", Value::Null).await, json!({ "size": 10 }));
    let cache = Cache::default();
    let loaded = |row: u8| {
        let key = super::super::key::Key::new(super::super::key_type::KeyType::Hmac);
        Arc::new(super::super::cache::Loaded::new(key, daypass_sdk::Secret::new(vec![row])))
    };
    for n in 0..30_u8 {
        cache.keep(&n.to_string(), &loaded(n), 10);
        // The first is used all the time and stays.
        assert!(cache.fresh("0", &daypass_sdk::Secret::new(vec![0])).is_some());
    }
    assert_eq!(cache.len(), 10);
    assert!(cache.fresh("29", &daypass_sdk::Secret::new(vec![28])).is_none(), "another row is another key");
    bench.mounted.invalidate();
}

/// Story: versions below `min_decryption_version` were taken as `key_version` all the same. A job that pinned one went on encrypting what nobody could
/// decrypt any more, and signing with a key that was retired because it had leaked.
#[tokio::test]
async fn a_retired_version_does_nothing_more() {
    let bench = bench();
    for (name, key_type) in [("aes", "aes256-gcm96"), ("rsa", "rsa-2048"), ("ec", "ecdsa-p256"), ("ed", "ed25519")] {
        key(&bench, name, json!({ "type": key_type, "exportable": true })).await;
        for _ in 0..2 {
            ok(&bench, "POST", &format!("keys/{name}/rotate"), Value::Null).await;
        }
        ok(&bench, "POST", &format!("keys/{name}/config"), json!({ "min_decryption_version": 2 })).await;
    }
    let sealed = encrypt(&bench, "aes", "a").await;
    let none = "no such key version";
    let asked = |version: i64| {
        [
            ("encrypt/aes", json!({ "plaintext": b64("a"), "key_version": version })),
            ("encrypt/rsa", json!({ "plaintext": b64("a"), "key_version": version })),
            ("rewrap/aes", json!({ "ciphertext": sealed, "key_version": version })),
            ("datakey/wrapped/aes", json!({ "key_version": version })),
            ("hmac/aes", json!({ "input": b64("a"), "key_version": version })),
            ("hmac/ec", json!({ "batch_input": [{ "input": b64("a") }], "key_version": version })),
            ("sign/ec", json!({ "input": b64("a"), "key_version": version })),
            ("sign/ed", json!({ "input": b64("a"), "key_version": version })),
            ("sign/rsa", json!({ "input": b64("a"), "key_version": version })),
        ]
    };
    for (path, body) in asked(1) {
        assert_eq!(refused(&bench, path, body).await, none, "{path}");
    }
    for (path, body) in asked(2) {
        ok(&bench, "POST", path, body).await;
    }
    let csr = |version: i64| json!({ "version": version });
    assert_eq!(refused(&bench, "keys/ec/csr", csr(1)).await, format!("could not create the csr: {none}"));
    ok(&bench, "POST", "keys/ec/csr", csr(2)).await;
    let items = json!([{ "plaintext": b64("a"), "key_version": 1 }, { "plaintext": b64("a") }]);
    let answer = bench.call("POST", "encrypt/aes", json!({ "batch_input": items })).await;
    assert_eq!((answer.status, &answer.body["data"]["batch_results"][0]["error"]), (400, &json!(none)));
    assert_eq!(answer.body["data"]["batch_results"][1]["key_version"], 3);
    let exported = ok(&bench, "GET", "export/signing-key/ec", Value::Null).await;
    assert_eq!(exported["keys"].as_object().unwrap().keys().collect::<Vec<_>>(), ["2", "3"]);
    let one = bench.call("GET", "export/signing-key/ec/1", Value::Null).await;
    assert_eq!(message(&one), "version for export is below minimum decryption version");
    // The limit for encryption has words of its own, and comes first.
    ok(&bench, "POST", "keys/aes/config", json!({ "min_encryption_version": 3 })).await;
    let below = "requested version for encryption is less than the minimum encryption key version";
    assert_eq!(refused(&bench, "datakey/wrapped/aes", json!({ "key_version": 1 })).await, below);
    // What is allowed again works again.
    ok(&bench, "POST", "keys/ec/config", json!({ "min_decryption_version": 1 })).await;
    ok(&bench, "POST", "sign/ec", json!({ "input": b64("a"), "key_version": 1 })).await;
}

/// Story: `datakey` took no `key_version`: it warned of a field that it does not know, and encrypted with the latest.
#[tokio::test]
async fn a_data_key_is_encrypted_with_the_version_that_is_named() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    ok(&bench, "POST", "keys/k/rotate", Value::Null).await;
    for (version, wanted) in [(0, 2), (1, 1), (2, 2)] {
        let made = ok(&bench, "POST", "datakey/plaintext/k", json!({ "key_version": version })).await;
        assert_eq!(made["key_version"], wanted);
        let opened = ok(&bench, "POST", "decrypt/k", json!({ "ciphertext": made["ciphertext"] })).await;
        assert_eq!(opened["plaintext"], made["plaintext"]);
    }
    for (version, wanted) in [
        (3, "requested version for encryption is higher than the latest key version"),
        (-1, "requested version for encryption is negative"),
    ] {
        assert_eq!(refused(&bench, "datakey/wrapped/k", json!({ "key_version": version })).await, wanted);
    }
}
