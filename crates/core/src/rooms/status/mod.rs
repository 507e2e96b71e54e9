//! Endpoints that answer in every state, without a token and in bare JSON: health, init, seal status, unseal, leader; and
//! those that the shares of the root key authorise instead of a token: generate-root, rekey.
//! Also `sys/seal`, which is asked with a token while unsealed, belongs to `rooms/sys`.

mod generate_root;
mod rekey;

use std::sync::{Arc, Weak};

use daypass_barrier::{Share, shamir};
use daypass_base::Secret;
use daypass_sdk::{Cx, Endpoint, Engine, Error, Input, Kind, Mounted, Operation, Outcome, Reply, Request, Result, Room};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Way;
use crate::keys::Holders;
use crate::node::{Inner, SealKind};
use crate::respond::{Answer, Content, refusal};
use crate::stages::parse::Parsed;

/// The room of the status endpoints.
pub(crate) struct Status {
    way: Way,
}

/// The room, mounted at `sys/` before everything else.
pub(crate) fn room(inner: Weak<Inner>) -> Arc<dyn Mounted> {
    Arc::new(Room::new()).mount(Status { way: Way::new(inner) })
}

/// Answers a request if it is for one of these endpoints.
pub(crate) async fn answer(inner: &Arc<Inner>, parsed: &Parsed) -> Option<Answer> {
    let below = parsed.path.strip_prefix("sys/")?;
    let found = inner.status_room.find(below)?;
    if parsed.operation == Operation::Help {
        return None;
    }
    if let Some(trace) = &parsed.trace {
        trace.led_to("system", "sys/", inner.status_room.pattern(&found));
    }
    let operation = if parsed.operation == Operation::List { return Some(Answer::refused(405, Vec::new())) } else { parsed.operation };
    if parsed.options || !inner.status_room.support(&found, operation).operation {
        return Some(Answer::refused(405, Vec::new()));
    }
    let request = Request {
        id: parsed.id.clone(),
        path: parsed.path.clone(),
        below: below.to_owned(),
        remote: parsed.peer.map(|peer| peer.ip()),
        ..Request::default()
    };
    let cx = Cx {
        request: Arc::new(request),
        mount: Arc::default(),
        store: daypass_sdk::Store::new(Arc::new(NoStore)),
        clock: Arc::clone(&inner.clock),
        entropy: Arc::clone(&inner.entropy),
        identity: Arc::new(daypass_sdk::NoIdentity),
    };
    let fields = parsed.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    let input = Input { fields, captures: found.captures.clone() };
    Some(match inner.status_room.run(&found, cx, operation, input).await {
        Ok(Reply { outcome: Outcome::Bare(status, value), receipt, .. }) => {
            Answer { status, content: Content::Bare(value), receipt, ..Answer::default() }
        }
        Ok(_) => Answer::empty(204),
        Err(mut error) => {
            // As recorded: these endpoints read their bodies without the words of the others.
            if let Some(detail) = error.message.strip_prefix("Field validation failed: ") {
                error.message = format!("failed to parse JSON input: {detail}");
            }
            refusal(&error, &parsed.id)
        }
    })
}

impl Engine for Status {
    const SUMMARY: &'static str = "The state of the server.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        let states = vec![
            Endpoint::at(["health"])
                .summary("Check the health status of the server.")
                .public()
                .any_status()
                .on(Operation::Read, health)
                .on(Operation::Header, health),
            Endpoint::at(["init"])
                .summary("Initialize the server, or tell whether it is.")
                .public()
                .bare()
                .on(Operation::Read, is_initialised)
                .on(Operation::Update, initialise),
            Endpoint::at(["seal-status"]).summary("Check the seal status of the server.").public().bare().on(Operation::Read, seal_status),
            Endpoint::at(["seal-backend-status"])
                .summary("Check the health of the seal.")
                .public()
                .bare()
                .on(Operation::Read, seal_backend),
            Endpoint::at(["unseal"]).summary("Enter a share of the root key.").public().bare().on(Operation::Update, unseal),
            Endpoint::at(["leader"])
                .summary("Check the high availability status of the server.")
                .public()
                .bare()
                .on(Operation::Read, leader),
        ];
        [states, generate_root::endpoints(), rekey::endpoints()].into_iter().flatten().collect()
    }
}

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// Which status codes stand for which state.
#[derive(Deserialize, JsonSchema)]
struct HealthParams {
    /// Code for an active node; 200 unless given.
    activecode: Option<String>,
    /// Code for a sealed node; 503 unless given.
    sealedcode: Option<String>,
    /// Code for a node that is not initialized; 501 unless given.
    uninitcode: Option<String>,
    /// Code for a standby node; every daypass node is active.
    standbycode: Option<String>,
    /// Count a standby node as active.
    #[serde(default)]
    #[expect(dead_code, reason = "every node is active; the parameter is known")]
    standbyok: Option<String>,
    /// Count a performance standby as active.
    #[serde(default)]
    #[expect(dead_code, reason = "every node is active; the parameter is known")]
    perfstandbyok: Option<String>,
}

