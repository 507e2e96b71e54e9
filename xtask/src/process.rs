//! Running other programs: output into a log, a word now and then for the person who waits, an end to what hangs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The log of one stage. What it runs writes there; the terminal sees steps and, when a step takes long, its last line.
pub(crate) struct Log {
    path: PathBuf,
    name: String,
    file: File,
    limit: Duration,
}

impl Log {
    pub(crate) fn create(path: &Path, name: &str) -> Result<Self, String> {
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path);
        let file = file.map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(Self { path: path.to_path_buf(), name: name.to_owned(), file, limit: Duration::from_mins(20) })
    }

    /// Time that one command may take before it is ended.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says what begins now, to the person and to the log.
    pub(crate) fn step(&mut self, what: &str) {
        println!("        {what}");
        self.note(&format!("== {what}"));
    }

    /// A line for the log alone. A log that cannot be written is no reason to fail what it tells about.
    pub(crate) fn note(&mut self, line: &str) {
        if let Err(error) = writeln!(self.file, "{line}") {
            eprintln!("xtask: {}: {error}", self.path.display());
        }
    }

    /// Runs to the end; an error when it fails, with its last lines.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<String, String> {
        let (status, text) = self.finish(command)?;
        if status.success() { Ok(text) } else { Err(format!("{} ended with {status}\n{}", describe(command), telling_lines(&text, 25))) }
    }

    /// Runs to the end and returns how it ended and what it printed on both streams.
    pub(crate) fn finish(&mut self, command: &mut Command) -> Result<(ExitStatus, String), String> {
        self.note(&format!("$ {}", describe(command)));
        let start = self.file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
        let mut child = self.spawn(command)?;
        let began = Instant::now();
        let mut spoken = began;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(format!("waiting for {}: {error}", describe(command))),
            }
            if began.elapsed() > self.limit {
                end_tree(&mut child);
                return Err(format!(
                    "{} did not end within {} s and was ended\n{}",
                    describe(command),
                    self.limit.as_secs(),
                    last_lines(&self.since(start), 25)
                ));
            }
            if spoken.elapsed() > Duration::from_secs(20) {
                spoken = Instant::now();
                let text = self.since(start);
                let line: String = text.lines().last().unwrap_or_default().trim().chars().take(90).collect();
                println!("        {} {} s: {line}", self.name, began.elapsed().as_secs());
            }
            std::thread::sleep(Duration::from_millis(30));
        };
        Ok((status, self.since(start)))
    }

    /// Starts a command that writes into this log.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<Child, String> {
        let out = self.file.try_clone().map_err(|e| e.to_string())?;
        let errors = self.file.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        command.spawn().map_err(|e| format!("{} did not start: {e}", describe(command)))
    }

    /// What was written since that offset. The file is opened anew: its children share our own offset.
    fn since(&self, start: u64) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(start))?;
            file.read_to_end(&mut text)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("{}: {error}", self.path.display()),
        }
    }
}

/// The command as a person would type it. Arguments carry no secrets here.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(count)).map(|l| format!("        | {l}")).collect::<Vec<_>>().join("\n")
}

/// The last lines, without cargo's progress: what went wrong comes first where a reader gets the beginning alone.
fn telling_lines(text: &str, count: usize) -> String {
    let progress = ["Compiling ", "Checking ", "Documenting ", "Downloaded ", "Downloading ", "Fresh "];
    let telling: Vec<&str> = text.lines().filter(|line| !progress.iter().any(|word| line.trim_start().starts_with(word))).collect();
    if telling.iter().all(|line| line.trim().is_empty()) { last_lines(text, count) } else { last_lines(&telling.join("\n"), count) }
}

/// Bytes that are free where a folder lies; none where `df` cannot tell.
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let output = Command::new("df").args(["-P", "-k"]).arg(folder).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kibibytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Ends a process and all that it started. Children stay in our process group, so that Ctrl-C reaches them; a group of
/// their own would be easier to end and easier to leave behind.
pub(crate) fn end_tree(child: &mut Child) {
    for pid in descendants(child.id()) {
        // One that ended in the meantime is no error.
        drop(Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status());
    }
    drop(child.kill());
    drop(child.wait());
}

fn descendants(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may hold anything, so count from the last one: state, then parent.
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).and_then(|p| p.parse::<u32>().ok());
        if let Some(parent) = parent {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        next += 1;
    }
    found.remove(0);
    found
}

/// True where a program of that name can be run.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_without_cargos_progress() {
        let text = "   Compiling one v1.0.0\nerror: no space left\n   Compiling two v1.0.0\n";
        assert_eq!(telling_lines(text, 25), "        | error: no space left");
        assert_eq!(telling_lines("   Compiling one v1.0.0\n", 25), "        |    Compiling one v1.0.0");
    }

    #[test]
    fn the_free_space_of_a_folder_is_known() {
        assert!(free_space(&std::env::temp_dir()).is_some());
        assert!(free_space(Path::new("/no/such/folder")).is_none());
    }
}
