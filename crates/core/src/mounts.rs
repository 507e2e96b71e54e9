//! The mount table: what is mounted where, its settings, and the longest-prefix look-up of a request's path.

mod moving;
mod removing;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Seconds};
use daypass_policy::{Capabilities, Question};
use daypass_sdk::{Changes, Error, Found, Mount, Mounted, Operation, Result, StandsFor, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use moving::{Moving, UnderWay};
pub(crate) use removing::Removing;
pub(crate) use requests::{LOOK, Requests, Visit};

/// Secrets engine or auth method: they share one table, auth mounts at `auth/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// An auth method.
    Auth,
    /// A secrets engine.
    Secret,
}

/// A mount as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MountRow {
    /// With a slash at the end; auth mounts start with `auth/`.
    pub(crate) path: String,
    pub(crate) class: Class,
    pub(crate) kind: String,
    pub(crate) description: String,
    pub(crate) uuid: String,
    pub(crate) accessor: String,
    pub(crate) local: bool,
    pub(crate) seal_wrap: bool,
    pub(crate) external_entropy_access: bool,
    pub(crate) options: Option<BTreeMap<String, String>>,
    pub(crate) config: MountConfig,
    /// Made at init; cannot be moved or removed.
    pub(crate) builtin: bool,
    /// Being removed: no request reaches it any more.
    #[serde(default)]
    pub(crate) tainted: bool,
    /// Being moved: no request reaches it until it is open again, there or here. Not `tainted`: what was cut short is no removal, and a daypass
    /// that knows of no such moves serves the mount where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moving: Option<Moving>,
}

/// Settings of a mount; what is `None` was never set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountConfig {
    /// Zero inherits the server's.
    pub(crate) default_lease_ttl: Seconds,
    /// Zero inherits the server's.
    pub(crate) max_lease_ttl: Seconds,
    pub(crate) force_no_cache: bool,
    pub(crate) audit_non_hmac_request_keys: Option<Vec<String>>,
    pub(crate) audit_non_hmac_response_keys: Option<Vec<String>>,
    pub(crate) listing_visibility: Option<String>,
    pub(crate) passthrough_request_headers: Option<Vec<String>>,
    pub(crate) allowed_response_headers: Option<Vec<String>>,
    pub(crate) allowed_managed_keys: Option<Vec<String>>,
    pub(crate) delegated_auth_accessors: Option<Vec<String>>,
    pub(crate) identity_token_key: Option<String>,
    pub(crate) plugin_version: Option<String>,
    pub(crate) token_type: Option<String>,
    pub(crate) trim_request_trailing_slashes: Option<bool>,
    pub(crate) user_lockout: Option<UserLockout>,
}

/// When and for how long failed logins lock a user out.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct UserLockout {
    pub(crate) threshold: u64,
    pub(crate) duration: Seconds,
    pub(crate) counter_reset: Seconds,
    pub(crate) disable: bool,
}

/// The lifetimes that hold where a mount sets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemTtls {
    /// `default_lease_ttl` of the server's configuration.
    pub default: Seconds,
    /// `max_lease_ttl` of the server's configuration.
    pub max: Seconds,
}

impl Default for SystemTtls {
    /// 768 hours, as Vault.
    fn default() -> Self {
        Self { default: Seconds(2_764_800), max: Seconds(2_764_800) }
    }
}

impl MountRow {
    /// Whether no request reaches it.
    pub(crate) fn is_closed(&self) -> bool {
        self.tainted || self.moving.is_some()
    }