async fn health(status: Arc<Status>, cx: Cx, params: HealthParams) -> Result<Reply> {
    let inner = status.way.inner()?;
    let code = |given: &Option<String>, usual: u16| match given.as_deref() {
        None => Ok(usual),
        Some(text) => text.parse::<u16>().ok().filter(|code| (200..1000).contains(code)).ok_or(()),
    };
    let codes =
        (code(&params.activecode, 200), code(&params.sealedcode, 503), code(&params.uninitcode, 501), code(&params.standbycode, 429));
    let (Ok(active), Ok(sealed), Ok(uninitialised), Ok(_standby)) = codes else {
        return Ok(Outcome::Bare(400, json!({ "errors": [] })).into());
    };
    let unsealed = inner.unsealed.load_full();
    // Nothing is read of one that is unsealed: it is asked more often than anything else.
    let (is_initialised, is_sealed) = (unsealed.is_some() || inner.seal_config().await?.is_some(), unsealed.is_none());
    let status = match (is_initialised, is_sealed) {
        (false, _) => uninitialised,
        (true, true) => sealed,
        // Whatever code was asked for: requests are better off elsewhere, and a restart is what helps.
        (true, false) if inner.backend.stopped().is_some() => 503,
        (true, false) => active,
    };
    let mode = if is_sealed { "unknown" } else { "disabled" };
    let mut body = json!({
        "initialized": is_initialised,
        "sealed": is_sealed,
        "standby": is_sealed,
        "performance_standby": false,
        "replication_performance_mode": mode,
        "replication_dr_mode": mode,
        "server_time_utc": cx.clock.now().seconds(),
        "version": inner.settings.version,
        "enterprise": false,
        "echo_duration_ms": 0,
        "clock_skew_ms": 0,
        "replication_primary_canary_age_ms": 0,
    });
    if let (Some(unsealed), Some(object)) = (unsealed, body.as_object_mut()) {
        object.insert("cluster_name".to_owned(), unsealed.cluster.name.clone().into());
        object.insert("cluster_id".to_owned(), unsealed.cluster.id.clone().into());
    }
    Ok(Outcome::Bare(status, body).into())
}

async fn is_initialised(status: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    let state = status.way.inner()?.seal_status().await?;
    Ok(Outcome::Bare(200, json!({ "initialized": state.initialised })).into())
}

/// How the root key is split.
#[derive(Deserialize, JsonSchema)]
struct InitParams {
    /// Shares to make, 1 to 255.
    #[serde(default)]
    secret_shares: i64,
    /// Shares that open the seal, at most as many.
    #[serde(default)]
    secret_threshold: i64,
    /// Public PGP keys that the shares are encrypted to, in their order: one for each share, in base64 of its binary form.
    #[serde(default)]
    pgp_keys: Option<Vec<String>>,
    /// A public PGP key that the root token is encrypted to, in base64 of its binary form.
    #[serde(default)]
    root_token_pgp_key: Option<String>,
    /// 0 or 1, without meaning.
    #[serde(default)]
    #[expect(dead_code, reason = "sent by clients; without meaning")]
    stored_shares: i64,
    /// Recovery shares, for seals that unseal themselves.
    #[serde(default)]
    recovery_shares: i64,
    /// Recovery threshold, for seals that unseal themselves.
    #[serde(default)]
    recovery_threshold: i64,
    /// Public PGP keys for recovery shares; no seal here has them.
    #[serde(default)]
    recovery_pgp_keys: Option<Vec<String>>,
}

