//! One file's text to a [`Config`].

use std::path::{Path, PathBuf};

use daypass_base::hcl::{self, Block, Form, Item, nearest};

use super::section::{Section, expected};
use super::{Config, Endpoint, Findings, Log, Seal, Storage, Telemetry, Traces, known, listener};

/// Reads a text. What cannot be read is noted; the rest is returned, so that all mistakes come to light at once.
pub(super) fn document(file: &Path, text: &str, environment: &impl Fn(&str) -> Option<String>, findings: &mut Findings) -> Config {
    let (document, errors) = hcl::parse(text);
    for error in &errors {
        findings.mistake(file, error.at.line, format!("column {}: {}", error.at.column, error.message));
    }
    // Keys of a text that could not be read whole say little about what was meant.
    if !errors.is_empty() {
        return Config::default();
    }
    for duplicate in document.duplicates() {
        findings.warning(file, duplicate.at.line, format!("{} is set twice; the later one counts", duplicate.key));
    }
    let mut top = Section::new(file, "", &document.items, 1);
    let config = Config {
        // Known to who reads them.
        files: Vec::new(),
        listeners: blocks(&mut top, "listener", document.form, findings)
            .iter()
            .filter_map(|block| listener::read(block, file, findings))
            .collect(),
        storage: storage(&mut top, document.form, environment, findings),
        seal: seal(&mut top, document.form, findings),
        api_addr: url(&mut top, "api_addr", findings),
        cluster_addr: url(&mut top, "cluster_addr", findings),
        cluster_name: top.text("cluster_name", findings),
        default_lease_ttl: top.seconds("default_lease_ttl", findings),
        max_lease_ttl: top.seconds("max_lease_ttl", findings),
        default_max_request_duration: top.seconds("default_max_request_duration", findings),
        log: log(&mut top, findings),
        ui: top.flag("ui", findings).unwrap_or_default(),
        telemetry: telemetry(&mut top, findings),
        disable_mlock: top.flag("disable_mlock", findings).unwrap_or_default(),
        pid_file: top.path("pid_file", findings),
        raw_storage_endpoint: top.flag("raw_storage_endpoint", findings).unwrap_or_default(),
        allow_audit_log_prefixing: top.flag("allow_audit_log_prefixing", findings).unwrap_or_default(),
        introspection_endpoint: top.flag("introspection_endpoint", findings).unwrap_or_default(),
        hostname_header: top.flag("enable_response_header_hostname", findings).unwrap_or_default(),
    };
    top.finish(known::TOP, findings);
    config
}

/// The blocks of a name, each with its type as label. A listener may have it as a key instead: `listener { type = "tcp" }`.
fn blocks<'a>(top: &mut Section<'a>, name: &'static str, form: Form, findings: &mut Findings) -> Vec<Block<'a>> {
    let mut found = Vec::new();
    for item in top.items(name) {
        let blocks = if name == "listener" { typed(item).unwrap_or_else(|| item.blocks(form)) } else { item.blocks(form) };
        if blocks.is_empty() && !is_empty_list(item) {
            top.wrong(item.line(), name, &expected("a block", &item.value), findings);
        }
        for block in blocks {
            match block.labels.as_slice() {
                [_] => found.push(block),
                [] => top.wrong(block.at.line, name, &format!("its type is missing; write {name} \"type\" {{ ... }}"), findings),
                _ => top.wrong(block.at.line, name, "more than one label", findings),
            }
        }
    }
    found
}

/// Blocks without labels that have their type as a key. `None` when there are none.
fn typed(item: &Item) -> Option<Vec<Block<'_>>> {
    fn kind(items: &[Item]) -> Option<&str> {
        items.iter().rev().find(|inner| inner.name() == "type")?.value.as_str()
    }
    let objects = item.value.objects();
    if item.keys.len() > 1 || objects.is_empty() {
        return None;
    }
    objects.into_iter().map(|items| Some(Block { labels: vec![kind(items)?], items, at: item.at() })).collect()
}

fn is_empty_list(item: &Item) -> bool {
    item.value.as_list().is_some_and(<[_]>::is_empty)
}

fn storage(top: &mut Section<'_>, form: Form, environment: &impl Fn(&str) -> Option<String>, findings: &mut Findings) -> Option<Storage> {
    let mut all = blocks(top, "storage", form, findings);
    // Its name in old files.
    all.extend(blocks(top, "backend", form, findings));
    if let [_, second, ..] = all.as_slice() {
        findings.mistake(top.file, second.at.line, "storage: only one is possible");
    }
    let block = all.first()?;
    let kind = block.labels.first().copied().unwrap_or_default();
    let mut section = Section::new(top.file, format!("storage {kind:?}"), block.items, block.at.line);
    let storage = match kind {
        "sqlite" => section.path("path", findings).map(|path| Storage::Sqlite { path }),
        "inmem" => Some(Storage::Memory),
        "file" => section.path("path", findings).map(|path| embedded(path, &section, findings)),
        "raft" => {
            let path = environment("RAFT_PATH").map(PathBuf::from);
            let written = section.path("path", findings);
            path.or(written).map(|path| embedded(path, &section, findings))
        }
        other => {
            findings.mistake(top.file, block.at.line, unknown_storage(other));
            return None;
        }
    };
    if storage.is_none() {
        section.wrong(block.at.line, "path", "missing", findings);
    }
    let raft = if kind == "raft" { known::RAFT_STORAGE } else { &[] };
    section.finish(&[known::STORAGE, raft].concat(), findings);
    storage
}

