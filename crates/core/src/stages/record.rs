//! Audit: what was asked, before it runs; what is answered, before it is sent. Fails closed: a request that no enabled device could
//! record does not run, and an answer that none could record is not sent.
//!
//! Nothing is carried out whose data is not on record whole: a request whose data would take too much room there is refused. In its lines, in those that would only
//! repeat much data, and in those of large answers, which are sent all the same, a summary stands in place of the data.
//!
//! What changes nothing (a read of a safe endpoint, a refusal) runs while its record is on its way: its answer waits for both lines at once,
//! which halves the hand-overs to the threads that write.

use daypass_audit::{
    AuthRecord, GrantingPolicy, MountRecord, Pairs, PolicyResults, Record, RecordType, RequestRecord, ResponseRecord, Room, Share,
    WrapRecord,
};
use daypass_base::wire::Auth;
use daypass_base::{BoxFuture, Limits, Seconds};
use daypass_sdk::{Error, Operation, Result};
use http::HeaderMap;
use serde_json::{Map, Value};

use crate::node::{Inner, Unsealed};
use crate::respond::{Answer, Content};
use crate::stages::door::Routed;
use crate::stages::identify::Identified;
use crate::stages::judge::Judged;
use crate::stages::parse::Parsed;

/// The request is on record, or will be before its answer leaves, or no device is enabled.
pub(crate) struct Recorded {
    _proof: (),
}

/// Waits for the record of a request that changes nothing.
pub(crate) type Late = BoxFuture<'static, Result<()>>;

/// What is known of an exchange.
pub(crate) struct Exchange<'a> {
    pub(crate) parsed: &'a Parsed,
    pub(crate) routed: &'a Routed,
    pub(crate) identified: &'a Identified,
    pub(crate) operation: Operation,
    pub(crate) engine_version: &'a str,
}

impl Exchange<'_> {
    /// Whether nobody vouches for its caller.
    fn is_of_stranger(&self) -> bool {
        self.identified.known.is_none()
    }
}

/// Records the request with the judge's verdict. Waits for a device to have it, but for what changes nothing: that may run meanwhile, and
/// only the answer waits, for what is returned beside the proof. Instead of that there is `BadRequest` for a request whose data no record has room for. Errors:
/// `Failed` when every device failed.
pub(crate) async fn request(
    inner: &Inner,
    unsealed: &Unsealed,
    exchange: &Exchange<'_>,
    verdict: Result<&Judged, &Error>,
) -> Result<(Result<Recorded>, Option<Late>)> {
    let (audit, limits) = (&unsealed.audit, &inner.settings.limits);
    if !audit.is_enabled() {
        return Ok((Ok(Recorded { _proof: () }), None));
    }
    let checked = if verdict.is_ok() { check_room(unsealed, limits, exchange) } else { Ok(()) };
    let verdict = verdict.and_then(|judged| checked.as_ref().map(|_has_room| judged));
    let error = verdict.err().map(ToString::to_string).unwrap_or_default();
    let granting: Vec<GrantingPolicy<'_>> = verdict
        .map(|judged| {
            judged.granting.iter().map(|name| GrantingPolicy { name, policy_type: if name == "root" { "" } else { "acl" } }).collect()
        })
        .unwrap_or_default();
    let results = PolicyResults { allowed: error.is_empty(), granting_policies: &granting };
    let headers = Headers(&exchange.parsed.headers);
    let mut record = record(exchange, &headers, Some(results));
    record.time = inner.clock.now();
    record.error = &error;
    record.room.request_data = if verdict.is_ok() { whole(limits, exchange) } else { brief(limits, exchange) };
    let written = audit.log(&record, NOT_CARRIED_OUT);
    // To wrap an answer makes a token.
    let waits = verdict.is_ok() && (!exchange.routed.support.safe || exchange.parsed.wrap_ttl.is_some());
    let recorded = checked.map(|()| Recorded { _proof: () });
    if !waits {
        return Ok((recorded, Some(Box::pin(written))));
    }
    written.await?;
    Ok((recorded, None))
}

