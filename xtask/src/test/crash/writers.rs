//! The kinds of writes under which the server is killed. Each writes one thing after another and knows what was acknowledged; after the
//! restart it looks for all of that, and for halves of what was not.
//!
//! - KV v2: version V holds the value V, and the metadata names exactly the versions up to the current one.
//! - KV v1 and policies: a ring of paths; each holds the last acknowledged number or the one that was on its way, twice.
//! - Tokens: made and revoked in turns; a token answers by its id and by its accessor, or by neither.

use super::{Client, Failure};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One writer.
pub(super) enum Writer {
    Ring(Ring),
    Tokens(Tokens),
    Versions(Versions),
}

impl Writer {
    /// The writers of a run.
    pub(super) fn all() -> Vec<Self> {
        vec![
            Self::Versions(Versions::new("a")),
            Self::Versions(Versions::new("b")),
            Self::Versions(Versions::new("c")),
            Self::Ring(Ring::new(Place::Kv1("a"))),
            Self::Ring(Ring::new(Place::Kv1("b"))),
            Self::Ring(Ring::new(Place::Policy)),
            Self::Tokens(Tokens::default()),
        ]
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ring(Ring { place: Place::Kv1(_), .. }) => "KV v1",
            Self::Ring(Ring { place: Place::Policy, .. }) => "policies",
            Self::Tokens(_) => "tokens",
            Self::Versions(_) => "KV v2",
        }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        match self {
            Self::Ring(ring) => ring.acknowledged,
            Self::Tokens(tokens) => tokens.acknowledged,
            Self::Versions(versions) => versions.acknowledged,
        }
    }

    /// Writes until the server is gone. Fails when it refused a write.
    pub(super) fn load(&mut self, client: &Client, stop: &AtomicBool) -> Result<(), String> {
        while !stop.load(Ordering::Relaxed) {
            let written = match self {
                Self::Ring(ring) => ring.write(client),
                Self::Tokens(tokens) => tokens.write(client),
                Self::Versions(versions) => versions.write(client),
            };
            match written {
                Ok(()) => {}
                Err(Failure::Gone(_)) => break,
                Err(refused @ Failure::Refused(..)) => return Err(refused.text()),
            }
        }
        Ok(())
    }

    /// Fails when something acknowledged is not there, or something is there by half.
    pub(super) fn check(&mut self, client: &Client) -> Result<(), String> {
        match self {
            Self::Ring(ring) => ring.check(client),
            Self::Tokens(tokens) => tokens.check(client),
            Self::Versions(versions) => versions.check(client),
        }
    }

    /// After the last kill: what can only be seen in the whole.
    pub(super) fn conclude(&mut self, client: &Client) -> Result<(), String> {
        match self {
            Self::Tokens(tokens) => tokens.conclude(client),
            Self::Ring(_) | Self::Versions(_) => Ok(()),
        }
    }
}

/// A KV v2 secret that gets one version after another, with check-and-set.
pub(super) struct Versions {
    name: &'static str,
    acknowledged: u64,
}

impl Versions {
    fn new(name: &'static str) -> Self {
        Self { name, acknowledged: 0 }
    }

