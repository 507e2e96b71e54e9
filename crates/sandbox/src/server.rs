//! The HTTP server: accepts, reads whole requests within limits, hands them on, and stops cleanly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Entropy};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::answer::{self, Reply};
use crate::cloud::{Cloud, Outcome};
use crate::control::Control;
use crate::http_api;
use crate::instances::InstanceSeed;
use crate::metadata::Metadata;
use crate::request::Request;
use crate::seal::Sealer;
use crate::signin;
use crate::world::{ProviderSeed, World, WorldError};

/// How a sandbox is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Lets sessions be shorter than AWS's 900 seconds, for tests of expiry.
    pub allow_short_sessions: bool,
    /// The shortest session instead of AWS's 900 seconds, in whole seconds; `None` for what `allow_short_sessions` says.
    pub session_min: Option<Duration>,
    /// How long credentials of the container and metadata endpoints live; 15 minutes by default.
    pub endpoint_lifetime: Duration,
    /// Who and what exists.
    pub world: World,
}

impl Default for Options {
    /// Loopback on a port of the system's choice, strict, with the default world.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_short_sessions: false,
            session_min: None,
            endpoint_lifetime: Duration::from_mins(15),
            world: World::default(),
        }
    }
}

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The crypto library refused to work.
    #[error("the crypto library refused a new key")]
    Crypto,
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address wanted.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The world contradicts itself.
    #[error("the sandbox's world is not usable: {0}")]
    World(#[from] WorldError),
}

/// A sandbox that serves until [`Running::stop`] or until it is dropped.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

struct Shared {
    cloud: Cloud,
    metadata: Metadata,
    clock: Arc<dyn Clock>,
}

