//! What fuzz targets reach of this method: the readers of what strangers show and operators bring. Not part of the API.

use std::sync::Arc;

use daypass_base::ClientChain;
use daypass_sdk::Timestamp;

use super::chain::{Judge, Refusal};
use super::crl::{Crl, Stored};
use super::leaf::Leaf;
use super::ocsp;
use super::trusted::Trusted;

/// Reads a certificate. Says whether no name of one that is read has control characters.
#[must_use]
pub fn read_certificate(der: &[u8]) -> bool {
    let Ok(leaf) = Leaf::read(der) else { return true };
    let names = [&leaf.dns_names, &leaf.emails, &leaf.uris, &leaf.organizational_units, &leaf.organizations];
    let plain = names.into_iter().flatten().chain([&leaf.common_name]).all(|name| !name.chars().any(char::is_control));
    plain && leaf.extensions.keys().all(|oid| leaf.extension_text(oid).is_some_and(|text| !text.chars().any(char::is_control)))
}

/// Reads a list. Says whether reading it again from its stored form gives the same.
#[must_use]
pub fn read_list(der: &[u8]) -> bool {
    let Ok(list) = Crl::read(der, Stored::of(der, "", Timestamp::from_seconds(0))) else { return true };
    let _shown = list.shown();
    Crl::try_from(list.stored.clone()).is_ok_and(|again| again.shown() == list.shown())
}

/// Judges a chain by an authority and a list. Says whether it is refused where no authority is trusted.
#[must_use]
pub fn judge(authority: &[u8], certificates: &[&[u8]], list: &[u8]) -> bool {
    let lists: Vec<Arc<Crl>> = Crl::read(list, Stored::of(list, "", Timestamp::from_seconds(0))).into_iter().map(Arc::new).collect();
    let judge = Judge { now: Timestamp::from_seconds(1_767_323_045), lists: &lists };
    let Ok(chain) = ClientChain::of(certificates.iter().copied()) else { return true };
    let none = judge.vouched(&chain, &[]);
    let trusted = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", data_encoding::BASE64.encode(authority));
    if let Ok(Trusted::Authorities(authorities)) = Trusted::read(&trusted) {
        let _good_or_refused = judge.vouched(&chain, &authorities);
    }
    none.is_err() && (!certificates.is_empty() || none == Err(Refusal::Unknown))
}

/// Reads an answer of OCSP about a certificate. Says whether one that counts is about that certificate alone, and counts no more once it has ended.
#[must_use]
pub fn read_answer(issuer: &[u8], serial: &[u8], answer: &[u8]) -> bool {
    // When the seeds were signed.
    ocsp::is_about_one(issuer, serial, answer, Timestamp::from_seconds(1_795_956_769))
}
