//! What every backend decides in the same way, as pure functions: limits of a batch, who gets a claim, how a list folds.
//!
//! Nothing here may hold state or know a medium.

use daypass_base::Timestamp;

use crate::{BATCH_BYTES_MAX, BATCH_CHANGES_MAX, Batch, CommitError, KEY_BYTES_MAX, OWNER_BYTES_MAX, VALUE_BYTES_MAX};

/// Refuses a batch that is over a limit, before anything of it is handed on. Returns its size in bytes.
pub(crate) fn check_batch(batch: &Batch) -> Result<usize, CommitError> {
    let changes = batch.puts.len() + batch.deletes.len() + batch.due_add.len() + batch.due_remove.len();
    check("changes in the batch", changes, BATCH_CHANGES_MAX)?;
    check("conditions of the batch", batch.conditions.len(), BATCH_CHANGES_MAX)?;
    let mut bytes = 0;
    let put_keys = batch.puts.iter().map(|(key, _)| key);
    let condition_keys = batch.conditions.iter().map(|(key, _)| key);
    for key in put_keys.chain(condition_keys).chain(&batch.deletes) {
        check("bytes of a key", key.bytes.len(), KEY_BYTES_MAX)?;
        bytes += key.bytes.len();
    }
    for (_, value) in &batch.puts {
        check("bytes of a value", value.len(), VALUE_BYTES_MAX)?;
        bytes += value.len();
    }
    for due in batch.due_add.iter().chain(&batch.due_remove) {
        check("bytes of an expiry entry's id", due.id.len(), KEY_BYTES_MAX)?;
        bytes += due.id.len();
    }
    check("bytes of the batch", bytes, BATCH_BYTES_MAX)?;
    Ok(bytes)
}

/// How many bytes longer a batch makes the values that are there, for a store that has little room left. `None`: it grows, so it has to wait: it adds
/// a row, makes the expiry index longer, or lengthens values by more than [`GROWTH_BYTES_MAX`] in all.
///
/// `replaced` has the bytes of what each put replaces, in their order; `None` where nothing is.
pub(crate) fn growth(batch: &Batch, replaced: &[Option<usize>]) -> Option<usize> {
    if batch.due_add.len() > batch.due_remove.len() {
        return None;
    }
    let before = replaced.iter().copied().sum::<Option<usize>>()?;
    let after: usize = batch.puts.iter().map(|(_, value)| value.len()).sum();
    Some(after.saturating_sub(before)).filter(|more| *more <= GROWTH_BYTES_MAX)
}

/// Refuses an owner's name that is over its limit.
pub(crate) fn check_owner(owner: &str) -> Result<(), CommitError> {
    check("bytes of the claim's owner", owner.len(), OWNER_BYTES_MAX)
}

fn check(what: &str, size: usize, max: usize) -> Result<(), CommitError> {
    if size > max { Err(CommitError::TooLarge(format!("{what}: {size}, at most {max} are allowed"))) } else { Ok(()) }
}

/// The claim that a shard has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) owner: String,
    pub(crate) epoch: u64,
    pub(crate) until: Timestamp,
}

/// The claim after `owner` asked for it at `now`; `None` when another has it. The rules stand at [`crate::Backend::claim`].
pub(crate) fn next_holder(current: Option<Holder>, owner: &str, now: Timestamp, until: Timestamp) -> Option<Holder> {
    let epoch = match current {
        None => 1,
        Some(holder) if holder.until <= now => holder.epoch + 1,
        Some(holder) if holder.owner == owner => holder.epoch,
        Some(_) => return None,
    };
    Some(Holder { owner: owner.to_owned(), epoch, until })
}

/// The smallest key whose name below `prefix` comes after the name `after`.
///
/// All keys that fold into the name `a/` lie between `a/` and `a0`, since `0` is the byte after `/`: jumping there skips whatever
/// lies beneath, so a list costs one seek per name.
pub(crate) fn list_start(prefix: &[u8], after: Option<&[u8]>) -> Vec<u8> {
    let after = after.unwrap_or_default();
    let mut start = prefix.to_vec();
    if let Some((folded, _beneath)) = split_at_slash(after) {
        start.extend_from_slice(folded);
        start.pop();
        start.push(b'/' + 1);
    } else {
        start.extend_from_slice(after);
        start.push(0);
    }
    start
}