    /// Its path, and the one that is kept for it while it is moved.
    pub(crate) fn places(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.path.as_str()).chain(self.moving.as_ref().map(|moving| moving.to.as_str()))
    }

    /// The path without `auth/`, as `sys/auth` lists it.
    pub(crate) fn short_path(&self) -> &str {
        match self.class {
            Class::Auth => self.path.strip_prefix("auth/").unwrap_or(&self.path),
            Class::Secret => &self.path,
        }
    }

    pub(crate) fn default_ttl(&self, system: SystemTtls) -> Seconds {
        let max = self.max_ttl(system);
        let default = self.config.default_lease_ttl.set().unwrap_or(system.default);
        default.min(max)
    }

    pub(crate) fn max_ttl(&self, system: SystemTtls) -> Seconds {
        self.config.max_lease_ttl.set().unwrap_or(system.max)
    }

    /// The mount as its engine sees it.
    pub(crate) fn mount(&self, system: SystemTtls) -> Mount {
        Mount {
            path: self.path.clone(),
            kind: self.kind.clone(),
            accessor: self.accessor.clone(),
            default_lease_ttl: self.default_ttl(system),
            max_lease_ttl: self.max_ttl(system),
            options: self.options.clone().unwrap_or_default(),
            token_type: self.config.token_type.clone().unwrap_or_else(|| "default-service".to_owned()),
        }
    }

    /// The object of `sys/mounts` and `sys/auth`.
    pub(crate) fn listed(&self, running_version: &str) -> Value {
        let mut config = Map::new();
        config.insert("default_lease_ttl".to_owned(), json!(self.config.default_lease_ttl));
        config.insert("max_lease_ttl".to_owned(), json!(self.config.max_lease_ttl));
        config.insert("force_no_cache".to_owned(), json!(self.config.force_no_cache));
        if self.class == Class::Auth {
            let token_type = self.config.token_type.as_deref().unwrap_or("default-service");
            config.insert("token_type".to_owned(), json!(token_type));
        }
        config.extend(self.set_keys());
        if let Some(lockout) = self.config.user_lockout {
            config.insert("user_lockout_config".to_owned(), Value::Object(lockout.fields()));
        }
        let mut listed = json!({
            "type": self.kind,
            "description": self.description,
            "accessor": self.accessor,
            "uuid": self.uuid,
            "local": self.local,
            "seal_wrap": self.seal_wrap,
            "external_entropy_access": self.external_entropy_access,
            "options": self.options,
            "plugin_version": self.config.plugin_version.clone().unwrap_or_default(),
            "running_plugin_version": running_version,
            "running_sha256": "",
            "config": config,
        });
        if let (false, Some(object)) = (self.builtin, listed.as_object_mut()) {
            object.insert("deprecation_status".to_owned(), "supported".into());
        }
        listed
    }

    /// The object of `sys/internal/ui/mounts`: like [`MountRow::listed`] with effective lifetimes.
    pub(crate) fn listed_for_ui(&self, running_version: &str, system: SystemTtls) -> Value {
        let mut listed = self.listed(running_version);
        if let Some(config) = listed.get_mut("config").and_then(Value::as_object_mut) {
            config.insert("default_lease_ttl".to_owned(), json!(self.default_ttl(system)));
            config.insert("max_lease_ttl".to_owned(), json!(self.max_ttl(system)));
        }
        listed
    }

    /// The answer of `…/tune`.
    pub(crate) fn tuned(&self, system: SystemTtls) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("description".to_owned(), json!(self.description));
        // As recorded: what is not set is shown as the server's, also where the mount's maximum is less.
        out.insert("default_lease_ttl".to_owned(), json!(self.config.default_lease_ttl.set().unwrap_or(system.default)));
        out.insert("max_lease_ttl".to_owned(), json!(self.max_ttl(system)));
        out.insert("force_no_cache".to_owned(), json!(self.config.force_no_cache));
        if self.class == Class::Auth {
            out.insert("token_type".to_owned(), json!(self.config.token_type.as_deref().unwrap_or("default-service")));
        }
        if let Some(options) = self.options.as_ref().filter(|options| !options.is_empty()) {
            out.insert("options".to_owned(), json!(options));
        }
        out.extend(self.set_keys());
        if let Some(version) = self.config.plugin_version.as_ref().filter(|version| !version.is_empty()) {
            out.insert("plugin_version".to_owned(), json!(version));
        }
        if let Some(lockout) = self.config.user_lockout {
            out.extend(lockout.fields());
        }
        out
    }

    /// Keys that are shown only when they are set.
    fn set_keys(&self) -> Map<String, Value> {
        let config = &self.config;
        let mut out = Map::new();
        let lists = [
            ("audit_non_hmac_request_keys", &config.audit_non_hmac_request_keys),
            ("audit_non_hmac_response_keys", &config.audit_non_hmac_response_keys),
            ("passthrough_request_headers", &config.passthrough_request_headers),
            ("allowed_response_headers", &config.allowed_response_headers),
            ("allowed_managed_keys", &config.allowed_managed_keys),
            ("delegated_auth_accessors", &config.delegated_auth_accessors),
        ];
        for (name, list) in lists {
            if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                out.insert(name.to_owned(), json!(list));
            }
        }
        for (name, text) in [("listing_visibility", &config.listing_visibility), ("identity_token_key", &config.identity_token_key)] {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                out.insert(name.to_owned(), json!(text));
            }
        }
        if config.trim_request_trailing_slashes == Some(true) {
            out.insert("trim_request_trailing_slashes".to_owned(), json!(true));
        }
        out
    }
}

