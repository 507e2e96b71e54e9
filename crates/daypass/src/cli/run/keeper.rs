//! The credential that is ready, and how the next comes: ahead of time where somebody used the last one, else when an SDK asks. SDKs that ask at one moment
//! wait for one request to the server between them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Moment};
use tokio::sync::{mpsc, oneshot, watch};

use super::endpoint::Refused;
use super::until;
use crate::cli::aws::minted::{Minted, NotMinted};

/// SDKs that wait for the next credential at one time.
const WAITING_MAX: usize = 64;
/// How long an SDK waits for the next one while the one that is kept will do: botocore gives up after two seconds.
const PATIENCE_KEPT: Duration = Duration::from_millis(500);
/// How long it waits otherwise.
const PATIENCE: Duration = Duration::from_secs(8);
/// With less life than this left a credential will hardly do.
const SCANT: Duration = Duration::from_secs(10);
/// The server is left alone for so long after it gave none, while the one that is kept is good.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Such a part of what is left of the kept one passes before the server is asked ahead of time again: some dozens of times in an hour, and more often to its end.
const AHEAD_PART: u32 = 8;

type Outcome = Result<Arc<Minted>, Refused>;

/// Begins with a credential.
pub(super) fn keep<C: Clock>(first: Minted, clock: Arc<C>) -> (Kept<C>, Asked<C>) {
    let (set, kept) = watch::channel(Arc::new(first));
    let (ask, asks) = mpsc::channel(WAITING_MAX);
    let used = Arc::new(watch::Sender::new(false));
    (Kept { kept, ask, used: Arc::clone(&used), clock: Arc::clone(&clock) }, Asked { kept: set, asks, used, clock, failed: None })
}

/// The side of those who want a credential.
pub(super) struct Kept<C> {
    kept: watch::Receiver<Arc<Minted>>,
    ask: mpsc::Sender<oneshot::Sender<Outcome>>,
    /// Whether anybody has the one that is kept.
    used: Arc<watch::Sender<bool>>,
    clock: Arc<C>,
}

impl<C> Clone for Kept<C> {
    fn clone(&self) -> Self {
        Self { kept: self.kept.clone(), ask: self.ask.clone(), used: Arc::clone(&self.used), clock: Arc::clone(&self.clock) }
    }
}

impl<C: Clock> Kept<C> {
    /// As the container credential provider reads it, now.
    pub(super) async fn for_container(&self) -> Result<String, Refused> {
        Ok(self.credential().await?.for_container(self.clock.moment()))
    }

    async fn credential(&self) -> Outcome {
        let outcome = self.fresh_or_kept().await;
        if outcome.is_ok() {
            self.used.send_replace(true);
        }
        outcome
    }

    /// The one that is kept while it is fresh, else the next one; where that does not come, the one that is kept until it ends.
    async fn fresh_or_kept(&self) -> Outcome {
        let (kept, now) = (Arc::clone(&self.kept.borrow()), self.clock.moment());
        if kept.is_fresh(now) {
            return Ok(kept);
        }
        let patience = if kept.left(now) > SCANT { PATIENCE_KEPT } else { PATIENCE };
        let next = tokio::select! {
            next = self.next() => next,
            () = self.clock.sleep(patience) => Err(Refused::later(format!("no answer of the daypass server within {}s", patience.as_secs()))),
        };
        next.or_else(|refused| if kept.left(self.clock.moment()).is_zero() { Err(refused) } else { Ok(kept) })
    }

    async fn next(&self) -> Outcome {
        let ending = || Refused::later("daypass run is ending".to_owned());
        let (tell, told) = oneshot::channel();
        self.ask.send(tell).await.map_err(|_ended| ending())?;
        told.await.map_err(|_ended| ending())?
    }
}

/// The side that asks the server.
pub(super) struct Asked<C> {
    kept: watch::Sender<Arc<Minted>>,
    asks: mpsc::Receiver<oneshot::Sender<Outcome>>,
    used: Arc<watch::Sender<bool>>,
    clock: Arc<C>,
    failed: Option<(Moment, Refused)>,
}

