//! The calls to a Kubernetes API server: whose a token is, and which labels a namespace has. Source: Kubernetes API reference, TokenReview v1 and Namespace v1.

use std::collections::BTreeMap;
use std::time::Duration;

use daypass_base::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Ask, Idp, IdpError, Payload, Proof, Result, Trust, Url, percent_encoded, strict};

/// Longest call.
const ASK_MAX: Duration = Duration::from_secs(10);
/// Labels of a namespace that are read.
const LABELS_MAX: usize = 1_000;

/// An API server, and who asks it.
#[derive(Debug)]
pub struct Cluster {
    /// The base of its addresses, without a slash at the end.
    pub host: String,
    /// Whose certificate it has.
    pub trust: Trust,
    /// The token of whoever asks.
    pub proof: Secret<String>,
}

/// A service account, as the API server knows the token of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its unique id.
    pub uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Review {
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    labels: BTreeMap<String, String>,
}

/// Asks whose token this is, for one of these audiences; none are the server's own. `None` when it is nobody's: unknown, expired, of a deleted
/// account, for another audience. Errors: `Mismatch` when it is no service account's.
pub async fn review(idp: &dyn Idp, cluster: &Cluster, token: &Secret<String>, audiences: &[String]) -> Result<Option<Account>> {
    // To the API server, which checks it.
    let mut spec = json!({"token": token.expose()});
    if let (Some(spec), false) = (spec.as_object_mut(), audiences.is_empty()) {
        spec.insert("audiences".to_owned(), json!(audiences));
    }
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
    let payload = Payload::Json(Secret::new(body.to_string()));
    let answer = asked(idp, cluster, "/apis/authentication.k8s.io/v1/tokenreviews", payload).await?;
    vouched(cluster, answer, audiences)
}

/// For fuzzing: reads an API server's answer about a token.
#[doc(hidden)]
#[must_use]
pub fn read_review(body: &[u8], audiences: &[String]) -> Option<Account> {
    let cluster = Cluster { host: String::new(), trust: Trust::System, proof: Secret::default() };
    let answer = strict::object(body).map(Value::Object).ok()?;
    vouched(&cluster, answer, audiences).ok().flatten()
}

fn vouched(cluster: &Cluster, answer: Value, audiences: &[String]) -> Result<Option<Account>> {
    // A list would be read as the fields in their order.
    if ["/status", "/status/user"].iter().any(|place| answer.pointer(place).is_some_and(|part| !part.is_object())) {
        return Err(nonsense(cluster, "it is no TokenReview"));
    }
    let Review { status } =
        Review::deserialize(answer).map_err(|_its_text_may_repeat_the_answer| nonsense(cluster, "it is no TokenReview"))?;
    if !status.authenticated {
        return Ok(None);
    }
    // A server that knows nothing of audiences names none, and has checked none.
    if !audiences.is_empty() && !audiences.iter().any(|wanted| status.audiences.contains(wanted)) {
        return Err(IdpError::Mismatch("the API server did not say that the token is for an audience that was asked about".to_owned()));
    }
    let parts: Vec<&str> = status.user.username.split(':').collect();
    let ["system", "serviceaccount", namespace, name] = parts.as_slice() else {
        return Err(IdpError::Mismatch("the token is no service account's".to_owned()));
    };
    if namespace.is_empty() || name.is_empty() || status.user.uid.is_empty() {
        return Err(nonsense(cluster, "it names no service account with a unique id"));
    }
    Ok(Some(Account { name: (*name).to_owned(), namespace: (*namespace).to_owned(), uid: status.user.uid }))
}

