//! A stored secret id, its rows, and every decision about it.

use std::collections::BTreeMap;

use daypass_base::Brief;
use daypass_sdk::{Changes, Cx, Entry, Error, Expect, Result, Seconds, Timestamp, from_json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::role::Role;
use crate::auth::cidr::Network;

/// A secret id. The id itself is nowhere: its row is named by an HMAC of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SecretId {
    pub(super) accessor: String,
    /// Logins left; 0 for any number. A secret id whose last use is spent has no row.
    pub(super) num_uses: i64,
    pub(super) ttl: Seconds,
    pub(super) created: Timestamp,
    /// When it ends, if it does.
    pub(super) expires: Option<Timestamp>,
    pub(super) updated: Timestamp,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) cidr_list: Vec<String>,
    pub(super) token_bound_cidrs: Vec<String>,
}

/// Where an accessor leads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AccessorRow {
    pub(super) generation: String,
    /// What names the secret id's row.
    pub(super) id: String,
}

/// What a request says of a new secret id.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) cidr_list: Vec<String>,
    pub(super) token_bound_cidrs: Vec<String>,
    pub(super) num_uses: Option<i64>,
    pub(super) ttl: Option<Seconds>,
}

/// A secret id as it was read, with what is needed to change it.
#[derive(Debug)]
pub(super) struct FoundSecret {
    pub(super) secret: SecretId,
    pub(super) generation: String,
    pub(super) id: String,
    entry: Entry,
}

impl SecretId {
    /// Decides on a new secret id of a role. Errors: `BadRequest` for more than the role allows; `Failed` for networks outside the role's.
    pub(super) fn decide(role: &Role, wanted: Wanted, accessor: String, max_ttl: Seconds, now: Timestamp) -> Result<Self> {
        let refuse = |text: &str| Err(Error::bad_request(text));
        let num_uses = wanted.num_uses.unwrap_or(role.secret_id_num_uses);
        if num_uses < 0 {
            return refuse("num_uses cannot be negative");
        }
        // Zero is no limit, and so the largest of all.
        if role.secret_id_num_uses > 0 && (num_uses == 0 || num_uses > role.secret_id_num_uses) {
            return refuse("num_uses cannot be higher than the role's secret_id_num_uses");
        }
        let ttl = wanted.ttl.unwrap_or(role.secret_id_ttl);
        if !role.secret_id_ttl.is_zero() && (ttl.is_zero() || ttl > role.secret_id_ttl) {
            return refuse("ttl cannot be longer than the role's secret_id_ttl");
        }
        inside(&wanted.cidr_list, &role.secret_id_bound_cidrs)?;
        inside(&wanted.token_bound_cidrs, &role.token.bound_cidrs)?;
        let ttl = ttl.min(max_ttl);
        Ok(Self {
            accessor,
            num_uses,
            ttl,
            created: now,
            expires: ttl.set().map(|ttl| now + ttl),
            updated: now,
            metadata: wanted.metadata,
            cidr_list: wanted.cidr_list,
            token_bound_cidrs: wanted.token_bound_cidrs,
        })
    }

    pub(super) fn ended(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Where the token of a login may be used from: the secret id's networks, as far as they are inside the role's of now, which may have become narrower since
    /// it was made. `None` when that leaves no address; no networks at all are every address.
    pub(super) fn token_networks(&self, role: &[String]) -> Option<Vec<String>> {
        if self.token_bound_cidrs.is_empty() || role.is_empty() {
            return Some([self.token_bound_cidrs.as_slice(), role].concat());
        }
        let read = |text: &String| Network::parse_or_address(text).map(|network| (text.clone(), network));
        let role: Vec<(String, Network)> = role.iter().filter_map(read).collect();
        let mut common = Vec::new();
        // Of two networks one is inside the other, or they have nothing in common.
        for (text, own) in self.token_bound_cidrs.iter().filter_map(read) {
            if role.iter().any(|(_, outer)| outer.covers(&own)) {
                common.push(text);
            } else {
                common.extend(role.iter().filter(|(_, inner)| own.covers(inner)).map(|(text, _)| text.clone()));
            }
        }
        (!common.is_empty()).then_some(common)
    }

    /// As look-ups show it.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let shown = json!({
            "cidr_list": self.cidr_list,
            "creation_time": self.created,
            "expiration_time": self.expires.map_or_else(|| NEVER.to_owned(), |end| end.to_string()),
            "last_updated_time": self.updated,
            "metadata": self.metadata,
            "secret_id_accessor": self.accessor,
            "secret_id_num_uses": self.num_uses,
            "secret_id_ttl": self.ttl,
            "token_bound_cidrs": self.token_bound_cidrs,
        });
        if let Value::Object(map) = shown { map } else { Map::new() }
    }

    /// The changes that store a new secret id under this name.
    pub(super) fn create(&self, generation: &str, id: &str) -> Result<Changes> {
        let row = row(generation, id);
        let way = AccessorRow { generation: generation.to_owned(), id: id.to_owned() };
        Changes::new()
            .expect(&row, Expect::Absent)
            .put_json(&row, self)?
            .put(by_row(generation, &self.accessor), Vec::new())
            .put_json(accessor_row(&self.accessor), &way)
    }
}

