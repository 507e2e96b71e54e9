//! Lines over TCP, UDP or a unix socket.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::link::{Framing, Link, Remote};

/// How to reach a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Tcp,
    Udp,
    Unix,
    UnixDatagram,
}

impl Network {
    /// As Go names networks, which is how Vault's option does.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "tcp" | "tcp4" | "tcp6" => Self::Tcp,
            "udp" | "udp4" | "udp6" => Self::Udp,
            "unix" => Self::Unix,
            "unixgram" => Self::UnixDatagram,
            _ => return None,
        })
    }
}

/// The other end of a socket device.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) network: Network,
    /// `host:port`, or a path.
    pub(crate) address: String,
}

impl Remote for Peer {
    fn connect(&mut self, limit: Duration) -> Result<Link> {
        let link = match self.network {
            Network::Tcp => tcp(&self.address, limit),
            Network::Udp => udp(&self.address),
            Network::Unix => unix(&self.address, Framing::Stream),
            Network::UnixDatagram => unix(&self.address, Framing::Datagram),
        };
        link.map_err(|error| Error::new(error.kind(), format!("no connection to {:?}: {error}", self.address)))
    }

    fn frame(&self, _line: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn tcp(address: &str, limit: Duration) -> Result<Link> {
    let mut last = Error::from(ErrorKind::NotFound);
    for address in address.to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Link::new(stream, Framing::Stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn udp(address: &str) -> Result<Link> {
    let mut last = Error::from(ErrorKind::NotFound);
    for address in address.to_socket_addrs()?.take(ADDRESSES_MAX) {
        let here = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        match UdpSocket::bind(here).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => return Ok(Link::new(socket, Framing::Datagram)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to a unix socket without waiting: one whose queue of callers is full hangs, too.
pub(crate) fn unix(path: &str, framing: Framing) -> Result<Link> {
    let kind = match framing {
        Framing::Datagram => SocketType::DGRAM,
        Framing::Stream => SocketType::STREAM,
    };
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(Link::new(socket, framing))
}

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

#[cfg(test)]
mod tests;
