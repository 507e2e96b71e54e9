//! `roles` and `roles/<name>`.

use std::sync::Arc;

use daypass_base::lenient::{CommaList, KvPairs};
use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Error, Json, Keys, Operation, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Ecr;
use super::role::Role;

/// Where roles are kept: this prefix and the name.
const ROLES: &str = "roles/";
/// Two writers of one role at one moment are rare, three are a mistake.
const ATTEMPTS_MAX: usize = 4;

pub(super) fn endpoints() -> Vec<Endpoint<Ecr>> {
    vec![
        Endpoint::at(["roles/?"]).summary("List the roles.").help(LIST_HELP).on(Operation::List, list_roles),
        Endpoint::at(["roles/{name@}"])
            .summary("Say which registries a role logs in to, and as whom.")
            .help(HELP)
            .on(Operation::Read, read_role)
            .on(Operation::Update, write_role)
            .on(Operation::Delete, delete_role)
            .exists(role_exists),
    ]
}

/// No fields.
#[derive(Deserialize, JsonSchema)]
struct Nothing {}

/// A role by its name.
#[derive(Deserialize, JsonSchema)]
struct Named {
    /// Name of the role. Example: `app`.
    name: String,
}

/// The fields of a role. Those that are left out keep what is stored.
#[derive(Deserialize, JsonSchema)]
struct Fields {
    /// Name of the role. Example: `app`.
    name: String,
    /// IAM role to assume; empty for the server's own identity, or that of `config/root`. Example:
    /// `arn:aws:iam::111111111111:role/ecr-staging`.
    role_arn: Option<String>,
    /// External id that the trust policy of the IAM role asks for. Example: `partner-7`.
    external_id: Option<String>,
    /// Tags of the session of the IAM role. Example: `{"team": "build"}`.
    session_tags: Option<KvPairs>,
    /// Account numbers of the registries, at most 10; empty for the registry of the account that asks. Example: `111111111111`.
    registries: Option<CommaList>,
    /// The same as `registries`, under ECR's own name. Example: `111111111111`.
    registry_ids: Option<CommaList>,
    /// Region of the registries; empty for the mount's, else the server's. Example: `eu-west-1`.
    region: Option<String>,
    /// Log in to ECR Public (`public.ecr.aws`) instead.
    public: Option<bool>,
    /// How long a login that is handed out lasts at least, in seconds or as a duration, up to 11 hours, as at first. ECR's own limit is
    /// 12 hours. Example: `2h`.
    min_ttl: Option<Seconds>,
}

/// The role of this name. Errors: `BadRequest` when there is none, as the aws engine has it.
pub(super) async fn role(cx: &Cx, name: &str) -> Result<Role> {
    let role = cx.store.get_json(&key(name)).await?;
    role.ok_or_else(|| Error::bad_request(format!("Role \"{name}\" not found: write it to {}roles/{name} first", cx.mount.path)))
}

async fn list_roles(_: Arc<Ecr>, cx: Cx, _: Nothing) -> Result<Keys> {
    Ok(Keys(cx.list(ROLES).await?))
}

async fn read_role(_: Arc<Ecr>, cx: Cx, params: Named) -> Result<Json<Value>> {
    let role: Role = cx.store.get_json(&key(&params.name)).await?.ok_or_else(Error::not_found)?;
    Ok(Json(role.shown()))
}

async fn role_exists(_: Arc<Ecr>, cx: Cx, params: Named) -> Result<bool> {
    Ok(cx.store.get(&key(&params.name)).await?.is_some())
}

async fn delete_role(engine: Arc<Ecr>, cx: Cx, params: Named) -> Result<()> {
    cx.store.delete(&key(&params.name)).await?;
    engine.held.forget(&params.name);
    Ok(())
}

async fn write_role(_: Arc<Ecr>, cx: Cx, params: Fields) -> Result<()> {
    let key = key(&params.name);
    if params.registries.is_some() && params.registry_ids.is_some() {
        return Err(Error::bad_request("registries and registry_ids are the same field: give one of them"));
    }
    for _ in 0..ATTEMPTS_MAX {
        let read = cx.store.get(&key).await?;
        let stored: Role = match &read {
            Some(entry) => daypass_sdk::from_json(&key, &entry.value)?,
            None => Role::default(),
        };
        let role = params.over(stored);
        role.checked()?;
        match cx.store.commit(Changes::new().unchanged(&key, read.as_ref()).put_json(&key, &role)?).await {
            Ok(()) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(CommitFailure::Conflict(0).into())
}

impl Fields {
    fn over(&self, stored: Role) -> Role {
        Role {
            role_arn: self.role_arn.clone().unwrap_or(stored.role_arn),
            external_id: self.external_id.clone().unwrap_or(stored.external_id),
            session_tags: self.session_tags.clone().map_or(stored.session_tags, |pairs| pairs.0),
            registries: self.registries.as_ref().or(self.registry_ids.as_ref()).map_or(stored.registries, |list| list.0.clone()),
            region: self.region.clone().unwrap_or(stored.region),
            public: self.public.unwrap_or(stored.public),
            min_ttl: self.min_ttl.unwrap_or(stored.min_ttl),
        }
    }
}

fn key(name: &str) -> String {
    format!("{ROLES}{name}")
}

const LIST_HELP: &str = "Roles are listed by name; what they hold is read from roles/<name>.";

const HELP: &str = "A role says which registries its logins are good for, and whose rights they have: those of the IAM role in role_arn,
or the server's own. That identity needs ecr:GetAuthorizationToken, and the rights on repositories that pulls and pushes take;
for ECR Public ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken.

Writing changes only the fields that are sent. Logins are then read from creds/<name>.";
