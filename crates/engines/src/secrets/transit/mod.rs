//! Transit: cryptography as a service. Keys have names and versions and stay inside, unless they were made to be exported.
//!
//! Owns these rows: `key/<name>`, a key with all its versions, so that every change of it is one commit under the condition that the row
//! still is as it was read; `wrapping-key`, the RSA key under which keys are brought in; `config/keys` and `config/cache`.
//!
//! Keys are decided on in [`key`] (pure), read and committed in [`rows`], made and parsed in [`material`], used in [`cipher`] and
//! [`signing`]. Texts from outside are read in [`payload`]. The endpoints stand in the files named after them. All cryptography is the
//! crypto library's; what it does not offer is refused in words, never put together here.
//!
//! Source: Vault API, "Transit secrets engine"; recorded fixture `transit-basics`.

mod backup;
mod batch;
mod byok;
mod cache;
mod certificates;
mod cipher;
mod datakey;
mod decrypt;
mod encrypt;
mod export;
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod hashing;
mod hmac;
mod import;
mod key;
mod key_type;
mod keys;
mod material;
mod payload;
mod pem;
mod random;
mod rewrap;
mod rotate;
mod rows;
mod settings;
mod sign;
mod signing;
mod verify;
mod work;

use std::sync::Arc;

use daypass_sdk::{BoxFuture, Cx, Endpoint, Engine, Result};

/// The transit secrets engine of one mount.
#[derive(Default)]
pub struct Transit {
    cache: cache::Cache,
    rotation: rotate::Schedule,
    work: work::Turns,
}

impl Engine for Transit {
    const SUMMARY: &'static str = "Encrypts, decrypts, signs and verifies with keys that stay inside.";

    fn endpoints() -> Vec<Endpoint<Self>> {
        let mut endpoints = keys::endpoints();
        endpoints.extend([rotate::endpoint(), encrypt::endpoint(), decrypt::endpoint(), rewrap::endpoint(), datakey::endpoint()]);
        endpoints.extend([sign::endpoint(), verify::endpoint(), hmac::endpoint(), hash::endpoint(), random::endpoint()]);
        endpoints.extend([export::endpoint(), byok::endpoint(), backup::endpoint(), backup::restore_endpoint()]);
        endpoints.extend(import::endpoints());
        endpoints.extend(certificates::endpoints());
        endpoints.extend(settings::endpoints());
        endpoints
    }

    fn tick(self: Arc<Self>, cx: Cx) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { rotate::tick(&self, &cx).await })
    }

    fn invalidate(&self) {
        self.cache.clear();
    }
}

#[cfg(test)]
mod tests;
