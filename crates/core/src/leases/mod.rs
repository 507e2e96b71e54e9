//! Leases: signed ones that are stored nowhere, and stored ones that expire, renew and are revoked.

pub(crate) mod ledger;
mod parked;
pub(crate) mod signed;

use std::sync::Arc;

use daypass_base::{Clock, Entropy, Seconds, Timestamp};
use daypass_sdk::{CommitFailure, Error, Kind, LeaseInfo, LeaseTerms, Result, TokenId};
use daypass_storage::{Batch, Condition, Due, Key, Space};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{self, Id};
use crate::mounts::MountRow;
use crate::rows::{Rows, config_key};
use crate::tokens::{TokenRow, index_value, lease_index_key};

/// A stored lease of a secret that its engine has to take back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LeaseRow {
    /// The lease id: the request's path and a tail that carries the internal id.
    pub(crate) id: String,
    /// The mount that issued it, by accessor, so that a moved mount still revokes it.
    pub(crate) mount_accessor: String,
    /// The token it hangs on; `None` for batch tokens that no other token made.
    pub(crate) token: Option<Id>,
    /// The end of the batch token that it was lent: no renewal goes beyond it, for nothing takes the secret back with that token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cap: Option<Timestamp>,
    /// A row of its mount's storage that goes with it, and is its alone: the whole key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<String>,
    pub(crate) internal: Value,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
    #[serde(default)]
    pub(crate) last_renewal: Option<Timestamp>,
    pub(crate) ttl: Seconds,
    pub(crate) max_ttl: Seconds,
    pub(crate) renewable: bool,
    /// Failed revocations so far.
    #[serde(default)]
    pub(crate) attempts: u32,
    /// When it is tried again, after a failure. Its expiry entry stands there, or later where its mount would not come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) again: Option<Timestamp>,
    /// Why the last revocation failed; at [`ATTEMPTS_MAX`] the lease is irrevocable: it is parked.
    #[serde(default)]
    pub(crate) error: String,
    /// Its secret is being taken back: it cannot be renewed, whatever its end says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) revoking: bool,
}

impl LeaseRow {
    /// The lease as its engine sees it.
    pub(crate) fn info(&self, increment: Seconds) -> LeaseInfo {
        LeaseInfo {
            id: self.id.clone(),
            internal: self.internal.clone(),
            issued: self.issued,
            terms: LeaseTerms { ttl: self.ttl, max_ttl: self.max_ttl, renewable: self.renewable },
            increment,
        }
    }

    pub(crate) fn irrevocable(&self) -> bool {
        self.attempts >= ATTEMPTS_MAX
    }
}

/// A stored lease and the version it was read at.
pub(crate) struct Held {
    pub(crate) id: Id,
    pub(crate) row: LeaseRow,
    pub(crate) version: u64,
}

/// Why a secret is not handed out that was made for a token which was revoked, or had its end, while it was made.
pub(crate) const ENDED_MEANWHILE: &str = "the token ended before its secret was handed out";

