//! Documents of instances, and what must not pass for one.

use super::super::cms::tests::{Key, message};
use super::*;

const TEXT: &str = r#"{
  "accountId" : "111111111111", "architecture" : "x86_64", "availabilityZone" : "eu-west-1a", "billingProducts" : null,
  "imageId" : "ami-0123456789abcdef0", "instanceId" : "i-0123456789abcdef0", "pendingTime" : "2026-01-01T00:00:00Z",
  "privateIp" : "10.0.0.1", "region" : "eu-west-1", "version" : "2017-09-30"
}"#;

fn identity(key: &Key, text: &str) -> Proof {
    Proof::of_identity(&BASE64.encode(text.as_bytes()), &BASE64.encode(&key.signs(text.as_bytes()))).unwrap()
}

fn pkcs7(key: &Key, text: &str) -> Proof {
    Proof::of_pkcs7(&BASE64.encode(&message(key, text.as_bytes()))).unwrap()
}

#[test]
fn a_document_is_read_once_its_signature_is_verified() {
    let (key, other) = (Key::new(), Key::new());
    for proof in [identity(&key, TEXT), pkcs7(&key, TEXT)] {
        let read = proof.verified(&Trusted::of_key(proof.kind(), key.public())).unwrap();
        assert_eq!((read.account.as_str(), read.region.as_str()), ("111111111111", "eu-west-1"));
        assert_eq!((read.instance.as_str(), read.pending.seconds()), ("i-0123456789abcdef0", 1_767_225_600));
        let error = proof.verified(&Trusted::of_key(proof.kind(), other.public())).unwrap_err();
        assert_eq!(error, "no certificate that is known for the region \"eu-west-1\" made its signature");
    }
    let error = pkcs7(&key, &TEXT.replace("eu-west-1\"", "mars-1\"")).verified(&Trusted::default()).unwrap_err();
    assert!(
        error.starts_with("no certificate for the region \"mars-1\" is known: write AWS's to config/certificate/<name> with type=pkcs7"),
        "{error}"
    );
}

#[test]
fn a_key_counts_for_its_own_kind_of_proof() {
    let key = Key::new();
    let error = pkcs7(&key, TEXT).verified(&Trusted::of_key(Kind::Identity, key.public())).unwrap_err();
    assert_eq!(error, "no certificate that is known for the region \"eu-west-1\" made its signature");
}

#[test]
fn a_signature_over_another_document_is_refused() {
    let key = Key::new();
    let other = TEXT.replace("111111111111", "222222222222");
    let proof = Proof::of_identity(&BASE64.encode(other.as_bytes()), &BASE64.encode(&key.signs(TEXT.as_bytes()))).unwrap();
    assert!(proof.verified(&Trusted::of_key(Kind::Identity, key.public())).is_err());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_also_when_it_is_signed() {
    let key = Key::new();
    let (account, id) = ("\"accountId\" : \"111111111111\"", "i-0123456789abcdef0");
    for (text, why) in [
        (TEXT.replace(account, &format!("{account}, \"accountId\" : \"222222222222\"")), "a name stands twice"),
        (TEXT.replace(account, &format!("{account}, \"\\u0061ccountId\" : \"222222222222\"")), "a name stands twice"),
        (TEXT.replace(account, "\"accountId\" : 111111111111"), "has no accountId"),
        (TEXT.replace("111111111111", "1111"), "twelve digits"),
        (TEXT.replace(id, "i-../../etc"), "instanceId or imageId"),
        (TEXT.replace(id, ""), "instanceId or imageId"),
        (TEXT.replace("\"eu-west-1\"", "\"evil.example/x\""), "region of the document is none"),
        (TEXT.replace("2026-01-01T00:00:00Z", "soon"), "is no time"),
        (format!("{TEXT} {{}}"), "no JSON"),
        ("1".to_owned(), "no JSON object"),
    ] {
        for proof in [identity(&key, &text), pkcs7(&key, &text)] {
            let error = proof.verified(&Trusted::of_key(proof.kind(), key.public())).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}

#[test]
fn fields_are_base64_without_armour_and_within_their_limit() {
    let wrapped = BASE64.encode(TEXT.as_bytes()).replace("IC", "\nIC\r\n");
    assert!(Proof::of_pkcs7(&wrapped).is_ok());
    for (text, why) in [
        ("-----BEGIN PKCS7-----\nMIIB\n-----END PKCS7-----", "without them"),
        ("MI B", "no base64"),
        ("\n", "empty"),
        (&"A".repeat(70_000), "at most 65536"),
    ] {
        let error = Proof::of_pkcs7(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(Proof::of_identity("%", "AAAA").unwrap_err(), "failed to base64 decode the instance identity document");
    let error = Proof::of_identity("AAAA", "%").unwrap_err();
    assert_eq!(error, "failed to base64 decode the SHA256 RSA signature of the instance identity document");
}
