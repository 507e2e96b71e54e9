//! From a policy's text to its stanzas. Checks in Vault's order, so that the first mistake is the one that Vault names.

use std::sync::Arc;
use std::time::Duration;

use daypass_base::hcl::{self, Document, Form, Item, Kind, Position, Value};
use daypass_base::units::Seconds;
use daypass_base::{Brief, duration};

use crate::policy::{Mistake, Policy, PolicyError, Stanza, limits};
use crate::template::Template;
use crate::{Capabilities, Capability, Parameters, Permissions};

impl Policy {
    /// Reads a policy from HCL or JSON.
    ///
    /// ```
    /// let policy = daypass_policy::Policy::parse("ci", "path \"aws/sts/*\" { capabilities = [\"read\"] }").unwrap();
    /// assert_eq!(policy.stanzas()[0].pattern(), "aws/sts/*");
    /// let error = daypass_policy::Policy::parse("ci", "path \"a\" { capabilities = [\"fly\"] }").unwrap_err();
    /// assert_eq!(error.to_string(), "failed to parse policy: path \"a\": invalid capability \"fly\"");
    /// ```
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        let limits = hcl::Limits { bytes_max: limits::TEXT_BYTES_MAX, ..hcl::Limits::default() };
        let (document, errors) = hcl::parse_within(text, limits);
        let mut reader = Reader::default();
        for error in errors {
            reader.mistake(error.at, error.message.clone(), || error.to_string());
        }
        if reader.first.is_none() {
            reader.document(&document);
        }
        if let Some(first) = reader.first {
            reader.mistakes.sort_by_key(|mistake| mistake.at);
            return Err(PolicyError { first, mistakes: reader.mistakes });
        }
        Ok(Self { name: name.into(), text: text.to_owned(), stanzas: reader.stanzas, warnings: reader.warnings, root: false })
    }
}

/// Keys of a `path` block.
const KEYS: [&str; 11] = [
    "comment",
    "policy",
    "capabilities",
    "allowed_parameters",
    "denied_parameters",
    "required_parameters",
    "min_wrapping_ttl",
    "max_wrapping_ttl",
    "mfa_methods",
    "control_group",
    "subscribe_event_types",
];

/// Keys that are read and then do nothing: features of Vault's Enterprise edition and of its events.
const WITHOUT_EFFECT: [&str; 3] = ["mfa_methods", "control_group", "subscribe_event_types"];

#[derive(Default)]
struct Reader {
    first: Option<String>,
    mistakes: Vec<Mistake>,
    stanzas: Vec<Stanza>,
    warnings: Vec<String>,
}

/// One `path` block before it is checked.
struct Block<'a> {
    pattern: &'a str,
    items: &'a [Item],
    at: Position,
}

/// What a block says, its types checked.
#[derive(Default)]
struct Said {
    policy: Option<(Position, String)>,
    capabilities: Vec<(Position, String)>,
    permissions: Permissions,
    wrapping_min: Option<Value>,
    wrapping_max: Option<Value>,
}

impl Reader {
    /// Notes a mistake; `first` is Vault's text for it, in case it is the first.
    fn mistake(&mut self, at: Position, text: impl Into<String>, first: impl FnOnce() -> String) {
        self.mistakes.push(Mistake { at, text: text.into() });
        if self.first.is_none() {
            self.first = Some(first());
        }
    }

    /// Notes a mistake whose text is Vault's.
    fn plain(&mut self, at: Position, text: impl Into<String>) {
        let text = text.into();
        self.mistake(at, text.clone(), || text);
    }

    /// Notes keys that nobody knows. Vault names all of one level together.
    fn unknown_keys(&mut self, items: &[Item], known: &[&str], prefix: &str) {
        let unknown: Vec<&Item> = items.iter().filter(|item| !known.contains(&item.name())).collect();
        let texts: Vec<String> =
            unknown.iter().map(|item| format!("{prefix}invalid key {} on line {}", quoted(item.name()), item.assign_line())).collect();
        for item in &unknown {
            let text = format!("{prefix}invalid key {}{}", quoted(item.name()), suggestion(item.name(), known));
            self.mistake(item.at(), text, || several(&texts));
        }
    }

    fn document(&mut self, document: &Document) {
        self.unknown_keys(&document.items, &["name", "path"], "");
        for item in document.named("name") {
            if item.value.as_text().is_none() {
                self.plain(item.value.at, format!("name: a string was expected, not {}", item.value.kind_name()));
            }
        }
        if !document.duplicates().is_empty() {
            self.warnings.push("policy contains duplicate attributes, which will no longer be supported in a future version".to_owned());
        }
        let mut blocks = Vec::new();
        for item in document.named("path") {
            match document.form {
                Form::Hcl => self.hcl_block(item, &mut blocks),
                Form::Json => self.json_blocks(item, &mut blocks),
            }
        }
        if let Some(block) = blocks.get(limits::PATHS_MAX) {
            self.plain(block.at, format!("{} paths, the limit is {}", blocks.len(), limits::PATHS_MAX));
            return;
        }
        for block in &blocks {
            self.stanza(block);
        }
    }

