//! Parse: from HTTP to path, operation, fields and token.
//!
//! Path cleaning follows Go's mux (a redirect to the clean path), because clients rely on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use daypass_base::limits::OVERLOADED;
use daypass_base::{Brief, ClientChain, Entropy, Limits, Seconds, Secret, Upload, duration, lenient, percent};
use daypass_sdk::{Operation, Page};
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use crate::http::{Body, HttpRequest, HttpResponse, is_upload};
use crate::identity::mfa::factors::Factors;
use crate::memory::{Held, Memory};
use crate::respond::{Answer, Content, write};
use crate::traces::Open;
use crate::{ids, json};

/// A request that can be understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// UUIDv4.
    pub(crate) id: String,
    /// Without `/v1/`, decoded.
    pub(crate) path: String,
    /// `Update` for every write; whether it is a create is found out later.
    pub(crate) operation: Operation,
    pub(crate) fields: Map<String, Value>,
    pub(crate) token: Option<Secret<String>>,
    /// The token came in `Authorization`.
    pub(crate) bearer: bool,
    pub(crate) wrap_ttl: Option<Seconds>,
    /// Second factors that came in headers; for logins.
    pub(crate) factors: Factors,
    /// Which part of a list.
    pub(crate) page: Page,
    pub(crate) peer: Option<SocketAddr>,
    /// The certificates that the client showed.
    pub(crate) client_chain: Option<Arc<ClientChain>>,
    /// The body of the few requests whose body is no JSON.
    pub(crate) upload: Option<Upload>,
    /// Its listener lets this be read without a token.
    pub(crate) opened: bool,
    /// The peer's address as text, for audit; empty over a unix socket.
    pub(crate) remote: String,
    pub(crate) headers: HeaderMap,
    /// It asks what is possible; nothing answers that.
    pub(crate) options: bool,
    /// As sent, for audit.
    pub(crate) uri: String,
    /// Its trace, if it is traced.
    pub(crate) trace: Option<Arc<Open>>,
    /// The share of memory that its fields take.
    _held: Held,
    _proof: (),
}

/// What a request turned out to be.
pub(crate) enum Outcome {
    /// Understood.
    Parsed(Box<Parsed>),
    /// Answered already: a redirect or a refusal.
    Answer(HttpResponse),
}

pub(crate) fn parse(request: HttpRequest, limits: &Limits, memory: &Memory, entropy: &dyn Entropy) -> Outcome {
    match try_parse(request, limits, memory, entropy) {
        Ok(parsed) => Outcome::Parsed(Box::new(parsed)),
        Err(answer) => Outcome::Answer(*answer),
    }
}

fn try_parse(request: HttpRequest, limits: &Limits, memory: &Memory, entropy: &dyn Entropy) -> Result<Parsed, Box<HttpResponse>> {
    let HttpRequest { method, uri, headers, body, peer, client_chain, opened } = request;
    let sent = uri.path().len() + uri.query().map_or(0, str::len);
    if sent > limits.uri_bytes {
        let text = format!("path and query are {sent} bytes long, over the limit of {} bytes", limits.uri_bytes);
        return Err(refused(414, vec![text]));
    }
    let path = logical_path(uri.path(), uri.query(), limits)?;
    let query = query_fields(uri.query().unwrap_or_default(), limits)?;
    let operation = operation(method.as_str(), &query, &headers)?;
    let page = if operation == Operation::List { page(&query)? } else { Page::default() };
    let mut upload = None;
    let (fields, weight) = match operation {
        Operation::Update if is_upload(&path) => {
            upload = Some(whole_or_coming(body)?);
            (Map::new(), 0)
        }
        Operation::Update | Operation::Patch => body_fields(body, &headers, limits)?,
        // The one deletion with a body: which attempt is to be given up.
        Operation::Delete if path == "sys/rekey/init" => body_fields(body, &headers, limits)?,
        // As long as a URI may be.
        _ => (plain_query(query, operation), 0),
    };
    let held = memory.take(weight).ok_or_else(overloaded)?;
    let path = if operation == Operation::List && !path.ends_with('/') && !path.is_empty() { format!("{path}/") } else { path };
    let wrap_ttl = wrapping(&headers)?;
    check_flags(&headers)?;
    let factors = Factors::of_headers(&headers).map_err(|why| refused(400, vec![why]))?;
    Ok(Parsed {
        id: ids::uuid(entropy),
        opened: operation == Operation::Read && opened.has(&path),
        path,
        operation,
        fields,
        token: token(&headers),
        bearer: bearer(&headers).is_some(),
        wrap_ttl,
        factors,
        page,
        upload,
        remote: peer.map(|peer| peer.ip().to_string()).unwrap_or_default(),
        peer,
        client_chain,
        uri: uri.to_string(),
        options: method == Method::OPTIONS,
        headers,
        trace: None,
        _held: held,
        _proof: (),
    })
}

