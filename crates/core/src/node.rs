//! A node: the store, and what is in memory while it is unsealed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use daypass_audit::{DeviceHealth, OwnFiles, Prefixing};
use daypass_barrier::{Barrier, KeyFile, Seal, SealConfig, Share, Step};
use daypass_base::{Brief, Clock, Connections, Entropy, Limits, Secret, Timestamp};
use daypass_sdk::{CommitFailure, Error, Kind, Mounted, Result, Store};
use daypass_storage::{Backend, Batch, Condition, Key};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::audit::Audit;
use crate::cors::Cors;
use crate::ending::Outliving;
use crate::expiry::Overdue;
use crate::identity::{Identities, oidc};
use crate::keys::ceremony::Ceremonies;
use crate::keys::{HandedIn, Handout, Holders, KeyReaders, Keys, Prepared};
use crate::leases::Leases;
use crate::leases::ledger::Ledger;
use crate::lockout::Lockouts;
use crate::log::Log;
use crate::memory::Memory;
use crate::mints::Mints;
use crate::monitors::Monitors;
use crate::mounts::{Class, Live as LiveMount, MountConfig, MountRow, Removing, Requests, SystemTtls, Table, UnderWay};
use crate::policies::Policies;
use crate::quotas::Quotas;
use crate::revocation::Revocation;
use crate::rows::{Rows, config_key};
use crate::tokens::{Made, TokenRow, Tokens};
use crate::traces::Traced;
use crate::{ids, policies, rooms, view};

/// An engine type that can be mounted.
pub use daypass_sdk::Factory;

/// What the composition root decides.
pub struct Settings {
    /// Lifetimes that hold where a mount sets none.
    pub ttls: SystemTtls,
    /// Limits of requests.
    pub limits: Limits,
    /// The version that clients see and gate on: `1.21.4+daypass.0.1.0`.
    pub version: String,
    /// When this build was made, RFC 3339.
    pub build_date: String,
    /// A name for the cluster; made up at init when `None`.
    pub cluster_name: Option<String>,
    /// Where the root key is sealed.
    pub seal: SealKind,
    /// Whether file devices may have a prefix.
    pub audit_prefixing: Prefixing,
    /// The server's own files, which no audit device may write to.
    pub own_files: OwnFiles,
    /// Where clients reach this server: `http://127.0.0.1:8200`.
    pub api_addr: String,
    /// The configuration as `sys/config/state/sanitized` shows it.
    pub sanitized: serde_json::Value,
    /// How metrics are shown.
    pub metrics: MetricsShown,
    /// The log, to be followed and to be told how much to tell.
    pub log: Arc<dyn Log>,
    /// Who is told of requests that have ended; `None` where nothing is traced.
    pub traces: Option<Traced>,
    /// Those who count connections write here.
    pub connections: Arc<Connections>,
}

/// How `sys/metrics` shows metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsShown {
    /// What stands in their names in place of `vault`.
    pub prefix: String,
    /// Whether there is a text for Prometheus.
    pub prometheus: bool,
}

impl Default for MetricsShown {
    fn default() -> Self {
        Self { prefix: "vault".to_owned(), prometheus: true }
    }
}

/// How the root key is kept.
#[derive(Debug, Clone)]
pub enum SealKind {
    /// In shares that people hold.
    Shamir,
    /// Under a key in this file; the server unseals itself.
    KeyFile(std::path::PathBuf),
}

/// A server's core. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share. Rooms of the core hold it weakly.
pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) settings: Settings,
    pub(crate) factories: HashMap<(Class, &'static str), Factory>,
    pub(crate) unsealed: ArcSwapOption<Unsealed>,
    /// Shares handed in so far.
    pub(crate) unsealing: HandedIn,
    /// The right to change keys: see [`crate::keys`].
    pub(crate) keys: tokio::sync::Mutex<Keys>,
    /// Who has PGP keys read.
    pub(crate) key_readers: KeyReaders,
    /// What goes on after a seal.
    pub(crate) outliving: Outliving,
    /// Endpoints that answer in every state.
    pub(crate) status_room: Arc<dyn Mounted>,
    pub(crate) started: Timestamp,
    pub(crate) metrics: crate::metrics::Metrics,
    pub(crate) in_flight: crate::in_flight::InFlight,
    /// What fields of requests take.
    pub(crate) memory: Memory,
    /// What is known of the key file, for those who watch the seal.
    pub(crate) seal_watch: crate::keys::SealWatch,
    /// One snapshot is taken or restored at a time.
    pub(crate) snapshots: crate::snapshots::Turn,
    /// The runtime that the node was made on. Connections may have others, which background work would only hold up.
    home: Option<Handle>,
}

