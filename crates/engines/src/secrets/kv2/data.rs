//! `data/`: read, write, patch and delete the current version, and read older ones.

use std::sync::Arc;

use bytes::Bytes;
use daypass_sdk::{Cx, Endpoint, Error, Operation, Outcome, Reply, Result, from_json};
use schemars::JsonSchema;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::key::{Author, DataRows, Key, VERSIONS_MAX, Version, merge};
use super::rows::{self, Seen, Step, change};
use super::{Kv2, invalid};
use crate::secrets::kv_path;

/// Which secret, and which version of it.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ReadParams {
    /// Path of the secret.
    pub(super) path: String,
    /// Number of the version; 0 is the current one.
    #[serde(default)]
    pub(super) version: i64,
}

/// What to write.
#[derive(JsonSchema)]
struct WriteParams {
    /// Path of the secret.
    path: String,
    /// The secret: any JSON object.
    data: Option<Loose>,
    /// `cas`: the number of the version that this write replaces; 0 when there must be none.
    options: Option<Loose>,
    /// Not used by writes.
    #[expect(dead_code, reason = "declared so that clients which send it get no warning, as with Vault")]
    version: Option<i64>,
}

/// An object as Vault takes it where a map is wanted: null and an empty list are empty objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Loose(pub(super) Map<String, Value>);

/// [`Loose`], where null empties what an object would change.
#[derive(Debug, Clone)]
pub(super) enum Notes {
    Empty,
    These(Loose),
}

pub(super) fn endpoint() -> Endpoint<Kv2> {
    Endpoint::at(["data/{path..}"])
        .summary("Write, patch, read or delete a secret.")
        .help(
            "A write makes a new version; `options.cas` names the version that it replaces. A patch merges into the current version \
             (JSON merge patch). A delete can be undone with `undelete`.",
        )
        .exists(exists)
        .safe()
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Patch, patch)
        .on(Operation::Delete, delete)
        .on(Operation::List, invalid::refuse)
}

async fn exists(kv: Arc<Kv2>, cx: Cx, params: WriteParams) -> Result<bool> {
    kv.ready(&cx).await?;
    Ok(cx.store.get(&rows::key_row(&params.path)).await?.is_some())
}

async fn read(kv: Arc<Kv2>, cx: Cx, params: ReadParams) -> Result<Reply> {
    let found = find(&kv, &cx, &params).await?;
    Ok(found.answer("data", |data| data))
}

/// A version that was found, with its data where that may be read.
pub(super) struct FoundVersion {
    metadata: Value,
    data: Option<Map<String, Value>>,
}

impl FoundVersion {
    /// 200 with the data in this field, or 404 with the metadata alone.
    pub(super) fn answer(self, field: &str, show: impl Fn(Map<String, Value>) -> Map<String, Value>) -> Reply {
        let found = self.data.is_some();
        let data = self.data.map_or(Value::Null, |data| Value::Object(show(data)));
        let body = Map::from_iter([(field.to_owned(), data), ("metadata".to_owned(), self.metadata)]);
        if found { Reply::data(body) } else { Outcome::Missing(body).into() }
    }
}

/// Finds a version. Errors: `NotFound` when there is no such version.
pub(super) async fn find(kv: &Kv2, cx: &Cx, params: &ReadParams) -> Result<FoundVersion> {
    kv.ready(cx).await?;
    if params.path.ends_with('/') {
        return Err(invalid::refusal(cx));
    }
    // A version's row can go between the two look-ups, when it is trimmed or destroyed; then the key says so at the next one.
    for _ in 0..rows::ATTEMPTS_MAX {
        if let Some(found) = look(cx, params).await? {
            return Ok(found);
        }
    }
    Err(rows::busy())
}

/// One attempt of [`find`]: one look-up for the current version, two for others. `None`: the row was just removed.
async fn look(cx: &Cx, params: &ReadParams) -> Result<Option<FoundVersion>> {
    let row = rows::key_row(&params.path);
    let entry = cx.store.get(&row).await?.ok_or_else(Error::not_found)?;
    let now = cx.clock.now();
    let glance = rows::glance(&row, &entry.value)?;
    if params.version <= 0 || u64::try_from(params.version).ok() == Some(glance.current) {
        let version = glance.latest.as_ref().ok_or_else(Error::not_found)?;
        let metadata = version.shown(glance.current, &glance.custom);
        let data = match glance.data {
            _ if !version.readable(now) => None,
            Some(data) => Some(rows::parse(&params.path, data)?),
            None => match rows::read_data(cx, &params.path, glance.current, version).await? {
                Some(data) => Some(data),
                None => return Ok(None),
            },
        };
        return Ok(Some(FoundVersion { metadata, data }));
    }
    let key: Key = from_json(&row, &entry.value)?;
    let number = key.number(params.version);
    let version = key.version(number).ok_or_else(Error::not_found)?;
    let metadata = version.shown(number, &key.custom);
    if !version.readable(now) {
        return Ok(Some(FoundVersion { metadata, data: None }));
    }
    let data = rows::read_data(cx, &params.path, number, version).await?;
    Ok(data.map(|data| FoundVersion { metadata, data: Some(data) }))
}

