//! Limits of the identity store, and the checks of what clients send. Vault's numbers where Vault has one.

use std::collections::BTreeMap;

use daypass_base::Brief;
use daypass_base::lenient::KvPairs;
use daypass_sdk::{Error, Result};

use crate::logins::normal_policies;

/// A name of an entity, group or alias. Errors: `BadRequest`.
pub(crate) fn name(what: &str, name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::bad_request(format!(
            "{what} must have 1 to {NAME_BYTES_MAX} bytes and no control characters, this one has {} bytes",
            name.len()
        )));
    }
    Ok(name.to_owned())
}

/// Facts that an operator notes. Errors: `BadRequest`.
pub(crate) fn metadata(what: &str, pairs: KvPairs) -> Result<BTreeMap<String, String>> {
    let pairs = pairs.0;
    if pairs.len() > METADATA_PAIRS_MAX {
        return Err(Error::bad_request(format!("{what} can have {METADATA_PAIRS_MAX} pairs, {} were given", pairs.len())));
    }
    for (key, value) in &pairs {
        if key.is_empty() || key.len() > METADATA_KEY_BYTES_MAX {
            return Err(Error::bad_request(format!(
                "a key of {what} must have 1 to {METADATA_KEY_BYTES_MAX} bytes, one has {}",
                key.len()
            )));
        }
        if value.len() > METADATA_VALUE_BYTES_MAX {
            return Err(Error::bad_request(format!(
                "a value of {what} can have {METADATA_VALUE_BYTES_MAX} bytes, that of {key:?} has {}",
                value.len()
            )));
        }
    }
    Ok(pairs)
}

/// Names of policies. Errors: `BadRequest`, with Vault's text for root.
pub(crate) fn policies(given: &[String]) -> Result<Vec<String>> {
    let policies = normal_policies(given);
    if policies.iter().any(|policy| policy == "root") {
        return Err(Error::bad_request("policies cannot contain root"));
    }
    if policies.len() > POLICIES_MAX {
        return Err(Error::bad_request(format!("there can be {POLICIES_MAX} policies, {} were given", policies.len())));
    }
    if let Some(long) = policies.iter().find(|policy| policy.len() > NAME_BYTES_MAX) {
        return Err(Error::bad_request(format!("the name of a policy can have {NAME_BYTES_MAX} bytes, one has {}", long.len())));
    }
    Ok(policies)
}

/// Ids of members, in order and each once. Errors: `BadRequest`.
pub(crate) fn members(what: &str, given: &[String]) -> Result<Vec<String>> {
    let mut ids: Vec<String> = given.iter().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > MEMBERS_MAX {
        return Err(Error::bad_request(format!("{what} can have {MEMBERS_MAX} ids, {} were given", ids.len())));
    }
    if let Some(odd) = ids.iter().find(|id| !is_id(id)) {
        return Err(Error::bad_request(format!("{:?} in {what} is no id", Brief(odd))));
    }
    Ok(ids)
}

/// Whether a text can be an id at all: ids stand in keys of the store.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

const NAME_BYTES_MAX: usize = 512;
const ID_BYTES_MAX: usize = 64;
const METADATA_PAIRS_MAX: usize = 64;
const METADATA_KEY_BYTES_MAX: usize = 128;
const METADATA_VALUE_BYTES_MAX: usize = 512;
const POLICIES_MAX: usize = 256;
/// Aliases of one entity: one for each auth mount.
pub(crate) const ALIASES_MAX: usize = 100;
/// Members of one group, so that a change of all of them fits one batch.
pub(crate) const MEMBERS_MAX: usize = 4_000;
/// Groups that one entity or group is directly in.
pub(crate) const DIRECT_GROUPS_MAX: usize = 256;
/// Groups above one another.
pub(crate) const DEPTH_MAX: usize = 16;
/// Groups that anybody is in, inherited ones included.
pub(crate) const GROUPS_MAX: usize = 2_000;
/// Names of groups that one login may report. GitHub's are most: of each of up to 999 teams the name and the slug.
pub(crate) const REPORTED_GROUPS_MAX: usize = 2_000;
/// Entities that one request may delete or merge.
pub(crate) const BATCH_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_a_limit_is_refused_with_the_limit() {
        let pairs =
            |count: usize, key: usize, value: usize| KvPairs((0..count).map(|n| (format!("{n:0key$}"), "v".repeat(value))).collect());
        assert!(metadata("metadata", pairs(64, 128, 512)).is_ok());
        for (bad, limit) in [(pairs(65, 3, 1), "64 pairs"), (pairs(1, 129, 1), "128 bytes"), (pairs(1, 1, 513), "512 bytes")] {
            assert!(metadata("metadata", bad).unwrap_err().message.contains(limit), "{limit}");
        }
        assert!(name("the name", &"n".repeat(512)).is_ok() && name("the name", &"n".repeat(513)).is_err());
        assert!(name("the name", " \t").is_err() && name("the name", "a\u{0}b").is_err());
        let ids = |count: usize| (0..count).map(|n| format!("id-{n}")).collect::<Vec<_>>();
        assert!(members("member_entity_ids", &ids(4_000)).is_ok() && members("member_entity_ids", &ids(4_001)).is_err());
        assert!(members("member_entity_ids", &["a/b".to_owned()]).is_err(), "ids stand in keys");
        assert!(policies(&ids(257)).is_err());
    }

    #[test]
    fn policies_are_normal_and_never_root() {
        assert_eq!(policies(&["B".to_owned(), " a ".to_owned(), "b".to_owned()]).unwrap(), ["a", "b"]);
        assert_eq!(policies(&["a".to_owned(), "Root".to_owned()]).unwrap_err().message, "policies cannot contain root");
    }
}
