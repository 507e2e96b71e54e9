//! `config/rotate-root`: the configured IAM user gets a new access key, and nobody ever sees its secret.
//!
//! In this order: make the new key, wait until AWS accepts it, store it, delete the old one. Whatever fails before the new key is stored
//! leaves the old one in force.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AwsError, Call, Holding, StaticKeys, Target};
use daypass_sdk::{Changes, Cx, Error, Json, Result};
use serde_json::{Value, json};

use super::Aws;
use super::config_root::{KEY, Nothing, RootConfig};
use super::creds::deadline;

/// A new key is accepted everywhere after some seconds: so often it is tried,
const TRIES: u32 = 15;
/// and so long is waited in between.
const PAUSE: Duration = Duration::from_secs(2);

pub(super) async fn rotate(engine: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let read = cx.store.get(KEY).await?;
    let entry = read.as_ref().ok_or_else(|| Error::failed("no configuration found for config/root"))?;
    let mut config: RootConfig = daypass_sdk::from_json(KEY, &entry.value)?;
    if !config.has_keys() {
        return Err(Error::bad_request("Cannot call config/rotate-root when either access_key or secret_key is empty"));
    }
    let old = config.target()?;
    let call = Call { target: &old, deadline: deadline(&cx) };
    let failed = |doing: &str, error: AwsError| Error::failed(format!("{doing}: {}", error.sdk_text())).because(error);
    let user = engine.aws.get_user(call, None).await.map_err(|error| failed("error calling GetUser", error))?.name;
    let key = engine.aws.create_access_key(call, &user).await.map_err(|error| failed("error calling CreateAccessKey", error))?;
    let new_holding = Holding::AccessKey(key.id.clone());
    let keys = StaticKeys { access_key_id: key.id.clone(), secret_access_key: key.secret.clone() };
    let new = Target { keys: Some(keys), ..old.clone() };
    if let Err(error) = accepted(&engine, &cx, &new).await {
        discard(&engine, call, &user, &new_holding).await;
        return Err(failed("the new access key is not accepted by AWS, so the old one stays in force", error));
    }
    let old_key = std::mem::replace(&mut config.access_key, key.id.clone());
    config.secret_key = key.secret;
    let changes = Changes::new().unchanged(KEY, read.as_ref()).put_json(KEY, &config)?;
    if let Err(failure) = cx.store.commit(changes).await {
        discard(&engine, call, &user, &new_holding).await;
        return Err(failure.into());
    }
    engine.aws.forget(&old);
    let call = Call { target: &new, ..call };
    let deleted = engine.aws.remove_user_holding(call, &user, &Holding::AccessKey(old_key)).await;
    deleted.map_err(|error| failed("error deleting old access key", error))?;
    Ok(Json(json!({ "access_key": key.id })))
}

/// Waits until the new key works: IAM is eventually consistent.
async fn accepted(engine: &Aws, cx: &Cx, target: &Target) -> Result<(), AwsError> {
    let call = Call { target, deadline: deadline(cx) };
    let mut tried = 0;
    loop {
        tried += 1;
        match engine.aws.get_caller_identity(call).await {
            Ok(_) => return Ok(()),
            Err(error) if tried == TRIES => return Err(error),
            Err(_) => cx.clock.sleep(PAUSE).await,
        }
    }
}

/// Deletes a key that will not be used. That it fails must not hide why.
async fn discard(engine: &Aws, call: Call<'_>, user: &str, key: &Holding) {
    if let Err(error) = engine.aws.remove_user_holding(call, user, key).await {
        tracing::warn!(user, ?key, %error, "an access key that was made for a rotation could not be deleted; delete it in IAM");
    }
}
