//! `container/<role>`: credentials in the form that AWS's SDKs fetch by themselves.
//!
//! A workload with `AWS_CONTAINER_CREDENTIALS_FULL_URI` pointing here, and a token of this server in
//! `AWS_CONTAINER_AUTHORIZATION_TOKEN` (or a file of it in `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`), needs no client software: its SDK
//! asks again before a credential ends. Source: AWS SDKs and Tools Reference Guide, "Container credential provider".

use std::sync::Arc;

use daypass_sdk::{Cx, Endpoint, Error, Leased, Operation, Outcome, Reply, Result, Seconds, Timestamp};
use serde_json::{Map, Value};

use super::Aws;
use super::creds::{self, Given, MINTING, OLDER_DOORS, Wanted};
use super::loaded;
use super::role::{CredentialType, Door};

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["container/{name@}"])
            .stands_for(OLDER_DOORS)
            .alike(MINTING)
            .summary("Give AWS's SDKs a credential, as the credentials endpoint of a container does.")
            .help(HELP)
            .for_aws_sdks()
            .on(Operation::Read, serve),
    ]
}

async fn serve(engine: Arc<Aws>, cx: Cx, wanted: Wanted) -> Result<Reply> {
    if cx.request.wrap_ttl.is_some() {
        return Err(Error::bad_request("an answer of container/ cannot be wrapped: SDKs read it as it is. Read sts/ instead"));
    }
    let name = cx.request.below.strip_prefix("container/").unwrap_or_default();
    let loaded = loaded::role(&cx, name).await?;
    if loaded.role.kind_at(Door::Sts)? == CredentialType::IamUser {
        return Err(Error::bad_request(format!(
            "role {name} is of type iam_user, whose keys do not end by themselves: container/ gives STS credentials alone"
        )));
    }
    let Given { mut reply, end } = creds::mint_by(engine, cx.clone(), wanted, Door::Sts, loaded).await?;
    if let Outcome::Leased(leased) = &mut reply.outcome {
        shape(&cx, leased, end);
    }
    Ok(reply)
}

/// From Vault's fields to those of the SDKs. `end` is AWS's word. The lease stays as it is: the ledger has it, and the record tells of it.
fn shape(cx: &Cx, leased: &mut Leased, end: Option<Timestamp>) {
    let mut take = |name: &str| leased.data.remove(name).unwrap_or_default();
    let ttl = take("ttl").as_u64().unwrap_or(leased.terms.ttl.0);
    let arn = take("arn");
    let mut data = Map::new();
    for (theirs, ours) in [("AccessKeyId", "access_key"), ("SecretAccessKey", "secret_key"), ("Token", "session_token")] {
        data.insert(theirs.to_owned(), take(ours));
    }
    data.insert("Expiration".to_owned(), creds::end_told(cx, Seconds(ttl), end).to_string().into());
    if let Some(account) = arn.as_str().and_then(|arn| arn.split(':').nth(4)) {
        data.insert("AccountId".to_owned(), account.into());
    }
    if let Some(role_arn) = leased.facts.get("role_arn") {
        data.insert("RoleArn".to_owned(), Value::String(role_arn.clone()));
    }
    leased.data = data;
    leased.without_envelope = true;
}

const HELP: &str = "For workloads that use one of AWS's SDKs or the AWS CLI, and nothing of ours:

    AWS_CONTAINER_CREDENTIALS_FULL_URI=https://SERVER:8200/v1/aws/container/ROLE
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/run/secrets/token

The token is taken from the Authorization header as it is, because SDKs send it so. ttl, role_arn and role_session_name may stand
in the URI as query parameters. Policies that deny sts/<role> or creds/<role> deny this, and what they demand there is
demanded here. SDKs fetch the next credential before one ends. Most of them take http:// only for the addresses
of this machine and of ECS and EKS: elsewhere the server has to serve TLS, with a certificate that the workload trusts.";
