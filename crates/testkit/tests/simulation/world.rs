//! The process and what is around it: a store that fails, an AWS that fails, a clock. A process is a runtime of its own, so that one that
//! dies takes with it all that it had begun.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daypass_aws::{FakeAws, Gate};
use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_base::{Clock, Entropy, Timestamp};
use daypass_storage::evil::EvilBackend;
use daypass_storage::{Backend, Key, MemoryBackend, Space};
use daypass_testkit::{Answer, Ask, Setup, TestServer, WORKER_PAUSE};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

pub(crate) type Evil = Arc<EvilBackend<MemoryBackend>>;

/// What became of one request.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// `None`: the process died first.
    pub(crate) answer: Option<Answer>,
}

/// How an answer is to be taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said<'a> {
    Done(&'a Answer),
    /// With a status of the 400s: it was not done.
    Refused(&'a Answer),
    /// The store is full: nothing more was changed. What is one commit was not done.
    Full,
    /// Nobody can say: an error of the server's, or no answer.
    Unknown,
}

impl Heard {
    pub(crate) fn said(&self) -> Said<'_> {
        match &self.answer {
            Some(answer) if answer.status < 300 => Said::Done(answer),
            Some(answer) if answer.status < 500 || NOT_DONE.iter().any(|text| answer.text("/errors/0").contains(text)) => {
                Said::Refused(answer)
            }
            Some(answer) if answer.status == 503 && answer.text("/errors/0").contains("the store is full: nothing more was changed") => {
                Said::Full
            }
            _ => Said::Unknown,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status)
    }
}

/// Troubles with AWS: how many calls of a thousand have one, and how many had one.
#[derive(Default)]
pub(crate) struct Trouble {
    pub(crate) per_mille: AtomicU64,
    pub(crate) struck: AtomicU64,
}

pub(crate) struct World {
    runtime: Option<Runtime>,
    server: Option<TestServer>,
    evil: Evil,
    store: Arc<MemoryBackend>,
    clock: SimClock,
    chance: Arc<dyn Entropy>,
    pub(crate) trouble: Arc<Trouble>,
    hash: DefaultHasher,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

impl World {
    /// A server that was just set up.
    pub(crate) fn new(seed: u64, prepare: impl AsyncFnOnce(&TestServer)) -> Self {
        let store = Arc::new(MemoryBackend::new());
        let setup = Setup::default().seeded(seed.wrapping_mul(1_000));
        let clock = setup.clock();
        let evil = Arc::new(EvilBackend::new(Arc::clone(&store), Arc::new(clock.clone()) as Arc<dyn Clock>));
        let runtime = runtime();
        let server = runtime.block_on(async {
            let server = setup.over(Arc::clone(&evil) as Arc<dyn Backend>).start().await;
            prepare(&server).await;
            server
        });
        let chance: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(seed ^ 0x5eed));
        let (runtime, server, trouble, hash) = (Some(runtime), Some(server), Arc::default(), DefaultHasher::new());
        let world = Self { runtime, server, evil, store, clock, chance, trouble, hash };
        world.evil.give_way(Arc::clone(&world.chance));
        world.guard();
        world
    }

    pub(crate) fn server(&self) -> &TestServer {
        self.server.as_ref().expect("there is a process")
    }

    pub(crate) fn aws(&self) -> &FakeAws {
        self.server().aws()
    }

