//! Identify caller: from a presented token to what it may do. Everything that makes a token unusable is found here: unknown, ended, used
//! up, or used from elsewhere.

use std::sync::Arc;

use daypass_base::Secret;
use daypass_policy::Acl;
use daypass_sdk::{Caller, Error, Operation, Result};

use crate::node::{Inner, Unsealed};
use crate::stages::admit::Admitted;
use crate::stages::door::Routed;
use crate::stages::parse::Parsed;
use crate::tokens::{Known, SPENT, in_networks};

/// Who sent a request.
pub(crate) struct Identified {
    /// The token; `None` on public endpoints without a valid one.
    pub(crate) known: Option<Known>,
    /// What it may do; `None` on public endpoints.
    pub(crate) acl: Option<Arc<Acl>>,
    /// The caller as engines see it.
    pub(crate) caller: Caller,
    _proof: (),
}

impl Identified {
    /// Nobody: for the audit record of a request that failed before anybody was known.
    pub(crate) fn nobody() -> Self {
        Self { known: None, acl: None, caller: Caller::default(), _proof: () }
    }

    /// Whether this request is the last that the token is good for.
    pub(crate) fn last_use(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.row.num_uses == SPENT)
    }
}

/// Errors: `Denied` with the text that fits.
pub(crate) async fn identify(
    inner: &Arc<Inner>,
    unsealed: &Unsealed,
    parsed: &Parsed,
    routed: &Routed,
    _admitted: &Admitted,
) -> Result<Identified> {
    // Help on a public endpoint is help, not a login: it needs a token like any other.
    let public = routed.support.public && parsed.operation != Operation::Help;
    let Some(token) = &parsed.token else {
        return if public { Ok(Identified::nobody()) } else { Err(denied()) };
    };
    let (known, config_version) = unsealed.tokens.find(token).await?;
    // The first read tells how new the configuration is: no decision is made on an older one.
    inner.refresh(unsealed, config_version).await?;
    let remote = parsed.peer.map(|peer| peer.ip());
    if public {
        // A token on a public endpoint is neither needed nor spent; one that is of no use is as good as none.
        let known = known.filter(|known| in_networks(&known.row.bound_cidrs, remote));
        let caller = known.as_ref().map(caller).unwrap_or_default();
        return Ok(Identified { known, acl: None, caller, _proof: () });
    }
    let known = known.ok_or_else(invalid_token)?;
    if !in_networks(&known.row.bound_cidrs, remote) {
        return Err(denied());
    }
    let known = if known.row.num_uses == 0 { Some(known) } else { unsealed.tokens.spend(known).await? };
    let known = known.ok_or_else(invalid_token)?;
    let acl = unsealed.policies.acl(&known.row.policies, &known.row.entity_id, config_version).await?;
    let caller = caller(&known);
    Ok(Identified { known: Some(known), acl: Some(acl), caller, _proof: () })
}

fn caller(known: &Known) -> Caller {
    let row = &known.row;
    Caller {
        display_name: row.display_name.clone(),
        entity_id: row.entity_id.clone(),
        policies: row.policies.clone(),
        metadata: row.meta.clone().unwrap_or_default(),
        token_type: if known.batch { "batch" } else { "service" },
        accessor: row.accessor.clone(),
        token: (!known.batch).then_some(known.id),
        expires: row.expires,
        client_id: client_id(known),
    }
}

/// The entity, or a hash over the policies that stands for callers without one: the same as Vault's, so that client counts of both add up
/// (recorded fixture `terraform-apply`).
fn client_id(known: &Known) -> String {
    if !known.row.entity_id.is_empty() {
        return known.row.entity_id.clone();
    }
    let message = format!("{}\0root", known.row.policies.join("\u{7f}"));
    data_encoding::BASE64.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message.as_bytes()).as_ref())
}

/// No token, or not from here.
pub(crate) fn denied() -> Error {
    Error::new(daypass_sdk::Kind::Denied, "permission denied")
}

/// A token that is of no use.
pub(crate) fn invalid_token() -> Error {
    Error::new(daypass_sdk::Kind::Denied, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
}

/// The presented token for a core room: the only way it travels further.
pub(crate) fn presented(parsed: &Parsed) -> Option<Secret<String>> {
    parsed.token.clone()
}
