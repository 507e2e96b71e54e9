//! One request: its body within the limits, the service's answer, and HTTP's rules for the answer's body.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use daypass_base::{BoxFuture, Receipt, Upload};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::pace::{InFlight, Pace, Streaming, Untaken};
use crate::room::{Head, Permits, Room, SMALL_BYTES, held_by};
use crate::upload;
use crate::wire::Protocol;
use crate::{Body, Limits, Peer, RequestBody, ServerRequest, ServerResponse, Service, TlsFacts};

/// What all connections of a listener share.
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Limits,
    /// Bounds [`Limits::all_bodies_bytes`], in KiB.
    pub(crate) bodies: Arc<Semaphore>,
    /// Bounds [`Limits::requests`].
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) running: Arc<Running>,
}

/// What all requests of a connection share.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) peer: Peer,
    pub(crate) tls: Option<Arc<TlsFacts>>,
    pub(crate) protocol: Protocol,
    /// Bounds the handlers that run for one HTTP/2 connection, those of streams that the client has reset included: to HTTP such a
    /// stream is over, so [`Limits::streams`] alone would let a client start any number of them.
    pub(crate) streams: Option<Arc<Semaphore>>,
    /// Its own room for bodies, in KiB (see [`crate::room`]): what all connections together have may be taken by others.
    pub(crate) room: Arc<Semaphore>,
}

/// [`Session`] as hyper wants it.
#[derive(Clone)]
pub(crate) struct Handler(pub(crate) Arc<Session>);

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Answer>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::begin(&self.0.pace);
        let (mut head, incoming) = request.into_parts();
        // What is too much is given up here and not in the future: HTTP/2 takes all requests that have come in on a connection, and of all connections,
        // before the first of their futures has its turn. Over HTTP/1 it counts headers itself; over HTTP/2 one may take a byte on the wire, and a hundred here.
        if head.headers.len() > self.0.shared.limits.headers {
            self.0.pace.leave_unread();
            let refused = ServerResponse::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Bytes::new());
            return Box::pin(std::future::ready(Ok(self.0.render(refused, false, in_flight))));
        }
        let room = self.0.room_for(&head, &incoming);
        if room.is_none() {
            head.headers = HeaderMap::new();
        }
        Box::pin(Arc::clone(&self.0).answer(head, incoming, room, in_flight))
    }
}

impl Session {
    async fn answer(
        self: Arc<Self>,
        head: Head,
        incoming: Incoming,
        room: Option<Room>,
        in_flight: InFlight,
    ) -> Result<Response<Answer>, Infallible> {
        let is_head = head.method == Method::HEAD;
        if self.shared.service.takes_upload(&head.method, &head.uri) && !incoming.is_end_stream() {
            return Ok(self.answer_upload(head, incoming, room, in_flight).await);
        }
        let (body, room) = self.read_body(incoming, room).await;
        // Only now: a body that comes slowly takes nobody's turn.
        let (body, held) = match self.admit(room) {
            Some(held) => (body, held),
            None => (RequestBody::NoRoom, Held::default()),
        };
        let answer = self.begin(head, body, held).await;
        Ok(self.render(answer, is_head, in_flight))
    }

    fn begin(&self, head: Head, body: RequestBody, held: Held) -> Finish {
        let request =
            ServerRequest { method: head.method, uri: head.uri, headers: head.headers, body, peer: self.peer, tls: self.tls.clone() };
        Finish { future: Some(self.shared.service.handle(request)), running: Arc::clone(&self.shared.running), held }
    }

    /// The service reads the body while it comes.
    async fn answer_upload(&self, head: Head, incoming: Incoming, room: Option<Room>, in_flight: InFlight) -> Response<Answer> {
        let (pieces, upload) = Upload::channel();
        let (body, held) = match room.and_then(|room| self.admit(room.permits())) {
            Some(held) => (RequestBody::Coming(upload), held),
            None => (RequestBody::NoRoom, Held::default()),
        };
        let mut answer = self.begin(head, body, held);
        let mut bringing = std::pin::pin!(upload::bring(incoming, &pieces, &self.shared.limits, self.pace.clock()));
        let brought = tokio::select! {
            biased;
            answer = &mut answer => Err(answer),
            whole = &mut bringing => Ok(whole),
        };
        let (answer, whole) = match brought {
            Err(answer) => (answer, false),
            Ok(whole) => (answer.await, whole),
        };
        if !whole {
            self.pace.leave_unread();
        }
        self.render(answer, false, in_flight)
    }

