//! Audit devices in the core: which exist is stored, and every device has a salt of its own that is stored with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_audit::{Broker, DeviceConfig, DeviceHealth, HeaderRule, HeaderRules, OwnFiles, Prefixing, Record, Salt, SelfTest, SinkLimits};
use daypass_base::{Clock, Secret};
use daypass_sdk::{Error, Result};
use daypass_storage::Batch;
use serde::{Deserialize, Serialize};

use crate::node::core_key;
use crate::rows::Rows;

/// The devices of a server.
pub(crate) struct Audit {
    rows: Rows,
    broker: Broker,
    /// One change of the stored devices or headers at a time.
    changing: tokio::sync::Mutex<()>,
}

/// A device as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    config: DeviceConfig,
    /// What its salt is derived from.
    salt_id: String,
}

/// Headers that are written to the log, as they are stored: name to whether the value is hashed.
pub(crate) type StoredHeaders = BTreeMap<String, bool>;

impl Audit {
    /// Opens every stored device but those that would write to a file that the server lives on. Errors: `Failed` when none of those that exist can be opened: the server then must not serve.
    pub(crate) async fn load(rows: &Rows, clock: Arc<dyn Clock>, prefixing: Prefixing, own: OwnFiles) -> Result<Self> {
        let broker = Broker::new(clock, SinkLimits::default(), prefixing, own);
        let audit = Self { rows: rows.clone(), broker, changing: tokio::sync::Mutex::default() };
        let stored = audit.stored().await?;
        let mut shut = Vec::new();
        for device in &stored {
            if let Err(error) = audit.install(device, SelfTest::Skip).await {
                tracing::error!(device = %device.config.path, %error, "an audit device cannot be opened");
                shut.push(device);
            }
        }
        if !stored.is_empty() && !audit.broker.is_enabled() {
            return Err(Error::failed("no audit device can be opened; the log has the reasons"));
        }
        // A log that could not be opened is a device that fails, and no device that is gone: it is listed and counted, and goes on when its volume is back.
        for device in shut {
            if let Err(error) = audit.install(device, SelfTest::Later).await {
                tracing::error!(device = %device.config.path, %error, "an audit device is left out until the server is unsealed again");
            }
        }
        audit.apply_headers(&audit.headers().await?);
        Ok(audit)
    }

    async fn install(&self, device: &Stored, test: SelfTest<'_>) -> std::result::Result<(), daypass_audit::EnableError> {
        let prepared = self.broker.prepare(device.config.clone(), self.salt(&device.salt_id), test).await?;
        self.broker.install_stored(prepared)
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.broker.is_enabled()
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Writes a record: the lines are queued when this returns, the future waits for a device to have one. Errors: `Failed` when every
    /// device failed, with `consequence` for the client.
    pub(crate) fn log(&self, record: &Record<'_>, consequence: &'static str) -> impl Future<Output = Result<()>> + Send + use<> {
        let written = self.broker.log(record);
        // Why which device failed is for the operator alone; the log has it when it begins.
        async move { written.await.map_err(|error| Error::failed(format!("internal error: {consequence}")).bare().because(error)) }
    }

    /// The devices with their figures, by path.
    pub(crate) fn health(&self) -> Vec<DeviceHealth> {
        self.broker.health()
    }

    /// Enables a device: it must work before it is stored, and be stored before it counts. Errors: `BadRequest` with Vault's texts.
    pub(crate) async fn enable(&self, config: DeviceConfig, request_id: &str, salt_id: String) -> Result<()> {
        let refused = |error: daypass_audit::EnableError| Error::bad_request(error.to_string());
        let prepared = self.broker.prepare(config, self.salt(&salt_id), SelfTest::Record(request_id)).await.map_err(refused)?;
        let _one_at_a_time = self.changing.lock().await;
        // Again: another may have been enabled meanwhile. What is refused must not stay stored.
        self.broker.conflict(prepared.config()).map_err(refused)?;
        let device = Stored { config: prepared.config().clone(), salt_id };
        // One of this path that was left out at the start is replaced: it must not come back at the next.
        self.change_stored(|devices| {
            devices.retain(|other| other.config.path != device.config.path);
            devices.push(device.clone());
        })
        .await?;
        self.broker.install(prepared).map_err(refused)
    }

    /// Disables a device; one that does not exist is no error.
    pub(crate) async fn disable(&self, path: &str) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        self.change_stored(|devices| devices.retain(|device| device.config.path != path)).await?;
        let _was_enabled = self.broker.disable(path).await;
        Ok(())
    }

    pub(crate) async fn headers(&self) -> Result<StoredHeaders> {
        Ok(self.rows.get_json::<StoredHeaders>(&core_key(HEADERS)).await?.map(|(headers, _)| headers).unwrap_or_default())
    }

    /// Changes which headers are written to the log. `change` says whether there is anything to store.
    pub(crate) async fn change_headers(&self, change: impl Fn(&mut StoredHeaders) -> Result<bool>) -> Result<()> {
        let decide = |stored: Option<StoredHeaders>| {
            let mut headers = stored.unwrap_or_default();
            Ok(change(&mut headers)?.then_some(headers))
        };
        let _one_at_a_time = self.changing.lock().await;
        if let Some(headers) = self.rows.change(&core_key(HEADERS), &Batch::new().config_change(), decide).await? {
            self.apply_headers(&headers);
        }
        Ok(())
    }

    pub(crate) async fn reopen(&self) {
        for (device, error) in self.broker.reopen().await {
            tracing::error!(%device, %error, "an audit device cannot be reopened; it goes on with what it had");
        }
    }

    pub(crate) async fn close(&self) {
        for (device, error) in self.broker.close().await {
            tracing::error!(%device, %error, "an audit device did not close cleanly");
        }
    }

    fn apply_headers(&self, headers: &StoredHeaders) {
        let rules = headers.iter().map(|(name, hmac)| (name.clone(), HeaderRule { hmac: *hmac })).collect();
        self.broker.set_headers(HeaderRules::new(rules));
    }

    fn salt(&self, salt_id: &str) -> Salt {
        let bytes = self.rows.barrier().mac(daypass_barrier::Purpose::AuditSalt, salt_id.as_bytes());
        Salt::new(&Secret::new(bytes.to_vec()))
    }

    async fn stored(&self) -> Result<Vec<Stored>> {
        Ok(self.rows.get_json::<Vec<Stored>>(&core_key(DEVICES)).await?.map(|(devices, _)| devices).unwrap_or_default())
    }

    async fn change_stored(&self, change: impl Fn(&mut Vec<Stored>)) -> Result<()> {
        let decide = |stored: Option<Vec<Stored>>| {
            let mut devices = stored.unwrap_or_default();
            change(&mut devices);
            Ok(Some(devices))
        };
        self.rows.change(&core_key(DEVICES), &Batch::new().config_change(), decide).await.map(drop)
    }
}

const DEVICES: &str = "audit";
const HEADERS: &str = "audit-headers";
