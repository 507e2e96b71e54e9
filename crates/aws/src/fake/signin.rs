//! Visits to the console from memory.

use daypass_base::{BoxFuture, Seconds, Secret};

use super::{FakeAws, Made, ready};
use crate::api::{Call, Result};
use crate::signin::{ConsoleVisit, SignIn};

/// What was asked of the sign-in endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedVisit {
    /// Access key id of the session.
    pub session: String,
    /// The endpoint.
    pub endpoint: String,
    /// The page to open.
    pub destination: String,
    /// The page to sign in again.
    pub issuer: String,
    /// Lifetime of the console's session.
    pub duration: Option<Seconds>,
}

impl SignIn for FakeAws {
    fn sign_in<'a>(&'a self, _: Call<'a>, visit: ConsoleVisit) -> BoxFuture<'a, Result<Secret<String>>> {
        let url = Secret::new(format!("{}?Action=login&SigninToken=fake-signin-token", visit.endpoint));
        let asked = AskedVisit {
            session: visit.session.access_key_id,
            endpoint: visit.endpoint,
            destination: visit.destination,
            issuer: visit.issuer,
            duration: visit.duration,
        };
        let mut state = self.state();
        state.made.push(Made::ConsoleVisit(asked));
        let refused = state.registries.next_failure();
        drop(state);
        ready(refused.map_or(Ok(url), Err))
    }
}
