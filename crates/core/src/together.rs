//! Many pieces of work at a time, but only so many: for work that mostly waits, such as taking secrets back at AWS.
//!
//! All runs in the task that asks for it: nothing is spawned, so dropping the future drops the work with it. It waits for all of it, so that no piece
//! is left half-way with a lock that what comes next needs.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs all of `work`, at most `most` pieces at a time. Results come in the order in which they end.
pub(crate) async fn at_most<F: Future>(most: usize, work: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let (mut running, mut done) = (Together::new(), Vec::new());
    for piece in work {
        if running.len() >= most.max(1) {
            done.push(running.next().await);
        }
        running.add(piece);
    }
    while running.len() > 0 {
        done.push(running.next().await);
    }
    done
}

/// Pieces of work under way. They go on only while somebody waits for the next one to end.
struct Together<F: Future> {
    running: Vec<Pin<Box<F>>>,
    /// Ended in the same round as one that was told.
    done: VecDeque<F::Output>,
}

impl<F: Future> Together<F> {
    fn new() -> Self {
        Self { running: Vec::new(), done: VecDeque::new() }
    }

    /// How many were added and not told.
    fn len(&self) -> usize {
        self.running.len() + self.done.len()
    }

    fn add(&mut self, piece: F) {
        self.running.push(Box::pin(piece));
    }

    /// The result of the next one that ends. Waits for ever while there is none.
    async fn next(&mut self) -> F::Output {
        poll_fn(|cx| {
            let (running, done) = (&mut self.running, &mut self.done);
            if done.is_empty() {
                running.retain_mut(|piece| match piece.as_mut().poll(cx) {
                    Poll::Pending => true,
                    Poll::Ready(result) => {
                        done.push_back(result);
                        false
                    }
                });
            }
            done.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
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
