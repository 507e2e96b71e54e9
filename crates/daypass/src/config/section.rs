//! One block of the file: hands out values by key and type, and at the end says which keys nobody asked for.

use std::path::{Path, PathBuf};

use daypass_base::Seconds;
use daypass_base::hcl::{Item, Kind, Value, nearest};
use daypass_base::trace::Ratio;

use super::Findings;
use super::known::Ignored;

/// A block that is being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) file: &'a Path,
    /// What messages call it: `listener "tcp"`; empty at the top.
    name: String,
    items: Vec<&'a Item>,
    /// The line of the block.
    pub(super) line: u32,
    taken: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(file: &'a Path, name: impl Into<String>, items: impl IntoIterator<Item = &'a Item>, line: u32) -> Self {
        Self { file, name: name.into(), items: items.into_iter().collect(), line, taken: Vec::new() }
    }

    /// All items of a key.
    pub(super) fn items(&mut self, key: &'static str) -> Vec<&'a Item> {
        self.taken.push(key);
        self.items.iter().copied().filter(|item| item.name() == key).collect()
    }

    /// The value of a key; of several the last, as in Vault.
    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.items(key).last().map(|item| &item.value)
    }

    /// Reads a value or notes what was expected of it.
    fn read<T>(&mut self, key: &'static str, findings: &mut Findings, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.value(key)?;
        match read(value) {
            Ok(read) => Some(read),
            Err(wrong) => {
                self.wrong(value.at.line, key, &wrong, findings);
                None
            }
        }
    }

    /// Notes what is wrong with the value of a key.
    pub(super) fn wrong(&self, line: u32, key: &str, wrong: &str, findings: &mut Findings) {
        findings.mistake(self.file, line, format!("{}: {wrong}", self.full(key)));
    }

    /// `listener "tcp": address`.
    pub(super) fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}: {key}", self.name) }
    }

    /// The line of a key, else of the block.
    pub(super) fn line_of(&self, key: &str) -> u32 {
        self.items.iter().rev().find(|item| item.name() == key).map_or(self.line, |item| item.line())
    }

    /// A text; empty is as good as absent.
    pub(super) fn text(&mut self, key: &'static str, findings: &mut Findings) -> Option<String> {
        self.read(key, findings, |value| value.as_text().ok_or_else(|| expected("a string", value))).filter(|text| !text.is_empty())
    }

    /// A path.
    pub(super) fn path(&mut self, key: &'static str, findings: &mut Findings) -> Option<PathBuf> {
        self.text(key, findings).map(PathBuf::from)
    }

    /// `true`, `"true"`, `1`, `"1"`.
    pub(super) fn flag(&mut self, key: &'static str, findings: &mut Findings) -> Option<bool> {
        self.read(key, findings, |value| flag(value).ok_or_else(|| expected("true or false", value)))
    }

    /// A whole number, also in quotes.
    pub(super) fn number(&mut self, key: &'static str, findings: &mut Findings) -> Option<u64> {
        self.read(key, findings, |value| {
            let number = whole(value)?;
            u64::try_from(number).map_err(|_negative| format!("{number} is below zero"))
        })
    }

    /// A whole number that is 0 where the file has less, which is how Vault writes "off".
    pub(super) fn number_or_off(&mut self, key: &'static str, findings: &mut Findings) -> Option<u64> {
        self.read(key, findings, |value| whole(value).map(|number| u64::try_from(number).unwrap_or(0)))
    }

    /// Seconds or a duration.
    pub(super) fn seconds(&mut self, key: &'static str, findings: &mut Findings) -> Option<Seconds> {
        self.read(key, findings, |value| match value.as_text() {
            Some(text) => Seconds::parse(&text).map_err(|wrong| format!("{wrong}; write seconds, or a duration such as \"90s\" or \"1h\"")),
            None => Err(expected("seconds or a duration", value)),
        })
    }

    /// A share of a whole: a number from 0 to 1, also in quotes.
    pub(super) fn share(&mut self, key: &'static str, findings: &mut Findings) -> Option<Ratio> {
        self.read(key, findings, |value| {
            let share = match &value.kind {
                Kind::Float(share) => Some(*share),
                _ => value.as_text().and_then(|text| text.trim().parse().ok()),
            };
            share.and_then(Ratio::of).ok_or_else(|| expected("a number from 0 to 1", value))
        })
    }

    /// A list of texts, also one text with commas.
    pub(super) fn texts(&mut self, key: &'static str, findings: &mut Findings) -> Vec<String> {
        self.read(key, findings, texts).unwrap_or_default()
    }

    /// The items of blocks of that key, all together: `telemetry { }`.
    pub(super) fn inner(&mut self, key: &'static str, findings: &mut Findings) -> Option<Section<'a>> {
        let mut inner: Vec<&Item> = Vec::new();
        let mut line = None;
        for item in self.items(key) {
            let objects = item.value.objects();
            if objects.is_empty() || item.keys.len() > 1 {
                self.wrong(item.line(), key, &expected("a block", &item.value), findings);
            }
            inner.extend(objects.into_iter().flatten());
            line = line.or(Some(item.line()));
        }
        line.map(|line| Section::new(self.file, self.full(key), inner, line))
    }

    /// Names every key that nobody asked for: known ones with the reason, others as mistakes.
    pub(super) fn finish(self, ignored: &[Ignored], findings: &mut Findings) {
        for item in &self.items {
            let name = item.name();
            if self.taken.contains(&name) {
                continue;
            }
            if let Some((_, why)) = ignored.iter().find(|(key, _)| *key == name) {
                findings.warning(self.file, item.line(), format!("{} has no effect on this server: {why}", self.full(name)));
                continue;
            }
            let known: Vec<&str> = self.taken.iter().copied().chain(ignored.iter().map(|(key, _)| *key)).collect();
            let hint = nearest(name, &known).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            findings.mistake(self.file, item.line(), format!("{}: nobody knows this key{hint}", self.full(name)));
        }
    }
}

fn whole(value: &Value) -> Result<i64, String> {
    let number = value.as_int().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    number.ok_or_else(|| expected("a whole number", value))
}

/// The texts of a value: a list of them, or one with commas.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, String> {
    let entries = match &value.kind {
        Kind::List(entries) => entries
            .iter()
            .map(|entry| entry.as_text().ok_or_else(|| expected("a list of strings", entry)))
            .collect::<Result<Vec<_>, _>>()?,
        _ => value.as_text().ok_or_else(|| expected("a list of strings", value))?.split(',').map(str::to_owned).collect(),
    };
    Ok(entries.iter().map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty()).collect())
}

/// What was expected and what is there.
pub(super) fn expected(what: &str, value: &Value) -> String {
    let shown = match &value.kind {
        Kind::Text(text) if text.len() <= 40 => format!("{text:?}"),
        Kind::Int(number) => number.to_string(),
        Kind::Float(number) => number.to_string(),
        Kind::Bool(flag) => flag.to_string(),
        _ => value.kind_name().to_owned(),
    };
    format!("{what} was expected, not {shown}")
}

fn flag(value: &Value) -> Option<bool> {
    match &value.kind {
        Kind::Bool(flag) => Some(*flag),
        Kind::Int(0) => Some(false),
        Kind::Int(1) => Some(true),
        Kind::Text(text) => flag_word(text),
        _ => None,
    }
}

/// The words that Go's `strconv.ParseBool` knows.
pub(super) fn flag_word(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
