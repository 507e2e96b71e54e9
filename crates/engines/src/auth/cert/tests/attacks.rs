//! One test for each way in that is known to have been open somewhere.

use rcgen::{CustomExtension, GeneralSubtree, NameConstraints, SanType};

use super::*;

#[tokio::test]
async fn a_certificate_is_good_from_its_first_to_its_last_second() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let early = root.issue_with("early", |params| params.not_before = moment(1));
    let late = root.issue_with("late", |params| params.not_after = moment(-1));
    for made in [&early, &late] {
        House::refuses(
            &house.login(&[made]).await,
            "x509: certificate has expired or is not yet valid: current time 2026-01-02T03:04:05Z is ",
        );
    }
    let good = root.issue_with("good", |params| params.not_after = moment(1));
    assert_eq!(house.login(&[&good]).await.status, 200);
    house.bench.advance(86_400);
    assert_eq!(house.login(&[&good]).await.status, 200);
    house.bench.advance(1);
    House::refuses(&house.login(&[&good]).await, "has expired");
    assert_eq!(house.login(&[&early]).await.status, 200, "and the other has begun");
}

#[tokio::test]
async fn an_authority_on_the_way_is_good_for_as_long_as_it_says() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    for limits in [(moment(-20), moment(-1)), (moment(1), moment(20))] {
        let between = root.below("between", |params| (params.not_before, params.not_after) = limits);
        House::refuses(&house.login(&[&between.issue("runner"), &between.made()]).await, "has expired or is not yet valid");
    }
    let between = root.below("between", |_| {});
    assert_eq!(house.login(&[&between.issue("runner"), &between.made()]).await.status, 200);
    House::refuses(&house.login(&[&between.issue("runner")]).await, UNKNOWN);
}

#[tokio::test]
async fn a_trusted_authority_that_is_out_of_date_vouches_for_nobody() {
    let root = Ca::root_with("root", |params| params.not_after = moment(1));
    let mut house = House::trusting(&root.made()).await;
    let runner = root.issue("runner");
    assert_eq!(house.login(&[&runner]).await.status, 200);
    house.bench.advance(2 * 86_400);
    House::refuses(&house.login(&[&runner]).await, UNKNOWN);
}

#[tokio::test]
async fn an_authority_of_the_same_name_with_another_key_vouches_for_nobody() {
    let (root, other) = (Ca::root("root"), Ca::root("root"));
    let mut house = House::trusting(&root.made()).await;
    House::refuses(&house.login(&[&other.issue("runner")]).await, UNKNOWN);
    House::refuses(&house.login(&[&other.issue("runner"), &other.made()]).await, UNKNOWN);
    // Nor does the true one's certificate, sent along, make it true.
    House::refuses(&house.login(&[&other.issue("runner"), &root.made()]).await, UNKNOWN);
}

#[tokio::test]
async fn a_client_is_no_authority() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let with_key = |change: fn(&mut CertificateParams)| root.below("runner", change);
    for client in [
        with_key(|params| params.is_ca = IsCa::NoCa),
        with_key(|params| params.is_ca = IsCa::ExplicitNoCa),
        // An authority, by its own word, whose key may sign no certificates.
        with_key(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
    ] {
        let answer = house.login(&[&client.issue("admin"), &client.made()]).await;
        House::refuses(&answer, "x509: parent certificate cannot sign this kind of certificate");
    }
    House::refuses(&house.login(&[&with_key(|_| {}).made()]).await, "the certificate of an authority is none of a client");
    // The trusted one is another matter: it is let in as what it is.
    assert_eq!(house.login(&[&root.made()]).await.status, 200);
}

