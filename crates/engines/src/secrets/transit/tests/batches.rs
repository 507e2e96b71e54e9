use super::*;

#[tokio::test]
async fn items_of_a_batch_fail_alone() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    let batch = json!([{ "plaintext": b64("a"), "reference": "r1" }, { "plaintext": "%%" }]);
    let answer = bench.call("POST", "encrypt/k", json!({ "batch_input": batch })).await;
    assert_eq!((answer.status, &answer.body["mount_type"]), (400, &json!("")));
    let results = &answer.body["data"]["batch_results"];
    assert_eq!((&results[0]["reference"], &results[0]["key_version"]), (&json!("r1"), &json!(1)));
    assert_eq!(results[1], json!({ "error": "illegal base64 data at input byte 0", "reference": "" }));

    let batch = json!([{ "ciphertext": results[0]["ciphertext"], "reference": "x" }, { "ciphertext": "junk" }]);
    for (code, status) in [(Value::Null, 400), (json!(207), 207), (json!("299"), 299), (json!(7000), 400)] {
        let body = json!({ "batch_input": batch, "partial_failure_response_code": code });
        let answer = bench.call("POST", "decrypt/k", body).await;
        assert_eq!(answer.status, status);
        let wanted = json!([
            { "plaintext": b64("a"), "reference": "x" },
            { "error": "invalid ciphertext: no prefix", "plaintext": "", "reference": "" },
        ]);
        assert_eq!(answer.body["data"]["batch_results"], wanted);
    }
    // The code is for batches of which some items worked.
    let all = json!({ "batch_input": [{ "ciphertext": "junk" }], "partial_failure_response_code": 207 });
    assert_eq!(bench.call("POST", "decrypt/k", all).await.status, 400);
    let fine = json!({ "batch_input": [{ "ciphertext": results[0]["ciphertext"] }] });
    assert_eq!(ok(&bench, "POST", "rewrap/k", fine).await["batch_results"][0]["key_version"], 1);
}

/// Story: a nightly job wrapped a table again in batches; one row that was damaged made its batch answer 400, and an item without a ciphertext the
/// whole batch fail, where Vault answers 200 and says of each item what became of it. Clients give up at 400.
#[tokio::test]
async fn an_item_that_cannot_be_wrapped_again_spoils_no_batch() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    let good = encrypt(&bench, "k", "a").await;
    ok(&bench, "POST", "keys/k/rotate", Value::Null).await;
    let batch = json!([
        { "ciphertext": good, "reference": "good" },
        { "ciphertext": "junk" },
        { "reference": "none" },
        { "ciphertext": "" },
        { "ciphertext": null },
        { "ciphertext": good, "key_version": 9 },
    ]);
    let results = ok(&bench, "POST", "rewrap/k", json!({ "batch_input": batch })).await["batch_results"].clone();
    assert_eq!((&results[0]["reference"], &results[0]["key_version"]), (&json!("good"), &json!(2)));
    let failed = |error: &str, reference: &str| json!({ "error": error, "reference": reference });
    let missing = "missing ciphertext to decrypt";
    assert_eq!(results[1], failed("invalid ciphertext: no prefix", ""));
    assert_eq!(results[2], failed(missing, "none"));
    assert_eq!((&results[3], &results[4]), (&failed(missing, ""), &failed(missing, "")));
    assert_eq!(results[5], failed("requested version for encryption is higher than the latest key version", ""));
    let all = ok(&bench, "POST", "rewrap/k", json!({ "batch_input": [{ "ciphertext": "junk" }] })).await;
    assert_eq!(all["batch_results"][0], failed("invalid ciphertext: no prefix", ""));
    // One that comes alone still fails alone, and decryption has its own status.
    assert_eq!(refused(&bench, "rewrap/k", json!({ "ciphertext": "junk" })).await, "invalid ciphertext: no prefix");
    assert_eq!(refused(&bench, "rewrap/k", json!({})).await, missing);
    let answer = bench.call("POST", "decrypt/k", json!({ "batch_input": [{ "ciphertext": "" }] })).await;
    assert_eq!((answer.status, &answer.body["data"]["batch_results"][0]["error"]), (400, &json!(missing)));
}