/// The path below `/v1/`, decoded and clean.
fn logical_path(raw: &str, query: Option<&str>, limits: &Limits) -> Result<String, Box<HttpResponse>> {
    let clean = clean(raw);
    if clean != raw || raw == "/v1" {
        return Err(Box::new(redirect(&clean, query)));
    }
    let decoded = percent::decode(raw.as_bytes()).ok_or_else(|| plain(400, "400 Bad Request"))?;
    let text = String::from_utf8(decoded).map_err(|_not_text| refused(400, vec!["the path is not valid UTF-8".to_owned()]))?;
    if !printable(&text) {
        return Err(Box::new(HttpResponse { without: ALL_USUAL, ..write(Answer::empty(400)) }));
    }
    if text.len() > limits.path_bytes {
        let text = format!("the path is {} bytes long, over the limit of {} bytes", text.len(), limits.path_bytes);
        return Err(refused(414, vec![text]));
    }
    let segments = text.split('/').count();
    if segments > limits.path_segments {
        return Err(refused(400, vec![format!("the path has {segments} segments, over the limit of {}", limits.path_segments)]));
    }
    // A parent or an empty segment that hides behind an escape was decoded just now and is seen here.
    match text.strip_prefix("/v1/") {
        // Handlers drop slashes that policies keep: `sys/mounts//kv` would be no path that anybody denies, and yet the mount `kv`.
        Some(_) if text.contains("//") => Err(refused(400, vec!["path cannot contain empty segments".to_owned()])),
        Some(path) if path.split('/').any(|segment| segment == "..") => {
            Err(refused(400, vec!["path cannot contain parent references".to_owned()]))
        }
        Some(path) => Ok(path.to_owned()),
        None if query.is_some_and(|query| query.split('&').any(|pair| pair == "help" || pair.starts_with("help="))) => {
            let text = "Missing /v1/ prefix in path. Use vault path-help command to retrieve API help for paths";
            Err(refused(404, vec![text.to_owned()]))
        }
        None => Err(refused(404, Vec::new())),
    }
}

/// Whether all of a path can be printed, as Go's `unicode.IsPrint` sees it: what cannot be seen would make two paths look the same in
/// a policy or an audit log. Rust's own rule for escapes is the same; only combining marks are escaped where nothing precedes them.
fn printable(path: &str) -> bool {
    let seen = |character: char| {
        if character.is_ascii() {
            return !character.is_ascii_control();
        }
        ['x', character].iter().collect::<String>().escape_debug().nth(1) == Some(character)
    };
    path.chars().all(seen)
}

/// As Go's `path.Clean` with the mux's rule that a trailing slash stays.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut out = format!("/{}", segments.join("/"));
    if (path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..")) && out.len() > 1 && path.ends_with('/') {
        out.push('/');
    }
    if out == "/v1" {
        out.push('/');
    }
    out
}

fn redirect(location: &str, query: Option<&str>) -> HttpResponse {
    let target = query.map_or_else(|| location.to_owned(), |query| format!("{location}?{query}"));
    let body = Bytes::from(format!("<a href=\"{location}\">Temporary Redirect</a>.\n\n"));
    let mut response = write(Answer { status: 307, content: Content::Raw("text/html; charset=utf-8", body), ..Answer::default() });
    response.headers.push(("location", target));
    response
}

