//! Each wanted text was recorded from the `-format=yaml` of a Vault-compatible CLI.

use super::*;

fn line(text: &str) -> String {
    document(&Value::map([("k", Value::text(text))]))
}

#[test]
fn strings_that_look_like_other_types_are_quoted_twice() {
    for text in [
        "",
        "yes",
        "no",
        "n",
        "Y",
        "on",
        "123",
        "1.5",
        "~",
        "null",
        "2026-01-01",
        "2001-12-14t21:59:43.10-05:00",
        "0x1f",
        "0o17",
        "017",
        ".inf",
        ".nan",
        "1e5",
        "1_000",
        "1:30",
        "0b11",
        "+1",
    ] {
        assert_eq!(line(text), format!("k: \"{text}\"\n"));
    }
}

#[test]
fn strings_with_syntax_in_them_are_quoted_once() {
    for text in ["a: b", "- x", "a #b", " x", "@x", "*x", "&x", "!x", "%x", "[x", "{x", ">x", "|x", "a:", "x ", "? x", "`x", "-", "---"] {
        assert_eq!(line(text), format!("k: '{text}'\n"));
    }
}

#[test]
fn harmless_strings_stand_bare() {
    for text in [
        "a\\b",
        "it's \"q\"",
        "=",
        "<<",
        ".",
        "a,b",
        "a!b",
        "é∞",
        "<a>&b</a>",
        "aGVsbG8=",
        "1.2.3.4",
        "127.0.0.1:8200",
        "v1.21.4",
        "8b87c289-c3b4",
        "nope",
        "-x",
        "hvs.x",
    ] {
        assert_eq!(line(text), format!("k: {text}\n"));
    }
}

#[test]
fn unprintable_characters_are_escaped() {
    assert_eq!(line("a\u{1}b\tc"), "k: \"a\\x01b\\tc\"\n");
    assert_eq!(line("😀"), "k: \"\\U0001F600\"\n");
}

#[test]
fn text_of_several_lines_is_a_block() {
    assert_eq!(line("a\nb\n"), "k: |\n  a\n  b\n");
    assert_eq!(line("a\nb"), "k: |-\n  a\n  b\n");
    assert_eq!(line("a\n\nb\n\n"), "k: |+\n  a\n\n  b\n\n");
}

#[test]
fn maps_and_lists_nest() {
    let value = Value::parse(r#"{"nest":[[1,2],{"a":[{"b":1}],"c":null}],"el":[],"em":{},"m":{"x":{"y":true}}}"#).unwrap();
    assert_eq!(document(&value), "el: []\nem: {}\nm:\n  x:\n    \"y\": true\nnest:\n- - 1\n  - 2\n- a:\n  - b: 1\n  c: null\n");
}

#[test]
fn long_lines_fold_at_a_space() {
    let text = "word ".repeat(20) + "end";
    let lines = line(&text);
    assert_eq!(lines.lines().count(), 2);
    assert_eq!(lines.trim_end().replace("\n ", ""), format!("k: {text}"));
}

#[test]
fn a_bare_list_is_a_document() {
    assert_eq!(document(&Value::texts(["a", "b/"])), "- a\n- b/\n");
}
