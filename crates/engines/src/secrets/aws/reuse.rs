//! Credentials that are handed out again for a while, and callers who wait for one that is being made already.
//!
//! Packer's `vault()` and other readers read one field at a time: with a `reuse_window` the fields they get belong together, and AWS is
//! asked once. A credential is kept in memory alone and never longer than its window; the number kept is bounded (`places`).

mod places;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use daypass_aws::{AssumeRole, Credential, Skew};
use daypass_sdk::{Cx, Error, Kind, Moment, Result, Seconds};
use parking_lot::Mutex;

use super::ours::Ours;
use crate::hash::sha256;
use crate::secrets::revoked::Revoked;
use places::{Amount, Holder, Place, Places, Room};

/// Credentials that a mount keeps, and about how much memory they may take: session policies and tags may come from callers. When all places are taken
/// by credentials whose window is open, others are made but not kept. One client has an eighth, with all tokens of its logins: it may name as many sessions as it
/// likes. What a role shares among clients has another eighth, but for what a client has chosen of it.
const CALLERS: Room = Room { all: Amount { places: 10_000, bytes: 64 * MIB }, of_one: Amount { places: 10_000 / 8, bytes: 64 / 8 * MIB } };
/// Sessions of roles on the way, which no window of a role's is held up by. They are the server's own.
const HOPS: Room = Room { all: Amount { places: 2_000, bytes: 16 * MIB }, of_one: Amount { places: 2_000, bytes: 16 * MIB } };
const MIB: usize = 1024 * 1024;
/// A credential with its session token, and what is small of [`Same`].
const CREDENTIAL_BYTES: usize = 3 * 1024;

/// What makes two requests the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Same {
    /// Who asks; `None` where the role shares its credentials.
    pub(super) caller: Option<[u8; 16]>,
    /// Whether the request says of it what the role does not, where the role shares its credentials.
    pub(super) is_chosen: bool,
    /// Name of the daypass role; empty for the role on the way.
    pub(super) role: String,
    /// Generation and version of its row: what was made under another one is not handed out again.
    pub(super) written: (String, u64),
    /// The version of `config/root`.
    pub(super) config: u64,
    /// What is asked of AWS; a session name that was made for this request alone is left out.
    pub(super) input: AssumeRole,
}

impl Same {
    /// About how much memory it takes, with its credential.
    fn bytes(&self) -> usize {
        let AssumeRole {
            role_arn,
            session_name,
            duration: _,
            policy,
            policy_arns,
            external_id,
            tags,
            transitive_tag_keys,
            source_identity,
        } = &self.input;
        let texts = [&self.role, role_arn, session_name].into_iter().chain(policy).chain(external_id).chain(source_identity);
        let texts = texts.chain(policy_arns).chain(transitive_tag_keys).chain(tags.iter().flat_map(|(key, value)| [key, value]));
        CREDENTIAL_BYTES + texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
    }

    fn is_hop(&self) -> bool {
        self.role.is_empty()
    }
}

/// How long a credential is good for others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    length: Seconds,
    min_ttl: Seconds,
}

impl Window {
    /// For the role on the way: as long as it lasts, but for ten minutes.
    pub(super) const HOP: Self = Self { length: WINDOW_MAX, min_ttl: Seconds(600) };

    /// The window of a role; `None` when it hands out nothing again. Without `reuse_min_ttl` a credential must have half of its life left.
    pub(super) fn of(ours: &Ours, lifetime: Seconds) -> Option<Self> {
        let length = ours.reuse_window.set()?;
        Some(Self { length, min_ttl: ours.reuse_min_ttl.set().unwrap_or(Seconds(lifetime.0 / 2)) })
    }

    /// How old a credential with this life is when it is handed out no more. One that has exactly `min_ttl` left still is.
    fn open_for(self, life: Duration) -> Duration {
        let last = life.checked_sub(self.min_ttl.duration());
        last.map_or(Duration::ZERO, |last| self.length.duration().min(last + Duration::from_nanos(1)))
    }

    fn is_open(self, minted: &Minted, now: Moment) -> bool {
        minted.age(now) < self.open_for(minted.life)
    }
}

/// A credential, and when and under which name it was made.
#[derive(Debug)]
pub(super) struct Minted {
    at: Moment,
    pub(super) credential: Credential,
    /// How long AWS took it from then on.
    life: Duration,
    pub(super) session_name: String,
}

impl Minted {
    /// Made now. Whoever made it knows AWS's clock.
    pub(super) fn now(cx: &Cx, credential: Credential, clock: Skew, session_name: String) -> Self {
        let at = cx.clock.moment();
        Self { at, life: credential.expiration.since(clock.theirs(at.wall)), credential, session_name }
    }

    /// How long ago it was made, whoever sets this machine's clock.
    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.at)
    }

    /// For how long AWS takes it yet. Whoever sets this machine's clock changes nothing about that.
    pub(super) fn left(&self, now: Moment) -> Duration {
        self.life.saturating_sub(self.age(now))
    }
}

/// A failure that several callers get.
struct Shared {
    kind: Kind,
    message: String,
    retry_after: Seconds,
    cause: Option<Cause>,
}