    /// A turn to run, if there is one. Never waits: who waits holds memory, and a client that is told can come again.
    fn admit(&self, room: Permits) -> Option<Held> {
        let turn = |turns: &Arc<Semaphore>| Arc::clone(turns).try_acquire_owned().ok();
        let of_connection = match &self.streams {
            Some(streams) => Some(turn(streams)?),
            None => None,
        };
        Some(Held { turns: [Some(turn(&self.shared.requests)?), of_connection], room })
    }

    /// The room that a request begins with. Over HTTP/2 a connection has many that wait for their bodies; one without a body waits for nothing.
    fn room_for(&self, head: &Head, incoming: &Incoming) -> Option<Room> {
        let waits = self.protocol == Protocol::Http2 && !incoming.is_end_stream();
        let (head, body) = if waits { (held_by(head), SMALL_BYTES) } else { (0, 0) };
        let mut room = Room::new(&self.room, &self.shared.bodies, head);
        room.grow_to(body).then_some(room)
    }

    /// Reads a body to its end. With it comes its share of the room for bodies.
    async fn read_body(&self, incoming: Incoming, room: Option<Room>) -> (RequestBody, Permits) {
        let (body, permits) = match room {
            Some(room) if incoming.is_end_stream() => (RequestBody::Whole(Bytes::new()), room.permits()),
            Some(mut room) => (self.collect(incoming, &mut room).await, room.permits()),
            None => (RequestBody::NoRoom, Permits::default()),
        };
        if !matches!(body, RequestBody::Whole(_)) {
            self.pace.leave_unread();
        }
        (body, permits)
    }

    async fn collect(&self, mut incoming: Incoming, room: &mut Room) -> RequestBody {
        let limit = self.shared.limits.body_bytes;
        let announced = incoming.size_hint();
        let expected = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
        if expected > limit {
            return RequestBody::TooLarge { limit, read: Bytes::new() };
        }
        if !room.grow_to(expected) {
            return RequestBody::NoRoom;
        }
        let mut late: Option<BoxFuture<'static, ()>> = None;
        let mut held = BytesMut::new();
        loop {
            let frame = match self.next_frame(&mut incoming, &mut late).await {
                Next::Frame(frame) => frame,
                Next::End => return RequestBody::Whole(held.freeze()),
                Next::Late => return RequestBody::TooSlow,
                Next::Broken(error) => return RequestBody::Broken(error.to_string()),
            };
            // Trailers say nothing that is of use here.
            let Ok(data) = frame.into_data() else { continue };
            let read = held.len() + data.len();
            if read > limit {
                return RequestBody::TooLarge { limit, read: held.freeze() };
            }
            if !room.grow_to(read) {
                return RequestBody::NoRoom;
            }
            // Most bodies come in one piece, which then needs no copy.
            if held.is_empty() && incoming.is_end_stream() {
                return RequestBody::Whole(data);
            }
            // Copied even if it is small: a piece keeps alive all that was read from the socket with it.
            if held.is_empty() {
                held.reserve(expected.max(read));
            }
            held.extend_from_slice(&data);
        }
    }

    /// The timer starts when the body first lets wait: a body that is there already costs none.
    async fn next_frame(&self, incoming: &mut Incoming, late: &mut Option<BoxFuture<'static, ()>>) -> Next {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(next) = Pin::new(&mut *incoming).poll_frame(cx) {
                return Poll::Ready(match next {
                    None => Next::End,
                    Some(Ok(frame)) => Next::Frame(frame),
                    Some(Err(error)) => Next::Broken(error),
                });
            }
            let late = late.get_or_insert_with(|| self.pace.clock().sleep(self.shared.limits.body_timeout));
            late.as_mut().poll(cx).map(|()| Next::Late)
        })
        .await
    }

    fn render(&self, answer: ServerResponse, is_head: bool, in_flight: InFlight) -> Response<Answer> {
        let ServerResponse { status, mut headers, body, receipt } = answer;
        // Clients of HTTP/2 take a body for a broken stream where none may be (RFC 9110, 15.3.5 and 15.4.5).
        let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = match body {
            Body::Full(bytes) if is_head && has_body => {
                headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes.len()));
                Answer::Full { bytes: Bytes::new(), receipted: None, _untaken: in_flight.answered() }
            }
            _ if is_head || !has_body => Answer::Full { bytes: Bytes::new(), receipted: None, _untaken: in_flight.answered() },
            Body::Full(bytes) => {
                let receipted = receipt.map(|receipt| Receipted { receipt, pace: Arc::clone(&self.pace), protocol: self.protocol });
                Answer::Full { bytes, receipted, _untaken: in_flight.answered() }
            }
            Body::Stream(pieces) => Answer::Stream { pieces, _streaming: Streaming::begin(&self.pace), _in_flight: in_flight },
        };
        if self.protocol == Protocol::Http1 && self.pace.left_unread() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

