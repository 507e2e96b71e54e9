//! Snapshots taken from a running node, and restored into one.
//!
//! **A snapshot** that is being taken keeps others from it, and a copy of the store on the disk: so it ends when its client takes too little of it, with its
//! token, with the seal and before the server stops.
//!
//! **A restore** is taken in beside the store in use, verified to its last byte, and only then put in its place. From there on nothing of the old state may
//! be written: requests in flight hold keys and rows of it. So the node drops what it has in memory, closes the old [`crate::rows::Rows`] for good, and lets
//! the store swap; it opens itself again where it has the keys, and stays sealed where it has not.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_barrier::Barrier;
use daypass_base::download::End;
use daypass_base::{BoxFuture, Clock, Download, Timestamp, Upload};
use daypass_sdk::{Error, Kind, Result};
use daypass_storage::snapshot::{Archive, Manifest, Record, Sink, SnapshotError, Staged, Staging, Whole, read};
use daypass_storage::{Backend, CommitError, Key};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::monitors::Reader;
use crate::node::{Inner, SEAL_ROWS, SEALED_KEYRING, SealKind, Unsealed, sealed};
use crate::revocation;
use crate::rows::{STOPPED, config_key};

/// Whether the keys of a snapshot must be this server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// The snapshot is this server's own: one that has its keys made it.
    Ours,
    /// Whoever has its shares unseals it afterwards.
    Any,
}

/// The right to take a snapshot or to restore one: both want room beside the store for as much again.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Semaphore>,
    /// The server is about to stop.
    ended: watch::Sender<bool>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(1)), ended: watch::Sender::default() }
    }
}

impl Turn {
    /// Ends the snapshot that is being taken, for good: none is taken any more.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Errors: `TooMany`.
    fn take(&self) -> Result<OwnedSemaphorePermit> {
        let text = "a snapshot is being taken or restored already: wait for it to end, then try again";
        Arc::clone(&self.turns).try_acquire_owned().map_err(|_taken| Error::new(Kind::TooMany, text))
    }
}

/// Begins a snapshot: its bytes come piece by piece. Errors: `TooMany`, `StoreFull`, `Sealed`, `Internal`.
pub(crate) async fn save(inner: &Inner, unsealed: &Unsealed, reader: Reader) -> Result<Download> {
    if *inner.snapshots.ended.borrow() {
        return Err(sealed());
    }
    let turn = inner.snapshots.take()?;
    // A token whose last use this is ends with the request, which is over when the answer begins: its snapshot comes whole.
    let refused: BoxFuture<'static, ()> =
        if reader.is_spent(unsealed).await? { Box::pin(std::future::pending()) } else { Box::pin(reader.refused()) };
    let ends = Ends { refused, sealed: unsealed.stop.subscribe(), stopping: inner.snapshots.ended.subscribe() };
    let unsealable = |error: &dyn std::fmt::Display| Error::internal(format!("the sums of a snapshot could not be sealed: {error}"));
    // The keys of this moment: the state that is exported from here on has them all, and may lack those that are made meanwhile.
    let keys = unsealed.rows.barrier().frozen().map_err(|error| unsealable(&error))?;
    let export = inner.backend.export().await.map_err(store_error)?;
    let archive = Archive::new(export, &format!("daypass {}", env!("CARGO_PKG_VERSION")), inner.clock.now());
    let sums = keys.seal(SUMS_BINDING, archive.sums().as_bytes()).map_err(|error| unsealable(&error))?;
    let (client, body) = mpsc::channel(PIECES);
    let (download, end) = Download::with_end(body);
    let client = Client { pieces: client, clock: Arc::clone(&inner.clock), patience: inner.settings.limits.idle_timeout };
    let passing = inner.apart(pass_on((archive, sums), turn, (client, end), ends));
    let mut background = unsealed.background.lock();
    background.retain(|task| !task.is_finished());
    background.push(passing);
    Ok(download)
}

/// What ends a snapshot before its time.
struct Ends {
    /// Its reader may read it no longer.
    refused: BoxFuture<'static, ()>,
    sealed: watch::Receiver<bool>,
    stopping: watch::Receiver<bool>,
}

impl Ends {
    async fn first(mut self) -> String {
        tokio::select! {
            () = self.refused => "its token is good for it no longer".to_owned(),
            _gone = self.sealed.wait_for(|sealed| *sealed) => "the server is sealed".to_owned(),
            _gone = self.stopping.wait_for(|stopping| *stopping) => "the server stops".to_owned(),
        }
    }
}

