//! A role and what it works with, read for one request.

use daypass_aws::Target;
use daypass_sdk::{Cx, Error, Result};

use super::config_root::{self, RootConfig};
use super::role::{CredentialType, Role};
use super::roles;
use super::text::quoted;

/// A role as it is stored, and where its calls go.
pub(super) struct Loaded {
    pub(super) role: Role,
    pub(super) config: RootConfig,
    pub(super) target: Target,
    /// Versions of the rows of role and `config/root`.
    pub(super) versions: (u64, u64),
}

/// Reads a role. Errors: `BadRequest` when there is none.
pub(super) async fn role(cx: &Cx, name: &str) -> Result<Loaded> {
    let keys = [roles::key(name), config_root::KEY.to_owned()];
    let mut read = cx.store.get_many(&keys).await?.into_iter();
    let stored = read.next().flatten().ok_or_else(|| Error::bad_request(format!("Role {} not found", quoted(name))))?;
    let role: Role = daypass_sdk::from_json("roles", &stored.value)?;
    let (config, config_version): (RootConfig, u64) = match read.next().flatten() {
        Some(entry) => (daypass_sdk::from_json(config_root::KEY, &entry.value)?, entry.version),
        None => (RootConfig::default(), 0),
    };
    let target = config.target(cx)?;
    Ok(Loaded { role, config, target, versions: (stored.version, config_version) })
}

/// Reads a role that assumes IAM roles. Errors: `BadRequest` when it is of another type.
pub(super) async fn assumed_role(cx: &Cx, name: &str) -> Result<Loaded> {
    let loaded = role(cx, name).await?;
    if loaded.role.is(CredentialType::AssumedRole) {
        return Ok(loaded);
    }
    Err(Error::bad_request(format!("role {} assumes no IAM role: its credential_type is not assumed_role", quoted(name))))
}
