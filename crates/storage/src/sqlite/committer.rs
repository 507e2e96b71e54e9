//! The only writer: a thread that applies all batches that wait in one transaction, syncs once, and answers them all.
//!
//! It never waits for more batches to come: a lone writer pays for one sync and nothing else, and while that sync runs the
//! next group gathers by itself. No answer leaves before COMMIT has returned. What nobody waits for comes after the answers: see [`upkeep`].

mod upkeep;

use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use daypass_base::{Clock, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension, ffi, params};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::place::Place;
use super::readers::Readers;
use super::schema::{self, CLAIM_READ, CLAIM_WRITE, CONFIG_VERSION_WRITE, DUE_ADD, DUE_REMOVE, Opened, SpaceSql};
use super::snapshot::{self, StagedFile};
use super::versions::Versions;
use super::{Shared, SqliteOptions};
use crate::rules::{self, Holder};
use crate::{Batch, Claim, CommitError, Condition, Due, Key};

/// What the committer is asked to do.
pub(super) enum Job {
    /// A batch or a claim. The permit is given back when it is done with.
    Work { work: Work, bytes: usize, permit: OwnedSemaphorePermit },
    /// Finish what came before this, and end.
    Close { answer: Option<oneshot::Sender<()>> },
    /// Finish what came before this, and go on with another file in the store's place.
    Replace { file: StagedFile, answer: oneshot::Sender<Result<(), CommitError>> },
}

/// Something that is written, and who waits for it.
pub(super) enum Work {
    Commit { batch: Batch, answer: oneshot::Sender<Result<u64, CommitError>> },
    Claim { shard: u8, owner: String, now: Timestamp, until: Timestamp, answer: oneshot::Sender<Result<Option<Claim>, CommitError>> },
}

/// What became of a [`Work`], kept back until COMMIT has returned.
enum Outcome {
    Committed(u64),
    Claimed(Option<Claim>),
    Refused(CommitError),
}

pub(super) struct Committer {
    connection: Connection,
    queue: Receiver<Job>,
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    options: SqliteOptions,
    versions: Versions,
    room: Room,
    clock: Arc<dyn Clock>,
    /// When it was last looked whether much of the file is free; on the clock's monotonic time.
    looked: Duration,
    /// The WAL does not last yet, with what an earlier process has left in it: nothing is committed or written back until it does.
    owed: bool,
    /// The last checkpoint between groups failed, and the log says so.
    lags: bool,
    /// What is done when the group before it is done with.
    apart: Option<Job>,
    /// The WAL's index, from the moment when it counted no more: see [`upkeep`]. Closed after the connection.
    index: Option<File>,
    /// Given up last, after the connection is closed.
    place: Place,
}

/// What the file system has left for a group, as far as it tells.
#[derive(Default)]
struct Room {
    /// Bytes before the group.
    free: Option<u64>,
    /// Bytes that batches of the group take, about.
    taken: Cell<u64>,
    /// Bytes by which values have become longer, in small steps, since the reserve was reached.
    grown: Cell<u64>,
}

/// Steps of putting another file in the store's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swap {
    /// Nobody reads any more.
    Readers,
    /// The old file is closed.
    Closed,
    /// The new file has its name.
    Renamed,
}

/// Whether the file may have space to give back.
#[derive(Clone, Copy)]
enum Tidy {
    Done,
    /// After this much time without work.
    After(Duration),
}

impl Committer {
    pub(super) fn new(
        (opened, versions): (Opened, Versions),
        queue: Receiver<Job>,
        shared: Arc<Shared>,
        readers: Arc<Readers>,
        options: SqliteOptions,
        clock: Arc<dyn Clock>,
        place: Place,
    ) -> Self {
        let (room, looked) = (Room::default(), clock.elapsed());
        let mut made = Self {
            connection: opened.connection,
            queue,
            shared,
            readers,
            options,
            versions,
            room,
            clock,
            looked,
            owed: false,
            lags: false,
            apart: None,
            index: None,
            place,
        };
        made.take_over(opened.left);
        made
    }

