//! Run engine: the handler does its work, if there is one for the path.

use std::sync::Arc;

use daypass_sdk::{Error, Input, Kind, Operation, Outcome, Reply, Result};
use serde_json::json;

use crate::documents;
use crate::lockout;
use crate::mounts::Class;
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
    let rules = live.row.config.user_lockout.unwrap_or(lockout::DEFAULT);
    if let Some(alias) = &alias {
        unsealed.lockouts.check(&live.row.accessor, alias, rules, inner.clock.now())?;
    }
    let input = Input { fields: parsed.fields.clone(), captures: found.captures.clone() };
    let limit = inner.settings.limits.request_seconds.duration();
    let work = live.engine.run(found, cx, operation, input);
    let reply = tokio::select! {
        reply = work => reply,
        () = inner.clock.sleep(limit) => return Err(Error::failed(format!("the request took longer than {} seconds and was given up", limit.as_secs()))),
    };
    if let Some(alias) = &alias {
        match &reply {
            Ok(_) => unsealed.lockouts.succeeded(&live.row.accessor, alias),
            Err(error) if error.wrong_credentials => unsealed.lockouts.failed(&live.row.accessor, alias, rules, inner.clock.now()),
            Err(_) => {}
        }
    }
    Ok(Ran { reply: reply?, operation, _proof: () })
}

/// Whom a login claims to be, where failures are counted.
fn login_alias(parsed: &Parsed, routed: &Routed, operation: Operation) -> Option<String> {
    let live = routed.live.as_ref().filter(|live| live.row.class == Class::Auth && routed.support.public && operation.writes())?;
    live.engine.login_alias(&routed.below, &parsed.fields)
}