/// Errors: `BadRequest` where the request's data takes more room than its record may have.
fn check_room(unsealed: &Unsealed, limits: &Limits, exchange: &Exchange<'_>) -> Result<()> {
    let most = whole(limits, exchange);
    if unsealed.audit.broker().has_room(&exchange.parsed.fields, clear_request_keys(exchange.routed), most) {
        return Ok(());
    }
    let whose = if exchange.is_of_stranger() { "requests without a valid token" } else { "a request" };
    Err(Error::bad_request(format!(
        "the data of this request takes more than {most} bytes in the audit log, where each text is a hash of 79 bytes: that is the limit for {whose}, send \
         fewer values and shorter names"
    )))
}

/// Bytes of data in a record that a request is carried out by.
fn whole(limits: &Limits, exchange: &Exchange<'_>) -> usize {
    if exchange.is_of_stranger() { limits.audit_stranger_data_bytes } else { limits.audit_data_bytes }
}

/// Bytes of data in a record that nothing depends on: of a request that is refused, or one that repeats what another has.
fn brief(limits: &Limits, exchange: &Exchange<'_>) -> usize {
    let most = limits.audit_stranger_data_bytes;
    if exchange.is_of_stranger() { most.min(BRIEF_BYTES) } else { most }
}

/// Makes the record of an answer, and returns what the answer waits for. Nothing of the answer is needed for that. Errors of that: `Failed` when every device
/// failed.
pub(crate) fn response(
    inner: &Inner,
    unsealed: &Unsealed,
    exchange: &Exchange<'_>,
    answer: &Answer,
    failure: Option<&Error>,
) -> Option<impl Future<Output = Result<()>> + Send + use<>> {
    let (audit, limits) = (&unsealed.audit, &inner.settings.limits);
    if !audit.is_enabled() {
        return None;
    }
    let error = failure.map(ToString::to_string).unwrap_or_default();
    let headers = Headers(&exchange.parsed.headers);
    let mut record = record(exchange, &headers, None);
    record.record_type = RecordType::Response;
    record.time = inner.clock.now();
    record.room = Room { request_data: brief(limits, exchange), response_data: whole(limits, exchange), ..record.room };
    record.error = &error;
    let empty = Map::new();
    if matches!(&answer.content, Content::Envelope(envelope) if envelope.auth.is_some() || envelope.wrap_info.is_some()) {
        // Whoever logged in is no stranger any more, and the token is made.
        record.room.share = Share::All;
    }
    record.response = Some(match &answer.content {
        Content::Envelope(envelope) => ResponseRecord {
            auth: envelope.auth.as_ref().map(token_record),
            data: envelope.data.as_ref().and_then(Value::as_object),
            facts: Some(&answer.facts),
            lease_id: &envelope.lease_id,
            warnings: envelope.warnings.as_ref().map(|warnings| warnings as _),
            wrap_info: envelope.wrap_info.as_ref().map(|info| WrapRecord {
                accessor: &info.accessor,
                creation_path: &info.creation_path,
                creation_time: info.creation_time,
                // Exposed to be hashed by the device.
                token: info.token.expose(),
                ttl: Seconds(info.ttl),
                wrapped_accessor: &info.wrapped_accessor,
            }),
            ..ResponseRecord::default()
        },
        Content::Bare(Value::Object(data)) => ResponseRecord { data: Some(data), facts: Some(&answer.facts), ..ResponseRecord::default() },
        _ => ResponseRecord { data: Some(&empty), ..ResponseRecord::default() },
    });
    // A request that was not carried out for want of a record has no answer to withhold.
    let refused = failure.is_some_and(|error| error.message.ends_with(NOT_CARRIED_OUT));
    Some(audit.log(&record, if refused { NOT_CARRIED_OUT } else { WITHHELD }))
}

