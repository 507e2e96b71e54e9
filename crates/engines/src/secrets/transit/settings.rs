//! `config/keys` and `cache-config`: what holds for the whole mount.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Transit;
use super::cache::KEYS_MAX;

/// How keys come to be.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KeySettings {
    disable_upsert: bool,
}

/// How many keys stay parsed in memory.
#[derive(Debug, Default, Serialize, Deserialize)]
struct CacheSettings {
    size: usize,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// New settings of keys.
#[derive(Deserialize, JsonSchema)]
struct KeyParams {
    /// Refuse to make a key when something is encrypted with one that does not exist.
    disable_upsert: Option<bool>,
}

/// New settings of the cache.
#[derive(Deserialize, JsonSchema)]
struct CacheParams {
    /// How many keys to keep parsed in memory: 0 for as many as allowed (1000), else 10 to 1000.
    size: Option<i64>,
}

pub(super) fn endpoints() -> Vec<Endpoint<Transit>> {
    vec![
        Endpoint::at(["config/keys"])
            .summary("Settings for all keys of the mount.")
            .help("disable_upsert stops encrypt/ from making keys that do not exist.")
            .on(Operation::Read, read_keys)
            .on(Operation::Update, write_keys),
        Endpoint::at(["cache-config"])
            .summary("How many keys stay parsed in memory.")
            .help("A key that is not in memory is read and parsed when it is used. The new size holds from the next key on.")
            .on(Operation::Read, read_cache)
            .on(Operation::Update, write_cache),
    ]
}

/// Whether `encrypt/` may make keys.
pub(super) async fn may_upsert(cx: &Cx) -> Result<bool> {
    Ok(!cx.store.get_json::<KeySettings>(KEY_ROW).await?.unwrap_or_default().disable_upsert)
}

/// How many keys to keep in memory.
pub(super) async fn cache_size(cx: &Cx) -> Result<usize> {
    let settings: CacheSettings = cx.store.get_json(CACHE_ROW).await?.unwrap_or_default();
    Ok(if settings.size == 0 { KEYS_MAX } else { settings.size.min(KEYS_MAX) })
}

async fn read_keys(_: Arc<Transit>, cx: Cx, _: NoParams) -> Result<Json<KeySettings>> {
    Ok(Json(cx.store.get_json(KEY_ROW).await?.unwrap_or_default()))
}

async fn write_keys(_: Arc<Transit>, cx: Cx, params: KeyParams) -> Result<Json<KeySettings>> {
    let decide = |settings: Option<KeySettings>| {
        let KeySettings { disable_upsert } = settings.unwrap_or_default();
        Ok(KeySettings { disable_upsert: params.disable_upsert.unwrap_or(disable_upsert) })
    };
    Ok(Json(cx.store.change(KEY_ROW, decide).await?))
}

async fn read_cache(_: Arc<Transit>, cx: Cx, _: NoParams) -> Result<Json<Value>> {
    let settings: CacheSettings = cx.store.get_json(CACHE_ROW).await?.unwrap_or_default();
    Ok(Json(json!({ "size": settings.size })))
}

/// Errors: `BadRequest` for a size that is not offered.
async fn write_cache(transit: Arc<Transit>, cx: Cx, params: CacheParams) -> Result<Reply> {
    let wanted = params.size.unwrap_or_default();
    if wanted < 0 {
        return Err(Error::bad_request("size must be greater or equal to 0"));
    }
    if wanted > 0 && wanted < SIZE_MIN {
        return Err(Error::bad_request("size must be 0 or a value greater or equal to 10"));
    }
    let size = usize::try_from(wanted).unwrap_or(KEYS_MAX);
    cx.store.put_json(CACHE_ROW, &CacheSettings { size }).await?;
    transit.cache.clear();
    let reply = Reply::nothing();
    Ok(if size > KEYS_MAX { reply.warn(format!("At most {KEYS_MAX} keys are kept in memory, whatever size says.")) } else { reply })
}

const KEY_ROW: &str = "config/keys";
const CACHE_ROW: &str = "config/cache";
const SIZE_MIN: i64 = 10;
