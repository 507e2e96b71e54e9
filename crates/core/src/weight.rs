//! About how much memory texts take, for tables that are bounded by bytes and not only by their entries.

use std::collections::BTreeMap;

/// Bytes of texts, with what each takes besides its own.
pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().map(|text| text.len() + size_of::<String>()).sum()
}

/// The same of names and values.
pub(crate) fn pairs(pairs: &BTreeMap<String, String>) -> usize {
    texts(pairs.iter().flat_map(|(name, value)| [name, value]))
}
