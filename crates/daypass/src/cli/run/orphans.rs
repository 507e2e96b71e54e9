//! What the first process of a container owes to the others: children that were left behind become its own, and stay as zombies until it waits for them.

use std::fs;
use std::io::Read as _;

use rustix::process::{Pid, WaitOptions, waitpid};

/// No more is read of the list of children: a hundred thousand of them.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// Waits for all children that have ended but the command, whose end is waited for elsewhere. Only for process 1.
pub(super) fn reap(command: Pid) {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(Result::ok);
    for thread in threads {
        let mut list = String::new();
        let Ok(file) = fs::File::open(thread.path().join("children")) else { continue };
        // What was not read is tried again when the next child ends.
        let _rest = file.take(LIST_BYTES_MAX).read_to_string(&mut list);
        for child in others(&list, command) {
            // By its number, never "any child": the command's end must not be taken from who waits for it.
            let _running = waitpid(Some(child), WaitOptions::NOHANG);
        }
    }
}

fn others(list: &str, command: Pid) -> impl Iterator<Item = Pid> {
    let pids = list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw));
    pids.filter(move |pid| *pid != command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_not_among_the_others() {
        let found: Vec<i32> = others("7 12 123 \n", Pid::from_raw(12).unwrap()).map(Pid::as_raw_pid).collect();
        assert_eq!(found, [7, 123]);
        assert_eq!(others("", Pid::INIT).count(), 0);
    }
}
