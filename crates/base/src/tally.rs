//! How many there are of each.

use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Counts by key; nothing stays of a key that has none.
///
/// ```
/// use daypass_base::Tally;
/// let mut tally = Tally::default();
/// ["a", "b", "b"].into_iter().for_each(|key| tally.add(key));
/// assert_eq!((tally.of("a"), tally.of("b"), tally.of("c"), tally.most()), (1, 2, 0, Some((&"b", 2))));
/// tally.remove("b");
/// tally.remove("a");
/// tally.remove("b");
/// assert!(tally.is_empty());
/// ```
#[derive(Debug)]
pub struct Tally<K>(BTreeMap<K, usize>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Tally<K> {
    /// One more.
    pub fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// One less.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        match self.0.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.0.remove(key)),
        }
    }

    /// How many there are of it.
    #[must_use]
    pub fn of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// What there is most of; of several the last.
    #[must_use]
    pub fn most(&self) -> Option<(&K, usize)> {
        self.0.iter().max_by_key(|(_, count)| **count).map(|(key, count)| (key, *count))
    }

    /// Whether there is nothing of anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
