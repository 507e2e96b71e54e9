//! IAM users from memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{BoxFuture, Secret, Timestamp};

use super::{FakeAws, State, ready};
use crate::api::{Call, Result, Target};
use crate::iam::{AccessKey, Depth, Holding, Iam, KeyInfo, NewUser, User, UserGrant};
use crate::{AwsError, ErrorKind};

/// The users of the account that a [`FakeAws`] plays.
#[derive(Default)]
pub(super) struct Users {
    users: BTreeMap<String, Held>,
    /// Actions that fail, each once for every entry.
    failures: Vec<(&'static str, AwsError)>,
    made: u64,
    /// Keys that were deleted: what they sign is refused.
    dead: BTreeSet<String>,
    /// A new key is accepted so long after it was made.
    settling: Duration,
    /// A new key is listed so long after it was made.
    unlisted: Duration,
    gate: Option<Gatekeeper>,
    /// When keys were used last, by their ids.
    used: BTreeMap<String, Timestamp>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The call is done, but its answer is lost.
    Cut,
    /// The process dies after the call was done: nobody hears of it.
    DieAfter,
    /// The process dies before the call leaves it.
    DieBefore,
    /// It is on its way for so long, and made when it arrives.
    Late(Duration),
    /// It is made and answered.
    Open,
    /// AWS asks for fewer calls, and does nothing.
    Throttle,
}

/// Decides by the action what becomes of a call.
pub(super) type Gatekeeper = Arc<dyn Fn(&str) -> Gate + Send + Sync>;

struct Held {
    id: String,
    created: Timestamp,
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

    /// Makes the next `times` calls of this action fail: see [`Self::fail`].
    pub fn fail_often(&self, action: &'static str, code: &str, status: u16, times: usize) {
        for _ in 0..times {
            self.fail(action, code, status);
        }
    }

    /// No failures are planned any more.
    pub fn forgive(&self) {
        self.state().iam.failures.clear();
    }

    /// From now on this decides what becomes of each call about users and of each `GetCallerIdentity` and `AssumeRole`; a process that
    /// died gets no answer, ever.
    pub fn guard(&self, gate: impl Fn(&str) -> Gate + Send + Sync + 'static) {
        self.state().iam.gate = Some(Arc::new(gate));
    }

    /// All calls are made and answered again.
    pub fn unguard(&self) {
        self.state().iam.gate = None;
    }

    /// A new access key is accepted only after so long, as IAM has it.
    pub fn keys_settle_after(&self, time: Duration) {
        self.state().iam.settling = time;
    }

    /// A new access key is listed only after so long, as IAM has it.
    pub fn keys_are_listed_after(&self, time: Duration) {
        self.state().iam.unlisted = time;
    }

    /// Gives a user an access key, as somebody else would.
    pub fn add_key(&self, name: &str) -> Option<AccessKey> {
        let created = self.now();
        let mut state = self.state();
        let id = state.iam.next("AKIAFAKE");
        state.iam.users.get_mut(name)?.keys.push(KeyInfo { id: id.clone(), created });
        Some(AccessKey { secret: Secret::new(format!("secret-of-{id}")), id })
    }

    /// Uses a key, as its owner does.
    pub fn use_key(&self, id: &str) {
        let now = self.now();
        self.state().iam.used.insert(id.to_owned(), now);
    }

    /// Makes a call of this action, as the gate has it.
    pub(super) fn passes<'a, T: Send + 'a>(
        &'a self,
        action: &str,
        act: impl FnOnce() -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        // The gate is asked outside the lock: it may look at this very fake.
        let gate = self.state().iam.gate.clone();
        match gate.map_or(Gate::Open, |gate| gate(action)) {
            Gate::Cut => ready(act().and(Err(AwsError::unreachable("the connection was cut")))),
            Gate::DieAfter => {
                drop(act());
                Box::pin(std::future::pending())
            }
            Gate::DieBefore => Box::pin(std::future::pending()),
            Gate::Late(time) => Box::pin(async move {
                self.clock.sleep(time).await;
                act()
            }),
            Gate::Open => ready(act()),
            Gate::Throttle => ready(Err(refused("Throttling", "Rate exceeded".to_owned(), 400))),
        }
    }

