//! The server as an issuer of identity tokens: mounts prove by them who they are at services that know the keys published here.
//!
//! Named keys are rows of their own, changed under conditions; nothing is cached, because a token is made about once an hour for each mount.
//! A token's subject is the mount that [`speaker`] was made for: whoever asks for a token cannot name another.

pub(crate) mod key;
pub(crate) mod material;

use std::sync::{Arc, Weak};

use daypass_base::{BoxFuture, Brief, Clock, Entropy, Seconds, Secret};
use daypass_sdk::{Error, IdentityClaims, MountIdentity, Result};
use daypass_storage::{Batch, Key};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ids;
use crate::mounts::{Class, MountRow};
use crate::node::Inner;
use crate::rows::{Rows, config_key, unchanged};
use key::{DEFAULT, KeyRow, KeySettings};
use material::{Algorithm, Jwk, SigningKey};

/// Keys, the issuer's name, and tokens.
pub(crate) struct Oidc {
    rows: Rows,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    api_addr: String,
    /// One change at a time, so that keys are made one after the other; other nodes are kept apart by the rows' versions.
    changing: tokio::sync::Mutex<()>,
}

/// `identity/oidc/config`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Config {
    /// Scheme, host and port; empty for the server's own address.
    #[serde(default)]
    pub(crate) issuer: String,
}

/// A key to write; what is absent stays as it is.
#[derive(Default)]
pub(crate) struct KeyWish {
    pub(crate) algorithm: Option<String>,
    pub(crate) rotation_period: Option<Seconds>,
    pub(crate) verification_ttl: Option<Seconds>,
    pub(crate) allowed_client_ids: Option<Vec<String>>,
}

impl Oidc {
    pub(crate) fn new(rows: Rows, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, api_addr: &str) -> Self {
        Self { rows, clock, entropy, api_addr: api_addr.trim_end_matches('/').to_owned(), changing: tokio::sync::Mutex::new(()) }
    }

    pub(crate) async fn config(&self) -> Result<Config> {
        Ok(self.rows.get_json(&config_row()).await?.map(|(config, _)| config).unwrap_or_default())
    }

    /// Errors: `BadRequest` unless the issuer is empty, or a scheme and a host.
    pub(crate) async fn configure(&self, issuer: String) -> Result<()> {
        if !issuer.is_empty() && !is_origin(&issuer) {
            return Err(Error::bad_request(
                "invalid issuer, which must include only a scheme, host, and optional port (e.g. https://example.com:8200)",
            ));
        }
        let _alone = self.changing.lock().await;
        let version = self.rows.get(&config_row()).await?.0.map(|plain| plain.version);
        self.store(config_row(), version, &Config { issuer }).await
    }

    /// Who signs the tokens of mounts.
    pub(crate) async fn issuer(&self) -> Result<String> {
        let config = self.config().await?;
        let origin = if config.issuer.is_empty() { &self.api_addr } else { &config.issuer };
        Ok(format!("{origin}/v1/identity/oidc/plugins"))
    }

    /// How a key is set. `None`: there is no such key.
    pub(crate) async fn settings(&self, name: &str) -> Result<Option<KeySettings>> {
        let stored = self.stored(name).await?.map(|(row, _)| row.settings);
        Ok(stored.or_else(|| (name == DEFAULT).then(KeySettings::of_default)))
    }

    /// Names of all keys, in order.
    pub(crate) async fn names(&self) -> Result<Vec<String>> {
        let mut names = self.stored_names().await?;
        if let Err(place) = names.binary_search_by(|name| name.as_str().cmp(DEFAULT)) {
            names.insert(place, DEFAULT.to_owned());
        }
        Ok(names)
    }

    /// Creates or changes a key. Errors: `BadRequest`, mostly in Vault's words.
    pub(crate) async fn write(&self, name: &str, wish: KeyWish) -> Result<()> {
        let _alone = self.changing.lock().await;
        let stored = self.stored(name).await?;
        let mut settings = match &stored {
            Some((row, _)) => row.settings.clone(),
            None if name == DEFAULT => KeySettings::of_default(),
            None if self.stored_names().await?.len() >= KEYS_MAX => {
                return Err(Error::bad_request(format!("there are {KEYS_MAX} keys, which is the limit: delete one first")));
            }
            None => KeySettings::default(),
        };
        if let Some(name) = wish.algorithm {
            settings.algorithm =
                Algorithm::parse(&name).ok_or_else(|| Error::bad_request(format!("unknown signing algorithm {:?}", Brief(&name))))?;
        }
        settings.rotation_period = wish.rotation_period.unwrap_or(settings.rotation_period);
        settings.verification_ttl = wish.verification_ttl.unwrap_or(settings.verification_ttl);
        settings.allowed_client_ids = wish.allowed_client_ids.unwrap_or(settings.allowed_client_ids);
        settings.check()?;
        let now = self.clock.now();
        match stored {
            None => self.create(name, settings).await.map(|_row| ()),
            Some((mut row, version)) => {
                let other = row.settings.algorithm != settings.algorithm;
                row.settings = settings;
                if other {
                    let algorithm = row.settings.algorithm;
                    row.replace(self.made(algorithm).await?, self.made(algorithm).await?, now);
                }
                self.store(row_key(name), Some(version), &row).await
            }
        }
    }

