//! Revocation lists: who signed them, until when, what they name, and how they are fetched.

use super::*;

const URL: &str = "https://pki.acme.example/crl";

async fn tick(house: &House) {
    let cx = house.bench.cx("", daypass_sdk::Operation::Read);
    house.bench.mounted.tick(cx).await.unwrap();
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_others_of_its_issuer_are_not() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let (bad, good) = (root.issue_with("bad", numbered(7)), root.issue_with("good", numbered(8)));
    assert_eq!(house.login(&[&bad]).await.status, 200);
    house.list("acme", &root.list(&[7], 0)).await;
    House::refuses(&house.login(&[&bad]).await, REVOKED);
    assert_eq!(house.login(&[&good]).await.status, 200);
    let read = house.bench.call("GET", "crls/ACME", Value::Null).await;
    assert_eq!(read.body["data"], json!({"cdp": null, "serials": {"7": {}}}));
    assert_eq!(house.bench.call("DELETE", "crls/acme", Value::Null).await.status, 204);
    assert_eq!(house.login(&[&bad]).await.status, 200);
}

#[tokio::test]
async fn a_revoked_authority_vouches_for_nobody_wherever_it_stands() {
    let root = Ca::root("root");
    let between = root.below("between", numbered(9));
    let runner = between.issue("runner");
    for trusted in [root.made(), between.made()] {
        let mut house = House::trusting(&trusted).await;
        assert_eq!(house.login(&[&runner, &between.made()]).await.status, 200);
        house.list("root", &root.list(&[9], 0)).await;
        House::refuses(&house.login(&[&runner, &between.made()]).await, REVOKED);
    }
}

#[tokio::test]
async fn a_certificate_that_is_trusted_by_itself_can_be_revoked() {
    let root = Ca::root("root");
    let runner = root.issue_with("runner", numbered(7));
    let mut house = House::trusting(&runner).await;
    assert_eq!(house.login(&[&runner]).await.status, 200);
    house.list("root", &root.list(&[7], 0)).await;
    House::refuses(&house.login(&[&runner]).await, REVOKED);
}

#[tokio::test]
async fn a_list_that_another_signed_lets_nobody_of_that_issuer_in() {
    let (root, other) = (Ca::root("root"), Ca::root("root"));
    let mut house = House::trusting(&root.made()).await;
    let runner = root.issue_with("runner", numbered(7));
    // Were it passed over, whoever can replace a list could undo a revocation.
    house.list("root", &other.list(&[], 0)).await;
    House::refuses(&house.login(&[&runner]).await, "not signed by its issuer");
    house.list("root", &root.list(&[], 0)).await;
    assert_eq!(house.login(&[&runner]).await.status, 200);
    house.list("elsewhere", &Ca::root("elsewhere").list(&[7], 0)).await;
    assert_eq!(house.login(&[&runner]).await.status, 200, "a number of another issuer means another certificate");
}

#[tokio::test]
async fn each_of_several_lists_of_one_issuer_counts() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    house.list("a", &root.list(&[1], 0)).await;
    house.list("b", &root.list(&[2], 0)).await;
    for serial in [1, 2] {
        House::refuses(&house.login(&[&root.issue_with("runner", numbered(serial))]).await, REVOKED);
    }
    house.list("c", &root.list(&[], -20)).await;
    House::refuses(&house.login(&[&root.issue_with("runner", numbered(3))]).await, "out of date");
}

#[tokio::test]
async fn a_list_that_is_out_of_date_lets_nobody_of_that_issuer_in() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    house.list("root", &root.list(&[7], 0)).await;
    let (bad, good) = (root.issue_with("bad", numbered(7)), root.issue_with("good", numbered(8)));
    house.bench.advance(10 * 86_400);
    House::refuses(&house.login(&[&good]).await, "the revocation list of its issuer is out of date");
    House::refuses(&house.login(&[&bad]).await, REVOKED);
}

#[tokio::test]
async fn an_authority_whose_key_may_sign_no_lists_has_none() {
    let root = Ca::root_with("root", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let mut house = House::trusting(&root.made()).await;
    // rcgen makes no such list either: this one is of an authority with the same name.
    house.list("root", &Ca::root("root").list(&[], 0)).await;
    House::refuses(&house.login(&[&root.issue("runner")]).await, "does not let it sign its revocation list");
}

#[tokio::test]
async fn a_list_is_fetched_when_it_is_named_and_again_by_the_regular_work() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let runner = root.issue_with("runner", numbered(7));
    let named = json!({"url": URL});
    House::refuses(&house.bench.call("POST", "crls/acme", named.clone()).await, "error fetching CRL: pki.acme.example cannot be reached");
    house.idp.answers_raw(URL, 200, "application/pkix-crl", &root.list(&[], 0));
    assert_eq!(house.bench.call("POST", "crls/acme", named).await.status, 204);
    let read = house.bench.call("GET", "crls/acme", Value::Null).await;
    assert_eq!(read.body["data"], json!({"cdp": {"url": URL, "valid_until": "2026-01-12T03:04:05Z"}, "serials": {}}));
    assert_eq!(house.login(&[&runner]).await.status, 200);
    house.idp.answers_raw(URL, 200, "application/pkix-crl", &root.list(&[7], 1));
    house.idp.asked();
    tick(&house).await;
    assert!(house.idp.asked().is_empty(), "it was fetched a moment ago");
    house.bench.advance(3_600);
    tick(&house).await;
    assert_eq!(house.idp.asked().len(), 1);
    House::refuses(&house.login(&[&runner]).await, REVOKED);
}

#[tokio::test]
async fn a_fetched_list_is_not_replaced_by_an_older_one_or_anothers() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let runner = root.issue_with("runner", numbered(7));
    house.idp.answers_raw(URL, 200, "application/pkix-crl", &root.list(&[7], 0));
    assert_eq!(house.bench.call("POST", "crls/acme", json!({"url": URL})).await.status, 204);
    for (status, body) in
        [(200, root.list(&[], -1)), (200, Ca::root("other").list(&[], 1)), (404, String::new()), (200, "nonsense".to_owned())]
    {
        house.idp.answers_raw(URL, status, "application/pkix-crl", &body);
        house.bench.advance(3_600);
        tick(&house).await;
        House::refuses(&house.login(&[&runner]).await, REVOKED);
    }
}

#[tokio::test]
async fn what_is_no_list_is_refused() {
    let (root, house) = (Ca::root("root"), House::new());
    for (body, text) in [
        (json!({}), "one of 'crl' or 'url' must be provided"),
        (json!({"url": ""}), "empty CRL url"),
        (json!({"url": "http://pki.acme.example/crl"}), "invalid CRL url: "),
        (json!({"url": "file:///etc/passwd"}), "invalid CRL url: "),
        (json!({"url": URL, "crl": root.list(&[], 0)}), "only one of"),
        (json!({"crl": "nonsense!"}), "failed to parse CRL: "),
        (json!({"crl": root.made().pem}), "failed to parse CRL: "),
        (json!({"crl": data_encoding::BASE64.encode(&vec![0x30; 600 * 1024])}), "at most 524288 are allowed"),
    ] {
        House::refuses(&house.bench.call("POST", "crls/acme", body).await, text);
    }
    House::refuses(&house.bench.call("GET", "crls/acme", Value::Null).await, "no such CRL acme");
    House::refuses(&house.bench.call("DELETE", "crls/acme", Value::Null).await, "no such CRL acme");
}
