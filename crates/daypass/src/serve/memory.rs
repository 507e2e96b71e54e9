//! How much memory the process may use: what one kind of thing may take of it at most is a share of that.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// How many bytes the bodies and answers of each of so many listeners may take: `usual`, and less on a small machine or in a small container, where all listeners
/// together have an eighth of the memory.
pub(super) fn bodies(listeners: usize, usual: usize) -> usize {
    ALLOWED.map_or(usual, |bytes| bodies_within(bytes, listeners, usual))
}

/// How many bytes the fields of all requests under way may take: `usual`, and less where that is more than an eighth of the memory.
pub(super) fn fields(usual: usize) -> usize {
    ALLOWED.map_or(usual, |bytes| part(bytes, SHARES, JSON_MIN, usual))
}

/// How many bytes of memory one JSON body may take: `usual`, and less where that is more than a 32nd of the memory. Each processor may read one that is counted
/// only then, and the fields have room for two at least.
pub(super) fn json(usual: usize) -> usize {
    ALLOWED.map_or(usual, |bytes| json_within(bytes, usual))
}

/// How many connections each of so many listeners may have: `usual`, and fewer where what they may hold uncounted, all of them at one time, would be more than
/// there is for it: half of the memory but for what everything else needs anyhow, and a quarter of a small one.
pub(super) fn connections(listeners: usize, usual: usize) -> usize {
    let Some(bytes) = *ALLOWED else { return usual };
    let room = connections_within(bytes, listeners, usual);
    if room < usual {
        tracing::info!("a listener takes {room} connections and not {usual}: the process may use {} MiB of memory", bytes >> 20);
    }
    room
}

fn connections_within(bytes: u64, listeners: usize, usual: usize) -> usize {
    let room = (bytes / 2).saturating_sub(ANYHOW_BYTES).max(bytes / 4);
    let all = usize::try_from(room / CONNECTION_BYTES).unwrap_or(usize::MAX).max(CONNECTIONS_MIN);
    (all / listeners.max(1)).clamp(1, usual.max(1))
}

fn bodies_within(bytes: u64, listeners: usize, usual: usize) -> usize {
    let listeners = u64::try_from(listeners).unwrap_or(u64::MAX).max(1);
    part(bytes, SHARES.saturating_mul(listeners), BODIES_MIN, usual)
}

fn json_within(bytes: u64, usual: usize) -> usize {
    part(bytes, 4 * SHARES, JSON_MIN, usual)
}

/// One of so many parts, `least` at least and `usual` at most.
fn part(bytes: u64, parts: u64, least: usize, usual: usize) -> usize {
    usize::try_from(bytes / parts).unwrap_or(usize::MAX).clamp(least.min(usual), usual)
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

/// What nobody counts of a connection: over HTTP/1 the head of a request and 64 KiB of its body, over HTTP/2 as much of several, with the buffers of HTTP and
/// TLS. Of a head of 57 KB with 62 KB of a body 197 KiB were measured, over TLS 208.
const CONNECTION_BYTES: u64 = 224 << 10;
/// For all listeners together. Clients of a small server keep some dozen open.
const CONNECTIONS_MIN: usize = 256;
/// The program, the store's caches and a queue of audit lines, more or less.
const ANYHOW_BYTES: u64 = 128 << 20;
const SHARES: u64 = 8;
/// Of each listener. Half of it are for bodies, and texts in one have a megabyte at most.
const BODIES_MIN: usize = 8 << 20;
/// As many values as one object or array may have, each a small object, take less.
const JSON_MIN: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use daypass_base::Limits;

    use super::*;

    fn allowed_by(files: &[(&str, &str)]) -> Option<u64> {
        allowed(&|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned()))
    }

    /// Story: ten thousand connections that sent a long head and a part of a body took more than a gigabyte, and a container of 512 MB was killed.
    #[test]
    fn the_memory_bounds_the_connections_of_all_listeners() {
        let within = |mib: u64, listeners| connections_within(mib << 20, listeners, 10_000);
        assert_eq!([within(256, 1), within(512, 1), within(1_024, 1), within(2_048, 1)], [292, 585, 1_755, 4_096]);
        assert_eq!([within(5_000, 1), within(64_000, 1), within(4_096, 2), within(512, 3)], [10_000, 10_000, 4_388, 195]);
        assert_eq!([within(64, 1), within(64, 3), within(64, 1_000)], [256, 85, 1]);
    }

    /// What strangers can have at one time, in MiB: connections, bodies and answers, fields, and a JSON body that each of two processors reads.
    fn of_strangers(mib: u64, listeners: usize) -> usize {
        let limits = Limits::default();
        let connections = listeners * connections_within(mib << 20, listeners, limits.connections) * 224 / 1024;
        let bodies = listeners * bodies_within(mib << 20, listeners, limits.all_bodies_bytes);
        let json = json_within(mib << 20, limits.json_memory_bytes);
        let fields = part(mib << 20, SHARES, JSON_MIN, limits.all_fields_bytes).max(2 * json);
        connections + ((bodies + fields + 2 * json) >> 20)
    }

    /// Story: each listener had 64 MiB for bodies and 1,000 connections that took 208 KiB each, and fields had 128 MiB, whatever there was. A container of 256 MiB
    /// was killed by whoever sent it a thousand unfinished requests and one body of 650 KB.
    #[test]
    fn what_strangers_can_have_leaves_room_for_the_program_and_its_caches() {
        for (mib, listeners) in [(256, 1), (256, 3), (512, 1), (512, 4), (1_024, 1), (2_048, 2), (8_192, 8)] {
            let taken = of_strangers(mib, listeners);
            assert!(taken + 100 <= usize::try_from(mib).unwrap(), "{mib} MiB, {listeners} listeners: {taken}");
        }
    }

    /// The table of docs/limits.md.
    #[test]
    fn a_machine_of_two_gigabytes_has_what_it_had_and_a_small_one_less() {
        let limits = Limits::default();
        let of = |mib: u64| {
            let bodies = bodies_within(mib << 20, 1, limits.all_bodies_bytes) >> 20;
            let fields = part(mib << 20, SHARES, JSON_MIN, limits.all_fields_bytes) >> 20;
            [connections_within(mib << 20, 1, limits.connections), bodies, fields, json_within(mib << 20, limits.json_memory_bytes) >> 20]
        };
        assert_eq!(of(256), [292, 32, 32, 8]);
        assert_eq!(of(512), [585, 64, 64, 16]);
        assert_eq!(of(1_024), [1_755, 128, 128, 32]);
        assert_eq!(of(2_048), [4_096, 256, 256, 64]);
        assert_eq!(of(8_192), [10_000, 512, 512, 64]);
        assert_eq!(bodies_within(8 << 30, 2, limits.all_bodies_bytes), 512 << 20);
        assert_eq!(bodies_within(256 << 20, 100, limits.all_bodies_bytes), BODIES_MIN);
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
