//! `sys/auth`: auth methods, where they are mounted and how they are tuned. They share the mount table, at `auth/`.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result};

use super::Sys;
use super::mount_fields::{MountPath, Tuning, Wanted};
use super::mounts::{Nothing, disable, enable, given_path, listed, tune, tuning_of};
use crate::mounts::{Class, normal_path};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["auth"]).summary("List the mounted auth methods.").on(Operation::Read, list),
        Endpoint::at(["auth/{path..}"])
            .summary("Mount, show or remove an auth method.")
            .help("Removing a method revokes every token that it issued and erases its data.")
            .sudo()
            .on(Operation::Read, show)
            .on(Operation::Update, enable_method)
            .on(Operation::Delete, disable_method),
        Endpoint::at(["auth/{path..}/tune"])
            .summary("Show or change the settings of an auth method.")
            .help("Fields that are not given keep their value. The same works without sudo at mounts/auth/<path>/tune.")
            .sudo()
            .on(Operation::Read, show_tuning)
            .on(Operation::Update, tune_method),
    ]
}

async fn list(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    Ok(Reply::data(listed(&inner, &unsealed, Class::Auth)).at_top_level())
}

/// Errors: `BadRequest` when no method is mounted exactly there.
async fn show(sys: Arc<Sys>, _cx: Cx, params: MountPath) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let path = given_path(&params.path);
    let table = unsealed.table.load();
    let live = table.exact(&format!("auth/{path}")).ok_or_else(|| Error::bad_request(format!("No auth engine at {path}")))?;
    Ok(Reply::json(live.row.listed(&inner.engine_version())).at_top_level())
}

/// Errors: `BadRequest` when the path is taken, the type unknown or a setting makes no sense.
async fn enable_method(sys: Arc<Sys>, _cx: Cx, wanted: Wanted) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    let path = format!("auth/{}", normal_path(&wanted.path)?);
    enable(&inner, &unsealed, Class::Auth, path, wanted).await
}

/// Errors: `BadRequest` for the token method.
async fn disable_method(sys: Arc<Sys>, _cx: Cx, params: MountPath) -> Result<()> {
    let (inner, unsealed) = sys.way.open()?;
    let path = normal_path(&params.path)?;
    if path.starts_with("token/") {
        return Err(Error::bad_request("token credential backend cannot be disabled"));
    }
    disable(&inner, &unsealed, &format!("auth/{path}")).await
}

async fn show_tuning(sys: Arc<Sys>, _cx: Cx, params: MountPath) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    tuning_of(&inner, &unsealed, &format!("auth/{}", given_path(&params.path)))
}

async fn tune_method(sys: Arc<Sys>, _cx: Cx, tuning: Tuning) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let path = format!("auth/{}", given_path(&tuning.path));
    tune(&inner, &unsealed, &path, tuning).await
}
