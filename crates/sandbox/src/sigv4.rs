//! Signature Version 4, as the server sees it: what the request claims, the canonical request, the string to sign, and the verdict.
//!
//! Pure: the clock and the signing key are arguments. Source: IAM user guide, "AWS Signature Version 4 for API requests".

use std::borrow::Cow;
use std::fmt::Write as _;

use aws_lc_rs::{constant_time, digest, hmac};
use data_encoding::HEXLOWER;
use daypass_base::Timestamp;
use time::macros::format_description;
use time::{Duration, PrimitiveDateTime};

use crate::fault::{Fault, Result};
use crate::request::{Plus, Request, percent_decode};

/// What a signed request says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) key_id: String,
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) token: Option<String>,
    signed_headers: Vec<String>,
    signature: String,
    /// As sent, `20260102T030405Z`.
    stamp: String,
    /// Seconds that a presigned request lives; `None` when the signature is in the header.
    expires: Option<i64>,
}

/// Reads the claims. `None` when the request is not signed at all.
pub(crate) fn read(request: &Request) -> Result<Option<Presented>> {
    if let Some(header) = request.header("authorization") {
        return read_header(request, header).map(Some);
    }
    let pairs = query_pairs(&request.query)?;
    let get = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let Some(algorithm) = get("X-Amz-Algorithm") else { return Ok(None) };
    if algorithm != ALGORITHM {
        return Err(Fault::incomplete(format!(
            "AWS query-string parameters must include an algorithm that is supported, not '{}'.",
            cut(algorithm)
        )));
    }
    let required = |name: &str| {
        get(name).ok_or_else(|| {
            Fault::incomplete(format!("AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."))
        })
    };
    let expires = required("X-Amz-Expires")?;
    let expires =
        expires.parse().ok().filter(|seconds| (1..=604_800).contains(seconds)).ok_or_else(|| {
            Fault::incomplete(format!("X-Amz-Expires must be a number of seconds from 1 to 604800, not '{}'.", cut(expires)))
        })?;
    let (signed_headers, signature) = (required("X-Amz-SignedHeaders")?, required("X-Amz-Signature")?);
    let mut presented = scope(required("X-Amz-Credential")?)?;
    presented.signed_headers = signed_headers.split(';').map(str::to_owned).collect();
    signature.clone_into(&mut presented.signature);
    required("X-Amz-Date")?.clone_into(&mut presented.stamp);
    presented.token = get("X-Amz-Security-Token").or_else(|| request.header("x-amz-security-token")).map(str::to_owned);
    presented.expires = Some(expires);
    Ok(Some(presented))
}

fn read_header(request: &Request, header: &str) -> Result<Presented> {
    let Some(rest) = header.strip_prefix(ALGORITHM) else {
        return Err(Fault::incomplete(format!("Unsupported AWS 'algorithm': '{}'.", cut(header.split(' ').next().unwrap_or_default()))));
    };
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in rest.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let slot = match part.split_once('=') {
            Some(("Credential", value)) => credential.replace(value),
            Some(("SignedHeaders", value)) => signed_headers.replace(value),
            Some(("Signature", value)) => signature.replace(value),
            _ => {
                return Err(Fault::incomplete(format!(
                    "'{}' not a valid key=value pair (missing equal-sign) in Authorization header.",
                    cut(part)
                )));
            }
        };
        if slot.is_some() {
            return Err(Fault::incomplete("Authorization header names a parameter twice."));
        }
    }
    let stamp = request.header("x-amz-date").or_else(|| request.header("date"));
    let mut lacking = String::new();
    for (there, name) in
        [(credential.is_some(), "Credential"), (signature.is_some(), "Signature"), (signed_headers.is_some(), "SignedHeaders")]
    {
        if !there {
            let _always_fits = write!(lacking, "Authorization header requires '{name}' parameter. ");
        }
    }
    if stamp.is_none() {
        lacking.push_str("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ");
    }
    let (Some(credential), Some(signed_headers), Some(signature), Some(stamp)) = (credential, signed_headers, signature, stamp) else {
        return Err(Fault::incomplete(lacking.trim_end()));
    };
    let mut presented = scope(credential)?;
    presented.signed_headers = signed_headers.split(';').map(str::to_owned).collect();
    signature.clone_into(&mut presented.signature);
    stamp.clone_into(&mut presented.stamp);
    presented.token = request.header("x-amz-security-token").map(str::to_owned);
    Ok(presented)
}

