//! STS calls without the SDK's client around them, which costs several times what a mint costs: the official signer, and connections
//! that are kept ([`super::wire`]). What the SDK knows stays its own: the credential chain, the rules for endpoints, the signature.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::identity::Identity as Signer;
use bytes::Bytes;
use daypass_base::Clock;
use daypass_dial::Place;
use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::endpoint::{self, Endpoint};
use super::places::Told;
use super::query::Form;
use super::retry::{Failed, Progress, Remedy};
use super::time::SdkClock;
use super::wire::{Answer, REQUEST_ID, Trouble};
use super::{ATTEMPT_MAX, Clients, LiveAws};
use crate::answer::Fields;
use crate::api::{AssumeRole, Call, Credential, FederationToken, Identity, Purpose, Result, SessionToken, Target};
use crate::validate::DURATION_MIN;
use crate::{AwsError, ErrorKind};

/// A call is made again for so long where nobody says how often. Vault's clients ask again twice by themselves, and give up 60 s after they first asked: three
/// times this and their pauses fit, else nobody is told AWS's reason.
pub(super) const RETRIES_MAX: Duration = Duration::from_secs(15);
/// AWS's word on when to come again is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(15);

impl LiveAws {
    pub(super) async fn call_assume_role(&self, call: Call<'_>, input: &AssumeRole) -> Result<Credential> {
        input.check_from(self.settings.session_min.unwrap_or(DURATION_MIN))?;
        let mut form = Form::new("AssumeRole");
        form.add("RoleArn", &input.role_arn);
        form.add("RoleSessionName", &input.session_name);
        policies(&mut form, &input.policy_arns, input.policy.as_deref());
        form.add("DurationSeconds", &input.duration.0.to_string());
        for (number, (key, value)) in (1_usize..).zip(&input.tags) {
            form.add(&format!("Tags.member.{number}.Key"), key);
            form.add(&format!("Tags.member.{number}.Value"), value);
        }
        for (number, key) in (1_usize..).zip(&input.transitive_tag_keys) {
            form.add(&format!("TransitiveTagKeys.member.{number}"), key);
        }
        form.add_some("ExternalId", input.external_id.as_deref());
        form.add_some("SourceIdentity", input.source_identity.as_deref());
        self.sts(call, account(&input.role_arn), form, |fields| fields.credential(Some("AssumedRoleUser"))).await
    }

    pub(super) async fn call_get_federation_token(&self, call: Call<'_>, input: &FederationToken) -> Result<Credential> {
        input.check_from(self.settings.session_min.unwrap_or(DURATION_MIN))?;
        let mut form = Form::new("GetFederationToken");
        form.add("Name", &input.name);
        policies(&mut form, &input.policy_arns, input.policy.as_deref());
        form.add("DurationSeconds", &input.duration.0.to_string());
        self.sts(call, "", form, |fields| fields.credential(Some("FederatedUser"))).await
    }

    pub(super) async fn call_get_session_token(&self, call: Call<'_>, input: &SessionToken) -> Result<Credential> {
        input.check_from(self.settings.session_min.unwrap_or(DURATION_MIN))?;
        let mut form = Form::new("GetSessionToken");
        form.add("DurationSeconds", &input.duration.0.to_string());
        form.add_some("SerialNumber", input.serial_number.as_deref());
        form.add_some("TokenCode", input.token_code.as_deref());
        self.sts(call, "", form, |fields| fields.credential(None)).await
    }

    pub(super) async fn call_get_caller_identity(&self, call: Call<'_>) -> Result<Identity> {
        self.sts(call, "", Form::new("GetCallerIdentity"), Fields::identity).await
    }

    /// Makes an STS call within its deadline. `account` is whose limits it counts against.
    async fn sts<T>(&self, call: Call<'_>, account: &str, form: Form, read: fn(&Fields) -> Option<T>) -> Result<T> {
        let body = form.done();
        let told = Told::default();
        let answer = self.within(call.deadline, &told, pin!(self.persistently(call, account, &body, &told))).await?;
        read(&answer.fields).ok_or_else(|| not_understood("an element is missing", &answer))
    }

