//! The composition root: puts store, core, engines and listeners together, and ends them in order.

mod bridge;
mod client_certificate;
mod dev;
mod listen;
mod log;
mod memory;
mod own_files;
mod process;
mod traces;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{ContainerEndpoint, LiveAws, Settings as AwsSettings};
use daypass_base::{Clock, Entropy, Seconds, Secret, SystemClock, SystemEntropy};
use daypass_core::log::Level;
use daypass_core::{Core, Limits, MetricsShown, OwnFiles, Prefixing, SealKind, Settings, SystemTtls};
use daypass_engines::registry::{self, Outside};
use daypass_idp::LiveIdp;
use daypass_otlp::Exporter;
use daypass_sandbox::Running;
use daypass_server::{Bound, Lanes, Reloader, Server};
use daypass_storage::Backend;
use daypass_storage::memory::MemoryBackend;
use daypass_storage::sqlite::{SqliteBackend, SqliteOptions};

use crate::cli::server::ServerArgs;
use crate::config::listener::{Listener, Place};
use crate::config::{self, Config, Seal, Storage, Telemetry};
use crate::show;

/// Runs a server until it is told to stop.
pub(crate) fn run(args: &ServerArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            show::note(&problem);
            ExitCode::FAILURE
        }
    }
}

fn start(args: &ServerArgs) -> Result<(), String> {
    if args.config.is_empty() && !args.dev {
        return Err("Must specify at least one config path using -config, or -dev for a server in memory.".to_owned());
    }
    let (config, warnings) = if args.config.is_empty() {
        (Config::default(), Vec::new())
    } else {
        config::load(&args.config).map_err(|errors| errors.to_string())?
    };
    // Before the log's file is opened, which makes it.
    let own_files = own_files::named(args, &config)?;
    let log = log::start(args, &config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    for setting in without_effect(&config) {
        tracing::warn!("a setting has no effect: {setting}");
    }
    process::harden(config.disable_mlock || args.dev);
    let unstarted = |error| format!("The runtime cannot start: {error}");
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let lanes = Lanes::start(cores).map_err(unstarted)?;
    // Connections are taken here, and what goes on in the background has its time here, not on the lanes.
    let threads = cores.div_ceil(2).min(BACKGROUND_THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().map_err(unstarted)?;
    runtime.block_on(serve(args, config, own_files, log, Arc::new(lanes)))
}

/// Everything that is running, in the order in which it ends.
struct Parts {
    servers: Vec<Server>,
    core: Core,
    backend: Arc<dyn Backend>,
    sandbox: Option<Running>,
    traces: Option<Exporter>,
}

async fn serve(args: &ServerArgs, config: Config, own_files: OwnFiles, log: Arc<log::ServerLog>, lanes: Arc<Lanes>) -> Result<(), String> {
    // Before anything that takes time: a SIGHUP meanwhile is kept and not the end of a server that is starting.
    let mut signals = process::Signals::watch()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let backend = open_store(args, &config)?;
    let started = tokio::select! {
        biased;
        () = signals.end() => None,
        started = begin(args, (&config, own_files), &log, lanes, &backend, (clock, entropy)) => Some(started?),
    };
    let Some((parts, reloaders, _pid_file)) = started else {
        tracing::info!("told to stop before it served");
        backend.close().await;
        return Ok(());
    };
    process::notify_ready();
    signals.wait(&process::Hooks { reloaders, core: parts.core.clone(), log }).await;
    finish(parts).await;
    Ok(())
}

/// Brings everything up that a server consists of. Dropped before its end, it leaves nothing behind but the open store.
async fn begin(
    args: &ServerArgs,
    (config, own_files): (&Config, OwnFiles),
    log: &Arc<log::ServerLog>,
    lanes: Arc<Lanes>,
    backend: &Arc<dyn Backend>,
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
) -> Result<(Parts, Vec<Arc<Reloader>>, Option<process::PidFile>), String> {
    let sandbox = dev::start_sandbox(args, &clock, &entropy).await?;
    let mut bound = listen::bind(args, config, &*entropy).await?;
    let listeners = bound.listeners.len();
    let room = process::room_for_connections(listeners, memory::connections(listeners, Limits::default().connections));
    bound.listeners.iter_mut().for_each(|(listener, _)| listener.limits.connections = room);
    let api_addr = config.api_addr.clone().unwrap_or_else(|| api_addr(bound.listeners.iter().map(|(listener, _)| listener)));
    let places = bound.listeners.iter().map(|(listener, _)| (scheme(listener), listener.listener.address())).collect::<Vec<_>>();
    let (traced, traces) = config.telemetry.traces.as_ref().map(|wanted| traces::start(wanted, &clock, &entropy)).transpose()?.unzip();
    let connections = Arc::default();
    let settings = Settings {
        traces: traced,
        own_files,
        connections: Arc::clone(&connections),
        ..settings(args, config, &api_addr, backend.kind(), Arc::clone(log))
    };
    let aws = Arc::new(LiveAws::new(Arc::clone(&clock), aws_settings(sandbox.as_ref(), dev::session_min(args)?)));
    let factories = registry::all(&Outside { aws, idp: Arc::new(LiveIdp::new(Arc::clone(&clock))) });
    let core = Core::new(Arc::clone(backend), Arc::clone(&clock), entropy, settings, factories);
    let dev = if args.dev { Some(dev::set_up(args, &core).await?) } else { None };
    if !args.dev {
        unseal_by_file(&core, config).await?;
    }
    let start = |(bound, rules)| {
        let service = Arc::new(bridge::Bridge::new(core.clone(), rules));
        Server::start(vec![bound], service, Arc::clone(&clock), Arc::clone(&lanes), &connections)
    };
    // From here on nothing waits: what serves is ended by `finish` alone.
    let servers = bound.listeners.into_iter().map(start).collect();
    let pid_file = config.pid_file.as_deref().map(process::PidFile::write).transpose()?;
    announce(&places, backend.kind(), log.level());
    if let Some(dev) = dev {
        dev::announce(&dev, &api_addr, sandbox.as_ref());
    }
    Ok((Parts { servers, core, backend: Arc::clone(backend), sandbox, traces }, bound.reloaders, pid_file))
}

/// Ends everything: no new requests, those in flight finish, keys are forgotten, the store is closed.
async fn finish(parts: Parts) {
    process::notify_stopping();
    tracing::info!("shutting down: requests in flight may finish");
    parts.core.end_streams().await;
    let mut ends = tokio::task::JoinSet::new();
    for server in parts.servers {
        ends.spawn(server.shutdown(GRACE));
    }
    let cut: usize = ends.join_all().await.into_iter().sum();
    if cut > 0 {
        tracing::warn!(connections = cut, "connections were cut off after {} seconds", GRACE.as_secs());
    }
    parts.core.seal().await;
    if let Some(exporter) = parts.traces {
        exporter.end().await;
    }
    parts.backend.close().await;
    if let Some(sandbox) = parts.sandbox {
        sandbox.stop().await;
    }
    tracing::info!("stopped");
}

fn open_store(args: &ServerArgs, config: &Config) -> Result<Arc<dyn Backend>, String> {
    let path = match (&config.storage, args.dev) {
        (Some(Storage::Sqlite { path }), _) => path,
        (Some(Storage::Memory), _) | (None, true) => return Ok(Arc::new(MemoryBackend::new())),
        (None, false) => {
            return Err(
                "The configuration has no storage. Add for example:\n\n    storage \"sqlite\" { path = \"/var/lib/daypass/daypass.db\" }"
                    .to_owned(),
            );
        }
    };
    let store = SqliteBackend::open(path, SqliteOptions::default())
        .map_err(|error| format!("The store {} cannot be opened: {error}", path.display()))?;
    Ok(store)
}

async fn unseal_by_file(core: &Core, config: &Config) -> Result<(), String> {
    let Seal::KeyFile { path } = &config.seal else {
        return Ok(());
    };
    let status = core.seal_status().await.map_err(|error| error.to_string())?;
    if !status.initialised {
        create_key_file(path)?;
        return Ok(());
    }
    core.unseal_by_file()
        .await
        .map_err(|error| format!("The server cannot unseal itself with the key file {}: {error}", path.display()))?;
    Ok(())
}

/// A key for a server that has never been initialised: without it `operator init` could not seal anything. What is there already must be one, or it would
/// be `operator init` that fails, long after whoever wrote the configuration has gone.
fn create_key_file(path: &Path) -> Result<(), String> {
    let file = daypass_barrier::KeyFile::at(path);
    let problem = |error| format!("The seal's key file cannot be used: {error}");
    if path.exists() {
        return file.read().map(drop).map_err(problem);
    }
    file.create(&SystemEntropy).map_err(problem)?;
    tracing::warn!(path = %path.display(), "a new seal key was written; keep a copy of it in a safe place: without it the data cannot be read");
    Ok(())
}

fn settings(args: &ServerArgs, config: &Config, api_addr: &str, storage: &str, log: Arc<log::ServerLog>) -> Settings {
    let ttls = config.ttls();
    let seal = match &config.seal {
        Seal::KeyFile { path } if !args.dev => SealKind::KeyFile(path.clone()),
        _ => SealKind::Shamir,
    };
    let mut limits = Limits { request_seconds: config.request_seconds().unwrap_or(Seconds(90)), ..Limits::default() };
    for json in config.listeners.iter().map(|listener| listener.json) {
        limits.json_depth = narrower(limits.json_depth, json.depth_max);
        limits.json_string_bytes = narrower(limits.json_string_bytes, json.text_bytes_max);
        limits.json_object_entries = narrower(limits.json_object_entries, json.entries_max);
        limits.json_array_elements = narrower(limits.json_array_elements, json.elements_max);
        limits.json_tokens = narrower(limits.json_tokens, json.tokens_max);
    }
    limits.all_fields_bytes = memory::fields(limits.all_fields_bytes);
    limits.json_memory_bytes = memory::json(limits.json_memory_bytes);
    let count = config.listeners.len();
    limits.body_bytes = config.listeners.iter().map(|listener| listen::body_bytes(listener, count)).max().unwrap_or(limits.body_bytes);
    limits.idle_timeout =
        config.listeners.iter().map(|listener| listen::limits(listener, count).idle_timeout).max().unwrap_or(limits.idle_timeout);
    Settings {
        ttls,
        limits,
        version: wire_version(),
        build_date: BUILD_DATE.to_owned(),
        cluster_name: config.cluster_name.clone(),
        seal,
        own_files: OwnFiles::default(),
        audit_prefixing: if config.allow_audit_log_prefixing { Prefixing::Allowed } else { Prefixing::Refused },
        api_addr: api_addr.to_owned(),
        sanitized: sanitized(config, log.level(), api_addr, storage, ttls),
        metrics: metrics_shown(&config.telemetry),
        log,
        traces: None,
        connections: Arc::default(),
    }
}

/// No retention at all is how Vault's text for Prometheus is switched off. Nothing here ends before the process does, so any other retention is
/// kept; and no name carries the host's, so `disable_hostname` is how it always is.
fn metrics_shown(telemetry: &Telemetry) -> MetricsShown {
    let defaults = MetricsShown::default();
    let prefix = telemetry.prefix.clone().filter(|prefix| !prefix.is_empty()).unwrap_or(defaults.prefix);
    MetricsShown { prefix, prometheus: telemetry.prometheus_retention != Some(Seconds::ZERO) }
}

/// The configured limit where it is stricter: what is looser than the default is not taken, the parser's stack is sized for that.
fn narrower(default: usize, configured: Option<u64>) -> usize {
    configured.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok()).map_or(default, |limit| limit.min(default))
}

/// Settings that were read and that this version does nothing with: saying so is better than a wrong belief.
fn without_effect(config: &Config) -> Vec<&'static str> {
    let any = |has: fn(&Listener) -> bool| config.listeners.iter().any(has);
    let settings = [
        (config.ui, "ui: there is no web interface yet"),
        (config.raw_storage_endpoint, "raw_storage_endpoint: sys/raw is not offered"),
        (config.introspection_endpoint, "introspection_endpoint: sys/internal/inspect is not offered"),
        (config.hostname_header, "enable_response_header_hostname: the header is not sent"),
        (config.cluster_addr.is_some(), "cluster_addr: nodes do not speak to each other"),
        (
            config.log.rotate_bytes.is_some() || config.log.rotate_after.is_some() || config.log.rotate_files_max.is_some(),
            "log_rotate_*: the server does not rotate its log file; have logrotate move it away and send SIGHUP, which opens it anew",
        ),
        (
            any(|listener| listener.redact_addresses || listener.redact_cluster_name || listener.redact_version),
            "redact_*: nothing is redacted",
        ),
    ];
    settings.into_iter().filter(|(set, _)| *set).map(|(_, text)| text).collect()
}

