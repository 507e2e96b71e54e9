//! `cubbyhole/`: storage of each token's own. What is written with one token can be read with that token alone, and goes with it.

use std::sync::Arc;

use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Engine, Error, Operation, Outcome, Reply, Result, Store, TokenId};
use daypass_storage::Condition;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Way;
use crate::revoke::cubbyhole_prefix;
use crate::stages::identify::invalid_token;
use crate::tokens::token_key;
use crate::view;

/// The room behind `cubbyhole/`.
pub(crate) struct Cubbyhole {
    pub(crate) way: Way,
}

/// Any fields: they are the secret.
#[derive(Deserialize, JsonSchema)]
struct Secret {
    /// The path comes from the request; this is the secret itself.
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl Engine for Cubbyhole {
    const SUMMARY: &'static str = "The cubbyhole backend reads and writes secrets that belong to one token: no other token can reach them, \
                                   and they are destroyed when the token ends.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            Endpoint::at(["{path..?}"])
                .summary("Pass-through secret storage to a token-specific cubbyhole.")
                .body_apart()
                .exists(exists)
                .on(Operation::Read, read)
                .on(Operation::Update, write)
                .on(Operation::Delete, delete)
                .on(Operation::List, list),
        ]
    }
}

async fn exists(room: Arc<Cubbyhole>, cx: Cx, _: Secret) -> Result<bool> {
    Ok(room.store(&cx)?.get(&cx.request.below).await?.is_some())
}

async fn read(room: Arc<Cubbyhole>, cx: Cx, _: Secret) -> Result<Reply> {
    let found: Option<Map<String, Value>> = room.store(&cx)?.get_json(&cx.request.below).await?;
    let reply = Reply::data(found.ok_or_else(Error::not_found)?);
    if cx.request.below == "response" {
        return Ok(reply.warn(
            "Reading from 'cubbyhole/response' is deprecated. Please use sys/wrapping/unwrap to unwrap responses, as it provides \
             additional security checks and other benefits.",
        ));
    }
    Ok(reply)
}

async fn write(room: Arc<Cubbyhole>, cx: Cx, secret: Secret) -> Result<()> {
    let (_, unsealed) = room.way.open()?;
    let token = owner(&cx)?;
    if secret.fields.is_empty() {
        return Err(Error::failed("missing data fields"));
    }
    if cx.request.below.is_empty() {
        return Err(Error::failed("missing path"));
    }
    for _ in 0..CONFLICTS_MAX {
        // The token must still be as it was when it was seen alive: that its row exists would not do, it stays until all that hung on it is
        // gone, and what came after this place was cleared would lie here for good.
        let known = unsealed.tokens.by_id(token).await?.ok_or_else(invalid_token)?;
        let changes = Changes::new().put_json(&cx.request.below, &secret.fields)?;
        let batch = view::batch_below(&unsealed.rows, cubbyhole_prefix(token), changes)?;
        match unsealed.rows.commit(batch.require(token_key(token), Condition::Version(known.version))).await {
            Ok(_) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(Error::failed("the token is used by too many requests at once; try again"))
}

async fn delete(room: Arc<Cubbyhole>, cx: Cx, _: Secret) -> Result<()> {
    room.store(&cx)?.delete(&cx.request.below).await
}

async fn list(room: Arc<Cubbyhole>, cx: Cx, _: Secret) -> Result<Reply> {
    let names = room.store(&cx)?.page(&cx.request.below, &cx.request.page).await?;
    let mut data = Map::new();
    if !names.is_empty() {
        data.insert("keys".to_owned(), names.into());
    }
    Ok(Outcome::Data(data).into())
}

impl Cubbyhole {
    /// The caller's own storage. Errors: `BadRequest` for tokens that have none.
    fn store(&self, cx: &Cx) -> Result<Store> {
        let (_, unsealed) = self.way.open()?;
        Ok(view::store(&unsealed.rows, cubbyhole_prefix(owner(cx)?)))
    }
}

/// Errors: `BadRequest` for tokens that have no such storage.
fn owner(cx: &Cx) -> Result<TokenId> {
    let token = cx.request.caller.token;
    token.ok_or_else(|| Error::bad_request("cubbyhole operations are only supported by \"service\" type tokens"))
}

const CONFLICTS_MAX: usize = 100;
