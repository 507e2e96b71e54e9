//! `identity/oidc`: keys of identity tokens, the issuer's name, and the documents by which others verify the tokens of mounts. There are no
//! roles, clients and providers.

use std::sync::Arc;

use daypass_base::lenient::CommaList;
use daypass_sdk::{Cx, Endpoint, Error, Json, Keys, Operation, Outcome, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{IdentityRoom, Nothing};
use crate::identity::oidc::KeyWish;
use crate::identity::oidc::material::Algorithm;

pub(super) fn endpoints() -> Vec<Endpoint<IdentityRoom>> {
    vec![
        Endpoint::at(["oidc/config"])
            .summary("Read or set who signs identity tokens.")
            .help(CONFIG_HELP)
            .on(Operation::Read, read_config)
            .on(Operation::Update, write_config),
        Endpoint::at(["oidc/key/?"]).summary("List the keys that sign identity tokens.").on(Operation::List, list_keys),
        Endpoint::at(["oidc/key/{name}"])
            .summary("Read, write or delete a key that signs identity tokens.")
            .help(KEY_HELP)
            .on(Operation::Read, read_key)
            .on(Operation::Update, write_key)
            .on(Operation::Delete, delete_key),
        Endpoint::at(["oidc/key/{name}/rotate"])
            .summary("Let the next key sign identity tokens from now on.")
            .help(KEY_HELP)
            .on(Operation::Update, rotate_key),
        Endpoint::at(["oidc/plugins/.well-known/openid-configuration"])
            .summary("Show where the keys of mounts' identity tokens are: OpenID Connect discovery.")
            .help(PLUGINS_HELP)
            .public()
            .bare()
            .on(Operation::Read, discovery),
        Endpoint::at(["oidc/plugins/.well-known/keys"])
            .summary("Show the public keys of mounts' identity tokens: a JSON Web Key Set.")
            .help(PLUGINS_HELP)
            .public()
            .bare()
            .on(Operation::Read, published),
    ]
}

const CONFIG_HELP: &str = "Without an issuer it is the server's own address (api_addr). It is part of every token and of the documents, and what \
                           AWS knows the server by: a change makes AWS refuse the server until its identity provider is made anew.";

const KEY_HELP: &str = "A key has one half that signs, one that signs next and is published already, and those that signed before, which are \
                        published for verification_ttl. The next one's turn comes after rotation_period, and when it is asked for. The key \
                        \"default\" is there from the start. A mount uses the one that its identity_token_key names.";

const PLUGINS_HELP: &str = "Whoever is to trust identity tokens of this server's mounts reads these documents, without a token.";

/// Who signs.
#[derive(Deserialize, JsonSchema)]
struct ConfigFields {
    /// Scheme, host and port of the issuer; the server's own address when empty. Example: `https://vault.example.com`.
    issuer: Option<String>,
}

/// A key, by its name.
#[derive(Deserialize, JsonSchema)]
struct Named {
    /// Name of the key. Example: `default`.
    name: String,
}

/// How a key is set; what is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
struct KeyFields {
    /// Name of the key. Example: `aws`.
    name: String,
    /// How long a key signs before the next one does, in seconds or as a duration; a day for a new one. Example: `24h`.
    rotation_period: Option<Seconds>,
    /// How long a key is published after it signed, in seconds or as a duration; a day for a new one. Example: `24h`.
    verification_ttl: Option<Seconds>,
    /// `RS256` (for a new one), `RS384`, `RS512`, `ES256`, `ES384`, `ES512` or `EdDSA`; AWS takes all but the last.
    algorithm: Option<String>,
    /// Client ids of OIDC roles that may use the key. There are no roles here: it is stored and shown. Example: `*`.
    allowed_client_ids: Option<CommaList>,
}

/// How to rotate.
#[derive(Deserialize, JsonSchema)]
struct Rotation {
    /// Name of the key. Example: `default`.
    name: String,
    /// How long the key that signed is published, in seconds or as a duration, in place of the key's own time; `0s` for a key that must
    /// not be trusted any more.
    verification_ttl: Option<Seconds>,
}

async fn read_config(room: Arc<IdentityRoom>, _cx: Cx, _: Nothing) -> Result<Json<Value>> {
    let (_, unsealed) = room.way.open()?;
    Ok(Json(json!({ "issuer": unsealed.oidc.config().await?.issuer })))
}

async fn write_config(room: Arc<IdentityRoom>, _cx: Cx, params: ConfigFields) -> Result<Reply> {
    let Some(issuer) = params.issuer else { return Ok(Reply::nothing()) };
    let (_, unsealed) = room.way.open()?;
    let named = !issuer.is_empty();
    unsealed.oidc.configure(issuer).await?;
    let warning = "If \"issuer\" is set explicitly, all tokens must be validated against that address, including those issued by secondary \
                   clusters. Setting issuer to \"\" will restore the default behavior of using the cluster's api_addr as the issuer.";
    Ok(if named { Reply::nothing().warn(warning) } else { Reply::nothing() })
}

async fn list_keys(room: Arc<IdentityRoom>, _cx: Cx, _: Nothing) -> Result<Keys> {
    let (_, unsealed) = room.way.open()?;
    Ok(Keys(unsealed.oidc.names().await?))
}

async fn read_key(room: Arc<IdentityRoom>, _cx: Cx, params: Named) -> Result<Json<Value>> {
    let (_, unsealed) = room.way.open()?;
    let settings = unsealed.oidc.settings(&params.name).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({
        "algorithm": settings.algorithm.name(),
        "allowed_client_ids": settings.allowed_client_ids,
        "rotation_period": settings.rotation_period,
        "verification_ttl": settings.verification_ttl,
    })))
}

async fn write_key(room: Arc<IdentityRoom>, _cx: Cx, params: KeyFields) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    let wish = KeyWish {
        algorithm: params.algorithm,
        rotation_period: params.rotation_period,
        verification_ttl: params.verification_ttl,
        allowed_client_ids: params.allowed_client_ids.map(|list| list.0),
    };
    unsealed.oidc.write(&params.name, wish).await
}

async fn delete_key(room: Arc<IdentityRoom>, _cx: Cx, params: Named) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    let table = unsealed.table.load_full();
    let uses = |row: &crate::mounts::MountRow| row.config.identity_token_key.as_deref() == Some(params.name.as_str());
    let users: Vec<String> = table.all().filter(|live| uses(&live.row)).map(|live| live.row.path.clone()).collect();
    unsealed.oidc.delete(&params.name, &users).await
}

async fn rotate_key(room: Arc<IdentityRoom>, _cx: Cx, params: Rotation) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    unsealed.oidc.rotate(&params.name, params.verification_ttl).await
}

async fn discovery(room: Arc<IdentityRoom>, _cx: Cx, _: Nothing) -> Result<Outcome> {
    let (_, unsealed) = room.way.open()?;
    let issuer = unsealed.oidc.issuer().await?;
    Ok(Outcome::Bare(
        200,
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/.well-known/keys"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": Algorithm::ALL.map(Algorithm::name),
        }),
    ))
}

async fn published(room: Arc<IdentityRoom>, _cx: Cx, _: Nothing) -> Result<Outcome> {
    let (_, unsealed) = room.way.open()?;
    Ok(Outcome::Bare(200, json!({ "keys": unsealed.oidc.published().await? })))
}
