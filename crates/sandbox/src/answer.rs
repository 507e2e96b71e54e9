//! Answers: XML of the query protocol, JSON of the others, and how a refusal looks in each.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use quick_xml::escape::escape;
use serde_json::{Value, json};

use crate::fault::Fault;

/// What the server sends.
pub(crate) type Reply = Response<Content>;

/// The body of an answer: all of it, or half of it and then the end of the connection.
pub(crate) struct Content {
    text: Bytes,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Half of it is to be sent.
    Cut,
    /// Half of it was handed over: it goes out before the connection ends.
    Sent,
    Broken,
}

/// The connection ends within an answer, on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks off on purpose")]
pub(crate) struct BrokenOff;

impl Content {
    fn new(text: Bytes) -> Self {
        Self { text, state: State::Whole }
    }

    /// The same, broken off in the middle.
    pub(crate) fn cut(self) -> Self {
        Self { state: State::Cut, ..self }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.state {
            State::Whole if self.text.is_empty() => Poll::Ready(None),
            State::Whole => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.text))))),
            State::Cut => {
                self.state = State::Sent;
                let half = self.text.len() / 2;
                Poll::Ready(Some(Ok(Frame::data(self.text.split_to(half)))))
            }
            State::Sent => {
                self.state = State::Broken;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Broken => Poll::Ready(Some(Err(BrokenOff))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Whole && self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.text.len()).unwrap_or(u64::MAX))
    }
}

/// Which protocol a refusal has to be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// JSON 1.1 (ECR).
    Json,
    /// EC2's XML.
    Ec2,
    /// XML in this namespace (STS, IAM).
    Xml(&'static str),
}

/// XML under construction. Text is escaped; characters that XML cannot hold are dropped.
#[derive(Debug, Default)]
pub(crate) struct Xml {
    text: String,
}

impl Xml {
    pub(crate) fn field(&mut self, tag: &str, value: &str) -> &mut Self {
        let clean: String = value
            .chars()
            .filter(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
            .collect();
        // Writing to a String cannot fail.
        let _always_fits = write!(self.text, "<{tag}>{}</{tag}>", escape(&clean));
        self
    }

    pub(crate) fn optional(&mut self, tag: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.field(tag, value);
        }
        self
    }

    pub(crate) fn within(&mut self, tag: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let _always_fits = write!(self.text, "<{tag}>");
        fill(self);
        let _always_fits = write!(self.text, "</{tag}>");
        self
    }

    /// `<tag><member>…</member>…</tag>`.
    pub(crate) fn list<T>(&mut self, tag: &str, items: impl IntoIterator<Item = T>, mut fill: impl FnMut(&mut Self, T)) -> &mut Self {
        self.within(tag, |xml| {
            for item in items {
                xml.within("member", |xml| fill(xml, item));
            }
        })
    }

    /// `<tag><member>text</member>…</tag>`.
    pub(crate) fn texts<'t>(&mut self, tag: &str, items: impl IntoIterator<Item = &'t str>) -> &mut Self {
        self.within(tag, |xml| {
            for item in items {
                xml.field("member", item);
            }
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// A success of the query protocol.
pub(crate) fn xml(namespace: &str, action: &str, result: &Xml, request_id: &str) -> Reply {
    let mut text = String::with_capacity(result.text.len() + 400);
    let _always_fits = write!(text, "<{action}Response xmlns=\"{namespace}\">");
    if !result.is_empty() {
        let _always_fits = write!(text, "<{action}Result>{}</{action}Result>", result.text);
    }
    let _always_fits = write!(text, "<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>");
    reply(200, "text/xml", text, request_id)
}

/// A success of EC2's protocol, which has no result around it.
pub(crate) fn ec2_xml(namespace: &str, action: &str, result: &Xml, request_id: &str) -> Reply {
    let text =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"{namespace}\">{}</{action}Response>", result.text);
    reply(200, "text/xml", text, request_id)
}

/// A success of a JSON protocol.
pub(crate) fn amz_json(value: &Value, request_id: &str) -> Reply {
    reply(200, "application/x-amz-json-1.1", value.to_string(), request_id)
}

/// A refusal in the words of `dialect`.
pub(crate) fn fault(dialect: Dialect, fault: &Fault, request_id: &str) -> Reply {
    match dialect {
        Dialect::Json => {
            // JSON services answer 400 where the query protocol says 403.
            let status = if fault.status >= 500 { fault.status } else { 400 };
            reply(
                status,
                "application/x-amz-json-1.1",
                json!({"__type": fault.json_code(), "message": fault.message}).to_string(),
                request_id,
            )
        }
        Dialect::Ec2 => {
            let mut body = Xml::default();
            body.within("Error", |xml| {
                xml.field("Code", fault.code).field("Message", &fault.message);
            });
            let text = format!("<Response><Errors>{}</Errors><RequestID>{request_id}</RequestID></Response>", body.text);
            reply(fault.status, "text/xml", text, request_id)
        }
        Dialect::Xml(namespace) => {
            let mut body = Xml::default();
            body.within("Error", |xml| {
                xml.field("Type", if fault.status >= 500 { "Receiver" } else { "Sender" })
                    .field("Code", fault.code)
                    .field("Message", &fault.message);
            });
            let text = format!("<ErrorResponse xmlns=\"{namespace}\">{}<RequestId>{request_id}</RequestId></ErrorResponse>", body.text);
            reply(fault.status, "text/xml", text, request_id)
        }
    }
}

/// Plain JSON of the endpoints that are no AWS API.
pub(crate) fn json(status: u16, value: &Value) -> Reply {
    reply(status, "application/json", value.to_string(), "")
}

/// Plain text.
pub(crate) fn text(status: u16, text: impl Into<String>) -> Reply {
    reply(status, "text/plain", text.into(), "")
}

fn reply(status: u16, kind: &'static str, body: String, request_id: &str) -> Reply {
    let mut reply = Response::new(Content::new(Bytes::from(body)));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let (false, Ok(id)) = (request_id.is_empty(), HeaderValue::from_str(request_id)) {
        reply.headers_mut().insert("x-amzn-requestid", id);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_text_is_escaped_and_stays_well_formed() {
        let mut xml = Xml::default();
        xml.field("Message", "a<b>&\"c\"\u{0}\u{1}\u{ffff}d");
        assert_eq!(xml.text, "<Message>a&lt;b&gt;&amp;&quot;c&quot;d</Message>");
    }

    #[test]
    fn json_services_say_it_in_their_words() {
        let reply = fault(Dialect::Json, &Fault::access_denied("no"), "id-1");
        assert_eq!(reply.status(), 400);
        assert_eq!(reply.headers()["x-amzn-requestid"], "id-1");
    }
}