/// Writes a snapshot and passes it on to its client, until that is gone or something ends it. Then the client is told that it was broken off.
async fn pass_on((archive, sums): (Archive, Vec<u8>), turn: OwnedSemaphorePermit, (client, end): (Client, End), ends: Ends) {
    let (written, mut pieces) = mpsc::channel(PIECES);
    // Ends soon after its reader does, which is this task.
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = Pieces { to: written, waiting: Vec::with_capacity(PIECE_BYTES) };
        let written = archive.write(&sums, &mut out).and_then(|()| out.flush());
        drop(turn);
        written
    });
    let given_up = tokio::select! {
        passed = client.take(&mut pieces) => passed.err(),
        why = ends.first() => Some(why),
    };
    drop(pieces);
    let written = writing.await;
    if let (None, Ok(Ok(()))) = (&given_up, &written) {
        end.reached();
    }
    drop(client);
    match (given_up, written) {
        (None, Ok(Ok(()))) => tracing::info!("a snapshot was taken"),
        (Some(why), Ok(_)) => tracing::warn!(why, "a snapshot was given up before its end"),
        (None, Ok(Err(error))) => tracing::warn!(%error, "a snapshot was given up before its end"),
        (_, Err(error)) => tracing::error!(%error, "a snapshot ended badly"),
    }
}

/// Who wants a snapshot.
struct Client {
    pieces: mpsc::Sender<Bytes>,
    clock: Arc<dyn Clock>,
    /// It has so much time for each piece. A kernel takes more only when a third of its buffer is free again, which may be a megabyte and a half: a client
    /// that reads 25 KB a second lets a minute pass between two pieces that it is seen to take.
    patience: Duration,
}

impl Client {
    /// Errors: why it does not get all of them.
    async fn take(&self, pieces: &mut mpsc::Receiver<Bytes>) -> std::result::Result<(), String> {
        let gone = || "its client has gone".to_owned();
        while let Some(piece) = pieces.recv().await {
            let piece = match self.pieces.try_send(piece) {
                Ok(()) => continue,
                Err(TrySendError::Closed(_)) => return Err(gone()),
                Err(TrySendError::Full(piece)) => piece,
            };
            tokio::select! {
                biased;
                sent = self.pieces.send(piece) => sent.map_err(|_gone| gone())?,
                () = self.clock.sleep(self.patience) => {
                    return Err(format!("its client took less than {} KiB in {} seconds", PIECE_BYTES / 1024, self.patience.as_secs()));
                }
            }
        }
        Ok(())
    }
}

/// Bytes in pieces of one size.
struct Pieces {
    to: mpsc::Sender<Bytes>,
    waiting: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE_BYTES));
        self.to.blocking_send(piece.into()).map_err(|_gone| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more"))
    }
}

/// Replaces all that is stored by what a snapshot has. Errors: `BadRequest` when it is no whole snapshot, or not this server's; `TooMany`, `StoreFull`;
/// `Internal`, after which the log says whether anything was changed.
pub(crate) async fn restore(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, upload: Upload, keys: Keys) -> Result<()> {
    let _turn = inner.snapshots.take()?;
    let mut reader = upload.take().ok_or_else(|| Error::internal("the body of this request was read already"))?;
    let staging = inner.backend.stage().await.map_err(store_error)?;
    let taken = tokio::task::spawn_blocking(move || take_in(&mut reader, staging)).await;
    let taken = taken.map_err(|error| Error::internal("a restore ended badly").because(error))??;
    let barrier = taken.keyring().and_then(|keyring| unsealed.rows.barrier().reopen(keyring).ok());
    // Its own keyring may have keys that the one in use lacks, after an older snapshot was restored. It opens only under our root key.
    let ours = barrier.as_ref().is_some_and(|its| taken.made_here(its) || taken.made_here(unsealed.rows.barrier()));
    if keys == Keys::Ours && !ours {
        return Err(Error::bad_request(match inner.settings.seal {
            SealKind::Shamir => OTHER_SHARES,
            SealKind::KeyFile(_) => OTHER_SEAL,
        }));
    }
    let (now, manifest) = (inner.clock.now(), taken.whole.manifest.clone());
    let staged = tokio::task::spawn_blocking(move || taken.finish(now)).await;
    let staged = staged.map_err(|error| Error::internal("a restore ended badly").because(error))??;
    take_over(inner, unsealed, staged, barrier, &manifest).await
}

/// A snapshot that is whole, beside the store.
pub(crate) struct Taken {
    staging: Box<dyn Staging>,
    whole: Whole,
    /// The rows that the seal is made of.
    found: HashMap<Key, Bytes>,
}

impl Taken {
    fn keyring(&self) -> Option<&[u8]> {
        self.found.get(&config_key(SEALED_KEYRING)).map(|row| &**row)
    }

    /// Whether one with the keys of this server sealed its sums.
    fn made_here(&self, barrier: &Barrier) -> bool {
        barrier.open(SUMS_BINDING, &self.whole.sealed_sums).is_ok_and(|sums| *sums == *self.whole.sums.as_bytes())
    }

    /// Makes it durable, with revocation paused. Blocks.
    fn finish(mut self, now: Timestamp) -> Result<Staged> {
        let (key, mark) = revocation::restored(now, self.whole.manifest.time)?;
        self.staging.put(&key, &mark).map_err(store_error)?;
        self.staging.finish(self.whole.manifest.config_version).map_err(store_error)
    }
}

