//! The OpenAPI document that the server serves: valid, good enough for a client made from it, and true of whatever schemathesis makes up.
//!
//! `DAYPASS_SCHEMATHESIS_SECONDS` sets how long schemathesis tries, 60 unless set.

use super::clients::session;
use super::{Tally, Verdict};
use crate::install::python;
use crate::process::Log;
use crate::project::Project;
use std::process::Command;
use std::time::Duration;

pub(super) fn run(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let seconds = match std::env::var("DAYPASS_SCHEMATHESIS_SECONDS") {
        Ok(text) => text.parse().map_err(|e| format!("DAYPASS_SCHEMATHESIS_SECONDS is {text:?}, no number of seconds: {e}"))?,
        Err(_) => 60,
    };
    run_for(project, log, seconds).map(Verdict::Ran)
}

/// With schemathesis for so many seconds.
pub(crate) fn run_for(project: &Project, log: &mut Log, seconds: u64) -> Result<Tally, String> {
    let bin = python::ensure(project, log)?;
    // Built now, so that building takes none of the sessions' time.
    drop(project.daypass(log)?);
    let mut all = Tally::default();
    for (name, program, limit) in [("openapi", "session.py", 240), ("schemathesis", "try_all.py", seconds + 240)] {
        log.step(&format!("{program}: at most {limit} s"));
        log.limit(Duration::from_secs(limit));
        let mut command = Command::new(bin.join("python"));
        command.arg("-B").arg(project.root.join("tests/clients/openapi").join(program));
        command.env("DAYPASS_SCHEMATHESIS_SECONDS", seconds.to_string());
        if let Verdict::Ran(tally) = session(project, log, name, &mut command)? {
            all.passed += tally.passed;
            all.failed += tally.failed;
        }
    }
    Ok(all)
}
