//! `creds/<role>` and `sts/<role>`: where credentials are made.
//!
//! Deciding is apart from doing: [`grant`] says from role and request what to ask AWS for, [`Aws::mint`] asks, [`answer`] shows it.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AssumeRole, AwsError, Call, Credential, ErrorKind, FederationToken, SessionToken, Target};
use daypass_base::duration::short_string;
use daypass_sdk::{Cx, Endpoint, Error, Kind, Leased, Operation, Reply, Result, Seconds, Secret, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Aws;
use super::config_root::{self, RootConfig};
use super::names::{self, Use};
use super::policies;
use super::role::{CredentialType, Door, Role};
use super::roles;
use super::text::quoted;
use super::users;

/// Time for AWS when the request does not bring a limit.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// Time to ask who the server is, when that explains a refusal.
const WHOAMI_PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    vec![door("creds/{name@}", Door::Creds), door("sts/{name@}", Door::Sts)]
}

fn door(path: &'static str, door: Door) -> Endpoint<Aws> {
    Endpoint::at([path])
        .summary("Generate AWS credentials from a specific role.")
        .help(HELP)
        .on(Operation::Read, move |engine, cx, params| mint(engine, cx, params, door))
        .on(Operation::Update, move |engine, cx, params| mint(engine, cx, params, door))
}

/// What may be asked for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(super) struct Wanted {
    /// Name of the role. Example: `ecr-staging`.
    name: String,
    /// IAM role to assume, when the role allows more than one; empty is the same as not given. Example:
    /// `arn:aws:iam::111111111111:role/ecr-staging`.
    #[serde(default)]
    role_arn: String,
    /// Lifetime of the credential, in seconds or as a duration; lowered to the role's and the mount's maximum. Example: `60m`.
    ttl: Option<Seconds>,
    /// Name of the assumed-role session; other characters than `[a-zA-Z0-9+=,.@_-]` become `_`. Example: `build-42`.
    #[serde(default)]
    role_session_name: String,
    /// The digits that the MFA device shows; for `session_token`. Example: `123456`.
    #[serde(default)]
    mfa_code: Secret<String>,
}

/// What to ask AWS for.
enum Grant {
    Assume(AssumeRole),
    Federate(FederationToken),
    Session(SessionToken),
}

pub(super) async fn mint(engine: Arc<Aws>, cx: Cx, wanted: Wanted, door: Door) -> Result<Reply> {
    let keys = [roles::key(&wanted.name), config_root::KEY.to_owned()];
    let mut read = cx.store.get_many(&keys).await?.into_iter();
    let role = read.next().flatten().ok_or_else(|| Error::bad_request(format!("Role {} not found", quoted(&wanted.name))))?;
    let role: Role = daypass_sdk::from_json("roles", &role.value)?;
    let config = match read.next().flatten() {
        Some(entry) => daypass_sdk::from_json(config_root::KEY, &entry.value)?,
        None => RootConfig::default(),
    };
    let target = config.target()?;
    engine.remember(&target);
    if role.kind_at(door)? == CredentialType::IamUser {
        return users::issue(&engine, &cx, &role, &config, &wanted.name).await;
    }
    let call = Call { target: &target, deadline: deadline(&cx) };
    let mut grant = grant(&cx, &role, &config, &wanted, door)?;
    if let Some((policy, policy_arns)) = grant.session_policy() {
        policies::extend(engine.aws.as_ref(), call, &role.iam_groups, policy, policy_arns).await?;
    }
    grant.needs_policy()?;
    let facts = grant.facts();
    let credential = engine.mint(call, grant).await?;
    let mut reply = answer(&cx, &role, door, credential)?;
    if let daypass_sdk::Outcome::Leased(leased) = &mut reply.outcome {
        leased.facts.extend(facts);
    }
    Ok(reply)
}

/// Time that is left for AWS.
pub(super) fn deadline(cx: &Cx) -> Duration {
    if cx.request.deadline.is_zero() { DEADLINE_DEFAULT } else { cx.request.deadline }
}

/// Decides what to ask AWS for. Errors: `BadRequest` where role and request do not fit; `Failed` when no name can be made.
fn grant(cx: &Cx, role: &Role, config: &RootConfig, wanted: &Wanted, door: Door) -> Result<Grant> {
    let kind = role.kind_at(door)?;
    let duration = role.lifetime(wanted.ttl, cx.mount.max_lease_ttl);
    let policy = some(&role.policy_document);
    Ok(match kind {
        CredentialType::AssumedRole => Grant::Assume(AssumeRole {
            role_arn: role.iam_role(&wanted.name, &wanted.role_arn)?.to_owned(),
            session_name: match wanted.role_session_name.as_str() {
                "" => names::generate(cx, &config.username_template, &wanted.name, Use::Iam)?,
                given => names::safe(given),
            },
            duration,
            policy,
            policy_arns: role.policy_arns.clone(),
            external_id: some(&role.external_id),
            tags: role.session_tags.clone(),
            source_identity: None,
        }),
        CredentialType::FederationToken => Grant::Federate(FederationToken {
            name: names::generate(cx, &config.username_template, &wanted.name, Use::Sts)?,
            duration,
            policy,
            policy_arns: role.policy_arns.clone(),
        }),
        CredentialType::SessionToken => Grant::Session(SessionToken {
            duration,
            serial_number: some(&role.mfa_serial_number),
            // Exposed to be sent to AWS, which checks it.
            token_code: some(wanted.mfa_code.expose()),
        }),
        CredentialType::IamUser => return Err(Error::internal("an IAM user is no STS credential")),
    })
}

