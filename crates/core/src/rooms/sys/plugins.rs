//! `sys/plugins`: the engines and methods that can be mounted. All of them are part of the server.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sys;
use super::mounts::Nothing;
use crate::mounts::{Class, Live, with_slash};
use crate::node::Inner;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["plugins/catalog"]).summary("List the engines and methods that can be mounted.").on(Operation::Read, catalog),
        Endpoint::at(["plugins/catalog/{kind}/?"])
            .summary("List the engines or methods of a kind.")
            .sudo()
            .on(Operation::List, catalog_of_kind),
        Endpoint::at(["plugins/catalog/{kind}/{name:any}"])
            .summary("Show an engine or method.")
            .help("All of them are part of the server: none can be added or removed.")
            .sudo()
            .on(Operation::Read, catalog_entry)
            .on(Operation::Update, no_registration)
            .on(Operation::Delete, no_registration),
        Endpoint::at(["plugins/pins"]).summary("List pinned versions: there are none.").on(Operation::Read, pins),
        Endpoint::at(["plugins/pins/{kind}/{name}"])
            .summary("Pin the version of an engine, which has but one.")
            .on(Operation::Read, no_pin)
            .on(Operation::Update, cannot_pin)
            .on(Operation::Delete, unpin),
        Endpoint::at(["plugins/reload/backend"])
            .summary("Have mounts forget what they hold in memory.")
            .help("Engines are part of the server, so nothing is started anew: what they cached is read from the store again.")
            .on(Operation::Update, reload_mounts),
        Endpoint::at(["plugins/reload/{kind}/{name}"])
            .summary("Have all mounts of an engine forget what they hold in memory.")
            .on(Operation::Update, reload_kind),
        Endpoint::at(["plugins/runtimes/catalog/?"])
            .summary("List container runtimes: there are none.")
            .sudo()
            .on(Operation::List, no_runtimes),
    ]
}

/// A kind of engine.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfKind {
    /// `auth`, `database` or `secret`.
    kind: String,
}

/// An engine or method.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfName {
    /// `auth`, `database` or `secret`.
    kind: String,
    /// The type that is mounted.
    name: String,
}

async fn catalog(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let inner = sys.way.inner()?;
    let all = known(&inner);
    let version = inner.engine_version();
    let detailed: Vec<Value> = all
        .iter()
        .flat_map(|(kind, names)| names.iter().map(move |name| (kind, name)))
        .map(|(kind, name)| json!({ "type": kind, "name": name, "version": version, "builtin": true, "deprecation_status": "supported" }))
        .collect();
    let mut data: Map<String, Value> = all.into_iter().map(|(kind, names)| (kind.to_owned(), json!(names))).collect();
    data.insert("detailed".to_owned(), detailed.into());
    Ok(Reply::data(data))
}

/// Errors: `WrongOperation` for a kind that does not exist, as Vault has it.
async fn catalog_of_kind(sys: Arc<Sys>, _cx: Cx, params: OfKind) -> Result<Keys> {
    let inner = sys.way.inner()?;
    let names = known(&inner).remove(params.kind.as_str()).ok_or_else(Error::wrong_operation)?;
    Ok(Keys(names.into_iter().map(str::to_owned).collect()))
}

/// Errors: `NotFound`.
async fn catalog_entry(sys: Arc<Sys>, _cx: Cx, params: OfName) -> Result<Reply> {
    let inner = sys.way.inner()?;
    let exists = known(&inner).get(params.kind.as_str()).is_some_and(|names| names.contains(&params.name.as_str()));
    if !exists {
        return Err(Error::not_found());
    }
    Ok(Reply::json(json!({
        "name": params.name,
        "args": null,
        "builtin": true,
        "command": "",
        "deprecation_status": "supported",
        "sha256": "",
        "version": inner.engine_version(),
    })))
}

/// Errors: `BadRequest`, always.
async fn no_registration(_sys: Arc<Sys>, _cx: Cx, _params: OfName) -> Result<()> {
    Err(Error::bad_request("engines are part of the server; external plugins cannot be registered or removed"))
}

