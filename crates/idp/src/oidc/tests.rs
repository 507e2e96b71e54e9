use serde_json::json;

use super::*;
use crate::ScriptedIdp;

const ISSUER: &str = "https://idp.example/realm";
const DOCUMENT: &str = "https://idp.example/realm/.well-known/openid-configuration";
const SHORT: Duration = Duration::from_secs(5);

async fn discovered(document: &Value, issuer: &str) -> Result<Provider> {
    let idp = ScriptedIdp::default();
    idp.answers(DOCUMENT, document);
    discover(&idp, issuer, &Trust::System, SHORT).await
}

#[tokio::test]
async fn a_provider_must_call_itself_what_was_configured_to_the_last_slash() {
    let document = |issuer: &str| json!({"issuer": issuer, "jwks_uri": "https://keys.example/jwks"});
    let provider = discovered(&document(ISSUER), ISSUER).await.unwrap();
    assert_eq!((provider.keys.as_str(), provider.authorization), ("https://keys.example/jwks", None));
    for (says, configured) in
        [("https://idp.example/realm/", ISSUER), (ISSUER, "https://idp.example/realm/"), ("https://evil.example", ISSUER)]
    {
        let error = discovered(&document(says), configured).await.unwrap_err();
        assert!(matches!(error, IdpError::Mismatch(_)), "{says} {configured}: {error}");
    }
    assert!(discovered(&document("https://idp.example/realm/"), "https://idp.example/realm/").await.is_ok());
}

#[tokio::test]
async fn a_provider_cannot_send_us_to_this_machine_or_to_plain_http() {
    for keys in ["http://127.0.0.1:9/jwks", "https://localhost/jwks", "http://keys.example/jwks", "file:///etc/passwd", "not a url"] {
        let document = json!({"issuer": ISSUER, "jwks_uri": keys});
        assert!(matches!(discovered(&document, ISSUER).await, Err(IdpError::Nonsense(_))), "{keys}");
    }
    let twice = r#"{"issuer":"https://idp.example/realm","jwks_uri":"https://a.example","jwks_uri":"https://b.example"}"#;
    let idp = ScriptedIdp::default();
    idp.answers_raw(DOCUMENT, 200, "application/json", twice);
    assert!(discover(&idp, ISSUER, &Trust::System, SHORT).await.unwrap_err().to_string().contains("twice"));
}

#[tokio::test]
async fn redirects_and_refusals_are_no_answers() {
    let idp = ScriptedIdp::default();
    idp.answers_raw(DOCUMENT, 302, "", "");
    assert!(matches!(discover(&idp, ISSUER, &Trust::System, SHORT).await, Err(IdpError::Redirected { status: 302, .. })));
    idp.answers_raw(DOCUMENT, 503, "text/html", "<html>");
    let error = discover(&idp, ISSUER, &Trust::System, SHORT).await.unwrap_err();
    assert_eq!(error.to_string(), "idp.example answered 503");
    idp.is_down(DOCUMENT);
    assert!(matches!(discover(&idp, ISSUER, &Trust::System, SHORT).await, Err(IdpError::Unreachable { .. })));
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_password_where_the_provider_takes_it() {
    let given = || Exchange {
        code: "code".into(),
        verifier: "verifier".into(),
        redirect_uri: "http://localhost:8250/oidc/callback".to_owned(),
        client_id: "us".to_owned(),
        client_secret: "password".into(),
    };
    let mut document = json!({"issuer": ISSUER, "jwks_uri": "https://keys.example", "token_endpoint": "https://idp.example/token"});
    for (ways, proof, in_form) in [
        (Value::Null, "Basic us:password", false),
        (json!(["client_secret_basic", "client_secret_post"]), "Basic us:password", false),
        (json!(["client_secret_post"]), "", true),
    ] {
        document["token_endpoint_auth_methods_supported"] = ways;
        let provider = discovered(&document, ISSUER).await.unwrap();
        let idp = ScriptedIdp::default();
        idp.answers("https://idp.example/token", &json!({"id_token": "a.b.c", "access_token": "x"}));
        let tokens = exchange(&idp, &provider, &Trust::System, SHORT, given()).await.unwrap();
        assert!(tokens.id == Secret::from("a.b.c") && tokens.access.is_some());
        let asked = idp.asked().remove(0);
        assert_eq!((asked.proof.as_str(), asked.form.contains_key("client_secret")), (proof, in_form));
        assert_eq!((asked.form["grant_type"].as_str(), asked.form["code_verifier"].as_str()), ("authorization_code", "verifier"));
        idp.answers_raw("https://idp.example/token", 400, "application/json", r#"{"error":"invalid_grant"}"#);
        let error = exchange(&idp, &provider, &Trust::System, SHORT, given()).await.unwrap_err();
        assert_eq!(error.to_string(), "idp.example answered 400: invalid_grant");
    }
}
