//! Sealed texts: what the sandbox hands out and wants to recognise later without remembering it (session tokens, registry passwords,
//! metadata tokens). AES-256-GCM under a key that lives as long as the process, so nothing grows and a restart ends every session.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use data_encoding::BASE64;
use daypass_base::Entropy;

/// What a sealed text is for; one purpose's text does not open as another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Metadata,
    Registry,
    Session,
    Signin,
}

impl Purpose {
    /// The bytes in front. A session's show as `FwoGZXIvZHBz`, close to what AWS's tokens begin with.
    fn mark(self) -> &'static [u8; 9] {
        match self {
            Self::Metadata => b"\x01metadata",
            Self::Registry => b"\x02registry",
            Self::Signin => b"\x03signinit",
            Self::Session => b"\x17\x0a\x06er/dps",
        }
    }
}

/// Seals and opens, and derives the secrets of temporary keys.
pub(crate) struct Sealer {
    aead: LessSafeKey,
    derive: hmac::Key,
    entropy: Arc<dyn Entropy>,
}

impl Sealer {
    /// With fresh keys. `None` only if the crypto library refuses a key of the right length.
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Option<Self> {
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &entropy.bytes::<32>()).ok()?);
        let derive = hmac::Key::new(hmac::HMAC_SHA256, &entropy.bytes::<32>());
        Some(Self { aead, derive, entropy })
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    /// `None` only if the crypto library fails.
    pub(crate) fn seal(&self, purpose: Purpose, plain: &[u8]) -> Option<String> {
        let nonce = self.entropy.bytes::<NONCE_LEN>();
        let mut sealed = Vec::with_capacity(plain.len() + 64);
        sealed.extend_from_slice(purpose.mark());
        sealed.extend_from_slice(&nonce);
        let mut body = plain.to_vec();
        self.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose.mark()), &mut body).ok()?;
        sealed.extend_from_slice(&body);
        Some(BASE64.encode(&sealed))
    }

    /// `None` when it was not sealed here for this purpose.
    pub(crate) fn open(&self, purpose: Purpose, text: &str) -> Option<Vec<u8>> {
        let bytes = BASE64.decode(text.as_bytes()).ok()?;
        let rest = bytes.strip_prefix(purpose.mark().as_slice())?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let plain = self.aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose.mark()), &mut body).ok()?;
        Some(plain.to_vec())
    }

    /// The secret access key that belongs to a temporary key id: 40 characters.
    pub(crate) fn secret_of(&self, key_id: &str) -> String {
        let tag = hmac::sign(&self.derive, key_id.as_bytes());
        BASE64.encode(tag.as_ref().get(..30).unwrap_or_default())
    }
}

/// What an id names, by its prefix. Source: IAM user guide, "Understanding unique ID prefixes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    AccessKey,
    Group,
    ManagedPolicy,
    Role,
    TemporaryKey,
    User,
}

/// A new id: prefix and 16 characters (keys) or 17 (others) of base32. Keys carry their account as AWS's do, so `sts:GetAccessKeyInfo` can tell it.
pub(crate) fn new_id(entropy: &dyn Entropy, kind: IdKind, account: &str) -> String {
    let (prefix, keyed) = match kind {
        IdKind::AccessKey => ("AKIA", true),
        IdKind::Group => ("AGPA", false),
        IdKind::ManagedPolicy => ("ANPA", false),
        IdKind::Role => ("AROA", false),
        IdKind::TemporaryKey => ("ASIA", true),
        IdKind::User => ("AIDA", false),
    };
    let mut random = entropy.bytes::<11>();
    if keyed {
        // 80 bits: one set bit, 40 of the account, 39 random ones.
        let account = account.parse::<u128>().unwrap_or(0) & ((1 << 40) - 1);
        let low = random.iter().take(5).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte)) & ((1 << 39) - 1);
        let bits = (1_u128 << 79) | (account << 39) | low;
        for (to, from) in random.iter_mut().zip(bits.to_be_bytes().into_iter().skip(6)) {
            *to = from;
        }
    }
    let text = data_encoding::BASE32_NOPAD.encode(&random);
    format!("{prefix}{}", text.get(..if keyed { 16 } else { 17 }).unwrap_or_default())
}

/// The account inside a key id that [`new_id`] made.
pub(crate) fn account_of_key(key_id: &str) -> Option<String> {
    let bytes = data_encoding::BASE32_NOPAD.decode(key_id.get(4..)?.as_bytes()).ok()?;
    let bits = bytes.get(..6)?.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    Some(format!("{:012}", (bits & 0x7fff_ffff_ff80) >> 7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daypass_base::sim::SeededEntropy;

    #[test]
    fn sealed_texts_open_for_their_purpose_only() {
        let sealer = Sealer::new(Arc::new(SeededEntropy::new(1))).unwrap();
        let text = sealer.seal(Purpose::Session, b"hello").unwrap();
        assert!(text.starts_with("FwoGZXIvZHBz"), "{text}");
        assert_eq!(sealer.open(Purpose::Session, &text).unwrap(), b"hello");
        assert!(sealer.open(Purpose::Registry, &text).is_none());
        let mut bent = text.into_bytes();
        bent[30] ^= 1;
        assert!(sealer.open(Purpose::Session, &String::from_utf8(bent).unwrap()).is_none());
        assert!(sealer.open(Purpose::Session, "").is_none());
        let other = Sealer::new(Arc::new(SeededEntropy::new(2))).unwrap();
        assert!(other.open(Purpose::Session, &sealer.seal(Purpose::Session, b"x").unwrap()).is_none());
    }

    #[test]
    fn key_ids_look_like_those_of_aws_and_carry_their_account() {
        let entropy = SeededEntropy::new(3);
        for account in ["999999999999", "111111111111", "000000000001"] {
            let id = new_id(&entropy, IdKind::TemporaryKey, account);
            assert_eq!(id.len(), 20);
            assert!(id.starts_with("ASIA"));
            assert_eq!(account_of_key(&id).as_deref(), Some(account));
        }
        assert_eq!(new_id(&entropy, IdKind::Role, "111111111111").len(), 21);
        let sealer = Sealer::new(Arc::new(SeededEntropy::new(1))).unwrap();
        assert_eq!(sealer.secret_of("ASIAX").len(), 40);
        assert_ne!(sealer.secret_of("ASIAX"), sealer.secret_of("ASIAY"));
    }
}