/// What is in memory while the node is unsealed.
pub(crate) struct Unsealed {
    pub(crate) rows: Rows,
    pub(crate) tokens: Tokens,
    pub(crate) leases: Leases,
    pub(crate) ledger: Ledger,
    pub(crate) mints: Mints,
    pub(crate) lockouts: Lockouts,
    pub(crate) tidying: crate::tidy::Tidying,
    pub(crate) revocation: Revocation,
    pub(crate) overdue: Overdue,
    pub(crate) cors: Cors,
    pub(crate) policies: Policies,
    pub(crate) identities: Identities,
    pub(crate) oidc: oidc::Oidc,
    pub(crate) quotas: Quotas,
    pub(crate) table: ArcSwap<Table>,
    pub(crate) audit: Audit,
    pub(crate) monitors: Monitors,
    pub(crate) cluster: Cluster,
    /// One change of the mount table at a time.
    pub(crate) mounting: tokio::sync::Mutex<()>,
    /// Moves of mounts that this process is at.
    pub(crate) moves: UnderWay,
    /// Who is at what is left of a mount.
    pub(crate) removing: Removing,
    /// Attempts at a root token or at new shares.
    pub(crate) ceremonies: tokio::sync::Mutex<Ceremonies>,
    /// The use of the newest data key as it was last stored.
    pub(crate) encryptions_kept: AtomicU64,
    /// Tells the background work to stop.
    pub(crate) stop: tokio::sync::watch::Sender<bool>,
    pub(crate) background: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

/// The cluster's name and id, made at init.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) id: String,
}

/// How far unsealing is, and with what seal: `sys/seal-status`.
#[derive(Debug, Clone, Default)]
pub struct SealStatus {
    /// `shamir` or `keyfile`.
    pub kind: String,
    /// Whether `sys/init` was done.
    pub initialised: bool,
    /// Whether it does not serve.
    pub sealed: bool,
    /// Shares needed.
    pub threshold: u8,
    /// Shares made.
    pub shares: u8,
    /// Shares handed in.
    pub progress: usize,
    /// Names the attempt.
    pub nonce: String,
}

/// What `sys/init` hands out, once.
#[derive(Debug)]
pub struct Initialised {
    /// For the people; with a key file none.
    pub shares: Vec<Share>,
    /// The first root token.
    pub root_token: Secret<String>,
}

impl Core {
    /// A core over a store, sealed.
    pub fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: Settings,
        factories: Vec<Factory>,
    ) -> Self {
        let metrics = crate::metrics::Metrics::new(factories.iter().map(|factory| factory.kind));
        let factories = factories.into_iter().map(|factory| ((class_of(&factory), factory.kind), factory)).collect();
        let started = clock.now();
        let inner = Arc::new_cyclic(|weak: &Weak<Inner>| Inner {
            memory: Memory::new(&settings.limits),
            backend,
            clock,
            entropy,
            settings,
            factories,
            unsealed: ArcSwapOption::empty(),
            unsealing: HandedIn::default(),
            keys: tokio::sync::Mutex::default(),
            key_readers: KeyReaders::default(),
            outliving: Outliving::default(),
            status_room: rooms::status::room(weak.clone()),
            started,
            metrics,
            in_flight: crate::in_flight::InFlight::default(),
            seal_watch: crate::keys::SealWatch::default(),
            snapshots: crate::snapshots::Turn::default(),
            home: Handle::try_current().ok(),
        });
        Self { inner }
    }

    /// How far unsealing is.
    pub async fn seal_status(&self) -> Result<SealStatus> {
        self.inner.seal_status().await
    }

    /// Sets the server up: keys, the first root token, the built-in mounts and policies, in one atomic step.
    /// Errors: `BadRequest` when that was done before or the numbers make no sense.
    pub async fn initialise(&self, shares: i64, threshold: i64) -> Result<Initialised> {
        let made = self.inner.initialise(shares, threshold, Holders::default()).await?;
        let Handout::Clear(shares) = made.shares else { return Err(Error::internal("nobody asked for encrypted shares")) };
        Ok(Initialised { shares, root_token: made.root_token })
    }

    /// Takes a share. Returns whether the node is now unsealed. Errors: `BadRequest` with Vault's texts.
    pub async fn unseal(&self, share: Share) -> Result<bool> {
        self.inner.unseal(share).await
    }

    /// Unseals with the key file. `false` when the seal is not of that kind or nothing is initialised.
    pub async fn unseal_by_file(&self) -> Result<bool> {
        self.inner.unseal_by_file().await
    }

    /// Forgets every key; requests are refused from here on. To be called at the end of the process on a sealed server as well: when this returns,
    /// nothing of the core uses the store any more.
    pub async fn seal(&self) {
        self.inner.seal().await;
    }

    /// The audit devices with their figures, by path; none while the node is sealed.
    pub fn audit_health(&self) -> Vec<DeviceHealth> {
        self.inner.unsealed.load().as_ref().map(|unsealed| unsealed.audit.health()).unwrap_or_default()
    }

    /// Ends answers that would go on for as long as their clients like. The server is about to stop: no new ones begin.
    pub async fn end_streams(&self) {
        self.inner.snapshots.end();
        if let Some(unsealed) = self.inner.unsealed.load_full() {
            unsealed.monitors.end().await;
        }
    }

    /// Reopens audit files, after a log rotation.
    pub async fn reopen_audit(&self) {
        if let Some(unsealed) = self.inner.unsealed.load_full() {
            unsealed.audit.reopen().await;
        }
    }
}

