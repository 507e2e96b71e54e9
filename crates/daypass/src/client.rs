//! The client side of Vault's HTTP API: one server, one token, the retries and redirects of Go's client.
//!
//! Blocking on the outside, one small runtime inside: a command makes a handful of requests one after the other.
//! Source: the `clients` reference, section 1; errors are worded as Go's client words them, because scripts match on them.

pub(crate) mod address;
pub(crate) mod answer;
mod connect;
mod error;
mod follow;
mod instead;
mod runtime;
mod sent;
pub(crate) mod tls;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{Clock, Entropy, Secret};
use http::header::{HOST, LOCATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt as _, Limited};

use crate::show::value::Value;
use address::{Address, Scheme};
use answer::{Answer, Known};
use connect::Connection;
pub(crate) use error::{Error, Refusal, Trouble};
pub(crate) use follow::Followed;
pub(crate) use instead::Instead;
use runtime::Runtime;
use sent::Sent;

/// Everything that flags, environment and files say about the server and how to reach it.
#[derive(Debug)]
pub(crate) struct Config {
    /// The server.
    pub(crate) address: Address,
    /// Sent as `X-Vault-Token`.
    pub(crate) token: Option<Secret<String>>,
    /// Sent as `X-Vault-Namespace`.
    pub(crate) namespace: Option<String>,
    /// Sent as `X-Vault-Wrap-TTL`.
    pub(crate) wrap_ttl: Option<String>,
    /// Further headers, names and values checked.
    pub(crate) headers: HeaderMap,
    /// TLS settings, read when the first TLS connection is made.
    pub(crate) tls: tls::Tls,
    /// Proxies.
    pub(crate) proxy: Proxy,
    /// How long one request may take, its retries included.
    pub(crate) timeout: Duration,
    /// How often to try again.
    pub(crate) retries_max: u32,
    /// Whether to follow one redirect.
    pub(crate) follow: Follow,
    /// Show the request instead of making it.
    pub(crate) instead: Option<Instead>,
    /// The name of this program, for the texts that name it.
    pub(crate) program: String,
}

/// Which proxies to use, as URLs.
#[derive(Debug, Default)]
pub(crate) struct Proxy {
    /// For every address, this machine included (`VAULT_PROXY_ADDR`).
    pub(crate) always: Option<String>,
    /// For `http://` (`HTTP_PROXY`).
    pub(crate) http: Option<String>,
    /// For `https://` (`HTTPS_PROXY`).
    pub(crate) https: Option<String>,
    /// For these hosts none (`NO_PROXY`).
    pub(crate) except: Option<String>,
}

/// Whether to follow one redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Report it as an error.
    Never,
    /// One hop, never from TLS to plain text.
    Once,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: Option<Value>,
    content_type: Option<&'static str>,
    token: Token,
    wrapping: Wrapping,
    at_once: bool,
    root_namespace: bool,
}

/// The token of one request.
#[derive(Debug, Clone)]
enum Token {
    /// The client's.
    Usual,
    /// None.
    Without,
    /// This one.
    Own(Secret<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    AsAsked,
    Never,
}

impl Call {
    /// A request to `/v1/<path>`.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            content_type: None,
            token: Token::Usual,
            wrapping: Wrapping::AsAsked,
            at_once: false,
            root_namespace: false,
        }
    }

    /// GET of a path.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// With a query parameter.
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        self.query.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With a JSON body.
    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// With this token in place of the client's.
    pub(crate) fn token(mut self, token: Secret<String>) -> Self {
        self.token = Token::Own(token);
        self
    }

    /// Without any token: a login proves who one is by itself, and an old token would only confuse the server.
    pub(crate) fn without_token(mut self) -> Self {
        self.token = Token::Without;
        self
    }

    /// Not wrapped, whatever `-wrap-ttl` says: it was meant for another request.
    pub(crate) fn unwrapped(mut self) -> Self {
        self.wrapping = Wrapping::Never;
        self
    }

    /// Never wrapped, and made even when the request is to be shown instead: a question asked on the way.
    pub(crate) fn plain(mut self) -> Self {
        self.at_once = true;
        self.unwrapped()
    }

    /// How long its answer is to be wrapped. `sys/wrapping/wrap` makes no sense unwrapped, so Go's client wraps it for five minutes unless told otherwise.
    fn wrap_ttl<'a>(&self, config: &'a Config) -> Option<&'a str> {
        let asked = config.wrap_ttl.as_deref().filter(|_| self.wrapping == Wrapping::AsAsked);
        asked.or_else(|| (self.path == "sys/wrapping/wrap" && self.method != Method::GET).then_some("5m"))
    }

    /// Without the namespace header: `sys/seal-status` and its like exist only at the root.
    pub(crate) fn root_namespace(mut self) -> Self {
        self.root_namespace = true;
        self
    }

    fn path_and_query(&self, address: &Address) -> String {
        let query = address::encode_query(&self.query);
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}/v1/{}{mark}{query}", address.prefix, address::encode_path(&self.path))
    }
}

