//! One POST at a time over HTTP/1.1, on a connection that is kept from one batch to the next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::Clock;
use daypass_dial::{Line, Refused, SystemTrust};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;

use crate::{Endpoint, Headers, proto};

/// Time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest POST, connecting included: OpenTelemetry's own limit.
const POST_MAX: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 * 1024;
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
    system: SystemTrust,
    line: Option<Line>,
}

impl Wire {
    /// Nothing is opened yet.
    pub(crate) fn new(endpoint: Endpoint, headers: Headers, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint, headers, clock, system: SystemTrust::default(), line: None }
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
    async fn send(&mut self, batch: Bytes) -> Result<Response<Bytes>, String> {
        if let Some(mut line) = self.line.take() {
            match line.exchange(self.request(batch.clone())?, ANSWER_MAX).await {
                Ok(answer) => {
                    self.line = Some(line);
                    return Ok(answer);
                }
                Err(detail) => tracing::debug!(%detail, "the connection to the collector was closed while it was at rest"),
            }
        }
        let mut line = connect(&self.endpoint, &self.system).await?;
        let answer = line.exchange(self.request(batch)?, ANSWER_MAX).await.map_err(|broken| broken.to_string())?;
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

async fn connect(endpoint: &Endpoint, system: &SystemTrust) -> Result<Line, String> {
    let opening = async {
        let proxy = if endpoint.is_local() { None } else { daypass_dial::proxy_of(endpoint.uri())? };
        Line::start(daypass_dial::open(endpoint.uri(), proxy, CONNECT_MAX, system).await?).await
    };
    opening.await.map_err(|(Refused::Settings(detail) | Refused::Nobody(detail))| detail)
}

/// The type of what is sent and answered.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Source: OTLP specification, "OTLP/HTTP Response": of failures four may be asked again.
fn judged(answer: &Response<Bytes>) -> Posted {
    let status = answer.status();
    let told = || format!("the collector answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Posted::Taken { rejected: proto::rejected(answer.body()) },
        429 | 502 | 503 | 504 => Posted::Later(told(), retry_after(answer)),
        300..=399 => Posted::Refused(format!("{}, and a redirect is not followed: configure the URL that it leads to", told())),
        _ => Posted::Refused(told()),
    }
}

/// A date, which it may be too, is not read: the usual wait does as well.
fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
