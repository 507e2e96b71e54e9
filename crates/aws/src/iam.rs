//! IAM users: the calls that make one, take one apart and rotate its keys.

use std::collections::BTreeMap;

use daypass_base::{BoxFuture, Secret, Timestamp};

use crate::api::{Call, Result};

/// The IAM calls about users. Part of [`crate::Aws`]; the same rules hold.
pub trait Iam: Send + Sync + 'static {
    /// `iam:CreateUser`, with path, boundary and tags in the one call. What AWS did not answer is not asked again: see
    /// [`Iam::create_access_key`].
    fn create_user<'a>(&'a self, call: Call<'a>, user: &'a NewUser) -> BoxFuture<'a, Result<User>>;
    /// `iam:GetUser`; without a name, the user whose keys sign the call.
    fn get_user<'a>(&'a self, call: Call<'a>, name: Option<&'a str>) -> BoxFuture<'a, Result<User>>;
    /// `iam:DeleteUser`: works once nothing hangs on the user any more.
    fn delete_user<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<()>>;
    /// Gives a user one thing of those that can be given: `iam:AttachUserPolicy`, `iam:PutUserPolicy` or `iam:AddUserToGroup`.
    fn grant_user<'a>(&'a self, call: Call<'a>, name: &'a str, grant: &'a UserGrant) -> BoxFuture<'a, Result<()>>;
    /// What hangs on a user but its access keys, all pages of it.
    fn list_user_holdings<'a>(&'a self, call: Call<'a>, name: &'a str, depth: Depth) -> BoxFuture<'a, Result<Vec<Holding>>>;
    /// Takes one thing off a user. One that is gone already fails with [`crate::ErrorKind::NotFound`].
    fn remove_user_holding<'a>(&'a self, call: Call<'a>, name: &'a str, holding: &'a Holding) -> BoxFuture<'a, Result<()>>;
    /// `iam:ListAccessKeys`.
    fn list_access_keys<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<Vec<KeyInfo>>>;
    /// `iam:GetAccessKeyLastUsed`: when a key was used last; `None` for never, as far as IAM knows it by now.
    fn access_key_last_used<'a>(&'a self, call: Call<'a>, id: &'a str) -> BoxFuture<'a, Result<Option<Timestamp>>>;
    /// `iam:CreateAccessKey`. Asked again only where AWS said that it did nothing (throttled): after a lost answer a second attempt would meet
    /// what the first one made, and its refusal would read as if nothing had been made.
    fn create_access_key<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<AccessKey>>;
}

/// A user to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewUser {
    /// Its name, at most 64 characters.
    pub name: String,
    /// Its path; `/` for none.
    pub path: String,
    /// ARN of the managed policy that bounds it.
    pub permissions_boundary: Option<String>,
    /// Its tags, at most 50.
    pub tags: BTreeMap<String, String>,
}

/// A user that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its unique id, `AIDA…`: a user made anew under the same name has another one.
    pub id: String,
    /// The account that it is in, 12 digits.
    pub account: String,
    /// When it was made.
    pub created: Timestamp,
}

/// What can be given to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserGrant {
    /// Membership of the group of this name.
    Group(String),
    /// A policy of its own: name and JSON text.
    Inline(String, String),
    /// The managed policy with this ARN.
    Managed(String),
}

/// What can hang on a user, and keeps it from being deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holding {
    /// An access key, by its id.
    AccessKey(String),
    /// A signing certificate, by its id.
    Certificate(String),
    /// Membership of a group, by its name.
    Group(String),
    /// A policy of its own, by its name.
    Inline(String),
    /// A password for the console.
    LoginProfile,
    /// An attached managed policy, by its ARN.
    Managed(String),
    /// An MFA device, by its serial number.
    Mfa(String),
    /// A password for one service, by its id.
    ServiceCredential(String),
    /// An SSH key, by its id.
    SshKey(String),
}

/// How much of a user is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What people add to a user by hand: login profile, MFA devices, certificates, SSH keys, service credentials. Needs more rights
    /// of the server, so it is only asked for when the usual was not enough.
    ByHand,
    /// Policies and groups: what a user is made with. Its keys are [`Iam::list_access_keys`], so that whoever takes it apart can delete them first.
    Usual,
}

/// An access key as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// `AKIA…`.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A new access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA…`, not a secret.
    pub id: String,
    /// Its secret.
    pub secret: Secret<String>,
}
