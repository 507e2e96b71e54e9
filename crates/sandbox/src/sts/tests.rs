//! The actions of STS from signed request to answer.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;
use crate::cloud::tests::{Fake, STAGING, credentials, field, refused};
use crate::sigv4::tests::{Signer, request};
use daypass_base::Clock;

fn assume<'a>(role: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut params = vec![("Action", "AssumeRole"), ("RoleArn", role), ("RoleSessionName", "build-1")];
    params.extend(more);
    params
}

/// One account with an admin user and whatever roles a test needs.
fn world(roles: &[(&str, Value, Value)]) -> Value {
    let roles: Vec<Value> = roles.iter().map(|(name, trust, policy)| {
        json!({"name": name, "max_session_duration": 7200, "trust": {"Version": "2012-10-17", "Statement": trust}, "policies": {"p": {"Version": "2012-10-17", "Statement": policy}}})
    }).collect();
    json!({"accounts": [
        {"id": "111111111111", "roles": roles, "users": [
            {"name": "admin", "keys": [{"id": "AKIAADMINADMINADMINA", "secret": "s"}], "attached": ["arn:aws:iam::aws:policy/AdministratorAccess"],
             "mfa": [{"serial": "arn:aws:iam::111111111111:mfa/admin", "seed": "JBSWY3DPEHPK3PXP"}]},
            {"name": "plain", "keys": [{"id": "AKIAPLAINPLAINPLAINP", "secret": "s"}], "tags": {"team": "red"}}]},
        {"id": "222222222222", "users": [{"name": "far", "keys": [{"id": "AKIAFARFARFARFARFARF", "secret": "s"}]}]}]})
}

fn key(id: &str) -> Signer {
    Signer::new(id, "s", None, "sts")
}

