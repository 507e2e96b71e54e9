//! The whole pipeline with all engines, in memory: what happens over time, at the same moment, and when something breaks in between.
//!
//! Answers in themselves are compared with recorded ones elsewhere; here is what no recording shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may fail by panicking")]

mod audit;
mod aws_auth;
mod aws_auth_ec2;
mod aws_auth_rotation;
mod aws_broken_off;
mod aws_clock;
mod aws_container;
mod aws_federation;
mod aws_kill_switch;
mod aws_killed;
mod aws_operators;
mod aws_page;
mod aws_rotation;
mod aws_sessions;
mod aws_static;
mod aws_trouble;
mod aws_user_accounts;
mod aws_users;
mod aws_users_apart;
mod cert;
mod compatibility;
mod crash;
mod damaged;
mod declarations;
mod denies;
mod ecr;
mod entities;
mod external_groups;
mod full;
mod github;
mod holders;
mod identity;
mod identity_tokens;
mod jwt;
mod key_file;
mod kubernetes;
mod late;
mod lease_admin;
mod lease_quotas;
mod leases;
mod lender;
mod lists;
mod logins;
mod metrics;
mod mfa;
mod mints;
mod monitor;
mod mounts;
mod moves;
mod policies;
mod protocol;
mod revoking;
mod seal;
mod snapshots;
mod together;
mod token_model;
mod tokens;
mod traces;
mod transit;
mod tuning;
mod ui;
mod wrapping;
