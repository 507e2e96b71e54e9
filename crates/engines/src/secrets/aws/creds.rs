//! `creds/<role>` and `sts/<role>`: where credentials are made.
//!
//! Deciding is apart from doing: [`grant`] says from role and request what to ask AWS for, [`Asking`] asks, [`answer`] shows it.

use std::sync::Arc;

use daypass_aws::{AssumeRole, Call, FederationToken, SessionToken};
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Seconds, Secret, Timestamp, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use crate::secrets::at_aws::{deadline, lent};
use crate::secrets::revoked::Session;

use super::Aws;
use super::asking::Asking;
use super::attribution::Attribution;
use super::config_root::RootConfig;
use super::loaded::{self, Loaded};
use super::names::{self, Use};
use super::ours::CHAINED_TTL_MAX;
use super::reuse::Minted;
use super::role::{CredentialType, Door, Role};
use super::text::quoted;
use super::users;

pub(super) fn endpoints() -> Vec<Endpoint<Aws>> {
    let [sts, creds] = OLDER_DOORS;
    vec![door(creds, Door::Creds), door(sts, Door::Sts)]
}

fn door(path: &'static str, door: Door) -> Endpoint<Aws> {
    Endpoint::at([path])
        .summary("Generate AWS credentials from a specific role.")
        .help(HELP)
        .on(Operation::Read, move |engine, cx, params| mint(engine, cx, params, door))
        .on(Operation::Update, move |engine, cx, params| mint(engine, cx, params, door))
}

/// The doors to a role that Vault has: policies may know no others.
pub(super) const OLDER_DOORS: [&str; 2] = ["sts/{name@}", "creds/{name@}"];
/// What mints there.
pub(super) const MINTING: &[Operation] = &[Operation::Read, Operation::Update];

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
#[derive(Clone)]
pub(super) enum Grant {
    Assume {
        input: AssumeRole,
        /// Whether another request would get the same session name.
        is_stable: bool,
        /// The lifetime that was wanted, where the way over another role allows less.
        chained_from: Option<Seconds>,
    },
    Federate(FederationToken),
    Session(SessionToken),
}

/// A credential's answer.
pub(super) struct Given {
    pub(super) reply: Reply,
    /// Its end as AWS said it; `None` for an IAM user, which ends with its lease.
    pub(super) end: Option<Timestamp>,
}

async fn mint(engine: Arc<Aws>, cx: Cx, wanted: Wanted, door: Door) -> Result<Reply> {
    let loaded = loaded::role(&cx, &wanted.name).await?;
    Ok(mint_by(engine, cx, wanted, door, loaded).await?.reply)
}

/// As [`mint`], with the role read already.
pub(super) async fn mint_by(engine: Arc<Aws>, cx: Cx, wanted: Wanted, door: Door, loaded: Loaded) -> Result<Given> {
    let Loaded { role, config, target, versions } = loaded;
    engine.last.remember(&target);
    if role.kind_at(door)? == CredentialType::IamUser {
        return Ok(Given { reply: users::issue(&engine, &cx, &role, &config, &wanted.name).await?, end: None });
    }
    let grant = grant(&cx, &role, &config, &wanted, door)?;
    let is_chosen = role.ours.reuse_shared && is_chosen(&cx, &role, &config, &wanted, &grant);
    let call = Call::usual(&target, deadline(&cx));
    let asking = Asking { engine: &engine, cx: &cx, call, role: &role, name: &wanted.name, versions, is_chosen };
    let lowered = grant.lowered();
    let (minted, facts) = asking.credential(grant).await?;
    let mut reply = answer(&cx, &role, door, &minted)?;
    if let daypass_sdk::Outcome::Leased(leased) = &mut reply.outcome {
        leased.facts.extend(facts);
    }
    Ok(Given { reply: lowered.into_iter().fold(reply, Reply::warn), end: Some(minted.credential.expiration) })
}

/// The end to tell of what is good for so long yet, in whole seconds, because some SDKs read no fractions. By our clock or as AWS says it, whichever is earlier:
/// whoever goes by it has a clock of his own, and where ours is ahead he would sign with what is over.
pub(super) fn end_told(cx: &Cx, left: Seconds, by_aws: Option<Timestamp>) -> Timestamp {
    let by_us = cx.clock.now() + left;
    Timestamp::from_seconds(by_aws.map_or(by_us, |by_aws| by_aws.min(by_us)).seconds())
}

