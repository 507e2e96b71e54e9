//! Tokens: their texts, their rows, and the life between creation and revocation.
//!
//! A token's row holds a keyed hash of its secret, never the secret. Rows are keyed by internal id, which is in the token's text, so
//! that look-ups need no index and tokens that are made together lie together.

mod batch;
mod cause;
mod forebears;
mod many;
mod packed;
mod text;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use daypass_barrier::Purpose;
use daypass_base::{Clock, Entropy, Seconds, Secret, Timestamp};
use daypass_sdk::{CommitFailure, Error, Result, TokenId};
use daypass_storage::{Batch, Condition, Due, Key, Space};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use subtle::ConstantTimeEq;

use crate::ids::{self, Id};
use crate::metrics::Counter;
use crate::rows::{Found, Rows};
use crate::sweeps::Sweeps;

pub(crate) use cause::Cause;
pub(crate) use forebears::{Arrears, Came};
pub(crate) use many::{Many, Stored};
pub(crate) use text::{Presented, is_of_choice, present};

/// A service token as it is stored, or a batch token as it is sealed into its own text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TokenRow {
    /// Keyed hash of the secret part; empty for batch tokens.
    #[serde(default, rename = "m", with = "packed")]
    pub(crate) mac: Vec<u8>,
    /// The accessor; empty for batch tokens.
    #[serde(rename = "a")]
    pub(crate) accessor: String,
    #[serde(rename = "p")]
    pub(crate) policies: Vec<String>,
    /// Where it was made: `auth/approle/login`. Also the front of its lease id.
    #[serde(rename = "at")]
    pub(crate) path: String,
    #[serde(default, rename = "md", skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "dn")]
    pub(crate) display_name: String,
    /// Requests left; 0 is without limit, [`SPENT`] has none left.
    #[serde(default, rename = "n", skip_serializing_if = "is_zero")]
    pub(crate) num_uses: i64,
    /// The parent; `None` for orphans.
    #[serde(default, rename = "up", skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Id>,
    /// When the parent of a batch token was made, where its text was somebody's own choice: that text can be made into a token again, which is another one.
    #[serde(default, rename = "u0", skip_serializing_if = "Option::is_none")]
    pub(crate) parent_created: Option<Timestamp>,
    #[serde(rename = "t0")]
    pub(crate) created: Timestamp,
    #[serde(rename = "ct")]
    pub(crate) creation_ttl: Seconds,
    /// The lifetime of the last renewal, which the next one gets again unless it asks for another; zero before the first.
    #[serde(default, rename = "tl", skip_serializing_if = "Seconds::is_zero")]
    pub(crate) renewed_ttl: Seconds,
    /// `None` never ends.
    #[serde(default, rename = "end")]
    pub(crate) expires: Option<Timestamp>,
    #[serde(default, rename = "em", skip_serializing_if = "Seconds::is_zero")]
    pub(crate) explicit_max_ttl: Seconds,
    /// The limit of the token role it was made through.
    #[serde(default, rename = "rm", skip_serializing_if = "Seconds::is_zero")]
    pub(crate) role_max_ttl: Seconds,
    #[serde(default, rename = "pd", skip_serializing_if = "Seconds::is_zero")]
    pub(crate) period: Seconds,
    #[serde(default, rename = "rn")]
    pub(crate) renewable: bool,
    #[serde(default, rename = "lr", skip_serializing_if = "Option::is_none")]
    pub(crate) last_renewal: Option<Timestamp>,
    #[serde(default, rename = "e", skip_serializing_if = "String::is_empty")]
    pub(crate) entity_id: String,
    /// Since when that is known: when the login was that the token has its entity from. `None` for the token's own beginning. A child has it
    /// here, so that what ends its parent with the entity ends it too, whenever it was made.
    #[serde(default, rename = "e0", skip_serializing_if = "Option::is_none")]
    pub(crate) entity_since: Option<Timestamp>,
    /// How an auth method knew the owner; `None` where nobody logged in.
    #[serde(default, rename = "al", skip_serializing_if = "Option::is_none")]
    pub(crate) alias: Option<AliasRef>,
    /// The token role it was made through.
    #[serde(default, rename = "r", skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    #[serde(default, rename = "ip", skip_serializing_if = "Vec::is_empty")]
    pub(crate) bound_cidrs: Vec<String>,
    /// What the auth method wants to see again at renewal; `None` for tokens of the token store.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub(crate) internal: Option<Value>,
    /// The mount that made it, by accessor, so that a moved mount still renews it.
    #[serde(default, rename = "ma", skip_serializing_if = "String::is_empty")]
    pub(crate) mount_accessor: String,
    /// Its last use was taken, and by this moment the request that took it is over. It is due then instead of at its end.
    #[serde(default, rename = "su", skip_serializing_if = "Option::is_none")]
    pub(crate) spent_until: Option<Timestamp>,
    /// Revocation has begun: nothing may be done with it or added to it.
    #[serde(default, rename = "x", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) revoking: bool,
}

