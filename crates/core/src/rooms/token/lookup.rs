//! `lookup`, `lookup-self`, `lookup-accessor`, `accessors`.

use std::sync::Arc;

use daypass_base::Timestamp;
use daypass_sdk::{Cx, Keys, Reply, Result, reveal};
use serde_json::{Map, Value, json};

use super::{AccessorParams, Nothing, TokenParams, TokenRoom, bad_token, caller, of_accessor, open};
use crate::node::Unsealed;
use crate::tokens::{Known, canonical_networks};

pub(super) async fn lookup(room: Arc<TokenRoom>, cx: Cx, params: TokenParams) -> Result<Reply> {
    let (_, unsealed) = open(&room).await?;
    let Some(token) = params.token.filter(|token| !token.is_empty()) else {
        return lookup_self(room, cx, Nothing {}).await;
    };
    let known = unsealed.tokens.find(&token).await?.0.ok_or_else(bad_token)?;
    shown(&unsealed, &known, reveal(&token), cx.clock.now()).await
}

pub(super) async fn lookup_self(room: Arc<TokenRoom>, cx: Cx, _: Nothing) -> Result<Reply> {
    let (_, unsealed) = open(&room).await?;
    let (token, known) = caller(&cx, &unsealed).await?;
    shown(&unsealed, &known, reveal(&token), cx.clock.now()).await
}

pub(super) async fn lookup_accessor(room: Arc<TokenRoom>, cx: Cx, params: AccessorParams) -> Result<Reply> {
    let (_, unsealed) = open(&room).await?;
    let known = of_accessor(&params.accessor, &unsealed).await?;
    shown(&unsealed, &known, Value::String(String::new()), cx.clock.now()).await
}

pub(super) async fn accessors(room: Arc<TokenRoom>, cx: Cx, _: Nothing) -> Result<Keys> {
    let (inner, unsealed) = open(&room).await?;
    let (most, page) = (inner.settings.limits.list_names, &cx.request.page);
    let wanted = page.limit.unwrap_or(usize::MAX).min(most + 1);
    let mut names = Vec::new();
    unsealed
        .tokens
        .accessors(page.after.as_deref(), |accessor| {
            names.push(accessor);
            names.len() < wanted
        })
        .await?;
    Ok(Keys(daypass_sdk::whole(names, most)?))
}

/// What look-ups show of a token. Clients assert the types of these keys, so all of them are always there.
async fn shown(unsealed: &Unsealed, known: &Known, id: Value, now: Timestamp) -> Result<Reply> {
    let row = &known.row;
    let config_version = unsealed.table.load().config_version;
    let standing = unsealed.identities.standing(row, config_version).await?;
    let mut data = Map::from_iter([
        ("id".to_owned(), id),
        ("accessor".to_owned(), json!(if known.batch { "" } else { row.accessor.as_str() })),
        ("policies".to_owned(), json!(row.policies)),
        ("path".to_owned(), json!(row.path)),
        ("meta".to_owned(), json!(row.meta)),
        ("display_name".to_owned(), json!(row.display_name)),
        ("num_uses".to_owned(), json!(row.num_uses)),
        ("orphan".to_owned(), json!(row.parent.is_none())),
        ("creation_time".to_owned(), json!(row.created.seconds())),
        ("creation_ttl".to_owned(), json!(row.creation_ttl)),
        ("expire_time".to_owned(), json!(row.expires)),
        ("ttl".to_owned(), json!(row.ttl(now))),
        ("explicit_max_ttl".to_owned(), json!(row.explicit_max_ttl)),
        ("entity_id".to_owned(), json!(standing.current_id(&row.entity_id))),
        ("type".to_owned(), json!(if known.batch { "batch" } else { "service" })),
        ("renewable".to_owned(), json!(row.renewable && !known.batch)),
        ("issue_time".to_owned(), json!(row.created)),
    ]);
    if let Some(role) = &row.role {
        data.insert("role".to_owned(), json!(role));
    }
    if !row.period.is_zero() {
        data.insert("period".to_owned(), json!(row.period));
    }
    if !row.bound_cidrs.is_empty() {
        data.insert("bound_cidrs".to_owned(), json!(canonical_networks(&row.bound_cidrs)));
    }
    if let Some(renewed) = row.last_renewal {
        data.insert("last_renewal".to_owned(), json!(renewed));
        data.insert("last_renewal_time".to_owned(), json!(renewed.seconds()));
    }
    if !standing.policies.is_empty() {
        data.insert("identity_policies".to_owned(), json!(standing.policies));
        data.insert("external_namespace_policies".to_owned(), json!({}));
    }
    Ok(Reply::data(data))
}
