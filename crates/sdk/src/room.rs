//! Rooms: an engine's endpoints with their routing, and a mount of it that the pipeline can call without knowing its type.

use std::collections::HashMap;
use std::sync::Arc;

use daypass_base::BoxFuture;
use serde_json::Value;

use crate::endpoint::{Endpoint, Input};
use crate::path::Captures;
use crate::{Cx, Declared, Engine, Form, LeaseInfo, LoginRole, Operation, Renewal, Reply, Result, spec};

/// The endpoints of an engine, ready for look-up. Made once per engine type and shared by all its mounts.
pub struct Room<E> {
    endpoints: Vec<Endpoint<E>>,
    /// Endpoint and pattern numbers by first literal, best rank first.
    by_literal: HashMap<&'static str, Vec<(usize, usize)>>,
    /// Those without a leading literal.
    open: Vec<(usize, usize)>,
}

/// Where a path leads inside a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Number of the endpoint.
    pub endpoint: usize,
    /// Which of its patterns it was.
    pub pattern: usize,
    /// What the path captured.
    pub captures: Captures,
}

/// Other paths to what a path leads to, which policies ask about as well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StandsFor {
    /// The paths below the mount.
    pub below: Vec<String>,
    /// Names of fields that mean nothing there.
    pub apart: &'static [&'static str],
    /// Operations that all do the same there; see [`Endpoint::alike`].
    pub alike: &'static [Operation],
    /// Whether the path itself is Vault's; see [`Endpoint::judged_as_one`].
    pub is_vaults: bool,
}

/// What an endpoint says of itself before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Support {
    /// Needs no token.
    pub public: bool,
    /// Needs a proof in place of a token: see [`Endpoint::on_proof`].
    pub on_proof: bool,
    /// Needs no right where it is about the presented token: see [`Endpoint::own_token`].
    pub own_token: bool,
    /// Needs `sudo`.
    pub sudo: bool,
    /// Has the operation.
    pub operation: bool,
    /// Can tell create from update.
    pub existence_check: bool,
    /// Speaks as AWS's SDKs want it: see [`Endpoint::for_aws_sdks`].
    pub for_aws_sdks: bool,
    /// Its work may take as long as it takes: see [`Endpoint::unhurried`].
    pub unhurried: bool,
    /// The operation changes nothing: see [`Endpoint::safe`].
    pub safe: bool,
    /// Its answers have no envelope, and are never wrapped: see [`Endpoint::bare`] and [`Endpoint::text`].
    pub bare: bool,
}

impl<E: Engine> Room<E> {
    /// The room of an engine type.
    #[must_use]
    pub fn new() -> Self {
        Self::of(E::endpoints())
    }

    fn of(endpoints: Vec<Endpoint<E>>) -> Self {
        let mut all: Vec<(Vec<u8>, usize, usize)> = Vec::new();
        for (number, endpoint) in endpoints.iter().enumerate() {
            for (which, pattern) in endpoint.patterns.iter().enumerate() {
                all.push((pattern.rank(), number, which));
            }
        }
        all.sort();
        let (mut by_literal, mut open) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for (_, number, which) in all {
            match endpoints.get(number).and_then(|endpoint| endpoint.patterns.get(which)).and_then(crate::Pattern::first_literal) {
                Some(literal) => by_literal.entry(literal).or_default().push((number, which)),
                None => open.push((number, which)),
            }
        }
        Self { endpoints, by_literal, open }
    }

    /// Finds the endpoint for a path below the mount.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Found> {
        let first = path.split('/').next().unwrap_or_default();
        let candidates = self.by_literal.get(first).into_iter().flatten().chain(&self.open);
        for (number, which) in candidates {
            let pattern = self.endpoints.get(*number)?.patterns.get(*which)?;
            if let Some(captures) = pattern.matches(path) {
                return Some(Found { endpoint: *number, pattern: *which, captures });
            }
        }
        None
    }
}