impl Unsealed {
    /// Whether it is being sealed: nothing is begun any more.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

impl Inner {
    pub(crate) fn unsealed(&self) -> Result<Arc<Unsealed>> {
        self.unsealed.load_full().ok_or_else(sealed)
    }

    pub(crate) async fn stored(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = config_key(key);
        let read = self.backend.get(&key).await.map_err(crate::rows::read_error)?;
        Ok(read.found.map(|row| row.value.to_vec()))
    }

    pub(crate) async fn seal_config(&self) -> Result<Option<SealConfig>> {
        let Some(json) = self.stored(SEAL_CONFIG).await? else { return Ok(None) };
        SealConfig::from_json(&json)
            .map(Some)
            .map_err(|error| Error::internal("the stored seal configuration is not readable").because(error))
    }

    pub(crate) async fn seal_status(&self) -> Result<SealStatus> {
        let kind = match self.settings.seal {
            SealKind::Shamir => "shamir",
            SealKind::KeyFile(_) => "keyfile",
        };
        let Some(config) = self.seal_config().await? else {
            return Ok(SealStatus { kind: kind.to_owned(), sealed: true, ..SealStatus::default() });
        };
        let sealed = self.unsealed.load().is_none();
        let progress = self.unsealing.progress().filter(|_| sealed);
        Ok(SealStatus {
            kind: config.seal_type().name().to_owned(),
            initialised: true,
            sealed,
            threshold: config.threshold(),
            shares: config.shares(),
            progress: progress.as_ref().map_or(0, |progress| progress.progress),
            nonce: progress.map(|progress| progress.nonce).unwrap_or_default(),
        })
    }