    fn hcl_block<'a>(&mut self, item: &'a Item, blocks: &mut Vec<Block<'a>>) {
        // Without a label Vault takes the word itself for the pattern.
        let pattern = item.keys.get(1).map_or("path", |key| key.text.as_str());
        let Some(items) = item.value.as_object() else {
            self.plain(item.value.at, format!("path {}: a block was expected, not {}", quoted(pattern), item.value.kind_name()));
            return;
        };
        if item.keys.len() > 2 {
            self.warnings.push(format!("line {}: only the first pattern of a path counts, {}", item.line(), quoted(pattern)));
        }
        blocks.push(Block { pattern, items, at: item.at() });
    }

    fn json_blocks<'a>(&mut self, item: &'a Item, blocks: &mut Vec<Block<'a>>) {
        self.expect_objects(&item.value, "path");
        for inner in item.value.objects().into_iter().flatten() {
            self.expect_objects(&inner.value, &format!("path {}", quoted(inner.name())));
            blocks.extend(inner.value.objects().into_iter().map(|items| Block { pattern: inner.name(), items, at: inner.at() }));
        }
    }

    fn expect_objects(&mut self, value: &Value, what: &str) {
        if value.objects().is_empty() && value.as_list().is_none_or(|values| !values.is_empty()) {
            self.plain(value.at, format!("{what}: an object was expected, not {}", value.kind_name()));
        }
    }

    fn stanza(&mut self, block: &Block<'_>) {
        let key = quoted(block.pattern);
        let Ok(template) = Template::parse(block.pattern) else {
            self.plain(block.at, "failed to validate policy templating: unbalanced templating characters");
            return;
        };
        let before = self.mistakes.len();
        self.unknown_keys(block.items, &KEYS, &format!("path {key}: "));
        let said = self.said(block, &key);
        let pattern = block.pattern.strip_prefix('/').unwrap_or(block.pattern);
        if pattern.contains("+*") {
            self.plain(block.at, format!("path {}: invalid use of wildcards ('+*' is forbidden)", quoted(pattern)));
        }
        if pattern.len() > limits::PATTERN_BYTES_MAX {
            self.plain(block.at, format!("a path pattern has {} bytes, the limit is {}", pattern.len(), limits::PATTERN_BYTES_MAX));
        }
        if let Some(permissions) = self.permissions(said, &key)
            && before == self.mistakes.len()
        {
            self.warn(block, &key, &template);
            self.stanzas.push(Stanza { template, permissions: Arc::new(permissions), line: block.at.line });
        }
    }

    fn warn(&mut self, block: &Block<'_>, key: &str, template: &Template) {
        if template.has_unknown_directive() {
            self.warnings.push(format!("path {key}: a template directive is not known, so the stanza never applies"));
        }
        for item in block.items.iter().filter(|item| WITHOUT_EFFECT.contains(&item.name())) {
            self.warnings.push(format!("path {key}: {} on line {} has no effect on this server", item.name(), item.line()));
        }
    }

    /// Reads the values of a block; a wrong type is noted.
    fn said(&mut self, block: &Block<'_>, key: &str) -> Said {
        let mut said = Said::default();
        for item in block.items {
            let name = item.name();
            let result = match name {
                "policy" => text(&item.value).map(|text| said.policy = Some((item.value.at, text))),
                "capabilities" => texts(&item.value).map(|mut texts| said.capabilities.append(&mut texts)),
                "required_parameters" => {
                    texts(&item.value).map(|texts| said.permissions.required.extend(texts.into_iter().map(|(_, text)| text.to_lowercase())))
                }
                "allowed_parameters" => parameters(item, &mut said.permissions.allowed),
                "denied_parameters" => parameters(item, &mut said.permissions.denied),
                "min_wrapping_ttl" => {
                    said.wrapping_min = Some(item.value.clone());
                    Ok(())
                }
                "max_wrapping_ttl" => {
                    said.wrapping_max = Some(item.value.clone());
                    Ok(())
                }
                "comment" => text(&item.value).map(drop),
                _ => Ok(()),
            };
            if let Err((at, wrong)) = result {
                self.plain(at, format!("path {key}: {name}: {wrong}"));
            }
        }
        said
    }

    /// What the block permits. A deny ends the reading, as in Vault: what else the block says does not matter then.
    fn permissions(&mut self, said: Said, key: &str) -> Option<Permissions> {
        let mut permissions = said.permissions;
        let mut words = said.capabilities;
        if let Some((at, policy)) = said.policy.filter(|(_, policy)| !policy.is_empty()) {
            match legacy(&policy) {
                Some([Capability::Deny]) => return Some(Permissions::deny()),
                Some(granted) => words.extend(granted.iter().map(|capability| (at, capability.as_str().to_owned()))),
                None => {
                    self.plain(at, format!("path {key}: invalid policy {}", quoted(&policy)));
                    return None;
                }
            }
        }
        let mut valid = true;
        for (at, word) in words {
            match Capability::from_word(&word) {
                Some(Capability::Deny) => return valid.then(Permissions::deny),
                Some(capability) => permissions.capabilities = permissions.capabilities.with(Capabilities::only(capability)),
                None => {
                    self.plain(at, format!("path {key}: invalid capability {}", quoted(&word)));
                    valid = false;
                }
            }
        }
        permissions.wrapping_min = self.wrapping("min_wrapping_ttl", said.wrapping_min.as_ref());
        permissions.wrapping_max = self.wrapping("max_wrapping_ttl", said.wrapping_max.as_ref());
        if let (Some(min), Some(max), Some(value)) = (permissions.wrapping_min.set(), permissions.wrapping_max.set(), said.wrapping_max)
            && max < min
        {
            self.plain(value.at, "max_wrapping_ttl cannot be less than min_wrapping_ttl");
        }
        valid.then_some(permissions)
    }

    fn wrapping(&mut self, name: &str, value: Option<&Value>) -> Seconds {
        let Some(value) = value else { return Seconds::ZERO };
        wrapping_limit(value).unwrap_or_else(|wrong| {
            self.plain(value.at, format!("error parsing {name}: {wrong}"));
            Seconds::ZERO
        })
    }
}

