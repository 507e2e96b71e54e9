//! What a revocation by prefix leaves behind, and what its caller is told of that. He may list the leases below the prefix or remove their mount, so he
//! learns their ids, and of tokens elsewhere as much of the accessor as is known.

use daypass_sdk::{Error, Result, TokenId};

use super::{Damaged, Left, first_failure};
use crate::ids;

/// What could not be revoked below a prefix.
pub(super) struct Leftover<'a> {
    prefix: &'a str,
    failed: Option<Error>,
    /// The first of what is damaged: its names, and why.
    names: Vec<String>,
    more: bool,
    damaged: Option<Error>,
}

impl<'a> Leftover<'a> {
    pub(super) fn below(prefix: &'a str) -> Self {
        Self { prefix, failed: None, names: Vec::new(), more: false, damaged: None }
    }

    /// Begins with what a sweep of the prefix said in the end, if it failed.
    pub(super) fn of_sweep(prefix: &'a str, failed: Option<Error>) -> Self {
        Self { failed, ..Self::below(prefix) }
    }

    pub(super) fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// Notes what is left of tokens; `entries` have lease ids of some. Errors: those that the next page would meet as well.
    pub(super) fn tokens(&mut self, left: Left, entries: &[(String, TokenId)]) -> Result<()> {
        // There was no limit, so that only a seal ends it before.
        if left.unfinished() > 0 {
            return Err(crate::node::sealed());
        }
        let failure = first_failure(left.failed.into_iter().map(|(_, error)| error))?;
        self.failed = self.failed.take().or(failure);
        for (_, Damaged { id, error }) in left.held {
            let entry = entries.iter().find(|(_, known)| *known == id);
            let accessor = || format!("the token whose accessor begins with {}", ids::encode_id(&id.0));
            self.note(entry.map_or_else(accessor, |(lease_id, _)| format!("{lease_id:?}")), error);
        }
        Ok(())
    }

    /// Notes a lease that is damaged, if it is.
    pub(super) fn lease(&mut self, lease_id: &str, damaged: Option<Error>) {
        if let Some(error) = damaged {
            self.note(format!("{lease_id:?}"), error);
        }
    }

    fn note(&mut self, name: String, error: Error) {
        if self.names.contains(&name) {
            return;
        }
        if self.names.len() < NAMES_MAX {
            tracing::warn!(%name, %error, "what is to be revoked is damaged");
            self.names.push(name);
        } else {
            self.more = true;
        }
        self.damaged.get_or_insert(error);
    }

    /// Errors: what failed; `Failed` with the names of what is damaged.
    pub(super) fn told(self) -> Result<()> {
        let Self { prefix, failed, names, more, damaged } = self;
        if let Some(error) = failed {
            return Err(error);
        }
        let Some(error) = damaged else { return Ok(()) };
        let (names, more) = (names.join(", "), if more { " and more" } else { "" });
        Err(Error::failed(format!(
            "stored rows are damaged and keep from being revoked: {names}{more}. All else below {prefix:?} is revoked. A secret whose lease is damaged \
             cannot be taken back: see to it where it was issued, then remove the rows: daypass lease revoke -force -prefix {prefix}"
        ))
        .because(error))
    }
}

/// The most that are named.
const NAMES_MAX: usize = 5;
