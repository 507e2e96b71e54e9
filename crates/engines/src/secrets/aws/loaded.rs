//! A role and what it works with, read for one request.

use std::sync::Arc;

use daypass_aws::Target;
use daypass_sdk::{Cx, Error, Result};

use super::config_root::{self, RootConfig};
use super::role::{CredentialType, Role};
use super::roles;
use super::text::quoted;

/// A role as it is stored, and where its calls go.
pub(super) struct Loaded {
    pub(super) role: Arc<Role>,
    pub(super) config: Arc<RootConfig>,
    pub(super) target: Target,
    /// Versions of the rows of role and `config/root`.
    pub(super) versions: (u64, u64),
}

/// Reads a role. Errors: `BadRequest` when there is none.
pub(super) async fn role(cx: &Cx, name: &str) -> Result<Loaded> {
    let found = cx.store.find::<Role>(&roles::key(name)).await?;
    let (role, role_version) = found.ok_or_else(|| Error::bad_request(format!("Role {} not found", quoted(name))))?;
    let (config, config_version) = cx.store.find::<RootConfig>(config_root::KEY).await?.unwrap_or_default();
    let target = config.target(cx)?;
    Ok(Loaded { role, config, target, versions: (role_version, config_version) })
}

/// Reads a role that assumes IAM roles. Errors: `BadRequest` when it is of another type.
pub(super) async fn assumed_role(cx: &Cx, name: &str) -> Result<Loaded> {
    let loaded = role(cx, name).await?;
    if loaded.role.is(CredentialType::AssumedRole) {
        return Ok(loaded);
    }
    Err(Error::bad_request(format!("role {} assumes no IAM role: its credential_type is not assumed_role", quoted(name))))
}
