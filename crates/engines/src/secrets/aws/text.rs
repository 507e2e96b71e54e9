//! Texts as Go writes them, where clients see them.

use std::fmt::Write;

/// A Go-quoted string, as `%q` makes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() => {
                let code = u32::from(c);
                let _infallible = if code < 0x80 { write!(out, "\\x{code:02x}") } else { write!(out, "\\u{code:04x}") };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of errors as Vault's Go library prints it: `2 errors occurred:\n\t* a\n\t* b\n\n`.
pub(super) fn errors(items: &[String]) -> String {
    let head = if items.len() == 1 { "1 error occurred:".to_owned() } else { format!("{} errors occurred:", items.len()) };
    format!("{head}\n\t* {}\n\n", items.join("\n\t* "))
}

/// JSON without the blanks between its parts; order, numbers and escapes stay as they were. `None` when it is no JSON.
pub(super) fn compact_json(text: &str) -> Option<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let (mut out, mut in_string, mut escaped) = (String::with_capacity(text.len()), false, false);
    for c in text.chars() {
        if in_string {
            out.push(c);
            (in_string, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
        } else if !c.is_ascii_whitespace() {
            out.push(c);
            in_string = c == '"';
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quoted("a\"b\\c\n\t\u{1}é\u{85}"), "\"a\\\"b\\\\c\\n\\t\\x01é\\u0085\"");
    }

    #[test]
    fn lists_of_errors_count_themselves() {
        assert_eq!(errors(&["a".to_owned()]), "1 error occurred:\n\t* a\n\n");
        assert_eq!(errors(&["a".to_owned(), "b".to_owned()]), "2 errors occurred:\n\t* a\n\t* b\n\n");
    }

    #[test]
    fn compacting_touches_nothing_inside_strings() {
        let text = "{ \"b\" : \"x \\\" y\\\\\" ,\n \"a\": [ 1.0, \" \" ] }";
        assert_eq!(compact_json(text).as_deref(), Some("{\"b\":\"x \\\" y\\\\\",\"a\":[1.0,\" \"]}"));
        assert_eq!(compact_json("{not json"), None);
        assert_eq!(compact_json(""), None);
    }
}
