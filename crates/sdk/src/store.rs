//! An engine's own storage: values at keys, sealed and kept apart from every other mount's.

use std::any::Any;
use std::sync::Arc;

use daypass_base::limits::LIST_NAMES;
use daypass_base::{BoxFuture, Secret};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::{Error, Page, Result};

/// A stored value and how often it was put since it last was absent (first put: 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value in clear.
    pub value: Vec<u8>,
    /// For [`Expect::Version`].
    pub version: u64,
}

/// What must hold for changes to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key has no value.
    Absent,
    /// The key has a value.
    Exists,
    /// The key has a value of this version.
    Version(u64),
}

/// Changes that are applied together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// All must hold.
    pub expectations: Vec<(String, Expect)>,
    /// New values.
    pub puts: Vec<(String, Vec<u8>)>,
    /// Keys to remove.
    pub deletes: Vec<String>,
    /// Whether this takes something back. A store that is nearly full keeps room for that.
    pub takes_back: bool,
}

impl Changes {
    /// No changes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>, expect: Expect) -> Self {
        self.expectations.push((key.into(), expect));
        self
    }

    /// Adds a condition that a key still is as it was read: absent, or this version.
    #[must_use]
    pub fn unchanged(self, key: impl Into<String>, read: Option<&Entry>) -> Self {
        self.expect(key, read.map_or(Expect::Absent, |entry| Expect::Version(entry.version)))
    }

    /// Adds a value as bytes.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: Vec<u8>) -> Self {
        self.puts.push((key.into(), value));
        self
    }

    /// Adds a value as JSON. Errors: `Internal` when it does not serialise.
    pub fn put_json(self, key: impl Into<String>, value: &impl Serialize) -> Result<Self> {
        Ok(self.put(key, to_json(value)?))
    }

    /// Marks the changes as ones that take something back, such as a removal that leaves a note of what is still to be undone.
    #[must_use]
    pub fn taking_back(mut self) -> Self {
        self.takes_back = true;
        self
    }

    /// Adds a removal.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.deletes.push(key.into());
        self
    }
}

/// Why changes were not applied.
#[derive(Debug)]
pub enum CommitFailure {
    /// The expectation with this index did not hold: read again and decide again.
    Conflict(usize),
    /// Anything else, ready to be returned.
    Error(Error),
}

impl From<CommitFailure> for Error {
    fn from(failure: CommitFailure) -> Self {
        match failure {
            CommitFailure::Conflict(_) => Self::failed("the value was changed by another request at the same moment; try again"),
            CommitFailure::Error(error) => error,
        }
    }
}

/// A value of any type, shared.
pub type Shared = Arc<dyn Any + Send + Sync>;

/// Makes a value of a key's bytes.
pub type Parse = fn(&str, &[u8]) -> Result<Shared>;

/// What the core provides per mount. Engines use [`Store`].
pub trait Storage: Send + Sync + 'static {
    /// Reads one key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>>;
    /// Reads several keys from one state, in the order asked. The outer error: the store cannot be read; an inner one: this value is damaged.
    fn get_each<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<Vec<Option<Result<Entry>>>>>;
    /// Reads one key as what `parse` makes of it, and its version. The same stored bytes may be parsed once for many readers.
    fn parsed<'a>(&'a self, key: &'a str, parse: Parse) -> BoxFuture<'a, Result<Option<(Shared, u64)>>> {
        Box::pin(async move {
            let Some(entry) = self.get(key).await? else { return Ok(None) };
            Ok(Some((parse(key, &entry.value)?, entry.version)))
        })
    }
    /// Names below a prefix, folded at `/`, after `after`, at most `limit`.
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Vec<String>>>;
    /// Applies changes, atomically and durably.
    fn commit(&self, changes: Changes) -> BoxFuture<'_, Result<(), CommitFailure>>;
    /// Removes everything below a prefix, in steps.
    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// A mount's storage. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn Storage>,
}

