//! How much memory the process may use: what one kind of thing may take of it at most is a share of that.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// So much of the memory may be taken by bodies, and as much by the fields that were in them: `usual` bytes, and less on a small machine or in a small
/// container.
pub(super) fn share(usual: usize) -> usize {
    // Asked for by each listener, and the same for all.
    static ALLOWED: LazyLock<Option<u64>> = LazyLock::new(|| allowed(&|path| std::fs::read_to_string(path).ok()));
    ALLOWED.and_then(|bytes| usize::try_from(bytes / SHARES).ok()).map_or(usual, |share| share.clamp(SHARE_MIN.min(usual), usual))
}

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

const SHARES: u64 = 8;
/// Less would keep ordinary requests out.
const SHARE_MIN: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed_by(files: &[(&str, &str)]) -> Option<u64> {
        allowed(&|path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned()))
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
