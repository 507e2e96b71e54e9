//! EC2: what an instance is, and the role behind its instance profile.

use std::collections::BTreeMap;

use daypass_base::BoxFuture;

use crate::api::{Call, Result};
use crate::xml::{self, Bounds, Taker};

/// The calls that tell about instances. Part of [`crate::Aws`]; the same rules hold.
pub trait Ec2: Send + Sync + 'static {
    /// `ec2:DescribeInstances` for one instance; `None` where EC2 tells of none.
    fn describe_instance<'a>(&'a self, call: Call<'a>, wanted: DescribeInstance<'a>) -> BoxFuture<'a, Result<Option<Instance>>>;
    /// `iam:GetInstanceProfile`: the ARN of the profile and that of the role in it, where it has one.
    fn get_instance_profile<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<InstanceProfile>>;
}

/// Which instance, and where EC2 is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribeInstance<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its region, for which the call is signed.
    pub region: &'a str,
    /// Where EC2 is; `None` for AWS's own in the region.
    pub endpoint: Option<&'a str>,
}

/// An instance, as EC2 describes it. Texts are empty where EC2 says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// The account that it belongs to.
    pub account: String,
    /// The machine image that it was started from.
    pub ami: String,
    /// `running`, `stopped`, `terminated` and the like.
    pub state: String,
    /// Its network.
    pub vpc: String,
    /// Its subnet.
    pub subnet: String,
    /// ARN of its instance profile.
    pub profile_arn: String,
    /// Its name within the network.
    pub private_dns_name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// An instance profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceProfile {
    /// Its ARN, with its path.
    pub arn: String,
    /// ARN of the role in it.
    pub role_arn: Option<String>,
}

/// Elements inside each other; EC2's answers have a dozen at most.
const DEPTH_MAX: usize = 24;
/// Elements in an answer; the fullest instance has some hundreds.
const ELEMENTS_MAX: usize = 8192;
/// What stands around an instance.
const AROUND: [&str; 5] = ["DescribeInstancesResponse", "reservationSet", "item", "instancesSet", "item"];

/// Reads the one instance of an answer of `DescribeInstances`; `None` when it holds none. Source: EC2 API reference, 2016-11-15.
///
/// Errors: where it is not understood, or that it tells of more than one instance: never a word of what it says.
pub(crate) fn read(body: &[u8]) -> std::result::Result<Option<Instance>, String> {
    let mut found = Found::default();
    xml::walk(body, &Bounds { depth: DEPTH_MAX, elements: ELEMENTS_MAX }, &mut found)?;
    if found.is_answer { Ok(found.instance) } else { Err("it is no answer of DescribeInstances".to_owned()) }
}

/// What was read so far.
#[derive(Default)]
struct Found {
    is_answer: bool,
    owner: String,
    instance: Option<Instance>,
    /// Of the tag that is being read.
    key: String,
}

impl Taker for Found {
    fn enters(&mut self, path: &[String]) -> std::result::Result<(), &'static str> {
        if path.len() == 1 {
            self.is_answer = path.first().is_some_and(|name| name == "DescribeInstancesResponse");
        }
        if path.len() == AROUND.len() && is_below(path) {
            if self.instance.is_some() {
                return Err("a second instance");
            }
            self.instance = Some(Instance { account: self.owner.clone(), ..Instance::default() });
        }
        Ok(())
    }

    fn leaves(&mut self, path: &[String], text: String) -> std::result::Result<(), &'static str> {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        if let ["DescribeInstancesResponse", "reservationSet", "item", "ownerId"] = names.as_slice() {
            if let Some(instance) = &mut self.instance {
                instance.account.clone_from(&text);
            }
            return put(&mut self.owner, text);
        }
        let Some(inside) = names.get(AROUND.len()..).filter(|_| is_below(path)) else { return Ok(()) };
        let Some(instance) = &mut self.instance else { return Ok(()) };
        match inside {
            ["instanceId"] => put(&mut instance.id, text),
            ["imageId"] => put(&mut instance.ami, text),
            ["instanceState", "name"] => put(&mut instance.state, text),
            ["vpcId"] => put(&mut instance.vpc, text),
            ["subnetId"] => put(&mut instance.subnet, text),
            ["iamInstanceProfile", "arn"] => put(&mut instance.profile_arn, text),
            ["privateDnsName"] => put(&mut instance.private_dns_name, text),
            ["tagSet", "item", "key"] => {
                self.key = text;
                Ok(())
            }
            ["tagSet", "item", "value"] => match instance.tags.insert(std::mem::take(&mut self.key), text) {
                Some(_) => Err("a tag that is there twice"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn is_below(path: &[String]) -> bool {
    path.len() >= AROUND.len() && path.iter().zip(AROUND).all(|(name, wanted)| name == wanted)
}

/// A text that is there once.
fn put(place: &mut String, text: String) -> std::result::Result<(), &'static str> {
    if !place.is_empty() && *place != text {
        return Err("an element that is there twice");
    }
    *place = text;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(inside: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>\
             <reservationSet>{inside}</reservationSet></DescribeInstancesResponse>"
        )
    }

    const ONE: &str = "<item><reservationId>r-1</reservationId><ownerId>111111111111</ownerId><groupSet/><instancesSet><item>\
        <instanceId>i-1</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>running</name></instanceState>\
        <privateDnsName>ip-10-0-0-1.ec2.internal</privateDnsName><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>\
        <networkInterfaceSet><item><subnetId>subnet-2</subnetId><vpcId>vpc-2</vpcId><ownerId>222222222222</ownerId></item></networkInterfaceSet>\
        <tagSet><item><key>Name</key><value>a &amp; b</value></item><item><key>empty</key><value/></item></tagSet>\
        <iamInstanceProfile><arn>arn:aws:iam::111111111111:instance-profile/p</arn><id>AIPA</id></iamInstanceProfile></item></instancesSet></item>";

    #[test]
    fn an_instance_is_read_from_its_own_elements() {
        let read = read(answer(ONE).as_bytes()).unwrap().unwrap();
        let tags = [("Name".to_owned(), "a & b".to_owned())].into();
        let wanted = Instance {
            id: "i-1".to_owned(),
            account: "111111111111".to_owned(),
            ami: "ami-1".to_owned(),
            state: "running".to_owned(),
            vpc: "vpc-1".to_owned(),
            subnet: "subnet-1".to_owned(),
            profile_arn: "arn:aws:iam::111111111111:instance-profile/p".to_owned(),
            private_dns_name: "ip-10-0-0-1.ec2.internal".to_owned(),
            tags,
        };
        assert_eq!(read, wanted);
        assert_eq!(super::read(answer("").as_bytes()), Ok(None));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let twice = format!("{ONE}{ONE}");
        let two_states = ONE.replace("</instanceState>", "</instanceState><instanceState><name>stopped</name></instanceState>");
        let two_tags = ONE.replace("<key>empty</key><value/>", "<key>Name</key><value>c</value>");
        for (body, why) in [(twice, "a second instance"), (two_states, "there twice"), (two_tags, "there twice")] {
            let error = read(answer(&body).as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        for body in ["", "<a>secret</a>", "<DescribeInstancesResponse>secret", "secret", "<a>&secret;</a>"] {
            assert!(!read(body.as_bytes()).unwrap_err().contains("secret"), "{body}");
        }
        assert!(read("<a>".repeat(DEPTH_MAX + 1).as_bytes()).unwrap_err().starts_with("too many elements"));
    }
}
