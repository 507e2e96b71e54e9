//! Logins of pods through the whole pipeline: what their tokens may do, what of the account goes on with them, and how long they live.

use daypass_idp::Signer;
use daypass_storage::Space;
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const REVIEWS: &str = "https://10.0.0.1:6443/apis/authentication.k8s.io/v1/tokenreviews";
const AUDIENCE: &str = "https://vault.acme.example";

struct House {
    server: TestServer,
    signer: Signer,
    accessor: String,
}

impl std::ops::Deref for House {
    type Target = TestServer;
    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl House {
    /// A server whose cluster knows the account `builds/runner`, which the role `ci` lets in.
    async fn new(role: Value) -> Self {
        let server = TestServer::start().await;
        server.put("sys/auth/kubernetes", json!({"type": "kubernetes"})).await.ok();
        let config = json!({"kubernetes_host": "https://10.0.0.1:6443", "disable_local_ca_jwt": true});
        server.put("auth/kubernetes/config", config).await.ok();
        let mut fields = json!({
            "bound_service_account_names": "runner", "bound_service_account_namespaces": "builds", "audience": AUDIENCE,
            "token_policies": "ci", "token_ttl": "10m",
        });
        fields.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
        server.put("auth/kubernetes/role/ci", fields).await.ok();
        let accessor = server.get("sys/auth/kubernetes").await.ok().text("/data/accessor");
        let house = Self { server, signer: Signer::new("RS256", "one"), accessor };
        house.knows("runner", "uid-1");
        house
    }

    /// Whose tokens the API server says they are from now on.
    fn knows(&self, name: &str, uid: &str) {
        let user = json!({"username": format!("system:serviceaccount:builds:{name}"), "uid": uid});
        let review = json!({"kind": "TokenReview", "status": {"authenticated": true, "audiences": [AUDIENCE], "user": user}});
        self.idp().answers_raw(REVIEWS, 201, "application/json", &review.to_string());
    }

    fn token(&self, name: &str) -> String {
        let claims = json!({
            "iss": "https://kubernetes.default.svc", "aud": [AUDIENCE], "sub": format!("system:serviceaccount:builds:{name}"), "exp": 1_767_330_000,
        });
        self.signer.sign(&claims)
    }

    async fn login(&self, name: &str) -> Answer {
        self.put("auth/kubernetes/login", json!({"role": "ci", "jwt": self.token(name)})).nobody().await
    }
}

/// Story: a whole cluster was started anew, and whoever found the line for its API server full was denied, which clients take for the last word.
#[tokio::test]
async fn a_pod_that_finds_too_many_waiting_is_told_when_to_come_back() {
    let house = House::new(json!({})).await;
    house.idp().is_crowded(REVIEWS);
    let answer = house.login("runner").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")));
    assert_eq!(answer.text("/errors/0"), "the API server was not asked: 256 calls to it wait already: try again in a few seconds");
    house.knows("runner", "uid-1");
    house.login("runner").await.ok();
}

#[tokio::test]
async fn a_pod_gets_what_its_namespace_may_and_nothing_of_other_namespaces() {
    let house = House::new(json!({})).await;
    house.put("sys/mounts/kv", json!({"type": "kv"})).await.ok();
    for path in ["kv/builds/a", "kv/payments/a"] {
        house.put(path, json!({"x": "y"})).await.ok();
    }
    let path = format!("kv/{{{{identity.entity.aliases.{}.metadata.service_account_namespace}}}}/*", house.accessor);
    house.policy("ci", &format!("path \"{path}\" {{ capabilities = [\"read\"] }}")).await;
    let answer = house.login("runner").await.ok();
    assert_eq!(answer["auth"]["policies"], json!(["ci", "default"]));
    assert_eq!(house.get("kv/builds/a").token(&answer.token()).await.status, 200);
    assert_eq!(house.get("kv/payments/a").token(&answer.token()).await.status, 403);
    let own = house.get("auth/token/lookup-self").token(&answer.token()).await.ok();
    assert_eq!(own.text("/data/display_name"), "kubernetes-builds-runner");
    assert_eq!((own.text("/data/meta/role"), own.text("/data/meta/service_account_uid")), ("ci".to_owned(), "uid-1".to_owned()));
}

#[tokio::test]
async fn an_account_that_was_made_anew_under_the_same_name_is_another_entity() {
    let house = House::new(json!({})).await;
    let entity = async || house.login("runner").await.ok().text("/auth/entity_id");
    let first = entity().await;
    assert_eq!(entity().await, first);
    house.knows("runner", "uid-2");
    assert_ne!(entity().await, first);
}

#[tokio::test]
async fn a_login_leaves_its_token_and_nothing_else() {
    let house = House::new(json!({})).await;
    let before = house.rows(Space::Config).await.len();
    let tokens = house.rows(Space::Token).await.len();
    house.login("runner").await.ok();
    assert_eq!((house.rows(Space::Config).await.len(), house.rows(Space::Token).await.len()), (before, tokens + 1));
    let batch = House::new(json!({"token_type": "batch"})).await;
    let keys = batch.keys().await;
    assert!(batch.login("runner").await.ok().token().starts_with("hvb."));
    assert_eq!(batch.keys().await, keys);
}

#[tokio::test]
async fn whoever_is_not_let_in_learns_no_more_than_that() {
    let house = House::new(json!({})).await;
    house.knows("other", "uid-9");
    assert_eq!(house.login("other").await.refused(403), "service account name not authorized");
    let review = json!({"kind": "TokenReview", "status": {"authenticated": false, "error": "secret detail"}});
    house.idp().answers_raw(REVIEWS, 201, "application/json", &review.to_string());
    assert_eq!(house.login("runner").await.refused(403), "permission denied");
    house.idp().is_down(REVIEWS);
    assert_eq!(house.login("runner").await.refused(403), "permission denied");
    house.knows("runner", "uid-1");
    let claims_another = house.login("other").await;
    assert_eq!(claims_another.refused(403), "permission denied", "the token and the API server name different accounts");
}

#[tokio::test]
async fn a_token_lives_on_while_its_role_is_there_and_ends_with_its_mount() {
    let house = House::new(json!({"token_max_ttl": "30m"})).await;
    let token = house.login("runner").await.ok().token();
    house.seconds(300).await;
    assert_eq!(house.put("auth/token/renew-self", json!({})).token(&token).await.ok().number("/auth/lease_duration"), 600);
    house.delete("auth/kubernetes/role/ci").await.ok();
    assert!(
        house.put("auth/token/renew-self", json!({})).token(&token).await.refused(400).contains("role ci does not exist during renewal")
    );
    assert_eq!(house.status_of(&token).await, 200);
    house.seconds(601).await;
    assert_eq!(house.status_of(&token).await, 403);
    let house = House::new(json!({})).await;
    let token = house.login("runner").await.ok().token();
    house.delete("sys/auth/kubernetes").await.ok();
    assert_eq!(house.status_of(&token).await, 403);
}

#[tokio::test]
async fn bound_networks_hold_for_the_login_and_for_the_token() {
    let house = House::new(json!({"token_bound_cidrs": "10.1.0.0/16"})).await;
    let login = || house.put("auth/kubernetes/login", json!({"role": "ci", "jwt": house.token("runner")})).nobody();
    login().from("10.2.0.1").await.refused(403);
    assert!(house.idp().asked().is_empty(), "nobody is asked for whoever comes from elsewhere");
    let token = login().from("10.1.0.1").await.ok().token();
    assert_eq!(house.get("auth/token/lookup-self").token(&token).from("10.1.0.9").await.status, 200);
    assert_eq!(house.get("auth/token/lookup-self").token(&token).from("10.2.0.1").await.status, 403);
}

#[tokio::test]
async fn logins_of_pods_can_need_a_second_factor_like_any_other() {
    let house = House::new(json!({})).await;
    let method = house.put("identity/mfa/method/totp", json!({"issuer": "Example"})).await.ok().text("/data/method_id");
    let enforcement = json!({"mfa_method_ids": [method], "auth_method_accessors": [house.accessor]});
    house.put("identity/mfa/login-enforcement/pods", enforcement).await.ok();
    assert_eq!(house.login("runner").await.ok().token(), "");
}

/// Story: a quota of the role `ci` was passed by a login that said `CI`, which is the same role to the method.
#[tokio::test]
async fn a_quota_of_a_role_counts_its_logins_however_they_spell_it() {
    let house = House::new(json!({})).await;
    house.put("sys/quotas/rate-limit/ci", json!({"path": "auth/kubernetes", "role": "Ci", "rate": 2, "interval": "1h"})).await.ok();
    let login = |role: &str| house.put("auth/kubernetes/login", json!({"role": role, "jwt": house.token("runner")})).nobody();
    for role in ["ci", "CI"] {
        login(role).await.ok();
    }
    for role in ["ci", "CI", "Ci"] {
        assert!(login(role).await.refused(429).ends_with("rate limit quota exceeded"));
    }
    for role in ["other", ""] {
        login(role).await.refused(400);
    }
}
