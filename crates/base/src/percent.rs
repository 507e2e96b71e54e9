//! Percent-encoding (RFC 3986, section 2.1), read strictly.

/// The bytes that stand for themselves or behind a `%`; a plus stays one. `None` where two hexadecimal digits do not follow a `%`.
///
/// ```
/// use daypass_base::percent::decode;
/// assert_eq!(decode(b"a%20b%2B+"), Some(b"a b++".to_vec()));
/// assert_eq!((decode(b"100%"), decode(b"%4"), decode(b"%+1")), (None, None, None));
/// ```
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    // Most texts stand for themselves.
    if text.contains(&b'%') { made(text, |byte| byte) } else { Some(text.to_vec()) }
}

/// As [`decode`], of a name or a value of a form or a query: there a plus is a blank.
///
/// ```
/// assert_eq!(daypass_base::percent::decode_field(b"a+%2B"), Some(b"a +".to_vec()));
/// ```
#[must_use]
pub fn decode_field(text: &[u8]) -> Option<Vec<u8>> {
    made(text, |byte| if byte == b'+' { b' ' } else { byte })
}

/// How many bytes it would be, decoded, before they are made. `None` as in [`decode`].
///
/// ```
/// use daypass_base::percent::decoded_len;
/// assert_eq!((decoded_len(b"a%20b"), decoded_len(b"a%")), (Some(3), None));
/// ```
#[must_use]
pub fn decoded_len(text: &[u8]) -> Option<usize> {
    if !text.contains(&b'%') {
        return Some(text.len());
    }
    bytes(text, |byte| byte).try_fold(0, |before, byte| byte.map(|_| before + 1))
}

/// Takes no more room than it needs.
fn made(text: &[u8], plain: impl Fn(u8) -> u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(decoded_len(text)?);
    out.extend(bytes(text, plain).flatten());
    Some(out)
}

/// What the text stands for, byte by byte; `None` for an escape that is broken.
fn bytes(text: &[u8], plain: impl Fn(u8) -> u8) -> impl Iterator<Item = Option<u8>> {
    let mut rest = text.iter().copied();
    std::iter::from_fn(move || {
        let byte = rest.next()?;
        if byte != b'%' {
            return Some(Some(plain(byte)));
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        Some(digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()))
    })
}
