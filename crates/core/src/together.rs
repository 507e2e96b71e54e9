//! Many pieces of work at a time, but only so many: for work that mostly waits, such as taking secrets back at AWS.
//!
//! All runs in the task that asks for it: nothing is spawned, so dropping the future drops the work with it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs all of `work`, at most `most` pieces at a time. Results come in the order in which they end.
pub(crate) async fn at_most<F: Future>(most: usize, work: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting = work.into_iter();
    let mut running: Vec<Pin<Box<F>>> = waiting.by_ref().take(most.max(1)).map(Box::pin).collect();
    let mut done = Vec::new();
    poll_fn(|cx| {
        let mut at = 0;
        while let Some(piece) = running.get_mut(at) {
            match piece.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(result) => {
                    done.push(result);
                    // Another one takes its place in the row and is polled next; a new one is polled when its turn comes, in this round.
                    drop(running.swap_remove(at));
                    running.extend(waiting.next().map(Box::pin));
                }
            }
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn all_is_done_and_never_more_than_so_many_at_a_time() {
        for (most, pieces) in [(1, 5), (3, 10), (8, 2), (0, 3), (4, 0)] {
            let (running, highest) = (Cell::new(0_usize), Cell::new(0_usize));
            let (running, highest) = (&running, &highest);
            let work = (0..pieces).map(|number| async move {
                running.set(running.get() + 1);
                highest.set(highest.get().max(running.get()));
                for _ in 0..number % 4 {
                    tokio::task::yield_now().await;
                }
                running.set(running.get() - 1);
                number
            });
            let mut done = at_most(most, work).await;
            done.sort_unstable();
            assert_eq!(done, (0..pieces).collect::<Vec<_>>());
            assert!(highest.get() <= most.max(1));
        }
    }
}
