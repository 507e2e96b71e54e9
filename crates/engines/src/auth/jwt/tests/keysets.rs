//! Key sets: fetched once, renewed when needed, never on a stranger's word alone.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::BoxFuture;
use daypass_idp::{Ask, Idp, ScriptedIdp, Signer, Trust};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{ISSUER, Issuer, KEYS, NOW, claims, refusal};
use crate::auth::jwt::Jwt;
use crate::auth::jwt::keys::{PAUSE, RENEW_AFTER, STALE_MAX, WAITERS_MAX};
use crate::testing::{Answer, Bench};

/// A token that is good whenever it is presented.
fn lasting(signer: &Signer) -> String {
    signer.sign(&claims(json!({"exp": NOW + 1_000_000})))
}

fn pass(issuer: &Issuer, time: Duration) {
    issuer.bench.advance(time.as_secs());
}

#[tokio::test]
async fn a_key_set_is_fetched_once_and_renewed_when_it_is_old() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.idp.asked();
    assert_eq!(issuer.login_with(json!({})).await.status, 200);
    assert_eq!(issuer.idp.asked().len(), 0, "the write of the configuration fetched it");
    let issuer = issuer.restarted();
    for _ in 0..5 {
        assert_eq!(issuer.login_with(json!({})).await.status, 200);
    }
    assert_eq!(issuer.idp.asked().len(), 1, "the first login");
    pass(&issuer, RENEW_AFTER);
    for _ in 0..5 {
        assert_eq!(issuer.login(&lasting(&issuer.signer)).await.status, 200);
    }
    assert_eq!(issuer.idp.asked().len(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_at_once_and_an_old_one_is_dropped() {
    let issuer = Issuer::with_keys("ES256").await;
    assert_eq!(issuer.login(&lasting(&issuer.signer)).await.status, 200);
    let next = Signer::new("ES256", "two");
    issuer.idp.answers(KEYS, &Signer::set(&[&next]));
    pass(&issuer, PAUSE);
    assert_eq!(issuer.login(&lasting(&next)).await.status, 200);
    assert!(refusal(&issuer.login(&lasting(&issuer.signer)).await).contains("no key \"one\" of the issuer signed it"));
}

#[tokio::test]
async fn a_key_that_its_issuer_drops_is_gone_with_the_next_renewal() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.login(&lasting(&issuer.signer)).await;
    issuer.idp.answers(KEYS, &Signer::set(&[&Signer::new("ES256", "two")]));
    pass(&issuer, RENEW_AFTER.saturating_sub(Duration::from_secs(1)));
    assert_eq!(issuer.login(&lasting(&issuer.signer)).await.status, 200);
    pass(&issuer, Duration::from_secs(1));
    assert_eq!(issuer.login(&lasting(&issuer.signer)).await.status, 400);
}

#[tokio::test]
async fn made_up_key_ids_do_not_flood_the_provider() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.login_with(json!({})).await;
    pass(&issuer, PAUSE);
    issuer.idp.asked();
    for number in 0..50 {
        let token = Signer::new("ES256", &format!("id-{number}")).sign(&claims(json!({})));
        assert_eq!(issuer.login(&token).await.status, 400);
    }
    assert_eq!(issuer.idp.asked().len(), 1);
    assert_eq!(issuer.login_with(json!({})).await.status, 200, "and honest tokens go on");
}

#[tokio::test]
async fn while_a_provider_is_down_its_known_keys_go_on_for_a_while() {
    let issuer = Issuer::with_keys("ES256").await;
    let token = lasting(&issuer.signer);
    assert_eq!(issuer.login(&token).await.status, 200);
    issuer.idp.is_down(KEYS);
    issuer.idp.asked();
    pass(&issuer, RENEW_AFTER);
    for _ in 0..5 {
        assert_eq!(issuer.login(&token).await.status, 200);
    }
    assert_eq!(issuer.idp.asked().len(), 1, "and it is not asked with every login");
    let text = refusal(&issuer.login(&lasting(&Signer::new("ES256", "two"))).await);
    assert!(text.contains("no key \"two\" of the issuer signed it; ci.example cannot be reached"), "{text}");
    pass(&issuer, STALE_MAX);
    let text = refusal(&issuer.login(&token).await);
    assert!(text.contains("the issuer's keys are too old"), "{text}");
    issuer.idp.answers(KEYS, &Signer::set(&[&issuer.signer]));
    pass(&issuer, PAUSE);
    assert_eq!(issuer.login(&token).await.status, 200);
}

