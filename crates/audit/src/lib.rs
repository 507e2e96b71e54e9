//! Audit devices: who asked for what, and what the answer was, in Vault's JSON format, one object a line.
//!
//! [`record`] is what the pipeline tells; [`mod@line`] writes it, with every secret replaced by a keyed hash; [`sink`], [`mod@file`], `socket`
//! and `syslog` carry lines to their place; [`device`] reads an operator's options; [`broker`] holds the devices and decides whether a request may go on.
//!
//! Fails closed: while a device is enabled, a record that no device took is an error, and the request must not go on. Nothing here
//! knows storage, HTTP or policies; the caller stores which devices exist ([`DeviceConfig`]) and keeps their salts.

pub mod broker;
pub mod device;
pub mod file;
pub mod headers;
mod jsonx;
pub mod line;
mod link;
pub mod own;
pub mod record;
pub mod sink;
mod socket;
mod syslog;

pub use broker::{AuditFailed, Broker, DeviceHealth, HashError, Prepared, SelfTest};
pub use device::{DeviceConfig, EnableError, Prefixing};
pub use headers::{HeaderRule, HeaderRules};
pub use line::{Encoding, Format, Salt, write_line};
pub use own::{Harm, OwnFile, OwnFiles, OwnFolder};
pub use record::{
    AuthRecord, GrantingPolicy, MountRecord, Pairs, PolicyResults, Record, RecordType, RequestRecord, ResponseRecord, Room, Share, Strings,
    WrapRecord,
};
pub use sink::{Pace, Receipt, Sink, SinkError, SinkHealth, SinkLimits, Space};
