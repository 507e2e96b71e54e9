//! Logins with tokens of other issuers through the whole pipeline: what they write, where their claims go, and people in a browser.

use std::collections::BTreeMap;

use daypass_aws::Made;
use daypass_idp::Signer;
use daypass_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";
const KEYS: &str = "https://idp.example/keys";
const TOKENS: &str = "https://idp.example/token";
const USERINFO: &str = "https://idp.example/userinfo";
const REDIRECT: &str = "http://localhost:8250/oidc/callback";
const NOW: i64 = 1_767_323_045;

struct House {
    server: TestServer,
    signer: Signer,
    accessor: String,
}

impl House {
    /// A server that takes tokens of an issuer at `auth/jwt`, by a role `ci`.
    async fn of_machines(role: Value) -> Self {
        let server = TestServer::start().await;
        let signer = Signer::new("ES256", "one");
        server.idp().answers(KEYS, &Signer::set(&[&signer]));
        server.put("sys/auth/jwt", json!({"type": "jwt"})).await.ok();
        server.put("auth/jwt/config", json!({"jwks_url": KEYS, "bound_issuer": ISSUER})).await.ok();
        let mut fields = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": "vault", "token_policies": "ci",
            "claim_mappings": {"repository": "repository", "run_id": "run_id", "ref": "ref"},
        });
        merge(&mut fields, role);
        server.put("auth/jwt/role/ci", fields).await.ok();
        let accessor = server.get("sys/auth/jwt").await.ok().text("/data/accessor");
        Self { server, signer, accessor }
    }

    /// A server whose people log in at a provider, by a role `people` at `auth/oidc`.
    async fn of_people(config: Value, role: Value) -> Self {
        let server = TestServer::start().await;
        let signer = Signer::new("RS256", "one");
        let document = json!({
            "issuer": ISSUER, "jwks_uri": KEYS, "authorization_endpoint": "https://idp.example/login?tenant=a", "token_endpoint": TOKENS,
            "userinfo_endpoint": USERINFO,
        });
        server.idp().answers(KEYS, &Signer::set(&[&signer]));
        server.idp().answers("https://idp.example/.well-known/openid-configuration", &document);
        server.put("sys/auth/oidc", json!({"type": "oidc"})).await.ok();
        let mut fields =
            json!({"oidc_discovery_url": ISSUER, "oidc_client_id": "us", "oidc_client_secret": "password", "default_role": "people"});
        merge(&mut fields, config);
        server.put("auth/oidc/config", fields).await.ok();
        let mut fields =
            json!({"user_claim": "email", "allowed_redirect_uris": REDIRECT, "oidc_scopes": "email,groups", "token_policies": "people"});
        merge(&mut fields, role);
        server.put("auth/oidc/role/people", fields).await.ok();
        let accessor = server.get("sys/auth/oidc").await.ok().text("/data/accessor");
        Self { server, signer, accessor }
    }

    async fn login(&self, claims: Value) -> Answer {
        let mut all = json!({"iss": ISSUER, "aud": "vault", "sub": "repo:acme/app", "iat": NOW, "exp": NOW + 600});
        merge(&mut all, claims);
        self.server.put("auth/jwt/login", json!({"role": "ci", "jwt": self.signer.sign(&all)})).nobody().await
    }

    /// Begins a login of a person, and gives the parameters of the page's address.
    async fn begin(&self, more: Value) -> BTreeMap<String, String> {
        self.begin_from("127.0.0.1", more).await
    }

    async fn begin_from(&self, address: &str, more: Value) -> BTreeMap<String, String> {
        let mut fields = json!({"redirect_uri": REDIRECT});
        merge(&mut fields, more);
        let url = self.server.put("auth/oidc/oidc/auth_url", fields).nobody().from(address).await.ok().text("/data/auth_url");
        let (_, query) = url.split_once('?').unwrap_or_default();
        query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The provider will exchange a code for a token with these claims over the usual ones.
    fn provider_gives(&self, begun: &BTreeMap<String, String>, more: Value) {
        self.server.idp().answers(TOKENS, &json!({"id_token": self.id_token(begun, more), "access_token": "access"}));
    }

    fn id_token(&self, begun: &BTreeMap<String, String>, more: Value) -> String {
        let nonce = begun.get("nonce").cloned().unwrap_or_default();
        let mut claims =
            json!({"iss": ISSUER, "aud": "us", "sub": "7", "email": "ann@acme.example", "iat": NOW, "exp": NOW + 600, "nonce": nonce});
        merge(&mut claims, more);
        self.signer.sign(&claims)
    }

    async fn finish(&self, begun: &BTreeMap<String, String>, query: &str) -> Answer {
        let state = begun.get("state").cloned().unwrap_or_default();
        self.server.get(&format!("auth/oidc/oidc/callback?state={state}{query}")).nobody().await
    }
}

