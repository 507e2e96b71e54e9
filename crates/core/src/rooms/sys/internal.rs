//! `sys/internal`: what user interfaces and the `vault kv` commands ask about mounts and rights, the OpenAPI document, and counters.
//!
//! Some of these need no token and show less without one. They check a presented token themselves: a token that is no good is refused,
//! where other public endpoints ignore it.

use std::sync::Arc;

use daypass_base::Brief;
use daypass_policy::Acl;
use daypass_sdk::{Cx, Endpoint, Error, Kind, Operation, Outcome, Reply, Result, spec};
use serde_json::{Map, Value, json};

use super::Sys;
use super::mount_fields::MountPath;
use super::mounts::{Nothing, given_path};
use crate::mounts::{Class, Live};
use crate::node::Unsealed;
use crate::rooms::SYSTEM;
use crate::stages::identify::{denied, invalid_token};
use crate::tokens::Known;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["internal/ui/mounts"])
            .summary("List the mounts that the caller may see.")
            .help("With a token: every mount below which it has any right. Without: the mounts whose listing_visibility is unauth.")
            .public()
            .on(Operation::Read, visible_mounts),
        Endpoint::at(["internal/ui/mounts/{path..}"])
            .summary("Show the mount that serves a path.")
            .help("Any right below the mount is enough. The vault kv commands ask this before they do anything.")
            .public()
            .on(Operation::Read, mount_of_path),
        Endpoint::at(["internal/ui/resultant-acl"]).summary("Show what the caller may do.").on(Operation::Read, resultant_acl),
        Endpoint::at(["internal/ui/namespaces"]).summary("List the caller's namespaces.").public().on(Operation::Read, namespaces),
        Endpoint::at(["internal/ui/feature-flags"]).summary("List feature flags.").public().bare().on(Operation::Read, feature_flags),
        Endpoint::at(["internal/specs/openapi"])
            .summary("Show the OpenAPI document of the mounts that the caller may see.")
            .help(
                "OpenAPI 3.0, made from the declarations of the endpoints. Without a token: the mounts whose listing_visibility is unauth.",
            )
            .public()
            .bare()
            .on(Operation::Read, openapi)
            .on(Operation::Update, openapi),
        Endpoint::at(["internal/counters/requests"]).summary("Gone in Vault, too.").on(Operation::Read, gone),
        Endpoint::at(["internal/counters/entities"]).summary("Count the entities.").on(Operation::Read, entities),
        Endpoint::at(["internal/counters/tokens"]).summary("Count the service tokens.").on(Operation::Read, tokens),
        Endpoint::at(["internal/counters/activity", "internal/counters/activity/monthly"])
            .summary("Count clients; nothing is counted.")
            .on(Operation::Read, no_content),
        Endpoint::at(["internal/counters/activity/export"])
            .summary("Export clients; nothing is counted.")
            .sudo()
            .on(Operation::Read, no_content),
        Endpoint::at(["internal/counters/config"])
            .summary("Show or set how clients are counted: they are not.")
            .on(Operation::Read, counting)
            .on(Operation::Update, set_counting),
    ]
}

async fn visible_mounts(sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let acl = acl(&unsealed, &cx).await?;
    let version = inner.engine_version();
    let (mut auth, mut secret) = (Map::new(), Map::new());
    for live in unsealed.table.load().all() {
        let shown = match &acl {
            Some(acl) if acl.has_any_below(&live.row.path) => live.row.listed_for_ui(&version, inner.settings.ttls),
            None if is_listed_to_all(live) => {
                json!({ "type": live.row.kind, "description": live.row.description, "options": live.row.options })
            }
            _ => continue,
        };
        let group = if live.row.class == Class::Auth { &mut auth } else { &mut secret };
        group.insert(live.row.short_path().to_owned(), shown);
    }
    Ok(Reply::json(json!({ "auth": auth, "secret": secret })))
}

/// Errors: `Denied` without rights below the mount and where nothing is mounted: the answers do not differ.
async fn mount_of_path(sys: Arc<Sys>, cx: Cx, params: MountPath) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let acl = acl(&unsealed, &cx).await?.ok_or_else(denied)?;
    let path = given_path(&params.path);
    let live = unsealed.table.load().covering(&path).filter(|live| acl.has_any_below(&live.row.path));
    let live = live.ok_or_else(|| {
        let text = format!("preflight capability check returned 403, please ensure client's policies grant access to path {path:?}");
        Error::new(Kind::Denied, text)
    })?;
    let mut shown = live.row.listed_for_ui(&inner.engine_version(), inner.settings.ttls);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("path".to_owned(), live.row.short_path().into());
    }
    Ok(Reply::json(shown))
}

