//! The keyring: data keys by term, and the root of all keyed hashes. It is stored sealed under the root key.
//!
//! Plain form, all numbers big-endian, which exists only inside the seal:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | format version, 1 |
//! | 32 | MAC root key, the same for the keyring's whole life |
//! | 4 | number of terms |
//! | per term: 4, 8, 8, 32 | term number, time of installation in ns since 1970, encryptions counted so far, AES-256 key |
//!
//! Sealed form: version byte 1, nonce, cipher text, tag, under the root key with [`KEYRING_AAD`].

use daypass_base::{Entropy, Secret, Timestamp};
use zeroize::Zeroizing;

use crate::primitive::{AEAD_OVERHEAD, Aead, KEY_BYTES};

/// The most terms a keyring holds. A term a day is 27 years; values of an old term must be read for as long as they exist.
pub const TERMS_MAX: usize = 10_000;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 1 + KEY_BYTES + 4;
const TERM_BYTES: usize = 4 + 8 + 8 + KEY_BYTES;
const KEYRING_AAD: &[u8] = b"daypass keyring";

/// Why a keyring could not be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The bytes were opened but do not say what a keyring says: a bug or a future format without a new version.
    #[error("the keyring was opened but is malformed: {0}")]
    Malformed(&'static str),
    /// The root key is another one, or the bytes were changed.
    #[error("the keyring does not open with this root key")]
    NotAuthentic,
    /// The library failed to encrypt, which needs no key or data to be wrong.
    #[error("the keyring could not be encrypted")]
    NotSealed,
    /// [`TERMS_MAX`] is reached.
    #[error(
        "the keyring is full: it has {TERMS_MAX} terms, the limit; rewrite the stored values under the newest term and start a new keyring"
    )]
    TooManyTerms,
    /// Written by a newer daypass, or not a keyring.
    #[error("keyring format {0} is not known to this version of daypass, which reads format {FORMAT}")]
    UnknownFormat(u8),
}

/// The key that opens the keyring. It lives in memory while the server is unsealed and is stored only under a seal.
#[derive(Debug, Clone)]
pub struct RootKey(Secret<[u8; KEY_BYTES]>);

impl RootKey {
    /// A new random root key.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(Secret::new(entropy.bytes()))
    }

    /// Takes charge of a key that was opened.
    #[must_use]
    pub fn new(key: Secret<[u8; KEY_BYTES]>) -> Self {
        Self(key)
    }

    /// The key's bytes, for those that seal with it.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        // Goes to the AEAD, or under a seal.
        self.0.expose()
    }
}

/// A data key and what is known of it.
#[derive(Clone)]
pub(crate) struct Term {
    pub(crate) number: u32,
    pub(crate) installed: Timestamp,
    /// Encryptions under this term when the keyring was last written.
    pub(crate) encryptions: u64,
    pub(crate) key: Secret<[u8; KEY_BYTES]>,
}

/// Data keys by term, never empty, with rising numbers; the last one seals. See the module for its stored form.
#[derive(Clone)]
pub struct Keyring {
    mac_root: Secret<[u8; KEY_BYTES]>,
    terms: Vec<Term>,
}

