//! Keys that were used lately, parsed, so that a request does not parse an RSA key again.
//!
//! Each use still reads the key's row: a cached key counts only when it was parsed from these very bytes, so no change of a key is
//! ever missed, whichever node made it. The cache is bounded; the key that was not used for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use daypass_sdk::{Result, Secret};
use parking_lot::Mutex;

use super::key::Key;
use super::material::Material;

/// A key as it was read, with the versions that were parsed so far.
pub(super) struct Loaded {
    pub(super) key: Key,
    row: Secret<Vec<u8>>,
    parsed: Mutex<BTreeMap<u64, Arc<Material>>>,
}

impl Loaded {
    pub(super) fn new(key: Key, row: Secret<Vec<u8>>) -> Self {
        Self { key, row, parsed: Mutex::default() }
    }

    fn row_bytes(&self) -> usize {
        // Only its length is looked at.
        self.row.expose().len()
    }

    /// A version, parsed. Errors: `BadRequest` when it was trimmed away, `Internal` when what is stored is no key.
    pub(super) fn material(&self, number: u64) -> Result<Arc<Material>> {
        if let Some(found) = self.parsed.lock().get(&number) {
            return Ok(Arc::clone(found));
        }
        // Two requests at once may both parse it; that is cheaper than to let the others of the key wait.
        let made = Arc::new(Material::parse(&self.key, self.key.version(number)?)?);
        let mut parsed = self.parsed.lock();
        if parsed.len() >= VERSIONS_PARSED_MAX {
            parsed.pop_first();
        }
        parsed.insert(number, Arc::clone(&made));
        Ok(made)
    }
}

/// The keys of one mount.
#[derive(Default)]
pub(super) struct Cache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, (Arc<Loaded>, u64)>,
    uses: u64,
}

impl Cache {
    /// The key if it was parsed from this row.
    pub(super) fn fresh(&self, name: &str, row: &Secret<Vec<u8>>) -> Option<Arc<Loaded>> {
        let mut state = self.state.lock();
        state.uses += 1;
        let uses = state.uses;
        let (found, used) = state.keys.get_mut(name).filter(|(found, _)| found.row == *row)?;
        *used = uses;
        Some(Arc::clone(found))
    }

    /// Keeps a key, and no more than `most`.
    pub(super) fn keep(&self, name: &str, loaded: &Arc<Loaded>, most: usize) {
        let mut state = self.state.lock();
        state.uses += 1;
        let uses = state.uses;
        state.keys.insert(name.to_owned(), (Arc::clone(loaded), uses));
        // Keys with many versions are large: all of them together have a limit, too. The one that is in use stays.
        let bytes = |keys: &HashMap<String, (Arc<Loaded>, u64)>| keys.values().map(|(loaded, _)| loaded.row_bytes()).sum::<usize>();
        while state.keys.len() > most.clamp(1, KEYS_MAX) || (state.keys.len() > 1 && bytes(&state.keys) > ROWS_BYTES_MAX) {
            let oldest = state.keys.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            state.keys.remove(&oldest);
        }
    }

    pub(super) fn forget(&self, name: &str) {
        self.state.lock().keys.remove(name);
    }

    pub(super) fn clear(&self) {
        self.state.lock().keys.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.lock().keys.len()
    }
}

/// Keys in memory per mount, whatever `cache-config` says.
pub(super) const KEYS_MAX: usize = 1_000;
/// Rows of keys in memory per mount; what is parsed of them is a few times as large.
const ROWS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Parsed versions in memory per key.
const VERSIONS_PARSED_MAX: usize = 16;
