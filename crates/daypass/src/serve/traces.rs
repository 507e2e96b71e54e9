//! Traces, where the configuration names a collector: the queue that the core fills, and the task that empties it.

use std::sync::Arc;

use daypass_base::trace::Ratio;
use daypass_base::{Clock, Entropy};
use daypass_core::Traced;
use daypass_otlp::{Exporter, Headers, Settings};

use crate::config::Traces;

/// Starts to send traces, on this runtime. Errors: what is wrong with the headers that the environment names.
pub(super) fn start(traces: &Traces, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Result<(Traced, Exporter), String> {
    let text = match std::env::var(HEADERS) {
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => String::new(),
        Err(std::env::VarError::NotUnicode(_)) => return Err(format!("{HEADERS} cannot be used: it is no text")),
    };
    let headers = Headers::parse(&text).map_err(|wrong| format!("{HEADERS} cannot be used: {wrong}"))?;
    if traces.endpoint.is_in_clear() && !headers.is_empty() {
        tracing::warn!("the headers of {HEADERS} go to {} in clear: otlp_traces_endpoint is no https:// URL", traces.endpoint.host());
    }
    let settings = Settings { endpoint: traces.endpoint.clone(), headers, version: env!("CARGO_PKG_VERSION").to_owned() };
    let (sink, exporter) = daypass_otlp::start(settings, Arc::clone(clock), Arc::clone(entropy));
    tracing::info!(collector = traces.endpoint.host(), "requests are traced");
    Ok((Traced { sink, ratio: traces.ratio.unwrap_or(Ratio::ALL) }, exporter))
}

/// OpenTelemetry's own name for it.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