impl<E: Engine> Default for Room<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// A mounted engine, whatever its type.
pub trait Mounted: Send + Sync + 'static {
    /// Finds the endpoint for a path below the mount.
    fn find(&self, path: &str) -> Option<Found>;
    /// The pattern that the path matched, as OpenAPI writes it: what a path is called where the path itself is nobody's business.
    fn pattern(&self, found: &Found) -> Option<String>;
    /// What the endpoint says of itself.
    fn support(&self, found: &Found, operation: Operation) -> Support;
    /// Names, in lower case, of the operation's fields that read a text as a list: policies judge each part.
    fn comma_lists(&self, found: &Found, operation: Operation) -> &[String];
    /// Other paths to the same thing; see [`Endpoint::stands_for`]. Nothing for nearly all endpoints.
    fn stands_for(&self, found: &Found) -> StandsFor;
    /// Asks whether the thing exists; `None` when the endpoint cannot tell.
    fn exists(&self, found: &Found, cx: Cx, input: Input) -> Option<BoxFuture<'static, Result<bool>>>;
    /// Runs an operation.
    fn run(&self, found: &Found, cx: Cx, operation: Operation, input: Input) -> BoxFuture<'static, Result<Reply>>;
    /// Takes back a leased secret.
    fn revoke(&self, cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<()>>;
    /// Decides how long a leased secret may live on.
    fn renew(&self, cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<Renewal>>;
    /// Decides how long a login's token may live on.
    fn renew_login(&self, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>>;
    /// Whom a login claims to be; see [`Engine::login_alias`].
    fn login_alias(&self, below: &str, fields: &serde_json::Map<String, Value>) -> Option<String>;
    /// Which role a login is for; see [`Engine::login_role`].
    fn login_role(&self, below: &str, fields: &serde_json::Map<String, Value>) -> LoginRole;
    /// Regular work, about once a minute.
    fn tick(&self, cx: Cx) -> BoxFuture<'static, Result<()>>;
    /// The mount is being removed; see [`Engine::leave`].
    fn leave(&self, cx: Cx) -> BoxFuture<'static, ()>;
    /// Cached state is stale: configuration changed elsewhere.
    fn invalidate(&self);
    /// `path-help` for a path (`None`: the room's own page), with the OpenAPI part.
    fn help(&self, mount: &str, path: &str) -> Option<(String, Value)>;
    /// OpenAPI path items of all endpoints below `mount`.
    fn spec(&self, mount: &str) -> Vec<(String, Value)>;
    /// All that is declared, for documents and meta-tests.
    fn declared(&self) -> Vec<Declared>;
}

/// An engine in its room.
struct Instance<E> {
    engine: Arc<E>,
    room: Arc<Room<E>>,
}

impl<E: Engine> Room<E> {
    /// Mounts an engine in this room.
    pub fn mount(self: &Arc<Self>, engine: E) -> Arc<dyn Mounted> {
        Arc::new(Instance { engine: Arc::new(engine), room: Arc::clone(self) })
    }
}

impl<E: Engine> Instance<E> {
    fn endpoint(&self, found: &Found) -> Option<&Endpoint<E>> {
        self.room.endpoints.get(found.endpoint)
    }
}

impl<E: Engine> Mounted for Instance<E> {
    fn find(&self, path: &str) -> Option<Found> {
        self.room.find(path)
    }

    fn pattern(&self, found: &Found) -> Option<String> {
        self.endpoint(found)?.patterns.get(found.pattern).map(crate::Pattern::openapi)
    }

    fn support(&self, found: &Found, operation: Operation) -> Support {
        let endpoint = self.endpoint(found);
        Support {
            public: endpoint.is_some_and(|endpoint| endpoint.public),
            on_proof: endpoint.is_some_and(|endpoint| endpoint.on_proof),
            own_token: endpoint.is_some_and(|endpoint| endpoint.own_token),
            sudo: endpoint.is_some_and(|endpoint| endpoint.sudo),
            operation: endpoint.is_some_and(|endpoint| endpoint.action(operation).is_some()),
            existence_check: endpoint.is_some_and(Endpoint::has_existence_check),
            for_aws_sdks: endpoint.is_some_and(|endpoint| endpoint.for_aws_sdks),
            unhurried: endpoint.is_some_and(|endpoint| endpoint.unhurried),
            safe: !operation.writes() && endpoint.is_some_and(|endpoint| endpoint.safe),
            bare: endpoint.is_some_and(|endpoint| endpoint.form != Form::Envelope),
        }
    }

    fn comma_lists(&self, found: &Found, operation: Operation) -> &[String] {
        self.endpoint(found).and_then(|endpoint| endpoint.action(operation)).map_or(&[], |action| action.params.comma_lists())
    }

    fn stands_for(&self, found: &Found) -> StandsFor {
        let Some(endpoint) = self.endpoint(found) else { return StandsFor::default() };
        let is_other = |pattern: &&crate::Pattern| endpoint.patterns.get(found.pattern).is_none_or(|own| own.text() != pattern.text());
        let below = endpoint.stands_for.iter().filter(is_other).filter_map(|pattern| pattern.filled(&found.captures)).collect();
        let is_vaults = endpoint.patterns.get(found.pattern).is_some_and(|own| endpoint.vaults == Some(own.text()));
        StandsFor { below, apart: endpoint.apart, alike: endpoint.alike, is_vaults }
    }

    fn exists(&self, found: &Found, cx: Cx, input: Input) -> Option<BoxFuture<'static, Result<bool>>> {
        self.endpoint(found)?.check_exists(Arc::clone(&self.engine), cx, input)
    }

    fn run(&self, found: &Found, cx: Cx, operation: Operation, input: Input) -> BoxFuture<'static, Result<Reply>> {
        match self.endpoint(found) {
            Some(endpoint) => endpoint.run(Arc::clone(&self.engine), cx, operation, input),
            None => Box::pin(std::future::ready(Err(crate::Error::no_such_path()))),
        }
    }

    fn revoke(&self, cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<()>> {
        Arc::clone(&self.engine).revoke(cx, lease)
    }

    fn renew(&self, cx: Cx, lease: LeaseInfo) -> BoxFuture<'static, Result<Renewal>> {
        Arc::clone(&self.engine).renew(cx, lease)
    }

    fn renew_login(&self, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Arc::clone(&self.engine).renew_login(cx, internal)
    }

    fn login_alias(&self, below: &str, fields: &serde_json::Map<String, Value>) -> Option<String> {
        self.engine.login_alias(below, fields)
    }

    fn login_role(&self, below: &str, fields: &serde_json::Map<String, Value>) -> LoginRole {
        self.engine.login_role(below, fields)
    }

    fn tick(&self, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Arc::clone(&self.engine).tick(cx)
    }

    fn leave(&self, cx: Cx) -> BoxFuture<'static, ()> {
        Arc::clone(&self.engine).leave(cx)
    }

    fn invalidate(&self) {
        self.engine.invalidate();
    }

    fn help(&self, mount: &str, path: &str) -> Option<(String, Value)> {
        let found = if path.is_empty() { None } else { Some(self.room.find(path)?) };
        match found {
            None => Some((spec::room_page(E::SUMMARY, &self.declared()), spec::document(mount, self.spec(mount)))),
            Some(found) => {
                let declared = self.room.endpoints.get(found.endpoint)?.declared();
                let items = spec::paths([(found.endpoint, &declared)], mount, &|path| self.room.find(path).map(|found| found.endpoint));
                Some((spec::endpoint_page(&declared, path), spec::document(mount, items)))
            }
        }
    }

    fn spec(&self, mount: &str) -> Vec<(String, Value)> {
        let declared = self.declared();
        spec::paths(declared.iter().enumerate(), mount, &|path| self.room.find(path).map(|found| found.endpoint))
    }

    fn declared(&self) -> Vec<Declared> {
        self.room.endpoints.iter().map(Endpoint::declared).collect()
    }
}
