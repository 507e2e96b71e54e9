//! Our own token while a command runs: renewed at half of what is left of it, again and again, for as long as the server lets it live.

use std::convert::Infallible;
use std::time::Duration;

use daypass_base::{Clock, Seconds, Timestamp};
use http::Method;

use super::note;
use crate::client::{Call, Client, Error, worth_retrying};
use crate::show::value::Value;

/// Pause after a look-up that did not reach the server, and the shortest before any other request.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// A renewal that adds no more than this met the end that the server sets: its answer is in whole seconds.
const GAIN_MIN: Duration = Duration::from_secs(1);

/// What is known of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    end: Timestamp,
    renewable: bool,
}

/// Keeps the token alive, and says so once when that is over. Never ends.
pub(super) async fn keep_alive(client: &Client, clock: &dyn Clock) -> Infallible {
    match look_up(client, clock).await {
        Ok(Some(token)) => {
            let (end, why) = renew(client, clock, token).await;
            note(&format!(
                "the token {why}, and ends at {}: the command gets no new AWS credentials after that",
                Timestamp::from_seconds(end.seconds())
            ));
        }
        Ok(None) => {}
        Err(why) => note(&format!("the token is not renewed, since it cannot be looked up: {why}")),
    }
    std::future::pending().await
}

/// Nothing for a token without an end.
async fn look_up(client: &Client, clock: &dyn Clock) -> Result<Option<Token>, String> {
    let call = Call::new(Method::GET, "auth/token/lookup-self").unwrapped();
    loop {
        let asked = clock.now();
        match client.fetch_within(&call).await {
            Ok(answer) => return Ok(answer.and_then(|answer| Token::of(answer.data()?, "ttl", asked))),
            Err(error) if is_lasting(&error) => return Err(in_a_line(&error)),
            Err(_) => clock.sleep(LOOK_UP_AGAIN).await,
        }
    }
}

/// Renews until nothing more comes of it. Returns when the token ends, and why it goes no further.
async fn renew(client: &Client, clock: &dyn Clock, mut token: Token) -> (Timestamp, String) {
    let call = Call::new(Method::PUT, "auth/token/renew-self").body(Value::map::<&str>([])).unwrapped();
    loop {
        // Also where it cannot be renewed: that is of interest to commands that run long.
        clock.sleep((token.end.since(clock.now()) / 2).max(PAUSE_MIN)).await;
        if !token.renewable {
            return (token.end, "cannot be renewed".to_owned());
        }
        let asked = clock.now();
        match client.fetch_within(&call).await {
            Ok(answer) => match answer.and_then(|answer| Token::of(&answer.auth, "lease_duration", asked)) {
                Some(renewed) if renewed.end.since(token.end) > GAIN_MIN => token = renewed,
                renewed => return (renewed.map_or(token.end, |token| token.end), "cannot be renewed any further".to_owned()),
            },
            Err(error) if is_lasting(&error) || asked >= token.end => {
                return (token.end, format!("was not renewed ({})", in_a_line(&error)));
            }
            Err(_) => {}
        }
    }
}

impl Token {
    fn of(data: &Value, ttl: &str, asked: Timestamp) -> Option<Self> {
        let ttl = data.get(ttl).and_then(Value::as_integer).and_then(|ttl| u64::try_from(ttl).ok()).and_then(|ttl| Seconds(ttl).set())?;
        Some(Self { end: asked + ttl, renewable: data.get("renewable").is_some_and(Value::is_true) })
    }
}

fn is_lasting(error: &Error) -> bool {
    error.status().is_some_and(|status| !worth_retrying(status))
}

fn in_a_line(error: &Error) -> String {
    match error {
        Error::Api(refusal) if !refusal.raw => refusal.errors.join("; "),
        other => other.to_string().replace('\n', " "),
    }
}
