//! Waiting for devices to have a record: until one has it, and a moment longer for the others.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daypass_base::{BoxFuture, Clock};

use super::{AuditFailed, Device};
use crate::sink::{Pace, Receipt, SinkError};

/// The receipts of one record.
#[derive(Default)]
pub(super) struct Waits {
    /// Of devices that keep up.
    prompt: Vec<(Arc<Device>, Receipt)>,
    /// Of devices that lag: only if no other has the record.
    lagging: Vec<(Arc<Device>, Receipt)>,
    /// Devices that hang have the line in their queue; nobody waits for them.
    hanging: Vec<Arc<Device>>,
    failures: Vec<(String, SinkError)>,
}

impl Waits {
    pub(super) fn push(&mut self, device: &Arc<Device>, pace: Pace, receipt: Receipt) {
        match pace {
            Pace::Well => self.prompt.push((Arc::clone(device), receipt)),
            Pace::Lagging => self.lagging.push((Arc::clone(device), receipt)),
            Pace::Stalled => self.hanging.push(Arc::clone(device)),
        }
    }

    pub(super) fn fail(&mut self, device: &Device, error: SinkError) {
        self.failures.push((device.config.path.clone(), error));
    }

    /// An error when there are devices and none took the record; `hangs` is what is said of those that nobody waits for.
    pub(super) async fn outcome(mut self, clock: &dyn Clock, grace: Duration, hangs: SinkError) -> Result<(), AuditFailed> {
        if self.prompt.is_empty() && self.lagging.is_empty() && self.hanging.is_empty() && self.failures.is_empty() {
            return Ok(());
        }
        let mut race = Race { waits: std::mem::take(&mut self.prompt), taken: false, grace: None, failures: Vec::new() };
        std::future::poll_fn(|context| race.poll(context, clock, grace)).await;
        if race.taken {
            // Whoever is still waited for took too long, and has the line in its queue.
            race.waits.iter().for_each(|(device, _)| device.sink.lags());
            return Ok(());
        }
        self.failures.append(&mut race.failures);
        // All deadlines run already, so waiting one after the other takes no longer than the longest.
        for (device, receipt) in self.lagging {
            match receipt.await {
                Ok(()) => return Ok(()),
                Err(error) => self.failures.push((device.config.path.clone(), error)),
            }
        }
        self.failures.extend(self.hanging.iter().map(|device| (device.config.path.clone(), hangs.clone())));
        Err(AuditFailed { failures: self.failures })
    }
}

/// All at once.
struct Race {
    waits: Vec<(Arc<Device>, Receipt)>,
    taken: bool,
    /// Runs from the moment when the first has the record.
    grace: Option<BoxFuture<'static, ()>>,
    failures: Vec<(String, SinkError)>,
}

impl Race {
    /// Ready when all have answered, or when one has the record and the grace is over.
    fn poll(&mut self, context: &mut Context<'_>, clock: &dyn Clock, grace: Duration) -> Poll<()> {
        let Self { waits, taken, failures, .. } = self;
        waits.retain_mut(|(device, receipt)| match receipt.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                *taken = true;
                false
            }
            Poll::Ready(Err(error)) => {
                failures.push((device.config.path.clone(), error));
                false
            }
        });
        if self.waits.is_empty() {
            return Poll::Ready(());
        }
        if !self.taken {
            return Poll::Pending;
        }
        let timer = self.grace.get_or_insert_with(|| clock.sleep(grace));
        timer.as_mut().poll(context)
    }
}
