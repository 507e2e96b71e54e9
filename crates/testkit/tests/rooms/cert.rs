//! Logins by certificate through the whole pipeline: what they give, who may renew them, and what a template makes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daypass_base::{ClientChain, Clock, Timestamp};
use daypass_idp::Answer as HttpAnswer;
use daypass_idp::responder::{OcspAnswer, OcspStatus, nonce_of};
use daypass_testkit::{Answer, TestServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SigningKey};
use serde_json::{Value, json};

struct House {
    server: TestServer,
    root: Arc<CertifiedIssuer<'static, KeyPair>>,
    accessor: String,
}

impl House {
    /// A server that trusts an authority, under the name `ci` at `auth/cert`.
    async fn new(more: Value) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = Arc::new(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap());
        let server = TestServer::start().await;
        server.put("sys/auth/cert", json!({"type": "cert"})).await.ok();
        let accessor = server.get("sys/auth/cert").await.ok().text("/data/accessor");
        let mut fields = json!({"certificate": root.pem(), "token_policies": "ci", "token_ttl": "1h"});
        for (name, value) in more.as_object().into_iter().flatten() {
            fields[name] = value.clone();
        }
        server.put("auth/cert/certs/ci", fields).await.ok();
        Self { server, root, accessor }
    }

    fn issue(&self, name: &str) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.signed_by(&KeyPair::generate().unwrap(), &**self.root).unwrap().der().to_vec()
    }

    /// From now on a responder repeats nonces and says of every certificate that it is good, until it was revoked.
    fn responds(&self, url: &str) -> Arc<AtomicBool> {
        let (root, revoked) = (Arc::clone(&self.root), Arc::new(AtomicBool::new(false)));
        let (now, says): (Timestamp, _) = (self.server.clock().now(), Arc::clone(&revoked));
        self.server.idp().answers_by(url, move |asked| {
            let status = if says.load(Ordering::Relaxed) { OcspStatus::Revoked } else { OcspStatus::Good };
            let answer =
                OcspAnswer { status, nonce: Some(nonce_of(&asked.bytes)), next_update: None, ..OcspAnswer::good(&asked.bytes, now) };
            let body = answer.signed(|bytes| root.key().sign(bytes).unwrap()).into();
            HttpAnswer { status: 200, content_type: "application/ocsp-response".to_owned(), body }
        });
        revoked
    }

    async fn login(&self, certificate: &[u8]) -> Answer {
        self.server.put("auth/cert/login", json!({"name": "ci"})).nobody().showing(chain(certificate)).await
    }

    async fn renew(&self, token: &str, shown: Option<&[u8]>) -> Answer {
        let ask = self.server.put("auth/token/renew-self", json!({})).token(token);
        match shown {
            Some(certificate) => ask.showing(chain(certificate)).await,
            None => ask.await,
        }
    }
}

fn chain(certificate: &[u8]) -> ClientChain {
    ClientChain::of([certificate]).unwrap()
}

#[tokio::test]
async fn a_client_logs_in_and_is_named_after_its_certificate() {
    let house = House::new(json!({})).await;
    let login = house.login(&house.issue("runner-1")).await.ok();
    assert_eq!(login["auth"]["metadata"]["common_name"], "runner-1");
    assert_eq!((&login["auth"]["lease_duration"], &login["auth"]["policies"]), (&json!(3600), &json!(["ci", "default"])));
    let token = login.text("/auth/client_token");
    let me = house.server.get("auth/token/lookup-self").token(&token).await.ok();
    assert_eq!(me["data"]["display_name"], "cert-ci");
    let by_alias = json!({"alias_name": "runner-1", "alias_mount_accessor": house.accessor});
    let entity = house.server.put("identity/lookup/entity", by_alias).await.ok();
    assert_eq!(entity.text("/data/id"), login.text("/auth/entity_id"));
    // Without TLS, or without a certificate, there is nothing to log in with.
    let plain = house.server.put("auth/cert/login", json!({})).nobody().await;
    assert_eq!((plain.status, &plain["errors"][0]), (400, &json!("tls connection required")));
    let none = house.server.put("auth/cert/login", json!({})).nobody().showing(ClientChain::default()).await;
    assert_eq!((none.status, &none["errors"][0]), (400, &json!("client certificate must be supplied")));
}