fn merge(into: &mut Value, more: Value) {
    for (name, value) in more.as_object().unwrap() {
        into[name] = value.clone();
    }
}

#[tokio::test]
async fn a_login_gives_a_token_with_the_claims_as_metadata() {
    let house = House::of_machines(json!({"token_ttl": "15m"})).await;
    let answer = house.login(json!({"repository": "acme/app"})).await.ok();
    assert_eq!(answer["auth"]["metadata"], json!({"role": "ci", "repository": "acme/app"}));
    assert_eq!((&answer["auth"]["policies"], &answer["auth"]["lease_duration"]), (&json!(["ci", "default"]), &json!(900)));
    assert_eq!((&answer["auth"]["orphan"], &answer["auth"]["renewable"]), (&json!(true), &json!(true)));
    let token = answer.token();
    let looked_up = house.server.get("auth/token/lookup-self").token(&token).await.ok();
    assert_eq!((looked_up.text("/data/display_name"), looked_up.text("/data/path")), ("jwt-repo:acme/app".into(), "auth/jwt/login".into()));
    house.server.put("auth/token/renew-self", json!({})).token(&token).await.ok();
    house.server.delete("auth/jwt/role/ci").await.ok();
    let refused = house.server.put("auth/token/renew-self", json!({})).token(&token).await;
    assert_eq!(refused.refused(400), "failed to renew entry: role ci does not exist during renewal");
}

#[tokio::test]
async fn the_same_subject_is_the_same_entity() {
    let house = House::of_machines(json!({})).await;
    let entity = |answer: Answer| answer.text("/auth/entity_id");
    let (one, again) = (entity(house.login(json!({})).await), entity(house.login(json!({})).await));
    let other = entity(house.login(json!({"sub": "repo:acme/other"})).await);
    assert!(!one.is_empty() && one == again && one != other);
}

#[tokio::test]
async fn a_batch_login_writes_nothing() {
    let house = House::of_machines(json!({"token_type": "batch"})).await;
    let rows = || async {
        let mut all = Vec::new();
        for space in
            [daypass_storage::Space::Config, daypass_storage::Space::Token, daypass_storage::Space::Lease, daypass_storage::Space::Index]
        {
            all.push(house.server.rows(space).await);
        }
        all
    };
    let before = (rows().await, house.server.expiry_entries().await);
    for number in 0..20 {
        let answer = house.login(json!({"sub": format!("repo:acme/app-{number}"), "repository": "acme/app"})).await.ok();
        assert_eq!(answer["auth"]["token_type"], "batch");
        house.login(json!({"aud": "other"})).await.refused(400);
    }
    house.server.work().await;
    assert_eq!((rows().await, house.server.expiry_entries().await), before, "not one row was written or changed");
    let mounts = house.login(json!({})).await.ok().token();
    house.server.get("auth/token/lookup-self").token(&mounts).await.ok();
}

