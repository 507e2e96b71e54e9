//! The engine by itself: keys, tokens, claims, configuration and roles. The whole way through the pipeline is in the testkit's rooms.

mod attacks;
mod configuration;
mod keysets;
mod roles;

use std::sync::Arc;

use daypass_idp::{ScriptedIdp, Signer};
use serde_json::{Map, Value, json};

use super::Jwt;
use crate::testing::{Answer, Bench};

const ISSUER: &str = "https://ci.example";
const AUDIENCE: &str = "https://vault.example";
/// What the bench's clock shows.
const NOW: i64 = 1_767_323_045;

/// A mount whose issuer publishes its keys at this URL.
const KEYS: &str = "https://ci.example/jwks";

struct Issuer {
    bench: Bench,
    idp: Arc<ScriptedIdp>,
    signer: Signer,
}

impl Issuer {
    /// A mount with a key set and a role `ci`.
    async fn with_keys(algorithm: &str) -> Self {
        let idp = Arc::new(ScriptedIdp::default());
        let bench = Bench::new(Jwt::new(Arc::clone(&idp) as Arc<_>), "auth/jwt/", "jwt");
        let signer = Signer::new(algorithm, "one");
        idp.answers(KEYS, &Signer::set(&[&signer]));
        let issuer = Self { bench, idp, signer };
        issuer.config(json!({"jwks_url": KEYS, "bound_issuer": ISSUER})).await;
        issuer.role(json!({})).await;
        issuer
    }

    /// The same with the key in the configuration itself.
    async fn with_pem(algorithm: &str) -> Self {
        let issuer = Self::with_keys(algorithm).await;
        issuer.config(json!({"jwt_validation_pubkeys": [issuer.signer.pem()], "bound_issuer": ISSUER})).await;
        issuer
    }

    async fn config(&self, config: Value) {
        let answer = self.bench.call("POST", "config", config).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// The role `ci` with more fields.
    async fn role(&self, more: Value) {
        let role = json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": AUDIENCE, "token_policies": "ci"});
        let answer = self.bench.call("POST", "role/ci", with(role, more)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    async fn login(&self, token: &str) -> Answer {
        self.bench.call("POST", "login", json!({"role": "ci", "jwt": token})).await
    }

    /// A login with these claims over the usual ones.
    async fn login_with(&self, more: Value) -> Answer {
        self.login(&self.signer.sign(&claims(more))).await
    }

    /// The error of a login with these claims over the usual ones.
    async fn refusal(&self, more: Value) -> String {
        refusal(&self.login_with(more).await)
    }
}

/// The usual claims, with more; `null` takes one away.
fn claims(more: Value) -> Value {
    let usual = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme/app", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300,
        "repository": "acme/app", "ref": "refs/heads/main",
    });
    with(usual, more)
}

fn with(value: Value, more: Value) -> Value {
    let (Value::Object(mut map), Value::Object(more)) = (value, more) else { panic!("objects are wanted") };
    map.extend(more);
    Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
}

#[track_caller]
fn refusal(answer: &Answer) -> String {
    assert_eq!(answer.status, 400, "{answer:?}");
    answer.body["errors"][0].as_str().unwrap().to_owned()
}

/// With one claim set, to `null` too: it is then taken away from the usual ones.
fn with_null(value: Value, claim: &str, to: Value) -> Value {
    let Value::Object(mut map) = value else { panic!("an object is wanted") };
    map.insert(claim.to_owned(), to);
    Value::Object(map)
}
