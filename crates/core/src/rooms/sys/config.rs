//! `sys/config`: cross-origin requests, the configuration as the server runs it, and headers of the web UI.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::Brief;
use daypass_base::lenient::{CommaList, StringList};
use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use daypass_storage::Batch;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;
use super::mounts::Nothing;
use crate::cors::Rules;
use crate::node::{Unsealed, core_key};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["config/cors"])
            .summary("Show, set or switch off cross-origin requests.")
            .help("A write switches them on for the origins that it names; a delete switches them off.")
            .sudo()
            .on(Operation::Read, read_cors)
            .on(Operation::Update, write_cors)
            .on(Operation::Delete, delete_cors),
        Endpoint::at(["config/state/sanitized"]).summary("Show the server's configuration without secrets.").on(Operation::Read, sanitized),
        Endpoint::at(["config/ui/headers/?"]).summary("List the headers of the web UI.").sudo().on(Operation::List, list_ui_headers),
        Endpoint::at(["config/ui/headers/{header:any}"])
            .summary("Show, set or remove a header of the web UI.")
            .sudo()
            .on(Operation::Read, read_ui_header)
            .on(Operation::Update, write_ui_header)
            .on(Operation::Delete, delete_ui_header),
        Endpoint::at(["config/group-policy-application", "config/control-group", "config/reload/license"])
            .summary("A feature of Vault Enterprise.")
            .on(Operation::Read, super::about::enterprise)
            .on(Operation::Update, super::about::enterprise)
            .on(Operation::Delete, super::about::enterprise),
    ]
}

/// Who may call from a browser.
#[derive(Debug, Deserialize, JsonSchema)]
struct CorsParams {
    /// Origins (`https://ci.example.com`), or `*` for all.
    #[serde(default)]
    allowed_origins: CommaList,
    /// Request headers that are allowed besides the usual ones.
    #[serde(default)]
    allowed_headers: CommaList,
    /// Kept for Vault's clients: a write always switches on.
    #[serde(default)]
    #[expect(dead_code, reason = "known, so that no warning is given")]
    enable: Option<bool>,
}

/// A header of the web UI.
#[derive(Debug, Deserialize, JsonSchema)]
struct UiHeader {
    /// Its name, in any case.
    header: String,
    /// Answer all values as a list.
    #[serde(default)]
    multivalue: bool,
}

/// A header of the web UI with its values.
#[derive(Debug, Deserialize, JsonSchema)]
struct UiHeaderWritten {
    /// Its name, in any case.
    header: String,
    /// Its values.
    #[serde(default)]
    values: StringList,
}

async fn read_cors(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let rules = unsealed.cors.rules();
    let shown = if rules.enabled {
        json!({ "enabled": true, "allowed_origins": rules.origins, "allowed_headers": rules.headers })
    } else {
        json!({ "enabled": false })
    };
    Ok(Reply::json(shown).at_top_level())
}

/// Errors: `Failed` without an origin.
async fn write_cors(sys: Arc<Sys>, _cx: Cx, params: CorsParams) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let rules = Rules::new(params.allowed_origins.0, params.allowed_headers.0)?;
    unsealed.cors.set(&unsealed.rows, rules).await
}

async fn delete_cors(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    unsealed.cors.set(&unsealed.rows, Rules::default()).await
}

async fn sanitized(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(sys.way.inner()?.settings.sanitized.clone()))
}

async fn list_ui_headers(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Keys> {
    let (_, unsealed) = sys.way.open()?;
    Ok(Keys(ui_headers(&unsealed).await?.into_keys().collect()))
}

/// Errors: `NotFound`.
async fn read_ui_header(sys: Arc<Sys>, _cx: Cx, params: UiHeader) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let values = ui_headers(&unsealed).await?.remove(&params.header.to_lowercase()).ok_or_else(Error::not_found)?;
    Ok(Reply::json(if params.multivalue { json!({ "values": values }) } else { json!({ "value": values.first() }) }))
}

/// Errors: `BadRequest` for a name that is no header, or one of the API's own.
async fn write_ui_header(sys: Arc<Sys>, _cx: Cx, params: UiHeaderWritten) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let name = params.header.to_lowercase();
    if name.starts_with("x-vault-") {
        return Err(Error::bad_request("X-Vault headers cannot be set"));
    }
    let bad = |text: String| Err(Error::bad_request(text));
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return bad(format!("{:?} is no name of a header", params.header));
    }
    if let Some(value) = params.values.0.iter().find(|value| http::HeaderValue::from_str(value).is_err()) {
        return bad(format!("{:?} cannot be the value of a header", Brief(value)));
    }
    if params.values.0.is_empty() {
        return bad("header values cannot be empty".to_owned());
    }
    let change = |headers: &mut UiHeaders| {
        headers.insert(name.clone(), params.values.0.clone());
        if headers.len() > UI_HEADERS_MAX {
            return Err(Error::bad_request(format!("more than {UI_HEADERS_MAX} headers")));
        }
        Ok(true)
    };
    change_ui_headers(&unsealed, change).await
}

async fn delete_ui_header(sys: Arc<Sys>, _cx: Cx, params: UiHeader) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    change_ui_headers(&unsealed, |headers| Ok(headers.remove(&params.header.to_lowercase()).is_some())).await
}

/// Headers with their values.
type UiHeaders = BTreeMap<String, Vec<String>>;

async fn ui_headers(unsealed: &Unsealed) -> Result<UiHeaders> {
    Ok(unsealed.rows.get_json(&core_key("ui-headers")).await?.map(|(headers, _)| headers).unwrap_or_default())
}

/// `change` says whether there is anything to store.
async fn change_ui_headers(unsealed: &Unsealed, change: impl Fn(&mut UiHeaders) -> Result<bool>) -> Result<()> {
    let decide = |stored: Option<UiHeaders>| {
        let mut headers = stored.unwrap_or_default();
        Ok(change(&mut headers)?.then_some(headers))
    };
    unsealed.rows.change(&core_key("ui-headers"), &Batch::new().config_change(), decide).await.map(drop)
}

const UI_HEADERS_MAX: usize = 100;