impl UserLockout {
    fn fields(self) -> Map<String, Value> {
        Map::from_iter([
            ("user_lockout_threshold".to_owned(), json!(self.threshold)),
            ("user_lockout_duration".to_owned(), json!(self.duration)),
            ("user_lockout_counter_reset_duration".to_owned(), json!(self.counter_reset)),
            ("user_lockout_disable".to_owned(), json!(self.disable)),
        ])
    }
}

/// A mount that serves.
pub(crate) struct Live {
    pub(crate) row: MountRow,
    pub(crate) mount: Arc<Mount>,
    pub(crate) engine: Arc<dyn Mounted>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) store: Store,
    pub(crate) identity: Arc<dyn daypass_sdk::MountIdentity>,
}

impl Live {
    /// A request comes.
    pub(crate) fn visit(&self) -> Visit {
        Visit::of(&self.requests)
    }

    /// What policies have to know of an endpoint: its fields that read a text as a list, and the other paths to the same thing.
    pub(crate) fn judged_by(&self, found: &Found, operation: Operation) -> (Vec<&str>, OtherPaths) {
        (self.engine.comma_lists(found, operation).iter().map(String::as_str).collect(), self.stands_for(found))
    }

    /// The full paths of what an endpoint stands for, see [`daypass_sdk::Endpoint::stands_for`].
    pub(crate) fn stands_for(&self, found: &Found) -> OtherPaths {
        let StandsFor { below, apart, alike, is_vaults } = self.engine.stands_for(found);
        let paths = below.into_iter().map(|below| format!("{}{below}", self.row.path)).collect();
        let alike = alike.iter().filter_map(|operation| crate::stages::judge::policy_operation(*operation).needs()).collect();
        OtherPaths { paths, apart, alike, is_vaults }
    }

    /// Returns once no other engine of the mount is at work, see [`Requests::alone`].
    pub(crate) async fn alone(&self, clock: &dyn Clock, patience: Duration) -> Result<()> {
        // Nothing to change: it is answered after all that was handed to the store before it.
        let flush = || async { Ok(self.store.commit(Changes::new()).await?) };
        self.requests.alone(clock, patience, flush).await
    }
}

/// All mounts, made anew at each change and then only read.
pub(crate) struct Table {
    /// By path with the slash at the end.
    by_path: HashMap<String, Arc<Live>>,
    /// In order, for listings.
    paths: Vec<String>,
    /// Mounts that are being removed or moved: no path leads to them, but only their engines can take back what they issued.
    leaving: Vec<Arc<Live>>,
    /// Configuration version at which it was read.
    pub(crate) config_version: u64,
}

/// Other paths to what a path leads to; policies ask about them as well. None for nearly all paths.
#[derive(Default)]
pub(crate) struct OtherPaths {
    pub(crate) paths: Vec<String>,
    /// Names of fields that mean nothing there.
    pub(crate) apart: &'static [&'static str],
    /// Capabilities of which any one is enough there.
    pub(crate) alike: Capabilities,
    /// Whether the path itself is Vault's and they are not.
    pub(crate) is_vaults: bool,
}

impl OtherPaths {
    pub(crate) fn as_strs(&self) -> Vec<&str> {
        self.paths.iter().map(String::as_str).collect()
    }

    /// The question with what policies have to know of these; `paths` is [`Self::as_strs`].
    pub(crate) fn told<'a>(&self, paths: &'a [&'a str], question: Question<'a>) -> Question<'a> {
        Question { stands_for: paths, apart: self.apart, alike: self.alike, is_vaults: self.is_vaults, ..question }
    }
}

/// Where a path leads.
pub(crate) struct Door {
    pub(crate) live: Arc<Live>,
    /// The path below the mount.
    pub(crate) below: String,
}

