//! Binding: TCP addresses and unix sockets. Nothing here reads a request.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::Peer;

/// A bound socket, not yet served.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP address.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixPath),
}

/// A unix socket and the path that it made, which goes with it.
#[derive(Debug)]
pub struct UnixPath {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

/// Who may connect to a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixAccess {
    /// Permission bits, such as `0o600`.
    pub mode: u32,
    /// Its owner's number; `None`: this process's.
    pub user: Option<u32>,
    /// Its group's number; `None`: this process's.
    pub group: Option<u32>,
}

impl Default for UnixAccess {
    /// The owner alone.
    fn default() -> Self {
        Self { mode: 0o600, user: None, group: None }
    }
}

impl Listener {
    /// Binds a TCP address. Port 0 takes a free one; see [`Listener::address`].
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let said = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        Ok(Self::Tcp(TcpListener::bind(address).await.map_err(said)?))
    }

    /// Binds a port of all addresses: those of IPv4 as well as IPv6, whatever the system thinks of sockets of both, or of IPv4 alone where there is nothing else.
    pub async fn everywhere(port: u16) -> io::Result<Self> {
        match both_families(port) {
            Ok(listener) => Ok(Self::Tcp(listener)),
            // A kernel without IPv6, or one where it is switched off.
            Err(error) if no_such_family(&error) => Self::tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await,
            Err(error) => Err(error),
        }
    }

    /// Binds a unix socket. One that a dead process left behind is replaced, one that a living process serves is not, and neither is a file.
    pub async fn unix(path: &Path, access: UnixAccess) -> io::Result<Self> {
        let said = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()));
        bind_unix(path, access).await.map(Self::Unix).map_err(said)
    }

    /// Where it listens: `127.0.0.1:8200`, or a path.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string()),
            Self::Unix(socket) => socket.path.display().to_string(),
        }
    }

    /// The TCP address, with the port that was taken.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => ready!(listener.poll_accept(cx)).map(|(stream, address)| {
                // Answers are written whole; waiting for more to send would only delay them. Fails when the client is gone again.
                let _gone = stream.set_nodelay(true);
                // A socket of both families calls a client of IPv4 by an address of IPv6: it is the same client.
                (Socket::Tcp(stream), Peer::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port())))
            }),
            Self::Unix(socket) => ready!(socket.listener.poll_accept(cx)).map(|(stream, _)| (Socket::Unix(stream), Peer::Unix)),
        })
    }
}

/// A connection as it was accepted.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that belongs to no runtime, on its way from one to another.
pub(crate) enum Parted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Takes it from its runtime.
    pub(crate) fn part(self) -> io::Result<Parted> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Parted::Tcp),
            Self::Unix(stream) => stream.into_std().map(Parted::Unix),
        }
    }
}

impl Parted {
    /// Gives it to the runtime that this is called on.
    pub(crate) fn join(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Socket::Unix),
        }
    }
}

fn both_families(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    socket.listen(BACKLOG)
}

fn no_such_family(error: &io::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Clients that wait to be accepted, as the runtime's own `bind` has it.
const BACKLOG: u32 = 1024;

/// Binds beside the path and moves the socket there when its permissions are right: nobody can connect in between.
async fn bind_unix(path: &Path, access: UnixAccess) -> io::Result<UnixPath> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket: remove it, or give another path"));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
        }
        Ok(_) | Err(_) => {}
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    let moved = (|| {
        rustix::fs::chown(&beside, access.user.map(Uid::from_raw), access.group.map(Gid::from_raw))?;
        rustix::fs::chmod(&beside, Mode::from_raw_mode(access.mode & 0o777))?;
        fs::rename(&beside, path)?;
        fs::symlink_metadata(path)
    })();
    match moved {
        Ok(metadata) => Ok(UnixPath { listener, path: path.to_owned(), inode: metadata.ino() }),
        Err(error) => {
            let _left_behind = fs::remove_file(&beside);
            Err(error)
        }
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        // A newer process may have put its own socket there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_has_its_mode_and_goes_with_its_listener() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("daypass.sock");
        let listener = Listener::unix(&path, UnixAccess { mode: 0o660, ..UnixAccess::default() }).await.unwrap();
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(listener.address(), path.display().to_string());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_living_one_and_a_file_are_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("daypass.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let _living = Listener::unix(&path, UnixAccess::default()).await.unwrap();
        let error = Listener::unix(&path, UnixAccess::default()).await.unwrap_err();
        assert!(error.kind() == io::ErrorKind::AddrInUse && error.to_string().contains("daypass.sock"), "{error}");
        let file = root.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(Listener::unix(&file, UnixAccess::default()).await.is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let first = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = first.tcp_address().unwrap();
        let error = Listener::tcp(address).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
