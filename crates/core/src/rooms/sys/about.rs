//! What is left of `sys/`: the encryption key, the catalog of engines, the cluster's one node, and what only Vault Enterprise has.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::Seconds;
use daypass_sdk::{Cx, Endpoint, Error, Keys, Kind, Operation, Outcome, Reply, Result};
use daypass_storage::{Batch, Condition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Sys;
use super::mounts::Nothing;
use crate::node::{Inner, Unsealed, core_key};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    keys().into_iter().chain(nodes()).chain(plugins()).chain(elsewhere()).collect()
}

fn keys() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["key-status"]).summary("Show the encryption key in use.").on(Operation::Read, key_status),
        Endpoint::at(["rotate", "rotate/keyring"])
            .summary("Start a new encryption key.")
            .help("What was sealed under older keys stays readable; what is written from now on is sealed under the new one.")
            .sudo()
            .on(Operation::Update, rotate),
        Endpoint::at(["rotate/config", "rotate/keyring/config"])
            .summary("Show or set when a new encryption key is started by itself.")
            .on(Operation::Read, read_rotation)
            .on(Operation::Update, write_rotation),
    ]
}

fn nodes() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["ha-status"]).summary("List the nodes of the cluster.").on(Operation::Read, ha_status),
        Endpoint::at(["host-info"]).summary("Show the machine that the server runs on.").on(Operation::Read, host_info),
        Endpoint::at(["version-history/?"]).summary("List the versions that served this store.").on(Operation::List, version_history),
        Endpoint::at(["in-flight-req"]).summary("List the requests that are being answered.").bare().on(Operation::Read, in_flight),
        Endpoint::at(["experiments"]).summary("List experiments.").on(Operation::Read, experiments),
        Endpoint::at(["replication/status", "replication/dr/status", "replication/performance/status"])
            .summary("Show the state of replication: there is none.")
            .public()
            .on(Operation::Read, replication_status),
    ]
}

fn plugins() -> Vec<Endpoint<Sys>> {
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
    ]
}

fn elsewhere() -> Vec<Endpoint<Sys>> {
    let all = |endpoint: Endpoint<Sys>| {
        endpoint
            .on(Operation::Read, enterprise)
            .on(Operation::List, enterprise)
            .on(Operation::Update, enterprise)
            .on(Operation::Patch, enterprise)
            .on(Operation::Delete, enterprise)
    };
    vec![
        Endpoint::at(["namespaces/?"]).summary("A feature of Vault Enterprise.").on(Operation::List, enterprise),
        all(Endpoint::at([
            "namespaces/{path..}",
            "license/status/?",
            "control-group/{path..}",
            "managed-keys/{path..}",
            "quotas/lease-count/{path..?}",
        ])
        .summary("A feature of Vault Enterprise.")),
        Endpoint::at(["raw/{path..?}"])
            .summary("Raw access to the store, which is not offered.")
            .sudo()
            .on(Operation::Read, not_offered)
            .on(Operation::List, not_offered)
            .on(Operation::Update, not_offered)
            .on(Operation::Delete, not_offered),
    ]
}

