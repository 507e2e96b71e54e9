//! A strict fake of AWS in one process: STS, IAM, ECR, `DescribeInstances` of EC2, the ECS container credentials endpoint and the
//! instance metadata service.
//!
//! It verifies what AWS verifies (signatures, session tokens, expiry, trust policies, permissions, lengths of sessions, sizes) and
//! refuses in AWS's words, so that what works here has a fair chance to work there. It is for development, demonstrations and tests:
//! nothing is stored, and its keys open nothing else.
//!
//! Start at [`start`]; the world that it starts with is a [`World`]; tests steer it with [`Control`]. Inside, `cloud.rs` has the way of a
//! request; everything that decides is pure.

mod answer;
mod assume;
mod authority;
mod cloud;
mod condition;
mod control;
mod discovery;
mod documents;
mod ecr;
mod fault;
mod http_api;
mod iam;
mod instances;
mod jwt;
mod metadata;
mod mfa;
mod policy;
mod request;
mod seal;
mod server;
mod session;
mod signin;
mod sigv4;
mod state;
mod sts;
mod trust;
mod world;

pub use control::{Call, Control, ControlError, Effect, Rule};
pub use documents::DocumentSigner;
pub use instances::InstanceSeed;
pub use server::{Options, Running, StartError, start};
pub use world::{ProviderSeed, World, WorldError};