impl<C: Clock> Asked<C> {
    /// Makes the next credential whenever somebody wants it, and ahead of that where somebody has the last one and will, unless the server has refused it: that is
    /// asked again for somebody who wants it alone.
    pub(super) async fn serve(&mut self, mint: impl AsyncFn() -> Result<Minted, NotMinted>) -> Infallible {
        let used = Arc::clone(&self.used);
        loop {
            let is_refused = self.failed.as_ref().is_some_and(|(_, refused)| refused.is_lasting);
            let first = tokio::select! {
                biased;
                first = self.asks.recv() => first,
                () = ahead(&used, &self.kept, self.failed.as_ref().map(|(when, _)| *when), &*self.clock), if !is_refused => {
                    let _next_time = self.outcome(&mint).await;
                    continue;
                }
            };
            let Some(first) = first else { return std::future::pending().await };
            let outcome = self.outcome(&mint).await;
            // Who came meanwhile has waited for the same.
            let others = std::iter::from_fn(|| self.asks.try_recv().ok());
            for tell in std::iter::once(first).chain(others) {
                let _gave_up = tell.send(outcome.clone());
            }
        }
    }

    async fn outcome(&mut self, mint: &impl AsyncFn() -> Result<Minted, NotMinted>) -> Outcome {
        let (kept, now) = (Arc::clone(&self.kept.borrow()), self.clock.moment());
        if kept.is_fresh(now) {
            return Ok(kept);
        }
        let is_good = !kept.left(now).is_zero();
        if let Some((_, refused)) = self.failed.as_ref().filter(|(when, _)| is_good && now.since(*when) < AGAIN_AFTER) {
            return Err(refused.clone());
        }
        match mint().await {
            Ok(minted) => {
                let minted = Arc::new(minted);
                self.failed = None;
                self.kept.send_replace(Arc::clone(&minted));
                self.used.send_replace(false);
                Ok(minted)
            }
            Err(problem) => {
                let refused = Refused::of(&problem);
                self.failed = Some((self.clock.moment(), refused.clone()));
                Err(refused)
            }
        }
    }
}

