//! `revoke-sessions/<role>`: the kill switch. AWS has no way to take one STS credential back; a policy on the IAM role can deny everything to
//! the sessions that began before now.
//!
//! Only where the role allows it (`allow_revoke_sessions`). The policy is an inline one; there is one for all sessions and one for each source
//! identity, so that a revocation never takes the place of another one. Deleting it, by DELETE here or by hand, undoes it. Sessions that are
//! minted later are not touched.

use std::sync::Arc;

use daypass_aws::{AssumeRole, AwsError, Call, ErrorKind, RolePolicy, Skew, Target};
use daypass_base::Brief;
use daypass_sdk::{Cx, Endpoint, Error, Json, Operation, Reply, Result, Seconds, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::secrets::at_aws::{deadline, upstream};

use super::Aws;
use super::documents;
use super::loaded::{self, Loaded};
use super::names;
use super::text::quoted;
use crate::secrets::{arn, revoked};

/// Name of the inline policy for all sessions; those for source identities begin with it.
const POLICY: &str = "daypass-revoked-sessions";
/// Longest source identity that AWS takes.
const IDENTITY_SIZE_MAX: usize = 64;

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![
        Endpoint::at(["revoke-sessions/{name@}"])
            .summary("End all sessions of an IAM role that began before now; deleting undoes it.")
            .help(HELP)
            .on(Operation::Update, revoke)
            .on(Operation::Delete, undo),
    ]
}

/// Which sessions.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
struct Params {
    /// Name of the role. Example: `ecr-staging`.
    name: String,
    /// IAM role, when the role allows more than one, or has templates or a pattern of some. Example: `arn:aws:iam::111111111111:role/ecr-staging`.
    #[serde(default)]
    role_arn: String,
    /// Only sessions with this source identity; those of all when it is left out. Blank is refused. Example: `acme.app`.
    source_identity: Option<String>,
}

async fn revoke(engine: Arc<Aws>, cx: Cx, params: Params) -> Result<Json<Value>> {
    let (name, source_identity) = params.policy()?;
    let Ready { own, target, iam_role } = ready(&engine, &cx, &params).await?;
    let policy = Policy { own, target, iam_role, name, source_identity };
    // In a task of its own: cut off with its request, it would let a later revocation begin while AWS still works on this one, and be undone by it.
    let (of, at) = (Arc::clone(&engine), cx.clone());
    let putting = tokio::spawn(async move { policy.put(&of, &at).await });
    let Put { policy, clock, before } =
        putting.await.map_err(|error| Error::internal("putting the policy ended badly").because(error))??;
    // Sessions that begin until then are ended too: who reads on after the answer must not get one of those.
    cx.clock.sleep(before.since(clock.theirs(cx.clock.now()))).await;
    engine.kept.clear();
    Ok(Json(json!({
        "role_arn": policy.iam_role, "policy_name": policy.name, "sessions_before": before, "source_identity": policy.source_identity
    })))
}

/// The policy that ends sessions, and where it goes.
struct Policy {
    /// Where the mount's own calls go.
    own: Target,
    target: Target,
    iam_role: String,
    name: String,
    /// Empty for all sessions.
    source_identity: String,
}

/// A policy that is on its role.
struct Put {
    policy: Policy,
    clock: Skew,
    before: Timestamp,
}

impl Policy {
    async fn put(self, engine: &Aws, cx: &Cx) -> Result<Put> {
        let _turn = engine.revoked.turn(&self.iam_role, &self.source_identity).await;
        let clock = engine.aws.skew(&self.own).unwrap_or_default();
        // AWS's clock may be ahead by so much without anybody seeing it.
        let before = revoked::next_second(clock.theirs(cx.clock.now()) + Skew::UNSEEN);
        let document = documents::sessions_over(&before.to_string(), &self.source_identity);
        let policy = RolePolicy { role: role_name(&self.iam_role).to_owned(), name: self.name.clone(), document: document.to_string() };
        let call = Call::taking_back(&self.target, deadline(cx));
        engine.aws.put_role_policy(call, &policy).await.map_err(|error| not_put(&self.name, &self.iam_role, error))?;
        // What is kept for other callers, here or at another mount, would be handed out dead.
        engine.revoked.note(&self.iam_role, &self.source_identity, before);
        Ok(Put { policy: self, clock, before })
    }
}

async fn undo(engine: Arc<Aws>, cx: Cx, params: Params) -> Result<Reply> {
    let (name, source_identity) = params.policy()?;
    let Ready { target, iam_role, .. } = ready(&engine, &cx, &params).await?;
    let _turn = engine.revoked.turn(&iam_role, &source_identity).await;
    let call = Call::taking_back(&target, deadline(&cx));
    match engine.aws.delete_role_policy(call, role_name(&iam_role), &name).await {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Reply::nothing().warn(format!(
            "{iam_role} has no policy {name}: nothing was undone. What was ended for one source identity is undone for that one (source_identity)"
        ))),
        Err(error) => Err(upstream(format!("Error deleting the policy {name} of {iam_role}: {}", error.sdk_text()), error)),
        Ok(()) => {
            engine.revoked.forget(&iam_role, &source_identity);
            Ok(Reply::nothing())
        }
    }
}