    /// For these holders. What goes out is encrypted before anything is stored: a server whose shares nobody has would be lost.
    pub(crate) async fn initialise(&self, shares: i64, threshold: i64, holders: Holders) -> Result<Prepared> {
        // Looked at before keys of strangers are read as well: where it was done they cost nothing.
        self.not_initialised().await?;
        let seal = match &self.settings.seal {
            SealKind::Shamir => Seal::Shamir(
                SealConfig::shamir(shares, threshold)
                    .map_err(|error| Error::bad_request(format!("invalid seal configuration: {error}")))?,
            ),
            SealKind::KeyFile(path) => Seal::KeyFile(KeyFile::at(path.clone())),
        };
        let shares_for = self.recipients(holders.shares, holders.from, "invalid seal configuration: ").await?;
        let root_for = self.recipients(holders.root.into_iter().collect(), holders.from, "root token encryption failed: ").await?;
        let _one_at_a_time = self.unsealing.lock().await;
        self.not_initialised().await?;
        let made = daypass_barrier::initialise(&seal, Arc::clone(&self.entropy), self.clock.now())
            .map_err(|error| Error::bad_request(format!("the keys could not be made: {error}")))?;
        let rows = Rows::new(Arc::clone(&self.backend), made.barrier.clone());
        let tokens = Tokens::new(rows.clone(), Arc::clone(&self.clock), Arc::clone(&self.entropy));
        // Written last in the order of decisions, first in the store: all of it is one batch.
        let mut batch = Batch::new()
            .require(config_key(SEAL_CONFIG), Condition::Absent)
            .put(config_key(SEAL_CONFIG), made.config.to_json())
            .put(config_key(SEALED_ROOT), made.sealed_root)
            .put(config_key(SEALED_KEYRING), made.sealed_keyring)
            .config_change();
        batch = rows.put_json(batch, config_key(MOUNTS), &self.builtin_mounts())?;
        batch = rows.put_json(batch, policies::key("default"), &policies::default_row())?;
        batch = rows.put_json(batch, config_key(CLUSTER), &self.new_cluster())?;
        let (root, batch) = tokens.root(batch, self.root_row())?;
        let shares = self.hand_out(&made.shares, &shares_for).await?;
        let root_token = root_for.first().map_or_else(|| Ok(root.text.clone()), |holder| self.for_holder(&root.text, holder))?;
        rows.commit(batch).await?;
        tracing::info!(seal = made.config.seal_type().name(), "the server is initialised");
        Ok(Prepared { shares, root_token })
    }

    async fn not_initialised(&self) -> Result<()> {
        match self.seal_config().await? {
            Some(_) => Err(Error::bad_request("Vault is already initialized")),
            None => Ok(()),
        }
    }

    fn new_cluster(&self) -> Cluster {
        let hex = data_encoding::HEXLOWER.encode(&self.entropy.bytes::<4>());
        let name = self.settings.cluster_name.clone().unwrap_or_else(|| format!("vault-cluster-{hex}"));
        Cluster { name, id: ids::uuid(&*self.entropy) }
    }

    pub(crate) fn root_row(&self) -> TokenRow {
        crate::tokens::row(vec!["root".to_owned()], "auth/token/root", "root", self.clock.now())
    }

    fn builtin_mounts(&self) -> Vec<MountRow> {
        let mount = |path: &str, class, kind: &str, description: &str, local, seal_wrap, headers: Option<&str>| MountRow {
            path: path.to_owned(),
            class,
            kind: kind.to_owned(),
            description: description.to_owned(),
            uuid: ids::uuid(&*self.entropy),
            accessor: self.new_accessor(class, kind),
            local,
            seal_wrap,
            external_entropy_access: false,
            options: None,
            config: MountConfig { passthrough_request_headers: headers.map(|name| vec![name.to_owned()]), ..MountConfig::default() },
            builtin: true,
            tainted: false,
            moving: None,
        };
        vec![
            mount("sys/", Class::Secret, "system", "system endpoints used for control, policy and debugging", false, true, Some("Accept")),
            mount("cubbyhole/", Class::Secret, "cubbyhole", "per-token private secret storage", true, false, None),
            mount("identity/", Class::Secret, "identity", "identity store", false, false, Some("Authorization")),
            mount("auth/token/", Class::Auth, "token", "token based credentials", false, false, None),
        ]
    }

    pub(crate) fn new_accessor(&self, class: Class, kind: &str) -> String {
        let hex = data_encoding::HEXLOWER.encode(&self.entropy.bytes::<4>());
        match class {
            Class::Auth => format!("auth_{kind}_{hex}"),
            Class::Secret => format!("{kind}_{hex}"),
        }
    }

    pub(crate) async fn unseal(self: &Arc<Self>, share: Share) -> Result<bool> {
        if self.unsealed.load().is_none() && self.unsealing.lock().await.is_none() {
            self.wait_for_delivery().await;
            // Here, so that whoever asks for the progress meanwhile is told.
            drop(self.keys_to_open().await);
        }
        let mut unsealing = self.unsealing.lock().await;
        if self.unsealed.load().is_some() {
            return Ok(true);
        }
        let Some(config) = self.seal_config().await? else { return Err(Error::bad_request("Vault is not initialized")) };
        // Held to the end: a change of keys that was in flight when the server was sealed is over then, and none begins.
        let mut keys = self.keys_to_open().await;
        if unsealing.is_none() {
            *unsealing = Some(self.unsealing(&mut keys, &config).await?);
        }
        let Some(state) = unsealing.as_mut() else { return Ok(false) };
        match state.submit(share, &*self.entropy).map_err(|error| Error::bad_request(error.to_string()))? {
            Step::Progress(_) | Step::Repeated(_) => Ok(false),
            Step::Ready(opened) => {
                // Read anew the next time, also when this goes wrong.
                *unsealing = None;
                self.settle_seal(&mut keys, opened.under).await?;
                self.open(opened.root).await?;
                self.foresee_next_start().await;
                Ok(true)
            }
        }
    }

