//! `sys/policies/explain`: why a token may do something or not. Ours alone; Vault has nothing like it.
//!
//! Says what the judge says, from the same compiled rules, and why: the rule that counts with policy and line, what it lacks, and which
//! other rules match and by which rule of precedence they lost. Only for questions that policy allows it tells whether a path is protected
//! for root, reads texts as lists or is another way to what is denied elsewhere: that depends on what is mounted, which strangers do not learn.

use std::sync::Arc;

use daypass_base::lenient::CommaList;
use daypass_base::{Brief, Secret};
use daypass_policy::{Acl, Explanation, Question, Rule};
use daypass_sdk::{Cx, Endpoint, Error, Kind, Operation, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sys;
use super::internal::presented_token;
use crate::logins::normal_policies;
use crate::node::Unsealed;
use crate::stages::identify::invalid_token;
use crate::stages::judge::policy_operation;
use crate::tokens::TokenRow;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    let help = "Answers allowed, reason and remark; rule: the pattern that counts, with the policies, lines and capabilities that make it up; \
                others: patterns that match and do not count, and why. Nothing is done on the path. It shows rules of policies to whoever may \
                call it.";
    vec![
        Endpoint::at(["policies/explain"])
            .summary("Explain why a token, an accessor or a set of policies may do something or not.")
            .help(help)
            .on(Operation::Update, of_others),
        Endpoint::at(["policies/explain-self"])
            .summary("Explain why the calling token may do something or not.")
            .help(help)
            .public()
            .on(Operation::Update, of_caller),
    ]
}

/// Whom to explain, and the request in question.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfOthers {
    /// The token. One of `token`, `accessor` and `policies` says whom to explain.
    #[serde(default)]
    token: Secret<String>,
    /// The accessor of the token.
    #[serde(default)]
    accessor: String,
    /// Names of policies, as if a token had them.
    #[serde(default)]
    policies: CommaList,
    /// The path of the request, without `v1/`.
    #[serde(default)]
    path: String,
    /// What it wants to do: create, read, update, patch, delete or list; read when left out.
    #[serde(default)]
    operation: String,
    /// What it sends.
    #[serde(default)]
    parameters: Map<String, Value>,
    /// How long its answer is to be wrapped, in seconds or as a duration.
    wrap_ttl: Option<Seconds>,
}

/// The request in question.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfCaller {
    /// The path of the request, without `v1/`.
    #[serde(default)]
    path: String,
    /// What it wants to do: create, read, update, patch, delete or list; read when left out.
    #[serde(default)]
    operation: String,
    /// What it sends.
    #[serde(default)]
    parameters: Map<String, Value>,
    /// How long its answer is to be wrapped, in seconds or as a duration.
    wrap_ttl: Option<Seconds>,
}

/// Errors: `BadRequest` for nobody or more than one to explain, `InvalidRequest` for a token or accessor that is not valid.
async fn of_others(sys: Arc<Sys>, cx: Cx, params: OfOthers) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let given = [!params.token.is_empty(), !params.accessor.is_empty(), !params.policies.0.is_empty()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        return Err(Error::bad_request("exactly one of token, accessor and policies must be given"));
    }
    let known = if !params.token.is_empty() {
        Some(unsealed.tokens.find(&params.token).await?.0.ok_or_else(|| Error::new(Kind::InvalidRequest, "invalid token"))?)
    } else if !params.accessor.is_empty() {
        let known = unsealed.tokens.by_accessor(&params.accessor).await?;
        Some(known.ok_or_else(|| Error::new(Kind::InvalidRequest, "invalid accessor"))?)
    } else {
        None
    };
    let subject = match known {
        Some(known) => known.row,
        // A token that might be made: nobody's.
        None => crate::tokens::row(normal_policies(&params.policies.0), "auth/token/create", "", cx.clock.now()).into(),
    };
    let asked = OfCaller { path: params.path, operation: params.operation, parameters: params.parameters, wrap_ttl: params.wrap_ttl };
    explain(&unsealed, &subject, asked).await
}

