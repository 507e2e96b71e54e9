//! The console's federation endpoint: a session becomes a sign-in token, and the token opens a page, within fifteen minutes.
//!
//! Source: IAM User Guide, "Enable custom identity broker access to the AWS console". The console itself is not played: who opens the page
//! is sent on to the destination, and a header says who was let in.

use aws_lc_rs::constant_time;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::{self, Reply};
use crate::cloud::{Cloud, caller_of_session};
use crate::request::Request;
use crate::seal::Purpose;
use crate::session::{Bearer, Session};

pub(crate) const PATH: &str = "/federation";

/// The parameter `Session`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    session_id: String,
    session_key: String,
    session_token: String,
}

/// Inside a sign-in token.
#[derive(Serialize, Deserialize)]
struct Ticket {
    arn: String,
    /// Seconds since 1970.
    expires: i64,
}

pub(crate) fn answer(cloud: &Cloud, request: &Request) -> Reply {
    let Ok(params) = request.params() else { return refuse("the parameters are malformed") };
    match (params.get("Action"), &request.method) {
        (Some("getSigninToken"), &Method::GET | &Method::POST) => {
            match ticket(cloud, params.get("Session").unwrap_or_default(), params.get("SessionDuration")) {
                Ok(token) => answer::json(200, &json!({ "SigninToken": token })),
                Err(why) => refuse(why),
            }
        }
        (Some("login"), &Method::GET) => enter(cloud, params.get("SigninToken").unwrap_or_default(), params.get("Destination")),
        _ => refuse("Action must be getSigninToken or login"),
    }
}

/// AWS answers with a page that says little more.
fn refuse(why: &str) -> Reply {
    answer::text(400, format!("HTTP Status 400 - Invalid credentials parameter: {why}"))
}

fn ticket(cloud: &Cloud, session: &str, duration: Option<&str>) -> Result<String, &'static str> {
    let given: Given =
        serde_json::from_str(session).map_err(|_malformed| "Session is no JSON with sessionId, sessionKey and sessionToken")?;
    let session = Session::open(&cloud.sealer, &given.session_token).filter(|session| session.key_id == given.session_id);
    let session = session.ok_or("the session token is not of this sandbox, or of another key")?;
    let secret = cloud.sealer.secret_of(&given.session_id);
    constant_time::verify_slices_are_equal(secret.as_bytes(), given.session_key.as_bytes()).map_err(|_other| "the secret key is wrong")?;
    if session.expires <= cloud.clock.now().seconds() {
        return Err("the session has ended");
    }
    let federated = match session.bearer {
        Bearer::User { .. } => return Err("sessions of GetSessionToken do not open the console"),
        Bearer::Federated { .. } => true,
        Bearer::Role { .. } => false,
    };
    if let Some(duration) = duration {
        if federated || session.chained {
            return Err("SessionDuration is not for federated users and role chaining");
        }
        if !duration.parse::<u32>().is_ok_and(|seconds| (900..=43_200).contains(&seconds)) {
            return Err("SessionDuration must be from 900 to 43200");
        }
    }
    let caller = caller_of_session(&cloud.state.read(), std::sync::Arc::new(session)).map_err(|_gone| "the role or user is gone")?;
    let ticket = Ticket { arn: caller.arn, expires: cloud.clock.now().seconds().saturating_add(TICKET_SECONDS) };
    let plain = serde_json::to_vec(&ticket).map_err(|_never| "it cannot be sealed")?;
    cloud.sealer.seal(Purpose::Signin, &plain).ok_or("it cannot be sealed")
}

fn enter(cloud: &Cloud, token: &str, destination: Option<&str>) -> Reply {
    let opened = cloud.sealer.open(Purpose::Signin, token).and_then(|plain| serde_json::from_slice::<Ticket>(&plain).ok());
    let Some(ticket) = opened.filter(|ticket| ticket.expires > cloud.clock.now().seconds()) else {
        return refuse("the sign-in token is not of this sandbox, or older than 15 minutes");
    };
    let mut reply = answer::text(302, "");
    for (name, value) in [("location", destination.unwrap_or_default()), ("x-principal", &ticket.arn)] {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            reply.headers_mut().insert(name, value);
        }
    }
    reply
}

/// Seconds in which a sign-in token can be used.
const TICKET_SECONDS: i64 = 900;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::tests::{Fake, STAGING, credentials, read};
    use crate::sigv4::percent_encode;
    use crate::sigv4::tests::{Signer, request};
    use std::time::Duration;

    async fn ask(fake: &Fake, query: &str) -> (u16, String) {
        read(answer(&fake.cloud, &request("GET", PATH, query, &[], ""))).await
    }

    fn session(signer: &Signer) -> String {
        let token = signer.token.as_deref().unwrap_or_default();
        let session = json!({ "sessionId": signer.key_id, "sessionKey": signer.secret, "sessionToken": token });
        format!("Action=getSigninToken&Session={}", percent_encode(&session.to_string()))
    }

    async fn role(fake: &Fake) -> Signer {
        let wanted = [("Action", "AssumeRole"), ("RoleArn", STAGING), ("RoleSessionName", "alice")];
        credentials(&fake.call(&fake.task(), &wanted).await.1, "sts")
    }

    #[tokio::test]
    async fn a_sessions_token_opens_a_page_for_fifteen_minutes() {
        let fake = Fake::new();
        let (status, body) = ask(&fake, &session(&role(&fake).await)).await;
        assert_eq!(status, 200, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let query = format!(
            "Action=login&Destination=https%3A%2F%2Fconsole.aws.amazon.com%2F&SigninToken={}",
            percent_encode(body["SigninToken"].as_str().unwrap())
        );
        let reply = answer(&fake.cloud, &request("GET", PATH, &query, &[], ""));
        assert_eq!((reply.status().as_u16(), reply.headers()["location"].to_str().unwrap()), (302, "https://console.aws.amazon.com/"));
        assert_eq!(reply.headers()["x-principal"], "arn:aws:sts::111111111111:assumed-role/ecr-staging/alice");
        fake.clock.advance(Duration::from_mins(15));
        assert_eq!(ask(&fake, &query).await.0, 400);
    }

    #[tokio::test]
    async fn what_aws_refuses_is_refused() {
        let fake = Fake::new();
        let good = role(&fake).await;
        let user = credentials(&fake.call(&fake.root("sts"), &[("Action", "GetSessionToken")]).await.1, "sts");
        for (query, why) in [
            (session(&Signer { secret: "x".to_owned(), ..good.clone() }), "the secret key is wrong"),
            (session(&Signer { key_id: "ASIAOTHER".to_owned(), ..good.clone() }), "of another key"),
            (session(&user), "GetSessionToken"),
            (format!("{}&SessionDuration=3600", session(&good)), "role chaining"),
            ("Action=getSigninToken&Session=x".to_owned(), "no JSON"),
            ("Action=login&SigninToken=x".to_owned(), "not of this sandbox"),
            ("Action=logout".to_owned(), "Action must be"),
        ] {
            let (status, body) = ask(&fake, &query).await;
            assert!(status == 400 && body.contains(why), "{why}: {status} {body}");
        }
        fake.clock.advance(Duration::from_hours(1));
        assert!(ask(&fake, &session(&good)).await.1.contains("the session has ended"));
    }
}