    /// Forgets the shares handed in. Errors: `BadRequest` when there is nothing to forget.
    pub(crate) async fn reset_unseal(&self) -> Result<()> {
        if self.unsealed.load().is_some() {
            return Err(Error::bad_request("vault is unsealed"));
        }
        if let Some(state) = self.unsealing.lock().await.as_mut() {
            state.reset();
        }
        Ok(())
    }

    pub(crate) async fn open(self: &Arc<Self>, root: daypass_barrier::RootKey) -> Result<()> {
        let keyring = self.stored(SEALED_KEYRING).await?.ok_or_else(|| Error::internal("the keyring is missing from the store"))?;
        let barrier = Barrier::open_keyring(&keyring, root, Arc::clone(&self.entropy))
            .map_err(|error| Error::internal("the keyring does not open").because(error))?;
        self.open_with(barrier).await?;
        tracing::info!("the server is unsealed");
        Ok(())
    }

    /// Takes the store into use with these keys.
    pub(crate) async fn open_with(self: &Arc<Self>, barrier: Barrier) -> Result<()> {
        let rows = Rows::new(Arc::clone(&self.backend), barrier);
        let (cluster, _) =
            rows.get_json::<Cluster>(&config_key(CLUSTER)).await?.ok_or_else(|| Error::internal("the cluster's id is missing"))?;
        let table = self.read_table(&rows).await?;
        let audit = Audit::load(&rows, Arc::clone(&self.clock), self.settings.audit_prefixing, self.settings.own_files.clone()).await?;
        let tokens = Tokens::new(rows.clone(), Arc::clone(&self.clock), Arc::clone(&self.entropy));
        tokens.sweeps.reload(&rows).await?;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let unsealed = Arc::new(Unsealed {
            tokens,
            leases: Leases::new(rows.clone(), Arc::clone(&self.clock), Arc::clone(&self.entropy)),
            lockouts: Lockouts::new(LOCKOUT_ALIASES_MAX),
            tidying: crate::tidy::Tidying::default(),
            revocation: Revocation::load(&*self.backend).await?,
            overdue: Overdue::default(),
            cors: Cors::load(&rows).await?,
            quotas: Quotas::load(&rows).await?,
            ledger: Ledger::new(self.settings.limits.sts_leases_listed),
            mints: Mints::new(
                rows.clone(),
                Arc::clone(&self.clock),
                Arc::clone(&self.entropy),
                self.settings.limits.mints_kept,
                self.settings.limits.mint_retention,
            ),
            policies: Policies::new(rows.clone(), self.settings.limits.policy_sets_cached, self.settings.limits.policy_sets_bytes),
            identities: Identities::new(
                rows.clone(),
                Arc::clone(&self.clock),
                Arc::clone(&self.entropy),
                self.settings.limits.entities_cached,
            ),
            oidc: oidc::Oidc::new(rows.clone(), Arc::clone(&self.clock), Arc::clone(&self.entropy), &self.settings.api_addr),
            table: ArcSwap::from_pointee(table),
            audit,
            monitors: Monitors::default(),
            cluster,
            mounting: tokio::sync::Mutex::new(()),
            moves: UnderWay::default(),
            removing: Removing::default(),
            ceremonies: tokio::sync::Mutex::default(),
            encryptions_kept: AtomicU64::new(rows.barrier().encryptions()),
            stop,
            background: parking_lot::Mutex::default(),
            rows,
        });
        // Nobody is at them any more. Before the first request, which would find such a mount neither here nor there.
        rooms::sys::undo_interrupted_moves(self, &unsealed, unsealed.table.load().closed()).await;
        self.unsealed.store(Some(Arc::clone(&unsealed)));
        let counts = Arc::clone(unsealed.rows.leases());
        let (backend, clock, stop) = (Arc::clone(&self.backend), Arc::clone(&self.clock), stopped.clone());
        let counting = async move { counts.keep(backend, clock, stop).await };
        let expiry = crate::expiry::run(Arc::downgrade(self), stopped.clone());
        let ledger = crate::mints::run(Arc::downgrade(self), stopped);
        unsealed.background.lock().extend([self.apart(expiry), self.apart(counting), self.apart(ledger)]);
        Ok(())
    }

