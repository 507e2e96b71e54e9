//! What fuzz targets reach of the core: the stage that reads bytes of strangers before anybody is known. Not part of the API.

use daypass_base::{Entropy, Limits};

use crate::http::{Body, HttpRequest};
use crate::memory::Memory;
use crate::stages::parse::{Outcome, parse};
use crate::traces::Caller;

/// Parses a request. Returns the path, or the status of the refusal. A path that comes back is clean: no part of it leads upwards.
pub fn parse_request(request: HttpRequest, entropy: &dyn Entropy) -> Result<String, u16> {
    if let Some(caller) = Caller::of(&request.headers) {
        assert!(caller.trace != [0; 16] && caller.span != [0; 8], "an id of zeros is none");
    }
    let limits = Limits::default();
    match parse(request, &limits, &Memory::new(&limits), entropy) {
        Outcome::Parsed(parsed) => Ok(parsed.path.clone()),
        Outcome::Answer(answer) => Err(answer.status),
    }
}

/// Reads a body as JSON. Errors: the text for the client.
pub fn read_body(body: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    crate::json::read_object(body, &Limits::default()).map(|(map, _)| map)
}

/// A request of raw parts, as a server would read them. `None` when no server would hand them on.
pub fn request(method: &[u8], target: &[u8], headers: &[(&[u8], &[u8])], body: &[u8]) -> Option<HttpRequest> {
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name).ok()?;
        map.append(name, http::HeaderValue::from_bytes(value).ok()?);
    }
    Some(HttpRequest {
        method: http::Method::from_bytes(method).ok()?,
        uri: http::Uri::try_from(target).ok()?,
        headers: map,
        body: Body::Read(bytes::Bytes::copy_from_slice(body)),
        peer: None,
        client_chain: None,
        opened: crate::http::Opened::default(),
    })
}
