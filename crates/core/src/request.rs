//! THE PIPELINE: every request takes these steps, in this order, and no other way.
//!
//! ```text
//! parse > find door > admit > identify caller > intent > judge > audit request > run > factor > bind > wrap > audit response
//!       > respond
//! ```
//!
//! The factor is asked for by bind, of logins alone: no token of a login is made without what it returns.
//!
//! Each step returns a value that only its module can make and that a later step demands: leaving one out does not compile.
//! Logins take the same way; their endpoints are declared public. Revocation and renewal by the engine are methods of
//! `Engine`, so no request can name them.

use std::sync::Arc;
use std::time::Duration;

use daypass_sdk::{Error, Operation};

use crate::cors::Decision;
use crate::http::{HttpRequest, HttpResponse};
use crate::in_flight::Flight;
use crate::metrics::Stage;
use crate::node::{Core, Inner, Unsealed};
use crate::respond::{Answer, refusal, write};
use crate::stages::parse::{Outcome, Parsed, parse};
use crate::stages::record::{Exchange, Late};
use crate::stages::wrap::Wrapped;
use crate::stages::{admit, bind, door, identify, intent, judge, record, run, wrap};
use crate::tokens::Cause;
use crate::traces::Open;
use crate::{revoke, rooms};

impl Core {
    /// Answers a request.
    pub async fn handle(&self, request: HttpRequest) -> HttpResponse {
        let inner = &self.inner;
        let cors = match inner.unsealed.load_full().map(|unsealed| unsealed.cors.decide(&request.method, &request.headers)) {
            None => Vec::new(),
            Some(Decision::Pass(headers)) => headers,
            Some(Decision::Preflight(status, headers)) => {
                return HttpResponse { without: &["content-type"], ..write(Answer { status, headers, ..Answer::default() }) };
            }
            Some(Decision::Refused) => return write(Answer::refused(403, vec!["origin not allowed".to_owned()])),
        };
        let trace = inner.settings.traces.as_ref().and_then(|traced| Open::begin(traced, &inner.clock, &*inner.entropy, &request));
        let mut response = self.answer(request, trace.clone()).await;
        inner.metrics.answered(response.status);
        if let Some(trace) = trace {
            trace.answered(response.status);
        }
        response.headers.extend(cors);
        response
    }

    async fn answer(&self, request: HttpRequest, trace: Option<Arc<Open>>) -> HttpResponse {
        let inner = &self.inner;
        let method = request.method.clone();
        let mut parsed = match parse(request, &inner.settings.limits, &inner.memory, &*inner.entropy) {
            Outcome::Parsed(parsed) => parsed,
            Outcome::Answer(answer) => return answer,
        };
        if let Some(trace) = &trace {
            trace.has_id(&parsed.id);
        }
        parsed.trace = trace;
        let _until_answered = inner.in_flight.enter(Flight {
            id: parsed.id.clone(),
            started: inner.clock.now(),
            remote: parsed.peer,
            path: parsed.path.clone(),
            method,
        });
        if let Some(answer) = rooms::status::answer(inner, &parsed).await {
            return write(answer);
        }
        if parsed.opened
            && let Some(answer) = rooms::sys::metrics::opened(inner, &parsed).await
        {
            return write(answer);
        }
        let unsealed = match inner.unsealed() {
            Ok(unsealed) => unsealed,
            Err(error) => return write(refusal(&error, &parsed.id)),
        };
        door::trim(&mut parsed, &unsealed.table.load());
        door::take_bare_token(&mut parsed, || unsealed.table.load_full());
        write(serve(inner, &unsealed, &parsed).await)
    }
}

async fn serve(inner: &Arc<Inner>, unsealed: &Arc<Unsealed>, parsed: &Parsed) -> Answer {
    let began = inner.clock.elapsed();
    let routed = door::find(parsed, unsealed.table.load_full());
    tell_way(parsed, &routed);
    let (mut answer, routed) = match admit::admit(inner, unsealed, parsed, &routed) {
        Ok(admitted) => {
            let (mut answer, routed) = admitted_to(inner, unsealed, parsed, routed, &admitted).await;
            answer.headers.extend(admitted.headers);
            (answer, routed)
        }
        Err(refused) => {
            inner.metrics.quota_violations.add();
            (turn_away(inner, unsealed, parsed, &routed, *refused).await, routed)
        }
    };
    tell_way(parsed, &routed);
    answer.for_aws_sdks = routed.support.for_aws_sdks;
    inner.metrics.request(routed.mount_type(), routed.login().is_some(), inner.clock.elapsed().saturating_sub(began));
    answer
}

/// Tells a trace where the request goes. Once before the work, so that it is known of a request that is given up, and once when it is done.
fn tell_way(parsed: &Parsed, routed: &door::Routed) {
    if let (Some(trace), Some(live)) = (&parsed.trace, &routed.live) {
        let pattern = routed.found.as_ref().and_then(|found| live.engine.pattern(found));
        trace.led_to(&live.row.kind, &live.row.path, pattern);
    }
}

/// A stage that began at that moment is over: the metrics count how long it took, and the trace is told. Returns this moment.
fn over(inner: &Inner, parsed: &Parsed, stage: Stage, began: Duration) -> Duration {
    let now = inner.clock.elapsed();
    inner.metrics.stage(stage, now.saturating_sub(began));
    if let Some(trace) = &parsed.trace {
        trace.stage(stage, began, now);
    }
    now
}