impl Grant {
    /// The session policy and the managed policies, where AWS takes them.
    fn session_policy(&mut self) -> Option<(&mut Option<String>, &mut Vec<String>)> {
        match self {
            Self::Assume(input) => Some((&mut input.policy, &mut input.policy_arns)),
            Self::Federate(input) => Some((&mut input.policy, &mut input.policy_arns)),
            Self::Session(_) => None,
        }
    }

    /// A federated user without a policy could do nothing: Vault refuses it, with this text.
    fn needs_policy(&self) -> Result<()> {
        match self {
            Self::Federate(input) if input.policy.is_none() && input.policy_arns.is_empty() => {
                Err(Error::bad_request("must specify at least one of policy_arns or policy_document with federation_token credential_type"))
            }
            _ => Ok(()),
        }
    }

    /// For audit and ledger.
    fn facts(&self) -> Vec<(String, String)> {
        let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match self {
            Self::Assume(input) => vec![fact("role_arn", &input.role_arn), fact("session_name", &input.session_name)],
            Self::Federate(input) => vec![fact("session_name", &input.name)],
            Self::Session(_) => Vec::new(),
        }
    }
}

impl Aws {
    /// Asks AWS. Errors: `Upstream` with AWS's own text, `UpstreamThrottled` when it asks for fewer calls.
    async fn mint(&self, call: Call<'_>, grant: Grant) -> Result<Credential> {
        let (doing, made) = match grant {
            Grant::Assume(input) => ("Error assuming role", self.aws.assume_role(call, input).await),
            Grant::Federate(input) => ("Error generating STS keys", self.aws.get_federation_token(call, input).await),
            Grant::Session(input) => ("Error generating STS keys", self.aws.get_session_token(call, input).await),
        };
        match made {
            Ok(credential) => Ok(credential),
            Err(error) => Err(self.refused(call.target, doing, error).await),
        }
    }

    /// AWS's refusal as the client sees it, with who the server is where AWS does not say.
    async fn refused(&self, target: &Target, doing: &str, error: AwsError) -> Error {
        let mut text = format!("{doing}: {}", error.sdk_text());
        if about_the_server(&error) && !error.message.contains("arn:aws") {
            let call = Call { target, deadline: WHOAMI_PATIENCE };
            // Who the server is helps to understand the refusal, but must never replace it.
            if let Ok(identity) = self.aws.get_caller_identity(call).await {
                text.push_str("\n\tthe server itself is ");
                text.push_str(&identity.arn);
            }
        }
        if error.kind == ErrorKind::ExpiredIdentity {
            text.push_str("\n\tthese are the credentials of the server itself: see that its AWS identity is renewed");
        }
        upstream(text, error)
    }
}

/// Whether a refusal depends on who the server is.
fn about_the_server(error: &AwsError) -> bool {
    let chained = error.message.contains("role chaining");
    error.kind == ErrorKind::Denied && error.status.is_some() || chained
}

/// Sorts an AWS error into what the client sees.
pub(super) fn upstream(text: String, error: AwsError) -> Error {
    let kind = match error.kind {
        ErrorKind::Throttled => Kind::UpstreamThrottled,
        ErrorKind::Malformed if error.status.is_none() => Kind::BadRequest,
        _ => Kind::Upstream,
    };
    Error::new(kind, text).because(error)
}

/// Shows a credential. The lease lasts as long as AWS accepts it, but not longer than the mount allows.
fn answer(cx: &Cx, role: &Role, door: Door, credential: Credential) -> Result<Reply> {
    // A lease of zero would mean the mount's default: never say that of a credential that is over.
    let ttl = Seconds::from(credential.expiration.since(cx.clock.now())).0.max(1);
    let kind = role.kind_at(door)?;
    let token = reveal(&credential.session_token);
    let mut data = Map::new();
    data.insert("access_key".to_owned(), credential.access_key_id.as_str().into());
    if let Some(arn) = credential.arn.filter(|_| kind == CredentialType::AssumedRole) {
        data.insert("arn".to_owned(), arn.into());
    }
    data.insert("secret_key".to_owned(), reveal(&credential.secret_access_key));
    if kind != CredentialType::SessionToken {
        data.insert("security_token".to_owned(), token.clone());
    }
    data.insert("session_token".to_owned(), token);
    data.insert("ttl".to_owned(), ttl.into());
    let most = cx.mount.max_lease_ttl.set().unwrap_or(Seconds(u64::MAX));
    let leased = Leased::not_renewable(Value::Object(data), Seconds(ttl.min(most.0)))
        .fact("access_key_id", credential.access_key_id)
        .fact("credential_type", kind.name());
    let reply = Reply::from(leased);
    if ttl <= most.0 {
        return Ok(reply);
    }
    Ok(reply.warn(format!(
        "TTL of \"{}\" exceeded the effective max_ttl of \"{}\"; TTL value is capped accordingly",
        short_string(Duration::from_secs(ttl)),
        short_string(most.duration())
    )))
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

const HELP: &str = "Gives a new AWS credential, for as long as ttl says. An STS credential ends by itself; its lease cannot be renewed, and
revoking the lease does not end it earlier at AWS. A role of type iam_user makes an IAM user instead, which lives as long as its
lease (config/lease) and is deleted with it.

creds/ and sts/ are the same, but for roles that were written with the old fields policy and arn.";