#[tokio::test]
async fn answers_that_are_no_key_sets_are_told_and_do_no_harm() {
    let issuer = Issuer::with_keys("ES256").await;
    let token = lasting(&issuer.signer);
    issuer.login(&token).await;
    let many: Vec<Value> = (0..300).map(|_| issuer.signer.jwk()).collect();
    for (status, kind, body, told) in [
        (302, "", String::new(), "answered with a redirect (302), which is not followed"),
        (500, "text/plain", String::new(), "ci.example answered 500"),
        (200, "text/html", "<html>".to_owned(), "a web page instead of JSON"),
        (200, "application/json", "[]".to_owned(), "it is no JSON object"),
        (200, "application/json", r#"{"keys":{}}"#.to_owned(), "it has no list"),
        (200, "application/json", r#"{"keys":[]}"#.to_owned(), "it has no key that verifies tokens"),
        (200, "application/json", r#"{"keys":[],"keys":[]}"#.to_owned(), "a name stands twice"),
        (200, "application/json", json!({ "keys": many }).to_string(), "it has 300 keys, over the limit of 256"),
        (
            200,
            "application/json",
            json!({"keys": [{"kty": "RSA", "kid": "k", "n": "AQAB", "e": "AQAB"}]}).to_string(),
            "an RSA key has 2048",
        ),
        (200, "application/json", json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}).to_string(), "32 bytes each"),
    ] {
        issuer.idp.answers_raw(KEYS, status, kind, &body);
        let answer = issuer.bench.call("POST", "config", json!({"jwks_url": KEYS})).await;
        let text = refusal(&answer);
        assert!(text.starts_with("error checking jwks URL https://ci.example/jwks: ") && text.contains(told), "{text}");
        pass(&issuer, RENEW_AFTER);
        assert_eq!(issuer.login(&token).await.status, 200, "the known keys go on after {told}");
    }
}

#[tokio::test]
async fn keys_for_other_purposes_are_left_out() {
    let issuer = Issuer::with_keys("ES256").await;
    for (name, value) in [("use", json!("enc")), ("key_ops", json!(["sign"])), ("alg", json!("RSA-OAEP")), ("crv", json!("secp256k1"))] {
        let mut jwk = issuer.signer.jwk();
        jwk[name] = value;
        issuer.idp.answers(KEYS, &json!({"keys": [jwk, Signer::new("EdDSA", "two").jwk()]}));
        issuer.config(json!({"jwks_url": KEYS})).await;
        assert_eq!(issuer.login_with(json!({})).await.status, 400, "{name}");
        pass(&issuer, PAUSE);
    }
}

#[tokio::test]
async fn a_point_that_is_not_on_its_curve_verifies_nothing() {
    let issuer = Issuer::with_keys("ES256").await;
    let mut jwk = issuer.signer.jwk();
    jwk["y"] = jwk["x"].clone();
    issuer.idp.answers(KEYS, &json!({ "keys": [jwk] }));
    issuer.config(json!({"jwks_url": KEYS})).await;
    assert_eq!(issuer.login_with(json!({})).await.status, 400);
}

#[tokio::test]
async fn discovery_leads_to_the_keys_and_names_the_issuer() {
    let issuer = Issuer::with_keys("RS256").await;
    let url = format!("{ISSUER}/.well-known/openid-configuration");
    issuer.idp.answers(&url, &json!({"issuer": ISSUER, "jwks_uri": KEYS}));
    issuer.config(json!({"oidc_discovery_url": ISSUER, "oidc_discovery_ca_pem": "PEM"})).await;
    assert!(issuer.idp.asked().iter().skip(1).all(|asked| asked.trust == Trust::Only("PEM".to_owned())));
    assert_eq!(issuer.login_with(json!({})).await.status, 200);
    assert_eq!(issuer.refusal(json!({"iss": format!("{ISSUER}/")})).await, "error validating token: invalid issuer (iss) claim");
    assert_eq!(issuer.refusal(json!({ "iss": null })).await, "error validating token: invalid issuer (iss) claim");
    for (document, told) in [
        (json!({"issuer": format!("{ISSUER}/"), "jwks_uri": KEYS}), "both must be the same to the last slash"),
        (json!({"issuer": ISSUER}), "missing field `jwks_uri`"),
        (json!({"issuer": ISSUER, "jwks_uri": "http://ci.example/jwks"}), "plain http:// is for addresses of this machine alone"),
    ] {
        issuer.idp.answers(&url, &document);
        let text = refusal(&issuer.bench.call("POST", "config", json!({"oidc_discovery_url": ISSUER})).await);
        assert!(text.starts_with("error checking oidc discovery URL: ") && text.contains(told), "{text}");
    }
}

#[tokio::test]
async fn one_of_several_key_sets_may_be_down() {
    let issuer = Issuer::with_keys("ES256").await;
    let (other, second) = ("https://other.example/jwks", Signer::new("ES256", "second"));
    issuer.idp.answers(other, &Signer::set(&[&second]));
    let pairs = json!([{"jwks_url": KEYS, "jwks_ca_pem": "A"}, {"jwks_url": other, "jwks_ca_pem": "B"}]);
    issuer.config(json!({ "jwks_pairs": pairs })).await;
    for signer in [&issuer.signer, &second] {
        assert_eq!(issuer.login(&lasting(signer)).await.status, 200);
    }
    issuer.idp.is_down(KEYS);
    let issuer = issuer.restarted();
    assert_eq!(issuer.login(&lasting(&second)).await.status, 200);
    assert!(refusal(&issuer.login(&lasting(&issuer.signer)).await).contains("ci.example cannot be reached"));
    let text = refusal(&issuer.bench.call("POST", "config", json!({ "jwks_pairs": pairs })).await);
    assert!(text.starts_with("error checking jwks URL https://ci.example/jwks: "), "{text}");
}

#[tokio::test]
async fn many_logins_at_once_share_one_fetch() {
    let issuer = Arc::new(Issuer::with_keys("ES256").await.restarted());
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let issuer = Arc::clone(&issuer);
        logins.spawn(async move { issuer.login(&lasting(&issuer.signer)).await.status });
    }
    assert_eq!(logins.join_all().await, [200; 20]);
    assert_eq!(issuer.idp.asked().len(), 1);
}

