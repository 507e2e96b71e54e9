//! Slow work off the runtime: making and using RSA keys, and large batches. Only so much at a time; so many more callers wait their turn.

use std::sync::Arc;

use daypass_base::Places;
use daypass_sdk::{Cx, Error, Result};

use super::cache::Loaded;
use super::key::Version;
use super::key_type::KeyType;
use super::material;
use crate::turns;

/// The turns of one mount.
pub(super) struct Turns(turns::Turns);

impl Default for Turns {
    fn default() -> Self {
        let full =
            format!("{PLACES_MAX} requests have slow work done by this mount or wait for that, which is the limit: try again in a moment");
        Self(turns::Turns::new(AT_ONCE_MAX, Places::new(PLACES_MAX, PLACES_MAX), full))
    }
}

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    OffTheRuntime,
}

impl Place {
    /// Where so many uses of a key, on so many bytes together, are done.
    pub(super) fn of(key: &Loaded, items: usize, bytes: usize) -> Self {
        if key.key.key_type.is_rsa() || items > ITEMS_HERE_MAX || bytes > BYTES_HERE_MAX { Self::OffTheRuntime } else { Self::Here }
    }
}

impl Turns {
    /// Does the work. Errors: its own, `TooMany` where too much waits already, or `Internal` when it ended early.
    pub(super) async fn run<T: Send + 'static>(&self, place: Place, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        match place {
            Place::Here => work(),
            // Who may use a mount shares it with others who may: an address has no part of its own.
            Place::OffTheRuntime => self.0.run(None, work).await,
        }
    }

    /// Does a piece of work for each item. It ends early when nobody waits for it any more: the request's deadline has passed, or its client
    /// has gone. Errors: only those of [`Self::run`]; those of the pieces are theirs.
    pub(super) async fn each<I, T>(
        &self,
        place: Place,
        items: impl IntoIterator<Item = I> + Send + 'static,
        mut one: impl FnMut(I) -> Result<T> + Send + 'static,
    ) -> Result<Vec<Result<T>>>
    where
        T: Send + 'static,
    {
        // Goes with this future, which is what both a deadline and a client that has gone end.
        let waiting = Arc::new(());
        let waits = Arc::downgrade(&waiting);
        let piece =
            move |item| if waits.strong_count() > 0 { Ok(one(item)) } else { Err(Error::failed("nobody waits for this work any more")) };
        let done = self.run(place, move || items.into_iter().map(piece).collect()).await;
        drop(waiting);
        done
    }

    /// Makes the material of a new version.
    pub(super) async fn generate(&self, cx: &Cx, key_type: KeyType, key_size: usize) -> Result<Version> {
        let (entropy, now) = (Arc::clone(&cx.entropy), cx.clock.now());
        let place = if key_type.is_rsa() || key_type.is_ecdsa() { Place::OffTheRuntime } else { Place::Here };
        self.run(place, move || material::generate(key_type, key_size, &*entropy, now)).await
    }
}

/// Slow work at once per mount: more would only take the processors from each other.
const AT_ONCE_MAX: usize = 4;
/// Requests that have slow work done or wait for that: a quarter of those that a listener answers at one time, so that one mount leaves the rest to others.
const PLACES_MAX: usize = 1024;
/// More items than these go off the runtime.
const ITEMS_HERE_MAX: usize = 32;
/// More bytes than these go off the runtime.
const BYTES_HERE_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Story: the turns of a mount were held until the last item of a batch was done, though the request had been given up long before. Four
    /// batches of 2,000 wrong signatures kept everybody from a mount's RSA keys for minutes.
    #[tokio::test]
    async fn work_that_nobody_waits_for_ends_with_the_piece_at_hand() {
        let turns = Turns::default();
        let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, gate) = mpsc::channel();
        let piece = move |number: u32| {
            begin.send(number).unwrap();
            gate.recv().unwrap();
            Ok(())
        };
        tokio::select! {
            _ = turns.each(Place::OffTheRuntime, 0..1_000, piece) => panic!("the first piece was not let go on"),
            first = begun.recv() => assert_eq!(first, Some(0)),
        }
        // Whoever asked is gone; the first piece comes to its end.
        go_on.send(()).unwrap();
        let _all_turns = turns.0.hold(4).await;
        assert_eq!(begun.recv().await, None, "no second piece was begun");
    }

    #[tokio::test]
    async fn pieces_fail_alone() {
        let piece = |number: u32| if number == 1 { Err(Error::bad_request("one")) } else { Ok(number) };
        for place in [Place::Here, Place::OffTheRuntime] {
            let done = Turns::default().each(place, 0..3, piece).await.unwrap();
            let shown: Vec<_> = done.into_iter().map(|result| result.map_err(|error| error.message)).collect();
            assert_eq!(shown, [Ok(0), Err("one".into()), Ok(2)]);
        }
    }
}
