//! An endpoint, declared once: path, fields, operations. Routing, validation, warnings, help and OpenAPI come from it.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use daypass_base::{BoxFuture, Brief, brief, lenient};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::declared::{Declared, DeclaredOperation, Form, Shape};
use crate::path::{Captures, Pattern};
use crate::reply::Answer;
use crate::{Cx, Error, Operation, Outcome, Reply, Result};

/// The fields of a request before they are read: the body or the query, and what the path captured.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Body fields of writes, query fields of reads, lists and deletes.
    pub fields: Map<String, Value>,
    /// What the path captured; it wins over the body.
    pub captures: Captures,
}

/// One path (or several names of it) and what can be done there.
pub struct Endpoint<E> {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) stands_for: Vec<Pattern>,
    pub(crate) apart: &'static [&'static str],
    pub(crate) alike: &'static [Operation],
    pub(crate) vaults: Option<&'static str>,
    pub(crate) summary: &'static str,
    pub(crate) help: &'static str,
    pub(crate) actions: Vec<Action<E>>,
    exists: Option<Handler<E, bool>>,
    body_apart: bool,
    pub(crate) public: bool,
    pub(crate) on_proof: bool,
    pub(crate) own_token: bool,
    pub(crate) sudo: bool,
    pub(crate) deprecated: Option<&'static str>,
    pub(crate) for_aws_sdks: bool,
    pub(crate) unhurried: bool,
    pub(crate) safe: bool,
    pub(crate) form: Form,
}

pub(crate) struct Action<E> {
    pub(crate) operation: Operation,
    handler: Handler<E, Reply>,
    pub(crate) params: Params,
    shape: Shape,
}

type Handler<E, T> = Box<dyn Fn(Arc<E>, Cx, Map<String, Value>) -> BoxFuture<'static, Result<T>> + Send + Sync>;

/// The schema of an action's fields, made when first asked for: start-up does not pay for documentation.
pub(crate) struct Params {
    make: fn() -> Schema,
    schema: OnceLock<Schema>,
    known: OnceLock<(BTreeSet<String>, bool)>,
    comma_lists: OnceLock<Vec<String>>,
}