async fn resultant_acl(sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let acl = acl(&unsealed, &cx).await?.ok_or_else(denied)?;
    Ok(Reply::data(acl.resultant_acl()))
}

async fn namespaces(sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    if cx.request.presented.is_none() {
        return Err(Error::failed("client token empty").bare());
    }
    acl(&unsealed, &cx).await?;
    Ok(Reply::json(json!({ "keys": [""] })))
}

async fn feature_flags(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Outcome::Bare(200, json!({ "feature_flags": null })).into())
}

/// What the document is to be like.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Document {
    /// Write the paths of mounts as parameters, so that a client made from the document works with mounts of other paths too.
    #[serde(default)]
    generic_mount_paths: bool,
}

async fn openapi(sys: Arc<Sys>, cx: Cx, params: Document) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let acl = acl(&unsealed, &cx).await?;
    let mut items: Vec<(String, Value)> = Vec::new();
    for live in unsealed.table.load().all() {
        let visible = acl.as_ref().map_or_else(|| is_listed_to_all(live), |acl| acl.has_any_below(&live.row.path));
        if !visible {
            continue;
        }
        if live.row.kind == SYSTEM {
            items.extend(inner.status_room.spec(&live.row.path));
        }
        let own = live.engine.spec(&live.row.path);
        items.extend(if params.generic_mount_paths && !live.row.builtin { spec::generic(own, &live.row.path) } else { own });
    }
    Ok(Outcome::Bare(200, spec::document("", items)).into())
}

async fn gone(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<()> {
    Err(Error::new(Kind::NoSuchPath, "The functionality has been removed on this path"))
}

/// Stored entities: those of logins that nobody said anything about are stored nowhere.
async fn entities(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let total = unsealed.identities.count_entities().await?;
    Ok(Reply::json(json!({ "counters": { "entities": { "total": total } } })))
}

async fn tokens(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let mut total = 0_u64;
    unsealed
        .tokens
        .accessors(None, |_| {
            total += 1;
            true
        })
        .await?;
    Ok(Reply::json(json!({ "counters": { "service_tokens": { "total": total } } })))
}

async fn no_content(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<()> {
    Ok(())
}

async fn counting(_sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    Ok(Reply::json(json!({
        "default_report_months": 12,
        "enabled": "default-disabled",
        "minimum_retention_months": 0,
        "queries_available": false,
        "reporting_enabled": false,
        "retention_months": 0,
    })))
}

/// How clients are to be counted.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Counting {
    /// `enable`, `disable` or `default`.
    #[serde(default)]
    enabled: String,
    /// Months that counts are kept.
    #[serde(default)]
    #[expect(dead_code, reason = "known, so that no warning is given")]
    retention_months: Option<i64>,
}

/// Errors: `BadRequest` when something is to be counted.
async fn set_counting(_sys: Arc<Sys>, _cx: Cx, counting: Counting) -> Result<()> {
    match counting.enabled.as_str() {
        "" | "default" | "disable" => Ok(()),
        "enable" => Err(Error::bad_request("clients are not counted here; sys/metrics has the figures that there are")),
        other => Err(Error::bad_request(format!("enabled must be one of \"default\", \"enable\", \"disable\", not {:?}", Brief(other)))),
    }
}

/// The rights of the presented token; `None` when none was presented. Errors: `Denied` for a token that is no good.
async fn acl(unsealed: &Unsealed, cx: &Cx) -> Result<Option<Arc<Acl>>> {
    let config_version = unsealed.table.load().config_version;
    let Some(known) = presented_token(unsealed, cx).await? else { return Ok(None) };
    Ok(Some(unsealed.authority(&known.row, config_version).await?.acl))
}

/// The token that was presented to a public endpoint; `None` when none was. It is not spent: a public endpoint would answer without it, too, or
/// tells of nothing but the token. Errors: `Denied` for one that is no good, also from outside its bound networks.
pub(super) async fn presented_token(unsealed: &Unsealed, cx: &Cx) -> Result<Option<Known>> {
    let Some(token) = &cx.request.presented else { return Ok(None) };
    let caller = &cx.request.caller;
    // Whoever asks was identified, or not, before the request came here: that is what says where a token may be used from.
    if caller.token_type.is_empty() {
        return Err(invalid_token());
    }
    // Its last use may be running: it is read by id then.
    let known = match caller.token {
        Some(id) => unsealed.tokens.by_id(id).await?,
        None => unsealed.tokens.find(token).await?.0,
    };
    Ok(Some(known.ok_or_else(invalid_token)?))
}

fn is_listed_to_all(live: &Live) -> bool {
    live.row.config.listing_visibility.as_deref() == Some("unauth")
}
