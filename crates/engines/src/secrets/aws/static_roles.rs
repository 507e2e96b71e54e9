//! `static-roles` and `static-creds`: keys of existing IAM users that are rotated.
//!
//! A user has two keys at most. At a rotation the one that is not in use goes, and the one in use stays until the next: readers that
//! have it go on for a whole period.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AwsError, Call, Holding};
use daypass_base::Timestamp;
use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Entry, Error, Json, Keys, Operation, Reply, Result, Seconds, Secret, reveal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Aws;
use super::config_root::{self, RootConfig, into_the_sealed_store};
use super::creds::deadline;
use super::text::quoted;

/// Where the roles are stored.
const ROLES: &str = "static-roles/";
/// Shortest rotation period.
const ROTATION_PERIOD_MIN: Seconds = Seconds(60);
/// A rotation that failed, or that another node has begun, is tried again after this.
const RETRY: Duration = Duration::from_mins(1);
/// Time for one rotation of the regular work.
const PATIENCE: Duration = Duration::from_secs(20);
/// Roles that one page of the regular work looks at.
const PAGE: usize = 500;

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["static-roles/?"]).summary("List the static roles.").help(HELP).on(Operation::List, list_static_roles),
        Endpoint::at(["static-roles/{name@}"])
            .summary("Manage rotated access keys of existing IAM users.")
            .help(HELP)
            .on(Operation::Read, read_static_role)
            .on(Operation::Update, write_static_role)
            .on(Operation::Delete, delete_static_role),
        Endpoint::at(["static-creds/{name@}"]).summary("Read the keys of a static role.").help(HELP).on(Operation::Read, read_static_creds),
    ]
}

/// A static role as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StaticRole {
    username: String,
    /// The user's unique id when the role was written: another user of the same name is not this one.
    id: String,
    rotation_period: Seconds,
    access_key: String,
    #[serde(serialize_with = "into_the_sealed_store")]
    secret_key: Secret<String>,
    next_rotation: Timestamp,
    /// Until then somebody is at work on it.
    #[serde(default)]
    claimed_until: Option<Timestamp>,
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A static role by its name.
#[derive(Deserialize, JsonSchema)]
struct Named {
    /// Name of the static role. Example: `legacy-ci`.
    name: String,
}

/// The fields of a static role.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Name of the static role. Example: `legacy-ci`.
    name: String,
    /// Name of the IAM user. Example: `ci`.
    username: Option<String>,
    /// Time between rotations, in seconds or as a duration, at least 60 s. Example: `24h`.
    rotation_period: Option<Seconds>,
    /// IAM role to assume first, for a user of another account; not offered yet.
    #[serde(default)]
    assume_role_arn: String,
    /// Name of that session; not offered yet.
    #[serde(default)]
    assume_role_session_name: String,
    /// External id for that role; not offered yet.
    #[serde(default)]
    external_id: String,
}

impl StaticRole {
    fn shown(&self, name: &str) -> Json<Value> {
        Json(json!({
            "name": name,
            "id": self.id,
            "username": self.username,
            "rotation_period": self.rotation_period,
            "assume_role_arn": "",
            "assume_role_session_name": "",
            "external_id": "",
        }))
    }
}

fn key(name: &str) -> String {
    format!("{ROLES}{name}")
}

async fn list_static_roles(_: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Keys> {
    Ok(Keys(cx.store.list(ROLES).await?))
}

async fn read_static_role(_: Arc<Aws>, cx: Cx, params: Named) -> Result<Json<Value>> {
    let role: StaticRole = cx.store.get_json(&key(&params.name)).await?.ok_or_else(Error::not_found)?;
    Ok(role.shown(&params.name))
}

async fn read_static_creds(_: Arc<Aws>, cx: Cx, params: Named) -> Result<Reply> {
    let role: StaticRole = cx.store.get_json(&key(&params.name)).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::data(Map::from_iter([
        ("access_key".to_owned(), role.access_key.into()),
        ("expiration".to_owned(), json!(role.next_rotation)),
        ("secret_key".to_owned(), reveal(&role.secret_key)),
    ])))
}

