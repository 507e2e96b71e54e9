//! Whether a principal is one of those that a role names, and how principals are looked up.
//!
//! A name says nothing without its account: the same role name exists in other people's accounts. So unique ids are compared together
//! with account and partition, what IAM answers must be of the account that was asked for, and nothing is kept under a name alone.

use std::collections::HashMap;
use std::time::Duration;

use daypass_aws::{AssumeRole, Call, Identity, Partition, Principal, Target};
use daypass_sdk::{Cx, Error, Result, Seconds};
use parking_lot::Mutex;

use super::arn::{Pattern, PrincipalArn};
use super::client::ClientConfig;
use super::role::{PrincipalId, Role};
use super::trouble::{not_told, while_doing};
use super::{AwsAuth, sts};
use crate::secrets::at_aws::deadline;

/// Who logs in, as STS says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) arn: String,
    pub(super) principal: PrincipalArn,
    /// Of the user or role, without the session.
    pub(super) unique_id: String,
}

impl Who {
    /// Reads STS's answer. Errors: `BadRequest` for who is neither a user nor an assumed role.
    pub(super) fn of(identity: &Identity) -> Result<Self> {
        let bad = |why: String| Error::bad_request(format!("error parsing arn {:?}: {why}", identity.arn));
        let principal = PrincipalArn::parse(&identity.arn).map_err(bad)?;
        let service = identity.arn.split(':').nth(2).unwrap_or_default();
        let (id, session) = match identity.user_id.split_once(':') {
            Some((id, session)) => (id, Some(session)),
            None => (identity.user_id.as_str(), None),
        };
        // A role's own ARN never calls; and what the answer says thrice must agree.
        let agrees = identity.account == principal.account
            && session == principal.session.as_deref()
            && (service == "sts") == session.is_some()
            && (principal.kind == daypass_aws::PrincipalKind::User) == (service == "iam")
            && !id.is_empty();
        if !agrees {
            return Err(bad(format!("it does not go with the user id and the account {}", identity.account)));
        }
        Ok(Self { arn: identity.arn.clone(), unique_id: id.to_owned(), principal })
    }

    /// The name that people know: of the user, or of the role and its session.
    pub(super) fn display_name(&self) -> String {
        match &self.principal.session {
            Some(session) => format!("{}/{session}", self.principal.name),
            None => self.principal.name.clone(),
        }
    }
}

/// Full ARNs that were looked up, with their paths: for a while, on the monotonic clock, under everything that says whose they are.
#[derive(Default)]
pub(super) struct FullArns(Mutex<HashMap<Key, (Duration, String)>>);

type Key = (Partition, String, String);

impl FullArns {
    fn find(&self, key: &Key, now: Duration) -> Option<String> {
        self.0.lock().get(key).filter(|(until, _)| now < *until).map(|(_, arn)| arn.clone())
    }

    fn keep(&self, key: Key, arn: String, now: Duration) {
        let mut known = self.0.lock();
        if known.len() >= FULL_ARNS_MAX {
            known.clear();
        }
        known.insert(key, (now + FULL_ARN_LIFE, arn));
    }

    /// What was looked up with other keys or roles may not be seen any more.
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}

impl AwsAuth {
    /// Step 10: is this one of those whom the role names? Where it names nobody and infers an instance, that is what it asks about, in step 11.
    /// Errors: `BadRequest` with Vault's text; what could not be asked ([`super::trouble`]).
    pub(super) async fn check_binding(&self, cx: &Cx, name: &str, role: &Role, who: &Who) -> Result<()> {
        if role.leaves_it_to_the_instance() {
            return Ok(());
        }
        let known = |id: &PrincipalId| {
            id.id == who.unique_id && id.account == who.principal.account && id.partition == who.principal.partition.name()
        };
        let canonical = who.principal.canonical();
        if role.principal_ids.iter().any(known) || (!role.resolve_aws_unique_ids && role.bound_iam_principal_arn.contains(&canonical)) {
            return Ok(());
        }
        let mut patterns = role.bound_iam_principal_arn.iter().filter_map(|arn| Pattern::of(arn));
        if patterns.clone().any(|pattern| pattern.is_about(&who.principal)) {
            let full = self.full_arn(cx, who).await?;
            if patterns.any(|pattern| pattern.is_about(&who.principal) && pattern.fits(&full)) {
                return Ok(());
            }
        }
        Err(Error::bad_request(format!("IAM Principal {:?} does not belong to the role {name:?}", who.arn)))
    }

