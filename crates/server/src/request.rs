//! One request: its body within the limits, the service's answer, and HTTP's rules for the answer's body.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use daypass_base::limits::OVERLOADED;
use daypass_base::{BoxFuture, Upload};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::answer::{Answer, Receipted};
use crate::pace::{InFlight, Pace, Streaming, Unfinished};
use crate::room::{Head, OWN_BYTES, OfAll, Own, Room, apart};
use crate::unsent::Hold;
use crate::upload;
use crate::wire::Protocol;
use crate::{Body, Limits, Peer, RequestBody, ServerRequest, ServerResponse, Service, TlsFacts};

/// What all connections of a listener share.
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Limits,
    /// Bounds [`Limits::all_bodies_bytes`].
    pub(crate) room: Arc<OfAll>,
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
    /// Bounds the handlers that run for one HTTP/2 connection and the answers that wait for its client, those of streams that the client has reset
    /// included: to HTTP such a stream is over, so [`Limits::streams`] alone would let a client start any number of them.
    pub(crate) streams: Option<Arc<Semaphore>>,
    /// Its own room for bodies and answers, in KiB (see [`crate::room`]): what all connections together have may be taken by others.
    pub(crate) room: Arc<Own>,
}

/// [`Session`] as hyper wants it.
#[derive(Clone)]
pub(crate) struct Handler(pub(crate) Arc<Session>);

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Answer>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Its connection goes before anything is done for it.
        let Some(in_flight) = InFlight::begin(&self.0.pace) else { return Box::pin(std::future::pending()) };
        let (head, incoming) = request.into_parts();
        // What is too much is given up here and not in the future: HTTP/2 takes all requests that have come in on a connection, and of all connections,
        // before the first of their futures has its turn. Over HTTP/1 it counts headers itself; over HTTP/2 one may take a byte on the wire, and a hundred here.
        if head.headers.len() > self.0.shared.limits.headers {
            self.0.pace.leave_unread();
            let refused = ServerResponse::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Bytes::new());
            return Box::pin(std::future::ready(Ok(self.0.render(refused, false, in_flight, Held::default()))));
        }
        let (head, room) = self.0.find_room_for(head);
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
            // Boxed, so that others, of which many may wait, do not carry room for it.
            return Ok(Box::pin(self.answer_upload(head, incoming, room, in_flight)).await);
        }
        let (body, room) = self.read_body(incoming, room).await;
        // Over HTTP/2 it has a task of its own, which ends a moment after its connection.
        if !in_flight.has_come() {
            return std::future::pending().await;
        }
        let mut held = Held { room, ..Held::default() };
        // Only now: a body that comes slowly takes nobody's turn.
        let body = if self.admit(&mut held) { body } else { RequestBody::NoRoom };
        let (answer, held) = self.begin(head, body, held).await;
        Ok(self.render(answer, is_head, in_flight, held))
    }

    fn begin(&self, head: Head, body: RequestBody, held: Held) -> Finish {
        let request =
            ServerRequest { method: head.method, uri: head.uri, headers: head.headers, body, peer: self.peer, tls: self.tls.clone() };
        Finish { future: Some(self.shared.service.handle(request)), running: Arc::clone(&self.shared.running), held }
    }

    /// The service reads the body while it comes.
    async fn answer_upload(&self, head: Head, incoming: Incoming, room: Option<Room>, in_flight: InFlight) -> Response<Answer> {
        let (pieces, upload) = Upload::channel();
        let mut held = Held { room, ..Held::default() };
        let body = if held.room.is_some() && self.admit(&mut held) { RequestBody::Coming(upload) } else { RequestBody::NoRoom };
        let mut answer = self.begin(head, body, held);
        let mut bringing = std::pin::pin!(upload::bring(incoming, &pieces, &self.shared.limits, self.pace.clock()));
        let brought = tokio::select! {
            biased;
            answer = &mut answer => Err(answer),
            whole = &mut bringing => Ok(whole),
        };
        let ((answer, held), whole) = match brought {
            Err(answer) => (answer, false),
            Ok(whole) => (answer.await, whole),
        };
        if !whole {
            self.pace.leave_unread();
        }
        self.render(answer, false, in_flight, held)
    }

    /// Takes a turn to run, if there is one. Never waits: who waits holds memory, and a client that is told can come again.
    fn admit(&self, held: &mut Held) -> bool {
        let turn = |turns: &Arc<Semaphore>| Arc::clone(turns).try_acquire_owned().ok();
        held.of_connection = self.streams.as_ref().and_then(turn);
        if self.streams.is_some() && held.of_connection.is_none() {
            return false;
        }
        held.turn = turn(&self.shared.requests);
        held.turn.is_some()
    }

    /// The room that a request begins with. Over HTTP/2 a connection has many that wait for their bodies, and for their client to take their answers: a small
    /// answer has its room before anything is done. Where there is none, nothing is kept of the request but what its answer depends on.
    fn find_room_for(&self, mut head: Head) -> (Head, Option<Room>) {
        let mut room = Room::new(&self.room, &self.shared.room);
        if self.protocol == Protocol::Http1 {
            return (head, Some(room));
        }
        if !room.take_head(&head) {
            let (mut refused, ()) = Request::new(()).into_parts();
            if head.method == Method::HEAD {
                refused.method = Method::HEAD;
            }
            return (refused, None);
        }
        if let Some(uri) = apart(&head.uri) {
            head.uri = uri;
        }
        (head, Some(room))
    }

    /// Reads a body to its end. With it comes its share of the room for bodies.
    async fn read_body(&self, incoming: Incoming, mut room: Option<Room>) -> (RequestBody, Option<Room>) {
        let body = match &mut room {
            Some(_) if incoming.is_end_stream() => RequestBody::Whole(Bytes::new()),
            Some(room) => self.collect(incoming, room).await,
            None => RequestBody::NoRoom,
        };
        if !matches!(body, RequestBody::Whole(_)) {
            self.pace.leave_unread();
        }
        (body, room)
    }

    async fn collect(&self, mut incoming: Incoming, room: &mut Room) -> RequestBody {
        let limit = self.shared.limits.body_bytes;
        let announced = incoming.size_hint();
        let expected = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
        if expected > limit {
            return RequestBody::TooLarge { limit, read: Bytes::new() };
        }
        // Told before it is sent. It takes nothing yet: whoever announced much and sent nothing would take it from all others.
        if !room.is_there_for(expected) {
            return RequestBody::NoRoom;
        }
        let most = announced.upper().and_then(|most| usize::try_from(most).ok()).map_or(limit, |most| most.min(limit));
        let mut late = None;
        let mut held = Vec::new();
        loop {
            let frame = match self.next_frame(&mut incoming, &mut late).await {
                Next::Frame(frame) => frame,
                Next::End => return RequestBody::Whole(held.into()),
                Next::Late => return RequestBody::TooSlow,
                Next::Broken(error) => return RequestBody::Broken(error.to_string()),
            };
            // Trailers say nothing that is of use here.
            let Ok(data) = frame.into_data() else { continue };
            let read = held.len() + data.len();
            if read > limit {
                return RequestBody::TooLarge { limit, read: held.into() };
            }
            // Most bodies come in one piece, which then needs no copy: it keeps alive all that was read from the socket with it, of which a connection over
            // HTTP/1 has one.
            let is_whole = held.is_empty() && self.protocol == Protocol::Http1 && incoming.is_end_stream();
            let capacity = if is_whole { read } else { grown(held.capacity(), read, most) };
            if !room.grow_to(capacity) {
                return RequestBody::NoRoom;
            }
            if is_whole {
                return RequestBody::Whole(data);
            }
            held.reserve_exact(capacity - held.len());
            held.extend_from_slice(&data);
        }
    }

    /// The timer starts when the body first lets wait: a body that is there already costs none.
    async fn next_frame(&self, incoming: &mut Incoming, late: &mut Option<Late>) -> Next {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(next) = Pin::new(&mut *incoming).poll_frame(cx) {
                if let (Some((_, unfinished)), Some(Ok(frame))) = (&mut *late, &next) {
                    unfinished.piece_came(frame.data_ref().map_or(0, Bytes::len));
                }
                return Poll::Ready(match next {
                    None => Next::End,
                    Some(Ok(frame)) => Next::Frame(frame),
                    Some(Err(error)) => Next::Broken(error),
                });
            }
            let begin = || (self.pace.clock().sleep(self.shared.limits.body_timeout), Unfinished::begin(&self.pace));
            let (timer, _) = late.get_or_insert_with(begin);
            timer.as_mut().poll(cx).map(|()| Next::Late)
        })
        .await
    }

    fn render(&self, answer: ServerResponse, is_head: bool, in_flight: InFlight, mut held: Held) -> Response<Answer> {
        let answer = self.find_room(without_forbidden_body(answer, is_head), &mut held);
        let ServerResponse { status, mut headers, body, receipt } = answer;
        let body = match body {
            Body::Full(bytes) => {
                let until = || self.pace.to_be_taken_until(bytes.len(), &self.shared.limits);
                let until = held.room.as_ref().is_some_and(Room::is_of_all).then(until);
                let hold = if self.is_counted(bytes.len()) { Some(Hold::new(&self.pace, held, until)) } else { None };
                let receipted = receipt.map(|receipt| Receipted { receipt, pace: Arc::clone(&self.pace), protocol: self.protocol });
                Answer::Full { bytes, hold, receipted, _untaken: in_flight.answered() }
            }
            Body::Stream(pieces) => {
                let hold = Hold::new(&self.pace, held, None);
                Answer::Stream { pieces, hold, _streaming: Streaming::begin(&self.pace), _in_flight: in_flight }
            }
        };
        if self.protocol == Protocol::Http1 && self.pace.left_unread() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Whether an answer with so many bytes takes room. Over HTTP/1 a connection has one of them at a time, so the number of connections bounds small ones.
    fn is_counted(&self, bytes: usize) -> bool {
        bytes > if self.protocol == Protocol::Http1 { OWN_BYTES } else { 0 }
    }

    /// The answer, which has room now, or one that says that there was none: from here on only the client tells how long it is held.
    fn find_room(&self, answer: ServerResponse, held: &mut Held) -> ServerResponse {
        let bytes = match &answer.body {
            Body::Full(bytes) => bytes.len(),
            // It is made as its client takes it, and nothing of the request's body is left.
            Body::Stream(_) => {
                if let Some(room) = &mut held.room {
                    room.leave_body();
                }
                return answer;
            }
        };
        if self.has_room(bytes, held) {
            return answer;
        }
        tracing::debug!(bytes, peer = ?self.peer, "there is no room for an answer");
        let text = format!(r#"{{"errors":["{OVERLOADED}"]}}"#);
        let bytes = text.len();
        let mut overloaded = json_error(StatusCode::SERVICE_UNAVAILABLE, text);
        overloaded.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        if !self.has_room(bytes, held) {
            overloaded.body = Body::Full(Bytes::new());
        }
        overloaded
    }

    fn has_room(&self, bytes: usize, held: &mut Held) -> bool {
        if !self.is_counted(bytes) {
            return true;
        }
        let room = held.room.get_or_insert_with(|| Room::new(&self.room, &self.shared.room));
        (self.protocol == Protocol::Http1 || room.take_stream()) && room.turn_to_answer(bytes)
    }
}

/// For how many bytes a body has memory when `read` have come of it and there was memory for `before`: for twice as many where that is too little, so that it is
/// seldom copied, and for no more than `most`. So nobody has more than twice the room of what was sent.
fn grown(before: usize, read: usize, most: usize) -> usize {
    if read <= before { before } else { before.saturating_mul(2).min(most).max(read) }
}

/// The answer without a body where none may be: clients of HTTP/2 take one for a broken stream (RFC 9110, 15.3.5 and 15.4.5).
fn without_forbidden_body(mut answer: ServerResponse, is_head: bool) -> ServerResponse {
    let has_body = !matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_body && !is_head {
        return answer;
    }
    if let Body::Full(bytes) = &answer.body
        && has_body
    {
        answer.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes.len()));
    }
    ServerResponse { body: Body::Full(Bytes::new()), receipt: None, ..answer }
}

/// A body that lets wait, and until when.
type Late = (BoxFuture<'static, ()>, Unfinished);

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

/// What a request holds.
#[derive(Default)]
pub(crate) struct Held {
    /// Of [`Limits::requests`], until its handler has ended.
    turn: Option<OwnedSemaphorePermit>,
    /// Of [`Session::streams`], until its answer is written.
    of_connection: Option<OwnedSemaphorePermit>,
    /// Until its handler has ended, and then that of its answer until that is written.
    room: Option<Room>,
}

impl Future for Finish {
    type Output = (ServerResponse, Held);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Ready((broken_handler(), Held::default())) };
        let response = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => ready!(polled),
            Err(_panic) => {
                tracing::error!("a request handler ended in a panic");
                broken_handler()
            }
        };
        self.future = None;
        self.held.turn = None;
        Poll::Ready((response, std::mem::take(&mut self.held)))
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
            drop((held, apart));
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
    json_error(StatusCode::INTERNAL_SERVER_ERROR, r#"{"errors":["internal error"]}"#)
}

fn json_error(status: StatusCode, body: impl Into<Bytes>) -> ServerResponse {
    let mut response = ServerResponse::new(status, body);
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
