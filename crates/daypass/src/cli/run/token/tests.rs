//! What becomes of a token, by a simulated clock and a server that answers as it is told.

use std::cell::{Cell, RefCell};

use daypass_base::sim::{SimClock, waits};

use super::*;
use crate::client::Refusal;

const HOUR: u64 = 3600;

/// What comes of it in so many seconds, with a server that answers so: when a renewal was asked for, and what was said.
fn passes(seconds: u64, answer: impl Fn(Ask) -> Answered) -> (Vec<u64>, Vec<String>) {
    passes_asleep(seconds, Duration::ZERO, answer)
}

/// The same on a machine that sleeps for so long behind the first minute: its monotonic clock and its timers stand still.
fn passes_asleep(seconds: u64, asleep: Duration, answer: impl Fn(Ask) -> Answered) -> (Vec<u64>, Vec<String>) {
    let clock = SimClock::default();
    let (renewals, said) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let ask = async |call: &Call| {
        let now = clock.elapsed().as_secs();
        if format!("{call:?}").contains("lookup-self") {
            return answer(Ask::LookUp(now));
        }
        renewals.borrow_mut().push(now);
        answer(Ask::Renewal(now))
    };
    {
        let mut work = Box::pin(keep_alive(ask, &clock, |text: &str| said.borrow_mut().push(text.to_owned())));
        for second in 0..seconds {
            assert!(waits(&mut work));
            if second == 60 {
                clock.jump_to(clock.now() + asleep);
            }
            clock.advance(Duration::from_secs(1));
        }
    }
    (renewals.into_inner(), said.into_inner())
}

/// What is asked, and when.
#[derive(Clone, Copy)]
enum Ask {
    LookUp(u64),
    Renewal(u64),
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a server answers")]
fn nothing() -> Answered {
    Ok(None)
}

fn of(body: &str) -> Answered {
    Answer::parse(body).map(Some).map_err(|error| Error::Unreadable(error.to_string()))
}

fn looked_up(ttl: u64) -> Answered {
    of(&format!(r#"{{"data":{{"ttl":{ttl},"renewable":true}}}}"#))
}

fn renewed(ttl: u64) -> Answered {
    of(&format!(r#"{{"auth":{{"lease_duration":{ttl},"renewable":true}}}}"#))
}

fn refused(why: &str) -> Answered {
    let (method, url, errors) = ("PUT".to_owned(), "http://x".to_owned(), vec![why.to_owned()]);
    Err(Error::Api(Refusal { method, url, status: 403, errors, raw: false, namespace: None, token_sent: true }))
}

/// A server that lets the token live for so long from each renewal, and until `end` at most. It looks up a token of an hour.
fn lives(ttl: u64, end: u64) -> impl Fn(Ask) -> Answered {
    let over = Cell::new(HOUR);
    move |ask| match ask {
        Ask::LookUp(now) => looked_up(over.get() - now),
        Ask::Renewal(now) if now >= over.get() => refused("permission denied"),
        Ask::Renewal(now) => {
            over.set(end.min(now + ttl));
            renewed(over.get() - now)
        }
    }
}

/// Story: a user was deleted and made anew, and one renewal came in between; or a proxy said 404 while the server was away for a moment. It was the last one, and
/// the build died half an hour later.
#[test]
fn a_renewal_that_brings_nothing_is_tried_again() {
    let server = lives(HOUR, 24 * HOUR);
    let (renewals, said) = passes(2 * HOUR, |ask| match ask {
        Ask::Renewal(now) if now < HOUR / 2 + 60 => nothing(),
        other => server(other),
    });
    assert_eq!(renewals[..3], [HOUR / 2, HOUR * 3 / 4, HOUR * 5 / 4]);
    let [first, second] = said.as_slice() else { panic!("{said:?}") };
    assert!(first.starts_with("the token was not renewed (the answer says nothing of it), and ends at 2026-01-02T04:04:05Z"), "{first}");
    assert!(first.ends_with("unless a renewal comes through before"), "{first}");
    assert_eq!(second, "the token was renewed after all");
}

/// Story: the one look-up at the start met a proxy whose server was away. Nothing was said, nothing was renewed, and the build ended with its first token.
#[test]
fn a_look_up_that_brings_nothing_is_tried_again_for_a_while() {
    let answers: [fn() -> Answered; 3] = [nothing, || of(r#"{"data":{"hello":"world"}}"#), || refused("no")];
    for away in answers {
        let server = lives(HOUR, 24 * HOUR);
        let (renewals, said) = passes(HOUR, |ask| match ask {
            Ask::LookUp(now) if now < 60 => away(),
            other => server(other),
        });
        assert_eq!(renewals, [60 + (HOUR - 60) / 2]);
        assert!(said.len() == 2 && said[0].starts_with("the token is not renewed, since it cannot be looked up: "), "{said:?}");
        assert_eq!(said[1], "the token was looked up after all");
        let asked = Cell::new(0);
        let (renewals, said) = passes(HOUR, |ask| {
            asked.set(asked.get() + usize::from(matches!(ask, Ask::LookUp(_))));
            away()
        });
        assert_eq!((renewals.len(), said.len(), asked.get()), (0, 1, 61), "once, and ten minutes: {said:?}");
    }
    // A token without an end is another thing.
    let (renewals, said) = passes(HOUR, |_| looked_up(0));
    assert_eq!((renewals.len(), said.len()), (0, 0), "{said:?}");
}

/// Story: somebody gave the role a shorter life. The next renewal brought less than what had been left, it was the last one, and the build died with it.
#[test]
fn a_shorter_renewal_is_one_too() {
    // The second is just what is left when it is asked for.
    for ttl in [HOUR / 6, HOUR / 2] {
        let (renewals, said) = passes(12 * HOUR, lives(ttl, 24 * HOUR));
        assert!(said.is_empty() && renewals.is_sorted_by(|one, next| next - one <= ttl / 2), "{ttl}: {said:?} {renewals:?}");
        assert!(renewals.last().is_some_and(|last| 12 * HOUR - last <= ttl / 2), "{ttl}: {renewals:?}");
    }
}

#[test]
fn the_end_that_the_server_sets_is_told_once() {
    for ttl in [HOUR / 4, HOUR] {
        let (renewals, said) = passes(4 * HOUR, lives(ttl, 3 * HOUR));
        let [said] = said.as_slice() else { panic!("{ttl}: {said:?}") };
        assert!(said.starts_with("the token cannot be renewed any further, and ends at 2026-01-02T06:04:05Z"), "{said}");
        assert!(renewals.last().is_some_and(|last| *last < 3 * HOUR - ttl / 5), "early enough to be of use: {renewals:?}");
    }
}

/// Story: a laptop slept through most of an hour. The timer of the next renewal stood still meanwhile, and came when the token was over.
#[test]
fn a_machine_that_slept_renews_at_once() {
    let (renewals, said) = passes_asleep(100, Duration::from_mins(50), lives(HOUR, 24 * HOUR));
    let [renewal] = renewals.as_slice() else { panic!("{renewals:?} {said:?}") };
    assert!((60..=75).contains(renewal), "{renewal}");
}

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
