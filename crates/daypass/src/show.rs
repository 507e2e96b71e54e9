//! Everything that the command line prints goes through here: data to stdout, all else to stderr.
//!
//! [`value`] is the data, [`table`] and [`yaml`] lay it out. Nothing here talks to a server.

pub(crate) mod table;
pub(crate) mod value;
pub(crate) mod yaml;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fstat};

use crate::client::answer::Answer;
use value::Value;

/// How data is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON with two spaces a level.
    Json,
    /// The body as the server sent it; `read` only.
    Raw,
    /// Columns for people.
    Table,
    /// YAML.
    Yaml,
}

impl Format {
    /// Reads the value of `-format`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "json" => Self::Json,
            "raw" => Self::Raw,
            "table" | "" => Self::Table,
            "yaml" | "yml" => Self::Yaml,
            _ => return None,
        })
    }
}

/// Whether data can be had a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supply {
    /// Whoever asks again gets it again.
    Lasting,
    /// A server hands it out once: where stdout does not take it, it goes to stderr.
    Once,
    /// As that, and there is no way to have others: keys of a server. A stdout that was closed counts as one that does not take it. It is told from the null
    /// device as a shell opens it, and not as some programs do (Python's `DEVNULL`), so that this is for keys alone.
    Keys,
}

impl Supply {
    /// Of a whole answer: tokens, what was wrapped, secret ids of `AppRole` and seeds of passcodes are shown to nobody a second time.
    pub(crate) fn of(answer: &Answer) -> Self {
        let once = !answer.auth.is_null()
            || !answer.wrap_info.is_null()
            || ONCE.iter().any(|key| answer.data().is_some_and(|data| data.get(key).is_some()));
        if once { Self::Once } else { Self::Lasting }
    }
}

/// Fields of data that no second answer has.
const ONCE: [&str; 2] = ["secret_id", "barcode"];

/// One line (or several) of data on stdout.
pub(crate) fn out(text: &str) {
    put(text, "\n", Supply::Lasting);
}

/// [`out`], of keys that exist nowhere else.
pub(crate) fn out_once(text: &str) {
    put(text, "\n", Supply::Keys);
}

/// [`out`], of what can be had as `supply` says.
pub(crate) fn out_of(text: &str, supply: Supply) {
    put(text, "\n", supply);
}

/// Data on stdout as it is, for another program to read: no newline is added unless a person looks on.
pub(crate) fn out_raw(text: &str, supply: Supply) {
    put(text, if io::stdout().is_terminal() { "\n" } else { "" }, supply);
}

fn put(text: &str, end: &str, supply: Supply) {
    let written = if supply == Supply::Keys && is_closed() { Err(io::Error::other(CLOSED)) } else { write_out(text, end) };
    let written = match written {
        // Whoever went away without reading it may have failed: it would be gone.
        Err(error) if supply != Supply::Lasting && error.kind() == io::ErrorKind::BrokenPipe => wrote(Err(io::Error::other(UNREAD))),
        written => wrote(written),
    };
    if !written && supply != Supply::Lasting {
        note("What could not be written there exists nowhere else, so here it is:\n");
        note_as_it_is(text.trim_end());
    }
}

/// A remark on stderr. It may quote a server, a file or a person: see [`inert`].
pub(crate) fn note(text: &str) {
    note_as_it_is(&inert(text));
}

