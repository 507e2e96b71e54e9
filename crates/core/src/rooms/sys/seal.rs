//! `sys/seal`, `sys/step-down`: what an operator does in need.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;
use crate::keys::holders;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["seal"])
            .summary("Seal the server: it forgets its keys and refuses requests until it is unsealed.")
            .sudo()
            .on(Operation::Update, seal),
        Endpoint::at(["step-down"])
            .summary("Give up leadership; without leaders this does nothing.")
            .sudo()
            .on(Operation::Update, step_down),
        Endpoint::at(["rekey/backup"])
            .summary("Show or remove the encrypted copies of new shares.")
            .help(
                "A rekey with pgp_keys and backup keeps them, by the fingerprint of each key. They stay until they are removed or another rekey \
                 keeps its own.",
            )
            .on(Operation::Read, read_backup)
            .on(Operation::Delete, delete_backup),
        Endpoint::at(["rekey/recovery-key-backup"])
            .summary("Show or remove the encrypted copies of new recovery keys: no seal here has recovery keys.")
            .on(Operation::Read, no_backup)
            .on(Operation::Delete, nothing_to_delete),
    ]
}

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

async fn seal(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    let inner = sys.way.inner()?;
    let Some(left) = inner.take_out() else { return Ok(()) };
    tracing::warn!("sealed on request");
    let unsealed = Arc::clone(&left.unsealed);
    inner.leave(left);
    unsealed.monitors.end().await;
    Ok(())
}

async fn step_down(_: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    Ok(())
}

/// Errors: `BadRequest` with Vault's text when there are none.
async fn read_backup(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<Reply> {
    let unsealed = sys.way.inner()?.unsealed()?;
    let Some(backup) = holders::backup(&unsealed).await? else { return Err(Error::bad_request(NO_BACKUP)) };
    let base64 = |text: &String| HEXLOWER.decode(text.as_bytes()).map(|message| BASE64.encode(&message));
    let mut keys_base64 = BTreeMap::new();
    for (fingerprint, messages) in &backup.keys {
        let messages = messages.iter().map(base64).collect::<Result<Vec<_>, _>>();
        let messages = messages.map_err(|error| Error::internal("a stored share is no hex").because(error))?;
        keys_base64.insert(fingerprint.clone(), messages);
    }
    Ok(Reply::json(json!({ "nonce": backup.nonce, "keys": backup.keys, "keys_base64": keys_base64 })))
}

async fn delete_backup(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    let unsealed = sys.way.inner()?.unsealed()?;
    holders::delete_backup(&unsealed).await
}

/// Errors: `BadRequest`, always.
async fn no_backup(_: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    Err(Error::bad_request(NO_BACKUP))
}

async fn nothing_to_delete(_: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    Ok(())
}

const NO_BACKUP: &str = "no backed-up keys found";
