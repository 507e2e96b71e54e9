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
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}
