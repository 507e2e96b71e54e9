//! What a caller says of the trace that its request belongs to: the header `traceparent`.
//!
//! Read as strictly as W3C's Trace Context wants it; anything else is as good as none. `tracestate` is not read: it goes nowhere from here.

use http::HeaderMap;

/// A trace that began elsewhere. Source: W3C Trace Context, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Never all zeros.
    pub(crate) trace: [u8; 16],
    /// The caller's own span; never all zeros.
    pub(crate) span: [u8; 8],
    /// Whether the caller keeps it.
    pub(crate) sampled: bool,
}

/// `00-<32>-<16>-<2>`.
const LENGTH: usize = 55;
/// The flag that says whether the caller keeps the trace.
const SAMPLED: u8 = 1;

impl Caller {
    /// The trace that these headers name. Two headers name none, as one that is malformed does.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all("traceparent").iter();
        match (given.next(), given.next()) {
            (Some(only), None) => Self::parse(only.as_bytes()),
            _ => None,
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let [version] = hex(parts.next()?)?;
        let (trace, span, [flags]) = (hex(parts.next()?)?, hex(parts.next()?)?, hex(parts.next()?)?);
        // A later version begins like this one and may go on behind another dash; 255 is none.
        let may_go_on = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let whole = may_go_on && parts.next().is_none() && trace != [0; 16] && span != [0; 8];
        whole.then_some(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }
}

/// As many bytes as are wanted, from digits and small letters alone.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    (data_encoding::HEXLOWER.decode_len(text.len()) == Ok(N)).then_some(())?;
    data_encoding::HEXLOWER.decode_mut(text, &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn read(text: &str) -> Option<bool> {
        let caller = Caller::parse(text.as_bytes())?;
        assert_eq!(data_encoding::HEXLOWER.encode(&caller.trace), TRACE);
        assert_eq!(data_encoding::HEXLOWER.encode(&caller.span), SPAN);
        Some(caller.sampled)
    }

    #[test]
    fn what_the_standard_allows_is_read() {
        for (text, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            // Flags that are not known are not looked at.
            (format!("00-{TRACE}-{SPAN}-03"), true),
            (format!("00-{TRACE}-{SPAN}-fe"), false),
            // A later version, with and without more.
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"), true),
            (format!("fe-{TRACE}-{SPAN}-00-"), false),
        ] {
            assert_eq!(read(&text), Some(sampled), "{text}");
        }
    }

    #[test]
    fn anything_else_is_as_good_as_none() {
        let zeros = |length| "0".repeat(length);
        for text in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("01-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", zeros(32)),
            format!("00-{TRACE}-{}-01", zeros(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{}-0{SPAN}-01", &TRACE[1..]),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{}ü-{SPAN}-01", &TRACE[2..]),
            format!("----{}", zeros(51)),
        ] {
            assert_eq!(Caller::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn of_two_headers_none_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(Caller::of(&headers), None);
        headers.append("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
        assert!(Caller::of(&headers).is_some());
        headers.append("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
        assert_eq!(Caller::of(&headers), None);
    }
}
