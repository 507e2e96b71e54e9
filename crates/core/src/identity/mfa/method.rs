//! How second factors of a kind are checked: `identity/mfa/method/totp`. Pure.

use daypass_base::Seconds;
use daypass_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::totp::{Algorithm, Shape};

/// A method as it is stored. What it says of passcodes holds for seeds that are made from now on; how often may be guessed holds at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MethodRow {
    pub(crate) id: String,
    /// What clients may say in place of the id; empty when it was given none.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) shape: Shape,
    /// Bytes of a seed.
    pub(crate) key_size: u16,
    /// Pixels of the picture; zero makes none.
    pub(crate) qr_size: u16,
    pub(crate) max_validation_attempts: u32,
}

/// What is to become of a method; `None` leaves it as it is, or takes the usual.
#[derive(Default)]
pub(crate) struct MethodWish {
    pub(crate) name: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) period: Option<Seconds>,
    pub(crate) key_size: Option<i64>,
    pub(crate) qr_size: Option<i64>,
    pub(crate) algorithm: Option<String>,
    pub(crate) digits: Option<i64>,
    pub(crate) skew: Option<i64>,
    pub(crate) max_validation_attempts: Option<i64>,
}

impl MethodRow {
    /// A method of which nothing is said yet.
    pub(super) fn new(id: String) -> Self {
        let shape = Shape { algorithm: Algorithm::Sha1, digits: 6, period: 30, skew: 1 };
        Self { id, name: String::new(), issuer: String::new(), shape, key_size: 20, qr_size: 200, max_validation_attempts: ATTEMPTS_USUAL }
    }

    /// Errors: `BadRequest`, in Vault's words where it has any.
    pub(super) fn change(&mut self, wish: MethodWish) -> Result<()> {
        if let Some(name) = wish.name {
            self.name = checked_name(name)?;
        }
        if let Some(issuer) = wish.issuer {
            self.issuer = issuer;
        }
        if self.issuer.is_empty() {
            return Err(Error::bad_request("issuer must be set"));
        }
        if self.issuer.len() > ISSUER_BYTES_MAX || self.issuer.chars().any(char::is_control) {
            let size = self.issuer.len();
            return Err(Error::bad_request(format!(
                "issuer must have {ISSUER_BYTES_MAX} bytes at most and no control characters, it has {size}"
            )));
        }
        if let Some(name) = wish.algorithm {
            self.shape.algorithm =
                Algorithm::parse(&name).ok_or_else(|| Error::bad_request("unrecognized algorithm: give SHA1, SHA256 or SHA512"))?;
        }
        match wish.digits {
            None => {}
            Some(6) => self.shape.digits = 6,
            Some(8) => self.shape.digits = 8,
            Some(_) => return Err(Error::bad_request("digits can only be 6 or 8")),
        }
        match wish.period {
            None => {}
            Some(Seconds(0)) => return Err(Error::bad_request("period must be greater than zero")),
            Some(Seconds(period)) if period > PERIOD_MAX => {
                return Err(Error::bad_request(format!("period can be {PERIOD_MAX} seconds at most, {period} were given")));
            }
            Some(Seconds(period)) => self.shape.period = period,
        }
        match wish.skew {
            None => {}
            Some(0) => self.shape.skew = 0,
            Some(1) => self.shape.skew = 1,
            Some(_) => return Err(Error::bad_request("skew must be 0 or 1")),
        }
        if let Some(size) = wish.key_size {
            self.key_size = within("key_size", size, KEY_BYTES_MIN, KEY_BYTES_MAX)?;
        }
        if let Some(size) = wish.qr_size {
            self.qr_size = within("qr_size", size, 0, PIXELS_MAX)?;
        }
        match wish.max_validation_attempts {
            None => {}
            Some(0) => self.max_validation_attempts = ATTEMPTS_USUAL,
            Some(most) if most < 0 => return Err(Error::bad_request("max_validation_attempts must be greater than zero")),
            Some(most) => self.max_validation_attempts = u32::from(within("max_validation_attempts", most, 1, ATTEMPTS_MAX)?),
        }
        Ok(())
    }

