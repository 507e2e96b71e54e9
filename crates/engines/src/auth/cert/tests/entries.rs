//! What entries say, what they match, and what they give.

use rcgen::{CustomExtension, SanType};

use super::*;

/// A certificate with a name of every sort.
fn named(root: &Ca) -> Made {
    root.issue_with("runner-1", |params| {
        params.subject_alt_names = vec![
            SanType::DnsName("one.builds.acme.example".try_into().unwrap()),
            SanType::Rfc822Name("runner@acme.example".try_into().unwrap()),
            SanType::URI("spiffe://acme.example/ci/runner".try_into().unwrap()),
        ];
        params.distinguished_name.push(DnType::OrganizationalUnitName, "builds");
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.custom_extensions = vec![
            CustomExtension::from_oid_content(&[1, 2, 3, 45], vec![0x0c, 0x05, b'c', b'i', b'-', b'e', b'u']),
            CustomExtension::from_oid_content(&[1, 2, 3, 46], vec![0x02, 0x01, 0x2a]),
        ];
        numbered(42)(params);
    })
}

#[tokio::test]
async fn every_constraint_has_to_be_met() {
    let root = Ca::root("root");
    let runner = named(&root);
    for (field, good, bad) in [
        ("allowed_names", "*.builds.acme.example,other", "*.other.example"),
        ("allowed_names", "runner-*", "spiffe://*"),
        ("allowed_names", "runner@acme.example", "builds"),
        ("allowed_common_names", "runner-?,runner-1", "one.builds.acme.example"),
        ("allowed_dns_sans", "one.*", "runner-1"),
        ("allowed_email_sans", "*@acme.example", "*@evil.example"),
        ("allowed_uri_sans", "spiffe://acme.example/ci/*", "spiffe://acme.example/prod/*"),
        ("allowed_organizational_units", "b*", "Acme"),
        ("allowed_organizations", "Acme", "builds"),
        ("required_extensions", "1.2.3.45:ci-*", "1.2.3.45:prod-*"),
        ("required_extensions", "1.2.3.45:*,hex:1.2.3.46:02012a", "1.2.3.45:*,1.2.3.46:42"),
        ("required_extensions", "hex:1.2.3.45:0c05*", "1.2.3.47:*"),
    ] {
        let mut house = House::new();
        house.trust("ci", &root.made(), json!({ field: good })).await;
        assert_eq!(house.login(&[&runner]).await.status, 200, "{field}={good}");
        house.trust("ci", &root.made(), json!({ field: bad })).await;
        House::refuses(&house.login(&[&runner]).await, UNFIT);
        let mut house = House::new();
        house.trust("ci", &runner, json!({ field: bad })).await;
        House::refuses(&house.login(&[&runner]).await, UNFIT);
    }
}

#[tokio::test]
async fn a_login_proves_who_the_certificate_says() {
    let root = Ca::root("root");
    let mut house = House::new();
    let more = json!({"allowed_metadata_extensions": "1.2.3.45,1.2.3.46,1.2.3.99", "token_ttl": "1h", "display_name": "shown"});
    house.trust("CI", &root.made(), more).await;
    let answer = house.login(&[&named(&root)]).await;
    let auth = &answer.body["auth"];
    let metadata = &auth["metadata"];
    for (name, value) in
        [("cert_name", "ci"), ("common_name", "runner-1"), ("serial_number", "42"), ("1-2-3-45", "ci-eu"), ("1-2-3-46", "")]
    {
        assert_eq!(metadata[name], value, "{auth}");
    }
    assert_eq!((metadata["authority_key_id"].as_str().unwrap().len(), metadata.get("1-2-3-99")), (59, None), "{auth}");
    assert_eq!((&auth["lease_duration"], &auth["token_policies"]), (&json!(3600), &json!(["ci", "default"])));
}

