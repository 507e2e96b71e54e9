//! All that an engine may see: how it declares its endpoints, what a request tells it, what it may answer, and its own storage.
//!
//! An engine cannot see another engine, a token, the barrier, HTTP or the disk. Start at [`Engine`] and [`Endpoint`];
//! a whole engine is shown in the docs of [`Engine`].

mod cx;
mod declared;
mod endpoint;
mod engine;
mod error;
mod identity;
mod operation;
mod path;
mod reply;
mod room;
pub mod sim;
pub mod spec;
mod store;

pub use cx::{Caller, Cx, Mount, Page, Request, TokenId};
pub use declared::{Declared, DeclaredOperation, Form, Shape};
pub use endpoint::{Endpoint, Input};
pub use engine::{Build, Engine, Factory, LeaseInfo, LoginRole, Renewal, login_field};
pub use error::{Error, Kind, Result};
pub use identity::{IdentityClaims, MountIdentity, NoIdentity};
pub use operation::Operation;
pub use path::{Captures, Part, Pattern};
pub use reply::{Answer, Json, Keys, LeaseTerms, Leased, Login, METADATA_BYTES_MAX, Outcome, Reply, check_metadata, reveal};
pub use room::{Found, Mounted, Room, StandsFor, Support};
pub use store::{Changes, CommitFailure, Entry, Expect, Parse, Shared, Storage, Store, from_json, into_the_sealed_store, whole};

pub use daypass_base::{BoxFuture, Clock, Entropy, Moment, Seconds, Secret, Timestamp};