    pub(super) fn run(mut self) {
        let mut tidy = Tidy::After(self.options.idle_before_reclaim);
        loop {
            match self.apart.take() {
                None => {}
                Some(Job::Replace { file, answer }) => {
                    let _nobody_waits = answer.send(self.replace(&file, |_step| {}));
                }
                closing => {
                    self.apart = closing;
                    break;
                }
            }
            match self.next_job(tidy) {
                Ok(Some(job)) => {
                    let group = self.gather(job);
                    self.settle(group);
                    self.keep_up();
                    tidy = Tidy::After(self.options.idle_before_reclaim);
                }
                Ok(None) => tidy = self.reclaim(),
                Err(_all_gone) => break,
            }
        }
        self.close();
    }

    /// The next job, or nothing when it is time to tidy. With nothing to tidy the thread sleeps until there is work.
    fn next_job(&self, tidy: Tidy) -> Result<Option<Job>, std::sync::mpsc::RecvError> {
        match tidy {
            Tidy::Done => self.queue.recv().map(Some),
            Tidy::After(pause) => match self.queue.recv_timeout(pause) {
                Ok(job) => Ok(Some(job)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(std::sync::mpsc::RecvError),
            },
        }
    }

    /// `first` and what waits behind it, up to the size of a group.
    fn gather(&mut self, first: Job) -> Vec<(Work, OwnedSemaphorePermit)> {
        let mut group = Vec::new();
        let mut group_bytes = 0;
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Work { work, bytes, permit } => {
                    group_bytes += bytes;
                    group.push((work, permit));
                }
                apart => {
                    self.apart = Some(apart);
                    break;
                }
            }
            if group.len() < GROUP_BATCHES_MAX && group_bytes < GROUP_BYTES_MAX {
                next = self.queue.try_recv().ok();
            }
        }
        group
    }

    /// Applies a group and answers it.
    ///
    /// Conditions are checked before a batch changes anything, so a batch that is refused leaves nothing to take back. An error
    /// *while* changing (no room, a failed write) is rare and mostly strikes the transaction as a whole: it is rolled back, and each
    /// batch is tried alone. That gives what a savepoint per batch gives, for nothing on the way that is always taken.
    fn settle(&mut self, group: Vec<(Work, OwnedSemaphorePermit)>) {
        if group.is_empty() {
            return;
        }
        if let Err(error) = self.lasting() {
            for (work, _permit) in group {
                work.answer(Outcome::Refused(repeat(&error)));
            }
            return;
        }
        match self.transact(&group) {
            Ok(outcomes) => {
                for ((work, _permit), outcome) in group.into_iter().zip(outcomes) {
                    work.answer(outcome);
                }
            }
            Err(CommitError::Unknown(reason)) => {
                for (work, _permit) in group {
                    work.answer(Outcome::Refused(CommitError::Unknown(reason.clone())));
                }
            }
            Err(_) if group.len() > 1 => {
                for one in group {
                    self.settle(vec![one]);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the store refused a write");
                for (work, _permit) in group {
                    work.answer(Outcome::Refused(repeat(&error)));
                }
            }
        }
    }

    /// One transaction. An error means that nothing was changed, but for `Unknown`.
    fn transact(&mut self, group: &[(Work, OwnedSemaphorePermit)]) -> Result<Vec<Outcome>, CommitError> {
        if let Some(reason) = self.shared.stopped.get() {
            return Err(CommitError::Stopped(reason.clone()));
        }
        self.room.free = self.place.free_bytes();
        self.room.taken.set(0);
        if self.room.free.is_some_and(|free| free >= self.options.reserve_bytes.saturating_add(CALM_BYTES)) {
            self.room.grown.set(0);
        }
        let mut config_version = self.shared.config_version.load(Ordering::Acquire);
        let applied =
            self.apply_all(group, &mut config_version).and_then(|outcomes| Ok((outcomes, self.versions.reserve(&self.connection)?)));
        let (outcomes, reserved) = match applied {
            Ok(applied) => applied,
            Err(error) => {
                self.roll_back();
                if is_sync_failure(&error) {
                    self.sync_failed(&error);
                }
                return Err(self.classify(&error));
            }
        };
        let changed = || group.iter().flat_map(|(work, _)| work.changed());
        self.shared.rows.begin_change(changed());
        let committed = run(&self.connection, "COMMIT");
        self.shared.rows.end_change(changed());
        if let Err(error) = committed {
            return Err(self.commit_failed(&error));
        }
        self.versions.committed(reserved);
        self.shared.config_version.store(config_version, Ordering::Release);
        self.shared.transactions.fetch_add(1, Ordering::Relaxed);
        self.shared.batches.fetch_add(u64::try_from(group.len()).unwrap_or(0), Ordering::Relaxed);
        Ok(outcomes)
    }

    fn apply_all(&self, group: &[(Work, OwnedSemaphorePermit)], config_version: &mut u64) -> rusqlite::Result<Vec<Outcome>> {
        let before = *config_version;
        run(&self.connection, "BEGIN IMMEDIATE")?;
        let mut outcomes = Vec::with_capacity(group.len());
        for (work, _permit) in group {
            outcomes.push(match work {
                Work::Commit { batch, .. } => {
                    if let Some(refusal) = self.refusal(batch)? {
                        Outcome::Refused(refusal)
                    } else {
                        self.apply(batch)?;
                        *config_version += u64::from(batch.config_changed);
                        Outcome::Committed(*config_version)
                    }
                }
                Work::Claim { shard, owner, now, until, .. } => Outcome::Claimed(self.claim(*shard, owner, *now, *until)?),
            });
        }
        if *config_version != before {
            self.connection.prepare_cached(CONFIG_VERSION_WRITE)?.execute([to_i64(*config_version)])?;
        }
        Ok(outcomes)
    }

    /// The first thing that does not hold.
    fn refusal(&self, batch: &Batch) -> rusqlite::Result<Option<CommitError>> {
        if let Some(claim) = batch.claim
            && self.holder(claim.shard)?.is_none_or(|holder| holder.epoch != claim.epoch)
        {
            return Ok(Some(CommitError::Fenced(claim)));
        }
        for (index, (key, condition)) in batch.conditions.iter().enumerate() {
            let holds = match condition {
                Condition::Absent => self.version(key)?.is_none(),
                Condition::Exists => self.version(key)?.is_some(),
                Condition::Version(wanted) => self.version(key)? == Some(*wanted),
                Condition::NothingBelow => self.nothing_below(key)?,
            };
            if !holds {
                return Ok(Some(CommitError::Conflict(index)));
            }
        }
        self.no_room(batch)
    }

    /// Keeps the reserve for what takes something back, and for what needs no more room than it had.
    fn no_room(&self, batch: &Batch) -> rusqlite::Result<Option<CommitError>> {
        let Some(free) = self.room.free else { return Ok(None) };
        let (left, reserve) = (free.saturating_sub(self.room.taken.get()), self.options.reserve_bytes);
        let needed = room_of(batch);
        if left >= reserve.saturating_add(needed) {
            self.room.taken.set(self.room.taken.get() + needed);
            return Ok(None);
        }
        if batch.takes_back || self.stays_small(batch)? {
            return Ok(None);
        }
        Ok(Some(CommitError::Full(format!(
            "{left} bytes are left where {} lies, this may take {needed}, and {reserve} are kept for revocations: make room",
            self.place.path.display(),
        ))))
    }

    /// Whether a batch adds nothing, and not much to what is there, all such batches together: a long row of small steps would use up the reserve as well.
    fn stays_small(&self, batch: &Batch) -> rusqlite::Result<bool> {
        let replaced = batch.puts.iter().map(|(key, _)| self.length(key)).collect::<rusqlite::Result<Vec<_>>>()?;
        let Some(more) = rules::growth(batch, &replaced) else { return Ok(false) };
        let grown = self.room.grown.get() + more as u64;
        let fits = more == 0 || grown <= self.options.reserve_bytes / GROWN_PART;
        if fits {
            self.room.grown.set(grown);
        }
        Ok(fits)
    }

    fn length(&self, key: &Key) -> rusqlite::Result<Option<usize>> {
        let mut statement = self.connection.prepare_cached(SpaceSql::of(key.space).length)?;
        statement.query_row([&*key.bytes], |row| row.get::<_, i64>(0)).optional().map(|found| found.and_then(|bytes| bytes.try_into().ok()))
    }

    fn version(&self, key: &Key) -> rusqlite::Result<Option<u64>> {
        let mut statement = self.connection.prepare_cached(SpaceSql::of(key.space).version)?;
        statement.query_row([&*key.bytes], |row| row.get::<_, i64>(0)).optional().map(|found| found.map(i64::unsigned_abs))
    }

    fn nothing_below(&self, key: &Key) -> rusqlite::Result<bool> {
        let mut statement = self.connection.prepare_cached(SpaceSql::of(key.space).keys_from)?;
        let mut rows = statement.query([&*key.bytes])?;
        let Some(next) = rows.next()? else { return Ok(true) };
        Ok(!next.get_ref(0)?.as_blob()?.starts_with(&key.bytes))
    }

    /// Removals first; see [`Batch`].
    fn apply(&self, batch: &Batch) -> rusqlite::Result<()> {
        for key in &batch.deletes {
            self.connection.prepare_cached(SpaceSql::of(key.space).delete)?.execute([&*key.bytes])?;
        }
        for due in &batch.due_remove {
            self.change_due(DUE_REMOVE, due)?;
        }
        for (key, value) in &batch.puts {
            self.connection.prepare_cached(SpaceSql::of(key.space).put)?.execute(params![&*key.bytes, self.versions.take(), &**value])?;
        }
        for due in &batch.due_add {
            self.change_due(DUE_ADD, due)?;
        }
        Ok(())
    }

    fn change_due(&self, sql: &str, due: &Due) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(params![due.shard, due.at.nanos(), &*due.id]).map(|_rows| ())
    }

    fn claim(&self, shard: u8, owner: &str, now: Timestamp, until: Timestamp) -> rusqlite::Result<Option<Claim>> {
        let Some(holder) = rules::next_holder(self.holder(shard)?, owner, now, until) else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(CLAIM_WRITE)?;
        statement.execute(params![shard, holder.owner, to_i64(holder.epoch), holder.until.nanos()])?;
        Ok(Some(Claim { shard, epoch: holder.epoch }))
    }

    fn holder(&self, shard: u8) -> rusqlite::Result<Option<Holder>> {
        let mut statement = self.connection.prepare_cached(CLAIM_READ)?;
        let read = |row: &rusqlite::Row<'_>| {
            let epoch: i64 = row.get(1)?;
            Ok(Holder { owner: row.get(0)?, epoch: epoch.unsigned_abs(), until: Timestamp::from_nanos(row.get(2)?) })
        };
        statement.query_row([shard], read).optional()
    }

    /// Where nothing of the transaction can be found by a restart, it is simply gone. Otherwise its commit record may be on the disk: the sync failed, or
    /// it succeeded, and what comes after it did not. Then nobody can say what a restart finds, and a write on top of it would make that worse.
    fn commit_failed(&mut self, error: &rusqlite::Error) -> CommitError {
        self.roll_back();
        if left_nothing(error) {
            return self.classify(error);
        }
        if is_sync_failure(error) {
            self.sync_failed(error);
        } else {
            tracing::error!(%error, "nobody can say whether a commit of the store is on the disk: no more writes until a restart");
            self.stop(format!("a commit failed earlier when it may have been on the disk ({error}), writes stay off until a restart: check disk and memory first"));
        }
        CommitError::Unknown(error.to_string())
    }

    /// When a sync fails, nobody can say what is on the disk: the kernel drops the pages that it could not write, and the next sync
    /// may succeed without them. So nothing is written from then on; a restart reads what is really there.
    fn sync_failed(&mut self, error: &rusqlite::Error) {
        tracing::error!(%error, "a sync of the store failed: no more writes until a restart");
        self.stop(format!("a sync failed earlier ({error}), writes stay off until a restart: check the disk first"));
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.get().is_some()
    }

    /// The first reason is the one that is told.
    fn stop(&mut self, reason: String) {
        if self.shared.stopped.set(reason).is_ok() {
            self.distrust_index();
        }
    }

    fn roll_back(&self) {
        // SQLite has rolled back by itself after some errors.
        if !self.connection.is_autocommit()
            && let Err(error) = run(&self.connection, "ROLLBACK")
        {
            tracing::error!(%error, "a rollback failed");
        }
    }

    fn classify(&self, error: &rusqlite::Error) -> CommitError {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            CommitError::Full(format!("no room left for {}: {error}", self.place.path.display()))
        } else {
            CommitError::Failed(error.to_string())
        }
    }

    /// Puts another file in the store's place, while nobody reads. The rename is the one moment that counts: before it the old file is whole and has no
    /// WAL, after it the new one. Where another program has the old one open nothing is changed. `at` is told of each step, for tests.
    fn replace(&mut self, staged: &StagedFile, mut at: impl FnMut(Swap)) -> Result<(), CommitError> {
        self.lasting()?;
        if let Some(reason) = self.shared.stopped.get() {
            return Err(CommitError::Stopped(reason.clone()));
        }
        let (readers, shared) = (Arc::clone(&self.readers), Arc::clone(&self.shared));
        let Some(_no_export) = shared.exports.try_write() else {
            return Err(CommitError::Failed("a copy of the store is being made: replace it when that is done".to_owned()));
        };
        readers.without(|| {
            at(Swap::Readers);
            self.let_go()?;
            at(Swap::Closed);
            if snapshot::is_held(&self.place.path) {
                let held = self.held();
                return self.go_on().and(Err(held));
            }
            let renamed = self.place.replace_by(staged.path());
            at(Swap::Renamed);
            if staged.path().exists() {
                let why = renamed.err().map(|error| error.to_string()).unwrap_or_default();
                return self
                    .go_on()
                    .and(Err(CommitError::Failed(format!("the restored file could not be put in the store's place: {why}"))));
            }
            self.shared.rows.forget();
            if let Err(error) = renamed {
                tracing::warn!(%error, "the store was replaced, and may be the old one again after a power cut");
            }
            self.take_up()
        })
    }

    fn held(&self) -> CommitError {
        let (path, who) = (self.place.path.display(), self.place.other_user());
        CommitError::Held(format!(
            "another program has the store open{who}, and would spoil the new one: nothing was changed; \
             stop it (`fuser -v {path}` tells which it is) and do this again"
        ))
    }

    /// Writes the WAL back and closes the file.
    fn let_go(&mut self) -> Result<(), CommitError> {
        let failed = |error: &rusqlite::Error| CommitError::Failed(format!("the store cannot be replaced now: {error}"));
        let written = schema::write_back_whole(&self.connection).and_then(|written| schema::end_with(&self.connection, written));
        if let Err(error) = written {
            if is_sync_failure(&error) {
                self.sync_failed(&error);
            }
            return Err(failed(&error));
        }
        let nothing = Connection::open_in_memory().map_err(|error| failed(&error))?;
        if let Err((connection, error)) = std::mem::replace(&mut self.connection, nothing).close() {
            self.connection = connection;
            return Err(failed(&error));
        }
        Ok(())
    }

    /// Opens the same file again. Where another program writes to it just now, writes are refused until that is done, as at a start.
    fn go_on(&mut self) -> Result<(), CommitError> {
        let opened = schema::open_writer(&self.place.path, &self.options).map_err(|error| self.not_opened(error.to_string()))?;
        self.connection = opened.connection;
        self.take_over(opened.left);
        Ok(())
    }

    /// Opens the file that took the place of the one before. Its configuration version is above all that was answered before.
    fn take_up(&mut self) -> Result<(), CommitError> {
        let before = self.shared.config_version.load(Ordering::Acquire);
        let opened = schema::open_writer(&self.place.path, &self.options).map_err(|error| error.to_string()).and_then(|opened| {
            let Opened { connection, config_version, left } = opened;
            left.map_err(|error| error.to_string())?;
            let version = before.max(config_version) + 1;
            connection.execute(CONFIG_VERSION_WRITE, [to_i64(version)]).map_err(|error| error.to_string())?;
            let versions = Versions::of(&connection).map_err(|error| error.to_string())?;
            versions.follow(&self.versions);
            Ok((connection, versions, version))
        });
        match opened {
            Ok((connection, versions, version)) => {
                self.connection = connection;
                self.versions = versions;
                self.shared.config_version.store(version, Ordering::Release);
                Ok(())
            }
            Err(reason) => Err(self.not_opened(reason)),
        }
    }

    fn not_opened(&mut self, reason: String) -> CommitError {
        tracing::error!(reason, "the store cannot be opened again: no more writes until a restart");
        self.stop(format!("the store could not be opened again ({reason}), writes stay off until a restart"));
        CommitError::Unknown(reason)
    }

    /// Refuses what came too late, writes the WAL back, and gives the file up before anyone is told.
    fn close(mut self) {
        let closing = self.apart.take();
        let closed = || CommitError::Failed("it is closed".to_owned());
        while let Ok(job) = self.queue.try_recv() {
            match job {
                Job::Work { work, .. } => work.answer(Outcome::Refused(closed())),
                Job::Replace { answer, .. } => drop(answer.send(Err(closed()))),
                Job::Close { .. } => {}
            }
        }
        // Exports end soon once the store is to be closed. One that goes on has the file open, and what follows must come after that.
        let shared = Arc::clone(&self.shared);
        let no_export = shared.exports.write();
        self.write_back_last();
        if let Err((_connection, error)) = self.connection.close() {
            tracing::warn!(%error, "the store did not close cleanly");
        }
        drop(self.index);
        drop(self.place);
        drop(no_export);
        if let Some(Job::Close { answer: Some(answer) }) = closing {
            let _nobody_waits = answer.send(());
        }
    }
}

