//! Taking over the rows of KV version 1 when a mount is upgraded (`options.version` tuned from 1 to 2).
//!
//! It runs once per mounted engine, before its first request, and costs one look-up where there is nothing to take over. Once is enough: the core
//! lets no request in before those to version 1 are answered, so nothing is written there any more. Each secret moves in one commit, so a
//! crash in the middle leaves the rest for the next start, and two nodes that do it at once do no harm.

use daypass_sdk::{Changes, CommitFailure, Cx, Result, from_json};
use serde_json::value::RawValue;

use super::Kv2;
use super::config::Config;
use super::key::Key;
use super::rows;
use crate::secrets::kv1;

impl Kv2 {
    /// Makes sure that the rows of version 1 were taken over. Errors: `Internal` when the store fails; the next request tries again.
    pub(super) async fn ready(&self, cx: &Cx) -> Result<()> {
        if self.upgraded.initialized() {
            return Ok(());
        }
        self.upgraded.get_or_try_init(|| take_over(cx)).await.copied()
    }
}

async fn take_over(cx: &Cx) -> Result<()> {
    let mut folders = vec![kv1::ROWS.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut after: Option<String> = None;
        loop {
            let page = cx.store.list_page(&folder, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for name in page {
                let below = format!("{folder}{name}");
                if name.ends_with('/') { folders.push(below) } else { take(cx, &below).await? }
            }
        }
    }
    Ok(())
}

/// Moves one secret. A secret that exists in version 2 already wins: it was written later.
async fn take(cx: &Cx, old: &str) -> Result<()> {
    let path = old.strip_prefix(kv1::ROWS).unwrap_or(old);
    for _ in 0..rows::ATTEMPTS_MAX {
        let Some(entry) = cx.store.get(old).await? else { return Ok(()) };
        let row = rows::key_row(path);
        let remove = Changes::new().unchanged(old, Some(&entry)).delete(old);
        let changes = if cx.store.get(&row).await?.is_some() {
            remove
        } else {
            let Ok(raw) = from_json::<Box<RawValue>>(old, &entry.value) else {
                // One secret that nobody can read may not keep everybody from the others.
                tracing::warn!(path, mount = %cx.mount.path, "a secret of KV version 1 is no JSON and was not taken over; it stays where it is");
                return Ok(());
            };
            let now = cx.clock.now();
            let mut key = Key::new(now);
            // Version 1 did not keep who wrote it, and whoever happens to come first now did not.
            let added = key.add(&Config::default(), raw, None, now);
            let changes = remove.unchanged(&row, None).put_json(&row, &key)?;
            added.put.iter().fold(changes, |changes, row| rows::put_data(changes, path, row))
        };
        match cx.store.commit(changes).await {
            Ok(()) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(rows::busy())
}

/// Names per look at a folder.
const PAGE: usize = 1000;
