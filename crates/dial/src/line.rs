//! HTTP/1.1 on an open connection, one request at a time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use daypass_base::causes;
use http::header::PROXY_AUTHORIZATION;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};

use crate::{Opened, Reader, Refused, Stream};

/// Bytes kept for reading, per connection: no head of an answer is longer.
const BUFFER_MAX: usize = 64 * 1024;

type Driver = Connection<Box<dyn Stream>, Full<Bytes>>;

/// A connection that takes requests. Dropping it closes it, also in the middle of an exchange.
pub struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<Driver>>,
    reader: Reader,
    /// The driver has come to its end and must not be asked again.
    over: bool,
}

/// Why an exchange came to no answer. The line is of no use after it.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended, or what came was no HTTP.
    Lost(String),
    /// The answer was longer than the caller wanted.
    TooLong {
        /// Its status.
        status: StatusCode,
        /// The limit, in bytes.
        max: usize,
    },
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(detail) => f.write_str(detail),
            Self::TooLong { status, max } => write!(f, "the answer {} is longer than the limit of {max} bytes", status.as_u16()),
        }
    }
}

impl Line {
    /// Takes up an open connection. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Refused::Nobody`], with what the connection said.
    pub async fn start(opened: Opened) -> Result<Self, Refused> {
        let handshake = http1::Builder::new().max_buf_size(BUFFER_MAX).handshake(opened.stream).await;
        let (sender, driver) = handshake.map_err(|error| Refused::Nobody(causes(&error)))?;
        Ok(Self { sender, driver: Box::pin(driver), reader: opened.reader, over: false })
    }

    /// Whether it can take a request now. Looks once and does not wait.
    pub async fn is_open(&mut self) -> bool {
        poll_fn(|cx| {
            self.over = self.over || self.driver.as_mut().poll(cx).is_ready();
            Poll::Ready(!self.over && self.sender.is_ready())
        })
        .await
    }

    /// Sends a request, which has a whole URL and its own `Host`, and reads the whole answer, of `answer_max` bytes at most.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>, answer_max: usize) -> Result<Response<Bytes>, Broken> {
        let response = self.ask(request).await?;
        self.read(response, answer_max).await
    }

    /// The first half of [`Line::exchange`], for answers that are judged by their heads: a line whose answer is not read is of no further use.
    ///
    /// # Errors
    /// [`Broken::Lost`].
    pub async fn ask(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Broken> {
        self.address(&mut request);
        let sent = self.sender.send_request(request);
        self.driven(sent).await.map_err(|error| Broken::Lost(causes(&error)))
    }

    /// The second half.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn read(&mut self, response: Response<Incoming>, answer_max: usize) -> Result<Response<Bytes>, Broken> {
        let (head, body) = response.into_parts();
        let body = self.driven(Limited::new(body, answer_max).collect()).await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Broken::TooLong { status: head.status, max: answer_max }
            } else {
                Broken::Lost(causes(error.as_ref()))
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// An origin is sent the path alone; a proxy the whole URL.
    fn address(&self, request: &mut Request<Full<Bytes>>) {
        match &self.reader {
            Reader::Origin => {
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
