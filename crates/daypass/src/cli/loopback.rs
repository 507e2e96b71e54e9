//! A listener for as long as a command runs: for a browser that comes back, for AWS's SDKs of a program that was started.
//!
//! Everything about it has a limit: connections, the time of each, the head of a request. A connection has one request, and who has not brought it yet
//! gives way to others: anybody on the machine can connect and say nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, SystemClock};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// After a connection could not be taken, most likely for want of open files.
const REST: Duration = Duration::from_millis(100);

/// One who connected.
pub(crate) struct Caller {
    stream: TcpStream,
    silent: Arc<AtomicBool>,
}

/// How long one connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until the head of its request is there.
    pub(crate) head: Duration,
    /// In all.
    pub(crate) whole: Duration,
}

/// Serves connections side by side, `most` at one time, until one of them brings something.
pub(crate) async fn until<T, C>(listener: &TcpListener, clock: &SystemClock, most: usize, serve: impl Fn(Caller) -> C) -> T
where
    T: Send + 'static,
    C: Future<Output = Option<T>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut slots = Slots { most, taken: VecDeque::new() };
    loop {
        tokio::select! {
            accepted = listener.accept(), if slots.can_be_had() => match accepted {
                Ok((stream, _)) => {
                    slots.make_room().await;
                    let silent = Arc::new(AtomicBool::new(true));
                    let task = connections.spawn(serve(Caller { stream, silent: Arc::clone(&silent) }));
                    slots.taken.push_back(Slot { task, silent });
                }
                Err(_) => clock.sleep(REST).await,
            },
            Some(ended) = connections.join_next() => {
                if let Ok(Some(came)) = ended {
                    return came;
                }
            }
        }
    }
}

/// Who has a connection, the oldest first.
struct Slots {
    most: usize,
    taken: VecDeque<Slot>,
}

struct Slot {
    task: AbortHandle,
    silent: Arc<AtomicBool>,
}

impl Slots {
    fn can_be_had(&mut self) -> bool {
        self.taken.retain(|slot| !slot.task.is_finished());
        self.taken.len() < self.most || self.silent().is_some()
    }

    /// Where all are taken the one that has been silent for the longest time goes. If just now the last of them spoke, there is one too many.
    async fn make_room(&mut self) {
        if self.taken.len() < self.most {
            return;
        }
        // What has come meanwhile is read first: nobody is silent who had no turn yet.
        tokio::task::yield_now().await;
        if let Some(slot) = self.silent().and_then(|place| self.taken.remove(place)) {
            slot.task.abort();
        }
    }

    fn silent(&self) -> Option<usize> {
        self.taken.iter().position(|slot| slot.silent.load(Ordering::Relaxed))
    }
}

/// Serves one connection, with so much patience: those that say nothing must not keep others out. Ends once its answer is sent.
pub(crate) async fn connection<S, F>(caller: Caller, clock: Arc<SystemClock>, patience: Patience, answer: S)
where
    S: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let Caller { stream, silent } = caller;
    let heard = Arc::clone(&silent);
    let service = service_fn(move |request| {
        heard.store(false, Ordering::Relaxed);
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    let connection = server.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).serve_connection(TokioIo::new(stream), service);
    let too_long = async {
        clock.sleep(patience.head).await;
        if !silent.load(Ordering::Relaxed) {
            clock.sleep(patience.whole.saturating_sub(patience.head)).await;
        }
    };
    tokio::select! {
        _ended = connection => {}
        () = too_long => {}
    }
}
