//! What EC2 says of an instance, and whether a role lets it in.

use daypass_aws::{Call, DescribeInstance, Instance, Partition};
use daypass_base::Brief;
use daypass_sdk::{Cx, Error, Result};

use super::document::{is_id, is_region};
use crate::auth::aws::AwsAuth;
use crate::auth::aws::arn::{Pattern, PrincipalArn};
use crate::auth::aws::client::ClientConfig;
use crate::auth::aws::role::Role;
use crate::auth::aws::trouble::{not_told, while_doing};
use crate::secrets::at_aws::deadline;

/// Where an instance is, as its document or its session says it.
#[derive(Debug, Clone, Copy)]
pub(in crate::auth::aws) struct Place<'a> {
    pub(in crate::auth::aws) account: &'a str,
    pub(in crate::auth::aws) region: &'a str,
    pub(in crate::auth::aws) instance: &'a str,
}

impl AwsAuth {
    /// The instance, which must run. Errors: `BadRequest` with Vault's texts, and what could not be asked ([`crate::auth::aws::trouble`]).
    pub(in crate::auth::aws) async fn running(&self, cx: &Cx, place: Place<'_>) -> Result<Instance> {
        if !is_id("i-", place.instance) || !is_region(place.region) {
            return refuse(format!("{:?} in {:?} is no instance", Brief(place.instance), Brief(place.region)));
        }
        let failed = |error| while_doing(&format!("error fetching description for instance ID {:?}", place.instance), error);
        let Some(found) = self.describe(cx, place).await.map_err(failed)? else {
            return refuse("no reservations found in instance description");
        };
        if found.id != place.instance {
            return refuse("expected instance ID not matching the instance ID in the instance description");
        }
        if found.account != place.account {
            return refuse(format!("the instance is of account {:?} and not of {:?}", found.account, Brief(place.account)));
        }
        if found.state != "running" {
            return refuse("instance is not in 'running' state");
        }
        Ok(found)
    }

    async fn describe(&self, cx: &Cx, place: Place<'_>) -> Result<Option<Instance>> {
        let config = ClientConfig::find(cx).await?;
        let target = self.target_of(cx, Partition::of_region(place.region), place.account).await?;
        let call = Call::usual(&target, deadline(cx));
        let wanted = DescribeInstance { id: place.instance, region: place.region, endpoint: config.ec2_endpoint() };
        self.aws.describe_instance(call, wanted).await.map_err(not_told)
    }

    /// Whether what EC2 says of an instance is within the bounds of a role. Errors: `BadRequest` with Vault's texts, and what could not be asked.
    pub(in crate::auth::aws) async fn check_instance(
        &self,
        cx: &Cx,
        (name, role): (&str, &Role),
        place: Place<'_>,
        instance: &Instance,
    ) -> Result<()> {
        check_place(name, role, place)?;
        check_description(name, role, instance)?;
        let roles = role.bound("bound_iam_role_arn");
        if !roles.is_empty() {
            let failed = |error| while_doing("IAM role ARN could not be fetched", error);
            let arn = self.role_in(cx, &instance.profile_arn).await.map_err(failed)?;
            if !fits_one(roles, &arn) {
                return refuse(format!("IAM role ARN {arn:?} does not satisfy the constraint role {name:?}"));
            }
        }
        Ok(())
    }

    /// ARN of the role in an instance profile.
    async fn role_in(&self, cx: &Cx, profile: &str) -> Result<String> {
        let parsed = PrincipalArn::parse(profile).map_err(Error::bad_request)?;
        let target = self.target_of(cx, parsed.partition, &parsed.account).await?;
        let call = Call::usual(&target, deadline(cx));
        let found = self.aws.get_instance_profile(call, &parsed.name).await.map_err(not_told)?;
        if found.arn != profile {
            return refuse(format!("IAM tells of {:?} instead of {profile:?}", found.arn));
        }
        found.role_arn.ok_or_else(|| Error::bad_request("the instance profile has no role"))
    }
}

/// What can be told without asking AWS. Errors: `BadRequest` with Vault's texts.
pub(super) fn check_place(name: &str, role: &Role, place: Place<'_>) -> Result<()> {
    let misses = |bound: &str, value: &str| {
        let wanted = role.bound(bound);
        !wanted.is_empty() && !wanted.iter().any(|one| one == value)
    };
    if misses("bound_ec2_instance_id", place.instance) {
        return refuse(format!("instance ID {:?} does not belong to the role {name:?}", place.instance));
    }
    if misses("bound_account_id", place.account) {
        return refuse(format!("account ID {:?} does not belong to role {name:?}", place.account));
    }
    Ok(())
}

/// What the description alone tells. Errors: `BadRequest` with Vault's texts.
fn check_description(name: &str, role: &Role, instance: &Instance) -> Result<()> {
    for (bound, what, value, how) in [
        ("bound_ami_id", "AMI ID", &instance.ami, "does not belong to role"),
        ("bound_subnet_id", "subnet ID", &instance.subnet, "does not satisfy the constraint on role"),
        ("bound_vpc_id", "VPC ID", &instance.vpc, "does not satisfy the constraint on role"),
    ] {
        let wanted = role.bound(bound);
        if !wanted.is_empty() && value.is_empty() {
            return refuse(format!("{what} in the instance description is nil"));
        }
        if !wanted.is_empty() && !wanted.contains(value) {
            return refuse(format!("{what} {value:?} {how} {name:?}"));
        }
    }
    let (profiles, roles) = (role.bound("bound_iam_instance_profile_arn"), role.bound("bound_iam_role_arn"));
    let profile = &instance.profile_arn;
    if profile.is_empty() && !(profiles.is_empty() && roles.is_empty()) {
        return refuse("IAM instance profile in the instance description is nil");
    }
    if !profiles.is_empty() && !fits_one(profiles, profile) {
        return refuse(format!("IAM instance profile ARN {profile:?} does not satisfy the constraint role {name:?}"));
    }
    Ok(())
}

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::bad_request(text))
}

/// Whether an ARN is one of those, or begins as one of them that ends in a star.
fn fits_one(wanted: &[String], arn: &str) -> bool {
    wanted.iter().any(|one| Pattern::of(one).map_or(arn == one, |pattern| pattern.fits(arn)))
}
