//! `sys/policies/password`: how passwords that the server makes up shall look, and passwords made that way.
//!
//! The rules are pure ([`Rules`]); a password is the least that each rule wants, the rest from all their characters, shuffled.
//! Texts: recorded fixture `password-policies`.

use std::sync::Arc;

use daypass_base::{Brief, Entropy, Secret, hcl};
use daypass_sdk::{Cx, Endpoint, Error, Keys, Kind, Operation, Reply, Result, reveal};
use daypass_storage::Batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::Sys;
use super::mounts::Nothing;
use crate::node::{Unsealed, core_key};

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["policies/password/?"]).summary("List the password policies.").on(Operation::List, list),
        Endpoint::at(["policies/password/{name..}"])
            .summary("Read, write or delete a password policy.")
            .help(HELP)
            .on(Operation::Read, read)
            .on(Operation::Update, write)
            .on(Operation::Delete, delete),
        Endpoint::at(["policies/password/{name..}/generate"])
            .summary("Make up a password by a policy.")
            .help("Nothing is stored: the password is shown once.")
            .on(Operation::Read, generate),
    ]
}

const HELP: &str = "A policy is HCL: length = 20, and one or more blocks rule \"charset\" { charset = \"abc\" min-chars = 1 }. \
                    Lengths are 4 to 100 characters.";

/// The name of a policy.
#[derive(Debug, Deserialize, JsonSchema)]
struct Name {
    /// The policy.
    name: String,
}

/// A policy to write.
#[derive(Debug, Deserialize, JsonSchema)]
struct Written {
    /// The policy.
    name: String,
    /// The rules in HCL or JSON, or that text in base64.
    #[serde(default)]
    policy: String,
}

/// A policy as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    text: String,
}

async fn list(sys: Arc<Sys>, cx: Cx, _params: Nothing) -> Result<Keys> {
    let (inner, unsealed) = sys.way.open()?;
    let most = inner.settings.limits.list_names;
    let names = unsealed.rows.list(&key(""), cx.request.page.after.as_deref().map(str::as_bytes), most + 1).await?;
    Ok(Keys(daypass_sdk::whole(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(), most)?))
}

/// Errors: 404 with a text when there is no such policy.
async fn read(sys: Arc<Sys>, _cx: Cx, params: Name) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    Ok(Reply::json(json!({ "policy": text_of(&unsealed, &params.name).await? })))
}

/// Errors: `InvalidRequest` when the text is no policy, or no password could be made by it.
async fn write(sys: Arc<Sys>, _cx: Cx, params: Written) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    if params.policy.is_empty() {
        return Err(invalid("missing policy"));
    }
    let text = match data_encoding::BASE64.decode(params.policy.as_bytes()) {
        // What is base64 of something that is no text is read by no parser; Go's says so in these words.
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|error| invalid("invalid password policy: unable to decode: At 1:1: illegal char").because(error))?,
        Err(_plain) => params.policy,
    };
    Rules::parse(&text)?;
    let batch = unsealed.rows.put_json(Batch::new(), key(params.name.trim_end_matches('/')), &Stored { text })?;
    unsealed.rows.commit(batch).await?;
    Ok(())
}

async fn delete(sys: Arc<Sys>, _cx: Cx, params: Name) -> Result<()> {
    let (_, unsealed) = sys.way.open()?;
    unsealed.rows.commit(Batch::new().delete(key(params.name.trim_end_matches('/')))).await?;
    Ok(())
}

/// Errors: 404 with a text when there is no such policy.
async fn generate(sys: Arc<Sys>, cx: Cx, params: Name) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let rules = Rules::parse(&text_of(&unsealed, &params.name).await?)?;
    let password = rules.password(&*cx.entropy);
    Ok(Reply::data(Map::from_iter([("password".to_owned(), reveal(&password))])))
}

async fn text_of(unsealed: &Unsealed, name: &str) -> Result<String> {
    let stored = unsealed.rows.get_json::<Stored>(&key(name.trim_end_matches('/'))).await?;
    let missing = || Error::new(Kind::NoSuchPath, "1 error occurred:\n\t* policy does not exist\n\n");
    stored.map(|(stored, _)| stored.text).ok_or_else(missing)
}

fn key(name: &str) -> daypass_storage::Key {
    core_key(&format!("password-policy/{name}"))
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::InvalidRequest, text)
}

/// What a password shall look like.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    length: usize,
    sets: Vec<Charset>,
}

/// Characters, and how many of them there must be.
#[derive(Debug, PartialEq, Eq)]
struct Charset {
    chars: Vec<char>,
    least: usize,
}

