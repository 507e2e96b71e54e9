//! `sys/rekey`, `sys/rekey-recovery-key`: new shares, authorised by the old ones.

use std::sync::Arc;

use daypass_barrier::SealConfig;
use daypass_base::Secret;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Nothing, Status, share};
use crate::keys::{NewShares, RekeyProgress, RekeyStart, RekeyStep, SealBefore, Verified};
use crate::node::SealKind;

pub(super) fn endpoints() -> Vec<Endpoint<Status>> {
    vec![
        Endpoint::at(["rekey/init"])
            .summary("Start, show or cancel the exchange of the shares.")
            .public()
            .bare()
            .on(Operation::Read, show)
            .on(Operation::Update, start)
            .on(Operation::Delete, cancel),
        Endpoint::at(["rekey/update"])
            .summary("Enter a share of the root key, for new shares.")
            .public()
            .bare()
            .on(Operation::Update, update),
        Endpoint::at(["rekey/verify"])
            .summary("Enter a new share, to put the new shares in force; show or restart that.")
            .public()
            .bare()
            .on(Operation::Read, show_verification)
            .on(Operation::Update, verify)
            .on(Operation::Delete, restart_verification),
        Endpoint::at(["rekey-recovery-key/init", "rekey-recovery-key/verify"])
            .summary("Exchange recovery keys: no seal here has them.")
            .public()
            .bare()
            .on(Operation::Read, no_recovery_keys)
            .on(Operation::Update, no_recovery_keys)
            .on(Operation::Delete, no_recovery_keys),
        Endpoint::at(["rekey-recovery-key/update"])
            .summary("Exchange recovery keys: no seal here has them.")
            .public()
            .bare()
            .on(Operation::Update, no_recovery_keys),
    ]
}

/// How the new shares are made.
#[derive(Deserialize, JsonSchema)]
struct StartParams {
    /// Shares to make, 1 to 255.
    #[serde(default)]
    secret_shares: i64,
    /// Shares that open the seal, at most as many.
    #[serde(default)]
    secret_threshold: i64,
    /// 0 or 1, without meaning.
    #[serde(default)]
    #[expect(dead_code, reason = "sent by clients; without meaning")]
    stored_shares: i64,
    /// Public PGP keys that the new shares are encrypted to, in their order: one for each share, in base64 of its binary form.
    #[serde(default)]
    pgp_keys: Option<Vec<String>>,
    /// Keep encrypted copies of the new shares at `sys/rekey/backup`; needs PGP keys.
    #[serde(default)]
    backup: bool,
    /// Whether the new shares must be handed in before they are in force.
    #[serde(default)]
    require_verification: bool,
}

/// A share, and which attempt it is for.
#[derive(Deserialize, JsonSchema)]
struct UpdateParams {
    /// The share, in hex or base64.
    key: Option<Secret<String>>,
    /// The attempt's nonce.
    #[serde(default)]
    nonce: String,
}

/// Which attempt is meant.
#[derive(Deserialize, JsonSchema)]
struct CancelParams {
    /// The attempt's nonce; after ten minutes it can be left out.
    #[serde(default)]
    nonce: String,
}

fn body(progress: &RekeyProgress) -> Reply {
    let mut body = Map::from_iter([
        ("nonce".to_owned(), json!(progress.nonce)),
        ("started".to_owned(), json!(progress.started)),
        ("t".to_owned(), json!(progress.threshold)),
        ("n".to_owned(), json!(progress.shares)),
        ("progress".to_owned(), json!(progress.progress)),
        ("required".to_owned(), json!(progress.required)),
        ("pgp_fingerprints".to_owned(), if progress.fingerprints.is_empty() { Value::Null } else { json!(progress.fingerprints) }),
        ("backup".to_owned(), json!(progress.backup)),
        ("verification_required".to_owned(), json!(progress.verify)),
    ]);
    if !progress.verification_nonce.is_empty() {
        body.insert("verification_nonce".to_owned(), json!(progress.verification_nonce));
    }
    Outcome::Bare(200, Value::Object(body)).into()
}

async fn show(status: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    Ok(body(&status.way.inner()?.rekey_progress().await?))
}