fn scope(credential: &str) -> Result<Presented> {
    let parts: Vec<&str> = credential.split('/').collect();
    let [key_id, date, region, service, end] = parts.as_slice() else {
        return Err(Fault::incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
            cut(credential)
        )));
    };
    if *end != "aws4_request" {
        return Err(Fault::signature(format!("Credential should be scoped with a valid terminator: 'aws4_request', not '{}'.", cut(end))));
    }
    if key_id.is_empty() || key_id.len() > 128 || region.len() > 64 || service.len() > 64 {
        return Err(Fault::incomplete("Credential has an element of an impossible length."));
    }
    Ok(Presented {
        key_id: (*key_id).to_owned(),
        date: (*date).to_owned(),
        region: (*region).to_owned(),
        service: (*service).to_owned(),
        token: None,
        signed_headers: Vec::new(),
        signature: String::new(),
        stamp: String::new(),
        expires: None,
    })
}

/// Checks time, scope and signature. The caller has found the key already.
pub(crate) fn verify(request: &Request, presented: &Presented, signing_key: &hmac::Key, now: Timestamp) -> Result<()> {
    check_time(presented, now)?;
    check_headers(request, presented)?;
    let canonical = canonical_request(request, presented)?;
    let expected = hmac::sign(signing_key, string_to_sign(presented, &canonical).as_bytes());
    let given = HEXLOWER.decode(presented.signature.as_bytes()).unwrap_or_default();
    constant_time::verify_slices_are_equal(expected.as_ref(), &given).map_err(|_differs| {
        Fault::signature(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        )
    })
}

fn check_time(presented: &Presented, now: Timestamp) -> Result<()> {
    let stamp = &presented.stamp;
    let signed_at = parse_stamp(stamp).ok_or_else(|| {
        Fault::incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
            cut(stamp)
        ))
    })?;
    if stamp.get(..8) != Some(presented.date.as_str()) {
        return Err(Fault::signature(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{stamp}'.",
            cut(&presented.date),
            stamp.get(..8).unwrap_or_default()
        )));
    }
    let shown = stamp_of(now);
    let lives = presented.expires.unwrap_or(SKEW_SECONDS);
    if now.seconds() - signed_at.seconds() > lives {
        let earliest = stamp_of(Timestamp::from_seconds(now.seconds() - lives));
        let window = if presented.expires.is_some() { format!("{lives} sec.") } else { "5 min.".to_owned() };
        return Err(Fault::signature(format!("Signature expired: {stamp} is now earlier than {earliest} ({shown} - {window})")));
    }
    if signed_at.seconds() - now.seconds() > SKEW_SECONDS {
        let latest = stamp_of(Timestamp::from_seconds(now.seconds() + SKEW_SECONDS));
        return Err(Fault::signature(format!("Signature not yet current: {stamp} is still later than {latest} ({shown} + 5 min.)")));
    }
    Ok(())
}

