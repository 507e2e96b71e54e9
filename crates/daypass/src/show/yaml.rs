//! YAML as Vault's `-format=yaml` writes it: sorted keys, strings quoted wherever a YAML 1.1 reader would take them for something else.
//!
//! Written here because the emitters on offer follow YAML 1.2: they leave `2026-01-02T03:04:05Z` bare, and the readers in common use
//! (PyYAML, Go's yaml.v2) then make a date of what was a string. The input is plain JSON data, so this is all that is needed.

use std::fmt::Write as _;

use super::value::Value;

/// Lines grow past this column before they are folded at a space.
const WIDTH: usize = 80;

/// The whole document, with a final newline.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value.sorted() {
        Value::Map(entries) if !entries.is_empty() => map(&mut out, &entries, 0),
        Value::List(items) if !items.is_empty() => list(&mut out, &items, 0),
        value => {
            scalar(&mut out, &value, 0, Fold::Allowed);
            end_line(&mut out);
        }
    }
    out
}

fn map(out: &mut String, entries: &[(String, Value)], indent: usize) {
    for (place, (key, value)) in entries.iter().enumerate() {
        if place > 0 {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        scalar(out, &Value::Text(key.clone()), indent, Fold::Never);
        out.push(':');
        match value {
            Value::Map(inner) if !inner.is_empty() => {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent + 2));
                map(out, inner, indent + 2);
            }
            // A list under a key is not indented: that is how yaml.v2 writes it.
            Value::List(inner) if !inner.is_empty() => {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                list(out, inner, indent);
            }
            value => {
                out.push(' ');
                scalar(out, value, indent + 2, Fold::Allowed);
                end_line(out);
            }
        }
    }
}

fn list(out: &mut String, items: &[Value], indent: usize) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str("- ");
        match item {
            Value::Map(inner) if !inner.is_empty() => map(out, inner, indent + 2),
            Value::List(inner) if !inner.is_empty() => list(out, inner, indent + 2),
            item => {
                scalar(out, item, indent + 2, Fold::Allowed);
                end_line(out);
            }
        }
    }
}

/// Ends a line, unless a block of text has already ended it.
fn end_line(out: &mut String) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fold {
    Allowed,
    Never,
}

fn scalar(out: &mut String, value: &Value, indent: usize, fold: Fold) {
    match value {
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
        Value::Text(text) if reads_as_another_type(text) || !printable(text) => double_quoted(out, text),
        Value::Text(text) if text.contains('\n') && fold == Fold::Allowed && !text.starts_with([' ', '\n']) => block(out, text, indent),
        Value::Text(text) if text.contains('\n') => double_quoted(out, text),
        Value::Text(text) if plain(text) => folded(out, text, indent, fold),
        Value::Text(text) => {
            out.push('\'');
            folded(out, &text.replace('\'', "''"), indent, fold);
            out.push('\'');
        }
        other => out.push_str(&other.go().replace("<nil>", "null")),
    }
}

/// Text of several lines, as it stands. What ends in more or fewer than one newline says so.
fn block(out: &mut String, text: &str, indent: usize) {
    let body = text.trim_end_matches('\n');
    out.push_str(match text.len() - body.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Writes `text`, breaking at single spaces past the width.
fn folded(out: &mut String, text: &str, indent: usize, fold: Fold) {
    let mut column = out.rsplit('\n').next().map_or(0, |line| line.chars().count());
    let mut chars = text.chars().peekable();
    let mut before = None;
    while let Some(c) = chars.next() {
        let inside = before.is_some_and(|before| before != ' ') && chars.peek().is_some_and(|next| *next != ' ');
        if c == ' ' && inside && column > WIDTH && fold == Fold::Allowed {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            out.push(c);
            column += 1;
        }
        before = Some(c);
    }
}

fn double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{a0}' => out.push_str("\\_"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if shows(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let _infallible = match code {
                    0..=0xff => write!(out, "\\x{code:02X}"),
                    0x100..=0xffff => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
            }
        }
    }
    out.push('"');
}

fn printable(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || shows(c))
}

fn shows(c: char) -> bool {
    // The first plane only, without separators and the byte order mark: what yaml.v2 writes bare.
    matches!(c, ' '..='~' | '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Whether the text may stand without quotes. `text` is printable, on one line and not empty.
fn plain(text: &str) -> bool {
    let first_bad = text.starts_with(['#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ']);
    let dash = ["-", "?", ":"].iter().any(|mark| text == *mark || text.starts_with(&format!("{mark} ")));
    let inside_bad = text.contains(": ") || text.contains(" #") || text.ends_with([':', ' ']);
    !(first_bad || dash || inside_bad || text.starts_with("---") || text.starts_with("..."))
}

/// Whether a YAML 1.1 reader would see a null, a boolean, a number or a date.
fn reads_as_another_type(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let usual_case = [lower.clone(), text.to_ascii_uppercase(), capital(&lower)].iter().any(|form| form == text);
    let words = ["y", "n", "yes", "no", "true", "false", "on", "off", "null", "~", ".nan", ".inf", "+.inf", "-.inf"];
    text.is_empty() || (usual_case && words.contains(&lower.as_str())) || number(text) || sexagesimal(text) || date(text)
}

fn capital(lower: &str) -> String {
    let mut chars = lower.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn number(text: &str) -> bool {
    let digits = text.replace('_', "");
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    let radix = |prefix: &str, radix: u32| {
        unsigned.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.parse::<f64>().is_ok();
    decimal || radix("0x", 16) || radix("0o", 8) || radix("0b", 2)
}

/// `1:30`, which old readers take for ninety.
fn sexagesimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let lead = parts
        .next()
        .is_some_and(|lead| lead.starts_with(|c: char| c.is_ascii_digit()) && lead.chars().all(|c| c.is_ascii_digit() || c == '_'));
    let mut tail = parts.peekable();
    lead && tail.peek().is_some()
        && tail.all(|part| {
            (1..=2).contains(&part.split('.').next().unwrap_or_default().len()) && part.chars().all(|c| c.is_ascii_digit() || c == '.')
        })
}

/// `2026-01-02`, and anything that goes on from there as a time.
fn date(text: &str) -> bool {
    let shape: String = text.chars().take(5).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let rest = text.get(5..).unwrap_or_default();
    let parts: Vec<&str> = rest.splitn(2, '-').collect();
    let digits = |part: &str, most: usize| !part.is_empty() && part.len() <= most && part.bytes().all(|byte| byte.is_ascii_digit());
    let [month, day] = parts.as_slice() else { return false };
    let day_end = day.find(|c: char| !c.is_ascii_digit()).unwrap_or(day.len());
    let (day, time) = day.split_at(day_end);
    shape == "0000-" && digits(month, 2) && digits(day, 2) && (time.is_empty() || (time.starts_with(['t', 'T', ' ']) && time.contains(':')))
}

#[cfg(test)]
mod tests;
