//! `creds/<role>` and `sts/<role>`: where credentials are made.
//!
//! Deciding is apart from doing: [`grant`] says from role and request what to ask AWS for, [`Aws::mint`] asks, [`answer`] shows it.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AssumeRole, AwsError, Call, Credential, ErrorKind, FederationToken, SessionToken, Skew, Target};
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Seconds, Secret, reveal};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map;

use crate::secrets::at_aws::{OWN_IDENTITY_OVER, deadline, left, lent, upstream};

use super::Aws;
use super::attribution::Attribution;
use super::config_root::RootConfig;
use super::loaded::{self, Loaded};
use super::names::{self, Use};
use super::ours::{CHAINED_TTL_MAX, Ours};
use super::policies;
use super::reuse::{Minted, Same, Window};
use super::role::{CredentialType, Door, Role};
use super::text::quoted;
use super::users;

/// AWS's longest session name.
const HOP_NAME_SIZE_MAX: usize = 64;
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

pub(super) async fn mint(engine: Arc<Aws>, cx: Cx, wanted: Wanted, door: Door) -> Result<Reply> {
    let loaded = loaded::role(&cx, &wanted.name).await?;
    mint_by(engine, cx, wanted, door, loaded).await
}

/// As [`mint`], with the role read already.
pub(super) async fn mint_by(engine: Arc<Aws>, cx: Cx, wanted: Wanted, door: Door, loaded: Loaded) -> Result<Reply> {
    let Loaded { role, config, target, versions } = loaded;
    engine.last.remember(&target);
    if role.kind_at(door)? == CredentialType::IamUser {
        return users::issue(&engine, &cx, &role, &config, &wanted.name).await;
    }
    let asking = Asking {
        engine: &engine,
        cx: &cx,
        call: Call { target: &target, deadline: deadline(&cx) },
        role: &role,
        name: &wanted.name,
        versions,
    };
    let grant = grant(&cx, &role, &config, &wanted, door)?;
    let lowered = grant.lowered();
    let (credential, facts) = asking.credential(grant).await?;
    let mut reply = answer(&cx, &role, door, &credential, asking.clock())?;
    if let daypass_sdk::Outcome::Leased(leased) = &mut reply.outcome {
        leased.facts.extend(facts);
    }
    Ok(lowered.into_iter().fold(reply, Reply::warn))
}