    fn write(&mut self, client: &Client) -> Result<(), Failure> {
        let next = self.acknowledged + 1;
        let body = format!(r#"{{"options":{{"cas":{}}},"data":{{"n":{next}}}}}"#, self.acknowledged);
        client.call("PUT", &format!("kv2/data/{}", self.name), &body)?;
        self.acknowledged = next;
        Ok(())
    }

    fn check(&mut self, client: &Client) -> Result<(), String> {
        let (name, acknowledged) = (self.name, self.acknowledged);
        let metadata = match client.call("GET", &format!("kv2/metadata/{name}"), "") {
            Err(Failure::Refused(404, _)) if acknowledged == 0 => return Ok(()),
            answer => answer.map_err(Failure::text)?,
        };
        let current = number(&metadata, "/data/current_version");
        if current != acknowledged && current != acknowledged + 1 {
            return Err(format!("KV v2 {name}: {acknowledged} writes were acknowledged, {current} are there"));
        }
        let versions = metadata.pointer("/data/versions").and_then(Value::as_object).map_or(0, serde_json::Map::len) as u64;
        let oldest = number(&metadata, "/data/oldest_version").max(1);
        if versions != current - oldest + 1 {
            return Err(format!("KV v2 {name}: the metadata names {versions} versions from {oldest} to {current}"));
        }
        for wanted in oldest..=current {
            let data = client.call("GET", &format!("kv2/data/{name}?version={wanted}"), "").map_err(Failure::text)?;
            let (version, value) = (number(&data, "/data/metadata/version"), number(&data, "/data/data/n"));
            if version != wanted || value != wanted {
                return Err(format!("KV v2 {name}: version {wanted} of the metadata is version {version} with value {value} in the data"));
            }
        }
        self.acknowledged = current;
        Ok(())
    }
}

/// Where a ring lies.
#[derive(Clone, Copy)]
enum Place {
    Kv1(&'static str),
    Policy,
}

/// A few paths, overwritten with numbers in turns.
pub(super) struct Ring {
    place: Place,
    /// The number that was tried last, whatever became of it.
    tried: u64,
    /// The last acknowledged number of each path.
    there: [u64; RING],
    acknowledged: u64,
}

const RING: usize = 8;

impl Ring {
    fn new(place: Place) -> Self {
        Self { place, tried: 0, there: [0; RING], acknowledged: 0 }
    }

    fn path(&self, slot: usize) -> String {
        match self.place {
            Place::Kv1(name) => format!("kv1/{name}/{slot}"),
            Place::Policy => format!("sys/policies/acl/ring-{slot}"),
        }
    }