/// Fails with `BadRequest` without data or when `cas` does not fit.
async fn write(kv: Arc<Kv2>, cx: Cx, params: WriteParams) -> Result<Reply> {
    kv.ready(&cx).await?;
    let data = raw(&params.data.as_ref().ok_or_else(no_data)?.0)?;
    let cas = params.cas();
    change(&cx, &params.path, |config, key| {
        Key::check_cas(key.as_ref(), config, cas)?;
        let now = cx.clock.now();
        let mut key = key.unwrap_or_else(|| Key::new(now));
        let rows = key.add(config, data.clone(), Some(Author::of(&cx)), now);
        let answer = written(&key, &rows);
        Ok(Step::Store(Box::new(key), rows, answer))
    })
    .await
}

/// As [`write()`]; also `NotFound` for a secret that does not exist, and 404 with its metadata for one that is deleted.
async fn patch(kv: Arc<Kv2>, cx: Cx, params: WriteParams) -> Result<Reply> {
    kv.ready(&cx).await?;
    let cas = params.cas();
    let changes = &params.data.as_ref().ok_or_else(no_data)?.0;
    kv_path::check(&params.path)?;
    for _ in 0..rows::ATTEMPTS_MAX {
        let mut seen = Seen::read(&cx, &params.path).await?;
        let Some(mut key) = seen.key.take() else { return Ok(nothing_to_patch()) };
        Key::check_cas(Some(&key), &seen.config, cas)?;
        let Some(version) = &key.latest else { return Ok(nothing_to_patch()) };
        let now = cx.clock.now();
        if !version.readable(now) {
            return Ok(Outcome::Missing(object(version.shown(key.current, &key.custom))).into());
        }
        let Some(mut data) = rows::data_of(&cx, &params.path, &key, key.current).await? else { continue };
        merge(&mut data, changes.clone());
        let merged = raw(&data)?;
        // It may take a hundred times its text, and the commit may wait.
        drop(data);
        let rows = key.add(&seen.config, merged, Some(Author::of(&cx)), now);
        let answer = written(&key, &rows);
        if let Some(answer) = seen.commit(&cx, &params.path, Step::Store(Box::new(key), rows, answer)).await? {
            return Ok(answer);
        }
    }
    Err(rows::busy())
}

async fn delete(kv: Arc<Kv2>, cx: Cx, params: ReadParams) -> Result<()> {
    kv.ready(&cx).await?;
    if params.path.ends_with('/') {
        return Err(invalid::refusal(&cx));
    }
    let by = Author::doing(&cx, "delete");
    change(&cx, &params.path, |_, key| {
        let now = cx.clock.now();
        let readable = |key: &Key| key.latest.as_ref().is_some_and(|version| version.readable(now));
        let Some(mut key) = key.filter(readable) else { return Ok(Step::Leave(())) };
        let current = i64::try_from(key.current).unwrap_or(i64::MAX);
        key.delete(&[current], &by, now);
        Ok(Step::Store(Box::new(key), DataRows::default(), ()))
    })
    .await
}

/// The answer of a write: the version that it made.
fn written(key: &Key, rows: &DataRows) -> Reply {
    let shown = key.latest.as_ref().map(|version: &Version| version.shown(key.current, &key.custom));
    let reply = Reply::data(shown.map(object).unwrap_or_default());
    if rows.over_limit {
        reply.warn(format!(
            "The oldest version was removed: at most {VERSIONS_MAX} versions of a secret are kept, whatever max_versions says."
        ))
    } else {
        reply
    }
}

/// Vault answers 404 without a body here; the CLI goes by the status. Source: recorded fixture `kv2-patch-and-subkeys`.
pub(super) fn nothing_to_patch() -> Reply {
    Outcome::Raw(404, "application/json", Bytes::new()).into()
}

fn no_data() -> Error {
    Error::bad_request("no data provided")
}

fn raw(data: &Map<String, Value>) -> Result<Box<RawValue>> {
    to_raw_value(data).map_err(|error| Error::internal("data cannot be stored as JSON").because(error))
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

impl WriteParams {
    fn cas(&self) -> Option<&Value> {
        self.options.as_ref()?.0.get("cas")
    }
}

/// By hand, because `null` is something else than an absent field here: it stands for an empty object.
impl<'de> Deserialize<'de> for WriteParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WriteVisitor)
    }
}

struct WriteVisitor;

impl<'de> Visitor<'de> for WriteVisitor {
    type Value = WriteParams;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the fields of a write")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WriteParams, A::Error> {
        let mut params = WriteParams { path: String::new(), data: None, options: None, version: None };
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "path" => params.path = map.next_value()?,
                "data" => params.data = Some(map.next_value()?),
                "options" => params.options = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(params)
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let got = match Value::deserialize(deserializer)? {
            Value::Object(map) => return Ok(Self(map)),
            Value::Null => return Ok(Self::default()),
            Value::Array(items) if items.is_empty() => return Ok(Self::default()),
            Value::Array(_) => "slice",
            Value::Bool(_) => "bool",
            Value::Number(_) | Value::String(_) => "string",
        };
        Err(de::Error::custom(format!("'' expected a map, got '{got}'")))
    }
}

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_null() { Ok(Self::Empty) } else { Loose::deserialize(value).map(Self::These).map_err(de::Error::custom) }
    }
}

impl Notes {
    /// What is set, where a write replaces all of them.
    pub(super) fn whole(&self) -> Map<String, Value> {
        match self {
            Self::Empty => Map::new(),
            Self::These(notes) => notes.0.clone(),
        }
    }
}

impl JsonSchema for Notes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        Loose::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Loose::json_schema(generator)
    }
}

impl JsonSchema for Loose {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Object".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": true })
    }
}
