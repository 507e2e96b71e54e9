//! Secrets engines.

mod arn;
pub(crate) mod at_aws;
pub mod aws;
pub mod ecr;
pub(crate) mod federation;
pub mod kv1;
pub mod kv2;
mod kv_path;
pub(crate) mod revoked;
pub mod transit;