fn record<'a>(exchange: &'a Exchange<'a>, headers: &'a Headers<'a>, results: Option<PolicyResults<'a>>) -> Record<'a> {
    let Exchange { parsed, routed, identified, operation, engine_version } = exchange;
    let known = identified.known.as_ref();
    // Exposed to be hashed by the device.
    let token = parsed.token.as_ref().map_or("", |token| token.expose().as_str());
    let config = routed.live.as_ref().map(|live| &live.row.config);
    let share = if exchange.is_of_stranger() { Share::Half } else { Share::All };
    let auth = known.map(|known| AuthRecord {
        client_token: token,
        accessor: &known.row.accessor,
        display_name: &known.row.display_name,
        entity_id: &identified.caller.entity_id,
        metadata: known.row.meta.as_ref().map(|meta| meta as _),
        identity_policies: Some(&identified.identity_policies),
        policies: Some(&identified.caller.policies),
        token_policies: Some(&known.row.policies),
        policy_results: results,
        remaining_uses: u64::try_from(known.row.num_uses).unwrap_or(0),
        token_issue_time: Some(known.row.created),
        token_ttl: known.row.creation_ttl,
        token_type: if known.batch { "batch" } else { "service" },
        ..AuthRecord::default()
    });
    Record {
        auth: auth.or_else(|| results.map(|results| AuthRecord { policy_results: Some(results), ..AuthRecord::default() })),
        request: RequestRecord {
            client_id: &identified.caller.client_id,
            client_token: token,
            client_token_accessor: known.map_or("", |known| &known.row.accessor),
            data: (!parsed.fields.is_empty()).then_some(&parsed.fields),
            headers: Some(headers),
            id: &parsed.id,
            mount: routed.live.as_ref().map_or_else(MountRecord::default, |live| MountRecord {
                accessor: &live.row.accessor,
                class: if live.row.class == crate::mounts::Class::Auth { "auth" } else { "secret" },
                point: &live.row.path,
                running_version: engine_version,
                mount_type: &live.row.kind,
            }),
            operation: operation.name(),
            path: &parsed.path,
            remote_address: &parsed.remote,
            remote_port: parsed.peer.map_or(0, |peer| peer.port()),
            request_uri: &parsed.uri,
            wrap_ttl: parsed.wrap_ttl.unwrap_or_default(),
            ..RequestRecord::default()
        },
        non_hmac_request_keys: clear_request_keys(routed),
        room: Room { share, ..Room::default() },
        non_hmac_response_keys: config.and_then(|config| config.audit_non_hmac_response_keys.as_deref()).unwrap_or_default(),
        ..Record::default()
    }
}

/// Keys of the request's data whose strings stay clear.
fn clear_request_keys(routed: &Routed) -> &[String] {
    routed.live.as_ref().and_then(|live| live.row.config.audit_non_hmac_request_keys.as_deref()).unwrap_or_default()
}

fn token_record(auth: &Auth) -> AuthRecord<'_> {
    AuthRecord {
        // Exposed to be hashed by the device.
        client_token: auth.client_token.expose(),
        accessor: &auth.accessor,
        entity_id: &auth.entity_id,
        metadata: auth.metadata.as_ref().map(|meta| meta as _),
        identity_policies: Some(&auth.identity_policies),
        policies: Some(&auth.policies),
        token_policies: Some(&auth.token_policies),
        num_uses: u64::try_from(auth.num_uses).unwrap_or(0),
        token_ttl: Seconds(auth.lease_duration),
        token_type: &auth.token_type,
        ..AuthRecord::default()
    }
}

/// Of strangers' requests that are refused, and of the data that lines repeat for them, 50 texts: they cost their senders next to nothing.
const BRIEF_BYTES: usize = 4 << 10;
/// What clients are told after `internal error: `.
const NOT_CARRIED_OUT: &str = "no audit device took the record of this request, so it was not carried out";
const WITHHELD: &str = "no audit device took the record of the answer, so it is withheld";

/// The request's headers as audit reads them.
struct Headers<'a>(&'a HeaderMap);

impl Pairs for Headers<'_> {
    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in self.0 {
            if let Ok(value) = value.to_str() {
                visit(name.as_str(), value);
            }
        }
    }
}
