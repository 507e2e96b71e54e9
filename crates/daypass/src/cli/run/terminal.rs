//! The terminal of a command that has a process group of its own: a job in the background that the shell stops, resumes and brings to the front.
//!
//! A shell knows our group alone, so we follow the command where the terminal stops it, and hand on the terminal that the shell gave us. The shell takes
//! it back by itself when we stop or end: to do so ourselves we would have to ignore SIGTTOU, which takes unsafe code.

use std::fs::File;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, getpid, kill_process, kill_process_group, waitid};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// Whether we are in the foreground of a terminal.
pub(super) fn is_ours() -> bool {
    open().is_some_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}

/// Stops us where the terminal has stopped the command: by Ctrl-Z, or since it wanted the terminal, and we have none to hand on.
pub(super) fn follow(command: Pid) {
    let stopped = waitid(WaitId::Pid(command), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG).ok().flatten();
    let by = stopped.and_then(|status| status.stopping_signal()).and_then(Signal::from_named_raw);
    match by {
        Some(Signal::TTIN | Signal::TTOU) if is_ours() => resume(command),
        // Without a terminal nobody would resume us.
        Some(Signal::TSTP | Signal::TTIN | Signal::TTOU) if open().is_some() => {
            let _stopped = kill_process(getpid(), Signal::STOP);
        }
        _ => {}
    }
}

/// Lets the command go on, with the terminal if that is ours.
pub(super) fn resume(command: Pid) {
    if is_ours() {
        // It may have ended in this moment; so it may below.
        let _gone = open().map(|terminal| tcsetpgrp(&terminal, command));
    }
    let _gone = kill_process_group(command, Signal::CONT);
}

fn open() -> Option<File> {
    File::open("/dev/tty").ok()
}
