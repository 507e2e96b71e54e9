//! A store that fails on purpose, at the call that a test names: what [`Backend`] allows to go wrong, and nothing else.
//!
//! Deterministic: the same faults and the same calls give the same run. It holds no data; a "restart" is a new wrapper, or
//! [`EvilBackend::restart`], around the same inner store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{BoxFuture, Clock, Entropy, Timestamp};
use parking_lot::Mutex;

use crate::snapshot::{Export, Staged, Staging};
use crate::{Backend, Batch, Claim, CommitError, Due, Key, Page, Read, ReadError, Row, rules};

/// Wraps a store and fails where told.
///
/// ```
/// # use std::sync::Arc;
/// # use daypass_base::sim::SimClock;
/// # use daypass_storage::evil::{EvilBackend, Fault, Step};
/// # use daypass_storage::{Backend, Batch, CommitError, MemoryBackend};
/// # tokio_test(async {
/// let evil = EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(SimClock::default()));
/// evil.at(Step::Write(2), Fault::LoseAnswer);
/// assert!(evil.commit(Batch::new()).await.is_ok());
/// assert!(matches!(evil.commit(Batch::new()).await, Err(CommitError::Unknown(_))));
/// # });
/// # fn tokio_test(f: impl Future<Output = ()>) { tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(f) }
/// ```
pub struct EvilBackend<B: ?Sized> {
    inner: Arc<B>,
    clock: Arc<dyn Clock>,
    plan: Mutex<Plan>,
}

/// Which call; each kind is counted from 1, since the wrapper was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The n-th call of any kind (but `kind` and `close`).
    Call(u64),
    /// The n-th `get`, `get_many`, `list`, `keys`, `scan` or `due`.
    Read(u64),
    /// The n-th `commit` or `claim`.
    Write(u64),
}

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies after the call took effect: a write is applied, nothing is answered but `Unknown`, and every later call fails.
    CrashAfter,
    /// The process dies before the call takes effect; every later call fails.
    CrashBefore,
    /// The call waits that long on the clock first, then goes through.
    Delay(Duration),
    /// The call fails, and nothing was changed.
    Fail,
    /// From this write on the medium is full, until [`EvilBackend::heal`]. Reads go on.
    Full,
    /// A write is applied, but its answer is lost: `Unknown`. A read just fails.
    LoseAnswer,
    /// From this write on there is no more room than what is kept for revocations, until [`EvilBackend::heal`]. What grows is refused as by a full
    /// medium, unless it [takes something back](Batch::takes_back). Reads go on.
    Low,
    /// The sync of a commit fails: `Unknown`, no read shows it, and no write is taken any more. It was on the disk all the same, as the next
    /// [`EvilBackend::restart`] finds.
    Unsynced,
}

/// How many calls there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Of any kind.
    pub all: u64,
    /// Reads alone.
    pub reads: u64,
    /// Writes alone.
    pub writes: u64,
    /// Bytes of values that reads were answered with.
    pub bytes: u64,
    /// Those that did not go through as they should, for a planned fault or what it left behind. A delay alone is none of them.
    pub struck: u64,
}