/// An issuer that hangs while its door is shut.
struct Door {
    idp: Arc<ScriptedIdp>,
    open: watch::Sender<bool>,
}

impl Idp for Door {
    fn ask(&self, ask: Ask) -> BoxFuture<'_, daypass_idp::Result<daypass_idp::Answer>> {
        let (answer, mut open) = (self.idp.ask(ask), self.open.subscribe());
        Box::pin(async move {
            open.wait_for(|open| *open).await.unwrap();
            answer.await
        })
    }
}

/// A mount that holds no keys yet, and its issuer, which is down behind a shut door.
struct Hanging {
    bench: Arc<Bench>,
    door: Arc<Door>,
    signer: Signer,
}

impl Hanging {
    async fn new() -> Self {
        let Issuer { bench, idp, signer } = Issuer::with_keys("ES256").await;
        let door = Arc::new(Door { idp, open: watch::Sender::new(true) });
        let bench = Bench::over(Jwt::new(Arc::clone(&door) as Arc<_>), "auth/jwt/", "jwt", Arc::clone(&bench.storage));
        let hanging = Self { bench: Arc::new(bench), door, signer };
        hanging.hang();
        hanging
    }

    /// The same, where the keys were fetched before.
    async fn with_keys() -> Self {
        let hanging = Self::new().await;
        hanging.door.idp.answers(KEYS, &Signer::set(&[&hanging.signer]));
        hanging.door.open.send_replace(true);
        let good = lasting(&hanging.signer);
        assert_eq!(hanging.logins(1, &good).join_next().await.unwrap().unwrap().status, 200);
        hanging.bench.advance(PAUSE.as_secs());
        hanging.hang();
        hanging
    }

    fn hang(&self) {
        self.door.idp.is_down(KEYS);
        self.door.open.send_replace(false);
        self.door.idp.asked();
    }

    /// That many logins at once.
    fn logins(&self, number: usize, token: &str) -> JoinSet<Answer> {
        let mut logins = JoinSet::new();
        for _ in 0..number {
            let (bench, fields) = (Arc::clone(&self.bench), json!({"role": "ci", "jwt": token}));
            logins.spawn(async move { bench.call("POST", "login", fields).await });
        }
        logins
    }
}

