//! The whole pipeline with real clients: see tests/story/README.md.

use super::{Tally, Verdict};
use crate::install::{debian, go, python};
use crate::process::{Log, on_path};
use crate::project::Project;
use std::process::Command;
use std::time::Duration;

const PROGRAMS: [debian::Wanted; 14] = [
    ("packer", "packer"),
    ("podman", "podman"),
    ("crun", "crun"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("nginx", "nginx-light"),
    ("busybox", "busybox-static"),
    ("openssl", "openssl"),
    ("jq", "jq"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("tar", "tar"),
    ("python3", "python3"),
];

pub(super) fn run(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    debian::ensure(log, &PROGRAMS)?;
    let bin = python::ensure(project, log)?;
    let mut path = vec![bin];
    if !on_path("terraform") {
        log.step("building Terraform from the Go module proxy (some minutes, once)");
        go::install(project, log, "github.com/hashicorp/terraform@v1.5.7", "terraform")?;
        path.push(project.work.join("terraform"));
    }
    let binary = project.daypass(log)?;
    log.step("Terraform, Packer, a registry behind TLS, skopeo, in namespaces of their own");
    log.limit(Duration::from_mins(10));
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    path.extend(std::env::split_paths(&inherited));
    let path = std::env::join_paths(path).map_err(|e| format!("PATH: {e}"))?;
    let mut story = Command::new("bash");
    story.arg(project.root.join("tests/story/run")).env("DAYPASS_BIN", binary).env("PATH", path);
    let (status, text) = log.finish(&mut story)?;
    let mut tally = Tally::read(&text);
    for line in text.lines().filter(|l| l.starts_with("FAIL")) {
        println!("        {line}");
    }
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
        println!("{}", crate::process::last_lines(&text, 25));
    }
    Ok(Verdict::Ran(tally))
}