fn operation(method: &str, query: &[(String, String)], headers: &HeaderMap) -> Result<Operation, Box<HttpResponse>> {
    // As in Go, the first of several values counts, and an empty one is none.
    let given =
        |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty());
    // Whatever the method: who asks what a write would do must not have it done.
    if given("help").is_some() {
        return Ok(Operation::Help);
    }
    Ok(match method {
        "GET" => match given("list").map(lenient::parse_bool) {
            Some(Some(true)) => Operation::List,
            Some(Some(false)) | None => Operation::Read,
            Some(None) => return Err(refused(400, Vec::new())),
        },
        "LIST" => Operation::List,
        "POST" | "PUT" => Operation::Update,
        "PATCH" => {
            check_patch_type(headers)?;
            Operation::Patch
        }
        "DELETE" => Operation::Delete,
        "HEAD" => Operation::Header,
        // Reaches routing, where nothing takes it.
        "OPTIONS" => Operation::Header,
        "HELP" => Operation::Help,
        _ => return Err(refused(405, Vec::new())),
    })
}

fn check_patch_type(headers: &HeaderMap) -> Result<(), Box<HttpResponse>> {
    let Some(given) = headers.get("content-type").and_then(|value| value.to_str().ok()) else {
        return Err(refused(400, vec!["mime: no media type".to_owned()]));
    };
    let media = given.split(';').next().unwrap_or_default().trim();
    if !media.contains('/') {
        return Err(refused(400, vec!["mime: expected slash after first token".to_owned()]));
    }
    if !media.eq_ignore_ascii_case("application/merge-patch+json") {
        let text = format!("PATCH requires Content-Type of application/merge-patch+json, provided {}", Brief(media));
        return Err(refused(415, vec![text]));
    }
    Ok(())
}

fn whole_or_coming(body: Body) -> Result<Upload, Box<HttpResponse>> {
    match body {
        Body::Coming(upload) => Ok(upload),
        Body::Read(bytes) => Ok(Upload::whole(bytes)),
        Body::TooLarge => Err(too_large()),
    }
}

/// Clients that are told when come again by themselves.
#[expect(clippy::unnecessary_box_returns, reason = "the error side of every function here: kept small")]
fn overloaded() -> Box<HttpResponse> {
    let answer = Answer::refused(503, vec![OVERLOADED.to_owned()]);
    Box::new(write(Answer { headers: vec![("retry-after", "1".to_owned())], ..answer }))
}

#[expect(clippy::unnecessary_box_returns, reason = "the error side of every function here: kept small")]
fn too_large() -> Box<HttpResponse> {
    refused(413, vec!["http: request body too large".to_owned()])
}

/// The fields of a body, and about how many bytes of memory they take.
fn body_fields(body: Body, headers: &HeaderMap, limits: &Limits) -> Result<(Map<String, Value>, usize), Box<HttpResponse>> {
    let bytes = match body {
        // Nothing but an upload comes like that.
        Body::TooLarge | Body::Coming(_) => return Err(too_large()),
        Body::Read(bytes) if bytes.len() > limits.body_bytes => return Err(too_large()),
        Body::Read(bytes) => bytes,
    };
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).and_then(|kind| kind.split(';').next());
    let form = kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    // Java's and curl's default type is the form's, whatever the body is: the first byte decides.
    if form && first.is_some_and(|byte| !matches!(byte, b'{' | b'[')) {
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| refused(400, vec![format!("the form is not valid UTF-8 behind its first {} bytes", error.valid_up_to())]))?;
        // Decoding makes nothing longer.
        return form_fields(text, limits).map(|fields| (fields, bytes.len()));
    }
    json::read_object(&bytes, limits).map_err(|text| refused(400, vec![text]))
}

/// A form's fields: the values of one name are joined, and are as long together as a string of JSON at most.
fn form_fields(form: &str, limits: &Limits) -> Result<Map<String, Value>, Box<HttpResponse>> {
    let most = limits.json_string_bytes;
    let mut fields = Map::new();
    for pair in pairs(form, limits, most) {
        let (name, value) = pair?;
        match fields.get_mut(&name) {
            Some(Value::String(joined)) => {
                check_length(joined.len() + 1 + value.len(), most)?;
                // No more room than the form's own length, by which it is counted.
                joined.reserve_exact(1 + value.len());
                joined.push(',');
                joined.push_str(&value);
            }
            _ => {
                fields.insert(name, Value::String(value));
            }
        }
    }
    Ok(fields)
}

