use proptest::prelude::*;

use super::*;

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_encrypted_is_decrypted_and_nothing_else(
        plaintext: Vec<u8>,
        context in proptest::collection::vec(any::<u8>(), 1..20),
        associated: Vec<u8>,
        derived: bool,
        which in 0..3_usize,
        flip: proptest::sample::Index,
    ) {
        run(async {
            let bench = bench();
            let key_type = ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"][which];
            key(&bench, "k", json!({ "type": key_type, "derived": derived })).await;
            let body = json!({ "plaintext": b64(&plaintext), "context": b64(&context), "associated_data": b64(&associated) });
            let ciphertext = text(&ok(&bench, "POST", "encrypt/k", body).await["ciphertext"]);
            let ask = |ciphertext: &str| json!({ "ciphertext": ciphertext, "context": b64(&context), "associated_data": b64(&associated) });
            assert_eq!(ok(&bench, "POST", "decrypt/k", ask(&ciphertext)).await["plaintext"], b64(&plaintext));
            let mut bytes = BASE64.decode(ciphertext.strip_prefix("vault:v1:").unwrap().as_bytes()).unwrap();
            let at = flip.index(bytes.len());
            bytes[at] ^= 1;
            let tampered = format!("vault:v1:{}", b64(&bytes));
            assert_eq!(refused(&bench, "decrypt/k", ask(&tampered)).await, "cipher: message authentication failed");
            bytes.truncate(at);
            refused(&bench, "decrypt/k", ask(&format!("vault:v1:{}", b64(&bytes)))).await;
        });
    }

    #[test]
    fn each_version_decrypts_its_own_while_it_may(rotations in 0..6_u64, oldest in 1..7_u64) {
        run(async {
            let bench = bench();
            key(&bench, "k", json!({})).await;
            let mut sealed = vec![encrypt(&bench, "k", "1").await];
            for version in 2..=rotations + 1 {
                ok(&bench, "POST", "keys/k/rotate", Value::Null).await;
                sealed.push(encrypt(&bench, "k", &version.to_string()).await);
            }
            let set = bench.call("POST", "keys/k/config", json!({ "min_decryption_version": oldest })).await;
            assert_eq!(set.status == 200, oldest <= rotations + 1);
            let oldest = if set.status == 200 { oldest } else { 1 };
            for (version, ciphertext) in (1_u64..).zip(&sealed) {
                let answer = bench.call("POST", "decrypt/k", json!({ "ciphertext": ciphertext })).await;
                assert_eq!(answer.status == 200, version >= oldest);
            }
        });
    }
}