    pub(crate) fn evil(&self) -> &Evil {
        &self.evil
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Faults and troubles so far.
    pub(crate) fn struck(&self) -> u64 {
        self.evil.calls().struck + self.trouble.struck.load(Ordering::Relaxed)
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn note(&mut self, what: &str) {
        what.hash(&mut self.hash);
    }

    /// AWS has troubles as often as is set, dies with the process, and does nothing for one that is dead.
    fn guard(&self) {
        let (evil, trouble, chance) = (Arc::clone(&self.evil), Arc::clone(&self.trouble), Arc::clone(&self.chance));
        self.aws().guard(move |_| {
            if evil.crashed() {
                return Gate::DieBefore;
            }
            if chance.below(1000) >= trouble.per_mille.load(Ordering::Relaxed) {
                return Gate::Open;
            }
            trouble.struck.fetch_add(1, Ordering::Relaxed);
            match chance.below(8) {
                0 => {
                    evil.crash();
                    Gate::DieBefore
                }
                1 => {
                    evil.crash();
                    Gate::DieAfter
                }
                2..=4 => Gate::Cut,
                _ => Gate::Throttle,
            }
        });
    }

    /// Sends all of these at the same moment and waits for the answers, or for the death of the process.
    pub(crate) fn send(&mut self, asks: Vec<Ask>) -> Vec<Heard> {
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::new(Mutex::new(vec![Heard { answer: None }; asks.len()]));
        let (evil, clock) = (Arc::clone(&self.evil), self.clock.clone());
        self.runtime.as_ref().expect("there is a process").block_on(async {
            let mut tasks = Vec::new();
            for (at, ask) in asks.into_iter().enumerate() {
                let (heard, evil) = (Arc::clone(&heard), Arc::clone(&evil));
                tasks.push(tokio::spawn(async move {
                    let answer = ask.await;
                    // A dead process tells nothing any more.
                    if !evil.crashed() {
                        heard.lock()[at].answer = Some(answer);
                    }
                }));
            }
            let all = async {
                for task in tasks {
                    task.await.expect("no request panics");
                }
            };
            within(&clock, &evil, all).await;
        });
        let heard = heard.lock().clone();
        for heard in &heard {
            let text = heard.answer.as_ref().map(|answer| format!("{} {} {}", answer.request, answer.status, answer.body));
            self.note(&format!("{} {text:?}", self.now()));
        }
        heard
    }

    /// Moves the clock and lets the background work do what is due, as far as the store lets it.
    pub(crate) fn pass(&mut self, by: Duration) {
        let (evil, clock, store) = (Arc::clone(&self.evil), self.clock.clone(), Arc::clone(&self.store));
        self.runtime.as_ref().expect("there is a process").block_on(async {
            clock.advance(by);
            for _ in 0..SETTLE_ROUNDS {
                for _ in 0..YIELDS {
                    tokio::task::yield_now().await;
                }
                if evil.crashed() || !due(&store, clock.now()).await {
                    break;
                }
                clock.advance(WORKER_PAUSE);
            }
        });
    }

    /// Whether something is due that was not dealt with.
    pub(crate) fn is_due(&self) -> bool {
        self.runtime.as_ref().expect("there is a process").block_on(due(&self.store, self.now()))
    }

    /// The process dies, if it did not yet, and another one is started on what the store holds. `mean` plans what goes wrong while it
    /// starts; after the first attempts nothing does.
    pub(crate) fn restart(&mut self, mean: impl Fn(&Evil, u64)) {
        self.evil.crash();
        for attempt in 0..ATTEMPTS {
            let server = self.server.take().expect("there is a process");
            // All that the dead process had begun goes with it.
            drop(self.runtime.take());
            let runtime = runtime();
            self.evil = Arc::new(EvilBackend::new(Arc::clone(&self.store), Arc::new(self.clock.clone()) as Arc<dyn Clock>));
            self.evil.give_way(Arc::clone(&self.chance));
            if attempt + 1 < ATTEMPTS {
                mean(&self.evil, attempt);
            }
            let (evil, clock) = (Arc::clone(&self.evil), self.clock.clone());
            let (server, open) = runtime.block_on(async {
                let server = server.restart_sealed_over(Arc::clone(&evil) as Arc<dyn Backend>);
                let share = server.shares()[0].clone();
                let open = within(&clock, &evil, Box::pin(async { server.core().unseal(share).await.unwrap_or(false) })).await;
                (server, open == Some(true))
            });
            (self.server, self.runtime) = (Some(server), Some(runtime));
            self.guard();
            self.note(&format!("started: {open}"));
            if open && !self.evil.crashed() {
                return;
            }
            assert!(self.evil.calls().struck > 0 || self.evil.crashed(), "a start without a fault unseals");
        }
        panic!("the server does not unseal any more");
    }

    /// Every stored row of a space.
    pub(crate) fn rows(&self, space: Space) -> Vec<Vec<u8>> {
        let everything = Key::new(space, Vec::new());
        let rows = self.runtime.as_ref().expect("there is a process").block_on(self.store.keys(&everything, None, 100_000)).unwrap();
        rows.into_iter().map(|key| key.to_vec()).collect()
    }

    /// Every stored key and every entry of the expiry index, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for space in [Space::Config, Space::Token, Space::Lease, Space::Index] {
            keys.extend(self.rows(space).into_iter().map(|key| format!("{space:?} {}", readable(&key))));
        }
        let end = Timestamp::from_nanos(i64::MAX);
        let due = self.runtime.as_ref().expect("there is a process").block_on(self.store.due(0, end, 100_000)).unwrap();
        keys.extend(due.iter().map(|due| format!("Due {}", readable(&due.id))));
        keys
    }

    /// IAM users that this server made.
    pub(crate) fn made_users(&self) -> Vec<String> {
        self.aws().users().into_iter().filter(|name| name.starts_with("vault-")).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.server.take());
    }
}

fn readable(key: &[u8]) -> String {
    key.iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect()
}

async fn due(store: &MemoryBackend, now: Timestamp) -> bool {
    !store.due(0, now, 1).await.unwrap().is_empty()
}

/// Waits for some work while time goes on by itself; `None`: the process died first.
async fn within<T>(clock: &SimClock, evil: &Evil, work: impl Future<Output = T>) -> Option<T> {
    let limit = clock.elapsed() + LONGEST;
    let death = async {
        while !evil.crashed() {
            assert!(clock.elapsed() < limit, "a request waits for more than {} s", LONGEST.as_secs());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = death => None,
        done = clock.while_passing(work) => Some(done),
    }
}

/// Answers with 500 that say that nothing was done: Vault's for a secret id that is gone, and ours to one of two who changed the same thing.
const NOT_DONE: [&str; 2] = ["failed to find accessor entry for secret_id_accessor", "was changed by another request at the same moment"];
/// No request takes longer, whatever is delayed: delays are of 40 s at most, and there are few at a time.
const LONGEST: Duration = Duration::from_mins(10);
/// Yields in which all that is ready comes to its next wait.
const YIELDS: usize = 300;
const SETTLE_ROUNDS: usize = 20;
const ATTEMPTS: u64 = 4;
