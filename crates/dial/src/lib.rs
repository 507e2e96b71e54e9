//! Connections that this server opens to others: to AWS, to identity providers, to a collector of traces.
//!
//! [`open()`] gives one: TCP, TLS under the trust that the caller names, and the proxy that the environment names. [`Line`] speaks HTTP/1.1 on
//! it. A line has no task of its own: the request that uses it drives it, so that nothing is handed from task to task; at rest it costs its
//! socket and a small buffer, and whether its peer has closed it is seen when it is taken up again.
//!
//! [`Places`] says how many calls may be under way, in all and to one origin.
//!
//! What may be asked of whom, how long it may take and what an answer means is the caller's to say.

mod line;
mod open;
mod places;
mod tls;

pub use line::{Broken, Line};
pub use open::{Opened, Peer, Proxy, Reader, Refused, Stream, Trust, open, proxy_of};
pub use places::{NoPlace, Place, Places, Room, Share, Turn};
pub use rustls::{ClientConfig, RootCertStore};
pub use tls::{Roots, SystemTrust, client_config, system_roots, verifier};
