//! EC2, as far as logins of instances need it: `DescribeInstances`, of instances that the world or a test names.
//!
//! Source: Amazon EC2 API reference, version 2016-11-15.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::answer::{self, Reply, Xml};
use crate::authority::{self, Own};
use crate::cloud::{Call, Cloud};
use crate::fault::{Fault, Result};
use crate::session::Caller;

pub(crate) const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";
pub(crate) const VERSION: &str = "2016-11-15";

/// An instance.
///
/// ```
/// let seed: daypass_sandbox::InstanceSeed = serde_json::from_str(r#"{"id": "i-0123456789abcdef0", "region": "eu-west-1"}"#).unwrap();
/// assert_eq!(seed.state, "running");
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceSeed {
    /// `i-` and hexadecimal digits.
    pub id: String,
    /// Where it is.
    pub region: String,
    /// Its machine image.
    #[serde(default = "image")]
    pub ami: String,
    /// `pending`, `running`, `stopping`, `stopped`, `shutting-down` or `terminated`.
    #[serde(default = "running")]
    pub state: String,
    /// Its network.
    #[serde(default)]
    pub vpc: String,
    /// Its subnet.
    #[serde(default)]
    pub subnet: String,
    /// ARN of its instance profile.
    #[serde(default)]
    pub profile: String,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

pub(crate) fn image() -> String {
    "ami-00000000000000000".to_owned()
}

fn running() -> String {
    "running".to_owned()
}

impl InstanceSeed {
    /// What is wrong with it, if anything.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let digits = self.id.strip_prefix("i-").unwrap_or_default();
        if !(8..=17).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("instance {:?} is not i- and 8 to 17 hexadecimal digits", self.id));
        }
        if code_of(&self.state).is_none() {
            return Err(format!("state {:?} of instance {} is not one of EC2's", self.state, self.id));
        }
        if !crate::cloud::is_region(&self.region) {
            return Err(format!("region {:?} of instance {} is none", self.region, self.id));
        }
        if self.tags.len() > TAGS_MAX { Err(format!("instance {} has more than {TAGS_MAX} tags", self.id)) } else { Ok(()) }
    }
}

fn code_of(state: &str) -> Option<u8> {
    let codes = [("pending", 0), ("running", 16), ("shutting-down", 32), ("terminated", 48), ("stopping", 64), ("stopped", 80)];
    codes.into_iter().find(|(name, _)| *name == state).map(|(_, code)| code)
}

/// Does a signed action.
pub(crate) fn perform(cloud: &Cloud, call: &Call<'_>, caller: &Caller, action: &str) -> Result<Reply> {
    if action != "DescribeInstances" {
        return Err(Fault::new(400, "InvalidAction", format!("The action {action} is not valid for this web service.")));
    }
    let state = cloud.state.read();
    let facts = call.facts(&state, Some(caller));
    if authority::own(&state, caller, "ec2:DescribeInstances", "*", &facts) != Own::Allowed {
        let text = format!(
            "You are not authorized to perform this operation. User: {} is not authorized to perform: ec2:DescribeInstances because no \
             identity-based policy allows the ec2:DescribeInstances action",
            caller.arn
        );
        return Err(Fault::new(403, "UnauthorizedOperation", text));
    }
    let all = state.account(&caller.account).map(|account| &account.instances);
    let here = |id: &str| all.and_then(|all| all.get(id)).filter(|instance| instance.region == call.region);
    let wanted: Vec<&str> = (1..=IDS_MAX).map_while(|number| call.params.get(&format!("InstanceId.{number}"))).collect();
    let mut xml = Xml::default();
    xml.field("requestId", call.request_id);
    let mut found: Vec<&InstanceSeed> = Vec::new();
    if wanted.is_empty() {
        found.extend(all.into_iter().flat_map(BTreeMap::values).filter(|instance| instance.region == call.region));
    }
    for id in wanted {
        let missing = || {
            Fault::new(
                400,
                "InvalidInstanceID.NotFound",
                format!("The instance ID '{}' does not exist", id.chars().take(40).collect::<String>()),
            )
        };
        found.push(here(id).ok_or_else(missing)?);
    }
    xml.within("reservationSet", |xml| {
        for instance in found {
            xml.within("item", |xml| {
                xml.field("reservationId", &format!("r-{}", instance.id.trim_start_matches("i-"))).field("ownerId", &caller.account);
                xml.within("instancesSet", |xml| {
                    xml.within("item", |xml| described(xml, instance));
                });
            });
        }
    });
    Ok(answer::ec2_xml(NAMESPACE, action, &xml, call.request_id))
}

