//! `revoke-sessions/<role>`: the kill switch. AWS has no way to take one STS credential back; a policy on the IAM role can deny everything to
//! the sessions that began before now.
//!
//! Only where the role allows it (`allow_revoke_sessions`). The policy is an inline one; there is one for all sessions and one for each source
//! identity, so that a revocation never takes the place of another one. Deleting it, by DELETE here or by hand, undoes it. Sessions that are
//! minted later are not touched.

use std::sync::Arc;

use daypass_aws::{AssumeRole, AwsError, Call, ErrorKind, Identity, RolePolicy, Skew, Target};
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
use super::role::{Meant, Role};
use super::text::quoted;
use crate::aws_keys::keys::was_not_done;
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
    let (of, at) = (Arc::clone(&engine), cx.clone());
    let putting = to_its_end(async move { policy.put(&of, &at).await });
    let Put { policy, clock, before } = putting.await?;
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
        let put = engine.aws.put_role_policy(call, &policy).await;
        match &put {
            Ok(()) => engine.revoked.note(&self.iam_role, &self.source_identity, before),
            Err(error) if was_not_done(error) => {}
            // AWS may have done it, or it never got there: nobody can tell.
            Err(_) => engine.revoked.doubt(&self.iam_role, &self.source_identity, before),
        }
        put.map_err(|error| not_put(&self.name, &self.iam_role, error))?;
        Ok(Put { policy: self, clock, before })
    }

    async fn take_off(self, engine: &Aws, cx: &Cx) -> Result<Reply> {
        let Self { iam_role, name, .. } = &self;
        let _turn = engine.revoked.turn(iam_role, &self.source_identity).await;
        let call = Call::taking_back(&self.target, deadline(cx));
        match engine.aws.delete_role_policy(call, role_name(iam_role), name).await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                // It never came there, or somebody took it off by hand: nothing is ended any more.
                engine.revoked.forget(iam_role, &self.source_identity);
                Ok(Reply::nothing().warn(format!(
                    "{iam_role} has no policy {name}: nothing was undone. What was ended for one source identity is undone for that one \
                     (source_identity)"
                )))
            }
            Err(error) => Err(upstream(format!("Error deleting the policy {name} of {iam_role}: {}", error.sdk_text()), error)),
            Ok(()) => {
                engine.revoked.forget(iam_role, &self.source_identity);
                Ok(Reply::nothing())
            }
        }
    }
}

async fn undo(engine: Arc<Aws>, cx: Cx, params: Params) -> Result<Reply> {
    let (name, source_identity) = params.policy()?;
    let Ready { own, target, iam_role } = ready(&engine, &cx, &params).await?;
    let policy = Policy { own, target, iam_role, name, source_identity };
    to_its_end(async move { policy.take_off(&engine, &cx).await }).await
}

/// In a task of its own: cut off with its request, a change would let the next one begin while AWS still works on it, and undo that one afterwards.
async fn to_its_end<T: Send + 'static>(change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(change).await.map_err(|error| Error::internal("changing the policy of an IAM role ended badly").because(error))?
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
    let meant = role.iam_role_of_any(&params.name, &params.role_arn)?;
    engine.last.remember(&target);
    let call = Call::taking_back(&target, deadline(cx));
    let identity = engine.aws.get_caller_identity(call).await;
    let own = identity.map_err(|error| upstream(format!("who the server is could not be asked: {}", error.sdk_text()), error))?;
    in_reach(&role, &meant.arn, &own)?;
    let ready = if role.ours.revoke_role_arn.is_empty() {
        Ready { own: target.clone(), target, iam_role: meant.arn.clone() }
    } else {
        let input = AssumeRole {
            role_arn: role.ours.revoke_role_arn.clone(),
            session_name: names::safe(&format!("daypass-revoke-{}", cx.clock.now().seconds())),
            duration: Seconds(900),
            ..AssumeRole::default()
        };
        let session = engine.aws.assume_role(call, input).await;
        let session = session.map_err(|error| upstream(format!("Error assuming role (revoke_role_arn): {}", error.sdk_text()), error))?;
        Ready { target: target.signed_by(&session), own: target, iam_role: meant.arn.clone() }
    };
    if !meant.is_listed {
        exists(engine, Call::taking_back(&ready.target, deadline(cx)), &role, &meant).await?;
    }
    Ok(ready)
}

/// Whether the policy would go to the role's account. Errors: `BadRequest`.
fn in_reach(role: &Role, iam_role: &str, own: &Identity) -> Result<()> {
    let account = arn::iam_role(iam_role).map(|arn| arn.account.to_owned()).unwrap_or_default();
    let revoker = &role.ours.revoke_role_arn;
    if revoker.is_empty() {
        if account != own.account {
            return Err(Error::bad_request(format!(
                "{iam_role} is of another account than the server ({}): write revoke_role_arn to the role, an IAM role of account {account} \
                 that may call iam:PutRolePolicy and iam:DeleteRolePolicy",
                own.account
            )));
        }
        return Ok(());
    }
    let its_account = arn::iam_role(revoker).map(|arn| arn.account.to_owned()).unwrap_or_default();
    if account != its_account {
        // The policy goes by the role's name: another account may have one of the same name.
        return Err(Error::bad_request(format!(
            "{iam_role} is of account {account}, and revoke_role_arn {revoker} of account {its_account}: write one of account {account} to the role"
        )));
    }
    Ok(())
}

/// Whether the IAM role of that name is the one that was named. The policy goes by the name, which is unique in the account whatever the path: where
/// a pattern lets `role/ci/admin` in and IAM has `role/admin`, it would go to that one. Errors: `BadRequest` when it is another one.
async fn exists(engine: &Aws, call: Call<'_>, role: &Role, meant: &Meant) -> Result<()> {
    let name = role_name(&meant.arn);
    let found = engine.aws.get_role(call, name).await.map_err(|error| {
        let who = if role.ours.revoke_role_arn.is_empty() { "the server" } else { role.ours.revoke_role_arn.as_str() };
        let why = if error.kind == ErrorKind::Denied {
            format!(
                "\n\t{who} needs iam:GetRole on it: the role has a template or a pattern, and the policy goes by the name of the IAM role, \
                 which may be at another path"
            )
        } else {
            String::new()
        };
        upstream(format!("Error reading {} before the policy is changed: {}{why}", meant.arn, error.sdk_text()), error)
    })?;
    if found.arn == meant.arn {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "there is no {}: the IAM role of that name is {}, and nothing was done to it; name it in role_arn if the role allows it",
        meant.arn, found.arn
    )))
}

/// The name of an IAM role, without its path.
fn role_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

const HELP: &str = "Puts the inline policy daypass-revoked-sessions on the IAM role: a deny for all sessions that began before the answer comes, which takes
three to four seconds: AWS's clock may be ahead by so much unseen; or, for those of one source identity, daypass-revoked-sessions-of-<identity>. It takes seconds until AWS has spread it. Later sessions work; builds that hold an earlier one fail. The server, or the role
in revoke_role_arn, needs iam:PutRolePolicy and iam:DeleteRolePolicy on the IAM role, and iam:GetRole where role_arns has
templates or there is a role_arn_pattern: policy-for shows it as revoke_policy. DELETE takes the policy off again, with source_identity
that of the one identity.";