/// Who is told so comes again later; one who is refused does not.
#[track_caller]
fn crowded(answer: &Answer) -> String {
    assert_eq!(answer.status, 429, "{answer:?}");
    answer.body["errors"][0].as_str().unwrap().to_owned()
}

/// Everybody gets as far as they can.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn made_up() -> String {
    lasting(&Signer::new("ES256", "made-up"))
}

/// Story: while an issuer hung, logins with made-up key ids waited for its keys. The pause between fetches began with a fetch and was as long
/// as one, so each of them fetched again, one after the other, ten seconds each; they piled up until the server answered 503 to everybody.
/// Those who wait for a fetch share what comes of it.
#[tokio::test]
async fn while_an_issuer_hangs_nobody_waits_for_more_than_one_fetch() {
    for hanging in [Hanging::with_keys().await, Hanging::new().await] {
        let strangers = hanging.logins(20, &made_up());
        settle().await;
        hanging.bench.advance(PAUSE.as_secs());
        hanging.door.open.send_replace(true);
        for answer in strangers.join_all().await {
            assert!(refusal(&answer).contains("ci.example cannot be reached"), "{answer:?}");
        }
        assert_eq!(hanging.door.idp.asked().len(), 1);
    }
}

/// Story: as above. Of those who wait for one key set there is a limit, and whoever comes later is told at once. Known keys go on.
#[tokio::test]
async fn while_an_issuer_hangs_few_wait_and_all_others_are_told_at_once() {
    let hanging = Hanging::with_keys().await;
    let mut strangers = hanging.logins(WAITERS_MAX + 10, &made_up());
    settle().await;
    for _ in 0..10 {
        let text = crowded(&strangers.try_join_next().unwrap().unwrap());
        assert!(text.contains("256 logins wait for the issuer's keys from https://ci.example/jwks already"), "{text}");
    }
    assert!(strangers.try_join_next().is_none());
    let good = lasting(&hanging.signer);
    assert_eq!(hanging.logins(3, &good).join_all().await.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200; 3]);
    hanging.door.open.send_replace(true);
    assert_eq!(strangers.join_all().await.len(), WAITERS_MAX);
    assert_eq!(hanging.door.idp.asked().len(), 1);
    hanging.bench.advance(PAUSE.as_secs());
    assert!(refusal(&hanging.logins(1, &made_up()).join_all().await[0]).contains("cannot be reached"), "there is room again");
}

/// Story: as above. A fetch may find no turn because too many wait for other providers' answers: that is nobody's mistake, and soon over.
#[tokio::test]
async fn a_login_for_which_no_keys_could_be_asked_may_come_again() {
    let issuer = Issuer::with_keys("ES256").await.restarted();
    issuer.idp.is_crowded(KEYS);
    let answer = issuer.login(&lasting(&issuer.signer)).await;
    assert!(crowded(&answer).contains("ci.example was not asked: 256 calls to it wait already"), "{answer:?}");
    issuer.idp.answers(KEYS, &Signer::set(&[&issuer.signer]));
    pass(&issuer, PAUSE);
    assert_eq!(issuer.login(&lasting(&issuer.signer)).await.status, 200);
}

/// Story: as above. Whoever fetches may hang up, and those who wait are not to take turns then.
#[tokio::test]
async fn whoever_hangs_up_during_a_fetch_leaves_nobody_waiting() {
    let hanging = Hanging::new().await;
    let mut first = hanging.logins(1, &made_up());
    settle().await;
    let others = hanging.logins(5, &lasting(&hanging.signer));
    settle().await;
    hanging.bench.advance(PAUSE.as_secs());
    first.shutdown().await;
    for answer in others.join_all().await {
        assert!(refusal(&answer).contains("the last fetch of the issuer's keys was not finished"), "{answer:?}");
    }
    assert_eq!(hanging.door.idp.asked().len(), 1);
    hanging.door.idp.answers(KEYS, &Signer::set(&[&hanging.signer]));
    hanging.door.open.send_replace(true);
    hanging.bench.advance(PAUSE.as_secs());
    assert_eq!(hanging.logins(1, &lasting(&hanging.signer)).join_all().await[0].status, 200);
}
