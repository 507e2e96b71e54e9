//! What is left of `sys/`: the cluster's one node, and what only Vault Enterprise has.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Kind, Operation, Outcome, Reply, Result};
use serde_json::{Map, Value, json};

use super::Sys;
use super::mounts::Nothing;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    nodes().into_iter().chain(elsewhere()).collect()
}

fn nodes() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["ha-status"]).summary("List the nodes of the cluster.").on(Operation::Read, ha_status),
        Endpoint::at(["version-history/?"]).summary("List the versions that served this store.").on(Operation::List, version_history),
        Endpoint::at(["in-flight-req"]).summary("List the requests that are being answered.").bare().on(Operation::Read, in_flight),
        Endpoint::at(["activation-flags"])
            .summary("List features that have to be switched on: there are none.")
            .on(Operation::Read, activation_flags),
        Endpoint::at(["well-known/?"])
            .summary("List addresses below /.well-known/: there are none.")
            .on(Operation::Read, well_known)
            .on(Operation::List, well_known),
        Endpoint::at(["experiments"]).summary("List experiments.").on(Operation::Read, experiments),
        Endpoint::at(["replication/status", "replication/dr/status", "replication/performance/status"])
            .summary("Show the state of replication: there is none.")
            .public()
            .on(Operation::Read, replication_status),
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
        all(Endpoint::at(["namespaces/{path..}", "license/status/?", "control-group/{path..}", "managed-keys/{path..}"])
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

async fn ha_status(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let inner = sys.way.inner()?;
    let node = json!({
        "hostname": super::host::name().unwrap_or_default(),
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

async fn version_history(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let inner = sys.way.inner()?;
    let version = inner.settings.version.clone();
    let info = json!({ "build_date": inner.settings.build_date, "previous_version": null, "timestamp_installed": inner.started });
    let info: Map<String, Value> = Map::from_iter([(version.clone(), info)]);
    Ok(Reply::json(json!({ "keys": [version], "key_info": info })))
}

async fn in_flight(sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let inner = sys.way.inner()?;
    let now = cx.clock.now();
    let shown = inner.in_flight.list().into_iter().map(|flight| {
        let told = json!({
            "start_time": flight.started,
            "client_remote_address": flight.remote.map(|peer| peer.to_string()).unwrap_or_default(),
            "request_path": format!("/v1/{}", flight.path),
            "request_method": flight.method.as_str(),
            "client_id": "",
            "duration": format!("{:?}", now.since(flight.started)),
        });
        (flight.id, told)
    });
    Ok(Outcome::Bare(200, Value::Object(shown.collect())).into())
}

async fn activation_flags(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({ "activated": [], "unactivated": [] })))
}

/// Errors: `NotFound`, always.
async fn well_known(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Keys> {
    Ok(Keys(Vec::new()))
}

async fn experiments(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({ "available": [], "enabled": [] })))
}

async fn replication_status(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({ "mode": "disabled" })))
}