fn trusts(principal: &Value) -> Value {
    json!([{"Effect": "Allow", "Principal": principal, "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]}])
}

fn everything() -> Value {
    json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
}

#[tokio::test]
async fn assumed_role_answers_as_documented() {
    let fake = Fake::new();
    let (status, body) = fake.call(&fake.task(), &assume(STAGING, &[("DurationSeconds", "900")])).await;
    assert_eq!(status, 200, "{body}");
    assert!(
        field(&body, "AccessKeyId").starts_with("ASIA")
            && field(&body, "SecretAccessKey").len() == 40
            && field(&body, "SessionToken").len() > 250
    );
    assert_eq!(field(&body, "Expiration"), "2026-01-02T03:19:05Z");
    assert_eq!(field(&body, "Arn"), "arn:aws:sts::111111111111:assumed-role/ecr-staging/build-1");
    assert!(!body.contains("PackedPolicySize"));
    let (_, who) = fake.call(&credentials(&body, "sts"), &[("Action", "GetCallerIdentity")]).await;
    assert_eq!(field(&who, "UserId"), field(&body, "AssumedRoleId"));
    let call = fake.cloud.control.calls().remove(0);
    assert_eq!(
        (call.action.as_str(), call.role_arn.as_deref(), call.session_name.as_deref(), call.duration.as_deref()),
        ("AssumeRole", Some(STAGING), Some("build-1"), Some("900"))
    );
    assert!(!serde_json::to_string(&fake.cloud.control.calls()).unwrap().contains("FwoG"));
}

#[tokio::test]
async fn roles_that_do_not_trust_or_exist_are_refused_alike() {
    let fake = Fake::new();
    for role in [
        "arn:aws:iam::111111111111:role/locked",
        "arn:aws:iam::111111111111:role/none",
        "arn:aws:iam::333333333333:role/none",
        "arn:aws:iam::111111111111:role/path/ecr-staging",
    ] {
        let text = format!(
            "User: arn:aws:sts::999999999999:assumed-role/jenkins-task/task-1 is not authorized to perform: sts:AssumeRole on resource: {role}"
        );
        let answer = fake.call(&fake.task(), &assume(role, &[])).await;
        refused(&answer, 403, "AccessDenied", &text);
        assert!(field(&answer.1, "Message").ends_with(role));
    }
}

#[tokio::test]
async fn lengths_are_checked_in_the_words_of_aws() {
    let fake = Fake::new();
    for (seconds, part) in [
        (
            "899",
            "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
        ),
        ("43201", "Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200"),
        ("3601", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."),
    ] {
        refused(&fake.call(&fake.task(), &assume(STAGING, &[("DurationSeconds", seconds)])).await, 400, "ValidationError", part);
    }
    refused(&fake.call(&fake.task(), &assume(STAGING, &[("DurationSeconds", "soon")])).await, 400, "MalformedInput", "soon");
    let fake = Fake::from_json(&world(&[("r", trusts(&json!({"AWS": "111111111111"})), everything())]));
    let role = "arn:aws:iam::111111111111:role/r";
    refused(
        &fake.call(&key("AKIAADMINADMINADMINA"), &assume(role, &[("DurationSeconds", "7201")])).await,
        400,
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    );
    assert_eq!(fake.call(&key("AKIAADMINADMINADMINA"), &assume(role, &[("DurationSeconds", "7200")])).await.0, 200);
}

#[tokio::test]
async fn names_and_other_parameters_are_checked() {
    let fake = Fake::new();
    let both = fake.call(&fake.task(), &[("Action", "AssumeRole"), ("RoleArn", "x"), ("RoleSessionName", "a b")]).await;
    refused(&both, 400, "ValidationError", "2 validation errors detected: Value 'x' at 'roleArn'");
    refused(
        &both,
        400,
        "ValidationError",
        r"Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
    );
    refused(
        &fake.call(&fake.task(), &[("Action", "AssumeRole"), ("RoleArn", STAGING)]).await,
        400,
        "ValidationError",
        "Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null",
    );
    refused(
        &fake.call(&fake.task(), &assume("arn:aws:s3:::bucket/with/a/name", &[])).await,
        400,
        "ValidationError",
        "Request ARN is invalid",
    );
    let long = "x".repeat(65);
    refused(
        &fake.call(&fake.task(), &[("Action", "AssumeRole"), ("RoleArn", STAGING), ("RoleSessionName", &long)]).await,
        400,
        "ValidationError",
        "less than or equal to 64",
    );
    refused(&fake.call(&fake.task(), &assume(STAGING, &[("Policy", "{")])).await, 400, "MalformedPolicyDocument", "");
    refused(
        &fake.call(&fake.task(), &assume(STAGING, &[("PolicyArns.member.1.arn", "arn:aws:iam::111111111111:policy/none")])).await,
        400,
        "MalformedPolicyDocument",
        "does not exist",
    );
    let huge = "x".repeat(2049);
    refused(
        &fake.call(&fake.task(), &assume(STAGING, &[("Policy", &huge)])).await,
        400,
        "ValidationError",
        "at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048",
    );
}

#[tokio::test]
async fn both_sides_must_agree_across_accounts_only() {
    let role = "arn:aws:iam::111111111111:role/r";
    let far = "arn:aws:iam::222222222222:user/far";
    let plain = "arn:aws:iam::111111111111:user/plain";
    for (principal, admin, plain_too, far_too) in [
        (json!({"AWS": "111111111111"}), true, false, false),
        (json!({"AWS": plain}), false, true, false),
        (json!({"AWS": ["111111111111", far]}), true, false, false),
        (json!("*"), true, true, false),
    ] {
        let fake = Fake::from_json(&world(&[("r", trusts(&principal), everything())]));
        for (id, expected) in [("AKIAADMINADMINADMINA", admin), ("AKIAPLAINPLAINPLAINP", plain_too), ("AKIAFARFARFARFARFARF", far_too)] {
            let (status, body) = fake.call(&key(id), &assume(role, &[])).await;
            assert_eq!(status == 200, expected, "{principal} {id} {body}");
        }
    }
}

#[tokio::test]
async fn external_ids_and_tags_reach_the_trust_policy() {
    let trust = json!([
        {"Effect": "Allow", "Principal": {"AWS": "111111111111"}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "ext-1"}}},
        {"Effect": "Allow", "Principal": {"AWS": "111111111111"}, "Action": "sts:TagSession", "Condition": {"StringEquals": {"aws:RequestTag/team": "blue"}}}]);
    let fake = Fake::from_json(&world(&[("r", trust, everything())]));
    let (admin, role) = (key("AKIAADMINADMINADMINA"), "arn:aws:iam::111111111111:role/r");
    assert_eq!(fake.call(&admin, &assume(role, &[("ExternalId", "ext-1")])).await.0, 200);
    refused(&fake.call(&admin, &assume(role, &[("ExternalId", "ext-2")])).await, 403, "AccessDenied", "sts:AssumeRole");
    refused(&fake.call(&admin, &assume(role, &[])).await, 403, "AccessDenied", "sts:AssumeRole");
    let tagged =
        |team: &'static str| assume(role, &[("ExternalId", "ext-1"), ("Tags.member.1.Key", "team"), ("Tags.member.1.Value", team)]);
    let (status, body) = fake.call(&admin, &tagged("blue")).await;
    assert_eq!((status, field(&body, "PackedPolicySize").as_str()), (200, "1"));
    refused(&fake.call(&admin, &tagged("red")).await, 403, "AccessDenied", "sts:TagSession");
    refused(
        &fake.call(&admin, &assume(role, &[("ExternalId", "ext-1"), ("SourceIdentity", "me")])).await,
        403,
        "AccessDenied",
        "sts:SetSourceIdentity",
    );
}

#[tokio::test]
async fn tags_and_source_identity_follow_a_chain() {
    let fake = Fake::from_json(&world(&[
        ("a", trusts(&json!({"AWS": "111111111111"})), everything()),
        ("b", trusts(&json!({"AWS": "111111111111"})), everything()),
    ]));
    let (a, b) = ("arn:aws:iam::111111111111:role/a", "arn:aws:iam::111111111111:role/b");
    let tags =
        [("Tags.member.1.Key", "team"), ("Tags.member.1.Value", "red"), ("TransitiveTagKeys.member.1", "team"), ("SourceIdentity", "jane")];
    let (_, body) = fake.call(&key("AKIAADMINADMINADMINA"), &assume(a, &tags)).await;
    let first = credentials(&body, "sts");
    let (_, body) = fake.call(&first, &assume(b, &[])).await;
    assert_eq!(field(&body, "SourceIdentity"), "jane");
    let second = credentials(&body, "sts");
    let session = Session::open(&fake.cloud.sealer, second.token.as_deref().unwrap()).unwrap();
    assert_eq!((session.tags["team"].as_str(), session.transitive.as_slice()), ("red", &["team".to_owned()][..]));
    refused(&fake.call(&first, &assume(b, &tags[..2])).await, 400, "InvalidParameterValue", "conflicts with a transitive tag key");
    refused(&fake.call(&first, &assume(b, &[("SourceIdentity", "joe")])).await, 403, "AccessDenied", "sts:SetSourceIdentity");
    refused(&fake.call(&first, &assume(b, &[("TransitiveTagKeys.member.1", "x")])).await, 400, "InvalidParameterValue", "must be included");
    let twice = [("Tags.member.1.Key", "x"), ("Tags.member.1.Value", "1"), ("Tags.member.2.Key", "X"), ("Tags.member.2.Value", "2")];
    refused(&fake.call(&first, &assume(b, &twice)).await, 400, "InvalidParameterValue", "Duplicate tag keys found");
}

#[tokio::test]
async fn session_policies_only_take_away_and_have_little_space() {
    let fake = Fake::from_json(&world(&[(
        "r",
        trusts(&json!({"AWS": "111111111111"})),
        json!([{"Effect": "Allow", "Action": "iam:*", "Resource": "*"}]),
    )]));
    let (admin, role) = (key("AKIAADMINADMINADMINA"), "arn:aws:iam::111111111111:role/r");
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:ListUsers","sts:*"],"Resource":"*"}]}"#;
    let (_, body) = fake.call(&admin, &assume(role, &[("Policy", policy)])).await;
    assert_eq!(field(&body, "PackedPolicySize"), "4");
    let narrowed = credentials(&body, "iam");
    assert_eq!(fake.call(&narrowed, &[("Action", "ListUsers")]).await.0, 200);
    refused(
        &fake.call(&narrowed, &[("Action", "ListRoles")]).await,
        403,
        "AccessDenied",
        "because no session policy allows the iam:ListRoles action",
    );
    let tags: Vec<(String, String)> = (0..50)
        .flat_map(|n| {
            [(format!("Tags.member.{n}.Key"), format!("{n}-{}", "k".repeat(50))), (format!("Tags.member.{n}.Value"), "v".repeat(50))]
        })
        .collect();
    let mut params = assume(role, &[]);
    params.extend(tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    refused(&fake.call(&admin, &params).await, 400, "PackedPolicyTooLarge", "% of allotted space, please use smaller tags.");
}

#[tokio::test]
async fn sessions_end_with_their_role_and_at_revocation() {
    let fake = Fake::from_json(&world(&[("r", trusts(&json!({"AWS": "111111111111"})), everything())]));
    let (admin, role) = (key("AKIAADMINADMINADMINA"), "arn:aws:iam::111111111111:role/r");
    let iam = Signer { service: "iam".to_owned(), ..admin.clone() };
    let session = credentials(&fake.call(&admin, &assume(role, &[])).await.1, "iam");
    assert_eq!(fake.call(&session, &[("Action", "ListRoles")]).await.0, 200);
    let revoke = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-01-02T03:04:06Z"}}}]}"#;
    assert_eq!(
        fake.call(
            &iam,
            &[("Action", "PutRolePolicy"), ("RoleName", "r"), ("PolicyName", "AWSRevokeOlderSessions"), ("PolicyDocument", revoke)]
        )
        .await
        .0,
        200
    );
    refused(
        &fake.call(&session, &[("Action", "ListRoles")]).await,
        403,
        "AccessDenied",
        "with an explicit deny in an identity-based policy",
    );
    fake.clock.advance(Duration::from_secs(1));
    let later = credentials(&fake.call(&admin, &assume(role, &[])).await.1, "iam");
    assert_eq!(fake.call(&later, &[("Action", "ListRoles")]).await.0, 200);
    for action in [
        vec![("Action", "DeleteRolePolicy"), ("PolicyName", "AWSRevokeOlderSessions")],
        vec![("Action", "DeleteRolePolicy"), ("PolicyName", "p")],
        vec![("Action", "DeleteRole")],
    ] {
        let mut params = action.clone();
        params.push(("RoleName", "r"));
        assert_eq!(fake.call(&iam, &params).await.0, 200, "{action:?}");
    }
    refused(&fake.call(&later, &[("Action", "ListRoles")]).await, 403, "InvalidClientTokenId", "");
    // A role of the same name is another role: the old one's sessions stay dead.
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"sts:AssumeRole"}]}"#;
    assert_eq!(fake.call(&iam, &[("Action", "CreateRole"), ("RoleName", "r"), ("AssumeRolePolicyDocument", trust)]).await.0, 200);
    refused(&fake.call(&later, &[("Action", "ListRoles")]).await, 403, "InvalidClientTokenId", "");
}

