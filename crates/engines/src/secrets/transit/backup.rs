//! `backup/` and `restore/`: a whole key in clear, where it was made for it.
//!
//! The format is this server's own: Vault's spells keys out as Go's types do and is not read.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret, reveal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use zeroize::Zeroizing;

use super::key::{Key, Stamp, checked_period};
use super::rows::{self, Step};
use super::work::Place;
use super::{Transit, material, payload};

/// Which key.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the key.
    name: String,
}

/// What to restore.
#[derive(Deserialize, JsonSchema)]
struct RestoreParams {
    /// Name of the restored key; the one in the backup unless given.
    #[serde(default)]
    name: String,
    /// The backup, as it was answered.
    backup: Option<Secret<String>>,
    /// Replace a key of this name.
    #[serde(default)]
    force: bool,
}

/// A backup before it is written as base64.
#[derive(Serialize, Deserialize)]
pub(super) struct Backup {
    /// Version of the format.
    daypass_transit: u32,
    name: String,
    pub(super) key: Key,
}

pub(super) fn endpoint() -> Endpoint<Transit> {
    Endpoint::at(["backup/{name}"])
        .summary("Back a key up, in clear.")
        .help("Needs a key with exportable and allow_plaintext_backup. Whoever has the backup has the key.")
        .on(Operation::Read, backup)
}

pub(super) fn restore_endpoint() -> Endpoint<Transit> {
    Endpoint::at(["restore", "restore/{name}"])
        .summary("Restore a key from a backup.")
        .help("A key of the same name is only replaced with force.")
        .on(Operation::Update, restore)
}

/// Errors: `BadRequest` with Vault's texts when the key does not allow it.
async fn backup(transit: Arc<Transit>, cx: Cx, params: NameParams) -> Result<Reply> {
    let text = rows::change(&transit.cache, &cx, &params.name, |key| {
        let mut key = key.ok_or_else(|| Error::bad_request(format!("key {:?} not found", params.name)))?;
        if !key.exportable {
            return Err(Error::bad_request("exporting is disallowed on the policy"));
        }
        if !key.allow_plaintext_backup {
            return Err(Error::bad_request("plaintext backup is disallowed on the policy"));
        }
        key.backed_up = Some(Stamp { time: cx.clock.now(), version: key.latest });
        let backup = Backup { daypass_transit: FORMAT, name: params.name.clone(), key: key.clone() };
        let json = serde_json::to_vec(&backup).map_err(|error| Error::internal("a backup cannot be written").because(error))?;
        let text = Secret::new(BASE64.encode(&Zeroizing::new(json)));
        Ok(Step::Store(Box::new(key), text))
    })
    .await?;
    // Into the answer: the key allows it.
    Ok(Reply::data(Map::from_iter([("backup".to_owned(), reveal(&text))])))
}

/// Errors: `BadRequest` for a text that is no backup, and when the key exists.
async fn restore(transit: Arc<Transit>, cx: Cx, params: RestoreParams) -> Result<()> {
    let text = params.backup.filter(|text| !text.is_empty()).ok_or_else(|| Error::bad_request("'backup' must be supplied"))?;
    // Parsed into secrets.
    let Backup { name, mut key, .. } = transit.work.run(Place::OffTheRuntime, move || read(text.expose())).await?;
    let name = if params.name.is_empty() { name } else { params.name };
    if !is_name(&name) {
        return Err(Error::bad_request(format!("{name:?} is no name of a key: letters, digits, '_', and '-' and '.' inside")));
    }
    key.restored = Some(Stamp { time: cx.clock.now(), version: key.latest });
    rows::change(&transit.cache, &cx, &name, |found| {
        if found.is_some() && !params.force {
            return Err(Error::bad_request(format!("key {name:?} already exists")));
        }
        Ok(Step::Store(Box::new(key.clone()), ()))
    })
    .await
}

/// Reads a backup and checks all of it: it may come from anywhere. Errors: `BadRequest`.
pub(super) fn read(text: &str) -> Result<Backup> {
    let json = Zeroizing::new(payload::decode(text)?);
    let refuse = |what: &str| Error::bad_request(format!("this is no backup of a transit key of this server: {what}"));
    let backup: Backup = serde_json::from_slice(&json).map_err(|error| {
        // The parser's own words could show parts of a key; only the place is told.
        refuse(&format!("it does not parse at line {}, column {}", error.line(), error.column()))
    })?;
    if backup.daypass_transit != FORMAT {
        return Err(refuse(&format!("its format is {}, and {FORMAT} is understood", backup.daypass_transit)));
    }
    let key = &backup.key;
    let oldest = key.versions.first_key_value().map(|(number, _)| *number);
    let newest = key.versions.last_key_value().map(|(number, _)| *number);
    let limits = [key.min_available, key.min_decryption, key.min_encryption];
    if newest != Some(key.latest) || oldest.unwrap_or_default() == 0 || limits.iter().any(|limit| *limit > key.latest) {
        return Err(refuse("its versions and limits do not fit together"));
    }
    if oldest.unwrap_or_default() > key.min_decryption.max(1) || key.min_decryption == 0 {
        return Err(refuse("versions are missing that its limits allow"));
    }
    Key::new(key.key_type).derive(key.derived, key.convergent)?;
    checked_period(key.auto_rotate_period)?;
    for version in key.versions.values() {
        material::check(key.key_type, version)?;
    }
    Ok(backup)
}

/// A name in the sense of the paths that keys are reached by.
fn is_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = name.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| word(*first) && word(*last));
    ends && name.len() <= NAME_BYTES_MAX && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'-' | b'.'))
}

const FORMAT: u32 = 1;
/// Bytes of a name that comes from a backup; those in paths have the path's own limit.
const NAME_BYTES_MAX: usize = 512;