/// A status with its body.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body, at most [`BODY_BYTES_MAX`].
    pub(crate) body: Bytes,
    location: Option<String>,
}

impl Reply {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when there is none. Who reads it asks by [`Client::body`], so that it was not wrapped.
    fn json(&self) -> Result<Value, Error> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        Value::parse(&self.text()).map_err(|error| Error::Unreadable(error.to_string()))
    }

    /// Nothing where there is no content.
    pub(crate) fn answer(&self) -> Result<Option<Answer>, Error> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        Answer::parse(&self.text()).map(Some).map_err(|error| Error::Unreadable(error.to_string()))
    }
}

/// No answer is read past this.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;

/// A client of one server.
pub(crate) struct Client {
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    runtime: Runtime,
    // The connection that the last request left open, with the server it leads to.
    idle: RefCell<Option<(Address, Connection)>>,
}

impl Client {
    /// A client that has not connected yet. Fails when the system gives no runtime.
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> std::io::Result<Self> {
        Ok(Self { config, clock, entropy, runtime: Runtime::new()?, idle: RefCell::new(None) })
    }

    /// What the client was made with.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Waits, for a poll.
    pub(crate) fn wait(&self, duration: Duration) {
        self.runtime.block_on(self.clock.sleep(duration));
    }

    /// Makes a request and gives the answer whatever its status, unless the server was not reached.
    pub(crate) fn exchange(&self, call: &Call) -> Result<Reply, Error> {
        self.runtime.block_on(self.exchange_within(call))
    }

    /// Does work that makes its requests by [`Client::fetch_within`], several things side by side.
    pub(crate) fn work<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// [`Client::fetch`], within [`Client::work`].
    pub(crate) async fn fetch_within(&self, call: &Call) -> Result<Option<Answer>, Error> {
        self.fetched(call, &self.exchange_within(call).await?)
    }

    /// Makes a request; any status but 2xx is an error, a redirect that was not followed too: nothing was done.
    pub(crate) fn call(&self, call: &Call) -> Result<Reply, Error> {
        let reply = self.exchange(call)?;
        if reply.status >= 300 { Err(Error::Api(self.refusal(call, &reply))) } else { Ok(reply) }
    }

    /// GET. Nothing when there is nothing: a 404 that brings neither data nor warnings.
    pub(crate) fn read(&self, path: &str, query: &[(String, String)]) -> Result<Option<Answer>, Error> {
        let mut call = Call::get(path);
        call.query = query.to_vec();
        self.fetch(&call)
    }

    /// GET with `list=true`.
    pub(crate) fn list(&self, path: &str) -> Result<Option<Answer>, Error> {
        self.fetch(&Call::new(Method::GET, path).query("list", "true"))
    }

    /// PUT, with or without a body. Nothing for an answer without content.
    pub(crate) fn write(&self, path: &str, body: Option<Value>) -> Result<Option<Answer>, Error> {
        let mut call = Call::new(Method::PUT, path);
        call.body = body;
        self.call(&call)?.answer()
    }

    /// PATCH with a JSON merge patch.
    pub(crate) fn patch(&self, path: &str, body: Value) -> Result<Option<Answer>, Error> {
        let mut call = Call::new(Method::PATCH, path).body(body);
        call.content_type = Some("application/merge-patch+json");
        self.call(&call)?.answer()
    }

    /// DELETE.
    pub(crate) fn delete(&self, path: &str, query: &[(String, String)]) -> Result<Option<Answer>, Error> {
        let mut call = Call::new(Method::DELETE, path);
        call.query = query.to_vec();
        self.call(&call)?.answer()
    }

    /// Makes any request and reads its answer.
    pub(crate) fn ask(&self, call: &Call) -> Result<Option<Answer>, Error> {
        self.call(call)?.answer()
    }

    /// Makes a request whose 404 means that there is nothing.
    pub(crate) fn fetch(&self, call: &Call) -> Result<Option<Answer>, Error> {
        self.fetched(call, &self.exchange(call)?)
    }