async fn write_static_role(engine: Arc<Aws>, cx: Cx, params: Fields) -> Result<Json<Value>> {
    let read = cx.store.get(&key(&params.name)).await?;
    let stored: Option<StaticRole> = read.as_ref().map(|entry| daypass_sdk::from_json(ROLES, &entry.value)).transpose()?;
    let wanted = params.checked(stored.as_ref())?;
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    let target = config.target()?;
    let call = Call { target: &target, deadline: deadline(&cx) };
    let user = engine.aws.get_user(call, Some(&wanted.username)).await;
    let user = user.map_err(|error| failed(&format!("unable to validate username {}", quoted(&wanted.username)), error))?;
    if stored.as_ref().is_some_and(|stored| stored.id != user.id) {
        return Err(Error::failed(format!(
            "AWS GetUser returned a user, but the ID did not match: {} is not the user that the role was written for; delete the role first",
            quoted(&wanted.username)
        )));
    }
    let role = match stored {
        Some(stored) => {
            // Counted from the last rotation, as the new period says.
            let last = stored.next_rotation - stored.rotation_period.duration();
            let role = StaticRole { rotation_period: wanted.rotation_period, next_rotation: last + wanted.rotation_period, ..stored };
            cx.store.commit(Changes::new().unchanged(key(&params.name), read.as_ref()).put_json(key(&params.name), &role)?).await?;
            role
        }
        None => first_rotation(&engine, &cx, call, &params.name, StaticRole { id: user.id, ..wanted }).await?,
    };
    Ok(role.shown(&params.name))
}

impl Fields {
    /// What is asked for, over what is stored. Errors: `BadRequest` in Vault's words and order.
    fn checked(&self, stored: Option<&StaticRole>) -> Result<StaticRole> {
        let username = self.username.clone().filter(|name| !name.is_empty()).or_else(|| stored.map(|stored| stored.username.clone()));
        let username = username.ok_or_else(|| Error::bad_request("missing \"username\" parameter"))?;
        let period = self.rotation_period.or_else(|| stored.map(|stored| stored.rotation_period));
        let rotation_period = period.ok_or_else(|| Error::bad_request("missing \"rotation_period\" parameter"))?;
        if rotation_period < ROTATION_PERIOD_MIN {
            return Err(Error::failed("role rotation period out of range: must be greater than 60.00 seconds"));
        }
        if [&self.assume_role_arn, &self.assume_role_session_name, &self.external_id].iter().any(|field| !field.is_empty()) {
            return Err(Error::bad_request("cross-account static roles are only supported in Vault Enterprise"));
        }
        Ok(StaticRole {
            username,
            id: String::new(),
            rotation_period,
            access_key: String::new(),
            secret_key: Secret::default(),
            next_rotation: Timestamp::from_nanos(0),
            claimed_until: None,
        })
    }
}

async fn first_rotation(engine: &Aws, cx: &Cx, call: Call<'_>, name: &str, role: StaticRole) -> Result<StaticRole> {
    let role = rotated(engine, cx, call, role).await?;
    let stored = cx.store.commit(Changes::new().expect(key(name), daypass_sdk::Expect::Absent).put_json(key(name), &role)?).await;
    if let Err(failure) = stored {
        // Nobody will ever know this key: it must not stay.
        drop_key(engine, call, &role).await?;
        return Err(failure.into());
    }
    Ok(role)
}