/// A feature of Vault Enterprise. Errors: 404 `enterprise-only feature`, always.
pub(super) async fn enterprise(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<()> {
    Err(enterprise_only())
}

/// What the community edition says of such paths.
pub(super) fn enterprise_only() -> Error {
    Error::new(Kind::NoSuchPath, "enterprise-only feature")
}

async fn not_offered(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<()> {
    Err(Error::no_such_path())
}

async fn key_status(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let status = unsealed.rows.barrier().status();
    let shown = json!({ "term": status.term, "install_time": status.installed, "encryptions": status.encryptions });
    Ok(Reply::json(shown).at_top_level())
}

/// Errors: `Failed` when another request rotates at the same moment.
async fn rotate(sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let barrier = unsealed.rows.barrier();
    let key = core_key("keyring");
    let read = unsealed.rows.backend().get(&key).await.map_err(crate::rows::read_error)?;
    let version = read.found.ok_or_else(|| Error::internal("the keyring is missing from the store"))?.version;
    let rotation = barrier.rotate(cx.clock.now()).map_err(|error| Error::internal("no new key could be made").because(error))?;
    // The keyring is under the root key already: it is stored as it is, not sealed once more.
    let batch = Batch::new().require(key.clone(), Condition::Version(version)).put(key, rotation.sealed().to_vec());
    unsealed.rows.commit(batch).await?;
    barrier.install(rotation).map_err(|error| Error::internal("the new key is stored but not in use").because(error))
}

/// When a new key is started by itself, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rotation {
    enabled: bool,
    max_operations: i64,
    interval: Seconds,
}

/// When a new key is to be started by itself; what is absent stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
struct RotationParams {
    /// Whether it happens at all.
    enabled: Option<bool>,
    /// After how many encryptions, 1000000 to 3865470566.
    max_operations: Option<i64>,
    /// After how long, at least 24 hours; 0 is never.
    interval: Option<Seconds>,
}

async fn read_rotation(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let rotation = stored_rotation(&unsealed).await?;
    let interval = rotation.interval.set().map_or_else(|| json!(0), |interval| json!(interval.to_string()));
    Ok(Reply::json(json!({ "enabled": rotation.enabled, "max_operations": rotation.max_operations, "interval": interval })))
}

/// Errors: `BadRequest` for numbers out of range.
async fn write_rotation(sys: Arc<Sys>, _cx: Cx, params: RotationParams) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let mut rotation = stored_rotation(&unsealed).await?;
    rotation.enabled = params.enabled.unwrap_or(rotation.enabled);
    rotation.max_operations = params.max_operations.unwrap_or(rotation.max_operations);
    rotation.interval = params.interval.unwrap_or(rotation.interval);
    if !(OPERATIONS_MIN..=OPERATIONS_MAX).contains(&rotation.max_operations) {
        return Err(Error::bad_request(format!("max_operations must be in the range [{OPERATIONS_MIN},{OPERATIONS_MAX}]")));
    }
    if !rotation.interval.is_zero() && rotation.interval < INTERVAL_MIN {
        return Err(Error::bad_request(format!("interval must be greater or equal to {INTERVAL_MIN}")));
    }
    let batch = unsealed.rows.put_json(Batch::new(), core_key("rotation"), &rotation)?;
    unsealed.rows.commit(batch).await?;
    Ok(())
}

async fn stored_rotation(unsealed: &Unsealed) -> Result<Rotation> {
    let usual = Rotation { enabled: true, max_operations: OPERATIONS_MAX, interval: Seconds::ZERO };
    Ok(unsealed.rows.get_json(&core_key("rotation")).await?.map_or(usual, |(rotation, _)| rotation))
}

async fn ha_status(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let inner = sys.way.inner()?;
    let node = json!({
        "hostname": "",
        "api_address": inner.settings.api_addr,
        "cluster_address": "",
        "active_node": true,
        "last_echo": null,
        "echo_duration_ms": 0,
        "clock_skew_ms": 0,
        "replication_primary_canary_age_ms": 0,
        "version": inner.settings.version,
        "upgrade_version": "",
        "redundancy_zone": "",
    });
    Ok(Reply::json(json!({ "nodes": [node] })).at_top_level())
}

async fn host_info(_sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({
        "timestamp": cx.clock.now(),
        "cpu": null,
        "cpu_times": null,
        "disk": null,
        "host": { "os": std::env::consts::OS, "kernelArch": std::env::consts::ARCH },
        "memory": null,
    })))
}

async fn version_history(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let inner = sys.way.inner()?;
    let version = inner.settings.version.clone();
    let info = json!({ "build_date": inner.settings.build_date, "previous_version": null, "timestamp_installed": inner.started });
    let info: Map<String, Value> = Map::from_iter([(version.clone(), info)]);
    Ok(Reply::json(json!({ "keys": [version], "key_info": info })))
}

async fn in_flight(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Outcome::Bare(200, json!({})).into())
}

async fn experiments(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({ "available": [], "enabled": [] })))
}

async fn replication_status(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({ "mode": "disabled" })))
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

const OPERATIONS_MIN: i64 = 1_000_000;
/// What one AES-GCM key may seal under random nonces, with a margin; the barrier keeps it in any case.
const OPERATIONS_MAX: i64 = 3_865_470_566;
const INTERVAL_MIN: Seconds = Seconds(86_400);
