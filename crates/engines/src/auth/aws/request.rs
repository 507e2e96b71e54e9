//! The signed request that a login hands in, from its fields to what may be sent on: pure.
//!
//! Nothing of it is trusted but what STS says in the end. What is looked at here keeps it from being anything else than one
//! `GetCallerIdentity` that STS answers in XML, and keeps two readers from seeing two requests in it.

use data_encoding::BASE64;
use daypass_aws::{SignedForm, SignedIdentity};
use daypass_base::Brief;
use daypass_sdk::{Error, Result, Secret, Timestamp};
use serde_json::Value;

use super::headers::Headers;
use super::signature::{ALGORITHM, Signature, time_of};

/// The fields of a login of type `iam`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given<'a> {
    pub(super) method: Option<&'a str>,
    pub(super) url: Option<&'a str>,
    pub(super) body: Option<&'a str>,
    pub(super) headers: Option<&'a Value>,
}

/// What a mount asks of signed requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules<'a> {
    /// The value that the server-id header must have; empty for none.
    pub(super) server_id: &'a str,
    /// Further names of `X-Amz-` headers that may be there.
    pub(super) allowed: &'a [String],
}

/// A request that may be sent on.
#[derive(Debug, Clone)]
pub(super) struct SignedRequest {
    pub(super) identity: SignedIdentity,
    /// The signature itself: another one for each second, principal and set of headers.
    pub(super) signature: [u8; 32],
    /// When it was signed, as it says.
    pub(super) signed_at: Timestamp,
}

impl SignedRequest {
    /// Reads a login's fields in Vault's order, with Vault's texts. Errors: `BadRequest`.
    pub(super) fn read(given: Given<'_>, rules: Rules<'_>) -> Result<Self> {
        let form = form_of(given)?;
        let url = Address::read(given.url.unwrap_or_default())?;
        let query = match form {
            "POST" if !url.query.is_empty() => return Err(Error::bad_request("invalid request")),
            "POST" => Query::default(),
            _ => Query::read(&url.query)?,
        };
        let body = if form == "POST" { body_of(given.body.unwrap_or_default())? } else { String::new() };
        let headers = given.headers.ok_or_else(|| Error::bad_request("missing iam_request_headers"))?;
        let headers = Headers::read(headers).map_err(|why| Error::bad_request(format!("error parsing iam_request_headers: {why}")))?;
        let signature = signature_of(&headers, &query);
        if !rules.server_id.is_empty() {
            check_server_id(&headers, &query, signature.as_ref().ok(), rules.server_id)
                .map_err(|why| Error::bad_request(format!("error validating {SERVER_ID} header: {why}")))?;
        }
        check_amz_names(&headers, &query, rules.allowed)?;
        let signature = signature.map_err(Error::bad_request)?;
        let host = host_of(&headers, &url)?;
        let signed_at = signed_at(&headers, &query, &signature)?;
        let headers = sent_on(&headers, &signature, form, &body).map_err(Error::bad_request)?;
        let form = if form == "POST" { SignedForm::Post(body) } else { SignedForm::Get(Secret::new(url.query)) };
        let identity = SignedIdentity { form, host, region: signature.region, headers };
        Ok(Self { identity, signature: signature.bytes, signed_at })
    }
}

