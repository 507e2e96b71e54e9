//! A listener for as long as a command runs: for a browser that comes back, for AWS's SDKs of a program that was started.
//!
//! Everything about it has a limit: connections, the time of each, the head of a request. A connection has one request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, SystemClock};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// After a connection could not be taken, most likely for want of open files.
const REST: Duration = Duration::from_millis(100);

/// Serves connections side by side, `most` at one time, until one of them brings something.
pub(crate) async fn until<T, C>(listener: &TcpListener, clock: &SystemClock, most: usize, serve: impl Fn(TcpStream) -> C) -> T
where
    T: Send + 'static,
    C: Future<Output = Option<T>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < most => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream));
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

/// Serves one connection, for so long at most: those that say nothing must not keep others out. Ends once its answer is sent.
pub(crate) async fn connection<S, F>(stream: TcpStream, clock: Arc<SystemClock>, most: Duration, answer: S)
where
    S: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    let connection = server.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ended = connection => {}
        () = clock.sleep(most) => {}
    }
}
