//! Our own token while a command runs: renewed at half of what is left of it, again and again, for as long as the server lets it live.

use std::convert::Infallible;
use std::time::Duration;

use daypass_base::{Clock, Moment, Seconds, Timestamp};
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
    /// From when on its life is counted.
    asked: Moment,
    life: Duration,
    renewable: bool,
}

/// Keeps the token alive, and says so once when that is over. Never ends.
pub(super) async fn keep_alive(client: &Client, clock: &dyn Clock) -> Infallible {
    match look_up(client, clock).await {
        Ok(Some(token)) => {
            if let (token, Some(why)) = renew(client, clock, token).await {
                note_the_end(token, clock, &why, "");
            }
        }
        Ok(None) => {}
        Err(why) => note(&format!("the token is not renewed, since it cannot be looked up: {why}")),
    }
    std::future::pending().await
}

fn note_the_end(token: Token, clock: &dyn Clock, why: &str, unless: &str) {
    let now = clock.moment();
    let end = Timestamp::from_seconds((now.wall + token.left(now)).seconds());
    note(&format!("the token {why}, and ends at {end}: the command gets no new AWS credentials after that{unless}"));
}

/// Nothing for a token without an end.
async fn look_up(client: &Client, clock: &dyn Clock) -> Result<Option<Token>, String> {
    let call = Call::new(Method::GET, "auth/token/lookup-self").unwrapped();
    loop {
        let asked = clock.moment();
        match client.fetch_within(&call).await {
            Ok(answer) => return Ok(answer.and_then(|answer| Token::of(answer.data()?, "ttl", asked))),
            Err(error) if is_lasting(&error) => return Err(in_a_line(&error)),
            Err(_) => clock.sleep(LOOK_UP_AGAIN).await,
        }
    }
}

/// Renews until nothing more comes of it. Returns the token as it is then, and why it goes no further, unless that was said already.
///
/// A refusal is no end: what the server could not ask, or a role that somebody is about to write anew, is there again while the token still lives.
async fn renew(client: &Client, clock: &dyn Clock, mut token: Token) -> (Token, Option<String>) {
    let call = Call::new(Method::PUT, "auth/token/renew-self").body(Value::map::<&str>([])).unwrapped();
    let mut was_refused = false;
    loop {
        // Also where it cannot be renewed: that is of interest to commands that run long.
        clock.sleep((token.left(clock.moment()) / 2).max(PAUSE_MIN)).await;
        if !token.renewable {
            return (token, Some("cannot be renewed".to_owned()));
        }
        let asked = clock.moment();
        match client.fetch_within(&call).await {
            Ok(answer) => match answer.and_then(|answer| Token::of(&answer.auth, "lease_duration", asked)) {
                Some(renewed) if renewed.gains_on(token) => {
                    token = renewed;
                    if std::mem::take(&mut was_refused) {
                        note("the token was renewed after all");
                    }
                }
                renewed => return (renewed.unwrap_or(token), Some("cannot be renewed any further".to_owned())),
            },
            // A machine that slept: its own time stood still, and the server's did not.
            Err(error) if token.is_over(asked) || is_lasting(&error) && token.left(asked).is_zero() => {
                return (token, (!was_refused).then(|| format!("was not renewed ({})", in_a_line(&error))));
            }
            Err(error) if is_lasting(&error) && !was_refused => {
                was_refused = true;
                let why = format!("was not renewed ({})", in_a_line(&error));
                note_the_end(token, clock, &why, ", unless a renewal comes through before");
            }
            Err(_) => {}
        }
    }
}

impl Token {
    fn of(data: &Value, ttl: &str, asked: Moment) -> Option<Self> {
        let ttl = data.get(ttl).and_then(Value::as_integer).and_then(|ttl| u64::try_from(ttl).ok()).and_then(|ttl| Seconds(ttl).set())?;
        Some(Self { asked, life: ttl.duration(), renewable: data.get("renewable").is_some_and(Value::is_true) })
    }

    /// Time until its end. Whoever sets this machine's clock makes it no longer.
    fn left(self, now: Moment) -> Duration {
        self.life.saturating_sub(now.since(self.asked))
    }

    /// Whether it ends later than the one before it does.
    fn gains_on(self, before: Self) -> bool {
        self.life.saturating_sub(before.left(self.asked)) > GAIN_MIN
    }

    /// Whether it has ended for certain: the other clock may have been put on.
    fn is_over(self, now: Moment) -> bool {
        now.elapsed.saturating_sub(self.asked.elapsed) >= self.life
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: the clock was put back by an hour while a command ran. What the next renewal gave seemed to end before the token did, and it was the last.
    #[test]
    fn a_renewal_counts_by_the_time_that_passes() {
        let at = |mins: u64, wall: i64| Moment { wall: Timestamp::from_seconds(wall * 60), elapsed: Duration::from_mins(mins) };
        let token = |asked, mins| Token { asked, life: Duration::from_mins(mins), renewable: true };
        let first = token(at(0, 1_000), 60);
        assert!(token(at(30, 970), 60).gains_on(first) && !token(at(30, 970), 30).gains_on(first));
        assert_eq!(first.left(at(30, 970)), Duration::from_mins(30));
        assert!(!first.is_over(at(59, 5_000)) && first.is_over(at(60, 1_000)));
    }
}
