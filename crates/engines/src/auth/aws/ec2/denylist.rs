//! `roletag-denylist/`: role tags that got about and count no more.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use daypass_sdk::{Cx, Endpoint, Error, Json, Keys, Operation, Result, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::role_tag;
use crate::auth::aws::{AwsAuth, roles};

/// A tag that counts no more.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Denied {
    creation_time: Timestamp,
    expiration_time: Timestamp,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

/// Which tag.
#[derive(Deserialize, JsonSchema)]
struct TagParams {
    /// The tag's value, as it is or in base64. Example: `djE6MDlWcDBxR3V5Qjg9OnI9Y2k=`.
    role_tag: String,
}

pub(super) fn endpoints() -> [Endpoint<AwsAuth>; 2] {
    let all = Endpoint::at(["roletag-denylist/?", "roletag-blacklist/?"])
        .summary("List the role tags that are denied.")
        .on(Operation::List, list);
    let one = Endpoint::at(["roletag-denylist/{role_tag..}", "roletag-blacklist/{role_tag..}"])
        .summary("Deny a role tag, or let it count again.")
        .help("A denied role tag lets nobody log in. Its entry is removed when no token that it could give would be alive.")
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete);
    [all, one]
}

/// Whether a tag is denied.
pub(super) async fn has(cx: &Cx, value: &str) -> Result<bool> {
    Ok(cx.store.get(&row(value)).await?.is_some())
}

async fn list(_: Arc<AwsAuth>, cx: Cx, _: NoParams) -> Result<Keys> {
    let names = cx.list(ROWS).await?;
    let plain = |name: &String| BASE64URL_NOPAD.decode(name.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Keys(names.iter().filter_map(plain).collect()))
}

async fn read(_: Arc<AwsAuth>, cx: Cx, params: TagParams) -> Result<Json<Value>> {
    let denied: Denied = cx.store.get_json(&row(&value_of(params)?)).await?.ok_or_else(Error::not_found)?;
    Ok(Json(json!({ "creation_time": denied.creation_time, "expiration_time": denied.expiration_time })))
}

/// Fails with `BadRequest` for what is no tag of this mount's.
async fn write(_: Arc<AwsAuth>, cx: Cx, params: TagParams) -> Result<()> {
    let value = value_of(params)?;
    let tag = role_tag::read(&cx, &value).await?;
    let role = roles::find(&cx, &tag.role).await?.map(|role| role.token.max_ttl).unwrap_or_default();
    let creation_time = cx.clock.now();
    let longest = cx.mount.max_lease_ttl.max(role).max(tag.max_ttl);
    cx.store.put_json(&row(&value), &Denied { creation_time, expiration_time: creation_time + longest }).await
}

async fn delete(_: Arc<AwsAuth>, cx: Cx, params: TagParams) -> Result<()> {
    cx.store.delete(&row(&value_of(params)?)).await
}

/// The value of a tag, which may be in base64 because of its slashes.
fn value_of(params: TagParams) -> Result<String> {
    let plain = BASE64.decode(params.role_tag.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let value = plain.unwrap_or(params.role_tag);
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::bad_request(format!("the role tag has {} bytes; at most {VALUE_BYTES_MAX} are allowed", value.len())));
    }
    Ok(value)
}

fn row(value: &str) -> String {
    format!("{ROWS}{}", BASE64URL_NOPAD.encode(value.as_bytes()))
}

pub(super) const ROWS: &str = "denylist/";
const VALUE_BYTES_MAX: usize = 255;
