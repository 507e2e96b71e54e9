//! IAM users from memory.

use std::collections::{BTreeMap, BTreeSet};

use daypass_base::{BoxFuture, Secret};

use super::{FakeAws, State, ready};
use crate::api::{Call, Result};
use crate::iam::{AccessKey, Depth, Holding, Iam, KeyInfo, NewUser, User, UserGrant};
use crate::{AwsError, ErrorKind};

/// The users of the account that a [`FakeAws`] plays.
#[derive(Default)]
pub(super) struct Users {
    users: BTreeMap<String, Held>,
    /// Actions that fail, each once for every entry.
    failures: Vec<(&'static str, AwsError)>,
    made: u64,
}

struct Held {
    id: String,
    holdings: BTreeSet<Holding>,
    keys: Vec<KeyInfo>,
}

impl FakeAws {
    /// Makes the next call of this action fail: with AWS's refusal, or, with status 0, without an answer after it was done, or unsent
    /// with the code `NoCredentialProviders`.
    pub fn fail(&self, action: &'static str, code: &str, status: u16) {
        let error = match (code, status) {
            ("NoCredentialProviders", 0) => AwsError::no_identity("the test took it away"),
            (_, 0) => AwsError::unreachable("the connection was cut"),
            (code, status) => {
                AwsError::answered(Some(code), Some("as the test wants it"), status, Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE"))
            }
        };
        self.state().iam.failures.push((action, error));
    }

    /// Adds a user, as somebody else would.
    pub fn add_user(&self, name: &str) {
        let mut state = self.state();
        let id = state.iam.next("AIDAFAKE");
        state.iam.users.insert(name.to_owned(), Held { id, holdings: BTreeSet::new(), keys: Vec::new() });
    }

    /// Removes a user, as somebody else would.
    pub fn remove_user(&self, name: &str) {
        self.state().iam.users.remove(name);
    }

    /// Hangs something on a user, as somebody else would.
    pub fn hang(&self, name: &str, holding: Holding) {
        if let Some(user) = self.state().iam.users.get_mut(name) {
            user.holdings.insert(holding);
        }
    }

    /// Names of the users that exist.
    pub fn users(&self) -> Vec<String> {
        self.state().iam.users.keys().cloned().collect()
    }

    /// What hangs on a user; its access keys too, oldest first.
    pub fn holdings(&self, name: &str) -> Vec<Holding> {
        self.state().iam.users.get(name).map(Held::all).unwrap_or_default()
    }

    fn done<T>(&self, action: &'static str, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        let failure = state.iam.failures.iter().position(|(failing, _)| *failing == action).map(|at| state.iam.failures.remove(at).1);
        match failure {
            // Refused or never sent: nothing was done.
            Some(error) if error.status.is_some() || error.kind == ErrorKind::NoIdentity => Err(error),
            Some(error) => act(&mut state).and(Err(error)),
            None => act(&mut state),
        }
    }

    fn with_user<'a, T: Send + 'a>(
        &self,
        action: &'static str,
        name: &str,
        act: impl FnOnce(&mut Held, String) -> Result<T>,
    ) -> BoxFuture<'a, Result<T>> {
        ready(self.done(action, |state| {
            let key = state.iam.next("AKIAFAKE");
            act(state.iam.users.get_mut(name).ok_or_else(|| no_such_user(name))?, key)
        }))
    }
}

impl Users {
    fn next(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{:012}", self.made)
    }
}

impl Held {
    fn all(&self) -> Vec<Holding> {
        self.holdings.iter().cloned().chain(self.keys.iter().map(|key| Holding::AccessKey(key.id.clone()))).collect()
    }
}

fn refused(code: &str, message: String, status: u16) -> AwsError {
    AwsError::answered(Some(code), Some(&message), status, Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE"))
}

fn no_such_user(name: &str) -> AwsError {
    refused("NoSuchEntity", format!("The user with name {name} cannot be found."), 404)
}

fn by_hand(holding: &Holding) -> bool {
    !matches!(holding, Holding::AccessKey(_) | Holding::Group(_) | Holding::Inline(_) | Holding::Managed(_))
}

impl Iam for FakeAws {
    fn create_user<'a>(&'a self, _: Call<'a>, user: &'a NewUser) -> BoxFuture<'a, Result<()>> {
        ready(self.done("CreateUser", |state| {
            if state.iam.users.contains_key(&user.name) {
                return Err(refused("EntityAlreadyExists", format!("User with name {} already exists.", user.name), 409));
            }
            let id = state.iam.next("AIDAFAKE");
            state.iam.users.insert(user.name.clone(), Held { id, holdings: BTreeSet::new(), keys: Vec::new() });
            Ok(())
        }))
    }

    fn get_user<'a>(&'a self, _: Call<'a>, name: Option<&'a str>) -> BoxFuture<'a, Result<User>> {
        let name = name.unwrap_or("root-of-the-mount");
        self.with_user("GetUser", name, |user, _| Ok(User { name: name.to_owned(), id: user.id.clone() }))
    }

    fn delete_user<'a>(&'a self, _: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<()>> {
        ready(self.done("DeleteUser", |state| {
            let user = state.iam.users.get(name).ok_or_else(|| no_such_user(name))?;
            if !user.all().is_empty() {
                return Err(refused("DeleteConflict", "Cannot delete entity, must remove what hangs on it first.".to_owned(), 409));
            }
            state.iam.users.remove(name);
            Ok(())
        }))
    }

    fn grant_user<'a>(&'a self, _: Call<'a>, name: &'a str, grant: &'a UserGrant) -> BoxFuture<'a, Result<()>> {
        let (action, holding) = match grant {
            UserGrant::Group(group) => ("AddUserToGroup", Holding::Group(group.clone())),
            UserGrant::Inline(policy, _) => ("PutUserPolicy", Holding::Inline(policy.clone())),
            UserGrant::Managed(arn) => ("AttachUserPolicy", Holding::Managed(arn.clone())),
        };
        self.with_user(action, name, |user, _| {
            user.holdings.insert(holding);
            Ok(())
        })
    }

    fn list_user_holdings<'a>(&'a self, _: Call<'a>, name: &'a str, depth: Depth) -> BoxFuture<'a, Result<Vec<Holding>>> {
        let wanted = move |holding: &Holding| by_hand(holding) == (depth == Depth::ByHand);
        self.with_user("ListGroupsForUser", name, |user, _| Ok(user.all().into_iter().filter(wanted).collect()))
    }

    fn remove_user_holding<'a>(&'a self, _: Call<'a>, name: &'a str, holding: &'a Holding) -> BoxFuture<'a, Result<()>> {
        self.with_user("Remove", name, |user, _| {
            let before = user.all().len();
            user.holdings.remove(holding);
            user.keys.retain(|key| Holding::AccessKey(key.id.clone()) != *holding);
            if user.all().len() < before { Ok(()) } else { Err(refused("NoSuchEntity", "It is not there.".to_owned(), 404)) }
        })
    }

    fn list_access_keys<'a>(&'a self, _: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<Vec<KeyInfo>>> {
        self.with_user("ListAccessKeys", name, |user, _| Ok(user.keys.clone()))
    }

    fn create_access_key<'a>(&'a self, _: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<AccessKey>> {
        let created = self.clock.now();
        self.with_user("CreateAccessKey", name, |user, id| {
            if user.keys.len() >= 2 {
                return Err(refused("LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2".to_owned(), 409));
            }
            user.keys.push(KeyInfo { id: id.clone(), created });
            Ok(AccessKey { secret: Secret::new(format!("secret-of-{id}")), id })
        })
    }
}
