//! Intent: create or update? The engine is asked whether the thing exists; what it answers is used only by the judge. This is where an engine is
//! reached first, so a request to one that has taken another's place waits here until that one is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_sdk::{Cx, Error, Input, Operation, Request};

use crate::node::Inner;
use crate::stages::door::Routed;
use crate::stages::identify::{Identified, presented};
use crate::stages::parse::{Parsed, named_headers};

/// What is to be done, finally.
pub(crate) struct Intended {
    pub(crate) operation: Operation,
    /// Why the engine cannot be asked, or cannot tell whether the thing exists; reported only to callers who may write there.
    pub(crate) trouble: Option<Error>,
    /// What the handler will get; `None` when no mount has the path.
    pub(crate) cx: Option<Cx>,
    _proof: (),
}

pub(crate) async fn decide(inner: &Arc<Inner>, parsed: &Parsed, routed: &Routed, identified: &Identified) -> Intended {
    let Some(live) = &routed.live else {
        return Intended { operation: parsed.operation, trouble: None, cx: None, _proof: () };
    };
    let mut request = Request {
        id: parsed.id.clone(),
        path: parsed.path.clone(),
        below: routed.below.clone(),
        operation: Some(parsed.operation),
        caller: Arc::clone(&identified.caller),
        remote: parsed.peer.map(|peer| peer.ip()),
        client_chain: parsed.client_chain.clone(),
        headers: live
            .row
            .config
            .passthrough_request_headers
            .as_deref()
            .map(|names| named_headers(&parsed.headers, names))
            .map(|headers| without_tokens(headers, parsed))
            .unwrap_or_default(),
        page: parsed.page.clone(),
        wrap_ttl: identified.wrap_ttl,
        presented: if live.row.builtin { presented(parsed) } else { None },
        upload: parsed.upload.clone(),
        outside: parsed.trace.as_ref().map(|trace| trace.outside()),
        deadline: inner.settings.limits.request_seconds.duration(),
    };
    let mut operation = parsed.operation;
    let mut trouble = live.alone(&*inner.clock, request.deadline).await.err();
    if trouble.is_none()
        && let (Operation::Update, true, Some(found)) = (parsed.operation, routed.support.existence_check, &routed.found)
    {
        let cx = context(inner, live, request.clone());
        let input = Input { fields: parsed.fields.clone(), captures: found.captures.clone() };
        if let Some(check) = live.engine.exists(found, cx, input) {
            match check.await {
                Ok(true) => {}
                Ok(false) => operation = Operation::Create,
                Err(error) => trouble = Some(error),
            }
        }
    }
    request.operation = Some(operation);
    Intended { operation, trouble, cx: Some(context(inner, live, request)), _proof: () }
}

/// A token or a second factor is nothing that an engine may see, whatever the mount is tuned to pass on.
fn without_tokens(mut headers: BTreeMap<String, String>, parsed: &Parsed) -> BTreeMap<String, String> {
    headers.remove("x-vault-token");
    headers.remove("x-vault-mfa");
    if parsed.bearer {
        headers.remove("authorization");
    }
    headers
}

pub(crate) fn context(inner: &Inner, live: &crate::mounts::Live, request: Request) -> Cx {
    Cx {
        request: Arc::new(request),
        mount: Arc::clone(&live.mount),
        store: live.store.clone(),
        clock: Arc::clone(&inner.clock),
        entropy: Arc::clone(&inner.entropy),
        identity: Arc::clone(&live.identity),
    }
}
