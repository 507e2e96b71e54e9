//! KV version 1: one object per path, replaced as a whole.
//!
//! Owns the rows `s/<path>`. It must never look into the caller's data but for `ttl` and `lease`, which only tell readers how long
//! they may keep what they read. KV version 2 takes these rows over when a mount is upgraded (`kv2::upgrade`).
//!
//! Source: Vault API, "KV secrets engine, version 1"; recorded fixture `kv1`.

use std::sync::Arc;

use daypass_sdk::{Changes, Cx, Endpoint, Engine, Error, Keys, Operation, Reply, Result, Seconds};
use serde_json::{Map, Value};

use super::kv_path;

/// The KV version 1 secrets engine. It keeps no state beside its storage.
pub struct Kv1;

impl Engine for Kv1 {
    const SUMMARY: &'static str = "Stores any JSON object at any path; a write replaces what was there.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            Endpoint::at(["{path..?}"])
                .summary("Read, write, delete or list objects.")
                .help(HELP)
                .body_apart()
                .exists(exists)
                .safe()
                .on(Operation::Read, read)
                .on(Operation::Update, write)
                .on(Operation::Delete, delete)
                .on(Operation::List, list),
        ]
    }
}

/// Where the object of `path` is stored.
pub(super) fn row(path: &str) -> String {
    format!("{ROWS}{path}")
}

/// What all rows of KV version 1 start with.
pub(super) const ROWS: &str = "s/";

async fn exists(_: Arc<Kv1>, cx: Cx, _: Body) -> Result<bool> {
    Ok(cx.store.get(&row(&cx.request.below)).await?.is_some())
}

async fn read(_: Arc<Kv1>, cx: Cx, _: Body) -> Result<Reply> {
    let data: Body = cx.store.get_json(&row(&cx.request.below)).await?.ok_or_else(Error::not_found)?;
    let keep_for = lifetime(&data).unwrap_or(cx.mount.default_lease_ttl);
    Ok(Reply::data(data).keep_for(keep_for))
}

/// Fails with `BadRequest` for an empty object, an empty path and a path that cannot be stored.
async fn write(_: Arc<Kv1>, cx: Cx, data: Body) -> Result<()> {
    let path = &cx.request.below;
    if path.is_empty() {
        return Err(Error::bad_request("missing path"));
    }
    kv_path::check(path)?;
    if data.is_empty() {
        return Err(Error::bad_request("missing data fields"));
    }
    Ok(cx.store.commit(Changes::new().put_json(row(path), &data)?).await?)
}

async fn delete(_: Arc<Kv1>, cx: Cx, _: Body) -> Result<()> {
    cx.store.delete(&row(&cx.request.below)).await
}

async fn list(_: Arc<Kv1>, cx: Cx, _: Body) -> Result<Keys> {
    Ok(Keys(cx.list(&row(&kv_path::folder(&cx.request.below))).await?))
}

/// What the data itself says of its lifetime, under `ttl` or else `lease`. Anything that is no duration says nothing.
fn lifetime(data: &Body) -> Option<Seconds> {
    let said = data.get("ttl").or_else(|| data.get("lease"))?;
    if said.is_null() { None } else { serde_json::from_value(said.clone()).ok() }
}

/// The caller's own data, whole.
type Body = Map<String, Value>;

const HELP: &str = "Any JSON object can be stored at any path. A write replaces the whole object. A `ttl` or `lease` inside the object \
                    becomes the lease duration that readers see; nothing is removed when it is over.";

#[cfg(test)]
mod tests;
