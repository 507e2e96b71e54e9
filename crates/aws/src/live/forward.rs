//! A `GetCallerIdentity` that somebody else signed, sent to STS as it is; and the names and ids of principals.
//!
//! Strangers can cause these calls before anybody knows who they are, and choose of which region the STS is that is asked. So they have places of their
//! own: no mint waits for them. And an STS that nobody knows to answer has others than one that said who somebody is, or that the operator named: no
//! login waits for calls to places where nobody may be.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use daypass_base::BoxFuture;
use daypass_dial::{NoPlace, Place, Places, Room};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::sort::sorted;
use super::wire::{Answer, Trouble, Wire};
use super::{ATTEMPT_MAX, LiveAws};
use crate::api::{Call, Identity, Result, Target};
use crate::caller::{self, Callers, Principal, PrincipalKind, SignedForm, SignedIdentity};
use crate::live::identity::Source;
use crate::{AwsError, ErrorKind};

/// Calls to origins that are known. Many jobs may start in the same second. For the sum of all that wait see [`super::places::USUAL`].
pub(super) const KNOWN: Room = Room { all: 128, of_origin: 32, waiting: 512, waiting_in_all: 768 };
/// Calls to any others. One that answers is known from then on, and whoever still waits for it is let on. A stranger has more than a dozen of them to
/// choose from.
pub(super) const STRANGE: Room = Room { all: 64, of_origin: 2, waiting: 128, waiting_in_all: 320 };
/// Origins to which connections are kept; only those that said who somebody is. One more takes the place of that which did so longest ago.
const WIRES_MAX: usize = 32;
/// Attempts in a row, one after the other, that nobody answers before an origin is known no longer: one lost packet is no sign, and whoever waits for a known one
/// would find the shorter line of the others.
const SILENCES_MAX: usize = 3;

/// What forwarded calls have for themselves.
pub(super) struct Forwards {
    known: Places,
    strange: Places,
    wires: Mutex<HashMap<String, Kept>>,
}

/// The connections to an origin that said who somebody is.
struct Kept {
    wire: Arc<Wire>,
    /// When it last did, on the monotonic clock.
    at: Duration,
    /// Attempts since then that nobody answered.
    silences: usize,
    /// When the last of them ended. What was under way then is one with it.
    silent_at: Duration,
}

/// Where a call goes.
pub(super) struct Goal {
    pub(super) origin: Uri,
    /// Whether an operator's configuration names it: then nobody else chose it.
    pub(super) configured: bool,
}

/// Whether anybody is known to answer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Known,
    Strange,
}

/// An attempt that failed.
struct Failed {
    error: AwsError,
    silent: Silent,
}

/// Whether nobody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silent {
    /// Somebody did.
    No,
    /// Nothing came in time.
    TimedOut,
    /// There was no connection.
    Unconnected,
}

impl Default for Forwards {
    fn default() -> Self {
        Self { known: Places::new(KNOWN), strange: Places::new(STRANGE), wires: Mutex::default() }
    }
}

impl Forwards {
    /// A place for a call, once there is one. What is known of its origin may change while it waits; then it waits where it belongs.
    async fn place(&self, goal: &Goal, name: &str) -> std::result::Result<(Place<'_>, Standing), NoPlace> {
        loop {
            let standing = self.standing(goal, name);
            let places = if standing == Standing::Known { &self.known } else { &self.strange };
            let turn = places.turn(&places.share(name)).await?;
            if self.standing(goal, name) == standing {
                return Ok((turn.place().await?, standing));
            }
        }
    }

    fn standing(&self, goal: &Goal, name: &str) -> Standing {
        if goal.configured || self.kept().contains_key(name) { Standing::Known } else { Standing::Strange }
    }

