//! EC2's one call, signed and sent as ECR's is; and the look-up of an instance profile.
//!
//! Whoever has a document that AWS signed causes this call, so its answers are read strictly and its attempts are few.

use std::pin::pin;

use daypass_base::BoxFuture;

use super::places::Told;
use super::plain::PlainAnswer;
use super::query::Form;
use super::signed::{Outgoing, Signer, signed};
use super::sort::sorted;
use super::{Clients, LiveAws};
use crate::answer::Fields;
use crate::api::{Call, Result};
use crate::ec2::{self, DescribeInstance, Ec2, Instance, InstanceProfile};
use crate::{AwsError, ErrorKind, Partition};

/// The version of EC2's API.
const VERSION: &str = "2016-11-15";

impl Ec2 for LiveAws {
    fn describe_instance<'a>(&'a self, call: Call<'a>, wanted: DescribeInstance<'a>) -> BoxFuture<'a, Result<Option<Instance>>> {
        Box::pin(async move {
            let told = Told::default();
            let asked = async {
                let clients = self.clients(call.target).await;
                match self.ask_ec2(call, &clients, wanted, &told).await {
                    Err(error) if error.identity_is_lost() && call.target.keys.is_none() => {
                        self.forget_own_identity(call.target, &clients).await;
                        let clients = self.clients(call.target).await;
                        self.ask_ec2(call, &clients, wanted, &told).await
                    }
                    answer => answer,
                }
            };
            self.within(call.deadline, &told, pin!(asked)).await
        })
    }

    fn get_instance_profile<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<InstanceProfile>> {
        Box::pin(self.iam(call, move |client| async move {
            let answer = client.get_instance_profile().instance_profile_name(name).send().await.map_err(|error| sorted(&error))?;
            let found = answer.instance_profile.ok_or_else(|| AwsError::unreachable("the answer has no instance profile"))?;
            Ok(InstanceProfile { arn: found.arn, role_arn: found.roles.into_iter().next().map(|role| role.arn) })
        }))
    }
}

impl LiveAws {
    async fn ask_ec2(&self, call: Call<'_>, clients: &Clients, wanted: DescribeInstance<'_>, told: &Told) -> Result<Option<Instance>> {
        let signer = Signer { credentials: clients.signing_keys().await?, region: wanted.region.to_owned() };
        let url = match wanted.endpoint.or(self.settings.endpoint.as_deref()) {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => Partition::of_region(wanted.region).ec2_api(wanted.region),
        } + "/";
        let mut form = Form::of("DescribeInstances", VERSION);
        form.add("InstanceId.1", wanted.id);
        let body = form.done();
        let (signer, url, body) = (&signer, &url, &body);
        self.patiently(call.target, || async move {
            let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
            let request = signed(signer, &Outgoing { service: "ec2", url, headers: &headers, body }, self.signing_time())?;
            read(&self.send(request, told).await?)
        })
        .await
    }
}

fn read(answer: &PlainAnswer) -> Result<Option<Instance>> {
    if answer.status == 200 {
        return ec2::read(&answer.body).map_err(|why| AwsError {
            kind: ErrorKind::Other,
            code: "SerializationError".to_owned(),
            message: format!("EC2's answer is not understood: {why}"),
            status: Some(200),
            request_id: answer.request_id.clone(),
        });
    }
    let fields = Fields::read(&answer.body).ok();
    let said = |name: &str| fields.as_ref().and_then(|fields| fields.text("Error", name));
    let request_id = fields.as_ref().and_then(Fields::request_id).or_else(|| answer.request_id.clone());
    Err(AwsError::answered(said("Code").as_deref(), said("Message").as_deref(), answer.status, request_id.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> PlainAnswer {
        PlainAnswer { status, code: None, request_id: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn refusals_are_read_as_ec2_writes_them() {
        let body = "<?xml version=\"1.0\"?><Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>The instance ID 'i-1' does \
                    not exist</Message></Error></Errors><RequestID>r-1</RequestID></Response>";
        let error = read(&answer(400, body)).unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::NotFound, "InvalidInstanceID.NotFound"));
        assert_eq!(error.request_id.as_deref(), Some("r-1"));
        let denied = body.replace("InvalidInstanceID.NotFound", "UnauthorizedOperation");
        assert_eq!(read(&answer(403, &denied)).unwrap_err().kind, ErrorKind::Denied);
        let throttled = body.replace("InvalidInstanceID.NotFound", "RequestLimitExceeded");
        assert_eq!(read(&answer(503, &throttled)).unwrap_err().kind, ErrorKind::Throttled);
        assert_eq!(read(&answer(500, "<html>")).unwrap_err().kind, ErrorKind::Unreachable);
        assert_eq!(read(&answer(200, "secret")).unwrap_err().code, "SerializationError");
    }
}
