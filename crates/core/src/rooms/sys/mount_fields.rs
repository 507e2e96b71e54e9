//! What a caller says about a mount, when it is made (`sys/mounts/:path`, `sys/auth/:path`) and when it is tuned, and the rules that hold
//! for it. Pure: nothing here reads or writes the table.
//!
//! The texts are Vault's (recorded fixtures `mounts-crud`, `mounts-tune`, `auth-mounts-crud`).

use std::collections::BTreeMap;

use daypass_base::lenient::{CommaList, KvPairs};
use daypass_base::{Brief, Seconds, duration};
use daypass_sdk::{Error, Kind, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::mounts::{Class, MountConfig, MountRow, SystemTtls, UserLockout};

/// A path below `sys/mounts/` or `sys/auth/`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct MountPath {
    /// Where it is mounted. May have several segments: `cdp/aws/staging`.
    pub(super) path: String,
}

/// A new mount.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Wanted {
    /// Where to mount it. May have several segments: `cdp/aws/staging`.
    pub(super) path: String,
    /// The type of the engine or method: `aws`, `kv`, `approle`. `kv-v2` stands for `kv` with the option `version=2`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// For people.
    pub(super) description: String,
    /// Settings that can be tuned later.
    pub(super) config: WantedConfig,
    /// Options of the engine, such as `version` of `kv`.
    pub(super) options: KvPairs,
    /// Kept for Vault's clients: there is no replication, so every mount is of this cluster alone.
    pub(super) local: bool,
    /// Kept for Vault's clients: everything is stored sealed.
    pub(super) seal_wrap: bool,
    /// Kept for Vault's clients: without effect.
    pub(super) external_entropy_access: bool,
    /// The type, when `type` is `plugin`: how Vault's oldest clients say it.
    pub(super) plugin_name: String,
    /// The version of the engine. There is one, that of this build.
    pub(super) plugin_version: String,
}

/// Settings of a new mount.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct WantedConfig {
    /// Lifetime of leases and tokens that ask for none: seconds or a duration (`30m`); `system` or nothing inherits the server's.
    default_lease_ttl: String,
    /// Longest lifetime of leases and tokens: seconds or a duration (`24h`); `system` or nothing inherits the server's.
    max_lease_ttl: String,
    /// Kept for Vault's clients: there is no cache that could be left out.
    force_no_cache: bool,
    /// Request fields that audit devices log in clear.
    audit_non_hmac_request_keys: Option<CommaList>,
    /// Answer fields that audit devices log in clear.
    audit_non_hmac_response_keys: Option<CommaList>,
    /// `unauth` lists the mount to callers without a token; `hidden` or nothing does not.
    listing_visibility: Option<String>,
    /// Request headers that the engine may see.
    passthrough_request_headers: Option<CommaList>,
    /// Answer headers that the engine may set.
    allowed_response_headers: Option<CommaList>,
    /// Kept for Vault's clients.
    allowed_managed_keys: Option<CommaList>,
    /// Kept for Vault's clients.
    delegated_auth_accessors: Option<CommaList>,
    /// Kept for Vault's clients.
    identity_token_key: Option<String>,
    /// The version of the engine. There is one, that of this build.
    plugin_version: String,
    /// Cut a slash at the end of a written path instead of refusing the request.
    trim_request_trailing_slashes: Option<bool>,
    /// Auth methods only: `default-service`, `default-batch`, `service` or `batch`.
    token_type: Option<String>,
    /// Auth methods only: when failed logins lock a user out.
    user_lockout_config: Option<WantedLockout>,
}