/// Decides what to ask AWS for. Errors: `BadRequest` where role and request do not fit; `Failed` when no name can be made.
fn grant(cx: &Cx, role: &Role, config: &RootConfig, wanted: &Wanted, door: Door) -> Result<Grant> {
    let kind = role.kind_at(door)?;
    let duration = role.lifetime(wanted.ttl, cx.mount.max_lease_ttl);
    let policy = some(&role.policy_document);
    Ok(match kind {
        CredentialType::AssumedRole => return assume(cx, role, config, wanted),
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

/// Decides which session of which IAM role to ask for.
fn assume(cx: &Cx, role: &Role, config: &RootConfig, wanted: &Wanted) -> Result<Grant> {
    let (attribution, ours) = (Attribution::of(cx, &wanted.name), &role.ours);
    let named = attribution.session_name(&ours.session_name)?;
    if named.is_some() && !wanted.role_session_name.is_empty() && !ours.allow_role_session_name {
        return Err(Error::bad_request(format!(
            "role {} names its sessions itself (session_name): leave role_session_name out, or set allow_role_session_name on the role",
            quoted(&wanted.name)
        )));
    }
    let (session_name, is_stable) = match (wanted.role_session_name.as_str(), named) {
        ("", Some(name)) => (name, true),
        ("", None) => (names::generate(cx, &config.username_template, &wanted.name, Use::Iam)?, false),
        (given, _) => (names::safe(given), true),
    };
    let lifetime = Lifetime::of(role, wanted.ttl, cx.mount.max_lease_ttl);
    let input = AssumeRole {
        role_arn: role.iam_role(&attribution, &wanted.name, &wanted.role_arn)?,
        session_name,
        duration: lifetime.duration,
        policy: attribution.policy(&role.policy_document)?,
        policy_arns: role.policy_arns.clone(),
        external_id: some(&role.external_id),
        tags: attribution.tags(&role.session_tags)?,
        transitive_tag_keys: ours.transitive_tag_keys.clone(),
        source_identity: attribution.source_identity(&ours.source_identity)?,
    };
    Ok(Grant::Assume { input, is_stable, chained_from: lifetime.chained_from })
}

/// Whether the request says of the session what the role does not say by itself: another lifetime or name, or an IAM role that is not in its list.
fn is_chosen(cx: &Cx, role: &Role, config: &RootConfig, wanted: &Wanted, grant: &Grant) -> bool {
    let Grant::Assume { input, is_stable, .. } = grant else { return false };
    if wanted.ttl.is_none() && wanted.role_session_name.is_empty() && wanted.role_arn.is_empty() {
        return false;
    }
    let role_arn = Some(&wanted.role_arn).filter(|arn| role.iam_role_arns.contains(arn)).cloned().unwrap_or_default();
    let plain = Wanted { name: wanted.name.clone(), role_arn, ttl: None, role_session_name: String::new(), mfa_code: Secret::default() };
    let Ok(Grant::Assume { input: mut plain, is_stable: plain_is_stable, .. }) = assume(cx, role, config, &plain) else { return true };
    if !is_stable && !plain_is_stable {
        plain.session_name.clone_from(&input.session_name);
    }
    plain != *input
}

/// How long a session of an IAM role shall last.
pub(super) struct Lifetime {
    pub(super) duration: Seconds,
    /// What was wanted, where the way over another role allows less.
    chained_from: Option<Seconds>,
}

impl Lifetime {
    /// Decides for a mint, and for `check/`, which says beforehand what comes of it.
    pub(super) fn of(role: &Role, asked: Option<Seconds>, mount_max: Seconds) -> Self {
        let wanted = role.lifetime(asked, mount_max);
        let is_chained = !role.ours.via_role_arn.is_empty() && wanted > CHAINED_TTL_MAX;
        Self { duration: if is_chained { CHAINED_TTL_MAX } else { wanted }, chained_from: is_chained.then_some(wanted) }
    }

    /// What there is to know of one that was lowered.
    pub(super) fn lowered(&self) -> Option<String> {
        self.chained_from.map(lowered)
    }
}

fn lowered(wanted: Seconds) -> String {
    format!(
        "ttl {}s was lowered to {}s: AWS gives sessions that go through another role (via_role_arn) one hour at most",
        wanted.0, CHAINED_TTL_MAX.0
    )
}

impl Grant {
    /// The session policy and the managed policies, where AWS takes them.
    pub(super) fn session_policy(&mut self) -> Option<(&mut Option<String>, &mut Vec<String>)> {
        match self {
            Self::Assume { input, .. } => Some((&mut input.policy, &mut input.policy_arns)),
            Self::Federate(input) => Some((&mut input.policy, &mut input.policy_arns)),
            Self::Session(_) => None,
        }
    }

    /// A federated user without a policy could do nothing: Vault refuses it, with this text.
    pub(super) fn needs_policy(&self) -> Result<()> {
        match self {
            Self::Federate(input) if input.policy.is_none() && input.policy_arns.is_empty() => {
                Err(Error::bad_request("must specify at least one of policy_arns or policy_document with federation_token credential_type"))
            }
            _ => Ok(()),
        }
    }

    /// What the caller should know of a lifetime that was lowered.
    fn lowered(&self) -> Option<String> {
        let Self::Assume { chained_from: Some(wanted), .. } = self else { return None };
        Some(lowered(*wanted))
    }

    /// What is said when AWS refuses it, in Vault's words.
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::Assume { .. } => "Error assuming role",
            Self::Federate(_) | Self::Session(_) => "Error generating STS keys",
        }
    }

    /// The action of STS that it takes.
    pub(super) fn action(&self) -> &'static str {
        match self {
            Self::Assume { .. } => "AssumeRole",
            Self::Federate(_) => "GetFederationToken",
            Self::Session(_) => "GetSessionToken",
        }
    }

    /// What can be ended at AWS before its time.
    pub(super) fn session(&self) -> Option<Session> {
        let Self::Assume { input, .. } = self else { return None };
        Some(Session::of(input))
    }

    pub(super) fn lifetime(&self) -> Seconds {
        match self {
            Self::Assume { input, .. } => input.duration,
            Self::Federate(input) => input.duration,
            Self::Session(input) => input.duration,
        }
    }

    /// For audit and ledger.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match self {
            Self::Assume { input, .. } => {
                let mut facts = vec![fact("role_arn", &input.role_arn), fact("session_name", &input.session_name)];
                facts.extend(input.source_identity.iter().map(|identity| fact("source_identity", identity)));
                facts.extend(input.tags.iter().map(|(key, value)| (format!("session_tag/{key}"), value.clone())));
                facts
            }
            Self::Federate(input) => vec![fact("session_name", &input.name)],
            Self::Session(_) => Vec::new(),
        }
    }
}