type Wrong = (Position, String);

fn text(value: &Value) -> Result<String, Wrong> {
    value.as_text().ok_or_else(|| (value.at, format!("a string was expected, not {}", value.kind_name())))
}

fn list(value: &Value) -> Result<&[Value], Wrong> {
    value.as_list().ok_or_else(|| (value.at, format!("a list was expected, not {}", value.kind_name())))
}

fn texts(value: &Value) -> Result<Vec<(Position, String)>, Wrong> {
    list(value)?.iter().map(|entry| text(entry).map(|text| (entry.at, text))).collect()
}

fn parameters(item: &Item, into: &mut Parameters) -> Result<(), Wrong> {
    let entries = item
        .value
        .as_object()
        .ok_or_else(|| (item.value.at, format!("an object of lists was expected, not {}", item.value.kind_name())))?;
    for entry in entries {
        let values = list(&entry.value).map_err(|(at, wrong)| (at, format!("{}: {wrong}", quoted(entry.name()))))?;
        into.add(entry.name(), values.iter().map(Value::to_json).collect());
    }
    Ok(())
}

/// A limit on wrapping in whole seconds. One that is shorter than a second stays a limit: it must not turn into "none".
fn wrapping_limit(value: &Value) -> Result<Seconds, String> {
    let length = match &value.kind {
        Kind::Int(seconds) => {
            u64::try_from(*seconds).map(Duration::from_secs).map_err(|_negative| format!("cannot provide negative value '{seconds}'"))?
        }
        Kind::Float(seconds) => Duration::try_from_secs_f64(*seconds).map_err(|error| error.to_string())?,
        Kind::Text(text) => match duration::parse(text).map_err(|error| error.to_string())? {
            signed if signed.negative && !signed.size.is_zero() => return Err(format!("cannot provide negative value '{text}'")),
            signed => signed.size,
        },
        _ => return Err(format!("a duration was expected, not {}", value.kind_name())),
    };
    Ok(if length.is_zero() { Seconds::ZERO } else { Seconds(length.as_secs().max(1)) })
}

/// The words of `policy = "..."`, from before there were capabilities.
fn legacy(policy: &str) -> Option<&'static [Capability]> {
    use Capability::{Create, Delete, Deny, List, Read, Sudo, Update};
    Some(match policy {
        "deny" => &[Deny],
        "read" => &[Read, List],
        "write" => &[Create, Read, Update, Delete, List],
        "sudo" => &[Create, Read, Update, Delete, List, Sudo],
        _ => return None,
    })
}

/// A list of errors as Vault prints it.
fn several(texts: &[String]) -> String {
    let errors = if texts.len() == 1 { "error" } else { "errors" };
    let lines: Vec<String> = texts.iter().map(|text| format!("* {text}")).collect();
    format!("{} {errors} occurred:\n\t{}\n\n", texts.len(), lines.join("\n\t"))
}

fn quoted(text: &str) -> String {
    format!("{:?}", Brief(text))
}

/// `, did you mean "capabilities"?` where one known key is near.
fn suggestion(key: &str, known: &[&str]) -> String {
    daypass_base::hcl::nearest(key, known).map_or_else(String::new, |near| format!(", did you mean {near:?}?"))
}

#[cfg(test)]
mod tests;
