//! Rate-limit quotas: how many requests a client may send to the whole server, to a mount, or to a path (`sys/quotas`). How many leases may
//! live is the affair of [`leases`].
//!
//! Where no quota is set, a request pays one atomic load. Of several quotas that fit, the most specific one alone counts.

mod buckets;
pub(crate) mod leases;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use daypass_base::Seconds;
use daypass_policy::{Folded, bare};
use daypass_sdk::{Error, LoginRole, Result};
use daypass_storage::{Batch, Condition, Key};
use serde::{Deserialize, Serialize};

use crate::node::core_key;
use crate::rows::Rows;
use buckets::{Buckets, Pace};
use leases::{LEASE_QUOTAS_MAX, LeaseQuotaRow};

/// The quotas of a server.
pub(crate) struct Quotas {
    in_force: ArcSwap<InForce>,
    /// Held for the moment in which what is in force is exchanged, never by a request.
    exchange: parking_lot::Mutex<()>,
    held: Arc<AtomicUsize>,
}

/// A quota as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct QuotaRow {
    pub(crate) name: String,
    /// The mount with its slash; empty is the whole server.
    pub(crate) mount: String,
    /// Below the mount; with `*` at the end a beginning.
    pub(crate) suffix: String,
    /// Logins for this role only; empty for all.
    pub(crate) role: String,
    pub(crate) rate: f64,
    pub(crate) interval: Seconds,
    pub(crate) block_interval: Seconds,
    pub(crate) inheritable: bool,
    pub(crate) group_by: GroupBy,
    /// Counts the writes: each write starts counting anew, on every node.
    pub(crate) revision: u64,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupBy {
    /// Those of one address, with IPv6 of one /64.
    Ip,
    /// All.
    None,
}

/// What holds for all quotas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuotaConfig {
    /// Paths that no quota counts; with `*` at the end all that begin so.
    pub(crate) exempt: Vec<String>,
    /// As `exempt`, from the server's root: the same here, where there are no namespaces.
    pub(crate) absolute_exempt: Option<Vec<String>>,
    pub(crate) audit: bool,
    pub(crate) headers: bool,
}

/// All of it, one row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) quotas: Vec<QuotaRow>,
    pub(crate) config: QuotaConfig,
    #[serde(default)]
    pub(crate) leases: Vec<LeaseQuotaRow>,
}

struct InForce {
    stored: Stored,
    version: u64,
    /// By mount; global ones under the empty text.
    by_mount: HashMap<String, Vec<Arc<Quota>>>,
}

struct Quota {
    row: QuotaRow,
    /// The row's `suffix` in the spelling that all others fold to, without `*`.
    folded: String,
    buckets: Buckets,
}

/// A request to a mount, as far as the mount's quotas ask.
struct Described<'a> {
    below: &'a str,
    /// The same folded; empty where no quota is for a path.
    folded: &'a str,
    role: LoginRole,
}

/// What the quotas say of a request.
pub(crate) struct Ruling {
    pub(crate) allowed: bool,
    /// For the answer, where that is configured.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Whether a refusal is put on record.
    pub(crate) audit: bool,
}

/// A request as quotas see it.
pub(crate) struct Asked<'a> {
    pub(crate) path: &'a str,
    /// The mount that serves it; empty for none.
    pub(crate) mount: &'a str,
    pub(crate) below: &'a str,
    /// The role that a login is for; asked only where a quota is for one.
    pub(crate) role: &'a (dyn Fn() -> LoginRole + Sync),
    pub(crate) address: Option<IpAddr>,
}

impl Quotas {
    /// Reads the stored quotas.
    pub(crate) async fn load(rows: &Rows) -> Result<Self> {
        let empty = InForce { stored: Stored::default(), version: 0, by_mount: HashMap::new() };
        let quotas = Self { in_force: ArcSwap::from_pointee(empty), exchange: parking_lot::Mutex::default(), held: Arc::default() };
        quotas.reload(rows).await?;
        Ok(quotas)
    }

    /// Reads the stored quotas again: another node may have changed them. Those that did not change go on counting.
    pub(crate) async fn reload(&self, rows: &Rows) -> Result<()> {
        let Some((stored, version)) = rows.get_json::<Stored>(&key()).await? else { return Ok(()) };
        let leases = stored.leases.clone();
        self.take(stored, version);
        rows.leases().set(&leases, version).await;
        Ok(())
    }

