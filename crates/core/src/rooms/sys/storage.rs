//! `sys/storage/`: the whole store as a snapshot, and back; and whether anything is taken back meanwhile.
//!
//! As with Vault, a policy with `read` may take a snapshot and one with `update` may bring this server's own back: jobs that have such policies go on to
//! work. A snapshot is sealed as the store is. Ours alone is that `snapshot-force` needs `sudo`: it takes the store of anybody whose keys this server does
//! not know, and with it every policy and token.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;
use super::mounts::Nothing;
use crate::monitors::Reader;
use crate::revocation;
use crate::snapshots::{self, Keys};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["storage/snapshot", "storage/raft/snapshot"])
            .judged_as_one("storage/raft/snapshot")
            .summary("Take a snapshot of the store, or restore one of this server's own.")
            .help(
                "Reading gives a gzipped archive of one state of the store, sealed as the store is; writers are not held up. Writing takes such an archive as \
                 the body, as it is, and replaces all that is stored once it is verified. Afterwards revocation is paused: see sys/storage/revocation. One \
                 snapshot is taken or restored at a time; one whose client stops reading, or whose token ends, is given up.",
            )
            .text(GZIP)
            .unhurried()
            .on(Operation::Read, save)
            .on(Operation::Update, restore),
        Endpoint::at(["storage/snapshot-force", "storage/raft/snapshot-force"])
            .judged_as_one("storage/raft/snapshot-force")
            .summary("Restore a snapshot whatever its keys are.")
            .help(
                "As a write to sys/storage/snapshot, but the snapshot may be of another server, or of a time before a rekey. The server is sealed afterwards, and is \
                 unsealed with the shares of the snapshot's time, if it cannot unseal itself.",
            )
            .sudo()
            .unhurried()
            .on(Operation::Update, restore_any),
        Endpoint::at(["storage/revocation"])
            .summary("See and set whether leases and tokens that have ended are taken back.")
            .help(
                "A restore pauses revocation, since what the restored state calls overdue may belong to a server that still runs. While it is paused, what has ended is \
                 refused, with all that descends from it, but no user, key or credential is removed at AWS, no key is rotated on schedule, and no row is removed. A \
                 revocation that is asked for is carried out, also with sync=false: where that takes longer than 20 seconds, and over more than 500 entries, its answer \
                 says that secrets are left to be taken back when revocation goes on. What a revoked token was lent waits for that, too, and so does a revocation by \
                 prefix that was under way when the pause began.",
            )
            .sudo()
            .on(Operation::Read, state)
            .on(Operation::Update, set),
    ]
}

async fn save(sys: Arc<Sys>, cx: Cx, _: Nothing) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let reader = Reader::of(&cx, &unsealed, &inner.clock)?;
    let pieces = snapshots::save(&inner, &unsealed, reader).await?;
    let mut reply = Reply::from(Outcome::Stream(GZIP, pieces));
    reply.headers.push(("content-disposition", "attachment".to_owned()));
    Ok(reply)
}

async fn restore(sys: Arc<Sys>, cx: Cx, _: Nothing) -> Result<()> {
    take_in(&sys, &cx, Keys::Ours).await
}

async fn restore_any(sys: Arc<Sys>, cx: Cx, _: Nothing) -> Result<()> {
    take_in(&sys, &cx, Keys::Any).await
}

/// Errors: see [`snapshots::restore`].
async fn take_in(sys: &Sys, cx: &Cx, keys: Keys) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    let upload = cx.request.upload.clone().ok_or_else(|| Error::bad_request("the body must be a snapshot"))?;
    snapshots::restore(&inner, &unsealed, upload, keys).await
}

async fn state(sys: Arc<Sys>, _: Cx, _: Nothing) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    Ok(Reply::json(match unsealed.revocation.paused() {
        None => json!({ "paused": false }),
        Some(paused) => json!({ "paused": true, "since": paused.since, "reason": paused.reason, "snapshot_time": paused.snapshot_time }),
    }))
}

/// What is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// `true` pauses revocation, `false` lets it go on. Example: `false`.
    paused: Option<bool>,
}

/// Errors: `BadRequest` when it is not said what is wanted.
async fn set(sys: Arc<Sys>, _: Cx, wanted: Wanted) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    match wanted.paused {
        Some(true) => revocation::pause(&unsealed, inner.clock.now()).await,
        Some(false) => revocation::resume(&unsealed).await,
        None => Err(Error::bad_request("missing paused: true pauses revocation, false lets it go on")),
    }
}

const GZIP: &str = "application/gzip";