/// The method, once all fields of the form are there.
fn form_of(given: Given<'_>) -> Result<&'static str> {
    let form = match given.method.unwrap_or_default() {
        "" => return Err(Error::bad_request("missing iam_http_request_method")),
        "GET" => "GET",
        "POST" => "POST",
        _ => return Err(Error::bad_request("invalid iam_http_request_method; currently only 'GET' and 'POST' are supported")),
    };
    if given.url.unwrap_or_default().is_empty() {
        return Err(Error::bad_request("missing iam_request_url"));
    }
    Ok(form)
}

/// A URL, as far as it is looked at.
struct Address {
    host: String,
    query: String,
}

impl Address {
    fn read(encoded: &str) -> Result<Self> {
        let bad = || Error::bad_request("error parsing iam_request_url");
        let text = decoded(encoded, URL_BYTES_MAX).ok_or_else(|| Error::bad_request("failed to base64 decode iam_request_url"))?;
        if !text.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) || text.contains(['#', '\\']) {
            return Err(bad());
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let sound = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
        if !matches!(scheme, "https" | "http") || !sound {
            return Err(bad());
        }
        if !path.is_empty() {
            return Err(Error::bad_request("invalid request: the path of iam_request_url is not /, where STS is"));
        }
        Ok(Self { host: host.to_ascii_lowercase(), query: query.to_owned() })
    }
}

/// A query with its names and values decoded, each name once.
#[derive(Default)]
struct Query(Vec<(String, Secret<String>)>);

impl Query {
    /// Reads the query of a `GET`. Errors: `BadRequest` unless it is one `GetCallerIdentity`.
    fn read(text: &str) -> Result<Self> {
        let mut query = Self::default();
        let mut actions = 0;
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bad = || Error::bad_request("error parsing iam_request_url");
            let (name, value) = (percent_decoded(name).ok_or_else(bad)?, percent_decoded(value).ok_or_else(bad)?);
            actions += usize::from(name == "Action");
            if actions > 1 {
                return Err(Error::bad_request("found multiple actions"));
            }
            if name == "Action" && value != ACTION {
                return Err(Error::bad_request(format!("unexpected action parameter, {}", Brief(&value))));
            }
            let known = matches!(name.as_str(), "Action" | "Version") || is_amz(&name);
            if !known || query.get(&name).is_some() || query.0.len() >= QUERY_MAX {
                let text = format!("invalid request: the parameter {:?} is unknown, or there twice", Brief(&name));
                return Err(Error::bad_request(text));
            }
            query.0.push((name, Secret::new(value)));
        }
        if actions == 0 {
            return Err(Error::bad_request("no action found in request"));
        }
        Ok(query)
    }

    /// The value of a parameter that is no secret.
    fn get(&self, name: &str) -> Option<&str> {
        // Asked for by those who know that it is none.
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.expose().as_str())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

/// The form of a `POST`: `Action`, once, and `Version`.
fn body_of(encoded: &str) -> Result<String> {
    if encoded.is_empty() {
        return Err(Error::bad_request("missing iam_request_body which is required for POST requests"));
    }
    let body = decoded(encoded, BODY_BYTES_MAX).ok_or_else(|| Error::bad_request("failed to base64 decode iam_request_body"))?;
    let (mut action, mut version) = (None, None);
    let sound = body.split('&').all(|pair| match pair.split_once('=') {
        Some(("Action", value)) => action.replace(value).is_none() && value == ACTION,
        Some(("Version", value)) => version.replace(value).is_none() && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'),
        _ => false,
    });
    if !sound || action.is_none() {
        return Err(Error::bad_request("iam request body is invalid"));
    }
    Ok(body)
}

/// The signature, of the header or of the query, never both. Errors: what is wrong with it.
fn signature_of(headers: &Headers, query: &Query) -> std::result::Result<Signature, String> {
    let presigned = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature"].map(|name| query.get(name));
    match (headers.text("authorization"), presigned) {
        (Some(header), [None, None, None, None]) => Signature::of_header(header),
        (None, [Some(ALGORITHM), Some(credential), Some(signed), Some(signature)]) => Signature::of_parts(credential, signed, signature),
        (None, [None, None, None, None]) => Err("missing Authorization header".to_owned()),
        (Some(_), _) => Err("the request is signed twice: in the Authorization header and in the query".to_owned()),
        (None, _) => Err(format!("the query is not signed with {ALGORITHM}")),
    }
}

fn check_server_id(headers: &Headers, query: &Query, signature: Option<&Signature>, wanted: &str) -> std::result::Result<(), String> {
    let Some(got) = headers.text(&SERVER_ID.to_ascii_lowercase()) else { return Err(format!("missing header {SERVER_ID:?}")) };
    if got != wanted {
        return Err(format!("expected {wanted:?} but got {:?}", Brief(got)));
    }
    match signature {
        Some(signature) if signature.covers(&SERVER_ID.to_ascii_lowercase()) => Ok(()),
        None if headers.get("authorization").is_none() && query.get("X-Amz-Signature").is_none() => {
            Err("missing Authorization header".to_owned())
        }
        _ => Err("vault header wasn't signed".to_owned()),
    }
}

/// Refuses what begins with `X-Amz-` and is not known: some of these names change what a request does.
fn check_amz_names(headers: &Headers, query: &Query, allowed: &[String]) -> Result<()> {
    let known = |name: &str| {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        AMZ_NAMES.into_iter().any(is) || allowed.iter().any(|known| is(known))
    };
    let of_query = query.names().filter(|name| *name != "X-Amz-Expires");
    match headers.iter().map(|(name, _)| name).chain(of_query).find(|name| is_amz(name) && !known(name)) {
        Some(name) => Err(Error::bad_request(format!("invalid request header: {}", Brief(&as_go_writes(name))))),
        None => Ok(()),
    }
}

/// The host that is signed: the header's, else the URL's. The two must not differ.
fn host_of(headers: &Headers, url: &Address) -> Result<String> {
    let Some(host) = headers.text("host") else { return Ok(url.host.clone()) };
    let host = host.to_ascii_lowercase();
    let bare = |host: &str| host.strip_suffix(":443").unwrap_or(host).to_owned();
    if bare(&host) != bare(&url.host) {
        let (host, wanted) = (Brief(&host), Brief(&url.host));
        return Err(Error::bad_request(format!("the Host header {host:?} is not the host of iam_request_url, {wanted:?}")));
    }
    Ok(host)
}

/// When it was signed. What the signature does not cover cannot say: anybody may put such a header beside a presigned query. Errors: `BadRequest`.
fn signed_at(headers: &Headers, query: &Query, signature: &Signature) -> Result<Timestamp> {
    let (header, is_presigned) = ("x-amz-date", query.get("X-Amz-Signature").is_some());
    if is_presigned && headers.get(header).is_some() && !signature.covers(header) {
        return Err(Error::bad_request("the header X-Amz-Date is not signed: a presigned request says in its query when it was made"));
    }
    let stamp = if is_presigned { None } else { headers.text(header) };
    let stamp = stamp.or_else(|| query.get("X-Amz-Date")).and_then(time_of);
    stamp.ok_or_else(|| Error::bad_request("missing or malformed X-Amz-Date: 20260102T030405Z is its form"))
}

/// The headers that go to STS: those that are signed, and those that say the signature. Others cannot matter to it.
fn sent_on(headers: &Headers, signature: &Signature, form: &str, body: &str) -> std::result::Result<Vec<(String, Secret<String>)>, String> {
    let supplied = |name: &str| matches!(name, "host" | "content-length");
    if let Some(name) = signature.signed_headers.iter().find(|name| !supplied(name) && headers.get(name).is_none()) {
        return Err(format!("the header {:?} is signed but not in iam_request_headers", Brief(name)));
    }
    if headers.text("content-length").is_some_and(|length| length != body.len().to_string()) {
        return Err("the header content-length is not the length of iam_request_body".to_owned());
    }
    let mut out = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| !supplied(name)) {
        if !signature.covers(name) && !is_amz(name) && name != "authorization" {
            continue;
        }
        // Looked at for what it would make STS do.
        let text = value.expose().to_ascii_lowercase();
        let changes_the_answer = match name {
            "accept" => !matches!(text.as_str(), "*/*" | "text/xml" | "application/xml"),
            "content-type" => !is_form(&text),
            _ => KEPT_BACK.contains(&name),
        };
        if changes_the_answer {
            return Err(format!("the header {name} has a value that cannot be sent on: sign without it"));
        }
        out.push((name.to_owned(), value.clone()));
    }
    if form == "POST" && !signature.covers("content-type") {
        out.push(("content-type".to_owned(), Secret::from(FORM)));
    }
    Ok(out)
}

