//! A whole server in a test: the core with all engines, over a store of the test's choice, on a clock that stands still.
//!
//! Nothing waits for real time. The expiry worker sleeps on the simulated clock; [`TestServer::advance`] moves it and lets the worker
//! finish what has come due.

#![expect(clippy::expect_used, reason = "a test's scaffold fails by panicking, as its assertions do")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{Aws, FakeAws};
use daypass_barrier::{KeyFile, Share};
use daypass_base::Clock;
use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_core::{Core, Limits, MetricsShown, OwnFiles, Prefixing, SealKind, Settings, SystemTtls, Traced};
use daypass_engines::registry::{self, Outside};
use daypass_idp::ScriptedIdp;
use daypass_sdk::Factory;
use daypass_storage::sqlite::SqliteOptions;
use daypass_storage::{Backend, Key, MemoryBackend, Space, SqliteBackend};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ask::Ask;
use crate::log::TestLog;

/// What a server of a test is made of. The usual one: memory, one share, all engines, an AWS that makes credentials up.
#[derive(Clone)]
pub struct Setup {
    backend: Arc<dyn Backend>,
    clock: SimClock,
    aws: Arc<FakeAws>,
    other_aws: Option<Arc<dyn Aws>>,
    idp: Arc<ScriptedIdp>,
    shares: (i64, i64),
    seal: SealKind,
    seed: u64,
    more: Vec<Arc<dyn Fn() -> Factory + Send + Sync>>,
    folder: Option<Arc<TempDir>>,
    log: Arc<TestLog>,
    metrics: MetricsShown,
    limits: Limits,
    traces: Option<Traced>,
    own_files: OwnFiles,
}

impl Default for Setup {
    fn default() -> Self {
        let clock = SimClock::default();
        let aws = Arc::new(FakeAws::new(Arc::new(clock.clone())));
        Self {
            backend: Arc::new(MemoryBackend::new()),
            clock,
            aws,
            other_aws: None,
            idp: Arc::default(),
            shares: (1, 1),
            seal: SealKind::Shamir,
            seed: 7,
            more: Vec::new(),
            folder: None,
            log: Arc::default(),
            metrics: MetricsShown::default(),
            limits: Limits::default(),
            traces: None,
            own_files: OwnFiles::default(),
        }
    }
}

impl Setup {
    /// Over this store.
    #[must_use]
    pub fn over(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = backend;
        self
    }

    /// Over a SQLite file in a folder that goes away with the server.
    #[must_use]
    pub fn on_disk(mut self) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test's store");
        self.backend = SqliteBackend::open(&folder.path().join("daypass.db"), SqliteOptions::default()).expect("a new store");
        self.folder = Some(Arc::new(folder));
        self
    }

    /// With the root key in so many shares, so many of which are needed.
    #[must_use]
    pub fn shares(mut self, shares: i64, threshold: i64) -> Self {
        self.shares = (shares, threshold);
        self
    }

    /// With the root key under the key in this file, which is made where there is none.
    #[must_use]
    pub fn key_file(mut self, path: &Path) -> Self {
        if !path.exists() {
            KeyFile::at(path).create(&SeededEntropy::new(self.seed)).expect("a new key file");
        }
        self.seal = SealKind::KeyFile(path.to_owned());
        self
    }

    /// With other random numbers: another server, that shares no key with the usual one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With metrics shown like this.
    #[must_use]
    pub fn metrics(mut self, shown: MetricsShown) -> Self {
        self.metrics = shown;
        self
    }

    /// With these limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With traces of requests, for this one.
    #[must_use]
    pub fn traced(mut self, traced: Traced) -> Self {
        self.traces = Some(traced);
        self
    }

    /// With this beginning of its randomness.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With another engine type; it is made anew at each restart.
    #[must_use]
    pub fn engine(mut self, make: impl Fn() -> Factory + Send + Sync + 'static) -> Self {
        self.more.push(Arc::new(make));
        self
    }

    /// With this AWS instead of one that makes credentials up.
    #[must_use]
    pub fn aws(mut self, aws: Arc<dyn Aws>) -> Self {
        self.other_aws = Some(aws);
        self
    }

    /// With these files as its own.
    #[must_use]
    pub fn own_files(mut self, files: OwnFiles) -> Self {
        self.own_files = files;
        self
    }

    /// The clock that the server will have.
    #[must_use]
    pub fn clock(&self) -> SimClock {
        self.clock.clone()
    }

    /// A core of this make, sealed, and not initialised unless its store is.
    #[must_use]
    pub fn core(&self) -> Core {
        let aws = self.other_aws.clone().unwrap_or_else(|| Arc::clone(&self.aws) as Arc<_>);
        let outside = Outside { aws, idp: Arc::clone(&self.idp) as Arc<_> };
        let mut factories = registry::all(&outside);
        factories.extend(self.more.iter().map(|make| make()));
        let settings = Settings {
            ttls: SystemTtls::default(),
            limits: self.limits.clone(),
            version: "1.21.4+daypass.test".to_owned(),
            build_date: "2026-01-02T03:04:05Z".to_owned(),
            cluster_name: Some("test".to_owned()),
            seal: self.seal.clone(),
            audit_prefixing: Prefixing::default(),
            own_files: self.own_files.clone(),
            api_addr: "http://127.0.0.1:8200".to_owned(),
            sanitized: json!({}),
            metrics: self.metrics.clone(),
            log: Arc::clone(&self.log) as Arc<_>,
            traces: self.traces.clone(),
            connections: Arc::default(),
        };
        Core::new(Arc::clone(&self.backend), Arc::new(self.clock.clone()), Arc::new(SeededEntropy::new(self.seed)), settings, factories)
    }

    /// Starts the server and leaves it as it is: sealed, and not initialised unless its store is. Its root token is none.
    #[must_use]
    pub fn wait(self) -> TestServer {
        TestServer { core: self.core(), root: String::new(), shares: Vec::new(), setup: self }
    }

    /// Initialises the store and starts the server, unsealed.
    pub async fn start(self) -> TestServer {
        let core = self.core();
        let made = core.initialise(self.shares.0, self.shares.1).await.expect("a new store can be initialised");
        // Exposed to be presented by the test.
        let root = made.root_token.expose().clone();
        let server = TestServer { core, root, shares: made.shares, setup: self };
        server.unseal().await;
        server
    }
}

