//! Lists of the identity store: whole or in parts, in order, and never cut short in silence.

use std::collections::BTreeMap;

use daypass_sdk::{Cx, Keys, Reply, Result, whole};
use serde_json::Value;

use super::IdentityRoom;
use super::show::keys_with_info;

/// The part of a list that was asked for: the first names behind one, in whatever order they are found. Holds no more than it needs.
pub(super) struct Listing<T> {
    after: Option<String>,
    most: usize,
    wanted: usize,
    found: BTreeMap<String, T>,
}

impl<T> Listing<T> {
    /// Errors: `Sealed`.
    pub(super) fn of(room: &IdentityRoom, cx: &Cx) -> Result<Self> {
        let (inner, _) = room.way.open()?;
        let (most, page) = (inner.settings.limits.list_names, &cx.request.page);
        // One more than an answer may have tells that there are more.
        let wanted = page.limit.unwrap_or(usize::MAX).min(most.saturating_add(1));
        Ok(Self { after: page.after.clone(), most, wanted, found: BTreeMap::new() })
    }

    /// The name that the part begins behind.
    pub(super) fn after(&self) -> Option<String> {
        self.after.clone()
    }

    /// Takes a name in, if it is of the part.
    pub(super) fn add(&mut self, name: &str, shown: impl FnOnce() -> T) {
        let is_before = self.after.as_deref().is_some_and(|after| name <= after);
        let is_beyond = self.is_full() && self.found.last_key_value().is_some_and(|(last, _)| name > last.as_str());
        if is_before || is_beyond {
            return;
        }
        self.found.insert(name.to_owned(), shown());
        if self.found.len() > self.wanted {
            self.found.pop_last();
        }
    }

    /// Whether names behind those that were found are not wanted.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= self.wanted
    }

    /// What was found, in order. Errors: `BadRequest` for more than one answer carries.
    pub(super) fn whole(self) -> Result<Vec<(String, T)>> {
        whole(self.found.into_iter().collect(), self.most)
    }
}

impl Listing<()> {
    /// The names alone.
    pub(super) fn keys(self) -> Result<Keys> {
        Ok(Keys(self.whole()?.into_iter().map(|(name, ())| name).collect()))
    }
}

impl Listing<Value> {
    /// The names, and what is to be said of each.
    pub(super) fn with_info(self) -> Result<Reply> {
        Ok(Reply::data(keys_with_info(self.whole()?.into_iter().collect())))
    }
}