impl FoundSecret {
    /// Reads the secret id of this name.
    pub(super) async fn find(cx: &Cx, generation: &str, id: &str) -> Result<Option<Self>> {
        let row = row(generation, id);
        cx.store.get(&row).await?.map(|entry| Self::of(generation, id, entry)).transpose()
    }

    /// The secret id in a row that was read.
    pub(super) fn of(generation: &str, id: &str, entry: Entry) -> Result<Self> {
        let secret = from_json(&row(generation, id), &entry.value)?;
        Ok(Self { secret, generation: generation.to_owned(), id: id.to_owned(), entry })
    }

    /// The changes that take one use, under the condition that no other login took one meanwhile. The last use takes the row.
    pub(super) fn take_use(&self, now: Timestamp) -> Result<Changes> {
        if self.secret.num_uses == 1 {
            return Ok(self.remove());
        }
        let row = row(&self.generation, &self.id);
        let left = SecretId { num_uses: self.secret.num_uses - 1, updated: now, ..self.secret.clone() };
        Changes::new().unchanged(&row, Some(&self.entry)).put_json(&row, &left)
    }

    /// The changes that end it, under the condition that it is still as it was read.
    pub(super) fn remove(&self) -> Changes {
        let row = row(&self.generation, &self.id);
        Changes::new()
            .unchanged(&row, Some(&self.entry))
            .delete(&row)
            .delete(by_row(&self.generation, &self.secret.accessor))
            .delete(accessor_row(&self.secret.accessor))
    }
}

/// The row of a secret id.
pub(super) fn row(generation: &str, id: &str) -> String {
    format!("{}{id}", rows_of(generation))
}

/// What the rows of all secret ids of a role start with.
pub(super) fn rows_of(generation: &str) -> String {
    format!("secret/{generation}/")
}

/// What the rows of all accessors of a role start with.
pub(super) fn by_rows(generation: &str) -> String {
    format!("by/{generation}/")
}

/// The row that leads from an accessor to its secret id.
pub(super) fn accessor_row(accessor: &str) -> String {
    format!("accessor/{accessor}")
}

fn by_row(generation: &str, accessor: &str) -> String {
    format!("{}{accessor}", by_rows(generation))
}

/// Refuses networks that go beyond the role's, where the role has any.
fn inside(wanted: &[String], role: &[String]) -> Result<()> {
    let outer: Vec<Network> = role.iter().filter_map(|text| Network::parse_or_address(text)).collect();
    let covered = |text: &&String| Network::parse_or_address(text).is_some_and(|network| outer.iter().any(|outer| outer.covers(&network)));
    if role.is_empty() || wanted.iter().all(|text| covered(&text)) {
        return Ok(());
    }
    let (wanted, role) = (wanted.join(","), role.join(","));
    let (wanted, role) = (Brief(&wanted), Brief(&role));
    Err(Error::failed(format!("CIDR blocks {wanted:?} on the secret ID should be a subset of CIDR blocks {role:?} on the role")))
}

/// Go's zero time, which is how clients know that there is no end.
const NEVER: &str = "0001-01-01T00:00:00Z";