/// A running server.
pub struct TestServer {
    core: Core,
    root: String,
    shares: Vec<Share>,
    setup: Setup,
}

impl TestServer {
    /// The usual server: see [`Setup`].
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// Hands in as many shares as it takes, or lets the server open itself.
    pub async fn unseal(&self) {
        if self.shares.is_empty() {
            assert!(self.core.unseal_by_file().await.expect("the server's own key file opens it"));
        }
        for share in self.shares.iter().take(usize::try_from(self.setup.shares.1).unwrap_or(1)) {
            self.core.unseal(share.clone()).await.expect("the server's own shares open it");
        }
        self.settle().await;
    }

    /// The process dies without a word, and another one starts on what `backend` holds.
    pub async fn restart_over(self, backend: Arc<dyn Backend>) -> Self {
        let server = self.restart_sealed_over(backend);
        server.unseal().await;
        server
    }

    /// Like [`Self::restart_over`], but nobody has unsealed it yet.
    #[must_use]
    pub fn restart_sealed_over(self, backend: Arc<dyn Backend>) -> Self {
        let Self { core, root, shares, mut setup } = self;
        drop(core);
        setup.backend = backend;
        // Another process draws other random numbers.
        setup.seed += 1;
        Self { core: setup.core(), root, shares, setup }
    }

    /// Another server beside this one, over the same store and clock, unsealed.
    pub async fn beside(&self) -> Self {
        let mut setup = self.setup.clone();
        // Another process draws other random numbers.
        setup.seed += 1_000;
        let server = Self { core: setup.core(), root: self.root.clone(), shares: self.shares.clone(), setup };
        server.unseal().await;
        server
    }

    /// The process dies without a word, and another one starts on the same store.
    pub async fn restart(self) -> Self {
        let backend = Arc::clone(&self.setup.backend);
        self.restart_over(backend).await
    }

    /// Like [`Self::restart`], but nobody has unsealed it yet.
    #[must_use]
    pub fn restart_sealed(self) -> Self {
        let backend = Arc::clone(&self.setup.backend);
        self.restart_sealed_over(backend)
    }

    /// The core itself.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The AWS behind it.
    #[must_use]
    pub fn aws(&self) -> &FakeAws {
        &self.setup.aws
    }

    /// The identity providers around it.
    #[must_use]
    pub fn idp(&self) -> &ScriptedIdp {
        &self.setup.idp
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> &SimClock {
        &self.setup.clock
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &TestLog {
        &self.setup.log
    }

    /// The first root token.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The shares of the root key.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Where its SQLite file is, if it has one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.setup.folder.as_ref().map(|folder| folder.path())
    }

    /// A request with any method, HTTP's or Vault's, with the root token.
    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(&self.core, method, path, &self.root)
    }

