//! HTTP/2 as far as it has to be seen here: hyper tells nobody of a stream that a client gives up once its answer has been handed to the socket, which
//! [`crate::delivery`] asks for, nor of half a head, which [`crate::pace`] gives no more time than over HTTP/1.

/// Follows what a client sends over HTTP/2, frame by frame.
pub(crate) struct Frames {
    /// Bytes that are not looked at: of the preface, then of payloads.
    skip: usize,
    /// The bytes of a frame's head that have come, the last one lowest.
    head: u128,
    head_bytes: u8,
    /// The newest stream that the client has begun.
    newest: u32,
    block: Block,
}

/// Where a head stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// There is none.
    None,
    /// It ends with this frame, of which something may be missing.
    Last,
    /// It goes on in another frame.
    Open,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE_BYTES, head: 0, head_bytes: 0, newest: 0, block: Block::None }
    }
}

impl Frames {
    /// The newest stream that the client has begun.
    pub(crate) fn newest(&self) -> u32 {
        self.newest
    }

    /// Whether a head is there in part.
    pub(crate) fn is_half_head(&self) -> bool {
        match self.block {
            Block::None => false,
            Block::Last => self.skip > 0,
            Block::Open => true,
        }
    }

    /// Whether a head has come of which another frame is to bring the rest: HTTP keeps what it has of it in full.
    pub(crate) fn is_open_head(&self) -> bool {
        self.block == Block::Open
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
                self.block = match kind {
                    HEADERS | CONTINUATION if self.head >> 32 & END_HEADERS == 0 => Block::Open,
                    HEADERS | CONTINUATION => Block::Last,
                    _ => Block::None,
                };
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
const END_HEADERS: u128 = 4;
/// RFC 9113, 6.10.
const CONTINUATION: u128 = 9;
/// RFC 9113, 6.4.
const RST_STREAM: u128 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_half_until_its_last_byte() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let frame = |kind, flags| [0, 0, 2, kind, flags, 0, 0, 0, 1, 7, 7];
        let bytes = [preface.as_slice(), &frame(1, 0), &frame(9, 0), &frame(9, 4), &frame(0, 1), &frame(1, 5)].concat();
        let half = |whole_frames: usize| {
            let mut frames = Frames::default();
            frames.reset_up_to(0, &bytes[..preface.len() + whole_frames * 11]);
            (frames.is_half_head(), frames.is_open_head())
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(half),
            [(false, false), (true, true), (true, true), (false, false), (false, false), (false, false)]
        );
        let mut frames = Frames::default();
        let halves: Vec<bool> = bytes
            .iter()
            .map(|byte| {
                frames.reset_up_to(0, &[*byte]);
                frames.is_half_head()
            })
            .collect();
        let begin = preface.len();
        assert!(halves[begin + 8..begin + 32].iter().all(|half| *half), "from the head of its first frame to the last byte but one");
        assert!(!halves[begin + 32..begin + 52].iter().any(|half| *half) && halves[begin + 52] && !halves[begin + 54]);
    }

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