    /// The next key signs from now on. `None` as `verification_ttl`: the key's own. Errors: `BadRequest` when there is no such key.
    pub(crate) async fn rotate(&self, name: &str, verification_ttl: Option<Seconds>) -> Result<()> {
        let _alone = self.changing.lock().await;
        let Some((mut row, version)) = self.stored(name).await? else {
            let settings = self.settings(name).await?.ok_or_else(|| missing(name))?;
            return self.create(name, settings).await.map(|_row| ());
        };
        let ttl = verification_ttl.unwrap_or(row.settings.verification_ttl);
        key::check_verification(ttl, row.settings.rotation_period)?;
        row.rotate(self.made(row.settings.algorithm).await?, ttl, self.clock.now());
        self.store(row_key(name), Some(version), &row).await
    }

    /// Errors: `BadRequest` for the default key, and for one that mounts use.
    pub(crate) async fn delete(&self, name: &str, users: &[String]) -> Result<()> {
        if name == DEFAULT {
            return Err(Error::bad_request(format!("deletion of key {name:?} not allowed")));
        }
        if !users.is_empty() {
            return Err(Error::bad_request(format!(
                "unable to delete key {name:?} because it is currently referenced by these mounts: {}",
                users.join(", ")
            )));
        }
        let _alone = self.changing.lock().await;
        self.rows.commit(Batch::new().delete(row_key(name))).await?;
        Ok(())
    }

    /// Rotates what is due: regular work. One key that fails does not keep the others from it.
    pub(crate) async fn rotate_due(&self) -> Result<()> {
        let mut result = Ok(());
        for name in self.stored_names().await? {
            let due = self.stored(&name).await.map(|stored| stored.is_some_and(|(row, _)| row.is_due(self.clock.now())));
            let rotated = match due {
                Ok(true) => self.rotate(&name, None).await.inspect(|()| tracing::info!(key = %name, "an identity token key was rotated")),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            result = result.and(rotated);
        }
        result
    }

    /// The public halves of all keys. A key that has never signed is not among them.
    pub(crate) async fn published(&self) -> Result<Vec<Jwk>> {
        let now = self.clock.now();
        let mut keys = Vec::new();
        for name in self.stored_names().await? {
            if let Some((row, _)) = self.stored(&name).await? {
                keys.extend(row.published(now).cloned());
            }
        }
        Ok(keys)
    }

    /// A token about a mount. `version` is that of its engine.
    async fn token(&self, mount: &MountRow, audience: &str, ttl: Seconds, version: &str) -> Result<Secret<String>> {
        if audience.is_empty() || audience.len() > AUDIENCE_BYTES_MAX || audience.chars().any(char::is_control) {
            let size = audience.len();
            return Err(Error::bad_request(format!(
                "the audience of an identity token has {size} bytes or control characters: 1 to {AUDIENCE_BYTES_MAX} printable ones are allowed"
            )));
        }
        let name = mount.config.identity_token_key.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT);
        let row = self.ready(name).await?;
        let (now, claims) = (self.clock.now().seconds(), self.claims(mount).await?);
        let lives = i64::try_from(row.capped(ttl).0).unwrap_or(i64::MAX);
        let claims = json!({
            "aud": [audience],
            "exp": now.saturating_add(lives),
            "iat": now,
            "iss": claims.issuer,
            "nbf": now,
            "sub": claims.subject,
            "vaultproject.io": {
                "accessor": mount.accessor,
                "class": class(mount),
                "local": mount.local,
                "namespace_id": "root",
                "namespace_path": "",
                "path": mount.short_path(),
                "plugin": mount.kind,
                "version": version,
            },
        });
        off_the_runtime(move || row.current.sign(claims.to_string().as_bytes())).await
    }

    async fn claims(&self, mount: &MountRow) -> Result<IdentityClaims> {
        let subject = format!("plugin-identity:root:{}:{}", class(mount), mount.accessor);
        Ok(IdentityClaims { issuer: self.issuer().await?, subject })
    }

