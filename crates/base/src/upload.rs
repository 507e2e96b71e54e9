//! A request body that is read while it comes: for the few that are too large to be held.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

/// The reading end, handed from the listener to the one handler that wants it. Clones are the same body; one of them gets it.
#[derive(Clone)]
pub struct Upload(Arc<Mutex<Option<mpsc::Receiver<Piece>>>>);

/// What comes.
#[derive(Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// The body is whole. Where this does not come, it broke off.
    End,
    /// It cannot be read on, for this reason.
    Failed(String),
}

impl Upload {
    /// Both ends. A sender waits while so many pieces wait to be read.
    #[must_use]
    pub fn channel() -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES);
        (sender, Self(Arc::new(Mutex::new(Some(pieces)))))
    }

    /// A body that is there already.
    ///
    /// ```
    /// use std::io::Read;
    /// let mut text = String::new();
    /// daypass_base::Upload::whole("abc".into()).take().unwrap().read_to_string(&mut text).unwrap();
    /// assert_eq!(text, "abc");
    /// ```
    #[must_use]
    pub fn whole(body: Bytes) -> Self {
        let (sender, upload) = Self::channel();
        for piece in [Piece::Data(body), Piece::End] {
            // There is room for two.
            let _sent = sender.try_send(piece);
        }
        upload
    }

    /// The body; `None` when another has taken it.
    #[must_use]
    pub fn take(&self) -> Option<UploadReader> {
        let pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(UploadReader { pieces, rest: Bytes::new(), ended: false })
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upload")
    }
}

impl PartialEq for Upload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Upload {}

/// Reads an upload. It blocks, so it belongs off the runtime's own threads.
pub struct UploadReader {
    pieces: mpsc::Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

impl Read for UploadReader {
    /// Errors: `ConnectionAborted` when the body broke off; `Other` with the sender's reason.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.rest = bytes,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(reason)) => return Err(io::Error::other(reason)),
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer broke off")),
            }
        }
        let part = self.rest.split_to(buffer.len().min(self.rest.len()));
        if let Some(target) = buffer.get_mut(..part.len()) {
            target.copy_from_slice(&part);
        }
        Ok(part.len())
    }
}

const PIECES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(upload: &Upload) -> io::Result<String> {
        let mut text = String::new();
        upload.take().unwrap().read_to_string(&mut text).map(|_bytes| text)
    }

    #[test]
    fn a_body_that_breaks_off_is_no_whole_one() {
        let (sender, upload) = Upload::channel();
        sender.blocking_send(Piece::Data("ab".into())).unwrap();
        drop(sender);
        assert_eq!(text(&upload).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(upload.take().is_none());
        let (sender, upload) = Upload::channel();
        sender.blocking_send(Piece::Failed("too slow".to_owned())).unwrap();
        assert!(text(&upload).unwrap_err().to_string().contains("too slow"));
        assert_eq!(text(&Upload::whole("abc".into())).unwrap(), "abc");
    }
}
