//! The one place where outcomes become statuses and bodies.

use std::collections::BTreeMap;

use bytes::Bytes;
use daypass_base::wire::{Auth, Envelope, Errors, WrapInfo};
use daypass_base::{Download, Receipt, brief};
use daypass_sdk::{Error, Kind};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::HttpResponse;

/// A finished answer, before it is written: what audit and wrapping work on.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content: Content,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// For the audit record alone: what a leased secret is about, in clear.
    pub(crate) facts: BTreeMap<String, String>,
    /// Names below `data` that are repeated at the top level, for old clients.
    pub(crate) top_level: bool,
    /// A refusal has the keys that AWS's SDKs read.
    pub(crate) for_aws_sdks: bool,
    /// Somebody waits to be told whether the answer reached its client.
    pub(crate) receipt: Option<Receipt>,
}

#[derive(Debug, Default)]
pub(crate) enum Content {
    /// Bare JSON.
    Bare(Value),
    /// No body.
    #[default]
    Empty,
    /// The envelope.
    Envelope(Box<Envelope>),
    /// A body as it is.
    Raw(&'static str, Bytes),
    /// A body that comes piece by piece.
    Stream(&'static str, Download),
    /// A refusal.
    Refused(Errors),
}

impl Answer {
    pub(crate) fn envelope(status: u16, envelope: Envelope) -> Self {
        Self { status, content: Content::Envelope(Box::new(envelope)), ..Self::default() }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// The same with its JSON as the bytes that are sent: it may have to wait, and many small objects take a hundred times their text.
    pub(crate) fn settled(mut self) -> Self {
        let body = match &self.content {
            Content::Bare(value) => json(value),
            Content::Envelope(envelope) if self.top_level => json(&spread(envelope)),
            Content::Envelope(envelope) => json(envelope),
            Content::Empty | Content::Raw(..) | Content::Stream(..) | Content::Refused(_) => return self,
        };
        self.content = Content::Raw(JSON, body);
        self
    }

    /// Its texts are cut as those of an [`Error`] are, where they are longer than any client reads.
    pub(crate) fn refused(status: u16, errors: Vec<String>) -> Self {
        let errors = errors.into_iter().map(brief::cut).collect();
        Self { status, content: Content::Refused(Errors { errors, data: None }), ..Self::default() }
    }
}

/// An envelope with data and nothing else.
pub(crate) fn data_envelope(request_id: &str, mount_type: &str, data: Option<Map<String, Value>>) -> Envelope {
    Envelope { request_id: request_id.to_owned(), mount_type: mount_type.to_owned(), data: data.map(Value::Object), ..Envelope::default() }
}

/// An envelope that says where the real answer was put.
pub(crate) fn wrap_envelope(info: WrapInfo) -> Envelope {
    Envelope { wrap_info: Some(info), ..Envelope::default() }
}

/// An envelope around a token.
pub(crate) fn auth_envelope(request_id: &str, mount_type: &str, auth: Auth) -> Envelope {
    Envelope { request_id: request_id.to_owned(), mount_type: mount_type.to_owned(), auth: Some(auth), ..Envelope::default() }
}

/// What a failure looks like to the client.
pub(crate) fn refusal(error: &Error, request_id: &str) -> Answer {
    let wrapped = |text: &str| if error.bare { text.to_owned() } else { format!("1 error occurred:\n\t* {text}\n\n") };
    let (status, text) = match error.kind {
        Kind::BadRequest | Kind::Upstream | Kind::WrappingToken => (400, Some(error.message.clone())),
        Kind::InvalidRequest => (400, Some(wrapped(&error.message))),
        Kind::Denied => (403, Some(error.message.clone())),
        Kind::Failed => (500, Some(wrapped(&error.message))),
        Kind::Internal => (500, Some(format!("internal error (request {request_id})"))),
        Kind::NotFound => (404, None),
        Kind::NoSuchPath if error.message == "unsupported path" => (404, Some(wrapped(&error.message))),
        Kind::NoSuchPath => (404, Some(error.message.clone())),
        Kind::StoreFull => (503, Some(error.message.clone())),
        Kind::Sealed | Kind::Standby => (503, Some(error.message.clone())),
        Kind::TooMany => (429, Some(error.message.clone())),
        Kind::UpstreamThrottled => (502, Some(error.message.clone())),
        Kind::WrongOperation => (405, Some(wrapped(&error.message))),
    };
    if status == 404 && text.is_none() && !error.warnings.is_empty() {
        let envelope = Envelope { request_id: request_id.to_owned(), warnings: Some(error.warnings.clone()), ..Envelope::default() };
        return Answer::envelope(404, envelope);
    }
    let errors = Errors { errors: text.into_iter().collect(), data: error.data.as_deref().cloned() };
    let headers = error.retry_after.set().map(|wait| ("retry-after", wait.0.to_string())).into_iter().collect();
    Answer { status, content: Content::Refused(errors), headers, ..Answer::default() }
}

/// The media type of JSON.
const JSON: &str = "application/json";

/// Writes an answer.
pub(crate) fn write(answer: Answer) -> HttpResponse {
    let answer = answer.settled();
    let (kind, body) = match answer.content {
        Content::Stream(kind, more) => return stream(answer.status, answer.headers, kind, more),
        Content::Raw(kind, body) => (kind, body),
        Content::Refused(errors) if answer.for_aws_sdks => (JSON, json(&for_aws_sdks(answer.status, &errors))),
        Content::Refused(errors) => (JSON, json(&errors)),
        // JSON is settled by now.
        Content::Empty | Content::Bare(_) | Content::Envelope(_) => (JSON, Bytes::new()),
    };
    let mut headers = answer.headers;
    headers.push(("content-type", kind.to_owned()));
    HttpResponse { status: answer.status, headers, body, more: None, without: &[], receipt: answer.receipt }
}

fn stream(status: u16, mut headers: Vec<(&'static str, String)>, kind: &str, more: Download) -> HttpResponse {
    headers.push(("content-type", kind.to_owned()));
    HttpResponse { status, headers, body: Bytes::new(), more: Some(more), without: &[], receipt: None }
}

/// A refusal as the credentials endpoint of a container words it, with Vault's key beside AWS's.
fn for_aws_sdks(status: u16, errors: &Errors) -> Value {
    let code = match status {
        400 => "InvalidRequest",
        403 => "AccessDenied",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        429 | 502 => "Throttling",
        _ => "InternalFailure",
    };
    serde_json::json!({ "code": code, "message": errors.errors.join("; "), "errors": errors.errors })
}

/// The body of an envelope as it will be sent: what wrapping stores.
pub(crate) fn envelope_bytes(envelope: &Envelope) -> Vec<u8> {
    serde_json::to_vec(envelope).unwrap_or_default()
}

/// The envelope with the keys of `data` repeated at the top, as the oldest paths of the API have it.
fn spread(envelope: &Envelope) -> Value {
    let mut out = Map::new();
    if let Some(Value::Object(data)) = &envelope.data {
        out.extend(data.clone());
    }
    if let Ok(Value::Object(own)) = serde_json::to_value(envelope) {
        out.extend(own);
    }
    Value::Object(out)
}

fn json(value: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}
