//! What is stored of a key, and every decision about it: pure, without storage or time of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use daypass_sdk::{Cx, Error, Operation, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::config::Config;
use super::times::{DeleteAfter, maybe_nanos, nanos};

/// A key: its settings, its versions, and mostly the data of the current one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Key {
    /// Number of the newest version; 0 before the first write.
    pub(super) current: u64,
    /// The newest version. It stands apart from the others so that a read need not look at those.
    pub(super) latest: Option<Version>,
    /// The caller's own notes; empty shows as null.
    #[serde(default)]
    pub(super) custom: BTreeMap<String, String>,
    /// Data of the newest version, unless it is destroyed or has a row of its own.
    pub(super) data: Option<Box<RawValue>>,
    /// The oldest number that is still kept; 0 until the first was dropped.
    pub(super) oldest: u64,
    #[serde(with = "nanos")]
    pub(super) created: Timestamp,
    #[serde(with = "nanos")]
    pub(super) updated: Timestamp,
    /// Who changed a version last.
    pub(super) updated_by: Option<Author>,
    /// Versions to keep; 0 leaves it to the mount.
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
    pub(super) delete_version_after: DeleteAfter,
    /// All versions but the newest.
    #[serde(default)]
    pub(super) older: BTreeMap<u64, Version>,
}

/// What a read of the current version needs of a [`Key`], without copies.
#[derive(Debug, Deserialize)]
pub(super) struct Glance<'a> {
    pub(super) current: u64,
    pub(super) latest: Option<Version>,
    #[serde(default)]
    pub(super) custom: BTreeMap<String, String>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
}

/// One version, without its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    #[serde(with = "nanos")]
    pub(super) created: Timestamp,
    /// When it is or was deleted; a time to come leaves it readable until then.
    #[serde(default, with = "maybe_nanos", skip_serializing_if = "Option::is_none")]
    pub(super) deletion: Option<Timestamp>,
    /// Its data is gone for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) destroyed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created_by: Option<Author>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deleted_by: Option<Author>,
    /// The version that first had the row that now holds this one's data; absent where that is this one itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
}

/// Who did what, as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Author {
    /// Display name of the token.
    actor: String,
    /// `create`, `update`, `patch`, `delete`, `undelete`, `destroy`.
    operation: Cow<'static, str>,
    client_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    entity_id: String,
}

/// Rows of version data that go with a changed key.
#[derive(Debug, Default)]
pub(super) struct DataRows {
    pub(super) put: Vec<DataRow>,
    /// Rows to delete, by the number in their names.
    pub(super) delete: Vec<u64>,
    /// Versions were dropped that the settings would have kept.
    pub(super) over_limit: bool,
}

/// The data of one version, to be written.
#[derive(Debug)]
pub(super) struct DataRow {
    /// The number in the row's name.
    pub(super) row: u64,
    pub(super) version: u64,
    pub(super) data: Box<RawValue>,
}

