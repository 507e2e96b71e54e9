//! HTTP/2 as far as [`crate::delivery`] has to see it itself: hyper tells nobody of a stream that a client gives up once its answer has been
//! handed to the socket.

/// Follows what a client sends over HTTP/2, frame by frame.
pub(crate) struct Frames {
    /// Bytes that are not looked at: of the preface, then of payloads.
    skip: usize,
    /// The bytes of a frame's head that have come, the last one lowest.
    head: u128,
    head_bytes: u8,
    /// The newest stream that the client has begun.
    newest: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE_BYTES, head: 0, head_bytes: 0, newest: 0 }
    }
}

impl Frames {
    /// The newest stream that the client has begun.
    pub(crate) fn newest(&self) -> u32 {
        self.newest
    }

    /// Takes the next bytes. Returns whether a stream is reset among them that is none of those after `last`.
    pub(crate) fn reset_up_to(&mut self, last: u32, mut bytes: &[u8]) -> bool {
        let mut reset = false;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let Some((byte, rest)) = bytes.get(skipped..).and_then(<[u8]>::split_first) else { return reset };
            bytes = rest;
            self.head = self.head << 8 | u128::from(*byte);
            self.head_bytes += 1;
            if self.head_bytes == HEAD_BYTES {
                // Length, kind, flags and stream take 24, 8, 8 and 32 bits.
                let (kind, stream) = (self.head >> 40 & 0xff, u32::try_from(self.head & 0x7fff_ffff).unwrap_or_default());
                reset |= kind == RST_STREAM && stream <= last;
                if kind == HEADERS {
                    self.newest = self.newest.max(stream);
                }
                self.skip = usize::try_from(self.head >> 48).unwrap_or(usize::MAX);
                (self.head, self.head_bytes) = (0, 0);
            }
        }
    }
}

/// RFC 9113, 3.4.
const PREFACE_BYTES: usize = 24;
/// RFC 9113, 4.1.
const HEAD_BYTES: u8 = 9;
/// RFC 9113, 6.2.
const HEADERS: u128 = 1;
/// RFC 9113, 6.4.
const RST_STREAM: u128 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_seen_however_the_bytes_are_cut_and_nothing_else_is_taken_for_one() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 10];
        let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
        let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat();
        // Its payload looks like a reset.
        let data = [[0, 0, 13, 0, 0, 0, 0, 0, 1].as_slice(), &reset].concat();
        for size in 1..60 {
            let mut frames = Frames::default();
            let quiet = [begin.as_slice(), &data, &settings].concat();
            assert!(!quiet.chunks(size).any(|piece| frames.reset_up_to(u32::MAX, piece)), "{size}");
            assert_eq!(
                [reset.as_slice(), &data].concat().chunks(size).filter(|piece| frames.reset_up_to(u32::MAX, piece)).count(),
                1,
                "{size}"
            );
        }
    }
}
