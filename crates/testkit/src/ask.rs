//! Requests and answers of a test: HTTP's shapes, through the whole pipeline, without a socket.

use std::net::{IpAddr, SocketAddr};
use std::ops::Index;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use daypass_base::{ClientChain, Download, Fate, Receipt};
use daypass_core::{Body, Core, HttpRequest, HttpResponse, Opened};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use tokio::sync::mpsc;

/// A request that is being put together; awaiting it sends it. It owns all that it needs, so it can be spawned.
#[derive(Clone)]
#[must_use = "a request is sent by awaiting it"]
pub struct Ask {
    core: Core,
    method: String,
    path: String,
    body: Bytes,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
    client_chain: Option<Arc<ClientChain>>,
    opened: Opened,
    fate: Fate,
}

impl Ask {
    pub(crate) fn new(core: &Core, method: &str, path: &str, token: &str) -> Self {
        let home = SocketAddr::from(([127, 0, 0, 1], 41_000));
        let ask = Self {
            core: core.clone(),
            method: method.to_owned(),
            path: path.to_owned(),
            body: Bytes::new(),
            headers: HeaderMap::new(),
            peer: Some(home),
            client_chain: None,
            opened: Opened::default(),
            fate: Fate::Delivered,
        };
        ask.token(token)
    }

    /// Sent with this token instead of the root token.
    pub fn token(self, token: &str) -> Self {
        self.header("x-vault-token", token)
    }

    /// Sent without a token.
    pub fn nobody(mut self) -> Self {
        self.headers.remove("x-vault-token");
        self
    }

    /// Sent from this address; a text that is no address stands for a unix socket.
    pub fn from(mut self, address: &str) -> Self {
        self.peer = address.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 41_000));
        self
    }

    /// Sent over TLS, where the client showed these certificates.
    pub fn showing(mut self, chain: ClientChain) -> Self {
        self.client_chain = Some(Arc::new(chain));
        self
    }

    /// Sent over a listener that lets this be read without a token.
    pub fn over(mut self, opened: Opened) -> Self {
        self.opened = opened;
        self
    }

    /// The client hangs up before the answer is written: the test sees it, and the server knows that nobody has.
    pub fn hanging_up(mut self) -> Self {
        self.fate = Fate::Lost;
        self
    }

    /// The answer stays on its way to the client: the test sees it, and the server never knows whether anybody has.
    pub fn on_its_way(mut self) -> Self {
        self.fate = Fate::OnItsWay;
        self
    }

    /// The answer is to be wrapped for so long: `60s`.
    pub fn wrap(self, ttl: &str) -> Self {
        self.header("x-vault-wrap-ttl", ttl)
    }

    /// With this header, in place of one of the same name. A header that HTTP does not allow is left out.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// With this JSON body; `Null` is no body.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self
    }

    /// With these bytes as the body.
    pub fn raw(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it, and gives what its answer goes on to tell; the answer must have this status.
    pub async fn stream(self, status: u16) -> mpsc::Receiver<Bytes> {
        self.follow(status).await.pieces()
    }

    /// The same, for whoever asks whether it came whole.
    pub async fn follow(self, status: u16) -> Download {
        let asked = format!("{} {}", self.method, self.path);
        let answer = self.handled().await;
        assert_eq!(answer.status, status, "{asked} was answered {:?}", answer.body);
        // A sender that is gone ends the stream: an answer that is whole tells no more.
        answer.more.unwrap_or_else(|| Download::endless(mpsc::channel(1).1))
    }

    /// Sends it, and reads all that its answer goes on to tell, which comes whole.
    pub async fn download(self) -> (Answer, Vec<u8>) {
        let asked = format!("{} {}", self.method, self.path);
        let answer = self.handled().await;
        let mut bytes = answer.body.to_vec();
        if let Some(mut more) = answer.more {
            while let Some(piece) = more.next().await {
                assert!(piece.is_ok(), "{asked} was answered in part");
                bytes.extend_from_slice(&piece.unwrap_or_default());
            }
        }
        let body = daypass_base::nested::read(&answer.body).unwrap_or_default();
        (Answer { request: asked, status: answer.status, body, headers: answer.headers }, bytes)
    }

    /// Sends it. What becomes of the answer is the test's to say.
    pub async fn with_receipt(self) -> (Answer, Option<Receipt>) {
        let asked = format!("{} {}", self.method, self.path);
        let mut answer = self.sent().await;
        let receipt = answer.receipt.take();
        (Answer::of(asked, answer), receipt)
    }

    async fn handled(self) -> HttpResponse {
        let fate = self.fate;
        let mut answer = self.sent().await;
        match (answer.receipt.take(), fate) {
            (Some(receipt), Fate::Delivered) => receipt.delivered(),
            (Some(receipt), Fate::OnItsWay) => std::mem::forget(receipt),
            _ => {}
        }
        answer
    }

    async fn sent(self) -> HttpResponse {
        let method = Method::from_bytes(self.method.as_bytes()).unwrap_or(Method::GET);
        let uri = format!("/v1/{}", self.path).parse().unwrap_or_default();
        let Self { headers, peer, client_chain, opened, .. } = self;
        let request = HttpRequest { method, uri, headers, body: Body::Read(self.body), peer, client_chain, opened };
        self.core.handle(request).await
    }

    async fn send(self) -> Answer {
        let asked = format!("{} {}", self.method, self.path);
        Answer::of(asked, self.handled().await)
    }
}

impl IntoFuture for Ask {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was asked, for the message of a test that fails.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The body as JSON; `Null` when there is none, a string when it is no JSON.
    pub body: Value,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    fn of(request: String, answer: HttpResponse) -> Self {
        let as_text = || String::from_utf8_lossy(&answer.body).into_owned();
        let body = daypass_base::nested::read(&answer.body)
            .unwrap_or_else(|_| if answer.body.is_empty() { Value::Null } else { as_text().into() });
        Self { request, status: answer.status, body, headers: answer.headers }
    }

    /// The answer, which must be a success.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often no more than the success matters")]
    pub fn ok(self) -> Self {
        assert!(self.status < 300, "{} was answered {}: {}", self.request, self.status, self.body);
        self
    }

    /// The first error text, which must be there, of an answer with this status.
    #[track_caller]
    pub fn refused(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{} was answered {}", self.request, self.body);
        self.body.pointer("/errors/0").and_then(Value::as_str).unwrap_or_default()
    }

    /// The token of a login or a creation; empty when there is none.
    pub fn token(&self) -> String {
        self.text("/auth/client_token")
    }

    /// The lease id; empty when there is none.
    pub fn lease(&self) -> String {
        self.text("/lease_id")
    }

    /// The wrapping token; empty when there is none.
    pub fn wrapped(&self) -> String {
        self.text("/wrap_info/token")
    }

    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// The text at a JSON pointer; empty when there is none.
    pub fn text(&self, pointer: &str) -> String {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The number at a JSON pointer; -1 when there is none.
    pub fn number(&self, pointer: &str) -> i64 {
        self.body.pointer(pointer).and_then(Value::as_i64).unwrap_or(-1)
    }
}

impl Index<&str> for Answer {
    type Output = Value;

    /// A key of the body; `Null` when it is not there.
    fn index(&self, key: &str) -> &Value {
        self.body.get(key).unwrap_or(&Value::Null)
    }
}
