//! What EC2 says of an instance, and whether a role lets it in.

use daypass_aws::{Call, DescribeInstance, Instance, Partition};
use daypass_base::Brief;
use daypass_sdk::{Cx, Result as SdkResult};

use super::document::{is_id, is_region};
use crate::auth::aws::AwsAuth;
use crate::auth::aws::arn::{Pattern, PrincipalArn};
use crate::auth::aws::client::ClientConfig;
use crate::auth::aws::role::Role;
use crate::secrets::at_aws::deadline;

/// Where an instance is, as its document or its session says it.
#[derive(Debug, Clone, Copy)]
pub(in crate::auth::aws) struct Place<'a> {
    pub(in crate::auth::aws) account: &'a str,
    pub(in crate::auth::aws) region: &'a str,
    pub(in crate::auth::aws) instance: &'a str,
}

impl AwsAuth {
    /// The instance, which must run. Errors: Vault's texts, and what AWS says.
    pub(in crate::auth::aws) async fn running(&self, cx: &Cx, place: Place<'_>) -> Result<Instance, String> {
        if !is_id("i-", place.instance) || !is_region(place.region) {
            return Err(format!("{:?} in {:?} is no instance", Brief(place.instance), Brief(place.region)));
        }
        let found = self
            .describe(cx, place)
            .await
            .map_err(|why| format!("error fetching description for instance ID {:?}: {why}", place.instance))?;
        let found = found.ok_or("no reservations found in instance description")?;
        if found.id != place.instance {
            return Err("expected instance ID not matching the instance ID in the instance description".to_owned());
        }
        if found.account != place.account {
            return Err(format!("the instance is of account {:?} and not of {:?}", found.account, Brief(place.account)));
        }
        if found.state != "running" {
            return Err("instance is not in 'running' state".to_owned());
        }
        Ok(found)
    }

    async fn describe(&self, cx: &Cx, place: Place<'_>) -> Result<Option<Instance>, String> {
        let config = text(ClientConfig::find(cx).await)?;
        let target = self.target_of(cx, Partition::of_region(place.region), place.account).await?;
        let call = Call::usual(&target, deadline(cx));
        let wanted = DescribeInstance { id: place.instance, region: place.region, endpoint: config.ec2_endpoint() };
        self.aws.describe_instance(call, wanted).await.map_err(|error| error.to_string())
    }

    /// Whether what EC2 says of an instance is within the bounds of a role. Errors: Vault's texts.
    pub(in crate::auth::aws) async fn check_instance(
        &self,
        cx: &Cx,
        (name, role): (&str, &Role),
        place: Place<'_>,
        instance: &Instance,
    ) -> Result<(), String> {
        check_place(name, role, place)?;
        for (bound, what, value, how) in [
            ("bound_ami_id", "AMI ID", &instance.ami, "does not belong to role"),
            ("bound_subnet_id", "subnet ID", &instance.subnet, "does not satisfy the constraint on role"),
            ("bound_vpc_id", "VPC ID", &instance.vpc, "does not satisfy the constraint on role"),
        ] {
            let wanted = role.bound(bound);
            if !wanted.is_empty() && value.is_empty() {
                return Err(format!("{what} in the instance description is nil"));
            }
            if !wanted.is_empty() && !wanted.contains(value) {
                return Err(format!("{what} {value:?} {how} {name:?}"));
            }
        }
        let (profiles, roles) = (role.bound("bound_iam_instance_profile_arn"), role.bound("bound_iam_role_arn"));
        if profiles.is_empty() && roles.is_empty() {
            return Ok(());
        }
        let profile = &instance.profile_arn;
        if profile.is_empty() {
            return Err("IAM instance profile in the instance description is nil".to_owned());
        }
        if !profiles.is_empty() && !fits_one(profiles, profile) {
            return Err(format!("IAM instance profile ARN {profile:?} does not satisfy the constraint role {name:?}"));
        }
        if !roles.is_empty() {
            let arn = self.role_in(cx, profile).await.map_err(|why| format!("IAM role ARN could not be fetched: {why}"))?;
            if !fits_one(roles, &arn) {
                return Err(format!("IAM role ARN {arn:?} does not satisfy the constraint role {name:?}"));
            }
        }
        Ok(())
    }

    /// ARN of the role in an instance profile.
    async fn role_in(&self, cx: &Cx, profile: &str) -> Result<String, String> {
        let parsed = PrincipalArn::parse(profile)?;
        let target = self.target_of(cx, parsed.partition, &parsed.account).await?;
        let call = Call::usual(&target, deadline(cx));
        let found = self.aws.get_instance_profile(call, &parsed.name).await.map_err(|error| error.to_string())?;
        if found.arn != profile {
            return Err(format!("IAM tells of {:?} instead of {profile:?}", found.arn));
        }
        found.role_arn.ok_or_else(|| "the instance profile has no role".to_owned())
    }
}

/// What can be told without asking AWS. Errors: Vault's texts.
pub(super) fn check_place(name: &str, role: &Role, place: Place<'_>) -> Result<(), String> {
    let misses = |bound: &str, value: &str| {
        let wanted = role.bound(bound);
        !wanted.is_empty() && !wanted.iter().any(|one| one == value)
    };
    if misses("bound_ec2_instance_id", place.instance) {
        return Err(format!("instance ID {:?} does not belong to the role {name:?}", place.instance));
    }
    if misses("bound_account_id", place.account) {
        return Err(format!("account ID {:?} does not belong to role {name:?}", place.account));
    }
    Ok(())
}

/// Whether an ARN is one of those, or begins as one of them that ends in a star.
fn fits_one(wanted: &[String], arn: &str) -> bool {
    wanted.iter().any(|one| Pattern::of(one).map_or(arn == one, |pattern| pattern.fits(arn)))
}

fn text<T>(result: SdkResult<T>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}