    /// The full ARN of who logs in, with its path. Errors: `BadRequest` when there is none, or it is somebody else's by now; what could not be asked.
    pub(super) async fn full_arn(&self, cx: &Cx, who: &Who) -> Result<String> {
        let key = (who.principal.partition, who.principal.account.clone(), who.unique_id.clone());
        let now = cx.clock.elapsed();
        if let Some(arn) = self.full_arns.find(&key, now) {
            return Ok(arn);
        }
        let failed = |error: Error| while_doing(&format!("error looking up full ARN of entity {:?}", who.arn), error);
        let found = self.look_up(cx, &who.principal).await.map_err(failed)?;
        if found.id != who.unique_id {
            let why = format!("the principal of this name is {} now, and {} logs in", found.id, who.unique_id);
            return Err(failed(Error::bad_request(why)));
        }
        self.full_arns.keep(key, found.arn.clone(), now);
        Ok(found.arn)
    }

    /// The unique id of a bound ARN. Errors: `BadRequest` with Vault's text; what could not be asked.
    pub(super) async fn resolve(&self, cx: &Cx, arn: &str) -> Result<PrincipalId> {
        let failed = |error: Error| while_doing(&format!("unable to resolve ARN {arn:?} to internal ID"), error);
        let wanted = PrincipalArn::parse(arn).map_err(Error::bad_request).map_err(failed)?;
        let found = self.look_up(cx, &wanted).await.map_err(failed)?;
        Ok(PrincipalId { arn: arn.to_owned(), partition: wanted.partition.name().to_owned(), account: wanted.account, id: found.id })
    }

    /// Asks IAM of the principal's account. Errors: `BadRequest` when it knows none, or tells of another one; what could not be asked.
    async fn look_up(&self, cx: &Cx, wanted: &PrincipalArn) -> Result<Principal> {
        let target = self.target_of(cx, wanted.partition, &wanted.account).await?;
        let call = Call::usual(&target, deadline(cx));
        let found = self.aws.get_principal(call, wanted.kind, &wanted.name).await.map_err(not_told)?;
        if !wanted.is_named_by(&found.arn) {
            return Err(Error::bad_request(format!(
                "IAM tells of {:?} instead: principals of account {} are looked up with the role of config/sts/{}",
                found.arn, wanted.account, wanted.account
            )));
        }
        Ok(found)
    }

    /// Where AWS is asked about an account: as ourselves, or as the role that is configured for it. Errors: what could not be asked.
    pub(super) async fn target_of(&self, cx: &Cx, partition: Partition, account: &str) -> Result<Target> {
        let mut target = ClientConfig::find(cx).await?.target(cx);
        if partition != Partition::Aws && target.region.is_none() {
            target.region = Some(partition.main_region().to_owned());
        }
        let Some(role) = sts::find(cx, account).await? else { return Ok(target) };
        let input = AssumeRole {
            role_arn: role.sts_role,
            session_name: "daypass-auth-aws".to_owned(),
            duration: Seconds(900),
            external_id: Some(role.external_id).filter(|id| !id.is_empty()),
            ..AssumeRole::default()
        };
        let call = Call::usual(&target, deadline(cx));
        let session = self.aws.assume_role(call, input).await.map_err(not_told)?;
        Ok(target.signed_by(&session))
    }
}

/// Full ARNs are asked for again after this: users can be moved to another path.
const FULL_ARN_LIFE: Duration = Duration::from_mins(10);
const FULL_ARNS_MAX: usize = 4096;