/// Story: a certificate that signed itself, as `openssl req -x509` makes it, says to be an authority's. It could be trusted, and never log in. It is let in to
/// the letter, and nothing that resembles it is.
#[tokio::test]
async fn a_certificate_that_signed_itself_logs_in_also_when_it_says_to_be_an_authority() {
    let key = KeyPair::generate().unwrap();
    let made = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = params("machine");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(vec![42]));
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Made { der: certificate.der().to_vec(), pem: certificate.pem() }
    };
    let machine = made(&|params| params.not_after = moment(1));
    let mut house = House::trusting(&machine).await;
    assert_eq!(house.login(&[&machine]).await.body["auth"]["metadata"]["common_name"], "machine");
    assert_eq!(house.login(&[&machine, &machine]).await.status, 200);
    // Of the same key, name and number; sent along; of another key.
    let twin = made(&|_| {});
    let stranger = Ca::root_with("machine", numbered(42));
    for chain in [vec![&twin], vec![&twin, &machine], vec![&stranger.made()], vec![&stranger.made(), &machine]] {
        let answer = house.login(&chain).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    // Names count, and so does what it says to be for.
    house.trust("ci", &machine, json!({"allowed_common_names": "other"})).await;
    House::refuses(&house.login(&[&machine]).await, UNFIT);
    let server = made(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    house.trust("ci", &server, json!({"allowed_common_names": ""})).await;
    House::refuses(&house.login(&[&server]).await, "x509: certificate specifies an incompatible key usage");
    // Nobody can be asked about it.
    house.trust("ci", &machine, json!({"ocsp_enabled": true, "ocsp_fail_open": true})).await;
    House::refuses(&house.login(&[&machine]).await, "nobody can be asked about the certificate of a trusted authority itself");
    house.trust("ci", &machine, json!({"ocsp_enabled": false})).await;
    assert_eq!(house.login(&[&machine]).await.status, 200);
    house.bench.advance(2 * 86_400);
    House::refuses(&house.login(&[&machine]).await, "has expired");
}

/// Story: as above. Lists name the certificates of authorities too.
#[tokio::test]
async fn an_authority_that_was_revoked_does_not_log_in_itself() {
    let root = Ca::root_with("machine", numbered(42));
    let mut house = House::trusting(&root.made()).await;
    house.list("own", &root.list(&[41], 0)).await;
    assert_eq!(house.login(&[&root.made()]).await.status, 200);
    house.list("own", &root.list(&[42], 0)).await;
    House::refuses(&house.login(&[&root.made()]).await, REVOKED);
}

#[tokio::test]
async fn authorities_keep_to_their_path_length() {
    let none = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = Ca::root_with("root", none);
    let mut house = House::trusting(&root.made()).await;
    let between = root.below("between", |_| {});
    House::refuses(&house.login(&[&between.issue("runner"), &between.made()]).await, "path length");
    assert_eq!(house.login(&[&root.issue("runner")]).await.status, 200);
    let root = Ca::root("other");
    let mut house = House::trusting(&root.made()).await;
    let first = root.below("first", none);
    let second = first.below("second", |_| {});
    House::refuses(&house.login(&[&second.issue("runner"), &second.made(), &first.made()]).await, "path length");
    assert_eq!(house.login(&[&first.issue("runner"), &first.made()]).await.status, 200);
}

#[tokio::test]
async fn authorities_keep_to_their_names() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let builds = root.below("builds", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("builds.acme.example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let named =
        |name: &str| builds.issue_with("runner", |params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())]);
    assert_eq!(house.login(&[&named("a.builds.acme.example"), &builds.made()]).await.status, 200);
    let answer = house.login(&[&named("admin.acme.example"), &builds.made()]).await;
    House::refuses(&answer, "a root or intermediate certificate is not authorized to sign for this name");
}