/// The configuration without anything secret, as `sys/config/state/sanitized` shows it.
fn sanitized(config: &Config, log_level: Level, api_addr: &str, storage: &str, ttls: SystemTtls) -> serde_json::Value {
    serde_json::json!({
        "api_addr": api_addr,
        "cluster_addr": config.cluster_addr.clone().unwrap_or_default(),
        "cluster_name": config.cluster_name.clone().unwrap_or_default(),
        "default_lease_ttl": ttls.default,
        "max_lease_ttl": ttls.max,
        "disable_mlock": config.disable_mlock,
        "enable_ui": config.ui,
        "listeners": config.listeners.iter().map(|listener| serde_json::json!({ "type": listener_type(&listener.place), "config": null })).collect::<Vec<_>>(),
        "log_level": log_level.name(),
        "raw_storage_endpoint": config.raw_storage_endpoint,
        "seals": [{ "type": match config.seal { Seal::KeyFile { .. } => "keyfile", Seal::Shamir => "shamir" }, "disabled": false }],
        "storage": { "type": storage, "disable_clustering": true },
    })
}

fn listener_type(place: &Place) -> &'static str {
    match place {
        Place::Tcp(_) => "tcp",
        Place::Unix { .. } => "unix",
    }
}

/// What clients see and gate on: a Vault version that is a semantic version, with ours behind the plus sign.
pub(crate) fn wire_version() -> String {
    format!("{VAULT_VERSION}+daypass.{}", env!("CARGO_PKG_VERSION"))
}

