//! What can be done with a server, and what its answers mean.

use std::collections::BTreeSet;

use daypass_base::{Entropy, Timestamp};
use daypass_testkit::{Ask, TestServer};

use crate::model::Model;
use crate::world::Heard;

/// One thing to do: some requests at the same moment, and what the model learns from the answers.
pub(crate) trait Deed: std::fmt::Debug {
    /// What is sent.
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask>;

    /// Takes the answers into the model; panics when they cannot be.
    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round);

    /// A thing that no other deed of the round may have to do with: answers could not be told apart.
    fn thing(&self) -> String {
        String::new()
    }

    /// Tokens that it may end.
    fn may_end(&self, _: &Model) -> Vec<usize> {
        Vec::new()
    }

    /// Whether it may end leases.
    fn sweeps(&self) -> bool {
        false
    }
}

pub(crate) type Chosen = Option<Box<dyn Deed>>;

/// The circumstances of answers.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) started: Timestamp,
    pub(crate) ended: Timestamp,
    /// Nothing failed meanwhile.
    pub(crate) calm: bool,
    /// Tokens that a deed of the round may have ended.
    pub(crate) ending: BTreeSet<usize>,
    /// Leases may have been ended by a deed of the round.
    pub(crate) sweeping: bool,
    /// What was known before it.
    pub(crate) tokens: usize,
    pub(crate) leases: usize,
}

/// One of these.
pub(crate) fn pick<T: Copy>(chance: &dyn Entropy, of: &[T]) -> T {
    of[usize::try_from(chance.below(of.len() as u64)).unwrap()]
}

/// One of so many.
pub(crate) fn any(chance: &dyn Entropy, count: usize) -> Option<usize> {
    (count > 0).then(|| usize::try_from(chance.below(count as u64)).unwrap())
}

/// One of so many, the latest ones more often: old ones are mostly over.
pub(crate) fn late(chance: &dyn Entropy, count: usize) -> Option<usize> {
    let first = any(chance, count)?;
    Some(first.max(any(chance, count)?))
}
