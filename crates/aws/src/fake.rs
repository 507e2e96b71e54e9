//! AWS from a script, for tests of everything above this crate.

mod callers;
mod ec2;
mod ecr;
mod roles;
mod signin;
mod users;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daypass_base::{BoxFuture, Clock, Seconds, Secret, Timestamp};

use crate::api::{AssumeRole, Aws, Call, Credential, FederationToken, Identity, Result, SessionToken, Target};
use crate::{AwsError, ErrorKind, Skew};

pub use ecr::AskedLogin;
pub use signin::AskedVisit;
pub use users::Gate;

/// An AWS that issues plausible credentials, or what [`FakeAws::answer`] queued, and remembers what it was asked.
///
/// Inputs are checked as the live client checks them.
pub struct FakeAws {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Result<Credential>>,
    identity: Option<Result<Identity>>,
    groups: BTreeMap<String, FakeGroup>,
    made: Vec<Made>,
    forgotten: usize,
    skew: Option<Skew>,
    issued: u64,
    callers: callers::Known,
    iam: users::Users,
    roles: roles::Roles,
    registries: ecr::Registries,
    ec2: ec2::Instances,
}

impl State {
    /// Who the caller is, as the test has it.
    fn identity(&self) -> Result<Identity> {
        self.identity.clone().unwrap_or_else(|| {
            Ok(Identity {
                account: "123456789012".to_owned(),
                arn: "arn:aws:sts::123456789012:assumed-role/daypass/task".to_owned(),
                user_id: "AROAFAKE:task".to_owned(),
            })
        })
    }

    fn now(&self, ours: Timestamp) -> Timestamp {
        self.skew.unwrap_or_default().theirs(ours)
    }

    /// The account of the caller.
    fn account(&self) -> String {
        self.identity().map(|identity| identity.account).unwrap_or_default()
    }

    /// The account of whoever signs: that of a session that was given out, else the caller's.
    fn account_of(&self, target: &Target) -> String {
        let session = target.keys.as_ref().and_then(|keys| self.callers.sessions.get(&keys.access_key_id));
        session.cloned().unwrap_or_else(|| self.account())
    }
}

/// A call that was made, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// `sts:AssumeRole`.
    AssumeRole(Target, AssumeRole),
    /// `sts:GetFederationToken`.
    FederationToken(Target, FederationToken),
    /// `sts:GetSessionToken`.
    SessionToken(Target, SessionToken),
    /// `sts:GetCallerIdentity`.
    CallerIdentity(Target),
    /// `ecr:GetAuthorizationToken` or its like of ECR Public.
    AuthorizationToken(AskedLogin),
    /// A stranger's `sts:GetCallerIdentity`, and the URL it was sent to.
    Forwarded(String, crate::SignedIdentity),
    /// A look-up of a principal: the account whose keys signed it, and what was asked for.
    Principal(String, crate::PrincipalKind, String),
    /// `ec2:DescribeInstances`: the account whose keys signed it, the region and the instance.
    Instance(String, String, String),
    /// `getSigninToken` of the console's federation endpoint.
    ConsoleVisit(AskedVisit),
    /// One of the reads of a group's policies: the action and the group.
    Group(&'static str, String),
}

/// An IAM group and its policies.
#[derive(Debug, Clone, Default)]
pub struct FakeGroup {
    /// ARNs of managed policies.
    pub attached: Vec<String>,
    /// Inline policies: name and JSON text.
    pub inline: BTreeMap<String, String>,
}

impl FakeAws {
    /// An AWS without groups, whose caller is `arn:aws:sts::123456789012:assumed-role/daypass/task`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Queues what the next credential call gives. With an empty queue, credentials are made up.
    pub fn answer(&self, answer: Result<Credential>) {
        self.state().answers.push_back(answer);
    }