/// The store for stanzas of Vault's that name a directory.
fn embedded(directory: PathBuf, section: &Section<'_>, findings: &mut Findings) -> Storage {
    let path = directory.join("daypass.db");
    let text =
        format!("{}: taken as the embedded store at {}; data that Vault left there is not read", section.full("path"), path.display());
    findings.warning(section.file, section.line, text);
    Storage::Sqlite { path }
}

fn unknown_storage(kind: &str) -> String {
    const OURS: [&str; 4] = ["sqlite", "inmem", "file", "raft"];
    if known::OTHER_STORAGES.contains(&kind) {
        return format!("storage {kind:?} is one of Vault's that this server cannot use; write storage \"sqlite\" {{ path = \"...\" }}");
    }
    let hint = nearest(kind, &OURS).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    format!("storage {kind:?} is not known{hint}")
}

fn seal(top: &mut Section<'_>, form: Form, findings: &mut Findings) -> Seal {
    let mut seal = Seal::Shamir;
    // Vault's other names for the same. To read past them would leave the keys less safe than the file says.
    for block in ["seal", "hsm", "kms"].into_iter().flat_map(|name| blocks(top, name, form, findings)).collect::<Vec<_>>() {
        let kind = block.labels.first().copied().unwrap_or_default();
        let mut section = Section::new(top.file, format!("seal {kind:?}"), block.items, block.at.line);
        if section.flag("disabled", findings).unwrap_or_default() {
            continue;
        }
        match kind {
            "shamir" => section.finish(&[], findings),
            "keyfile" => {
                match section.path("path", findings) {
                    Some(path) => seal = Seal::KeyFile { path },
                    None => section.wrong(block.at.line, "path", "missing; name the file that holds the key", findings),
                }
                section.finish(&[], findings);
            }
            other if known::OTHER_SEALS.contains(&other) => {
                let text = format!(
                    "seal {other:?} is one of Vault's that this server cannot use; write seal \"keyfile\" {{ path = \"...\" }}, or none for shares"
                );
                findings.mistake(top.file, block.at.line, text);
            }
            other => findings.mistake(top.file, block.at.line, format!("seal {other:?}: only \"shamir\" and \"keyfile\" are known")),
        }
    }
    seal
}

fn url(top: &mut Section<'_>, key: &'static str, findings: &mut Findings) -> Option<String> {
    let address = top.text(key, findings)?;
    match super::wrong_url(key, &address) {
        None => Some(address),
        Some(wrong) => {
            findings.mistake(top.file, top.line_of(key), wrong);
            None
        }
    }
}

fn log(top: &mut Section<'_>, findings: &mut Findings) -> Log {
    let level = top.text("log_level", findings).and_then(|text| {
        let level = text.trim().to_lowercase();
        let known = match level.as_str() {
            "trace" | "debug" | "info" | "warn" | "error" => Some(level),
            "notice" => Some("info".to_owned()),
            "warning" => Some("warn".to_owned()),
            "err" => Some("error".to_owned()),
            _ => None,
        };
        if known.is_none() {
            let wrong = format!("{text:?} is not known; write trace, debug, info, warn or error");
            top.wrong(top.line_of("log_level"), "log_level", &wrong, findings);
        }
        known
    });
    let json = top.text("log_format", findings).and_then(|text| match text.trim().to_lowercase().as_str() {
        "json" => Some(true),
        "standard" => Some(false),
        _ => {
            top.wrong(top.line_of("log_format"), "log_format", &format!("{text:?} is not known; write standard or json"), findings);
            None
        }
    });
    Log {
        level,
        json,
        file: top.path("log_file", findings),
        rotate_bytes: top.number("log_rotate_bytes", findings),
        rotate_after: top.seconds("log_rotate_duration", findings),
        rotate_files_max: top.number("log_rotate_max_files", findings),
    }
}

fn telemetry(top: &mut Section<'_>, findings: &mut Findings) -> Telemetry {
    let Some(mut section) = top.inner("telemetry", findings) else { return Telemetry::default() };
    let telemetry = Telemetry {
        prometheus_retention: section.seconds("prometheus_retention_time", findings),
        disable_hostname: section.flag("disable_hostname", findings).unwrap_or_default(),
        prefix: section.text("metrics_prefix", findings),
        traces: traces(&mut section, findings),
    };
    section.finish(known::TELEMETRY, findings);
    telemetry
}

/// Where traces go. A share alone is a mistake: whoever writes it believes that there are traces.
fn traces(section: &mut Section<'_>, findings: &mut Findings) -> Option<Traces> {
    let ratio = section.share("otlp_traces_ratio", findings);
    let Some(text) = section.text("otlp_traces_endpoint", findings) else {
        if ratio.is_some() {
            section.wrong(
                section.line_of("otlp_traces_ratio"),
                "otlp_traces_ratio",
                "there are no traces without otlp_traces_endpoint",
                findings,
            );
        }
        return None;
    };
    match Endpoint::parse(&text) {
        Ok(endpoint) => Some(Traces { endpoint, ratio }),
        Err(wrong) => {
            section.wrong(section.line_of("otlp_traces_endpoint"), "otlp_traces_endpoint", &wrong, findings);
            None
        }
    }
}