    /// An origin said who somebody is.
    fn keep(&self, name: String, wire: Arc<Wire>, now: Duration) {
        let mut wires = self.kept();
        if wires.len() >= WIRES_MAX && !wires.contains_key(&name) {
            let oldest = wires.iter().min_by_key(|(_, kept)| kept.at).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| wires.remove(&oldest));
        }
        let kept = wires.entry(name).or_insert(Kept { wire, at: now, silences: 0, silent_at: now });
        (kept.at, kept.silences) = (now, 0);
    }

    /// Nobody answered an attempt that began then: it is not made again over the same connections, and after some in a row nobody is believed to be there.
    fn unanswered(&self, name: &str, began: Duration, now: Duration, fresh: Arc<Wire>) {
        let mut wires = self.kept();
        let Some(kept) = wires.get_mut(name).filter(|kept| began >= kept.silent_at) else { return };
        (kept.wire, kept.silent_at, kept.silences) = (fresh, now, kept.silences + 1);
        if kept.silences >= SILENCES_MAX {
            wires.remove(name);
        }
    }

    #[cfg(test)]
    pub(super) fn known_number(&self) -> usize {
        self.kept().len()
    }

    #[cfg(test)]
    pub(super) fn knows(&self, goal: &Goal) -> bool {
        self.standing(goal, &goal.origin.to_string()) == Standing::Known
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveAws {
    async fn forward(&self, call: Call<'_>, signed: &SignedIdentity) -> Result<Identity> {
        let sandbox = self.settings.endpoint.as_deref();
        let url = caller::destination(signed, call.target, sandbox)?;
        let origin: Uri = url.parse().map_err(|error| AwsError::unreachable(format!("the endpoint {url:?} is no URL: {error}")))?;
        let configured = if let Some(region) = call.target.region.as_deref().or(self.settings.region.as_deref()) {
            caller::is_configured(&url, call.target, sandbox, Some(region))
        } else {
            let base = self.base(Source::Own).await;
            caller::is_configured(&url, call.target, sandbox, base.config.region().map(AsRef::as_ref))
        };
        let goal = Goal { origin, configured };
        self.forward_to(call.target, &goal, signed).await
    }

    /// As often as the target says where somebody is known to answer; else once, and once more where there was no connection: that says so at once.
    pub(super) async fn forward_to(&self, target: &Target, goal: &Goal, signed: &SignedIdentity) -> Result<Identity> {
        let request = request(&goal.origin, signed)?;
        let name = goal.origin.to_string();
        let (place, standing) = self.forwards.place(goal, &name).await.map_err(|none| no_place(&name, none))?;
        let attempt = || self.forward_once(&goal.origin, &name, &request);
        if standing == Standing::Known {
            return self.patiently(target, || async { attempt().await.map_err(|failed| failed.error) }).await;
        }
        let mut done = attempt().await;
        if done.as_ref().is_err_and(|failed| failed.silent == Silent::Unconnected) {
            done = attempt().await;
        }
        match &done {
            Err(failed) if failed.silent != Silent::No => place.unanswered(),
            _ => place.answered(),
        }
        done.map_err(|failed| failed.error)
    }

    async fn forward_once(&self, origin: &Uri, name: &str, request: &Request<Full<Bytes>>) -> std::result::Result<Identity, Failed> {
        let began = self.clock.elapsed();
        let known = self.forwards.kept().get(name).map(|kept| Arc::clone(&kept.wire));
        let wire = known.unwrap_or_else(|| self.new_wire(origin));
        let answer = tokio::select! {
            biased;
            sent = wire.send(|| Ok(request.clone())) => sent.map_err(|trouble| no_answer(name, trouble)),
            () = self.clock.sleep(ATTEMPT_MAX) => {
                Err(Failed { error: AwsError::unreachable(format!("Post {name:?}: no answer within {ATTEMPT_MAX:?}")), silent: Silent::TimedOut })
            }
        };
        if answer.as_ref().is_err_and(|failed| failed.silent != Silent::No) {
            self.forwards.unanswered(name, began, self.clock.elapsed(), self.new_wire(origin));
        }
        let identity = understood(&answer?).map_err(|error| Failed { error, silent: Silent::No })?;
        self.forwards.keep(name.to_owned(), wire, self.clock.elapsed());
        Ok(identity)
    }
}

/// The request as it was signed, for this origin.
fn request(origin: &Uri, signed: &SignedIdentity) -> Result<Request<Full<Bytes>>> {
    let bad = |detail: String| AwsError {
        kind: ErrorKind::Malformed,
        code: "InvalidParameter".to_owned(),
        message: format!("the signed request cannot be sent on: {detail}"),
        status: None,
        request_id: None,
    };
    let (method, query, body) = match &signed.form {
        // To STS, which it was signed for.
        SignedForm::Get(query) => (Method::GET, format!("/?{}", query.expose()), Bytes::new()),
        SignedForm::Post(form) => (Method::POST, "/".to_owned(), Bytes::copy_from_slice(form.as_bytes())),
    };
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = Some(query.parse().map_err(|_quotes| bad("its query is none".to_owned()))?);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| bad(error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&signed.host).map_err(|error| bad(error.to_string()))?);
    for (name, value) in &signed.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(error.to_string()))?;
        // To STS, which it was signed for.
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_quotes| bad(format!("the value of {name} is no header's")))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(request)
}

fn understood(answer: &Answer) -> Result<Identity> {
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    caller::understood(answer.status.as_u16(), kind, &answer.body)
}

/// A connection that broke says nothing against its origin: what was sent may be the cause.
fn no_answer(url: &str, trouble: Trouble) -> Failed {
    let silent = if matches!(trouble, Trouble::Unconnected(_)) { Silent::Unconnected } else { Silent::No };
    let (Trouble::Settings(detail) | Trouble::Unconnected(detail) | Trouble::Lost(detail)) = trouble;
    Failed { error: AwsError::unreachable(format!("Post {url:?}: {detail}")), silent }
}

fn no_place(url: &str, none: NoPlace) -> AwsError {
    // Nothing was sent: whoever comes again may have more luck.
    AwsError::crowded(format!("Post {url:?}: {none}"))
}

impl Callers for LiveAws {
    fn forward_caller_identity<'a>(&'a self, call: Call<'a>, signed: &'a SignedIdentity) -> BoxFuture<'a, Result<Identity>> {
        Box::pin(async move { self.until(call.deadline, pin!(self.forward(call, signed))).await })
    }

    fn get_principal<'a>(&'a self, call: Call<'a>, kind: PrincipalKind, name: &'a str) -> BoxFuture<'a, Result<Principal>> {
        let missing = || AwsError::unreachable("the answer has no principal");
        Box::pin(self.iam(call, move |client| async move {
            Ok(match kind {
                PrincipalKind::InstanceProfile => {
                    let answer = client.get_instance_profile().instance_profile_name(name).send().await.map_err(|error| sorted(&error))?;
                    let found = answer.instance_profile.ok_or_else(missing)?;
                    Principal { arn: found.arn, id: found.instance_profile_id }
                }
                PrincipalKind::Role => {
                    let answer = client.get_role().role_name(name).send().await.map_err(|error| sorted(&error))?;
                    let found = answer.role.ok_or_else(missing)?;
                    Principal { arn: found.arn, id: found.role_id }
                }
                PrincipalKind::User => {
                    let answer = client.get_user().user_name(name).send().await.map_err(|error| sorted(&error))?;
                    let found = answer.user.ok_or_else(missing)?;
                    Principal { arn: found.arn, id: found.user_id }
                }
            })
        }))
    }
}
