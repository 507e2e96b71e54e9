//! `role/` and what a login makes of it.

use daypass_sdk::{Changes, Kind, Operation, Seconds};
use serde_json::{Value, json};

use super::{AUDIENCE, Issuer, claims, refusal};

#[tokio::test]
async fn contradictions_are_refused_in_vaults_words() {
    let issuer = Issuer::with_keys("ES256").await;
    let machine = |more: Value| super::with(json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": AUDIENCE}), more);
    for (role, text) in [
        (json!({}), "a user claim must be defined on the role"),
        (json!({"user_claim": "sub"}), "'allowed_redirect_uris' must be set if 'role_type' is 'oidc' or unspecified."),
        (json!({"user_claim": "sub", "role_type": "jwt"}), "must have at least one bound constraint when creating/updating a role"),
        (machine(json!({"role_type": "saml"})), "invalid 'role_type': saml"),
        (machine(json!({"bound_claims_type": "regex"})), "invalid 'bound_claims_type': regex"),
        (machine(json!({"bound_claims": {"x": {"y": "z"}}})), "claim is not a string or list: {\"y\":\"z\"}"),
        (machine(json!({"claim_mappings": {"x": "role"}})), "metadata key \"role\" is reserved and may not be a mapping destination"),
        (machine(json!({"claim_mappings": {"x": "a", "y": "a"}})), "multiple keys are mapped to metadata key \"a\""),
        (
            machine(json!({"token_period": "1000h"})),
            "'period' of '\"1000h0m0s\"' is greater than the backend's maximum lease TTL of '\"768h0m0s\"'",
        ),
        (machine(json!({"token_ttl": "2h", "token_max_ttl": "1h"})), "'token_ttl' cannot be greater than 'token_max_ttl'"),
    ] {
        assert_eq!(refusal(&issuer.bench.call("POST", "role/x", role.clone()).await), text, "{role}");
    }
    assert_eq!(issuer.bench.call("GET", "role/x", Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_read_shows_what_was_written_and_an_update_changes_only_what_it_names() {
    let issuer = Issuer::with_keys("ES256").await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["https://github.com/acme"], "bound_claims_type": "glob",
        "bound_claims": {"repository": ["acme/*"]}, "claim_mappings": {"repository": "repo"}, "token_ttl": 900,
    });
    assert_eq!(issuer.bench.call("POST", "role/Gh", role).await.status, 204);
    let expected = json!({
        "role_type": "jwt", "expiration_leeway": 0, "not_before_leeway": 0, "clock_skew_leeway": 0,
        "bound_audiences": ["https://github.com/acme"], "bound_subject": "", "bound_claims_type": "glob",
        "bound_claims": {"repository": ["acme/*"]}, "claim_mappings": {"repository": "repo"}, "user_claim": "sub",
        "user_claim_json_pointer": false, "groups_claim": "", "allowed_redirect_uris": null, "oidc_scopes": null,
        "verbose_oidc_logging": false, "max_age": 0, "token_ttl": 900, "token_bound_cidrs": [], "token_explicit_max_ttl": 0,
        "token_max_ttl": 0, "token_no_default_policy": false, "token_num_uses": 0, "token_period": 0, "token_policies": [],
        "token_type": "default",
    });
    assert_eq!(issuer.bench.call("GET", "role/Gh", Value::Null).await.body["data"], expected);
    assert_eq!(issuer.bench.call("GET", "role/gh", Value::Null).await.body["data"], expected);
    let update = json!({"bound_subject": "x", "expiration_leeway": "-1", "clock_skew_leeway": "2m", "policies": "a,b"});
    assert_eq!(issuer.bench.call("POST", "role/Gh", update).await.status, 204);
    let shown = issuer.bench.call("GET", "role/Gh", Value::Null).await.body["data"].clone();
    assert_eq!((&shown["bound_subject"], &shown["bound_claims"]), (&json!("x"), &expected["bound_claims"]));
    assert_eq!((&shown["expiration_leeway"], &shown["clock_skew_leeway"]), (&json!(-1), &json!(120)));
    assert_eq!((&shown["policies"], &shown["token_policies"]), (&json!(["a", "b"]), &json!(["a", "b"])));
    assert_eq!(issuer.bench.call("LIST", "role", Value::Null).await.body["data"]["keys"], json!(["ci", "gh"]));
    assert_eq!(issuer.bench.call("DELETE", "role/Gh", Value::Null).await.status, 204);
    assert_eq!(issuer.bench.call("LIST", "role", Value::Null).await.body["data"]["keys"], json!(["ci"]));
}

#[tokio::test]
async fn the_command_lines_texts_are_read_as_objects() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.role(json!({"bound_claims": r#"{"repository":["acme/app"]}"#, "claim_mappings": ["repository=repo", "/env/name=env"]})).await;
    let shown = issuer.bench.call("GET", "role/ci", Value::Null).await.body["data"].clone();
    assert_eq!((&shown["bound_claims"], &shown["claim_mappings"]["/env/name"]), (&json!({"repository": ["acme/app"]}), &json!("env")));
    let answer = issuer.login_with(json!({"env": {"name": "prod"}})).await;
    assert_eq!(answer.body["auth"]["metadata"], json!({"role": "ci", "repo": "acme/app", "env": "prod"}));
    issuer.role(json!({"bound_claims": "", "claim_mappings": ""})).await;
    let shown = issuer.bench.call("GET", "role/ci", Value::Null).await.body["data"].clone();
    assert_eq!((&shown["bound_claims"], &shown["claim_mappings"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn refusals_of_a_login_are_vaults() {
    let issuer = Issuer::with_keys("ES256").await;
    let redirects = json!({"user_claim": "sub", "allowed_redirect_uris": "http://localhost:8250/oidc/callback"});
    assert_eq!(issuer.bench.call("POST", "role/people", redirects).await.status, 204);
    for (login, text) in [
        (json!({}), "missing role"),
        (json!({"role": "", "jwt": "x"}), "missing role"),
        (json!({"role": "none", "jwt": "x"}), "role \"none\" could not be found"),
        (json!({"role": "people", "jwt": "x"}), "role with oidc role_type is not allowed"),
        (json!({"role": "ci"}), "missing token"),
        (json!({"role": "ci", "jwt": ""}), "missing token"),
        (json!({"role": "ci", "jwt": "x"}), "error validating token: malformed token: it must have three parts with a dot between them"),
    ] {
        assert_eq!(refusal(&issuer.bench.call("POST", "login", login.clone()).await), text, "{login}");
    }
    issuer.config(json!({"jwks_url": super::KEYS, "default_role": "ci"})).await;
    let token = issuer.signer.sign(&super::claims(json!({})));
    assert_eq!(issuer.bench.call("POST", "login", json!({ "jwt": token })).await.status, 200);
    issuer.role(json!({"token_bound_cidrs": "10.0.0.0/8"})).await;
    assert_eq!(issuer.login(&token).await.status, 403);
}

#[tokio::test]
async fn a_login_says_who_it_is_for() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.role(json!({"claim_mappings": {"repository": "repo", "run": "run", "protected": "protected", "absent": "absent"}})).await;
    let answer = issuer.login_with(json!({"run": 42, "protected": true})).await;
    assert_eq!(answer.body["auth"]["metadata"], json!({"role": "ci", "repo": "acme/app", "run": "42", "protected": "true"}));
    assert_eq!(answer.body["auth"]["policies"], json!(["ci", "default"]));
    assert_eq!(issuer.refusal(json!({"repository": {"x": 1}})).await, "error converting claim 'repository' to string");
    issuer.role(json!({"user_claim": "/who/name"})).await;
    assert_eq!(issuer.refusal(json!({"who": {"name": "x"}})).await, "claim \"/who/name\" not found in token", "a name, not a pointer");
    issuer.role(json!({"user_claim_json_pointer": true, "claim_mappings": {}})).await;
    assert_eq!(issuer.login_with(json!({"who": {"name": "x"}})).await.status, 200);
}

#[tokio::test]
async fn groups_are_a_text_or_a_list_of_texts() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.role(json!({"groups_claim": "groups"})).await;
    for good in [json!("a"), json!(["a", "", "b"]), json!([])] {
        assert_eq!(issuer.login_with(json!({ "groups": good })).await.status, 200, "{good}");
    }
    for (bad, text) in [
        (Value::Null, "\"groups\" claim not found in token"),
        (json!(5), "\"groups\" claim could not be converted to string list"),
        (json!({"a": 1}), "\"groups\" claim could not be converted to string list"),
        (json!(["a", 5]), "value \"5\" in groups claim could not be parsed as string"),
    ] {
        assert_eq!(issuer.refusal(json!({ "groups": bad })).await, text, "{bad}");
    }
}

#[tokio::test]
async fn an_old_login_at_the_provider_is_not_taken() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.role(json!({"max_age": "5m"})).await;
    assert_eq!(issuer.login_with(json!({"auth_time": super::NOW - 360})).await.status, 200, "with the skew of clocks");
    let old = "error validating token: auth_time is further back than max_age allows";
    assert_eq!(issuer.refusal(json!({"auth_time": super::NOW - 361})).await, old);
    assert_eq!(issuer.refusal(json!({})).await, "error validating token: auth_time claim is missing, which max_age needs");
}

#[tokio::test]
async fn renewal_follows_the_role() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer.role(json!({"token_ttl": "10m", "token_max_ttl": "20m"})).await;
    let renew = || issuer.bench.mounted.renew_login(issuer.bench.cx("", Operation::Update), json!({"role": "ci"}));
    let renewal = renew().await.unwrap();
    assert_eq!((renewal.terms.ttl, renewal.terms.max_ttl), (Seconds(600), Seconds(1200)));
    issuer.bench.call("DELETE", "role/ci", Value::Null).await;
    let error = renew().await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::BadRequest, "role ci does not exist during renewal"));
}

/// Story: a token came out of a file that ended with a newline, and was refused as malformed, while Vault takes it.
#[tokio::test]
async fn white_space_around_a_token_does_not_matter() {
    let issuer = Issuer::with_keys("ES256").await;
    let token = issuer.signer.sign(&claims(json!({})));
    assert_eq!(issuer.login(&format!(" {token}\r\n")).await.status, 200);
    assert_eq!(refusal(&issuer.login(" \n").await), "missing token");
}

/// Story: names of roles were compared to the letter, where Vault folds them: a pipeline that says `CI` found no role `ci`. Roles that an older
/// version stored with capitals are still found under the name that they were given, and by no other.
#[tokio::test]
async fn names_of_roles_are_folded() {
    let issuer = Issuer::with_keys("ES256").await;
    let token = issuer.signer.sign(&claims(json!({})));
    let login = |role: &str| issuer.bench.call("POST", "login", json!({"role": role, "jwt": token}));
    let answer = login("CI").await;
    assert_eq!((answer.status, &answer.body["auth"]["metadata"]["role"]), (200, &json!("ci")));
    assert_eq!(refusal(&login("None").await), "role \"none\" could not be found");
    issuer.config(json!({"jwks_url": super::KEYS, "default_role": "Ci"})).await;
    assert_eq!(issuer.bench.call("POST", "login", json!({"jwt": token})).await.status, 200);
    assert_eq!(issuer.bench.call("GET", "config", Value::Null).await.body["data"]["default_role"], "ci");
    // As an older version left it.
    let cx = issuer.bench.cx("", Operation::Update);
    let older = cx.store.get("role/ci").await.unwrap().unwrap();
    cx.store.commit(Changes::new().put("role/Old", older.value)).await.unwrap();
    assert_eq!(login("Old").await.body["auth"]["metadata"]["role"], "Old");
    assert_eq!(refusal(&login("old").await), "role \"old\" could not be found");
    assert_eq!(issuer.bench.call("POST", "role/Old", json!({"bound_subject": "nobody"})).await.status, 204);
    assert_eq!(refusal(&login("Old").await), "error validating token: invalid subject (sub) claim");
    assert_eq!(
        issuer.bench.call("POST", "role/old", json!({"bound_subject": "other", "user_claim": "sub", "role_type": "jwt"})).await.status,
        204
    );
    assert_eq!(issuer.bench.call("DELETE", "role/Old", Value::Null).await.status, 204);
    let renewed = issuer.bench.mounted.renew_login(issuer.bench.cx("", Operation::Update), json!({"role": "Old"})).await;
    assert_eq!(renewed.unwrap_err().message, "role Old does not exist during renewal", "the other one does not stand in for it");
    assert_eq!(issuer.bench.call("DELETE", "role/old", Value::Null).await.status, 204);
    assert_eq!(issuer.bench.call("LIST", "role", Value::Null).await.body["data"]["keys"], json!(["ci"]));
}