    /// A read with the root token.
    pub fn get(&self, path: &str) -> Ask {
        self.ask("GET", path)
    }

    /// A list with the root token.
    pub fn list(&self, path: &str) -> Ask {
        self.ask("LIST", path)
    }

    /// A write with the root token; `Null` sends no body.
    pub fn put(&self, path: &str, body: Value) -> Ask {
        self.ask("PUT", path).json(&body)
    }

    /// A merge patch with the root token.
    pub fn patch(&self, path: &str, body: Value) -> Ask {
        self.ask("PATCH", path).header("content-type", "application/merge-patch+json").json(&body)
    }

    /// A deletion with the root token.
    pub fn delete(&self, path: &str) -> Ask {
        self.ask("DELETE", path)
    }

    /// Moves the clock and lets the background work finish what came due.
    pub async fn advance(&self, by: Duration) {
        self.setup.clock.advance(by);
        self.settle().await;
    }

    /// Moves the clock by so many seconds: see [`Self::advance`].
    pub async fn seconds(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds)).await;
    }

    /// Lets the background work finish what is due now: the clock moves on by the worker's own pause.
    pub async fn work(&self) {
        self.advance(WORKER_PAUSE).await;
    }

    /// Yields until nothing is due any more and the worker sleeps again. Gives up quietly when a store that fails leaves things due.
    async fn settle(&self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
            match self.setup.backend.due(0, self.setup.clock.now(), 1).await {
                Ok(due) if !due.is_empty() => {}
                _settled_or_broken => break,
            }
            // A store with a thread of its own needs the processor.
            let _given_way = tokio::task::spawn_blocking(std::thread::yield_now).await;
        }
        for _ in 0..YIELDS {
            tokio::task::yield_now().await;
        }
    }

    /// Writes a policy.
    pub async fn policy(&self, name: &str, text: &str) {
        self.put(&format!("sys/policies/acl/{name}"), json!({ "policy": text })).await.ok();
    }

    /// A new token, made from the root token with these fields of `auth/token/create`.
    pub async fn token(&self, fields: Value) -> String {
        self.put("auth/token/create", fields).await.ok().token()
    }

    /// A new token that may do everything, sudo paths too, without being root. It has no parent and no use limit.
    pub async fn operator(&self) -> String {
        let all = r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }"#;
        self.policy("everything", all).await;
        self.token(json!({ "policies": ["everything"], "no_parent": true, "ttl": "100h" })).await
    }

    /// The status of `auth/token/lookup-self` with a token: 200 while it is good.
    pub async fn status_of(&self, token: &str) -> u16 {
        self.get("auth/token/lookup-self").token(token).await.status
    }

    /// An AWS engine with a role `deploy` that any STS call may use.
    pub async fn mount_aws(&self, path: &str) {
        self.put(&format!("sys/mounts/{path}"), json!({ "type": "aws" })).await.ok();
        let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/deploy" });
        self.put(&format!("{path}/roles/deploy"), role).await.ok();
    }

    /// Every stored row of a space, keys and values as they lie in the store.
    pub async fn rows(&self, space: Space) -> Vec<(Vec<u8>, Vec<u8>)> {
        let everything = Key::new(space, Vec::new());
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.setup.backend.scan(&everything, after.as_deref(), 100_000).await.expect("the store can be read");
            rows.extend(page.rows.into_iter().map(|(key, row)| (key.to_vec(), row.value.to_vec())));
            if !page.more {
                return rows;
            }
            after = rows.last().map(|(key, _)| key.clone());
        }
    }

    /// Every stored key, its space before it, in order.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for space in [Space::Config, Space::Token, Space::Lease, Space::Index] {
            keys.extend(self.rows(space).await.into_iter().map(|(key, _)| format!("{space:?} {}", String::from_utf8_lossy(&key))));
        }
        keys
    }

    /// How many entries of the expiry index there are, due or not.
    pub async fn expiry_entries(&self) -> usize {
        let end = daypass_base::Timestamp::from_nanos(i64::MAX);
        self.setup.backend.due(0, end, 100_000).await.expect("the store can be read").len()
    }
}

/// How long the expiry worker sleeps when nothing is due.
pub const WORKER_PAUSE: Duration = Duration::from_millis(500);
/// Yields that surely let every ready task come to its next wait.
const YIELDS: usize = 40;
/// Some tenths of a second of real work at most.
const SETTLE_ROUNDS_MAX: usize = 20_000;
