//! Leases of STS credentials: signed and self-describing, stored nowhere.
//!
//! An id is `<path>/<24 characters>.<42 characters>`: the parent token's id and a nonce, then issue time, lifetime, flags and a keyed hash
//! over all of it and the path. Look-up verifies it and asks whether the parent lives; a revocation leaves a small marker
//! until the lease's own end, so that look-ups tell the truth.

use daypass_barrier::{Barrier, Purpose};
use daypass_base::{Entropy, Seconds, Timestamp};
use daypass_sdk::{CommitFailure, Error, Result, TokenId};
use daypass_storage::{Batch, Condition, Due, Key, Space};
use subtle::ConstantTimeEq;

use crate::ids;
use crate::rows::{Plain, Rows, not_before, unchanged};

/// A lease as its id describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The request's path: `aws/sts/deploy`.
    pub(crate) path: String,
    /// The parent token; all zeros for batch tokens.
    pub(crate) token: TokenId,
    pub(crate) issued: Timestamp,
    pub(crate) ttl: Seconds,
    mac: [u8; 16],
}

impl Signed {
    pub(crate) fn expires(&self) -> Timestamp {
        self.issued + self.ttl
    }
}

/// Makes the id of a lease.
pub(crate) fn issue(path: &str, token: TokenId, issued: Timestamp, ttl: Seconds, barrier: &Barrier, entropy: &dyn Entropy) -> String {
    let head = format!("{}{}", ids::encode_id(&token.0), entropy.base62(2));
    let nonce = entropy.bytes::<5>();
    let facts = facts(issued, ttl, nonce);
    let mac = sign(path, &head, &facts, barrier);
    let mut tail = [0_u8; 15];
    tail.copy_from_slice(&facts);
    let (front, back) = (u128_of(&tail), u128_of(&mac));
    format!("{path}/{head}.{}{}", ids::encode(front, 21), ids::encode(back, 22))
}

/// Reads and verifies an id. `None` for anything that this server did not issue.
pub(crate) fn read(lease_id: &str, barrier: &Barrier) -> Option<Signed> {
    let (path, tail) = lease_id.rsplit_once('/')?;
    let (head, rest) = tail.split_once('.')?;
    if head.len() != 24 || rest.len() != 43 {
        return None;
    }
    let token = TokenId(ids::decode_id(head.get(..22)?)?);
    let facts: [u8; 15] = ids::decode(rest.get(..21)?)?.to_be_bytes().get(1..)?.try_into().ok()?;
    let mac: [u8; 16] = ids::decode(rest.get(21..)?)?.to_be_bytes();
    let genuine: bool = sign(path, head, &facts, barrier).ct_eq(&mac).into();
    if !genuine {
        return None;
    }
    let issued = u128_of(facts.get(..6)?);
    let ttl = u128_of(facts.get(6..10)?);
    let issued = Timestamp::from_nanos(i64::try_from(issued).ok()?.checked_mul(1_000_000)?);
    Some(Signed { path: path.to_owned(), token, issued, ttl: Seconds(u64::try_from(ttl).ok()?), mac })
}

/// Whether a lease was revoked, itself or with everything under one of its prefixes.
pub(crate) async fn revoked(lease: &Signed, rows: &Rows) -> Result<bool> {
    let mut keys = vec![marker_key(lease)];
    keys.extend(prefixes(&lease.path).map(prefix_key));
    let found = rows.get_many(&keys).await?;
    let mut found = found.into_iter();
    if found.next().flatten().is_some() {
        return Ok(true);
    }
    // A prefix marker holds the time up to which leases are revoked.
    Ok(found.flatten().any(|plain| moment(&plain).is_some_and(|until| lease.issued <= until)))
}

/// Marks one lease as revoked until its own end.
pub(crate) async fn revoke(lease: &Signed, rows: &Rows) -> Result<()> {
    let key = marker_key(lease);
    let due = marker_due(&key, lease.expires());
    rows.commit(rows.put(Batch::new().taking_back(), key, b"1")?.due(due)).await?;
    Ok(())
}