#[tokio::test]
async fn an_aws_session_carries_the_claims_and_they_cannot_stand_for_more() {
    let house = House::of_machines(json!({})).await;
    let server = &house.server;
    server.put("sys/mounts/aws", json!({"type": "aws"})).await.ok();
    let role = json!({
        "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ci",
        "session_name": "{{ .Claims.repository }}-{{ .Claims.run_id }}",
        "session_tags": {"repository": "{{ .Claims.repository }}"},
    });
    server.put("aws/roles/r", role).await.ok();
    server.policy("ci", r#"path "aws/*" { capabilities = ["read", "update"] }"#).await;
    let token = house.login(json!({"repository": "acme/app", "run_id": 42})).await.ok().token();
    server.get("aws/sts/r").token(&token).await.ok();
    let made = server.aws().made();
    let Some(Made::AssumeRole(_, input)) = made.first() else { panic!("{made:?}") };
    assert_eq!((input.session_name.as_str(), input.tags["repository"].as_str()), ("acme_app-42", "acme/app"));
    for claim in ["a*", "a<b>", "{{ .Claims.run_id }}"] {
        let token = house.login(json!({"repository": claim, "run_id": "1"})).await.ok().token();
        assert!(server.get("aws/sts/r").token(&token).await.refused(400).contains("does not take in a tag"), "{claim}");
    }
    let token = house.login(json!({"run_id": "1"})).await.ok().token();
    assert!(server.get("aws/sts/r").token(&token).await.refused(400).contains("the caller's login proved no \"repository\""));
    assert_eq!(house.login(json!({"repository": "a\nb"})).await.refused(400), "claim \"repository\" has control characters");
}

#[tokio::test]
async fn a_claim_cannot_widen_a_templated_policy() {
    let house = House::of_machines(json!({"user_claim": "repository", "token_policies": "own"})).await;
    let server = &house.server;
    server.put("sys/mounts/kv", json!({"type": "kv"})).await.ok();
    for path in ["kv/app/x", "kv/other/x", "kv/a/b/x"] {
        server.put(path, json!({"v": 1})).await.ok();
    }
    let accessor = &house.accessor;
    server.policy("own", &format!(r#"path "kv/{{{{identity.entity.aliases.{accessor}.name}}}}/x" {{ capabilities = ["read"] }}"#)).await;
    let reads = |token: String| async move {
        (server.get("kv/app/x").token(&token).await.status, server.get("kv/other/x").token(&token).await.status)
    };
    assert_eq!(reads(house.login(json!({"repository": "app"})).await.ok().token()).await, (200, 403));
    for claim in ["*", "+", "app/x\" { capabilities = [\"sudo\"] } path \"kv/other", "../other", "{{identity.entity.id}}", "a/../other"] {
        let answer = house.login(json!({ "repository": claim })).await;
        if answer.status == 200 {
            assert_eq!(reads(answer.token()).await, (403, 403), "{claim}");
        }
    }
}

#[tokio::test]
async fn groups_of_the_issuer_are_external_groups() {
    let house = House::of_machines(json!({"groups_claim": "groups"})).await;
    let server = &house.server;
    let group = server.put("identity/group", json!({"type": "external", "policies": "deployers"})).await.ok().text("/data/id");
    let alias = json!({"name": "deploy", "mount_accessor": house.accessor, "canonical_id": group});
    server.put("identity/group-alias", alias).await.ok();
    let member = house.login(json!({"groups": ["deploy", "other"]})).await.ok();
    assert_eq!(member["auth"]["identity_policies"], json!(["deployers"]));
    let stranger = house.login(json!({"groups": "other"})).await.ok();
    assert_eq!(stranger["auth"]["policies"], json!(["ci", "default"]));
    house.login(json!({})).await.refused(400);
}

#[tokio::test]
async fn audit_and_answers_never_hold_the_presented_token() {
    let house = House::of_machines(json!({})).await;
    let token = house.signer.sign(&json!({"iss": ISSUER, "aud": "elsewhere", "sub": "x", "exp": NOW + 60}));
    let refused = house.server.put("auth/jwt/login", json!({"role": "ci", "jwt": token})).nobody().await;
    let signature = token.rsplit('.').next().unwrap();
    assert!(!refused.body.to_string().contains(signature));
}

#[tokio::test]
async fn a_person_logs_in_at_the_provider() {
    let house = House::of_people(json!({}), json!({"claim_mappings": {"department": "department", "sub": "sub"}})).await;
    let begun = house.begin(json!({"client_nonce": "mine"})).await;
    assert_eq!((begun["client_id"].as_str(), begun["code_challenge_method"].as_str(), begun["tenant"].as_str()), ("us", "S256", "a"));
    assert_eq!((begun["scope"].as_str(), begun["response_type"].as_str()), ("openid%20email%20groups", "code"));
    assert_eq!((begun["state"].len(), begun["nonce"].len(), begun["code_challenge"].len()), (40, 40, 43));
    house.provider_gives(&begun, json!({}));
    house.server.idp().answers(USERINFO, &json!({"sub": "7", "department": "platform", "email": "boss@acme.example"}));
    house.server.idp().asked();
    let answer = house.finish(&begun, "&code=the%20code&client_nonce=mine").await.ok();
    assert_eq!(answer["auth"]["metadata"], json!({"role": "people", "department": "platform", "sub": "7"}));
    let looked_up = house.server.get("auth/token/lookup-self").token(&answer.token()).await.ok();
    assert_eq!(looked_up.text("/data/display_name"), "oidc-ann@acme.example", "what is signed wins over what the userinfo endpoint says");
    let asked = house.server.idp().asked();
    let exchange = asked.iter().find(|asked| asked.url == TOKENS).unwrap();
    assert_eq!((exchange.form["code"].as_str(), exchange.form["redirect_uri"].as_str()), ("the code", REDIRECT));
    assert_eq!((exchange.proof.as_str(), exchange.form["code_verifier"].len()), ("Basic us:password", 43));
    assert_eq!(asked.iter().find(|asked| asked.url == USERINFO).unwrap().proof, "Bearer access");
    let again = house.finish(&begun, "&code=the%20code&client_nonce=mine").await;
    assert_eq!(again.refused(400), "Vault login failed. Expired or missing OAuth state.");
}

#[tokio::test]
async fn a_state_is_good_once_and_for_five_minutes() {
    let house = House::of_people(json!({}), json!({})).await;
    let expired = "Vault login failed. Expired or missing OAuth state.";
    let begun = house.begin(json!({})).await;
    house.provider_gives(&begun, json!({}));
    house.server.seconds(300).await;
    assert_eq!(house.finish(&begun, "&code=x").await.refused(400), expired);
    assert_eq!(house.server.get("auth/oidc/oidc/callback?state=made-up&code=x").nobody().await.refused(400), expired);
    assert_eq!(house.server.get("auth/oidc/oidc/callback").nobody().await.refused(400), expired);
    let begun = house.begin(json!({"client_nonce": "mine"})).await;
    house.provider_gives(&begun, json!({}));
    assert_eq!(house.finish(&begun, "&code=x&client_nonce=theirs").await.refused(400), "invalid client_nonce");
    assert_eq!(house.finish(&begun, "&code=x&client_nonce=mine").await.refused(400), expired, "a guess uses it up");
}

#[tokio::test]
async fn strangers_learn_nothing_of_roles_and_redirects() {
    let house = House::of_people(json!({}), json!({})).await;
    house.server.put("auth/oidc/role/machine", json!({"role_type": "jwt", "user_claim": "sub", "bound_subject": "x"})).await.ok();
    for fields in [
        json!({"role": "none"}),
        json!({"role": "machine"}),
        json!({"redirect_uri": "http://localhost:8250/elsewhere"}),
        json!({"redirect_uri": "https://evil.example/oidc/callback"}),
    ] {
        assert!(house.begin(fields.clone()).await.is_empty(), "{fields}");
    }
    assert!(!house.begin(json!({"redirect_uri": "http://localhost:1234/oidc/callback"})).await.is_empty());
    let missing = house.server.put("auth/oidc/oidc/auth_url", json!({"role": "people"})).nobody().await;
    assert_eq!(missing.refused(400), "missing redirect_uri");
    let machines = House::of_machines(json!({})).await;
    let refused = machines.server.put("auth/jwt/oidc/auth_url", json!({"role": "ci", "redirect_uri": REDIRECT})).nobody().await;
    assert_eq!(refused.refused(400), "OIDC login is not configured for this mount");
}

#[tokio::test]
async fn people_for_whom_the_provider_could_not_be_asked_are_told_when_to_come_back() {
    let server = House::of_people(json!({}), json!({})).await.server.restart().await;
    server.idp().is_crowded("https://idp.example/.well-known/openid-configuration");
    let answer = server.put("auth/oidc/oidc/auth_url", json!({"redirect_uri": REDIRECT})).nobody().await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")));
    assert!(answer.text("/errors/0").starts_with("idp.example was not asked: 256 calls to it wait already"), "{answer:?}");
}

#[tokio::test]
async fn a_providers_token_must_be_for_us_for_now_and_for_this_login() {
    let house = House::of_people(json!({}), json!({"max_age": "1h", "bound_claims": {"org": "acme"}})).await;
    let good = json!({"auth_time": NOW, "org": "acme"});
    for (more, told) in [
        (json!({"aud": "others"}), "Token verification failed. invalid audience (aud) claim"),
        (json!({"aud": ["us", "others"]}), "Token verification failed. invalid authorized party (azp) claim"),
        (json!({"azp": "others"}), "Token verification failed. invalid authorized party (azp) claim"),
        (json!({"iss": "https://idp.example/"}), "Token verification failed. invalid issuer (iss) claim"),
        (json!({"nonce": "other"}), "Token verification failed. Invalid ID token nonce."),
        (json!({"nonce": null}), "Token verification failed. Invalid ID token nonce."),
        (json!({"exp": NOW - 61}), "Token verification failed. invalid expiration time (exp) claim: token is expired"),
        (json!({"exp": null}), "Token verification failed. no expiration time (exp) claim in token"),
        (json!({"auth_time": NOW - 3700}), "Token verification failed. auth_time is further back than max_age allows"),
        (json!({"org": "other"}), "error validating claims: claim \"org\" does not match any associated bound claim values"),
        (json!({"email": null}), "claim \"email\" not found in token"),
    ] {
        let begun = house.begin(json!({})).await;
        let mut claims = good.clone();
        merge(&mut claims, more.clone());
        house.provider_gives(&begun, claims);
        let answer = house.finish(&begun, "&code=x").await;
        assert!(answer.refused(400).starts_with(told), "{more}: {answer:?}");
    }
    let begun = house.begin(json!({})).await;
    let mut claims = good;
    merge(&mut claims, json!({"aud": ["us", "others"], "azp": "us"}));
    house.provider_gives(&begun, claims);
    house.finish(&begun, "&code=x").await.ok();
}

#[tokio::test]
async fn a_provider_that_refuses_is_quoted_by_its_code() {
    let house = House::of_people(json!({}), json!({})).await;
    let begun = house.begin(json!({})).await;
    house.server.idp().answers_raw(TOKENS, 400, "application/json", r#"{"error":"invalid_grant","error_description":"code stolen"}"#);
    let answer = house.finish(&begun, "&code=stolen").await;
    assert_eq!(answer.refused(400), "Vault login failed. Error exchanging oidc code: \"idp.example answered 400: invalid_grant\".");
    let begun = house.begin(json!({})).await;
    assert_eq!(house.finish(&begun, "").await.refused(400), "Vault login failed. No code or id_token received.");
    // A token of the provider that is signed otherwise than OpenID Connect says is not taken unless the configuration names the algorithm.
    let begun = house.begin(json!({})).await;
    let other = Signer::new("ES256", "one");
    house.server.idp().answers(TOKENS, &json!({"id_token": other.sign(&json!({"iss": ISSUER}))}));
    let answer = house.finish(&begun, "&code=x").await;
    assert!(answer.refused(400).contains("ES256 is not among jwt_supported_algs"), "{answer:?}");
}

#[tokio::test]
async fn a_provider_may_post_its_answer_as_a_form() {
    let config = json!({"oidc_response_mode": "form_post", "oidc_response_types": "id_token"});
    let ui = "https://vault.example/ui/vault/auth/oidc/oidc/callback";
    let house = House::of_people(config, json!({"allowed_redirect_uris": [REDIRECT, ui]})).await;
    let begun = house.begin(json!({"redirect_uri": ui, "client_nonce": "mine"})).await;
    assert_eq!((begun["response_mode"].as_str(), begun["response_type"].as_str()), ("form_post", "id_token"));
    assert_eq!(begun["redirect_uri"], "https%3A%2F%2Fvault.example%2Fv1%2Fauth%2Foidc%2Foidc%2Fcallback");
    let post = |state: &str, id_token: &str| {
        let form = format!("state={state}&id_token={id_token}");
        house.server.ask("POST", "auth/oidc/oidc/callback").nobody().header("content-type", "application/x-www-form-urlencoded").raw(form)
    };
    let page = post(&begun["state"], &house.id_token(&begun, json!({}))).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));
    let thief = house.id_token(&begun, json!({"email": "eve@acme.example"}));
    assert_eq!(post(&begun["state"], &thief).await.status, 400, "the first answer stays");
    assert_eq!(post("made-up", &thief).await.status, 400);
    let answer = house.finish(&begun, "&code=no_code&client_nonce=mine").await.ok();
    let looked_up = house.server.get("auth/token/lookup-self").token(&answer.token()).await.ok();
    assert_eq!(looked_up.text("/data/display_name"), "oidc-ann@acme.example");
    let plain = House::of_people(json!({}), json!({})).await;
    assert_eq!(plain.server.put("auth/oidc/oidc/callback", json!({"state": "x"})).nobody().await.status, 405);
}

/// Story: whoever began a login could post a code and a token of 30 MiB each to it, without any right, and to 4096 logins of a mount at a time. All of it stayed
/// in memory, and beyond its five minutes where nobody began another login.
#[tokio::test]
async fn nobody_can_fill_the_memory_with_what_only_a_provider_posts() {
    let house = House::of_people(json!({"oidc_response_mode": "form_post"}), json!({})).await;
    let post = async |begun: &BTreeMap<String, String>, fields: String| {
        let form = format!("state={}&{fields}", begun["state"]);
        let kind = "application/x-www-form-urlencoded";
        house.server.ask("POST", "auth/oidc/oidc/callback").nobody().header("content-type", kind).raw(form).await
    };
    let (code, token) = (|bytes| format!("code={}", "c".repeat(bytes)), |bytes| format!("id_token={}", "t".repeat(bytes)));
    let honest = house.begin(json!({})).await;
    assert_eq!(post(&honest, code(8193)).await.refused(400), "code is longer than 8192 bytes: it has 8193");
    assert_eq!(post(&honest, token(65_537)).await.refused(400), "id_token is longer than 65536 bytes: it has 65537");
    let long = json!({"redirect_uri": format!("http://localhost/{}", "r".repeat(2048))});
    assert!(house.server.put("auth/oidc/oidc/auth_url", long).nobody().await.refused(400).starts_with("redirect_uri is longer than 2048"));
    let mut kept = 0;
    while post(&house.begin(json!({})).await, token(65_536)).await.status == 200 {
        kept += 1;
    }
    assert_eq!(kept, 256, "16 MiB");
    assert_eq!(post(&honest, code(100)).await.status, 429);
    // It lost nothing but this try: its own program can bring the code, and a minute after the others are over there is room again.
    house.provider_gives(&honest, json!({}));
    house.finish(&honest, "&code=x").await.ok();
    house.server.seconds(301).await;
    let honest = house.begin(json!({})).await;
    assert_eq!(post(&honest, code(8192)).await.status, 200);
    house.provider_gives(&honest, json!({}));
    house.finish(&honest, "").await.ok();
}

#[tokio::test]
async fn nobody_can_fill_the_memory_with_logins_that_never_end() {
    let house = House::of_people(json!({}), json!({})).await;
    // Story: whoever began them without end ended everybody's.
    let honest = house.begin_from("192.0.2.7", json!({})).await;
    let first = house.begin(json!({})).await;
    for _ in 0..4096 {
        house.begin(json!({})).await;
    }
    assert_eq!(house.finish(&first, "&code=x").await.refused(400), "Vault login failed. Expired or missing OAuth state.");
    let last = house.begin(json!({})).await;
    for begun in [&last, &honest] {
        house.provider_gives(begun, json!({}));
        house.finish(begun, "&code=x").await.ok();
    }
}

/// Story: a quota of the role `ci` was passed by a login that left the role out, where `ci` is the mount's default.
#[tokio::test]
async fn a_quota_of_the_default_role_counts_logins_that_leave_it_out() {
    let House { server, signer, .. } = House::of_machines(json!({})).await;
    server.put("auth/jwt/config", json!({"jwks_url": KEYS, "bound_issuer": ISSUER, "default_role": "ci"})).await.ok();
    server.put("sys/quotas/rate-limit/ci", json!({"path": "auth/jwt", "role": "ci", "rate": 2, "interval": "1h"})).await.ok();
    let claims = json!({"iss": ISSUER, "aud": "vault", "sub": "repo:acme/app", "iat": NOW, "exp": NOW + 600});
    let login = async |server: &TestServer, mut fields: Value| {
        fields["jwt"] = signer.sign(&claims).into();
        server.put("auth/jwt/login", fields).nobody().await.status
    };
    assert_eq!([login(&server, json!({})).await, login(&server, json!({"role": ""})).await], [200, 200]);
    assert_eq!([login(&server, json!({})).await, login(&server, json!({"role": "ci"})).await], [429, 429]);
    assert_eq!(login(&server, json!({"role": "CI"})).await, 429, "the same role to this method");
    // After a start nobody has read the configuration yet.
    let server = server.restart().await;
    assert_eq!([login(&server, json!({"role": "ci"})).await, login(&server, json!({"role": "ci"})).await], [200, 200]);
    assert_eq!(login(&server, json!({})).await, 429);
}
