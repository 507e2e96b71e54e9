//! What fuzz targets reach of this method: the readers of what API servers and operators send. Not part of the API.

use std::collections::BTreeMap;

use daypass_idp::kubernetes;

use super::selector::Selector;

/// Reads an API server's answer about a token. Says whether an account that comes of it is whole, and named by nothing that could be two names;
/// and whether nobody comes of an answer that does not name the audience.
#[must_use]
pub fn read_review(bytes: &[u8], audience: &str) -> bool {
    let Some(account) = kubernetes::read_review(bytes, &[audience.to_owned()]) else { return true };
    let sound = |text: &str| !text.is_empty() && !text.contains(':');
    let named = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let named = named.as_ref().and_then(|answer| answer.pointer("/status/audiences")).and_then(serde_json::Value::as_array);
    sound(&account.name)
        && sound(&account.namespace)
        && !account.uid.is_empty()
        && named.is_some_and(|list| list.iter().any(|name| name == audience))
}

/// Reads a selector. Says whether one that wants a label does not fit what has none, and whether all are read the same each time.
#[must_use]
pub fn read_selector(text: &str, label: &str) -> bool {
    let (Some(one), Some(two)) = (Selector::parse(text), Selector::parse(text)) else { return Selector::parse(text).is_none() };
    let (key, value) = label.split_once('=').unwrap_or((label, ""));
    let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let strict = !one.wants_labels() || !one.fits(&BTreeMap::new());
    strict && one.fits(&labels) == two.fits(&labels)
}