impl Key {
    /// A key without a version.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            current: 0,
            latest: None,
            custom: BTreeMap::new(),
            data: None,
            oldest: 0,
            created: now,
            updated: now,
            updated_by: None,
            max_versions: 0,
            cas_required: false,
            delete_version_after: DeleteAfter::Unset,
            older: BTreeMap::new(),
        }
    }

    /// The number that a request means: 0 and less are the current version.
    pub(super) fn number(&self, wanted: i64) -> u64 {
        u64::try_from(wanted).ok().filter(|number| *number > 0).unwrap_or(self.current)
    }

    pub(super) fn version(&self, number: u64) -> Option<&Version> {
        if number == self.current { self.latest.as_ref() } else { self.older.get(&number) }
    }

    pub(super) fn versions(&self) -> impl Iterator<Item = (u64, &Version)> {
        self.older.iter().map(|(number, version)| (*number, version)).chain(self.latest.iter().map(|version| (self.current, version)))
    }

    fn version_mut(&mut self, number: u64) -> Option<&mut Version> {
        if number == self.current { self.latest.as_mut() } else { self.older.get_mut(&number) }
    }

    /// Checks the `cas` option of a write. Errors: `BadRequest`.
    pub(super) fn check_cas(key: Option<&Self>, config: &Config, cas: Option<&Value>) -> Result<()> {
        let Some(cas) = cas else {
            let required = config.cas_required || key.is_some_and(|key| key.cas_required);
            return if required { Err(Error::bad_request("check-and-set parameter required for this call")) } else { Ok(()) };
        };
        let wanted = weak_integer(cas).ok_or_else(|| Error::bad_request("error parsing check-and-set parameter"))?;
        if u64::try_from(wanted).ok() != Some(key.map_or(0, |key| key.current)) {
            return Err(Error::bad_request("check-and-set parameter did not match the current version"));
        }
        Ok(())
    }

    /// Adds a version with this data and drops those that are too many. Data that needs a row gets that of a dropped version, if there is one:
    /// changing a row costs the store a third of removing one and adding another. Without an author where nobody can say who it was.
    pub(super) fn add(&mut self, config: &Config, data: Box<RawValue>, by: Option<Author>, now: Timestamp) -> DataRows {
        let (former, without_row) = (self.current, self.data.take());
        self.older.extend(self.latest.take().map(|version| (former, version)));
        self.current += 1;
        self.updated = now;
        self.updated_by.clone_from(&by);
        let mut rows = self.trim(config);
        if let (Some(data), Some(version)) = (without_row, self.older.get_mut(&former)) {
            version.row = rows.place(former, data);
        }
        let deletion = self.deletion_time(config, now);
        let mut latest = Version { created: now, deletion, destroyed: false, created_by: by, deleted_by: None, row: None };
        if data.get().len() <= INLINE_BYTES_MAX {
            self.data = Some(data);
        } else {
            latest.row = rows.place(self.current, data);
        }
        self.latest = Some(latest);
        rows
    }

    /// Vault's rule: the larger of the key's and the mount's number counts, and the window starts to move with the version that fills it.
    fn trim(&mut self, config: &Config) -> DataRows {
        let mut rows = DataRows::default();
        let wanted = match self.max_versions.max(config.max_versions) {
            0 => VERSIONS_DEFAULT,
            set => u64::from(set),
        };
        let keep = wanted.min(VERSIONS_MAX);
        if self.current - self.oldest < keep {
            return rows;
        }
        self.oldest = self.current - keep + 1;
        let kept = self.older.split_off(&self.oldest);
        let dropped = std::mem::replace(&mut self.older, kept);
        rows.over_limit = wanted > keep && !dropped.is_empty();
        rows.delete.extend(dropped.iter().filter_map(|(number, version)| version.row(*number)));
        rows
    }

    /// Marks versions as deleted; those that are gone already stay as they are.
    pub(super) fn delete(&mut self, numbers: &[i64], by: &Author, now: Timestamp) {
        for number in known(numbers) {
            if let Some(version) = self.version_mut(number).filter(|version| version.readable(now)) {
                version.deletion = Some(now);
                version.deleted_by = Some(by.clone());
            }
        }
        self.touch(by, now);
    }

    /// Makes deleted versions readable again, for as long as a version written now would be.
    pub(super) fn undelete(&mut self, config: &Config, numbers: &[i64], by: &Author, now: Timestamp) {
        let deletion = self.deletion_time(config, now);
        for number in known(numbers) {
            if let Some(version) = self.version_mut(number).filter(|version| !version.destroyed) {
                version.deletion = deletion;
                version.deleted_by = None;
            }
        }
        self.touch(by, now);
    }

    /// Removes the data of versions for good.
    pub(super) fn destroy(&mut self, numbers: &[i64], by: &Author, now: Timestamp) -> DataRows {
        let mut rows = DataRows::default();
        for number in known(numbers) {
            if let Some(version) = self.version_mut(number).filter(|version| !version.destroyed) {
                rows.delete.extend(version.row(number));
                version.destroyed = true;
                version.row = None;
                if number == self.current {
                    self.data = None;
                }
            }
        }
        self.touch(by, now);
        rows
    }

    fn touch(&mut self, by: &Author, now: Timestamp) {
        self.updated = now;
        self.updated_by = Some(by.clone());
    }

    /// When a version that is written or restored now will be deleted: the shorter time of key and mount; either can switch it off.
    fn deletion_time(&self, config: &Config, now: Timestamp) -> Option<Timestamp> {
        let after = match (self.delete_version_after, config.delete_version_after) {
            (DeleteAfter::Off, _) | (_, DeleteAfter::Off) | (DeleteAfter::Unset, DeleteAfter::Unset) => return None,
            (DeleteAfter::Seconds(one), DeleteAfter::Seconds(other)) => one.min(other),
            (DeleteAfter::Seconds(set), DeleteAfter::Unset) | (DeleteAfter::Unset, DeleteAfter::Seconds(set)) => set,
        };
        Some(now + Duration::from_secs(after))
    }
}

