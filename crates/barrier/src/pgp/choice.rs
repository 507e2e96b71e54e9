//! Which part of a key to encrypt to: decided from the signatures of the key's holder alone, each checked.
//!
//! A key is a bag of statements that anybody could have put together. What counts: the newest statement about the key that its holder
//! signed and did not revoke, and the newest subkey for encryption that the holder bound to it, is not revoked and has not expired.

use daypass_base::Timestamp;
use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{PublicKey, Signature, SignatureType};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, KeyVersion, PublicParams, Tag};

/// What of a key is encrypted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Primary,
    /// By its place among the subkeys.
    Subkey(usize),
}

/// Why a key must not be encrypted to. Each reads on after `key <fingerprint>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its signatures are of a kind that is not checked here.
    #[error("uses an algorithm that is not taken: use RSA, ECDSA, Ed25519 or Ed448")]
    Algorithm,
    /// Its time is over.
    #[error("has expired: its holder can extend it, then export it again")]
    Expired,
    /// Nothing in it is meant for encryption.
    #[error("has no encryption subkey: its holder can add one, then export it again")]
    NoEncryption,
    /// All that was meant for encryption is out of use.
    #[error(
        "has no encryption subkey in force: all are expired, revoked or not taken (RSA under {RSA_BITS_MIN} bits or over {RSA_BITS_MAX})"
    )]
    NoneInForce,
    /// Its clock and ours do not agree.
    #[error("was made in the future: check the clocks of this server and of the machine that made it")]
    NotYet,
    /// Those before it had so many signatures that nothing is left for it.
    #[error(
        "and those before it have more than {ALL_CHECKS_MAX} signatures to check: export them with their newest ones alone (gpg --export \
         --export-options export-minimal)"
    )]
    OthersSignatures,
    /// Its holder took it back.
    #[error("is revoked")]
    Revoked,
    /// Nobody vouches for what it says.
    #[error("has no valid signature of its own: export it again, with its user ids")]
    SelfSignature,
    /// More than anybody needs.
    #[error(
        "has more than {CHECKS_MAX} signatures to check: export it with its newest ones alone (gpg --export --export-options export-minimal)"
    )]
    Signatures,
    /// Checking it would take too long.
    #[error("is RSA of {0} bits, over the limit of {RSA_BITS_MAX}: use RSA of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, or an elliptic curve")]
    TooLong(u16),
    /// A format from before or after those that are read.
    #[error("is of version {0}: versions 4 and 6 are taken")]
    Version(u8),
    /// Nobody has so many by chance.
    #[error("has more than {WRONG_MAX} signatures in its own name that are not valid: export it again")]
    WrongSignatures,
}

/// Chooses, as of `now`, and says which cipher the holder can read. At most `checks` signatures are checked, which are taken from there.
/// Errors: [`Unusable`].
pub(super) fn choose(key: &SignedPublicKey, now: Timestamp, checks: &mut usize) -> Result<(Part, SymmetricKeyAlgorithm), Unusable> {
    let primary = &key.primary_key;
    if !signs(primary.algorithm()) {
        return Err(Unusable::Algorithm);
    }
    // Before anything is checked: the time that takes grows with the square of the length.
    if let Some(bits) = rsa_bits(primary.public_params()).filter(|bits| *bits > RSA_BITS_MAX) {
        return Err(Unusable::TooLong(bits));
    }
    let mut judge = Judge { primary, now: now.seconds(), of_all: checks, left: CHECKS_MAX, wrong: 0 };
    if seconds(primary) > judge.now + SKEW_SECONDS {
        return Err(Unusable::NotYet);
    }
    for revocation in of_type(&key.details.revocation_signatures, SignatureType::KeyRevocation) {
        if judge.says(revocation, |signature| signature.verify_key(primary).is_ok())? {
            return Err(Unusable::Revoked);
        }
    }
    let statement = judge.statement(key)?.ok_or(Unusable::SelfSignature)?;
    if judge.expired(primary, statement) {
        return Err(Unusable::Expired);
    }
    let part = judge.part(key, statement)?;
    let preferred = statement.preferred_symmetric_algs();
    let cipher = CIPHERS.into_iter().find(|cipher| preferred.contains(cipher)).unwrap_or(SymmetricKeyAlgorithm::AES256);
    Ok((part, cipher))
}

