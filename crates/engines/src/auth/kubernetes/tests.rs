//! The engine by itself, with an API server from a script.

use std::path::PathBuf;
use std::sync::Arc;

use daypass_idp::{Asked, ScriptedIdp, Signer, Trust};
use serde_json::{Map, Value, json};

use super::Kubernetes;
use crate::testing::{Answer, Bench};

const HOST: &str = "https://10.0.0.1:6443";
const REVIEWS: &str = "https://10.0.0.1:6443/apis/authentication.k8s.io/v1/tokenreviews";
const AUDIENCE: &str = "https://vault.acme.example";
const NAMESPACE: &str = "https://10.0.0.1:6443/api/v1/namespaces/builds";

struct House {
    bench: Bench,
    idp: Arc<ScriptedIdp>,
    signer: Signer,
    pod: PathBuf,
}

impl House {
    /// A mount with a configuration and a role `ci`, whose API server knows `builds/runner`.
    async fn new() -> Self {
        let idp = Arc::new(ScriptedIdp::default());
        let pod = std::env::temp_dir().join(format!("daypass-pod-{}-{:p}", std::process::id(), &raw const *idp));
        let engine = Kubernetes::in_pod(Arc::clone(&idp) as Arc<_>, pod.clone());
        let house = Self { bench: Bench::new(engine, "auth/kubernetes/", "kubernetes"), idp, signer: Signer::new("RS256", "one"), pod };
        house
            .config(json!({"token_reviewer_jwt": house.signer.sign(&json!({"sub": "reviewer"})), "kubernetes_ca_cert": "the cluster's"}))
            .await;
        house.role(json!({})).await;
        house.knows(json!({}));
        house
    }