    fn take(&self, stored: Stored, version: u64) {
        let _one_at_a_time = self.exchange.lock();
        let old = self.in_force.load_full();
        if version <= old.version {
            return;
        }
        let known: HashMap<&str, &Arc<Quota>> = old.by_mount.values().flatten().map(|quota| (quota.row.name.as_str(), quota)).collect();
        let mut by_mount: HashMap<String, Vec<Arc<Quota>>> = HashMap::new();
        for row in &stored.quotas {
            let kept = known.get(row.name.as_str()).filter(|quota| quota.row == *row).map(|quota| Arc::clone(quota));
            let quota = kept.unwrap_or_else(|| Arc::new(Quota::new(row.clone(), Arc::clone(&self.held))));
            by_mount.entry(row.mount.clone()).or_default().push(quota);
        }
        self.in_force.store(Arc::new(InForce { stored, version, by_mount }));
    }

    /// What is stored, as it is in force.
    pub(crate) fn stored(&self) -> Stored {
        self.in_force.load().stored.clone()
    }

    /// Changes what is stored and takes it into use. `change` says whether there is anything to write; it is asked again when another request was
    /// faster.
    pub(crate) async fn change(&self, rows: &Rows, change: impl Fn(&mut Stored) -> Result<bool>) -> Result<()> {
        let decide = |stored: Option<Stored>| {
            let mut stored = stored.unwrap_or_default();
            if !change(&mut stored)? {
                return Ok(None);
            }
            if stored.quotas.len() > QUOTAS_MAX {
                return Err(Error::bad_request(format!("more than {QUOTAS_MAX} quotas; delete one first")));
            }
            if stored.leases.len() > LEASE_QUOTAS_MAX {
                return Err(Error::bad_request(format!("more than {LEASE_QUOTAS_MAX} lease-count quotas; delete one first")));
            }
            Ok(Some(stored))
        };
        match rows.change(&key(), &Batch::new().config_change(), decide).await? {
            Some(_stored) => self.reload(rows).await,
            None => Ok(()),
        }
    }

    /// Adds to a batch that a mount is gone, or has another path (`to`): its quotas go with it, in the same commit.
    pub(crate) async fn with_mount_moved(rows: &Rows, batch: Batch, from: &str, to: Option<&str>) -> Result<Batch> {
        let Some((mut stored, version)) = rows.get_json::<Stored>(&key()).await? else {
            return Ok(batch.require(key(), Condition::Absent));
        };
        let batch = batch.require(key(), Condition::Version(version));
        if stored.quotas.iter().all(|row| row.mount != from) && stored.leases.iter().all(|row| row.mount != from) {
            return Ok(batch);
        }
        if let Some(to) = to {
            stored.quotas.iter_mut().filter(|row| row.mount == from).for_each(|row| to.clone_into(&mut row.mount));
            stored.leases.iter_mut().filter(|row| row.mount == from).for_each(|row| to.clone_into(&mut row.mount));
        } else {
            stored.quotas.retain(|row| row.mount != from);
            stored.leases.retain(|row| row.mount != from);
        }
        rows.put_json(batch, key(), &stored)
    }

    /// Forgets what no longer counts: regular work.
    pub(crate) fn tidy(&self, now: Duration) {
        self.in_force.load().by_mount.values().flatten().for_each(|quota| quota.buckets.tidy(now));
    }

    /// Counts a request; `None` where no quota has a say.
    pub(crate) fn rule(&self, asked: &Asked<'_>, now: Duration) -> Option<Ruling> {
        let in_force = self.in_force.load();
        if in_force.by_mount.is_empty() || in_force.stored.config.exempts(asked.path) {
            return None;
        }
        let of_mount = in_force.by_mount.get(asked.mount).filter(|_| !asked.mount.is_empty()).map_or(&[][..], Vec::as_slice);
        let global = in_force.by_mount.get("").into_iter().flatten();
        // What costs something is found out only for those who ask.
        let folded = of_mount.iter().any(|quota| !quota.row.suffix.is_empty()).then(|| Folded::new(asked.below));
        let role = if of_mount.iter().any(|quota| !quota.row.role.is_empty()) { (asked.role)() } else { LoginRole::None };
        let described = Described { below: asked.below, folded: folded.as_ref().map_or("", Folded::as_str), role };
        let fitting = of_mount.iter().chain(global).filter_map(|quota| Some((quota.fit(&described)?, quota)));
        let (_, quota) = fitting.max_by_key(|(fit, _)| *fit)?;
        let address = asked.address.filter(|_| quota.row.group_by == GroupBy::Ip);
        let taken = quota.buckets.take(address, now);
        let config = &in_force.stored.config;
        let mut headers = Vec::new();
        if config.headers {
            // Rounded up: a client that waits so long is let in.
            let wait = taken.reset.as_secs() + u64::from(taken.reset.subsec_nanos() > 0);
            headers.push(("x-ratelimit-limit", taken.limit.to_string()));
            headers.push(("x-ratelimit-remaining", taken.remaining.to_string()));
            headers.push(("x-ratelimit-reset", wait.to_string()));
            if !taken.allowed {
                headers.push(("retry-after", wait.to_string()));
            }
        }
        Some(Ruling { allowed: taken.allowed, headers, audit: config.audit })
    }
}

