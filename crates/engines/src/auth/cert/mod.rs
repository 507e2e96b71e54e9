//! `auth/cert`: logins with the certificate that a client shows over TLS.
//!
//! - `certs/` says which certificates are trusted, what else must hold, and what whoever logs in gets. See [`certs`], [`role`] and [`trusted`].
//! - `login` reads the client's certificate ([`leaf`]) and has its chain judged ([`chain`]). The handshake proved that the client holds the key,
//!   and no more.
//! - `crls/` has revocation lists, brought or fetched. See [`crls`] and [`crl`].
//! - Responders of OCSP are asked where an entry says so. See [`ocsp`].
//!
//! Chains are built and verified by webpki, at the time of `Cx::clock`. What it leaves to its callers is checked in [`chain`]: the trusted
//! certificate's own validity and path length, key usage, and that a list which names a certificate counts whoever signed it.
//!
//! Must never: trust a certificate for its key, serial number or name alone; let a list be forgotten because it is old or wrongly signed.
//!
//! Sources: Vault API, "TLS certificates auth method"; RFC 5280.

mod certs;
mod chain;
mod config;
mod crl;
mod crls;
#[doc(hidden)]
pub mod fuzzing;
mod leaf;
mod login;
mod ocsp;
mod pem;
mod role;
mod trusted;
mod unread;

use std::sync::Arc;

use daypass_base::Places;
use daypass_idp::Idp;
use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, Renewal, Result};
use serde_json::Value;

/// The TLS certificate auth method of one mount.
pub struct Cert {
    /// Fetches revocation lists and asks responders of OCSP.
    idp: Arc<dyn Idp>,
    /// What responders told lately.
    kept: ocsp::Kept,
    /// Of logins and renewals whose certificates are asked about.
    asking: Places,
}

impl Cert {
    /// A mount that fetches revocation lists and asks about certificates by `idp`.
    pub fn new(idp: Arc<dyn Idp>) -> Self {
        Self { idp, kept: ocsp::Kept::default(), asking: ocsp::places() }
    }
}

impl Engine for Cert {
    const SUMMARY: &'static str = "Logs in whoever shows a trusted certificate over TLS.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        vec![certs::list_endpoint(), certs::endpoint(), crls::list_endpoint(), crls::endpoint(), config::endpoint(), login::endpoint()]
    }

    fn renew_login(self: Arc<Self>, cx: Cx, internal: Value) -> BoxFuture<'static, Result<Renewal>> {
        Box::pin(login::renew(self, cx, internal))
    }

    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { crls::refresh(&self, &cx).await })
    }
}

#[cfg(test)]
mod tests;