/// Changes to a mount; what is absent stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Tuning {
    /// The mount.
    pub(super) path: String,
    /// Lifetime of leases and tokens that ask for none: seconds or a duration (`30m`); `system` inherits the server's.
    default_lease_ttl: String,
    /// Longest lifetime of leases and tokens: seconds or a duration (`24h`); `system` inherits the server's.
    max_lease_ttl: String,
    /// For people.
    description: Option<String>,
    /// Options of the engine. `version=2` upgrades a `kv` mount for good.
    options: Option<KvPairs>,
    /// Request fields that audit devices log in clear.
    audit_non_hmac_request_keys: Option<CommaList>,
    /// Answer fields that audit devices log in clear.
    audit_non_hmac_response_keys: Option<CommaList>,
    /// `unauth` lists the mount to callers without a token; `hidden` or nothing does not.
    listing_visibility: Option<String>,
    /// Request headers that the engine may see.
    passthrough_request_headers: Option<CommaList>,
    /// Answer headers that the engine may set.
    allowed_response_headers: Option<CommaList>,
    /// Kept for Vault's clients.
    allowed_managed_keys: Option<CommaList>,
    /// Kept for Vault's clients.
    delegated_auth_accessors: Option<CommaList>,
    /// Kept for Vault's clients.
    identity_token_key: Option<String>,
    /// The version of the engine. There is one, that of this build.
    plugin_version: String,
    /// Cut a slash at the end of a written path instead of refusing the request.
    trim_request_trailing_slashes: Option<bool>,
    /// Auth methods only: `default-service`, `default-batch`, `service` or `batch`.
    token_type: Option<String>,
    /// Auth methods only: when failed logins lock a user out.
    user_lockout_config: Option<WantedLockout>,
}

/// When and for how long failed logins lock a user out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct WantedLockout {
    /// Failed logins in a row that lock a user out; 5 unless given.
    lockout_threshold: Option<String>,
    /// How long a locked user stays out: seconds or a duration; 15 minutes unless given.
    lockout_duration: Option<Seconds>,
    /// After how long without a failure the count starts anew: seconds or a duration; 15 minutes unless given.
    lockout_counter_reset_duration: Option<Seconds>,
    /// Never lock users of this mount out.
    lockout_disable: Option<bool>,
}

impl WantedConfig {
    /// The settings of a new mount. Errors: `BadRequest` with Vault's texts.
    pub(super) fn read(self, class: Class, system: SystemTtls) -> Result<MountConfig> {
        let default_lease_ttl = ttl("default", &self.default_lease_ttl)?;
        let max_lease_ttl = ttl("max", &self.max_lease_ttl)?;
        if !max_lease_ttl.is_zero() && default_lease_ttl > max_lease_ttl {
            return Err(Error::bad_request("given default lease TTL greater than given max lease TTL"));
        }
        if max_lease_ttl.is_zero() && default_lease_ttl > system.max {
            return Err(Error::bad_request(format!("given default lease TTL greater than system max lease TTL of {}", system.max.0)));
        }
        check_visibility(self.listing_visibility.as_deref())?;
        let auth = class == Class::Auth;
        let token_type = if auth { self.token_type.as_deref().map(token_type).transpose()? } else { None };
        Ok(MountConfig {
            default_lease_ttl,
            max_lease_ttl,
            force_no_cache: self.force_no_cache,
            audit_non_hmac_request_keys: names(self.audit_non_hmac_request_keys),
            audit_non_hmac_response_keys: names(self.audit_non_hmac_response_keys),
            listing_visibility: self.listing_visibility,
            passthrough_request_headers: names(self.passthrough_request_headers),
            allowed_response_headers: names(self.allowed_response_headers),
            allowed_managed_keys: names(self.allowed_managed_keys),
            delegated_auth_accessors: names(self.delegated_auth_accessors),
            identity_token_key: self.identity_token_key,
            plugin_version: Some(self.plugin_version).filter(|version| !version.is_empty()),
            token_type,
            trim_request_trailing_slashes: self.trim_request_trailing_slashes,
            user_lockout: self.user_lockout_config.filter(|_| auth).map(|wanted| wanted.over(UserLockout::default())).transpose()?,
        })
    }
}

