//! The seal that is a key file: a server opens itself with it, and a server that does not run gets another one.
//!
//! The file is on another disk than the store, or should be, so both cannot change at one moment. The new file is whole on its disk before the one commit that
//! makes it count: a kill at any line leaves a store that one of both files opens, and no line removes a file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daypass_barrier::{Barrier, KeyFile, KeyFileError, RootKey, Seal, SealConfig, SealKey, SealType, Under, UnsealError};
use daypass_base::{Clock, Entropy};
use daypass_sdk::{Error, Result};
use daypass_storage::{Backend, Batch, CommitError};
use tokio::task::JoinHandle;

use super::PREVIOUS;
use crate::node::{Inner, SEAL_CONFIG, SEAL_ROWS, SEALED_KEYRING, SEALED_ROOT, SealKind, core_key};
use crate::rows::{config_key, read_error, unchanged};

impl Inner {
    pub(crate) async fn unseal_by_file(self: &Arc<Self>) -> Result<bool> {
        let SealKind::KeyFile(path) = &self.settings.seal else { return Ok(false) };
        let Some(stored) = stored_seal(&*self.backend).await?.filter(|_| self.unsealed.load().is_none()) else { return Ok(false) };
        let root = stored.root_by(&KeyFile::at(path.clone()))?;
        let mut keys = self.keys_to_open().await;
        self.settle_seal(&mut keys, Under::Current).await?;
        self.open(root).await?;
        Ok(true)
    }

    /// Looks ahead once people have opened the server by hand: whether it will open itself the next time as its configuration has it.
    pub(crate) async fn foresee_next_start(&self) {
        // If the store cannot be read, whoever needs it next says so.
        let Ok(Some(stored)) = stored_seal(&*self.backend).await else { return };
        match &self.settings.seal {
            SealKind::KeyFile(path) => {
                if let Err(error) = stored.root_by(&KeyFile::at(path.clone())) {
                    tracing::error!(path = %path.display(), %error, "the server was unsealed by hand, and WILL NOT START AGAIN as it is configured");
                }
            }
            SealKind::Shamir if stored.config.seal_type() == SealType::KeyFile => tracing::warn!(
                "this store is sealed by a key file that the configuration does not name: at each start the server stays sealed until \
                 somebody hands its content in; seal \"keyfile\" {{ path = ... }} lets it open itself"
            ),
            SealKind::Shamir => {}
        }
    }
}

impl Inner {
    /// Whether the server can unseal itself at its next start, where its configuration wants that. Looked at once in a while: anybody may ask.
    pub(crate) async fn seal_is_healthy(self: &Arc<Self>) -> bool {
        let SealKind::KeyFile(path) = &self.settings.seal else { return true };
        let (inner, file) = (Arc::clone(self), KeyFile::at(path.clone()));
        let look = move || {
            let node = Arc::clone(&inner);
            inner.apart(async move {
                let healthy = match stored_seal(&*node.backend).await {
                    Ok(Some(stored)) => opens(stored, file).await,
                    // Before `operator init`, and where the store cannot be read, the file is not what is wrong.
                    Ok(None) | Err(_) => true,
                };
                node.seal_watch.ended(node.clock.elapsed(), healthy);
            })
        };
        self.seal_watch.ask(&*self.clock, look).await
    }
}

/// Whether a file opens the store. It is read on a thread of its own, which nothing joins: the file may lie on a disk of another machine that does not answer,
/// and whoever waits for such a thread, be it a connection's or the end of the process, waits with it.
async fn opens(stored: StoredSeal, file: KeyFile) -> bool {
    let (tell, told) = tokio::sync::oneshot::channel();
    let read = move || {
        let _nobody_waits = tell.send(stored.root_by(&file).is_ok());
    };
    match std::thread::Builder::new().name("key-file".to_owned()).spawn(read) {
        Ok(_nobody_joins) => told.await.unwrap_or(false),
        // Of the file that says nothing.
        Err(_no_thread) => true,
    }
}

/// What those learn who watch the seal. One at a time looks at the key file; who comes meanwhile is told what was seen last.
#[derive(Default)]
pub(crate) struct SealWatch(parking_lot::Mutex<Seen>);

/// Times are on the clock's monotonic time.
#[derive(Default)]
struct Seen {
    /// When somebody began to look.
    looking: Option<Duration>,
    /// When that ended the last time, and what was seen.
    last: Option<(Duration, bool)>,
}

impl SealWatch {
    /// What is known, from a look that `look` begins where it is time for one. It goes on without whoever asked, and has to end with [`Self::ended`].
    async fn ask(&self, clock: &dyn Clock, look: impl FnOnce() -> JoinHandle<()>) -> bool {
        if self.begins(clock.elapsed()) {
            tokio::select! {
                biased;
                _ended = look() => {}
                () = clock.sleep(LOOK_MAX) => {}
            }
        }
        self.says(clock.elapsed())
    }

