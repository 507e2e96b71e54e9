//! A mount on its way to another path: what its row says of that, and which moves this process is at.

use std::collections::HashSet;
use std::sync::Arc;

use daypass_base::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A move that has begun and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moving {
    /// What the move was answered with: `migration_id`.
    pub(crate) id: String,
    /// Where the mount is to be; nothing else is mounted there meanwhile.
    pub(crate) to: String,
    pub(crate) since: Timestamp,
}

/// The moves that this process is at, by id. One that a row tells of and that is not here was cut short.
#[derive(Debug, Default, Clone)]
pub(crate) struct UnderWay(Arc<Mutex<HashSet<String>>>);

/// One of them, for as long as this lives.
pub(crate) struct Mover {
    all: UnderWay,
    id: String,
}

impl UnderWay {
    pub(crate) fn begin(&self, id: &str) -> Mover {
        self.0.lock().insert(id.to_owned());
        Mover { all: self.clone(), id: id.to_owned() }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.lock().contains(id)
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.id);
    }
}
