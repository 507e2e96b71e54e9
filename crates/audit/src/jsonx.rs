//! JSONx: JSON as XML (`<json:string name="type">request</json:string>`), for collectors that read nothing else.
//!
//! As Vault writes it: the members of the record one after the other without an element around them, and all of it on one line.

use serde::Deserialize as _;
use serde_json::Value;

/// Appends `json`, an object, as JSONx.
pub(crate) fn write(json: &[u8], out: &mut Vec<u8>) {
    let mut reader = serde_json::Deserializer::from_slice(json);
    // How deep it can be was limited where it came from.
    reader.disable_recursion_limit();
    match Value::deserialize(&mut reader) {
        Ok(Value::Object(members)) => members.iter().for_each(|(name, value)| element(Some(name), value, out)),
        // It was written a moment ago by this crate, so it parses; if ever not, the record is there all the same.
        _ => element(Some("record"), &String::from_utf8_lossy(json).into(), out),
    }
}

fn element(name: Option<&str>, value: &Value, out: &mut Vec<u8>) {
    let kind = match value {
        Value::Array(_) => "array",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
        Value::Number(_) => "number",
        Value::Object(_) => "object",
        Value::String(_) => "string",
    };
    out.extend_from_slice(b"<json:");
    out.extend_from_slice(kind.as_bytes());
    if let Some(name) = name {
        out.extend_from_slice(b" name=\"");
        escaped(name, out);
        out.push(b'"');
    }
    if value.is_null() {
        out.extend_from_slice(b" />");
        return;
    }
    out.push(b'>');
    match value {
        Value::Array(items) => items.iter().for_each(|item| element(None, item, out)),
        Value::Object(members) => members.iter().for_each(|(name, value)| element(Some(name), value, out)),
        Value::String(text) => escaped(text, out),
        plain => out.extend_from_slice(plain.to_string().as_bytes()),
    }
    out.extend_from_slice(b"</json:");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'>');
}

/// Text for an element or an attribute. Line breaks become references, so that a record stays one line; what XML cannot hold at all
/// becomes a replacement character.
fn escaped(text: &str, out: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    for letter in text.chars() {
        out.extend_from_slice(written(letter, &mut bytes).as_bytes());
    }
}

/// How many bytes `text` takes.
pub(crate) fn text_bytes(text: &str) -> usize {
    let mut bytes = [0; 4];
    text.chars().map(|letter| written(letter, &mut bytes).len()).sum()
}

fn written(letter: char, bytes: &mut [u8; 4]) -> &str {
    match letter {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '"' => "&#34;",
        '\'' => "&#39;",
        '\t' => "&#x9;",
        '\n' => "&#xA;",
        '\r' => "&#xD;",
        '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
        plain => plain.encode_utf8(bytes),
    }
}

/// The most that the element around a value takes, with the name's attribute: of a boolean.
pub(crate) const ELEMENT_BYTES_MAX: usize = "<json:boolean name=\"\"></json:boolean>".len();

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonx(json: &str) -> String {
        let mut out = Vec::new();
        write(json.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_value_has_its_element() {
        let json = r#"{"auth":{"policies":["root"],"ttl":60},"error":"no","left":true,"none":null}"#;
        let expected = concat!(
            r#"<json:object name="auth"><json:array name="policies"><json:string>root</json:string></json:array>"#,
            r#"<json:number name="ttl">60</json:number></json:object><json:string name="error">no</json:string>"#,
            r#"<json:boolean name="left">true</json:boolean><json:null name="none" />"#,
        );
        assert_eq!(jsonx(json), expected);
    }

    #[test]
    fn depth_is_no_reason_to_lose_a_record() {
        let json = format!("{{\"a\":{}5{}}}", "[".repeat(400), "]".repeat(400));
        assert!(jsonx(&json).contains("<json:array><json:number>5</json:number></json:array>"));
        assert_eq!(jsonx("{\"a\":"), "<json:string name=\"record\">{&#34;a&#34;:</json:string>");
    }

    #[test]
    fn nothing_of_a_text_can_end_its_element_or_the_line() {
        let json = r#"{"<a&\"'>":"x\n</json:string>\u0000\t"}"#;
        let expected = "<json:string name=\"&lt;a&amp;&#34;&#39;&gt;\">x&#xA;&lt;/json:string&gt;\u{fffd}&#x9;</json:string>";
        assert_eq!(jsonx(json), expected);
    }
}
