//! The mint ledger: which caller got which AWS access key, by which claims, when, from where.
//!
//! It answers `whois` and is written off the request path: a mint costs a place in a bounded queue. What waits there when a process is
//! killed is lost, and the audit log has it. Mints lie in rows of up to [`ROW_MINTS`], in time order; beside each row stands a small one with its
//! key ids, which is all that a search reads. Rows go when the last credential in them is over for as long as the retention, or when there
//! are more than the limit.

mod find;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, Entropy, Seconds, Timestamp};
use daypass_sdk::{Error, Result};
use daypass_storage::{Batch, Key};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::metrics::Counter;
use crate::node::Inner;
use crate::rows::{Rows, config_key};
use crate::weight;

pub(crate) use find::{Found, Look};

/// A credential that was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mint {
    pub(crate) access_key_id: String,
    /// Where it was asked for: `aws/sts/deploy`.
    pub(crate) path: String,
    pub(crate) lease_id: String,
    pub(crate) request_id: String,
    pub(crate) issued: Timestamp,
    /// The end of the credential itself, which its lease may not reach; that of the lease where an engine has to take it back.
    pub(crate) expires: Timestamp,
    /// The end that renewals of its lease can reach, where it can be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_end: Option<Timestamp>,
    pub(crate) display_name: String,
    pub(crate) entity_id: String,
    /// Accessor of the token; empty for batch tokens.
    pub(crate) accessor: String,
    /// The token's own metadata, which its maker may have written.
    pub(crate) metadata: BTreeMap<String, String>,
    /// What the login behind the token proved.
    pub(crate) claims: BTreeMap<String, String>,
    /// Address of the client.
    pub(crate) remote_address: String,
    /// What the engine says of it: session name, role ARN.
    pub(crate) facts: BTreeMap<String, String>,
}

impl Mint {
    /// From here on it is over in any case.
    fn until(&self) -> Timestamp {
        self.last_end.map_or(self.expires, |last| last.max(self.expires))
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let Self { path, lease_id, display_name, entity_id, accessor, metadata, claims, facts, .. } = self;
        let pairs = [metadata, claims, facts].map(weight::pairs).iter().sum::<usize>();
        size_of::<Self>() + weight::texts([path, lease_id, display_name, entity_id, accessor]) + pairs
    }
}

/// The key ids of a row, and when the last of its credentials is over.
#[derive(Debug, Serialize, Deserialize)]
struct Keys {
    until: Timestamp,
    keys: Vec<String>,
}

/// The row that is being filled.
#[derive(Default)]
struct Filling {
    /// Empty before its first mint.
    name: String,
    mints: Vec<Written>,
    /// Mints of it that are not stored yet.
    dirty: bool,
}

/// A mint as it lies in its row. The row is written again with each that is added: nothing of those before is made anew.
struct Written {
    access_key_id: String,
    /// From here on it is over in any case.
    until: Timestamp,
    json: String,
}

impl Written {
    fn new(mint: &Mint) -> Result<Self> {
        let json = serde_json::to_string(mint).map_err(|error| Error::internal(format!("a mint is no JSON: {error}")))?;
        Ok(Self { access_key_id: mint.access_key_id.clone(), until: mint.until(), json })
    }

    fn read(&self) -> Result<Mint> {
        serde_json::from_str(&self.json).map_err(|error| Error::internal(format!("a mint cannot be read: {error}")))
    }
}

/// Mints that are not in a row yet, oldest first.
#[derive(Default)]
struct Waiting {
    mints: VecDeque<Mint>,
    bytes: usize,
}

impl Waiting {
    /// Says no when there is no room.
    fn put(&mut self, mint: Mint) -> bool {
        let bytes = self.bytes + mint.bytes();
        if self.mints.len() >= QUEUE_MAX || bytes > QUEUE_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.mints.push_back(mint);
        true
    }

