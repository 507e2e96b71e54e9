//! `config/rotate-root`, and what the keys of this engine's mounts are to [`crate::aws_keys`], which replaces and tidies them.

use std::sync::Arc;

use daypass_aws::Target;
use daypass_sdk::{Changes, Cx, Error, Json, Result};
use serde_json::{Value, json};

use crate::aws_keys::notes::Note;
use crate::aws_keys::own::OwnKey;
use crate::aws_keys::{KeyMount, RootKey, Upkeep, rotation};

use super::config_root::{self, Nothing, RootConfig};
use super::{Aws, static_roles, users};

pub(super) async fn rotate(engine: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let id = rotation::replace(&*engine, &cx).await?;
    Ok(Json(json!({ "access_key": id })))
}

impl KeyMount for Aws {
    type Root = RootConfig;

    fn aws(&self) -> &dyn daypass_aws::Aws {
        self.aws.as_ref()
    }

    fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    async fn uses(&self, cx: &Cx, username: &str, id: &str) -> Result<bool> {
        static_roles::uses(cx, username, id).await
    }

    async fn undo_user(&self, cx: &Cx, place: &str, note: &Note) -> Result<Changes> {
        users::undo(self, cx, place, note).await
    }
}

impl RootKey for RootConfig {
    const ROW: &'static str = config_root::KEY;

    fn with_key(stored: Option<Self>) -> Result<Self> {
        let config = stored.ok_or_else(|| Error::failed("no configuration found for config/root"))?;
        if let Some(federation) = config.federation() {
            return Err(Error::bad_request(format!("there is no key to rotate: config/root has {}", federation.no_key())));
        }
        if !config.key.is_whole() {
            return Err(Error::bad_request("Cannot call config/rotate-root when either access_key or secret_key is empty"));
        }
        Ok(config)
    }

    fn reach(&self, cx: &Cx) -> Result<Target> {
        self.target(cx)
    }

    fn key(&self) -> &OwnKey {
        &self.key
    }

    fn key_mut(&mut self) -> &mut OwnKey {
        &mut self.key
    }
}