async fn pins(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({ "pinned_versions": [] })))
}

fn known(inner: &Inner) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut all = inner.catalog();
    for kind in ["auth", "database", "secret"] {
        all.entry(kind).or_default();
    }
    all
}

/// An engine by class and type.
fn is_class(live: &Live, kind: &str) -> bool {
    matches!((live.row.class, kind), (Class::Auth, "auth") | (Class::Secret, "secret"))
}

/// Errors: `NotFound`, always.
async fn no_pin(_sys: Arc<Sys>, _cx: Cx, _params: OfName) -> Result<()> {
    Err(Error::not_found())
}

/// A version that is to be used alone.
#[derive(Debug, Deserialize, JsonSchema)]
struct Pin {
    /// `auth`, `database` or `secret`.
    kind: String,
    /// The type that is mounted.
    name: String,
    /// The version: `v1.2.3`.
    #[serde(default)]
    version: String,
}

/// Errors: `BadRequest`, always.
async fn cannot_pin(_sys: Arc<Sys>, _cx: Cx, pin: Pin) -> Result<()> {
    let Pin { kind, name, version } = pin;
    Err(Error::bad_request(format!(
        "{:?} of the {kind} plugin {name:?} cannot be pinned: engines are part of the server and have one version",
        Brief(&version)
    )))
}

async fn unpin(_sys: Arc<Sys>, _cx: Cx, _params: OfName) -> Result<()> {
    Ok(())
}

/// Errors: `NotFound`, always.
async fn no_runtimes(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Keys> {
    Ok(Keys(Vec::new()))
}

/// What is to forget what it holds.
#[derive(Debug, Deserialize, JsonSchema)]
struct Reload {
    /// The type of engines, all of whose mounts are meant.
    #[serde(default)]
    plugin: String,
    /// Mounts: `aws/`, `auth/approle/`.
    #[serde(default)]
    mounts: CommaList,
    /// `global`, or empty: every node reads the store anew by itself.
    #[serde(default)]
    scope: String,
}

/// Errors: `BadRequest`, with Vault's texts.
async fn reload_mounts(sys: Arc<Sys>, cx: Cx, reload: Reload) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    match (reload.plugin.is_empty(), reload.mounts.0.is_empty()) {
        (false, false) => return Err(Error::bad_request("plugin and mounts cannot be set at the same time")),
        (true, true) => return Err(Error::bad_request("one of plugin or mounts must be provided")),
        _ => {}
    }
    let table = unsealed.table.load();
    let mut meant: Vec<Arc<Live>> = Vec::new();
    for mount in &reload.mounts.0 {
        let path = with_slash(mount.trim_start_matches('/'));
        let live = table.exact(&path).ok_or_else(|| Error::bad_request(format!("no mount at {:?}", Brief(&path))))?;
        meant.push(Arc::clone(live));
    }
    meant.extend(table.all().filter(|live| !reload.plugin.is_empty() && live.row.kind == reload.plugin).cloned());
    reloaded(&cx, &meant, &reload.scope)
}

/// All mounts of an engine.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReloadKind {
    /// `auth`, `database` or `secret`.
    kind: String,
    /// The type that is mounted.
    name: String,
    /// `global`, or empty: every node reads the store anew by itself.
    #[serde(default)]
    scope: String,
}

/// Errors: `BadRequest` for a scope that does not exist.
async fn reload_kind(sys: Arc<Sys>, cx: Cx, reload: ReloadKind) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let table = unsealed.table.load();
    let meant: Vec<Arc<Live>> = table.all().filter(|live| is_class(live, &reload.kind) && live.row.kind == reload.name).cloned().collect();
    reloaded(&cx, &meant, &reload.scope)
}

fn reloaded(cx: &Cx, meant: &[Arc<Live>], scope: &str) -> Result<Reply> {
    if !scope.is_empty() && scope != "global" {
        return Err(Error::bad_request("reload scope must be omitted or 'global'"));
    }
    for live in meant {
        live.engine.invalidate();
    }
    Ok(Reply::json(json!({ "reload_id": cx.request.id })))
}
