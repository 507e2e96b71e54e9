//! `docs/compatibility.md`: what becomes of every endpoint of Vault here. Nothing is claimed: a server is asked for each.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::doors::furnish;
use crate::{Answer, Ask, TestServer, every_mount};

/// The page, from the list of Vault's endpoints (`tests/compatibility/vault-1.21.txt`), the deliberate differences
/// (`tests/compatibility/different.txt`) and those from recorded answers (`tests/conformance/differences.txt`).
pub async fn page(reference: &str, different: &str, recorded: &str) -> String {
    let asked = Asked { server: every_mount().await };
    let mut parts: Vec<(&str, Vec<Row>)> = Vec::new();
    for line in reference.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            parts.push((name, Vec::new()));
        } else if let Some((name, rows)) = parts.last_mut() {
            rows.extend(asked.row(name, line).await);
        }
    }
    written(&parts, different, recorded)
}

/// What was found out about a path.
struct Row {
    methods: String,
    path: String,
    works: Vec<String>,
    absent: Vec<String>,
    remarks: Vec<String>,
}

struct Asked {
    server: TestServer,
}

impl Asked {
    async fn row(&self, part: &str, line: &str) -> Vec<Row> {
        let mut words = line.split_whitespace();
        let (methods, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let flags: Vec<&str> = words.collect();
        if methods == "TYPES" {
            let mut rows = Vec::new();
            for kind in flags.iter().filter(|kind| **kind != "enterprise") {
                rows.push(self.kind(path, kind, flags.contains(&"enterprise")).await);
            }
            return rows;
        }
        let mut row =
            Row { methods: methods.replace(',', ", "), path: path.to_owned(), works: Vec::new(), absent: Vec::new(), remarks: Vec::new() };
        for flag in ["enterprise", "optional"] {
            if flags.contains(&flag) {
                row.remarks.push(if flag == "enterprise" { "Vault Enterprise" } else { "in Vault, only where configured" }.to_owned());
            }
        }
        let place = place(part, path);
        for method in methods.split(',') {
            let answer = self.ask(method, &place).await.token(&self.server.operator().await).await;
            self.unseal_again().await;
            if is_absent(&answer) {
                row.absent.push(method.to_owned());
                continue;
            }
            row.works.push(method.to_owned());
            row.remarks.extend(self.rights(method, &place, &flags).await);
        }
        row.remarks.sort();
        row.remarks.dedup();
        vec![row]
    }

    /// Whether a type that Vault has can be mounted.
    async fn kind(&self, class: &str, kind: &str, enterprise: bool) -> Row {
        let place = if class == "auth" { "sys/auth" } else { "sys/mounts" };
        let answer = self.server.put(&format!("{place}/other-{kind}"), json!({ "type": kind })).await;
        let path = if class == "auth" { format!("auth/{kind}/...") } else { format!("{kind}/...") };
        let mut row = Row { methods: "all".to_owned(), path, works: Vec::new(), absent: Vec::new(), remarks: Vec::new() };
        if answer.status < 300 {
            row.works.push("mount".to_owned());
        } else {
            row.absent.push("mount".to_owned());
        }
        if enterprise {
            row.remarks.push("Vault Enterprise".to_owned());
        }
        row
    }

    /// The request; what it is about is there.
    async fn ask(&self, method: &str, path: &str) -> Ask {
        furnish(&self.server, path).await;
        match method {
            "POST" => self.server.put(path, json!({})),
            "PATCH" => self.server.patch(path, json!({})),
            method => self.server.ask(method, path),
        }
    }

    /// Where other rights are needed than in Vault.
    async fn rights(&self, method: &str, path: &str, flags: &[&str]) -> Vec<String> {
        let mut remarks = Vec::new();
        let stranger = self.ask(method, path).await.nobody().await.status != 403;
        self.unseal_again().await;
        if stranger && !flags.contains(&"unauth") {
            remarks.push("needs no token here".to_owned());
        } else if !stranger && flags.contains(&"unauth") && !path.starts_with("sys/internal/ui/mounts/") {
            remarks.push("needs a token here".to_owned());
        }
        if !stranger {
            let all = r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }"#;
            self.server.policy("all-but-sudo", all).await;
            let token = self.server.token(json!({ "policies": ["all-but-sudo"], "no_default_policy": true })).await;
            let refused = self.ask(method, path).await.token(&token).await.status == 403;
            self.unseal_again().await;
            if refused && !flags.contains(&"sudo") {
                remarks.push("needs sudo here".to_owned());
            } else if !refused && flags.contains(&"sudo") {
                remarks.push("needs no sudo here".to_owned());
            }
        }
        remarks
    }

