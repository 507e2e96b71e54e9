//! Slow work off the runtime: only so much at a time, and only so many requests that wait for their turn. Others are told to come again before they wait:
//! whoever waits keeps one of the turns that a listener has for all its requests (`daypass_base::Limits::requests`), also when its client has gone.

use std::net::IpAddr;
use std::sync::Arc;

use daypass_base::Places;
use daypass_sdk::{Error, Kind, Result, Seconds};
use tokio::sync::Semaphore;

/// The turns of those who share them.
pub(crate) struct Turns {
    turns: Arc<Semaphore>,
    /// Of those who wait and those whose turn it is.
    places: Places,
    /// What others are told.
    full: String,
}

impl Turns {
    /// So much work at once, for those who have a place; `full` tells the others which limit that is.
    pub(crate) fn new(at_once: usize, places: Places, full: String) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once)), places, full }
    }

    /// Does work for whoever asks from there, once it is its turn. Errors: those of the work, `TooMany` where there is no place to wait, `Internal` when the
    /// work ended early.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        from: Option<IpAddr>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = self.places.take(from);
        let place = place.ok_or_else(|| Error::new(Kind::TooMany, self.full.clone()).retry_after(Seconds(1)))?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|error| Error::internal("slow work was shut down").because(error))?;
        // Turn and place end with the work, even when the caller has given up meanwhile.
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        });
        work.await.map_err(|error| Error::internal("slow work ended early").because(error))?
    }

    /// So many turns, once nobody has them.
    #[cfg(test)]
    pub(crate) async fn hold(&self, turns: u32) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.turns.acquire_many(turns).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use daypass_base::sim::waits;

    use super::*;

    /// Story: there was no end to those who waited for their turn, and each kept one of the turns that a listener has for all its requests.
    #[tokio::test]
    async fn whoever_finds_no_place_is_told_before_it_waits_and_no_address_takes_all() {
        let turns = Turns::new(1, Places::new(3, 2), "full".to_owned());
        let (one, other) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let (go_on, gate) = mpsc::channel::<()>();
        let mut at_work = Box::pin(turns.run(one, move || gate.recv().map_err(|error| Error::internal("").because(error))));
        let mut waiting = Box::pin(turns.run(one, || Ok(())));
        assert!(waits(&mut at_work) && waits(&mut waiting));
        let refused = turns.run(one, || Ok(())).await.unwrap_err();
        assert_eq!((refused.kind, refused.message.as_str(), refused.retry_after), (Kind::TooMany, "full", Seconds(1)));
        let mut of_another = Box::pin(turns.run(other, || Ok(())));
        assert!(waits(&mut of_another), "others have places left");
        assert_eq!(turns.run(other, || Ok(())).await.unwrap_err().kind, Kind::TooMany);
        // Who gives up while it waits leaves its place; who gives up while the work goes on does not.
        drop(waiting);
        drop(at_work);
        let mut waiting = Box::pin(turns.run(one, || Ok(())));
        assert!(waits(&mut waiting));
        assert_eq!(turns.run(one, || Ok(())).await.unwrap_err().kind, Kind::TooMany);
        go_on.send(()).unwrap();
        of_another.await.unwrap();
        waiting.await.unwrap();
        turns.run(one, || Ok(())).await.unwrap();
    }
}