    fn take(&mut self, most: usize) -> Vec<Mint> {
        let taken: Vec<Mint> = self.mints.drain(..self.mints.len().min(most)).collect();
        self.bytes = self.bytes.saturating_sub(taken.iter().map(Mint::bytes).sum());
        taken
    }
}

/// The ledger of an unsealed node.
pub(crate) struct Mints {
    rows: Rows,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Most rows.
    most: usize,
    retention: Seconds,
    waiting: Mutex<Waiting>,
    filling: tokio::sync::Mutex<Filling>,
    added: Notify,
    /// Mints that found no place in the queue.
    pub(crate) lost: Counter,
}

impl Mints {
    pub(crate) fn new(rows: Rows, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, kept: usize, retention: Seconds) -> Self {
        Self {
            rows,
            clock,
            entropy,
            most: kept.div_ceil(ROW_MINTS),
            retention,
            waiting: Mutex::default(),
            filling: tokio::sync::Mutex::default(),
            added: Notify::new(),
            lost: Counter::default(),
        }
    }

    /// Notes a mint, to be written soon.
    pub(crate) fn add(&self, mint: Mint) {
        if self.waiting.lock().put(mint) {
            self.added.notify_one();
        } else {
            if self.lost.get() == 0 {
                tracing::error!(
                    "the mint ledger cannot be written, and as many mints wait for it as may: those that come now are missing in it, the audit log has them"
                );
            }
            self.lost.add();
        }
    }

    /// Writes what waits. What cannot be written waits on: then it returns `false`.
    pub(crate) async fn flush(&self) -> bool {
        let mut filling = self.filling.lock().await;
        loop {
            let room = ROW_MINTS.saturating_sub(filling.mints.len());
            let taken = self.waiting.lock().take(room);
            if taken.is_empty() && !filling.dirty {
                return true;
            }
            if filling.name.is_empty() {
                let number = u32::from_be_bytes(self.entropy.bytes());
                filling.name = format!("{:0MILLIS_DIGITS$x}{number:08x}", self.clock.now().millis());
            }
            filling.dirty = true;
            for mint in &taken {
                match Written::new(mint) {
                    Ok(written) => filling.mints.push(written),
                    Err(error) => tracing::warn!(%error, "a mint is missing in the ledger; the audit log has it"),
                }
            }
            if let Err(error) = self.write(&filling).await {
                tracing::warn!(%error, "the mint ledger could not be written; it is tried again in ten seconds, and the audit log has every mint");
                return false;
            }
            filling.dirty = false;
            if filling.mints.len() >= ROW_MINTS {
                *filling = Filling::default();
            }
        }
    }

    async fn write(&self, filling: &Filling) -> Result<()> {
        let until = filling.mints.iter().map(|mint| mint.until).max().unwrap_or_default();
        let keys = Keys { until, keys: filling.mints.iter().map(|mint| mint.access_key_id.clone()).collect() };
        let row = format!("[{}]", filling.mints.iter().map(|mint| mint.json.as_str()).collect::<Vec<_>>().join(","));
        let batch = self.rows.put(Batch::new(), config_key(format!("{MINTS}{}", filling.name)), row.as_bytes())?;
        let batch = self.rows.put_json(batch, config_key(format!("{KEYS}{}", filling.name)), &keys)?;
        self.rows.commit(batch).await?;
        Ok(())
    }