    /// Queues a refusal with AWS's code, message and status.
    pub fn refuse(&self, code: &str, message: &str, status: u16) {
        self.answer(Err(AwsError::answered(Some(code), Some(message), status, Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE"))));
    }

    /// Sets what `sts:GetCallerIdentity` gives.
    pub fn set_identity(&self, identity: Result<Identity>) {
        self.state().identity = Some(identity);
    }

    /// Adds a group.
    pub fn add_group(&self, name: &str, group: FakeGroup) {
        self.state().groups.insert(name.to_owned(), group);
    }

    /// All calls so far, oldest first.
    pub fn made(&self) -> Vec<Made> {
        self.state().made.clone()
    }

    /// Forgets the calls so far, and whose the credentials were that they gave: a long history would keep them all.
    pub fn forget_calls(&self) {
        let mut state = self.state();
        state.made = Vec::new();
        state.callers.sessions.clear();
    }

    /// How often [`Aws::forget`] was called.
    pub fn forgotten(&self) -> usize {
        self.state().forgotten
    }

    /// AWS's clock differs by so much, and its answers show it.
    pub fn differ(&self, skew: Skew) {
        self.state().skew = Some(skew);
    }

    /// The time at AWS.
    fn now(&self) -> Timestamp {
        self.state().now(self.clock.now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, made: Made, duration: Seconds, arn: Option<String>) -> Result<Credential> {
        let mut state = self.state();
        state.made.push(made);
        if let Some(answer) = state.answers.pop_front() {
            return answer;
        }
        state.issued += 1;
        let number = state.issued;
        if let Some(arn) = &arn {
            let account = account(arn).to_owned();
            state.callers.sessions.insert(format!("ASIAFAKE{number:012}"), account);
        }
        Ok(Credential {
            access_key_id: format!("ASIAFAKE{number:012}"),
            secret_access_key: Secret::new(format!("fake-secret-{number}")),
            session_token: Secret::new(format!("fake-session-token-{number}")),
            // AWS's times have no fractions.
            expiration: Timestamp::from_seconds(state.now(self.clock.now()).seconds()) + duration,
            arn,
        })
    }

    fn group<T>(&self, action: &'static str, name: &str, read: impl FnOnce(&FakeGroup) -> Option<T>) -> Result<T> {
        let mut state = self.state();
        state.made.push(Made::Group(action, name.to_owned()));
        state.groups.get(name).and_then(read).ok_or_else(|| AwsError {
            kind: ErrorKind::NotFound,
            code: "NoSuchEntity".to_owned(),
            message: format!("The group with name {name} cannot be found."),
            status: Some(404),
            request_id: Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE".to_owned()),
        })
    }
}

/// The account number of an ARN.
fn account(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or("123456789012")
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Aws for FakeAws {
    fn assume_role<'a>(&'a self, call: Call<'a>, input: AssumeRole) -> BoxFuture<'a, Result<Credential>> {
        if let Err(error) = input.check() {
            return ready(Err(error));
        }
        let role = input.role_arn.rsplit('/').next().unwrap_or_default();
        let arn = format!("arn:aws:sts::{}:assumed-role/{role}/{}", account(&input.role_arn), input.session_name);
        let duration = input.duration;
        self.passes("AssumeRole", move || {
            let now = self.now();
            self.state().iam.accepts(call.target, now)?;
            self.issue(Made::AssumeRole(call.target.clone(), input), duration, Some(arn))
        })
    }

    fn get_federation_token<'a>(&'a self, call: Call<'a>, input: FederationToken) -> BoxFuture<'a, Result<Credential>> {
        if let Err(error) = input.check() {
            return ready(Err(error));
        }
        let arn = format!("arn:aws:sts::123456789012:federated-user/{}", input.name);
        let duration = input.duration;
        ready(self.issue(Made::FederationToken(call.target.clone(), input), duration, Some(arn)))
    }

    fn get_session_token<'a>(&'a self, call: Call<'a>, input: SessionToken) -> BoxFuture<'a, Result<Credential>> {
        if let Err(error) = input.check() {
            return ready(Err(error));
        }
        let duration = input.duration;
        ready(self.issue(Made::SessionToken(call.target.clone(), input), duration, None))
    }

    fn get_caller_identity<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Result<Identity>> {
        self.passes("GetCallerIdentity", move || {
            let now = self.now();
            let mut state = self.state();
            state.made.push(Made::CallerIdentity(call.target.clone()));
            state.iam.accepts(call.target, now)?;
            state.identity()
        })
    }

    fn list_attached_group_policies<'a>(&'a self, _: Call<'a>, group: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        ready(self.group("ListAttachedGroupPolicies", group, |group| Some(group.attached.clone())))
    }

    fn list_group_policies<'a>(&'a self, _: Call<'a>, group: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        ready(self.group("ListGroupPolicies", group, |group| Some(group.inline.keys().cloned().collect())))
    }

    fn get_group_policy<'a>(&'a self, _: Call<'a>, group: &'a str, policy: &'a str) -> BoxFuture<'a, Result<String>> {
        ready(self.group("GetGroupPolicy", group, |group| group.inline.get(policy).cloned()))
    }

    fn skew(&self, _: &Target) -> Option<Skew> {
        self.state().skew
    }

    fn forget(&self, _: &Target) {
        self.state().forgotten += 1;
    }
}
