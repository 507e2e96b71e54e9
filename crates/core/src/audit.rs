//! Audit devices in the core: which exist is stored, and every device has a salt of its own that is stored with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_audit::{Broker, DeviceConfig, DeviceHealth, HeaderRule, HeaderRules, Prefixing, Record, Salt, SelfTest, SinkLimits};
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
#[derive(Serialize, Deserialize)]
struct Stored {
    config: DeviceConfig,
    /// What its salt is derived from.
    salt_id: String,
}

/// Headers that are written to the log, as they are stored: name to whether the value is hashed.
pub(crate) type StoredHeaders = BTreeMap<String, bool>;

impl Audit {
    /// Opens every stored device. Errors: `Failed` when none of those that exist can be opened: the server then must not serve.
    pub(crate) async fn load(rows: &Rows, clock: Arc<dyn Clock>, prefixing: Prefixing) -> Result<Self> {
        let broker = Broker::new(clock, SinkLimits::default(), prefixing);
        let audit = Self { rows: rows.clone(), broker, changing: tokio::sync::Mutex::default() };
        let stored = audit.stored().await?;
        for device in &stored {
            let prepared = audit.broker.prepare(device.config.clone(), audit.salt(&device.salt_id), SelfTest::Skip).await;
            if let Err(error) = prepared.and_then(|prepared| audit.broker.install(prepared)) {
                tracing::error!(device = %device.config.path, %error, "an audit device cannot be opened");
            }
        }
        if !stored.is_empty() && !audit.broker.is_enabled() {
            return Err(Error::failed("no audit device can be opened; the log has the reasons"));
        }
        audit.apply_headers(&audit.headers().await?);
        Ok(audit)
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
        let mut stored = self.stored().await?;
        stored.push(Stored { config: prepared.config().clone(), salt_id });
        self.store(&stored).await?;
        self.broker.install(prepared).map_err(refused)
    }

    /// Disables a device; one that does not exist is no error.
    pub(crate) async fn disable(&self, path: &str) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        let mut stored = self.stored().await?;
        stored.retain(|device| device.config.path != path);
        self.store(&stored).await?;
        let _was_enabled = self.broker.disable(path).await;
        Ok(())
    }

    pub(crate) async fn headers(&self) -> Result<StoredHeaders> {
        Ok(self.rows.get_json::<StoredHeaders>(&core_key(HEADERS)).await?.map(|(headers, _)| headers).unwrap_or_default())
    }

    pub(crate) async fn set_headers(&self, headers: &StoredHeaders) -> Result<()> {
        self.rows.commit(self.rows.put_json(Batch::new().config_change(), core_key(HEADERS), headers)?).await?;
        self.apply_headers(headers);
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

    async fn store(&self, devices: &[Stored]) -> Result<()> {
        self.rows.commit(self.rows.put_json(Batch::new().config_change(), core_key(DEVICES), &devices)?).await?;
        Ok(())
    }
}

const DEVICES: &str = "audit";
const HEADERS: &str = "audit-headers";
