//! `config/rotate-root`, and what the key of `config/client` is to [`crate::aws_keys`], which replaces it and undoes what a crash leaves.

use std::sync::Arc;

use daypass_aws::{Aws, Target};
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Result};
use serde_json::{Value, json};

use crate::aws_keys::own::OwnKey;
use crate::aws_keys::{KeyMount, RootKey, Upkeep, rotation};

use super::AwsAuth;
use super::client::{self, ClientConfig, NoParams};

pub(super) fn endpoint() -> Endpoint<AwsAuth> {
    Endpoint::at(["config/rotate-root"])
        .summary("Replace the configured access key by a new one of the same IAM user.")
        .help(HELP)
        .on(Operation::Update, rotate)
}

async fn rotate(engine: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Json<Value>> {
    let id = rotation::replace(&*engine, &cx).await?;
    Ok(Json(json!({ "access_key": id })))
}

impl KeyMount for AwsAuth {
    type Root = ClientConfig;

    fn aws(&self) -> &dyn Aws {
        self.aws.as_ref()
    }

    fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }
}

impl RootKey for ClientConfig {
    const ROW: &'static str = client::KEY;

    fn with_key(stored: Option<Self>) -> Result<Self> {
        let refuse = |why: String| Err(Error::bad_request(why));
        let Some(config) = stored else { return refuse("can't update client config because it's unset".to_owned()) };
        if let Some(federation) = config.federation() {
            return refuse(format!("can't update access_key because it's unset: config/client has {}", federation.no_key()));
        }
        if config.key.access_key.is_empty() {
            return refuse("can't update access_key because it's unset".to_owned());
        }
        if !config.key.is_whole() {
            return refuse("can't update secret_key because it's unset".to_owned());
        }
        Ok(config)
    }

    fn reach(&self, cx: &Cx) -> Result<Target> {
        Ok(self.target(cx))
    }

    fn key(&self) -> &OwnKey {
        &self.key
    }

    fn key_mut(&mut self) -> &mut OwnKey {
        &mut self.key
    }
}

const HELP: &str = "Replaces access_key by a new key of the same IAM user: makes it, waits until AWS accepts it, stores it, and deletes the
old one. The new secret is shown to nobody. rotation_period or rotation_schedule of config/client do so by themselves. The user may have
one key only, and needs the rights to iam:GetUser, iam:ListAccessKeys, iam:CreateAccessKey and iam:DeleteAccessKey on itself.";