/// How an auth method knew the owner of a token: what policies may ask of it, and what its children inherit. It holds only what the row
/// does not say anyway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct AliasRef {
    #[serde(rename = "n")]
    pub(crate) name: String,
    /// Accessor of the auth mount; empty for the mount that made the token.
    #[serde(default, rename = "ma", skip_serializing_if = "String::is_empty")]
    pub(crate) mount_accessor: String,
    /// What the login proved; `None` for the token's own metadata. A child has it here: its own metadata is whatever its maker wrote.
    #[serde(default, rename = "md", skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    /// Aliases of external groups that the login reported, in order. A child has none here, but for copies that older versions stored.
    #[serde(default, rename = "g", skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// The token of the login that it is from, which has the groups: a renewal may learn them anew. `None` for the login's own.
    #[serde(default, rename = "l", skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<Id>,
}

/// `num_uses` of a token whose last use is running or done.
pub(crate) const SPENT: i64 = -1;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl TokenRow {
    pub(crate) fn ttl(&self, now: Timestamp) -> Seconds {
        self.expires.map_or(Seconds::ZERO, |end| Seconds::from(end.since(now)))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    /// Accessor of the mount that an alias of this token is of.
    pub(crate) fn alias_mount<'a>(&'a self, alias: &'a AliasRef) -> &'a str {
        if alias.mount_accessor.is_empty() { &self.mount_accessor } else { &alias.mount_accessor }
    }

    /// What the login behind this token proved.
    pub(crate) fn alias_metadata<'a>(&'a self, alias: &'a AliasRef) -> Option<&'a BTreeMap<String, String>> {
        alias.metadata.as_ref().or(self.meta.as_ref())
    }

    /// Since when the token's entity is known: what a deletion of the entity is compared with.
    pub(crate) fn entity_since(&self) -> Timestamp {
        self.entity_since.unwrap_or(self.created)
    }

    /// Gives a child its parent's owner, with all that is known of it. The groups stay with the login.
    pub(crate) fn inherit_owner(&mut self, parent: &Known) {
        let (id, parent) = (parent.id.0, &*parent.row);
        self.entity_id.clone_from(&parent.entity_id);
        self.entity_since = (!parent.entity_id.is_empty()).then(|| parent.entity_since());
        let login = |alias: &AliasRef| alias.login.unwrap_or(id);
        self.alias = parent.alias.as_ref().map(|alias| AliasRef { login: Some(login(alias)), ..parent.whole_alias(alias, Vec::new()) });
    }

    /// An alias of this token with all that it says, in whichever row that stands, and with these groups.
    pub(crate) fn whole_alias(&self, alias: &AliasRef, groups: Vec<String>) -> AliasRef {
        AliasRef {
            name: alias.name.clone(),
            mount_accessor: self.alias_mount(alias).to_owned(),
            metadata: Some(self.alias_metadata(alias).cloned().unwrap_or_default()),
            groups,
            login: None,
        }
    }

    /// The groups of this token's login, if that is the one of `child`.
    pub(crate) fn groups_for(&self, child: &Self) -> &[String] {
        let (Some(own), Some(alias)) = (&self.alias, &child.alias) else { return &[] };
        let same = own.name == alias.name && self.alias_mount(own) == child.alias_mount(alias);
        if same { &own.groups } else { &[] }
    }

    pub(crate) fn ended(&self, now: Timestamp) -> bool {
        self.revoking || [self.expires, self.spent_until].into_iter().flatten().any(|end| end <= now)
    }

    /// Its entry in the expiry index.
    fn due(&self, id: TokenId) -> Option<Due> {
        self.spent_until.or(self.expires).map(|at| token_due(id, at))
    }
}

/// A token whose revocation has begun: its row, which is marked now, or why that does not open. Nothing is added to what cannot be read either, so that what
/// hangs on it comes to an end as if it were marked.
pub(crate) struct Begun {
    pub(crate) row: Result<Box<TokenRow>>,
    pub(crate) mark: Mark,
}

/// Whose mark it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Old,
    Ours,
}