/// Story: an authority that constrains e-mail addresses let in nobody who had one, and the answer told its owners that their certificates were wrong.
#[tokio::test]
async fn constraints_that_are_not_compared_are_said_to_be_so() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let mut refused_to = async |subtree: GeneralSubtree, names: Vec<SanType>, said: &str| {
        let builds = root.below("builds", |params| {
            params.name_constraints = Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: Vec::new() });
        });
        let made = builds.issue_with("runner", |params| params.subject_alt_names = names);
        House::refuses(&house.login(&[&made, &builds.made()]).await, said);
    };
    let email = || vec![SanType::Rfc822Name("ci@acme.example".try_into().unwrap())];
    refused_to(
        GeneralSubtree::Rfc822Name("acme.example".to_owned()),
        email(),
        "is not authorized to sign for this name, or constrains e-mail addresses and such constraints are not supported by daypass",
    )
    .await;
    let subject = rcgen::DistinguishedName::new();
    refused_to(GeneralSubtree::DirectoryName(subject), email(), "or constrains directory names, which subjects are, and such").await;
    let host = GeneralSubtree::DnsName("builds.acme.example".to_owned());
    let names = vec![SanType::DnsName("admin.acme.example".try_into().unwrap())];
    refused_to(host, names, "is not authorized to sign for this name").await;
}

#[tokio::test]
async fn a_certificate_for_something_else_is_none_for_clients() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let purposed = |purposes: Vec<ExtendedKeyUsagePurpose>| root.issue_with("runner", |params| params.extended_key_usages = purposes);
    for wrong in
        [vec![ExtendedKeyUsagePurpose::ServerAuth], vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::EmailProtection]]
    {
        House::refuses(&house.login(&[&purposed(wrong)]).await, "x509: certificate specifies an incompatible key usage");
    }
    for good in
        [Vec::new(), vec![ExtendedKeyUsagePurpose::Any], vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]]
    {
        assert_eq!(house.login(&[&purposed(good)]).await.status, 200);
    }
    let servers = root.below("servers", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    House::refuses(&house.login(&[&servers.issue("runner"), &servers.made()]).await, "incompatible key usage");
    let server = alone("server", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let answer = house.try_trust("server", &server, json!({})).await;
    House::refuses(&answer, "nonCA certificates should have TLS client authentication set as an extended key usage");
}

#[tokio::test]
async fn a_critical_extension_that_nobody_knows_is_not_passed_over() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let extended = |critical: bool| {
        root.issue_with("runner", move |params| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x0c, 0x01, b'x']);
            extension.set_criticality(critical);
            params.custom_extensions = vec![extension];
        })
    };
    assert_eq!(house.login(&[&extended(false)]).await.status, 200);
    House::refuses(&house.login(&[&extended(true)]).await, "x509: unhandled critical extension (1.2.3.4)");
}

#[tokio::test]
async fn a_trusted_certificate_is_matched_to_the_letter() {
    // Vault compared serial number and authority, later the key too (CVE-2025-6037): whoever could choose those passed for the trusted one.
    let (root, mut house) = (Ca::root("root"), House::new());
    let key = KeyPair::generate().unwrap();
    let trusted = root.issue_for(&key, "runner", numbered(7));
    house.trust("ci", &trusted, json!({})).await;
    assert_eq!(house.login(&[&trusted]).await.status, 200);
    House::refuses(&house.login(&[&root.issue_with("runner", numbered(7))]).await, MISMATCH);
    House::refuses(&house.login(&[&root.issue_for(&key, "admin", numbered(7))]).await, MISMATCH);
    let forged = Ca::root("root").issue_for(&key, "runner", numbered(7));
    House::refuses(&house.login(&[&forged]).await, UNKNOWN);
    House::refuses(&house.login(&[&root.issue_for(&key, "runner", numbered(8))]).await, UNKNOWN);
    House::refuses(&house.login(&[&root.issue("runner"), &trusted]).await, UNKNOWN);
    // An authority is trusted for what it signed, not for what looks like it.
    house.bench.advance(101 * 86_400);
    House::refuses(&house.login(&[&trusted]).await, "has expired");
}

#[tokio::test]
async fn names_hold_neither_control_characters_nor_stars_that_count() {
    let root = Ca::root("root");
    let mut house = House::new();
    house.trust("ci", &root.made(), json!({"allowed_names": "admin*,web.acme.example"})).await;
    for name in ["admin\0.evil.example", "admin\n", "admin\u{7f}"] {
        House::refuses(&house.login(&[&root.issue(name)]).await, "a name has control characters");
    }
    for name in ["*", "w*", "web?acme.example", "ADMIN", "web.acme.example.evil.example", ""] {
        House::refuses(&house.login(&[&root.issue(name)]).await, UNFIT);
    }
    let wild = root.issue_with("*", |params| params.subject_alt_names = vec![SanType::DnsName("*.acme.example".try_into().unwrap())]);
    House::refuses(&house.login(&[&wild]).await, UNFIT);
    assert_eq!(house.login(&[&root.issue("admin\u{e9}")]).await.status, 200);
}

