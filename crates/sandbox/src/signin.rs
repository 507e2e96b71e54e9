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