impl<E: Send + Sync + 'static> Endpoint<E> {
    /// An endpoint at these patterns (see [`Pattern`]); the first is its name in documents.
    #[must_use]
    pub fn at(patterns: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            patterns: patterns.into_iter().map(Pattern::new).collect(),
            stands_for: Vec::new(),
            apart: &[],
            alike: &[],
            summary: "",
            help: "",
            vaults: None,
            actions: Vec::new(),
            exists: None,
            body_apart: false,
            public: false,
            on_proof: false,
            own_token: false,
            sudo: false,
            deprecated: None,
            for_aws_sdks: false,
            unhurried: false,
            safe: false,
            form: Form::Envelope,
        }
    }

    /// Other paths of the room to the same thing, filled in with the captures of this one. Policies may have been written for those alone, so
    /// what is denied there is denied here too, and what a rule for one of them demands of a request is demanded here. What a narrower rule for one of them
    /// takes away of what is granted for both, it takes away here.
    /// For paths that Vault does not have; where Vault has both, policies judge each by itself, as Vault's do.
    #[must_use]
    pub fn stands_for(mut self, patterns: impl IntoIterator<Item = &'static str>) -> Self {
        self.stands_for = patterns.into_iter().map(Pattern::new).collect();
        self
    }

    /// Each of its own paths stands for the others: see [`Self::stands_for`]. `vaults` is the one of them that Vault has: there a capability is taken away only
    /// by a rule of exactly one of the others.
    #[must_use]
    pub fn judged_as_one(mut self, vaults: &'static str) -> Self {
        self.vaults = Some(vaults);
        self.stands_for.clone_from(&self.patterns);
        self
    }

    /// Names of fields that mean nothing at the paths that this one stands for: what rules for those say of parameters is not about them.
    #[must_use]
    pub fn apart(mut self, fields: &'static [&'static str]) -> Self {
        self.apart = fields;
        self
    }

    /// Operations that all do the same at the paths that this one stands for: a right to one of them is enough there, and where a rule grants none of them
    /// there, none is allowed here. Every other operation is a right of its own.
    #[must_use]
    pub fn alike(mut self, operations: &'static [Operation]) -> Self {
        self.alike = operations;
        self
    }

    /// One sentence for lists and OpenAPI.
    #[must_use]
    pub fn summary(mut self, text: &'static str) -> Self {
        self.summary = text;
        self
    }

    /// The page that `path-help` prints.
    #[must_use]
    pub fn help(mut self, text: &'static str) -> Self {
        self.help = text;
        self
    }

    /// What an operation does. `Update` also serves `Create` unless that is declared itself.
    #[must_use]
    pub fn on<P, R, F, Fut>(mut self, operation: Operation, handler: F) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        R: Answer,
        F: Fn(Arc<E>, Cx, P) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R>> + Send + 'static,
    {
        let handler: Handler<E, Reply> = Box::new(move |engine, cx, fields| {
            let decoded = lenient::decode::<P>(fields);
            let params = match decoded.map_err(|error| Error::bad_request(format!("Field validation failed: {error}"))) {
                Ok(params) => params,
                Err(error) => return Box::pin(std::future::ready(Err(error))),
            };
            // The handler's future is made where it is awaited: made outside and moved in, it would be kept several times over.
            let handler = handler.clone();
            Box::pin(async move { handler(engine, cx, params).await.map(Into::into) })
        });
        let params = Params { make: schema_of::<P>, schema: OnceLock::new(), known: OnceLock::new(), comma_lists: OnceLock::new() };
        self.actions.push(Action { operation, handler, params, shape: R::SHAPE });
        self
    }

    /// Tells whether the thing exists already, so that a write is `create` or `update`. Without it every write is `update`.
    #[must_use]
    pub fn exists<P, F, Fut>(mut self, check: F) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Arc<E>, Cx, P) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<bool>> + Send + 'static,
    {
        self.exists = Some(Box::new(move |engine, cx, fields| {
            let params = match lenient::decode::<P>(fields).map_err(|error| Error::bad_request(error.to_string())) {
                Ok(params) => params,
                Err(error) => return Box::pin(std::future::ready(Err(error))),
            };
            let check = check.clone();
            Box::pin(async move { check(engine, cx, params).await })
        }));
        self
    }

    /// The body is the caller's own data, of which nothing may be lost (KV v1, cubbyhole): what the path captured is not put into it.
    /// Handlers take the whole body and read the path from [`crate::Request::below`].
    #[must_use]
    pub fn body_apart(mut self) -> Self {
        self.body_apart = true;
        self
    }

    /// Needs no token: logins and status pages.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Needs no token but a proof of another kind: what a login presents, or a wrapping token. Nothing is answered well without it, so that what
    /// is may be put away under a wrapping token for whoever shows no token: of other public endpoints that would be a row for any stranger.
    #[must_use]
    pub fn on_proof(mut self) -> Self {
        self.on_proof = true;
        self.public()
    }

    /// Needs no more than the token that it is about, where that is the presented one: then the handler looks at it, and nothing is spent
    /// before. About another, named in the field `token`, the caller is judged as everywhere.
    #[must_use]
    pub fn own_token(mut self) -> Self {
        self.own_token = true;
        self
    }

    /// Needs the `sudo` capability besides the operation's own.
    #[must_use]
    pub fn sudo(mut self) -> Self {
        self.sudo = true;
        self
    }

    /// Still works; documents say what to use instead.
    #[must_use]
    pub fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }

    /// Successes are JSON without the envelope. Clients that want them wrapped get them as they are, so nothing secret may be in them, or
    /// the handler refuses such clients.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.form = Form::Bare;
        self
    }

    /// AWS's SDKs read it as a container's credentials endpoint: answers are bare JSON, refusals have `code` and `message`, and a token is
    /// taken from `Authorization` without `Bearer` before it.
    #[must_use]
    pub fn for_aws_sdks(mut self) -> Self {
        self.for_aws_sdks = true;
        self.bare()
    }

    /// Its work may take longer than a request otherwise may: it has an end of its own, with what it works on or with its client.
    #[must_use]
    pub fn unhurried(mut self) -> Self {
        self.unhurried = true;
        self
    }

    /// Reading and listing here changes nothing, in this server or anywhere else (RFC 9110, 9.2.1). An audit device then need not have
    /// the request before the work begins, only before the answer leaves.
    #[must_use]
    pub fn safe(mut self) -> Self {
        self.safe = true;
        self
    }

    /// Successes are bare JSON, or a body of this content type. As with [`Self::bare`], they are not wrapped.
    #[must_use]
    pub fn text(mut self, kind: &'static str) -> Self {
        self.form = Form::Text(kind);
        self
    }

    /// The client chooses the statuses of bare answers.
    #[must_use]
    pub fn any_status(mut self) -> Self {
        self.form = Form::AnyStatus;
        self
    }

    /// What is declared, without the code.
    pub(crate) fn declared(&self) -> Declared {
        let operation = |action: &Action<E>| DeclaredOperation {
            operation: action.operation,
            fields: action.params.schema().clone().to_value(),
            shape: action.shape,
        };
        Declared {
            patterns: self.patterns.clone(),
            stands_for: self.stands_for.clone(),
            summary: self.summary,
            help: self.help,
            public: self.public,
            sudo: self.sudo,
            safe: self.safe,
            existence_check: self.exists.is_some(),
            deprecated: self.deprecated,
            form: self.form,
            operations: self.actions.iter().map(operation).collect(),
        }
    }

    pub(crate) fn action(&self, operation: Operation) -> Option<&Action<E>> {
        let exact = self.actions.iter().find(|action| action.operation == operation);
        match operation {
            Operation::Create => exact.or_else(|| self.actions.iter().find(|action| action.operation == Operation::Update)),
            Operation::Update => exact.or_else(|| self.actions.iter().find(|action| action.operation == Operation::Create)),
            _ => exact,
        }
    }

    fn merged(&self, input: Input) -> (Map<String, Value>, Vec<String>) {
        if self.body_apart { (input.fields, Vec::new()) } else { merged(input) }
    }

    pub(crate) fn has_existence_check(&self) -> bool {
        self.exists.is_some()
    }

    pub(crate) fn check_exists(&self, engine: Arc<E>, cx: Cx, input: Input) -> Option<BoxFuture<'static, Result<bool>>> {
        let check = self.exists.as_ref()?;
        Some(check(engine, cx, self.merged(input).0))
    }

    pub(crate) fn run(&self, engine: Arc<E>, cx: Cx, operation: Operation, input: Input) -> BoxFuture<'static, Result<Reply>> {
        let Some(action) = self.action(operation) else {
            return Box::pin(std::future::ready(Err(Error::wrong_operation())));
        };
        let ignored = action.params.ignored(&input);
        let (fields, replaced) = self.merged(input);
        let remarks: Vec<String> = ignored.into_iter().chain(action.params.replaced(&replaced)).collect();
        let future = (action.handler)(engine, cx, fields);
        if remarks.is_empty() {
            return future;
        }
        Box::pin(async move {
            let mut reply = future.await?;
            if reply.has_envelope() && !matches!(reply.outcome, Outcome::Accepted) {
                reply.warnings.extend(remarks);
            }
            Ok(reply)
        })
    }
}

