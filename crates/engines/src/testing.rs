//! Engines under test: a mounted engine that is spoken to in HTTP's shapes, with the rules that the core has for every mount.
//!
//! Recorded answers are replayed against it. What belongs to the core alone (tokens, policies, headers) is not here.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use daypass_base::sim::{SeededEntropy, SimClock};
use daypass_sdk::sim::MemoryStorage;
use daypass_sdk::{
    Caller, Cx, Engine, Error, Input, Kind, Login, Mount, Mounted, Operation, Outcome, Reply, Request, Room, Seconds, Store,
};
use serde_json::{Map, Value, json};

/// A mounted engine with its storage and clock.
pub(crate) struct Bench {
    pub(crate) mounted: Arc<dyn Mounted>,
    pub(crate) storage: Arc<MemoryStorage>,
    pub(crate) clock: SimClock,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) mount: Mount,
    pub(crate) caller: Caller,
    pub(crate) remote: Option<std::net::IpAddr>,
    /// The certificates that the client shows.
    pub(crate) client_chain: Option<Arc<daypass_base::ClientChain>>,
    pub(crate) identity: Arc<dyn daypass_sdk::MountIdentity>,
}

/// An answer: status and body (`Null` for none).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Bench {
    pub(crate) fn new<E: Engine>(engine: E, path: &str, kind: &str) -> Self {
        Self::over(engine, path, kind, Arc::new(MemoryStorage::new()))
    }

    /// The engine over rows that exist already.
    pub(crate) fn over<E: Engine>(engine: E, path: &str, kind: &str, storage: Arc<MemoryStorage>) -> Self {
        Self {
            mounted: Arc::new(Room::<E>::new()).mount(engine),
            storage,
            clock: SimClock::default(),
            entropy: Arc::new(SeededEntropy::new(7)),
            mount: Mount {
                path: path.to_owned(),
                kind: kind.to_owned(),
                accessor: format!("{kind}_0123abcd"),
                default_lease_ttl: Seconds(2_764_800),
                max_lease_ttl: Seconds(2_764_800),
                options: BTreeMap::new(),
                token_type: "default-service".to_owned(),
            },
            caller: Caller { display_name: "token".to_owned(), client_id: "client".to_owned(), ..Caller::default() },
            remote: Some(std::net::IpAddr::from([127, 0, 0, 1])),
            client_chain: None,
            identity: Arc::new(daypass_sdk::NoIdentity),
        }
    }

    pub(crate) fn cx(&self, below: &str, operation: Operation) -> Cx {
        let request = Request {
            id: "00000000-0000-4000-8000-000000000000".to_owned(),
            path: format!("{}{below}", self.mount.path),
            below: below.to_owned(),
            operation: Some(operation),
            caller: Arc::new(self.caller.clone()),
            remote: self.remote,
            client_chain: self.client_chain.clone(),
            deadline: Duration::from_secs(90),
            ..Request::default()
        };
        Cx {
            request: Arc::new(request),
            mount: Arc::new(self.mount.clone()),
            store: Store::new(Arc::clone(&self.storage) as Arc<_>),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::clone(&self.entropy) as Arc<_>,
            identity: Arc::clone(&self.identity),
        }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// `call("PUT", "data/a", json!({..}))`; `Null` sends no body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut fields: Map<String, Value> = if let Value::Object(map) = body { map } else { Map::new() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            fields.insert(name.to_owned(), value.into());
        }
        let listing = fields.get("list").and_then(Value::as_str).is_some_and(|text| text == "true" || text == "1");
        if method == "GET" {
            fields.remove("list");
        }
        let mut below = path.to_owned();
        let operation = match method {
            "GET" if listing => Operation::List,
            "GET" => Operation::Read,
            "LIST" => Operation::List,
            "DELETE" => Operation::Delete,
            "PATCH" => Operation::Patch,
            _ => Operation::Update,
        };
        if operation == Operation::List && !below.is_empty() && !below.ends_with('/') {
            below.push('/');
        }
        if operation.writes() && operation != Operation::Delete && (below.is_empty() || below.ends_with('/')) {
            return error_answer(&Error::bad_request("cannot write to a path ending in '/'"));
        }
        match self.serve(&below, operation, fields).await {
            Ok(reply) => self.answer(operation, reply),
            Err(error) => error_answer(&error),
        }
    }

    async fn serve(&self, below: &str, mut operation: Operation, fields: Map<String, Value>) -> Result<Reply, Error> {
        let found = self.mounted.find(below).ok_or_else(Error::no_such_path)?;
        let input = Input { fields, captures: found.captures.clone() };
        if operation == Operation::Update
            && let Some(check) = self.mounted.exists(&found, self.cx(below, operation), input.clone())
            && !check.await?
        {
            operation = Operation::Create;
        }
        self.mounted.run(&found, self.cx(below, operation), operation, input).await
    }

    fn answer(&self, operation: Operation, reply: Reply) -> Answer {
        let Reply { outcome, warnings, keep_for, .. } = reply;
        let warnings = if warnings.is_empty() { Value::Null } else { json!(warnings) };
        let kind = self.mount.kind.as_str();
        match outcome {
            Outcome::Data(data) if data.is_empty() && operation == Operation::List => error_answer(&Error::not_found()),
            Outcome::Data(data) => Answer { status: 200, body: envelope(&json!(data), warnings, keep_for.0, Value::Null, kind) },
            Outcome::Missing(data) => Answer { status: 404, body: envelope(&json!(data), warnings, 0, Value::Null, "") },
            Outcome::NullData => Answer { status: 200, body: envelope(&Value::Null, warnings, 0, Value::Null, kind) },
            Outcome::Accepted if warnings.is_null() => Answer { status: 202, body: Value::Null },
            Outcome::Accepted => Answer { status: 202, body: envelope(&Value::Null, warnings, 0, Value::Null, "") },
            Outcome::Nothing => Answer { status: 204, body: Value::Null },
            Outcome::Raw(status, _, bytes) => Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) },
            Outcome::Bare(status, body) => Answer { status, body },
            Outcome::Leased(leased) => {
                let mut body = envelope(&json!(leased.data), warnings, leased.terms.ttl.0, Value::Null, kind);
                body["lease_id"] = "<lease id>".into();
                Answer { status: 200, body }
            }
            Outcome::Login(login) => Answer { status: 200, body: envelope(&Value::Null, warnings, 0, self.auth(&login), "") },
            other => panic!("no engine here answers {other:?}"),
        }
    }

    /// What the core makes of a login, as far as the engine decides it.
    fn auth(&self, login: &Login) -> Value {
        let mut policies = login.policies.clone();
        if !login.no_default_policy {
            policies.push("default".to_owned());
        }
        policies.sort();
        policies.dedup();
        let batch = login.token_type == "batch";
        let ttl = [login.period, login.ttl, self.mount.default_lease_ttl].into_iter().find(|ttl| !ttl.is_zero()).unwrap_or_default();
        json!({
            "accessor": if batch { "" } else { "<id>" },
            "client_token": if batch { "<batch token>" } else { "<service token>" },
            "entity_id": "<uuid>",
            "lease_duration": ttl.0,
            "metadata": login.metadata,
            "mfa_requirement": null,
            "num_uses": login.num_uses,
            "orphan": true,
            "policies": policies,
            "renewable": login.renewable && !batch,
            "token_policies": policies,
            "token_type": if batch { "batch" } else { "service" },
        })
    }
}