    /// As answers show it.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "algorithm": self.shape.algorithm.name(),
            "digits": self.shape.digits,
            "id": self.id,
            "issuer": self.issuer,
            "key_size": self.key_size,
            "max_validation_attempts": self.max_validation_attempts,
            "name": self.name,
            "namespace_id": "root",
            "namespace_path": "",
            "period": self.shape.period,
            "qr_size": self.qr_size,
            "skew": self.shape.skew,
            "type": TYPE,
        })
    }
}

/// The one kind of method that is served.
pub(crate) const TYPE: &str = "totp";

/// A colon would end the name in the header `X-Vault-MFA`.
fn checked_name(name: String) -> Result<String> {
    let fine = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '/');
    if name.len() > NAME_BYTES_MAX || !name.chars().all(fine) {
        return Err(Error::bad_request(format!(
            "method_name can have {NAME_BYTES_MAX} bytes of letters, digits, '-', '_', '.' and '/', this one has {} bytes",
            name.len()
        )));
    }
    Ok(name)
}

fn within(what: &str, given: i64, least: u16, most: u16) -> Result<u16> {
    let fits = u16::try_from(given).ok().filter(|size| (least..=most).contains(size));
    fits.ok_or_else(|| Error::bad_request(format!("{what} can be {least} to {most}, {given} was given")))
}

const NAME_BYTES_MAX: usize = 128;
const ISSUER_BYTES_MAX: usize = 128;
/// An hour: a passcode that is shown longer is a password.
const PERIOD_MAX: u64 = 3600;
/// 80 bits, which is what the first apps had; RFC 4226 asks for 128 and the usual are 160.
const KEY_BYTES_MIN: u16 = 10;
const KEY_BYTES_MAX: u16 = 64;
const PIXELS_MAX: u16 = 1024;
const ATTEMPTS_USUAL: u32 = 5;
const ATTEMPTS_MAX: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(wish: MethodWish) -> Result<MethodRow> {
        let mut row = MethodRow::new("id".to_owned());
        row.issuer = "x".to_owned();
        row.change(wish).map(|()| row)
    }

    #[test]
    fn the_usual_is_vaults() {
        let row = changed(MethodWish::default()).unwrap();
        let shown = row.shown();
        assert_eq!(
            (&shown["algorithm"], &shown["digits"], &shown["period"], &shown["skew"]),
            (&json!("SHA1"), &json!(6), &json!(30), &json!(1))
        );
        assert_eq!((&shown["key_size"], &shown["qr_size"], &shown["max_validation_attempts"]), (&json!(20), &json!(200), &json!(5)));
        assert_eq!(MethodRow::new(String::new()).change(MethodWish::default()).unwrap_err().message, "issuer must be set");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bad = [
            (MethodWish { digits: Some(7), ..MethodWish::default() }, "digits can only be 6 or 8"),
            (MethodWish { period: Some(Seconds(0)), ..MethodWish::default() }, "period must be greater than zero"),
            (MethodWish { period: Some(Seconds(3601)), ..MethodWish::default() }, "3600 seconds at most"),
            (MethodWish { skew: Some(2), ..MethodWish::default() }, "skew must be 0 or 1"),
            (MethodWish { algorithm: Some("MD5".to_owned()), ..MethodWish::default() }, "unrecognized algorithm"),
            (MethodWish { key_size: Some(9), ..MethodWish::default() }, "key_size can be 10 to 64"),
            (MethodWish { key_size: Some(65), ..MethodWish::default() }, "key_size can be 10 to 64"),
            (MethodWish { qr_size: Some(-1), ..MethodWish::default() }, "qr_size can be 0 to 1024"),
            (MethodWish { max_validation_attempts: Some(-1), ..MethodWish::default() }, "must be greater than zero"),
            (MethodWish { max_validation_attempts: Some(101), ..MethodWish::default() }, "1 to 100"),
            (MethodWish { name: Some("a:b".to_owned()), ..MethodWish::default() }, "method_name"),
            (MethodWish { issuer: Some(String::new()), ..MethodWish::default() }, "issuer must be set"),
            (MethodWish { issuer: Some("i".repeat(129)), ..MethodWish::default() }, "128 bytes"),
        ];
        for (wish, text) in bad {
            let message = changed(wish).unwrap_err().message;
            assert!(message.contains(text), "{message:?} is not about {text:?}");
        }
    }
}