/// Makes the next key. Of two, the one that is not in use makes room; when neither is known, the oldest.
async fn rotated(engine: &Aws, cx: &Cx, call: Call<'_>, role: StaticRole) -> Result<StaticRole> {
    let mut keys =
        engine.aws.list_access_keys(call, &role.username).await.map_err(|error| failed("unable to list the access keys", error))?;
    keys.sort_by_key(|key| key.created);
    if keys.len() >= 2
        && let Some(idle) = keys.iter().find(|key| key.id != role.access_key)
    {
        let gone = engine.aws.remove_user_holding(call, &role.username, &Holding::AccessKey(idle.id.clone())).await;
        gone.map_err(|error| failed("unable to delete the oldest access key", error))?;
    }
    let key = engine.aws.create_access_key(call, &role.username).await;
    let key = key.map_err(|error| failed("unable to create a new access key", error))?;
    let next_rotation = cx.clock.now() + role.rotation_period;
    Ok(StaticRole { access_key: key.id, secret_key: key.secret, next_rotation, claimed_until: None, ..role })
}

async fn drop_key(engine: &Aws, call: Call<'_>, role: &StaticRole) -> Result<()> {
    match engine.aws.remove_user_holding(call, &role.username, &Holding::AccessKey(role.access_key.clone())).await {
        Err(error) if error.kind == daypass_aws::ErrorKind::NotFound => Ok(()),
        gone => gone.map_err(|error| failed("unable to delete the access key", error)),
    }
}

async fn delete_static_role(engine: Arc<Aws>, cx: Cx, params: Named) -> Result<()> {
    let key = key(&params.name);
    let read = cx.store.get(&key).await?;
    let Some(entry) = &read else { return Ok(()) };
    let role: StaticRole = daypass_sdk::from_json(ROLES, &entry.value)?;
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    let target = config.target()?;
    drop_key(&engine, Call { target: &target, deadline: deadline(&cx) }, &role).await?;
    cx.store.commit(Changes::new().unchanged(&key, read.as_ref()).delete(&key)).await.map_err(Error::from)
}

/// Rotates what is due. One that fails holds up no other.
pub(super) async fn rotate_due(engine: &Aws, cx: &Cx) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let names = cx.store.list_page(ROLES, after.as_deref(), PAGE).await?;
        let Some(last) = names.last() else { return Ok(()) };
        after = Some(last.clone());
        let keys: Vec<String> = names.iter().map(|name| key(name)).collect();
        for (key, entry) in keys.iter().zip(cx.store.get_many(&keys).await?) {
            let Some(entry) = entry else { continue };
            if let Err(error) = rotate_one(engine, cx, key, &entry).await {
                tracing::warn!(role = %key, %error, "the key of a static role could not be rotated; it is tried again in a minute");
            }
        }
    }
}

async fn rotate_one(engine: &Aws, cx: &Cx, key: &str, entry: &Entry) -> Result<()> {
    let now = cx.clock.now();
    let mut role: StaticRole = daypass_sdk::from_json(ROLES, &entry.value)?;
    if role.next_rotation > now || role.claimed_until.is_some_and(|until| until > now) {
        return Ok(());
    }
    // Claimed first, so that of several nodes one makes a key.
    role.claimed_until = Some(now + RETRY);
    match cx.store.commit(Changes::new().unchanged(key, Some(entry)).put_json(key, &role)?).await {
        Ok(()) => {}
        Err(CommitFailure::Conflict(_)) => return Ok(()),
        Err(failure) => return Err(failure.into()),
    }
    let config: RootConfig = cx.store.get_json(config_root::KEY).await?.unwrap_or_default();
    let target = config.target()?;
    let call = Call { target: &target, deadline: PATIENCE };
    let role = rotated(engine, cx, call, role).await?;
    let claimed = Entry { value: Vec::new(), version: entry.version + 1 };
    match cx.store.commit(Changes::new().unchanged(key, Some(&claimed)).put_json(key, &role)?).await {
        Ok(()) => Ok(()),
        Err(failure) => {
            drop_key(engine, call, &role).await?;
            Err(failure.into())
        }
    }
}

fn failed(doing: &str, error: AwsError) -> Error {
    Error::failed(format!("{doing}: {}", error.sdk_text())).because(error)
}

const HELP: &str =
    "A static role keeps and rotates the access keys of one existing IAM user. static-creds/<name> gives the key in use to every
reader; it works for one more rotation period after it was replaced. Deleting the role deletes the key in use.";
