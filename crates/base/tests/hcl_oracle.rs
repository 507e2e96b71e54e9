//! Our HCL reader says yes and no, and reads the same tree, as the Go module `github.com/hashicorp/hcl`.
//!
//! Documents are made by a generator that knows the language, and by damaging its documents. The Go side is the small
//! program in `tests/oracle/hcl`: `DAYPASS_ORACLES` names a directory that holds it as `hcl-oracle`; otherwise it is built
//! with Go. `DAYPASS_CASES` sets how many documents each test makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test helpers may fail loudly")]
#![allow(clippy::format_collect, reason = "the generators are read more often than run")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use daypass_base::hcl::{self, Document, Form, Item, Kind, Value};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

struct Oracle {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Self {
        let mut child = Command::new(binary()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the oracle starts");
        let (questions, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, questions, answers }
    }

    fn ask(&mut self, text: &str) -> serde_json::Value {
        writeln!(self.questions, "{}", json!({ "text": text })).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).expect("the oracle answers in JSON")
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn binary() -> PathBuf {
    if let Some(folder) = std::env::var_os("DAYPASS_ORACLES") {
        return PathBuf::from(folder).join("hcl-oracle");
    }
    // Each test builds to a name of its own, so that one never runs a file that another still writes; Go's cache makes the rest quick.
    let name = std::thread::current().name().unwrap_or("test").replace(':', "-");
    let binary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hcl-oracle-{name}"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/oracle/hcl");
    let built = Command::new("go").args(["build", "-o"]).arg(&binary).arg(".").current_dir(source).status();
    assert!(built.expect("go is installed, or DAYPASS_ORACLES is set").success(), "the oracle builds");
    binary
}

/// Runs `check` on documents of a strategy, always the same ones unless `DAYPASS_CASES` asks for another number.
fn documents(strategy: impl Strategy<Value = String>, by_default: u32) {
    let cases = std::env::var("DAYPASS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(by_default);
    let config = Config { cases, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let oracle = std::cell::RefCell::new(Oracle::start());
    let accepted = std::cell::Cell::new(0_u32);
    let result = runner.run(&strategy, |text| {
        let theirs = oracle.borrow_mut().ask(&text);
        accepted.set(accepted.get() + u32::from(theirs["accepted"] == true));
        compare(&text, &theirs).map_err(|difference| TestCaseError::fail(format!("{difference}\ntext: {text:?}\nGo: {theirs}")))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(accepted.get() > cases / 10, "the generator must mostly make documents that mean something");
}

fn compare(text: &str, theirs: &serde_json::Value) -> Result<(), String> {
    let (document, errors) = hcl::parse(text);
    let go_accepts = theirs["accepted"] == true;
    match (go_accepts, errors.is_empty()) {
        (true, true) => {}
        (false, false) => return Ok(()),
        (true, false) if known_refusal(text, &document, theirs) => return Ok(()),
        (true, false) => return Err(format!("Go accepts, we refuse: {}", errors[0])),
        (false, true) if known_acceptance(text, &document) => return Ok(()),
        (false, true) => return Err("Go refuses, we accept".to_owned()),
    }
    if document.form == Form::Json && holds_what_go_forgets(&document.items) {
        return Ok(());
    }
    let ours = tree(&document);
    if ours != theirs["items"] {
        return Err(format!("the trees differ, ours: {ours}"));
    }
    if document.duplicates().is_empty() == (theirs["duplicates"] == true) {
        return Err("not the same opinion on duplicates".to_owned());
    }
    Ok(())
}

/// What we refuse on purpose; the module's documentation gives the reasons.
fn known_refusal(text: &str, document: &Document, theirs: &serde_json::Value) -> bool {
    // After a list inside a list Go reads no further, so that a mistake behind it stays unseen.
    let compact: String = text.split_whitespace().collect();
    let blind = theirs["valid_json"] == false || compact.contains("[[") || compact.contains(",[");
    theirs["utf8"] == false || (document.form == Form::Json && blind) || text.trim_end().ends_with('=')
}

/// What we accept on purpose: JSON that is JSON, where Go's reader gives up.
fn known_acceptance(text: &str, document: &Document) -> bool {
    let escapes = text.contains("\\/") || text.to_lowercase().contains("\\ud");
    let lists = holds_what_go_forgets(&document.items);
    document.form == Form::Json && (escapes || lists)
}

/// Whether a list holds a bool, a null or a list, which Go's JSON reader drops or trips over.
fn holds_what_go_forgets(items: &[Item]) -> bool {
    fn in_value(value: &Value) -> bool {
        match &value.kind {
            Kind::List(values) => {
                values.iter().any(|value| matches!(value.kind, Kind::Bool(_) | Kind::Null | Kind::List(_)) || in_value(value))
            }
            Kind::Object(items) => holds_what_go_forgets(items),
            _ => false,
        }
    }
    items.iter().any(|item| in_value(&item.value))
}

fn tree(document: &Document) -> serde_json::Value {
    let flat = document.form == Form::Json;
    items_tree(&document.items.iter().map(|item| (names(item), item)).collect::<Vec<_>>(), flat)
}

fn names(item: &Item) -> Vec<String> {
    item.keys.iter().map(|key| key.text.clone()).collect()
}

/// Go turns nested JSON objects into HCL's labels where an object or list holds nothing but objects.
fn items_tree(items: &[(Vec<String>, &Item)], flat: bool) -> serde_json::Value {
    let mut out = Vec::new();
    for (keys, item) in items {
        let assigned = item.assign_line();
        entry(keys, assigned, &item.value, flat, &mut out);
    }
    out.into()
}

fn entry(keys: &[String], assigned: u32, value: &Value, flat: bool, out: &mut Vec<serde_json::Value>) {
    match &value.kind {
        Kind::Object(items) if flat && !items.is_empty() && items.iter().all(|item| item.value.as_object().is_some()) => {
            for item in items {
                entry(&[keys, &names(item)].concat(), assigned, &item.value, flat, out);
            }
        }
        Kind::List(values) if flat && !values.is_empty() && values.iter().all(|value| value.as_object().is_some()) => {
            for value in values {
                entry(keys, assigned, value, flat, out);
            }
        }
        _ => out.push(json!({ "keys": keys, "assigned": assigned, "value": value_tree(value, flat) })),
    }
}

fn value_tree(value: &Value, flat: bool) -> serde_json::Value {
    match &value.kind {
        Kind::Bool(value) => json!({ "bool": value }),
        Kind::Float(value) => json!({ "float": go_float(*value) }),
        Kind::Int(value) => json!({ "int": value.to_string() }),
        Kind::List(values) => json!({ "list": values.iter().map(|value| value_tree(value, flat)).collect::<Vec<_>>() }),
        Kind::Null => json!({ "text": "" }),
        Kind::Object(items) => json!({ "object": items_tree(&items.iter().map(|item| (names(item), item)).collect::<Vec<_>>(), flat) }),
        Kind::Text(text) => json!({ "text": text }),
    }
}

/// The bits as a number that both sides print the same.
fn go_float(value: f64) -> String {
    value.to_bits().to_string()
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "path", "listener", "a-b", "x.y", "_z", "é", "日本", "n1"]).prop_map(str::to_owned),
        1 => string(),
    ]
}

/// Pieces of strings, escapes good and bad among them.
fn string() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        " ",
        "/",
        "*",
        "+",
        "é",
        "{",
        "}",
        "$",
        "%{x}",
        "${",
        "${a}",
        "${\"q\"}",
        "${\n}",
        "${ {} }",
        "\\\"",
        "\\n",
        "\\\\",
        "\\x41",
        "\\101",
        "\\u00e9",
        "\\U0001F600",
        "\\xc3\\xa9",
        "\\a",
        "\\v",
        "\t",
        "#",
        "//",
        "<<",
    ]);
    let odd = prop::sample::select(vec![
        "\\xff",
        "\\400",
        "\\ud800",
        "\\/",
        "\\q",
        "\\x4",
        "\\U80000041",
        "\\UFFFFFFFF",
        "\n",
        "\r",
        "\u{fffd}",
        "\\",
        "${\\}",
    ]);
    prop::collection::vec(prop_oneof![40 => piece, 1 => odd], 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => any::<i32>().prop_map(|number| number.to_string()),
        4 => prop::sample::select(vec!["0", "-0", "00", "017", "-017", "0x1F", "-0Xab", "1.5", "-0.25", "1e3", "2E-2", "1.5e+3", "0.5", ".5", "1.", "1.e5",
            "08.5", "9223372036854775807", "-9223372036854775808"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["08", "0159", "0x", "1e", "1e400", ".5e3", "9223372036854775808", "-", "--1", "1_000", "0159.5", "1.5.5", "0x1g", "0e1", "00.1e1", "0.e3"])
            .prop_map(str::to_owned),
    ]
}

