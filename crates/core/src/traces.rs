//! Traces: what is told of a request once it has ended, where the configuration names somebody to tell it to.
//!
//! A span holds what operators and the source have named: the mount, the declared pattern of the endpoint, never the path itself, nor a
//! header, a field or a token. The request's id leads from a span to the audit records, which say the rest to those who may read them.

mod caller;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daypass_base::trace::{Called, Fact, Outside, Parent, Ratio, Span, SpanKind, Trace, Traces};
use daypass_base::{Clock, Entropy, Timestamp};
use parking_lot::Mutex;

use crate::http::HttpRequest;
use crate::metrics::Stage;

pub(crate) use caller::Caller;

/// That requests are traced, and for whom.
#[derive(Clone)]
pub struct Traced {
    /// Takes the traces.
    pub sink: Arc<dyn Traces>,
    /// The share of requests that are traced where no caller with a good token says.
    pub ratio: Ratio,
}

/// The trace of a request that goes on. It is told when the last holder lets go of it: with the answer, or when the client has hung up.
pub(crate) struct Open {
    sink: Arc<dyn Traces>,
    clock: Arc<dyn Clock>,
    trace: [u8; 16],
    parent: Parent,
    /// The request's own span; those of its parts are numbered from here on.
    span: u64,
    began: Timestamp,
    /// The same moment on the monotonic clock, from which all else is counted.
    since: Duration,
    method: &'static str,
    outside: Arc<Outside>,
    /// Whether it is told in the end.
    kept: AtomicBool,
    told: Mutex<Told>,
}

/// What came to be known on the way.
#[derive(Default)]
struct Told {
    request_id: String,
    mount: Option<(String, String)>,
    pattern: Option<String>,
    stages: [Option<(Duration, Duration)>; STAGES.len()],
    status: Option<u16>,
}

/// The stages that are told, in the order in which their spans are numbered.
const STAGES: [Stage; 3] = [Stage::Identify, Stage::Audit, Stage::Run];
/// Methods of HTTP and of Vault; what else a client makes up is not repeated.
const METHODS: [&str; 8] = ["DELETE", "GET", "HEAD", "LIST", "OPTIONS", "PATCH", "POST", "PUT"];

impl Open {
    /// The trace of a request that begins, if it may be told: the configured share, and whatever callers with a good token keep. Whether this is one turns out
    /// later ([`Open::vouched_for`]): a stranger's word is no reason to fill the collector. A caller that does not keep its trace is never overruled.
    pub(crate) fn begin(traced: &Traced, clock: &Arc<dyn Clock>, entropy: &dyn Entropy, request: &HttpRequest) -> Option<Arc<Self>> {
        let (trace, parent) = match Caller::of(&request.headers) {
            Some(caller) if caller.sampled => (caller.trace, Parent::Remote(caller.span)),
            Some(_) => return None,
            None => (some(entropy), Parent::None),
        };
        // Not by the id that the caller chose: it would choose one that is covered.
        let chance = if parent == Parent::None { trace } else { some(entropy) };
        let kept = traced.ratio.covers(&chance);
        if !kept && parent == Parent::None {
            return None;
        }
        Some(Arc::new(Self {
            sink: Arc::clone(&traced.sink),
            clock: Arc::clone(clock),
            trace,
            parent,
            // Never zero, and nothing that is added to it wraps.
            span: u64::from_be_bytes(entropy.bytes()) / 2 + 1,
            began: clock.now(),
            since: clock.elapsed(),
            method: METHODS.into_iter().find(|known| *known == request.method.as_str()).unwrap_or("_OTHER"),
            outside: Arc::default(),
            kept: AtomicBool::new(kept),
            told: Mutex::default(),
        }))
    }

