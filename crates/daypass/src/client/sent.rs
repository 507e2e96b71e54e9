//! What a request carries: a body in memory, or a file that is sent as it is read.

use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::{Call, Client, Error, Reply, Trouble, connect};

/// A request's body.
pub(crate) enum Sent {
    /// All of it; nothing once it was sent.
    Whole(Option<Bytes>),
    /// The next so many bytes of a file.
    File {
        /// The file.
        file: File,
        /// What is left of it.
        left: u64,
        /// Is told what was read, each time.
        progress: Box<dyn FnMut(u64) + Send>,
    },
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    /// Reads the file where it stands: this program has nothing else to do meanwhile.
    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match &mut *self {
            Self::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            Self::File { left: 0, .. } => None,
            Self::File { file, left, progress } => {
                let mut piece = vec![0; usize::try_from(*left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
                Some(match file.read(&mut piece) {
                    Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent")),
                    Ok(read) => {
                        piece.truncate(read);
                        *left -= read as u64;
                        progress(read as u64);
                        Ok(Frame::data(piece.into()))
                    }
                    Err(error) => Err(error),
                })
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File { left, .. } => *left,
        })
    }
}

impl Client {
    /// Makes a request whose body is a file. No timeout holds, nothing is tried again, and no redirect is followed: the body is read once.
    pub(crate) fn upload(&self, call: &Call, file: File, size: u64, progress: impl FnMut(u64) + Send + 'static) -> Result<Reply, Error> {
        if let Some(instead) = self.config.instead {
            return Err(Error::Instead(instead.render(&self.config, call)));
        }
        let sent = self.runtime.block_on(async {
            let address = &self.config.address;
            let target = call.path_and_query(address);
            let connection = connect::open(&self.config, address).await?;
            let request = self.request(&connection, address, &target, call)?;
            let body = Sent::File { file, left: size, progress: Box::new(progress) };
            self.answered(connection, address, request.map(|_empty| body)).await
        });
        let reply = sent.map_err(|trouble: Trouble| self.unreached(call, trouble))?;
        if reply.status >= 300 { Err(Error::Api(self.refusal(call, &reply))) } else { Ok(reply) }
    }
}

const PIECE_BYTES: usize = 64 * 1024;
