//! `role/<name>/secret-id` and its kin: making, listing, looking up and ending secret ids.

use std::sync::Arc;

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{CommitFailure, Cx, Endpoint, Error, Keys, Kind, Operation, Outcome, Reply, Result, Seconds, Secret, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::role::{checked_id, networks_of, uuid};
use super::roles::{self, FoundRole, NameParams};
use super::secret::{AccessorRow, FoundSecret, SecretId, Wanted, accessor_row, by_rows};
use super::{ATTEMPTS_MAX, AppRole, metadata, trimmed};

/// A new secret id.
#[derive(Deserialize, JsonSchema)]
struct NewParams {
    /// Name of the role; case does not matter.
    role_name: String,
    /// The secret id of the caller's choice; only for `custom-secret-id`.
    secret_id: Option<Secret<String>>,
    /// Notes that go into the token's metadata: a JSON object in a text.
    metadata: Option<Value>,
    /// Networks in CIDR form that may log in with it.
    #[serde(default)]
    cidr_list: CommaList,
    /// Networks in CIDR form that may use its tokens.
    #[serde(default)]
    token_bound_cidrs: CommaList,
    /// Logins it is good for; absent for what the role says.
    num_uses: Option<i64>,
    /// How long it can be used; absent for what the role says.
    ttl: Option<Seconds>,
}

/// Which secret id.
#[derive(Deserialize, JsonSchema)]
struct SecretParams {
    /// Name of the role; case does not matter.
    role_name: String,
    /// The secret id.
    secret_id: Option<Secret<String>>,
}

/// Which secret id, by accessor.
#[derive(Deserialize, JsonSchema)]
struct AccessorParams {
    /// Name of the role; case does not matter.
    role_name: String,
    /// Accessor of the secret id.
    #[serde(default)]
    secret_id_accessor: String,
}

pub(super) fn endpoints() -> Vec<Endpoint<AppRole>> {
    vec![
        Endpoint::at(["role/{role_name}/secret-id/?"])
            .summary("Make a secret id, or list the accessors of all.")
            .help(
                "A secret id proves a login together with the role id. It is shown once; ask for it with a wrap TTL to hand it on safely.",
            )
            .on(Operation::Update, make)
            .on(Operation::List, list),
        Endpoint::at(["role/{role_name}/custom-secret-id"])
            .summary("Make a secret id of the caller's choice.")
            .on(Operation::Update, make_custom),
        Endpoint::at(["role/{role_name}/secret-id/lookup"]).summary("Look up a secret id.").on(Operation::Update, lookup),
        Endpoint::at(["role/{role_name}/secret-id/destroy"])
            .summary("End a secret id.")
            .on(Operation::Update, destroy)
            .on(Operation::Delete, destroy),
        Endpoint::at(["role/{role_name}/secret-id-accessor/lookup"])
            .summary("Look up a secret id by its accessor.")
            .on(Operation::Update, accessor_lookup),
        Endpoint::at(["role/{role_name}/secret-id-accessor/destroy"])
            .summary("End a secret id by its accessor.")
            .on(Operation::Update, accessor_destroy)
            .on(Operation::Delete, accessor_destroy),
    ]
}

async fn make(approle: Arc<AppRole>, cx: Cx, params: NewParams) -> Result<Reply> {
    let secret = Secret::new(uuid(&cx));
    store(&approle, &cx, params, &secret).await
}

async fn make_custom(approle: Arc<AppRole>, cx: Cx, params: NewParams) -> Result<Reply> {
    let given = params.secret_id.as_ref().filter(|secret| !trimmed(secret.expose()).is_empty()).ok_or_else(no_secret)?;
    // Measured, and kept as a login will read it.
    let secret = Secret::new(checked_id("secret_id", given.expose())?);
    store(&approle, &cx, params, &secret).await
}

/// Fails with `BadRequest` for more than the role allows, with `Failed` for bad networks and for a secret id that exists.
async fn store(approle: &AppRole, cx: &Cx, params: NewParams, secret: &Secret<String>) -> Result<Reply> {
    let Some(FoundRole { role, .. }) = roles::find(cx, &params.role_name).await? else { return Ok(no_role(&params.role_name)) };
    if !role.bind_secret_id {
        return Err(Error::bad_request("bind_secret_id is not set on the role"));
    }
    let wanted = Wanted {
        metadata: metadata::parse(params.metadata.as_ref())?,
        cidr_list: networks_of("CIDR blocks", &params.cidr_list.0)?,
        token_bound_cidrs: networks_of("token CIDR blocks", &params.token_bound_cidrs.0)?,
        num_uses: params.num_uses,
        ttl: params.ttl,
    };
    let made = SecretId::decide(&role, wanted, uuid(cx), cx.mount.max_lease_ttl, cx.clock.now())?;
    // Hashed into the name of its row.
    let id = approle.ids.id(cx, secret.expose()).await?;
    match cx.store.commit(made.create(&role.generation, &id)?).await {
        Ok(()) => {}
        Err(CommitFailure::Conflict(_)) => return Err(Error::failed("failed to store secret_id: SecretID is already registered")),
        Err(CommitFailure::Error(error)) => return Err(error),
    }
    Ok(Reply::json(json!({
        "secret_id": reveal(secret),
        "secret_id_accessor": made.accessor,
        "secret_id_num_uses": made.num_uses,
        "secret_id_ttl": made.ttl,
    })))
}

async fn list(_: Arc<AppRole>, cx: Cx, params: NameParams) -> Result<Reply> {
    let Some(found) = roles::find(&cx, &params.role_name).await? else { return Ok(no_role(&params.role_name)) };
    Ok(Keys(cx.list(&by_rows(&found.role.generation)).await?).into())
}

/// An unknown secret id is no error here: 204.
async fn lookup(approle: Arc<AppRole>, cx: Cx, params: SecretParams) -> Result<Reply> {
    let Some((_, found)) = by_secret(&approle, &cx, &params).await? else { return Ok(no_role(&params.role_name)) };
    let now = cx.clock.now();
    Ok(found.filter(|found| !found.secret.ended(now)).map_or_else(Reply::nothing, |found| Reply::data(found.secret.shown())))
}

async fn destroy(approle: Arc<AppRole>, cx: Cx, params: SecretParams) -> Result<Reply> {
    for _ in 0..ATTEMPTS_MAX {
        let Some((_, found)) = by_secret(&approle, &cx, &params).await? else { return Ok(no_role(&params.role_name)) };
        let Some(found) = found else { return Ok(Reply::nothing()) };
        if end(&cx, &found).await? {
            return Ok(Reply::nothing());
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// An unknown accessor is answered with 404 and an envelope, which Terraform reads. Source: recorded fixture `approle-flow`.
async fn accessor_lookup(_: Arc<AppRole>, cx: Cx, params: AccessorParams) -> Result<Reply> {
    let Some(found) = roles::find(&cx, &params.role_name).await? else { return Ok(no_role(&params.role_name)) };
    let now = cx.clock.now();
    match by_accessor(&cx, &found, &params).await {
        Ok(Some(found)) if !found.secret.ended(now) => Ok(Reply::data(found.secret.shown())),
        Ok(_) => Ok(Outcome::Missing(Map::from_iter([("error".to_owned(), no_accessor(&params).into())])).into()),
        Err(error) => Err(error),
    }
}

async fn accessor_destroy(_: Arc<AppRole>, cx: Cx, params: AccessorParams) -> Result<Reply> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(role) = roles::find(&cx, &params.role_name).await? else { return Ok(no_role(&params.role_name)) };
        let found = by_accessor(&cx, &role, &params).await?.ok_or_else(|| Error::failed(no_accessor(&params)))?;
        if end(&cx, &found).await? {
            return Ok(Reply::nothing());
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// Removes a secret id. Says no when a login changed it meanwhile.
async fn end(cx: &Cx, found: &FoundSecret) -> Result<bool> {
    match cx.store.commit(found.remove()).await {
        Ok(()) => Ok(true),
        Err(CommitFailure::Conflict(_)) => Ok(false),
        Err(CommitFailure::Error(error)) => Err(error),
    }
}

/// The role, and its secret id if there is one. `None` without the role.
async fn by_secret(approle: &AppRole, cx: &Cx, params: &SecretParams) -> Result<Option<(FoundRole, Option<FoundSecret>)>> {
    // Hashed into the name of its row.
    let secret =
        params.secret_id.as_ref().map(|secret| trimmed(secret.expose())).filter(|secret| !secret.is_empty()).ok_or_else(no_secret)?;
    let Some(role) = roles::find(cx, &params.role_name).await? else { return Ok(None) };
    let id = approle.ids.id(cx, secret).await?;
    let found = FoundSecret::find(cx, &role.role.generation, &id).await?;
    Ok(Some((role, found)))
}

/// Errors: `BadRequest` without an accessor, `Denied` when it belongs to another role.
async fn by_accessor(cx: &Cx, role: &FoundRole, params: &AccessorParams) -> Result<Option<FoundSecret>> {
    let accessor = &params.secret_id_accessor;
    if accessor.is_empty() {
        return Err(Error::bad_request("missing secret_id_accessor"));
    }
    // Accessors are made here; anything longer cannot be one and would be no row's name.
    if accessor.len() > ACCESSOR_BYTES_MAX {
        return Ok(None);
    }
    let way: Option<AccessorRow> = cx.store.get_json(&accessor_row(accessor)).await?;
    let Some(way) = way else { return Ok(None) };
    if way.generation != role.role.generation {
        return Err(Error::new(Kind::Denied, "invalid secret id accessor"));
    }
    FoundSecret::find(cx, &way.generation, &way.id).await
}

/// 404 with a text, which the other errors of that status do not have.
fn no_role(name: &str) -> Reply {
    Outcome::Bare(404, json!({ "errors": [format!("role {:?} does not exist", name.to_lowercase())] })).into()
}

fn no_secret() -> Error {
    Error::bad_request("missing secret_id")
}

fn no_accessor(params: &AccessorParams) -> String {
    format!("failed to find accessor entry for secret_id_accessor: {:?}", Brief(&params.secret_id_accessor))
}

const ACCESSOR_BYTES_MAX: usize = 256;
