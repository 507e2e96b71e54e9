//! A clock and a source of randomness that tests control. Deterministic: the same seed and the same steps give the same run.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::{BoxFuture, Clock, Entropy, Timestamp};

/// A clock that stands still until a test moves it. Clones share one time.
#[derive(Clone)]
pub struct SimClock {
    state: Arc<Mutex<SimTime>>,
}

struct SimTime {
    now: Timestamp,
    elapsed: Duration,
    next_waiter: u64,
    waiters: BTreeMap<(Duration, u64), tokio::sync::oneshot::Sender<()>>,
}

impl SimClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        let state = SimTime { now, elapsed: Duration::ZERO, next_waiter: 0, waiters: BTreeMap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Moves both times on and wakes every sleeper that is due.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = state.now + by;
        state.elapsed += by;
        let elapsed = state.elapsed;
        let later = state.waiters.split_off(&(elapsed + Duration::from_nanos(1), 0));
        for (_, waiter) in std::mem::replace(&mut state.waiters, later) {
            let _gone = waiter.send(());
        }
    }

    /// Runs `work` while time goes on by itself: 50 ms, whenever everything that can be done at one moment had its chance. Real
    /// connections then have some real time for each simulated limit.
    pub async fn while_passing<T>(&self, work: impl Future<Output = T>) -> T {
        let passing = async {
            loop {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                self.advance(Duration::from_millis(50));
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = passing => never,
        }
    }

    /// Sets wall time alone, forward or back, as an operator or a bad time server would.
    pub fn jump_to(&self, now: Timestamp) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now = now;
    }
}

impl Default for SimClock {
    /// 2026-01-02T03:04:05Z, the time that the examples show.
    fn default() -> Self {
        Self::at(Timestamp::from_seconds(1_767_323_045))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn elapsed(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).elapsed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if duration.is_zero() {
            return Box::pin(std::future::ready(()));
        }
        let key = (state.elapsed + duration, state.next_waiter);
        state.next_waiter += 1;
        state.waiters.insert(key, sender);
        drop(state);
        Box::pin(async move {
            let _clock_gone = receiver.await;
        })
    }
}

/// Random bytes from a seed (SplitMix64): for tests only, never for keys.
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            for (to, from) in chunk.iter_mut().zip(mixed.to_le_bytes()) {
                *to = from;
            }
        }
    }
}

/// Whether it still waits: looks once, and asks for no wake-up.
pub fn waits<T>(work: &mut (impl Future<Output = T> + Unpin)) -> bool {
    Pin::new(work).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}
