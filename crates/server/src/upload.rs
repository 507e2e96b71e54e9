//! A body that is handed over while it comes. Who reads it sets the pace: nothing is taken from the socket that nobody has room for.

use std::sync::Arc;

use daypass_base::Clock;
use daypass_base::upload::Piece;
use hyper::body::{Body as _, Incoming};
use tokio::sync::mpsc;

use crate::Limits;

/// Passes a body on. Returns whether all of it was.
///
/// A client that sends less than [`BYTES_MIN`] in a [`Limits::body_timeout`] is given up. Time in which the reader has no room is not the client's.
pub(crate) async fn bring(mut incoming: Incoming, pieces: &mpsc::Sender<Piece>, limits: &Limits, clock: &Arc<dyn Clock>) -> bool {
    let mut brought: u64 = 0;
    let mut at_last_look = 0;
    let mut look = clock.sleep(limits.body_timeout);
    loop {
        let frame = tokio::select! {
            biased;
            frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut incoming).poll_frame(cx)) => frame,
            () = &mut look => {
                if brought - at_last_look < BYTES_MIN {
                    let text = format!("less than {} KiB came in {} seconds", BYTES_MIN / 1024, limits.body_timeout.as_secs());
                    return fail(pieces, text).await;
                }
                at_last_look = brought;
                look = clock.sleep(limits.body_timeout);
                continue;
            }
        };
        let data = match frame {
            None => return pieces.send(Piece::End).await.is_ok(),
            Some(Err(error)) => return fail(pieces, format!("the request body broke off: {error}")).await,
            Some(Ok(frame)) => frame.into_data(),
        };
        // Trailers say nothing that is of use here.
        let Ok(data) = data else { continue };
        brought += data.len() as u64;
        if brought > limits.snapshot_bytes {
            return fail(pieces, format!("it is over the limit of {} bytes", limits.snapshot_bytes)).await;
        }
        let waited = pieces.try_reserve().is_err();
        if pieces.send(Piece::Data(data)).await.is_err() {
            return false;
        }
        if waited {
            at_last_look = brought.saturating_sub(BYTES_MIN);
            look = clock.sleep(limits.body_timeout);
        }
    }
}

async fn fail(pieces: &mpsc::Sender<Piece>, reason: String) -> bool {
    let _nobody_reads = pieces.send(Piece::Failed(reason)).await;
    false
}

/// A slow link brings this in a second or two.
const BYTES_MIN: u64 = 64 * 1024;
