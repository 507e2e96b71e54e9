//! What a service manager that waits for it is told: systemd's protocol, sd_notify(3).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::ClockId;

/// The server serves, or serves again after it has read its files anew.
pub(in crate::serve) fn notify_ready() {
    notify("READY=1");
}

/// The server ends what it has begun, and then itself.
pub(in crate::serve) fn notify_stopping() {
    notify("STOPPING=1");
}

/// Files are read anew; [`notify_ready`] follows. A manager knows by the time that this answers its own signal.
pub(super) fn notify_reloading() {
    // The machine's clock and not ours: the manager compares it with its own.
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

fn notify(state: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = address(&place).and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, state, "the service manager cannot be told");
    }
}

/// A path, or after an at sign a name that is in no directory.
fn address(place: &OsStr) -> io::Result<SocketAddr> {
    match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: a manager that listens at an abstract name, as those in containers do, was never told that the server was ready.
    #[test]
    fn a_manager_listens_at_a_path_or_at_a_name_in_no_directory() {
        assert_eq!(address(OsStr::new("@a/b")).unwrap().as_abstract_name(), Some(&b"a/b"[..]));
        assert_eq!(address(OsStr::new("/run/notify")).unwrap().as_pathname(), Some(std::path::Path::new("/run/notify")));
    }
}
