//! `keys/<name>/rotate`, and rotation by time.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Transit;
use super::key::{Key, Version};
use super::rows::{self, Step};

/// When to look for keys that are due.
#[derive(Default)]
pub(super) struct Schedule {
    /// Seconds on the monotonic clock at which the last look began; `None` before the first.
    last: Mutex<Option<u64>>,
}

/// Which key.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the key.
    name: String,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["keys/{name}/rotate"])
        .summary("Give a key a new version.")
        .help("The new version encrypts and signs from now on; old ones still decrypt and verify, until min_decryption_version says otherwise.")
        .on(Operation::Update, rotate)
}

/// Errors: `BadRequest` without such a key, or when it came from outside and may not be rotated here.
async fn rotate(transit: Arc<Transit>, cx: Cx, params: NameParams) -> Result<Reply> {
    let missing = || Error::bad_request("key not found");
    let found = rows::load(&transit, &cx, &params.name).await?.ok_or_else(missing)?;
    may_rotate(&found.key, &params.name)?;
    let made = transit.work.generate(&cx, found.key.key_type, found.key.key_size).await?;
    rows::change(&transit.cache, &cx, &params.name, |key| {
        let mut key = key.ok_or_else(missing)?;
        may_rotate(&key, &params.name)?;
        add(&mut key, &found.key, &made)?;
        let answer = Reply::data(key.describe(&params.name, None)?);
        Ok(Step::Store(Box::new(key), answer))
    })
    .await
}

fn may_rotate(key: &Key, name: &str) -> Result<()> {
    if key.imported && !key.allow_rotation {
        return Err(Error::bad_request(format!("imported key {name} does not allow rotation within Vault")));
    }
    Ok(())
}

/// Adds a version that was made for the key as it was `seen`.
fn add(key: &mut Key, seen: &Key, made: &Version) -> Result<()> {
    if (key.key_type, key.key_size) != (seen.key_type, seen.key_size) {
        return Err(Error::failed("the key was replaced by another request at the same moment; try again"));
    }
    key.add(made.clone())
}

/// Rotates the keys whose time has come. Looks about once an hour, as Vault does, and right after the start.
pub(super) async fn tick(transit: &Transit, cx: &Cx) -> Result<()> {
    let now = cx.clock.elapsed().as_secs();
    {
        let mut last = transit.rotation.last.lock();
        if last.is_some_and(|last| now.saturating_sub(last) < ROUND_SECONDS) {
            return Ok(());
        }
        *last = Some(now);
    }
    let mut after: Option<String> = None;
    loop {
        let names = cx.store.list_page(rows::KEYS, after.as_deref(), PAGE).await?;
        let Some(last) = names.last() else { return Ok(()) };
        after = Some(last.clone());
        for name in &names {
            // One key that cannot be rotated must not hold up the others.
            if let Err(error) = rotate_due(transit, cx, name).await {
                tracing::warn!(mount = cx.mount.path, key = name, %error, "a key that is due could not be rotated; it is tried again in an hour");
            }
        }
    }
}

async fn rotate_due(transit: &Transit, cx: &Cx, name: &str) -> Result<()> {
    let Some(seen) = cx.store.get_json::<Key>(&rows::row(name)).await? else { return Ok(()) };
    if !seen.rotation_due(cx.clock.now()) {
        return Ok(());
    }
    let made = transit.work.generate(cx, seen.key_type, seen.key_size).await?;
    rows::change(&transit.cache, cx, name, |key| match key {
        Some(mut key) if key.rotation_due(cx.clock.now()) => {
            add(&mut key, &seen, &made)?;
            Ok(Step::Store(Box::new(key), ()))
        }
        // Deleted, or rotated by somebody else meanwhile.
        _ => Ok(Step::Leave(())),
    })
    .await
}

/// Time between two looks: seconds.
const ROUND_SECONDS: u64 = 3_600;
/// Names per page.
const PAGE: usize = 1_000;