/// The labels of a namespace.
pub async fn namespace_labels(idp: &dyn Idp, cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, String>> {
    let path = format!("/api/v1/namespaces/{}", percent_encoded(namespace));
    let answer = asked(idp, cluster, &path, Payload::Nothing).await?;
    let found = Namespace::deserialize(answer).map_err(|_its_text_may_repeat_the_answer| nonsense(cluster, "it is no Namespace"))?;
    let labels = found.metadata.labels;
    if labels.len() > LABELS_MAX { Err(nonsense(cluster, "it has more than 1000 labels")) } else { Ok(labels) }
}

async fn asked(idp: &dyn Idp, cluster: &Cluster, path: &str, payload: Payload) -> Result<Value> {
    let url = Url::parse(&format!("{}{path}", cluster.host)).map_err(IdpError::Settings)?;
    let host = url.host().to_owned();
    let proof = Proof::Bearer(cluster.proof.clone());
    let answer = idp.ask(Ask { url, payload, proof, trust: cluster.trust.clone(), deadline: ASK_MAX }).await?;
    if !(200..300).contains(&answer.status) {
        return Err(IdpError::Refused { host, status: answer.status, detail: reason(&answer.body) });
    }
    strict::object(&answer.body).map(Value::Object).map_err(|why| nonsense(cluster, &why))
}

/// The reason of a Status, such as `Forbidden`. Its message may repeat what was sent, so it is not told.
fn reason(body: &[u8]) -> String {
    let status = serde_json::from_slice::<Value>(body).ok();
    let reason = status.as_ref().and_then(|status| status.get("reason")).and_then(Value::as_str).unwrap_or_default();
    let plain = !reason.is_empty() && reason.len() <= 64 && reason.chars().all(|c| c.is_ascii_alphanumeric());
    if plain { format!(": {reason}") } else { String::new() }
}

fn nonsense(cluster: &Cluster, why: &str) -> IdpError {
    IdpError::Nonsense(format!("the answer of {} cannot be used: {why}", cluster.host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScriptedIdp;

    const HOST: &str = "https://10.0.0.1:6443/k8s";
    const REVIEWS: &str = "https://10.0.0.1:6443/k8s/apis/authentication.k8s.io/v1/tokenreviews";

    fn cluster() -> Cluster {
        Cluster { host: HOST.to_owned(), trust: Trust::System, proof: Secret::from("reviewer") }
    }

    async fn reviewed(status: Value, audiences: &[&str]) -> (Result<Option<Account>>, Value) {
        let idp = ScriptedIdp::default();
        idp.answers_raw(REVIEWS, 201, "application/json", &json!({"kind": "TokenReview", "status": status}).to_string());
        let audiences: Vec<String> = audiences.iter().map(|text| (*text).to_owned()).collect();
        let answer = review(&idp, &cluster(), &Secret::from("a.b.c"), &audiences).await;
        let asked = idp.asked().remove(0);
        assert_eq!(asked.proof, "Bearer reviewer");
        (answer, serde_json::from_str(&asked.json).unwrap())
    }

    fn known(audiences: Value) -> Value {
        json!({"authenticated": true, "user": {"username": "system:serviceaccount:builds:runner", "uid": "u1"}, "audiences": audiences})
    }

    #[tokio::test]
    async fn a_token_is_sent_with_its_audiences_and_its_account_comes_back() {
        let (answer, sent) = reviewed(known(json!(["vault"])), &["vault"]).await;
        assert_eq!(answer.unwrap().unwrap(), Account { name: "runner".to_owned(), namespace: "builds".to_owned(), uid: "u1".to_owned() });
        assert_eq!(
            sent,
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "a.b.c", "audiences": ["vault"]}})
        );
        let (answer, sent) = reviewed(known(json!([])), &[]).await;
        assert!(answer.unwrap().is_some());
        assert_eq!(sent["spec"], json!({"token": "a.b.c"}));
    }

    #[tokio::test]
    async fn what_the_server_does_not_vouch_for_is_nobodys() {
        assert_eq!(reviewed(json!({"authenticated": false, "error": "a.b.c is expired"}), &[]).await.0, Ok(None));
        assert_eq!(reviewed(json!({}), &[]).await.0, Ok(None));
        // A server without a mind for audiences says yes to all of them.
        assert!(matches!(reviewed(known(json!([])), &["vault"]).await.0, Err(IdpError::Mismatch(_))));
        for username in [
            "kubernetes-admin",
            "system:serviceaccount:builds",
            "system:node:a:b",
            "system:serviceaccount:a:b:c",
            "system:serviceaccount::x",
        ] {
            let mut status = known(json!([]));
            status["user"]["username"] = json!(username);
            assert!(reviewed(status, &[]).await.0.is_err(), "{username}");
        }
    }

    #[tokio::test]
    async fn a_refusal_tells_its_reason_and_nothing_that_was_sent() {
        let idp = ScriptedIdp::default();
        let refused = |body: &str| idp.answers_raw(REVIEWS, 403, "application/json", body);
        refused(r#"{"kind":"Status","reason":"Forbidden","message":"a.b.c may not"}"#);
        let error = review(&idp, &cluster(), &Secret::from("a.b.c"), &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.1:6443 answered 403: Forbidden");
        refused(r#"{"reason":"a.b.c"}"#);
        let error = review(&idp, &cluster(), &Secret::from("a.b.c"), &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "10.0.0.1:6443 answered 403");
        let error = namespace_labels(&idp, &cluster(), "../secrets").await.unwrap_err();
        assert!(matches!(error, IdpError::Unreachable { .. }), "{error}");
        assert_eq!(idp.asked().pop().unwrap().url, format!("{HOST}/api/v1/namespaces/..%2Fsecrets"));
    }
}
