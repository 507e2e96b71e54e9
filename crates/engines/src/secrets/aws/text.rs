//! Texts as Go writes them, where clients see them.

pub(super) use crate::go_text::quoted;

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
