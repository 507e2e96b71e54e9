//! One test for each known way in which verifiers of tokens have failed.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use daypass_idp::Signer;
use serde_json::{Value, json};

use super::{AUDIENCE, ISSUER, Issuer, NOW, claims, refusal};
use crate::auth::glob::glob;

fn part(text: &str) -> String {
    BASE64URL_NOPAD.encode(text.as_bytes())
}

#[tokio::test]
async fn every_algorithm_that_may_be_verified_is() {
    for algorithm in ["RS256", "ES256", "ES384", "ES512", "EdDSA"] {
        for issuer in [Issuer::with_keys(algorithm).await, Issuer::with_pem(algorithm).await] {
            let answer = issuer.login_with(json!({})).await;
            assert_eq!(answer.status, 200, "{algorithm}: {answer:?}");
            let other = Signer::new(algorithm, "one");
            let text = refusal(&issuer.login(&other.sign(&claims(json!({})))).await);
            assert!(text.starts_with("error validating token: error verifying token signature: "), "{text}");
        }
    }
    let issuer = Issuer::with_keys("RS256").await;
    for algorithm in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        let header = json!({"alg": algorithm, "kid": "one"}).to_string();
        let token = issuer.signer.sign_as(&header, &claims(json!({})).to_string());
        assert_eq!(issuer.login(&token).await.status, 200, "{algorithm}");
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_never_taken() {
    for issuer in [Issuer::with_keys("RS256").await, Issuer::with_pem("RS256").await] {
        let payload = part(&claims(json!({})).to_string());
        for algorithm in ["none", "None", "NONE", "nOnE", ""] {
            for signature in ["", "AAAA"] {
                let token = format!("{}.{payload}.{signature}", part(&json!({"alg": algorithm}).to_string()));
                let text = refusal(&issuer.login(&token).await);
                assert!(text.starts_with("error validating token: invalid algorithm (alg) header parameter"), "{text}");
            }
        }
        let good = issuer.signer.sign(&claims(json!({})));
        let unsigned = good.rsplit_once('.').unwrap().0;
        for token in [format!("{unsigned}."), unsigned.to_owned(), format!("{good}."), format!("{good}.x"), format!("{good}=")] {
            assert!(refusal(&issuer.login(&token).await).starts_with("error validating token: "), "{token}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_no_password_for_hmac() {
    let issuer = Issuer::with_pem("RS256").await;
    let message = format!("{}.{}", part(r#"{"alg":"HS256","kid":"one"}"#), part(&claims(json!({})).to_string()));
    for secret in [issuer.signer.pem(), issuer.signer.pem().trim().to_owned(), issuer.signer.jwk().to_string()] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
        let text = refusal(&issuer.login(&format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))).await);
        assert!(text.contains("\"HS256\" is never accepted"), "{text}");
    }
    let answer = issuer.bench.call("POST", "config", json!({"jwks_url": super::KEYS, "jwt_supported_algs": "RS256,HS256"})).await;
    assert_eq!(refusal(&answer), "invalid jwt_supported_algs: unsupported algorithm \"HS256\"");
    let answer = issuer.bench.call("POST", "config", json!({"jwks_url": super::KEYS, "jwt_supported_algs": "none"})).await;
    assert_eq!(refusal(&answer), "invalid jwt_supported_algs: unsupported algorithm \"none\"");
}

#[tokio::test]
async fn a_symmetric_key_in_a_key_set_verifies_nothing() {
    let issuer = Issuer::with_keys("RS256").await;
    let oct = json!({"kty": "oct", "kid": "sym", "k": "AAAA", "alg": "HS256"});
    issuer.idp.answers(super::KEYS, &json!({"keys": [oct.clone(), issuer.signer.jwk()]}));
    issuer.config(json!({"jwks_url": super::KEYS})).await;
    assert_eq!(issuer.login_with(json!({})).await.status, 200);
    issuer.idp.answers(super::KEYS, &json!({ "keys": [oct] }));
    let answer = issuer.bench.call("POST", "config", json!({"jwks_url": super::KEYS})).await;
    assert!(refusal(&answer).ends_with("it has no key that verifies tokens"), "{answer:?}");
}

#[tokio::test]
async fn the_type_of_a_key_decides_not_the_header() {
    let issuer = Issuer::with_keys("ES256").await;
    for algorithm in ["RS256", "PS256", "ES384", "ES512", "EdDSA"] {
        let token = issuer.signer.sign_as(&json!({"alg": algorithm, "kid": "one"}).to_string(), &claims(json!({})).to_string());
        assert!(refusal(&issuer.login(&token).await).contains("error verifying token signature"), "{algorithm}");
    }
    // A key that its issuer has for one algorithm verifies no other.
    let issuer = Issuer::with_keys("RS256").await;
    let mut jwk = issuer.signer.jwk();
    jwk["alg"] = "RS256".into();
    issuer.idp.answers(super::KEYS, &json!({ "keys": [jwk] }));
    issuer.config(json!({"jwks_url": super::KEYS})).await;
    let token = issuer.signer.sign_as(r#"{"alg":"PS256","kid":"one"}"#, &claims(json!({})).to_string());
    assert!(refusal(&issuer.login(&token).await).contains("error verifying token signature"));
    assert_eq!(issuer.login_with(json!({})).await.status, 200);
}

#[tokio::test]
async fn the_list_of_algorithms_is_kept_to() {
    let issuer = Issuer::with_keys("RS256").await;
    issuer.config(json!({"jwks_url": super::KEYS, "jwt_supported_algs": ["PS256", "ES256"]})).await;
    let text = issuer.refusal(json!({})).await;
    assert_eq!(text, "error validating token: invalid algorithm (alg) header parameter: jwt_supported_algs does not list RS256");
}

#[tokio::test]
async fn a_key_id_chooses_among_our_keys_and_does_nothing_else() {
    let issuer = Issuer::with_keys("ES256").await;
    let asked = issuer.idp.asked().len();
    assert!(asked > 0);
    for id in [
        "../../../../dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "x' UNION SELECT 'secret' -- ",
        "one\0",
        "https://evil.example/jwks",
        "ONE",
        "",
    ] {
        let token = issuer.signer.sign_as(&json!({"alg": "ES256", "kid": id}).to_string(), &claims(json!({})).to_string());
        let text = refusal(&issuer.login(&token).await);
        assert!(text.starts_with("error validating token: error verifying token signature: "), "{id:?}: {text}");
        assert!(!text.contains('\0'), "{text:?}");
        issuer.bench.advance(11);
    }
    assert!(issuer.idp.asked().iter().all(|asked| asked.url == super::KEYS), "nobody else was asked");
    for id in [json!(1), json!(["one"]), json!({"x": 1}), json!("x".repeat(2000))] {
        let token = issuer.signer.sign_as(&json!({"alg": "ES256", "kid": id}).to_string(), &claims(json!({})).to_string());
        assert!(refusal(&issuer.login(&token).await).contains("its key id (kid) is no text of at most 1024 bytes"));
    }
    let token = issuer.signer.sign_as(r#"{"alg":"ES256"}"#, &claims(json!({})).to_string());
    assert_eq!(issuer.login(&token).await.status, 200, "without an id every key is tried");
}

#[tokio::test]
async fn keys_that_a_token_brings_along_are_not_looked_at() {
    let issuer = Issuer::with_keys("ES256").await;
    let thief = Signer::new("ES256", "one");
    issuer.idp.answers("https://evil.example/jwks", &Signer::set(&[&thief]));
    issuer.idp.asked();
    for more in [
        json!({"jwk": thief.jwk()}),
        json!({"jku": "https://evil.example/jwks"}),
        json!({"x5u": "https://evil.example/jwks"}),
        json!({"x5c": ["MIIB"], "x5t": "AAAA"}),
    ] {
        let header = super::with(json!({"alg": "ES256", "kid": "one"}), more);
        let token = thief.sign_as(&header.to_string(), &claims(json!({})).to_string());
        assert!(refusal(&issuer.login(&token).await).contains("error verifying token signature"), "{header}");
        let honest = issuer.signer.sign_as(&header.to_string(), &claims(json!({})).to_string());
        assert_eq!(issuer.login(&honest).await.status, 200, "they are ignored, not believed: {header}");
        issuer.bench.advance(11);
    }
    assert!(issuer.idp.asked().iter().all(|asked| asked.url == super::KEYS));
}

#[tokio::test]
async fn critical_extensions_and_strange_forms_are_refused() {
    let issuer = Issuer::with_keys("ES256").await;
    let sign = |header: &str, payload: &str| issuer.signer.sign_as(header, payload);
    let good = claims(json!({})).to_string();
    for (header, payload) in [
        (r#"{"alg":"ES256","kid":"one","crit":["exp"]}"#, good.as_str()),
        (r#"{"alg":"ES256","kid":"one","crit":["b64"],"b64":false}"#, &good),
        (r#"{"alg":"ES256","kid":"one","crit":[]}"#, &good),
        (r#"["ES256"]"#, &good),
        (r#"{"alg":["ES256"],"kid":"one"}"#, &good),
        (r#"{"kid":"one"}"#, &good),
        (r#"{"alg":"es256","kid":"one"}"#, &good),
        (r#"{"alg":"ES256","kid":"one"}"#, "[]"),
        (r#"{"alg":"ES256","kid":"one"}"#, "\"x\""),
        (r#"{"alg":"ES256","kid":"one"}"#, ""),
    ] {
        assert!(refusal(&issuer.login(&sign(header, payload)).await).starts_with("error validating token: "), "{header} {payload}");
    }
    let json_form = json!({"payload": part(&good), "signatures": [{"protected": part(r#"{"alg":"ES256"}"#), "signature": "AAAA"}]});
    assert!(refusal(&issuer.login(&json_form.to_string()).await).contains("it must have three parts"));
    let token = sign(r#"{"alg":"ES256","kid":"one"}"#, &good);
    for changed in [
        token.replacen('.', " .", 1),
        token.replacen('.', ".\n", 1),
        token.replace('.', ".."),
        token.replacen('.', "=.", 1),
        token.replace('-', "+"),
    ] {
        if changed != token {
            assert_eq!(issuer.login(&changed).await.status, 400, "{changed}");
        }
    }
}

#[tokio::test]
async fn a_name_that_stands_twice_is_refused_in_header_and_payload() {
    let issuer = Issuer::with_keys("ES256").await;
    let payload = claims(json!({})).to_string();
    let twice = payload.replacen('{', r#"{"sub":"repo:acme/admin","#, 1);
    let escaped = payload.replacen('{', r#"{"\u0073ub":"repo:acme/admin","#, 1);
    for (header, payload) in [
        (r#"{"alg":"ES256","kid":"one"}"#, twice.as_str()),
        (r#"{"alg":"ES256","kid":"one"}"#, &escaped),
        (r#"{"alg":"none","alg":"ES256","kid":"one"}"#, &payload),
        (r#"{"alg":"ES256","kid":"other","kid":"one"}"#, &payload),
    ] {
        let text = refusal(&issuer.login(&issuer.signer.sign_as(header, payload)).await);
        assert!(text.ends_with("a name stands twice in one object"), "{text}");
    }
}

#[tokio::test]
async fn times_hold_to_the_second_with_their_leeways() {
    let issuer = Issuer::with_keys("ES256").await;
    let expired = "error validating token: invalid expiration time (exp) claim: token is expired";
    let early = "error validating token: invalid not before (nbf) claim: token not yet valid";
    let future = "error validating token: invalid issued at (iat) claim: token issued in the future";
    let only = |more: Value| super::with(json!({"iat": null, "nbf": null, "exp": null}), more);
    // 60 seconds of skew by default; 150 for what is missing.
    for (times, refused) in [
        (json!({"exp": NOW - 60}), None),
        (json!({"exp": NOW - 61}), Some(expired)),
        (json!({"nbf": NOW + 60}), None),
        (json!({"nbf": NOW + 61}), Some(early)),
        (json!({"iat": NOW + 60}), None),
        (json!({"iat": NOW + 61, "nbf": NOW}), Some(future)),
        (json!({"iat": NOW - 210, "nbf": null, "exp": null}), None),
        (json!({"iat": NOW - 211, "nbf": null, "exp": null}), Some(expired)),
        (json!({"exp": 0}), Some(expired)),
        (json!({"exp": 1_767_322_984.9}), Some(expired)),
    ] {
        let answer = issuer.login_with(times.clone()).await;
        assert_eq!((answer.status == 400).then(|| refusal(&answer)).as_deref(), refused, "{times}");
    }
    // What begins only by its end begins 150 seconds before it.
    let answer = issuer.login(&issuer.signer.sign(&claim_times(&only(json!({"exp": NOW + 210}))))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = issuer.login(&issuer.signer.sign(&claim_times(&only(json!({"exp": NOW + 211}))))).await;
    assert_eq!(refusal(&answer), early);
    let none = issuer.refusal(json!({"iat": null, "nbf": null, "exp": null})).await;
    assert_eq!(none, "error validating token: no issued at (iat), not before (nbf), or expiration time (exp) claims in token");
    for strange in [json!("soon"), json!(true), json!([NOW]), json!(1e300), json!({"x": 1})] {
        assert_eq!(issuer.refusal(json!({ "exp": strange })).await, "error validating token: claim \"exp\" is no time in seconds");
    }
    issuer.role(json!({"clock_skew_leeway": -1, "expiration_leeway": "10s", "not_before_leeway": -1})).await;
    for (times, refused) in [
        (json!({"exp": NOW}), None),
        (json!({"exp": NOW - 1}), Some(expired)),
        (json!({"nbf": NOW}), None),
        (json!({"nbf": NOW + 1}), Some(early)),
        (json!({"iat": NOW - 10, "nbf": null, "exp": null}), None),
        (json!({"iat": NOW - 11, "nbf": null, "exp": null}), Some(expired)),
    ] {
        let answer = issuer.login_with(times.clone()).await;
        assert_eq!((answer.status == 400).then(|| refusal(&answer)).as_deref(), refused, "{times}");
    }
}

/// The usual claims with these times alone.
fn claim_times(times: &Value) -> Value {
    super::with(json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "x"}), times.clone())
}

#[tokio::test]
async fn audiences_match_to_the_letter_and_cannot_be_left_out() {
    let issuer = Issuer::with_keys("ES256").await;
    let wrong = "error validating token: invalid audience (aud) claim: audience claim does not match any bound audience";
    for good in [json!(AUDIENCE), json!([AUDIENCE]), json!(["x", AUDIENCE])] {
        assert_eq!(issuer.login_with(json!({ "aud": good })).await.status, 200, "{good}");
    }
    let list = format!("x,{AUDIENCE}");
    for bad in [
        json!("x"),
        json!([]),
        json!(""),
        json!("*"),
        json!(format!("{AUDIENCE}/")),
        json!(list),
        json!(AUDIENCE.to_uppercase()),
        Value::Null,
    ] {
        assert_eq!(issuer.refusal(json!({ "aud": bad })).await, wrong, "{bad}");
    }
    for odd in [json!({"0": AUDIENCE}), json!([[AUDIENCE]]), json!([AUDIENCE, 1]), json!(7)] {
        assert!(issuer.refusal(json!({ "aud": odd })).await.contains("it is no text and no list of texts"), "{odd}");
    }
    // A token for somebody else is not taken just because the role says nothing of audiences.
    issuer.role(json!({"bound_audiences": "", "bound_subject": "repo:acme/app"})).await;
    assert_eq!(issuer.refusal(json!({})).await, "audience claim found in JWT but no audiences bound to the role");
    assert_eq!(issuer.login_with(json!({"aud": null})).await.status, 200);
}

#[tokio::test]
async fn issuer_and_subject_match_to_the_last_slash() {
    let issuer = Issuer::with_keys("ES256").await;
    for bad in [json!(format!("{ISSUER}/")), json!("https://CI.example"), json!("https://ci.example.evil"), json!([ISSUER]), Value::Null] {
        assert_eq!(issuer.refusal(json!({ "iss": bad })).await, "error validating token: invalid issuer (iss) claim", "{bad}");
    }
    issuer.role(json!({"bound_subject": "repo:acme/app"})).await;
    for bad in [json!("repo:acme/app2"), json!("repo:acme/ap"), json!(["repo:acme/app"])] {
        assert_eq!(issuer.refusal(json!({ "sub": bad })).await, "error validating token: invalid subject (sub) claim", "{bad}");
    }
}

#[tokio::test]
async fn tokens_and_claims_have_their_limits() {
    let issuer = Issuer::with_keys("ES256").await;
    let text = issuer.refusal(json!({"filler": "x".repeat(70_000)})).await;
    assert!(text.ends_with("over the limit of 65536"), "{text}");
    let header = json!({"alg": "ES256", "kid": "one", "x": "x".repeat(20_000)}).to_string();
    let token = issuer.signer.sign_as(&header, &claims(json!({})).to_string());
    assert!(refusal(&issuer.login(&token).await).contains("its header has more than 16384 bytes"));
    assert_eq!(issuer.refusal(json!({"sub": "x".repeat(600)})).await, "claim \"sub\" has 600 bytes, over the limit of 512");
    assert_eq!(issuer.refusal(json!({"sub": "a\nb"})).await, "claim \"sub\" has control characters");
    assert_eq!(issuer.refusal(json!({"sub": ""})).await, "claim \"sub\" is empty");
    assert_eq!(issuer.refusal(json!({"sub": 7})).await, "claim \"sub\" could not be converted to string");
    assert_eq!(issuer.refusal(json!({"sub": null})).await, "claim \"sub\" not found in token");
    issuer.role(json!({"groups_claim": "groups"})).await;
    let groups: Vec<String> = (0..1001).map(|number| format!("g{number}")).collect();
    assert_eq!(issuer.refusal(json!({ "groups": groups })).await, "\"groups\" claim has 1001 groups, over the limit of 1000");
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let token = issuer.signer.sign_as(r#"{"alg":"ES256","kid":"one"}"#, &format!(r#"{{"a":{deep}}}"#));
    assert!(refusal(&issuer.login(&token).await).contains("its payload cannot be read"));
}

#[test]
fn stars_stand_for_any_text_and_for_nothing_else() {
    for (pattern, text) in [
        ("*", ""),
        ("*", "a/b"),
        ("acme/*", "acme/app"),
        ("acme/*", "acme/"),
        ("*/app", "acme/app"),
        ("refs/*/main", "refs/heads/main"),
        ("a*b*c", "abc"),
        ("a*b*c", "a-b-b-c"),
        ("**", "x"),
        ("a**b", "ab"),
        ("exact", "exact"),
        ("", ""),
    ] {
        assert!(glob(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [
        ("acme/*", "acme"),
        ("acme/*", "xacme/app"),
        ("acme/*", "ACME/app"),
        ("*/app", "acme/app2"),
        ("a*a", "a"),
        ("ab*ba", "aba"),
        ("a*b*c", "acb"),
        ("", "x"),
        ("a?c", "abc"),
        ("a.c", "abc"),
        ("[a]", "a"),
        ("refs/heads/main", "refs/heads/main2"),
    ] {
        assert!(!glob(pattern, text), "{pattern} {text}");
    }
    assert!(!glob(&"*a".repeat(30_000), &"a".repeat(29_999)), "and it ends soon");
}

/// Story: claims were compared as texts. A role that bound the number 5 let in the text `5`, one that bound `true` the text `true`, and the glob
/// `*` took numbers; Vault refuses all of that.
#[tokio::test]
async fn claims_fit_as_what_they_are() {
    let issuer = Issuer::with_keys("ES256").await;
    for (kind, bound, claim, status) in [
        ("string", json!("true"), json!(true), 400),
        ("string", json!(true), json!("true"), 400),
        ("string", json!(true), json!(true), 200),
        ("string", json!("5"), json!(5), 400),
        ("string", json!(5), json!("5"), 400),
        ("string", json!(5), json!(5.0), 200),
        ("string", json!([4, 5]), json!([5]), 200),
        ("glob", json!("*"), json!(5), 400),
        ("glob", json!("5"), json!(5), 400),
        ("glob", json!("*"), json!(true), 400),
        ("glob", json!("*"), json!([5, "x"]), 200),
        // Beside a glob a flag can be bound, too: CircleCI has one that says whether somebody is inside of a job.
        ("glob", json!(false), json!(false), 200),
        ("glob", json!(false), json!("false"), 400),
    ] {
        issuer.role(json!({"bound_claims_type": kind, "bound_claims": {"f": bound}})).await;
        assert_eq!(issuer.login_with(json!({"f": claim})).await.status, status, "{kind} {bound} {claim}");
    }
}

#[tokio::test]
async fn a_claim_cannot_stand_for_more_than_one_value() {
    let issuer = Issuer::with_keys("ES256").await;
    issuer
        .role(json!({"bound_claims": {"repository": ["acme/app", "acme/lib"], "ref_protected": true, "run": 5, "/env/name": "prod"}}))
        .await;
    let good = json!({"ref_protected": true, "run": 5, "env": {"name": "prod"}});
    assert_eq!(issuer.login_with(good.clone()).await.status, 200);
    let miss = |claim: &str| format!("error validating claims: claim \"{claim}\" does not match any associated bound claim values");
    for (claim, value, text) in [
        ("repository", json!("acme/*"), miss("repository")),
        ("repository", json!("acme/app,acme/lib"), miss("repository")),
        ("repository", json!("acme/app "), miss("repository")),
        ("repository", Value::Null, "error validating claims: claim \"repository\" is missing".to_owned()),
        (
            "repository",
            json!({"a": "acme/app"}),
            "error validating claims: received claim \"repository\" is not a string or list".to_owned(),
        ),
        ("ref_protected", json!(1), miss("ref_protected")),
        ("ref_protected", json!("true"), miss("ref_protected")),
        ("ref_protected", json!(false), miss("ref_protected")),
        ("run", json!("5"), miss("run")),
        ("run", json!(5.5), miss("run")),
        ("env", json!({"name": "dev"}), miss("/env/name")),
        ("env", json!("prod"), "error validating claims: claim \"/env/name\" is missing".to_owned()),
    ] {
        let answer = issuer.refusal(super::with_null(good.clone(), claim, value.clone())).await;
        assert_eq!(answer, text, "{claim} {value}");
    }
    assert_eq!(issuer.login_with(super::with_null(good.clone(), "repository", json!(["other", "acme/lib"]))).await.status, 200);
    assert_eq!(issuer.login_with(super::with_null(good, "run", json!(5.0))).await.status, 200);
    // With globs the stars of the role count, those of a token do not.
    issuer
        .role(json!({"bound_claims_type": "glob", "bound_claims": {"repository": "acme/*", "ref": ["refs/heads/main", "refs/tags/v*"]}}))
        .await;
    assert_eq!(issuer.login_with(json!({"ref": "refs/tags/v1"})).await.status, 200);
    for bad in
        [json!({"repository": "acme2/app"}), json!({"repository": "*"}), json!({"ref": "refs/tags/*"}), json!({"ref": "refs/heads/main2"})]
    {
        assert_eq!(issuer.login_with(bad.clone()).await.status, 400, "{bad}");
    }
}
