//! The body of an answer that comes piece by piece: for the few that are too large to be held, or that go on for as long as somebody reads.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// The reading end.
#[derive(Debug)]
pub struct Download {
    pieces: mpsc::Receiver<Bytes>,
    /// Tells whether the end was reached, where there is one.
    whole: Option<oneshot::Receiver<()>>,
}

/// The end of a download that has one. Dropped, it was broken off.
#[derive(Debug)]
pub struct End(oneshot::Sender<()>);

/// A download ended before its end: what came of it is good for nothing, and HTTP must say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was broken off before its end")]
pub struct BrokenOff;

impl Download {
    /// One that ends whenever nothing more is sent.
    #[must_use]
    pub fn endless(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, whole: None }
    }

    /// One that has to come whole: [`End::reached`] is called before the last sender is dropped.
    #[must_use]
    pub fn with_end(pieces: mpsc::Receiver<Bytes>) -> (Self, End) {
        let (end, whole) = oneshot::channel();
        (Self { pieces, whole: Some(whole) }, End(end))
    }

    /// The next piece; nothing behind the last. Errors: [`BrokenOff`], once.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(piece) = ready!(self.pieces.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(piece)));
        }
        let is_whole = self.whole.take().is_none_or(|mut whole| whole.try_recv().is_ok());
        Poll::Ready(if is_whole { None } else { Some(Err(BrokenOff)) })
    }

    /// The same, for whoever waits.
    pub async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The pieces, for whoever asks for no end.
    #[must_use]
    pub fn pieces(self) -> mpsc::Receiver<Bytes> {
        self.pieces
    }
}

impl End {
    /// All of it was sent.
    pub fn reached(self) {
        let _nobody_reads = self.0.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_must_be_whole_tells_when_it_is_not() {
        for reaches in [true, false] {
            let (sender, pieces) = mpsc::channel(2);
            let (mut download, end) = Download::with_end(pieces);
            sender.send(Bytes::from_static(b"a")).await.unwrap();
            if reaches {
                end.reached();
            } else {
                drop(end);
            }
            drop(sender);
            assert_eq!(download.next().await, Some(Ok(Bytes::from_static(b"a"))));
            assert_eq!(download.next().await, (!reaches).then_some(Err(BrokenOff)));
            assert_eq!(download.next().await, None);
        }
        let (sender, pieces) = mpsc::channel(2);
        drop(sender);
        assert_eq!(Download::endless(pieces).next().await, None);
    }
}
