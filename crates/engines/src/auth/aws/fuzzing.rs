//! What fuzz targets reach of this method: the readers of what strangers sign. Not part of the API.

use serde_json::Value;

use super::arn::{Pattern, PrincipalArn};
use super::ec2::{Proof, Trusted};
use super::request::{Given, Rules, SignedRequest};

/// Reads a signed request. One that is read goes nowhere but to a host that was signed, and has no header twice.
///
/// # Panics
/// When one that is read could go elsewhere.
pub fn read_request(method: &str, url: &str, body: &str, headers: &str) {
    let encode = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let (url, body) = (encode(url), encode(body));
    for headers in [Value::from(headers), Value::from(encode(headers))] {
        let given = Given { method: Some(method), url: Some(&url), body: Some(&body), headers: Some(&headers) };
        let Ok(read) = SignedRequest::read(given, Rules::default()) else { continue };
        let names: std::collections::BTreeSet<&String> = read.identity.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), read.identity.headers.len(), "no header is there twice");
        assert!(!read.identity.host.is_empty() && !read.identity.region.is_empty(), "a request says where it was signed for");
        assert!(names.iter().all(|name| name.as_str() != "host" && name.as_str() != "transfer-encoding"), "no header changes the way");
        let Ok(other) = SignedRequest::read(given, Rules { server_id: "id", ..Rules::default() }) else { continue };
        assert!(other.identity.headers.iter().any(|(name, _)| name == "x-vault-aws-iam-server-id"), "what must be signed is sent on");
    }
}

/// Reads an ARN. One that is read is named by its canonical form.
///
/// # Panics
/// When it is not, or a pattern leaves its account.
pub fn read_arn(text: &str) {
    if let Ok(arn) = PrincipalArn::parse(text) {
        assert!(arn.is_named_by(&arn.canonical()), "a canonical ARN names its principal");
        assert_eq!(PrincipalArn::parse(&arn.canonical()).map(|again| again.canonical()), Ok(arn.canonical()), "reading is stable");
    }
    if let Some(pattern) = Pattern::of(text).filter(|pattern| pattern.check().is_ok()) {
        assert!(!pattern.fits("arn:aws:iam::000000000000:role/x") || text.contains("000000000000"), "a pattern keeps to its account");
    }
}

/// Reads an instance's document in both forms, from bytes that a stranger sends. Without a key that made a signature there is none.
///
/// # Panics
/// When a document is believed that nobody signed.
pub fn read_document(bytes: &[u8]) {
    let text = data_encoding::BASE64.encode(bytes);
    let proofs = [Proof::of_pkcs7(&text), Proof::of_identity(&text, "AAAA"), Proof::of_pkcs7(&String::from_utf8_lossy(bytes))];
    for proof in proofs.into_iter().flatten() {
        // A key that is none, and those that are built in.
        for trusted in [Trusted::default(), Trusted::of_key(proof.kind(), b"no key".to_vec())] {
            assert!(proof.verified(&trusted).is_err(), "nobody signed it");
        }
    }
}
