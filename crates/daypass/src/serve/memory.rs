//! How much memory the process may use: what one kind of thing may take of it at most is a share of that.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// So much of the memory may be taken by bodies, and as much by the fields that were in them: `usual` bytes, and less on a small machine or in a small
/// container.
pub(super) fn share(usual: usize) -> usize {
    ALLOWED.and_then(|bytes| usize::try_from(bytes / SHARES).ok()).map_or(usual, |share| share.clamp(SHARE_MIN.min(usual), usual))
}

/// How many connections each of so many listeners may have: `usual`, and fewer where what they may hold uncounted, all of them at one time, would be more than a
/// quarter of the memory.
pub(super) fn connections(listeners: usize, usual: usize) -> usize {
    let Some(bytes) = *ALLOWED else { return usual };
    let room = connections_within(bytes, listeners, usual);
    if room < usual {
        tracing::info!("a listener takes {room} connections and not {usual}: the process may use {} MiB of memory", bytes >> 20);
    }
    room
}

fn connections_within(bytes: u64, listeners: usize, usual: usize) -> usize {
    let all = usize::try_from(bytes / 4 / CONNECTION_BYTES).unwrap_or(usize::MAX);
    (all / listeners.max(1)).clamp(CONNECTIONS_MIN.min(usual), usual)
}

/// Asked for by each listener, and the same for all.
static ALLOWED: LazyLock<Option<u64>> = LazyLock::new(|| allowed(&|path| std::fs::read_to_string(path).ok()));

/// The least of what the machine has and of what the process's control groups allow, in bytes. `None` where nothing tells.
/// Source: proc(5), cgroups(7), the kernel's cgroup-v2 page (`memory.max`).
fn allowed(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let meminfo = read(Path::new("/proc/meminfo"));
    let machine = meminfo.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(group).flat_map(|(root, file, own)| {
        // A limit of a group above holds as well.
        let folders = own.ancestors().map(move |folder| Path::new(root).join(folder.strip_prefix("/").unwrap_or(folder)).join(file));
        folders.filter_map(|path| read(&path)?.trim().parse::<u64>().ok()).collect::<Vec<_>>()
    });
    limits.chain(machine).min()
}

/// Of a line of `/proc/self/cgroup`: where the memory controller's groups are, which file has the limit, and which group is the process's.
fn group(line: &str) -> Option<(&'static str, &'static str, PathBuf)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, own) = (parts.next()?, PathBuf::from(parts.next()?));
    if controllers.is_empty() {
        return Some(("/sys/fs/cgroup", "memory.max", own));
    }
    controllers.split(',').any(|name| name == "memory").then_some(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", own))
}

/// What nobody counts of a connection: over HTTP/1 the head of a request and 64 KiB of its body, over HTTP/2 as much of several.
const CONNECTION_BYTES: u64 = 128 << 10;
/// Clients of a small server keep some hundred open.
const CONNECTIONS_MIN: usize = 1_000;
const SHARES: u64 = 8;
/// Less would keep ordinary requests out.
const SHARE_MIN: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed_by(files: &[(&str, &str)]) -> Option<u64> {
        allowed(&|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned()))
    }

    /// Story: ten thousand connections that sent a long head and a part of a body took more than a gigabyte, and a container of 512 MB was killed.
    #[test]
    fn the_memory_bounds_the_connections_of_all_listeners() {
        let within = |mib: u64, listeners| connections_within(mib << 20, listeners, 10_000);
        assert_eq!([within(256, 1), within(512, 1), within(2_048, 1), within(4_096, 1)], [1_000, 1_024, 4_096, 8_192]);
        assert_eq!([within(5_000, 1), within(64_000, 1), within(4_096, 2), within(512, 3)], [10_000, 10_000, 4_096, 1_000]);
    }

    #[test]
    fn the_least_of_machine_and_groups_holds() {
        let machine = ("/proc/meminfo", "MemFree: 5 kB\nMemTotal:       8388608 kB\n");
        assert_eq!(allowed_by(&[]), None);
        assert_eq!(allowed_by(&[machine]), Some(8 << 30));
        assert_eq!(allowed_by(&[machine, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "536870912\n")]), Some(512 << 20));
        let above = [
            machine,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000"),
        ];
        assert_eq!(allowed_by(&above), Some(1000));
        let old = [machine, ("/proc/self/cgroup", "5:cpu:/x\n4:memory:/x\n"), ("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4096")];
        assert_eq!(allowed_by(&old), Some(4096));
        assert_eq!(allowed_by(&[machine, ("/proc/self/cgroup", "nonsense\n::\n0::\n")]), Some(8 << 30));
    }
}
