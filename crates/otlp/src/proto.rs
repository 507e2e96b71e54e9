//! Spans as OTLP's protobuf: those messages and fields of OTLP 1 that are used here, with their numbers.
//!
//! Source: the public .proto files of opentelemetry-proto 1 (collector/trace/v1, trace/v1, common/v1, resource/v1). They are written down
//! here because the crate that holds all of them brings OpenTelemetry's whole SDK along.

use bytes::Bytes;
use daypass_base::Timestamp;
use daypass_base::trace::{Fact, Parent, Span, SpanKind, Trace};
use prost::Message;

/// What is sent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_spans: Vec<ResourceSpans>,
}

/// What is answered.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(crate) rejected_spans: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(crate) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Scope {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(int32, tag = "6")]
    pub(crate) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(crate) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(crate) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub(crate) status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub(crate) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "3")]
    pub(crate) code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub(crate) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `SPAN_KIND_*`.
const KIND_INTERNAL: i32 = 1;
const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: i32 = 2;
/// W3C's flag: the trace is kept.
const SAMPLED: u32 = 1;
/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: the next bit says something.
const REMOTE_IS_KNOWN: u32 = 0x100;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`: the parent is a span of another process.
const IS_REMOTE: u32 = 0x200;

/// A batch, ready to be sent, from a server of this version.
pub(crate) fn encode(traces: Vec<Trace>, version: &str) -> Bytes {
    let attributes = vec![text("service.name", "daypass"), text("service.version", version)];
    let scope = Some(Scope { name: "daypass".to_owned(), version: version.to_owned() });
    let spans = traces.into_iter().flat_map(|Trace { id, spans }| spans.into_iter().map(move |span| message(&id, span))).collect();
    let request = ExportRequest {
        resource_spans: vec![ResourceSpans { resource: Some(Resource { attributes }), scope_spans: vec![ScopeSpans { scope, spans }] }],
    };
    request.encode_to_vec().into()
}

/// How many spans the collector did not want, from the body of a success. What cannot be read says that it wanted all.
pub(crate) fn rejected(body: &[u8]) -> usize {
    let answer = ExportResponse::decode(body).unwrap_or_default();
    answer.partial_success.map_or(0, |partial| usize::try_from(partial.rejected_spans).unwrap_or_default())
}

fn message(trace: &[u8; 16], span: Span) -> SpanMessage {
    let (parent, remote) = match span.parent {
        Parent::None => (Vec::new(), 0),
        Parent::Own(id) => (id.to_vec(), 0),
        Parent::Remote(id) => (id.to_vec(), IS_REMOTE),
    };
    SpanMessage {
        trace_id: trace.to_vec(),
        span_id: span.id.to_vec(),
        parent_span_id: parent,
        name: span.name.into_owned(),
        kind: match span.kind {
            SpanKind::Client => KIND_CLIENT,
            SpanKind::Internal => KIND_INTERNAL,
            SpanKind::Server => KIND_SERVER,
        },
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.began + span.took),
        attributes: span.facts.into_iter().map(|(key, fact)| attribute(key, fact)).collect(),
        status: span.failed.then_some(Status { code: STATUS_ERROR }),
        flags: SAMPLED | REMOTE_IS_KNOWN | remote,
    }
}

/// OTLP knows no time before 1970.
fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.nanos()).unwrap_or_default()
}

fn attribute(key: &str, fact: Fact) -> KeyValue {
    let value = match fact {
        Fact::Number(number) => Value::Number(number),
        Fact::Text(text) => Value::Text(text),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Fact::Text(value.to_owned()))
}