/// A token that may be used: found, its secret proved, not over.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: TokenId,
    pub(crate) row: Arc<TokenRow>,
    /// Version of the stored row; 0 for batch tokens.
    pub(crate) version: u64,
    pub(crate) batch: bool,
}

/// A token and its row, just made.
pub(crate) struct Made {
    pub(crate) text: Secret<String>,
    pub(crate) row: TokenRow,
}

/// All tokens of a server.
pub(crate) struct Tokens {
    rows: Rows,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(crate) counts: Counts,
    /// Tokens below these are refused already.
    pub(crate) sweeps: Sweeps,
    /// Tokens that descend from ended ones may still be there.
    pub(crate) arrears: Arrears,
}

/// What was counted since the server was unsealed.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) service: Counter,
    pub(crate) batch: Counter,
    pub(crate) lookups: Counter,
}

impl Tokens {
    pub(crate) fn new(rows: Rows, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { rows, clock, entropy, counts: Counts::default(), sweeps: Sweeps::default(), arrears: Arrears::default() }
    }

    /// Finds the token that a client presented. Also returns the configuration version at that moment.
    /// `None`: unknown, wrong, ended or revoked; the caller learns no more.
    pub(crate) async fn find(&self, presented: &Secret<String>) -> Result<(Option<Known>, u64)> {
        self.counts.lookups.add();
        match present(presented, self.rows.barrier()) {
            Presented::Batch(row) => {
                let known = Known { id: TokenId([0; 16]), row: Arc::new(*row), version: 0, batch: true };
                self.find_batch(known).await
            }
            Presented::Service { id, secret } => {
                let (stored, config_version) = self.genuine(id, &secret).await?;
                Ok((self.alive(stored).await?, config_version))
            }
            Presented::Nonsense => Ok((None, self.config_version().await?)),
        }
    }

    /// The row of this id, whether it lives or not, if the secret is its own.
    async fn genuine(&self, id: TokenId, secret: &Secret<Vec<u8>>) -> Result<(Option<Known>, u64)> {
        let (known, config_version) = self.stored_by_id(id).await?;
        let own = |known: &Known| self.rows.barrier().mac(Purpose::Token, secret.expose()).as_slice().ct_eq(&known.row.mac).into();
        Ok((known.filter(own), config_version))
    }

    /// The stored token that a client presented, also when its time is over: what revokes it ends it for good, even if the clock is put back.
    pub(crate) async fn stored(&self, presented: &Secret<String>) -> Result<Option<Known>> {
        match present(presented, self.rows.barrier()) {
            Presented::Service { id, secret } => Ok(self.genuine(id, &secret).await?.0),
            Presented::Batch(_) | Presented::Nonsense => Ok(None),
        }
    }

    /// A batch token lives as long as it says, and as long as its parent.
    async fn find_batch(&self, known: Known) -> Result<(Option<Known>, u64)> {
        let now = self.clock.now();
        let Some(parent_id) = known.row.parent.map(TokenId) else {
            let config_version = self.config_version().await?;
            return Ok(((!known.row.ended(now)).then_some(known), config_version));
        };
        let (parent, config_version) = self.rows.find::<TokenRow>(&token_key(parent_id)).await?;
        let Some(parent) = parent.filter(|_| !known.row.ended(now)) else { return Ok((None, config_version)) };
        let is_own = match known.row.parent_created {
            Some(created) => parent.value.created == created,
            // Older versions did not note it. A clock that was put back between parent and child is not told from a parent that was made anew then.
            None => parent.value.created <= known.row.created || !is_of_choice(parent_id),
        };
        Ok(((is_own && self.is_alive(&parent.value).await?).then_some(known), config_version))
    }

    /// The configuration version of this moment.
    pub(crate) async fn config_version(&self) -> Result<u64> {
        let read = self.rows.backend().get(&Key::new(Space::Config, "config-version")).await.map_err(crate::rows::read_error)?;
        Ok(read.config_version)
    }

    /// The row of a live token, by id.
    pub(crate) async fn by_id(&self, id: TokenId) -> Result<Option<Known>> {
        self.alive(self.stored_by_id(id).await?.0).await
    }