impl Wanted {
    /// Resolves the names that stand for others: `kv-v2`, `generic`, `plugin`. Errors: `BadRequest` when no type is left.
    pub(super) fn resolve_kind(&mut self) -> Result<()> {
        if self.kind == "plugin" {
            self.kind = std::mem::take(&mut self.plugin_name);
        }
        let version = match self.kind.as_str() {
            "" => return Err(Error::bad_request("backend type must be specified as a string")),
            "kv-v1" => Some("1"),
            "kv-v2" => Some("2"),
            "generic" => None,
            kind if kind != "kv" && self.options.0.get("version").is_some_and(|version| !version.is_empty()) => {
                return Err(Error::bad_request(format!("secrets engine {:?} does not allow setting a version", Brief(kind))));
            }
            _ => return Ok(()),
        };
        "kv".clone_into(&mut self.kind);
        if let Some(version) = version {
            self.options.0.insert("version".to_owned(), version.to_owned());
        }
        Ok(())
    }
}

impl Tuning {
    /// Applies the changes to a mount; nothing is changed when one of them is refused. Returns remarks for the caller.
    /// Errors: `BadRequest` with Vault's texts.
    pub(super) fn apply(self, row: &mut MountRow, running_version: &str) -> Result<Vec<String>> {
        let mut config = row.config.clone();
        if let Some(lockout) = self.user_lockout_config {
            if row.class != Class::Auth || !LOCKABLE.contains(&row.kind.as_str()) {
                let text = format!("tuning of user lockout configuration for auth type {:?} not allowed", row.kind);
                return Err(Error::bad_request(text));
            }
            config.user_lockout = Some(lockout.over(config.user_lockout.unwrap_or_default())?);
        }
        config.default_lease_ttl = retuned(&self.default_lease_ttl, config.default_lease_ttl)?;
        config.max_lease_ttl = retuned(&self.max_lease_ttl, config.max_lease_ttl)?;
        if !config.max_lease_ttl.is_zero() && config.max_lease_ttl < config.default_lease_ttl {
            return Err(Error::bad_request(format!(
                "backend max lease TTL of {} would be less than backend default lease TTL of {}",
                config.max_lease_ttl.0, config.default_lease_ttl.0
            )));
        }
        check_visibility(self.listing_visibility.as_deref())?;
        if let Some(wanted) = self.token_type {
            if row.class != Class::Auth {
                return Err(Error::bad_request("'token_type' can only be modified on auth mounts"));
            }
            if row.kind == "token" {
                return Err(Error::bad_request("'token_type' cannot be set for 'token' or 'ns_token' auth mounts"));
            }
            config.token_type = Some(token_type(&wanted)?);
        }
        check_plugin_version(&row.kind, &self.plugin_version, running_version)?;
        let (options, remarks) = tuned_options(row, self.options.unwrap_or_default().0)?;

        let replace = |place: &mut Option<Vec<String>>, list: Option<CommaList>| {
            if list.is_some() {
                *place = names(list);
            }
        };
        replace(&mut config.audit_non_hmac_request_keys, self.audit_non_hmac_request_keys);
        replace(&mut config.audit_non_hmac_response_keys, self.audit_non_hmac_response_keys);
        replace(&mut config.passthrough_request_headers, self.passthrough_request_headers);
        replace(&mut config.allowed_response_headers, self.allowed_response_headers);
        replace(&mut config.allowed_managed_keys, self.allowed_managed_keys);
        replace(&mut config.delegated_auth_accessors, self.delegated_auth_accessors);
        config.listing_visibility = self.listing_visibility.or(config.listing_visibility);
        config.identity_token_key = self.identity_token_key.or(config.identity_token_key);
        config.trim_request_trailing_slashes = self.trim_request_trailing_slashes.or(config.trim_request_trailing_slashes);
        if !self.plugin_version.is_empty() {
            config.plugin_version = Some(self.plugin_version);
        }
        row.config = config;
        if let Some(description) = self.description {
            row.description = description;
        }
        if let Some(options) = options {
            row.options = Some(options);
        }
        Ok(remarks)
    }
}