/// The stored leases of a server.
pub(crate) struct Leases {
    rows: Rows,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Leases {
    pub(crate) fn new(rows: Rows, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { rows, clock, entropy }
    }

    /// Stores a new lease at `path`, together with `also`. The row's `id` is filled in. Errors: `Failed` when a condition of `also` does
    /// not hold: the engine gave the secret up.
    pub(crate) async fn create(&self, path: &str, mut row: LeaseRow, token: Option<TokenId>, also: &Batch) -> Result<LeaseRow> {
        let id = ids::new_id(&*self.clock, &*self.entropy);
        row.id = format!("{path}/{}{}", ids::encode_id(&id), self.entropy.base62(2));
        for _ in 0..CONFLICTS_MAX {
            let mut batch = also.clone().require(lease_key(id), Condition::Absent).due(lease_due(id, row.expires));
            batch = batch.put(lease_index_key(&row.id), index_value(b'L', id));
            if let Some(token) = token {
                // The token must still be as it was when it was seen alive: one that is being revoked gets no more leases. Its row
                // alone would not do, it stays until all that hangs on it was loosened.
                let key = crate::tokens::token_key(token);
                let found = self.rows.get_json::<TokenRow>(&key).await?.filter(|(row, _)| !row.ended(self.clock.now()));
                let (_, version) = found.ok_or_else(|| Error::bad_request(ENDED_MEANWHILE))?;
                batch = batch.require(key, Condition::Version(version)).put(of_token_key(token, id), Vec::new());
            }
            match self.rows.commit(self.rows.put_json(batch, lease_key(id), &row)?).await {
                Ok(_) => return Ok(row),
                Err(CommitFailure::Conflict(at)) if at < also.conditions.len() => {
                    return Err(Error::failed("the secret took too long to make and was given up; ask again"));
                }
                Err(CommitFailure::Conflict(_)) => {}
                // What failed without an answer may have been done: then the lease is there, and so is its secret.
                Err(failure) => {
                    let stored = self.by_internal_id(id).await.is_ok_and(|held| held.is_some_and(|held| held.row.id == row.id));
                    return if stored { Ok(row) } else { Err(failure.into()) };
                }
            }
        }
        Err(Error::failed("the token is used by too many requests at once; try again"))
    }

    /// Finds a stored lease by its id.
    pub(crate) async fn find(&self, lease_id: &str) -> Result<Option<Held>> {
        let Some(id) = id_of(lease_id) else { return Ok(None) };
        let held = self.by_internal_id(id).await?;
        Ok(held.filter(|held| held.row.id == lease_id))
    }

    pub(crate) async fn by_internal_id(&self, id: Id) -> Result<Option<Held>> {
        self.look(id).await?.transpose()
    }

    /// As [`Leases::by_internal_id`], for who goes on behind a row that is damaged. The outer error: the store cannot be read; the inner one: this row.
    pub(crate) async fn look(&self, id: Id) -> Result<Option<Result<Held>>> {
        let found = self.rows.look::<LeaseRow>(&lease_key(id)).await?;
        Ok(found.map(|row| row.map(|(row, version)| Held { id, row, version })))
    }

    /// Stores a changed lease, if it is still as it was read; moves its expiry entry.
    pub(crate) async fn update(&self, held: &Held, expires_before: Timestamp) -> Result<(), CommitFailure> {
        let mut batch = Batch::new().require(lease_key(held.id), Condition::Version(held.version));
        if expires_before != held.row.expires {
            batch = batch.not_due(lease_due(held.id, expires_before)).due(lease_due(held.id, held.row.expires));
        }
        let batch = self.rows.put_json(batch, lease_key(held.id), &held.row).map_err(CommitFailure::Error)?;
        self.rows.commit(batch).await.map(|_config_version| ())
    }

    /// Marks a lease as being revoked, so that no renewal can come in between. A mark that a crash leaves is found by the expiry worker
    /// some minutes later. `None`: it is gone.
    pub(crate) async fn begin_revocation(&self, id: Id) -> Result<Option<Held>> {
        let looked_at = self.clock.now() + REVOCATION_MAX;
        for _ in 0..CONFLICTS_MAX {
            let Some(mut held) = self.by_internal_id(id).await? else { return Ok(None) };
            if held.row.revoking {
                return Ok(Some(held));
            }
            held.row.revoking = true;
            let mut batch = Batch::new().taking_back().require(lease_key(id), Condition::Version(held.version));
            if held.row.expires > looked_at {
                batch = batch.due(lease_due(id, looked_at));
            }
            match self.rows.commit(self.rows.put_json(batch, lease_key(id), &held.row)?).await {
                Ok(_) => {
                    held.version += 1;
                    return Ok(Some(held));
                }
                Err(CommitFailure::Conflict(_)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::failed("the lease is changed by too many requests at once; try again"))
    }

    /// Takes the mark back: the secret could not be taken back, the lease goes on.
    pub(crate) async fn give_up_revocation(&self, mut held: Held) -> Result<()> {
        held.row.revoking = false;
        let batch = Batch::new().require(lease_key(held.id), Condition::Version(held.version));
        match self.rows.commit(self.rows.put_json(batch, lease_key(held.id), &held.row)?).await {
            // Somebody else saw to it meanwhile.
            Ok(_) | Err(CommitFailure::Conflict(_)) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Notes a failed revocation and when to try again; the old expiry entry goes. One that is irrevocable is parked.
    pub(crate) async fn postpone(&self, mut held: Held, entry: &Due, again: Timestamp) -> Result<()> {
        held.row.again = Some(again);
        let mut batch = Batch::new().taking_back().require(lease_key(held.id), Condition::Version(held.version));
        batch = batch.not_due(entry.clone()).due(lease_due(held.id, again));
        if held.row.irrevocable() {
            batch = batch.put(parked_key(&held.row.id), index_value(b'L', held.id));
        }
        self.rows.commit(self.rows.put_json(batch, lease_key(held.id), &held.row)?).await?;
        Ok(())
    }

    /// Removes a lease that was revoked.
    pub(crate) async fn remove(&self, held: &Held) -> Result<()> {
        let mut batch = without_entries(Batch::new(), held).delete(lease_key(held.id)).delete(lease_index_key(&held.row.id));
        batch = batch.delete(parked_key(&held.row.id));
        if let Some(row) = &held.row.row {
            batch = batch.delete(config_key(row.clone()));
        }
        if let Some(token) = held.row.token {
            batch = batch.delete(of_token_key(TokenId(token), held.id));
        }
        self.rows.commit(batch).await?;
        Ok(())
    }

    /// Removes a lease whose row does not open. The rest of what names it goes with its token and its end.
    pub(crate) async fn forget(&self, lease_id: &str, id: Id) -> Result<()> {
        let batch = Batch::new().taking_back().delete(lease_key(id)).delete(lease_index_key(lease_id)).delete(parked_key(lease_id));
        self.rows.commit(batch).await?;
        Ok(())
    }

    /// Takes a lease off its token and lets it end now.
    pub(crate) async fn loosen(&self, token: TokenId, id: Id, now: Timestamp) -> Result<()> {
        let mut batch = Batch::new().taking_back().delete(of_token_key(token, id));
        match self.look(id).await? {
            None => {}
            Some(Ok(mut held)) => {
                batch = batch.require(lease_key(id), Condition::Version(held.version));
                batch = without_entries(batch, &held).due(lease_due(id, now));
                held.row.token = None;
                held.row.expires = held.row.expires.min(now);
                held.row.again = held.row.again.map(|again| again.min(now));
                batch = self.rows.put_json(batch, lease_key(id), &held.row)?;
            }
            // Nobody can take its secret back as it is. That is said again at its end, and keeps neither the token nor its other leases.
            Some(Err(error)) => tracing::warn!(%error, "a lease of a token that is revoked is damaged"),
        }
        match self.rows.commit(batch).await {
            // Somebody else changed it at the same moment: the caller asks again for what is left.
            Ok(_) | Err(CommitFailure::Conflict(_)) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Has the expiry worker look at a lease now: its own entry may be lost.
    pub(crate) async fn due_now(&self, held: &Held, now: Timestamp) -> Result<()> {
        self.rows.commit(Batch::new().taking_back().due(lease_due(held.id, now))).await?;
        Ok(())
    }

    /// Removes an index entry whose row is gone.
    pub(crate) async fn drop_index(&self, lease_id: &str) -> Result<()> {
        self.drop_indexes([lease_id]).await
    }

    /// Removes index entries whose rows are gone, in one commit.
    pub(crate) async fn drop_indexes(&self, lease_ids: impl IntoIterator<Item = &str>) -> Result<()> {
        let batch = lease_ids.into_iter().fold(Batch::new(), |batch, lease_id| batch.delete(lease_index_key(lease_id)));
        if !batch.deletes.is_empty() {
            self.rows.commit(batch).await?;
        }
        Ok(())
    }

    /// Leases that hang on a token, a page at a time.
    pub(crate) async fn of_token(&self, token: TokenId, limit: usize) -> Result<Vec<Id>> {
        let keys = self.rows.keys(&of_token_prefix(token), None, limit).await?;
        Ok(keys.iter().filter_map(|key| key.get(17..33)?.try_into().ok()).collect())
    }

    /// Everything with a lease id below a prefix: kind (`T` token, `L` secret) and internal id, a page at a time; its rows are small.
    pub(crate) async fn below(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, u8, Id)>> {
        let after = after.map(|id| [b"p", id.as_bytes()].concat());
        let page = self.rows.backend().scan(&lease_index_key(prefix), after.as_deref(), limit).await.map_err(crate::rows::read_error)?;
        let entry = |(key, row): (bytes::Bytes, daypass_storage::Row)| {
            let id = String::from_utf8(key.get(1..)?.to_vec()).ok()?;
            let (kind, internal) = named(&row.value)?;
            Some((id, kind, internal))
        };
        Ok(page.rows.into_iter().filter_map(entry).collect())
    }

    /// What the index says of this very lease id, also where the row that it names is damaged: see [`Leases::below`].
    pub(crate) async fn entry(&self, lease_id: &str) -> Result<Option<(u8, Id)>> {
        let read = self.rows.backend().get(&lease_index_key(lease_id)).await.map_err(crate::rows::read_error)?;
        Ok(read.found.and_then(|row| named(&row.value)))
    }

    /// Lets a lease end now, whatever state it is in: the expiry worker has its engine take the secret back, with retries.
    /// Gives why its row does not open where it does not: then nothing was done.
    pub(crate) async fn end_now(&self, id: Id, now: Timestamp) -> Result<Option<Error>> {
        for _ in 0..CONFLICTS_MAX {
            let mut held = match self.look(id).await? {
                None => return Ok(None),
                Some(Err(error)) => return Ok(Some(error)),
                Some(Ok(held)) => held,
            };
            let mut batch = Batch::new().taking_back().require(lease_key(id), Condition::Version(held.version));
            batch = without_entries(batch, &held).delete(parked_key(&held.row.id)).due(lease_due(id, now));
            held.row.expires = held.row.expires.min(now);
            (held.row.attempts, held.row.again) = (0, None);
            match self.rows.commit(self.rows.put_json(batch, lease_key(id), &held.row)?).await {
                Ok(_) => return Ok(None),
                Err(CommitFailure::Conflict(_)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::failed("the lease is changed by too many requests at once; try again"))
    }

    /// Names below a prefix of lease ids, folded at `/`.
    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let names = self.rows.list(&lease_index_key(prefix), after.map(str::as_bytes), limit).await?;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }
}

/// Takes away the expiry entries of which a lease's row tells.
fn without_entries(batch: Batch, held: &Held) -> Batch {
    let told = [Some(held.row.expires), held.row.again];
    told.into_iter().flatten().fold(batch, |batch, at| batch.not_due(lease_due(held.id, at)))
}

/// Kind and internal id in an entry of the lease index.
fn named(value: &[u8]) -> Option<(u8, Id)> {
    let (kind, internal) = value.split_first()?;
    Some((*kind, internal.try_into().ok()?))
}

/// The internal id in a stored lease's id: 22 of the 24 characters of its tail.
fn id_of(lease_id: &str) -> Option<Id> {
    let tail = lease_id.rsplit('/').next().filter(|tail| tail.len() == 24)?;
    tail.get(..22).and_then(ids::decode_id)
}

fn lease_key(id: Id) -> Key {
    Key::new(Space::Lease, [b"l", id.as_slice()].concat())
}

/// What keys of edges to leases of a token begin with.
pub(crate) fn of_token_prefix(token: TokenId) -> Key {
    Key::new(Space::Index, [b"l", token.0.as_slice()].concat())
}

fn of_token_key(token: TokenId, lease: Id) -> Key {
    Key::new(Space::Index, [b"l", token.0.as_slice(), lease.as_slice()].concat())
}

fn parked_key(lease_id: &str) -> Key {
    Key::new(Space::Index, [b"x", lease_id.as_bytes()].concat())
}

fn lease_due(id: Id, at: Timestamp) -> Due {
    Due { shard: 0, at, id: [b"L", id.as_slice()].concat().into() }
}

/// What whoever made a lease or a token says against its renewal, in Vault's words. What says nothing about the lease itself stays as it is.
pub(crate) fn not_renewed(error: Error) -> Error {
    match error.kind {
        Kind::BadRequest | Kind::Failed | Kind::Upstream => Error { message: format!("failed to renew entry: {}", error.message), ..error },
        _ => error,
    }
}

/// That a mount renews what it issued at this path. Errors: `BadRequest` with Vault's text for one that is being removed: what it issued is taken back, however long
/// that takes.
pub(crate) fn check_renews(row: &MountRow, path: &str) -> Result<()> {
    if row.tainted {
        Err(not_renewed(Error::bad_request(format!("no handler for route {path:?}. route entry is tainted."))))
    } else {
        Ok(())
    }
}

/// Revocations that are tried one soon after the other, before a lease is parked.
pub(crate) const ATTEMPTS_MAX: u32 = 6;

/// How often a write is tried again while others change the same token.
const CONFLICTS_MAX: usize = 100;
/// No revocation takes longer, with the longest that a request may take.
const REVOCATION_MAX: Seconds = Seconds(300);