fn heredoc() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec!["", "text", "  text", "\ttext", "    deep", "EOT x", " é", "${x}", "\"", "EOT\r"]);
    let open = prop::sample::select(vec!["<<EOT", "<<-EOT", "<<EOT", "<<-EOT", "<< EOT", "<<", "<<-", "<<é"]);
    let end = prop::sample::select(vec!["EOT\n", "  EOT\n", "\tEOT\n", "    EOT\n", "EOT", "EOT\r\n", "EOTX\n", "é\n", " é\r\r\n"]);
    let eol = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\r\r\n"]);
    (open, prop::collection::vec(line, 0..4), end, eol).prop_map(|(open, lines, end, eol)| {
        let body: String = lines.iter().map(|line| format!("{line}{eol}")).collect();
        format!("{open}{eol}{body}{end}")
    })
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![" ", " ", " ", "", "\n", "\n", "\t", "\r\n", " # c\n", " // c\n", " /* c */ ", "/**/", "/* a\nb */", "\r"])
}

fn value() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![4 => string(), 3 => number(), 1 => Just("true".to_owned()), 1 => Just("false".to_owned()), 1 => heredoc(), 1 => name()];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let comma = prop::sample::select(vec![",", ",", ", ", ",\n", " ,", ",", ",,", ""]);
        let list = (prop::collection::vec((inner.clone(), comma, blank()), 0..5), any::<bool>()).prop_map(|(entries, trailing)| {
            let mut text = String::from("[");
            for (index, (entry, comma, blank)) in entries.iter().enumerate() {
                text.push_str(entry);
                text.push_str(blank);
                if trailing || index + 1 < entries.len() {
                    text.push_str(comma);
                }
            }
            text + "]"
        });
        let object = items_of(inner).prop_map(|items| format!("{{{items}}}"));
        prop_oneof![list, object]
    })
}

