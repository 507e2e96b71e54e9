//! `sys/policies/acl`, and `sys/policy`, its older name: ACL policies as texts.
//!
//! Names are lower case; what is written under another spelling is found under any.

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::Sys;
use super::about::enterprise;
use super::mounts::Nothing;
use crate::node::{Inner, Unsealed};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["policies/acl/?"]).summary("List the names of all ACL policies.").safe().on(Operation::List, list),
        Endpoint::at(["policies/acl/{name..}"])
            .summary("Read, write or delete an ACL policy.")
            .help(HELP)
            .safe()
            .on(Operation::Read, read)
            .on(Operation::Update, write)
            .on(Operation::Delete, delete),
        Endpoint::at(["policy/?"])
            .summary("List the names of all ACL policies.")
            .deprecated("use sys/policies/acl")
            .on(Operation::Read, list_legacy)
            .on(Operation::List, list_legacy),
        Endpoint::at(["policy/{name..}"])
            .summary("Read, write or delete an ACL policy.")
            .help(HELP)
            .deprecated("use sys/policies/acl/{name}")
            .on(Operation::Read, read_legacy)
            .on(Operation::Update, write_legacy)
            .on(Operation::Delete, delete),
        Endpoint::at(["policies/rgp/?", "policies/rgp/{name..}", "policies/egp/?", "policies/egp/{name..}"])
            .summary("Sentinel policies, which only Vault Enterprise has.")
            .on(Operation::Read, enterprise)
            .on(Operation::List, enterprise)
            .on(Operation::Update, enterprise)
            .on(Operation::Delete, enterprise),
    ]
}

const HELP: &str = "A policy is a text in HCL or JSON, or that text in base64. It is in force for the next request after the write was \
                    answered. The policies root and default cannot be deleted, root cannot be written.";

/// The name of a policy.
#[derive(Debug, Deserialize, JsonSchema)]
struct Name {
    /// The policy. Upper case is turned into lower case.
    name: String,
}

/// A policy to write.
#[derive(Debug, Deserialize, JsonSchema)]
struct Written {
    /// The policy. Upper case is turned into lower case.
    name: String,
    /// The rules, in HCL or JSON, or that text in base64.
    #[serde(default)]
    policy: String,
}

/// A policy to write, as older clients do.
#[derive(Debug, Deserialize, JsonSchema)]
struct WrittenLegacy {
    /// The policy. Upper case is turned into lower case.
    name: String,
    /// The rules, in HCL or JSON, or that text in base64.
    #[serde(default)]
    policy: String,
    /// The older name of `policy`.
    #[serde(default)]
    rules: String,
}

async fn list(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Keys> {
    let (inner, unsealed) = sys.way.open()?;
    names(&inner, &unsealed).await.map(Keys)
}

async fn list_legacy(sys: Arc<Sys>, _cx: Cx, _params: Nothing) -> Result<Reply> {
    let (inner, unsealed) = sys.way.open()?;
    let names = names(&inner, &unsealed).await?;
    Ok(Reply::json(json!({ "keys": names, "policies": names })).at_top_level())
}

/// Errors: `NotFound`.
async fn read(sys: Arc<Sys>, _cx: Cx, params: Name) -> Result<Reply> {
    let (name, text) = found(&sys, &params).await?;
    Ok(Reply::json(json!({ "name": name, "policy": text })))
}

/// Errors: `NotFound`.
async fn read_legacy(sys: Arc<Sys>, _cx: Cx, params: Name) -> Result<Reply> {
    let (name, text) = found(&sys, &params).await?;
    Ok(Reply::json(json!({ "name": name, "rules": text })).at_top_level())
}

/// Errors: `BadRequest` when the text does not parse or the policy is the core's own.
async fn write(sys: Arc<Sys>, _cx: Cx, params: Written) -> Result<Reply> {
    store(&sys, &params.name, &params.policy, Vec::new()).await
}

async fn write_legacy(sys: Arc<Sys>, _cx: Cx, params: WrittenLegacy) -> Result<Reply> {
    if params.policy.is_empty() && !params.rules.is_empty() {
        let remark = "'rules' is deprecated, please use 'policy' instead".to_owned();
        return store(&sys, &params.name, &params.rules, vec![remark]).await;
    }
    store(&sys, &params.name, &params.policy, Vec::new()).await
}

/// Deletes a policy; one that does not exist is no error. Errors: `BadRequest` for the core's own.
async fn delete(sys: Arc<Sys>, _cx: Cx, params: Name) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    let name = normal(&params.name);
    if name == "default" {
        return Err(Error::bad_request("cannot delete default policy"));
    }
    if IMMUTABLE.contains(&name.as_str()) {
        return Err(Error::bad_request(format!("cannot delete {name:?} policy")));
    }
    unsealed.policies.delete(&name).await
}

async fn names(inner: &Inner, unsealed: &Unsealed) -> Result<Vec<String>> {
    let most = inner.settings.limits.list_names;
    daypass_sdk::whole(unsealed.policies.list(most).await?, most)
}

async fn found(sys: &Sys, params: &Name) -> Result<(String, String)> {
    let (_, unsealed) = sys.way.open()?;
    let name = normal(&params.name);
    let text = unsealed.policies.read(&name).await?.ok_or_else(Error::not_found)?;
    Ok((name, text))
}

async fn store(sys: &Sys, given: &str, text: &str, mut remarks: Vec<String>) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let name = normal(given);
    if name != given.trim_end_matches('/') {
        remarks.insert(0, format!("policy name was converted to {name}"));
    }
    if text.is_empty() {
        return Err(Error::bad_request("'policy' parameter not supplied or empty"));
    }
    if IMMUTABLE.contains(&name.as_str()) {
        return Err(Error::bad_request(format!("cannot update {name:?} policy")));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("the name of a policy has {} bytes, the limit is {NAME_BYTES_MAX}", name.len())));
    }
    remarks.extend(unsealed.policies.write(&name, &decoded(text)).await?);
    Ok(remarks.into_iter().fold(Reply::nothing(), Reply::warn))
}

/// The text that base64 stands for, or the text itself.
fn decoded(text: &str) -> String {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| text.to_owned())
}

fn normal(name: &str) -> String {
    name.trim_end_matches('/').to_lowercase()
}

/// Policies that the core defines.
const IMMUTABLE: [&str; 3] = ["control-group", "response-wrapping", "root"];
const NAME_BYTES_MAX: usize = 512;
