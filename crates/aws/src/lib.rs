//! The AWS calls that daypass makes, behind one trait.
//!
//! [`Aws`] is what engines see; [`LiveAws`] makes the calls with the official SDK and its signer, [`FakeAws`] answers from a script.
//! This crate decides nothing: which role, how long, for whom is the engine's business. It must never log or print a credential.
//! Errors are sorted in one place, [`error`]. `live` is a feature of its own: fuzzing wants the trait, and not the build of an SDK.

#![cfg_attr(not(feature = "live"), allow(dead_code, reason = "what the calls alone use"))]

mod answer;
mod api;
mod caller;
mod ec2;
mod ecr;
pub mod error;
mod fake;
mod iam;
#[cfg(feature = "live")]
mod live;
mod partition;
mod registry;
mod roles;
mod signin;
mod skew;
mod validate;
mod xml;

pub use api::{
    AssumeRole, Aws, Call, Credential, FederationToken, Identity, Purpose, Result, SessionToken, StaticKeys, StsEndpoint, Target,
    WebIdentity, WebTokens,
};
pub use caller::{Callers, Principal, PrincipalKind, SignedForm, SignedIdentity};
pub use ec2::{DescribeInstance, Ec2, Instance, InstanceProfile};
pub use ecr::{AuthorizationToken, Ecr, Login, Logins, PUBLIC_REGISTRY};
pub use error::{AwsError, ErrorKind};
pub use fake::{AskedLogin, AskedVisit, FakeAws, FakeGroup, Gate, Made};
pub use iam::{AccessKey, Depth, Holding, Iam, KeyInfo, NewUser, User, UserGrant};
#[cfg(feature = "live")]
pub use live::{ContainerEndpoint, LiveAws, LoginRequest, Settings};
pub use partition::Partition;
pub use registry::Registry;
pub use roles::{Decision, IamRoles, Question, RoleInfo, RolePolicy};
pub use signin::{ConsoleVisit, SignIn};
pub use skew::Skew;