    /// Its caller has a good token.
    pub(crate) fn vouched_for(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// The request has an id.
    pub(crate) fn has_id(&self, id: &str) {
        id.clone_into(&mut self.told.lock().request_id);
    }

    /// Which mount it led to, by type and path, and to which of its endpoints.
    pub(crate) fn led_to(&self, kind: &str, path: &str, pattern: Option<String>) {
        let mut told = self.told.lock();
        told.mount = Some((kind.to_owned(), path.to_owned()));
        told.pattern = pattern;
    }

    /// A stage is over; from when to when, on the monotonic clock.
    pub(crate) fn stage(&self, stage: Stage, began: Duration, ended: Duration) {
        let mut told = self.told.lock();
        if let Some((place, _)) = told.stages.iter_mut().zip(STAGES).find(|(_, known)| *known == stage) {
            *place = Some((began, ended));
        }
    }

    /// Where engines note what they ask of others.
    pub(crate) fn outside(&self) -> Arc<Outside> {
        Arc::clone(&self.outside)
    }

    /// It was answered.
    pub(crate) fn answered(&self, status: u16) {
        self.told.lock().status = Some(status);
    }

    /// The id of the span with this number; the request's own has number 0.
    fn id(&self, number: usize) -> [u8; 8] {
        self.span.saturating_add(u64::try_from(number).unwrap_or_default()).to_be_bytes()
    }

    fn part(&self, number: usize, parent: usize, (began, ended): (Duration, Duration)) -> Span {
        Span {
            id: self.id(number),
            parent: Parent::Own(self.id(parent)),
            name: Cow::Borrowed(""),
            kind: SpanKind::Internal,
            began: self.began + began.saturating_sub(self.since),
            took: ended.saturating_sub(began),
            failed: false,
            facts: Vec::new(),
        }
    }

    fn whole(&self, told: Told) -> Trace {
        let mut spans = vec![self.request(&told)];
        for (number, (stage, times)) in (1..).zip(STAGES.iter().zip(told.stages)) {
            spans.extend(times.map(|times| Span { name: Cow::Borrowed(stage.name()), ..self.part(number, 0, times) }));
        }
        // Others are asked by the engine, so below the last stage; where that was given up there is no span of it.
        let asking = if told.stages.last().is_some_and(Option::is_some) { STAGES.len() } else { 0 };
        for (number, called) in (STAGES.len() + 1..).zip(self.outside.take()) {
            let Called { service, action, began, ended, failed } = called;
            spans.push(Span {
                name: Cow::Owned(format!("{service}.{action}")),
                kind: SpanKind::Client,
                failed,
                facts: vec![("rpc.system", text("aws-api")), ("rpc.service", text(service)), ("rpc.method", text(action))],
                ..self.part(number, asking, (began, ended))
            });
        }
        Trace { id: self.trace, spans }
    }

    fn request(&self, told: &Told) -> Span {
        let route = match (&told.mount, &told.pattern) {
            (Some((_, path)), Some(pattern)) => Some(format!("/v1/{path}{pattern}")),
            _ => None,
        };
        let failed = told.status.filter(|status| *status >= 500);
        let mut facts = vec![("http.request.method", text(self.method))];
        facts.extend(told.status.map(|status| ("http.response.status_code", Fact::Number(status.into()))));
        facts.extend(route.iter().map(|route| ("http.route", text(route))));
        if let Some((kind, path)) = &told.mount {
            facts.extend([("daypass.mount.type", text(kind)), ("daypass.mount.path", text(path))]);
        }
        if !told.request_id.is_empty() {
            facts.push(("daypass.request_id", text(&told.request_id)));
        }
        facts.extend(failed.map(|status| ("error.type", Fact::Text(status.to_string()))));
        Span {
            id: self.id(0),
            parent: self.parent,
            name: route.map_or(Cow::Borrowed(self.method), |route| Cow::Owned(format!("{} {route}", self.method))),
            kind: SpanKind::Server,
            began: self.began,
            took: self.clock.elapsed().saturating_sub(self.since),
            failed: failed.is_some(),
            facts,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            return;
        }
        let told = std::mem::take(self.told.get_mut());
        self.sink.ended(self.whole(told));
    }
}

/// Says nothing: it stands in [`crate::stages::parse::Parsed`].
impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

/// An id that nobody has.
fn some<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let id = entropy.bytes();
    if id == [0; N] { [1; N] } else { id }
}

fn text(text: &str) -> Fact {
    Fact::Text(text.to_owned())
}
