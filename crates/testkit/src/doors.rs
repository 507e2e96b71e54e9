//! Every declared operation as a request that can be sent: the meta-tests and the page about compatibility walk through them.

#![expect(clippy::expect_used, reason = "a test's scaffold fails by panicking, as its assertions do")]

use daypass_core::documents::Declarations;
use daypass_sdk::{Declared, DeclaredOperation, Form, Operation, Part, Pattern};
use serde_json::{Map, Value, json};

use crate::{Ask, TestServer};

/// One way into the server: an operation at one of an endpoint's paths, its parameters filled with samples.
#[derive(Debug, Clone)]
pub struct Door {
    /// The mount with a slash at its end.
    pub mount: String,
    /// The type of the mount.
    pub kind: String,
    /// The number of the endpoint in its room; the status endpoints are counted from [`ALWAYS`].
    pub endpoint: usize,
    /// The pattern as it is written.
    pub pattern: &'static str,
    /// What is done.
    pub operation: Operation,
    /// The whole path with samples for its parameters, as policies see it.
    pub path: String,
    /// The path's key in the OpenAPI document.
    pub document_path: String,
    /// A body that has every field that must be there.
    pub body: Value,
    /// The names of all its fields.
    pub fields: Vec<String>,
    /// Needs no token.
    pub public: bool,
    /// Needs `sudo`.
    pub sudo: bool,
    /// It is a read that changes nothing.
    pub safe: bool,
    /// Answers in every state of the server.
    pub always: bool,
    /// What is around its answers.
    pub form: Form,
}

/// Where the numbers of the status endpoints begin: they stand at `sys/` with the others and are another room.
pub const ALWAYS: usize = 1_000;

/// Values for the parameters of paths, where not any word will do: path pattern (empty: all), parameter, value.
const SAMPLES: [(&str, &str, &str); 3] = [
    ("internal/ui/mounts/{path..}", "path", "cubbyhole"),
    ("plugins/catalog/{kind}/?", "kind", "secret"),
    ("plugins/catalog/{kind}/{name:any}", "kind", "secret"),
];

/// Stands for any name.
const SAMPLE: &str = "sample";

impl Door {
    /// The request, with the root token. What it is about is there.
    pub async fn ask(&self, server: &TestServer) -> Ask {
        furnish(server, &self.path).await;
        match self.operation {
            Operation::Create | Operation::Update => server.put(&self.path, self.body.clone()),
            Operation::Delete => server.delete(&self.path),
            Operation::Header => server.ask("HEAD", &self.path),
            Operation::Help => server.ask("HELP", &self.path),
            Operation::List => server.list(&self.path),
            Operation::Patch => server.patch(&self.path, self.body.clone()),
            Operation::Read => server.get(&self.path),
        }
    }

    /// The method's key in the OpenAPI document.
    #[must_use]
    pub fn document_method(&self) -> &'static str {
        match self.operation {
            Operation::Create | Operation::Update => "post",
            Operation::Delete => "delete",
            Operation::Header => "head",
            Operation::Help | Operation::List | Operation::Read => "get",
            Operation::Patch => "patch",
        }
    }
}

/// A server with a mount of every type that can be mounted: `x-TYPE/`, `auth/x-TYPE/`, and `x-kv-2/`.
pub async fn every_mount() -> TestServer {
    let server = TestServer::start().await;
    let catalog = server.get("sys/plugins/catalog").await.ok();
    for (class, place) in [("secret", "mounts"), ("auth", "auth")] {
        for kind in catalog.body.pointer(&format!("/data/{class}")).and_then(Value::as_array).into_iter().flatten() {
            let kind = kind.as_str().unwrap_or_default();
            server.put(&format!("sys/{place}/x-{kind}"), json!({ "type": kind })).await.ok();
        }
    }
    server.put("sys/mounts/x-kv-2", json!({ "type": "kv", "options": { "version": "2" } })).await.ok();
    server
}

/// Makes what the samples of a path are about, where an endpoint answers without it as if the path did not exist.
pub(crate) async fn furnish(server: &TestServer, path: &str) {
    if path.starts_with("auth/x-approle/role/") {
        server.put("auth/x-approle/role/sample", json!({ "token_policies": "default" })).await.ok();
    }
}

/// Every declared operation at every path of its endpoint, but for paths that another endpoint takes.
#[must_use]
pub fn doors(server: &TestServer) -> Vec<Door> {
    let mut doors = Vec::new();
    for declarations in server.core().declarations().expect("the server is unsealed") {
        for (number, endpoint) in declarations.endpoints.iter().enumerate() {
            for pattern in &endpoint.patterns {
                for operation in &endpoint.operations {
                    doors.extend(through(&declarations, number, endpoint, pattern, operation));
                }
            }
        }
    }
    doors
}

fn through(declarations: &Declarations, number: usize, endpoint: &Declared, pattern: &Pattern, operation: &DeclaredOperation) -> Vec<Door> {
    let door = |written: String| Door {
        mount: declarations.mount.clone(),
        kind: declarations.kind.clone(),
        endpoint: if declarations.always { ALWAYS + number } else { number },
        pattern: pattern.text(),
        operation: operation.operation,
        path: format!("{}{}", declarations.mount, filled(pattern, &written)),
        document_path: format!("/{}{written}", declarations.mount),
        body: body(&operation.fields, pattern),
        fields: operation.fields.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        public: endpoint.public,
        sudo: endpoint.sudo,
        safe: endpoint.safe && !operation.operation.writes(),
        always: declarations.always,
        form: endpoint.form,
    };
    let written = pattern.written(operation.operation == Operation::List).into_iter();
    written.filter(|written| declarations.leads_to(&filled(pattern, written)) == Some(number)).map(door).collect()
}

/// The path with samples for its parameters.
fn filled(pattern: &Pattern, written: &str) -> String {
    let mut path = written.to_owned();
    for part in pattern.parts() {
        let (Part::Name(name) | Part::NameWithAt(name) | Part::Any(name) | Part::Greedy(name) | Part::GreedyOrNothing(name)) = part else {
            continue;
        };
        let special = SAMPLES.iter().find(|(where_to, parameter, _)| *where_to == pattern.text() && parameter == name);
        path = path.replace(&format!("{{{name}}}"), special.map_or(SAMPLE, |(_, _, value)| value));
    }
    path
}

/// The fields that must be there, with something of their type.
fn body(fields: &Value, pattern: &Pattern) -> Value {
    let captured: Vec<&str> = pattern.names().collect();
    let required = fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut body = Map::new();
    for name in required.filter(|name| !captured.contains(name)) {
        let kind = fields.pointer(&format!("/properties/{name}/type")).and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
        let value = match kind {
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([SAMPLE]),
            Some("object") => json!({}),
            _ => json!(SAMPLE),
        };
        body.insert(name.to_owned(), value);
    }
    // An empty object, so that a body is there: endpoints of the caller's own data refuse to store nothing.
    if body.is_empty() && fields.get("properties").is_none() {
        body.insert("sample".to_owned(), json!("value"));
    }
    body.into()
}
