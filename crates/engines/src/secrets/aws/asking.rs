//! Asks AWS for what a mint has decided on: with the keys of the mount, or over a role on the way, and once more where what signed the call was
//! replaced in the meantime.

use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AssumeRole, AwsError, Call, Credential, ErrorKind, Skew, Target};
use daypass_sdk::{Cx, Error, Result};

use crate::secrets::at_aws::{OWN_IDENTITY_OVER, onward, upstream};

use super::config_root::{self, RootConfig};
use super::creds::{Grant, some};
use super::ours::{CHAINED_TTL_MAX, Ours};
use super::reuse::{Minted, Same, Window};
use super::role::Role;
use super::{Aws, names, policies};

/// AWS's longest session name.
const HOP_NAME_SIZE_MAX: usize = 64;
/// A session of the role on the way that is younger is not given up for a refusal: where the refusal is about the role behind it, a new one is
/// asked for no more often than this.
const HOP_LIFE_MIN: Duration = Duration::from_secs(10);
/// Time to ask who the server is, when that explains a refusal.
const WHOAMI_PATIENCE: Duration = Duration::from_secs(3);

/// A credential that is being asked for.
pub(super) struct Asking<'a> {
    pub(super) engine: &'a Aws,
    pub(super) cx: &'a Cx,
    pub(super) call: Call<'a>,
    pub(super) role: &'a Role,
    /// Name of the daypass role.
    pub(super) name: &'a str,
    /// Of the rows of role and `config/root`.
    pub(super) versions: (u64, u64),
    /// Whether the request says of the session what the role does not; asked where the role shares its sessions.
    pub(super) is_chosen: bool,
}