/// What was behind it, for the log of each of them.
#[derive(Debug, Clone)]
struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Shared {
    fn of(error: Error) -> Self {
        let Error { kind, message, retry_after, source, .. } = error;
        Self { kind, message, retry_after, cause: source.map(|source| Cause(Arc::from(source))) }
    }

    fn error(&self) -> Error {
        let error = Error::new(self.kind, self.message.clone()).retry_after(self.retry_after);
        match &self.cause {
            Some(cause) => error.because(cause.clone()),
            None => error,
        }
    }
}

/// Whose places these requests take: those of the client, which may have as many tokens as it logs in for. What a role shares takes places of the role, so that
/// no client's next credential takes it from the others: but not what a client has chosen, which may be as many as it likes. Sessions of roles on the way
/// are the server's.
fn holder(cx: &Cx, same: &Same) -> Holder {
    let caller = &cx.request.caller;
    match caller.client_id.as_bytes() {
        _ if same.is_hop() => Holder::default(),
        _ if same.caller.is_none() && !same.is_chosen => sha256(format!("role/{}", same.role).as_bytes()),
        b"" => sha256(&caller.key),
        client => sha256(client),
    }
}

/// The credentials that a mount keeps.
pub(super) struct Kept {
    of_callers: Mutex<Places>,
    hops: Mutex<Places>,
    revoked: Arc<Revoked>,
}

/// A request that waits for a credential. Cut off, it leaves its place to those who wait there still, or to nobody.
struct Waiting<'a> {
    table: &'a Mutex<Places>,
    same: &'a Same,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.place.initialized() {
            self.table.lock().leave(self.same, std::mem::take(&mut self.place));
        }
    }
}

impl Kept {
    /// Nothing yet; and never what was ended.
    pub(super) fn beside(revoked: Arc<Revoked>) -> Self {
        Self { of_callers: Mutex::new(Places::new(CALLERS)), hops: Mutex::new(Places::new(HOPS)), revoked }
    }

    /// The kept credential, or the one that `make` makes: once, however many ask at the same moment. A failure goes to all who waited for
    /// it; who asks later tries anew. When the one who makes it goes away, the next who waits takes over.
    pub(super) async fn get<F>(&self, cx: &Cx, same: Same, window: Window, make: impl FnOnce() -> F + Send) -> Result<Arc<Minted>>
    where
        F: Future<Output = Result<Minted>> + Send,
    {
        let Some(place) = self.place(cx, &same, window) else { return make().await.map(Arc::new) };
        let table = self.table(&same);
        let waiting = Waiting { table, same: &same, place };
        let place = &waiting.place;
        let made = place.get_or_init(|| async {
            let minted = make().await.map(Arc::new).map_err(Shared::of)?;
            table.lock().made(&same, place, &minted);
            Ok(minted)
        });
        match made.await {
            Ok(minted) => Ok(Arc::clone(minted)),
            Err(failure) => {
                // Unless another has taken it over.
                table.lock().remove_if(&same, |held| Arc::ptr_eq(held, place));
                Err(failure.error())
            }
        }
    }

    fn table(&self, same: &Same) -> &Mutex<Places> {
        if same.is_hop() { &self.hops } else { &self.of_callers }
    }

    /// The place for these requests: one with a good credential, one where a credential is being made, or a new one. `None` when there is
    /// no room for another.
    fn place(&self, cx: &Cx, same: &Same, window: Window) -> Option<Place> {
        let now = cx.clock.moment();
        let mut places = self.table(same).lock();
        if let Some(place) = places.find(same) {
            let good = match place.get() {
                None => true,
                Some(Ok(minted)) => window.is_open(minted, now) && !self.revoked.ended(&same.input, minted.credential.expiration),
                Some(Err(_)) => false,
            };
            if good {
                return Some(Arc::clone(place));
            }
            places.remove(same);
        }
        places.sweep(now.elapsed);
        let place = places.put(same, holder(cx, same), window);
        if place.is_none()
            && let Some(times) = places.refuse(now.elapsed)
        {
            drop(places);
            let (mount, role, accessor) = (&cx.mount.path, &same.role, &cx.request.caller.accessor);
            tracing::warn!(%mount, %role, %accessor, times, "credentials found no place among those that are handed out again: others have all places, or all of one client are of what is being made");
        }
        place
    }

    /// Forgets a credential that AWS does not know any more, unless another has taken its place.
    pub(super) fn give_up(&self, same: &Same, dead: &Arc<Minted>) {
        self.table(same).lock().remove_if(same, |place| matches!(place.get(), Some(Ok(minted)) if Arc::ptr_eq(minted, dead)));
    }

    /// Forgets what nobody can be handed any more. Called once a minute, so that a credential does not stay in memory for long.
    pub(super) fn tidy(&self, now: Moment) {
        self.of_callers.lock().tidy(now);
        self.hops.lock().tidy(now);
    }

    /// Forgets what was made for a role: it was written or deleted.
    pub(super) fn forget(&self, role: &str) {
        self.of_callers.lock().forget(role);
    }

    /// Forgets everything: the configuration may have changed.
    pub(super) fn clear(&self) {
        self.of_callers.lock().clear();
        self.hops.lock().clear();
    }
}

/// Longest window that a role can set: a credential of STS lives 36 hours at most.
pub(super) const WINDOW_MAX: Seconds = Seconds(36 * 3600);

#[cfg(test)]
mod tests;
