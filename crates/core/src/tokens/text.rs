//! What a token looks like.
//!
//! A service token is `hvs.` and the URL-safe base64 of its id (16 bytes) and secret (24 bytes): 58 characters. A root token is `hvs.` and
//! 24 characters, as Vault's, because `operator generate-root` counts on that length; like a text of the caller's own choice it carries
//! no id, so its id is a keyed hash of it. A batch token is `hvb.` and its sealed state.

use data_encoding::BASE64URL_NOPAD;
use daypass_barrier::{Barrier, Purpose};
use daypass_base::{Clock, Entropy, Secret};
use daypass_sdk::TokenId;
use zeroize::Zeroize;

use super::{TokenRow, batch};
use crate::ids;

/// What a presented text turned out to be.
pub(crate) enum Presented {
    Batch(Box<TokenRow>),
    Nonsense,
    Service { id: TokenId, secret: Secret<Vec<u8>> },
}

/// A new token's parts.
pub(super) struct Fresh {
    pub(super) text: Secret<String>,
    pub(super) id: TokenId,
    pub(super) secret: Secret<Vec<u8>>,
}

/// Takes a presented text apart. Costs no more for a wrong one than for a right one.
pub(crate) fn present(text: &Secret<String>, barrier: &Barrier) -> Presented {
    // Exposed to be taken apart; every part that is secret is a Secret again.
    let raw = text.expose();
    if raw.len() > TEXT_BYTES_MAX || raw.is_empty() || raw.bytes().any(|byte| !(0x21..=0x7e).contains(&byte)) {
        return Presented::Nonsense;
    }
    if let Some(sealed) = raw.strip_prefix("hvb.") {
        return batch::open(sealed, barrier).map_or(Presented::Nonsense, |row| Presented::Batch(Box::new(row)));
    }
    if let Some(body) = raw.strip_prefix("hvs.").filter(|body| body.len() == SERVICE_BODY) {
        let Ok(mut bytes) = BASE64URL_NOPAD.decode(body.as_bytes()) else { return Presented::Nonsense };
        let parts = bytes.split_at_checked(16).and_then(|(id, secret)| Some((TokenId(id.try_into().ok()?), Secret::new(secret.to_vec()))));
        bytes.zeroize();
        return parts.map_or(Presented::Nonsense, |(id, secret)| Presented::Service { id, secret });
    }
    let Fresh { id, secret, .. } = custom(text.clone(), barrier);
    Presented::Service { id, secret }
}

/// A new service token.
pub(super) fn service(clock: &dyn Clock, entropy: &dyn Entropy) -> Fresh {
    let id = TokenId(ids::new_id(clock, entropy));
    let secret = entropy.bytes::<24>();
    let mut all = [id.0.as_slice(), secret.as_slice()].concat();
    let text = format!("hvs.{}", BASE64URL_NOPAD.encode(&all));
    all.zeroize();
    Fresh { text: Secret::new(text), id, secret: Secret::new(secret.to_vec()) }
}

/// A new root token.
pub(super) fn root(entropy: &dyn Entropy, barrier: &Barrier) -> Fresh {
    custom(Secret::new(format!("hvs.{}", entropy.base62(24))), barrier)
}

/// A token whose text carries no id.
pub(super) fn custom(text: Secret<String>, barrier: &Barrier) -> Fresh {
    // Hashed with a key: the id says nothing about the text.
    let mac = barrier.mac(Purpose::Token, &[b"id of ", text.expose().as_bytes()].concat());
    let mut id = [OF_CHOICE; 16];
    for (to, from) in id.iter_mut().skip(1).zip(mac) {
        *to = from;
    }
    let secret = Secret::new(text.expose().as_bytes().to_vec());
    Fresh { text, id: TokenId(id), secret }
}

/// Whether a token's text was somebody's own choice: its id says nothing of when it was made, and it can be made again when it is gone.
pub(crate) fn is_of_choice(id: TokenId) -> bool {
    id.0.first() == Some(&OF_CHOICE)
}

/// What ids of such tokens begin with: no clock comes to it.
const OF_CHOICE: u8 = 0xff;

/// Characters after `hvs.` of a service token: base64 of 40 bytes.
const SERVICE_BODY: usize = 54;
/// The longest text that is looked at: batch tokens with much metadata are long.
pub(super) const TEXT_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daypass_barrier::{Keyring, RootKey};
    use daypass_base::sim::{SeededEntropy, SimClock};

    use super::*;

    fn barrier() -> Barrier {
        let entropy = Arc::new(SeededEntropy::new(7));
        let keyring = Keyring::generate(&*entropy, SimClock::default().now());
        Barrier::new(keyring, RootKey::generate(&*entropy), entropy).unwrap()
    }

    #[test]
    fn a_service_token_carries_its_id() {
        let fresh = service(&SimClock::default(), &SeededEntropy::new(3));
        assert_eq!(fresh.text.expose().len(), 58);
        let Presented::Service { id, secret } = present(&fresh.text, &barrier()) else { panic!("a service token") };
        assert_eq!((id, secret == fresh.secret), (fresh.id, true));
    }

    #[test]
    fn a_root_token_is_as_long_as_vaults() {
        assert_eq!(root(&SeededEntropy::new(3), &barrier()).text.expose().len(), 28);
    }

    #[test]
    fn nonsense_is_told_apart_without_a_look_up() {
        for text in ["", "hvb.x", "hvs.\u{e9}", "a\nb", "x y", &"z".repeat(20_000), &format!("hvs.{}", "!".repeat(54))] {
            assert!(matches!(present(&Secret::from(text), &barrier()), Presented::Nonsense), "{text:?}");
        }
    }
}