    /// A key that can sign. The default key is made here, when it is first wanted. Errors: `BadRequest` when there is no such key.
    async fn ready(&self, name: &str) -> Result<KeyRow> {
        if let Some((row, _)) = self.stored(name).await? {
            return Ok(row);
        }
        if name != DEFAULT {
            return Err(missing(name));
        }
        let _alone = self.changing.lock().await;
        match self.stored(name).await? {
            Some((row, _)) => Ok(row),
            None => self.create(name, KeySettings::of_default()).await,
        }
    }

    /// The caller holds `changing`.
    async fn create(&self, name: &str, settings: KeySettings) -> Result<KeyRow> {
        let (current, next) = (self.made(settings.algorithm).await?, self.made(settings.algorithm).await?);
        let row = KeyRow::new(settings, current, next, self.clock.now());
        self.store(row_key(name), None, &row).await?;
        Ok(row)
    }

    async fn made(&self, algorithm: Algorithm) -> Result<SigningKey> {
        let id = ids::uuid(&*self.entropy);
        off_the_runtime(move || SigningKey::generate(algorithm, id)).await
    }

    async fn stored(&self, name: &str) -> Result<Option<(KeyRow, u64)>> {
        self.rows.get_json(&row_key(name)).await
    }

    async fn stored_names(&self) -> Result<Vec<String>> {
        let names = self.rows.list(&row_key(""), None, KEYS_MAX).await?;
        Ok(names.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect())
    }

    /// Puts a row that still is as it was read. Errors: `Failed` when it was changed meanwhile.
    async fn store(&self, key: Key, version: Option<u64>, value: &impl Serialize) -> Result<()> {
        let mut batch = Batch::new();
        batch.conditions.push(unchanged(key.clone(), version));
        self.rows.commit(self.rows.put_json(batch, key, value)?).await?;
        Ok(())
    }
}

/// Does slow work where it holds up nobody.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("cryptographic work ended early").because(error))?
}

fn missing(name: &str) -> Error {
    Error::bad_request(format!("no named key found at {:?}", Brief(name)))
}

fn class(mount: &MountRow) -> &'static str {
    match mount.class {
        Class::Auth => "auth",
        Class::Secret => "secret",
    }
}

/// Whether a text is a scheme and a host, with a port or without, and nothing more.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
    let host = uri.authority().filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    scheme.zip(host).is_some_and(|(scheme, host)| text == format!("{scheme}://{host}"))
}

fn config_row() -> Key {
    config_key("identity/oidc/config")
}

fn row_key(name: &str) -> Key {
    config_key(format!("identity/oidc/key/{name}"))
}

/// Named keys.
const KEYS_MAX: usize = 100;
const AUDIENCE_BYTES_MAX: usize = 1024;

/// The identity of a mount, for its engine.
pub(crate) fn speaker(inner: &Arc<Inner>, row: &MountRow) -> Arc<dyn MountIdentity> {
    Arc::new(Speaker { inner: Arc::downgrade(inner), accessor: row.accessor.clone() })
}

/// Speaks for one mount, by its accessor: the path may change, and the key may be another one by then.
struct Speaker {
    inner: Weak<Inner>,
    accessor: String,
}

impl MountIdentity for Speaker {
    fn token<'a>(&'a self, audience: &'a str, ttl: Seconds) -> BoxFuture<'a, Result<Secret<String>>> {
        Box::pin(async move {
            let inner = self.inner()?;
            let unsealed = inner.unsealed()?;
            let table = unsealed.table.load_full();
            let live = table.by_accessor(&self.accessor).ok_or_else(gone)?;
            unsealed.oidc.token(&live.row, audience, ttl, &inner.engine_version()).await
        })
    }

    fn claims(&self) -> BoxFuture<'_, Result<IdentityClaims>> {
        Box::pin(async move {
            let unsealed = self.inner()?.unsealed()?;
            let table = unsealed.table.load_full();
            unsealed.oidc.claims(&table.by_accessor(&self.accessor).ok_or_else(gone)?.row).await
        })
    }
}

impl Speaker {
    fn inner(&self) -> Result<Arc<Inner>> {
        self.inner.upgrade().ok_or_else(crate::node::sealed)
    }
}

fn gone() -> Error {
    Error::failed("the mount is gone, so there is nothing to make an identity token about")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_scheme_and_a_host_and_nothing_more() {
        for good in ["https://example.com", "https://example.com:8200", "http://127.0.0.1:8200", "https://[::1]:1"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "example.com",
            "https://",
            "ftp://example.com",
            "https://example.com/",
            "https://example.com/x",
            "https://a@b",
            "https://a?b",
            "x y",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