fn is_form(text: &str) -> bool {
    let (kind, more) = text.split_once(';').unwrap_or((text, ""));
    kind.trim() == FORM && matches!(more.trim(), "" | "charset=utf-8")
}

/// Whether a name begins with `X-Amz-`, in any case.
fn is_amz(name: &str) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"))
}

/// A header's name as Go and so Vault writes it: `X-Amz-Foo`.
fn as_go_writes(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + &letters.as_str().to_ascii_lowercase()).unwrap_or_default()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// What base64 stands for, as text of at most so many bytes.
fn decoded(encoded: &str, most: usize) -> Option<String> {
    if encoded.len() > most / 3 * 4 + 4 {
        return None;
    }
    BASE64.decode(encoded.trim().as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Percent-decodes a part of a query; `None` for a broken escape. A plus is itself, as AWS has it.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// The header that says for which server a login was signed.
pub(super) const SERVER_ID: &str = "X-Vault-AWS-IAM-Server-ID";
const ACTION: &str = "GetCallerIdentity";
const FORM: &str = "application/x-www-form-urlencoded";
/// The names that begin with `X-Amz-` and may always be there: Vault's list.
const AMZ_NAMES: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "X-Amz-User-Agent",
];
/// Headers about the connection or the encoding of the body: a signature over one of them cannot be sent on.
const KEPT_BACK: [&str; 12] = [
    "connection",
    "content-encoding",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-http-method-override",
];
/// A presigned URL holds a session token.
const URL_BYTES_MAX: usize = 24 * 1024;
const BODY_BYTES_MAX: usize = 1024;
const QUERY_MAX: usize = 32;