impl WantedLockout {
    fn over(self, before: UserLockout) -> Result<UserLockout> {
        let threshold = match self.lockout_threshold.as_deref().map(str::trim) {
            None | Some("") => before.threshold,
            Some(text) => text.parse().map_err(|error| {
                Error::bad_request(format!("lockout_threshold {:?} is no whole number of logins", Brief(text))).because(error)
            })?,
        };
        Ok(UserLockout {
            threshold,
            duration: self.lockout_duration.unwrap_or(before.duration),
            counter_reset: self.lockout_counter_reset_duration.unwrap_or(before.counter_reset),
            disable: self.lockout_disable.unwrap_or(before.disable),
        })
    }
}

/// Errors: `BadRequest` when another version than this build's is asked for.
pub(super) fn check_plugin_version(kind: &str, wanted: &str, running: &str) -> Result<()> {
    if wanted.is_empty() || wanted.trim_start_matches('v') == running.trim_start_matches('v') {
        return Ok(());
    }
    let (kind, wanted) = (Brief(kind), Brief(wanted));
    Err(Error::bad_request(format!("engine {kind:?} has no version {wanted:?}: this build has {running}; leave plugin_version out")))
}

/// Options of a mount.
type Options = BTreeMap<String, String>;

/// The options after a change, `None` when there is none. The version of `kv` only goes up.
fn tuned_options(row: &MountRow, wanted: Options) -> Result<(Option<Options>, Vec<String>)> {
    if wanted.is_empty() {
        return Ok((None, Vec::new()));
    }
    let mut remarks = Vec::new();
    let mut options = row.options.clone().unwrap_or_default();
    if let ("kv", Some(text)) = (row.kind.as_str(), wanted.get("version")) {
        let invalid = || Error::bad_request(format!("invalid version provided: {}", Brief(text)));
        let after: u8 = text.parse().ok().filter(|version| *version <= 2).ok_or_else(invalid)?;
        let before: u8 = options.get("version").and_then(|text| text.parse().ok()).unwrap_or(0);
        if after < before {
            return Err(Error::bad_request(format!("cannot downgrade mount from version {before}")));
        }
        if after > before {
            remarks.push(format!(
                "Upgrading mount from version {before} to version {after}. This mount will be unavailable for a brief period and will \
                 resume service shortly."
            ));
        }
    }
    options.extend(wanted);
    Ok((Some(options), remarks))
}

/// A lifetime of a new mount; zero inherits. A negative one inherits, too, as in Vault.
fn ttl(which: &str, text: &str) -> Result<Seconds> {
    parse_ttl(text).map_err(|error| Error::bad_request(format!("unable to parse {which} TTL of {}: {error}", Brief(text))))
}

/// A lifetime as it is to be from now on.
fn retuned(text: &str, before: Seconds) -> Result<Seconds> {
    if text.is_empty() { Ok(before) } else { parse_ttl(text).map_err(|error| Error::bad_request(error.to_string())) }
}

fn parse_ttl(text: &str) -> Result<Seconds, duration::DurationError> {
    if text == "system" {
        return Ok(Seconds::ZERO);
    }
    let signed = duration::parse(text)?;
    Ok(if signed.negative { Seconds::ZERO } else { Seconds::from(signed.size) })
}

fn check_visibility(wanted: Option<&str>) -> Result<()> {
    match wanted {
        None | Some("" | "hidden" | "unauth") => Ok(()),
        Some(other) => Err(Error::bad_request(format!("invalid listing_visibility {}", Brief(other)))),
    }
}

fn token_type(wanted: &str) -> Result<String> {
    match wanted {
        "" => Ok("default-service".to_owned()),
        "batch" | "default-batch" | "default-service" | "service" => Ok(wanted.to_owned()),
        _ => Err(Error::new(Kind::BadRequest, "invalid value for 'token_type'")),
    }
}

fn names(list: Option<CommaList>) -> Option<Vec<String>> {
    list.map(|list| list.0)
}