    fn fetched(&self, call: &Call, reply: &Reply) -> Result<Option<Answer>, Error> {
        if reply.status == 404 {
            // A deleted KV v2 version is a 404 that still tells of itself.
            return Ok(reply
                .answer()
                .ok()
                .flatten()
                .filter(|answer| !answer.is_bare() && reply.json().is_ok_and(|body| body.get("errors").is_none())));
        }
        if reply.status >= 300 { Err(Error::Api(self.refusal(call, reply))) } else { reply.answer() }
    }

    /// Makes a request whose answer the caller reads itself: it is never wrapped, whatever `-wrap-ttl` and `VAULT_WRAP_TTL` say, since what is left of an answer
    /// that was put aside looks like one that says "nothing". What a person gets to see is asked for by [`Self::ask`] and its like.
    pub(crate) fn know(&self, call: Call) -> Result<Option<Known>, Error> {
        self.ask(&call.unwrapped())?.map(Known::of).transpose()
    }

    /// [`Self::know`], where a 404 means that there is nothing.
    pub(crate) fn find(&self, call: Call) -> Result<Option<Known>, Error> {
        self.fetch(&call.unwrapped())?.map(Known::of).transpose()
    }

    /// [`Self::know`], of an answer without an envelope, or of all of one that has it.
    pub(crate) fn body(&self, call: Call) -> Result<Value, Error> {
        self.call(&call.unwrapped())?.json()
    }

    fn token<'a>(&'a self, call: &'a Call) -> Option<&'a Secret<String>> {
        match &call.token {
            Token::Usual => self.config.token.as_ref(),
            Token::Without => None,
            Token::Own(token) => Some(token),
        }
    }

    fn refusal(&self, call: &Call, reply: &Reply) -> Refusal {
        let parsed = Value::parse(&reply.text()).ok().filter(|body| matches!(body, Value::Map(_)));
        let raw = parsed.is_none();
        let errors = match parsed {
            Some(body) => body.texts_at("errors").into_iter().map(str::to_owned).collect(),
            None => vec![reply.text()],
        };
        Refusal {
            method: call.method.to_string(),
            url: self.config.address.url(&call.path_and_query(&self.config.address)),
            status: reply.status,
            errors,
            raw,
            namespace: self.config.namespace.clone().filter(|_| !call.root_namespace),
            token_sent: self.token(call).is_some() || matches!(call.token, Token::Without),
        }
    }

    async fn exchange_within(&self, call: &Call) -> Result<Reply, Error> {
        if let Some(instead) = self.config.instead.filter(|_| !call.at_once) {
            return Err(Error::Instead(instead.render(&self.config, call)));
        }
        tokio::select! {
            reply = self.exchange_with_retries(call) => reply,
            () = self.clock.sleep(self.config.timeout) => Err(self.unreached(call, no_answer_within(self.config.timeout))),
        }
    }

    async fn exchange_with_retries(&self, call: &Call) -> Result<Reply, Error> {
        let mut tries = 0;
        loop {
            let reply = self.exchange_with_redirect(call).await;
            let again = match &reply {
                Ok(reply) => worth_retrying(reply.status),
                Err(trouble) => !trouble.text.contains("tls:") && !trouble.text.starts_with("http:"),
            };
            if !again || tries >= self.config.retries_max {
                return reply.map_err(|trouble| self.unreached(call, trouble));
            }
            tries += 1;
            self.clock.sleep(retry_wait(tries, self.entropy.below(500))).await;
        }
    }

    async fn exchange_with_redirect(&self, call: &Call) -> Result<Reply, Trouble> {
        let address = &self.config.address;
        let target = call.path_and_query(address);
        let reply = self.send(address, &target, call).await?;
        let Some(location) = reply.location.as_ref().filter(|_| matches!(reply.status, 301 | 302 | 307 | 308)) else { return Ok(reply) };
        if self.config.follow == Follow::Never {
            return Ok(reply);
        }
        let (next, target) = redirected(address, location)?;
        self.send(&next, &target, call).await
    }

    async fn send(&self, address: &Address, target: &str, call: &Call) -> Result<Reply, Trouble> {
        let idle = self.idle.take().filter(|(to, connection)| to == address && !connection.sender.is_closed());
        if let Some((_, connection)) = idle {
            // The server may have closed it meanwhile; a fresh connection then tells.
            if let Ok(reply) = self.send_over(connection, address, target, call).await {
                return Ok(reply);
            }
        }
        let connection = connect::open(&self.config, address).await?;
        self.send_over(connection, address, target, call).await
    }