#[tokio::test]
async fn a_name_narrows_the_login_to_its_entry() {
    let (one, two) = (Ca::root("one"), Ca::root("two"));
    let mut house = House::new();
    house.trust("one", &one.made(), json!({})).await;
    house.trust("two", &two.made(), json!({})).await;
    let runner = two.issue("runner");
    assert_eq!(house.login(&[&runner]).await.body["auth"]["metadata"]["cert_name"], "two");
    assert_eq!(house.login_by("TWO", &[&runner]).await.status, 200);
    House::refuses(&house.login_by("one", &[&runner]).await, UNKNOWN);
    House::refuses(&house.login_by("three", &[&runner]).await, UNKNOWN);
}

#[tokio::test]
async fn one_entry_may_trust_several_authorities_but_no_leaf_among_them() {
    let (one, two) = (Ca::root("one"), Ca::root("two"));
    let both = Made { der: Vec::new(), pem: one.made().pem + &two.made().pem };
    let mut house = House::trusting(&both).await;
    for root in [&one, &two] {
        assert_eq!(house.login(&[&root.issue("runner")]).await.status, 200);
    }
    let mixed = Made { der: Vec::new(), pem: one.made().pem + &two.issue("runner").pem };
    House::refuses(&house.try_trust("mixed", &mixed, json!({})).await, "an authority first and then one that is none");
    // The other way round is a leaf with its chain: the authority in it is trusted for nothing.
    let runner = two.issue("runner");
    let chain = Made { der: Vec::new(), pem: runner.pem.clone() + &two.made().pem };
    let mut house = House::trusting(&chain).await;
    assert_eq!(house.login(&[&runner]).await.status, 200);
    House::refuses(&house.login(&[&two.issue("other")]).await, UNKNOWN);
}

#[tokio::test]
async fn from_outside_the_bound_networks_nobody_logs_in() {
    let root = Ca::root("root");
    let mut house = House::new();
    house.trust("ci", &root.made(), json!({"bound_cidrs": "10.0.0.0/8"})).await;
    assert_eq!(house.login(&[&root.issue("runner")]).await.status, 403);
    house.bench.remote = Some(std::net::IpAddr::from([10, 1, 2, 3]));
    assert_eq!(house.login(&[&root.issue("runner")]).await.status, 200);
}

#[tokio::test]
async fn an_entry_is_read_as_it_was_written() {
    let (root, house) = (Ca::root("root"), House::new());
    let more = json!({
        "policies": "a,b", "token_policies": null, "lease": 60, "allowed_names": "x", "ocsp_enabled": true, "ocsp_fail_open": true,
        "ocsp_servers_override": "http://ocsp.acme.example", "ocsp_this_update_max_age": "1h",
    });
    house.trust("Ci", &root.made(), more).await;
    let read = house.bench.call("GET", "certs/cI", Value::Null).await.body;
    let data = &read["data"];
    for (name, value) in [
        ("display_name", json!("ci")),
        ("policies", json!(["a", "b"])),
        ("token_policies", json!(["a", "b"])),
        ("ttl", json!(60)),
        ("token_ttl", json!(60)),
        ("allowed_names", json!(["x"])),
        ("ocsp_ca_certificates", json!("")),
        ("ocsp_enabled", json!(true)),
        ("ocsp_fail_open", json!(true)),
        ("ocsp_query_all_servers", json!(false)),
        ("ocsp_servers_override", json!(["http://ocsp.acme.example"])),
        ("ocsp_this_update_max_age", json!(3600)),
        ("ocsp_max_retries", json!(4)),
        ("certificate", json!(root.made().pem)),
    ] {
        assert_eq!(data[name], value, "{name} of {data}");
    }
    assert_eq!(house.bench.call("LIST", "certs", Value::Null).await.body["data"]["keys"], json!(["ci"]));
    assert_eq!(house.bench.call("POST", "certs/ci", json!({"allowed_names": "y"})).await.status, 204, "what is absent stays");
    let long =
        house.try_trust("ci", &root.made(), json!({"token_ttl": "999999h", "token_max_ttl": "999999h", "token_period": "999999h"})).await;
    assert_eq!(long.body["warnings"].as_array().unwrap().len(), 3, "{long:?}");
    assert_eq!(house.bench.call("DELETE", "certs/ci", Value::Null).await.status, 204);
    assert_eq!(house.bench.call("GET", "certs/ci", Value::Null).await.status, 404);
}