/// Checks signatures, only so many of them.
struct Judge<'a> {
    primary: &'a PublicKey,
    now: i64,
    /// Checks that are left for this key and those that come after it.
    of_all: &'a mut usize,
    /// Checks that are left for this key.
    left: usize,
    /// Signatures that were not what they said.
    wrong: usize,
}

impl Judge<'_> {
    /// Whether the holder made this signature. What others signed costs nothing.
    fn says(&mut self, signature: &Signature, valid: impl FnOnce(&Signature) -> bool) -> Result<bool, Unusable> {
        let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
        let own = ids.iter().any(|id| **id == self.primary.legacy_key_id())
            || fingerprints.iter().any(|fingerprint| **fingerprint == self.primary.fingerprint())
            || (ids.is_empty() && fingerprints.is_empty());
        if !own {
            return Ok(false);
        }
        self.left = self.left.checked_sub(1).ok_or(Unusable::Signatures)?;
        *self.of_all = self.of_all.checked_sub(1).ok_or(Unusable::OthersSignatures)?;
        let valid = valid(signature);
        if !valid {
            self.wrong += 1;
        }
        if self.wrong > WRONG_MAX { Err(Unusable::WrongSignatures) } else { Ok(valid) }
    }

    /// The newest of these that the holder made and that counts now. A revocation among user ids counts as the newest if it is.
    fn newest<'s>(
        &mut self,
        signatures: impl Iterator<Item = &'s Signature>,
        valid: impl Fn(&Signature) -> bool,
    ) -> Result<Option<&'s Signature>, Unusable> {
        let mut sorted: Vec<&Signature> = signatures.filter(|signature| self.counts(signature)).collect();
        sorted.sort_by_key(|signature| std::cmp::Reverse(made(signature)));
        for signature in sorted {
            if self.says(signature, &valid)? {
                return Ok(Some(signature));
            }
        }
        Ok(None)
    }

    /// Whether a signature is neither of the future nor over.
    fn counts(&self, signature: &Signature) -> bool {
        let until = signature.signature_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
        let made = made(signature);
        made <= self.now + SKEW_SECONDS && (until == 0 || made + until > self.now)
    }

    /// What the holder says about the key: expiry, what it is for, which ciphers. A key of version 6 says so about itself, an older
    /// one about its user ids.
    fn statement<'k>(&mut self, key: &'k SignedPublicKey) -> Result<Option<&'k Signature>, Unusable> {
        let primary = self.primary;
        let direct =
            self.newest(of_type(&key.details.direct_signatures, SignatureType::Key), |signature| signature.verify_key(primary).is_ok())?;
        if primary.version() == KeyVersion::V6 {
            return Ok(direct);
        }
        let mut found = direct;
        for user in &key.details.users {
            let certification =
                self.newest(user.signatures.iter(), |signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok())?;
            let certification = certification.filter(|signature| signature.typ() != Some(SignatureType::CertRevocation));
            found = found.into_iter().chain(certification).max_by_key(|signature| made(signature));
        }
        Ok(found)
    }

    /// Errors: `NoEncryption`, `NoneInForce`, `Signatures`.
    fn part(&mut self, key: &SignedPublicKey, statement: &Signature) -> Result<Part, Unusable> {
        let (mut best, mut seen) = (None, false);
        for (index, subkey) in key.public_subkeys.iter().enumerate().filter(|(_, subkey)| encrypts(subkey.key.algorithm())) {
            let primary = self.primary;
            let binding = self.newest(of_type(&subkey.signatures, SignatureType::SubkeyBinding), |signature| {
                signature.verify_subkey_binding(primary, &subkey.key).is_ok()
            });
            let Some(binding) = binding? else { continue };
            if !for_encryption(binding) {
                continue;
            }
            seen = true;
            if self.expired(&subkey.key, binding) || !fits(subkey.key.public_params()) || self.revoked(subkey)? {
                continue;
            }
            let made = seconds(&subkey.key);
            if best.is_none_or(|(_, newest)| made >= newest) {
                best = Some((index, made));
            }
        }
        if let Some((index, _)) = best {
            return Ok(Part::Subkey(index));
        }
        let primary = encrypts(self.primary.algorithm()) && for_encryption(statement);
        match (primary, seen) {
            (true, _) if fits(self.primary.public_params()) => Ok(Part::Primary),
            (true, _) | (_, true) => Err(Unusable::NoneInForce),
            (false, false) => Err(Unusable::NoEncryption),
        }
    }

    fn revoked(&mut self, subkey: &SignedPublicSubKey) -> Result<bool, Unusable> {
        let primary = self.primary;
        for signature in of_type(&subkey.signatures, SignatureType::SubkeyRevocation) {
            if self.says(signature, |signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn expired(&self, part: &impl KeyDetails, statement: &Signature) -> bool {
        let lives = statement.key_expiration_time().map_or(0, |time| i64::from(time.as_secs()));
        lives > 0 && seconds(part) + lives <= self.now
    }
}

fn seconds(part: &impl KeyDetails) -> i64 {
    i64::from(part.created_at().as_secs())
}

fn made(signature: &Signature) -> i64 {
    signature.created().map_or(0, |time| i64::from(time.as_secs()))
}

fn for_encryption(statement: &Signature) -> bool {
    let flags = statement.key_flags();
    flags.encrypt_comms() || flags.encrypt_storage()
}

fn signs(algorithm: PublicKeyAlgorithm) -> bool {
    use PublicKeyAlgorithm::{ECDSA, Ed448, Ed25519, EdDSALegacy, RSA, RSASign};
    matches!(algorithm, RSA | RSASign | ECDSA | EdDSALegacy | Ed25519 | Ed448)
}

fn encrypts(algorithm: PublicKeyAlgorithm) -> bool {
    use PublicKeyAlgorithm::{ECDH, RSA, RSAEncrypt, X448, X25519};
    matches!(algorithm, RSA | RSAEncrypt | ECDH | X25519 | X448)
}

fn of_type(signatures: &[Signature], wanted: SignatureType) -> impl Iterator<Item = &Signature> {
    signatures.iter().filter(move |signature| signature.typ() == Some(wanted))
}

/// Whether RSA is of a length that is taken. Curves are what they are.
fn fits(params: &PublicParams) -> bool {
    rsa_bits(params).is_none_or(|bits| (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits))
}

/// The length of an RSA key.
fn rsa_bits(params: &PublicParams) -> Option<u16> {
    let PublicParams::RSA(rsa) = params else { return None };
    let mut written = Vec::new();
    // The first two bytes of a number are its bits.
    let bits = rsa.to_writer(&mut written).ok().and_then(|()| written.first_chunk::<2>().copied());
    Some(bits.map_or(0, u16::from_be_bytes))
}

/// Signatures that are checked of one key, newest first: enough for ten user ids and their history, and some milliseconds of work.
const CHECKS_MAX: usize = 64;
/// Signatures that are checked of all keys of a request: enough for 255 holders who export the newest ones alone, and seconds of work.
pub(super) const ALL_CHECKS_MAX: usize = 2048;
/// Signatures in a key's own name that may be wrong.
const WRONG_MAX: usize = 8;
/// How far another machine's clock may be ahead of ours: a key that was just made counts.
const SKEW_SECONDS: i64 = 600;
/// Bits of RSA that are still taken.
const RSA_BITS_MIN: u16 = 2048;
/// The longest that GnuPG makes unless it is talked into more.
const RSA_BITS_MAX: u16 = 4096;
/// Ciphers, best first.
const CIPHERS: [SymmetricKeyAlgorithm; 3] = [SymmetricKeyAlgorithm::AES256, SymmetricKeyAlgorithm::AES192, SymmetricKeyAlgorithm::AES128];