fn check_length(bytes: usize, most: usize) -> Result<(), Box<HttpResponse>> {
    if bytes <= most {
        Ok(())
    } else {
        Err(refused(400, vec![format!("a field of the form has {bytes} bytes, over the limit of {most} bytes")]))
    }
}

/// The part of a list that is asked for, as OpenBao's clients ask; Vault has no pages. A limit of zero is none.
fn page(query: &[(String, String)]) -> Result<Page, Box<HttpResponse>> {
    let given = |wanted: &str| query.iter().rev().find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, value)| value.clone());
    let limit = match given("limit") {
        None => None,
        Some(text) => {
            let limit: i64 = text.parse().map_err(|_no_number| {
                refused(400, vec![format!("invalid limit {:?}: give the number of names that the list may have", Brief(&text))])
            })?;
            usize::try_from(limit).ok().filter(|limit| *limit > 0)
        }
    };
    Ok(Page { after: given("after"), limit })
}

/// Query parameters as fields: one value is a text, several are a list.
fn plain_query(query: Vec<(String, String)>, operation: Operation) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in query {
        if name == "help" || (operation == Operation::List && matches!(name.as_str(), "after" | "limit" | "list")) {
            continue;
        }
        match fields.get_mut(&name) {
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
            None => {
                fields.insert(name, Value::String(value));
            }
        }
    }
    fields
}

/// A query's fields. None is longer than a URI may be.
fn query_fields(query: &str, limits: &Limits) -> Result<Vec<(String, String)>, Box<HttpResponse>> {
    pairs(query, limits, limits.uri_bytes).collect()
}