    async fn send_over(&self, connection: Connection, address: &Address, target: &str, call: &Call) -> Result<Reply, Trouble> {
        let request = self.request(&connection, address, target, call)?;
        self.answered(connection, address, request).await
    }

    async fn answered(&self, mut connection: Connection, address: &Address, request: http::Request<Sent>) -> Result<Reply, Trouble> {
        let broken = |error: hyper::Error| Trouble::new(innermost(&error));
        connection.sender.ready().await.map_err(broken)?;
        let answer = connection.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let too_long = |error: Box<dyn std::error::Error + Send + Sync>| Trouble::new(format!("reading the answer: {error}"));
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await.map_err(too_long)?.to_bytes();
        self.idle.replace(Some((address.clone(), connection)));
        Ok(Reply { status, body, location })
    }

    fn request(&self, connection: &Connection, address: &Address, target: &str, call: &Call) -> Result<http::Request<Sent>, Trouble> {
        let invalid = |what: &str| Trouble::new(format!("the {what} contains characters that no HTTP header can carry"));
        let target = if connection.absolute_form { address.url(target) } else { target.to_owned() };
        let mut request = http::Request::builder().method(&call.method).uri(target).header(HOST, &address.authority);
        let headers = request.headers_mut().ok_or_else(|| invalid("path"))?;
        headers.extend(self.config.headers.clone());
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some(token) = self.token(call) {
            // To the server, whose token it is.
            let mut value = HeaderValue::from_str(token.expose()).map_err(|_text_would_show_the_token| invalid("token"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-vault-token"), value);
        }
        if let Some(namespace) = self.config.namespace.as_ref().filter(|_| !call.root_namespace) {
            headers.insert(
                HeaderName::from_static("x-vault-namespace"),
                HeaderValue::from_str(namespace).map_err(|_same| invalid("namespace"))?,
            );
        }
        if let Some(ttl) = call.wrap_ttl(&self.config) {
            headers.insert(HeaderName::from_static("x-vault-wrap-ttl"), HeaderValue::from_str(ttl).map_err(|_same| invalid("wrap ttl"))?);
        }
        if let Some(kind) = call.content_type {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(value) = &connection.proxy_authorization {
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        let body = call.body.as_ref().map(Value::compact).unwrap_or_default();
        request.body(Sent::Whole(Some(Bytes::from(body)))).map_err(|error| Trouble::new(format!("invalid request: {error}")))
    }

    fn unreached(&self, call: &Call, trouble: Trouble) -> Error {
        let name = call.method.as_str();
        let method = name.chars().take(1).chain(name.chars().skip(1).map(|c| c.to_ascii_lowercase())).collect();
        Error::Unreached { method, url: self.config.address.url(&call.path_and_query(&self.config.address)), trouble }
    }
}

fn no_answer_within(limit: Duration) -> Trouble {
    let text = format!("context deadline exceeded: no answer within {}s", limit.as_secs());
    Trouble::new(text).hint("VAULT_CLIENT_TIMEOUT sets how long to wait, e.g. 120s")
}

/// What Go's client tries again: too many requests, state not yet there, and server errors but "not implemented".
pub(crate) fn worth_retrying(status: u16) -> bool {
    matches!(status, 412 | 429) || (status >= 500 && status != 501)
}

/// A second, or up to a half more, times the number of the try.
fn retry_wait(tries: u32, jitter_millis: u64) -> Duration {
    Duration::from_millis(1000 + jitter_millis) * tries
}

/// Where a redirect leads. A relative one stays on the server.
fn redirected(from: &Address, location: &str) -> Result<(Address, String), Trouble> {
    if location.starts_with('/') {
        return Ok((from.clone(), location.to_owned()));
    }
    let next = Address::parse(location).map_err(|why| Trouble::new(format!("http: redirect to {location:?}: {why}")))?;
    if from.scheme == Scheme::Https && next.scheme != Scheme::Https {
        return Err(Trouble::new("http: redirect would cause protocol downgrade".to_owned()));
    }
    let url: http::Uri = location.parse().map_err(|error| Trouble::new(format!("http: redirect to {location:?}: {error}")))?;
    let target = url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    Ok((next, target))
}

/// hyper names the stage that failed; the cause below it says why.
fn innermost(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_incomplete_message() { "EOF: the server closed the connection without an answer".to_owned() } else { cause.to_string() }
}
