//! The console's federation endpoint: a request that nobody signs, because it carries the session itself.

use std::pin::pin;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use daypass_base::{BoxFuture, Secret};
use serde::Deserialize;

use super::LiveAws;
use super::places::Told;
use super::plain::PlainAnswer;
use super::sort::causes;
use crate::AwsError;
use crate::api::{Call, Result};
use crate::signin::{ConsoleVisit, SignIn};

impl SignIn for LiveAws {
    fn sign_in<'a>(&'a self, call: Call<'a>, visit: ConsoleVisit) -> BoxFuture<'a, Result<Secret<String>>> {
        Box::pin(async move {
            // The sandbox plays this too.
            let endpoint = match &self.settings.endpoint {
                Some(everything_at) => format!("{}/federation", everything_at.trim_end_matches('/')),
                None => visit.endpoint.clone(),
            };
            let told = Told::default();
            let (url, form, telling) = (&endpoint, &form(&visit), &told);
            let asked = self.patiently(call.target, || async move { read(&self.send(request(url, form)?, telling).await?) });
            let token = self.within(call.deadline, &told, pin!(asked)).await?;
            Ok(page(&endpoint, &visit, &token))
        })
    }
}

/// The URL to open.
fn page(endpoint: &str, visit: &ConsoleVisit, token: &Secret<String>) -> Secret<String> {
    let issuer = if visit.issuer.is_empty() { String::new() } else { format!("&Issuer={}", escaped(&visit.issuer)) };
    let destination = escaped(&visit.destination);
    // The URL is a secret itself.
    Secret::new(format!("{endpoint}?Action=login{issuer}&Destination={destination}&SigninToken={}", escaped(token.expose())))
}

/// In a body, where a URL would end up in the logs of proxies: AWS takes both.
fn form(input: &ConsoleVisit) -> Secret<String> {
    // All of it goes to AWS's sign-in endpoint, which turns it into a token.
    let session = serde_json::json!({
        "sessionId": input.session.access_key_id,
        "sessionKey": input.session.secret_access_key.expose(),
        "sessionToken": input.session.session_token.expose(),
    });
    let duration = input.duration.map(|duration| format!("&SessionDuration={}", duration.0)).unwrap_or_default();
    Secret::new(format!("Action=getSigninToken{duration}&Session={}", escaped(&session.to_string())))
}

fn request(url: &str, form: &Secret<String>) -> Result<HttpRequest> {
    // To AWS's sign-in endpoint.
    let mut request = HttpRequest::new(SdkBody::from(form.expose().clone()));
    request.set_method("POST").map_err(|error| AwsError::unreachable(causes(&error)))?;
    request.set_uri(url).map_err(|error| AwsError::unreachable(causes(&error)))?;
    request.headers_mut().insert("content-type", "application/x-www-form-urlencoded");
    Ok(request)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    signin_token: Secret<String>,
}

/// Refusals are a page for people, of which nothing is kept: the status says all.
fn read(answer: &PlainAnswer) -> Result<Secret<String>> {
    if answer.status != 200 {
        let code = if answer.status < 500 { "SigninRefused" } else { "InternalFailure" };
        let message = "AWS's sign-in endpoint does not take this session: only sessions of roles and federated users open the console";
        return Err(AwsError::answered(Some(code), Some(message), answer.status, answer.request_id.as_deref()));
    }
    let read = serde_json::from_slice::<Answer>(&answer.body);
    let token = read.ok().map(|answer| answer.signin_token).filter(|token| !token.is_empty());
    token.ok_or_else(|| AwsError::answered(Some("SerializationError"), Some("the answer has no sign-in token"), 200, None))
}

/// Percent-encoded (RFC 3986).
fn escaped(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_cannot_carry_is_escaped() {
        assert_eq!(escaped("a+b/c=\"é\" ~"), "a%2Bb%2Fc%3D%22%C3%A9%22%20~");
    }
}
