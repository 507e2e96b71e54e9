//! Clearing what is dead: expired secret ids, and the rows that a deleted role left.
//!
//! Nothing depends on it: an expired secret id is refused at login, and a deleted role's secret ids cannot be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::readable::readable;

use super::AppRole;
use super::role::Role;
use super::roles;
use super::secret::{FoundSecret, accessor_row, by_rows, rows_of};

/// When to tidy next.
#[derive(Default)]
pub(super) struct Schedule {
    /// Somebody asked for it.
    wanted: AtomicBool,
    /// Seconds on the monotonic clock at which the last full round began.
    last: AtomicU64,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn endpoint() -> Endpoint<AppRole> {
    Endpoint::at(["tidy/secret-id"])
        .summary("Clear expired secret ids.")
        .help("Expired secret ids cannot be used and are cleared by themselves once an hour; this does it within a minute.")
        .on(Operation::Update, want)
}

/// The row that remembers a deleted role's generation until its rows are cleared.
pub(super) fn doomed_row(generation: &str) -> String {
    format!("{DOOMED}{generation}")
}

async fn want(approle: Arc<AppRole>, _: Cx, _: NoParams) -> Result<Reply> {
    approle.tidy.wanted.store(true, Ordering::Release);
    Ok(Reply::from(Outcome::Accepted)
        .warn("Tidy operation successfully started. Any information from the operation will be printed to Vault's server logs."))
}

impl Schedule {
    /// Clears what deleted roles left; and expired secret ids once an hour, or when it was asked for.
    pub(super) async fn tick(&self, cx: &Cx) -> Result<()> {
        for generation in cx.store.list_page(DOOMED, None, PAGE).await? {
            clear(cx, &generation).await?;
        }
        let now = cx.clock.elapsed().as_secs();
        let wanted = self.wanted.swap(false, Ordering::AcqRel);
        if !wanted && now.saturating_sub(self.last.load(Ordering::Acquire)) < ROUND_SECONDS {
            return Ok(());
        }
        self.last.store(now, Ordering::Release);
        let mut after: Option<String> = None;
        loop {
            let names = cx.store.list_page(roles::ROWS, after.as_deref(), PAGE).await?;
            let Some(last) = names.last() else { return Ok(()) };
            after = Some(last.clone());
            for names in names.chunks(AT_A_TIME) {
                let rows: Vec<String> = names.iter().map(|name| roles::row(name)).collect();
                for (_, (role, _)) in readable(cx, &rows, cx.store.get_each_json::<Role>(&rows).await?) {
                    expire(cx, &role.generation).await?;
                }
            }
        }
    }
}

/// Removes everything of a generation that no role has any more.
async fn clear(cx: &Cx, generation: &str) -> Result<()> {
    loop {
        let accessors = cx.store.list_page(&by_rows(generation), None, PAGE).await?;
        if accessors.is_empty() {
            break;
        }
        let by = by_rows(generation);
        let changes = accessors
            .iter()
            .fold(Changes::new(), |changes, accessor| changes.delete(accessor_row(accessor)).delete(format!("{by}{accessor}")));
        cx.store.commit(changes).await?;
    }
    cx.store.clear(&rows_of(generation)).await?;
    cx.store.delete(&doomed_row(generation)).await
}

/// Removes the expired secret ids of a role.
async fn expire(cx: &Cx, generation: &str) -> Result<()> {
    let prefix = rows_of(generation);
    let mut after: Option<String> = None;
    loop {
        let ids = cx.store.list_page(&prefix, after.as_deref(), PAGE).await?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = Some(last.clone());
        for ids in ids.chunks(AT_A_TIME) {
            expire_some(cx, generation, ids).await?;
        }
    }
}

/// Removes those that are expired.
async fn expire_some(cx: &Cx, generation: &str, ids: &[String]) -> Result<()> {
    let prefix = rows_of(generation);
    let keys: Vec<String> = ids.iter().map(|id| format!("{prefix}{id}")).collect();
    let now = cx.clock.now();
    let found = ids.iter().zip(cx.store.get_each(&keys).await?);
    let found = found.map(|(id, found)| found.map(|entry| FoundSecret::of(generation, id, entry?))).collect();
    for (_, found) in readable(cx, &keys, found) {
        if !found.secret.ended(now) {
            continue;
        }
        match cx.store.commit(found.remove()).await {
            // Changed meanwhile: the next round sees to it.
            Ok(()) | Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

const DOOMED: &str = "doomed/";
/// Names per look.
const PAGE: usize = 1000;
/// Secret ids, or roles, that are read at once: each may carry as much metadata as a token.
const AT_A_TIME: usize = 32;
/// Time between two full rounds: seconds.
const ROUND_SECONDS: u64 = 3600;