    /// Adds a user, as somebody else would.
    pub fn add_user(&self, name: &str) {
        let created = self.now();
        let mut state = self.state();
        let id = state.iam.next("AIDAFAKE");
        state.iam.users.insert(name.to_owned(), Held { id, created, holdings: BTreeSet::new(), keys: Vec::new() });
    }

    /// Removes a user, as somebody else would.
    pub fn remove_user(&self, name: &str) {
        self.state().iam.users.remove(name);
    }

    /// Hangs something on a user, as somebody else would.
    pub fn hang(&self, name: &str, holding: Holding) {
        let created = self.now();
        let mut state = self.state();
        let Some(user) = state.iam.users.get_mut(name) else { return };
        match holding {
            Holding::AccessKey(id) => user.keys.push(KeyInfo { id, created }),
            holding => {
                user.holdings.insert(holding);
            }
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

    pub(super) fn play<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        action: &'static str,
        act: impl FnOnce(&mut State) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        self.passes(action, move || self.done(call.target, action, act))
    }

    fn done<T>(&self, target: &Target, action: &'static str, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let now = self.now();
        let mut state = self.state();
        state.iam.accepts(target, now)?;
        let failure = state.iam.failures.iter().position(|(failing, _)| *failing == action).map(|at| state.iam.failures.remove(at).1);
        match failure {
            // Refused or never sent: nothing was done.
            Some(error) if error.status.is_some() || error.kind == ErrorKind::NoIdentity => Err(error),
            Some(error) => act(&mut state).and(Err(error)),
            None => act(&mut state),
        }
    }

    fn with_user<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        action: &'static str,
        name: &'a str,
        act: impl FnOnce(&mut Held, String) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        self.play(call, action, move |state| {
            let key = state.iam.next("AKIAFAKE");
            act(state.iam.users.get_mut(name).ok_or_else(|| no_such_user(name))?, key)
        })
    }
}

impl Users {
    fn next(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{:012}", self.made)
    }

    /// Refuses what a deleted key signed, or one that is too new.
    pub(super) fn accepts(&self, target: &Target, now: Timestamp) -> Result<()> {
        let Some(keys) = &target.keys else { return Ok(()) };
        let made = self.users.values().flat_map(|user| &user.keys).find(|key| key.id == keys.access_key_id);
        let young = made.is_some_and(|key| now.since(key.created) < self.settling);
        if young || self.dead.contains(&keys.access_key_id) {
            return Err(refused("InvalidClientTokenId", "The security token included in the request is invalid.".to_owned(), 403));
        }
        Ok(())
    }

    /// Whose key signs.
    fn signer(&self, target: &Target) -> String {
        let id = target.keys.as_ref().map(|keys| keys.access_key_id.as_str());
        let owner = self.users.iter().find(|(_, user)| user.keys.iter().any(|key| Some(key.id.as_str()) == id));
        owner.map_or_else(|| "root-of-the-mount".to_owned(), |(name, _)| name.clone())
    }
}

impl Held {
    fn shown(&self, name: String, account: String) -> User {
        User { name, id: self.id.clone(), account, created: self.created }
    }

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
    !matches!(holding, Holding::Group(_) | Holding::Inline(_) | Holding::Managed(_))
}

/// The action that takes it off a user.
fn removing(holding: &Holding) -> &'static str {
    match holding {
        Holding::AccessKey(_) => "DeleteAccessKey",
        Holding::Certificate(_) => "DeleteSigningCertificate",
        Holding::Group(_) => "RemoveUserFromGroup",
        Holding::Inline(_) => "DeleteUserPolicy",
        Holding::LoginProfile => "DeleteLoginProfile",
        Holding::Managed(_) => "DetachUserPolicy",
        Holding::Mfa(_) => "DeactivateMFADevice",
        Holding::ServiceCredential(_) => "DeleteServiceSpecificCredential",
        Holding::SshKey(_) => "DeleteSSHPublicKey",
    }
}

