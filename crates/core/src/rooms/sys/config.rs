//! sys/config

use daypass_sdk::Endpoint;

use super::Sys;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    Vec::new()
}