/// Host and every `x-amz-*` header must be covered, or somebody on the way could change them.
fn check_headers(request: &Request, presented: &Presented) -> Result<()> {
    let signed = |name: &str| presented.signed_headers.iter().any(|header| header == name);
    if !signed("host") {
        return Err(Fault::signature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."));
    }
    for name in request.headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-")) {
        if !signed(name) {
            return Err(Fault::signature(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    if let Some(claimed) = request.header("x-amz-content-sha256")
        && claimed != hash(&request.body)
    {
        return Err(Fault::signature("The value of 'x-amz-content-sha256' is not the SHA-256 hash of the request's payload."));
    }
    Ok(())
}

/// Method, path, query, headers, names of the headers, hash of the payload.
pub(crate) fn canonical_request(request: &Request, presented: &Presented) -> Result<String> {
    let mut out = String::with_capacity(512);
    let _always_fits = writeln!(out, "{}\n{}", request.method, canonical_path(&request.path));
    let mut pairs: Vec<(String, String)> = query_pairs(&request.query)?
        .into_iter()
        .filter(|(name, _)| presented.expires.is_none() || name != "X-Amz-Signature")
        .map(|(name, value)| (encode(name.as_bytes(), Slash::Encoded), encode(value.as_bytes(), Slash::Encoded)))
        .collect();
    pairs.sort();
    for (index, (name, value)) in pairs.iter().enumerate() {
        let _always_fits = write!(out, "{}{name}={value}", if index == 0 { "" } else { "&" });
    }
    out.push('\n');
    for name in &presented.signed_headers {
        let value = if name == "host" { Cow::Borrowed(request.host.as_str()) } else { Cow::Owned(header_value(request, name)?) };
        let _always_fits = writeln!(out, "{name}:{value}");
    }
    let _always_fits = write!(out, "\n{}\n{}", presented.signed_headers.join(";"), hash(&request.body));
    Ok(out)
}

pub(crate) fn string_to_sign(presented: &Presented, canonical: &str) -> String {
    let Presented { date, region, service, stamp, .. } = presented;
    format!("{ALGORITHM}\n{stamp}\n{date}/{region}/{service}/aws4_request\n{}", hash(canonical.as_bytes()))
}

/// The key of a day, region and service.
pub(crate) fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> hmac::Key {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let mut current = key(format!("AWS4{secret}").as_bytes());
    for part in [date, region, service, "aws4_request"] {
        current = key(hmac::sign(&current, part.as_bytes()).as_ref());
    }
    current
}

/// Values of all headers with the name, joined by commas, with runs of blanks made one.
fn header_value(request: &Request, name: &str) -> Result<String> {
    let mut out = String::new();
    let mut found = false;
    for value in request.headers.get_all(name) {
        let text =
            std::str::from_utf8(value.as_bytes()).map_err(|_not_text| Fault::incomplete(format!("Header '{}' is no text.", cut(name))))?;
        if found {
            out.push(',');
        }
        found = true;
        for (index, word) in text.split_whitespace().enumerate() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    if found { Ok(out) } else { Err(Fault::signature(format!("The signed header '{}' is not in the request.", cut(name)))) }
}

/// The path without `.`, `..` and empty segments, each byte encoded once more than it arrived, as all services but S3 want it.
fn canonical_path(raw: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut path = format!("/{}", segments.join("/"));
    if raw.ends_with('/') && path.len() > 1 {
        path.push('/');
    }
    encode(path.as_bytes(), Slash::Kept)
}

/// Decoded names and values of a raw query.
fn query_pairs(query: &str) -> Result<Vec<(String, String)>> {
    let broken = || Fault::new(400, "MalformedQueryString", "The query string contains a syntax error.");
    let decode =
        |text: &str| percent_decode(text.as_bytes(), Plus::Itself).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(broken);
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() >= QUERY_PAIRS_MAX {
            return Err(broken());
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Encoded,
    Kept,
}

/// AWS's percent encoding: everything but `A-Za-z0-9-._~`.
fn encode(bytes: &[u8], slash: Slash) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || (*byte == b'/' && slash == Slash::Kept) {
            out.push(char::from(*byte));
        } else {
            let _always_fits = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// AWS's percent encoding of a whole text, slashes too; also how IAM returns policy documents.
pub(crate) fn percent_encode(text: &str) -> String {
    encode(text.as_bytes(), Slash::Encoded)
}

fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn parse_stamp(stamp: &str) -> Option<Timestamp> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let parsed = PrimitiveDateTime::parse(stamp, format).ok()?;
    let seconds = (parsed.assume_utc() - time::OffsetDateTime::UNIX_EPOCH) / Duration::SECOND;
    #[expect(clippy::cast_possible_truncation, reason = "four-digit years in seconds are far below 2^53")]
    (seconds.abs() < 1e12).then_some(Timestamp::from_seconds(seconds as i64))
}

/// `20260102T030405Z`.
pub(crate) fn stamp_of(at: Timestamp) -> String {
    let at = at.date_time();
    format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second())
}

/// Not more of a stranger's text than a reader needs.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(80)).unwrap_or_default()
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far clocks may differ.
const SKEW_SECONDS: i64 = 300;
const QUERY_PAIRS_MAX: usize = 1024;

#[cfg(test)]
pub(crate) mod tests;