#[tokio::test]
async fn of_several_common_names_the_last_counts_alone() {
    let root = Ca::root("root");
    let mut house = House::new();
    house.trust("ci", &root.made(), json!({"allowed_common_names": "admin"})).await;
    // As Go reads them. The same object id by another variant, because the builder takes each but once.
    let again = || DnType::CustomDnType(vec![2, 5, 4, 3]);
    let last = root.issue_with("runner", |params| params.distinguished_name.push(again(), "admin"));
    assert_eq!(house.login(&[&last]).await.body["auth"]["metadata"]["common_name"], "admin");
    let first = root.issue_with("", |params| {
        params.distinguished_name.push(again(), "admin");
        params.distinguished_name.push(DnType::CommonName, "runner");
    });
    House::refuses(&house.login(&[&first]).await, UNFIT);
    let unit = root.issue_with("runner", |params| params.distinguished_name.push(DnType::OrganizationalUnitName, "admin"));
    House::refuses(&house.login(&[&unit]).await, UNFIT);
}

#[tokio::test]
async fn whoever_has_no_common_name_has_no_name_to_log_in_under() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    House::refuses(&house.login(&[&root.issue("")]).await, "the certificate has no common name");
}

#[tokio::test]
async fn what_is_shown_is_read_to_the_end_or_refused() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    let good = root.issue("runner");
    let longer = Made { der: [good.der.clone(), vec![0]].concat(), pem: String::new() };
    House::refuses(&house.login(&[&longer]).await, "something follows the certificate");
    let shorter = Made { der: good.der[..good.der.len() - 1].to_vec(), pem: String::new() };
    House::refuses(&house.login(&[&shorter]).await, "failed to verify client's certificate");
    let nonsense = Made { der: b"nonsense".to_vec(), pem: String::new() };
    House::refuses(&house.login(&[&nonsense]).await, "it is no X.509 certificate");
    // Beside what is true, nonsense does no harm.
    assert_eq!(house.login(&[&good, &nonsense]).await.status, 200);
    house.bench.client_chain = None;
    House::refuses(&house.bench.call("POST", "login", Value::Null).await, "tls connection required");
    House::refuses(&house.login(&[]).await, "client certificate must be supplied");
}

#[tokio::test]
async fn a_chain_that_goes_in_circles_or_is_too_long_ends() {
    let root = Ca::root("root");
    let mut house = House::trusting(&root.made()).await;
    // Authorities of one name that all could have signed each other.
    let many: Vec<Ca> = (0..8).map(|_| Ca::root("between")).collect();
    let mut chain = vec![many[0].issue("runner")];
    chain.extend(many.iter().map(Ca::made));
    // All ways through eight of them kept webpki busy for ten seconds in a test.
    House::refuses(&house.login(&chain.iter().collect::<Vec<_>>()).await, "more than 3 authorities of one name were sent along");
    chain.truncate(4);
    House::refuses(&house.login(&chain.iter().collect::<Vec<_>>()).await, UNKNOWN);
    let mut deep = vec![root.below("0", |_| {})];
    for depth in 1..8 {
        let next = deep[depth - 1].below(&depth.to_string(), |_| {});
        deep.push(next);
    }
    let mut chain = vec![deep[7].issue("runner")];
    chain.extend(deep.iter().map(Ca::made));
    House::refuses(&house.login(&chain.iter().collect::<Vec<_>>()).await, "failed to verify");
    let certificates = vec![root.made().der; 11];
    assert!(ClientChain::of(certificates.iter().map(Vec::as_slice)).is_err());
}
