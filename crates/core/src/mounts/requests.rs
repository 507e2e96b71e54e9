//! Requests on their way through a mount. Two things wait for them: the removal of the mount, and an engine that takes another one's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::Clock;
use daypass_sdk::{Error, Result};
use tokio::sync::OnceCell;

/// Requests that have come to an engine and are not answered yet, and those to the engines that served its mount before it.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    open: AtomicUsize,
    before: Option<Before>,
}

/// What the engine had that another one took the place of.
#[derive(Debug)]
struct Before {
    requests: Arc<Requests>,
    /// Set once they are over, and so is what they wrote.
    over: OnceCell<()>,
}

impl Requests {
    /// Of an engine that takes the place of the one that has these.
    pub(crate) fn after(before: &Arc<Self>) -> Self {
        Self { open: AtomicUsize::new(0), before: Some(Before { requests: Arc::clone(before), over: OnceCell::new() }) }
    }

    /// How many are not answered, whichever engine of the mount they came to.
    pub(crate) fn count(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |before| before.requests.count());
        before + self.open.load(Ordering::Acquire)
    }

    /// Returns once the engine serves alone: the requests to the one before it are answered. Only then may it look at what they left behind.
    ///
    /// That none of them is seen is enough: a request comes to an engine before it reads which configuration is in force, so one that comes to an
    /// engine that was replaced is led away from it by that read. What a request that was given up had handed to the store may come later;
    /// `flush` ends when that is done, too. Errors: `BadRequest`, with the words that Vault's clients try again for; whatever `flush` says.
    pub(crate) async fn alone<F>(&self, clock: &dyn Clock, patience: Duration, flush: impl FnOnce() -> F + Send) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send,
    {
        let Some(before) = &self.before else { return Ok(()) };
        if before.over.initialized() {
            return Ok(());
        }
        let began = clock.elapsed();
        while before.requests.count() > 0 {
            if clock.elapsed().saturating_sub(began) >= patience {
                return Err(Error::bad_request(UPGRADING));
            }
            clock.sleep(LOOK).await;
        }
        before.over.get_or_try_init(flush).await.copied()
    }
}

/// A request on its way through a mount, counted for as long as this lives: no mount is removed from under it, and no other engine takes over.
#[derive(Debug)]
pub(crate) struct Visit(Arc<Requests>);

impl Visit {
    pub(super) fn of(requests: &Arc<Requests>) -> Self {
        requests.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(requests))
    }
}

impl Clone for Visit {
    fn clone(&self) -> Self {
        Self::of(&self.0)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How often is looked whether the last request has ended.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Vault's text: KV mounts are the only ones that get another engine.
const UPGRADING: &str = "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume \
                         service shortly.";

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use daypass_base::sim::SimClock;

    use super::*;

    async fn alone(requests: &Requests, clock: &SimClock) -> Result<()> {
        requests.alone(clock, Duration::from_secs(90), || std::future::ready(Ok(()))).await
    }

    #[tokio::test]
    async fn a_first_engine_waits_for_nobody_and_the_third_for_both_before_it() {
        let clock = SimClock::default();
        let first = Arc::<Requests>::default();
        let second = Arc::new(Requests::after(&first));
        let third = Arc::new(Requests::after(&second));
        let (of_first, of_second, of_third) = (Visit::of(&first), Visit::of(&second), Visit::of(&third));
        alone(&first, &clock).await.unwrap();
        assert_eq!((first.count(), second.count(), third.count()), (1, 2, 3));
        let mut waiting = pin!(alone(&third, &clock));
        for visit in [of_first, of_second] {
            clock.advance(LOOK);
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop(visit);
        }
        clock.advance(LOOK);
        waiting.await.unwrap();
        drop(of_third);
        assert_eq!(third.count(), 0);
        // From then on for nobody, also not for one that is led to the old engine and away again.
        let _strayed = Visit::of(&first);
        alone(&third, &clock).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_waits_too_long_is_told_to_come_again() {
        let clock = SimClock::default();
        let first = Arc::<Requests>::default();
        let second = Requests::after(&first);
        let _never_answered = Visit::of(&first);
        let (refused, ()) = tokio::join!(alone(&second, &clock), async {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(91));
        });
        assert!(refused.unwrap_err().message.starts_with("Upgrading from non-versioned"));
    }
}
