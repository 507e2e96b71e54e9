//! Rows that are damaged keep no others from their turn: whoever goes through many of them goes on behind one that cannot be read.

use daypass_sdk::{Cx, Result};

/// What can be read of the rows at `keys`, with their keys, in that order. Of the rest the log tells: the first, and how many there are.
pub(crate) fn readable<'a, T>(cx: &Cx, keys: &'a [String], found: Vec<Option<Result<T>>>) -> Vec<(&'a str, T)> {
    let (mut read, mut damaged) = (Vec::with_capacity(found.len()), Vec::new());
    for (key, row) in keys.iter().zip(found) {
        match row {
            Some(Ok(row)) => read.push((key.as_str(), row)),
            Some(Err(error)) => damaged.push(error),
            None => {}
        }
    }
    if let Some(error) = damaged.first() {
        tracing::warn!(mount = %cx.mount.path, %error, rows = damaged.len(), "stored rows are damaged; they are passed over");
    }
    read
}