async fn initialise(status: Arc<Status>, cx: Cx, params: InitParams) -> Result<Reply> {
    let inner = status.way.inner()?;
    let holders = Holders { from: cx.request.remote, ..holders(&inner.settings.seal, &params)? };
    let made = inner.initialise(params.secret_shares, params.secret_threshold, holders).await?;
    inner.unseal_by_file().await?;
    // Exposed to be handed to the people, once: this answer is the only place where the root token ever stands.
    let root_token = made.root_token.expose();
    Ok(Outcome::Bare(200, json!({ "keys": made.shares.hex(), "keys_base64": made.shares.base64(), "root_token": root_token })).into())
}

/// For whom shares and root token are encrypted. Errors: `BadRequest` for what does not belong to this seal, with Vault's texts.
fn holders(seal: &SealKind, params: &InitParams) -> Result<Holders> {
    let pgp_keys = params.pgp_keys.clone().unwrap_or_default();
    let recovery = params.recovery_pgp_keys.as_ref().is_some_and(|keys| !keys.is_empty());
    let (kind, strange) = match seal {
        SealKind::Shamir => {
            let (shares, threshold) = (params.recovery_shares != 0, params.recovery_threshold != 0);
            ("shamir", [("recovery_shares", shares), ("recovery_threshold", threshold), ("recovery_pgp_keys", recovery)])
        }
        // Numbers of either kind are sent by clients as a habit and mean nothing to a key file; keys are somebody's wish.
        SealKind::KeyFile(_) => ("keyfile", [("pgp_keys", !pgp_keys.is_empty()), ("recovery_pgp_keys", recovery), ("", false)]),
    };
    let strange: Vec<&str> = strange.into_iter().filter_map(|(name, given)| given.then_some(name)).collect();
    if !strange.is_empty() {
        return Err(Error::bad_request(format!("parameters {} not applicable to seal type {kind}", strange.join(","))));
    }
    if !pgp_keys.is_empty() && i64::try_from(pgp_keys.len()) != Ok(params.secret_shares) {
        return Err(Error::bad_request("incorrect number of PGP keys"));
    }
    Ok(Holders { shares: pgp_keys, root: params.root_token_pgp_key.clone().filter(|key| !key.is_empty()), from: None })
}

async fn seal_status(status: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    Ok(Outcome::Bare(200, seal_status_body(&status.way.inner()?).await?).into())
}

async fn seal_status_body(inner: &Arc<Inner>) -> Result<Value> {
    let state = inner.seal_status().await?;
    let mut body = Map::from_iter([
        ("type".to_owned(), json!(state.kind)),
        ("initialized".to_owned(), json!(state.initialised)),
        ("sealed".to_owned(), json!(state.sealed)),
        ("t".to_owned(), json!(state.threshold)),
        ("n".to_owned(), json!(state.shares)),
        ("progress".to_owned(), json!(state.progress)),
        ("nonce".to_owned(), json!(state.nonce)),
        ("version".to_owned(), json!(inner.settings.version)),
        ("build_date".to_owned(), json!(inner.settings.build_date)),
        ("migration".to_owned(), json!(false)),
        ("recovery_seal".to_owned(), json!(state.initialised && state.kind != "shamir")),
        ("storage_type".to_owned(), json!(inner.backend.kind())),
    ]);
    // A key of our own, and only where it says something: Vault has no such state.
    if inner.old_shares_serve().await? {
        body.insert("previous_shares_unseal".to_owned(), json!(true));
    }
    if let Some(unsealed) = inner.unsealed.load_full() {
        body.insert("cluster_name".to_owned(), json!(unsealed.cluster.name));
        body.insert("cluster_id".to_owned(), json!(unsealed.cluster.id));
    }
    Ok(Value::Object(body))
}

