//! The devices that are enabled, and the rule: while there is one, a record must reach at least one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use daypass_base::Clock;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::device::{CreateError, DEVICES_MAX, DeviceConfig, EnableError, Parsed, Prefixing, Target};
use crate::file::{FileWriter, StdoutWriter};
use crate::headers::HeaderRules;
use crate::line::{Format, Salt, has_room, write_line};
use crate::link::LinkWriter;
use crate::own::{Harm, OwnFiles};
use crate::record::{Record, RequestRecord, Share};
use crate::sink::{DiscardSink, Pace, QueuedSink, Receipt, Sink, SinkError, SinkHealth, SinkLimits};
use crate::socket::Peer;
use crate::syslog::{self, LocalSyslog};
use outcome::Waits;
use turns::Turns;

/// No device took the record. The request must not go on; the client learns no more than that the server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no audit device took the record: {}", .failures.iter().map(|(path, error)| format!("{path} {error}")).collect::<Vec<_>>().join("; "))]
pub struct AuditFailed {
    /// Each device by its path, and what it said.
    pub failures: Vec<(String, SinkError)>,
}

/// Why an input was not hashed. The texts are Vault's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// There is nothing to hash.
    #[error("the \"input\" parameter is empty")]
    EmptyInput,
    /// No device of this path (with its slash).
    #[error("unknown audit backend {0:?}")]
    UnknownDevice(String),
}

/// Whether a device must take a first record before it is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfTest<'a> {
    /// For a device that an operator enables: a record with this request id, unless the option `skip_test` says otherwise.
    Record(&'a str),
    /// For a device that was enabled before the server started.
    Skip,
    /// For one of those whose file cannot be opened now: it is opened when that is possible, and fails until then.
    Later,
}

/// A device that works and is not enabled yet. Store its configuration, then hand it to [`Broker::install`]; dropped instead, it is
/// closed and leaves at most a line behind.
#[must_use = "a device is enabled when it is installed"]
pub struct Prepared(Device);

impl Prepared {
    /// The configuration to store.
    #[must_use]
    pub fn config(&self) -> &DeviceConfig {
        &self.0.config
    }
}

/// A device and its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHealth {
    /// Where it is enabled, with a slash at the end.
    pub path: String,
    /// `file`, `socket` or `syslog`.
    pub device_type: String,
    /// What became of the lines, and the room that is left.
    pub sink: SinkHealth,
}

/// All devices of this node.
pub struct Broker {
    devices: ArcSwap<Vec<Arc<Device>>>,
    headers: ArcSwap<HeaderRules>,
    clock: Arc<dyn Clock>,
    limits: SinkLimits,
    prefixing: Prefixing,
    own: OwnFiles,
    /// Held while the list changes, so that no change is lost; logging never waits for it.
    changing: Mutex<()>,
    turns: Arc<Turns>,
}

struct Device {
    config: DeviceConfig,
    format: Format,
    salt: Salt,
    sink: Box<dyn Sink>,
}