impl Store {
    /// Storage over what the core provides.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner }
    }

    /// Reads bytes. Errors: `Internal` when the store fails, as for every call here.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }

    /// Reads several keys from one state of the store.
    pub async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        self.get_each(keys).await?.into_iter().map(Option::transpose).collect()
    }

    /// The same for who goes on behind a value that is damaged: its error stands in its place.
    pub async fn get_each(&self, keys: &[String]) -> Result<Vec<Option<Result<Entry>>>> {
        self.inner.get_each(keys).await
    }

    /// Reads JSON at several keys and its versions, for who goes on behind what is damaged or not readable: as [`Store::get_each`].
    pub async fn get_each_json<T: DeserializeOwned>(&self, keys: &[String]) -> Result<Vec<Option<Result<(T, u64)>>>> {
        let found = self.get_each(keys).await?;
        let read = |key: &str, entry: Result<Entry>| {
            let entry = entry?;
            Ok((from_json(key, &entry.value)?, entry.version))
        };
        Ok(keys.iter().zip(found).map(|(key, found)| found.map(|entry| read(key, entry))).collect())
    }

    /// Reads JSON.
    pub async fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.get_json_versioned(key).await?.map(|(value, _)| value))
    }

    /// Reads JSON together with the entry's version.
    pub async fn get_json_versioned<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, u64)>> {
        let Some(entry) = self.inner.get(key).await? else { return Ok(None) };
        Ok(Some((from_json(key, &entry.value)?, entry.version)))
    }

    /// Reads JSON that many requests need (a role, a configuration) and its version: parsed once for as long as it does not change.
    pub async fn find<T: DeserializeOwned + Send + Sync + 'static>(&self, key: &str) -> Result<Option<(Arc<T>, u64)>> {
        let parse: Parse = |key, bytes| Ok(Arc::new(from_json::<T>(key, bytes)?));
        let Some((value, version)) = self.inner.parsed(key, parse).await? else { return Ok(None) };
        let value = value.downcast().map_err(|_other| Error::internal(format!("{key} is read as two different things")))?;
        Ok(Some((value, version)))
    }

    /// Writes JSON, whatever was there.
    pub async fn put_json(&self, key: &str, value: &impl Serialize) -> Result<()> {
        self.commit(Changes::new().put_json(key, value)?).await.map_err(Error::from)
    }

    /// Reads JSON, has it decided what it becomes, and stores that; decides again when another request was faster. Gives what was stored.
    /// Errors: those of `decide`, after which nothing is changed; `Failed` when others were faster again and again.
    pub async fn change<T: Serialize + DeserializeOwned>(&self, key: &str, decide: impl Fn(Option<T>) -> Result<T>) -> Result<T> {
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.get(key).await?;
            let value = decide(entry.as_ref().map(|entry| from_json(key, &entry.value)).transpose()?)?;
            match self.commit(Changes::new().unchanged(key, entry.as_ref()).put_json(key, &value)?).await {
                Ok(()) => return Ok(value),
                Err(CommitFailure::Conflict(_)) => {}
                Err(CommitFailure::Error(error)) => return Err(error),
            }
        }
        Err(Error::from(CommitFailure::Conflict(0)))
    }

    /// Removes a key; one that is absent is no error.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.commit(Changes::new().delete(key)).await.map_err(Error::from)
    }

    /// All names below a prefix, folded at `/` (folders keep it), in byte order. Errors: `BadRequest` when they are more than one answer
    /// carries.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.page(prefix, &Page::default()).await
    }

    /// The part of the same that a caller asked for. Errors: `BadRequest` when it is more than one answer carries.
    pub async fn page(&self, prefix: &str, page: &Page) -> Result<Vec<String>> {
        let limit = page.limit.unwrap_or(usize::MAX).min(LIST_NAMES + 1);
        whole(self.inner.list(prefix, page.after.as_deref(), limit).await?, LIST_NAMES)
    }

    /// A page of the same, for work that goes through all of them.
    pub async fn list_page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        self.inner.list(prefix, after, limit.min(LIST_NAMES)).await
    }

    /// Applies changes, atomically and durably.
    pub async fn commit(&self, changes: Changes) -> Result<(), CommitFailure> {
        self.inner.commit(changes).await
    }

    /// Removes everything below a prefix.
    pub async fn clear(&self, prefix: &str) -> Result<()> {
        self.inner.clear(prefix).await
    }
}

/// How often a change is decided again before it gives up.
const ATTEMPTS_MAX: usize = 100;

/// For `#[serde(serialize_with = …)]` of a secret in a value that is stored: the one way from [`Secret`] into a row.
pub fn into_the_sealed_store<S: Serializer>(secret: &Secret<String>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    // The store seals what it is given, so this is where the secret may go.
    serializer.serialize_str(secret.expose())
}

/// These names, or what is shown of them, when they are not more than one answer carries: a list is never cut short in silence. Errors: `BadRequest`, which says
/// how to get at the rest.
pub fn whole<T>(names: Vec<T>, most: usize) -> Result<Vec<T>> {
    if names.len() > most {
        let text = format!("the list has more than {most} names: ask for parts of it with the query parameters limit=N and after=NAME");
        return Err(Error::bad_request(text));
    }
    Ok(names)
}

/// Reads stored JSON. Errors: `Internal`.
pub fn from_json<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    daypass_base::nested::read(bytes)
        .map_err(|error| Error::internal(format!("the stored value of {key:?} is not readable")).because(error))
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal("a value cannot be stored as JSON").because(error))
}