impl Params {
    pub(crate) fn schema(&self) -> &Schema {
        self.schema.get_or_init(self.make)
    }

    /// Names, in lower case, of the fields that read a text as a list.
    pub(crate) fn comma_lists(&self) -> &[String] {
        self.comma_lists.get_or_init(|| {
            let schema = self.schema();
            let is_list = |field: &Value| {
                let own = |field: &Value| field.get("x-daypass-list").is_some();
                own(field) || field.get("anyOf").and_then(Value::as_array).is_some_and(|any| any.iter().any(own))
            };
            let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            fields.filter(|(_, field)| is_list(field)).map(|(name, _)| name.to_lowercase()).collect()
        })
    }

    /// Names of the fields, and whether any other field is taken too.
    fn known(&self) -> &(BTreeSet<String>, bool) {
        self.known.get_or_init(|| {
            let schema = self.schema();
            let names = schema.get("properties").and_then(Value::as_object).map(|map| map.keys().cloned().collect()).unwrap_or_default();
            let open = schema.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
            (names, open)
        })
    }

    /// Of names that were sent and that no field has. No more of them is kept than is told: they may be as long as the whole request.
    fn ignored(&self, input: &Input) -> Option<String> {
        let (known, open) = self.known();
        let captured = |name: &String| input.captures.iter().any(|(captured, _)| captured == name);
        let mut unknown: Vec<&String> = input.fields.keys().filter(|name| !open && !known.contains(*name) && !captured(name)).collect();
        if unknown.is_empty() {
            return None;
        }
        unknown.sort_unstable();
        let unknown: Vec<String> = unknown.into_iter().map(|name| Brief(name).to_string()).collect();
        Some(brief::cut(format!("Endpoint ignored these unrecognized parameters: [{}]", unknown.join(" "))))
    }

    /// Of fields that the path decides.
    fn replaced(&self, names: &[String]) -> Option<String> {
        let told = !self.known().1 && !names.is_empty();
        told.then(|| {
            let text = "Endpoint replaced the value of these parameters with the values captured from the endpoint's path";
            format!("{text}: [{}]", names.join(" "))
        })
    }
}

/// Body and captures in one; also the names that the path took over the body's.
fn merged(input: Input) -> (Map<String, Value>, Vec<String>) {
    let mut fields = input.fields;
    let mut replaced = Vec::new();
    for (name, value) in input.captures {
        if fields.insert(name.to_owned(), Value::String(value)).is_some() {
            replaced.push(name.to_owned());
        }
    }
    replaced.sort_unstable();
    (fields, replaced)
}

fn schema_of<P: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator().into_root_schema_for::<P>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_path_captured_takes_the_place_of_the_bodys() {
        let Value::Object(fields) = json!({ "name": "other", "ttl": 5, "path": ["x"] }) else { unreachable!() };
        let captures = vec![("path", "a/b".to_owned()), ("name", "one".to_owned()), ("version", "2".to_owned())];
        let (fields, replaced) = merged(Input { fields, captures });
        assert_eq!(Value::Object(fields), json!({ "name": "one", "ttl": 5, "path": "a/b", "version": "2" }));
        assert_eq!(replaced, ["name", "path"]);
    }
}