fn described(xml: &mut Xml, instance: &InstanceSeed) {
    let set = |text: &'_ String| (!text.is_empty()).then(|| text.clone());
    xml.field("instanceId", &instance.id).field("imageId", &instance.ami);
    xml.within("instanceState", |xml| {
        xml.field("code", &code_of(&instance.state).unwrap_or_default().to_string()).field("name", &instance.state);
    });
    xml.field("privateDnsName", &format!("ip-127-0-0-1.{}.compute.internal", instance.region));
    xml.optional("subnetId", set(&instance.subnet).as_deref()).optional("vpcId", set(&instance.vpc).as_deref());
    if !instance.profile.is_empty() {
        xml.within("iamInstanceProfile", |xml| {
            xml.field("arn", &instance.profile).field("id", "AIPASANDBOXSANDBOXSAN");
        });
    }
    xml.within("tagSet", |xml| {
        for (key, value) in &instance.tags {
            xml.within("item", |xml| {
                xml.field("key", key).field("value", value);
            });
        }
    });
}

/// Instances of one account.
pub(crate) const INSTANCES_MAX: usize = 1024;
const IDS_MAX: usize = 100;
/// EC2's own limit.
const TAGS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::tests::Fake;
    use crate::sigv4::tests::Signer;

    fn instance(state: &str) -> InstanceSeed {
        let text =
            format!(r#"{{"id":"i-0123456789abcdef0","region":"us-east-1","state":"{state}","vpc":"vpc-1","tags":{{"Name":"a&b"}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    async fn call(fake: &Fake, signer: &Signer, id: &str) -> (u16, String) {
        fake.call(signer, &[("Action", "DescribeInstances"), ("InstanceId.1", id)]).await
    }

    #[tokio::test]
    async fn an_instance_is_told_of_to_who_may_ask_in_its_account_and_region() {
        let fake = Fake::new();
        fake.cloud.set_instance("999999999999", instance("running")).unwrap();
        let (status, body) = call(&fake, &fake.root("ec2"), "i-0123456789abcdef0").await;
        assert_eq!(status, 200, "{body}");
        assert!(
            body.contains("<ownerId>999999999999</ownerId>") && body.contains("<name>running</name>") && body.contains("a&amp;b"),
            "{body}"
        );
        fake.cloud.set_instance("999999999999", instance("terminated")).unwrap();
        assert!(call(&fake, &fake.root("ec2"), "i-0123456789abcdef0").await.1.contains("<name>terminated</name>"));
        let (status, body) = call(&fake, &fake.root("ec2"), "i-00000000").await;
        assert!(status == 400 && body.contains("<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code>"), "{body}");
        let task = Signer { service: "ec2".to_owned(), ..fake.task() };
        let (status, body) = call(&fake, &task, "i-0123456789abcdef0").await;
        assert!(status == 403 && body.contains("UnauthorizedOperation"), "{body}");
    }

    #[test]
    fn what_ec2_would_not_have_is_refused() {
        assert!(instance("running").check().is_ok());
        assert!(instance("asleep").check().unwrap_err().contains("not one of EC2's"));
        assert!(InstanceSeed { id: "x".to_owned(), ..instance("running") }.check().is_err());
        assert!(InstanceSeed { region: "x".to_owned(), ..instance("running") }.check().is_err());
    }
}