/// Text from elsewhere as a terminal may have it: what would move its cursor, colour it or give it orders stands there as `\x1b`. Lines and tabs
/// stay. For people alone: what programs read (`-field`, JSON, YAML, a policy) is written as it is, or has an escape of its own.
pub(crate) fn inert(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // The end of a line as Windows writes it does nothing that the end of a line does not.
        if acts(c) && !(c == '\r' && chars.peek() == Some(&'\n')) {
            let _infallible = write!(out, "\\x{:02x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn note_as_it_is(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell when stderr is gone.
    let _unheard = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

/// A remark on stderr that waits for input on the same line.
pub(crate) fn prompt(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _unheard = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// A whole answer: as a Key/Value table with its warnings on stderr, or as one document.
pub(crate) fn answer(format: Format, answer: &Answer) {
    answer_of(Supply::of(answer), format, answer);
}

/// [`answer`], where it is known from elsewhere whether there is another.
pub(crate) fn answer_of(supply: Supply, format: Format, answer: &Answer) {
    match format {
        Format::Table | Format::Raw => {
            warnings(answer);
            if let Some(text) = table::key_values(&answer_pairs(answer)) {
                put(&text, "\n", supply);
            }
        }
        Format::Json | Format::Yaml => document_of(supply, format, &answer.to_value()),
    }
}

/// What the server remarks, once, on stderr.
pub(crate) fn warnings(answer: &Answer) {
    if answer.warnings.is_empty() {
        return;
    }
    note("WARNING! The following warnings were returned from Vault:\n");
    for warning in &answer.warnings {
        note(&table::wrap(&format!("* {warning}"), 78, 2));
        note("");
    }
}

/// A map as a Key/Value table, a list as a table of keys, or either as one document.
pub(crate) fn data(format: Format, value: &Value) {
    match (format, value) {
        (Format::Table | Format::Raw, Value::Map(_)) => {
            if let Some(text) = table::key_values(&table::pairs(value)) {
                out(&text);
            }
        }
        (Format::Table | Format::Raw, Value::List(items)) => {
            out(&table::table(&["Keys"], &items.iter().map(|item| vec![item.go()]).collect::<Vec<_>>()));
        }
        (Format::Table | Format::Raw, other) => out(&inert(&other.go())),
        (_, value) => document(format, value),
    }
}

/// One value alone, as `-field` prints it.
pub(crate) fn field(format: Format, value: &Value, supply: Supply) {
    match format {
        Format::Table | Format::Raw => out_raw(&value.go(), supply),
        Format::Json => out_raw(&value.pretty(), supply),
        Format::Yaml => out_raw(&yaml::document(value), supply),
    }
}

/// A value as JSON or YAML.
pub(crate) fn document(format: Format, value: &Value) {
    document_of(Supply::Lasting, format, value);
}

/// [`document`], of keys that exist nowhere else.
pub(crate) fn document_once(format: Format, value: &Value) {
    document_of(Supply::Keys, format, value);
}

fn document_of(supply: Supply, format: Format, value: &Value) {
    match format {
        Format::Yaml => put(&yaml::document(value), "", supply),
        _ => put(&value.pretty(), "\n", supply),
    }
}

/// Whether all data has been written, or nobody wanted more of it. What was not, stderr says.
pub(crate) fn is_written() -> bool {
    !UNWRITTEN.load(Ordering::Relaxed)
}

/// The rows of the table of an answer: lease, token, wrapping, then the data sorted by key.
fn answer_pairs(answer: &Answer) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for (key, value) in answer.head_rows() {
        let shown =
            if key.ends_with("_duration") || key == "refresh_interval" { table::human_seconds(answer.lease_duration) } else { value.go() };
        rows.push((key, shown));
    }
    if !answer.auth.is_null() {
        rows.extend(auth_pairs(&answer.auth));
    }
    if !answer.wrap_info.is_null() {
        rows.extend(wrap_pairs(&answer.wrap_info));
    }
    rows.extend(answer.data().map(table::pairs).unwrap_or_default());
    rows
}

fn auth_pairs(auth: &Value) -> Vec<(String, String)> {
    if let Some(wanted) = auth.get("mfa_requirement").filter(|wanted| !wanted.is_null()) {
        let constraints = wanted.get("mfa_constraints").cloned().unwrap_or(Value::Null);
        let names = constraints.entries().iter().map(|(name, constraint)| (format!("mfa_constraint_{name}"), constraint.go()));
        return std::iter::once(("mfa_request_id".to_owned(), wanted.text_at("mfa_request_id").to_owned())).chain(names).collect();
    }
    let seconds = auth.get("lease_duration").and_then(Value::as_integer).unwrap_or(0);
    let mut rows = vec![
        ("token".to_owned(), auth.text_at("client_token").to_owned()),
        ("token_accessor".to_owned(), auth.text_at("accessor").to_owned()),
        // A token without an end, most likely the root token: "0s" would be misread.
        ("token_duration".to_owned(), if seconds == 0 { "∞".to_owned() } else { table::human_seconds(seconds) }),
        ("token_renewable".to_owned(), auth.get("renewable").is_some_and(Value::is_true).to_string()),
    ];
    for key in ["token_policies", "identity_policies", "policies"] {
        let names: Vec<_> = auth.texts_at(key).iter().map(|name| Value::text(*name).compact()).collect();
        rows.push((key.to_owned(), format!("[{}]", names.join(" "))));
    }
    let metadata = auth.get("metadata").unwrap_or(&Value::Null).sorted();
    rows.extend(metadata.entries().iter().map(|(key, value)| (format!("token_meta_{key}"), value.go())));
    rows
}

fn wrap_pairs(wrap: &Value) -> Vec<(String, String)> {
    let ttl = wrap.get("ttl").and_then(Value::as_integer).unwrap_or(0);
    let mut rows = vec![
        ("wrapping_token:".to_owned(), wrap.text_at("token").to_owned()),
        ("wrapping_accessor:".to_owned(), wrap.text_at("accessor").to_owned()),
        ("wrapping_token_ttl:".to_owned(), table::human_seconds(ttl)),
        ("wrapping_token_creation_time:".to_owned(), spaced_time(wrap.text_at("creation_time"))),
        ("wrapping_token_creation_path:".to_owned(), wrap.text_at("creation_path").to_owned()),
    ];
    let accessor = wrap.text_at("wrapped_accessor");
    if !accessor.is_empty() {
        rows.push(("wrapped_accessor:".to_owned(), accessor.to_owned()));
    }
    rows
}

/// `2026-01-02T03:04:05.6Z` as Go prints a time: `2026-01-02 03:04:05.6 +0000 UTC`.
fn spaced_time(rfc3339: &str) -> String {
    match (rfc3339.split_once('T'), rfc3339.strip_suffix('Z')) {
        (Some((date, time)), Some(_)) => format!("{date} {} +0000 UTC", time.trim_end_matches('Z')),
        (Some((date, time)), None) => match time.rfind(['+', '-']).map(|place| time.split_at(place)) {
            Some((clock, zone)) => {
                let zone = zone.replace(':', "");
                format!("{date} {clock} {zone} {zone}")
            }
            None => rfc3339.to_owned(),
        },
        (None, _) => rfc3339.to_owned(),
    }
}

fn write_out(text: &str, end: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(end.as_bytes())).and_then(|()| stdout.flush())
}

/// Whether stdout was closed (`>&-`). Rust's runtime puts the null device in its place, and what is written there succeeds. It opens it for reading and
/// writing, which tells it from a shell's `> /dev/null`.
pub(crate) fn is_closed() -> bool {
    let stdout = io::stdout();
    let for_both = fcntl_getfl(&stdout).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    for_both && fstat(&stdout).is_ok_and(|stat| fs::metadata(NULL).is_ok_and(|null| (null.dev(), null.ino()) == (stat.st_dev, stat.st_ino)))
}

/// Whether stdout took it, or nobody wanted it; what failed is told once.
pub(crate) fn wrote(written: io::Result<()>) -> bool {
    match written {
        Ok(()) => true,
        // A reader that went away (`| head`) wanted no more: not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
        Err(error) => {
            if !UNWRITTEN.swap(true, Ordering::Relaxed) {
                note(&format!("Error writing the output: {error}"));
            }
            false
        }
    }
}

/// Stdout has refused something that was not wanted the less for it. One for the process, as stdout is: a result of each line that is printed
/// would have to pass through every verb, and one that forgets it would end with success.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// What writes to a closed stdout come to.
pub(crate) const CLOSED: &str = "standard output is closed";
/// What becomes of data that its reader went away from.
const UNREAD: &str = "the program that standard output goes to has ended";
/// The null device.
pub(crate) const NULL: &str = "/dev/null";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_with_its_policies_and_metadata() {
        let answer = Answer::parse(
            r#"{"auth":{"client_token":"t","accessor":"a","policies":["default"],"token_policies":["default"],"lease_duration":3600,"renewable":true,"metadata":{"username":"bob"}}}"#,
        );
        let pairs = answer_pairs(&answer.unwrap());
        let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let wanted = [
            "token=t",
            "token_accessor=a",
            "token_duration=1h",
            "token_renewable=true",
            "token_policies=[\"default\"]",
            "identity_policies=[]",
        ];
        assert_eq!(shown.get(..6).unwrap(), wanted);
        assert_eq!(shown.last().unwrap(), "token_meta_username=bob");
    }

    /// Story: a snapshot file, an alias or the description of a mount could hold what clears a terminal, or writes into it as if a person had typed it.
    #[test]
    fn what_would_give_a_terminal_orders_is_shown_and_not_obeyed() {
        assert_eq!(inert("a\u{1b}[2J\u{9b}1m\u{7}\u{7f}\rb"), "a\\x1b[2J\\x9b1m\\x07\\x7f\\x0db");
        for plain in ["line\r\nline\n\ttab", "größer €", ""] {
            assert_eq!(inert(plain), plain);
        }
        let table = table::table(&["Path", "Description"], &[vec!["a/".into(), "\u{1b}]0;root\u{7}".into()]]);
        assert_eq!(table, "Path    Description\n----    -----------\na/      \\x1b]0;root\\x07");
    }

    #[test]
    fn times_are_spaced_as_go_spaces_them() {
        assert_eq!(spaced_time("2026-01-02T03:04:05.6Z"), "2026-01-02 03:04:05.6 +0000 UTC");
        assert_eq!(spaced_time("2026-01-02T03:04:05+02:00"), "2026-01-02 03:04:05 +0200 +0200");
    }

    #[test]
    fn a_secret_with_a_lease_shows_it_first() {
        let answer = Answer::parse(r#"{"lease_id":"aws/sts/r/x","lease_duration":899,"data":{"access_key":"A","ttl":899}}"#).unwrap();
        let keys: Vec<_> = answer_pairs(&answer).into_iter().collect();
        assert_eq!(keys.first().unwrap(), &("lease_id".to_owned(), "aws/sts/r/x".to_owned()));
        assert_eq!(keys.get(1).unwrap().1, "14m59s");
        assert_eq!(keys.last().unwrap(), &("ttl".to_owned(), "14m59s".to_owned()));
    }
}
