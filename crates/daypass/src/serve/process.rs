//! The process: its memory, its signals.

mod manager;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daypass_core::Core;
use daypass_server::Reloader;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::log::ServerLog;
pub(super) use manager::{notify_ready, notify_stopping};

/// No core dumps, no debugger, no swap, and as many open files as may be: what can be had of it.
pub(super) fn harden(leave_memory: bool) {
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be switched off");
    }
    if let Err(error) = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "the limit on core dumps cannot be set");
    }
    allow_files();
    if leave_memory {
        return;
    }
    // With a limit in force, locking what will be mapped later would make ordinary allocations fail.
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none() || rustix::process::geteuid().is_root();
    if !unlimited {
        tracing::warn!(
            "memory is not locked: the limit on locked memory is too low (LimitMEMLOCK=infinity lifts it; disable_mlock=true silences this)"
        );
        return;
    }
    let flags = rustix::mm::MlockAllFlags::CURRENT | rustix::mm::MlockAllFlags::FUTURE | rustix::mm::MlockAllFlags::ONFAULT;
    if let Err(error) = rustix::mm::mlockall(flags) {
        tracing::warn!(%error, "memory cannot be locked: secrets may be written to swap; switch swap off or encrypt it");
    }
}

/// Takes the open files that the process may have: the limit that a shell or a service manager gives at first is mostly 1024, for the sake of
/// programs of old, and a thousand silent connections would use it up.
fn allow_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |maximum| maximum.min(FILES));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
}

/// How many connections each of so many listeners may have, so that all together leave open files for the store, the audit devices, AWS and others.
pub(super) fn room_for_connections(listeners: usize, wanted: usize) -> usize {
    let files =
        rustix::process::getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let room = share(files, listeners);
    if room < wanted {
        tracing::warn!(
            "a listener takes {room} connections and not {wanted}: the process may open {files} files, {FILES_RESERVED} of which are kept for \
             other uses (LimitNOFILE= or ulimit -Hn lifts that)"
        );
    }
    room.min(wanted)
}

fn share(files: usize, listeners: usize) -> usize {
    (files.saturating_sub(FILES_RESERVED) / listeners.max(1)).max(1)
}

/// The process id in a file, for as long as the process lives.
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    pub(super) fn write(path: &Path) -> Result<Self, String> {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| format!("The pid file {} cannot be written: {error}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Whatever else has come under this name stays: a device, a pipe, the file of a newer process.
    fn remove(&self) -> std::io::Result<()> {
        let path = std::fs::canonicalize(&self.path)?;
        if !std::fs::metadata(&path)?.is_file() || std::fs::read_to_string(&path)?.trim() != std::process::id().to_string() {
            return Ok(());
        }
        std::fs::remove_file(path)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(path = %self.path.display(), %error, "the pid file cannot be removed");
        }
    }
}

/// What signals act on.
pub(super) struct Hooks {
    pub(super) reloaders: Vec<Arc<Reloader>>,
    pub(super) core: Core,
    pub(super) log: Arc<ServerLog>,
}

/// The signals of this process. From when this is made they no longer end it by themselves; one that comes before anyone waits is kept.
pub(super) struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Without a meaning here. They would end the process otherwise, and scripts send them: Vault answers SIGUSR2 by telling where it is.
    user: [Signal; 2],
}

impl Signals {
    pub(super) fn watch() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("Signals cannot be watched: {error}"));
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            user: [listen(SignalKind::user_defined1())?, listen(SignalKind::user_defined2())?],
        })
    }

    /// Waits for SIGTERM or SIGINT.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP reads certificates again and reopens the log file and audit files.
    pub(super) async fn wait(&mut self, hooks: &Hooks) {
        let [user1, user2] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(hooks).await,
                _ = user1.recv() => tracing::info!("SIGUSR1 means nothing here"),
                _ = user2.recv() => tracing::info!("SIGUSR2 means nothing here"),
            }
        }
    }
}

async fn reload(hooks: &Hooks) {
    manager::notify_reloading();
    // First, so that what follows is told to the new one.
    if let Err(error) = hooks.log.reopen() {
        tracing::error!(%error, "the log goes on into the file that is open");
    }
    tracing::info!("SIGHUP: certificates are read again, the log file and audit files reopened");
    for reloader in &hooks.reloaders {
        if let Err(error) = reloader.reload() {
            tracing::error!(%error, "new certificates cannot be used; the old ones stay");
        }
    }
    hooks.core.reopen_audit().await;
    notify_ready();
}

/// Enough for six listeners with all their connections. More would be a burden on programs that the server starts, some of which close each
/// file that there could be.
const FILES: u64 = 65_536;
/// Open files that are no connections of clients.
const FILES_RESERVED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_the_open_files_that_are_not_needed_otherwise() {
        assert_eq!([(1024, 1), (1024, 2), (65_536, 6), (100, 3)].map(|(files, listeners)| share(files, listeners)), [768, 384, 10_880, 1]);
    }
}