    /// Runs work in the background that takes long.
    pub(crate) fn apart(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        match &self.home {
            Some(home) => home.spawn(work),
            None => tokio::spawn(work),
        }
    }

    /// Reads the mount table from the store and builds its engines.
    async fn read_table(self: &Arc<Self>, rows: &Rows) -> Result<Table> {
        let (plain, config_version) = rows.get(&config_key(MOUNTS)).await?;
        let plain = plain.ok_or_else(|| Error::internal("the mount table is missing"))?;
        let stored: Vec<MountRow> = crate::rows::parse(&config_key(MOUNTS), &plain.value)?;
        let mounts = stored.into_iter().map(|row| self.mounted(row, Arc::default(), rows)).collect::<Result<Vec<_>>>()?;
        Ok(Table::new(mounts, config_version))
    }

    /// Reloads what is cached when the store's configuration is newer than the node's.
    pub(crate) async fn refresh(self: &Arc<Self>, unsealed: &Unsealed, config_version: u64) -> Result<()> {
        if unsealed.table.load().config_version >= config_version {
            return Ok(());
        }
        let _one_at_a_time = unsealed.mounting.lock().await;
        if unsealed.table.load().config_version >= config_version {
            return Ok(());
        }
        self.reload_table(unsealed).await
    }

    pub(crate) async fn reload_table(self: &Arc<Self>, unsealed: &Unsealed) -> Result<()> {
        let (plain, config_version) = unsealed.rows.get(&config_key(MOUNTS)).await?;
        let plain = plain.ok_or_else(|| Error::internal("the mount table is missing"))?;
        unsealed.cors.reload(&unsealed.rows).await?;
        unsealed.quotas.reload(&unsealed.rows).await?;
        unsealed.tokens.sweeps.reload(&unsealed.rows).await?;
        unsealed.revocation.reload(&*self.backend).await?;
        let old = unsealed.table.load_full();
        let stored: Vec<MountRow> = crate::rows::parse(&config_key(MOUNTS), &plain.value)?;
        let mut mounts = Vec::with_capacity(stored.len());
        for row in stored {
            let former = old.former(&row);
            // What an engine holds in memory is kept, wherever the mount is now. Two engines of one mount would know nothing of each other.
            let kept = former.filter(|former| self.has_same_engine(&former.row, &row));
            mounts.push(if let Some(kept) = kept {
                self.live(row, (Arc::clone(&kept.engine), Arc::clone(&kept.requests)), &unsealed.rows)
            } else {
                let requests = former.map(|former| Requests::after(&former.requests)).unwrap_or_default();
                self.mounted(row, Arc::new(requests), &unsealed.rows)?
            });
        }
        unsealed.table.store(Arc::new(Table::new(mounts, config_version)));
        Ok(())
    }

    /// Stores a changed mount table and takes it into use. The caller holds `mounting`.
    pub(crate) async fn change_mounts(
        self: &Arc<Self>,
        unsealed: &Unsealed,
        change: impl FnOnce(&mut Vec<MountRow>) -> Result<()>,
    ) -> Result<()> {
        Ok(self.change_mounts_and(unsealed, Batch::new(), change).await?)
    }

    /// [`Inner::change_mounts`], in one commit with what else is in the batch.
    pub(crate) async fn change_mounts_and(
        self: &Arc<Self>,
        unsealed: &Unsealed,
        batch: Batch,
        change: impl FnOnce(&mut Vec<MountRow>) -> Result<()>,
    ) -> Result<(), CommitFailure> {
        let key = config_key(MOUNTS);
        let stored = unsealed.rows.get_json::<Vec<MountRow>>(&key).await;
        let missing = || CommitFailure::Error(Error::internal("the mount table is missing"));
        let (mut stored, version) = stored.map_err(CommitFailure::Error)?.ok_or_else(missing)?;
        change(&mut stored).map_err(CommitFailure::Error)?;
        let batch = batch.require(key.clone(), Condition::Version(version)).config_change();
        let batch = unsealed.rows.put_json(batch, key, &stored).map_err(CommitFailure::Error)?;
        unsealed.rows.commit(batch).await?;
        self.reload_table(unsealed).await.map_err(CommitFailure::Error)
    }