impl<B: Backend + ?Sized> EvilBackend<B> {
    /// A wrapper that fails nowhere yet.
    pub fn new(inner: Arc<B>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, plan: Mutex::new(Plan::default()) }
    }

    /// Plans a fault. One step has one fault; a later one takes its place.
    pub fn at(&self, step: Step, fault: Fault) {
        self.plan.lock().faults.insert(step, fault);
    }

    /// From now on every call gives way to others a few times, before it takes effect and after, as chance will have it: so calls of several
    /// tasks of one thread come in any order.
    pub fn give_way(&self, chance: Arc<dyn Entropy>) {
        self.plan.lock().chance = Some(chance);
    }

    /// Plans a fault for the next write, whatever its number.
    pub fn at_next_write(&self, fault: Fault) {
        let mut plan = self.plan.lock();
        let step = Step::Write(plan.calls.writes + 1);
        plan.faults.insert(step, fault);
    }

    /// How many calls there were so far, failed ones included.
    pub fn calls(&self) -> Calls {
        self.plan.lock().calls
    }

    /// The process dies now: every later call fails.
    pub fn crash(&self) {
        self.plan.lock().crashed = true;
    }

    /// Whether a crash has struck.
    pub fn crashed(&self) -> bool {
        self.plan.lock().crashed
    }

    /// From now on no write is taken, as after a sync that failed.
    pub fn stop(&self) {
        self.plan.lock().stopped = true;
    }

    /// There is room again, and no more faults are planned.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        plan.full = false;
        plan.low = false;
        plan.faults.clear();
    }

    /// The process starts again on what the store holds. Counts and planned faults stay.
    pub fn restart(&self) {
        let mut plan = self.plan.lock();
        plan.crashed = false;
        plan.stopped = false;
        plan.recovered = plan.unseen.take();
    }

    /// The store itself, past all faults.
    pub fn inner(&self) -> &Arc<B> {
        &self.inner
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, CommitError>>) -> Result<T, CommitError> {
        let verdict = self.begin(Access::Write).await;
        let done = match verdict.end {
            _ if self.plan.lock().stopped => Err(CommitError::Stopped(STOPPED.to_owned())),
            End::Normal => write.await,
            End::FailBefore(reason) => Err(CommitError::Failed(reason.to_owned())),
            End::Full => Err(CommitError::Full("no room, as planned".to_owned())),
            // The crash itself answers nobody; the caller cannot tell it from a lost answer.
            End::CrashBefore => Err(CommitError::Unknown("crashed, as planned".to_owned())),
            End::LoseAnswer => match write.await {
                Ok(_lost) => Err(CommitError::Unknown("answer lost, as planned".to_owned())),
                Err(error) => Err(CommitError::Unknown(error.to_string())),
            },
        };
        give_way(verdict.after).await;
        done
    }

    async fn grows(&self, batch: &Batch) -> Result<bool, CommitError> {
        let keys: Vec<Key> = batch.puts.iter().map(|(key, _)| key.clone()).collect();
        let read = self.inner.get_many(&keys).await.map_err(|error| CommitError::Failed(error.to_string()))?;
        let replaced: Vec<_> = read.found.iter().map(|row| row.as_ref().map(|row| row.value.len())).collect();
        Ok(rules::growth(batch, &replaced).is_none())
    }

    async fn begin(&self, access: Access) -> Verdict {
        let verdict = self.plan.lock().next(access);
        if let Some(delay) = verdict.delay {
            self.clock.sleep(delay).await;
        }
        let recovered = self.plan.lock().recovered.take();
        if let Some(batch) = recovered {
            // Its conditions held, and nothing was written since.
            let _applied = self.inner.commit(batch).await;
        }
        give_way(verdict.before).await;
        verdict
    }

    /// `bytes` says how many bytes of values an answer has.
    async fn read<T>(&self, read: impl Future<Output = Result<T, ReadError>>, bytes: fn(&T) -> u64) -> Result<T, ReadError> {
        let verdict = self.begin(Access::Read).await;
        let done = match verdict.end {
            End::Normal | End::Full => read.await.inspect(|found| self.plan.lock().calls.bytes += bytes(found)),
            End::FailBefore(reason) => Err(ReadError::Failed(reason.to_owned())),
            End::CrashBefore | End::LoseAnswer => Err(ReadError::Failed("failed, as planned".to_owned())),
        };
        give_way(verdict.after).await;
        done
    }
}

