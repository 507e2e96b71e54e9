//! What data takes in a line, and what stands there instead where that is too much.
//!
//! An empty text takes 79 bytes once it is hashed, with the comma: a body can grow fifty-fold on its way into a log.

use std::io::{ErrorKind, Write};

use aws_lc_rs::hmac;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Elide, Encoding, Format, HASH_PREFIX, Hex, Leaves, Object, Salt, hash, hex, is_clear};
use crate::jsonx;

/// Whether `data` takes at most `most` bytes in a line of this format. No hash is taken to find out, and what is behind `most` is not looked at.
/// Exact for JSON; as XML it takes less than is counted here.
pub(super) fn fits(data: &Map<String, Value>, format: &Format, clear_keys: &[String], elide: Elide, most: usize) -> bool {
    Measure { format, clear_keys, left: most }.map(data, elide).is_some()
}

/// Counts what would be written. Each method is the counterpart of one of `Line`, and gives `None` when no room is left.
struct Measure<'a> {
    format: &'a Format,
    clear_keys: &'a [String],
    left: usize,
}

impl Measure<'_> {
    fn map(&mut self, map: &Map<String, Value>, elide: Elide) -> Option<()> {
        self.take(BRACKETS)?;
        for (index, (key, value)) in map.iter().enumerate() {
            // With a comma before it and a colon behind.
            self.take(usize::from(index > 0) + 1)?;
            self.text(key)?;
            match elide.count(key, value) {
                Some(count) => {
                    self.element()?;
                    self.json(&count)?;
                }
                None => self.value(value, is_clear(key, self.clear_keys))?,
            }
        }
        Some(())
    }

    fn value(&mut self, value: &Value, strings: Leaves) -> Option<()> {
        self.element()?;
        match (value, strings) {
            (Value::String(_), Leaves::Hashed) if !self.format.log_raw => self.take(HASHED_BYTES),
            (Value::String(text), _) => self.text(text),
            (Value::Array(items), _) => {
                self.take(BRACKETS)?;
                items.iter().enumerate().try_for_each(|(index, item)| {
                    self.take(usize::from(index > 0))?;
                    self.value(item, strings)
                })
            }
            (Value::Object(map), _) => self.map(map, Elide::Nothing),
            (plain, _) => self.json(plain),
        }
    }

    fn text(&mut self, text: &str) -> Option<()> {
        match self.format.encoding {
            Encoding::Json => self.json(text),
            Encoding::Jsonx => self.take(jsonx::text_bytes(text)),
        }
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Option<()> {
        serde_json::to_writer(self, value).ok()
    }

    fn element(&mut self) -> Option<()> {
        match self.format.encoding {
            Encoding::Json => Some(()),
            Encoding::Jsonx => self.take(jsonx::ELEMENT_BYTES_MAX),
        }
    }

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }
}

impl Write for Measure<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.take(bytes.len()).map(|()| bytes.len()).ok_or_else(|| ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Appends how many bytes `data` has as JSON, without blanks and in its own order, and the hash of that text: whoever has a copy can tell whether it is
/// that (`sys/audit-hash`).
pub(super) fn summarise(data: &Map<String, Value>, salt: &Salt, out: &mut Vec<u8>) {
    let mut digest = Digest { context: hmac::Context::with_key(&salt.0), pending: Vec::with_capacity(DIGEST_BYTES), bytes: 0 };
    // A digest takes everything.
    let _written = serde_json::to_writer(&mut digest, data);
    let (bytes, hex) = digest.finish();
    let mut object = Object::open(out);
    object.number("bytes", bytes);
    object.nested("hmac", |out| hash(&hex, out));
    object.close();
}

/// Hashes what is written to it, and counts it.
struct Digest {
    context: hmac::Context,
    /// JSON comes in pieces of a few bytes.
    pending: Vec<u8>,
    bytes: u64,
}

impl Digest {
    fn finish(mut self) -> (u64, Hex) {
        self.context.update(&self.pending);
        (self.bytes, hex(&self.context.sign()))
    }
}

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.pending.len() >= DIGEST_BYTES {
            self.context.update(&self.pending);
            self.pending.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Of an object or array.
const BRACKETS: usize = 2;
/// A hash with its quotation marks.
const HASHED_BYTES: usize = HASH_PREFIX.len() + size_of::<Hex>() + 2;
/// Hashed at a time.
const DIGEST_BYTES: usize = 8 << 10;
