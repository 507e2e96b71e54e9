//! Strangers' signatures and the principals of all accounts, from memory.

use std::collections::BTreeMap;

use daypass_base::BoxFuture;

use super::{FakeAws, Made, account, ready};
use crate::api::{Call, Identity, Result};
use crate::caller::{self, Callers, Principal, PrincipalKind, SignedIdentity};
use crate::{AwsError, ErrorKind};

/// What STS says to a forwarded call.
#[derive(Debug, Clone)]
struct Said {
    status: u16,
    content_type: String,
    body: String,
}

/// Who is known where.
#[derive(Default)]
pub(super) struct Known {
    said: Option<Said>,
    crowded: bool,
    /// Unique ids by ARN.
    principals: BTreeMap<String, String>,
    /// Accounts by the access key ids of sessions that were given out.
    pub(super) sessions: BTreeMap<String, String>,
}

impl FakeAws {
    /// From now on STS answers forwarded calls like this.
    pub fn says_to_strangers(&self, status: u16, content_type: &str, body: &str) {
        let said = Said { status, content_type: content_type.to_owned(), body: body.to_owned() };
        self.state().callers.said = Some(said);
    }

    /// From now on too many forwarded calls wait already.
    pub fn is_crowded(&self) {
        self.state().callers.crowded = true;
    }

    /// From now on forwarded calls are signed by this principal, as far as STS can tell.
    pub fn stranger_is(&self, arn: &str, user_id: &str) {
        let account = account(arn);
        self.says_to_strangers(
            200,
            "text/xml",
            &format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>{arn}</Arn>\
                 <UserId>{user_id}</UserId><Account>{account}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            ),
        );
    }

    /// Adds a user, a role or an instance profile, by its ARN with its path.
    pub fn add_principal(&self, arn: &str, id: &str) {
        self.state().callers.principals.insert(arn.to_owned(), id.to_owned());
    }

    /// Removes a principal.
    pub fn remove_principal(&self, arn: &str) {
        self.state().callers.principals.remove(arn);
    }
}

impl Callers for FakeAws {
    fn forward_caller_identity<'a>(&'a self, call: Call<'a>, signed: &'a SignedIdentity) -> BoxFuture<'a, Result<Identity>> {
        let url = match caller::destination(signed, call.target, None) {
            Ok(url) => url,
            Err(error) => return ready(Err(error)),
        };
        let mut state = self.state();
        state.made.push(Made::Forwarded(url, signed.clone()));
        let (said, crowded) = (state.callers.said.clone(), state.callers.crowded);
        drop(state);
        ready(match said {
            _ if crowded => Err(AwsError::crowded("128 calls to it wait already".to_owned())),
            Some(said) => caller::understood(said.status, &said.content_type, said.body.as_bytes()),
            None => Err(AwsError::unreachable("nobody said who the stranger is")),
        })
    }

    fn get_principal<'a>(&'a self, call: Call<'a>, kind: PrincipalKind, name: &'a str) -> BoxFuture<'a, Result<Principal>> {
        let key = call.target.keys.as_ref().map(|keys| keys.access_key_id.clone()).unwrap_or_default();
        self.passes("GetPrincipal", move || {
            let mut state = self.state();
            let account = state.callers.sessions.get(&key).cloned().unwrap_or_else(|| OWN_ACCOUNT.to_owned());
            state.made.push(Made::Principal(account.clone(), kind, name.to_owned()));
            let word = match kind {
                PrincipalKind::InstanceProfile => "instance-profile/",
                PrincipalKind::Role => "role/",
                PrincipalKind::User => "user/",
            };
            let is_meant = |arn: &&String| {
                let resource = arn.splitn(6, ':').nth(5).and_then(|resource| resource.strip_prefix(word));
                super::account(arn) == account && resource.is_some_and(|path| path.rsplit('/').next() == Some(name))
            };
            let found = state.callers.principals.iter().find(|(arn, _)| is_meant(arn));
            let found = found.map(|(arn, id)| Principal { arn: arn.clone(), id: id.clone() });
            found.ok_or_else(|| AwsError {
                kind: ErrorKind::NotFound,
                code: "NoSuchEntity".to_owned(),
                message: format!("The {} with name {name} cannot be found.", word.trim_end_matches('/')),
                status: Some(404),
                request_id: Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE".to_owned()),
            })
        })
    }
}

/// The account of keys that were not given out here.
pub(super) const OWN_ACCOUNT: &str = "123456789012";
