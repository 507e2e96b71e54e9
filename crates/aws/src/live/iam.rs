//! IAM users as AWS's SDK handles them.

use aws_sdk_iam::Client;
use aws_sdk_iam::config::retry::RetryConfig;
use aws_sdk_iam::types::Tag;
use daypass_base::{BoxFuture, Secret, Timestamp};

use super::sort::sorted;
use super::{LiveAws, PAGES_MAX};
use crate::api::{Call, Result};
use crate::iam::{AccessKey, Depth, Holding, Iam, KeyInfo, NewUser, User, UserGrant};
use crate::{AwsError, ErrorKind};

/// All pages of a list call: the request, the field of the answer with the items, and what an item is.
macro_rules! pages {
    ($client:ident.$action:ident($name:expr), $items:ident, $item:expr) => {{
        let (mut all, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let request = $client.$action().user_name($name).set_marker(marker);
            let page = request.send().await.map_err(|error| sorted(&error))?;
            all.extend(page.$items.into_iter().filter_map($item));
            marker = page.marker.filter(|_| page.is_truncated);
            if marker.is_none() {
                break;
            }
        }
        all
    }};
}

/// Settings of a call that the SDK makes once: what was done and not answered must not be done again.
fn unrepeated() -> aws_sdk_iam::config::Builder {
    aws_sdk_iam::Config::builder().retry_config(RetryConfig::disabled())
}

impl Iam for LiveAws {
    fn create_user<'a>(&'a self, call: Call<'a>, user: &'a NewUser) -> BoxFuture<'a, Result<User>> {
        Box::pin(self.iam(call, move |client| async move {
            let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build().map_err(AwsError::unreachable);
            let tags = user.tags.iter().map(tag).collect::<Result<Vec<_>>>()?;
            let request = client
                .create_user()
                .user_name(&user.name)
                .path(if user.path.is_empty() { "/" } else { &user.path })
                .set_permissions_boundary(user.permissions_boundary.clone())
                .set_tags((!tags.is_empty()).then_some(tags));
            let ask = || async {
                let answer = request.clone().customize().config_override(unrepeated()).send().await.map_err(|error| sorted(&error))?;
                Ok(known(answer.user.ok_or_else(|| AwsError::unreachable("the answer has no user"))?))
            };
            self.unless_throttled(call.target, ask).await
        }))
    }

    fn get_user<'a>(&'a self, call: Call<'a>, name: Option<&'a str>) -> BoxFuture<'a, Result<User>> {
        // Before a user is deleted it is looked at; few ask for anything else.
        Box::pin(self.iam_back(call, move |client| async move {
            let request = client.get_user().set_user_name(name.map(str::to_owned));
            let answer = request.send().await.map_err(|error| sorted(&error))?;
            Ok(known(answer.user.ok_or_else(|| AwsError::unreachable("the answer has no user"))?))
        }))
    }

    fn delete_user<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.iam_back(call, move |client| async move {
            client.delete_user().user_name(name).send().await.map_err(|error| sorted(&error))?;
            Ok(())
        }))
    }

    fn grant_user<'a>(&'a self, call: Call<'a>, name: &'a str, grant: &'a UserGrant) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.iam(call, move |client| async move {
            match grant {
                UserGrant::Group(group) => {
                    client.add_user_to_group().user_name(name).group_name(group).send().await.map_err(|error| sorted(&error))?;
                }
                UserGrant::Inline(policy, document) => {
                    let request = client.put_user_policy().user_name(name).policy_name(policy).policy_document(document);
                    request.send().await.map_err(|error| sorted(&error))?;
                }
                UserGrant::Managed(arn) => {
                    client.attach_user_policy().user_name(name).policy_arn(arn).send().await.map_err(|error| sorted(&error))?;
                }
            }
            Ok(())
        }))
    }

    fn list_user_holdings<'a>(&'a self, call: Call<'a>, name: &'a str, depth: Depth) -> BoxFuture<'a, Result<Vec<Holding>>> {
        Box::pin(self.iam_back(call, move |client| async move {
            match depth {
                Depth::ByHand => by_hand(&client, name).await,
                Depth::Usual => usual(&client, name).await,
            }
        }))
    }

    fn remove_user_holding<'a>(&'a self, call: Call<'a>, name: &'a str, holding: &'a Holding) -> BoxFuture<'a, Result<()>> {
        // Boxed: one of many futures of the SDK, each kilobytes large.
        Box::pin(self.iam_back(call, move |client| Box::pin(remove(client, name, holding))))
    }

    fn list_access_keys<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<Vec<KeyInfo>>> {
        Box::pin(self.iam_back(call, move |client| async move { keys(&client, name).await }))
    }

    fn access_key_last_used<'a>(&'a self, call: Call<'a>, id: &'a str) -> BoxFuture<'a, Result<Option<Timestamp>>> {
        Box::pin(self.iam_back(call, move |client| async move {
            let answer = client.get_access_key_last_used().access_key_id(id).send().await.map_err(|error| sorted(&error))?;
            Ok(answer.access_key_last_used.and_then(|used| used.last_used_date).as_ref().map(moment))
        }))
    }

    fn create_access_key<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<AccessKey>> {
        Box::pin(self.iam(call, move |client| async move {
            let request = client.create_access_key().user_name(name);
            let ask = || async {
                let answer = request.clone().customize().config_override(unrepeated()).send().await.map_err(|error| sorted(&error))?;
                let key = answer.access_key.ok_or_else(|| AwsError::unreachable("the answer has no access key"))?;
                Ok(AccessKey { id: key.access_key_id, secret: Secret::new(key.secret_access_key) })
            };
            self.unless_throttled(call.target, ask).await
        }))
    }
}