#[tokio::test]
async fn users_get_federation_and_session_tokens_and_roles_do_not() {
    let fake = Fake::new();
    let root = fake.root("sts");
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*","Resource":"*"}]}"#;
    let (status, body) =
        fake.call(&root, &[("Action", "GetFederationToken"), ("Name", "bob"), ("DurationSeconds", "900"), ("Policy", policy)]).await;
    assert_eq!((status, field(&body, "FederatedUserId").as_str()), (200, "999999999999:bob"));
    let federated = credentials(&body, "ecr");
    assert_eq!(fake.json(&federated, "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "{}").await.0, 200);
    let federated = Signer { service: "sts".to_owned(), ..federated };
    refused(&fake.call(&federated, &assume(STAGING, &[])).await, 403, "AccessDenied", "Cannot call AssumeRole");
    refused(
        &fake.call(&Signer { service: "iam".to_owned(), ..federated }, &[("Action", "ListUsers")]).await,
        403,
        "InvalidClientTokenId",
        "",
    );
    let (_, body) = fake.call(&root, &[("Action", "GetFederationToken"), ("Name", "bob")]).await;
    let (_, answer) = fake.json(&credentials(&body, "ecr"), "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "{}").await;
    assert_eq!(answer["__type"], "AccessDeniedException");
    refused(&fake.call(&root, &[("Action", "GetFederationToken"), ("Name", &"n".repeat(33))]).await, 400, "ValidationError", "'name'");
    let (status, body) = fake.call(&root, &[("Action", "GetSessionToken"), ("DurationSeconds", "129600")]).await;
    assert_eq!((status, field(&body, "Expiration").as_str()), (200, "2026-01-03T15:04:05Z"));
    refused(&fake.call(&credentials(&body, "iam"), &[("Action", "ListUsers")]).await, 403, "InvalidClientTokenId", "");
    for action in ["GetFederationToken", "GetSessionToken"] {
        refused(
            &fake.call(&fake.task(), &[("Action", action), ("Name", "bob")]).await,
            403,
            "AccessDenied",
            &format!("Cannot call {action} with session credentials"),
        );
        refused(
            &fake.call(&credentials(&body, "sts"), &[("Action", action), ("Name", "bob")]).await,
            403,
            "AccessDenied",
            "with session credentials",
        );
    }
    refused(
        &fake.call(&root, &[("Action", "GetSessionToken"), ("DurationSeconds", "129601")]).await,
        400,
        "ValidationError",
        "less than or equal to 129600",
    );
}

#[tokio::test]
async fn second_factor_opens_iam_for_session_tokens() {
    let fake = Fake::from_json(&world(&[]));
    let (admin, serial) = (key("AKIAADMINADMINADMINA"), "arn:aws:iam::111111111111:mfa/admin");
    let code = mfa::code(b"Hello!\xde\xad\xbe\xef", fake.clock.now());
    let (status, body) = fake.call(&admin, &[("Action", "GetSessionToken"), ("SerialNumber", serial), ("TokenCode", &code)]).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(fake.call(&credentials(&body, "iam"), &[("Action", "ListUsers")]).await.0, 200);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    refused(
        &fake.call(&admin, &[("Action", "GetSessionToken"), ("SerialNumber", serial), ("TokenCode", wrong)]).await,
        403,
        "AccessDenied",
        "invalid MFA one time pass code",
    );
    refused(&fake.call(&admin, &[("Action", "GetSessionToken"), ("SerialNumber", serial)]).await, 403, "AccessDenied", "must provide both");
    refused(
        &fake.call(&admin, &[("Action", "GetSessionToken"), ("SerialNumber", "arn:other"), ("TokenCode", &code)]).await,
        403,
        "AccessDenied",
        "unable to validate MFA code",
    );
}

#[tokio::test]
async fn sessions_are_shortened_when_a_test_says_so() {
    let fake = Fake::new();
    fake.cloud.control.limit_sessions(Duration::from_secs(5));
    let (_, body) = fake.call(&fake.task(), &assume(STAGING, &[])).await;
    assert_eq!(field(&body, "Expiration"), "2026-01-02T03:04:10Z");
    let session = credentials(&body, "sts");
    fake.clock.advance(Duration::from_secs(5));
    refused(&fake.call(&session, &[("Action", "GetCallerIdentity")]).await, 403, "ExpiredToken", "");
}

#[tokio::test]
async fn access_keys_tell_their_account() {
    let fake = Fake::new();
    for (id, account) in [("AKIADAYPASSSANDBOX22", "999999999999"), (fake.task().key_id.as_str(), "999999999999")] {
        let (_, body) = fake.call(&fake.task(), &[("Action", "GetAccessKeyInfo"), ("AccessKeyId", id)]).await;
        assert_eq!(field(&body, "Account"), account);
    }
}

/// Signs `claims` with ES256.
fn token(pair: &EcdsaKeyPair, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "k1"})), part(claims));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

