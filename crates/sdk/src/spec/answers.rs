//! What answers look like, for OpenAPI: the envelope, refusals, and which statuses an operation can have.

use serde_json::{Map, Value, json};

use crate::{Declared, DeclaredOperation, Form, Operation, Part, Shape};

/// Every status that an operation can be answered with.
pub(super) fn responses(endpoint: &Declared, operation: &DeclaredOperation) -> Value {
    let mut out = successes(endpoint, operation);
    let mut refuse = |status: u16, name: &str| drop(out.insert(status.to_string(), refer("responses", name)));
    refuse(400, "BadRequest");
    refuse(403, "Forbidden");
    refuse(404, "NotFound");
    refuse(405, "WrongOperation");
    refuse(429, "TooMany");
    refuse(500, "Failed");
    refuse(502, "UpstreamThrottled");
    refuse(503, "NotServing");
    if matches!(operation.operation, Operation::Create | Operation::Update | Operation::Patch) {
        refuse(413, "TooLarge");
    }
    if operation.operation == Operation::Patch {
        refuse(415, "WrongType");
    }
    let captures = |part: &Part| !matches!(part, Part::Literal(_));
    if endpoint.patterns.iter().any(|pattern| pattern.parts().iter().any(captures)) {
        refuse(307, "CleanPath");
    }
    if endpoint.form == Form::AnyStatus {
        out.insert("default".to_owned(), bare("A status of the client's choice."));
    }
    out.into()
}

fn successes(endpoint: &Declared, operation: &DeclaredOperation) -> Map<String, Value> {
    let mut out = Map::new();
    if operation.operation == Operation::Header {
        out.insert("200".to_owned(), json!({ "description": "What the GET would say, without a body." }));
        return out;
    }
    let whole = match (endpoint.form, operation.shape) {
        (Form::AnyStatus | Form::Bare, _) => bare("Bare JSON, without the envelope."),
        (Form::Text(kind), _) => json!({
            "description": "Bare JSON, or text.",
            "content": { "application/json": { "schema": {} }, kind: { "schema": { "type": "string" } } },
        }),
        (Form::Envelope, Shape::Any | Shape::Data | Shape::Nothing) => refer("responses", "Success"),
        (Form::Envelope, Shape::Keys) => refer("responses", "Names"),
        (Form::Envelope, Shape::Leased) => refer("responses", "Leased"),
        (Form::Envelope, Shape::Login) => refer("responses", "LoggedIn"),
    };
    if operation.shape != Shape::Nothing {
        out.insert("200".to_owned(), whole);
    }
    if operation.shape == Shape::Any && endpoint.form == Form::Envelope {
        out.insert("202".to_owned(), json!({ "description": "Begun; it goes on by itself." }));
    }
    if matches!(operation.shape, Shape::Any | Shape::Nothing) {
        out.insert("204".to_owned(), json!({ "description": "Done; there is nothing to say." }));
    }
    out
}

fn bare(description: &str) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": { "type": "object" } } } })
}

fn refer(group: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{group}/{name}") })
}

/// What the path items refer to.
pub(super) fn components() -> Value {
    json!({
        "schemas": {
            "Auth": auth(),
            "Envelope": envelope(&[]),
            "Errors": errors(),
            "LeasedEnvelope": envelope(&[("data", json!({ "type": "object", "nullable": true, "additionalProperties": true,
                "description": "The secret." }))]),
            "LoginEnvelope": envelope(&[("auth", json!({ "allOf": [refer("schemas", "Auth")], "nullable": true }))]),
            "NamesEnvelope": envelope(&[("data", json!({
                "type": "object", "nullable": true, "additionalProperties": true,
                "properties": { "keys": { "type": "array", "items": { "type": "string" }, "description": "The names." } },
            }))]),
            "WrapInfo": wrap_info(),
        },
        "responses": refusals(),
        "securitySchemes": {
            "token": { "type": "apiKey", "in": "header", "name": "X-Vault-Token", "description": "A token of this server." },
            "bearer": { "type": "http", "scheme": "bearer", "description": "The same token." },
        },
    })
}