    fn write(&mut self, client: &Client) -> Result<(), Failure> {
        self.tried += 1;
        let (n, slot) = (self.tried, slot(self.tried));
        let body = match self.place {
            // Larger than a page of the database, so that a half would show.
            Place::Kv1(_) => format!(r#"{{"n":{n},"filler":"{}","twin":{n}}}"#, "x".repeat(6_000)),
            Place::Policy => {
                format!(r#"{{"policy":"path \"{n}\" {{ capabilities = [\"read\"] }}\npath \"{n}/twin\" {{ capabilities = [\"list\"] }}"}}"#)
            }
        };
        client.call("PUT", &self.path(slot), &body)?;
        if let Some(there) = self.there.get_mut(slot) {
            *there = n;
        }
        self.acknowledged += 1;
        Ok(())
    }

    fn check(&mut self, client: &Client) -> Result<(), String> {
        for slot in 0..RING {
            let path = self.path(slot);
            let there = self.there.get(slot).copied().unwrap_or_default();
            let found = match client.call("GET", &path, "") {
                Err(Failure::Refused(404, _)) => (0, 0),
                answer => self.twins(&answer.map_err(Failure::text)?),
            };
            let tried = if self::slot(self.tried) == slot { self.tried } else { there };
            if found.0 != found.1 || found.0 != there && found.0 != tried {
                return Err(format!("{path}: {there} was acknowledged, {tried} was tried, {found:?} is there"));
            }
            if let Some(there) = self.there.get_mut(slot) {
                *there = found.0;
            }
        }
        Ok(())
    }

    fn twins(&self, answer: &Value) -> (u64, u64) {
        match self.place {
            Place::Kv1(_) => (number(answer, "/data/n"), number(answer, "/data/twin")),
            Place::Policy => {
                let text = answer.pointer("/data/policy").and_then(Value::as_str).unwrap_or_default();
                let numbers: Vec<u64> = text.split(['"', '/']).filter_map(|word| word.parse().ok()).collect();
                (numbers.first().copied().unwrap_or_default(), numbers.last().copied().unwrap_or_default())
            }
        }
    }
}

/// Tokens, made and revoked in turns: of three, one stays.
#[derive(Default)]
pub(super) struct Tokens {
    /// Of this round, and a few that live on from the rounds before.
    known: Vec<Token>,
    /// Tokens that live and are not in `known` any more.
    living: u64,
    /// Creations without an answer: each may have left a token.
    perhaps: u64,
    acknowledged: u64,
}

struct Token {
    token: String,
    accessor: String,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Revoked,
    /// Its revocation got no answer.
    Unknown,
}

/// How many living tokens of one round are looked up in the next one again.
const REMEMBERED: usize = 5;

impl Tokens {
    fn write(&mut self, client: &Client) -> Result<(), Failure> {
        if !self.known.len().is_multiple_of(3)
            && let Some(token) = self.known.last_mut().filter(|token| token.fate == Fate::Lives)
        {
            token.fate = Fate::Unknown;
            client.call("POST", "auth/token/revoke", &format!(r#"{{"token":"{}"}}"#, token.token))?;
            token.fate = Fate::Revoked;
            self.acknowledged += 1;
            return Ok(());
        }
        self.perhaps += 1;
        let made = client.call("POST", "auth/token/create", r#"{"policies":["default"],"meta":{"by":"load"}}"#)?;
        self.perhaps -= 1;
        let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.known.push(Token { token: text("/auth/client_token"), accessor: text("/auth/accessor"), fate: Fate::Lives });
        self.acknowledged += 1;
        Ok(())
    }

    fn check(&mut self, client: &Client) -> Result<(), String> {
        for token in &mut self.known {
            let by_id = lives(client, "auth/token/lookup", "token", &token.token)?;
            let by_accessor = lives(client, "auth/token/lookup-accessor", "accessor", &token.accessor)?;
            let right = match token.fate {
                Fate::Lives => by_id && by_accessor,
                Fate::Revoked => !by_id && !by_accessor,
                Fate::Unknown => by_id == by_accessor,
            };
            if !right {
                let fate = match token.fate {
                    Fate::Lives => "was made",
                    Fate::Revoked => "was revoked",
                    Fate::Unknown => "was being revoked",
                };
                return Err(format!("a token {fate}; alive by its id: {by_id}, by its accessor {}: {by_accessor}", token.accessor));
            }
            token.fate = if by_id { Fate::Lives } else { Fate::Revoked };
        }
        self.known.retain(|token| token.fate == Fate::Lives);
        let forgotten = self.known.len().saturating_sub(REMEMBERED);
        self.living += forgotten as u64;
        self.known.drain(..forgotten);
        Ok(())
    }

    /// Every accessor in the list leads to a token, and there are as many as there should be. Root's own token counts too.
    fn conclude(&mut self, client: &Client) -> Result<(), String> {
        let least = self.living + self.known.len() as u64 + 1;
        let most = least + self.perhaps;
        let began = Instant::now();
        loop {
            let list = client.call("LIST", "auth/token/accessors", "").map_err(Failure::text)?;
            let accessors: Vec<&str> =
                list.pointer("/data/keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            let mut halves = Vec::new();
            for accessor in &accessors {
                if !lives(client, "auth/token/lookup-accessor", "accessor", accessor)? {
                    halves.push(*accessor);
                }
            }
            let count = accessors.len() as u64;
            if halves.is_empty() && (least..=most).contains(&count) {
                return Ok(());
            }
            // Revocations that the kill cut off are finished in the background.
            if began.elapsed() > Duration::from_secs(10) {
                return Err(format!("{count} tokens are listed, {least} to {most} should be; these are listed and not there: {halves:?}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn lives(client: &Client, path: &str, field: &str, value: &str) -> Result<bool, String> {
    match client.call("POST", path, &format!(r#"{{"{field}":"{value}"}}"#)) {
        Ok(_) => Ok(true),
        Err(Failure::Refused(403 | 404, _)) => Ok(false),
        Err(Failure::Refused(400, text)) if text.contains("invalid accessor") => Ok(false),
        Err(failure) => Err(failure.text()),
    }
}

/// The path of a ring that gets number `n`.
fn slot(n: u64) -> usize {
    usize::try_from(n).unwrap_or_default() % RING
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
