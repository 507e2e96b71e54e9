//! `sys/capabilities`: what a token may do on paths. Asks the same decision maker that judges requests.

use std::sync::Arc;

use daypass_base::Secret;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Kind, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};

use super::Sys;
use crate::node::Unsealed;
use crate::tokens::Known;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    let help = "Answers one list per path, and the same list again as `capabilities` when one path is asked for. \
                `deny` means no right at all, `root` every right.";
    vec![
        Endpoint::at(["capabilities"]).summary("Show what a token may do on paths.").help(help).on(Operation::Update, of_token),
        Endpoint::at(["capabilities-accessor"])
            .summary("Show what the token of an accessor may do on paths.")
            .help(help)
            .on(Operation::Update, of_accessor),
        Endpoint::at(["capabilities-self"])
            .summary("Show what the calling token may do on paths.")
            .help(help)
            .on(Operation::Update, of_caller),
    ]
}

/// A token and paths.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfToken {
    /// The token.
    #[serde(default)]
    token: Secret<String>,
    /// The paths.
    #[serde(default)]
    paths: CommaList,
    /// The older name of `paths`.
    #[serde(default)]
    path: CommaList,
}

/// An accessor and paths.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfAccessor {
    /// The accessor of the token.
    #[serde(default)]
    accessor: String,
    /// The paths.
    #[serde(default)]
    paths: CommaList,
    /// The older name of `paths`.
    #[serde(default)]
    path: CommaList,
}

/// Paths.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfCaller {
    /// Kept for Vault's clients, which send it along: it is the caller's own token that counts.
    #[serde(default)]
    #[expect(dead_code, reason = "nobody asks for another's here")]
    token: Secret<String>,
    /// The paths.
    #[serde(default)]
    paths: CommaList,
    /// The older name of `paths`.
    #[serde(default)]
    path: CommaList,
}

/// Errors: `BadRequest` without paths, `InvalidRequest` for a token that is not valid, `Failed` without a token.
async fn of_token(sys: Arc<Sys>, _cx: Cx, params: OfToken) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let paths = wanted(params.paths, params.path)?;
    if params.token.is_empty() {
        return Err(Error::failed("no token found"));
    }
    let (known, config_version) = unsealed.tokens.find(&params.token).await?;
    answer(&unsealed, &known.ok_or_else(invalid)?, config_version, paths).await
}

/// Errors: `BadRequest` without accessor or paths, `InvalidRequest` for an accessor that is not known.
async fn of_accessor(sys: Arc<Sys>, _cx: Cx, params: OfAccessor) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    if params.accessor.is_empty() {
        return Err(Error::bad_request("missing accessor"));
    }
    let known = unsealed.tokens.by_accessor(&params.accessor).await?;
    let known = known.ok_or_else(|| Error::new(Kind::InvalidRequest, "invalid accessor"))?;
    let paths = wanted(params.paths, params.path)?;
    let config_version = unsealed.table.load().config_version;
    answer(&unsealed, &known, config_version, paths).await
}

/// Errors: `BadRequest` without paths.
async fn of_caller(sys: Arc<Sys>, cx: Cx, params: OfCaller) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let paths = wanted(params.paths, params.path)?;
    let token = cx.request.presented.as_ref().ok_or_else(|| Error::failed("no token found"))?;
    let (known, config_version) = unsealed.tokens.find(token).await?;
    answer(&unsealed, &known.ok_or_else(invalid)?, config_version, paths).await
}

async fn answer(unsealed: &Unsealed, known: &Known, config_version: u64, paths: Vec<String>) -> Result<Reply> {
    let acl = unsealed.authority(&known.row, config_version).await?.acl;
    let table = unsealed.table.load_full();
    let mut data = Map::new();
    let only = paths.len() == 1;
    for path in paths {
        let others = table.stands_for(path.trim_start_matches('/'));
        let capabilities = json!(acl.capabilities_beside(&path, &others.as_strs(), others.alike, others.is_vaults));
        if only {
            data.insert("capabilities".to_owned(), capabilities.clone());
        }
        data.insert(path, capabilities);
        // With thousands of rules each path takes a millisecond: others on this lane have their turns between.
        tokio::task::yield_now().await;
    }
    Ok(Reply::data(data).at_top_level())
}

fn wanted(paths: CommaList, path: CommaList) -> Result<Vec<String>> {
    let paths = if paths.0.is_empty() { path.0 } else { paths.0 };
    if paths.is_empty() {
        return Err(Error::bad_request("paths must be supplied"));
    }
    Ok(paths)
}

fn invalid() -> Error {
    Error::new(Kind::InvalidRequest, "invalid token")
}
