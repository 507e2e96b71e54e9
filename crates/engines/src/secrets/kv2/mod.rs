//! KV version 2: objects with versions, soft deletion, check-and-set and metadata.
//!
//! Owns three sorts of rows: `config`; `m/<path>`, all that is known of a key together with the data of its current version, so that
//! the usual read is one look-up; and `d/<path>/<number>`, the data of older versions. A row is named after the version that first had it; when
//! that one is dropped the next that needs a row takes it over, and its number stands before the data, so that nobody takes one version for
//! another. The number is always the last segment, so two paths cannot share a data row. Every change of a key is one commit under the
//! condition that its `m/` row still is as it was read: writers at the same moment take turns and none is lost.
//!
//! Rows are decided on in [`key`] (pure), read and committed in [`rows`]. The endpoints stand in the files named after them.
//!
//! Source: Vault API, "KV secrets engine, version 2"; recorded fixtures `kv2-*`.

mod config;
mod custom;
mod data;
mod invalid;
mod key;
mod metadata;
mod rows;
mod subkeys;
mod times;
mod upgrade;
mod versions;

use daypass_sdk::{Endpoint, Engine};

/// The KV version 2 secrets engine of one mount.
#[derive(Default)]
pub struct Kv2 {
    /// Set once the rows of KV version 1, if any, were taken over.
    upgraded: tokio::sync::OnceCell<()>,
}

impl Engine for Kv2 {
    const SUMMARY: &'static str = "Stores any JSON object at any path and keeps its former versions.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![
            config::endpoint(),
            data::endpoint(),
            versions::delete_endpoint(),
            versions::undelete_endpoint(),
            versions::destroy_endpoint(),
            metadata::endpoint(),
            subkeys::endpoint(),
            invalid::roots(),
            invalid::elsewhere(),
        ]
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