/// Marks all leases under a prefix that were issued until now as revoked. What was marked before stays marked, and for as long as it has to.
pub(crate) async fn revoke_prefix(prefix: &str, now: Timestamp, rows: &Rows) -> Result<()> {
    let key = prefix_key(prefix.trim_end_matches('/'));
    for _ in 0..CONFLICTS_MAX {
        let (found, _) = rows.get(&key).await?;
        let (before, version) = (found.as_ref().and_then(moment), found.as_ref().map(|plain| plain.version));
        let until = not_before(before, now);
        let (unchanged, condition) = unchanged(key.clone(), version);
        let mut batch = Batch::new().taking_back().require(unchanged, condition).due(marker_due(&key, until + LONGEST));
        if let Some(before) = before {
            // Its end would take this marker with it.
            batch = batch.not_due(marker_due(&key, before + LONGEST));
        }
        match rows.commit(rows.put(batch, key.clone(), until.nanos().to_string().as_bytes())?).await {
            Ok(_) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(Error::failed("the prefix is revoked by too many requests at once; try again"))
}

/// Removes a marker whose entry came due, with the entry. A prefix that was revoked again since has its marker from then, with an entry of its own
/// further on: it stays.
pub(crate) async fn end_marker(key: Key, entry: &Due, now: Timestamp, rows: &Rows) -> Result<()> {
    for _ in 0..CONFLICTS_MAX {
        let mut batch = Batch::new().not_due(entry.clone());
        let found = rows.get(&key).await?.0;
        // That of one lease holds no time, or one of long ago: it ends with its entry.
        if let Some(plain) = found.filter(|plain| moment(plain).is_none_or(|until| until + LONGEST <= now)) {
            batch = batch.require(key.clone(), Condition::Version(plain.version)).delete(key.clone());
        }
        match rows.commit(batch).await {
            Ok(_) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(Error::failed("the prefix is revoked by too many requests at once; its old marker is looked at later"))
}

/// The time in a prefix marker.
fn moment(plain: &Plain) -> Option<Timestamp> {
    std::str::from_utf8(&plain.value).ok()?.parse().ok().map(Timestamp::from_nanos)
}

/// Every prefix of a path that ends at a slash, and the path itself.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at)).chain([path])
}

fn marker_key(lease: &Signed) -> Key {
    Key::new(Space::Lease, [b"r", lease.mac.as_slice()].concat())
}

fn prefix_key(prefix: &str) -> Key {
    Key::new(Space::Lease, [b"R", prefix.as_bytes()].concat())
}

fn marker_due(key: &Key, at: Timestamp) -> Due {
    Due { shard: 0, at, id: [b"M", key.bytes.as_ref()].concat().into() }
}

fn facts(issued: Timestamp, ttl: Seconds, nonce: [u8; 5]) -> [u8; 15] {
    let issued = u64::try_from(issued.millis()).unwrap_or(0).to_be_bytes();
    let ttl = u32::try_from(ttl.0).unwrap_or(u32::MAX).to_be_bytes();
    let mut facts = [0; 15];
    for (to, from) in facts.iter_mut().zip(issued.iter().skip(2).chain(&ttl).chain(&nonce)) {
        *to = *from;
    }
    facts
}

fn sign(path: &str, head: &str, facts: &[u8], barrier: &Barrier) -> [u8; 16] {
    // Lengths first, so that no two different inputs read the same.
    let length = u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes();
    let full = barrier.mac(Purpose::StsLease, &[length.as_slice(), path.as_bytes(), head.as_bytes(), facts].concat());
    let mut mac = [0; 16];
    for (to, from) in mac.iter_mut().zip(full) {
        *to = from;
    }
    mac
}

fn u128_of(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// The longest that any STS credential lives (GetFederationToken): a prefix marker need not outlive it.
const LONGEST: Seconds = Seconds(36 * 3600);
/// How often a marker is tried again while others write it.
const CONFLICTS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daypass_barrier::{Keyring, RootKey};
    use daypass_base::Clock;
    use daypass_base::sim::{SeededEntropy, SimClock};

    use super::*;

    #[test]
    fn an_id_says_all_and_cannot_be_altered() {
        let (clock, entropy) = (SimClock::default(), Arc::new(SeededEntropy::new(1)));
        let barrier = Barrier::new(Keyring::generate(&*entropy, clock.now()), RootKey::generate(&*entropy), entropy.clone()).unwrap();
        let id = issue("cdp/aws/staging/sts/ecr", TokenId([7; 16]), clock.now(), Seconds(3600), &barrier, &*entropy);
        let lease = read(&id, &barrier).unwrap();
        assert_eq!((lease.path.as_str(), lease.token, lease.ttl), ("cdp/aws/staging/sts/ecr", TokenId([7; 16]), Seconds(3600)));
        assert_eq!(lease.expires(), clock.now() + Seconds(3600));
        for at in 0..id.len() {
            let mut altered = id.clone().into_bytes();
            altered[at] = if altered[at] == b'7' { b'8' } else { b'7' };
            assert_eq!(read(&String::from_utf8(altered).unwrap(), &barrier), None, "character {at}");
        }
    }

    #[test]
    fn prefixes_end_at_slashes() {
        assert_eq!(prefixes("a/b/c").collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
    }
}
