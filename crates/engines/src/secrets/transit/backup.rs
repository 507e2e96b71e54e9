//! `backup/` and `restore/`: a whole key in clear, where it was made for it.
//!
//! The format is this server's own: Vault's spells keys out as Go's types do and is not read.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Seconds, Secret, Timestamp, reveal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use zeroize::Zeroizing;

use super::key::{Key, Stamp, VERSION_MAX, checked_period};
use super::key_type::KeyType;
use super::rows::{self, Step};
use super::work::Place;
use super::{Transit, certificates, material, payload};

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
        // It could not be restored.
        key.check_latest()?;
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
    let now = cx.clock.now();
    // Parsed into secrets.
    let Backup { name, mut key, .. } = transit.work.run(Place::OffTheRuntime, move || read(text.expose(), now)).await?;
    let name = if params.name.is_empty() { name } else { params.name };
    if !is_name(&name) {
        return Err(Error::bad_request(format!("{:?} is no name of a key: letters, digits, '_', and '-' and '.' inside", Brief(&name))));
    }
    key.restored = Some(Stamp { time: now, version: key.latest });
    rows::change(&transit.cache, &cx, &name, |found| {
        if found.is_some() && !params.force {
            return Err(Error::bad_request(format!("key {name:?} already exists")));
        }
        Ok(Step::Store(Box::new(key.clone()), ()))
    })
    .await
}

/// Reads a backup and checks all of it: it may come from anywhere. Errors: `BadRequest`.
pub(super) fn read(text: &str, now: Timestamp) -> Result<Backup> {
    let refuse = |what: &str| Error::bad_request(format!("this is no backup of a transit key of this server: {what}"));
    if text.len() > TEXT_BYTES_MAX {
        return Err(refuse(&format!("it has {} bytes, over the limit of {TEXT_BYTES_MAX}", text.len())));
    }
    let json = Zeroizing::new(payload::decode(text)?);
    let backup: Backup = serde_json::from_slice(&json).map_err(|error| {
        // The parser's own words could show parts of a key; only the place is told.
        refuse(&format!("it does not parse at line {}, column {}", error.line(), error.column()))
    })?;
    if backup.daypass_transit != FORMAT {
        return Err(refuse(&format!("its format is {}, and {FORMAT} is understood", backup.daypass_transit)));
    }
    check(&backup.key, now).map_err(|error| refuse(&error.message).because(error))?;
    Ok(backup)
}

/// Whether a key is one that this server could have made: whatever else it says is believed from here on. Errors: `BadRequest`.
fn check(key: &Key, now: Timestamp) -> Result<()> {
    let refuse = |what: String| Err(Error::bad_request(what));
    check_versions(key)?;
    match key.key_type {
        KeyType::Hmac => {
            material::hmac_bytes(i64::try_from(key.key_size).unwrap_or(i64::MAX))?;
        }
        other if key.key_size != 0 => return refuse(format!("key_size is not valid for algorithm {}", other.name())),
        _ => {}
    }
    Key::new(key.key_type).derive(key.derived, key.convergent)?;
    checked_period(key.auto_rotate_period)?;
    if key.backed_up.as_ref().is_some_and(|stamp| stamp.version > key.latest) {
        return refuse("it was backed up with a version that it does not have".to_owned());
    }
    for (number, version) in &key.versions {
        // A key of tomorrow would not be rotated when its time has come.
        if version.created < Timestamp::default() || version.created > now + CLOCKS_APART_MAX {
            return refuse(format!("version {number} was made {}, and now is {now}", version.created));
        }
        material::check(key, *number, version)?;
        certificates::check(key, version)?;
    }
    Ok(())
}

/// Whether a key has just the versions that its numbers tell of. Errors: `BadRequest`.
fn check_versions(key: &Key) -> Result<()> {
    let oldest = key.min_available.max(1);
    let ends = (key.versions.first_key_value(), key.versions.last_key_value());
    let (Some((first, _)), Some((last, _))) = ends else { return Err(Error::bad_request("it has no versions")) };
    let whole = key.latest.checked_sub(oldest).is_some_and(|more| u64::try_from(key.versions.len()) == Ok(more + 1));
    if key.latest > VERSION_MAX || !whole || (*first, *last) != (oldest, key.latest) {
        return Err(Error::bad_request(format!(
            "its versions are not all from {oldest}, the oldest available, to {}, the latest, which is at most {VERSION_MAX}",
            key.latest
        )));
    }
    if key.min_decryption == 0 || [key.min_decryption, key.min_encryption].iter().any(|limit| *limit > key.latest) {
        return Err(Error::bad_request("its limits are not within its versions"));
    }
    key.check_limits()
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
/// Bytes of a backup's text: base64 of a row of the greatest size, with room for what is around it.
const TEXT_BYTES_MAX: usize = rows::KEY_BYTES_MAX / 3 * 4 + 4096;
/// How far the clock of the server that made a backup may be ahead.
const CLOCKS_APART_MAX: Seconds = Seconds(86_400);