/// Errors: `Denied` without a valid token, and from outside its bound networks.
async fn of_caller(sys: Arc<Sys>, cx: Cx, params: OfCaller) -> Result<Reply> {
    let (_, unsealed) = sys.way.open()?;
    let known = presented_token(&unsealed, &cx).await?.ok_or_else(invalid_token)?;
    explain(&unsealed, &known.row, params).await
}

async fn explain(unsealed: &Unsealed, subject: &TokenRow, asked: OfCaller) -> Result<Reply> {
    let path = asked.path.trim().trim_start_matches('/');
    let path = path.strip_prefix("v1/").unwrap_or(path);
    if path.is_empty() {
        return Err(Error::bad_request("path must be given: the path of the request in question, without v1/"));
    }
    let operation = operation(&asked.operation)?;
    let path = if operation == Operation::List { crate::mounts::with_slash(path) } else { path.to_owned() };
    let table = unsealed.table.load_full();
    let authority = unsealed.authority(subject, table.config_version).await?;
    let (acl, policies) = (authority.acl, crate::policies::all_policies(&subject.policies, &authority.standing.policies));
    let door = table.find(&path);
    let found = door.as_ref().and_then(|door| Some((door, door.live.engine.find(&door.below)?)));
    let (lists, others) = found.as_ref().map(|(door, found)| door.live.judged_by(found, operation)).unwrap_or_default();
    let paths = others.as_strs();
    let plain = Question {
        data: Some(&asked.parameters),
        wrap_ttl: asked.wrap_ttl,
        comma_lists: &lists,
        ..others.told(&paths, Question::new(&path, policy_operation(operation)))
    };
    let protected = found.as_ref().is_some_and(|(door, found)| door.live.engine.support(found, operation).sudo);
    let question = Question { sudo_path: protected && acl.judge(&plain).allowed, ..plain };
    let mut missing = Vec::new();
    for name in &policies {
        if !unsealed.policies.exists(name).await? {
            missing.push(name.as_str());
        }
    }
    let explained = acl.explain(&question);
    let mut data = shown(&acl, &explained);
    data.insert("path".to_owned(), json!(path));
    data.insert("operation".to_owned(), json!(question.operation.needs().map(daypass_policy::Capability::as_str)));
    data.insert("policies".to_owned(), json!(policies));
    data.insert("missing_policies".to_owned(), json!(missing));
    Ok(Reply::data(data))
}

fn shown(acl: &Acl, explained: &Explanation<'_>) -> Map<String, Value> {
    let verdict = &explained.verdict;
    let others: Vec<Value> = explained
        .others
        .iter()
        .map(|loser| {
            let mut other = rule(loser.rule);
            other.insert("lost_because".to_owned(), json!(loser.because));
            Value::Object(other)
        })
        .collect();
    let counts = verdict.rule.map(|counts| {
        let mut counts = rule(counts);
        counts.insert("counts_because".to_owned(), json!(explained.found));
        counts.insert("permits".to_owned(), verdict.rule.map_or(Value::Null, Rule::permits));
        counts
    });
    Map::from_iter([
        ("allowed".to_owned(), json!(verdict.allowed)),
        ("root".to_owned(), json!(acl.is_root())),
        ("reason".to_owned(), json!(verdict.to_string())),
        ("remark".to_owned(), json!(explained.remark)),
        ("rule".to_owned(), json!(counts)),
        ("others".to_owned(), json!(others)),
    ])
}

fn rule(rule: &Rule) -> Map<String, Value> {
    let grants: Vec<Value> = rule
        .grants()
        .iter()
        .map(|grant| json!({ "policy": grant.policy, "line": grant.line, "capabilities": grant.capabilities.names() }))
        .collect();
    Map::from_iter([("pattern".to_owned(), json!(rule.pattern())), ("policies".to_owned(), json!(grants))])
}

fn operation(word: &str) -> Result<Operation> {
    Ok(match word.trim().to_lowercase().as_str() {
        "" | "read" | "get" => Operation::Read,
        "create" => Operation::Create,
        "delete" => Operation::Delete,
        "list" => Operation::List,
        "patch" => Operation::Patch,
        "update" | "write" | "post" | "put" => Operation::Update,
        _ => {
            return Err(Error::bad_request(format!("operation {:?} is none of create, read, update, patch, delete and list", Brief(word))));
        }
    })
}
