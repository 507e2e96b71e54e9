//! `identity/mfa`: methods of second factors, the logins that need them, and the seeds of people. See `crate::identity::mfa`.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Reply, Result, Seconds, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ByName, IdentityRoom, Nothing, check_mount, show};
use crate::identity::mfa::enforcement::EnforcementWish;
use crate::identity::mfa::method::{MethodWish, TYPE};
use crate::identity::mfa::seeds::Generated;

pub(super) fn endpoints() -> Vec<Endpoint<IdentityRoom>> {
    let mut all = seeds();
    all.extend(enforcements());
    all.extend(vec![
        Endpoint::at(["mfa/method/?"]).summary("List all MFA methods.").on(Operation::List, list_methods),
        Endpoint::at(["mfa/method/{method_id}"]).summary("Read an MFA method.").on(Operation::Read, read_method),
        Endpoint::at(["mfa/method/totp/?"])
            .summary("Make a TOTP MFA method, or list them.")
            .help(METHOD_HELP)
            .on(Operation::Update, make_method)
            .on(Operation::List, list_methods),
        Endpoint::at(["mfa/method/totp/{method_id}"])
            .summary("Read, change or delete a TOTP MFA method.")
            .help(METHOD_HELP)
            .on(Operation::Read, read_method)
            .on(Operation::Update, change_method)
            .on(Operation::Delete, delete_method),
        Endpoint::at([
            "mfa/method/duo",
            "mfa/method/duo/{method_id}",
            "mfa/method/okta",
            "mfa/method/okta/{method_id}",
            "mfa/method/pingid",
            "mfa/method/pingid/{method_id}",
        ])
        .summary("Methods of Duo, Okta and PingID are not served: TOTP is.")
        .on(Operation::Update, not_served),
    ]);
    all
}

fn seeds() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["mfa/method/totp/generate"])
            .summary("Make the caller's own TOTP secret for a method.")
            .help(SEED_HELP)
            .on(Operation::Update, generate),
        Endpoint::at(["mfa/method/totp/admin-generate"])
            .summary("Make an entity's TOTP secret for a method.")
            .help(SEED_HELP)
            .on(Operation::Update, admin_generate),
        Endpoint::at(["mfa/method/totp/admin-destroy"])
            .summary("Destroy an entity's TOTP secret for a method.")
            .help(SEED_HELP)
            .on(Operation::Update, admin_destroy),
    ]
}

fn enforcements() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["mfa/login-enforcement/?"]).summary("List login enforcements.").on(Operation::List, list_enforcements),
        Endpoint::at(["mfa/login-enforcement/{name}"])
            .summary("Read, write or delete which logins need a second factor.")
            .help(ENFORCEMENT_HELP)
            .on(Operation::Read, read_enforcement)
            .on(Operation::Update, write_enforcement)
            .on(Operation::Delete, delete_enforcement),
    ]
}

const METHOD_HELP: &str = "Passcodes by time, as authenticator apps show them (RFC 6238). A change holds for secrets that are made from then on; \
                           max_validation_attempts holds at once. A method that an enforcement names cannot be deleted.";

const SEED_HELP: &str = "The answer is the one time that the secret is shown, as a URL and as a picture of it for authenticator apps. An entity \
                         has one secret for each method: to make another, destroy it first.";

const ENFORCEMENT_HELP: &str = "A login needs a second factor when any of the conditions fits it: its mount, the mount's type, a group of its \
                                entity, or the entity. One of the methods is enough; where several enforcements fit, each wants to be satisfied.";

/// A method, by its id.
#[derive(Deserialize, JsonSchema)]
struct ByMethod {
    /// The id of the method. Example: `1f36d4cf-52c9-475d-a5cd-49c573c54e55`.
    method_id: String,
}