fn not_put(name: &str, iam_role: &str, error: AwsError) -> Error {
    let refused = format!("Error putting the policy {name} on {iam_role}: {}", error.sdk_text());
    if error.code != "LimitExceeded" {
        return upstream(refused, error);
    }
    let role = role_name(iam_role);
    let text = format!(
        "{refused}\n\tthe inline policies of the role are full. Those named {POLICY}-of-<identity> can go once the longest session from before them is \
         over: list them with `aws iam list-role-policies --role-name {role}`, and delete one with its source_identity here (DELETE revoke-sessions) \
         or with `aws iam delete-role-policy --role-name {role} --policy-name {POLICY}-of-<identity>`. Without source_identity one policy ends \
         all sessions, and takes their place"
    );
    upstream(text, error)
}

impl Params {
    /// The name of the policy, and the source identity that it is for, empty for all. Errors: `BadRequest` for what cannot be a source identity:
    /// a blank one too, which comes from a variable that nobody set and meant one identity.
    fn policy(&self) -> Result<(String, String)> {
        let Some(identity) = self.source_identity.as_deref() else { return Ok((POLICY.to_owned(), String::new())) };
        if identity.trim().is_empty() {
            return Err(Error::bad_request(
                "source_identity is blank: name the source identity that is meant, or leave the field out for the sessions of all",
            ));
        }
        if identity != names::safe(identity) || identity.len() > IDENTITY_SIZE_MAX {
            return Err(Error::bad_request(format!(
                "source_identity {} cannot be one: AWS takes up to {IDENTITY_SIZE_MAX} letters, digits and +=,.@_-",
                quoted(&Brief(identity).to_string())
            )));
        }
        Ok((format!("{POLICY}-of-{identity}"), identity.to_owned()))
    }
}

/// What is done where.
struct Ready {
    /// Where the mount's own calls go.
    own: Target,
    /// Where IAM of the role's account is reached.
    target: Target,
    iam_role: String,
}

/// Where IAM of the role's account is reached, and which role is meant. Errors: `BadRequest` when the role does not allow it.
async fn ready(engine: &Aws, cx: &Cx, params: &Params) -> Result<Ready> {
    let Loaded { role, target, .. } = loaded::assumed_role(cx, &params.name).await?;
    if !role.ours.allow_revoke_sessions {
        return Err(Error::bad_request(format!(
            "role {} does not allow this: write allow_revoke_sessions=true to roles/{} first",
            quoted(&params.name),
            params.name
        )));
    }
    let iam_role = role.iam_role_of_any(&params.name, &params.role_arn)?;
    engine.last.remember(&target);
    let call = Call::taking_back(&target, deadline(cx));
    let identity = engine.aws.get_caller_identity(call).await;
    let own = identity.map_err(|error| upstream(format!("who the server is could not be asked: {}", error.sdk_text()), error))?;
    let account = arn::iam_role(&iam_role).map(|arn| arn.account.to_owned()).unwrap_or_default();
    if role.ours.revoke_role_arn.is_empty() {
        if account != own.account {
            return Err(Error::bad_request(format!(
                "{iam_role} is of another account than the server ({}): write revoke_role_arn to the role, an IAM role of account {account} \
                 that may call iam:PutRolePolicy and iam:DeleteRolePolicy",
                own.account
            )));
        }
        return Ok(Ready { own: target.clone(), target, iam_role });
    }
    let revoker = arn::iam_role(&role.ours.revoke_role_arn).map(|arn| arn.account.to_owned()).unwrap_or_default();
    if account != revoker {
        // The policy goes by the role's name: another account may have one of the same name.
        return Err(Error::bad_request(format!(
            "{iam_role} is of account {account}, and revoke_role_arn {} of account {revoker}: write one of account {account} to the role",
            role.ours.revoke_role_arn
        )));
    }
    let input = AssumeRole {
        role_arn: role.ours.revoke_role_arn.clone(),
        session_name: names::safe(&format!("daypass-revoke-{}", cx.clock.now().seconds())),
        duration: Seconds(900),
        ..AssumeRole::default()
    };
    let session = engine.aws.assume_role(call, input).await;
    let session = session.map_err(|error| upstream(format!("Error assuming role (revoke_role_arn): {}", error.sdk_text()), error))?;
    Ok(Ready { target: target.signed_by(&session), own: target, iam_role })
}

/// The name of an IAM role, without its path.
fn role_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

const HELP: &str = "Puts the inline policy daypass-revoked-sessions on the IAM role: a deny for all sessions that began before the answer comes, which takes
three to four seconds: AWS's clock may be ahead by so much unseen; or, for those of one source identity, daypass-revoked-sessions-of-<identity>. It takes seconds until AWS has spread it. Later sessions work; builds that hold an earlier one fail. The server, or the role
in revoke_role_arn, needs iam:PutRolePolicy and iam:DeleteRolePolicy on the IAM role. DELETE takes the policy off again, with source_identity
that of the one identity.";