fn envelope(data: &Value, warnings: Value, lease_duration: u64, auth: Value, mount_type: &str) -> Value {
    json!({
        "auth": auth, "data": data, "lease_duration": lease_duration, "lease_id": "", "mount_type": mount_type, "renewable": false,
        "request_id": "<uuid>", "warnings": warnings, "wrap_info": null,
    })
}

fn error_answer(error: &Error) -> Answer {
    let (status, wrapped) = match error.kind {
        Kind::BadRequest | Kind::Upstream => (400, false),
        Kind::Denied => (403, false),
        Kind::Failed | Kind::Internal => (500, true),
        Kind::InvalidRequest => (400, true),
        Kind::NotFound => (404, false),
        Kind::NoSuchPath => (404, true),
        Kind::TooMany => (429, false),
        Kind::UpstreamThrottled => (502, false),
        Kind::WrongOperation => (405, true),
        other => panic!("no engine here fails with {other:?}"),
    };
    if error.kind == Kind::NotFound {
        let body = if error.warnings.is_empty() {
            json!({ "errors": [] })
        } else {
            envelope(&Value::Null, json!(error.warnings), 0, Value::Null, "")
        };
        return Answer { status, body };
    }
    let mut message = String::new();
    if wrapped && !error.bare {
        write!(message, "1 error occurred:\n\t* {}\n\n", error.message).unwrap();
    } else {
        message.clone_from(&error.message);
    }
    Answer { status, body: json!({ "errors": [message] }) }
}

/// What a step of a recorded scenario sends, in the order of the recording.
pub(crate) enum Send {
    /// This body (`Null`: none), and the recorded answer must come.
    Body(Value),
    /// The step is the core's business.
    Core,
}

/// Sends the steps of a recorded scenario that go to `mount` (as recorded: `{{id}}/`) and compares status and body.
///
/// Bodies are given step by step, because a recording holds only answers. Times become `<time>` and client ids `<client id>` first.
pub(crate) async fn replay(bench: &Bench, recorded: &str, mount: &str, sends: Vec<Send>) {
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let bare = mount.trim_end_matches('/');
    let ours = |step: &&Value| {
        let (_, path) = step["do"].as_str().unwrap().split_once(' ').unwrap();
        path.starts_with(mount) || path == bare || path.starts_with(&format!("{bare}?"))
    };
    let steps: Vec<&Value> = recorded["steps"].as_array().unwrap().iter().filter(ours).collect();
    assert_eq!(steps.len(), sends.len(), "as many bodies as steps");
    for (number, (step, send)) in steps.into_iter().zip(sends).enumerate() {
        let text = step["do"].as_str().unwrap();
        let Send::Body(body) = send else { continue };
        let (method, path) = text.split_once(' ').unwrap();
        let below = path.strip_prefix(mount).or_else(|| path.strip_prefix(bare)).unwrap();
        let answer = bench.call(method, &filled(below), body).await;
        let expected = if step["body"] == json!({ "$empty": true }) { Value::Null } else { step["body"].clone() };
        let got = masked(answer.body);
        assert_eq!((json!(answer.status), &got), (step["status"].clone(), &expected), "step {number}: {text}\ngot {got:#}");
    }
}

/// `data/a?version={{v}} [9]` becomes `data/a?version=9`.
fn filled(below: &str) -> String {
    let Some((path, value)) = below.rsplit_once(" [") else { return below.to_owned() };
    let Some((start, rest)) = path.split_once("{{") else { return path.to_owned() };
    let (_, end) = rest.split_once("}}").unwrap();
    format!("{start}{}{end}", value.trim_end_matches(']'))
}

/// Replaces what differs from run to run by the recording's placeholders.
pub(crate) fn masked(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| {
                let value = match (name.as_str(), value) {
                    ("client_id", Value::String(_)) => "<client id>".into(),
                    ("keys", other) => other,
                    (_, other) => masked(other),
                };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::String(text) if is_time(&text) => "<time>".into(),
        other => other,
    }
}

fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.ends_with('Z') && text.parse::<daypass_sdk::Timestamp>().is_ok()
}
