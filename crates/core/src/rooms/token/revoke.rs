//! `revoke`, `revoke-self`, `revoke-accessor`, `revoke-orphan`, `tidy`.

use std::sync::Arc;

use daypass_sdk::{Cx, Error, Reply, Result};

use super::{AccessorParams, Nothing, TokenParams, TokenRoom, caller, open};
use crate::revoke;
use crate::tokens::Cause;

pub(super) async fn revoke(room: Arc<TokenRoom>, _: Cx, params: TokenParams) -> Result<()> {
    let (inner, unsealed) = open(&room).await?;
    let token = params.token.filter(|token| !token.is_empty()).ok_or_else(|| Error::bad_request("missing token ID"))?;
    // Exposed to see its kind; nothing of it is kept.
    if token.expose().starts_with("hvb.") {
        return Err(Error::bad_request("batch tokens cannot be revoked"));
    }
    match unsealed.tokens.stored(&token).await? {
        Some(known) => revoke::token(&inner, &unsealed, known.id, Cause::Asked).await,
        None => Ok(()),
    }
}

pub(super) async fn revoke_self(room: Arc<TokenRoom>, cx: Cx, _: Nothing) -> Result<()> {
    let (inner, unsealed) = open(&room).await?;
    let (_, known) = caller(&cx, &unsealed).await?;
    if known.batch {
        return Err(Error::bad_request("batch tokens cannot be revoked"));
    }
    revoke::token(&inner, &unsealed, known.id, Cause::Asked).await
}

pub(super) async fn revoke_accessor(room: Arc<TokenRoom>, _: Cx, params: AccessorParams) -> Result<Reply> {
    let (inner, unsealed) = open(&room).await?;
    if params.accessor.is_empty() {
        return Err(Error::new(daypass_sdk::Kind::InvalidRequest, "missing accessor"));
    }
    let Some(known) = unsealed.tokens.stored_by_accessor(&params.accessor).await? else {
        return Ok(Reply::nothing().warn("No token found with this accessor"));
    };
    revoke::token(&inner, &unsealed, known.id, Cause::Asked).await?;
    Ok(Reply::nothing())
}

pub(super) async fn revoke_orphan(room: Arc<TokenRoom>, _: Cx, params: TokenParams) -> Result<()> {
    let (inner, unsealed) = open(&room).await?;
    let token = params.token.filter(|token| !token.is_empty()).ok_or_else(|| Error::bad_request("missing token ID"))?;
    let known = unsealed.tokens.find(&token).await?.0.ok_or_else(|| Error::bad_request("token to revoke not found"))?;
    if known.batch {
        return Err(Error::bad_request("batch tokens cannot be revoked"));
    }
    revoke::token_only(&inner, &unsealed, known.id).await
}

pub(super) async fn tidy(room: Arc<TokenRoom>, _: Cx, _: Nothing) -> Result<Reply> {
    let (inner, unsealed) = open(&room).await?;
    Ok(crate::tidy::start(&inner, &unsealed, crate::tidy::What::Tokens))
}