/// Waits for the time to ask the server for the next credential though nobody wants it yet: the kept one is used and half of its life is over, and after a
/// failure a part of what was left then. One that nobody used, and one that has ended, is followed by none until somebody asks.
async fn ahead(used: &watch::Sender<bool>, kept: &watch::Sender<Arc<Minted>>, failed: Option<Moment>, clock: &dyn Clock) {
    loop {
        // Its sender is ours: it does not go.
        let _never = used.subscribe().wait_for(|used| *used).await.is_err();
        let kept = Arc::clone(&kept.borrow());
        until(clock, |now| {
            let after =
                failed.map_or(Duration::ZERO, |when| (kept.left(when) / AHEAD_PART).max(AGAIN_AFTER).saturating_sub(now.since(when)));
            kept.fresh_for(now).max(after)
        })
        .await;
        if !kept.left(clock.moment()).is_zero() {
            return;
        }
        used.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use daypass_base::sim::{SimClock, waits};

    use super::*;
    use crate::client::Refusal;

    const HOUR: Duration = Duration::from_hours(1);

    fn sample(clock: &SimClock, name: &str) -> Minted {
        Minted::sample(name, clock.moment(), HOUR)
    }

    /// A server that is not there.
    fn away() -> NotMinted {
        NotMinted::Api(crate::client::Error::Unreadable("no answer".to_owned()))
    }

    /// The server's own refusal.
    fn denied() -> NotMinted {
        let (method, url, errors) = ("GET".to_owned(), "http://x".to_owned(), vec!["permission denied".to_owned()]);
        NotMinted::Api(crate::client::Error::Api(Refusal {
            method,
            url,
            status: 403,
            errors,
            raw: false,
            namespace: None,
            token_sent: true,
        }))
    }

    /// So many askers at one moment, and what each of them got; with what the server answered, in its order, and how often it was asked.
    async fn ask(
        kept: &Kept<SimClock>,
        asked: &mut Asked<SimClock>,
        askers: usize,
        answers: Vec<Result<Minted, NotMinted>>,
    ) -> (Vec<Outcome>, usize) {
        let (answers, count) = (RefCell::new(VecDeque::from(answers)), RefCell::new(0));
        let mint = async || {
            *count.borrow_mut() += 1;
            // The others come meanwhile.
            tokio::task::yield_now().await;
            let next = answers.borrow_mut().pop_front();
            next.unwrap()
        };
        let all = async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..askers {
                let kept = kept.clone();
                tasks.spawn(async move { kept.credential().await });
            }
            tasks.join_all().await
        };
        let got = tokio::select! {
            got = all => got,
            never = asked.serve(&mint) => match never {},
        };
        let count = *count.borrow();
        (got, count)
    }

    fn is(outcome: &Outcome, name: &str) -> bool {
        outcome.as_ref().is_ok_and(|minted| minted.for_container(SimClock::default().moment()).contains(&format!("\"{name}\"")))
    }

    #[tokio::test]
    async fn the_server_is_asked_once_for_all_who_ask_behind_half_of_a_credentials_life() {
        let clock = Arc::new(SimClock::default());
        let (kept, mut asked) = keep(sample(&clock, "one"), Arc::clone(&clock));
        let (got, count) = ask(&kept, &mut asked, 3, Vec::new()).await;
        assert!(count == 0 && got.iter().all(|outcome| is(outcome, "one")), "{got:?}");
        clock.advance(Duration::from_mins(31));
        let (got, count) = ask(&kept, &mut asked, 10, vec![Ok(sample(&clock, "two"))]).await;
        assert!(count == 1 && got.iter().all(|outcome| is(outcome, "two")), "{got:?}");
        let (got, count) = ask(&kept, &mut asked, 1, Vec::new()).await;
        assert!(count == 0 && is(&got[0], "two"), "{got:?}");
    }

    #[tokio::test]
    async fn a_server_that_gives_none_is_left_alone_while_the_one_that_is_kept_is_good() {
        let clock = Arc::new(SimClock::default());
        let (kept, mut asked) = keep(sample(&clock, "one"), Arc::clone(&clock));
        clock.advance(Duration::from_mins(50));
        let (got, count) = ask(&kept, &mut asked, 1, vec![Err(NotMinted::Other)]).await;
        assert!(count == 1 && is(&got[0], "one"), "{got:?}");
        let (got, count) = ask(&kept, &mut asked, 5, Vec::new()).await;
        assert!(count == 0 && got.iter().all(|outcome| is(outcome, "one")), "{got:?}");
        clock.advance(AGAIN_AFTER);
        let (got, count) = ask(&kept, &mut asked, 1, vec![Err(NotMinted::Other)]).await;
        assert!(count == 1 && is(&got[0], "one"), "{got:?}");
        // Once it has ended each who asks has the server asked.
        clock.advance(Duration::from_mins(10));
        let (got, count) = ask(&kept, &mut asked, 1, vec![Err(NotMinted::Other)]).await;
        assert!(count == 1 && got[0].is_err(), "{got:?}");
        let (got, count) = ask(&kept, &mut asked, 1, vec![Ok(sample(&clock, "two"))]).await;
        assert!(count == 1 && is(&got[0], "two"), "{got:?}");
    }

    /// Story: the next credential was asked for only when an SDK wanted it, and most of them do minutes before the end. A server that was away just then had the whole
    /// second half of its life to give one, and the build died.
    #[test]
    fn the_next_is_there_before_anybody_wants_it() {
        let clock = Arc::new(SimClock::default());
        let (kept, mut asked) = keep(sample(&clock, "one"), Arc::clone(&clock));
        let (answers, mints) = (RefCell::new(VecDeque::new()), RefCell::new(Vec::new()));
        let mint = async || {
            mints.borrow_mut().push(clock.elapsed().as_secs() / 60);
            answers.borrow_mut().pop_front().map_or_else(|| Err(away()), |name| Ok(sample(&clock, name)))
        };
        let mut serving = Box::pin(asked.serve(mint));
        let mut minutes = |minutes: u64| {
            for _ in 0..minutes * 60 {
                assert!(waits(&mut serving));
                clock.advance(Duration::from_secs(1));
            }
            std::mem::take(&mut *mints.borrow_mut())
        };
        let has = |name: &str| {
            let mut work = Box::pin(kept.credential());
            let mut polled = std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(outcome) = work.as_mut().poll(&mut polled) else { panic!("{name} is not there") };
            assert!(is(&outcome, name), "{outcome:?}");
        };
        assert!(minutes(10).is_empty());
        has("one");
        // The server is away for half an hour, and asked some dozens of times at most.
        let tries = minutes(40);
        assert!(tries.first() == Some(&30) && (5..30).contains(&tries.len()), "{tries:?}");
        answers.borrow_mut().push_back("two");
        assert_eq!(minutes(5).len(), 1);
        has("two");
        // Half an hour behind that it is followed, and one that nobody has is not.
        answers.borrow_mut().extend(["three", "four"]);
        assert_eq!(minutes(40).len(), 1);
        has("three");
        assert_eq!(minutes(30).len(), 1);
        assert!(minutes(240).is_empty(), "nobody has the last one");
    }

    /// Story: a role that had been taken away from a job was asked for again and again ahead of time: a line of refusal in the server's audit log each time, and nobody
    /// wanted a credential.
    #[test]
    fn what_the_server_refuses_is_asked_for_again_when_somebody_wants_it() {
        let clock = Arc::new(SimClock::default());
        let (kept, mut asked) = keep(sample(&clock, "one"), Arc::clone(&clock));
        let (answers, mints) = (RefCell::new(VecDeque::new()), RefCell::new(0));
        let mint = async || {
            *mints.borrow_mut() += 1;
            answers.borrow_mut().pop_front().unwrap_or_else(|| Err(denied()))
        };
        let mut serving = Box::pin(asked.serve(mint));
        let mut pass = |minutes: u64| {
            for _ in 0..minutes * 60 {
                assert!(waits(&mut serving));
                clock.advance(Duration::from_secs(1));
            }
            mints.take()
        };
        let mut got = Vec::new();
        let mut want = |pass: &mut dyn FnMut(u64) -> u32| {
            let mut work = Box::pin(kept.credential());
            let mut polled = std::task::Context::from_waker(std::task::Waker::noop());
            let mut made = 0;
            let outcome = loop {
                match work.as_mut().poll(&mut polled) {
                    std::task::Poll::Ready(outcome) => break outcome,
                    std::task::Poll::Pending => made += pass(1),
                }
            };
            got.push(outcome);
            made
        };
        assert_eq!(want(&mut pass), 0);
        assert_eq!(pass(40), 1, "half an hour is over");
        assert_eq!(want(&mut pass), 1);
        assert_eq!(pass(5), 0);
        // A proxy before a server that is away answers this.
        answers.borrow_mut().extend([Err(away()), Err(NotMinted::Nothing)]);
        assert_eq!(want(&mut pass), 1);
        assert_eq!(pass(2), 1);
        answers.borrow_mut().push_back(Ok(sample(&clock, "two")));
        assert_eq!(pass(3), 1, "a server that was away is asked ahead of time");
        assert!(got.iter().all(|outcome| is(outcome, "one")), "{got:?}");
    }

    #[tokio::test]
    async fn nobody_waits_long_for_a_server_that_hangs() {
        let clock = Arc::new(SimClock::default());
        let (kept, mut asked) = keep(sample(&clock, "one"), Arc::clone(&clock));
        let hanging = async || std::future::pending::<Result<Minted, NotMinted>>().await;
        for (mins, patience, good) in [(50, PATIENCE_KEPT, true), (20, PATIENCE, false)] {
            clock.advance(Duration::from_mins(mins));
            let began = clock.elapsed();
            let got = tokio::select! {
                got = clock.while_passing(kept.credential()) => got,
                never = asked.serve(&hanging) => match never {},
            };
            assert_eq!(clock.elapsed().saturating_sub(began), patience);
            assert_eq!(got.is_ok(), good, "{got:?}");
        }
    }
}