    /// The row of this id, whether it lives or not, and the configuration version of that moment.
    async fn stored_by_id(&self, id: TokenId) -> Result<(Option<Known>, u64)> {
        let (found, config_version) = self.rows.find::<TokenRow>(&token_key(id)).await?;
        Ok((found.map(|Found { value: row, version }| Known { id, row, version, batch: false }), config_version))
    }

    async fn alive(&self, known: Option<Known>) -> Result<Option<Known>> {
        let Some(known) = known else { return Ok(None) };
        Ok(self.is_alive(&known.row).await?.then_some(known))
    }

    /// The row of a live token, by accessor.
    pub(crate) async fn by_accessor(&self, accessor: &str) -> Result<Option<Known>> {
        self.alive(self.stored_by_accessor(accessor).await?).await
    }

    /// The same, also of a token whose time is over; see [`Tokens::stored`].
    pub(crate) async fn stored_by_accessor(&self, accessor: &str) -> Result<Option<Known>> {
        let Some(id) = accessor.get(..22).and_then(ids::decode_id) else { return Ok(None) };
        let (known, _) = self.stored_by_id(TokenId(id)).await?;
        Ok(known.filter(|known| known.row.accessor.as_bytes().ct_eq(accessor.as_bytes()).into()))
    }

    /// The row of a live token, by lease id.
    pub(crate) async fn by_lease(&self, lease_id: &str) -> Result<Option<Known>> {
        self.alive(self.stored_by_lease(lease_id).await?).await
    }

    /// The same, also of a token whose time is over. The path must be its own: the hash in the id does not cover it, and policies judge by it.
    pub(crate) async fn stored_by_lease(&self, lease_id: &str) -> Result<Option<Known>> {
        let Some((path, id)) = id_of_lease(lease_id, &self.rows) else { return Ok(None) };
        Ok(self.stored_by_id(id).await?.0.filter(|known| known.row.path == path))
    }

    /// Whether a token of this id lives: what a signed lease asks of its parent. Nobody can use one whose row does not open.
    pub(crate) async fn lives(&self, id: TokenId) -> Result<bool> {
        Ok(self.lives_at(id).await?.0)
    }

    /// The same, and the configuration version at that moment.
    pub(crate) async fn lives_at(&self, id: TokenId) -> Result<(bool, u64)> {
        let (found, config_version) = self.rows.seek::<TokenRow>(&token_key(id)).await?;
        let lives = match found {
            Some(Ok(found)) => self.is_alive(&found.value).await?,
            Some(Err(_)) | None => false,
        };
        Ok((lives, config_version))
    }