fn known(user: aws_sdk_iam::types::User) -> User {
    let account = user.arn.split(':').nth(4).unwrap_or_default().to_owned();
    User { name: user.user_name, id: user.user_id, account, created: moment(&user.create_date) }
}

fn moment(date: &aws_smithy_types::DateTime) -> Timestamp {
    Timestamp::from_nanos(i64::try_from(date.as_nanos()).unwrap_or(i64::MAX))
}

async fn keys(client: &Client, name: &str) -> Result<Vec<KeyInfo>> {
    Ok(pages!(client.list_access_keys(name), access_key_metadata, |key| {
        let made = key.create_date.as_ref().map_or(Timestamp::from_nanos(0), moment);
        key.access_key_id.map(|id| KeyInfo { id, created: made })
    }))
}

async fn usual(client: &Client, name: &str) -> Result<Vec<Holding>> {
    let (mut all, mut marker) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let request = client.list_attached_user_policies().user_name(name).set_marker(marker);
        let page = request.send().await.map_err(|error| sorted(&error))?;
        all.extend(page.attached_policies.unwrap_or_default().into_iter().filter_map(|policy| policy.policy_arn.map(Holding::Managed)));
        marker = page.marker.filter(|_| page.is_truncated);
        if marker.is_none() {
            break;
        }
    }
    all.extend(pages!(client.list_user_policies(name), policy_names, |policy| Some(Holding::Inline(policy))));
    all.extend(pages!(client.list_groups_for_user(name), groups, |group| Some(Holding::Group(group.group_name))));
    Ok(all)
}

async fn by_hand(client: &Client, name: &str) -> Result<Vec<Holding>> {
    let mut all: Vec<Holding> = pages!(client.list_mfa_devices(name), mfa_devices, |device| Some(Holding::Mfa(device.serial_number)));
    all.extend(pages!(client.list_signing_certificates(name), certificates, |held| Some(Holding::Certificate(held.certificate_id))));
    let ssh = client.list_ssh_public_keys().user_name(name).send().await.map_err(|error| sorted(&error))?;
    all.extend(ssh.ssh_public_keys.unwrap_or_default().into_iter().map(|key| Holding::SshKey(key.ssh_public_key_id)));
    let services = client.list_service_specific_credentials().user_name(name).send().await.map_err(|error| sorted(&error))?;
    let ids = services.service_specific_credentials.unwrap_or_default().into_iter();
    all.extend(ids.map(|credential| Holding::ServiceCredential(credential.service_specific_credential_id)));
    match client.get_login_profile().user_name(name).send().await.map_err(|error| sorted(&error)) {
        Ok(_) => all.push(Holding::LoginProfile),
        Err(error) if error.kind == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(all)
}

async fn remove(client: Client, name: &str, holding: &Holding) -> Result<()> {
    match holding {
        Holding::AccessKey(id) => {
            client.delete_access_key().user_name(name).access_key_id(id).send().await.map_err(|error| sorted(&error))?;
        }
        Holding::Certificate(id) => {
            client.delete_signing_certificate().user_name(name).certificate_id(id).send().await.map_err(|error| sorted(&error))?;
        }
        Holding::Group(group) => {
            client.remove_user_from_group().user_name(name).group_name(group).send().await.map_err(|error| sorted(&error))?;
        }
        Holding::Inline(policy) => {
            client.delete_user_policy().user_name(name).policy_name(policy).send().await.map_err(|error| sorted(&error))?;
        }
        Holding::LoginProfile => {
            client.delete_login_profile().user_name(name).send().await.map_err(|error| sorted(&error))?;
        }
        Holding::Managed(arn) => {
            client.detach_user_policy().user_name(name).policy_arn(arn).send().await.map_err(|error| sorted(&error))?;
        }
        Holding::Mfa(serial) => {
            client.deactivate_mfa_device().user_name(name).serial_number(serial).send().await.map_err(|error| sorted(&error))?;
        }
        Holding::ServiceCredential(id) => {
            let request = client.delete_service_specific_credential().user_name(name).service_specific_credential_id(id);
            request.send().await.map_err(|error| sorted(&error))?;
        }
        Holding::SshKey(id) => {
            client.delete_ssh_public_key().user_name(name).ssh_public_key_id(id).send().await.map_err(|error| sorted(&error))?;
        }
    }
    Ok(())
}
