//! Audit lines are read by people who may not know the secrets: whatever is asked and answered, no secret of it stands in a line, and a line
//! is one line of JSON, or of XML.
//!
//! The input is a first byte that chooses the device's options, then JSON, a line feed, and a query. Every text of the JSON and every value
//! of the query becomes a secret by a mark before it; none of the marks may come out.
#![no_main]

use daypass_audit::{
    AuthRecord, Encoding, Format, HeaderRule, HeaderRules, Record, RecordType, RequestRecord, ResponseRecord, Room, Salt, Share,
    WrapRecord, write_line,
};
use daypass_base::Secret;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const MARK: &str = "SECRET";
/// Query parameters that the log shows.
const CLEAR: [&str; 6] = ["after", "help", "limit", "list", "ttl", "version"];

static SALT: LazyLock<Salt> = LazyLock::new(|| Salt::new(&Secret::new(b"salt".to_vec())));

fuzz_target!(|input: (u8, &str)| {
    let (options, text) = input;
    if text.contains('\\') || text.to_ascii_uppercase().contains(MARK) {
        // An escape could hide a mark in a key, and keys are not secret.
        return;
    }
    let (json, query) = text.split_once('\n').unwrap_or((text, ""));
    let value = serde_json::from_str(json).unwrap_or_else(|_not_json| Value::from(json));
    let data = Map::from_iter([("value".to_owned(), marked(value))]);
    let query: Vec<String> = query.split('&').map(marked_parameter).collect();
    let uri = format!("/v1/a?{}", query.join("&"));
    let token = format!("{MARK}{json}");
    let format = Format {
        hmac_accessor: options & 1 == 0,
        elide_list_responses: options & 2 == 0,
        encoding: if options & 16 == 0 { Encoding::Json } else { Encoding::Jsonx },
        prefix: if options & 4 == 0 { String::new() } else { "@cee: ".to_owned() },
        ..Format::default()
    };
    let accessor = if format.hmac_accessor { token.as_str() } else { "shown" };
    let auth = AuthRecord { client_token: &token, accessor, ..AuthRecord::default() };
    let facts = vec![("access_key_id", "ASIA")];
    let headers = vec![("x-vault-token", token.as_str()), ("x-hashed", token.as_str()), ("cookie", token.as_str())];
    let record = Record {
        record_type: if options & 8 == 0 { RecordType::Request } else { RecordType::Response },
        auth: Some(auth),
        request: RequestRecord {
            data: Some(&data),
            client_token: &token,
            client_token_accessor: accessor,
            request_uri: &uri,
            headers: Some(&headers),
            operation: "list",
            ..RequestRecord::default()
        },
        response: Some(ResponseRecord {
            data: Some(&data),
            auth: Some(auth),
            facts: Some(&facts),
            wrap_info: Some(WrapRecord { token: &token, accessor, wrapped_accessor: accessor, ..WrapRecord::default() }),
            ..ResponseRecord::default()
        }),
        // What has no room is summed up.
        room: if options & 32 == 0 {
            Room::default()
        } else {
            Room { request_data: json.len(), response_data: json.len(), share: Share::All }
        },
        ..Record::default()
    };
    let rules = HeaderRules::new(BTreeMap::from([("X-Hashed".to_owned(), HeaderRule { hmac: true })]));
    let line = String::from_utf8(write_line(&record, &format, &SALT, &rules)).expect("a line is text");
    assert!(!line.contains(MARK), "a secret stands in {line}");
    assert_eq!(line.find('\n'), Some(line.len() - 1), "not one line: {line}");
    let record = line.trim_start_matches("@cee: ");
    match format.encoding {
        Encoding::Json => assert!(serde_json::from_str::<Value>(record).is_ok(), "no JSON: {line}"),
        Encoding::Jsonx => assert_elements(record),
    }
    assert_eq!(line.contains("ASIA"), options & 8 != 0, "what is asked for by name is there: {line}");
});

/// Every element of XML ends where it should, and all text is in one.
fn assert_elements(record: &str) {
    let mut open = Vec::new();
    let mut rest = record.trim_end_matches('\n');
    while let Some((text, after)) = rest.split_once('<') {
        assert!(text.is_empty() || !open.is_empty(), "text beside the elements: {record}");
        let (tag, after) = after.split_once('>').expect("a tag ends");
        let name = |tag: &str| tag.split(' ').next().unwrap_or_default().to_owned();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(name(closed)), "{record}"),
            None if tag.ends_with('/') => {}
            None => open.push(name(tag)),
        }
        rest = after;
    }
    assert!(rest.is_empty() && open.is_empty(), "not whole: {record}");
}

/// The same shape, each text a secret.
fn marked(value: Value) -> Value {
    match value {
        Value::String(text) => Value::from(format!("{MARK}{text}")),
        Value::Array(items) => items.into_iter().map(marked).collect(),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, marked(value))).collect()),
        plain => plain,
    }
}

fn marked_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) if CLEAR.contains(&name) => format!("{name}={value}"),
        Some((name, value)) => format!("{name}={MARK}{value}"),
        None => format!("{MARK}{parameter}"),
    }
}