fn refusals() -> Value {
    let json_of =
        |description: &str, schema: Value| json!({ "description": description, "content": { "application/json": { "schema": schema } } });
    let refusal = |description: &str| json_of(description, refer("schemas", "Errors"));
    let success = |description: &str, name: &str| json_of(description, refer("schemas", name));
    let text = json!({ "schema": { "type": "string" } });
    let mut bad = refusal("The request is wrong; the text says how.");
    if let Some(content) = bad.get_mut("content").and_then(Value::as_object_mut) {
        content.insert("text/plain; charset=utf-8".to_owned(), text.clone());
    }
    json!({
        "Success": success("The answer in its envelope.", "Envelope"),
        "Names": success("Names in the envelope.", "NamesEnvelope"),
        "Leased": success("A secret with its lease.", "LeasedEnvelope"),
        "LoggedIn": success("A token.", "LoginEnvelope"),
        "CleanPath": {
            "description": "The path is not clean: ask for the one in `Location`.",
            "content": { "text/html; charset=utf-8": text },
        },
        "BadRequest": bad,
        "Forbidden": refusal("No token, a wrong one, or policy forbids it."),
        "NotFound": json_of("Nothing is there, or there is no such path.",
            json!({ "anyOf": [refer("schemas", "Errors"), refer("schemas", "Envelope")] })),
        "WrongOperation": refusal("The path does not take this operation."),
        "TooLarge": refusal("The body is over the limit."),
        "WrongType": refusal("A PATCH needs the content type `application/merge-patch+json`."),
        "TooMany": refusal("Over a quota or a rate: try again later."),
        "Failed": refusal("The work failed; the text says why, or names the request in the server's log."),
        "UpstreamThrottled": refusal("AWS asks for fewer calls: try again later."),
        "NotServing": refusal("The server is sealed, full or overloaded."),
    })
}

fn errors() -> Value {
    json!({
        "type": "object",
        "description": "What was wrong. A 404 for something that is not there has no text.",
        "required": ["errors"],
        "properties": {
            "errors": { "type": "array", "items": { "type": "string" } },
            "data": { "description": "Rarely: data beside the text.", "nullable": true },
        },
    })
}

/// The nine keys that every success has, with some of them told in more detail.
fn envelope(details: &[(&str, Value)]) -> Value {
    let mut properties = Map::new();
    let mut has = |name: &str, schema: Value| drop(properties.insert(name.to_owned(), schema));
    has("request_id", json!({ "type": "string", "description": "Names the request in the audit log." }));
    has("lease_id", json!({ "type": "string", "description": "The lease; empty without one." }));
    has("renewable", json!({ "type": "boolean", "description": "Whether the lease can be renewed." }));
    has("lease_duration", json!({ "type": "integer", "description": "Seconds that the lease lasts.", "x-daypass-unit": "seconds" }));
    has("data", json!({ "type": "object", "nullable": true, "additionalProperties": true, "description": "The answer itself." }));
    has("wrap_info", json!({ "allOf": [refer("schemas", "WrapInfo")], "nullable": true }));
    has("warnings", json!({ "type": "array", "nullable": true, "items": { "type": "string" }, "description": "Remarks for the reader." }));
    has("auth", json!({ "allOf": [refer("schemas", "Auth")], "nullable": true }));
    has("mount_type", json!({ "type": "string", "description": "The type of the mount that answered." }));
    for (name, schema) in details {
        has(name, schema.clone());
    }
    let required: Vec<&String> = properties.keys().collect();
    json!({ "type": "object", "description": "What is around every success.", "required": required, "properties": properties })
}

fn auth() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let texts = |about: &str| json!({ "type": "array", "items": { "type": "string" }, "description": about });
    let whole = |about: &str| json!({ "type": "integer", "description": about });
    json!({
        "type": "object",
        "description": "A token.",
        "required": ["client_token", "accessor", "policies", "lease_duration", "renewable", "token_type"],
        "properties": {
            "client_token": text("The token."),
            "accessor": text("Names the token without giving its rights."),
            "policies": texts("All policies in force."),
            "token_policies": texts("Those of the token itself."),
            "identity_policies": texts("Those of its entity."),
            "metadata": { "type": "object", "nullable": true, "additionalProperties": { "type": "string" }, "description": "What the login proved." },
            "lease_duration": whole("Seconds that the token lasts."),
            "renewable": { "type": "boolean", "description": "Whether it can be renewed." },
            "entity_id": text("The entity, or empty."),
            "token_type": text("`service` or `batch`."),
            "orphan": { "type": "boolean", "description": "Whether it outlives the token that made it." },
            "mfa_requirement": { "description": "Always null.", "nullable": true },
            "num_uses": whole("Requests it is good for; 0 is without limit."),
        },
    })
}

fn wrap_info() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({
        "type": "object",
        "description": "Where the real answer was put.",
        "required": ["token", "ttl", "creation_time", "creation_path"],
        "properties": {
            "token": text("The wrapping token."),
            "accessor": text("The accessor of the wrapping token."),
            "ttl": { "type": "integer", "description": "Seconds until it ends." },
            "creation_time": { "type": "string", "format": "date-time", "description": "When it was made." },
            "creation_path": text("The path whose answer it holds."),
            "wrapped_accessor": text("The accessor of the token inside, if there is one."),
        },
    })
}