impl Iam for FakeAws {
    fn create_user<'a>(&'a self, call: Call<'a>, user: &'a NewUser) -> BoxFuture<'a, Result<User>> {
        let created = self.now();
        self.play(call, "CreateUser", move |state| {
            if state.iam.users.contains_key(&user.name) {
                return Err(refused("EntityAlreadyExists", format!("User with name {} already exists.", user.name), 409));
            }
            let id = state.iam.next("AIDAFAKE");
            let made = Held { id, created, holdings: BTreeSet::new(), keys: Vec::new() };
            let shown = made.shown(user.name.clone(), state.account());
            state.iam.users.insert(user.name.clone(), made);
            Ok(shown)
        })
    }

    fn get_user<'a>(&'a self, call: Call<'a>, name: Option<&'a str>) -> BoxFuture<'a, Result<User>> {
        self.play(call, "GetUser", move |state| {
            let name = name.map_or_else(|| state.iam.signer(call.target), str::to_owned);
            let user = state.iam.users.get(&name).ok_or_else(|| no_such_user(&name))?;
            Ok(user.shown(name, state.account()))
        })
    }

    fn delete_user<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<()>> {
        self.play(call, "DeleteUser", move |state| {
            let user = state.iam.users.get(name).ok_or_else(|| no_such_user(name))?;
            if !user.all().is_empty() {
                return Err(refused("DeleteConflict", "Cannot delete entity, must remove what hangs on it first.".to_owned(), 409));
            }
            state.iam.users.remove(name);
            Ok(())
        })
    }

    fn grant_user<'a>(&'a self, call: Call<'a>, name: &'a str, grant: &'a UserGrant) -> BoxFuture<'a, Result<()>> {
        let (action, holding) = match grant {
            UserGrant::Group(group) => ("AddUserToGroup", Holding::Group(group.clone())),
            UserGrant::Inline(policy, _) => ("PutUserPolicy", Holding::Inline(policy.clone())),
            UserGrant::Managed(arn) => ("AttachUserPolicy", Holding::Managed(arn.clone())),
        };
        self.with_user(call, action, name, move |user, _| {
            user.holdings.insert(holding);
            Ok(())
        })
    }

    fn list_user_holdings<'a>(&'a self, call: Call<'a>, name: &'a str, depth: Depth) -> BoxFuture<'a, Result<Vec<Holding>>> {
        let wanted = move |holding: &Holding| by_hand(holding) == (depth == Depth::ByHand);
        self.with_user(call, "ListGroupsForUser", name, move |user, _| {
            Ok(user.holdings.iter().filter(|holding| wanted(holding)).cloned().collect())
        })
    }

    fn remove_user_holding<'a>(&'a self, call: Call<'a>, name: &'a str, holding: &'a Holding) -> BoxFuture<'a, Result<()>> {
        self.play(call, removing(holding), move |state| {
            let user = state.iam.users.get_mut(name).ok_or_else(|| no_such_user(name))?;
            let before = user.all().len();
            user.holdings.remove(holding);
            user.keys.retain(|key| Holding::AccessKey(key.id.clone()) != *holding);
            if user.all().len() < before {
                if let Holding::AccessKey(id) = holding {
                    state.iam.dead.insert(id.clone());
                }
                Ok(())
            } else {
                Err(refused("NoSuchEntity", "It is not there.".to_owned(), 404))
            }
        })
    }

    fn list_access_keys<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<Vec<KeyInfo>>> {
        let (now, unlisted) = (self.now(), self.state().iam.unlisted);
        let is_listed = move |key: &&KeyInfo| now.since(key.created) >= unlisted;
        self.with_user(call, "ListAccessKeys", name, move |user, _| Ok(user.keys.iter().filter(is_listed).cloned().collect()))
    }

    fn access_key_last_used<'a>(&'a self, call: Call<'a>, id: &'a str) -> BoxFuture<'a, Result<Option<Timestamp>>> {
        self.play(call, "GetAccessKeyLastUsed", move |state| Ok(state.iam.used.get(id).copied()))
    }

    fn create_access_key<'a>(&'a self, call: Call<'a>, name: &'a str) -> BoxFuture<'a, Result<AccessKey>> {
        let created = self.now();
        self.with_user(call, "CreateAccessKey", name, move |user, id| {
            if user.keys.len() >= 2 {
                return Err(refused("LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2".to_owned(), 409));
            }
            user.keys.push(KeyInfo { id: id.clone(), created });
            Ok(AccessKey { secret: Secret::new(format!("secret-of-{id}")), id })
        })
    }
}