/// Shows a credential. The lease lasts as long as AWS accepts it, but not longer than the mount allows.
fn answer(cx: &Cx, role: &Role, door: Door, minted: &Minted) -> Result<Reply> {
    let (kind, credential) = (role.kind_at(door)?, &minted.credential);
    let token = reveal(&credential.session_token);
    let mut data = Map::new();
    data.insert("access_key".to_owned(), credential.access_key_id.as_str().into());
    if let Some(arn) = credential.arn.as_ref().filter(|_| kind == CredentialType::AssumedRole) {
        data.insert("arn".to_owned(), arn.as_str().into());
    }
    data.insert("secret_key".to_owned(), reveal(&credential.secret_access_key));
    if kind != CredentialType::SessionToken {
        data.insert("security_token".to_owned(), token.clone());
    }
    data.insert("session_token".to_owned(), token);
    let facts = [("access_key_id", credential.access_key_id.as_str()), ("credential_type", kind.name())];
    Ok(lent(cx, data, minted.left(cx.clock.moment()), facts))
}

pub(super) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

const HELP: &str = "Gives a new AWS credential, for as long as ttl says. An STS credential ends by itself; its lease cannot be renewed, and
revoking the lease does not end it earlier at AWS. A role of type iam_user makes an IAM user instead, which lives as long as its
lease (config/lease) and is deleted with it.

creds/ and sts/ are the same, but for roles that were written with the old fields policy and arn.";
