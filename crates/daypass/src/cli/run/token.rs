//! Our own token while a command runs: renewed at half of what is left of it, again and again, for as long as the server lets it live.

use std::convert::Infallible;
use std::time::Duration;

use daypass_base::{Clock, Moment, Seconds, Timestamp};
use http::Method;

use super::until;
use crate::client::answer::Answer;
use crate::client::{Call, Error, worth_retrying};
use crate::show::value::Value;

/// Pause after a look-up that brought nothing, and the shortest before any other request.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// For so long a look-up that is refused is tried again: what comes back, such as a server behind a proxy, is back by then.
const LOOK_UP_FOR: Duration = Duration::from_mins(10);
/// A renewal that adds no more than this added nothing: its answer is in whole seconds.
const GAIN_MIN: Duration = Duration::from_secs(1);
/// Longest pause behind a renewal that added nothing: long enough for the next one to add something, if any does.
const STALLED_AGAIN: Duration = Duration::from_secs(10);

type Answered = Result<Option<Answer>, Error>;

/// What is known of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    /// From when on its life is counted.
    asked: Moment,
    life: Duration,
    renewable: bool,
}

/// Keeps the token alive, and says so once when that is over. `ask` asks the server, `tell` tells who started the command. Never ends.
pub(super) async fn keep_alive(ask: impl AsyncFn(&Call) -> Answered, clock: &dyn Clock, tell: impl Fn(&str)) -> Infallible {
    if let Some(token) = look_up(&ask, clock, &tell).await
        && let (token, Some(why)) = renew(&ask, clock, &tell, token).await
    {
        tell(&ending(token, clock, &why, ""));
    }
    std::future::pending().await
}

fn ending(token: Token, clock: &dyn Clock, why: &str, unless: &str) -> String {
    let now = clock.moment();
    let end = Timestamp::from_seconds((now.wall + token.left(now)).seconds());
    format!("the token {why}, and ends at {end}: the command gets no new AWS credentials after that{unless}")
}

/// Nothing for a token without an end, and for one of which the server says nothing.
async fn look_up(ask: &impl AsyncFn(&Call) -> Answered, clock: &dyn Clock, tell: &impl Fn(&str)) -> Option<Token> {
    let call = Call::new(Method::GET, "auth/token/lookup-self").unwrapped();
    let mut refused = None;
    loop {
        let asked = clock.moment();
        let why = match ask(&call).await {
            Ok(answer) => match answer.and_then(|answer| Token::of(answer.data()?, "ttl", asked)) {
                Some(token) => {
                    if refused.is_some() {
                        tell("the token was looked up after all");
                    }
                    return (!token.life.is_zero()).then_some(token);
                }
                None => Some(NOTHING.to_owned()),
            },
            Err(error) => is_lasting(&error).then(|| in_a_line(&error)),
        };
        if let Some(why) = why {
            if refused.is_none() {
                tell(&format!("the token is not renewed, since it cannot be looked up: {why}"));
            }
            if asked.since(*refused.get_or_insert(asked)) >= LOOK_UP_FOR {
                return None;
            }
        }
        clock.sleep(LOOK_UP_AGAIN).await;
    }
}

/// Renews until nothing more comes of it. Returns the token as it is then, and why it goes no further, unless that was said already.
///
/// A refusal is no end, nor is an answer that says nothing: what the server could not ask, a role that somebody is about to write anew, or the server itself
/// behind its proxy, is there again while the token still lives. Nor is one renewal that adds nothing: the role may have been given a shorter life, and from
/// there on each renewal adds to it. Behind the end that the server sets the next one adds nothing either.
async fn renew(
    ask: &impl AsyncFn(&Call) -> Answered,
    clock: &dyn Clock,
    tell: &impl Fn(&str),
    mut token: Token,
) -> (Token, Option<String>) {
    let call = Call::new(Method::PUT, "auth/token/renew-self").body(Value::map::<&str>([])).unwrapped();
    let (mut was_refused, mut is_stalled) = (false, false);
    loop {
        // Also where it cannot be renewed: that is of interest to commands that run long.
        let (now, most) = (clock.moment(), if is_stalled { STALLED_AGAIN } else { Duration::MAX });
        let pause = (token.left(now) / 2).min(most).max(PAUSE_MIN);
        until(clock, |later| pause.saturating_sub(later.since(now))).await;
        if !token.renewable {
            return (token, Some("cannot be renewed".to_owned()));
        }
        let asked = clock.moment();
        let why = match ask(&call).await {
            Ok(answer) => match answer.and_then(|answer| Token::of(&answer.auth, "lease_duration", asked)) {
                Some(renewed) => {
                    let gains = renewed.gains_on(token);
                    token = renewed;
                    if !gains && is_stalled {
                        return (token, Some(NO_FURTHER.to_owned()));
                    }
                    is_stalled = !gains;
                    if std::mem::take(&mut was_refused) {
                        tell("the token was renewed after all");
                    }
                    continue;
                }
                None => NOTHING.to_owned(),
            },
            Err(error) if is_lasting(&error) || token.is_over(asked) => in_a_line(&error),
            Err(_) => continue,
        };
        // Nothing else is tried before its end. A machine that slept: its own time stood still, and the server's did not.
        if token.left(asked) <= PAUSE_MIN {
            let why = if is_stalled { NO_FURTHER.to_owned() } else { format!("was not renewed ({why})") };
            return (token, (!was_refused).then_some(why));
        }
        if !std::mem::replace(&mut was_refused, true) {
            let why = format!("was not renewed ({why})");
            tell(&ending(token, clock, &why, ", unless a renewal comes through before"));
        }
    }
}

const NO_FURTHER: &str = "cannot be renewed any further";
/// Why a request brought nothing that is no refusal: 404, as proxies say where the server is away, 204, and what speaks of something else.
const NOTHING: &str = "the answer says nothing of it";

impl Token {
    /// Nothing, where the answer does not say how long it lives yet: a life of zero is one that it says.
    fn of(data: &Value, ttl: &str, asked: Moment) -> Option<Self> {
        let ttl = data.get(ttl).and_then(Value::as_integer).and_then(|ttl| u64::try_from(ttl).ok())?;
        Some(Self { asked, life: Seconds(ttl).duration(), renewable: data.get("renewable").is_some_and(Value::is_true) })
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
mod tests;
