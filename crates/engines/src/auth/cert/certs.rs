//! `certs/`: making, changing, reading and removing entries.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Cert;
use super::role::{Entry, Role, RoleParams};
use crate::auth::token_fields::With;

/// Which certificate.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the certificate; case does not matter. Example: `runners`.
    name: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn list_endpoint() -> Endpoint<Cert> {
    Endpoint::at(["certs/?"]).summary("List trusted certificates.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<Cert> {
    Endpoint::at(["certs/{name}"])
        .summary("Trust a certificate, or change, read or remove one that is trusted.")
        .help(
            "A trusted certificate says who logs in: with the certificate of an authority, whoever has one from it that fits all allowed_* fields; with any \
             other certificate, whoever shows that one. The fields token_* say what they get.",
        )
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

/// Reads an entry by its name in lower case.
pub(super) async fn find(cx: &Cx, name: &str) -> Result<Option<Arc<Entry>>> {
    if name.len() > NAME_BYTES_MAX {
        return Ok(None);
    }
    Ok(cx.store.find(&row(name)).await?.map(|(entry, _)| entry))
}

/// All entries with their names, in order. Errors: `BadRequest` when they are more than one login looks at.
pub(super) async fn all(cx: &Cx) -> Result<Vec<(String, Arc<Entry>)>> {
    let names = cx.store.list_page(ROWS, None, LOOKED_AT_MAX + 1).await?;
    if names.len() > LOOKED_AT_MAX {
        let text = format!("there are more than {LOOKED_AT_MAX} trusted certificates: say which one to log in with, by name=NAME");
        return Err(Error::bad_request(text));
    }
    let mut out = Vec::with_capacity(names.len());
    for name in names {
        if let Some(entry) = find(cx, &name).await? {
            out.push((name, entry));
        }
    }
    Ok(out)
}

async fn list(_: Arc<Cert>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn read(_: Arc<Cert>, cx: Cx, params: NameParams) -> Result<Reply> {
    Ok(Reply::data(find(&cx, &params.name).await?.ok_or_else(Error::not_found)?.role.shown()))
}

/// Fails with `BadRequest` for a certificate that cannot be read, or fields that cannot be.
async fn write(_: Arc<Cert>, cx: Cx, params: With<RoleParams>) -> Result<Reply> {
    let name = &params.own.name;
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("the name has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len())));
    }
    let decide = |role: Option<Role>| {
        let mut role = role.unwrap_or_default();
        role.apply(With { own: params.own.clone(), token: params.token.clone() })?;
        Ok(role)
    };
    Ok(written(&cx.store.change(&row(name), decide).await?, &cx))
}

fn written(role: &Role, cx: &Cx) -> Reply {
    let (default, max) = (cx.mount.default_lease_ttl, cx.mount.max_lease_ttl);
    let token = &role.token;
    let limits = [
        (
            token.ttl > default,
            format!("Given ttl of {} seconds is greater than current mount/system default of {} seconds", token.ttl.0, default.0),
        ),
        (
            token.max_ttl > max,
            format!("Given max_ttl of {} seconds is greater than current mount/system default of {} seconds", token.max_ttl.0, max.0),
        ),
        (
            token.period > max,
            format!("Given period of {} seconds is greater than the backend's maximum TTL of {} seconds", token.period.0, max.0),
        ),
    ];
    limits.into_iter().filter(|(over, _)| *over).fold(Reply::nothing(), |reply, (_, text)| reply.warn(text))
}

async fn delete(_: Arc<Cert>, cx: Cx, params: NameParams) -> Result<()> {
    if params.name.len() > NAME_BYTES_MAX {
        return Ok(());
    }
    cx.store.delete(&row(&params.name)).await
}

fn row(name: &str) -> String {
    format!("{ROWS}{}", name.to_lowercase())
}

const ROWS: &str = "cert/";
/// Longest name of a certificate, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// Entries that a login without a name looks at.
const LOOKED_AT_MAX: usize = 1000;