impl Rules {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |detail: String| invalid(format!("invalid password policy: {detail}"));
        let limits = hcl::Limits { bytes_max: TEXT_BYTES_MAX, ..hcl::Limits::default() };
        let (document, errors) = hcl::parse_within(text, limits);
        if let Some(error) = errors.first() {
            return Err(wrong(format!("unable to decode: {error}")));
        }
        let unknown: Vec<&str> = document.items.iter().map(hcl::Item::name).filter(|name| !["length", "rule"].contains(name)).collect();
        if !unknown.is_empty() {
            return Err(wrong(several(unknown.iter().map(|name| format!("found unexpected key: {}", Brief(name))))));
        }
        let length = document.named("length").last().and_then(|item| item.value.as_int()).unwrap_or(0);
        let length = usize::try_from(length).unwrap_or(0);
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
            return Err(invalid(format!("passwords must be between {LENGTH_MIN} and {LENGTH_MAX} characters")));
        }
        let mut sets = Vec::new();
        for block in document.blocks("rule") {
            match block.labels.as_slice() {
                ["charset"] => sets.push(Charset::parse(&block).map_err(wrong)?),
                [other] => return Err(wrong(format!("unrecognized rule type {:?}", Brief(other)))),
                _ => return Err(wrong("a rule needs one type, such as rule \"charset\"".to_owned())),
            }
        }
        if sets.is_empty() {
            return Err(wrong(several(["no charset specified".to_owned()])));
        }
        let least = sets.iter().fold(0_usize, |sum, set| sum.saturating_add(set.least));
        if least > length {
            return Err(wrong(several([format!("specified rules require at least {least} characters but {length} is specified")])));
        }
        Ok(Self { length, sets })
    }

    fn password(&self, entropy: &dyn Entropy) -> Secret<String> {
        let mut all: Vec<char> = self.sets.iter().flat_map(|set| set.chars.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let mut chars: Vec<char> = Vec::with_capacity(self.length);
        for set in &self.sets {
            chars.extend((0..set.least).filter_map(|_| pick(&set.chars, entropy)));
        }
        while chars.len() < self.length {
            let Some(next) = pick(&all, entropy) else { break };
            chars.push(next);
        }
        for at in (1..chars.len()).rev() {
            let other = usize::try_from(entropy.below(at as u64 + 1)).unwrap_or(0);
            chars.swap(at, other);
        }
        Secret::new(chars.into_iter().collect())
    }
}

impl Charset {
    fn parse(block: &hcl::Block<'_>) -> Result<Self, String> {
        let text = block.get("charset").and_then(|item| item.value.as_str()).unwrap_or_default();
        if text.is_empty() {
            return Err(several(["no charset specified".to_owned()]));
        }
        if text.chars().any(char::is_control) {
            return Err("non-printable character in charset".to_owned());
        }
        let mut chars: Vec<char> = text.chars().collect();
        chars.sort_unstable();
        chars.dedup();
        let least = match block.get("min-chars").or_else(|| block.get("min_chars")) {
            None => 0,
            Some(item) => {
                let number = item.value.as_int().and_then(|number| usize::try_from(number).ok());
                number.ok_or_else(|| "min-chars must be a whole number and not negative".to_owned())?
            }
        };
        Ok(Self { chars, least })
    }
}

fn pick(chars: &[char], entropy: &dyn Entropy) -> Option<char> {
    let at = usize::try_from(entropy.below(chars.len() as u64)).ok()?;
    chars.get(at).copied()
}

/// Vault's list of errors.
fn several(texts: impl IntoIterator<Item = String>) -> String {
    let texts: Vec<String> = texts.into_iter().collect();
    let noun = if texts.len() == 1 { "error" } else { "errors" };
    let lines: String = texts.iter().map(|text| format!("\t* {text}\n")).collect();
    format!("{} {noun} occurred:\n{lines}\n", texts.len())
}

const LENGTH_MIN: usize = 4;
const LENGTH_MAX: usize = 100;
const TEXT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use daypass_base::sim::SeededEntropy;

    use super::*;

    #[test]
    fn passwords_follow_every_rule() {
        let text = "length = 12\nrule \"charset\" { charset = \"abc\" }\nrule \"charset\" { charset = \"019\" min-chars = 3 }";
        let rules = Rules::parse(text).unwrap();
        for seed in 0..200 {
            let password = rules.password(&SeededEntropy::new(seed));
            let password = password.expose();
            assert_eq!(password.chars().count(), 12);
            assert!(password.chars().filter(|c| "019".contains(*c)).count() >= 3, "{password}");
            assert!(password.chars().all(|c| "abc019".contains(c)), "{password}");
        }
    }

    #[test]
    fn mistakes_are_told_in_vaults_words() {
        for (text, message) in [
            ("length = 2\nrule \"charset\" { charset = \"ab\" }", "passwords must be between 4 and 100 characters"),
            ("length = 20", "invalid password policy: 1 error occurred:\n\t* no charset specified\n\n"),
            (
                "length = 5\nrule \"charset\" { charset = \"ab\" min-chars = 6 }",
                "invalid password policy: 1 error occurred:\n\t* specified rules require at least 6 characters but 5 is specified\n\n",
            ),
        ] {
            let error = Rules::parse(text).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (Kind::InvalidRequest, message));
        }
    }

    /// Story: the least numbers of two charsets were added up without a look at how large they are. The sum went around to a small one, the policy
    /// was taken, and the password that was made by it took all memory.
    #[test]
    fn least_numbers_that_add_up_to_more_than_there_are_numbers_are_too_many() {
        let half = i64::MAX;
        let rule = |least: i64| format!("rule \"charset\" {{ charset = \"ab\" min-chars = {least} }}\n");
        let error = Rules::parse(&format!("length = 8\n{}{}{}", rule(half), rule(half), rule(6))).unwrap_err();
        assert!(error.message.contains("specified rules require at least") && error.message.ends_with("characters but 8 is specified\n\n"));
    }
}