impl Broker {
    /// A broker without devices, which writes to none of the server's own files.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, limits: SinkLimits, prefixing: Prefixing, own: OwnFiles) -> Self {
        let (devices, headers) = (ArcSwap::from_pointee(Vec::new()), ArcSwap::from_pointee(HeaderRules::default()));
        Self { devices, headers, clock, limits, prefixing, own, changing: Mutex::new(()), turns: Arc::default() }
    }

    /// Whether any device is enabled; without one, nothing needs to be logged.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.devices.load().is_empty()
    }

    /// The devices, by path.
    #[must_use]
    pub fn list(&self) -> Vec<DeviceConfig> {
        self.devices.load().iter().map(|device| device.config.clone()).collect()
    }

    /// Whether the data of a request takes at most `most` bytes in the line of every device; `clear_keys` are those whose strings stay clear. It costs far
    /// less than to write it.
    #[must_use]
    pub fn has_room(&self, data: &Map<String, Value>, clear_keys: &[String], most: usize) -> bool {
        self.devices.load().iter().all(|device| has_room(data, &device.format, clear_keys, most))
    }

    /// Writes `record` to every device. An error when there are devices and none took it: then the request must not go on.
    ///
    /// The lines are on their way when this returns; the future only waits, so dropping it takes nothing back. It waits until one device
    /// has the record, and a moment longer for the others; for a device that hangs it does not wait. While all hang, it says so at once,
    /// and nothing is queued: what waits in them already tells when one is back.
    pub fn log(&self, record: &Record<'_>) -> impl Future<Output = Result<(), AuditFailed>> + Send + use<> {
        let (devices, headers, share) = (self.devices.load_full(), self.headers.load(), record.room.share);
        let mut waits = Waits::default();
        let all_hang = devices.iter().all(|device| device.sink.pace() == Pace::Stalled);
        for device in devices.iter() {
            if all_hang {
                waits.fail(device, SinkError::Stalled(self.limits.deadline));
            } else {
                let pace = device.sink.pace();
                waits.push(device, pace, device.sink.submit(write_line(record, &device.format, &device.salt, &headers), share));
            }
        }
        let (SinkLimits { grace, deadline, .. }, clock, turns) = (self.limits, Arc::clone(&self.clock), Arc::clone(&self.turns));
        async move {
            let outcome = waits.outcome(&*clock, grace, SinkError::Stalled(deadline)).await;
            turns.tell(&outcome, share, &*clock);
            outcome
        }
    }

    /// The devices with their figures, by path.
    #[must_use]
    pub fn health(&self) -> Vec<DeviceHealth> {
        let health = |device: &Arc<Device>| DeviceHealth {
            path: device.config.path.clone(),
            device_type: device.config.device_type.clone(),
            sink: device.sink.health(),
        };
        self.devices.load().iter().map(health).collect()
    }

    /// Makes a device that works, without enabling it.
    pub async fn prepare(&self, mut config: DeviceConfig, salt: Salt, test: SelfTest<'_>) -> Result<Prepared, EnableError> {
        let parsed = config.parse(self.prefixing);
        if !matches!(
            parsed,
            Err(EnableError::UnknownType(_)
                | EnableError::EnterpriseOptions
                | EnableError::NoPath
                | EnableError::SkipTest
                | EnableError::Prefix)
        ) {
            // Vault looks at the other devices before it makes this one.
            self.conflict(&config)?;
        }
        let Parsed { format, target, skip_test } = parsed?;
        self.keep_off(&target, test)?;
        let sink = self.open(&config, target, test == SelfTest::Later).await?;
        let device = Device { config, format, salt, sink };
        if let (SelfTest::Record(id), false) = (test, skip_test) {
            let request = RequestRecord { id, operation: "update", path: "sys/audit/test", ..RequestRecord::default() };
            let record = Record { time: self.clock.now(), request, ..Record::default() };
            let line = write_line(&record, &device.format, &device.salt, &self.headers.load_full());
            device.sink.submit(line, Share::All).await.map_err(EnableError::TestFailed)?;
        }
        Ok(Prepared(device))
    }

    /// Enables a prepared device whose configuration is stored. Fails when another took its place in the meantime.
    pub fn install(&self, prepared: Prepared) -> Result<(), EnableError> {
        let _changing = self.changing.lock();
        self.conflict(prepared.config())?;
        self.add(prepared);
        Ok(())
    }

    /// Enables a prepared device that was stored before: as [`Self::install`], and also when it shares a file with another. It was taken once, by rules that knew fewer
    /// ways to say a file, and a device that is left out is a log that ends.
    pub fn install_stored(&self, prepared: Prepared) -> Result<(), EnableError> {
        let _changing = self.changing.lock();
        match self.conflict(prepared.config()) {
            Ok(()) => {}
            Err(EnableError::FilePathInUse) => tracing::warn!(
                device = %prepared.config().path,
                "an audit device writes to the file of another one: disable one of the two, or give it a file of its own"
            ),
            Err(error) => return Err(error),
        }
        self.add(prepared);
        Ok(())
    }

    /// The caller holds `changing`.
    fn add(&self, prepared: Prepared) {
        let mut devices = self.devices.load().to_vec();
        devices.push(Arc::new(prepared.0));
        devices.sort_by(|left, right| left.config.path.cmp(&right.config.path));
        self.devices.store(Arc::new(devices));
    }

    /// Disables the device at `path`, when its configuration is no longer stored, and waits until its last line is written. `None` when there is none.
    pub async fn disable(&self, path: &str) -> Option<DeviceConfig> {
        let device = self.remove(path)?;
        if let Err(error) = device.sink.close().await {
            tracing::warn!(device = %device.config.path, %error, "audit device did not close cleanly");
        }
        Some(device.config.clone())
    }

    /// `input` as the device at `path` would write it, to look for a known value in its log.
    pub fn hash(&self, path: &str, input: &str) -> Result<String, HashError> {
        if input.is_empty() {
            return Err(HashError::EmptyInput);
        }
        let path = with_slash(path);
        let devices = self.devices.load();
        let device = devices.iter().find(|device| device.config.path == path);
        device.map(|device| device.salt.hash(input)).ok_or(HashError::UnknownDevice(path))
    }

    /// From now on these headers are logged.
    pub fn set_headers(&self, rules: HeaderRules) {
        self.headers.store(Arc::new(rules));
    }

    /// Opens every log anew, as after SIGHUP. What failed is returned by path; those devices go on as before.
    pub async fn reopen(&self) -> Vec<(String, SinkError)> {
        self.each(|sink| sink.reopen()).await
    }

    /// Writes what waits and closes every device, at the end of the process. Records afterwards are refused.
    pub async fn close(&self) -> Vec<(String, SinkError)> {
        self.each(|sink| sink.close()).await
    }

    async fn each(&self, ask: impl Fn(&dyn Sink) -> Receipt) -> Vec<(String, SinkError)> {
        let devices = self.devices.load_full();
        let asked: Vec<(Arc<Device>, Receipt)> = devices.iter().map(|device| (Arc::clone(device), ask(&*device.sink))).collect();
        let mut failures = Vec::new();
        for (device, receipt) in asked {
            if let Err(error) = receipt.await {
                failures.push((device.config.path.clone(), error));
            }
        }
        failures
    }

    /// Why a device cannot be enabled beside those that are.
    pub fn conflict(&self, config: &DeviceConfig) -> Result<(), EnableError> {
        let devices = self.devices.load();
        if devices.len() >= DEVICES_MAX {
            return Err(EnableError::TooMany);
        }
        devices.iter().find_map(|device| config.conflict(&device.config)).map_or(Ok(()), Err)
    }

    fn remove(&self, path: &str) -> Option<Arc<Device>> {
        let path = with_slash(path);
        let _changing = self.changing.lock();
        let mut devices = self.devices.load().to_vec();
        let at = devices.iter().position(|device| device.config.path == path)?;
        let removed = devices.remove(at);
        self.devices.store(Arc::new(devices));
        Some(removed)
    }

    /// Refuses a file of the server's own, before it is opened. A device that was enabled before the server started may share one where that only mixes two
    /// logs: it was so until now, and a device that is left out is a log that ends. What would destroy the server is left out all the same.
    fn keep_off(&self, target: &Target, test: SelfTest<'_>) -> Result<(), EnableError> {
        let Target::File { path, .. } = target else { return Ok(()) };
        let Some(own) = self.own.at(path) else { return Ok(()) };
        if !matches!(test, SelfTest::Record(_)) && own.harm == Harm::Mixed {
            tracing::warn!(path = %path.display(), "an audit device writes to the {} of this server: give it a file of its own", own.what);
            return Ok(());
        }
        Err(EnableError::FileOfServer { path: path.display().to_string(), what: own.what })
    }

    async fn open(&self, config: &DeviceConfig, target: Target, later: bool) -> Result<Box<dyn Sink>, EnableError> {
        let (name, clock) = (&config.path, Arc::clone(&self.clock));
        let (shown, queued) = match target {
            Target::Discard => return Ok(Box::new(DiscardSink)),
            Target::File { path, mode, durability } => {
                let shown = path.display().to_string();
                let open = move || {
                    if later { Ok(FileWriter::unopened(&path, mode, durability)) } else { FileWriter::open(&path, mode, durability) }
                };
                (Some(shown), QueuedSink::start(name, self.limits, clock, open).await)
            }
            Target::Socket { network, address, write_timeout } => {
                let writer = LinkWriter::new(Peer { network, address }, write_timeout, Arc::clone(&clock));
                (None, QueuedSink::start(name, self.limits, clock, move || Ok(writer)).await)
            }
            Target::Stdout => (Some("stdout".to_owned()), QueuedSink::start(name, self.limits, clock, || Ok(StdoutWriter)).await),
            Target::Syslog { facility, tag } => {
                let local = LocalSyslog { facility, tag, clock: Arc::clone(&clock), paths: &syslog::PATHS };
                let writer = LinkWriter::new(local, self.limits.deadline, Arc::clone(&clock));
                (None, QueuedSink::start(name, self.limits, clock, move || Ok(writer)).await)
            }
        };
        match queued {
            Ok(sink) => Ok(Box::new(sink)),
            Err(error) => Err(EnableError::Create(match shown {
                Some(path) => CreateError::File { path, reason: error.to_string() },
                None => CreateError::Sink(error.to_string()),
            })),
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("devices", &self.devices.load().len()).finish_non_exhaustive()
    }
}

fn with_slash(path: &str) -> String {
    if path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
}

mod outcome;
#[cfg(test)]
mod tests;
mod turns;
