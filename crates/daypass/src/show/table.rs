//! Columns of text as Vault's table format lays them out: four spaces between columns, dashes under the headings, `n/a` for nothing.

use std::borrow::Cow;
use std::time::Duration;

use daypass_base::duration;

use super::inert;
use super::value::Value;

/// Rows with a heading and dashes under it. No rows, no text.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut all = vec![headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>()];
    all.push(headings.iter().map(|heading| "-".repeat(heading.len())).collect());
    all.extend(rows.iter().cloned());
    columns(&all, "    ")
}

/// Rows set under each other, joined by `glue`; the last column is not padded. What would give a terminal orders does not: see [`inert`].
pub(crate) fn columns(rows: &[Vec<String>], glue: &str) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if place > 0 {
                line.push_str(glue);
            }
            line.push_str(cell);
            if place + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// A Key/Value table; nothing when there are no pairs.
pub(crate) fn key_values(pairs: &[(String, String)]) -> Option<String> {
    let rows: Vec<Vec<String>> = pairs.iter().map(|(key, value)| vec![key.clone(), value.clone()]).collect();
    (!rows.is_empty()).then(|| table(&["Key", "Value"], &rows))
}

/// The pairs of a map as they stand in a table: sorted, and with times where the key names one.
pub(crate) fn pairs(map: &Value) -> Vec<(String, String)> {
    map.sorted().entries().iter().map(|(key, value)| (key.clone(), cell(key, value))).collect()
}

/// One value of a table. A number under a key like `ttl` or `lease_duration` is shown as a time.
fn cell(key: &str, value: &Value) -> String {
    match value.as_integer() {
        Some(seconds) if names_a_time(key) => human_seconds(seconds),
        _ => value.go(),
    }
}

fn names_a_time(key: &str) -> bool {
    let plain = ["period", "ttl", "duration", "lease_max", "ttl_max"];
    plain.contains(&key) || ["_period", "_ttl", "_duration"].iter().any(|end| key.ends_with(end))
}

/// Seconds as Vault's tables show them: `0s`, `45s`, `1h`, `1h5s`, `768h`.
pub(crate) fn human_seconds(seconds: i64) -> String {
    let mut text = duration::go_string(Duration::from_secs(seconds.unsigned_abs()));
    if text.ends_with("m0s") {
        text.truncate(text.len() - 2);
    }
    if let Some(place) = text.find("h0m").filter(|place| *place > 0) {
        text.replace_range(place + 1..place + 3, "");
    }
    if seconds < 0 { format!("-{text}") } else { text }
}

/// A heading between equal signs, about as wide as the table under it.
pub(crate) fn banner(title: &str, width: usize) -> String {
    let mut signs = width.saturating_sub(title.len() + 2);
    if signs == 0 {
        signs = 4;
    }
    let side = "=".repeat(signs.div_ceil(2));
    format!("{side} {title} {side}")
}

/// The banner of the table of `map`.
pub(crate) fn banner_for(title: &str, map: &Value) -> String {
    // Four for the space between the columns, five for the word "Value".
    let longest = map.entries().iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    banner(title, longest + 4 + 5)
}

/// Breaks `text` between words so that no line is longer than `width`, each line after `margin` spaces.
pub(crate) fn wrap(text: &str, width: usize, margin: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width.saturating_sub(margin) {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    let margin = " ".repeat(margin);
    lines.iter().map(|line| if line.is_empty() { String::new() } else { format!("{margin}{line}") }).collect::<Vec<_>>().join("\n")
}

fn shown(cell: &str) -> Cow<'_, str> {
    match cell.trim() {
        "" => Cow::Borrowed("n/a"),
        cell => inert(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_cells_are_named_and_the_last_column_is_ragged() {
        let text = table(&["Path", "Description"], &[vec!["a/".into(), String::new()], vec!["longer/".into(), "x".into()]]);
        assert_eq!(text, "Path       Description\n----       -----------\na/         n/a\nlonger/    x");
    }

    #[test]
    fn times_lose_their_empty_units() {
        for (seconds, text) in [
            (0, "0s"),
            (45, "45s"),
            (60, "1m"),
            (3600, "1h"),
            (3605, "1h5s"),
            (5400, "1h30m"),
            (2_764_800, "768h"),
            (2_764_799, "767h59m59s"),
            (-60, "-1m"),
        ] {
            assert_eq!(human_seconds(seconds), text);
        }
    }

    #[test]
    fn only_numbers_under_time_keys_become_times() {
        let map = Value::parse(r#"{"ttl":3600,"max_ttl":"3600","num_uses":3600,"token_period":60,"attl":5}"#).unwrap();
        let shown: Vec<_> = pairs(&map).into_iter().map(|(_, value)| value).collect();
        assert_eq!(shown, ["5", "3600", "3600", "1m", "1h"]);
    }

    #[test]
    fn banners_are_as_wide_as_their_tables() {
        assert_eq!(banner("Metadata", 24), "======= Metadata =======");
        assert_eq!(banner("Secret Path", 15), "= Secret Path =");
        assert_eq!(banner("Secret Path", 3), "== Secret Path ==");
    }

    #[test]
    fn words_wrap_at_the_width() {
        assert_eq!(wrap("* aaa bbb ccc", 9, 2), "  * aaa\n  bbb ccc");
    }
}
