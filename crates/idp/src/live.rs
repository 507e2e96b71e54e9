//! The calls for real: HTTP/1.1 over a connection of their own. They are rare (a key set is fetched once in minutes), so none is kept.
//!
//! Nothing is read or connected before the first call.

mod dial;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{BoxFuture, Clock};
use daypass_dial::{Broken, Places, Room, SystemTrust};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use zeroize::Zeroizing;

use crate::{ANSWER_MAX, Answer, Ask, Idp, IdpError, Payload, Proof, Result, percent_encoded};

/// Longest call, whatever its deadline.
const CALL_MAX: Duration = Duration::from_secs(30);
/// Many jobs may start in the same second. An API server of Kubernetes says in some ten milliseconds whose a token is: 16 at once are a thousand a second.
/// Who waits is a request, and most of those are for others: for the sum see `crates/aws/src/live/places.rs`.
const ROOM: Room = Room { all: 64, of_origin: 16, waiting: 256, waiting_in_all: 384 };
/// Longest chain of causes that is shown, in characters.
const DETAIL_MAX: usize = 400;

/// Identity providers themselves. Cheap to make; share it with an `Arc`.
pub struct LiveIdp {
    clock: Arc<dyn Clock>,
    places: Places,
    system: SystemTrust,
}

impl LiveIdp {
    /// Providers on the network.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, places: Places::new(ROOM), system: SystemTrust::default() }
    }

    async fn call(&self, ask: Ask) -> Result<Answer> {
        let host = ask.url.host().to_owned();
        let unreachable = |detail: String| IdpError::Unreachable { host: host.clone(), detail };
        let request = request(&ask)?;
        let mut line = self.open(&ask).await?;
        let broken = |broken| match broken {
            Broken::TooLong { max, .. } => IdpError::Nonsense(format!("the answer of {host} is longer than {max} bytes")),
            Broken::Lost(detail) => unreachable(shortened(&detail)),
        };
        let response = line.ask(request).await.map_err(broken)?;
        if response.status().is_redirection() {
            return Err(IdpError::Redirected { host: host.clone(), status: response.status().as_u16() });
        }
        line.read(response, ANSWER_MAX).await.map(answer).map_err(broken)
    }
}

impl Idp for LiveIdp {
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Answer>> {
        Box::pin(async move {
            let (host, share) = (ask.url.host().to_owned(), self.places.share(&ask.url.origin()));
            let deadline = ask.deadline.min(CALL_MAX);
            let mut end = pin!(self.clock.sleep(deadline));
            let mut has_turn = false;
            let taking = async {
                let turn = self.places.turn(&share).await?;
                has_turn = true;
                turn.place().await
            };
            let taken = tokio::select! {
                biased;
                () = &mut end => None,
                taken = taking => Some(taken),
            };
            let crowded = |detail, slow| IdpError::Crowded { host: host.clone(), detail, slow };
            let _place = match taken {
                Some(taken) => taken.map_err(|none| crowded(none.to_string(), false))?,
                None => return Err(crowded(format!("its turn did not come within {deadline:?}: try again in a few seconds"), !has_turn)),
            };
            tokio::select! {
                biased;
                done = self.call(ask) => done,
                () = end => Err(IdpError::Unreachable { host, detail: format!("no answer within {deadline:?}") }),
            }
        })
    }
}

fn answer(response: Response<Bytes>) -> Answer {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    Answer { status: response.status().as_u16(), content_type, body: response.into_body() }
}

fn request(ask: &Ask) -> Result<Request<Full<Bytes>>> {
    let settings = |error: http::Error| IdpError::Settings(format!("no request to {} can be made: {error}", ask.url.host()));
    let mut builder = Request::builder().uri(ask.url.uri().clone()).header(HOST, ask.url.host()).header(USER_AGENT, "daypass");
    builder = builder.header(ACCEPT, if let Payload::Bytes { wanted, .. } = &ask.payload { wanted } else { "application/json" });
    if let Some(value) = authorization(&ask.proof) {
        builder = builder.header(AUTHORIZATION, value);
    }
    let (method, kind, body) = match &ask.payload {
        Payload::Bytes { kind, bytes, .. } => {
            let builder = builder.method(Method::POST).header(CONTENT_TYPE, *kind);
            return builder.body(Full::from(bytes.clone())).map_err(settings);
        }
        Payload::Nothing => return builder.method(Method::GET).body(Full::default()).map_err(settings),
        Payload::Form(fields) => {
            // To the provider, which checks them.
            let pairs = fields.iter().map(|(name, value)| Zeroizing::new(format!("{name}={}", percent_encoded(value.expose()))));
            let text = pairs.fold(String::new(), |text, pair| if text.is_empty() { pair.to_string() } else { text + "&" + &pair });
            (Method::POST, "application/x-www-form-urlencoded", text)
        }
        // To the provider, which checks it.
        Payload::Json(text) => (Method::POST, "application/json", text.expose().clone()),
    };
    builder.method(method).header(CONTENT_TYPE, kind).body(Full::from(body)).map_err(settings)
}

fn authorization(proof: &Proof) -> Option<HeaderValue> {
    // To the provider, which checks them.
    let text = match proof {
        Proof::Nothing => return None,
        Proof::Basic(name, password) => {
            let pair = Zeroizing::new(format!("{}:{}", percent_encoded(name), percent_encoded(password.expose())));
            Zeroizing::new(format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes())))
        }
        Proof::Bearer(token) => Zeroizing::new(format!("Bearer {}", token.expose())),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The causes of an error in one line, cut at its limit.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    shortened(&daypass_base::causes(error))
}

/// Cut at its limit.
fn shortened(text: &str) -> String {
    text.chars().take(DETAIL_MAX).collect()
}

#[cfg(test)]
mod tests;
