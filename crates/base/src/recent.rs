//! What was used lately, within a bound.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A map that forgets what was not used for long, so that its weight stays below a bound.
///
/// Two generations instead of a list in order of use: when the young one is full it becomes the old one, and what was in the old one is
/// dropped. What is found in the old one becomes young again. Every operation takes constant time.
///
/// ```
/// use daypass_base::Recent;
/// let mut recent = Recent::new(4);
/// for number in 0..10 {
///     recent.insert(number, number, 1);
/// }
/// assert_eq!((recent.get(&9), recent.get(&0)), (Some(9), None));
/// ```
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    young_weight: usize,
    old: HashMap<K, (V, usize)>,
    /// Of each generation.
    weight_max: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// One that holds things of this weight in all, in whatever unit the caller weighs.
    #[must_use]
    pub fn new(weight_max: usize) -> Self {
        Self { young: HashMap::new(), young_weight: 0, old: HashMap::new(), weight_max: weight_max / 2 }
    }

    /// The value, which counts as used now.
    pub fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    /// Adds or replaces. What weighs more than half of the whole is not kept.
    pub fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if weight > self.weight_max {
            return;
        }
        if self.young_weight + weight > self.weight_max {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young.insert(key, (value, weight));
        self.young_weight += weight;
    }

    /// Removes, if it is there.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((_, weight)) = self.young.remove(key) {
            self.young_weight = self.young_weight.saturating_sub(weight);
        }
        self.old.remove(key);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.young_weight = 0;
        self.old.clear();
    }

    /// The weight of all that it holds.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.young_weight + self.old.values().map(|(_, weight)| weight).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_to_its_weight_and_what_is_used_stays() {
        let mut recent = Recent::new(100);
        recent.insert("used".to_owned(), 0, 1);
        for number in 0..1_000 {
            recent.insert(format!("k{number}"), number, 3);
            assert_eq!(recent.get("used"), Some(0), "after {number} others");
            assert!(recent.weight() <= 100);
        }
        assert_eq!(recent.get("k0"), None);
        recent.insert("heavy".to_owned(), 7, 51);
        assert_eq!(recent.get("heavy"), None);
    }

    #[test]
    fn what_is_replaced_weighs_once_and_what_is_removed_not_at_all() {
        let mut recent = Recent::new(100);
        recent.insert("a", 1, 10);
        recent.insert("a", 2, 20);
        assert_eq!((recent.get("a"), recent.weight()), (Some(2), 20));
        recent.remove("a");
        assert_eq!((recent.get("a"), recent.weight()), (None, 0));
    }
}
