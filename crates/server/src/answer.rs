//! The body of an answer as HTTP takes it: in pieces, of which it is known when they are written ([`crate::unsent`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use daypass_base::download::BrokenOff;
use daypass_base::{Download, Receipt};
use hyper::body::{Frame, SizeHint};

use crate::pace::{InFlight, Pace, Streaming, Untaken};
use crate::unsent::Hold;
use crate::wire::Protocol;

/// The body of an answer.
pub(crate) enum Answer {
    /// Counted as not yet taken until it is dropped. `bytes` are those that HTTP has not got yet. `hold`: none of a small answer over HTTP/1, of which a
    /// connection has one at a time.
    Full { bytes: Bytes, hold: Option<Arc<Hold>>, receipted: Option<Receipted>, _untaken: Untaken },
    /// Its request is in flight, and it is counted as streaming, until it is dropped.
    Stream { pieces: Download, hold: Arc<Hold>, _streaming: Streaming, _in_flight: InFlight },
}

/// The receipt of an answer, and where it goes when nothing but the socket holds the answer up any more.
pub(crate) struct Receipted {
    pub(crate) receipt: Receipt,
    pub(crate) pace: Arc<Pace>,
    pub(crate) protocol: Protocol,
}

impl Receipted {
    /// The next bytes of the answer, of those that are left.
    ///
    /// HTTP/2 asks for bytes before the client's window has room for them and comes again when those are on their way to the socket, so the last
    /// byte goes alone: when HTTP asks for what is behind it, there was room for it, and so for all. Up to then a stream that the client gives up
    /// drops the receipt.
    fn next(slot: &mut Option<Self>, bytes: &mut Bytes) -> Bytes {
        let is_last = bytes.len() <= PIECE_BYTES;
        let Some(Self { receipt, pace, protocol }) = slot.take() else { return bytes.split_to(bytes.len().min(PIECE_BYTES)) };
        if (protocol == Protocol::Http1 && is_last) || bytes.is_empty() {
            pace.hand_over(receipt);
            return std::mem::take(bytes);
        }
        *slot = Some(Self { receipt, pace, protocol });
        bytes.split_to(bytes.len().saturating_sub(1).clamp(1, PIECE_BYTES))
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    /// HTTP breaks the answer off as well: one that looked whole would be a backup that looks good.
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let next = match &mut *self {
            Self::Full { bytes, hold, receipted, .. } => {
                let next = Some(Receipted::next(receipted, bytes)).filter(|bytes| !bytes.is_empty());
                next.map(|bytes| match hold {
                    Some(hold) => hold.piece(bytes),
                    None => bytes,
                })
            }
            Self::Stream { pieces, hold, .. } => match ready!(pieces.poll_next(cx)) {
                Some(Ok(bytes)) => Some(hold.piece(bytes)),
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => None,
            },
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full { bytes, receipted: None, .. } if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full { bytes, .. } => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(0)),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}

/// HTTP gets no more of an answer at once. A client that takes less within [`crate::Limits::idle_timeout`] counts as one that does not read.
const PIECE_BYTES: usize = 64 * 1024;
