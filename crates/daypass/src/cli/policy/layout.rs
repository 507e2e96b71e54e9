//! The layout of a policy: two spaces a level, one space around `=`, equal signs of neighbouring lines under each other.
//!
//! It moves white space only. Strings, heredocs and comments are kept as they are, so the policy means what it meant.

/// Lays out HCL. Fails, with the line, where brackets or quotes do not close.
pub(super) fn tidy(text: &str) -> Result<String, String> {
    let mut lines: Vec<Line> = Vec::new();
    let mut depth = 0_usize;
    let mut heredoc: Option<String> = None;
    for (number, raw) in text.lines().enumerate() {
        if let Some(end) = &heredoc {
            if raw.trim() == end {
                heredoc = None;
            }
            lines.push(Line { depth: 0, text: raw.to_owned(), verbatim: true });
            continue;
        }
        let scanned = scan(raw.trim()).map_err(|why| format!("line {}: {why}", number + 1))?;
        let own =
            depth.checked_sub(scanned.closes_first).ok_or_else(|| format!("line {}: nothing is open that could close here", number + 1))?;
        depth = (depth + scanned.opens)
            .checked_sub(scanned.closes)
            .ok_or_else(|| format!("line {}: nothing is open that could close here", number + 1))?;
        heredoc = scanned.heredoc;
        lines.push(Line { depth: own, text: scanned.text, verbatim: false });
    }
    if depth > 0 {
        return Err(format!("{depth} bracket(s) never closed"));
    }
    if let Some(end) = heredoc {
        return Err(format!("the text that ends with {end} never ends"));
    }
    align(&mut lines);
    Ok(joined(&lines))
}

struct Line {
    depth: usize,
    text: String,
    verbatim: bool,
}

struct Scanned {
    text: String,
    opens: usize,
    closes: usize,
    /// Brackets that close before anything else stands on the line.
    closes_first: usize,
    heredoc: Option<String>,
}

/// Reads one line: spaces out its tokens and counts its brackets.
fn scan(line: &str) -> Result<Scanned, String> {
    let mut out = Scanned { text: String::new(), opens: 0, closes: 0, closes_first: 0, heredoc: None };
    let mut rest = line;
    let mut leading = true;
    while let Some(c) = rest.chars().next() {
        let token_len = match c {
            '#' => rest.len(),
            '/' if rest.starts_with("//") => rest.len(),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_len(rest)?,
            '<' if rest.starts_with("<<") => rest.len(),
            c if c.is_whitespace() => {
                rest = rest.trim_start();
                continue;
            }
            '{' | '[' | '}' | ']' | ',' | '=' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || "{}[],=\"#".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(token_len);
        match c {
            '{' | '[' => out.opens += 1,
            '}' | ']' => {
                out.closes += 1;
                // `}` alone, or `])` at the start of a line, belongs to the level that it returns to.
                out.closes_first += usize::from(leading);
            }
            '<' => out.heredoc = Some(token.trim_start_matches("<<").trim_start_matches('-').trim().to_owned()),
            _ => {}
        }
        leading &= matches!(c, '}' | ']');
        push_token(&mut out.text, token);
        rest = after;
    }
    Ok(out)
}

fn push_token(text: &mut String, token: &str) {
    let tight = text.is_empty() || token == "," || token == "]" || text.ends_with('[') || (token == "}" && text.ends_with('{'));
    if !tight {
        text.push(' ');
    }
    text.push_str(token);
}

fn string_len(rest: &str) -> Result<usize, String> {
    let mut escaped = false;
    for (place, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok(place + 1),
            _ => {}
        }
    }
    Err("a quoted string never ends".to_owned())
}

/// Puts the equal signs of neighbouring assignments under each other.
fn align(lines: &mut [Line]) {
    let mut start = 0;
    while start < lines.len() {
        let depth = lines.get(start).map_or(0, |line| line.depth);
        let run = lines.iter().skip(start).take_while(|line| line.depth == depth && key_len(line).is_some()).count();
        let widest = lines.iter().skip(start).take(run).filter_map(key_len).max().unwrap_or(0);
        for line in lines.iter_mut().skip(start).take(run) {
            if let Some(len) = key_len(line) {
                line.text.insert_str(len, &" ".repeat(widest - len));
            }
        }
        start += run.max(1);
    }
}

/// Length of the key of `key = value` on one line.
fn key_len(line: &Line) -> Option<usize> {
    let len = line.text.find(" = ")?;
    let whole = line.text.matches(['[', '{']).count() == line.text.matches([']', '}']).count();
    let key = line.text.get(..len)?;
    (!line.verbatim && whole && key.chars().all(|c| c.is_alphanumeric() || "_-\"*./+".contains(c))).then_some(len)
}

fn joined(lines: &[Line]) -> String {
    let mut out = String::new();
    let mut blank = true;
    for line in lines {
        if line.verbatim {
            out.push_str(&line.text);
            out.push('\n');
            blank = false;
        } else if !line.text.is_empty() {
            out.extend(std::iter::repeat_n("  ", line.depth));
            out.push_str(&line.text);
            out.push('\n');
            blank = false;
        } else if !blank {
            // Of several empty lines one stays.
            out.push('\n');
            blank = true;
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_levels_are_set_right() {
        let text = "path \"secret/*\" {\ncapabilities=[\"read\",\"list\"]\n}\n";
        assert_eq!(tidy(text).unwrap(), "path \"secret/*\" {\n  capabilities = [\"read\", \"list\"]\n}\n");
    }

    #[test]
    fn equal_signs_of_neighbours_line_up() {
        let text = "path \"a\" {\n capabilities = [\"read\"]\n min_wrapping_ttl=\"1s\"\n\n x = 1\n}";
        let wanted = "path \"a\" {\n  capabilities     = [\"read\"]\n  min_wrapping_ttl = \"1s\"\n\n  x = 1\n}\n";
        assert_eq!(tidy(text).unwrap(), wanted);
    }

    #[test]
    fn comments_strings_and_heredocs_stay_as_they_are() {
        let text = "# a  {comment\npath \"a  {=b\" { // x\n  allowed_parameters = {\n\"k\" = []\n}\n}\n";
        let wanted = "# a  {comment\npath \"a  {=b\" { // x\n  allowed_parameters = {\n    \"k\" = []\n  }\n}\n";
        assert_eq!(tidy(text).unwrap(), wanted);
        let heredoc = "x = <<EOF\n   {as it is\nEOF\n";
        assert_eq!(tidy(heredoc).unwrap(), heredoc);
    }

    #[test]
    fn tidying_twice_changes_nothing() {
        let once = tidy("path \"a\" {capabilities=[\n\"read\",\n\"list\",\n]\n}").unwrap();
        assert_eq!(tidy(&once).unwrap(), once);
    }

    #[test]
    fn what_does_not_close_is_an_error_with_its_line() {
        assert!(tidy("path \"x\" {\n").unwrap_err().contains("never closed"));
        assert_eq!(tidy("a = 1\n}\n").unwrap_err(), "line 2: nothing is open that could close here");
        assert_eq!(tidy("a = \"x\n").unwrap_err(), "line 1: a quoted string never ends");
    }
}