    async fn config(&self, more: Value) {
        let answer = self.bench.call("POST", "config", with(json!({"kubernetes_host": HOST}), more)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    async fn role(&self, more: Value) -> Answer {
        let answer = self.bench.call("POST", "role/CI", with(role(), more)).await;
        assert!(answer.status < 300, "{answer:?}");
        answer
    }

    /// The API server's answer from now on.
    fn knows(&self, more: Value) {
        let status = json!({
            "authenticated": true, "audiences": [AUDIENCE],
            "user": {"username": "system:serviceaccount:builds:runner", "uid": "uid-1", "groups": ["system:serviceaccounts"]},
        });
        let body = json!({"kind": "TokenReview", "status": with(status, more)}).to_string();
        self.idp.answers_raw(REVIEWS, 201, "application/json", &body);
    }

    fn token(&self, more: Value) -> String {
        let claims = json!({
            "iss": "https://kubernetes.default.svc.cluster.local", "aud": [AUDIENCE], "sub": "system:serviceaccount:builds:runner",
            "exp": 1_767_326_000, "kubernetes.io": {"namespace": "builds", "serviceaccount": {"name": "runner", "uid": "uid-1"}},
        });
        self.signer.sign(&with(claims, more))
    }

    async fn login(&self, token: &str) -> Answer {
        self.bench.call("POST", "login", json!({"role": "ci", "jwt": token})).await
    }

    /// The only thing that was asked since the last look.
    fn asked(&self) -> Asked {
        let mut asked = self.idp.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    fn write_pod(&self) {
        std::fs::create_dir_all(&self.pod).unwrap();
        std::fs::write(self.pod.join("token"), "the pod's own\n").unwrap();
        std::fs::write(self.pod.join("ca.crt"), "the pod's authority").unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _may_not_be_there = std::fs::remove_dir_all(&self.pod);
    }
}

fn role() -> Value {
    json!({
        "bound_service_account_names": "runner,builder-*", "bound_service_account_namespaces": "builds", "audience": AUDIENCE, "token_policies": "ci",
    })
}

/// With more; `null` takes a field away.
fn with(value: Value, more: Value) -> Value {
    let (Value::Object(mut map), Value::Object(more)) = (value, more) else { panic!("objects are wanted") };
    map.extend(more);
    Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
}

#[track_caller]
fn refusal(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    answer.body["errors"][0].as_str().unwrap().to_owned()
}

/// The bench shows it as the method says it; the core gives it Vault's form.
const DENIED: &str = "permission denied";

#[tokio::test]
async fn a_pod_logs_in_with_the_token_that_the_api_server_vouches_for() {
    let house = House::new().await;
    let token = house.token(json!({}));
    let answer = house.login(&token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let auth = &answer.body["auth"];
    let metadata = json!({
        "role": "ci", "service_account_name": "runner", "service_account_namespace": "builds", "service_account_secret_name": "",
        "service_account_uid": "uid-1",
    });
    assert_eq!(auth["metadata"], metadata, "{auth}");
    let asked = house.asked();
    assert_eq!((asked.url.as_str(), &asked.trust), (REVIEWS, &Trust::Only("the cluster's".to_owned())));
    assert_eq!(asked.proof, format!("Bearer {}", house.signer.sign(&json!({"sub": "reviewer"}))));
    let sent: Value = serde_json::from_str(&asked.json).unwrap();
    assert_eq!(sent["spec"], json!({"token": token, "audiences": [AUDIENCE]}));
    // Story: `CI` logged in by the role `ci` and was shown as `CI`: limits and session tags that go by the role took it for another.
    let shouted = house.bench.call("POST", "login", json!({"role": "CI", "jwt": token})).await;
    assert_eq!(shouted.body["auth"]["metadata"], metadata);
}

#[tokio::test]
async fn whoever_the_api_server_does_not_vouch_for_is_denied_without_a_reason() {
    let house = House::new().await;
    let token = house.token(json!({}));
    for status in [
        json!({"authenticated": false, "error": "expired"}),
        json!({"audiences": null}),
        json!({"audiences": ["https://other.example"]}),
        json!({"user": {"username": "kubernetes-admin", "uid": "u"}}),
        json!({"user": {"username": "system:serviceaccount:builds:runner"}}),
        // The token says that it is somebody else's.
        json!({"user": {"username": "system:serviceaccount:builds:builder-1", "uid": "u"}}),
    ] {
        house.knows(status.clone());
        assert_eq!(refusal(&house.login(&token).await, 403), DENIED, "{status}");
    }
    house.idp.answers_raw(REVIEWS, 403, "application/json", r#"{"reason": "Forbidden", "message": "secret"}"#);
    assert_eq!(refusal(&house.login(&token).await, 403), DENIED);
    house.idp.is_down(REVIEWS);
    assert_eq!(refusal(&house.login(&token).await, 403), DENIED);
}

#[tokio::test]
async fn a_role_binds_names_namespaces_and_the_audience() {
    let house = House::new().await;
    let mut logins = Vec::new();
    for (namespace, name) in [("builds", "builder-7"), ("builds", "other"), ("other", "runner")] {
        let username = format!("system:serviceaccount:{namespace}:{name}");
        house.knows(json!({"user": {"username": username, "uid": "u"}}));
        logins.push(house.login(&house.token(json!({"sub": username}))).await);
    }
    assert_eq!(logins[0].status, 200, "{:?}", logins[0]);
    assert_eq!(refusal(&logins[1], 403), "service account name not authorized");
    assert_eq!(refusal(&logins[2], 403), "namespace not authorized");
    house.idp.asked();
    let text = "invalid audience (aud) claim: audience claim does not match any expected audience";
    for aud in [json!("https://other.example"), json!(null), json!([])] {
        assert_eq!(refusal(&house.login(&house.token(json!({"aud": aud}))).await, 403), text);
    }
    assert!(house.idp.asked().is_empty(), "the API server is not asked about tokens for others");
}

#[tokio::test]
async fn a_role_without_an_audience_has_the_api_server_judge_the_tokens_own() {
    let house = House::new().await;
    let answer = house.role(json!({"audience": ""})).await;
    let warning = "This role does not specify an audience. In a future version of Vault, specifying an audience will be required.";
    assert_eq!(answer.body["warnings"], json!([warning]));
    house.knows(json!({"audiences": ["vault"]}));
    assert_eq!(house.login(&house.token(json!({"aud": "vault"}))).await.status, 200);
    assert_eq!(serde_json::from_str::<Value>(&house.asked().json).unwrap()["spec"]["audiences"], json!(["vault"]));
    // Tokens out of secrets have none, and are for the API server itself.
    assert_eq!(house.login(&house.token(json!({"aud": null}))).await.status, 200);
    assert_eq!(serde_json::from_str::<Value>(&house.asked().json).unwrap()["spec"].get("audiences"), None);
    assert_eq!(
        refusal(&house.login(&house.token(json!({"aud": {"a": 1}}))).await, 403).split(':').next(),
        Some("invalid audience (aud) claim")
    );
}

#[tokio::test]
async fn a_token_out_of_a_secret_names_the_secret_and_an_alias_may_be_a_name() {
    let house = House::new().await;
    house.role(json!({"alias_name_source": "serviceaccount_name"})).await;
    let token = house.token(json!({"kubernetes.io": null, "kubernetes.io/serviceaccount/secret.name": "runner-token-x1"}));
    let answer = house.login(&token).await;
    assert_eq!(answer.body["auth"]["metadata"]["service_account_secret_name"], "runner-token-x1", "{answer:?}");
    assert_eq!(house.bench.call("GET", "role/ci", Value::Null).await.body["data"]["alias_name_source"], "serviceaccount_name");
}

#[tokio::test]
async fn namespaces_are_let_in_by_their_labels() {
    let house = House::new().await;
    let selector = json!({"matchLabels": {"team": "build"}}).to_string();
    let only = json!({"bound_service_account_namespaces": "", "bound_service_account_namespace_selector": selector});
    house.role(only).await;
    let token = house.token(json!({}));
    assert_eq!(refusal(&house.login(&token).await, 403), "namespace not authorized", "nobody tells the labels");
    house.idp.is_crowded(NAMESPACE);
    assert_eq!(
        refusal(&house.login(&token).await, 429),
        "the API server was not asked: 256 calls to it wait already: try again in a few seconds"
    );
    house.idp.answers(NAMESPACE, &json!({"kind": "Namespace", "metadata": {"labels": {"team": "build"}}}));
    assert_eq!(house.login(&token).await.status, 200);
    house.idp.answers(NAMESPACE, &json!({"kind": "Namespace", "metadata": {"name": "builds"}}));
    assert_eq!(refusal(&house.login(&token).await, 403), "namespace not authorized");
}

#[tokio::test]
async fn the_reviewer_is_the_configured_one_else_this_pod_else_the_caller() {
    let house = House::new().await;
    let token = house.token(json!({}));
    house.config(json!({})).await;
    house.login(&token).await;
    let asked = house.asked();
    assert_eq!((asked.proof, asked.trust), (format!("Bearer {token}"), Trust::System));
    house.write_pod();
    house.login(&token).await;
    let asked = house.asked();
    assert_eq!((asked.proof.as_str(), asked.trust), ("Bearer the pod's own", Trust::Only("the pod's authority".to_owned())));
    house.config(json!({"disable_local_ca_jwt": true})).await;
    house.login(&token).await;
    let asked = house.asked();
    assert_eq!((asked.proof, asked.trust), (format!("Bearer {token}"), Trust::System));
}

#[tokio::test]
async fn keys_and_an_issuer_may_be_wanted_too() {
    let house = House::new().await;
    house.config(json!({"pem_keys": [house.signer.pem()], "disable_iss_validation": false, "issuer": "https://cluster.example"})).await;
    assert_eq!(house.login(&house.token(json!({"iss": "https://cluster.example"}))).await.status, 200);
    assert_eq!(refusal(&house.login(&house.token(json!({}))).await, 403), "invalid issuer (iss) claim");
    house.idp.asked();
    let stranger = Signer::new("RS256", "one").sign(&json!({"iss": "https://cluster.example", "aud": AUDIENCE}));
    assert_eq!(refusal(&house.login(&stranger).await, 403), DENIED);
    assert!(house.idp.asked().is_empty(), "the API server is not asked about tokens of other keys");
}

#[tokio::test]
async fn a_login_says_what_is_missing() {
    let house = House::new().await;
    let login = |fields| house.bench.call("POST", "login", fields);
    assert_eq!(refusal(&login(json!({"jwt": "a.b.c"})).await, 400), "missing role");
    assert_eq!(refusal(&login(json!({"role": "ci"})).await, 400), "missing jwt");
    assert_eq!(refusal(&login(json!({"role": "none", "jwt": "a.b.c"})).await, 400), "invalid role name \"none\"");
    assert!(refusal(&login(json!({"role": "ci", "jwt": "a.b"})).await, 403).starts_with("malformed token"));
    let empty = Bench::new(Kubernetes::new(Arc::new(ScriptedIdp::default())), "auth/kubernetes/", "kubernetes");
    empty.call("POST", "role/ci", role()).await;
    let answer = empty.call("POST", "login", json!({"role": "ci", "jwt": house.token(json!({}))})).await;
    assert_eq!(refusal(&answer, 500), "could not load backend configuration");
}

#[tokio::test]
async fn a_configuration_is_read_back_without_its_token() {
    let house = House::new().await;
    let data = house.bench.call("GET", "config", Value::Null).await.body["data"].clone();
    let wanted = json!({
        "disable_iss_validation": true, "disable_local_ca_jwt": false, "issuer": "", "kubernetes_ca_cert": "the cluster's", "kubernetes_host": HOST,
        "pem_keys": [], "token_reviewer_jwt_set": true, "use_annotations_as_alias_metadata": false,
    });
    assert_eq!(data, wanted);
    for (fields, text) in [
        (json!({}), "no host provided"),
        (json!({"kubernetes_host": "http://10.0.0.1"}), "kubernetes_host: "),
        (json!({"kubernetes_host": HOST, "token_reviewer_jwt": "x"}), "token_reviewer_jwt is no JWT"),
        (json!({"kubernetes_host": HOST, "pem_keys": ["x"]}), "pem_keys: "),
        (json!({"kubernetes_host": HOST, "use_annotations_as_alias_metadata": true}), "use_annotations_as_alias_metadata is not supported"),
    ] {
        let answer = house.bench.call("POST", "config", fields).await;
        assert!(refusal(&answer, 400).starts_with(text), "{answer:?}");
    }
    house.config(json!({"kubernetes_host": "kubernetes.default.svc:443"})).await;
}

#[tokio::test]
async fn a_role_that_would_let_in_nobody_or_everybody_by_mistake_is_refused() {
    let house = House::new().await;
    for (more, text) in [
        (json!({"bound_service_account_names": ""}), "\"bound_service_account_names\" can not be empty"),
        (
            json!({"bound_service_account_namespaces": ""}),
            "\"bound_service_account_namespaces\" can not be empty if \"bound_service_account_namespace_selector\" is not set",
        ),
        (json!({"bound_service_account_names": "a,*"}), "can not mix \"*\" with values"),
        (json!({"bound_service_account_namespaces": "*,a"}), "can not mix \"*\" with values"),
        (json!({"bound_service_account_namespace_selector": "team=x"}), "invalid \"bound_service_account_namespace_selector\" configured"),
        (json!({"alias_name_source": "x"}), "invalid alias_name_source \"x\", must be one of: serviceaccount_uid, serviceaccount_name"),
    ] {
        let answer = house.bench.call("POST", "role/other", with(role(), more)).await;
        assert_eq!(refusal(&answer, 400), text);
    }
    house.role(json!({"ttl": "10m", "policies": "old"})).await;
    let data = house.bench.call("GET", "role/ci", Value::Null).await.body["data"].clone();
    assert_eq!((&data["ttl"], &data["token_ttl"], &data["token_policies"]), (&json!(600), &json!(600), &json!(["ci"])), "{data}");
    assert_eq!(house.bench.call("LIST", "role", Value::Null).await.body["data"]["keys"], json!(["ci"]));
    assert_eq!(house.bench.call("DELETE", "role/Ci", Value::Null).await.status, 204);
    assert_eq!(house.bench.call("GET", "role/ci", Value::Null).await.status, 404);
}

/// Story: a pod's token came out of a file that ended with a newline, and was refused.
#[tokio::test]
async fn white_space_around_a_token_does_not_matter() {
    let house = House::new().await;
    let token = house.token(json!({}));
    assert_eq!(house.login(&format!("{token}\n")).await.status, 200);
    let sent: Value = serde_json::from_str(&house.asked().json).unwrap();
    assert_eq!(sent["spec"]["token"], json!(token));
    assert_eq!(refusal(&house.login("\n").await, 400), "missing jwt");
}