    /// A mount with an engine made anew; `requests` knows of those to the engine before, if there was one.
    fn mounted(self: &Arc<Self>, row: MountRow, requests: Arc<Requests>, rows: &Rows) -> Result<LiveMount> {
        let engine = self.build(&row)?;
        Ok(self.live(row, (engine, requests), rows))
    }

    fn live(self: &Arc<Self>, row: MountRow, (engine, requests): (Arc<dyn Mounted>, Arc<Requests>), rows: &Rows) -> LiveMount {
        let mount = Arc::new(row.mount(self.settings.ttls));
        let store: Store = view::store(rows, view::mount_prefix(&row.uuid));
        let identity = oidc::speaker(self, &row);
        LiveMount { row, mount, engine, requests, store, identity }
    }

    /// Whether the engine of a mount would be built the same after a change of its row.
    fn has_same_engine(&self, former: &MountRow, row: &MountRow) -> bool {
        let Some(factory) = self.factory(row) else { return true };
        let option = |row: &MountRow, name: &str| row.options.as_ref().and_then(|options| options.get(name)).cloned();
        factory.built_from.iter().all(|name| option(former, name) == option(row, name))
    }

    /// Builds the engine of a mount. Errors: `BadRequest` when its type is unknown.
    pub(crate) fn build(self: &Arc<Self>, row: &MountRow) -> Result<Arc<dyn Mounted>> {
        if row.builtin
            && let Some(engine) = rooms::builtin(&row.kind, Arc::downgrade(self))
        {
            return Ok(engine);
        }
        let missing = || Error::bad_request(format!("plugin not found in the catalog: {}", Brief(&row.kind)));
        (self.factory(row).ok_or_else(missing)?.build)(&row.options.clone().unwrap_or_default())
    }

    fn factory(&self, row: &MountRow) -> Option<&Factory> {
        let found = self.factories.iter().find(|((class, kind), _)| *class == row.class && *kind == row.kind);
        found.map(|(_, factory)| factory)
    }

    /// `running_plugin_version` of every mount.
    pub(crate) fn engine_version(&self) -> String {
        let version = self.settings.version.split('+').next().unwrap_or_default();
        format!("v{version}+builtin.vault")
    }

    /// Types that can be mounted, by class.
    pub(crate) fn catalog(&self) -> BTreeMap<&'static str, Vec<&'static str>> {
        let mut out: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
        for (class, kind) in self.factories.keys() {
            let name = if *class == Class::Auth { "auth" } else { "secret" };
            out.entry(name).or_default().push(kind);
        }
        for kinds in out.values_mut() {
            kinds.sort_unstable();
        }
        out
    }
}

/// What asks for a store that is sealed, or is no longer this one's.
pub(crate) fn sealed() -> Error {
    Error::new(Kind::Sealed, "Vault is sealed")
}

fn class_of(factory: &Factory) -> Class {
    if factory.auth { Class::Auth } else { Class::Secret }
}

impl Tokens {
    /// The first root token, in the batch of the whole initialisation.
    fn root(&self, batch: Batch, row: TokenRow) -> Result<(Made, Batch)> {
        self.in_batch(batch, row)
    }
}

/// Keys of rows that are stored in clear or under the seal, and of the core's own settings.
pub(crate) const SEAL_CONFIG: &str = "core/seal-config";
pub(crate) const SEALED_ROOT: &str = "core/root-key";
pub(crate) const SEALED_KEYRING: &str = "core/keyring";
/// The rows that a seal is made of.
pub(crate) const SEAL_ROWS: [&str; 3] = [SEAL_CONFIG, SEALED_ROOT, SEALED_KEYRING];
const MOUNTS: &str = "core/mounts";
/// Aliases with failed logins that are remembered at one time.
const LOCKOUT_ALIASES_MAX: usize = 100_000;
const CLUSTER: &str = "core/cluster";

/// A key of the core's own configuration.
pub(crate) fn core_key(name: &str) -> Key {
    config_key(format!("core/{name}"))
}