/// A TOTP method; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct Written {
    /// The id of the method to change. Example: `1f36d4cf-52c9-475d-a5cd-49c573c54e55`.
    method_id: Option<String>,
    /// A name that clients can say in place of the id. Writing with the name of a method changes that. Example: `phones`.
    method_name: Option<String>,
    /// Whose passcodes these are, as the app shows it. Example: `Example Inc`.
    issuer: Option<String>,
    /// How long a passcode is shown, in seconds or as a duration; 30 s for a new one. Example: `30`.
    period: Option<Seconds>,
    /// Size of a secret, in bytes; 20 for a new one. Example: `20`.
    key_size: Option<i64>,
    /// Width of the picture, in pixels; 200 for a new one, 0 makes none. Example: `200`.
    qr_size: Option<i64>,
    /// `SHA1` (for a new one), `SHA256` or `SHA512`; many apps know the first alone. Example: `SHA1`.
    algorithm: Option<String>,
    /// Length of a passcode: 6 (for a new one) or 8. Example: `6`.
    digits: Option<i64>,
    /// How many passcodes before and after the present one are taken, for clocks that differ: 0 or 1 (for a new one). Example: `1`.
    skew: Option<i64>,
    /// Attempts within a period; all further ones are refused until it has passed. 5 for a new one. Example: `5`.
    max_validation_attempts: Option<i64>,
}

/// A method that is not served.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "nothing is done with it")]
struct NotServed {
    /// The id of the method. Example: `1f36d4cf-52c9-475d-a5cd-49c573c54e55`.
    method_id: Option<String>,
}

/// Whose secret.
#[derive(Deserialize, JsonSchema)]
struct SeedOf {
    /// The id of the method. Example: `1f36d4cf-52c9-475d-a5cd-49c573c54e55`.
    #[serde(default)]
    method_id: String,
    /// The id of the entity. Example: `9189f7fd-e3f5-436b-a835-cb14864b1e01`.
    #[serde(default)]
    entity_id: String,
}

/// Of which method.
#[derive(Deserialize, JsonSchema)]
struct OwnSeed {
    /// The id of the method. Example: `1f36d4cf-52c9-475d-a5cd-49c573c54e55`.
    #[serde(default)]
    method_id: String,
}

/// An enforcement; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct Enforcement {
    /// Name of the enforcement. Example: `people`.
    name: String,
    /// Ids of the methods of which one is enough. Example: `["1f36d4cf-52c9-475d-a5cd-49c573c54e55"]`.
    mfa_method_ids: Option<CommaList>,
    /// Accessors of the auth mounts whose logins need a factor. Example: `["auth_userpass_337fdb6a"]`.
    auth_method_accessors: Option<CommaList>,
    /// Types of auth mounts whose logins need a factor. Example: `["userpass"]`.
    auth_method_types: Option<CommaList>,
    /// Ids of the groups whose members need a factor, however they log in. Example: `["f9b4b1e0-3a4a-4a2e-8bd5-b1a8c5a1a2b3"]`.
    identity_group_ids: Option<CommaList>,
    /// Ids of the entities that need a factor, however they log in. Example: `["9189f7fd-e3f5-436b-a835-cb14864b1e01"]`.
    identity_entity_ids: Option<CommaList>,
}

impl Written {
    fn wish(self) -> MethodWish {
        MethodWish {
            name: self.method_name,
            issuer: self.issuer,
            period: self.period,
            key_size: self.key_size,
            qr_size: self.qr_size,
            algorithm: self.algorithm,
            digits: self.digits,
            skew: self.skew,
            max_validation_attempts: self.max_validation_attempts,
        }
    }
}

async fn list_methods(room: Arc<IdentityRoom>, _cx: Cx, _: Nothing) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let methods = unsealed.identities.mfa_methods().await?;
    Ok(Reply::data(show::keys_with_info(methods.into_iter().map(|(id, row)| (id, row.shown())).collect())))
}

async fn read_method(room: Arc<IdentityRoom>, _cx: Cx, params: ByMethod) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let row = unsealed.identities.mfa_method(&params.method_id).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::json(row.shown()))
}

async fn make_method(room: Arc<IdentityRoom>, _cx: Cx, params: Written) -> Result<Json<Value>> {
    let (_, unsealed) = room.way.open()?;
    let id = params.method_id.clone().filter(|id| !id.is_empty());
    let id = unsealed.identities.write_mfa_method(id.as_deref(), params.wish()).await?;
    Ok(Json(json!({ "method_id": id })))
}

async fn change_method(room: Arc<IdentityRoom>, _cx: Cx, params: Written) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    let id = params.method_id.clone().unwrap_or_default();
    unsealed.identities.write_mfa_method(Some(&id), params.wish()).await.map(drop)
}

