//! Places of calls to AWS: fewer for each origin than there are, so that an endpoint that hangs leaves some to those of other mounts; and some that only calls
//! have that take something back, so that no flood of mints keeps what has ended alive.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daypass_dial::{Place, Places, Room, Share};
use http::Uri;

use super::LiveAws;
use crate::AwsError;
use crate::api::{Purpose, Result};

/// Calls; each has a socket and some ten kilobytes. Those to one origin are enough for 256 callers who ask without a pause: STS itself throttles an account
/// well below this. Who waits is a request, and the server has 4096 (`Limits::requests`): with 1792 of them here, 896 and 384 in logins that are sent on
/// ([`super::forward`]), and 448 that ask identity providers, an eighth is left for what asks nobody. Not counted is who waits for keys of the server's own, of which
/// there are none yet, or for a credential that is being made for others too.
pub(super) const USUAL: Room = Room { all: 1024, of_origin: 384, waiting: 640, waiting_in_all: 768 };
/// Calls that take something back, with those that are made to see whether they may. The expiry worker makes 16 at once, and is never sent away: there are
/// mints before it in the line, and what it cannot end lives on.
const BACK: Room = Room { all: 64, of_origin: 32, waiting: usize::MAX, waiting_in_all: usize::MAX };

/// The places of all calls.
pub(super) struct Queues {
    pub(super) usual: Places,
    /// For what takes something back: see [`Purpose::TakeBack`].
    pub(super) back: Places,
}

/// An origin whose places are kept with the clients that call it.
pub(super) struct Door {
    name: String,
    usual: Arc<Share>,
    back: Arc<Share>,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self { usual: Places::new(USUAL), back: Places::new(BACK) }
    }

    pub(super) fn door(&self, name: String) -> Door {
        Door { usual: self.usual.share(&name), back: self.back.share(&name), name }
    }

    /// A place for a call through a door.
    pub(super) async fn through<'a>(&'a self, door: &Door, purpose: Purpose, told: &Told) -> Result<Place<'a>> {
        match purpose {
            Purpose::TakeBack => taken(&self.back, &door.back, &door.name, told).await,
            Purpose::Usual => taken(&self.usual, &door.usual, &door.name, told).await,
        }
    }

    /// The same, if there is one now.
    pub(super) fn through_now(&self, door: &Door, purpose: Purpose) -> Option<Place<'_>> {
        match purpose {
            Purpose::TakeBack => self.back.take_now(&door.back),
            Purpose::Usual => self.usual.take_now(&door.usual),
        }
    }
}

impl LiveAws {
    /// Does work within its deadline. Where that is over, what `told` says tells more.
    pub(super) async fn within<T>(&self, deadline: Duration, told: &Told, work: Pin<&mut impl Future<Output = Result<T>>>) -> Result<T> {
        self.until(deadline, work).await.map_err(|error| told.taken().unwrap_or(error))
    }
}

/// A place for a call to `name`, once there is one. Until then `told` says what is waited for. Errors: [`AwsError::is_crowded`].
pub(super) async fn taken<'a>(places: &'a Places, share: &Arc<Share>, name: &str, told: &Told) -> Result<Place<'a>> {
    if let Some(place) = places.take_now(share) {
        return Ok(place);
    }
    let says_so = told.say_if_silent(|| unsent(places, name));
    let place = places.take(share).await.map_err(|none| AwsError::crowded(format!("Post {name:?}: not sent: {none}")));
    if says_so {
        told.say(None);
    }
    place
}

fn unsent(places: &Places, name: &str) -> AwsError {
    AwsError::crowded(format!(
        "Post {name:?}: not sent: {} calls to it, or {} in all, may be under way at one moment, and this one had no turn among them in the time that its \
         request had; see that the endpoint answers, and ask again later",
        places.room().of_origin,
        places.room().all
    ))
}

/// Why a call has no answer yet, where there is more to say than that. It is told when the call's time is up.
#[derive(Default)]
pub(super) struct Told(Mutex<Option<AwsError>>);

impl Told {
    pub(super) fn say(&self, error: Option<AwsError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Unless something is said already. Whether it was not.
    fn say_if_silent(&self, error: impl FnOnce() -> AwsError) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = told.is_none();
        if silent {
            *told = Some(error());
        }
        silent
    }

    fn taken(&self) -> Option<AwsError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Scheme, host and port: whose places a call has.
pub(super) fn origin(uri: &Uri) -> String {
    let host = uri.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), host.to_ascii_lowercase())
}

/// The same of a URL that is one in all likelihood.
pub(super) fn origin_of(url: &str) -> String {
    url.parse().map_or_else(|_no_url: http::uri::InvalidUri| url.to_owned(), |uri| origin(&uri))
}
