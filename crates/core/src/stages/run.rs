//! Run engine: the handler does its work, if there is one for the path.

use std::sync::Arc;

use daypass_sdk::{Error, Input, Kind, Operation, Outcome, Page, Reply, Result};
use serde_json::{Map, Value, json};

use crate::documents;
use crate::lockout;
use crate::node::{Inner, Unsealed};
use crate::stages::door::Routed;
use crate::stages::judge::Judged;
use crate::stages::parse::Parsed;
use crate::stages::record::Recorded;

/// What a handler answered.
pub(crate) struct Ran {
    pub(crate) reply: Reply,
    pub(crate) operation: Operation,
    _proof: (),
}

/// Errors: whatever the handler says, and the texts for paths that lead nowhere.
pub(crate) async fn run(
    inner: &Arc<Inner>,
    unsealed: &Unsealed,
    parsed: &Parsed,
    routed: &Routed,
    judged: Judged,
    _recorded: &Recorded,
) -> Result<Ran> {
    let Judged { operation, cx, .. } = judged;
    let (Some(live), Some(cx)) = (&routed.live, cx) else {
        return Err(Error::new(Kind::NoSuchPath, format!("no handler for route \"{}\". route entry not found.", parsed.path)));
    };
    if operation == Operation::Help {
        let help = documents::help(inner, live, &routed.below).ok_or_else(Error::no_such_path)?;
        let reply = Reply::from(Outcome::Bare(200, json!({ "help": help.0, "see_also": null, "openapi": help.1 })));
        return Ok(Ran { reply, operation, _proof: () });
    }
    if parsed.path.ends_with('/') && matches!(operation, Operation::Create | Operation::Update | Operation::Patch) {
        return Err(Error::bad_request("cannot write to a path ending in '/'"));
    }
    let Some(found) = &routed.found else { return Err(Error::no_such_path()) };
    if !live.engine.support(found, operation).operation {
        return Err(Error::wrong_operation());
    }
    let alias = login_alias(parsed, routed, operation);
    let rules = lockout::in_force(live.row.config.user_lockout);
    let input = Input { fields: parsed.fields.clone(), captures: found.captures.clone() };
    let limit = inner.settings.limits.request_seconds.duration();
    let from = cx.request.remote;
    let work = async {
        let _counted = match &alias {
            Some(alias) => unsealed.lockouts.begin(&live.row.accessor, alias, rules, from, &*inner.clock).await?,
            None => None,
        };
        let reply = live.engine.run(found, cx, operation, input).await;
        if let Some(alias) = &alias {
            match &reply {
                Ok(_) => unsealed.lockouts.succeeded(&live.row.accessor, alias),
                Err(error) if error.wrong_credentials => unsealed.lockouts.failed(&live.row.accessor, alias, rules, inner.clock.elapsed()),
                Err(_) => {}
            }
        }
        reply
    };
    let reply = tokio::select! {
        reply = work => reply,
        () = inner.clock.sleep(limit), if !routed.support.unhurried => {
            // Go's words first: they are what Vault's clients search for.
            let text = format!("context deadline exceeded: the request took longer than {} seconds and was given up", limit.as_secs());
            return Err(Error::failed(text));
        }
    };
    let mut reply = reply?;
    if let (Operation::List, Outcome::Data(data)) = (operation, &mut reply.outcome) {
        cut(data, &parsed.page);
    }
    Ok(Ran { reply, operation, _proof: () })
}

/// Leaves the part of a list that was asked for. Engines with long lists read no more than that anyway; this is for all others.
fn cut(data: &mut Map<String, Value>, page: &Page) {
    if page.is_all() {
        return;
    }
    let Some(Value::Array(keys)) = data.remove("keys") else { return };
    let texts = keys.into_iter().filter_map(|key| if let Value::String(text) = key { Some(text) } else { None });
    let names = page.of(texts.collect());
    if let Some(Value::Object(info)) = data.get_mut("key_info") {
        info.retain(|name, _| names.binary_search(name).is_ok());
    }
    if !names.is_empty() {
        data.insert("keys".to_owned(), names.into());
    } else if data.get("key_info").is_some_and(|info| info.as_object().is_some_and(Map::is_empty)) {
        data.remove("key_info");
    }
}

/// Whom a login claims to be, where failures are counted.
fn login_alias(parsed: &Parsed, routed: &Routed, operation: Operation) -> Option<String> {
    let live = routed.login().filter(|_| operation.writes())?;
    live.engine.login_alias(&routed.below, &parsed.fields)
}
