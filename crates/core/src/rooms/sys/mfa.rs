//! `sys/mfa/validate`: the second step of a login that needs a second factor.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::Secret;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::Sys;
use crate::identity::mfa::factors::Factors;
use crate::logins;
use crate::stages::factor;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        // The first factor was the right to the request's id; nobody has a token yet.
        Endpoint::at(["mfa/validate"])
            .summary("Finish a login that needs a second factor.")
            .help(HELP)
            .on_proof()
            .on(Operation::Update, validate),
    ]
}

const HELP: &str = "A login that needs a second factor is answered without a token, with mfa_requirement: the id of the request, and under each \
                    enforcement's name the methods of which one is enough. The token is answered here. A request waits for five minutes.";

/// What is presented.
#[derive(Deserialize, JsonSchema)]
struct Presented {
    /// The id that the login answered as `mfa_request_id`. Example: `d0c9eec7-6921-8cc0-be62-202b289ef163`.
    #[serde(default)]
    mfa_request_id: String,
    /// By the id or the name of a method a list with one passcode. Example: `{"1f36d4cf-52c9-475d-a5cd-49c573c54e55": ["123456"]}`.
    mfa_payload: Option<BTreeMap<String, Passcodes>>,
}

/// One passcode, alone or in a list.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Passcodes(Vec<Secret<String>>);

impl<'de> Deserialize<'de> for Passcodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(Secret<String>),
            Several(Vec<Secret<String>>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::One(passcode) => vec![passcode],
            Form::Several(passcodes) => passcodes,
        }))
    }
}

/// Errors: `BadRequest` when no login waits under the id, `Denied` when the factors are not good.
async fn validate(sys: Arc<Sys>, cx: Cx, params: Presented) -> Result<Reply> {
    if params.mfa_request_id.is_empty() {
        return Err(Error::bad_request("missing request ID"));
    }
    let payload = params.mfa_payload.ok_or_else(|| Error::bad_request("missing mfa payload"))?;
    let payload = payload.into_iter().map(|(method, passcodes)| (method, passcodes.0)).collect();
    let factors = Factors::of_payload(payload).map_err(|why| Error::bad_request(format!("invalid mfa payload: {why}")))?;
    let (inner, unsealed) = sys.way.open()?;
    let (proven, wrap_for) = factor::validate(&inner, &unsealed, &params.mfa_request_id, &factors).await?;
    let (auth, warnings) = logins::make_token(&inner, &unsealed, cx.request.remote, proven).await?;
    Ok(Reply { outcome: Outcome::Token(Box::new(auth)), warnings, wrap_for, ..Reply::default() })
}