/// Starts a sandbox. Serving begins before this returns.
pub async fn start(options: Options, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Running, StartError> {
    let session_min = options.session_min.map(|least| i64::try_from(least.as_secs()).unwrap_or(900).clamp(1, 900));
    let session_min = session_min.unwrap_or(if options.allow_short_sessions { 1 } else { 900 });
    let role_min = if options.allow_short_sessions { 1 } else { 3600 };
    let state = options.world.build(entropy.as_ref(), clock.now(), role_min)?;
    let sealer = Sealer::new(entropy.clone()).ok_or(StartError::Crypto)?;
    let control = Control::default();
    control.set_endpoint_lifetime(options.endpoint_lifetime);
    let metadata =
        Metadata::new(options.world.region(), options.world.task_role(), options.world.instance_role(), entropy.as_ref(), clock.now());
    let cloud = Cloud::new(state, sealer, clock.clone(), control, session_min);
    let (account, instance) = metadata.own_instance();
    if let Err(problem) = cloud.set_instance(account, instance) {
        tracing::debug!(problem, "the instance of the metadata service is not known to EC2");
    }
    let listen_error = |source| StartError::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let shared = Arc::new(Shared { cloud, metadata, clock });
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(serve(listener, shared.clone(), stopped));
    Ok(Running { address, shared, stop: Some(stop), serving })
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`; loopback also when it listens on every address.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            other => other,
        };
        format!("http://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// What a process needs to take the sandbox for AWS and the world's task role for its own identity.
    pub fn environment(&self) -> Vec<(String, String)> {
        let url = self.url();
        let metadata = &self.shared.metadata;
        [
            ("AWS_ENDPOINT_URL", url.clone()),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}{}", metadata.container_path())),
            // The environment is where SDKs look for it.
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", metadata.authorization.expose().clone()),
            ("AWS_REGION", metadata.region.clone()),
            // Python's SDK and the AWS CLI know only this older name.
            ("AWS_DEFAULT_REGION", metadata.region.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The handle that tests steer it with.
    pub fn control(&self) -> &Control {
        &self.shared.cloud.control
    }

    /// Makes an account trust an OIDC issuer, with the keys that its tokens are checked against.
    pub fn register_provider(&self, account: &str, provider: &ProviderSeed) -> Result<(), String> {
        self.shared.cloud.register(account, provider)
    }

    /// Adds an instance to an account, or changes it.
    pub fn set_instance(&self, account: &str, instance: InstanceSeed) -> Result<(), String> {
        self.shared.cloud.set_instance(account, instance)
    }

    /// Stops accepting, lets requests in flight finish (10 seconds at most), and returns.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have stopped by itself already.
            let _gone = stop.send(());
        }
        if let Err(error) = (&mut self.serving).await {
            tracing::warn!(%error, "the sandbox's server did not end cleanly");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropping the set, when this task ends or is aborted, ends every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let shared = shared.clone();
                let watcher = graceful.watcher();
                connections.spawn(async move {
                    connection(stream, peer.ip(), shared, watcher).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: a pause lets others close theirs.
                tracing::warn!(%error, "the sandbox cannot accept a connection");
                shared.clock.sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = shared.clock.sleep(STOP_WAIT) => {}
    }
}

async fn connection(stream: TcpStream, peer: IpAddr, shared: Arc<Shared>, watcher: hyper_util::server::graceful::Watcher) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch Nagle's algorithm off");
    }
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(READ_WAIT).max_buf_size(HEADER_BYTES_MAX).max_headers(HEADERS_MAX);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(65_536);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { dated(&shared, peer, request).await }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection of the sandbox ended");
    }
}

/// The answer, with the time of the sandbox's own clock: clients correct theirs by it.
async fn dated(shared: &Shared, peer: IpAddr, request: http::Request<Incoming>) -> Result<Reply, Dropped> {
    let mut reply = answer(shared, peer, request).await?;
    let now = time::OffsetDateTime::from_unix_timestamp(shared.clock.now().seconds()).ok();
    let date = now.and_then(|now| now.format(HTTP_DATE).ok()).and_then(|date| http::HeaderValue::from_str(&date).ok());
    if let Some(date) = date {
        reply.headers_mut().insert(http::header::DATE, date);
    }
    Ok(reply)
}

/// An error makes hyper close the connection, which is how an injected outage looks.
async fn answer(shared: &Shared, peer: IpAddr, request: http::Request<Incoming>) -> Result<Reply, Dropped> {
    let (head, body) = request.into_parts();
    // The body first, and the timer only when that has to wait: nearly every body is there already.
    let read = tokio::select! {
        biased;
        read = Limited::new(body, BODY_BYTES_MAX).collect() => read,
        () = async { shared.clock.sleep(READ_WAIT).await } => return Ok(answer::text(408, "the request's body did not arrive in time")),
    };
    let body = match read {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(answer::text(413, format!("the request's body is longer than {BODY_BYTES_MAX} bytes")));
        }
        Err(_broken) => return Err(Dropped),
    };
    let host = head
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| head.headers.get(http::header::HOST).and_then(|value| value.to_str().ok()))
        .unwrap_or_default()
        .to_owned();
    let request = Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        host,
        headers: head.headers,
        body,
        peer: peer.to_canonical(),
    };
    match request.path.as_str() {
        "/_sandbox/identity-certificate" => Ok(shared.metadata.certificate()),
        path if path.starts_with("/_sandbox/") => Ok(http_api::answer(&shared.cloud, &request)),
        signin::PATH => Ok(signin::answer(&shared.cloud, &request)),
        path if path.starts_with("/latest/") => Ok(shared.metadata.instance(&shared.cloud, &request)),
        path if path.starts_with(crate::metadata::CONTAINER_PREFIX) => Ok(shared.metadata.container(&shared.cloud, &request)),
        _ => match shared.cloud.answer(&request).await {
            Outcome::Reply(reply) => Ok(reply),
            Outcome::Drop => Err(Dropped),
        },
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
struct Dropped;

/// RFC 9110, 5.6.7.
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const BODY_BYTES_MAX: usize = 1024 * 1024;
const HEADER_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
const CONNECTIONS_MAX: usize = 2048;
const READ_WAIT: Duration = Duration::from_secs(30);
const STOP_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
