//! The memory that bodies may take, and over HTTP/2 the requests that wait for theirs and the answers that wait for their client: a connection has room of
//! its own, and all have more together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;

/// A request without its body.
pub(crate) type Head = http::request::Parts;

/// A request's share of the room, and then its answer's.
pub(crate) struct Room {
    own: Arc<Semaphore>,
    of_all: Arc<Semaphore>,
    /// Of a connection's own room, and of the room that all have.
    permits: [Option<OwnedSemaphorePermit>; 2],
    /// Bytes that it takes without its body.
    head: usize,
    bytes: usize,
}

impl Room {
    /// Nothing yet. `head`: bytes that the request takes without its body.
    pub(crate) fn new(own: &Arc<Semaphore>, of_all: &Arc<Semaphore>, head: usize) -> Self {
        Self { own: Arc::clone(own), of_all: Arc::clone(of_all), permits: [None, None], head, bytes: 0 }
    }

    /// Takes what a body of so many bytes needs, or says that there is no room for it. Never waits: bodies that wait for each other's room would all stand
    /// still.
    pub(crate) fn grow_to(&mut self, body: usize) -> bool {
        let bytes = self.head + body;
        bytes <= self.bytes || self.take_up_to(in_steps(bytes))
    }

    /// Makes it the room of the request's answer, or says that there is none for it. One that is larger than all the room there is takes all of it.
    pub(crate) fn turn_to_answer(&mut self, body: usize, limits: &Limits) -> bool {
        self.head = self.head.min(STREAM_BYTES);
        let target = in_steps(self.head + body).min(bytes_of_all(limits));
        if target > self.bytes {
            return self.take_up_to(target);
        }
        // Less is not worth the trouble: it is back in a moment.
        if self.bytes - target >= OWN_BYTES {
            self.give_back(self.bytes - target);
        }
        true
    }

    fn take_up_to(&mut self, target: usize) -> bool {
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

    fn give_back(&mut self, bytes: usize) {
        let mut left = bytes / 1024;
        // What others may want first.
        for have in self.permits.iter_mut().rev().flatten() {
            let back = left.min(have.num_permits());
            drop(have.split(back));
            left -= back;
        }
        self.bytes -= bytes;
    }
}

/// In steps, so that a body in many small pieces does not ask each time.
fn in_steps(bytes: usize) -> usize {
    bytes.next_multiple_of(if bytes <= OWN_BYTES { 1024 } else { OWN_BYTES })
}

/// A connection's own room.
pub(crate) fn own() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(OWN_BYTES / 1024))
}

/// The room that all connections of a listener have together.
pub(crate) fn of_all(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((bytes_of_all(limits) / 1024).min(Semaphore::MAX_PERMITS)))
}

fn bytes_of_all(limits: &Limits) -> usize {
    limits.all_bodies_bytes.max(limits.body_bytes.saturating_mul(2)).div_ceil(1024).saturating_mul(1024)
}

/// About how many bytes a request over HTTP/2 takes without its body: headers may be far smaller on the wire.
pub(crate) fn held_by(head: &Head) -> usize {
    let headers = head.headers.iter().map(|(name, value)| HEADER_BYTES + name.as_str().len() + value.len());
    STREAM_BYTES + headers.sum::<usize>()
}

/// What each connection may hold whatever others hold: bounded by the number of connections alone.
pub(crate) const OWN_BYTES: usize = 64 * 1024;
/// A body of so many bytes finds room where its request has found it.
pub(crate) const SMALL_BYTES: usize = 1024;
/// About what a stream takes by itself: its state and its task, and the piece of what was read that its headers keep alive.
pub(crate) const STREAM_BYTES: usize = 16 * 1024;
/// About what a header takes beside its name and its value, with room that a growing map keeps ahead.
const HEADER_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_over_the_room_of_its_request_and_gives_back_what_is_too_much() {
        let limits = Limits { all_bodies_bytes: 1 << 20, body_bytes: 1, ..Limits::default() };
        let (own, all) = (own(), of_all(&limits));
        let left = || (own.available_permits(), all.available_permits());
        let mut room = Room::new(&own, &all, STREAM_BYTES + 5000);
        assert!(room.grow_to(SMALL_BYTES));
        assert_eq!(left(), (64 - 22, 1024), "a small request needs nothing that others could want");
        assert!(room.grow_to(500 << 10) && room.turn_to_answer(100, &limits));
        assert_eq!(left(), (64 - 17, 1024));
        assert!(room.turn_to_answer(900 << 10, &limits));
        assert!(!Room::new(&own, &all, STREAM_BYTES).turn_to_answer(200 << 10, &limits), "there is no room for another large one");
        assert!(Room::new(&own, &all, STREAM_BYTES).turn_to_answer(20 << 10, &limits), "but for a small one");
        drop(room);
        assert_eq!(left(), (64, 1024));
        assert!(Room::new(&own, &all, STREAM_BYTES).turn_to_answer(5 << 20, &limits), "one that is larger than the room has it alone");
    }
}