#[tokio::test]
async fn web_identities_prove_themselves_with_tokens() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1", "x": BASE64URL_NOPAD.encode(&point[1..33]), "y": BASE64URL_NOPAD.encode(&point[33..])}]});
    let trust = json!([{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::111111111111:oidc-provider/ci.example.com/oidc"}, "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {"ci.example.com/oidc:aud": "sts.amazonaws.com"}, "StringLike": {"ci.example.com/oidc:sub": "repo:acme/*"}}}]);
    let fake = Fake::from_json(&world(&[("web", trust, everything())]));
    let seed = crate::ProviderSeed {
        url: "https://ci.example.com/oidc".to_owned(),
        audiences: vec!["sts.amazonaws.com".to_owned()],
        jwks: Some(jwks),
    };
    fake.cloud.register("111111111111", &seed).unwrap();
    let now = fake.clock.now().seconds();
    let claims = |changes: Value| {
        let mut claims =
            json!({"iss": "https://ci.example.com/oidc", "aud": "sts.amazonaws.com", "sub": "repo:acme/app", "exp": now + 300, "iat": now});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let call = async |token: String| {
        let body = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=web-1&RoleArn=arn:aws:iam::111111111111:role/web&WebIdentityToken={token}"
        );
        fake.send(&request("POST", "/", "", &[("host", "h"), ("content-type", "application/x-www-form-urlencoded")], &body)).await
    };
    let (status, body) = call(token(&pair, &claims(json!({})))).await;
    assert_eq!(
        (status, field(&body, "SubjectFromWebIdentityToken").as_str(), field(&body, "Audience").as_str()),
        (200, "repo:acme/app", "sts.amazonaws.com"),
        "{body}"
    );
    let (_, who) = fake.call(&credentials(&body, "sts"), &[("Action", "GetCallerIdentity")]).await;
    assert_eq!(field(&who, "Arn"), "arn:aws:sts::111111111111:assumed-role/web/web-1");
    refused(
        &call(token(&pair, &claims(json!({"sub": "repo:evil/app"})))).await,
        403,
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    );
    refused(&call(token(&pair, &claims(json!({"aud": ["other"]})))).await, 400, "InvalidIdentityToken", "Incorrect token audience");
    refused(
        &call(token(&pair, &claims(json!({"iss": "https://evil.example.com"})))).await,
        400,
        "InvalidIdentityToken",
        "No OpenIDConnect provider found in your account for https://evil.example.com",
    );
    refused(&call(token(&pair, &claims(json!({"exp": now})))).await, 400, "ExpiredTokenException", "Token expired: current date/time");
    refused(&call(token(&pair, &claims(json!({"nbf": now + 120})))).await, 400, "InvalidIdentityToken", "not valid yet");
    refused(&call("abcd".to_owned()).await, 400, "InvalidIdentityToken", "not a valid JWT");
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    refused(&call(token(&stranger, &claims(json!({})))).await, 400, "InvalidIdentityToken", "Couldn't retrieve verification key");
    let tagged = claims(json!({"https://aws.amazon.com/tags": {"principal_tags": {"team": ["x"]}}}));
    refused(&call(token(&pair, &tagged)).await, 403, "AccessDenied", "");
}