/// The names and values of a query or a form, decoded one by one. Errors: there are too many; one is longer than `most` bytes, which is seen before
/// anything is made of it; or one does not decode.
fn pairs(text: &str, limits: &Limits, most: usize) -> impl Iterator<Item = Result<(String, String), Box<HttpResponse>>> {
    let parameters_max = limits.query_parameters;
    text.split('&').filter(|pair| !pair.is_empty()).enumerate().map(move |(before, pair)| {
        if before >= parameters_max {
            return Err(refused(400, vec![format!("more than {parameters_max} query parameters")]));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str, place: &dyn Fn() -> String| {
            let refuse = |problem: &str| refused(400, vec![format!("{problem} in the {}", place())]);
            let bytes = percent::decoded_len(text.as_bytes()).ok_or_else(|| refuse("invalid URL escape"))?;
            check_length(bytes, most)?;
            let decoded = percent::decode_field(text.as_bytes()).unwrap_or_default();
            String::from_utf8(decoded).map_err(|_not_text| refuse("invalid UTF-8"))
        };
        let name = decoded(name, &|| "name of a query parameter".to_owned())?;
        // It is not repeated: it may be a secret.
        let value = decoded(value, &|| format!("value of the query parameter {:?}", Brief(&name)))?;
        Ok((name, value))
    })
}

/// `X-Vault-Token`, or a bearer token when that is absent.
fn token(headers: &HeaderMap) -> Option<Secret<String>> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let found = text("x-vault-token").filter(|token| !token.is_empty()).or_else(|| bearer(headers));
    if found.is_none() && headers.get("x-vault-token").is_some_and(|raw| !raw.is_empty()) {
        // Not text, so no token of ours: it is still a token that was presented, and wrong.
        return Some(Secret::from("\u{0}"));
    }
    found.map(|token| Secret::new(token.to_owned()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

/// How long the answer is to be kept. `X-Vault-Wrap-Format: jwt` is not offered: clients treat the token as opaque.
fn wrapping(headers: &HeaderMap) -> Result<Option<Seconds>, Box<HttpResponse>> {
    let Some(value) = headers.get("x-vault-wrap-ttl") else { return Ok(None) };
    let text = value.to_str().unwrap_or("?");
    let signed = duration::parse(text).map_err(|error| refused(400, vec![format!("error parsing X-Vault-Wrap-TTL header: {error}")]))?;
    if signed.negative && !signed.size.is_zero() {
        return Err(refused(400, vec!["error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative".to_owned()]));
    }
    // Rounded down to nothing, less than a second would ask for no wrapping at all.
    let whole = Seconds::from(signed.size).max(if signed.size.is_zero() { Seconds::ZERO } else { Seconds(1) });
    Ok(whole.set())
}

/// Headers that must make sense although they mean nothing here.
fn check_flags(headers: &HeaderMap) -> Result<(), Box<HttpResponse>> {
    for value in headers.get_all("x-vault-mfa") {
        let missing = match value.to_str().ok().and_then(|value| value.split_once(':')) {
            Some(("", _)) => "method name or ID",
            Some((_, "")) => "method value",
            _ => continue,
        };
        return Err(refused(
            400,
            vec![format!("failed to parse X-Vault-MFA header: invalid data in header \"X-Vault-MFA\"; missing {missing}")],
        ));
    }
    let Some(value) = headers.get("x-vault-policy-override") else { return Ok(()) };
    let text = value.to_str().unwrap_or("?");
    if lenient::parse_bool(text).is_none() {
        let reason = format!("cannot parse '' as bool: strconv.ParseBool: parsing {:?}: invalid syntax", Brief(text));
        return Err(refused(400, vec![format!("failed to parse X-Vault-Policy-Override header: {reason}")]));
    }
    Ok(())
}

/// Headers named by a mount or an engine, names in lower case, values that are text.
pub(crate) fn named_headers(headers: &HeaderMap, names: &[String]) -> BTreeMap<String, String> {
    let pick = |name: &String| {
        let lower = name.to_ascii_lowercase();
        let value = headers.get(&lower)?.to_str().ok()?.to_owned();
        Some((lower, value))
    };
    names.iter().filter_map(pick).collect()
}

#[expect(clippy::unnecessary_box_returns, reason = "the error side of every function here: kept small")]
fn refused(status: u16, errors: Vec<String>) -> Box<HttpResponse> {
    Box::new(write(Answer::refused(status, errors)))
}

#[expect(clippy::unnecessary_box_returns, reason = "the error side of every function here: kept small")]
fn plain(status: u16, text: &'static str) -> Box<HttpResponse> {
    let content = Content::Raw("text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()));
    Box::new(HttpResponse { without: &["cache-control"], ..write(Answer { status, content, ..Answer::default() }) })
}

/// What answers of HTTP itself, before any handler, do without.
const ALL_USUAL: &[&str] = &["content-type", "cache-control"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_gos_mux_does() {
        for (given, wanted) in [
            ("/v1/a//b", "/v1/a/b"),
            ("/v1/a/./b", "/v1/a/b"),
            ("/v1/x/../a", "/v1/a"),
            ("/v1/../x", "/x"),
            ("/v1/a/..", "/v1/"),
            ("/v1/a/.", "/v1/a"),
            ("/v1/a/", "/v1/a/"),
            ("/v1/", "/v1/"),
        ] {
            assert_eq!(clean(given), wanted, "{given}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_printable() {
        for path in ["/v1/a b", "/v1/é", "/v1/e\u{301}", "/v1/✓", "/v1/日本", "/v1/\"\\'", "/v1/\u{1f600}"] {
            assert!(printable(path), "{path:?}");
        }
        for hidden in
            ['\0', '\n', '\u{7f}', '\u{85}', '\u{a0}', '\u{ad}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{feff}', '\u{e000}', '\u{378}']
        {
            assert!(!printable(&format!("/v1/a{hidden}b")), "{hidden:?}");
        }
    }

    #[test]
    fn a_query_with_one_value_is_a_text_and_with_several_a_list() {
        let query = query_fields("a=1&b=x&b=y&list=true&c=%20+&after=x&limit=5", &Limits::default()).unwrap();
        assert_eq!(page(&query).unwrap(), Page { after: Some("x".to_owned()), limit: Some(5) });
        let fields = plain_query(query, Operation::List);
        assert_eq!(Value::Object(fields), serde_json::json!({"a": "1", "b": ["x", "y"], "c": "  "}));
    }
}