fn aws_settings(sandbox: Option<&Running>, session_min: Option<Seconds>) -> AwsSettings {
    let Some(sandbox) = sandbox else { return AwsSettings::default() };
    let environment = sandbox.environment();
    let value = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let container = value("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        .map(|url| ContainerEndpoint { url, authorization: value("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new) });
    AwsSettings { endpoint: value("AWS_ENDPOINT_URL"), container, region: value("AWS_REGION"), session_min }
}

/// Where clients reach this server if nobody says so: the first TCP listener, as it speaks.
fn api_addr<'a>(mut listeners: impl Iterator<Item = &'a Bound>) -> String {
    let place = listeners.find_map(|one| one.listener.tcp_address().map(|address| format!("{}://{address}", scheme(one))));
    place.unwrap_or_else(|| "http://127.0.0.1:8200".to_owned())
}

fn scheme(listener: &Bound) -> &'static str {
    if listener.tls.is_some() { "https" } else { "http" }
}

fn announce(places: &[(&str, String)], storage: &str, log_level: Level) {
    let mut lines = vec![
        format!("==> {} server configuration:\n", "daypass"),
        format!("{:>17}: {}", "Version", env!("CARGO_PKG_VERSION")),
        format!("{:>17}: Vault {VAULT_VERSION}", "Speaks"),
        format!("{:>17}: {storage}", "Storage"),
        format!("{:>17}: {}", "Log Level", log_level.name()),
    ];
    lines.extend(
        places
            .iter()
            .enumerate()
            .map(|(number, (scheme, address))| format!("{:>17}: {scheme} ({address})", format!("Listener {}", number + 1))),
    );
    lines.push("\n==> daypass server started! Log data will stream in below:\n".to_owned());
    show::out(&lines.join("\n"));
}

/// Vault's version whose API this is.
pub(crate) const VAULT_VERSION: &str = "1.21.4";
/// When this version was made; releases set it.
const BUILD_DATE: &str = match option_env!("DAYPASS_BUILD_DATE") {
    Some(date) => date,
    None => "2026-11-23T00:00:00Z",
};
/// Threads beside the lanes, where there are cores for more.
const BACKGROUND_THREADS_MAX: usize = 4;
/// How long requests in flight may take after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);