impl Keyring {
    /// A keyring with term 1, installed `now`.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy, now: Timestamp) -> Self {
        let first = Term { number: 1, installed: now, encryptions: 0, key: Secret::new(entropy.bytes()) };
        Self { mac_root: Secret::new(entropy.bytes()), terms: vec![first] }
    }

    /// Adds a term, which seals from then on, and returns its number. Fails when the keyring is full.
    pub fn add_term(&mut self, entropy: &dyn Entropy, now: Timestamp) -> Result<u32, KeyringError> {
        if self.terms.len() >= TERMS_MAX {
            return Err(KeyringError::TooManyTerms);
        }
        let number = self.newest().checked_add(1).ok_or(KeyringError::TooManyTerms)?;
        self.terms.push(Term { number, installed: now, encryptions: 0, key: Secret::new(entropy.bytes()) });
        Ok(number)
    }

    /// The number of the term that seals.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.terms.last().map_or(0, |term| term.number)
    }

    /// The keyring sealed under `root`, to be stored.
    pub fn seal(&self, root: &RootKey, entropy: &dyn Entropy) -> Result<Vec<u8>, KeyringError> {
        let plain = self.to_bytes();
        let mut out = Vec::with_capacity(1 + plain.len() + AEAD_OVERHEAD);
        out.push(FORMAT);
        let aead = Aead::new(root.bytes()).map_err(|_failed| KeyringError::NotSealed)?;
        aead.append(KEYRING_AAD, &plain, entropy, &mut out).map_err(|_failed| KeyringError::NotSealed)?;
        Ok(out)
    }

    /// Reads what [`Keyring::seal`] wrote.
    pub fn open(sealed: &[u8], root: &RootKey) -> Result<Self, KeyringError> {
        let Some((format, rest)) = sealed.split_first() else { return Err(KeyringError::NotAuthentic) };
        if *format != FORMAT {
            return Err(KeyringError::UnknownFormat(*format));
        }
        if rest.len() > HEADER_BYTES + TERMS_MAX * TERM_BYTES + AEAD_OVERHEAD {
            return Err(KeyringError::TooManyTerms);
        }
        let aead = Aead::new(root.bytes()).map_err(|_failed| KeyringError::NotAuthentic)?;
        let plain = aead.open(KEYRING_AAD, rest).ok_or(KeyringError::NotAuthentic)?;
        Self::from_bytes(&plain)
    }

    /// The terms, oldest first.
    pub(crate) fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Writes down how often each term has been used.
    pub(crate) fn terms_mut(&mut self) -> impl Iterator<Item = &mut Term> {
        self.terms.iter_mut()
    }

    /// The root of all keyed hashes.
    pub(crate) fn mac_root(&self) -> &Secret<[u8; KEY_BYTES]> {
        &self.mac_root
    }

    /// Whether this keyring has every key that `older` has: whether it may take its place.
    pub(crate) fn extends(&self, older: &Self) -> bool {
        let same = |(new, old): (&Term, &Term)| new.number == old.number && new.key == old.key;
        self.mac_root == older.mac_root && self.terms.len() >= older.terms.len() && self.terms.iter().zip(&older.terms).all(same)
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Room for all of it at once: growing would leave copies of keys behind.
        let mut out = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + self.terms.len() * TERM_BYTES));
        out.push(FORMAT);
        // Exposed to the buffer that is sealed and wiped.
        out.extend_from_slice(self.mac_root.expose());
        out.extend_from_slice(&u32::try_from(self.terms.len()).unwrap_or(u32::MAX).to_be_bytes());
        for term in &self.terms {
            out.extend_from_slice(&term.number.to_be_bytes());
            out.extend_from_slice(&term.installed.nanos().to_be_bytes());
            out.extend_from_slice(&term.encryptions.to_be_bytes());
            // Exposed to the buffer that is sealed and wiped.
            out.extend_from_slice(term.key.expose());
        }
        out
    }

    fn from_bytes(plain: &[u8]) -> Result<Self, KeyringError> {
        let mut rest = plain;
        let [format] = take(&mut rest)?;
        if format != FORMAT {
            return Err(KeyringError::UnknownFormat(format));
        }
        let mac_root = Secret::new(take(&mut rest)?);
        let count = u32::from_be_bytes(take(&mut rest)?);
        let count = usize::try_from(count).ok().filter(|count| *count <= TERMS_MAX).ok_or(KeyringError::TooManyTerms)?;
        let mut terms: Vec<Term> = Vec::with_capacity(count);
        for _ in 0..count {
            let number = u32::from_be_bytes(take(&mut rest)?);
            if number <= terms.last().map_or(0, |term| term.number) {
                return Err(KeyringError::Malformed("its terms do not rise"));
            }
            let installed = Timestamp::from_nanos(i64::from_be_bytes(take(&mut rest)?));
            let encryptions = u64::from_be_bytes(take(&mut rest)?);
            terms.push(Term { number, installed, encryptions, key: Secret::new(take(&mut rest)?) });
        }
        if terms.is_empty() {
            return Err(KeyringError::Malformed("it has no term"));
        }
        if rest.is_empty() { Ok(Self { mac_root, terms }) } else { Err(KeyringError::Malformed("bytes follow its last term")) }
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("terms", &self.terms.len()).field("newest", &self.newest()).finish_non_exhaustive()
    }
}