#[tokio::test]
async fn a_token_is_renewed_by_whoever_shows_the_certificate_of_its_login() {
    let house = House::new(json!({})).await;
    let (own, other) = (house.issue("runner"), house.issue("runner"));
    let login = house.login(&own).await.ok();
    let token = login.text("/auth/client_token");
    house.renew(&token, Some(&own)).await.ok();
    let text = "client identity during renewal not matching client identity used during login";
    for (shown, text) in [(Some(other.as_slice()), text), (None, "tls connection required")] {
        let answer = house.renew(&token, shown).await;
        assert_eq!(answer.status, 400, "{:?}", answer.body);
        assert!(answer["errors"][0].as_str().unwrap().contains(text), "{:?}", answer.body);
    }
    // Whoever renews for another shows a certificate of their own, which is not the one.
    let by_root = house.server.put("auth/token/renew", json!({"token": token})).showing(chain(&other)).await;
    assert_eq!(by_root.status, 400, "{:?}", by_root.body);
    let by_accessor = json!({"accessor": login.text("/auth/accessor")});
    assert_eq!(house.server.put("auth/token/renew-accessor", by_accessor.clone()).await.status, 400);
    house.server.put("auth/token/renew-accessor", by_accessor).showing(chain(&own)).await.ok();
    house.server.put("auth/cert/config", json!({"disable_binding": true})).await.ok();
    house.renew(&token, None).await.ok();
}

#[tokio::test]
async fn a_token_is_not_renewed_when_its_certificate_is_let_in_no_more() {
    let house = House::new(json!({})).await;
    let own = house.issue("runner");
    let token = house.login(&own).await.ok().text("/auth/client_token");
    let again = async |fields: Value| {
        house.server.put("auth/cert/certs/ci", fields).await.ok();
        let answer = house.renew(&token, Some(&own)).await;
        (answer.status, answer["errors"][0].as_str().unwrap_or_default().to_owned())
    };
    let (status, text) = again(json!({"allowed_common_names": "other"})).await;
    assert!(status == 400 && text.contains("no chain matching all constraints"), "{text}");
    let (status, text) = again(json!({"allowed_common_names": "", "token_policies": "more"})).await;
    assert!(status == 400 && text.contains("policies have changed"), "{text}");
    assert_eq!(again(json!({"token_policies": "ci"})).await.0, 200);
}

#[tokio::test]
async fn responders_are_asked_at_logins_and_renewals() {
    const URL: &str = "http://ocsp.acme.example/";
    let house = House::new(json!({"ocsp_enabled": true, "ocsp_servers_override": URL, "ocsp_max_retries": 0})).await;
    let own = house.issue("runner");
    let refused = |answer: Answer, text: &str| {
        let told = answer["errors"][0].as_str().unwrap_or_default();
        assert!(answer.status == 400 && told.contains(text), "{text:?} was expected, not {told:?}");
    };
    assert!(house.login(&own).await.refused(500).contains("OCSP: ocsp.acme.example cannot be reached"));
    house.responds(URL);
    let token = house.login(&own).await.ok().text("/auth/client_token");
    house.renew(&token, Some(&own)).await.ok();
    assert_eq!(house.server.idp().asked().len(), 3, "what does not say until when it holds is not kept");
    // Story: while the responder was busy renewals were answered 400, which clients take for good.
    house.server.idp().answers_raw(URL, 503, "text/plain", "");
    assert!(house.renew(&token, Some(&own)).await.refused(500).contains("OCSP: ocsp.acme.example answered 503"));
    let revoked = house.responds(URL);
    house.renew(&token, Some(&own)).await.ok();
    revoked.store(true, Ordering::Relaxed);
    refused(house.renew(&token, Some(&own)).await, "a certificate was revoked");
    refused(house.login(&own).await, "a certificate was revoked");
    // Where renewals need no certificate, there is none to ask about.
    house.server.put("auth/cert/config", json!({"disable_binding": true})).await.ok();
    house.renew(&token, None).await.ok();
    house.server.put("auth/cert/certs/ci", json!({"ocsp_enabled": false})).await.ok();
    house.login(&own).await.ok();
}

#[tokio::test]
async fn templates_of_policies_see_who_logged_in() {
    let house = House::new(json!({})).await;
    let rule =
        format!("path \"secret/{{{{identity.entity.aliases.{}.name}}}}\" {{ capabilities = [\"create\", \"update\"] }}", house.accessor);
    house.server.policy("ci", &rule).await;
    house.server.put("sys/mounts/secret", json!({"type": "kv"})).await.ok();
    let token = house.login(&house.issue("runner-1")).await.ok().text("/auth/client_token");
    house.server.put("secret/runner-1", json!({"a": "b"})).token(&token).await.ok();
    assert_eq!(house.server.put("secret/runner-2", json!({"a": "b"})).token(&token).await.status, 403);
}

#[tokio::test]
async fn what_is_trusted_survives_a_restart() {
    let mut house = House::new(json!({"token_type": "batch"})).await;
    let own = house.issue("runner");
    house.login(&own).await.ok();
    house.server = house.server.restart().await;
    let login = house.login(&own).await.ok();
    assert_eq!(login["auth"]["token_type"], "batch");
    assert_eq!(house.server.list("auth/cert/certs").await.ok()["data"]["keys"], json!(["ci"]));
}
