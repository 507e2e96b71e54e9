//! One request, many inputs: reading `batch_input` and answering `batch_results`.

use daypass_base::lenient;
use daypass_sdk::{Cx, Error, Kind, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The inputs of a request.
pub(super) struct Inputs<T> {
    pub(super) items: Vec<T>,
    /// They came as a batch, and are answered as one.
    pub(super) batch: bool,
}

/// The list of inputs as it was sent.
#[derive(Debug, Deserialize)]
pub(super) struct BatchInput(Value);

impl<T: DeserializeOwned> Inputs<T> {
    /// The items of a batch, or else the request's own fields as the only one. Errors: `BadRequest`.
    pub(super) fn read(batch: Option<BatchInput>, single: impl FnOnce() -> Result<T>) -> Result<Self> {
        let Some(BatchInput(batch)) = batch.filter(|batch| !batch.0.is_null()) else {
            return Ok(Self { items: vec![single()?], batch: false });
        };
        let Value::Array(list) = batch else {
            return Err(Error::bad_request("failed to parse batch input: it must be a list of objects"));
        };
        if list.is_empty() {
            return Err(Error::bad_request("missing batch input to process"));
        }
        if list.len() > ITEMS_MAX {
            let sent = list.len();
            return Err(Error::bad_request(format!(
                "batch_input has {sent} items; at most {ITEMS_MAX} are processed at once: send them in parts"
            )));
        }
        let read = |(number, item): (usize, Value)| {
            let Value::Object(fields) = item else {
                return Err(Error::bad_request(format!("failed to parse batch input: '[{number}]' is no object")));
            };
            lenient::decode(fields).map_err(|error| {
                let text = format!("failed to parse batch input: '[{number}].{}' {}", error.field, error.detail);
                Error::bad_request(text).because(error)
            })
        };
        Ok(Self { items: list.into_iter().enumerate().map(read).collect::<Result<_>>()?, batch: true })
    }
}

/// What came of the items.
pub(super) struct Outcomes {
    pub(super) batch: bool,
    /// One for each item, in order: the fields of its answer.
    pub(super) results: Vec<Result<Map<String, Value>>>,
    /// What the items carried to be recognised by.
    pub(super) references: Vec<String>,
}

/// What the status of a batch is in which some items failed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Partial {
    /// 200: the items say it themselves.
    Fine,
    /// 400, or what the request names.
    Refused(Option<i64>),
}

impl Outcomes {
    /// The answer. Errors: the only item's own, or `Internal` when one of a batch failed for no fault of its own.
    pub(super) fn answer(self, cx: &Cx, partial: Partial, empty: &Map<String, Value>) -> Result<Reply> {
        if !self.batch {
            let only = self.results.into_iter().next().unwrap_or_else(|| Err(Error::internal("a request has one input")));
            return only.map(Reply::data);
        }
        let (mut failed, mut worked) = (false, false);
        let mut shown = Vec::with_capacity(self.results.len());
        for (result, reference) in self.results.into_iter().zip(self.references) {
            let mut item = match result {
                Ok(fields) => {
                    worked = true;
                    fields
                }
                Err(error) if error.kind == Kind::BadRequest => {
                    failed = true;
                    let mut fields = empty.clone();
                    fields.insert("error".to_owned(), error.message.into());
                    fields
                }
                Err(error) => return Err(error),
            };
            item.insert("reference".to_owned(), reference.into());
            shown.push(Value::Object(item));
        }
        let data = Map::from_iter([("batch_results".to_owned(), Value::Array(shown))]);
        match partial {
            // What is to be wrapped must never be shown instead; only a plain answer is wrapped.
            Partial::Refused(wanted) if failed && cx.request.wrap_ttl.is_none() => Ok(refused(cx, data, wanted.filter(|_| worked))),
            _ => Ok(Reply::data(data)),
        }
    }
}

/// A whole answer with another status than 200; such answers name no mount type.
fn refused(cx: &Cx, data: Map<String, Value>, wanted: Option<i64>) -> Reply {
    let mut warnings = Value::Null;
    let mut status = 400;
    match wanted.map(|wanted| (wanted, u16::try_from(wanted))) {
        Some((_, Ok(code @ 200..=599))) => status = code,
        Some((0, _)) | None => {}
        Some((wanted, _)) => {
            warnings =
                json!([format!("invalid HTTP response code override from partial_failure_response_code: {wanted}; it must be 200 to 599")]);
        }
    }
    let body = json!({
        "auth": null, "data": data, "lease_duration": 0, "lease_id": "", "mount_type": "", "renewable": false,
        "request_id": cx.request.id, "warnings": warnings, "wrap_info": null,
    });
    Outcome::Bare(status, body).into()
}

impl JsonSchema for BatchInput {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BatchInput".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "array", "items": { "type": "object" } })
    }
}

/// Items of one batch.
pub(super) const ITEMS_MAX: usize = 2_000;
