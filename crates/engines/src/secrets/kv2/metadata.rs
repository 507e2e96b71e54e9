//! `metadata/`: what is known of a secret beside its data, and the list of secrets.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Json, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::data::{Notes, nothing_to_patch};
use super::key::{DataRows, Key, shown_custom, versions_setting};
use super::rows::{self, Step, change};
use super::times::DeleteAfter;
use super::{Kv2, custom};
use crate::secrets::kv_path;

/// Which secret.
#[derive(Deserialize, JsonSchema)]
struct PathParams {
    /// Path of the secret, or of a folder to list.
    #[serde(default)]
    path: String,
}

/// New settings of a secret; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
struct MetadataParams {
    /// Path of the secret.
    #[serde(default)]
    path: String,
    /// How many versions to keep; 0 leaves it to the mount.
    max_versions: Option<i64>,
    /// Refuse writes without the `cas` option.
    cas_required: Option<bool>,
    /// Delete each new version after this time; 0 leaves it to the mount, a negative duration switches it off.
    delete_version_after: Option<DeleteAfter>,
    /// Notes for people and tools: at most 64 texts. A write replaces them all, a patch changes those that it names (null removes).
    custom_metadata: Option<Notes>,
}

pub(super) fn endpoint() -> Endpoint<Kv2> {
    Endpoint::at(["metadata/{path..?}"])
        .summary("Read, set or list what is known of secrets; delete them with all versions.")
        .help(
            "Reads and sets the metadata of a secret: its versions, how many of them to keep, when to delete them, and the caller's own \
             notes. Lists the secrets of a folder. A delete removes the secret with all its versions for good.",
        )
        .exists(exists)
        .safe()
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Patch, patch)
        .on(Operation::Delete, delete)
        .on(Operation::List, list)
}

async fn exists(kv: Arc<Kv2>, cx: Cx, params: MetadataParams) -> Result<bool> {
    kv.ready(&cx).await?;
    Ok(cx.store.get(&rows::key_row(&params.path)).await?.is_some())
}

async fn list(kv: Arc<Kv2>, cx: Cx, params: PathParams) -> Result<Keys> {
    kv.ready(&cx).await?;
    Ok(Keys(cx.list(&rows::key_row(&kv_path::folder(&params.path))).await?))
}

async fn read(kv: Arc<Kv2>, cx: Cx, params: PathParams) -> Result<Json<Value>> {
    kv.ready(&cx).await?;
    let key = rows::read_key(&cx, &params.path).await?.ok_or_else(Error::not_found)?;
    let version = |(number, version): (u64, &super::key::Version)| {
        let shown = json!({
            "created_time": version.created,
            "deletion_time": version.deletion.map(|at| at.to_string()).unwrap_or_default(),
            "destroyed": version.destroyed,
            "created_by": version.created_by,
            "deleted_by": version.deleted_by,
        });
        (number.to_string(), shown)
    };
    Ok(Json(json!({
        "cas_required": key.cas_required,
        "created_time": key.created,
        "current_version": key.current,
        "custom_metadata": shown_custom(&key.custom),
        "delete_version_after": key.delete_version_after.to_string(),
        "last_updated_by": key.updated_by,
        "max_versions": key.max_versions,
        "oldest_version": key.oldest,
        "updated_time": key.updated,
        "versions": key.versions().map(version).collect::<Map<_, _>>(),
    })))
}

/// Fails with `BadRequest` for custom metadata over its limits.
async fn write(kv: Arc<Kv2>, cx: Cx, params: MetadataParams) -> Result<Reply> {
    kv.ready(&cx).await?;
    if params.path.is_empty() {
        return Err(Error::bad_request("missing path"));
    }
    if params.says_nothing() {
        return Ok(Reply::nothing());
    }
    let notes = params.custom_metadata.as_ref().map(|notes| custom::parse(&notes.whole())).transpose()?;
    if let Some(notes) = &notes {
        custom::check(notes)?;
    }
    change(&cx, &params.path, |config, key| {
        let now = cx.clock.now();
        let mut key = key.unwrap_or_else(|| Key::new(now));
        key.updated = now;
        params.apply(&mut key);
        if let Some(notes) = &notes {
            key.custom.clone_from(notes);
        }
        Ok(Step::Store(Box::new(key), DataRows::default(), params.answer(config)))
    })
    .await
}

/// As [`write()`], and for a negative `max_versions`, which a write takes as Vault does; 404 for a secret that does not exist.
async fn patch(kv: Arc<Kv2>, cx: Cx, params: MetadataParams) -> Result<Reply> {
    kv.ready(&cx).await?;
    if let Some(below) = params.max_versions.filter(|most| *most < 0) {
        return Err(Error::bad_request(format!("max_versions of {below} is below zero; 0 leaves it to the mount")));
    }
    let (removed, set): (Map<_, _>, Map<_, _>) =
        params.custom_metadata.iter().flat_map(Notes::whole).partition(|(_, value)| value.is_null());
    let set = custom::parse(&set)?;
    change(&cx, &params.path, |config, key| {
        let Some(mut key) = key else { return Ok(Step::Leave(nothing_to_patch())) };
        key.updated = cx.clock.now();
        params.apply(&mut key);
        if matches!(params.custom_metadata, Some(Notes::Empty)) {
            key.custom.clear();
        }
        key.custom.retain(|name, _| !removed.contains_key(name));
        key.custom.extend(set.clone());
        custom::check(&key.custom)?;
        Ok(Step::Store(Box::new(key), DataRows::default(), params.answer(config)))
    })
    .await
}

/// A name with a slash at its end is refused as in writes: it is no secret's, and policies judge the path as it was sent, so no other is meant.
async fn delete(kv: Arc<Kv2>, cx: Cx, params: PathParams) -> Result<()> {
    kv.ready(&cx).await?;
    if params.path.is_empty() {
        return Ok(());
    }
    change(&cx, &params.path, |_, key| {
        Ok(match key {
            Some(key) => Step::Remove(Box::new(key), ()),
            None => Step::Leave(()),
        })
    })
    .await
}

impl MetadataParams {
    fn says_nothing(&self) -> bool {
        self.max_versions.is_none() && self.cas_required.is_none() && self.delete_version_after.is_none() && self.custom_metadata.is_none()
    }

    fn apply(&self, key: &mut Key) {
        if let Some(max_versions) = self.max_versions {
            key.max_versions = versions_setting(max_versions);
        }
        key.cas_required = self.cas_required.unwrap_or(key.cas_required);
        key.delete_version_after = self.delete_version_after.unwrap_or(key.delete_version_after);
    }

    fn answer(&self, config: &Config) -> Reply {
        if config.cas_required && self.cas_required == Some(false) {
            return Reply::nothing().warn("\"cas_required\" set to false, but is mandated by backend config. This value will be ignored.");
        }
        Reply::nothing()
    }
}
