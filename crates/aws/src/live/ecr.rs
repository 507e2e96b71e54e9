//! ECR's one call, signed by AWS's own signer. The SDK's crates for ECR hold some ninety calls that are never made: with 84,000 lines the
//! first of them alone is four times as large as the one for STS.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use data_encoding::BASE64;
use daypass_base::{BoxFuture, Secret, Timestamp};
use serde::Deserialize;

use super::identity::{REGION_FALLBACK, Source};
use super::places::Told;
use super::plain::{PlainAnswer, bare_code};
use super::signed::{Outgoing, Signer, signed};
use super::{Clients, LiveAws};
use crate::api::{Call, Credential, Result};
use crate::ecr::{AuthorizationToken, Ecr, Login, Logins, PUBLIC_REGION, PUBLIC_REGISTRY};
use crate::{AwsError, Partition};

impl Ecr for LiveAws {
    fn get_authorization_token<'a>(&'a self, call: Call<'a>, input: AuthorizationToken) -> BoxFuture<'a, Result<Logins>> {
        Box::pin(async move {
            let told = Told::default();
            let asked = async {
                let clients = self.clients(call.target).await;
                match self.ask_ecr(call, &clients, &input, &told).await {
                    Err(error) if error.identity_is_lost() && input.session.is_none() && call.target.keys.is_none() => {
                        self.forget_own_identity(call.target, &clients).await;
                        let clients = self.clients(call.target).await;
                        self.ask_ecr(call, &clients, &input, &told).await
                    }
                    answer => answer,
                }
            };
            self.within(call.deadline, &told, pin!(asked)).await
        })
    }
}

impl LiveAws {
    async fn ask_ecr(&self, call: Call<'_>, clients: &Clients, input: &AuthorizationToken, told: &Told) -> Result<Logins> {
        let signer = self.signer(call, clients, input).await?;
        let signer = &signer;
        let logins = self
            .patiently(call.target, || async move {
                let request = request(signer, input, self.settings.endpoint.as_deref(), self.signing_time())?;
                read(&self.send(request, told).await?, input.public)
            })
            .await?;
        Ok(Logins { access_key_id: signer.credentials.access_key_id().to_owned(), logins })
    }

    async fn signer(&self, call: Call<'_>, clients: &Clients, input: &AuthorizationToken) -> Result<Signer> {
        let source = if input.session.is_some() || !call.target.is_own() { Source::Configured } else { Source::Own };
        let base = self.base(source).await;
        let said = [&input.region, &call.target.region, &self.settings.region].into_iter().flatten().next().cloned();
        let region = if input.public { Some(PUBLIC_REGION.to_owned()) } else { said };
        let region = region.or_else(|| base.config.region().map(ToString::to_string)).unwrap_or_else(|| REGION_FALLBACK.to_owned());
        let credentials = if let Some(session) = &input.session { of_session(session) } else { clients.signing_keys().await? };
        Ok(Signer { credentials, region })
    }
}

fn of_session(session: &Credential) -> Credentials {
    // Both to the signer.
    let (secret, token) = (session.secret_access_key.expose().clone(), session.session_token.expose().clone());
    Credentials::new(&session.access_key_id, secret, Some(token), None, "assumed role")
}