/// The next `N` bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], KeyringError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(KeyringError::Malformed("it ends early"))?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use daypass_base::sim::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    fn keyring(terms: u32) -> Keyring {
        let entropy = SeededEntropy::new(3);
        let mut keyring = Keyring::generate(&entropy, Timestamp::from_seconds(1));
        for number in 2..=terms {
            assert_eq!(keyring.add_term(&entropy, Timestamp::from_seconds(i64::from(number))).unwrap(), number);
        }
        keyring
    }

    #[test]
    fn survives_sealing_with_terms_times_and_counts() {
        let entropy = SeededEntropy::new(4);
        let root = RootKey::generate(&entropy);
        let mut keyring = keyring(3);
        keyring.terms_mut().for_each(|term| term.encryptions = 7 * u64::from(term.number));
        let read = Keyring::open(&keyring.seal(&root, &entropy).unwrap(), &root).unwrap();
        assert_eq!(read.to_bytes(), keyring.to_bytes());
        assert_eq!((read.newest(), read.terms()[2].installed, read.terms()[2].encryptions), (3, Timestamp::from_seconds(3), 21));
        assert!(!format!("{read:?}").contains("key:"));
    }

    #[test]
    fn another_root_key_does_not_open_it() {
        let entropy = SeededEntropy::new(5);
        let sealed = keyring(1).seal(&RootKey::generate(&entropy), &entropy).unwrap();
        assert_eq!(Keyring::open(&sealed, &RootKey::generate(&entropy)).unwrap_err(), KeyringError::NotAuthentic);
        assert_eq!(Keyring::open(&[], &RootKey::generate(&entropy)).unwrap_err(), KeyringError::NotAuthentic);
        assert_eq!(Keyring::open(&[9; 200], &RootKey::generate(&entropy)).unwrap_err(), KeyringError::UnknownFormat(9));
    }

    #[test]
    fn a_full_keyring_takes_no_term_and_still_opens() {
        let entropy = SeededEntropy::new(6);
        let root = RootKey::generate(&entropy);
        let mut full = keyring(u32::try_from(TERMS_MAX).unwrap());
        assert_eq!(full.add_term(&entropy, Timestamp::default()), Err(KeyringError::TooManyTerms));
        assert_eq!(Keyring::open(&full.seal(&root, &entropy).unwrap(), &root).unwrap().newest(), 10_000);
    }

    #[test]
    fn malformed_contents_are_refused() {
        let good = keyring(2).to_bytes();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            Keyring::from_bytes(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 2), KeyringError::UnknownFormat(2));
        assert_eq!(with(33, 1), KeyringError::TooManyTerms);
        assert_eq!(with(36, 0), KeyringError::Malformed("it has no term"));
        assert_eq!(with(36, 1), KeyringError::Malformed("bytes follow its last term"));
        assert_eq!(with(36, 3), KeyringError::Malformed("it ends early"));
        assert_eq!(with(40, 2), KeyringError::Malformed("its terms do not rise"));
    }

    #[test]
    fn only_a_longer_ring_of_the_same_keys_extends() {
        let (short, long) = (keyring(2), keyring(3));
        assert!(long.extends(&short) && short.extends(&short) && !short.extends(&long));
        let mut other = Keyring::generate(&SeededEntropy::new(9), Timestamp::default());
        other.add_term(&SeededEntropy::new(9), Timestamp::default()).unwrap();
        assert!(!other.extends(&keyring(1)));
    }

    proptest! {
        #[test]
        fn bytes_from_anywhere_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _result = Keyring::from_bytes(&bytes);
        }

        #[test]
        fn one_flipped_bit_anywhere_is_seen(at in 0_usize..2000, bit in 0_u8..8) {
            let entropy = SeededEntropy::new(8);
            let root = RootKey::generate(&entropy);
            let mut sealed = keyring(2).seal(&root, &entropy).unwrap();
            let at = at % sealed.len();
            sealed[at] ^= 1 << bit;
            prop_assert!(Keyring::open(&sealed, &root).is_err());
        }
    }
}