/// Refuses a request that is over its quota. It is put on record only where that is configured: the record would be the larger work.
async fn turn_away(inner: &Arc<Inner>, unsealed: &Unsealed, parsed: &Parsed, routed: &door::Routed, refused: admit::Refused) -> Answer {
    let mut answer = refusal(&refused.error, &parsed.id);
    if refused.audit {
        let (identified, engine_version) = (identify::Identified::nobody(), inner.engine_version());
        let exchange = Exchange { parsed, routed, identified: &identified, operation: parsed.operation, engine_version: &engine_version };
        let recorded = record::request(inner, unsealed, &exchange, Err(&refused.error)).await;
        let written = match recorded {
            Ok((_, late)) => in_time(late).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            inner.metrics.audit_request_failures.add();
            answer = refusal(&error, &parsed.id);
        }
    }
    answer.headers.extend(refused.headers);
    answer
}

/// The way of a request that no quota refuses. Also returns where it led in the end.
async fn admitted_to(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    parsed: &Parsed,
    routed: door::Routed,
    admitted: &admit::Admitted,
) -> (Answer, door::Routed) {
    let engine_version = inner.engine_version();
    // The caller's token is read first, though nothing is decided by it yet: that read tells in which configuration the door is to be found.
    let began = inner.clock.elapsed();
    let (routed, identified) = identify::identify(inner, unsealed, parsed, routed, admitted).await;
    over(inner, parsed, Stage::Identify, began);
    if let (Some(trace), Ok(identify::Identified { known: Some(_), .. })) = (&parsed.trace, &identified) {
        trace.vouched_for();
    }
    let (identified, refused) = match identified {
        Ok(identified) => (identified, None),
        Err(error) => (identify::Identified::nobody(), Some(error)),
    };
    let exchange = |operation| Exchange { parsed, routed: &routed, identified: &identified, operation, engine_version: &engine_version };
    let (operation, result, late) = match refused {
        Some(error) => {
            let recorded = record::request(inner, unsealed, &exchange(parsed.operation), Err(&error)).await;
            match recorded.inspect_err(|_| inner.metrics.audit_request_failures.add()) {
                Ok((_, late)) => (parsed.operation, Err(error), late),
                Err(unrecorded) => (parsed.operation, Err(unrecorded), None),
            }
        }
        None => work(inner, unsealed, parsed, &routed, &identified, &engine_version).await,
    };
    let (wrapped, failure) = match result {
        Ok(wrapped) => (wrapped, None),
        Err(error) => {
            let error = if routed.support.public { error.bare() } else { error };
            (Wrapped::refusal(refusal(&error, &parsed.id)), Some(error))
        }
    };
    log_failure(parsed, failure.as_ref());
    let exchange = exchange(operation);
    let response = record::response(inner, unsealed, &exchange, &wrapped.answer, failure.as_ref());
    let answer = wrapped.answer.settled();
    // Polled in this order, so the lines of both are queued before the first wait.
    let (requested, written) = tokio::join!(in_time(late), in_time(response));
    // While revocation is paused, what a used-up token has made stays stored; it is refused like the token (`tokens/forebears.rs`).
    if identified.last_use()
        && !unsealed.revocation.is_paused()
        && let Some(known) = &identified.known
        && let Err(error) = revoke::token(inner, unsealed, known.id, Cause::Asked).await
    {
        tracing::warn!(request = %parsed.id, error = %error, "a used-up token could not be revoked; it stays unusable and is tried again");
    }
    let requested = requested.inspect_err(|_| inner.metrics.audit_request_failures.add());
    let written = written.inspect_err(|_| inner.metrics.audit_response_failures.add());
    let answer = match requested.and(written) {
        Ok(()) => answer,
        Err(error) => refusal(&error, &parsed.id),
    };
    (answer, routed)
}

/// Waits for a record that was not waited for yet.
async fn in_time(late: Option<impl Future<Output = Result<(), Error>>>) -> Result<(), Error> {
    match late {
        Some(late) => late.await,
        None => Ok(()),
    }
}

/// From intent to wrapping: the part that needs a caller. Returns the operation that it turned out to be, and what its answer waits for.
async fn work(
    inner: &Arc<Inner>,
    unsealed: &Arc<Unsealed>,
    parsed: &Parsed,
    routed: &door::Routed,
    identified: &identify::Identified,
    engine_version: &str,
) -> (Operation, Result<Wrapped, Error>, Option<Late>) {
    let intended = intent::decide(inner, parsed, routed, identified).await;
    let operation = intended.operation;
    let judged = match judge::judge(parsed, routed, identified, intended, &inner.settings.limits) {
        Ok(judged) => wrap::check(inner, unsealed, parsed, routed, identified).await.map(|()| judged),
        Err(refused) => Err(refused),
    };
    let exchange = Exchange { parsed, routed, identified, operation, engine_version };
    let began = inner.clock.elapsed();
    let on_record = record::request(inner, unsealed, &exchange, judged.as_ref()).await;
    let recorded_at = over(inner, parsed, Stage::Audit, began);
    let mut late = None;
    let result = async {
        let (recorded, to_come) = on_record.inspect_err(|_| inner.metrics.audit_request_failures.add())?;
        late = to_come;
        let ran = run::run(inner, unsealed, parsed, routed, judged?, &recorded?).await;
        over(inner, parsed, Stage::Run, recorded_at);
        let ran = ran?;
        let bound = bind::bind(inner, unsealed, parsed, routed, identified, ran).await?;
        wrap::wrap(inner, unsealed, parsed, bound).await
    };
    let result = result.await;
    (operation, result, late)
}

/// What a client learns only as a request id stands in the log with its causes.
fn log_failure(parsed: &Parsed, failure: Option<&Error>) {
    let Some(error) = failure.filter(|error| matches!(error.kind, daypass_sdk::Kind::Internal | daypass_sdk::Kind::StoreFull)) else {
        return;
    };
    let mut causes = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push_str(": ");
        causes.push_str(&cause.to_string());
        source = cause.source();
    }
    tracing::error!(request = %parsed.id, path = %parsed.path, "{error}{causes}");
}
