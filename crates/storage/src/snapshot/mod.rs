//! Snapshots: the whole store, of one moment, in a file that says what it is.
//!
//! **The form.** A gzipped tar of four members, in this order: `meta.json` (format, when, by whom, how much), `state.bin` (every row, see
//! [`record`]), `SHA256SUMS` of the two, and `SHA256SUMS.sealed`, the same under a key of the server that made it. They are Vault's members,
//! because Vault's own clients look for the last one and call a download without it incomplete; and it is why a download that was cut off can
//! never pass for a whole one, ours included. Rows, not pages of SQLite: what one backend wrote, another can read, whatever its format.
//!
//! Values stay sealed as they lie in the store. A reader trusts nothing in such a file: every size is bounded, the order of rows is demanded, and
//! nothing of it counts before [`read()`] has returned.
//!
//! [`export`] is how a backend hands its rows over, [`write`](mod@write) makes the file of them, [`read`](mod@read) takes it apart.

pub mod export;
pub mod read;
pub mod record;
mod tar;
#[cfg(test)]
mod tests;
pub mod write;

use daypass_base::Timestamp;
use serde::{Deserialize, Serialize};

pub use export::{Export, Totals};
pub use read::{Sink, SnapshotError, Whole, read};
pub use record::{Record, RecordRef};
pub use write::Archive;

use crate::{CommitError, Key, Space};

/// The newest form of the file that this program writes and reads. In 1 every row of KV data held the version that its name says.
pub const FORMAT: u32 = 2;

/// What a snapshot says of itself: `meta.json`. The names in capitals are those that Vault's tools read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The program that made it: `daypass 0.1.0`.
    pub made_by: String,
    /// When its state was the store's.
    pub time: Timestamp,
    /// The configuration version of that state.
    pub config_version: u64,
    /// Rows by kind.
    pub rows: Counts,
    /// Bytes of `state.bin`.
    pub state_bytes: u64,
    /// `daypass`.
    #[serde(rename = "ID", default)]
    pub id: String,
    /// For Vault's tools: the configuration version.
    #[serde(rename = "Index", default)]
    pub index: u64,
    /// For Vault's tools: always 1.
    #[serde(rename = "Term", default)]
    pub term: u64,
    /// For Vault's tools: always 1.
    #[serde(rename = "Version", default)]
    pub version: u64,
}

/// Rows by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Configuration and secrets.
    pub config: u64,
    /// Tokens.
    pub token: u64,
    /// Leases.
    pub lease: u64,
    /// Indexes.
    pub index: u64,
    /// Entries of the expiry index.
    pub due: u64,
    /// Claims on shards of it.
    pub claim: u64,
}

impl Counts {
    /// All together.
    #[must_use]
    pub fn all(&self) -> u64 {
        [self.config, self.token, self.lease, self.index, self.due, self.claim].into_iter().fold(0, u64::saturating_add)
    }

    fn of(&mut self, record: &RecordRef<'_>) -> &mut u64 {
        match record {
            RecordRef::Row { space: Space::Config, .. } => &mut self.config,
            RecordRef::Row { space: Space::Token, .. } => &mut self.token,
            RecordRef::Row { space: Space::Lease, .. } => &mut self.lease,
            RecordRef::Row { space: Space::Index, .. } => &mut self.index,
            RecordRef::Due { .. } => &mut self.due,
            RecordRef::Claim { .. } => &mut self.claim,
        }
    }
}

/// A store that is being filled beside the one in use. Dropped before [`crate::Backend::replace`] took it, it leaves nothing behind.
pub trait Staging: Send {
    /// Adds what a snapshot has, in its order. Errors: `Full`, `Failed`.
    fn add(&mut self, record: &Record) -> Result<(), CommitError>;

    /// Sets a row on top of what was added, whether it was there or not. Errors: as [`Self::add`].
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<(), CommitError>;

    /// Makes all of it durable. Errors: as [`Self::add`].
    fn finish(self: Box<Self>, config_version: u64) -> Result<Staged, CommitError>;
}

/// A whole store that waits to be taken into use.
pub struct Staged(pub(crate) Content);

pub(crate) enum Content {
    File(crate::sqlite::StagedFile),
    Memory(Box<crate::memory::State>),
}

/// Writes a store anew that nobody else uses: nothing is left in its file of what was deleted or replaced. Blocks, but for the store's own work. A kill leaves the
/// old file or the new one. Errors: as [`crate::Backend::replace`]; `Full`.
pub async fn rewrite(backend: &dyn crate::Backend) -> Result<(), CommitError> {
    let failed = |error: std::io::Error| CommitError::Failed(error.to_string());
    let mut staging = backend.stage().await?;
    let config_version = {
        let mut export = backend.export().await?;
        let mut buffer = Vec::new();
        let mut state = std::io::BufReader::new(&mut export.state);
        while let Some(record) = record::decode(&mut state, &mut buffer).map_err(failed)? {
            staging.add(&record)?;
        }
        export.config_version
    };
    backend.replace(staging.finish(config_version)?).await
}

const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";
const SEALED_SUMS: &str = "SHA256SUMS.sealed";
/// Of `meta.json`, and of the two files of sums.
const SMALL_MEMBER_BYTES_MAX: u64 = 64 * 1024;

fn sums(meta: &[u8], state: &[u8; 32]) -> String {
    let hex = |sum: &[u8]| data_encoding::HEXLOWER.encode(sum);
    let meta = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, meta);
    format!("{}  {META}\n{}  {STATE}\n", hex(meta.as_ref()), hex(state))
}
