//! `sys/audit`: audit devices; `sys/audit-hash`: values as a device writes them; `sys/config/auditing`: which request headers are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_audit::{DeviceConfig, HeaderRules};
use daypass_base::Secret;
use daypass_base::lenient::KvPairs;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sys;
use super::mounts::Nothing;
use crate::audit::StoredHeaders;
use crate::ids;
use crate::mounts::with_slash;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["audit"]).summary("List the enabled audit devices.").sudo().on(Operation::Read, list),
        Endpoint::at(["audit/{path..}"])
            .summary("Enable or disable an audit device.")
            .help(
                "A device is enabled when it has written a first record. While any is enabled, a request that none can record is refused.",
            )
            .sudo()
            .on(Operation::Update, enable)
            .on(Operation::Delete, disable),
        Endpoint::at(["audit-hash/{path..}"])
            .summary("Hash a value as an audit device does, to find it in its log.")
            .on(Operation::Update, hash),
        Endpoint::at(["config/auditing/request-headers"])
            .summary("List the request headers that are audited.")
            .sudo()
            .on(Operation::Read, list_headers),
        Endpoint::at(["config/auditing/request-headers/{header:any}"])
            .summary("Show, set or remove a request header that is audited.")
            .sudo()
            .on(Operation::Read, read_header)
            .on(Operation::Update, write_header)
            .on(Operation::Delete, delete_header),
    ]
}

/// A device to enable.
#[derive(Debug, Deserialize, JsonSchema)]
struct Device {
    /// Its name.
    path: String,
    /// `file`, `socket` or `syslog`.
    #[serde(default, rename = "type")]
    kind: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// Kept for Vault's clients: every device is of this node.
    #[serde(default)]
    local: bool,
    /// All: `format` (`json`, `jsonx`), `prefix`, `hmac_accessor`, `log_raw`, `elide_list_responses`, `skip_test`. A file: `file_path` (also
    /// `stdout` or `discard`), `mode`. A socket: `address`, `socket_type` (`tcp`, `udp`, `unix`), `write_timeout`. Syslog: `facility`, `tag`.
    #[serde(default)]
    options: KvPairs,
}

/// The name of a device.
#[derive(Debug, Deserialize, JsonSchema)]
struct DevicePath {
    /// The device.
    path: String,
}

/// A value to hash.
#[derive(Debug, Deserialize, JsonSchema)]
struct Hashed {
    /// The device.
    path: String,
    /// The value.
    #[serde(default)]
    input: Secret<String>,
}

/// A request header.
#[derive(Debug, Deserialize, JsonSchema)]
struct Header {
    /// The header, in any case.
    header: String,
}

/// A request header to audit.
#[derive(Debug, Deserialize, JsonSchema)]
struct HeaderWritten {
    /// The header, in any case.
    header: String,
    /// Whether its values are hashed.
    #[serde(default)]
    hmac: bool,
}

async fn list(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let mut data = Map::new();
    for device in unsealed.audit.broker().list() {
        let shown = json!({
            "type": device.device_type,
            "path": device.path,
            "description": device.description,
            "local": device.local,
            "options": device.options,
        });
        data.insert(device.path, shown);
    }
    Ok(Reply::data(data).at_top_level())
}

/// Errors: `BadRequest` with the reason when the device does not work.
async fn enable(sys: Arc<Sys>, cx: Cx, params: Device) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let config = DeviceConfig {
        path: with_slash(&params.path),
        device_type: params.kind,
        description: params.description,
        local: params.local,
        options: params.options.0,
    };
    unsealed.audit.enable(config, &cx.request.id, ids::uuid(&*cx.entropy)).await
}

/// Disables a device; one that does not exist is no error.
async fn disable(sys: Arc<Sys>, _cx: Cx, params: DevicePath) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    unsealed.audit.disable(&with_slash(&params.path)).await
}

/// Errors: `BadRequest` for an unknown device or an empty value.
async fn hash(sys: Arc<Sys>, _cx: Cx, params: Hashed) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    // Exposed to be hashed.
    let hash = unsealed.audit.broker().hash(&params.path, params.input.expose());
    let hash = hash.map_err(|error| Error::bad_request(error.to_string()))?;
    Ok(Reply::json(json!({ "hash": hash })).at_top_level())
}

async fn list_headers(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let headers: Map<String, Value> =
        effective(&unsealed.audit.headers().await?).into_iter().map(|(name, hmac)| (name, json!({ "hmac": hmac }))).collect();
    Ok(Reply::json(json!({ "headers": headers })).at_top_level())
}

/// Errors: `BadRequest` for a header that is not audited.
async fn read_header(sys: Arc<Sys>, _cx: Cx, params: Header) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let name = params.header.to_lowercase();
    let headers = effective(&unsealed.audit.headers().await?);
    let hmac = headers.get(&name).ok_or_else(|| Error::bad_request("Could not find header in config"))?;
    Ok(Reply::data(Map::from_iter([(name, json!({ "hmac": hmac }))])).at_top_level())
}

/// Errors: `BadRequest` when there are too many.
async fn write_header(sys: Arc<Sys>, _cx: Cx, params: HeaderWritten) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let change = |headers: &mut StoredHeaders| {
        headers.insert(params.header.to_lowercase(), params.hmac);
        if headers.len() > daypass_audit::headers::HEADER_RULES_MAX {
            return Err(Error::bad_request(format!("{} headers are audited, the most that there may be", headers.len() - 1)));
        }
        Ok(true)
    };
    unsealed.audit.change_headers(change).await
}

async fn delete_header(sys: Arc<Sys>, _cx: Cx, params: Header) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    unsealed.audit.change_headers(|headers| Ok(headers.remove(&params.header.to_lowercase()).is_some())).await
}

/// The stored headers and those that are always written.
fn effective(stored: &BTreeMap<String, bool>) -> BTreeMap<String, bool> {
    let rules = HeaderRules::new(stored.iter().map(|(name, hmac)| (name.clone(), daypass_audit::HeaderRule { hmac: *hmac })).collect());
    rules.iter().map(|(name, rule)| (name.to_owned(), rule.hmac)).collect()
}