async fn give_way(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

fn length(row: &Row) -> u64 {
    u64::try_from(row.value.len()).unwrap_or(u64::MAX)
}

/// Why a store that is stopped takes no writes.
const STOPPED: &str = "a sync failed, as planned";
/// A call gives way fewer times than this, before it takes effect and after.
const WAYS: u64 = 4;

impl<B: Backend + ?Sized> Backend for EvilBackend<B> {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(self.write(async move {
            if self.plan.lock().low && !batch.takes_back && self.grows(&batch).await? {
                return Err(CommitError::Full("what is left is kept for revocations, as planned".to_owned()));
            }
            {
                let mut plan = self.plan.lock();
                if std::mem::take(&mut plan.unsynced) {
                    plan.stopped = true;
                    plan.unseen = Some(batch);
                    return Err(CommitError::Unknown(STOPPED.to_owned()));
                }
            }
            self.inner.commit(batch).await
        }))
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Read<Option<Row>>, ReadError>> {
        Box::pin(self.read(self.inner.get(key), |read| read.found.as_ref().map_or(0, length)))
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Read<Vec<Option<Row>>>, ReadError>> {
        Box::pin(self.read(self.inner.get_many(keys), |read| read.found.iter().flatten().map(length).sum()))
    }

    fn list<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>> {
        Box::pin(self.read(self.inner.list(prefix, after, limit), |_| 0))
    }

    fn keys<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>> {
        Box::pin(self.read(self.inner.keys(prefix, after, limit), |_| 0))
    }

    fn scan<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(self.read(self.inner.scan(prefix, after, limit), |page| page.rows.iter().map(|(_, row)| length(row)).sum()))
    }

    fn due(&self, shard: u8, until: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, ReadError>> {
        Box::pin(self.read(self.inner.due(shard, until, limit), |_| 0))
    }

    fn due_behind<'a>(&'a self, after: &'a Due, until: Timestamp, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, ReadError>> {
        Box::pin(self.read(self.inner.due_behind(after, until, limit), |_| 0))
    }

    fn claim<'a>(
        &'a self,
        shard: u8,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Claim>, CommitError>> {
        Box::pin(self.write(self.inner.claim(shard, owner, now, until)))
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, CommitError>> {
        Box::pin(self.write(self.inner.export()))
    }

    fn stage(&self) -> BoxFuture<'_, Result<Box<dyn Staging>, CommitError>> {
        Box::pin(self.write(self.inner.stage()))
    }

    fn replace(&self, staged: Staged) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(self.write(self.inner.replace(staged)))
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn stopped(&self) -> Option<String> {
        let stopped = self.plan.lock().stopped;
        stopped.then(|| STOPPED.to_owned()).or_else(|| self.inner.stopped())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

#[derive(Default)]
struct Plan {
    faults: BTreeMap<Step, Fault>,
    calls: Calls,
    crashed: bool,
    full: bool,
    low: bool,
    stopped: bool,
    /// The next commit is not synced.
    unsynced: bool,
    /// What was not synced, until a restart finds it,
    unseen: Option<Batch>,
    /// and from there until the next call.
    recovered: Option<Batch>,
    chance: Option<Arc<dyn Entropy>>,
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

struct Verdict {
    delay: Option<Duration>,
    /// How often it gives way.
    before: u64,
    after: u64,
    end: End,
}

enum End {
    CrashBefore,
    FailBefore(&'static str),
    Full,
    LoseAnswer,
    Normal,
}

impl Plan {
    /// Counts a call and says how it goes.
    fn next(&mut self, access: Access) -> Verdict {
        let (delay, end) = self.fate(access);
        self.calls.struck += u64::from(!matches!(end, End::Normal));
        let ways = || self.chance.as_ref().map_or(0, |chance| chance.below(WAYS));
        Verdict { delay, before: ways(), after: ways(), end }
    }

    fn fate(&mut self, access: Access) -> (Option<Duration>, End) {
        self.calls.all += 1;
        let own = match access {
            Access::Read => {
                self.calls.reads += 1;
                Step::Read(self.calls.reads)
            }
            Access::Write => {
                self.calls.writes += 1;
                Step::Write(self.calls.writes)
            }
        };
        if self.crashed {
            return (None, End::FailBefore("crashed before"));
        }
        let fault = self.faults.remove(&own).or_else(|| self.faults.remove(&Step::Call(self.calls.all)));
        let mut delay = None;
        let end = match fault {
            Some(Fault::CrashAfter) => {
                self.crashed = true;
                End::LoseAnswer
            }
            Some(Fault::CrashBefore) => {
                self.crashed = true;
                End::CrashBefore
            }
            Some(Fault::Fail) => End::FailBefore("failed, as planned"),
            Some(Fault::LoseAnswer) => End::LoseAnswer,
            Some(Fault::Full) => {
                self.full = true;
                End::Normal
            }
            Some(Fault::Low) => {
                self.low = true;
                End::Normal
            }
            Some(Fault::Unsynced) => {
                self.unsynced = true;
                End::Normal
            }
            Some(Fault::Delay(by)) => {
                delay = Some(by);
                End::Normal
            }
            None => End::Normal,
        };
        let end = if self.full && matches!((access, &end), (Access::Write, End::Normal)) { End::Full } else { end };
        (delay, end)
    }
}

#[cfg(test)]
mod tests {
    use daypass_base::sim::SimClock;

    use super::*;
    use crate::{MemoryBackend, Space};

    fn evil() -> (EvilBackend<MemoryBackend>, SimClock) {
        let clock = SimClock::default();
        (EvilBackend::new(Arc::new(MemoryBackend::new()), Arc::new(clock.clone())), clock)
    }

    fn put(name: &'static str) -> Batch {
        Batch::new().put(key(name), "value")
    }

    fn key(name: &'static str) -> Key {
        Key::new(Space::Config, name)
    }

    async fn holds(evil: &EvilBackend<MemoryBackend>, name: &'static str) -> bool {
        evil.inner().get(&key(name)).await.unwrap().found.is_some()
    }

    #[tokio::test]
    async fn without_faults_it_keeps_the_contract() {
        let make = || async { Arc::new(evil().0) as Arc<dyn Backend> };
        crate::contract::suite(make).await;
    }

    #[tokio::test]
    async fn each_fault_strikes_at_its_call_and_only_there() {
        let (evil, _) = evil();
        evil.at(Step::Write(2), Fault::Fail);
        evil.at(Step::Call(3), Fault::LoseAnswer);
        evil.at(Step::Read(1), Fault::Fail);
        assert!(evil.commit(put("1")).await.is_ok());
        assert!(matches!(evil.commit(put("2")).await, Err(CommitError::Failed(_))));
        assert!(matches!(evil.commit(put("3")).await, Err(CommitError::Unknown(_))));
        assert!(evil.get(&key("1")).await.is_err());
        assert!(evil.get(&key("1")).await.is_ok());
        assert_eq!((holds(&evil, "1").await, holds(&evil, "2").await, holds(&evil, "3").await), (true, false, true));
        assert_eq!(evil.calls(), Calls { all: 5, reads: 2, writes: 3, bytes: 5, struck: 3 });
    }

    #[tokio::test]
    async fn a_full_medium_stays_full_until_healed_and_can_be_read() {
        let (evil, _) = evil();
        evil.at_next_write(Fault::Full);
        assert!(matches!(evil.commit(put("1")).await, Err(CommitError::Full(_))));
        assert!(matches!(evil.commit(put("2")).await, Err(CommitError::Full(_))));
        assert!(evil.get(&key("1")).await.unwrap().found.is_none());
        evil.heal();
        assert!(evil.commit(put("3")).await.is_ok());
    }

    #[tokio::test]
    async fn with_little_room_only_what_takes_something_back_may_grow() {
        let (evil, _) = evil();
        evil.commit(put("1")).await.unwrap();
        evil.at_next_write(Fault::Low);
        assert!(matches!(evil.commit(put("2")).await, Err(CommitError::Full(_))));
        evil.commit(put("1")).await.unwrap();
        evil.commit(put("3").taking_back()).await.unwrap();
        assert!(!holds(&evil, "2").await && holds(&evil, "3").await);
        evil.heal();
        evil.commit(put("2")).await.unwrap();
    }

    #[tokio::test]
    async fn after_a_crash_nothing_goes_until_a_restart() {
        for (fault, applied) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
            let (evil, _) = evil();
            evil.at_next_write(fault);
            assert!(matches!(evil.commit(put("1")).await, Err(CommitError::Unknown(_))));
            assert!(evil.crashed() && evil.get(&key("1")).await.is_err());
            assert!(matches!(evil.commit(put("2")).await, Err(CommitError::Failed(_))));
            evil.restart();
            assert_eq!(evil.get(&key("1")).await.unwrap().found.is_some(), applied);
            assert!(!holds(&evil, "2").await);
        }
    }

    #[tokio::test]
    async fn a_commit_that_was_not_synced_is_found_by_the_next_start_alone() {
        let (evil, _) = evil();
        evil.at_next_write(Fault::Unsynced);
        assert!(matches!(evil.commit(put("1")).await, Err(CommitError::Unknown(_))));
        assert!(evil.get(&key("1")).await.unwrap().found.is_none() && evil.stopped().is_some());
        assert!(matches!(evil.commit(put("2")).await, Err(CommitError::Stopped(_))));
        evil.restart();
        assert!(evil.get(&key("1")).await.unwrap().found.is_some() && evil.stopped().is_none());
        evil.commit(put("2")).await.unwrap();
    }

    #[tokio::test]
    async fn calls_that_give_way_come_in_an_order_of_chance_and_the_same_chance_gives_the_same_order() {
        let order = async |seed: u64| {
            let evil = Arc::new(evil().0);
            evil.give_way(Arc::new(daypass_base::sim::SeededEntropy::new(seed)));
            let done = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..8)
                .map(|number| {
                    let (evil, done) = (Arc::clone(&evil), Arc::clone(&done));
                    tokio::spawn(async move {
                        evil.commit(put("1")).await.unwrap();
                        done.lock().push(number);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            done.lock().clone()
        };
        assert_eq!(order(1).await, order(1).await);
        assert_ne!(order(1).await, order(2).await);
    }

    #[tokio::test]
    async fn a_delayed_call_waits_for_the_clock() {
        let (evil, clock) = evil();
        evil.at_next_write(Fault::Delay(Duration::from_secs(5)));
        let evil = Arc::new(evil);
        let waiting = tokio::spawn({
            let evil = Arc::clone(&evil);
            async move { evil.commit(put("1")).await }
        });
        while evil.calls().writes == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!holds(&evil, "1").await && !waiting.is_finished());
        clock.advance(Duration::from_secs(5));
        waiting.await.unwrap().unwrap();
        assert!(holds(&evil, "1").await);
    }
}