async fn seal_backend(status: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    let state = status.way.inner()?.seal_status().await?;
    let inner = status.way.inner()?;
    let healthy = inner.seal_is_healthy().await;
    let backend = json!({ "name": state.kind, "healthy": healthy });
    Ok(Outcome::Bare(200, json!({ "healthy": healthy, "backends": [backend], "fully_wrapped": true })).into())
}

/// A share.
#[derive(Deserialize, JsonSchema)]
struct UnsealParams {
    /// The share, in hex or base64.
    #[serde(default, deserialize_with = "text_alone")]
    key: Option<Secret<String>>,
    /// Forget the shares handed in so far.
    #[serde(default)]
    reset: bool,
    /// Move to another seal; not offered.
    #[serde(default)]
    migrate: bool,
}

/// A text, and no number that could be one: as recorded, this endpoint reads its body strictly.
fn text_alone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Secret::new(text))),
        _ => Err(serde::de::Error::custom("json: cannot unmarshal into field UnsealRequest.key of type string")),
    }
}

async fn unseal(status: Arc<Status>, _: Cx, params: UnsealParams) -> Result<Reply> {
    let inner = status.way.inner()?;
    if params.migrate {
        return Err(Error::bad_request("can't perform a seal migration, no migration seal found"));
    }
    if params.reset {
        inner.reset_unseal().await?;
        return Ok(Outcome::Bare(200, seal_status_body(&inner).await?).into());
    }
    let key = params.key.filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Error::bad_request("'key' must be specified in request body as JSON, or 'reset' set to true"))?;
    inner.unseal(decode(&key)?).await?;
    Ok(Outcome::Bare(200, seal_status_body(&inner).await?).into())
}

/// The share of a request. Errors: `BadRequest` with Vault's texts, before anything is looked up.
fn share(key: Option<Secret<String>>) -> Result<Share> {
    let key = key.filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Error::bad_request("'key' must be specified in request body as JSON"))?;
    decode(&key)
}

fn decode(key: &Secret<String>) -> Result<Share> {
    // Exposed to be decoded; what comes out is a secret again.
    shamir::decode_share(key.expose(), daypass_barrier::seal::SHARE_BYTES_MIN, daypass_barrier::seal::SHARE_BYTES_MAX)
        .map_err(|_not_a_share| Error::bad_request("'key' must be a valid hex or base64 string"))
}

async fn leader(_: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    // No node leads: each answers every request. Clients know this as "HA is off".
    let body = json!({
        "ha_enabled": false,
        "is_self": false,
        "active_time": "0001-01-01T00:00:00Z",
        "leader_address": "",
        "leader_cluster_address": "",
        "performance_standby": false,
        "performance_standby_last_remote_wal": 0,
    });
    Ok(Outcome::Bare(200, body).into())
}

/// The status endpoints have no storage of their own.
struct NoStore;

fn no_store<T>() -> daypass_sdk::BoxFuture<'static, Result<T>>
where
    T: Send + 'static,
{
    Box::pin(std::future::ready(Err(Error::new(Kind::Internal, "status endpoints have no storage"))))
}

impl daypass_sdk::Storage for NoStore {
    fn get<'a>(&'a self, _: &'a str) -> daypass_sdk::BoxFuture<'a, Result<Option<daypass_sdk::Entry>>> {
        no_store()
    }

    fn get_each<'a>(&'a self, _: &'a [String]) -> daypass_sdk::BoxFuture<'a, Result<Vec<Option<Result<daypass_sdk::Entry>>>>> {
        no_store()
    }

    fn list<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: usize) -> daypass_sdk::BoxFuture<'a, Result<Vec<String>>> {
        no_store()
    }

    fn commit(&self, _: daypass_sdk::Changes) -> daypass_sdk::BoxFuture<'_, Result<(), daypass_sdk::CommitFailure>> {
        Box::pin(std::future::ready(Err(daypass_sdk::CommitFailure::Error(Error::internal("status endpoints have no storage")))))
    }

    fn clear<'a>(&'a self, _: &'a str) -> daypass_sdk::BoxFuture<'a, Result<()>> {
        no_store()
    }
}