impl Table {
    pub(crate) fn new(mounts: Vec<Live>, config_version: u64) -> Self {
        let (leaving, mounts): (Vec<_>, Vec<_>) = mounts.into_iter().map(Arc::new).partition(|live| live.row.is_closed());
        let mut paths: Vec<String> = mounts.iter().map(|live| live.row.path.clone()).collect();
        paths.sort_unstable();
        let by_path = mounts.into_iter().map(|live| (live.row.path.clone(), live)).collect();
        Self { by_path, paths, leaving, config_version }
    }

    /// The longest mount that the path lies under. A path that lacks only the last slash of a mount leads to it, too.
    pub(crate) fn find(&self, path: &str) -> Option<Door> {
        if let Some(live) = self.by_path.get(path) {
            return Some(Door { live: Arc::clone(live), below: String::new() });
        }
        let mut end = path.len();
        while let Some(slash) = path.get(..end).and_then(|head| head.rfind('/')) {
            if let Some(live) = path.get(..=slash).and_then(|head| self.by_path.get(head)) {
                return Some(Door { live: Arc::clone(live), below: path.get(slash + 1..).unwrap_or_default().to_owned() });
            }
            end = slash;
        }
        let live = self.by_path.get(&format!("{path}/"))?;
        Some(Door { live: Arc::clone(live), below: String::new() })
    }

    /// The other paths to what a path leads to.
    pub(crate) fn stands_for(&self, path: &str) -> OtherPaths {
        let found = self.find(path).and_then(|door| Some(door.live.stands_for(&door.live.engine.find(&door.below)?)));
        found.unwrap_or_default()
    }

    /// The mount that a path names, with or without its last slash. No path below it does: a policy that bars the mount's own path would not bar that.
    pub(crate) fn named(&self, path: &str) -> Option<&Arc<Live>> {
        self.exact(&with_slash(path))
    }

    /// The mount that the path names or lies under.
    pub(crate) fn covering(&self, path: &str) -> Option<Arc<Live>> {
        self.find(&with_slash(path)).map(|door| door.live)
    }

    /// Exactly this mount.
    pub(crate) fn exact(&self, path: &str) -> Option<&Arc<Live>> {
        self.by_path.get(path)
    }

    /// What a mount has been until now: at its path, at another one, or among those that are closed.
    pub(crate) fn former(&self, row: &MountRow) -> Option<&Arc<Live>> {
        let is_it = |live: &&Arc<Live>| live.row.uuid == row.uuid;
        self.exact(&row.path).filter(is_it).or_else(|| self.by_path.values().chain(&self.leaving).find(is_it))
    }

    /// The mount with this accessor, also one that is closed.
    pub(crate) fn by_accessor(&self, accessor: &str) -> Option<&Arc<Live>> {
        self.by_path.values().chain(&self.leaving).find(|live| live.row.accessor == accessor)
    }

    /// The rows of mounts that no request reaches.
    pub(crate) fn closed(&self) -> Vec<MountRow> {
        self.leaving.iter().map(|live| live.row.clone()).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Live>> {
        self.paths.iter().filter_map(|path| self.by_path.get(path))
    }

    /// The mount whose place a new one at `path` would take or share.
    pub(crate) fn conflict(&self, path: &str) -> Option<&str> {
        self.paths.iter().map(String::as_str).find(|taken| taken.starts_with(path) || path.starts_with(taken))
    }
}

/// A mount path as given: without a leading slash, with one at the end. Errors: `BadRequest`.
pub(crate) fn normal_path(path: &str) -> Result<String> {
    let trimmed = path.trim_start_matches('/');
    if trimmed.trim_end_matches('/').is_empty() {
        return Err(Error::bad_request("a mount path cannot be empty"));
    }
    if trimmed.len() > PATH_BYTES_MAX {
        return Err(Error::bad_request(format!(
            "a mount path cannot be longer than {PATH_BYTES_MAX} bytes, this one has {}",
            trimmed.len()
        )));
    }
    if trimmed.chars().any(|c| c.is_control() || c.is_whitespace()) || trimmed.contains("//") {
        return Err(Error::bad_request(format!("the mount path {trimmed:?} holds blanks, control characters or empty segments")));
    }
    Ok(with_slash(trimmed))
}

pub(crate) fn with_slash(path: &str) -> String {
    if path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
}

const PATH_BYTES_MAX: usize = 512;
