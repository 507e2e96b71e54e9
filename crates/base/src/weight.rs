//! What JSON takes in memory once it is read, which may be a hundred times its text: `{"":{"":0}}` is two nodes of a tree with room for eleven entries each.

use std::fmt;

/// About how many bytes what was read so far takes, and how many it may take.
///
/// ```
/// let mut weight = daypass_base::Weight::limited(1000);
/// assert!(weight.entry(0).is_ok(), "the first entry of an object brings a node");
/// assert!(weight.entry(0).unwrap_err().to_string().starts_with("JSON input takes more than 1000 bytes of memory"));
/// ```
#[derive(Debug)]
pub struct Weight {
    bytes: usize,
    limit: usize,
}

impl Weight {
    /// Nothing yet, and at most `limit` bytes.
    #[must_use]
    pub fn limited(limit: usize) -> Self {
        Self { bytes: 0, limit }
    }

    /// About how many bytes it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A text of so many bytes.
    pub fn text(&mut self, length: usize) -> Result<(), TooHeavy> {
        self.add(if length == 0 { 0 } else { length + ALLOCATION_BYTES })
    }

    /// An element of an array that has so many already.
    pub fn element(&mut self, before: usize) -> Result<(), TooHeavy> {
        self.add(match before {
            0 => ELEMENTS_FIRST * VALUE_BYTES,
            _ if before < ELEMENTS_FIRST => 0,
            // An array that is full doubles.
            _ => 2 * VALUE_BYTES,
        })
    }

    /// An entry of an object that has so many already, without its name.
    pub fn entry(&mut self, before: usize) -> Result<(), TooHeavy> {
        self.add(match before {
            0 => NODE_BYTES,
            _ if before < NODE_ENTRIES => 0,
            // A node that is full becomes two, so they may be half empty.
            _ => NODE_BYTES / (NODE_ENTRIES / 2),
        })
    }

    fn add(&mut self, bytes: usize) -> Result<(), TooHeavy> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limit { Err(TooHeavy { limit: self.limit }) } else { Ok(()) }
    }
}

/// It takes more than it may.
#[derive(Debug, PartialEq, Eq)]
pub struct TooHeavy {
    limit: usize,
}

impl fmt::Display for TooHeavy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JSON input takes more than {} bytes of memory: it has too many small objects or arrays, send it in parts", self.limit)
    }
}

/// A value of `serde_json`.
const VALUE_BYTES: usize = 32;
/// What an array makes room for at first.
const ELEMENTS_FIRST: usize = 4;
/// What a node of a `BTreeMap` has room for.
const NODE_ENTRIES: usize = 11;
/// That room, with a name (24 bytes) and a value for each, and the node's own.
const NODE_BYTES: usize = 640;
/// About what an allocation takes beside what it is for.
const ALLOCATION_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_elements_weigh_what_their_containers_grow_by() {
        let mut weight = Weight::limited(usize::MAX);
        for before in 0..4 {
            weight.element(before).unwrap();
        }
        assert_eq!(weight.bytes(), 128);
        weight.element(4).unwrap();
        assert_eq!(weight.bytes(), 192);
        for before in 0..12 {
            weight.entry(before).unwrap();
        }
        assert_eq!(weight.bytes(), 192 + 640 + 128);
        weight.text(0).unwrap();
        weight.text(10).unwrap();
        assert_eq!(weight.bytes(), 192 + 640 + 128 + 26);
    }
}
