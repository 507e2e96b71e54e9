//! Addresses for servers that tests start as processes of their own. Used by `xtask` as well, which is why it needs the standard library alone.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// An address of this machine where nobody listens right now, and where no connection's own end comes to lie before the server does: the system gives
/// those the ports from 32768 on, so a port that it names for a listener may be taken by any connection a moment later. Errors: that of the last
/// of many tries.
pub fn address() -> std::io::Result<SocketAddr> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for attempt in 0..TRIES {
        let port = FIRST + u16::try_from(RandomState::new().hash_one(attempt) % COUNT).unwrap_or_default();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

const FIRST: u16 = 20_000;
/// Ports to choose from.
const COUNT: u64 = 12_000;
const TRIES: u32 = 100;
