//! What HTTP has of a connection's answers and has not written, because their client takes no more: since when, and what it holds meanwhile.
//!
//! HTTP keeps such bytes for itself, some after their answer is over for us: so each piece tells by its end that it is written, or given up with its stream.
//! Nothing else shows whether a client of HTTP/2 reads an answer: it may ask and be answered, and be told that the connection lives, and leave that one alone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::pace::Pace;
use crate::request::Held;

/// The answers of one connection that have pieces with HTTP.
#[derive(Default)]
pub(crate) struct Unsent {
    answers: Mutex<Vec<Waiting>>,
    /// How many they are, for those who look often.
    count: AtomicU32,
    /// How many there were.
    begun: AtomicU32,
}

struct Waiting {
    number: u32,
    pieces: u32,
    /// When a piece of it was written last, or the first one came.
    since: Duration,
    /// When all of it must be written, if it has room that others may want: a piece now and then would keep that for hours.
    until: Option<Duration>,
}

impl Unsent {
    /// When the first of them has had its time: so long without a piece of it that was written, or longer than it may take.
    pub(crate) fn cut_at(&self, patience: Duration) -> Option<Duration> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let cut = |answer: &Waiting| answer.until.map_or(answer.since + patience, |until| until.min(answer.since + patience));
        self.answers().iter().map(cut).min()
    }

    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// HTTP got a piece of an answer.
    pub(crate) fn given(&self, number: u32, now: Duration, until: Option<Duration>) {
        let mut answers = self.answers();
        match answers.iter_mut().find(|answer| answer.number == number) {
            Some(answer) => answer.pieces += 1,
            None => answers.push(Waiting { number, pieces: 1, since: now, until }),
        }
        self.count.store(u32::try_from(answers.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// HTTP let go of a piece of an answer.
    pub(crate) fn written(&self, number: u32, now: Duration) {
        let mut answers = self.answers();
        let Some(at) = answers.iter().position(|answer| answer.number == number) else { return };
        if let Some(answer) = answers.get_mut(at) {
            answer.pieces -= 1;
            answer.since = now;
            if answer.pieces == 0 {
                answers.swap_remove(at);
            }
        }
        self.count.store(u32::try_from(answers.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer holds until HTTP has let go of its last piece.
pub(crate) struct Hold {
    pace: Arc<Pace>,
    number: u32,
    until: Option<Duration>,
    _held: Held,
}

impl Hold {
    /// `until`: when all of the answer must be written.
    pub(crate) fn new(pace: &Arc<Pace>, held: Held, until: Option<Duration>) -> Arc<Self> {
        let number = pace.unsent().begun.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { pace: Arc::clone(pace), number, until, _held: held })
    }

    /// Bytes of the answer as HTTP is to get them.
    pub(crate) fn piece(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.pace.piece_given(self.number, self.until);
        Bytes::from_owner(Piece { bytes, of: Arc::clone(self) })
    }
}

struct Piece {
    bytes: Bytes,
    of: Arc<Hold>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.of.pace.piece_written(self.of.number);
    }
}