/// Decides what to ask AWS for. Errors: `BadRequest` where role and request do not fit; `Failed` when no name can be made.
fn grant(cx: &Cx, role: &Role, config: &RootConfig, wanted: &Wanted, door: Door) -> Result<Grant> {
    let kind = role.kind_at(door)?;
    let duration = role.lifetime(wanted.ttl, cx.mount.max_lease_ttl);
    let policy = some(&role.policy_document);
    Ok(match kind {
        CredentialType::AssumedRole => return assume(cx, role, config, wanted, duration),
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
fn assume(cx: &Cx, role: &Role, config: &RootConfig, wanted: &Wanted, duration: Seconds) -> Result<Grant> {
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
    let chained = !ours.via_role_arn.is_empty() && duration > CHAINED_TTL_MAX;
    let input = AssumeRole {
        role_arn: role.iam_role(&attribution, &wanted.name, &wanted.role_arn)?,
        session_name,
        duration: if chained { CHAINED_TTL_MAX } else { duration },
        policy: attribution.policy(&role.policy_document)?,
        policy_arns: role.policy_arns.clone(),
        external_id: some(&role.external_id),
        tags: attribution.tags(&role.session_tags)?,
        transitive_tag_keys: ours.transitive_tag_keys.clone(),
        source_identity: attribution.source_identity(&ours.source_identity)?,
    };
    Ok(Grant::Assume { input, is_stable, chained_from: chained.then_some(duration) })
}

impl Grant {
    /// The session policy and the managed policies, where AWS takes them.
    fn session_policy(&mut self) -> Option<(&mut Option<String>, &mut Vec<String>)> {
        match self {
            Self::Assume { input, .. } => Some((&mut input.policy, &mut input.policy_arns)),
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

    /// What the caller should know of a lifetime that was lowered.
    fn lowered(&self) -> Option<String> {
        let Self::Assume { chained_from: Some(wanted), .. } = self else { return None };
        Some(format!(
            "ttl {}s was lowered to {}s: AWS gives sessions that go through another role (via_role_arn) one hour at most",
            wanted.0, CHAINED_TTL_MAX.0
        ))
    }

    /// The action of STS that it takes.
    fn action(&self) -> &'static str {
        match self {
            Self::Assume { .. } => "AssumeRole",
            Self::Federate(_) => "GetFederationToken",
            Self::Session(_) => "GetSessionToken",
        }
    }

    fn lifetime(&self) -> Seconds {
        match self {
            Self::Assume { input, .. } => input.duration,
            Self::Federate(input) => input.duration,
            Self::Session(input) => input.duration,
        }
    }

    /// For audit and ledger.
    fn facts(&self) -> Vec<(String, String)> {
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

/// A credential that is being asked for.
struct Asking<'a> {
    engine: &'a Aws,
    cx: &'a Cx,
    call: Call<'a>,
    role: &'a Role,
    /// Name of the daypass role.
    name: &'a str,
    /// Of the rows of role and `config/root`.
    versions: (u64, u64),
}

impl Asking<'_> {
    /// AWS's clock, as far as it is known.
    fn clock(&self) -> Skew {
        self.engine.aws.skew(self.call.target).unwrap_or_default()
    }

    /// The credential, kept or made, and the facts of it.
    async fn credential(&self, grant: Grant) -> Result<(Credential, Vec<(String, String)>)> {
        let (ours, mut facts) = (&self.role.ours, grant.facts());
        let window = Window::of(ours, grant.lifetime());
        // Roles of old may have templates that nothing could be found again by.
        let window = window.filter(|_| Ours::fickle(self.role).is_none());
        let (Some(window), Grant::Assume { input, is_stable, .. }) = (window, &grant) else {
            return Ok((self.make(grant).await?, facts));
        };
        let input = AssumeRole { session_name: if *is_stable { input.session_name.clone() } else { String::new() }, ..input.clone() };
        let caller = (!ours.reuse_shared).then_some(self.cx.request.caller.key);
        let written = (self.role.generation.clone(), self.versions.0);
        let same = Same { caller, role: self.name.to_owned(), written, config: self.versions.1, input };
        let fresh = std::sync::atomic::AtomicBool::new(false);
        let session_name = facts.iter().find(|(name, _)| name == "session_name").map(|(_, value)| value.clone()).unwrap_or_default();
        let minted = self.engine.kept.get(self.cx, same, window, || async {
            fresh.store(true, std::sync::atomic::Ordering::Relaxed);
            let credential = self.make(grant).await?;
            Ok(Minted::now(self.cx, credential, self.clock(), session_name))
        });
        let minted = minted.await?;
        if !fresh.into_inner() {
            // The session is that of the first request: its name stands in CloudTrail.
            facts.retain(|(name, _)| name != "session_name");
            facts.push(("session_name".to_owned(), minted.session_name.clone()));
            facts.push(("reused".to_owned(), "true".to_owned()));
        }
        Ok((minted.credential.clone(), facts))
    }

    /// Makes a credential. Errors: `TooMany` over the role's limits; those of AWS.
    async fn make(&self, mut grant: Grant) -> Result<Credential> {
        let place = self.engine.limits.take(self.cx, self.name, &self.role.ours, grant.lifetime())?;
        if let Some((policy, policy_arns)) = grant.session_policy() {
            policies::extend(self.engine.aws.as_ref(), self.call, &self.role.iam_groups, policy, policy_arns).await?;
        }
        grant.needs_policy()?;
        let way = match &grant {
            Grant::Assume { input, .. } => self.hop(input).await?,
            _ => None,
        };
        let call = Call { target: way.as_ref().unwrap_or(self.call.target), ..self.call };
        let action = grant.action();
        let credential = self.cx.asking("STS", action, self.engine.mint(call, grant)).await?;
        place.minted();
        Ok(credential)
    }

    /// The target with the keys of the role on the way, where there is one: kept for all callers until ten minutes before they end.
    async fn hop(&self, onward: &AssumeRole) -> Result<Option<Target>> {
        let ours = &self.role.ours;
        if ours.via_role_arn.is_empty() {
            return Ok(None);
        }
        let input = AssumeRole {
            role_arn: ours.via_role_arn.clone(),
            session_name: names::safe(&format!("daypass-{}", self.name)).chars().take(HOP_NAME_SIZE_MAX).collect(),
            duration: CHAINED_TTL_MAX,
            external_id: some(&ours.via_external_id),
            // A source identity is set once, on the first role of a chain, and goes on from there.
            source_identity: onward.source_identity.clone(),
            ..AssumeRole::default()
        };
        // Its row does not matter: what is asked of AWS says everything.
        let same = Same { caller: None, role: String::new(), written: (String::new(), 0), config: self.versions.1, input: input.clone() };
        let minted = self.engine.kept.get(self.cx, same, Window::HOP, || async {
            let made = self.cx.asking("STS", "AssumeRole", self.engine.aws.assume_role(self.call, input)).await;
            match made {
                Ok(credential) => Ok(Minted::now(self.cx, credential, self.clock(), String::new())),
                Err(error) => Err(self.engine.refused(self.call.target, "Error assuming the role on the way (via_role_arn)", error).await),
            }
        });
        Ok(Some(self.call.target.signed_by(&minted.await?.credential)))
    }
}

impl Aws {
    /// Asks AWS. Errors: `Upstream` with AWS's own text, `UpstreamThrottled` when it asks for fewer calls.
    async fn mint(&self, call: Call<'_>, grant: Grant) -> Result<Credential> {
        let (doing, made) = match grant {
            Grant::Assume { input, .. } => ("Error assuming role", self.aws.assume_role(call, input).await),
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
            text.push_str(OWN_IDENTITY_OVER);
        }
        upstream(text, error)
    }
}

/// Whether a refusal depends on who the server is.
fn about_the_server(error: &AwsError) -> bool {
    let chained = error.message.contains("role chaining");
    error.kind == ErrorKind::Denied && error.status.is_some() || chained
}

/// Shows a credential. The lease lasts as long as AWS accepts it, but not longer than the mount allows.
fn answer(cx: &Cx, role: &Role, door: Door, credential: &Credential, clock: Skew) -> Result<Reply> {
    let ttl = left(cx, clock, credential.expiration);
    let kind = role.kind_at(door)?;
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
    data.insert("ttl".to_owned(), ttl.0.into());
    let facts = [("access_key_id", credential.access_key_id.as_str()), ("credential_type", kind.name())];
    Ok(lent(cx, data, ttl, facts))
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

const HELP: &str = "Gives a new AWS credential, for as long as ttl says. An STS credential ends by itself; its lease cannot be renewed, and
revoking the lease does not end it earlier at AWS. A role of type iam_user makes an IAM user instead, which lives as long as its
lease (config/lease) and is deleted with it.

creds/ and sts/ are the same, but for roles that were written with the old fields policy and arn.";
