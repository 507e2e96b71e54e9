//! OpenPGP: shares and tokens that only the holder of a key can read. No other module names OpenPGP.
//!
//! Reads public keys, which strangers send (`sys/init` and `sys/rekey/init` ask for no token), and encrypts short texts to them. Never
//! touches a secret key and never decrypts. What is read is bounded in bytes, in signatures that are checked, in algorithms and their lengths; which
//! part of a key counts, and whether it still does, is decided in [`choice`].
//!
//! Messages are what every OpenPGP program reads since 2007 (RFC 4880): one session key for one recipient, then AES in CFB mode with a
//! modification detection code over a literal. Source: RFC 9580, sections 5.1, 5.9 and 5.13.1; Vault API pages of `sys/init` and `sys/rekey`.

mod armor;
mod choice;

use data_encoding::{BASE64, DecodeError, HEXLOWER};
use daypass_base::{Entropy, Secret, Timestamp};
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{PacketTrait, PublicKeyEncryptedSessionKey, SymEncryptedProtectedData};
use pgp::types::{EncryptionKey, KeyDetails, KeyVersion};
use zeroize::Zeroizing;

pub use armor::{ArmorError, base64_of_file};
pub use choice::Unusable;

/// Why a key was refused, or could not be encrypted to.
#[derive(Debug, thiserror::Error)]
pub enum PgpError {
    /// The text is no base64. The words are those that Go's decoder finds for it, as Vault's users know them.
    #[error("error decoding given PGP key: illegal base64 data at input byte {}", .0.position)]
    Base64(#[source] DecodeError),
    /// The library could not encrypt.
    #[error("error encrypting PGP message")]
    Encrypt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bytes are no OpenPGP key. The library's reason is the source: its words are internals, with a backtrace where the environment asks for one.
    #[error("error parsing given PGP key: openpgp: invalid data: it is damaged, or of a kind that is not read here; export it again")]
    Parse(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A longer text than shares and tokens are.
    #[error("error encrypting PGP message: the text has {0} bytes, over the limit of {PLAIN_BYTES_MAX}")]
    PlainTooLong(usize),
    /// The packets end in the middle, or are not those of one public key.
    #[error("error parsing given PGP key: {0}")]
    Shape(&'static str),
    /// The key is larger than any that serves.
    #[error(
        "error parsing given PGP key: the key has {0} bytes, over the limit of {KEY_BYTES_MAX}: export it without photos and the \
             signatures of others (gpg --export --export-options export-minimal)"
    )]
    TooLarge(usize),
    /// It is a key that must not be encrypted to.
    #[error("error parsing given PGP key: key {fingerprint} {why}")]
    Unusable {
        /// Which key, as its holder knows it.
        fingerprint: String,
        /// What speaks against it.
        why: Unusable,
    },
}

/// A public key that was found good to encrypt to.
#[derive(Debug, Clone)]
pub struct Recipient {
    fingerprint: String,
    key: SignedPublicKey,
    part: choice::Part,
    cipher: SymmetricKeyAlgorithm,
}

impl Recipient {
    /// Reads a public key by itself: see [`KeyReader::read`].
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, PgpError> {
        KeyReader::new(now).read(text)
    }

    /// Reads a public key from its binary form. Errors: [`PgpError`].
    pub fn from_bytes(bytes: &[u8], now: Timestamp) -> Result<Self, PgpError> {
        KeyReader::new(now).read_bytes(bytes)
    }

    /// The fingerprint of the key, in lower-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// An OpenPGP message with this text in it, for the holder of the key alone. Errors: [`PgpError`].
    pub fn encrypt(&self, plain: &Secret<String>, entropy: &dyn Entropy, now: Timestamp) -> Result<Vec<u8>, PgpError> {
        match &self.part {
            choice::Part::Primary => self.to(&self.key.primary_key, plain, entropy, now),
            choice::Part::Subkey(index) => match self.key.public_subkeys.get(*index) {
                Some(subkey) => self.to(&subkey.key, plain, entropy, now),
                None => Err(PgpError::Shape("the chosen subkey is missing")),
            },
        }
    }

    fn to(&self, key: &impl EncryptionKey, plain: &Secret<String>, entropy: &dyn Entropy, now: Timestamp) -> Result<Vec<u8>, PgpError> {
        // Exposed to be encrypted; the copy is wiped.
        let literal = literal(plain.expose().as_bytes(), now)?;
        let failed = |error: pgp::errors::Error| PgpError::Encrypt(Box::new(error));
        let session = self.cipher.new_session_key(Chance(entropy));
        let recipient = PublicKeyEncryptedSessionKey::from_session_key_v3(Chance(entropy), &session, self.cipher, key).map_err(failed)?;
        let body = SymEncryptedProtectedData::encrypt_seipdv1(Chance(entropy), self.cipher, session.as_ref(), &literal).map_err(failed)?;
        let mut message = Vec::new();
        recipient.to_writer_with_header(&mut message).map_err(failed)?;
        body.to_writer_with_header(&mut message).map_err(failed)?;
        Ok(message)
    }
}

/// Reads the public keys of one request. All of them together may have only so many signatures checked: they are a stranger's.
#[derive(Debug)]
pub struct KeyReader {
    now: Timestamp,
    /// Checks that are left.
    checks: usize,
}

impl KeyReader {
    /// Judges keys as of `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { now, checks: choice::ALL_CHECKS_MAX }
    }

