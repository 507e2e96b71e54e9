//! `config`: one way to the keys, and no contradictions.

use daypass_idp::Signer;
use serde_json::{Value, json};

use super::{ISSUER, Issuer, KEYS, refusal};

#[tokio::test]
async fn contradictions_are_refused_in_vaults_words() {
    let issuer = Issuer::with_keys("ES256").await;
    let one = "exactly one of 'jwt_validation_pubkeys', 'jwks_url', 'jwks_pairs' or 'oidc_discovery_url' must be set";
    let pair = json!({"jwks_url": KEYS});
    for (config, text) in [
        (json!({}), one),
        (json!({"bound_issuer": ISSUER}), one),
        (json!({"jwks_url": KEYS, "oidc_discovery_url": ISSUER}), one),
        (json!({"jwks_url": KEYS, "jwt_validation_pubkeys": "x"}), one),
        (json!({"jwks_url": KEYS, "jwks_pairs": [pair.clone()]}), one),
        (
            json!({"oidc_discovery_url": ISSUER, "oidc_client_id": "us"}),
            "both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC",
        ),
        (
            json!({"oidc_discovery_url": ISSUER, "oidc_client_secret": "x"}),
            "both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC",
        ),
        (json!({"jwks_url": KEYS, "oidc_client_id": "us", "oidc_client_secret": "x"}), "'oidc_discovery_url' must be set for OIDC"),
        (json!({"jwks_pairs": [pair.clone()], "bound_issuer": "x"}), "Bound issuer is not supported for use with 'jwks_pairs'"),
        (
            json!({"jwks_pairs": [pair.clone(), pair.clone()]}),
            "CA PEMs must be provided as part of the 'jwks_pairs' when using multiple JWKS URLs",
        ),
        (json!({"jwks_pairs": "nonsense"}), "error parsing jwks_pairs: it must be a list of objects with \"jwks_url\" and \"jwks_ca_pem\""),
        (json!({"jwks_url": KEYS, "oidc_response_mode": "fragment"}), "invalid response_mode: \"fragment\""),
        (json!({"jwks_url": KEYS, "oidc_response_types": "token"}), "unsupported response_type: \"token\""),
        (
            json!({"jwks_url": KEYS, "oidc_response_types": "id_token"}),
            "query response_mode may not be used with an id_token response_type",
        ),
        (
            json!({"jwks_url": KEYS, "provider_config": {"provider": "azure"}}),
            "invalid provider_config: provider \"azure\" is not supported; leave it empty",
        ),
        (json!({"jwt_validation_pubkeys": "nonsense"}), "error parsing public key: it has no PEM block"),
        (
            json!({"jwks_url": "http://ci.example/jwks"}),
            "error checking jwks URL http://ci.example/jwks: the URL \"http://ci.example/jwks\" cannot be used: plain http:// is for addresses of \
             this machine alone; use https://",
        ),
    ] {
        assert_eq!(refusal(&issuer.bench.call("POST", "config", config.clone()).await), text, "{config}");
    }
    assert_eq!(issuer.login_with(json!({})).await.status, 200, "what was refused changed nothing");
}

#[tokio::test]
async fn a_read_shows_all_but_the_password() {
    let issuer = Issuer::with_keys("ES256").await;
    let url = format!("{ISSUER}/.well-known/openid-configuration");
    issuer.idp.answers(&url, &json!({"issuer": ISSUER, "jwks_uri": KEYS}));
    let config = json!({"oidc_discovery_url": ISSUER, "oidc_client_id": "us", "oidc_client_secret": "pass-word", "default_role": "ci"});
    issuer.config(config).await;
    let shown = issuer.bench.call("GET", "config", Value::Null).await.body;
    assert_eq!(
        shown["data"],
        json!({
            "oidc_discovery_url": ISSUER, "oidc_discovery_ca_pem": "", "oidc_client_id": "us", "oidc_response_mode": "",
            "oidc_response_types": [], "default_role": "ci", "jwt_validation_pubkeys": [], "jwt_supported_algs": [], "jwks_url": "",
            "jwks_pairs": [], "jwks_ca_pem": "", "bound_issuer": "", "provider_config": {}, "namespace_in_state": true,
            "unsupported_critical_cert_extensions": [],
        })
    );
    assert!(!shown.to_string().contains("pass-word"));
    // A write replaces the whole.
    issuer.config(json!({"jwks_url": KEYS})).await;
    let shown = issuer.bench.call("GET", "config", Value::Null).await.body["data"].clone();
    assert_eq!((&shown["oidc_client_id"], &shown["default_role"], &shown["jwks_url"]), (&json!(""), &json!(""), &json!(KEYS)));
}

#[tokio::test]
async fn public_keys_are_read_from_every_usual_pem() {
    let issuer = Issuer::with_keys("RS256").await;
    let certificate = old_certificate();
    for (pem, told) in [
        ("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----".to_owned(), "its block \"PUBLIC KEY\" is damaged"),
        ("-----BEGIN PRIVATE KEY-----\nMFkw\n-----END PRIVATE KEY-----".to_owned(), "its block is \"PRIVATE KEY\""),
        ("-----BEGIN PUBLIC KEY-----\nnot base64!\n-----END PUBLIC KEY-----".to_owned(), "it has no PEM block"),
        (certificate.replace("CERTIFICATE", "PUBLIC KEY"), "its key is damaged"),
        ("x".repeat(40_000), "over the limit of 32768"),
    ] {
        let text = refusal(&issuer.bench.call("POST", "config", json!({"jwt_validation_pubkeys": [pem]})).await);
        assert!(text.starts_with("error parsing public key: ") && text.contains(told), "{text}");
    }
    issuer.config(json!({"jwt_validation_pubkeys": [certificate, Signer::new("EdDSA", "x").pem(), issuer.signer.pem()]})).await;
    assert_eq!(issuer.login_with(json!({})).await.status, 200, "any of the keys may have signed");
    let many: Vec<String> = (0..65).map(|_| issuer.signer.pem()).collect();
    let text = refusal(&issuer.bench.call("POST", "config", json!({ "jwt_validation_pubkeys": many })).await);
    assert_eq!(text, "error parsing public key: 65 keys are given; at most 64 are allowed");
}

/// A self-signed certificate of a P-256 key, valid long ago: only its key matters.
fn old_certificate() -> String {
    include_str!("old-certificate.pem").to_owned()
}

#[tokio::test]
async fn without_a_configuration_nobody_logs_in() {
    let issuer = Issuer::with_keys("ES256").await;
    let empty = crate::testing::Bench::new(super::Jwt::new(issuer.idp.clone()), "auth/jwt/", "jwt");
    assert_eq!(empty.call("GET", "config", Value::Null).await.status, 404);
    for (path, body) in [("login", json!({"role": "ci", "jwt": "x"})), ("oidc/auth_url", json!({"role": "ci"}))] {
        assert_eq!(refusal(&empty.call("POST", path, body).await), "could not load configuration");
    }
}
