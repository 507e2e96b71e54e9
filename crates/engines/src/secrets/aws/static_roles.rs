//! `static-roles` and `static-creds`: keys of existing IAM users that are rotated.
//!
//! A user has two keys at most. At a rotation the one that is not in use goes, and the one in use stays until the next: readers that
//! have it go on for a whole period.

use std::sync::Arc;

use daypass_aws::{AccessKey, Call, User};
use daypass_base::Timestamp;
use daypass_sdk::{
    Changes, Cx, Endpoint, Entry, Error, Json, Keys, Operation, Reply, Result, Seconds, Secret, into_the_sealed_store, reveal,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::aws_keys::keys::{Route, failed};
use crate::aws_keys::schedule::{Schedule, Wanted};
use crate::readable::readable;
use crate::secrets::at_aws::deadline;

use super::config_root::{self, RootConfig};
use super::text::quoted;
use super::{Aws, names, static_rotation};

/// Where the roles are stored.
pub(super) const ROLES: &str = "static-roles/";
/// Shortest rotation period.
const ROTATION_PERIOD_MIN: Seconds = Seconds(60);
/// Roles that are read at once.
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
pub(super) struct StaticRole {
    pub(super) username: String,
    /// The user's unique id when the role was written: another user of the same name is not this one.
    pub(super) id: String,
    /// The account that the user is in; empty in roles of old until they are rotated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) account: String,
    rotation_period: Seconds,
    #[serde(default)]
    rotation_schedule: String,
    #[serde(default)]
    rotation_window: Seconds,
    /// How the user's account is reached.
    #[serde(default)]
    pub(super) route: Route,
    pub(super) access_key: String,
    #[serde(serialize_with = "into_the_sealed_store")]
    secret_key: Secret<String>,
    pub(super) next_rotation: Timestamp,
    /// Until then somebody is at work on it.
    #[serde(default)]
    pub(super) claimed_until: Option<Timestamp>,
    /// When the key was made: a changed schedule counts from here.
    #[serde(default)]
    rotated: Option<Timestamp>,
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
    /// When to rotate, as a cron line in UTC, in place of `rotation_period`. Example: `0 3 * * SUN`.
    rotation_schedule: Option<String>,
    /// How long after `rotation_schedule` a rotation may begin, in seconds or as a duration; later it waits for the next time. Example: `1h`.
    rotation_window: Option<Seconds>,
    /// IAM role to assume first, for a user of another account. Example: `arn:aws:iam::111111111111:role/key-rotation`.
    assume_role_arn: Option<String>,
    /// Name of that session, 2 to 64 characters of `[a-zA-Z0-9+=,.@_-]`; else `daypass-` and the user's name. Example: `rotation`.
    assume_role_session_name: Option<String>,
    /// External id that the trust policy of that role asks for. Example: `rotation-42`.
    external_id: Option<String>,
}

impl StaticRole {
    fn shown(&self, name: &str) -> Json<Value> {
        let mut shown = json!({
            "name": name,
            "id": self.id,
            "username": self.username,
            "rotation_period": self.rotation_period,
            "assume_role_arn": self.route.assume_role_arn,
            "assume_role_session_name": self.route.assume_role_session_name,
            "external_id": self.route.external_id,
        });
        // Clients that know nothing of schedules are shown what was recorded for them.
        if let Value::Object(shown) = &mut shown
            && !self.rotation_schedule.is_empty()
        {
            shown.insert("rotation_schedule".to_owned(), self.rotation_schedule.as_str().into());
            shown.insert("rotation_window".to_owned(), json!(self.rotation_window));
        }
        Json(shown)
    }

    pub(super) fn schedule(&self) -> Schedule {
        let (rotation_period, rotation_window) = (self.rotation_period, self.rotation_window);
        Schedule { rotation_period, rotation_schedule: self.rotation_schedule.clone(), rotation_window }
    }

    /// The role with another key, made now.
    pub(super) fn with_key(self, key: &AccessKey, now: Timestamp) -> Self {
        let next_rotation = self.schedule().next(now).unwrap_or(now);
        let (access_key, secret_key) = (key.id.clone(), key.secret.clone());
        Self { access_key, secret_key, next_rotation, claimed_until: None, rotated: Some(now), ..self }
    }

    /// The role with the account of its user as AWS has it now. Errors: `Failed` when that is another user of the same name.
    pub(super) fn of(self, user: User) -> Result<Self> {
        if self.id == user.id {
            return Ok(Self { account: user.account, ..self });
        }
        Err(Error::failed(format!(
            "AWS GetUser returned a user, but the ID did not match: {} is not the user that the role was written for; delete the role first",
            quoted(&self.username)
        )))
    }

    /// Whether this is what is stored there.
    pub(super) fn is_in(&self, entry: &Entry) -> bool {
        daypass_sdk::from_json::<Self>(ROLES, &entry.value).is_ok_and(|stored| stored.access_key == self.access_key)
    }

    /// When the key in use was made. Rows of earlier versions do not say.
    fn last_rotation(&self) -> Timestamp {
        self.rotated.unwrap_or(self.next_rotation - self.rotation_period.duration())
    }
}

pub(super) fn key(name: &str) -> String {
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
    let own = config.target(&cx)?;
    let call = Call::usual(&own, deadline(&cx));
    let target = wanted.route.target(engine.aws.as_ref(), call, &wanted.username).await?;
    let call = Call { target: &target, ..call };
    let user = user_of(&engine, call, &wanted).await?;
    let Some(stored) = stored else {
        let role = StaticRole { id: user.id, account: user.account, ..wanted };
        let role = static_rotation::first(&engine, &cx, call, &params.name, role).await?;
        return Ok(role.shown(&params.name));
    };
    let wanted = wanted.of(user)?;
    // Counted from the last rotation, as the new schedule says.
    let next_rotation = if wanted.schedule() == stored.schedule() {
        stored.next_rotation
    } else {
        wanted.schedule().next(stored.last_rotation()).unwrap_or(stored.next_rotation)
    };
    let role = StaticRole { next_rotation, ..wanted };
    cx.store.commit(Changes::new().unchanged(key(&params.name), read.as_ref()).put_json(key(&params.name), &role)?).await?;
    Ok(role.shown(&params.name))
}

/// The user that has the name of a role's user now. Errors: `Failed` with AWS's words.
pub(super) async fn user_of(engine: &Aws, call: Call<'_>, role: &StaticRole) -> Result<User> {
    let user = engine.aws.get_user(call, Some(&role.username)).await;
    user.map_err(|error| failed(&format!("unable to validate username {}", quoted(&role.username)), error))
}

impl Fields {
    /// What is asked for, over what is stored. Errors: `BadRequest` in Vault's words and order.
    fn checked(&self, stored: Option<&StaticRole>) -> Result<StaticRole> {
        let username = self.username.clone().filter(|name| !name.is_empty()).or_else(|| stored.map(|stored| stored.username.clone()));
        let username = username.ok_or_else(|| Error::bad_request("missing \"username\" parameter"))?;
        let before = stored.map(StaticRole::schedule).unwrap_or_default();
        let wanted = Wanted { period: self.rotation_period, line: self.rotation_schedule.clone(), window: self.rotation_window };
        let schedule = before.with(wanted)?;
        if !schedule.is_set() && self.rotation_period.is_none() {
            return Err(Error::bad_request("missing \"rotation_period\" parameter"));
        }
        if schedule.rotation_schedule.is_empty() && schedule.rotation_period < ROTATION_PERIOD_MIN {
            return Err(Error::failed("role rotation period out of range: must be greater than 60.00 seconds"));
        }
        let base = stored.cloned().unwrap_or_else(|| StaticRole {
            username: String::new(),
            id: String::new(),
            account: String::new(),
            rotation_period: Seconds::ZERO,
            rotation_schedule: String::new(),
            rotation_window: Seconds::ZERO,
            route: Route::default(),
            access_key: String::new(),
            secret_key: Secret::default(),
            next_rotation: Timestamp::from_nanos(0),
            claimed_until: None,
            rotated: None,
        });
        Ok(StaticRole {
            username,
            rotation_period: schedule.rotation_period,
            rotation_schedule: schedule.rotation_schedule,
            rotation_window: schedule.rotation_window,
            route: self.route(&base.route)?,
            ..base
        })
    }

    fn route(&self, stored: &Route) -> Result<Route> {
        let over = |given: &Option<String>, stored: &str| given.clone().unwrap_or_else(|| stored.to_owned());
        let route = Route {
            assume_role_arn: over(&self.assume_role_arn, &stored.assume_role_arn),
            assume_role_session_name: over(&self.assume_role_session_name, &stored.assume_role_session_name),
            external_id: over(&self.external_id, &stored.external_id),
        };
        let (name, arn) = (&route.assume_role_session_name, &route.assume_role_arn);
        if arn.is_empty() && !(name.is_empty() && route.external_id.is_empty()) {
            return Err(Error::bad_request("assume_role_session_name and external_id need an assume_role_arn"));
        }
        if !arn.is_empty() && !is_role_arn(arn) {
            return Err(Error::bad_request(format!(
                "assume_role_arn {} is no ARN of an IAM role: arn:PARTITION:iam::ACCOUNT:role/NAME",
                quoted(arn)
            )));
        }
        let size = name.chars().count();
        if !name.is_empty() && (names::safe(name) != *name || !(2..=names::SESSION_SIZE_MAX).contains(&size)) {
            return Err(Error::bad_request(format!(
                "assume_role_session_name {} is no session name: 2 to 64 characters of [a-zA-Z0-9+=,.@_-]",
                quoted(name)
            )));
        }
        Ok(route)
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/NAME`.
fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, region, account, resource] = parts.as_slice() else { return false };
    let account_fits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let role = resource.strip_prefix("role/").is_some_and(|name| !name.is_empty());
    *arn == "arn" && partition.starts_with("aws") && *service == "iam" && region.is_empty() && account_fits && role
}

async fn delete_static_role(engine: Arc<Aws>, cx: Cx, params: Named) -> Result<Reply> {
    let place = key(&params.name);
    match cx.store.get(&place).await? {
        Some(entry) => static_rotation::end(&engine, &cx, &place, &entry).await,
        None => Ok(Reply::nothing()),
    }
}

/// Whether a role names this key: then it is in use.
pub(super) async fn uses(cx: &Cx, username: &str, id: &str) -> Result<bool> {
    Ok(first(cx, |role| role.username == username && role.access_key == id).await?.is_some())
}

/// The role that has the user with this unique id.
pub(super) async fn of_user(cx: &Cx, id: &str) -> Result<Option<String>> {
    first(cx, |role| role.id == id).await
}

/// The first role that is meant, by name. Damaged ones are passed over: which user they are of nobody can tell, and nobody gets its key from them.
async fn first(cx: &Cx, is_meant: impl Fn(&StaticRole) -> bool) -> Result<Option<String>> {
    let mut after: Option<String> = None;
    loop {
        let names = cx.store.list_page(ROLES, after.as_deref(), PAGE).await?;
        let Some(last) = names.last() else { return Ok(None) };
        after = Some(last.clone());
        let places: Vec<String> = names.iter().map(|name| key(name)).collect();
        let found = cx.store.get_each_json::<StaticRole>(&places).await?;
        if let Some((place, _)) = readable(cx, &places, found).into_iter().find(|(_, (role, _))| is_meant(role)) {
            return Ok(place.strip_prefix(ROLES).map(str::to_owned));
        }
    }
}

const HELP: &str =
    "A static role keeps and rotates the access keys of one existing IAM user, every rotation_period or as rotation_schedule says.
static-creds/<name> gives the key in use to every reader; it works for one more rotation period after it was replaced. Deleting the role
deletes the key in use. One user has one static role, and the user that the mount itself works with has none. A user of another account is reached through assume_role_arn, an IAM role of that account.";