    /// Asks again where that may help: once with a fresh identity, when AWS says that the one in hand is over or none that it knows, or refuses and its session
    /// may be why; after a wait when AWS asks for fewer calls or does not answer. `told` has the last failure while it goes on.
    async fn persistently(&self, call: Call<'_>, account: &str, body: &Bytes, told: &Told) -> Result<Understood> {
        let began = self.clock.elapsed();
        let mut renewed = call.target.keys.is_some();
        let mut progress = None;
        loop {
            let clients = self.clients(call.target).await;
            // Before there is a place: whoever waits for keys holds nothing that others need.
            let keys = clients.keys.current().await?;
            let failed = match self.round(&clients, &keys.identity, call.purpose, body, told).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if failed.error.identity_is_lost() && !renewed {
                renewed = true;
                self.forget_own_identity(call.target, &clients).await;
                continue;
            }
            if failed.error.kind == ErrorKind::Denied && !renewed {
                renewed = true;
                told.say(Some(failed.error.clone()));
                if clients.keys.replaced(&keys).await {
                    continue;
                }
            }
            let progress = progress.get_or_insert_with(|| {
                let time = if clients.retries.is_some() { call.deadline } else { call.deadline.min(RETRIES_MAX) };
                let mut progress = Progress::of(bucket(call.target, account), began, began + time);
                progress.most = clients.retries;
                progress
            });
            told.say(None);
            let Some(wait) = self.retries.wait(progress, failed.remedy) else { return Err(failed.error) };
            tracing::debug!(error = %failed.error, ?wait, "an STS call is made again");
            // When time is up over another attempt, what AWS said to the one before tells more.
            told.say(Some(failed.error));
            self.clock.sleep(wait).await;
        }
    }

    /// Asks the endpoint that answered last, then the others: also where the line of one is full, which may hang. Those who wait for their next round leave their
    /// places to others.
    async fn round(
        &self,
        clients: &Clients,
        signer: &Signer,
        purpose: Purpose,
        body: &Bytes,
        told: &Told,
    ) -> std::result::Result<Understood, Failed> {
        let count = clients.sts.len();
        let mut start = clients.good.load(Ordering::Relaxed);
        let mut place = self.place(clients, start, purpose, told).await;
        let good = clients.good.load(Ordering::Relaxed);
        if good != start {
            // While this waited for a place another endpoint answered.
            drop(place);
            (start, place) = (good, self.place(clients, good, purpose, told).await);
        }
        let mut place = Some(place);
        let mut last = Failed { error: AwsError::unreachable("no STS endpoint is configured"), remedy: Remedy::None };
        for step in 0..count {
            let at = (start + step) % count.max(1);
            let Some(endpoint) = clients.sts.get(at) else { break };
            let place = match place.take() {
                Some(place) => place,
                // Nobody waits in two lines, one after the other: that would be the room of other origins.
                None if last.error.is_crowded() => self.place_if_free(clients, at, purpose, &last),
                None => self.place(clients, at, purpose, told).await,
            };
            let answer = match (place, endpoint) {
                (Ok(_place), Ok(endpoint)) => self.ask(signer, endpoint, body).await,
                (Ok(_no_place), Err(detail)) => Err(Failed { error: AwsError::unreachable(detail), remedy: Remedy::None }),
                (Err(full), _) => Err(full),
            };
            match answer {
                // One that was asked tells more than one whose line is full, and what it did is not known.
                Err(failed) if failed.error.is_crowded() => {
                    if step == 0 {
                        last = failed;
                    }
                }
                Err(failed) if failed.error.kind == ErrorKind::Unreachable => {
                    tracing::warn!(error = %failed.error, endpoint = at, "an STS endpoint does not answer");
                    // While one of them may answer in the end, it is worth to ask again.
                    let remedy = if step > 0 && failed.remedy == Remedy::None { last.remedy } else { failed.remedy };
                    last = Failed { remedy, ..failed };
                }
                answer => {
                    clients.good.store(at, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        if count > 1 {
            last.error.message = format!("could not obtain sts client: none of {count} endpoints answers; {}", last.error.message);
        }
        Err(last)
    }

    /// A place at one of a target's endpoints. `None` where that is none that could be asked.
    async fn place<'a>(
        &'a self,
        clients: &'a Clients,
        at: usize,
        purpose: Purpose,
        told: &Told,
    ) -> std::result::Result<Option<Place<'a>>, Failed> {
        let Some(Ok(endpoint)) = clients.sts.get(at) else { return Ok(None) };
        let place = self.queues.through(&endpoint.door, purpose, told).await;
        place.map(Some).map_err(|error| Failed { error, remedy: Remedy::None })
    }

    /// The same without waiting. Errors: what another endpoint's line was.
    fn place_if_free<'a>(
        &'a self,
        clients: &'a Clients,
        at: usize,
        purpose: Purpose,
        full: &Failed,
    ) -> std::result::Result<Option<Place<'a>>, Failed> {
        let Some(Ok(endpoint)) = clients.sts.get(at) else { return Ok(None) };
        let place = self.queues.through_now(&endpoint.door, purpose);
        place.map(Some).ok_or_else(|| Failed { error: full.error.clone(), remedy: full.remedy })
    }

