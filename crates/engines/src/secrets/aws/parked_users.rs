//! `config/parked-users`: IAM users, and keys of them, that nobody got and that AWS does not let us delete.
//!
//! The names are ours: Vault has no such list, its notes are tried for ever in silence.

use std::collections::BTreeSet;
use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Json, Keys, Kind, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::aws_keys::notes::{self, Note, Undone};

use super::Aws;
use super::config_root::Nothing;
use super::text::quoted;
use super::user_rows;

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["config/parked-users/?"])
            .summary("List the IAM users that could not be deleted.")
            .help(HELP)
            .on(Operation::List, list_parked_users),
        Endpoint::at(["config/parked-users/{username:any}"])
            .summary("See, retry or drop the deletion of an IAM user.")
            .help(HELP)
            .on(Operation::Read, read_parked_user)
            .on(Operation::Update, retry_parked_user)
            .on(Operation::Delete, drop_parked_user),
    ]
}

/// A parked user by its name.
#[derive(Deserialize, JsonSchema)]
struct Named {
    /// Name of the IAM user. Example: `vault-token-ci-1767323045-Qs0aB`.
    username: String,
}

async fn list_parked_users(_: Arc<Aws>, cx: Cx, _: Nothing) -> Result<Keys> {
    let parked = notes::all(&cx, Note::is_parked).await?;
    let names: BTreeSet<String> = parked.into_iter().map(|(_, note, _)| note.username).collect();
    Ok(Keys(names.into_iter().collect()))
}

/// The notes of a user, parked or not: what is retried need not have failed so often.
async fn notes_of(cx: &Cx, username: &str) -> Result<Vec<(String, Note, u64)>> {
    notes::all(cx, |note| note.username == username && note.attempts > 0).await
}

async fn read_parked_user(_: Arc<Aws>, cx: Cx, params: Named) -> Result<Json<Value>> {
    let found = notes_of(&cx, &params.username).await?;
    let (_, note, _) = found.first().ok_or_else(Error::not_found)?;
    Ok(Json(json!({
        "access_key": note.key.as_ref().map(|key| key.id.clone()).unwrap_or_default(),
        "attempts": note.attempts,
        "kind": if note.key.is_some() { "access_key" } else { "user" },
        "last_error": note.problem,
        "next_attempt": note.next,
        "parked": note.is_parked(),
        "since": note.at,
        "username": note.username,
    })))
}

async fn retry_parked_user(engine: Arc<Aws>, cx: Cx, params: Named) -> Result<()> {
    let found = notes_of(&cx, &params.username).await?;
    if found.is_empty() {
        return Err(unknown(&params.username));
    }
    for (place, note, version) in found {
        match notes::undo(&*engine, &cx, &place, note, version).await? {
            Undone::Done => {}
            Undone::Failed(problem) => return Err(Error::new(Kind::Upstream, problem)),
            Undone::Taken => return Err(Error::failed(format!("{} is being deleted at this moment", quoted(&params.username)))),
        }
    }
    Ok(())
}

async fn drop_parked_user(_: Arc<Aws>, cx: Cx, params: Named) -> Result<Reply> {
    let found = notes_of(&cx, &params.username).await?;
    if found.is_empty() {
        return Ok(Reply::nothing());
    }
    for (place, ..) in found {
        let with_its_row = user_rows::release(&cx, &place, &params.username).await?;
        cx.store.commit(with_its_row.delete(&place)).await?;
    }
    let what = quoted(&params.username);
    Ok(Reply::nothing().warn(format!("IAM user {what}, or a key of it, may still exist at AWS: nobody here knows of it any more")))
}

fn unknown(username: &str) -> Error {
    Error::bad_request(format!("no deletion of an IAM user {} has failed: LIST config/parked-users shows what is parked", quoted(username)))
}

const HELP: &str =
    "An IAM user that was made and given to nobody, because the server died or AWS failed in between, is deleted by the regular
work. A deletion that fails is tried again after 1, 2, 4 ... minutes; after six failures it is shown here and tried once an hour. A
write to config/parked-users/<username> tries at once; deleting it there makes the server forget the user, which may still exist.

The same goes for an access key whose making was not answered. It is deleted only where it is certain that nobody else made it: it was not there
before, it was made while the call was under way by AWS's clock, and it was never used (iam:GetAccessKeyLastUsed). Others are left alone and shown here:
see in IAM whose they are.";
