//! Audit devices: who asked for what, and what the answer was, in Vault's JSON format, one object a line.
//!
//! [`record`] is what the pipeline tells; [`mod@line`] writes it, with every secret replaced by a keyed hash; [`sink`] and [`mod@file`] carry
//! lines to their place; [`device`] reads an operator's options; [`broker`] holds the devices and decides whether a request may go on.
//!
//! Fails closed: while a device is enabled, a record that no device took is an error, and the request must not go on. Nothing here
//! knows storage, HTTP or policies; the caller stores which devices exist ([`DeviceConfig`]) and keeps their salts.

pub mod broker;
pub mod device;
pub mod file;
pub mod headers;
pub mod line;
pub mod record;
pub mod sink;

pub use broker::{AuditFailed, Broker, HashError, Prepared, SelfTest};
pub use device::{DeviceConfig, EnableError, Prefixing};
pub use headers::{HeaderRule, HeaderRules};
pub use line::{Format, Salt, write_line};
pub use record::{
    AuthRecord, GrantingPolicy, MountRecord, Pairs, PolicyResults, Record, RecordType, RequestRecord, ResponseRecord, Strings, WrapRecord,
};
pub use sink::{Receipt, Sink, SinkError, SinkLimits};