/// The name of `key` below `prefix`; `None` when the key does not start with it.
pub(crate) fn list_name<'k>(prefix: &[u8], key: &'k [u8]) -> Option<Name<'k>> {
    let below = key.strip_prefix(prefix)?;
    Some(split_at_slash(below).map_or(Name::Leaf(below), |(folded, _beneath)| Name::Folder(folded)))
}

/// A name in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<'k> {
    /// Ends with `/`; further keys may fold into it.
    Folder(&'k [u8]),
    /// One key.
    Leaf(&'k [u8]),
}

/// Splits behind the first `/`.
fn split_at_slash(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = name.iter().position(|byte| *byte == b'/')?;
    name.split_at_checked(slash + 1)
}

/// The smallest key from which a scan of `prefix` goes on after the full key `after`.
pub(crate) fn scan_start(prefix: &[u8], after: Option<&[u8]>) -> Vec<u8> {
    match after {
        Some(after) if after >= prefix => [after, &[0]].concat(),
        _ => prefix.to_vec(),
    }
}

/// A change of a row may be longer than what it replaces by so much, and count as one that does not grow: a mark, a text of an error.
const GROWTH_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Due, Key, Space};

    /// Story: while the disk was nearly full a row was free to change, at any length. A key of 10 bytes that became 32 MiB took all that was kept for
    /// revocations, and then nothing could be revoked or deleted. The rows were counted, not the bytes.
    #[test]
    fn what_makes_values_much_longer_grows() {
        let put = |bytes: usize| Batch::new().put(Key::new(Space::Config, "k"), vec![0; bytes]);
        assert_eq!(growth(&put(10), &[Some(10)]), Some(0));
        assert_eq!(growth(&put(10), &[Some(1000)]), Some(0));
        assert_eq!(growth(&put(10 + GROWTH_BYTES_MAX), &[Some(10)]), Some(GROWTH_BYTES_MAX));
        assert_eq!(growth(&put(11 + GROWTH_BYTES_MAX), &[Some(10)]), None);
        assert_eq!(growth(&put(0), &[None]), None, "a new row");
        // Many small steps of one batch are a large one.
        let many = (0..100).fold(Batch::new(), |batch, _| batch.put(Key::new(Space::Config, "k"), vec![0; 110]));
        assert_eq!(growth(&many, &[Some(10); 100]), None);
        let due = Due { shard: 0, at: Timestamp::from_seconds(1), id: "x".into() };
        assert_eq!(growth(&Batch::new().due(due.clone()), &[]), None);
        assert_eq!(growth(&Batch::new().due(due.clone()).not_due(due), &[]), Some(0));
    }

    #[test]
    fn a_list_goes_on_behind_all_that_folds_into_the_last_name() {
        assert_eq!(list_start(b"p/", None), b"p/\0");
        assert_eq!(list_start(b"p/", Some(b"")), b"p/\0");
        assert_eq!(list_start(b"p/", Some(b"a")), b"p/a\0");
        assert_eq!(list_start(b"p/", Some(b"a/")), b"p/a0");
        assert_eq!(list_start(b"p/", Some(b"a/b/c")), b"p/a0");
        assert_eq!(list_name(b"p/", b"p/a/b"), Some(Name::Folder(b"a/")));
        assert_eq!(list_name(b"p/", b"p/a"), Some(Name::Leaf(b"a")));
        assert_eq!(list_name(b"p/", b"q/a"), None);
    }

    #[test]
    fn an_owner_keeps_its_epoch_only_while_its_claim_lasts() {
        let at = Timestamp::from_seconds;
        let first = next_holder(None, "a", at(0), at(10)).unwrap();
        assert_eq!(first.epoch, 1);
        let kept = next_holder(Some(first.clone()), "a", at(9), at(19)).unwrap();
        assert_eq!((kept.epoch, kept.until), (1, at(19)));
        assert_eq!(next_holder(Some(first.clone()), "b", at(9), at(19)), None);
        assert_eq!(next_holder(Some(first.clone()), "b", at(10), at(19)).unwrap().epoch, 2);
        assert_eq!(next_holder(Some(first), "a", at(10), at(19)).unwrap().epoch, 2);
    }
}