impl DataRows {
    /// Has data written to a row that would be deleted, or else to one of its own. What [`Version::row`] is to be.
    fn place(&mut self, version: u64, data: Box<RawValue>) -> Option<u64> {
        let freed = self.delete.pop();
        self.put.push(DataRow { row: freed.unwrap_or(version), version, data });
        freed
    }
}

impl Version {
    /// The number in the name of the row that has the data of this version, if it has any beside the key's own row.
    pub(super) fn row(&self, number: u64) -> Option<u64> {
        (!self.destroyed).then(|| self.row.unwrap_or(number))
    }

    /// Whether its data may be read at this moment. What somebody deleted stays deleted, also when the clock is put back.
    pub(super) fn readable(&self, now: Timestamp) -> bool {
        !self.destroyed && self.deleted_by.is_none() && self.deletion.is_none_or(|at| at > now)
    }

    /// As `data/` answers show it.
    pub(super) fn shown(&self, number: u64, custom: &BTreeMap<String, String>) -> Value {
        json!({
            "created_time": self.created,
            "custom_metadata": shown_custom(custom),
            "deletion_time": self.deletion.map(|at| at.to_string()).unwrap_or_default(),
            "destroyed": self.destroyed,
            "version": number,
        })
    }
}

impl Author {
    /// The caller, doing what the request says.
    pub(super) fn of(cx: &Cx) -> Self {
        Self::doing(cx, cx.request.operation.unwrap_or(Operation::Update).name())
    }

    /// The caller, doing this.
    pub(super) fn doing(cx: &Cx, operation: &'static str) -> Self {
        let caller = &cx.request.caller;
        Self {
            actor: caller.display_name.clone(),
            operation: Cow::Borrowed(operation),
            client_id: caller.client_id.clone(),
            entity_id: caller.entity_id.clone(),
        }
    }
}

/// Null instead of an empty object.
pub(super) fn shown_custom(custom: &BTreeMap<String, String>) -> Value {
    if custom.is_empty() { Value::Null } else { json!(custom) }
}

/// A number of versions as Vault keeps it: 32 bits, in which -1 is the largest.
pub(super) fn versions_setting(value: i64) -> u32 {
    u32::try_from(value.rem_euclid(1 << 32)).unwrap_or(u32::MAX)
}

/// Applies a JSON merge patch (RFC 7396) to an object.
pub(super) fn merge(target: &mut serde_json::Map<String, Value>, patch: serde_json::Map<String, Value>) {
    for (name, change) in patch {
        match change {
            Value::Null => {
                target.remove(&name);
            }
            Value::Object(inner) => {
                let place = target.entry(name).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(serde_json::Map::new());
                }
                if let Value::Object(object) = place {
                    merge(object, inner);
                }
            }
            other => {
                target.insert(name, other);
            }
        }
    }
}

fn known(numbers: &[i64]) -> impl Iterator<Item = u64> + '_ {
    numbers.iter().filter_map(|number| u64::try_from(*number).ok())
}

/// A whole number as Vault takes it: also as text or boolean; nothing and the empty text are 0.
fn weak_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Null => Some(0),
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => number.as_i64(),
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => text.parse().ok(),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Data up to this size lives in the key's own row, where one look-up finds it; more would make every change of the metadata slow.
pub(super) const INLINE_BYTES_MAX: usize = 32 * 1024;
/// Versions that are kept when neither key nor mount says how many.
const VERSIONS_DEFAULT: u64 = 10;
/// The most versions of one key, whatever the settings say: their table is rewritten with every write, and one commit can remove them all.
pub(super) const VERSIONS_MAX: u64 = 5000;
