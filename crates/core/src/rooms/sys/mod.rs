//! `sys/`: the server's own administration. This file is the table of contents.

mod about;
mod audit;
mod auth;
mod capabilities;
mod config;
mod explain;
mod host;
mod internal;
mod lease_quotas;
mod leases;
mod locked_users;
mod loggers;
mod messages;
pub(crate) mod metrics;
mod mfa;
mod mints;
mod mount_fields;
pub(crate) mod mounts;
mod password_policies;
mod plugins;
mod policies;
mod quotas;
mod remount;
mod rotate;
mod seal;
mod storage;
#[cfg(test)]
pub(in crate::rooms) mod tests;
mod tools;
mod wrapping;

use daypass_sdk::{Endpoint, Engine};

pub(crate) use mounts::finish_removals;
pub(crate) use remount::undo_interrupted_moves;

use super::Way;

/// The room behind `sys/`.
pub(crate) struct Sys {
    pub(crate) way: Way,
}

impl Engine for Sys {
    const SUMMARY: &'static str = "The system backend is built-in and cannot be remounted. It contains the paths that are used to configure \
                                   the server itself: mounts, policies, leases, audit devices and keys.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        [
            audit::endpoints(),
            auth::endpoints(),
            capabilities::endpoints(),
            config::endpoints(),
            explain::endpoints(),
            host::endpoints(),
            internal::endpoints(),
            lease_quotas::endpoints(),
            leases::endpoints(),
            locked_users::endpoints(),
            loggers::endpoints(),
            messages::endpoints(),
            metrics::endpoints(),
            mfa::endpoints(),
            mints::endpoints(),
            about::endpoints(),
            mounts::endpoints(),
            password_policies::endpoints(),
            plugins::endpoints(),
            policies::endpoints(),
            quotas::endpoints(),
            remount::endpoints(),
            rotate::endpoints(),
            seal::endpoints(),
            storage::endpoints(),
            tools::endpoints(),
            wrapping::endpoints(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
