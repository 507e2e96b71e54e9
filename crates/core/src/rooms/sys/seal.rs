//! `sys/seal`, `sys/step-down`: what an operator does in need.

use std::sync::Arc;
use std::time::Duration;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Sys;

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
        Endpoint::at(["rekey/backup", "rekey/recovery-key-backup"])
            .summary("Show or remove the encrypted copies of new shares: there are none.")
            .help("Copies are made of shares that are encrypted with PGP, which is not offered here.")
            .on(Operation::Read, read_backup)
            .on(Operation::Delete, delete_backup),
    ]
}

/// Nothing to say.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

async fn seal(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    let inner = sys.way.inner()?;
    let Some(unsealed) = inner.unsealed.swap(None) else { return Ok(()) };
    tracing::warn!("sealed on request");
    unsealed.monitors.end().await;
    // Requests in flight, this one among them, still have to write to the audit devices; nothing new reaches the keys from here on.
    tokio::spawn(async move {
        inner.clock.sleep(LINGER).await;
        inner.wind_up(unsealed).await;
    });
    Ok(())
}

async fn step_down(_: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    Ok(())
}

/// Errors: `BadRequest`, always.
async fn read_backup(_: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    Err(Error::bad_request("no backed-up keys found"))
}

async fn delete_backup(_: Arc<Sys>, _: Cx, _: Nothing) -> Result<()> {
    Ok(())
}

const LINGER: Duration = Duration::from_millis(200);