/// The signed request. Source: ECR and ECR Public API references (JSON 1.1 over POST).
fn request(signer: &Signer, input: &AuthorizationToken, everything_at: Option<&str>, now: SystemTime) -> Result<HttpRequest> {
    let (service, target) = if input.public {
        ("ecr-public", "SpencerFrontendService.GetAuthorizationToken")
    } else {
        ("ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
    };
    let url = match input.endpoint.as_deref().or(everything_at) {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None if input.public => format!("https://api.ecr-public.{PUBLIC_REGION}.amazonaws.com"),
        None => Partition::of_region(&signer.region).ecr_api(&signer.region),
    } + "/";
    let body = if input.registry_ids.is_empty() || input.public {
        "{}".to_owned()
    } else {
        serde_json::json!({ "registryIds": input.registry_ids }).to_string()
    };
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
    signed(signer, &Outgoing { service, url: &url, headers: &headers, body: body.as_bytes() }, now)
}

/// A refusal as AWS's JSON services write it; the message's name begins with either case.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "__type", default)]
    code: Option<String>,
    #[serde(alias = "Message", default)]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Private {
    authorization_data: Vec<Datum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Public {
    authorization_data: Datum,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Datum {
    authorization_token: Secret<String>,
    expires_at: serde_json::Number,
    #[serde(default)]
    proxy_endpoint: String,
}

fn read(answer: &PlainAnswer, public: bool) -> Result<Vec<Login>> {
    if answer.status != 200 {
        let refusal = serde_json::from_slice(&answer.body).unwrap_or(Refusal { code: None, message: None });
        let code = answer.code.as_deref().or(refusal.code.as_deref().map(bare_code));
        return Err(AwsError::answered(code, refusal.message.as_deref(), answer.status, answer.request_id.as_deref()));
    }
    let data = if public {
        serde_json::from_slice::<Public>(&answer.body).map(|answer| vec![answer.authorization_data])
    } else {
        serde_json::from_slice::<Private>(&answer.body).map(|answer| answer.authorization_data)
    };
    // The parser's own text could quote the body, so it is not kept.
    let logins = data.ok().and_then(|data| data.into_iter().map(|datum| login(datum, public)).collect::<Option<Vec<_>>>());
    logins.filter(|logins| !logins.is_empty()).ok_or_else(|| {
        let detail = "the answer has no authorization data that can be read";
        AwsError::answered(Some("SerializationError"), Some(detail), 200, answer.request_id.as_deref())
    })
}

fn login(datum: Datum, public: bool) -> Option<Login> {
    // Exposed to be taken apart; the password is put away again at once.
    let pair = Secret::new(BASE64.decode(datum.authorization_token.expose().as_bytes()).ok()?);
    let password = std::str::from_utf8(pair.expose()).ok()?.strip_prefix("AWS:")?.to_owned();
    let fraction = || Some(Duration::try_from_secs_f64(datum.expires_at.as_f64()?).ok()?.as_secs()).and_then(|s| i64::try_from(s).ok());
    let expires = Timestamp::from_seconds(datum.expires_at.as_i64().or_else(fraction)?);
    let proxy_endpoint = if public { PUBLIC_REGISTRY.to_owned() } else { datum.proxy_endpoint };
    (!proxy_endpoint.is_empty()).then_some(Login { password: Secret::new(password), proxy_endpoint, expires })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn signer(region: &str) -> Signer {
        Signer { credentials: Credentials::new("AKIDEXAMPLE", "secret", None, None, "test"), region: region.to_owned() }
    }

    fn answer(status: u16, body: &str) -> PlainAnswer {
        PlainAnswer { status, code: None, request_id: Some("5f0a".to_owned()), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn each_partition_has_its_own_hosts() {
        for (region, url) in [
            ("eu-central-1", "https://api.ecr.eu-central-1.amazonaws.com/"),
            ("us-gov-west-1", "https://api.ecr.us-gov-west-1.amazonaws.com/"),
            ("cn-north-1", "https://api.ecr.cn-north-1.amazonaws.com.cn/"),
            ("eusc-de-east-1", "https://api.ecr.eusc-de-east-1.amazonaws.eu/"),
        ] {
            let request = request(&signer(region), &AuthorizationToken::default(), None, SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(request.uri(), url);
            let authorization = request.headers().get("authorization").unwrap();
            assert!(authorization.contains(&format!("/19700101/{region}/ecr/aws4_request")), "{authorization}");
        }
        let public = AuthorizationToken { public: true, ..AuthorizationToken::default() };
        let request = request(&signer("us-east-1"), &public, None, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(request.uri(), "https://api.ecr-public.us-east-1.amazonaws.com/");
    }

    #[test]
    fn logins_are_read_with_whole_seconds_and_with_fractions() {
        let token = BASE64.encode(b"AWS:pass:word");
        let body = format!(
            r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":1.7E9,"proxyEndpoint":"https://1.dkr.ecr.x.amazonaws.com"}}]}}"#
        );
        let logins = read(&answer(200, &body), false).unwrap();
        assert_eq!(logins[0].password.expose(), "pass:word");
        assert_eq!(logins[0].expires, Timestamp::from_seconds(1_700_000_000));
        let body = format!(r#"{{"authorizationData":{{"authorizationToken":"{token}","expiresAt":1700000000}}}}"#);
        assert_eq!(read(&answer(200, &body), true).unwrap()[0].proxy_endpoint, "https://public.ecr.aws");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_shows_nothing_of_it() {
        let token = BASE64.encode(b"somebody:secret");
        for body in [
            "",
            "{}",
            r#"{"authorizationData":[]}"#,
            &format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":1}}]}}"#),
        ] {
            let error = read(&answer(200, body), false).unwrap_err();
            assert!(error.code == "SerializationError" && !error.to_string().contains(&token), "{error}");
        }
    }

    #[test]
    fn refusals_are_sorted_like_those_of_other_services() {
        let body = r#"{"__type":"com.amazonaws.ecr#AccessDeniedException","Message":"User is not authorized"}"#;
        let error = read(&answer(400, body), false).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str(), error.message.as_str()),
            (ErrorKind::Denied, "AccessDeniedException", "User is not authorized")
        );
        assert_eq!(read(&answer(400, r#"{"__type":"ThrottlingException"}"#), false).unwrap_err().kind, ErrorKind::Throttled);
        assert_eq!(read(&answer(500, "<html>"), false).unwrap_err().kind, ErrorKind::Unreachable);
    }
}
