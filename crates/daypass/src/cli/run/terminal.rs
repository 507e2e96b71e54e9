//! The terminal that we may have.

use std::fs::File;

use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// Whether there is a terminal, be we in its foreground or not.
pub(super) fn exists() -> bool {
    open().is_some()
}

/// Whether we are in the foreground of a terminal.
pub(super) fn is_ours() -> bool {
    open().is_some_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}

fn open() -> Option<File> {
    File::open("/dev/tty").ok()
}