impl Asking<'_> {
    /// AWS's clock, as its last answer showed it.
    fn clock(&self) -> Skew {
        self.engine.aws.skew(self.call.target).unwrap_or_default()
    }

    /// The credential, kept or made, and the facts of it.
    pub(super) async fn credential(&self, grant: Grant) -> Result<(Arc<Minted>, Vec<(String, String)>)> {
        let (ours, mut facts) = (&self.role.ours, grant.facts());
        let window = Window::of(ours, grant.lifetime());
        // Roles of old may have templates that nothing could be found again by.
        let window = window.filter(|_| Ours::fickle(self.role).is_none());
        let (Some(window), Grant::Assume { input, is_stable, .. }) = (window, &grant) else {
            let credential = self.make(grant).await?;
            return Ok((Arc::new(Minted::now(self.cx, credential, self.clock(), String::new())), facts));
        };
        let input = AssumeRole { session_name: if *is_stable { input.session_name.clone() } else { String::new() }, ..input.clone() };
        let caller = (!ours.reuse_shared).then_some(self.cx.request.caller.key);
        let written = (self.role.generation.clone(), self.versions.0);
        let is_chosen = self.is_chosen;
        let same = Same { caller, is_chosen, role: self.name.to_owned(), written, config: self.versions.1, input };
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
        Ok((minted, facts))
    }

    /// Makes a credential. Errors: `TooMany` over the role's limits; those of AWS.
    async fn make(&self, mut grant: Grant) -> Result<Credential> {
        let Aws { limits, revoked, .. } = self.engine;
        let place = limits.take(self.cx, (self.name, &self.role.ours), &grant, revoked)?;
        if let Some((policy, policy_arns)) = grant.session_policy() {
            policies::extend(self.engine.aws.as_ref(), self.call, &self.role.iam_groups, policy, policy_arns).await?;
        }
        grant.needs_policy()?;
        let credential = match &grant {
            Grant::Assume { input, .. } if !self.role.ours.via_role_arn.is_empty() => self.over_the_hop(input, &grant).await?,
            _ => self.by_own_keys(grant.doing(), &grant).await?,
        };
        let end = || {
            let now = self.cx.clock.moment();
            let left = credential.expiration.since(self.clock().theirs(now.wall));
            // Whatever the clocks say, none lives longer than was asked for.
            now.elapsed.saturating_add(left.min(grant.lifetime().duration()))
        };
        place.minted(credential.expiration, end, revoked);
        Ok(credential)
    }

    async fn ask(&self, call: Call<'_>, grant: Grant) -> Result<Credential, AwsError> {
        let aws = &self.engine.aws;
        let action = grant.action();
        let made = async {
            match grant {
                Grant::Assume { input, .. } => aws.assume_role(call, input).await,
                Grant::Federate(input) => aws.get_federation_token(call, input).await,
                Grant::Session(input) => aws.get_session_token(call, input).await,
            }
        };
        self.cx.asking("STS", action, made).await
    }

    /// Asks with the keys that the mount works with; once more with those in force now, where AWS does not know the others any more: rotate-root
    /// may have replaced them while the call waited.
    async fn by_own_keys(&self, doing: &str, grant: &Grant) -> Result<Credential> {
        let began = self.cx.clock.elapsed();
        let error = match self.ask(self.call, grant.clone()).await {
            Ok(credential) => return Ok(credential),
            Err(error) => error,
        };
        let Some(target) = self.replaced(&error).await else {
            return Err(self.engine.refused(self.call.target, doing, error).await);
        };
        tracing::debug!(%error, "a call to STS is made again with the keys that config/root has now");
        let deadline = onward(self.call, self.cx.clock.elapsed().saturating_sub(began));
        match self.ask(Call::usual(&target, deadline), grant.clone()).await {
            Ok(credential) => Ok(credential),
            Err(error) => Err(self.engine.refused(&target, doing, error).await),
        }
    }

    /// Where calls go now, if `config/root` was written since this request read it and that may be why a call failed.
    async fn replaced(&self, error: &AwsError) -> Option<Target> {
        if !error.identity_is_lost() {
            return None;
        }
        let (config, version) = self.cx.store.find::<RootConfig>(config_root::KEY).await.ok().flatten()?;
        if version == self.versions.1 { None } else { config.target(self.cx).ok() }
    }

    /// Asks with the session of the role on the way; once more with a new one, where AWS does not know that one any more (its role may have been made
    /// anew), or refuses the call and the session is not new: a policy on its role may have ended it, which AWS tells like any other refusal.
    async fn over_the_hop(&self, onward_to: &AssumeRole, grant: &Grant) -> Result<Credential> {
        let began = self.cx.clock.elapsed();
        let mut is_last = false;
        loop {
            let hop = self.hop(onward_to).await?;
            let is_new = hop.session.age(self.cx.clock.moment()) < HOP_LIFE_MIN;
            let deadline = onward(self.call, self.cx.clock.elapsed().saturating_sub(began));
            let error = match self.ask(Call::usual(&hop.target, deadline), grant.clone()).await {
                Ok(credential) => return Ok(credential),
                Err(error) => error,
            };
            let is_lost = error.identity_is_lost();
            if !is_lost && (is_last || is_new || error.kind != ErrorKind::Denied) {
                return Err(self.engine.refused(&hop.target, grant.doing(), error).await);
            }
            // All who were refused with this one share the next.
            self.engine.kept.give_up(&hop.same, &hop.session);
            if is_last {
                let hub = &self.role.ours.via_role_arn;
                let text = format!(
                    "{}: {}\n\tthe call was signed by a session of {hub} (via_role_arn), not by the server itself",
                    grant.doing(),
                    error.sdk_text()
                );
                return Err(upstream(text, error));
            }
            tracing::debug!(%error, "the role on the way is assumed anew");
            is_last = true;
        }
    }

    /// A session of the role on the way: kept for all callers until ten minutes before it ends, in places of its own.
    async fn hop(&self, onward: &AssumeRole) -> Result<Hop> {
        let ours = &self.role.ours;
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
        let (role, written, config) = (String::new(), (String::new(), 0), self.versions.1);
        let same = Same { caller: None, is_chosen: false, role, written, config, input: input.clone() };
        let session = self.engine.kept.get(self.cx, same.clone(), Window::HOP, || async {
            let assume = Grant::Assume { input, is_stable: true, chained_from: None };
            let doing = "Error assuming the role on the way (via_role_arn)";
            let made = self.by_own_keys(doing, &assume).await?;
            Ok(Minted::now(self.cx, made, self.clock(), String::new()))
        });
        let session = session.await?;
        Ok(Hop { target: self.call.target.signed_by(&session.credential), same, session })
    }
}

/// A session of the role on the way.
struct Hop {
    target: Target,
    /// Where it is kept.
    same: Same,
    session: Arc<Minted>,
}

impl Aws {
    /// AWS's refusal as the client sees it, with who the server is where AWS does not say.
    async fn refused(&self, target: &Target, doing: &str, error: AwsError) -> Error {
        let mut text = format!("{doing}: {}", error.sdk_text());
        if about_the_server(&error) && !error.message.contains("arn:aws") {
            let call = Call::usual(target, WHOAMI_PATIENCE);
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
