//! Single jars from Maven Central, kept in `target/xtask/java`.

use super::{debian, unreachable};
use crate::process::Log;
use crate::project::Project;
use std::path::PathBuf;
use std::process::Command;

/// The jar of `group:artifact:version`, which must need no other jar.
pub(crate) fn jar(project: &Project, log: &mut Log, coordinates: &str) -> Result<PathBuf, String> {
    let mut parts = coordinates.split(':').skip(1);
    let (Some(artifact), Some(version)) = (parts.next(), parts.next()) else {
        return Err(format!("not group:artifact:version: {coordinates}"));
    };
    debian::ensure(log, &[("javac", "default-jdk-headless"), ("mvn", "maven")])?;
    let folder = project.work.join("java");
    let path = folder.join(format!("{artifact}-{version}.jar"));
    if !path.is_file() {
        log.step(&format!("fetching {coordinates} from Maven Central"));
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "dependency:copy"]).arg(format!("-Dartifact={coordinates}"));
        // In a folder without a project of its own.
        maven.arg(format!("-DoutputDirectory={}", folder.display())).current_dir(&project.work);
        log.run(&mut maven).map_err(|e| unreachable(coordinates, "Maven Central", &e))?;
    }
    Ok(path)
}