    /// Spends one use of a limited token, for a request that takes no longer than `at_most`. `None`: none was left, also when others took it at the
    /// same moment. Whoever takes the last one revokes the token in the end; where nobody does, because of a crash or a pause, the expiry worker finds it.
    pub(crate) async fn spend(&self, mut known: Known, at_most: Seconds) -> Result<Option<Known>> {
        for _ in 0..CONFLICTS_MAX {
            let key = token_key(known.id);
            let mut batch = Batch::new().require(key.clone(), Condition::Version(known.version));
            let row = Arc::make_mut(&mut known.row);
            match row.num_uses {
                0 => return Ok(Some(known)),
                uses if uses < 0 => return Ok(None),
                1 => batch = self.take_last_use(batch.taking_back(), known.id, row, at_most),
                _ => row.num_uses -= 1,
            }
            match self.rows.commit(self.rows.put_json(batch, key, &*known.row)?).await {
                Ok(_) => {
                    known.version += 1;
                    return Ok(Some(known));
                }
                Err(CommitFailure::Conflict(_)) => match self.by_id(known.id).await? {
                    Some(again) => known = again,
                    None => return Ok(None),
                },
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::failed("the token is used by too many requests at once; try again"))
    }

    /// Makes and stores a service token, with the first contents of its cubbyhole. `wanted` is a text of the caller's own choice.
    pub(crate) async fn create(&self, mut row: TokenRow, wanted: Option<Secret<String>>, cubbyhole: &[(&str, Vec<u8>)]) -> Result<Made> {
        let fresh = match wanted {
            Some(text) => text::custom(text, self.rows.barrier()),
            None if row.is_root() => text::root(&*self.entropy, self.rows.barrier()),
            None => text::service(&*self.clock, &*self.entropy),
        };
        let id = fresh.id;
        self.mark(&mut row, &fresh);
        loop {
            let mut batch = Batch::new().require(token_key(id), Condition::Absent);
            if let Some(parent) = row.parent {
                // The parent must still be as it was when it was seen alive: a parent that is being revoked gets no more children.
                let Some(parent) = self.by_id(TokenId(parent)).await? else {
                    return Err(Error::bad_request("parent token lookup failed: no parent found"));
                };
                batch = batch.require(token_key(parent.id), Condition::Version(parent.version));
                batch = batch.put(child_key(parent.id, id), Vec::new());
            }
            match self.rows.commit(self.with_token(batch, id, &row, cubbyhole)?).await {
                Ok(_) => {
                    self.counts.service.add();
                    return Ok(Made { text: fresh.text, row });
                }
                Err(CommitFailure::Conflict(0)) => return Err(Error::bad_request("cannot create a token with a duplicate ID")),
                Err(CommitFailure::Conflict(_)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Takes the last use of a token, which is due when the request that takes it is over: where nobody revokes it, the expiry worker does.
    fn take_last_use(&self, batch: Batch, id: TokenId, row: &mut TokenRow, at_most: Seconds) -> Batch {
        let (before, until) = (row.due(id), self.clock.now() + at_most);
        row.num_uses = SPENT;
        row.spent_until = Some(row.expires.map_or(until, |end| end.min(until)));
        moved(batch, before, row.due(id))
    }

    /// Spends the last use of a token, for a request that takes no longer than `at_most`, and makes another token in its place, in one commit. `None`: others
    /// took that use.
    pub(crate) async fn exchange(
        &self,
        mut known: Known,
        at_most: Seconds,
        mut row: TokenRow,
        cubbyhole: &[(&str, Vec<u8>)],
    ) -> Result<Option<Made>> {
        let fresh = text::service(&*self.clock, &*self.entropy);
        self.mark(&mut row, &fresh);
        for _ in 0..CONFLICTS_MAX {
            if known.row.num_uses != 1 {
                return Ok(None);
            }
            let key = token_key(known.id);
            let batch =
                Batch::new().require(token_key(fresh.id), Condition::Absent).require(key.clone(), Condition::Version(known.version));
            let batch = self.take_last_use(batch, known.id, Arc::make_mut(&mut known.row), at_most);
            let batch = self.rows.put_json(batch, key, &*known.row)?;
            match self.rows.commit(self.with_token(batch, fresh.id, &row, cubbyhole)?).await {
                Ok(_) => {
                    self.counts.service.add();
                    return Ok(Some(Made { text: fresh.text, row }));
                }
                Err(CommitFailure::Conflict(_)) => match self.by_id(known.id).await? {
                    Some(again) => known = again,
                    None => return Ok(None),
                },
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::failed("the token is used by too many requests at once; try again"))
    }

    /// Writes into a row what its token is known by.
    fn mark(&self, row: &mut TokenRow, fresh: &text::Fresh) {
        // Hashed, to be compared with what clients present.
        row.mac = self.rows.barrier().mac(Purpose::Token, fresh.secret.expose()).to_vec();
        row.accessor = format!("{}{}", ids::encode_id(&fresh.id.0), self.entropy.base62(2));
    }

    /// Adds a new token to a batch, with its cubbyhole and its entries. Errors: `BadRequest` when its row is too large.
    fn with_token(&self, batch: Batch, id: TokenId, row: &TokenRow, cubbyhole: &[(&str, Vec<u8>)]) -> Result<Batch> {
        let mut batch = self.rows.put_json(batch, token_key(id), row)?;
        check_size(&batch)?;
        for (name, value) in cubbyhole {
            batch = self.rows.put(batch, crate::rows::config_key(format!("{}{name}", crate::revoke::cubbyhole_prefix(id))), value)?;
        }
        let Some(end) = row.expires else { return Ok(batch) };
        Ok(batch.due(token_due(id, end)).put(lease_index_key(&token_lease_id(&row.path, id, &self.rows)), index_value(b'T', id.0)))
    }

    /// Makes a batch token: sealed, stored nowhere. Errors: `BadRequest` when it would be too long to be used.
    pub(crate) fn create_batch(&self, row: TokenRow) -> Result<Made> {
        let text = batch::seal(&row, self.rows.barrier())?;
        self.counts.batch.add();
        Ok(Made { text, row })
    }

    /// Stores a changed row, if it is still `before` was read; moves its expiry entry.
    pub(crate) async fn update(&self, known: &Known, before: &TokenRow) -> Result<(), CommitFailure> {
        let key = token_key(known.id);
        let batch = Batch::new().require(key.clone(), Condition::Version(known.version));
        let batch = moved(batch, before.due(known.id), known.row.due(known.id));
        let batch = self.rows.put_json(batch, key, &*known.row).map_err(CommitFailure::Error)?;
        self.rows.commit(batch).await.map(|_config_version| ())
    }

    /// Children of a token behind this one, a page at a time.
    pub(crate) async fn children(&self, id: TokenId, after: Option<TokenId>, limit: usize) -> Result<Vec<TokenId>> {
        let after = after.map(|child| child_key(id, child).bytes);
        let keys = self.rows.keys(&many::children_prefix(id), after.as_deref(), limit).await?;
        Ok(keys.iter().filter_map(|key| key.get(17..33)).filter_map(|child| <[u8; 16]>::try_from(child).ok()).map(TokenId).collect())
    }

    /// Marks a token as being revoked: from here on nobody can use it or add to it. `None`: it is gone, or the cause does not hold for it as it is now.
    pub(crate) async fn begin_revocation(&self, id: TokenId, cause: Cause) -> Result<Option<Begun>> {
        for _ in 0..CONFLICTS_MAX {
            let (mut row, version) = match self.rows.look::<TokenRow>(&token_key(id)).await? {
                None => return Ok(None),
                Some(Ok((row, version))) => (Box::new(row), version),
                Some(Err(error)) => return Ok(Some(Begun { row: Err(error), mark: Mark::Old })),
            };
            if row.revoking {
                return Ok(Some(Begun { row: Ok(row), mark: Mark::Old }));
            }
            if !cause.holds(&row) {
                return Ok(None);
            }
            row.revoking = true;
            let mut batch = Batch::new().taking_back().require(token_key(id), Condition::Version(version));
            let now = self.clock.now();
            if row.expires.is_none_or(|end| end > now) {
                // Due at once: should the process stop half-way, the expiry worker finishes the revocation. The row says when, so that
                // what ends the revocation takes this entry with it.
                let before = row.due(id);
                (row.expires, row.spent_until) = (Some(now), None);
                batch = moved(batch, before, row.due(id));
            }
            match self.rows.commit(self.rows.put_json(batch, token_key(id), &row)?).await {
                Ok(_) => return Ok(Some(Begun { row: Ok(row), mark: Mark::Ours })),
                Err(CommitFailure::Conflict(_)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::failed("the token is used by too many requests at once; try again"))
    }

    /// Removes what is left of a token: its row, its entries, and its place under its parent.
    pub(crate) async fn finish_revocation(&self, id: TokenId, row: &TokenRow) -> Result<()> {
        let mut batch = Batch::new().delete(token_key(id)).delete(lease_index_key(&token_lease_id(&row.path, id, &self.rows)));
        if let Some(parent) = row.parent {
            batch = batch.delete(child_key(TokenId(parent), id));
        }
        batch = row.due(id).into_iter().fold(batch, Batch::not_due);
        self.rows.commit(batch).await?;
        Ok(())
    }

    /// Removes a token whose row does not open, with its place under the parent that is known. What else names it is stale then.
    pub(crate) async fn forget(&self, id: TokenId, parent: Option<TokenId>) -> Result<()> {
        let batch = Batch::new().taking_back().delete(token_key(id));
        let batch = parent.into_iter().fold(batch, |batch, parent| batch.delete(child_key(parent, id)));
        self.rows.commit(batch).await?;
        Ok(())
    }

    /// Whether a row of this id exists, live or not, readable or not.
    pub(crate) async fn is_stored(&self, id: TokenId) -> Result<bool> {
        self.rows.has(&token_key(id)).await
    }

    /// Removes an edge to a child that is gone.
    pub(crate) async fn drop_edge(&self, parent: TokenId, child: TokenId) -> Result<()> {
        self.rows.commit(Batch::new().delete(child_key(parent, child))).await?;
        Ok(())
    }

    /// Adds a new root token to a batch.
    pub(crate) fn in_batch(&self, batch: Batch, mut row: TokenRow) -> Result<(Made, Batch)> {
        let fresh = text::root(&*self.entropy, self.rows.barrier());
        self.mark(&mut row, &fresh);
        let batch = self.rows.put_json(batch, token_key(fresh.id), &row)?;
        Ok((Made { text: fresh.text, row }, batch))
    }

    /// Makes orphans of a token's children: the edges go, the children stay.
    pub(crate) async fn orphan_children(&self, id: TokenId) -> Result<()> {
        loop {
            let children = self.children(id, None, PAGE).await?;
            if children.is_empty() {
                return Ok(());
            }
            for child in children {
                let mut batch = Batch::new().delete(child_key(id, child));
                match self.rows.look::<TokenRow>(&token_key(child)).await? {
                    None => {}
                    Some(Ok((mut row, version))) => {
                        row.parent = None;
                        batch = batch.require(token_key(child), Condition::Version(version));
                        batch = self.rows.put_json(batch, token_key(child), &row)?;
                    }
                    Some(Err(error)) => tracing::warn!(%error, "a child that is to become an orphan is damaged: nobody can use it"),
                }
                match self.rows.commit(batch).await {
                    Ok(_) | Err(CommitFailure::Conflict(_)) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
    }

    /// All tokens that can be read, live or not, in the order of their ids, a page at a time. Also where it goes on; `None` when nothing is behind `after`.
    pub(crate) async fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<(Vec<(TokenId, TokenRow)>, Option<Bytes>)> {
        let (page, last) = self.rows.scan_json(&Key::new(Space::Token, Vec::new()), after, limit).await?;
        let tokens = page.into_iter().filter_map(|(key, row)| Some((TokenId(key.bytes.as_ref().try_into().ok()?), row)));
        Ok((tokens.collect(), last))
    }

    /// All edges from parents to children, a page at a time: where the page goes on, parent, child.
    pub(crate) async fn edges(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, TokenId, TokenId)>> {
        let prefix = Key::new(Space::Index, b"c".to_vec());
        let keys = self.rows.keys(&prefix, after, limit).await?;
        let id = |key: &[u8], from: usize| key.get(from..from + 16).and_then(|id| id.try_into().ok()).map(TokenId);
        Ok(keys.iter().filter_map(|key| Some((key.to_vec(), id(key, 1)?, id(key, 17)?))).collect())
    }

    /// Shows the accessors of all live tokens behind this one, in the order in which they were made, which is that of their texts, until
    /// `show` says that it has seen enough.
    pub(crate) async fn accessors(&self, after: Option<&str>, mut show: impl FnMut(String) -> bool + Send) -> Result<()> {
        let first = after.and_then(|accessor| accessor.get(..22)).and_then(ids::decode_id);
        let mut after = first.map(|id| token_key(TokenId(id)).bytes);
        loop {
            let (page, last) = self.page(after.as_deref(), PAGE).await?;
            let Some(last) = last else { return Ok(()) };
            after = Some(last);
            for (_, row) in page {
                if !row.ended(self.clock.now()) && !show(row.accessor) {
                    return Ok(());
                }
            }
        }
    }
}

/// Tokens are read many at a time. Errors: `BadRequest` when the row that was added last is too large for that.
fn check_size(batch: &Batch) -> Result<()> {
    check_bytes(batch.puts.last().map_or(0, |(_, value)| value.len()), ROW_BYTES_MAX, "as they are stored")
}

/// Errors: `BadRequest` when a token takes more bytes than the limit, `seen` in this way.
fn check_bytes(bytes: usize, limit: usize, seen: &str) -> Result<()> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "the token's names, policies and metadata take {bytes} bytes {seen}, the limit is {limit}: give it less of them"
    )))
}

/// A row with these facts and nothing else set: an orphan that never ends.
pub(crate) fn row(policies: Vec<String>, path: &str, display_name: &str, now: Timestamp) -> TokenRow {
    TokenRow {
        mac: Vec::new(),
        accessor: String::new(),
        policies,
        path: path.to_owned(),
        meta: None,
        display_name: display_name.to_owned(),
        num_uses: 0,
        parent: None,
        parent_created: None,
        created: now,
        creation_ttl: Seconds::ZERO,
        renewed_ttl: Seconds::ZERO,
        expires: None,
        explicit_max_ttl: Seconds::ZERO,
        role_max_ttl: Seconds::ZERO,
        period: Seconds::ZERO,
        renewable: false,
        last_renewal: None,
        entity_id: String::new(),
        entity_since: None,
        alias: None,
        role: None,
        bound_cidrs: Vec::new(),
        internal: None,
        mount_accessor: String::new(),
        spent_until: None,
        revoking: false,
    }
}

/// Moves an entry of the expiry index.
fn moved(batch: Batch, from: Option<Due>, to: Option<Due>) -> Batch {
    if from == to {
        return batch;
    }
    to.into_iter().fold(from.into_iter().fold(batch, Batch::not_due), Batch::due)
}

/// Whether an address lies in one of the networks; an empty list allows all, an unknown address only that.
pub(crate) fn in_networks(networks: &[String], remote: Option<IpAddr>) -> bool {
    networks.is_empty() || remote.is_some_and(|remote| networks.iter().any(|network| contains(network, remote)))
}

/// An address or a network as Vault shows it: a single address without its length. `None` when the text is neither.
pub(crate) fn canonical_network(text: &str) -> Option<String> {
    let (address, bits) = split_network(text)?;
    let single = bits == if address.is_ipv4() { 32 } else { 128 };
    Some(if single { address.to_string() } else { format!("{address}/{bits}") })
}

/// Networks as Vault shows them, however they were stored.
pub(crate) fn canonical_networks(networks: &[String]) -> Vec<String> {
    networks.iter().map(|text| canonical_network(text).unwrap_or_else(|| text.clone())).collect()
}

fn split_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
            (address.parse::<IpAddr>().ok()?, Some(bits.parse().ok()?))
        }
        Some(_) => return None,
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    // An IPv4 network in IPv6 form is what it is, as an address in that form is.
    match address.to_canonical() {
        canonical if canonical.is_ipv4() && address.is_ipv6() && (96..=128).contains(&bits) => Some((canonical, bits - 96)),
        _ => (bits <= most).then_some((address, bits)),
    }
}

fn contains(network: &str, remote: IpAddr) -> bool {
    let Some((address, bits)) = split_network(network) else { return false };
    let (left, right, width) = match (address, remote.to_canonical()) {
        (IpAddr::V4(left), IpAddr::V4(right)) => (u128::from(u32::from(left)), u128::from(u32::from(right)), 32),
        (IpAddr::V6(left), IpAddr::V6(right)) => (u128::from(left), u128::from(right), 128),
        _ => return false,
    };
    let drop = u32::from(width - bits);
    left.checked_shr(drop).unwrap_or(0) == right.checked_shr(drop).unwrap_or(0)
}

pub(crate) fn token_key(id: TokenId) -> Key {
    Key::new(Space::Token, id.0.to_vec())
}

fn child_key(parent: TokenId, child: TokenId) -> Key {
    Key::new(Space::Index, [b"c", parent.0.as_slice(), child.0.as_slice()].concat())
}

/// What keys of that index begin with.
pub(crate) const LEASE_INDEX: u8 = b'p';

/// The index of everything that has a lease id, by that id: for listings and prefix revocation.
pub(crate) fn lease_index_key(lease_id: &str) -> Key {
    Key::new(Space::Index, [&[LEASE_INDEX], lease_id.as_bytes()].concat())
}

/// What the lease index says of an entry: token or secret, and its internal id. No secret, so it is not sealed.
pub(crate) fn index_value(kind: u8, id: Id) -> Vec<u8> {
    [&[kind], id.as_slice()].concat()
}

fn token_due(id: TokenId, at: Timestamp) -> Due {
    Due { shard: 0, at, id: [b"T", id.0.as_slice()].concat().into() }
}

/// `<path>/h<64 hex digits>`: the id, so that the row is found, and a keyed hash of it, so that it cannot be made up. The row has the path.
fn token_lease_id(path: &str, id: TokenId, rows: &Rows) -> String {
    let mac = rows.barrier().mac(Purpose::LeaseMac, &id.0);
    let tail = mac.get(..16).unwrap_or_default();
    format!("{path}/h{}{}", data_encoding::HEXLOWER.encode(&id.0), data_encoding::HEXLOWER.encode(tail))
}

/// Takes a token's lease id apart: a path, which nothing proves, and the id.
fn id_of_lease<'a>(lease_id: &'a str, rows: &Rows) -> Option<(&'a str, TokenId)> {
    let (path, tail) = lease_id.rsplit_once('/')?;
    let hex = tail.strip_prefix('h')?.get(..32)?;
    let id = TokenId(data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?);
    let genuine: bool = token_lease_id(path, id, rows).as_bytes().ct_eq(lease_id.as_bytes()).into();
    genuine.then_some((path, id))
}

/// The largest row of a token, sealed: its own metadata, that of the login it comes from, and as much again for all else.
const ROW_BYTES_MAX: usize = 4 * daypass_sdk::METADATA_BYTES_MAX;
const CONFLICTS_MAX: usize = 1_000;
const PAGE: usize = 500;