impl Work {
    /// The rows that it puts or deletes.
    fn changed(&self) -> impl Iterator<Item = &Key> {
        let batch = if let Self::Commit { batch, .. } = self { Some(batch) } else { None };
        batch.into_iter().flat_map(|batch| batch.puts.iter().map(|(key, _)| key).chain(&batch.deletes))
    }

    /// Tells whoever waits; one that has stopped waiting is no error.
    fn answer(self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Commit { answer, .. }, Outcome::Committed(version)) => drop(answer.send(Ok(version))),
            (Self::Commit { answer, .. }, Outcome::Refused(error)) => drop(answer.send(Err(error))),
            (Self::Claim { answer, .. }, Outcome::Claimed(claim)) => drop(answer.send(Ok(claim))),
            (Self::Claim { answer, .. }, Outcome::Refused(error)) => drop(answer.send(Err(error))),
            // `apply_all` pairs them; a dropped sender reads as `Unknown`.
            (Self::Commit { .. }, Outcome::Claimed(_)) | (Self::Claim { .. }, Outcome::Committed(_)) => {}
        }
    }
}

/// What a batch takes of the file system, at most: all that is put is written to the WAL, and from there to its place.
fn room_of(batch: &Batch) -> u64 {
    let rows: usize = batch.puts.iter().map(|(key, value)| key.bytes.len() + value.len()).sum();
    let entries: usize = batch.due_add.iter().map(|due| due.id.len()).sum();
    2 * (rows + entries) as u64
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_rows| ())
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn is_sync_failure(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| matches!(error.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// Whether a COMMIT failed before its commit record was written whole. That record is the last thing that is written before the sync, and the only writes
/// of a COMMIT are those up to it; so a failed write is one of them. What else can fail (the WAL's index, memory) may fail after the sync as well.
fn left_nothing(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(error.code, ErrorCode::DiskFull | ErrorCode::DatabaseBusy) || error.extended_code == ffi::SQLITE_IOERR_WRITE
    })
}

fn repeat(error: &CommitError) -> CommitError {
    match error {
        CommitError::Full(reason) => CommitError::Full(reason.clone()),
        CommitError::Failed(reason) => CommitError::Failed(reason.clone()),
        CommitError::Stopped(reason) => CommitError::Stopped(reason.clone()),
        CommitError::Conflict(_) | CommitError::Fenced(_) | CommitError::Held(_) | CommitError::TooLarge(_) | CommitError::Unknown(_) => {
            CommitError::Failed(error.to_string())
        }
    }
}

/// The most batches in one transaction.
const GROUP_BATCHES_MAX: usize = 512;
/// Once a group has this many bytes it takes no further batch.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The part of the reserve (one in so many) that values may take which become a little longer.
const GROWN_PART: u64 = 16;
/// With so much more room than the reserve, it has not been reached.
const CALM_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