async fn delete_method(room: Arc<IdentityRoom>, _cx: Cx, params: ByMethod) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.delete_mfa_method(&params.method_id).await
}

async fn not_served(_: Arc<IdentityRoom>, _cx: Cx, _: NotServed) -> Result<()> {
    Err(Error::bad_request(format!(
        "MFA methods of this type are not served: the one type that is is {TYPE:?}, at identity/mfa/method/{TYPE}"
    )))
}

async fn generate(room: Arc<IdentityRoom>, cx: Cx, params: OwnSeed) -> Result<Reply> {
    let entity = &cx.request.caller.entity_id;
    if entity.is_empty() {
        return Err(Error::bad_request("the token has no entity that could have an MFA secret: log in by an auth method"));
    }
    make_seed(&room, &params.method_id, entity).await
}

async fn admin_generate(room: Arc<IdentityRoom>, _cx: Cx, params: SeedOf) -> Result<Reply> {
    if params.entity_id.is_empty() {
        return Err(Error::bad_request("missing entity ID"));
    }
    make_seed(&room, &params.method_id, &params.entity_id).await
}

async fn make_seed(room: &IdentityRoom, method_id: &str, entity_id: &str) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    Ok(match unsealed.identities.generate_seed(method_id, entity_id).await? {
        Generated::Already(method) => Reply::nothing().warn(format!("Entity already has a secret for MFA method {method:?}")),
        Generated::New(url, picture) => {
            let mut shown = BTreeMap::from([("url", reveal(&url))]);
            shown.extend(picture.map(|picture| ("barcode", reveal(&picture))));
            Reply::json(shown)
        }
    })
}

async fn admin_destroy(room: Arc<IdentityRoom>, _cx: Cx, params: SeedOf) -> Result<()> {
    if params.entity_id.is_empty() {
        return Err(Error::bad_request("missing entity ID"));
    }
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.destroy_seed(&params.method_id, &params.entity_id).await
}

async fn list_enforcements(room: Arc<IdentityRoom>, _cx: Cx, _: Nothing) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let rows = unsealed.identities.mfa_enforcements().await?;
    Ok(Reply::data(show::keys_with_info(rows.into_iter().map(|row| (row.name.clone(), row.shown())).collect())))
}

async fn read_enforcement(room: Arc<IdentityRoom>, _cx: Cx, params: ByName) -> Result<Reply> {
    let (_, unsealed) = room.way.open()?;
    let row = unsealed.identities.mfa_enforcement(&params.name).await?.ok_or_else(Error::not_found)?;
    Ok(Reply::json(row.shown()))
}

/// Errors: `BadRequest`, also when a mount or a type does not exist: an enforcement that fits nothing would protect nothing.
async fn write_enforcement(room: Arc<IdentityRoom>, _cx: Cx, params: Enforcement) -> Result<()> {
    let (inner, unsealed) = room.way.open()?;
    let given = |list: Option<CommaList>| list.map(|list| list.0);
    let (accessors, types) = (given(params.auth_method_accessors), given(params.auth_method_types));
    let table = unsealed.table.load_full();
    for accessor in accessors.iter().flatten().filter(|accessor| !accessor.is_empty()) {
        let why = "one of the auth method accessors provided is invalid";
        check_mount(&table, accessor).map_err(|error| Error::bad_request(format!("{why}: {}", error.message)))?;
    }
    let catalog = inner.catalog();
    let known = catalog.get("auth").map(Vec::as_slice).unwrap_or_default();
    if let Some(unknown) = types.iter().flatten().find(|kind| !kind.is_empty() && !known.contains(&kind.as_str())) {
        return Err(Error::bad_request(format!(
            "one of the auth method types provided is invalid: {:?} is none of {}",
            Brief(unknown),
            known.join(", ")
        )));
    }
    let wish = EnforcementWish {
        methods: given(params.mfa_method_ids),
        accessors,
        types,
        groups: given(params.identity_group_ids),
        entities: given(params.identity_entity_ids),
    };
    unsealed.identities.write_mfa_enforcement(&params.name, wish).await
}

async fn delete_enforcement(room: Arc<IdentityRoom>, _cx: Cx, params: ByName) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.identities.delete_mfa_enforcement(&params.name).await
}
