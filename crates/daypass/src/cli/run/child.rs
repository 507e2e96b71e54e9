//! The command's process: it has our stdin, stdout and stderr, gets the signals that we get, and its end is ours.
//!
//! Where there is a terminal it shares our process group: the shell stops, resumes and ends its jobs by their groups, and we may be one part of a pipeline or
//! a script. Where there is none it has a group of its own: who signals our whole group would reach it twice else, and some programs take a second signal
//! for "at once".

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::task::Poll;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

use super::{orphans, terminal};
use crate::cli::{Failure, Outcome};

/// What is passed on.
const SIGNALS: [Signal; 6] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];
/// What stops and resumes a command of its own group: to us alone they would do nothing to it.
const STOPS: [Signal; 2] = [Signal::TSTP, Signal::CONT];

/// The command while it runs.
pub(super) struct Running {
    child: Child,
    group: Group,
    signals: Vec<(Signal, unix::Signal)>,
}

/// Which process group the command is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Ours,
    Own,
}

impl Running {
    /// Starts it. From before its start no signal ends us: it would be left alone.
    pub(super) fn start(mut command: Command, program: &str) -> Result<Self, Failure> {
        let unwatched = |error: io::Error| Failure::server(format!("signals cannot be watched: {error}"));
        let group = if terminal::exists() { Group::Ours } else { Group::Own };
        let stops = STOPS.into_iter().filter(|_| group == Group::Own);
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let watch = |signal: Signal| unix::signal(SignalKind::from_raw(signal.as_raw())).map(|watched| (signal, watched));
        let passed_on = SIGNALS.into_iter().chain(stops).filter(|signal| ignored & bit(*signal) == 0);
        let signals = passed_on.chain([Signal::CHILD]).map(watch).collect::<Result<_, _>>().map_err(unwatched)?;
        if group == Group::Own {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|error| not_started(program, &error))?;
        Ok(Self { child, group, signals })
    }

    /// Waits for its end and passes signals on meanwhile.
    pub(super) async fn ended(&mut self) -> Outcome {
        let Self { child, group, signals } = self;
        loop {
            tokio::select! {
                status = child.wait() => {
                    let status = status.map_err(|error| Failure::server(format!("the command's end cannot be waited for: {error}")))?;
                    return Ok(exit_code(status));
                }
                signal = next(signals) => if let Some(pid) = pid(child) {
                    group.take(signal, pid);
                }
            }
        }
    }
}

impl Group {
    /// Deals with a signal that came to us. The command may have ended in this moment: then it reaches nobody.
    fn take(self, signal: Signal, command: Pid) {
        match (signal, self) {
            (Signal::CHILD, _) => {
                if std::process::id() == 1 {
                    orphans::reap(command);
                }
            }
            // Ctrl-C and Ctrl-\ come to the terminal's whole foreground group. Who sends them with kill cannot be told from the terminal without
            // unsafe code: while we are in the foreground they count as the terminal's.
            (Signal::INT | Signal::QUIT, Self::Ours) if terminal::is_ours() => {}
            (Signal::USR1 | Signal::USR2, _) | (_, Self::Ours) => {
                let _gone = kill_process(command, signal);
            }
            // To all that the command started, as when our group was its group.
            (_, Self::Own) => {
                let _gone = kill_process_group(command, signal);
            }
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

async fn next(signals: &mut [(Signal, unix::Signal)]) -> Signal {
    std::future::poll_fn(|cx| {
        let came = signals.iter_mut().find_map(|(signal, watched)| watched.poll_recv(cx).is_ready().then_some(*signal));
        came.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Which signals we were told to ignore, as `nohup` and shells with a job in the background do: a set of bits. The command inherits that, unless
/// we watch them. Empty where the system does not say.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

fn bit(signal: Signal) -> u64 {
    u32::try_from(signal.as_raw() - 1).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

/// As shells have it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    let why = crate::cli::data::plain(error);
    let text = format!("{program:?} cannot be run: {why}");
    if error.kind() == io::ErrorKind::NotFound {
        let hint = "is it in PATH? Words that a shell understands need one: daypass run -role=ROLE -- sh -c \"...\"";
        return Failure::say(127, text).hint(hint);
    }
    Failure::say(126, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_tells_of_the_signal() {
        assert_eq!([0, 7 << 8, 255 << 8, 9, 15].map(|raw| exit_code(ExitStatus::from_raw(raw))), [0, 7, 255, 137, 143]);
    }

    #[test]
    fn signals_that_are_ignored_stay_ignored() {
        let set = ignored("Name:\tdaypass\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\t0\n");
        let is_ignored = |signal| set & bit(signal) != 0;
        assert_eq!([Signal::HUP, Signal::INT, Signal::TERM, Signal::QUIT].map(is_ignored), [true, true, false, false]);
        assert_eq!(ignored(""), 0);
    }
}