    /// Asks one endpoint, and once more by its own clock when ours is why it refused the signature.
    async fn ask(&self, signer: &Signer, endpoint: &Endpoint, body: &Bytes) -> std::result::Result<Understood, Failed> {
        let now = || SdkClock(std::sync::Arc::clone(&self.clock)).now();
        let mut adjusted = false;
        loop {
            let asked = now();
            let sent = pin!(endpoint.wire.send(|| endpoint.request(signer, now(), body)));
            let answer = in_time(&*self.clock, endpoint, sent).await?;
            endpoint.notice(&answer, asked, now());
            match understand(&answer, endpoint::millis(now())) {
                Err(failed) if !adjusted && endpoint.adjust(&failed.error.code, &answer, now()) => adjusted = true,
                understood => return understood,
            }
        }
    }
}

/// A success, as far as HTTP is concerned.
pub(super) struct Understood {
    pub(super) fields: Fields,
    status: u16,
}

/// The account of an ARN; empty where there is none.
fn account(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// Whose rate a retry counts against: whose keys, at which endpoint, for which account.
pub(super) fn bucket(target: &Target, account: &str) -> String {
    let keys = target.keys.as_ref().map(|keys| keys.access_key_id.as_str());
    let keys = keys.or_else(|| target.web_identity.as_ref().map(|web| web.role_arn.as_str())).unwrap_or_default();
    let endpoint = target.sts_endpoints.first().map_or("", |endpoint| endpoint.url.as_str());
    let region = target.region.as_deref().unwrap_or_default();
    format!("{keys} {endpoint} {region} {account}")
}

fn policies(form: &mut Form, arns: &[String], policy: Option<&str>) {
    for (number, arn) in (1_usize..).zip(arns) {
        form.add(&format!("PolicyArns.member.{number}.arn"), arn);
    }
    form.add_some("Policy", policy);
}

/// What an endpoint answers within the time of one attempt.
pub(super) async fn in_time(
    clock: &dyn Clock,
    endpoint: &Endpoint,
    sent: Pin<&mut impl Future<Output = std::result::Result<Answer, Trouble>>>,
) -> std::result::Result<Answer, Failed> {
    tokio::select! {
        biased;
        sent = sent => sent.map_err(|trouble| no_answer(endpoint, &trouble)),
        () = clock.sleep(ATTEMPT_MAX) => {
            let error = AwsError::unreachable(posted(endpoint, &format!("no answer within {ATTEMPT_MAX:?}")));
            Err(Failed { error, remedy: Remedy::Wait(None) })
        }
    }
}

/// What went wrong and where, as Go words it.
fn posted(endpoint: &Endpoint, detail: &str) -> String {
    format!("Post {:?}: {detail}", endpoint.url())
}

fn no_answer(endpoint: &Endpoint, trouble: &Trouble) -> Failed {
    let (detail, remedy) = match trouble {
        Trouble::Settings(detail) => (detail, Remedy::None),
        Trouble::Unconnected(detail) => (detail, Remedy::WaitALittle),
        Trouble::Lost(detail) => (detail, Remedy::Wait(None)),
    };
    Failed { error: AwsError::unreachable(posted(endpoint, detail)), remedy }
}

/// Reads an answer. `now` is in milliseconds since 1970.
pub(super) fn understand(answer: &Answer, now: i64) -> std::result::Result<Understood, Failed> {
    let status = answer.status.as_u16();
    let fields = Fields::read(&answer.body);
    if answer.status.is_success() {
        return match fields {
            Ok(fields) => Ok(Understood { fields, status }),
            Err(detail) => {
                let error = AwsError::answered(Some("SerializationError"), Some(&detail), status, header_id(&answer.headers));
                Err(Failed { error, remedy: Remedy::None })
            }
        };
    }
    // A page of a proxy's says nothing that AWS's codes say.
    let part = |name: &str| fields.as_ref().ok().and_then(|fields| fields.text("Error", name));
    let id = fields.as_ref().ok().and_then(Fields::request_id).or_else(|| header_id(&answer.headers).map(str::to_owned));
    let error = AwsError::answered(part("Code").as_deref(), part("Message").as_deref(), status, id.as_deref());
    Err(Failed::answered(error, retry_after(&answer.headers, now)))
}

pub(super) fn not_understood(detail: &str, answer: &Understood) -> AwsError {
    AwsError::answered(Some("SerializationError"), Some(detail), answer.status, answer.fields.request_id().as_deref())
}

fn header_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok())
}

/// When AWS, or what stands before it, wants to be asked again: in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    let seconds = value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let until = || Some(Duration::from_millis(u64::try_from(endpoint::date(value)? - now).unwrap_or_default()));
    seconds.or_else(until).map(|wait| wait.min(RETRY_AFTER_MAX))
}
