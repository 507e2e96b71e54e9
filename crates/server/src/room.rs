//! The memory that bodies may take, and over HTTP/2 the requests that wait for theirs: a connection has room of its own, and all have more together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request without its body.
pub(crate) type Head = http::request::Parts;

/// Of a connection's own room, and of the room that all have.
pub(crate) type Permits = [Option<OwnedSemaphorePermit>; 2];

/// A request's share of the room.
pub(crate) struct Room {
    own: Arc<Semaphore>,
    of_all: Arc<Semaphore>,
    permits: Permits,
    /// Bytes that it takes without its body.
    head: usize,
    bytes: usize,
}

impl Room {
    /// Nothing yet. `head`: bytes that the request takes without its body.
    pub(crate) fn new(own: &Arc<Semaphore>, of_all: &Arc<Semaphore>, head: usize) -> Self {
        Self { own: Arc::clone(own), of_all: Arc::clone(of_all), permits: Permits::default(), head, bytes: 0 }
    }

    /// Takes what a body of so many bytes needs, or says that there is no room for it. Never waits: bodies that wait for each other's room would all stand
    /// still.
    pub(crate) fn grow_to(&mut self, body: usize) -> bool {
        let bytes = self.head + body;
        if bytes <= self.bytes {
            return true;
        }
        // In steps, so that a body in many small pieces does not ask each time.
        let target = bytes.next_multiple_of(if bytes <= OWN_BYTES { 1024 } else { OWN_BYTES });
        let more = u32::try_from((target - self.bytes) / 1024).unwrap_or(u32::MAX);
        for (room, have) in [&self.own, &self.of_all].into_iter().zip(&mut self.permits) {
            let Ok(permit) = Arc::clone(room).try_acquire_many_owned(more) else { continue };
            match have {
                Some(have) => have.merge(permit),
                none => *none = Some(permit),
            }
            self.bytes = target;
            return true;
        }
        false
    }

    /// What was taken, to be held until the request is answered.
    pub(crate) fn permits(self) -> Permits {
        self.permits
    }
}

/// A connection's own room.
pub(crate) fn own() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(OWN_BYTES / 1024))
}

/// About how many bytes a request over HTTP/2 takes that waits for its body: headers may be far smaller on the wire.
pub(crate) fn held_by(head: &Head) -> usize {
    let headers = head.headers.iter().map(|(name, value)| HEADER_BYTES + name.as_str().len() + value.len());
    STREAM_BYTES + headers.sum::<usize>()
}

/// What each connection may hold whatever others hold: bounded by the number of connections alone.
const OWN_BYTES: usize = 64 * 1024;
/// A body of so many bytes finds room where its request has found it.
pub(crate) const SMALL_BYTES: usize = 1024;
/// About what a stream takes by itself: its state and its task, and the piece of what was read that its headers keep alive.
const STREAM_BYTES: usize = 16 * 1024;
/// About what a header takes beside its name and its value, with room that a growing map keeps ahead.
const HEADER_BYTES: usize = 256;
