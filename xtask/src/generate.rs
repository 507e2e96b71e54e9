//! `cargo xtask generate`: pages that are made from the code and committed. A test compares them; `--check` does the same here.

use crate::process::Log;
use crate::project::{Project, cargo};

/// Each page, and the example of the testkit that prints it.
const PAGES: [(&str, &str); 2] = [("docs/compatibility.md", "compatibility"), ("docs/aws.md", "fields")];

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let check = match arguments {
        ["--check"] => true,
        [] => false,
        other => return Err(format!("cargo xtask generate has no option {}: --check", other.join(" "))),
    };
    let project = Project::open()?;
    let mut log = project.log("generate")?;
    for (page, example) in PAGES {
        let made = made(&project, &mut log, page, example)?;
        if project.read(page).unwrap_or_default() == made {
            println!("{page} is as the code says");
        } else if check {
            return Err(format!("{page} is stale: run `cargo xtask generate` and commit it"));
        } else {
            let path = project.root.join(page);
            std::fs::write(&path, made).map_err(|e| format!("{}: {e}", path.display()))?;
            println!("{page} written");
        }
    }
    Ok(())
}

/// The page as a server says it.
fn made(project: &Project, log: &mut Log, page: &str, example: &str) -> Result<String, String> {
    log.step(&format!("asking a server for {page}"));
    let output = cargo()
        .current_dir(&project.root)
        .args(["run", "--quiet", "--package=daypass-testkit", "--example", example])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo did not start: {e}"))?;
    if !output.status.success() {
        return Err(format!("{page} was not made; the reason stands above"));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{page} is not UTF-8: {e}"))
}