async fn start(status: Arc<Status>, cx: Cx, params: StartParams) -> Result<Reply> {
    let inner = status.way.inner()?;
    let pgp_keys = params.pgp_keys.unwrap_or_default();
    if params.backup && pgp_keys.is_empty() {
        return Err(Error::bad_request("cannot request a backup of the new keys without providing PGP keys for encryption"));
    }
    if !pgp_keys.is_empty() && i64::try_from(pgp_keys.len()) != Ok(params.secret_shares) {
        return Err(Error::bad_request("incorrect number of PGP keys for rekey"));
    }
    if matches!(inner.settings.seal, SealKind::KeyFile(_)) {
        return Err(Error::bad_request("parameters secret_shares,secret_threshold not applicable to seal type keyfile"));
    }
    if params.secret_threshold > params.secret_shares {
        return Err(Error::bad_request("provided threshold greater than the total shares"));
    }
    let config = SealConfig::shamir(params.secret_shares, params.secret_threshold)
        .map_err(|error| Error::failed(format!("invalid rekey seal configuration: {error}")).bare())?;
    let start = RekeyStart { config, verify: params.require_verification, pgp_keys, from: cx.request.remote, backup: params.backup };
    Ok(body(&inner.start_rekey(start).await?))
}

async fn cancel(status: Arc<Status>, _: Cx, params: CancelParams) -> Result<()> {
    status.way.inner()?.cancel_rekey(&params.nonce).await
}

async fn update(status: Arc<Status>, _: Cx, params: UpdateParams) -> Result<Reply> {
    let share = share(params.key)?;
    Ok(match status.way.inner()?.update_rekey(share, &params.nonce).await? {
        RekeyStep::More(progress) => body(&progress),
        RekeyStep::Done(made) => {
            let reply = done(&made);
            Reply { receipt: made.receipt, ..reply }
        }
    })
}

fn done(made: &NewShares) -> Reply {
    let mut body = Map::from_iter([
        ("nonce".to_owned(), json!(made.nonce)),
        ("complete".to_owned(), json!(true)),
        ("keys".to_owned(), json!(made.shares.hex())),
        ("keys_base64".to_owned(), json!(made.shares.base64())),
        ("pgp_fingerprints".to_owned(), json!(made.shares.fingerprints())),
        ("backup".to_owned(), json!(made.backup)),
        ("verification_required".to_owned(), json!(made.verification_nonce.is_some())),
    ]);
    if let Some(nonce) = &made.verification_nonce {
        body.insert("verification_nonce".to_owned(), json!(nonce));
    }
    Outcome::Bare(200, Value::Object(body)).into()
}

async fn show_verification(status: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    let progress = status.way.inner()?.verify_progress().await?;
    let body = json!({
        "nonce": progress.nonce,
        "started": progress.started,
        "t": progress.threshold,
        "n": progress.shares,
        "progress": progress.progress,
    });
    Ok(Outcome::Bare(200, body).into())
}

async fn verify(status: Arc<Status>, cx: Cx, params: UpdateParams) -> Result<Reply> {
    let share = share(params.key)?;
    match status.way.inner()?.verify_rekey(share, &params.nonce).await? {
        Some(Verified { nonce, before: SealBefore::Removed }) => Ok(Outcome::Bare(200, json!({ "nonce": nonce, "complete": true })).into()),
        Some(Verified { nonce, before: SealBefore::Stored }) => {
            Ok(Outcome::Bare(200, json!({ "nonce": nonce, "complete": true, "warnings": [OLD_SEAL_STORED] })).into())
        }
        None => show_verification(status, cx, Nothing {}).await,
    }
}

async fn restart_verification(status: Arc<Status>, cx: Cx, _: Nothing) -> Result<Reply> {
    status.way.inner()?.restart_verification().await?;
    show_verification(status, cx, Nothing {}).await
}

/// Errors: `BadRequest`, always: neither shares nor a key file come with recovery keys.
async fn no_recovery_keys(_: Arc<Status>, _: Cx, _: Nothing) -> Result<Reply> {
    Err(Error::bad_request("recovery keys not supported"))
}

const OLD_SEAL_STORED: &str = "the new keys are in force, but removing the seal before from the store failed: until it is removed, which is tried every minute, \
                               the old keys may still open a server that is started again";