#[tokio::test]
async fn what_cannot_hold_is_refused() {
    let (root, house) = (Ca::root("root"), House::new());
    for (more, text) in [
        (json!({"certificate": ""}), "failed to parse certificate"),
        (json!({"certificate": "nonsense"}), "failed to parse certificate"),
        (json!({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}), "failed to parse certificate"),
        (json!({"certificate": "x".repeat(300 * 1024)}), "at most 262144 are allowed"),
        (json!({"ocsp_max_retries": 11}), "ocsp_max_retries is 11, over the limit of 10"),
        (json!({"ocsp_servers_override": "ftp://a.example"}), "ocsp_servers_override: the URL \"ftp://a.example\" cannot be used"),
        (json!({"ocsp_servers_override": vec!["http://a.example"; 9]}), "ocsp_servers_override has 9 servers; at most 8 are allowed"),
        (json!({"ocsp_ca_certificates": "nonsense"}), "failed to parse ocsp_ca_certificates: there is no certificate in it"),
        (
            json!({"ocsp_ca_certificates": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}),
            "failed to parse ocsp_ca_certificates",
        ),
        (json!({"ocsp_max_retries": -1}), "ocsp_max_retries can not be a negative number"),
        (json!({"ocsp_ca_certificates": "-----BEGIN CERTIFICATE-----\n!"}), "failed to parse ocsp_ca_certificates"),
        (json!({"required_extensions": "1.2.3"}), "required_extensions: \"1.2.3\" is not of the form"),
        (json!({"required_extensions": "hex:1.2.3"}), "is not of the form"),
        (json!({"allowed_metadata_extensions": "name"}), "is no object id"),
        (json!({"display_name": "a\nb"}), "display_name"),
        (json!({"token_type": "batch", "token_period": "1h"}), "'token_type' cannot be"),
        (json!({"token_ttl": "2h", "token_max_ttl": "1h"}), "cannot be greater than"),
    ] {
        House::refuses(&house.try_trust("ci", &root.made(), more).await, text);
    }
    let silent = Ca::root_with("root", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    House::refuses(&house.try_trust("ci", &silent.made(), json!({})).await, "does not let it sign certificates");
    assert_eq!(house.bench.call("GET", "certs/ci", Value::Null).await.status, 404);
}

#[tokio::test]
async fn the_configuration_is_kept_and_checked() {
    let house = House::new();
    let data = json!({
        "disable_binding": false, "enable_identity_alias_metadata": false, "enable_metadata_on_failures": false, "ocsp_cache_size": 100,
        "role_cache_size": 200,
    });
    assert_eq!(house.bench.call("GET", "config", Value::Null).await.body["data"], data);
    assert_eq!(house.bench.call("POST", "config", json!({"disable_binding": true, "role_cache_size": -1})).await.status, 204);
    let read = house.bench.call("GET", "config", Value::Null).await.body;
    assert_eq!((&read["data"]["disable_binding"], &read["data"]["role_cache_size"]), (&json!(true), &json!(-1)));
    for (body, text) in [
        (json!({"ocsp_cache_size": 1}), "invalid cache size, must be >= 2 and <= 10000"),
        (json!({"role_cache_size": 10_001}), "invalid role cache size"),
        (json!({"enable_metadata_on_failures": true}), "is not supported"),
    ] {
        House::refuses(&house.bench.call("POST", "config", body).await, text);
    }
}
