//! `cargo xtask generate`: pages that are made from the code and committed. A test compares them; `--check` does the same here.

use crate::project::{Project, cargo};

const PAGE: &str = "docs/compatibility.md";

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let project = Project::open()?;
    let mut log = project.log("generate")?;
    log.step("asking a server about every endpoint of Vault");
    let output = cargo()
        .current_dir(&project.root)
        .args(["run", "--quiet", "--package=daypass-testkit", "--example=compatibility"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo did not start: {e}"))?;
    if !output.status.success() {
        return Err("the page was not made; the reason stands above".to_owned());
    }
    let made = String::from_utf8(output.stdout).map_err(|e| format!("the page is not UTF-8: {e}"))?;
    let old = project.read(PAGE).unwrap_or_default();
    match arguments {
        ["--check"] if old == made => println!("{PAGE} is as the code says"),
        ["--check"] => return Err(format!("{PAGE} is stale: run `cargo xtask generate` and commit it")),
        [] if old == made => println!("{PAGE} was right already"),
        [] => {
            let path = project.root.join(PAGE);
            std::fs::write(&path, made).map_err(|e| format!("{}: {e}", path.display()))?;
            println!("{PAGE} written");
        }
        other => return Err(format!("cargo xtask generate has no option {}: --check", other.join(" "))),
    }
    Ok(())
}
