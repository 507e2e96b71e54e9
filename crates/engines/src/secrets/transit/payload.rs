//! Texts that hold bytes: Go's base64 with its error texts, and `vault:v<version>:<base64>`.
//!
//! Everything here reads what strangers send; it is fuzzed.

use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE, BASE64URL_NOPAD};
use daypass_sdk::{Error, Result};

/// What a text stands for; it decides the words of errors, which are Vault's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Ciphertext,
    Hmac,
    Signature,
}

/// Which versions a text may name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The oldest version that may still be used.
    pub(super) oldest: u64,
    /// The newest version that there is.
    pub(super) latest: u64,
}

/// How the bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    Standard,
    /// base64url without padding, as JWS has it.
    Url,
}

impl Alphabet {
    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Standard => BASE64.encode(bytes),
            Self::Url => BASE64URL_NOPAD.encode(bytes),
        }
    }
}

/// Reads base64 as Go does: line ends are skipped, stray bits at the end are no error. Errors: `BadRequest` with Go's text.
pub(super) fn decode(text: &str) -> Result<Vec<u8>> {
    let illegal = |at: usize| Error::bad_request(format!("illegal base64 data at input byte {at}"));
    if let Some(at) = illegal_at(text.as_bytes()) {
        return Err(illegal(at));
    }
    BASE64.decode(text.as_bytes()).or_else(|_| BASE64_MIME_PERMISSIVE.decode(text.as_bytes())).map_err(|error| illegal(error.position))
}

/// Writes `vault:v<version>:` and the bytes.
pub(super) fn seal(version: u64, bytes: &[u8], alphabet: Alphabet) -> String {
    format!("{PREFIX}{version}:{}", alphabet.encode(bytes))
}

/// Reads a text of [`seal()`]. Errors: `BadRequest` with Vault's texts.
pub(super) fn open(form: Form, text: &str, window: Window, alphabet: Alphabet) -> Result<(u64, Vec<u8>)> {
    let refuse = |what: &str| Error::bad_request(format!("invalid {}: {what}", form.noun()));
    let Some(rest) = text.strip_prefix(PREFIX) else {
        let what = if form == Form::Hmac { "HMAC to verify" } else { form.noun() };
        return Err(Error::bad_request(format!("invalid {what}: no prefix")));
    };
    let (number, body) = rest.split_once(':').ok_or_else(|| refuse("wrong number of fields"))?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<u64>().ok().filter(|_| digits).ok_or_else(|| refuse("version number could not be decoded"))?;
    // The first servers counted from 0; their only version is 1 now.
    let version = number.max(1);
    if version > window.latest {
        return Err(refuse("version is too new"));
    }
    if version < window.oldest {
        return Err(Error::bad_request(match form {
            Form::Hmac => "cannot verify HMAC: version is too old (disallowed by policy)",
            Form::Ciphertext | Form::Signature => TOO_OLD,
        }));
    }
    let bytes = match alphabet {
        Alphabet::Standard => decode(body).ok(),
        Alphabet::Url => BASE64URL_NOPAD.decode(body.as_bytes()).ok(),
    };
    let bytes = bytes.ok_or_else(|| match form {
        Form::Signature => Error::bad_request("invalid base64 signature value"),
        Form::Ciphertext | Form::Hmac => refuse("could not decode base64"),
    })?;
    Ok((version, bytes))
}

impl Form {
    fn noun(self) -> &'static str {
        match self {
            Self::Ciphertext => "ciphertext",
            Self::Hmac => "HMAC",
            Self::Signature => "signature",
        }
    }
}

/// Where Go's decoder stops, if it does. The encodings used above name other places, and they join texts that Go does not.
fn illegal_at(text: &[u8]) -> Option<usize> {
    let after = |from: usize| (from..text.len()).find(|at| !matches!(text.get(*at), Some(b'\r' | b'\n')));
    let mut filled = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => filled = (filled + 1) % 4,
            b'=' if filled == 3 => return after(at + 1),
            b'=' if filled == 2 => {
                return match after(at + 1) {
                    None => Some(text.len()),
                    Some(next) if text.get(next) == Some(&b'=') => after(next + 1),
                    Some(next) => Some(next - 1),
                };
            }
            _ => return Some(at),
        }
    }
    (filled != 0).then(|| text.len().saturating_sub(filled))
}

const PREFIX: &str = "vault:v";
const TOO_OLD: &str = "ciphertext or signature version is disallowed by policy (too old)";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: Window = Window { oldest: 1, latest: 3 };

    #[test]
    fn base64_fails_where_go_fails() {
        for (text, at) in [
            ("not base64!", 3),
            ("***", 0),
            ("%%", 0),
            ("YQ", 0),
            ("YQ=", 3),
            ("Y", 0),
            ("YWJjZ", 4),
            ("YQ==YQ==", 4),
            ("=", 0),
            ("Y===", 1),
            ("YQ=a", 2),
            ("YWI=\nx", 5),
        ] {
            assert_eq!(decode(text).unwrap_err().message, format!("illegal base64 data at input byte {at}"), "{text:?}");
        }
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("YW\r\nJj\n").unwrap(), b"abc");
        assert_eq!(decode("YR==").unwrap(), b"a");
    }

    #[test]
    fn broken_texts_are_refused_in_vaults_words() {
        let message = |form, text| open(form, text, Window { oldest: 2, latest: 3 }, Alphabet::Standard).unwrap_err().message;
        for (text, wanted) in [
            ("junk", "invalid ciphertext: no prefix"),
            ("vault:v1", "invalid ciphertext: wrong number of fields"),
            ("vault:vx:AAAA", "invalid ciphertext: version number could not be decoded"),
            ("vault:v-1:AAAA", "invalid ciphertext: version number could not be decoded"),
            ("vault:v9:AAAA", "invalid ciphertext: version is too new"),
            ("vault:v1:AAAA", "ciphertext or signature version is disallowed by policy (too old)"),
            ("vault:v0:AAAA", "ciphertext or signature version is disallowed by policy (too old)"),
            ("vault:v2:*", "invalid ciphertext: could not decode base64"),
        ] {
            assert_eq!(message(Form::Ciphertext, text), wanted);
        }
        assert_eq!(message(Form::Hmac, "junk"), "invalid HMAC to verify: no prefix");
        assert_eq!(message(Form::Hmac, "vault:v1:AAAA"), "cannot verify HMAC: version is too old (disallowed by policy)");
        assert_eq!(message(Form::Signature, "vault:v2:*"), "invalid base64 signature value");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: Vec<u8>, version in 1_u64..=3) {
            for alphabet in [Alphabet::Standard, Alphabet::Url] {
                let text = seal(version, &bytes, alphabet);
                prop_assert_eq!(open(Form::Signature, &text, ANY, alphabet).unwrap(), (version, bytes.clone()));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _either = decode(&text);
            let _either = open(Form::Ciphertext, &format!("vault:v{text}"), ANY, Alphabet::Standard);
        }
    }
}
