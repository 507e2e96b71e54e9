//! One POST at a time over HTTP/1.1, on a connection that is kept from one batch to the next.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, causes};
use http::header::{CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, Connection, SendRequest};

use crate::dial::{Dialer, Reader, Stream};
use crate::{Endpoint, Headers, proto};

/// Longest POST, connecting included: OpenTelemetry's own limit.
const POST_MAX: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 * 1024;
/// Bytes kept for reading.
const BUFFER_MAX: usize = 64 * 1024;
/// A collector that asks for more time than this is asked again after it.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);
/// Longest text about a failure, in characters.
const DETAIL_MAX: usize = 300;

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The collector has it, but for so many spans.
    Taken { rejected: usize },
    /// It will never be taken, for this reason.
    Refused(String),
    /// It may be taken later, perhaps after this time.
    Later(String, Option<Duration>),
}

/// The way to the collector.
pub(crate) struct Wire {
    endpoint: Endpoint,
    headers: Headers,
    clock: Arc<dyn Clock>,
    dialer: Dialer,
    line: Option<Line>,
}

type Driver = Connection<Box<dyn Stream>, Full<Bytes>>;

/// A connection. It has no task of its own: the POST that uses it drives it.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Driver>>,
    reader: Reader,
    /// The driver has come to its end and must not be asked again.
    over: bool,
}

/// A whole answer, as far as it matters.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Wire {
    /// Nothing is opened yet.
    pub(crate) fn new(endpoint: Endpoint, headers: Headers, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, headers, clock, dialer: Dialer::new(), line: None }
    }

    /// Sends one batch.
    pub(crate) async fn post(&mut self, batch: Bytes) -> Posted {
        let clock = Arc::clone(&self.clock);
        let answer = tokio::select! {
            biased;
            done = self.send(batch) => done,
            () = clock.sleep(POST_MAX) => Err(format!("no answer within {} seconds", POST_MAX.as_secs())),
        };
        match answer {
            Ok(answer) => judged(&answer),
            Err(detail) => Posted::Later(detail.chars().take(DETAIL_MAX).collect(), None),
        }
    }

    /// On the connection that is kept, or on a new one where that was closed while it was at rest. What is given up closes its connection.
    async fn send(&mut self, batch: Bytes) -> Result<Answer, String> {
        if let Some(mut line) = self.line.take() {
            match line.exchange(self.request(batch.clone())?).await {
                Ok(answer) => {
                    self.line = Some(line);
                    return Ok(answer);
                }
                Err(detail) => tracing::debug!(detail, "the connection to the collector was closed while it was at rest"),
            }
        }
        let (stream, reader) = self.dialer.open(&self.endpoint).await?;
        let handshake = http1::Builder::new().max_buf_size(BUFFER_MAX).handshake(stream).await;
        let (sender, driver) = handshake.map_err(|error| causes(&error))?;
        let mut line = Line { sender, driver: Box::pin(driver), reader, over: false };
        let answer = line.exchange(self.request(batch)?).await?;
        self.line = Some(line);
        Ok(answer)
    }

    fn request(&self, batch: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.uri().clone())
            .header(HOST, self.endpoint.host())
            .header(USER_AGENT, "daypass")
            .header(CONTENT_TYPE, PROTOBUF);
        let mut request = request.body(Full::from(batch)).map_err(|error| error.to_string())?;
        self.headers.add_to(request.headers_mut());
        Ok(request)
    }
}

/// The type of what is sent and answered.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Source: OTLP specification, "OTLP/HTTP Response": of failures four may be asked again.
fn judged(answer: &Answer) -> Posted {
    let status = answer.status;
    let told = || format!("the collector answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Posted::Taken { rejected: proto::rejected(&answer.body) },
        429 | 502 | 503 | 504 => Posted::Later(told(), answer.retry_after),
        300..=399 => Posted::Refused(format!("{}, and a redirect is not followed: configure the URL that it leads to", told())),
        _ => Posted::Refused(told()),
    }
}

impl Line {
    async fn exchange(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answer, String> {
        self.address(&mut request);
        let sent = self.sender.send_request(request);
        let response = self.driven(sent).await.map_err(|error| causes(&error))?;
        let (head, body) = response.into_parts();
        let body = self.driven(Limited::new(body, ANSWER_MAX).collect()).await;
        let body = body.map_err(|error| causes(error.as_ref()))?.to_bytes();
        // A date, which it may be too, is not read: the usual wait does as well.
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Answer { status: head.status, retry_after: seconds.map(Duration::from_secs).map(|wait| wait.min(RETRY_AFTER_MAX)), body })
    }

    /// The collector is sent the path alone; a proxy the whole URL.
    fn address(&self, request: &mut Request<Full<Bytes>>) {
        match &self.reader {
            Reader::Collector => {
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
            }
            Reader::Proxy(authorization) => {
                request.headers_mut().extend(authorization.iter().map(|value| (PROXY_AUTHORIZATION, value.clone())));
            }
        }
    }

    /// Waits for `work`, which comes from this connection, and drives the connection meanwhile.
    async fn driven<W: Future>(&mut self, work: W) -> W::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            // How a connection ends reaches the work that waits on it.
            self.over = self.over || self.driver.as_mut().poll(cx).is_ready();
            work.as_mut().poll(cx)
        })
        .await
    }
}
