//! How a backend hands over all its rows: as the bytes of `state.bin`, summed and counted on the way.

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};

use super::Counts;
use super::record::{RecordRef, encode};

/// All rows of one state of a store, ready to be read.
pub struct Export {
    /// The bytes of `state.bin`.
    pub state: Box<dyn Read + Send>,
    /// What is in them.
    pub totals: Totals,
    /// The configuration version of that state.
    pub config_version: u64,
}

/// What is known of `state.bin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: Counts,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// Writes records, and keeps the totals.
pub(crate) struct Recorder<W> {
    out: W,
    hash: Context,
    bytes: u64,
    rows: Counts,
    buffer: Vec<u8>,
}

impl<W: Write> Recorder<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, hash: Context::new(&SHA256), bytes: 0, rows: Counts::default(), buffer: Vec::new() }
    }

    pub(crate) fn add(&mut self, record: &RecordRef<'_>) -> io::Result<()> {
        encode(record, &mut self.buffer);
        *self.rows.of(record) += 1;
        if self.buffer.len() >= PIECE_BYTES { self.pass_on() } else { Ok(()) }
    }

    /// Bytes that were written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn finish(mut self) -> io::Result<(W, Totals)> {
        self.pass_on()?;
        self.out.flush()?;
        let sha256 = sum(self.hash);
        Ok((self.out, Totals { bytes: self.bytes, rows: self.rows, sha256 }))
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * PIECE_BYTES);
        Ok(())
    }
}

pub(crate) fn sum(hash: Context) -> [u8; 32] {
    let mut out = [0; 32];
    for (slot, byte) in out.iter_mut().zip(hash.finish().as_ref()) {
        *slot = *byte;
    }
    out
}

const PIECE_BYTES: usize = 256 * 1024;
