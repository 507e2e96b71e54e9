//! The core: the pipeline of a request and everything that it needs. Knows neither HTTP servers nor engines nor disks.
//!
//! Start at [`request`](../src/daypass_core/request.rs.html): the pipeline. [`node`] is the state: sealed, or unsealed with its mount table,
//! tokens, leases, policies and audit devices. `rooms/` are the core's own endpoints, of the same shape as engines.

mod audit;
mod cors;
mod expiry;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
mod ids;
mod json;
mod keys;
mod leases;
pub mod limits;
mod lockout;
mod logins;
pub mod mounts;
pub mod node;
mod policies;
mod request;
mod respond;
mod revoke;
mod rooms;
mod rows;
mod stages;
mod tokens;
mod ttl;
mod view;
mod wrapping;

pub use http::{Body, HttpRequest, HttpResponse};
pub use limits::Limits;
pub use mounts::SystemTtls;
pub use node::{Core, Initialised, SealKind, SealStatus, Settings};