    /// Reads a public key from base64 of its binary form, as Vault takes it. Errors: [`PgpError`].
    pub fn read(&mut self, text: &str) -> Result<Recipient, PgpError> {
        // Four characters for three bytes: what is longer is not even decoded.
        if text.len() / 4 * 3 > KEY_BYTES_MAX + KEY_BYTES_MAX / 16 {
            return Err(PgpError::TooLarge(text.len() / 4 * 3));
        }
        // Line ends are skipped, as Go's decoder does: keys come out of tools that break lines.
        let packed: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        self.read_bytes(&BASE64.decode(&packed).map_err(PgpError::Base64)?)
    }

    fn read_bytes(&mut self, bytes: &[u8]) -> Result<Recipient, PgpError> {
        if bytes.len() > KEY_BYTES_MAX {
            return Err(PgpError::TooLarge(bytes.len()));
        }
        first_packet(bytes)?;
        let mut keys = SignedPublicKey::from_bytes_many(bytes).map_err(|error| PgpError::Parse(Box::new(error)))?;
        let key = keys.next().ok_or(PgpError::Shape("there is no public key in it"))?.map_err(|error| PgpError::Parse(Box::new(error)))?;
        if keys.next().is_some() {
            return Err(PgpError::Shape("more follows after the first key: send one key in each text"));
        }
        let fingerprint = HEXLOWER.encode(key.fingerprint().as_bytes());
        if key.version() != KeyVersion::V4 && key.version() != KeyVersion::V6 {
            return Err(PgpError::Unusable { fingerprint, why: Unusable::Version(key.version().into()) });
        }
        match choice::choose(&key, self.now, &mut self.checks) {
            Ok((part, cipher)) => Ok(Recipient { fingerprint, key, part, cipher }),
            Err(why) => Err(PgpError::Unusable { fingerprint, why }),
        }
    }
}

/// That the bytes begin with a packet that a public key begins with. The library would skip others and say less about them.
fn first_packet(bytes: &[u8]) -> Result<(), PgpError> {
    let Some(first) = bytes.first() else { return Err(PgpError::Shape("it is empty")) };
    let tag = match first {
        byte if byte & 0x80 == 0 => return Err(PgpError::Shape("openpgp: invalid data: tag byte does not have MSB set")),
        byte if byte & 0x40 != 0 => byte & 0x3f,
        byte => (byte >> 2) & 0x0f,
    };
    match tag {
        PUBLIC_KEY => Ok(()),
        SECRET_KEY => Err(PgpError::Shape("it is a secret key: nobody but its holder should have it; send the public key")),
        _ => Err(PgpError::Shape("openpgp: invalid data: first packet was not a public/private key")),
    }
}

/// A literal packet: binary, without a file name.
fn literal(plain: &[u8], now: Timestamp) -> Result<Zeroizing<Vec<u8>>, PgpError> {
    let too_long = || PgpError::PlainTooLong(plain.len());
    let length = u8::try_from(plain.len() + 6).ok().filter(|_| plain.len() <= PLAIN_BYTES_MAX).ok_or_else(too_long)?;
    let date = u32::try_from(now.seconds()).unwrap_or_default();
    let mut packet = Zeroizing::new(Vec::with_capacity(usize::from(length) + 2));
    packet.extend_from_slice(&[LITERAL, length, b'b', 0]);
    packet.extend_from_slice(&date.to_be_bytes());
    packet.extend_from_slice(plain);
    Ok(packet)
}

/// Our randomness, as the library wants it.
struct Chance<'a>(&'a dyn Entropy);

impl rand_core::RngCore for Chance<'_> {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.0.bytes())
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.0.bytes())
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl rand_core::CryptoRng for Chance<'_> {}

/// Bytes of a key. One with ten user ids, five subkeys and their history has about 20,000; photos and the signatures of others make the rest.
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a text: a share has 66, a token 28. More would need another form of length.
const PLAIN_BYTES_MAX: usize = 180;
/// Tags of packets (RFC 9580, section 5); a literal's with the bits of the newer header.
const PUBLIC_KEY: u8 = 6;
const SECRET_KEY: u8 = 5;
const LITERAL: u8 = 0xCB;

#[cfg(test)]
mod tests;