    /// Removes rows whose retention is over, damaged ones as well, and the oldest over the limit.
    pub(crate) async fn prune(&self) -> Result<()> {
        let mut count = 0_usize;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.rows.list(&config_key(KEYS), after.as_deref(), NAMES_PAGE).await?;
            let Some(last) = page.last() else { break };
            count += page.len();
            after = Some(last.to_vec());
        }
        let mut over = count.saturating_sub(self.most);
        let (now, mut after, mut damaged) = (self.clock.now(), None::<Bytes>, 0_usize);
        loop {
            let (page, last) = self.rows.scan_each::<Keys>(&config_key(KEYS), after.as_deref(), PAGE).await?;
            let Some(last) = last else { break };
            after = Some(last);
            let mut batch = Batch::new();
            for (key, keys) in page {
                damaged += usize::from(keys.is_err());
                let until = match keys {
                    Ok(keys) => keys.until,
                    Err(_damaged) => self.until(&row_name(&key)).await?,
                };
                if over == 0 && until + self.retention > now {
                    continue;
                }
                over = over.saturating_sub(1);
                batch = batch.delete(config_key(format!("{MINTS}{}", row_name(&key)))).delete(key);
            }
            if !batch.deletes.is_empty() {
                self.rows.commit(batch).await?;
            }
        }
        if damaged > 0 {
            tracing::warn!(
                rows = damaged,
                "rows of the mint ledger are damaged; they go when their retention is over, and the audit log has every mint"
            );
        }
        Ok(())
    }

    /// When the last credential of a row is over whose keys do not open: as its mints say. Where they do not open either, nobody is told of any, and the time that it was
    /// begun at will do. Errors: the store cannot be read.
    async fn until(&self, row: &str) -> Result<Timestamp> {
        let last = self.stored(row).await?.ok().and_then(|mints| mints.iter().map(Mint::until).max());
        Ok(last.unwrap_or_else(|| begun(row)))
    }
}

/// The time that a row was begun at, as its name says.
fn begun(row: &str) -> Timestamp {
    let millis = row.get(..MILLIS_DIGITS).and_then(|digits| i64::from_str_radix(digits, 16).ok());
    millis.map_or_else(Timestamp::default, |millis| Timestamp::from_seconds(millis.div_euclid(1_000)))
}

/// The name of the row whose key ids are here.
fn row_name(keys: &Key) -> Cow<'_, str> {
    keys.bytes.get(KEYS.len()..).map(String::from_utf8_lossy).unwrap_or_default()
}

/// Writes until the node is sealed or gone, and once more then. Nothing wakes it while nothing is minted, but for the hourly tidying, and for a write that failed.
pub(crate) async fn run(inner: Weak<Inner>, mut stopped: watch::Receiver<bool>) {
    let (mut pruned, mut written): (Option<Duration>, bool) = (None, true);
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let Ok(unsealed) = strong.unsealed() else { return };
        let clock = Arc::clone(&strong.clock);
        drop(strong);
        if *stopped.borrow() {
            let _nobody_tries_again = unsealed.mints.flush().await;
            return;
        }
        if pruned.is_none_or(|last| clock.elapsed().saturating_sub(last) >= PRUNE_EVERY) {
            pruned = Some(clock.elapsed());
            if let Err(error) = unsealed.mints.prune().await {
                tracing::warn!(%error, "the mint ledger could not be tidied; it is tried again in an hour");
            }
        }
        let (tidying, added) = (clock.sleep(if written { PRUNE_EVERY } else { AGAIN_AFTER }), unsealed.mints.added.notified());
        tokio::select! {
            () = added => {
                // Others come meanwhile, and share the write.
                tokio::select! {
                    () = clock.sleep(GATHER) => {}
                    _ = stopped.changed() => {}
                }
                written = unsealed.mints.flush().await;
            }
            () = tidying => written = unsealed.mints.flush().await,
            changed = stopped.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Mints in one row.
const ROW_MINTS: usize = 64;
/// Mints that wait to be written: some ten megabytes, unless logins prove or makers of tokens write much more than usual.
const QUEUE_MAX: usize = 20_000;
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// For so long mints gather before they are written.
const GATHER: Duration = Duration::from_millis(250);
/// When a write that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
const PRUNE_EVERY: Duration = Duration::from_hours(1);
const PAGE: usize = 256;
const NAMES_PAGE: usize = 4096;
/// Of the time that the name of a row begins with.
const MILLIS_DIGITS: usize = 16;
const KEYS: &str = "core/mints/keys/";
const MINTS: &str = "core/mints/rows/";
