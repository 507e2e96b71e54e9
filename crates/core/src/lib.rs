//! The core: the pipeline of a request and everything that it needs. Knows neither HTTP servers nor engines nor disks.
//!
//! Start at [`request`](../src/daypass_core/request.rs.html): the pipeline. [`node`] is the state: sealed, or unsealed with its mount table,
//! tokens, leases, policies and audit devices. `rooms/` are the core's own endpoints, of the same shape as engines.

mod audit;
mod cors;
pub mod documents;
mod ending;
mod expiry;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
mod identity;
mod ids;
mod in_flight;
mod json;
mod keys;
mod leases;
mod lockout;
pub mod log;
mod logins;
mod memory;
mod metrics;
mod mints;
mod monitors;
pub mod mounts;
pub mod node;
mod policies;
mod quotas;
mod request;
mod respond;
mod revocation;
mod revoke;
mod rooms;
mod rows;
mod snapshots;
mod stages;
mod sweeps;
mod tidy;
mod together;
mod tokens;
mod traces;
mod ttl;
mod view;
mod weight;
mod wrapping;

pub use daypass_audit::{DeviceHealth, Harm, OwnFile, OwnFiles, OwnFolder, Pace, Prefixing, SinkHealth, Space};
pub use daypass_base::Limits;
pub use http::{Body, HttpRequest, HttpResponse, Opened, takes_upload};
pub use keys::{FileRekey, opens_by_file, rekey_by_file};
pub use mounts::SystemTtls;
pub use node::{Core, Initialised, MetricsShown, SealKind, SealStatus, Settings};
pub use snapshots::restore_offline;
pub use traces::Traced;