#[tokio::test]
async fn batches_that_are_none_are_refused() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    let context = "context should be set either in all the request blocks or in none";
    for (batch, wanted) in [
        (json!([]), "missing batch input to process"),
        (json!("text"), "failed to parse batch input: it must be a list of objects"),
        (json!([1]), "failed to parse batch input: '[0]' is no object"),
        (json!([{}]), "failed to parse batch input: '[0].plaintext' missing plaintext to encrypt"),
        (json!([{ "plaintext": "", "context": "YQ==" }, { "plaintext": "" }]), context),
        (json!([{ "plaintext": "" }, { "plaintext": "", "context": "YQ==" }]), context),
    ] {
        assert_eq!(refused(&bench, "encrypt/k", json!({ "batch_input": batch })).await, wanted);
    }
    let many: Vec<Value> = (0..2_001).map(|_| json!({ "plaintext": "" })).collect();
    let wanted = "batch_input has 2001 items; at most 2000 are processed at once: send them in parts";
    assert_eq!(refused(&bench, "encrypt/k", json!({ "batch_input": many })).await, wanted);
    assert_eq!(refused(&bench, "encrypt/k", json!({})).await, "missing plaintext to encrypt");
    assert_eq!(refused(&bench, "decrypt/k", json!({})).await, "missing ciphertext to decrypt");
    assert_eq!(refused(&bench, "decrypt/none", json!({ "ciphertext": "vault:v1:" })).await, "encryption key not found");
}

#[tokio::test]
async fn a_large_batch_keeps_its_order() {
    let bench = bench();
    key(&bench, "k", json!({})).await;
    let batch: Vec<Value> = (0..500).map(|n| json!({ "plaintext": b64(n.to_string()), "reference": n })).collect();
    let sealed = ok(&bench, "POST", "encrypt/k", json!({ "batch_input": batch })).await;
    let opened = ok(&bench, "POST", "decrypt/k", json!({ "batch_input": sealed["batch_results"] })).await;
    for (n, item) in opened["batch_results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(*item, json!({ "plaintext": b64(n.to_string()), "reference": n.to_string() }));
    }
}

#[tokio::test]
async fn signatures_and_hmacs_come_in_batches_too() {
    let bench = bench();
    key(&bench, "s", json!({ "type": "ed25519" })).await;
    let batch = json!([{ "input": b64("a"), "reference": "1" }, { "input": "%" }]);
    let signed = ok(&bench, "POST", "sign/s", json!({ "batch_input": batch })).await["batch_results"].clone();
    assert_eq!(signed[1], json!({ "error": "unable to decode input as base64: illegal base64 data at input byte 0", "reference": "" }));
    let macs = ok(&bench, "POST", "hmac/s", json!({ "batch_input": batch })).await["batch_results"].clone();
    let checks =
        json!([{ "input": b64("a"), "signature": signed[0]["signature"] }, { "input": b64("b"), "signature": signed[0]["signature"] }]);
    let verified = ok(&bench, "POST", "verify/s", json!({ "batch_input": checks })).await;
    assert_eq!(verified["batch_results"], json!([{ "valid": true, "reference": "" }, { "valid": false, "reference": "" }]));
    let checks = json!([{ "input": b64("a"), "hmac": macs[0]["hmac"] }]);
    assert_eq!(ok(&bench, "POST", "verify/s", json!({ "batch_input": checks })).await["batch_results"][0]["valid"], true);
    let mixed = json!([{ "input": b64("a"), "hmac": macs[0]["hmac"] }, { "input": b64("a"), "signature": signed[0]["signature"] }]);
    assert_eq!(refused(&bench, "verify/s", json!({ "batch_input": mixed })).await, "provide one of 'signature', 'hmac' or 'cmac'");
}
