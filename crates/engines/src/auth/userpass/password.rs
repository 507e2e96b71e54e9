//! Hashes of passwords: argon2id for those that are made here, bcrypt for those that are brought along.
//!
//! Hashing is slow and takes memory on purpose, and a name that nobody has costs it as well. It happens off the runtime, only so many at a time, and only about a
//! second's work waits: the rest is refused.

use std::fmt;

use argon2::password_hash::{PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use data_encoding::{Encoding, Specification};
use daypass_base::Places;
use daypass_sdk::{Cx, Error, Result, Secret};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::turns::Turns;

/// The means to hash and verify; one for all mounts.
pub(super) struct Hashing {
    /// Of logins.
    pub(super) turns: Turns,
    /// Of those who write passwords: they have a token, and may come in great number from one machine.
    writes: Turns,
    /// Verifications so far by what they cost: they must not tell who exists.
    #[cfg(test)]
    pub(super) spent: parking_lot::Mutex<Vec<Cost>>,
}

/// What a verification costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// One argon2id of ours.
    Argon2,
    /// One bcrypt of this cost.
    Bcrypt(u32),
}

impl Default for Hashing {
    fn default() -> Self {
        Self {
            turns: Turns::new(
                AT_ONCE_MAX,
                Places::new(PLACES_MAX, PLACES_OF_ONE_MAX),
                format!(
                    "{PLACES_MAX} requests have passwords hashed or wait for that, or {PLACES_OF_ONE_MAX} from this address, which is the limit: try again in a \
                     moment"
                ),
            ),
            writes: Turns::new(
                WRITES_AT_ONCE_MAX,
                Places::new(WRITES_MAX, WRITES_MAX),
                format!("{WRITES_MAX} passwords are being written, which is the limit: try again in a moment"),
            ),
            #[cfg(test)]
            spent: parking_lot::Mutex::default(),
        }
    }
}

impl Hashing {
    /// Hashes a new password. Errors: `BadRequest` over the length limit, `TooMany`.
    pub(super) async fn hash(&self, cx: &Cx, password: &Secret<String>) -> Result<Secret<String>> {
        if password.expose().len() > PASSWORD_BYTES_MAX {
            // Only its length is looked at.
            let length = password.expose().len();
            return Err(Error::bad_request(format!("the password is {length} bytes long; at most {PASSWORD_BYTES_MAX} are allowed")));
        }
        let salt = SaltString::encode_b64(&cx.entropy.bytes::<16>()).map_err(|error| internal(&error))?;
        let password = password.clone();
        let work = move || {
            // Into the hash function.
            let hash = argon2id()?.hash_password(password.expose().as_bytes(), &salt).map_err(|error| internal(&error))?;
            Ok(Secret::new(hash.to_string()))
        };
        self.writes.run(cx.request.remote, work).await
    }

    /// Whether the password fits the hash. Without a hash (no such user) it spends what `instead` says, and says no. Errors: `TooMany`, which is nobody's failure.
    pub(super) async fn verify(&self, cx: &Cx, hash: Option<Secret<String>>, instead: Cost, password: &Secret<String>) -> Result<bool> {
        let password = password.clone();
        // Looked at for its kind; its parts go into the hash function below.
        let brought = hash.as_ref().filter(|hash| hash.expose().starts_with("$2")).map(|hash| Bcrypt::parse(hash.expose())).transpose()?;
        #[cfg(test)]
        self.spent.lock().push(match (&hash, &brought) {
            (None, _) => instead,
            (Some(_), Some(brought)) => Cost::Bcrypt(brought.cost),
            (Some(_), None) => Cost::Argon2,
        });
        let work = move || {
            // Both go into the hash function and nowhere else.
            let password = password.expose().as_bytes();
            match (hash, brought) {
                _ if password.len() > PASSWORD_BYTES_MAX => Ok(false),
                (None, _) => pretend(password, instead),
                (Some(_), Some(brought)) => Ok(brought.verify(password)),
                (Some(hash), None) => {
                    let hash = PasswordHash::new(hash.expose()).map_err(|error| internal(&error))?;
                    Ok(argon2id()?.verify_password(password, &hash).is_ok())
                }
            }
        };
        self.turns.run(cx.request.remote, work).await
    }
}

/// Checks a hash that an operator brings along, and tells its cost. Errors: `Failed` with Vault's text for a wrong length, `BadRequest` for
/// other mistakes.
pub(super) fn check_brought(hash: &Secret<String>) -> Result<u32> {
    // Looked at, and echoed in no error.
    Bcrypt::parse(hash.expose()).map(|hash| hash.cost)
}

/// The parts of a bcrypt hash in its usual form: `$2b$12$` with 22 characters of salt and 31 of hash.
struct Bcrypt {
    cost: u32,
    salt: [u8; 16],
    hash: Zeroizing<[u8; 23]>,
}