enum Next {
    Broken(hyper::Error),
    End,
    Frame(Frame<Bytes>),
    Late,
}

/// What runs on without its connection: handlers whose client has gone, and looking after answers.
#[derive(Default)]
pub(crate) struct Running {
    apart: AtomicUsize,
    ended: Notify,
}

impl Running {
    /// Resolves when nothing runs apart from its connection.
    pub(crate) async fn none_apart(&self) {
        loop {
            let ended = self.ended.notified();
            if self.apart.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Runs a handler to its end, wherever that is: dropped early, it goes on in a task of its own, and no work is left half done.
struct Finish {
    future: Option<BoxFuture<'static, ServerResponse>>,
    running: Arc<Running>,
    held: Held,
}

/// What a request holds until its handler has ended: its turns and its share of the room for bodies.
#[derive(Default)]
struct Held {
    turns: [Option<OwnedSemaphorePermit>; 2],
    room: Permits,
}

impl Future for Finish {
    type Output = ServerResponse;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ServerResponse> {
        let Some(future) = &mut self.future else { return Poll::Ready(broken_handler()) };
        let response = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => ready!(polled),
            Err(_panic) => {
                tracing::error!("a request handler ended in a panic");
                broken_handler()
            }
        };
        self.future = None;
        self.held = Held::default();
        Poll::Ready(response)
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let apart = Apart::begin(&self.running);
        let held = std::mem::take(&mut self.held);
        // Owned by `Server::shutdown`, which waits for `Running`.
        drop(runtime.spawn(async move {
            let _nobody_reads_it = future.await;
            drop((held.turns, held.room, apart));
        }));
    }
}

/// Work that has left its connection.
pub(crate) struct Apart(Arc<Running>);

impl Apart {
    pub(crate) fn begin(running: &Arc<Running>) -> Self {
        running.apart.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(running))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.apart.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

fn broken_handler() -> ServerResponse {
    let mut response = ServerResponse::new(StatusCode::INTERNAL_SERVER_ERROR, r#"{"errors":["internal error"]}"#);
    response.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The body of an answer.
pub(crate) enum Answer {
    /// Counted as not yet taken until it is dropped. `bytes` are those that HTTP has not got yet.
    Full { bytes: Bytes, receipted: Option<Receipted>, _untaken: Untaken },
    /// Its request is in flight, and it is counted as streaming, until it is dropped.
    Stream { pieces: mpsc::Receiver<Bytes>, _streaming: Streaming, _in_flight: InFlight },
}

/// The receipt of an answer, and where it goes when nothing but the socket holds the answer up any more.
pub(crate) struct Receipted {
    receipt: Receipt,
    pace: Arc<Pace>,
    protocol: Protocol,
}

impl Receipted {
    /// The next bytes of the answer, of those that are left.
    ///
    /// HTTP/2 asks for bytes before the client's window has room for them and comes again when those are on their way to the socket, so the last
    /// byte goes alone: when HTTP asks for what is behind it, there was room for it, and so for all. Up to then a stream that the client gives up
    /// drops the receipt.
    fn next(slot: &mut Option<Self>, bytes: &mut Bytes) -> Bytes {
        let Some(Self { receipt, pace, protocol }) = slot.take() else { return std::mem::take(bytes) };
        if protocol == Protocol::Http1 || bytes.is_empty() {
            pace.hand_over(receipt);
            return std::mem::take(bytes);
        }
        *slot = Some(Self { receipt, pace, protocol });
        bytes.split_to(bytes.len().saturating_sub(1).max(1))
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Self::Full { bytes, receipted, .. } => Some(Receipted::next(receipted, bytes)).filter(|bytes| !bytes.is_empty()),
            Self::Stream { pieces, .. } => ready!(pieces.poll_recv(cx)),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full { bytes, receipted: None, .. } if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full { bytes, .. } => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(0)),
            Self::Stream { .. } => SizeHint::default(),
        }
    }
}