/// Auth methods whose users can be locked out.
const LOCKABLE: [&str; 3] = ["approle", "ldap", "userpass"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(class: Class, kind: &str) -> MountRow {
        MountRow {
            path: "x/".to_owned(),
            class,
            kind: kind.to_owned(),
            description: String::new(),
            uuid: String::new(),
            accessor: String::new(),
            local: false,
            seal_wrap: false,
            external_entropy_access: false,
            options: Some(BTreeMap::new()),
            config: MountConfig::default(),
            builtin: false,
            tainted: false,
            moving: None,
        }
    }

    fn tune(row: &mut MountRow, fields: serde_json::Value) -> Result<Vec<String>> {
        let tuning: Tuning = daypass_base::lenient::decode(fields.as_object().cloned().unwrap_or_default()).unwrap();
        tuning.apply(row, "v1.21.4+builtin.vault")
    }

    #[test]
    fn a_refused_tuning_changes_nothing() {
        let mut mount = row(Class::Secret, "kv");
        for (fields, text) in [
            (json!({ "description": "new", "listing_visibility": "nobody" }), "invalid listing_visibility nobody"),
            (json!({ "description": "new", "token_type": "batch" }), "'token_type' can only be modified on auth mounts"),
            (json!({ "description": "new", "options": { "version": "7" } }), "invalid version provided: 7"),
            (json!({ "description": "new", "default_lease_ttl": "x" }), "time: invalid duration \"x\""),
        ] {
            assert_eq!(tune(&mut mount, fields).unwrap_err().message, text);
            assert_eq!(mount.description, "");
        }
    }

    #[test]
    fn a_default_over_the_maximum_is_refused() {
        let mut mount = row(Class::Secret, "kv");
        tune(&mut mount, json!({ "max_lease_ttl": "1d", "default_lease_ttl": 1800 })).unwrap();
        let refused = tune(&mut mount, json!({ "default_lease_ttl": "48h" })).unwrap_err();
        assert_eq!(refused.message, "backend max lease TTL of 86400 would be less than backend default lease TTL of 172800");
        tune(&mut mount, json!({ "default_lease_ttl": "system" })).unwrap();
        assert!(mount.config.default_lease_ttl.is_zero());
    }

    #[test]
    fn the_version_of_kv_only_goes_up() {
        let mut mount = row(Class::Secret, "kv");
        let remarks = tune(&mut mount, json!({ "options": { "version": "2" } })).unwrap();
        assert!(remarks.first().is_some_and(|remark| remark.starts_with("Upgrading mount from version 0 to version 2.")));
        let refused = tune(&mut mount, json!({ "options": { "version": "1" } })).unwrap_err();
        assert_eq!(refused.message, "cannot downgrade mount from version 2");
        assert!(tune(&mut mount, json!({ "options": { "version": "2" } })).unwrap().is_empty());
    }

    #[test]
    fn lockout_settings_that_are_not_given_stay() {
        let mut mount = row(Class::Auth, "userpass");
        tune(&mut mount, json!({ "user_lockout_config": { "lockout_threshold": "3", "lockout_duration": "10m" } })).unwrap();
        tune(&mut mount, json!({ "user_lockout_config": { "lockout_disable": true } })).unwrap();
        let lockout = mount.config.user_lockout.unwrap();
        assert_eq!((lockout.threshold, lockout.duration, lockout.disable), (3, Seconds(600), true));
        let refused = tune(&mut row(Class::Auth, "jwt"), json!({ "user_lockout_config": {} })).unwrap_err();
        assert_eq!(refused.message, "tuning of user lockout configuration for auth type \"jwt\" not allowed");
    }

    #[test]
    fn names_that_stand_for_kv_are_resolved() {
        for (kind, version) in [("kv-v1", Some("1")), ("kv-v2", Some("2")), ("generic", None), ("kv", None)] {
            let mut wanted = Wanted { kind: kind.to_owned(), ..Wanted::default() };
            wanted.resolve_kind().unwrap();
            assert_eq!((wanted.kind.as_str(), wanted.options.0.get("version").map(String::as_str)), ("kv", version));
        }
        assert!(Wanted::default().resolve_kind().is_err());
    }
}