impl Bcrypt {
    fn parse(text: &str) -> Result<Self> {
        if text.len() != 60 {
            return Err(Error::failed("password hash has incorrect length"));
        }
        let refuse = |what: &str| Error::bad_request(format!("password_hash is no bcrypt hash: {what}"));
        let mut parts = text.split('$').skip(1);
        let (version, cost, rest) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        if !matches!(version, Some("2a" | "2b" | "2y")) || parts.next().is_some() {
            return Err(refuse("it must start with $2a$, $2b$ or $2y$"));
        }
        let cost: u32 = cost.and_then(|cost| cost.parse().ok()).ok_or_else(|| refuse("its cost is no number"))?;
        if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost) {
            return Err(refuse(&format!("its cost is {cost} and must be {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}")));
        }
        let encoding = bcrypt_encoding()?;
        let decode = |text: Option<&str>| encoding.decode(text.unwrap_or_default().as_bytes()).ok();
        let salt = decode(rest.get(..22)).and_then(|salt| salt.try_into().ok()).ok_or_else(|| refuse("its salt is damaged"))?;
        let hash: Option<[u8; 23]> = decode(rest.get(22..)).and_then(|hash| hash.try_into().ok());
        Ok(Self { cost, salt, hash: Zeroizing::new(hash.ok_or_else(|| refuse("its hash is damaged"))?) })
    }

    fn verify(&self, password: &[u8]) -> bool {
        // bcrypt takes the password with a zero at its end, and no more than 72 bytes of it.
        let mut input = Zeroizing::new([password, &[0]].concat());
        input.truncate(72);
        let made = Zeroizing::new(bcrypt::bcrypt(self.cost, self.salt, &input));
        made.split_last().is_some_and(|(_, made)| made.ct_eq(self.hash.as_slice()).into())
    }
}

impl fmt::Debug for Bcrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bcrypt(cost {})", self.cost)
    }
}

/// Spends what a verification costs, without a hash to compare with.
fn pretend(password: &[u8], cost: Cost) -> Result<bool> {
    if let Cost::Bcrypt(cost) = cost {
        Bcrypt { cost, salt: [0x5a; 16], hash: Zeroizing::new([0; 23]) }.verify(password);
        return Ok(false);
    }
    let mut out = Zeroizing::new([0; 32]);
    argon2id()?
        .hash_password_into(password, &[0x5a; 16], out.as_mut_slice())
        .map_err(|error| Error::internal(format!("argon2: {error}")))?;
    Ok(false)
}

fn argon2id() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| Error::internal(format!("argon2: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn bcrypt_encoding() -> Result<Encoding> {
    let mut specification = Specification::new();
    specification.symbols.push_str("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    // Implementations leave different bits in the last character.
    specification.check_trailing_bits = false;
    specification.encoding().map_err(|error| Error::internal("bcrypt's alphabet").because(error))
}

fn internal(error: &argon2::password_hash::Error) -> Error {
    Error::internal(format!("argon2: {error}"))
}

/// Hashes at once: each takes its memory.
const AT_ONCE_MAX: usize = 4;
/// Requests that have something hashed or wait for that: two processors hash them in some three seconds. They are half of the eighth of a listener's requests that
/// calls to others leave (`daypass_aws`, places of calls).
const PLACES_MAX: usize = 256;
/// Of them from one address: it leaves most to others, and takes in what a build server begins at once.
const PLACES_OF_ONE_MAX: usize = 96;
/// Passwords that are hashed at once to be stored.
const WRITES_AT_ONCE_MAX: usize = 2;
/// Passwords that are written at one moment, those that wait for their turn included.
const WRITES_MAX: usize = 512;
/// The least that OWASP's password storage page asks of argon2id: 19 MiB and two passes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Longer passwords are refused, so that no one can make the server hash megabytes.
const PASSWORD_BYTES_MAX: usize = 4096;
const BCRYPT_COST_MIN: u32 = 4;
/// A cost of 16 takes seconds already; each step doubles it.
const BCRYPT_COST_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bcrypt_hashes_from_elsewhere_verify() {
        // Published test vectors of crypt_blowfish.
        for (password, hash) in [
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
            ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
        ] {
            assert!(Bcrypt::parse(hash).unwrap().verify(password.as_bytes()), "{password:?}");
            assert!(!Bcrypt::parse(hash).unwrap().verify(b"other"));
        }
        let long = "x".repeat(100);
        assert!(!Bcrypt::parse("$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").unwrap().verify(long.as_bytes()));
    }

    #[test]
    fn what_is_no_bcrypt_hash_is_refused_without_echoing_it() {
        let good = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert_eq!(Bcrypt::parse("notahash").unwrap_err().message, "password hash has incorrect length");
        for bad in [good.replace("$2a$", "$3a$"), good.replace("$05$", "$31$"), good.replace("$05$", "$x5$"), good.replace("CCCC", "C*CC")]
        {
            let message = Bcrypt::parse(&bad).unwrap_err().message;
            assert!(message.starts_with("password_hash is no bcrypt hash: ") && !message.contains("YPO9"), "{message}");
        }
    }
}