/// Reads a snapshot into a store beside the one in use. Blocks.
fn take_in(source: &mut dyn io::Read, staging: Box<dyn Staging>) -> Result<Taken> {
    struct Filling {
        staging: Box<dyn Staging>,
        found: HashMap<Key, Bytes>,
    }
    impl Sink for Filling {
        fn record(&mut self, record: Record) -> Result<(), CommitError> {
            self.staging.add(&record)?;
            if let Record::Row(key, row) = record
                && SEAL_ROWS.iter().any(|name| *key.bytes == *name.as_bytes())
            {
                self.found.insert(key, row.value);
            }
            Ok(())
        }
    }
    let mut filling = Filling { staging, found: HashMap::new() };
    let whole = read(source, &mut filling).map_err(|error| match error {
        SnapshotError::Sink(error) => store_error(error),
        SnapshotError::Read(error) => Error::bad_request(format!("the snapshot did not come in whole: {error}; nothing was changed")),
        other => Error::bad_request(format!("{other}; nothing was changed")),
    })?;
    let Filling { staging, found } = filling;
    match SEAL_ROWS.iter().find(|name| !found.contains_key(&config_key(**name))) {
        None => Ok(Taken { staging, whole, found }),
        Some(missing) => Err(Error::bad_request(format!(
            "the snapshot has no {missing}: it is of a server that was never initialised; nothing was changed"
        ))),
    }
}

/// Restores a snapshot into a store that no server has open. Blocks, but for the store's own work. Errors: text for the operator.
pub async fn restore_offline(backend: &dyn Backend, source: &mut (dyn io::Read + Send), now: Timestamp) -> Result<Manifest> {
    let taken = take_in(source, backend.stage().await.map_err(store_error)?)?;
    let manifest = taken.whole.manifest.clone();
    backend.replace(taken.finish(now)?).await.map_err(store_error)?;
    Ok(manifest)
}

async fn take_over(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    staged: Staged,
    barrier: Option<Barrier>,
    manifest: &Manifest,
) -> Result<()> {
    // First, and held to the end: nobody unseals the server while the old state still writes.
    let mut unsealing = inner.unsealing.lock().await;
    inner.serves(unsealed)?;
    let (time, rows) = (manifest.time, manifest.rows.all());
    let mut left = inner.take_out().ok_or_else(sealed)?;
    tracing::warn!(%time, rows, "the store is replaced by a snapshot; the server is sealed meanwhile");
    // Work that looks into the store once more must not find the new rows there and take back what they say.
    unsealed.revocation.stand_still(inner.clock.now());
    inner.end_work(unsealed).await;
    // Held to the end: a change of keys that is in flight is done before, and none begins.
    let mut keys = inner.keys.lock().await;
    *unsealing = None;
    unsealed.rows.end().await;
    left.writes_no_more();
    let replaced = inner.backend.replace(staged).await;
    let reopened = match &replaced {
        Ok(()) => barrier,
        // Nothing was changed: on with the old state.
        Err(CommitError::Failed(_) | CommitError::Full(_) | CommitError::Held(_) | CommitError::Stopped(_)) => {
            match inner.stored(SEALED_KEYRING).await {
                Ok(Some(keyring)) => unsealed.rows.barrier().reopen(&keyring).ok(),
                _ => None,
            }
        }
        Err(_) => None,
    };
    // Also where it stays sealed: what was known of the seal before an exchange is not about the rows that are there now.
    let opened = match (inner.take_up_seal(&mut keys).await, reopened) {
        (Err(error), _) => Err(error),
        (Ok(()), None) => Ok(false),
        (Ok(()), Some(barrier)) => inner.open_with(barrier).await.map(|()| true),
    };
    drop((unsealing, keys));
    let opened = match opened {
        Ok(false) => inner.unseal_by_file().await,
        other => other,
    };
    // Not before: the record of this request's answer goes to audit devices that close a moment later, and opening takes as long as it takes.
    inner.leave(left);
    match opened {
        Ok(true) => tracing::info!("the server has unsealed itself again"),
        Ok(false) => tracing::warn!("the server is sealed: unseal it with the shares, or the key file, of the snapshot's time"),
        Err(error) => tracing::error!(%error, "the server stays sealed after a restore"),
    }
    replaced.map_err(store_error)
}

fn store_error(error: CommitError) -> Error {
    match error {
        CommitError::Full(text) => Error::new(Kind::StoreFull, text),
        CommitError::Held(text) => Error::new(Kind::Failed, text),
        CommitError::Stopped(_) => Error::new(Kind::StoreFull, STOPPED).because(error),
        other => Error::internal("the store could not be copied or replaced").because(other),
    }
}

/// What the seal of the sums is bound to.
const SUMS_BINDING: &[u8] = b"sums of a snapshot";
const PIECE_BYTES: usize = 64 * 1024;
const PIECES: usize = 8;
/// Vault's texts.
const OTHER_SHARES: &str = "could not verify hash file, possibly the snapshot is using a different set of unseal keys; use the snapshot-force API to bypass this check";
const OTHER_SEAL: &str =
    "could not verify hash file, possibly the snapshot is using a different autoseal key; use the snapshot-force API to bypass this check";
