//! The server's log: `sys/monitor` follows it, `sys/loggers` sets how much it tells.

use std::sync::Arc;

use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Sys;
use super::mounts::Nothing;
use crate::log::{Level, LineFormat};
use crate::monitors::Reader;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["monitor"])
            .summary("Follow the server's log.")
            .help(
                "Log lines from now on, until the client leaves, its token ends, or the server is sealed. At most 8 follow at once. A client \
                 that reads too slowly loses lines and is told how many. There are no secrets in the log.",
            )
            .text(TEXT)
            .on(Operation::Read, monitor),
        Endpoint::at(["loggers"])
            .summary("See and set how much the server logs.")
            .help("Until the next start; the configuration's `log_level` holds from then on again.")
            .on(Operation::Read, levels)
            .on(Operation::Update, set_all)
            .on(Operation::Delete, reset_all),
        Endpoint::at(["loggers/{name}"])
            .summary("See and set how much one part of the server logs.")
            .help("Until the next start; the configuration's `log_level` holds from then on again.")
            .on(Operation::Read, level)
            .on(Operation::Update, set)
            .on(Operation::Delete, reset),
    ]
}

/// What is followed.
#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// `trace`, `debug`, `info`, `warn` or `error`: lines of this level and graver ones, whatever the server itself writes down.
    #[serde(default)]
    log_level: String,
    /// `standard` for people, or `json` for programs.
    #[serde(default)]
    log_format: String,
}

/// Errors: `BadRequest` with Vault's texts, `TooMany` when there are monitors enough.
async fn monitor(sys: Arc<Sys>, cx: Cx, wanted: Wanted) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let level = if wanted.log_level.is_empty() { Some(Level::Info) } else { Level::parse(&wanted.log_level) };
    let level = level.ok_or_else(|| Error::bad_request("unknown log level"))?;
    let format = match wanted.log_format.as_str() {
        "" | "standard" => LineFormat::Standard,
        "json" => LineFormat::Json,
        other => return Err(Error::bad_request(format!("unknown log format {:?}: it is standard or json", Brief(other)))),
    };
    let reader = Reader::of(&cx, &unsealed, &inner.clock)?;
    let lines = unsealed.monitors.begin(reader, || inner.settings.log.follow(level, format))?;
    Ok(Outcome::Stream(TEXT, lines).into())
}

/// One logger.
#[derive(Debug, Deserialize, JsonSchema)]
struct Named {
    /// The part of the server: `core`, `expiry`, `audit`.
    name: String,
}

/// How much is told.
#[derive(Debug, Deserialize, JsonSchema)]
struct All {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    level: Option<String>,
}

/// How much one logger tells.
#[derive(Debug, Deserialize, JsonSchema)]
struct One {
    /// The part of the server: `core`, `expiry`, `audit`.
    name: String,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    level: Option<String>,
}

async fn levels(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<Json<Map<String, Value>>> {
    let levels = sys.way.inner()?.settings.log.levels();
    Ok(Json(levels.into_iter().map(|(name, level)| (name.to_owned(), level.name().into())).collect()))
}

/// Errors: `BadRequest` when there is no such logger.
async fn level(sys: Arc<Sys>, _: Cx, named: Named) -> Result<Json<Map<String, Value>>> {
    let levels = sys.way.inner()?.settings.log.levels();
    let level = levels.get(named.name.as_str()).ok_or_else(|| no_logger(&named.name))?;
    Ok(Json(Map::from_iter([(named.name, level.name().into())])))
}

async fn set_all(sys: Arc<Sys>, _: Cx, all: All) -> Result<()> {
    let level = wanted(all.level.as_deref())?;
    change(&sys, None, Some(level))
}

async fn set(sys: Arc<Sys>, _: Cx, one: One) -> Result<()> {
    let level = wanted(one.level.as_deref())?;
    change(&sys, Some(&one.name), Some(level))
}

async fn reset_all(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    change(&sys, None, None)
}

async fn reset(sys: Arc<Sys>, _: Cx, named: Named) -> Result<()> {
    change(&sys, Some(&named.name), None)
}

/// Errors: `BadRequest` with Vault's texts.
fn wanted(level: Option<&str>) -> Result<Level> {
    match level {
        None => Err(Error::bad_request("level is required")),
        Some("") => Err(Error::bad_request("level is empty")),
        Some(text) => {
            Level::parse(text).ok_or_else(|| Error::bad_request(format!("invalid level provided: unknown log level: {}", Brief(text))))
        }
    }
}

fn change(sys: &Sys, logger: Option<&str>, level: Option<Level>) -> Result<()> {
    let changed = sys.way.inner()?.settings.log.set_level(logger, level);
    changed.map_err(|_no_such_logger| no_logger(logger.unwrap_or_default()))?;
    tracing::info!(logger = logger.unwrap_or("all"), level = level.map_or("that of the start", Level::name), "what is logged was changed");
    Ok(())
}

fn no_logger(name: &str) -> Error {
    Error::bad_request(format!("logger {name:?} not found"))
}