fn items_of(value: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = String> {
    let assignment = (name(), blank(), blank(), value.clone()).prop_map(|(name, a, b, value)| format!("{name}{a}={b}{value}"));
    let block = (name(), prop::collection::vec(name(), 0..3), blank(), prop::collection::vec((name(), value), 0..3)).prop_map(
        |(name, labels, blank, items)| {
            let items: String = items.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
            format!("{name} {}{blank}{{\n{items}}}", labels.join(" "))
        },
    );
    let end = prop::sample::select(vec!["\n", "\n", "\n", " ", ",", ",\n", "", ",,"]);
    prop::collection::vec((prop_oneof![3 => assignment, 2 => block], end, blank()), 0..5)
        .prop_map(|items| items.into_iter().map(|(item, end, blank)| format!("{item}{end}{blank}")).collect())
}

fn document() -> impl Strategy<Value = String> {
    items_of(value().boxed())
}

fn json_document() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["\"a\"", "\"path\"", "\"b/c\"", "\"\"", "\"é\\u00e9\"", "\"x\\/y\"", "\"\\ud83d\\ude00\""]);
    let leaf = prop_oneof![
        3 => prop::sample::select(vec!["\"x\"", "\"\"", "\"${a}\"", "\"a\\nb\"", "\"\\\"\"", "\"\\x41\"", "\"\\ud800\"", "\"\\400\""]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["0", "-1", "12", "1.5", "1e3", "-0", "007", "1e999", "9223372036854775808", "0.0"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["true", "false", "null", "nul"]).prop_map(str::to_owned),
    ];
    let end = prop::sample::select(vec!["", "", "", "", "", ",", "}", " \n", "x"]);
    let object = |value: BoxedStrategy<String>, key: prop::sample::Select<&'static str>| {
        (prop::collection::vec((key, blank_json(), value), 0..4), prop::sample::select(vec!["", "", "", ","]))
            .prop_map(|(items, trailing)| {
                let items: Vec<String> = items.iter().map(|(key, blank, value)| format!("{key}{blank}:{blank}{value}")).collect();
                format!("{{{}{trailing}}}", items.join(","))
            })
            .boxed()
    };
    let value = leaf.prop_recursive(5, 30, 4, {
        let key = key.clone();
        move |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(",")));
            prop_oneof![1 => list, 3 => object(inner.boxed(), key.clone())]
        }
    });
    (blank_json(), object(value.boxed(), key), end).prop_map(|(blank, object, end)| format!("{blank}{object}{end}"))
}

fn blank_json() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", " ", "\n", "\r\n", "\t"])
}

/// Small damage: something cut out, put in, or doubled.
fn damaged(document: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let fragment = prop::sample::select(vec![
        "{", "}", "[", "]", "=", ",", "\"", "\n", " ", "#", "/*", "*/", "//", "a", "1", "-", ".", "+", "<", "<<E\n", "\\", "${", "true",
        ":", "é", "\0", "\r", "/", "'", "e", "null",
    ]);
    let edit = (any::<prop::sample::Index>(), 0_usize..3, 0_usize..4, fragment);
    (document, prop::collection::vec(edit, 1..4)).prop_map(|(mut text, edits)| {
        for (index, kind, length, fragment) in edits {
            let chars: Vec<char> = text.chars().collect();
            let at = index.index(chars.len() + 1);
            let until = (at + length).min(chars.len());
            let (head, middle, tail) = (&chars[..at], &chars[at..until], &chars[until..]);
            let middle: String = match kind {
                0 => String::new(),
                1 => fragment.to_owned() + &middle.iter().collect::<String>(),
                _ => middle.iter().chain(middle).collect(),
            };
            text = head.iter().collect::<String>() + &middle + &tail.iter().collect::<String>();
        }
        text
    })
}

#[test]
fn documents_of_the_language_are_read_as_go_reads_them() {
    documents(document(), 5000);
}

#[test]
fn damaged_documents_are_judged_as_go_judges_them() {
    documents(damaged(document()), 8000);
}

#[test]
fn json_documents_are_read_as_go_reads_them() {
    documents(json_document(), 4000);
}

#[test]
fn damaged_json_is_never_accepted_where_go_refuses_it() {
    documents(damaged(json_document()), 4000);
}
