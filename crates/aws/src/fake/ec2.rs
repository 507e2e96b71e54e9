//! Instances and instance profiles, from memory.

use std::collections::BTreeMap;

use daypass_base::BoxFuture;

use super::{FakeAws, Made, account};
use crate::api::{Call, Result};
use crate::ec2::{DescribeInstance, Ec2, Instance, InstanceProfile};
use crate::{AwsError, ErrorKind};

/// What a [`FakeAws`] plays of EC2.
#[derive(Default)]
pub(super) struct Instances {
    /// By region and id.
    instances: BTreeMap<(String, String), Instance>,
    /// ARNs of roles, by those of the profiles that they are in.
    profiles: BTreeMap<String, String>,
}

impl FakeAws {
    /// Adds an instance, or changes it.
    pub fn add_instance(&self, region: &str, instance: Instance) {
        self.state().ec2.instances.insert((region.to_owned(), instance.id.clone()), instance);
    }

    /// Adds an instance profile with a role in it.
    pub fn add_instance_profile(&self, arn: &str, role_arn: &str) {
        self.state().ec2.profiles.insert(arn.to_owned(), role_arn.to_owned());
    }

    /// The account whose keys sign a call.
    fn account_of(&self, call: Call<'_>) -> String {
        let key = call.target.keys.as_ref().map(|keys| keys.access_key_id.clone()).unwrap_or_default();
        self.state().callers.sessions.get(&key).cloned().unwrap_or_else(|| super::callers::OWN_ACCOUNT.to_owned())
    }
}

impl Ec2 for FakeAws {
    fn describe_instance<'a>(&'a self, call: Call<'a>, wanted: DescribeInstance<'a>) -> BoxFuture<'a, Result<Option<Instance>>> {
        let account = self.account_of(call);
        self.passes("DescribeInstances", move || {
            let mut state = self.state();
            state.made.push(Made::Instance(account.clone(), wanted.region.to_owned(), wanted.id.to_owned()));
            let found = state.ec2.instances.get(&(wanted.region.to_owned(), wanted.id.to_owned()));
            found.filter(|instance| instance.account == account).cloned().map(Some).ok_or_else(|| {
                let text = format!("The instance ID '{}' does not exist", wanted.id);
                AwsError::answered(Some("InvalidInstanceID.NotFound"), Some(&text), 400, Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE"))
            })
        })
    }

    fn get_instance_profile<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<InstanceProfile>> {
        let own = self.account_of(call);
        self.passes("GetInstanceProfile", move || {
            let state = self.state();
            let is_meant = |arn: &&String| account(arn) == own && arn.rsplit('/').next() == Some(name);
            let found = state.ec2.profiles.iter().find(|(arn, _)| is_meant(arn));
            let found = found.map(|(arn, role)| InstanceProfile { arn: arn.clone(), role_arn: Some(role.clone()) });
            found.ok_or_else(|| AwsError {
                kind: ErrorKind::NotFound,
                code: "NoSuchEntity".to_owned(),
                message: format!("Instance Profile {name} cannot be found."),
                status: Some(404),
                request_id: Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE".to_owned()),
            })
        })
    }
}