    fn begins(&self, now: Duration) -> bool {
        let mut seen = self.0.lock();
        let begins = seen.looking.is_none() && seen.last.is_none_or(|(at, _)| now.saturating_sub(at) >= LOOK_EVERY);
        if begins {
            seen.looking = Some(now);
        }
        begins
    }

    fn ended(&self, now: Duration, healthy: bool) {
        *self.0.lock() = Seen { looking: None, last: Some((now, healthy)) };
    }

    /// A file that does not answer opens nothing at the next start.
    fn says(&self, now: Duration) -> bool {
        let seen = self.0.lock();
        let answers = seen.looking.is_none_or(|since| now.saturating_sub(since) < LOOK_MAX);
        answers && seen.last.is_none_or(|(_, healthy)| healthy)
    }
}

/// The rows that a seal is made of, each with its version.
struct StoredSeal {
    config: SealConfig,
    root: Vec<u8>,
    keyring: Vec<u8>,
    versions: [u64; 3],
}

/// `None` where nothing was initialised.
async fn stored_seal(backend: &dyn Backend) -> Result<Option<StoredSeal>> {
    let found = backend.get_many(&SEAL_ROWS.map(config_key)).await.map_err(read_error)?.found;
    let [config, root, keyring] = <[_; 3]>::try_from(found).map_err(|_count| Error::internal("the store left out rows of the seal"))?;
    let Some(config) = config else { return Ok(None) };
    let root = root.ok_or_else(|| Error::internal("the sealed root key is missing from the store"))?;
    let keyring = keyring.ok_or_else(|| Error::internal("the keyring is missing from the store"))?;
    let versions = [config.version, root.version, keyring.version];
    let config = SealConfig::from_json(&config.value)
        .map_err(|error| Error::internal("the stored seal configuration is not readable").because(error))?;
    Ok(Some(StoredSeal { config, root: root.value.to_vec(), keyring: keyring.value.to_vec(), versions }))
}

impl StoredSeal {
    /// Errors: `BadRequest`, with what is wrong with the file or the seal.
    fn root_by(&self, file: &KeyFile) -> Result<RootKey> {
        // First: the file of another kind of seal may well be there, and opens nothing.
        if self.config.seal_type() != SealType::KeyFile {
            return Err(Error::bad_request(SHARES_ALONE));
        }
        let key = file.read().map_err(|error| Error::bad_request(error.to_string()))?;
        self.root_with(&key, file.path())
    }

    /// What a file that is there is to this store, for whoever named it for a new key.
    fn said_of(&self, file: &KeyFile) -> String {
        match file.read() {
            Ok(key) if self.root_with(&key, file.path()).is_ok() => {
                "its key is the one that opens this store now; name a file that does not exist yet, and keep this one until the store opens with \
                 the new one"
                    .to_owned()
            }
            Ok(_) => "its key does not open this store, but it may open a copy from another time; name a file that does not exist yet".to_owned(),
            Err(error) => format!("and it is no key that could be tried ({error}); name a file that does not exist yet"),
        }
    }

    fn root_with(&self, key: &SealKey, path: &Path) -> Result<RootKey> {
        daypass_barrier::open_root(&self.root, key).map_err(|error| match error {
            UnsealError::InvalidKey => Error::bad_request(format!(
                "the key in {} does not open this store: it is of another server, or of another time (after a restore, the key file of the \
                 snapshot's time does; after \"operator rekey -offline\", the new one)",
                path.display()
            )),
            other => Error::bad_request(other.to_string()),
        })
    }
}

/// What became of a change of key files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRekey {
    /// The new file's key opens the store already: an earlier attempt came as far as that.
    Before,
    /// The store opens with the new file alone.
    Now,
}

/// Whether the key file opens this store, which no server has open. Errors: text for the operator; `Ok` also where the store was never initialised.
pub async fn opens_by_file(backend: &dyn Backend, file: &Path) -> Result<()> {
    match stored_seal(backend).await? {
        Some(stored) => stored.root_by(&KeyFile::at(file)).map(drop),
        None => Ok(()),
    }
}

/// Seals a store that no server has open under the key of a new file, with a new root key; `new` is made here, and `old` left alone. The store is written anew
/// then: what was replaced would stay in the free space of its file, for whoever has the old key. Errors: text for the operator.
pub async fn rekey_by_file(backend: &dyn Backend, old: &Path, new: &Path, entropy: Arc<dyn Entropy>) -> Result<FileRekey> {
    let done = seal_under(backend, old, new, entropy).await?;
    daypass_storage::snapshot::rewrite(backend).await.map_err(|error| {
        Error::internal(format!(
            "the store opens with {} alone, but what the old key opens may still be in the free space of its file, since it could not be written anew \
             ({error}): run this again with the new file in the configuration or as it was, once that is mended",
            new.display()
        ))
    })?;
    Ok(done)
}

