//! The two primitives that everything here is made of, AES-256-GCM and HKDF-SHA256, behind the narrowest interface that serves.
//!
//! Every nonce is 96 random bits, so a key may serve for far fewer than 2^32 messages; the caller counts.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use daypass_base::Entropy;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of every key here.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of AES-GCM's authentication tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes that [`Aead::append`] adds to a plain text: nonce and tag.
pub(crate) const AEAD_OVERHEAD: usize = NONCE_LEN + TAG_BYTES;

/// The library refused to work: a length beyond AES-GCM's, or a build that lacks the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("AES-256-GCM failed")]
pub(crate) struct AeadFailed;

/// An AES-256-GCM key, expanded once.
pub(crate) struct Aead(LessSafeKey);

impl Aead {
    /// Expands `key`; the library wipes its copy when this is dropped.
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Result<Self, AeadFailed> {
        UnboundKey::new(&AES_256_GCM, key).map(|key| Self(LessSafeKey::new(key))).map_err(|_unspecified| AeadFailed)
    }

    /// Appends nonce, cipher text and tag of `plain` to `out`, which should have room for them ([`AEAD_OVERHEAD`]).
    pub(crate) fn append(&self, aad: &[u8], plain: &[u8], entropy: &dyn Entropy, out: &mut Vec<u8>) -> Result<(), AeadFailed> {
        let nonce: [u8; NONCE_LEN] = entropy.bytes();
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let in_place = out.get_mut(start..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = match self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), in_place) {
            Ok(tag) => tag,
            Err(_unspecified) => {
                // Whatever is there must not go out as if it were sealed.
                out.zeroize();
                return Err(AeadFailed);
            }
        };
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The plain text of what [`Aead::append`] wrote; `None` when `sealed` or `aad` is not what was sealed.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (cipher, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut plain = Zeroizing::new(vec![0; cipher.len()]);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), cipher, tag, &mut plain).ok()?;
        Some(plain)
    }
}

/// A key derived from `root` for one use, which `label` names (HKDF-SHA256, RFC 5869, no salt, `label` as info).
pub(crate) fn derive(root: &[u8; KEY_BYTES], label: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, AeadFailed> {
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(root);
    key.expand(&[label], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(out.as_mut_slice())).map_err(|_unspecified| AeadFailed)?;
    Ok(out)
}

/// HMAC-SHA256 of `message`.
pub(crate) fn mac(key: &hmac::Key, message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(key, message);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use daypass_base::SystemEntropy;

    use super::*;

    #[test]
    fn derivation_matches_a_vector_computed_elsewhere() {
        // HKDF-SHA256 by RFC 5869 with ikm = 32 bytes of 0x0b, no salt, info "label", 32 bytes; from Python's hmac module.
        let key = derive(&[0x0b; 32], b"label").unwrap();
        assert_eq!(HEXLOWER.encode(key.as_slice()), "b9353292f1f5b8de7612eb413046cf02268318c8b1ec020e2e50f050bd2cb646");
    }

    #[test]
    fn nothing_short_opens() {
        let aead = Aead::new(&[1; 32]).unwrap();
        let mut sealed = Vec::new();
        aead.append(b"a", b"", &SystemEntropy, &mut sealed).unwrap();
        assert_eq!(sealed.len(), AEAD_OVERHEAD);
        assert_eq!(aead.open(b"a", &sealed).unwrap().as_slice(), b"");
        for length in 0..sealed.len() {
            assert!(aead.open(b"a", &sealed[..length]).is_none());
        }
    }
}
