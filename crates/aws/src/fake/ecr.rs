//! Registry logins from memory.

use std::collections::VecDeque;
use std::time::Duration;

use daypass_base::{BoxFuture, Seconds, Secret, Timestamp};

use super::{FakeAws, Made};
use crate::api::{Call, Result};
use crate::ecr::{AuthorizationToken, Ecr, Login, Logins, PUBLIC_REGISTRY};
use crate::{AwsError, Partition};

/// What a [`FakeAws`] plays of ECR.
#[derive(Default)]
pub(super) struct Registries {
    failures: VecDeque<AwsError>,
    wait: Duration,
    given: u64,
}

/// What was asked of ECR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedLogin {
    /// Access key id of the session that asked; `None` for the target's own identity.
    pub session: Option<String>,
    /// Region of the registries.
    pub region: Option<String>,
    /// Where ECR is.
    pub endpoint: Option<String>,
    /// Account numbers of the registries.
    pub registry_ids: Vec<String>,
    /// ECR Public.
    pub public: bool,
}

impl Registries {
    /// The refusal that is queued, if there is one.
    pub(super) fn next_failure(&mut self) -> Option<AwsError> {
        self.failures.pop_front()
    }
}

impl FakeAws {
    /// Queues a refusal of the next `GetAuthorizationToken`, or of the next visit to the console.
    pub fn refuse_login(&self, code: &str, message: &str, status: u16) {
        let error = AwsError::answered(Some(code), Some(message), status, Some("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE"));
        self.state().registries.failures.push_back(error);
    }

    /// Makes every `GetAuthorizationToken` take so long.
    pub fn slow_logins(&self, wait: Duration) {
        self.state().registries.wait = wait;
    }

    fn log_in(&self, call: Call<'_>, input: &AuthorizationToken) -> Result<Logins> {
        let mut state = self.state();
        let session = input.session.as_ref().map(|session| session.access_key_id.clone());
        state.made.push(Made::AuthorizationToken(AskedLogin {
            session: session.clone(),
            region: input.region.clone(),
            endpoint: input.endpoint.clone(),
            registry_ids: input.registry_ids.clone(),
            public: input.public,
        }));
        if let Some(error) = state.registries.next_failure() {
            return Err(error);
        }
        state.registries.given += 1;
        let number = state.registries.given;
        let region = input.region.as_ref().or(call.target.region.as_ref()).map_or("us-east-1", String::as_str);
        // AWS's times have no fractions.
        let expires = Timestamp::from_seconds(state.now(self.clock.now()).seconds()) + LIFE;
        let login = |proxy_endpoint| Login { password: Secret::new(format!("fake-password-{number}")), proxy_endpoint, expires };
        let own = vec!["123456789012".to_owned()];
        let accounts = if input.registry_ids.is_empty() { &own } else { &input.registry_ids };
        let registry = |account: &String| format!("https://{}", Partition::of_region(region).registry(account, region));
        let logins =
            if input.public { vec![login(PUBLIC_REGISTRY.to_owned())] } else { accounts.iter().map(registry).map(login).collect() };
        Ok(Logins { access_key_id: session.unwrap_or_else(|| "ASIAFAKEOWNIDENTITY0".to_owned()), logins })
    }
}

impl Ecr for FakeAws {
    fn get_authorization_token<'a>(&'a self, call: Call<'a>, input: AuthorizationToken) -> BoxFuture<'a, Result<Logins>> {
        Box::pin(async move {
            let wait = self.state().registries.wait;
            if !wait.is_zero() {
                self.clock.sleep(wait).await;
            }
            self.log_in(call, &input)
        })
    }
}

/// Twelve hours, as at AWS.
const LIFE: Seconds = Seconds(43_200);
