//! Logins of instances by the document that AWS signs for each, and what is remembered of them.
//!
//! A document is no secret of long life: whoever reads the metadata service once has it. So each instance has a row with the digest of a
//! nonce: the first login gives the nonce out, later ones must bring it ([`access`]). Rows end some time after the longest token of them.

mod access;
mod accesslist;
mod certificates;
mod cms;
mod denylist;
mod document;
mod instance;
mod login;
mod role_tag;
mod tag;
mod tidy;

use daypass_sdk::Endpoint;

pub(super) use certificates::Trusted;
pub(super) use document::Proof;
pub(super) use instance::Place;
pub(super) use login::{Ec2Login, log_in, renew};
pub(super) use tidy::Schedule;

use super::AwsAuth;

pub(super) fn endpoints() -> Vec<Endpoint<AwsAuth>> {
    let mut all = vec![certificates::list_endpoint(), certificates::endpoint(), role_tag::endpoint()];
    all.extend(accesslist::endpoints());
    all.extend(denylist::endpoints());
    all.extend(tidy::endpoints());
    all
}