    async fn unseal_again(&self) {
        if self.server.get("sys/seal-status").await["sealed"] == true {
            self.server.unseal().await;
        }
    }
}

/// The path on our server, with samples for its parameters.
fn place(part: &str, path: &str) -> String {
    let mount = match part {
        "kv 1" => ("kv/", "x-kv/"),
        "kv 2" => ("kv/", "x-kv-2/"),
        "auth/token" | "cubbyhole" | "identity" => ("", ""),
        _ if part.starts_with("sys") => ("", ""),
        _ => match part.strip_prefix("auth/") {
            Some(_) => ("auth/", "auth/x-"),
            None => ("", "x-"),
        },
    };
    let path = format!("{}{}", mount.1, path.strip_prefix(mount.0).unwrap_or(path));
    let filled = path.split('/').map(|segment| match segment {
        "{type}" => "secret",
        "{path}" if path.starts_with("sys/internal/ui/mounts") => "cubbyhole",
        "{bytes}" => "16",
        "{algorithm}" => "sha2-256",
        "{source}" if path.contains("random") => "platform",
        "{form}" => "plaintext",
        segment if segment.starts_with('{') => "sample",
        segment => segment,
    });
    filled.collect::<Vec<_>>().join("/")
}

/// Whether an answer says that there is no such path or operation. A removed path is one: Vault says the same of it.
fn is_absent(answer: &Answer) -> bool {
    let text = answer.text("/errors/0");
    let nowhere = ["unsupported path", "no handler for route", "enterprise-only feature"].iter().any(|words| text.contains(words));
    answer.status == 405 || (answer.status == 404 && nowhere)
}

fn written(parts: &[(&str, Vec<Row>)], different: &str, recorded: &str) -> String {
    let all = || parts.iter().flat_map(|(_, rows)| rows);
    let (works, absent) = (all().map(|row| row.works.len()).sum::<usize>(), all().map(|row| row.absent.len()).sum::<usize>());
    let of_enterprise = |row: &&Row| row.remarks.iter().any(|remark| remark.starts_with("Vault Enterprise"));
    let as_there: usize = all().filter(of_enterprise).map(|row| row.absent.len()).sum();
    let mut page = String::from("# Compatibility with Vault 1.21\n\n");
    page.push_str("`cargo xtask generate` writes this page: it asks a server for every path of `tests/compatibility/vault-1.21.txt`, with each method.\n");
    page.push_str("*Works* means that the path takes the method; the recorded answers (`cargo xtask test --only conformance`) compare what comes back.\n");
    page.push_str("*Answers as absent* means 404 `unsupported path`, 404 `enterprise-only feature` or 405, as Vault does for paths it does not have; for a type\n");
    page.push_str("of mount it means that mounting it is refused.\n\n");
    let _infallible = write!(
        page,
        "| | operations |\n|---|---:|\n| work | {works} |\n| answer as absent | {absent} |\n| of these absent from Vault's community build too | {as_there} |\n"
    );
    page.push_str("\n## Deliberately different\n\n");
    for line in lines(different) {
        let _infallible = writeln!(page, "- {line}");
    }
    page.push_str("\nDifferences from recorded answers, each with its reason:\n\n");
    let mut any = false;
    for line in lines(recorded) {
        let mut words = line.splitn(3, ' ');
        if let (Some(_), Some(name), Some(reason)) = (words.next(), words.next(), words.next()) {
            let _infallible = writeln!(page, "- `{name}`: {reason}");
            any = true;
        }
    }
    if !any {
        page.push_str("- none\n");
    }
    for (name, rows) in parts {
        let _infallible = write!(page, "\n## {name}\n\n| path | methods | here | remarks |\n|---|---|---|---|\n");
        for row in rows {
            let _infallible = writeln!(page, "| `{}` | {} | {} | {} |", row.path, row.methods, row.state(), row.remarks.join("; "));
        }
    }
    page
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Row {
    fn state(&self) -> String {
        match (self.works.is_empty(), self.absent.is_empty()) {
            (false, true) => "works".to_owned(),
            (true, _) => "answers as absent".to_owned(),
            (false, false) => format!("works; absent: {}", self.absent.join(", ")),
        }
    }
}

/// For the reader of a failed comparison: the first line that differs.
#[must_use]
pub fn first_difference(old: &str, new: &str) -> Option<Value> {
    let longest = old.lines().count().max(new.lines().count());
    let (mut old, mut new) = (old.lines(), new.lines());
    (0..longest).find_map(|number| {
        let pair = (old.next().unwrap_or_default(), new.next().unwrap_or_default());
        (pair.0 != pair.1).then(|| json!({ "line": number + 1, "was": pair.0, "is": pair.1 }))
    })
}
