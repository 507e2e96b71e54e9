//! Over loopback, with clients that write their own bytes. Time is simulated: no test waits for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use daypass_base::sim::SimClock;
use daypass_base::{Clock, Connections};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc};

use super::*;

mod bodies;
mod certificates;
mod client_key;
mod deliveries;
mod endings;
mod full;
mod http2;
mod limits;
mod tls;
mod unread;
mod wire;

/// Answers by path; `/echo` is the default.
#[derive(Default)]
struct Echo {
    /// `/slow` waits for this.
    gate: Notify,
    started: AtomicUsize,
    finished: AtomicBool,
    /// Who waits to hear of answers to `/receipt`.
    deliveries: parking_lot::Mutex<Vec<daypass_base::Delivery>>,
    seen: parking_lot::Mutex<Vec<ServerRequest>>,
}

struct Test {
    service: Arc<Echo>,
    clock: SimClock,
    server: Server,
    address: SocketAddr,
    counts: Arc<Connections>,
}

impl Service for Arc<Echo> {
    fn handle(&self, request: ServerRequest) -> BoxFuture<'static, ServerResponse> {
        let service = Self::clone(self);
        Box::pin(async move {
            service.started.fetch_add(1, Ordering::SeqCst);
            if request.body == RequestBody::NoRoom {
                return echo(&service, request);
            }
            match request.uri.path() {
                "/slow" => {
                    service.gate.notified().await;
                    service.finished.store(true, Ordering::SeqCst);
                    ServerResponse::new(StatusCode::OK, "at last")
                }
                "/receipt" => {
                    let (receipt, delivery) = Receipt::pair();
                    service.deliveries.lock().push(delivery);
                    service.gate.notified().await;
                    ServerResponse { receipt: Some(receipt), ..ServerResponse::new(StatusCode::OK, "keys") }
                }
                "/panic" => panic!("as planned"),
                "/empty" => ServerResponse::new(StatusCode::NO_CONTENT, "a body where none may be"),
                "/large" => ServerResponse::new(StatusCode::OK, vec![b'x'; 8 * 1024 * 1024]),
                "/stream" => stream(true),
                "/broken" => stream(false),
                "/endless" => endless(&service),
                "/flood" => flood(&service),
                "/upload" => upload(request).await,
                _ => echo(&service, request),
            }
        })
    }

    fn takes_upload(&self, _: &Method, uri: &Uri) -> bool {
        matches!(uri.path(), "/upload" | "/not-read")
    }
}

/// Reads what comes, and says how much that was.
async fn upload(request: ServerRequest) -> ServerResponse {
    let RequestBody::Coming(upload) = request.body else { return ServerResponse::new(StatusCode::OK, "no upload") };
    let mut reader = upload.take().unwrap();
    let read = tokio::task::spawn_blocking(move || std::io::copy(&mut reader, &mut std::io::sink())).await.unwrap();
    match read {
        Ok(bytes) => ServerResponse::new(StatusCode::OK, format!("read {bytes}")),
        Err(error) => ServerResponse::new(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

/// Comes whole, or is broken off.
fn stream(whole: bool) -> ServerResponse {
    let (sender, pieces) = mpsc::channel(1);
    let (download, end) = Download::with_end(pieces);
    drop(tokio::spawn(async move {
        for piece in ["one ", "two ", "three"] {
            sender.send(Bytes::from(piece)).await.unwrap();
        }
        if whole {
            end.reached();
        }
    }));
    ServerResponse { status: StatusCode::OK, headers: HeaderMap::new(), body: Body::Stream(download), receipt: None }
}

/// Goes on until nobody listens.
fn endless(service: &Arc<Echo>) -> ServerResponse {
    let service = Arc::clone(service);
    let (sender, pieces) = mpsc::channel(1);
    drop(tokio::spawn(async move {
        sender.send(Bytes::from("first")).await.unwrap();
        sender.closed().await;
        service.finished.store(true, Ordering::SeqCst);
    }));
    ServerResponse { status: StatusCode::OK, headers: HeaderMap::new(), body: Body::Stream(Download::endless(pieces)), receipt: None }
}

/// Has always more.
fn flood(service: &Arc<Echo>) -> ServerResponse {
    let service = Arc::clone(service);
    let (sender, pieces) = mpsc::channel(1);
    drop(tokio::spawn(async move {
        while sender.send(Bytes::from(vec![b'x'; 64 * 1024])).await.is_ok() {}
        service.finished.store(true, Ordering::SeqCst);
    }));
    ServerResponse { status: StatusCode::OK, headers: HeaderMap::new(), body: Body::Stream(Download::endless(pieces)), receipt: None }
}

fn echo(service: &Echo, request: ServerRequest) -> ServerResponse {
    let (status, body) = match &request.body {
        RequestBody::Whole(bytes) => (StatusCode::OK, format!("{} {} {}", request.method, request.uri, String::from_utf8_lossy(bytes))),
        RequestBody::TooLarge { limit, read } => (StatusCode::PAYLOAD_TOO_LARGE, format!("over {limit}, read {}", read.len())),
        RequestBody::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too slow".to_owned()),
        RequestBody::NoRoom => (StatusCode::SERVICE_UNAVAILABLE, "no room".to_owned()),
        RequestBody::Broken(why) => (StatusCode::BAD_REQUEST, why.clone()),
        RequestBody::Coming(_) => (StatusCode::FORBIDDEN, "not read".to_owned()),
    };
    service.seen.lock().push(request);
    ServerResponse::new(status, body)
}

async fn start(limits: Limits) -> Test {
    let listener = Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.tcp_address().unwrap();
    serve(Bound { listener, tls: None, limits }, address)
}

fn serve(bound: Bound, address: SocketAddr) -> Test {
    let service = Arc::new(Echo::default());
    let clock = SimClock::default();
    let counts = Arc::default();
    let server = Server::start(vec![bound], Arc::new(Arc::clone(&service)), Arc::new(clock.clone()), Arc::new(Lanes::here()), &counts);
    Test { service, clock, server, address, counts }
}

impl Test {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a new connection and reads until the server closes it.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }

    /// Moves the clock until `done` is; returns how long that took on the clock.
    async fn advance_until<T>(&self, done: impl Future<Output = T>) -> (T, Duration) {
        let begin = self.clock.elapsed();
        let mut done = std::pin::pin!(done);
        loop {
            tokio::select! {
                biased;
                result = &mut done => return (result, self.clock.elapsed().saturating_sub(begin)),
                () = settle() => self.clock.advance(Duration::from_millis(500)),
            }
        }
    }

    /// Waits until `count` requests have reached the service.
    async fn started(&self, count: usize) {
        while self.service.started.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}

/// Lets every other task run, those that wait for loopback included.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut all = Vec::new();
    let _reset = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer with a `Content-Length`, on a connection that stays open.
async fn read_answer(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn get_and_close(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
}
