use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::super::pem;
use super::*;

/// A template for a service, with a name in the subject and another among the extensions.
fn template() -> String {
    let mut params = CertificateParams::new(vec!["build.example.com".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "build");
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

#[tokio::test]
async fn a_request_has_the_keys_own_public_half_and_signature() {
    let bench = bench();
    for key_type in ["ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048"] {
        key(&bench, key_type, json!({ "type": key_type })).await;
        for template in [String::new(), template()] {
            let made = ok(&bench, "POST", &format!("keys/{key_type}/csr"), json!({ "csr": template })).await;
            assert_eq!((&made["name"], &made["type"]), (&json!(key_type), &json!(key_type)));
            let der = pem::read("CERTIFICATE REQUEST", &text(&made["csr"])).unwrap();
            let (rest, request) = X509CertificationRequest::from_der(&der).unwrap();
            assert!(rest.is_empty());
            // P-521 is not known to the library that verifies here; its signature is checked with the key itself in other tests.
            if key_type != "ecdsa-p521" {
                request.verify_signature().unwrap_or_else(|error| panic!("{key_type}: {error}"));
            }
            let shown = ok(&bench, "GET", &format!("keys/{key_type}"), Value::Null).await["keys"]["1"]["public_key"].clone();
            let info = &request.certification_request_info;
            match key_type {
                "ed25519" => assert_eq!(shown, b64(&*info.subject_pki.subject_public_key.data)),
                _ => assert_eq!(pem::read("PUBLIC KEY", &text(&shown)).unwrap(), info.subject_pki.raw),
            }
            let (subject, names) = (info.subject.to_string(), request.requested_extensions().is_some());
            assert_eq!((subject.as_str(), names), if template.is_empty() { ("", false) } else { ("CN=build", true) });
        }
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_made_is_refused_in_words() {
    let bench = bench();
    key(&bench, "e", json!({ "type": "ed25519" })).await;
    key(&bench, "d", json!({ "type": "ed25519", "derived": true })).await;
    key(&bench, "aes", json!({})).await;
    let pair = KeyPair::generate().unwrap();
    ok(&bench, "POST", "keys/bare/import", json!({ "type": "ecdsa-p256", "public_key": pair.public_key_pem() })).await;
    for (path, body, wanted) in [
        ("keys/none/csr", json!({}), "key with provided name 'none' not found"),
        ("keys/aes/csr", json!({}), "key type 'aes256-gcm96' does not support signing"),
        ("keys/d/csr", json!({}), "operation not supported on keys with derivation enabled"),
        ("keys/e/csr", json!({ "version": 2 }), "could not create the csr: no such key version"),
        ("keys/e/csr", json!({ "version": -1 }), "could not create the csr: no such key version"),
        ("keys/bare/csr", json!({}), "could not create the csr: private key not imported for key version selected"),
        ("keys/e/csr", json!({ "csr": "junk" }), "could not decode PEM certificate request"),
    ] {
        assert_eq!(refused(&bench, path, body).await, wanted, "{path}");
    }
    let junk = pem::write("CERTIFICATE REQUEST", b"\x30\x03\x02\x01\x00");
    assert!(refused(&bench, "keys/e/csr", json!({ "csr": junk })).await.starts_with("the csr is no certificate request: "));
}

/// A root, and a certificate that it issued for a key.
fn chain(pair: &KeyPair) -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut leaf = CertificateParams::new(vec!["build.example.com".to_owned()]).unwrap();
    leaf.is_ca = IsCa::ExplicitNoCa;
    (leaf.signed_by(pair, &root).unwrap().pem(), root.pem())
}

/// The same PEM as it is shown: without a line end after the last line, and without carriage returns.
fn shown(parts: &[&str]) -> String {
    parts.iter().map(|pem| pem.replace('\r', "").trim().to_owned()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_chain_is_kept_with_its_version_and_shown_with_it() {
    let bench = bench();
    let pair = KeyPair::generate().unwrap();
    ok(&bench, "POST", "keys/k/import", json!({ "type": "ecdsa-p256", "public_key": pair.public_key_pem() })).await;
    let (leaf, root) = chain(&pair);
    let sent = format!("{leaf}{root}");
    let kept = ok(&bench, "POST", "keys/k/set-certificate", json!({ "certificate_chain": sent })).await;
    assert_eq!(kept, json!({ "name": "k", "type": "ecdsa-p256", "certificate-chain": sent }));
    let chain = shown(&[&leaf, &root]);
    assert_eq!(ok(&bench, "GET", "keys/k", Value::Null).await["keys"]["1"]["certificate_chain"], chain);
    for path in ["export/certificate-chain/k", "export/certificate-chain/k/1", "export/certificate-chain/k/latest"] {
        assert_eq!(
            ok(&bench, "GET", path, Value::Null).await,
            json!({ "name": "k", "type": "ecdsa-p256", "keys": { "1": chain } }),
            "{path}"
        );
    }
    // Another version has none, and a chain can be replaced.
    let other = KeyPair::generate().unwrap();
    ok(&bench, "POST", "keys/k/import_version", json!({ "public_key": other.public_key_pem() })).await;
    let answer = bench.call("GET", "export/certificate-chain/k", Value::Null).await;
    assert_eq!((answer.status, message(&answer).as_str()), (400, "selected key version does not have a certificate chain imported"));
    ok(&bench, "POST", "keys/k/set-certificate", json!({ "certificate_chain": leaf, "version": 1 })).await;
    let keys = ok(&bench, "GET", "keys/k", Value::Null).await["keys"].clone();
    assert_eq!((&keys["1"]["certificate_chain"], &keys["2"]["certificate_chain"]), (&json!(shown(&[&leaf])), &json!("")));
}

#[tokio::test]
async fn a_chain_that_is_not_the_keys_is_refused_in_words() {
    let bench = bench();
    let pair = KeyPair::generate().unwrap();
    ok(&bench, "POST", "keys/k/import", json!({ "type": "ecdsa-p256", "public_key": pair.public_key_pem() })).await;
    key(&bench, "aes", json!({})).await;
    key(&bench, "e", json!({ "type": "ed25519" })).await;
    let (leaf, root) = chain(&pair);
    let (other, other_root) = chain(&KeyPair::generate().unwrap());
    let (edwards, _) = chain(&KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let persist = "failed to persist certificate chain: ";
    let mismatch = "could not validate key match between leaf certificate key and key version in transit: ";
    for (path, sent, wanted) in [
        ("keys/none/set-certificate", leaf.clone(), "key with provided name 'none' not found".to_owned()),
        ("keys/aes/set-certificate", leaf.clone(), "key type 'aes256-gcm96' does not support signing".to_owned()),
        ("keys/k/set-certificate", "junk".to_owned(), "could not decode PEM block in certificate chain".to_owned()),
        (
            "keys/k/set-certificate",
            pem::write("PUBLIC KEY", b"x"),
            "provided certificate chain did not contain any valid PEM certificate".to_owned(),
        ),
        (
            "keys/k/set-certificate",
            format!("{root}{leaf}"),
            format!("{persist}certificate in the first position is not a leaf certificate"),
        ),
        (
            "keys/k/set-certificate",
            format!("{leaf}{leaf}"),
            format!("{persist}provided certificate chain contains more than one leaf certificate"),
        ),
        ("keys/k/set-certificate", other, format!("{persist}leaf certificate public key does not match the key version selected")),
        (
            "keys/k/set-certificate",
            edwards,
            format!(
                "{persist}{mismatch}provided leaf certificate public key algorithm 'Ed25519' does not match the transit key type 'ecdsa-p256'"
            ),
        ),
    ] {
        assert_eq!(refused(&bench, path, json!({ "certificate_chain": sent })).await, wanted, "{path}");
    }
    // A root of the same name did not issue it.
    let strange = refused(&bench, "keys/k/set-certificate", json!({ "certificate_chain": format!("{leaf}{other_root}") })).await;
    assert!(strange.contains("certificate 1 of the chain was not issued by the one after it"), "{strange}");
    let version = json!({ "certificate_chain": leaf, "version": 3 });
    assert_eq!(refused(&bench, "keys/k/set-certificate", version).await, format!("{persist}{mismatch}no such key version"));
    let many = json!({ "certificate_chain": leaf.repeat(17) });
    assert!(refused(&bench, "keys/k/set-certificate", many).await.contains("has 17 certificates, over the limit of 16"));
    let none = bench.call("GET", "export/certificate-chain/aes", Value::Null).await;
    assert_eq!(message(&none), "certificate chain not supported for keys that do not support signing");
    assert_eq!(ok(&bench, "GET", "keys/k", Value::Null).await["keys"]["1"]["certificate_chain"], "");
}

/// Story: a chain could still be put to a version that was retired.
#[tokio::test]
async fn a_retired_version_gets_no_certificates() {
    let bench = bench();
    let pair = KeyPair::generate().unwrap();
    ok(&bench, "POST", "keys/k/import", json!({ "type": "ecdsa-p256", "public_key": pair.public_key_pem(), "allow_rotation": true })).await;
    let (leaf, _) = chain(&pair);
    let first = json!({ "version": 1, "certificate_chain": leaf });
    ok(&bench, "POST", "keys/k/set-certificate", first.clone()).await;
    ok(&bench, "POST", "keys/k/rotate", Value::Null).await;
    ok(&bench, "POST", "keys/k/config", json!({ "min_decryption_version": 2 })).await;
    assert!(refused(&bench, "keys/k/set-certificate", first).await.ends_with(": no such key version"));
}