async fn seal_under(backend: &dyn Backend, old: &Path, new: &Path, entropy: Arc<dyn Entropy>) -> Result<FileRekey> {
    let (old, new) = (KeyFile::at(old), KeyFile::at(new));
    let stored = stored_seal(backend).await?;
    let stored = stored.ok_or_else(|| Error::bad_request("the store was never initialised: there is nothing to seal anew"))?;
    let root = match stored.root_by(&old) {
        // The configuration names it already: this is asked for again.
        Ok(_) if is_same(old.path(), new.path()) => return Ok(FileRekey::Before),
        Ok(root) => root,
        Err(_) if new.read().is_ok_and(|key| stored.root_with(&key, new.path()).is_ok()) => return Ok(FileRekey::Before),
        Err(error) => return Err(error),
    };
    let failed = |error: &dyn std::fmt::Display| Error::internal(format!("the new keys could not be made: {error}"));
    let barrier = Barrier::open_keyring(&stored.keyring, root, Arc::clone(&entropy)).map_err(|error| failed(&error))?;
    new.create(&*entropy).map_err(|error| match error {
        KeyFileError::Exists(_) => Error::bad_request(format!("{error}: {}", stored.said_of(&new))),
        other => Error::bad_request(other.to_string()),
    })?;
    daypass_storage::sqlite::give_to_owner_of(old.path(), new.path()).map_err(|error| {
        Error::internal(format!("{} could not be given to the owner of {}: {error}", new.path().display(), old.path().display()))
    })?;
    // Read back: what counts from here on is what the disk has.
    let made = daypass_barrier::rekey(&barrier, &Seal::KeyFile(new.clone())).map_err(|error| failed(&error))?;
    let mut batch = Batch::new();
    batch.conditions.extend(SEAL_ROWS.map(config_key).into_iter().zip(stored.versions).map(|(key, version)| unchanged(key, Some(version))));
    let batch = batch
        .put(config_key(SEAL_CONFIG), made.config.to_json())
        .put(config_key(SEALED_ROOT), made.sealed_root.clone())
        .put(config_key(SEALED_KEYRING), made.sealed_keyring.clone())
        .delete(core_key(PREVIOUS));
    match backend.commit(batch).await {
        Ok(_) => Ok(FileRekey::Now),
        Err(error) => match (error, stored_seal(backend).await) {
            (_, Ok(Some(now))) if now.root == made.sealed_root => Ok(FileRekey::Now),
            // Where a sync failed, what the store shows now need not be what it has at its next start.
            (CommitError::Unknown(why), _) => Err(Error::internal(format!(
                "whether the store took it is not known ({why}): keep both files; the one that a server starts with is the one that counts"
            ))),
            (error, _) => Err(Error::internal(format!(
                "the store did not take it ({error}): {} opens it as before, and {} is of no use and may be removed",
                old.path().display(),
                new.path().display()
            ))),
        },
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    std::fs::canonicalize(one).is_ok_and(|one| std::fs::canonicalize(other).is_ok_and(|other| one == other))
}

/// Between two looks at the key file for those who watch the seal.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// How long the key file may take to answer: less than those wait who watch.
const LOOK_MAX: Duration = Duration::from_secs(2);
const SHARES_ALONE: &str = "this store is sealed by shares, not by a key file: take the seal \"keyfile\" block out of the configuration and unseal with the \
                            shares; moving a store from shares to a key file is not offered";

#[cfg(test)]
mod tests {
    use daypass_base::sim::SimClock;
    use tokio::sync::oneshot;

    use super::*;

    /// Story: a key file on a share that hung was read on the thread that serves connections; one request of anybody's stopped that thread for good.
    #[tokio::test]
    async fn a_key_file_that_does_not_answer_holds_up_nobody_and_is_not_healthy() {
        let (watch, clock) = (Arc::new(SealWatch::default()), SimClock::default());
        let begin = |told: oneshot::Receiver<bool>| {
            let (watch, clock) = (Arc::clone(&watch), clock.clone());
            move || {
                tokio::spawn(async move {
                    let healthy = told.await.unwrap();
                    watch.ended(clock.elapsed(), healthy);
                })
            }
        };
        let nobody = || -> JoinHandle<()> { panic!("it is being looked at") };
        let (answers, told) = oneshot::channel();
        let first = tokio::spawn({
            let (watch, clock, look) = (Arc::clone(&watch), clock.clone(), begin(told));
            async move { watch.ask(&clock, look).await }
        });
        while watch.0.lock().looking.is_none() {
            tokio::task::yield_now().await;
        }
        assert!(watch.ask(&clock, nobody).await, "nothing bad is known yet");
        tokio::task::yield_now().await;
        clock.advance(LOOK_MAX);
        assert!(!first.await.unwrap());
        clock.advance(LOOK_EVERY);
        assert!(!watch.ask(&clock, nobody).await, "there is one thread that hangs, not one more each minute");
        answers.send(true).unwrap();
        while watch.0.lock().looking.is_some() {
            tokio::task::yield_now().await;
        }
        assert!(watch.ask(&clock, nobody).await, "it answered late");
        clock.advance(LOOK_EVERY);
        let (answers, told) = oneshot::channel();
        answers.send(false).unwrap();
        assert!(!watch.ask(&clock, begin(told)).await);
    }
}