impl Quota {
    fn new(row: QuotaRow, held: Arc<AtomicUsize>) -> Self {
        let suffix = row.suffix.strip_suffix('*');
        let folded = Folded::new(suffix.unwrap_or(&row.suffix)).as_str().to_owned();
        let folded = if suffix.is_some() { folded } else { bare(&folded).to_owned() };
        Self { buckets: Buckets::new(row.pace(), held), row, folded }
    }

    /// How closely it fits, more being closer; `None` when it does not. To some methods two spellings of a path or a role are the same thing, so none
    /// gets past a quota; of two quotas that differ in the spelling alone the one that says it as the request does is closer.
    fn fit(&self, asked: &Described<'_>) -> Option<(u8, u64)> {
        let row = &self.row;
        if !row.role.is_empty() {
            return self.fit_role(&asked.role);
        }
        if row.mount.is_empty() {
            return Some((0, 0));
        }
        match row.suffix.strip_suffix('*') {
            Some(beginning) => {
                let length = u64::try_from(beginning.len()).unwrap_or(0);
                asked.folded.starts_with(&self.folded).then(|| (2, 2 * length + u64::from(asked.below.starts_with(beginning))))
            }
            None if row.suffix.is_empty() => Some((1, 0)),
            None => (bare(asked.folded) == self.folded).then(|| (3, u64::from(asked.below.trim_end_matches('/') == row.suffix))),
        }
    }

    fn fit_role(&self, asked: &LoginRole) -> Option<(u8, u64)> {
        let quota = &self.row.role;
        match asked {
            LoginRole::None => None,
            LoginRole::Named(name) => (*name == quota.to_lowercase()).then(|| (4, u64::from(name == quota))),
            // It may be any: were it counted by none, leaving the role out would pass them all. The strictest of them counts.
            LoginRole::Unknown => Some((4, u64::MAX - self.row.per_million_seconds())),
        }
    }
}

impl QuotaRow {
    /// Requests that it allows.
    fn per_million_seconds(&self) -> u64 {
        self.pace().rate.saturating_mul(1_000_000) / self.interval.0.max(1)
    }

    fn pace(&self) -> Pace {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are checked to be above 0 and below a billion")]
        let rate = (self.rate.round() as u64).max(1);
        Pace { rate, interval: self.interval.duration(), block: self.block_interval.duration() }
    }

    /// Whether another quota would count the same requests.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.mount == other.mount && self.suffix == other.suffix && self.role == other.role
    }
}

impl QuotaConfig {
    fn exempts(&self, path: &str) -> bool {
        self.exempt.iter().chain(self.absolute_exempt.iter().flatten()).any(|exempt| match exempt.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path.trim_end_matches('/') == exempt.trim_end_matches('/'),
        })
    }
}

impl Default for QuotaConfig {
    /// As recorded.
    fn default() -> Self {
        Self { exempt: USUALLY_EXEMPT.iter().map(|path| (*path).to_owned()).collect(), absolute_exempt: None, audit: false, headers: false }
    }
}

fn key() -> Key {
    core_key("quotas")
}

const QUOTAS_MAX: usize = 1_000;
const USUALLY_EXEMPT: [&str; 7] = [
    "sys/generate-recovery-token/attempt",
    "sys/generate-recovery-token/update",
    "sys/generate-root/attempt",
    "sys/generate-root/update",
    "sys/health",
    "sys/seal-status",
    "sys/unseal",
];
