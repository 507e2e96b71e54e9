//! Writes a [`Record`] as one line of JSON, straight into one buffer, with secrets replaced by keyed hashes on the way.
//!
//! Hashed are tokens, accessors (unless the device says otherwise), and every string in the data of requests and answers, wherever it is;
//! numbers, booleans, nulls and the keys of objects stay clear. A hash is `hmac-sha256:` and 64 hex digits, under the device's salt,
//! so that an operator can find a known value (`sys/audit-hash`) and nobody can find an unknown one.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Write;

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use daypass_base::{Secret, Timestamp};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::headers::HeaderRules;
use crate::record::{AuthRecord, MountRecord, Pairs, Record, RecordType, RequestRecord, ResponseRecord, Strings, WrapRecord};

/// The key of a device's hashes.
pub struct Salt(hmac::Key);

impl Salt {
    /// The salt of these bytes; two devices should have different ones, so that their logs cannot be joined.
    #[must_use]
    pub fn new(bytes: &Secret<Vec<u8>>) -> Self {
        // Exposed to become the key.
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes.expose()))
    }

    /// `hmac-sha256:` and the hash of `input` in hex.
    #[must_use]
    pub fn hash(&self, input: &str) -> String {
        HASH_PREFIX.chars().chain(self.hex(input).into_iter().map(char::from)).collect()
    }

    /// The hash alone.
    fn hex(&self, input: &str) -> Hex {
        hex(&hmac::sign(&self.0, input.as_bytes()))
    }
}

fn hex(tag: &hmac::Tag) -> Hex {
    let mut hex = [b'0'; 64];
    HEXLOWER.encode_mut(tag.as_ref(), &mut hex);
    hex
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(…)")
    }
}

/// A hash in hex.
type Hex = [u8; 64];

/// Hashes of one line that were taken already: a token and its accessor stand in a line up to four times.
#[derive(Default)]
struct Taken<'a>(RefCell<SmallVec<[(&'a str, Hex); TAKEN_MAX]>>);

impl<'a> Taken<'a> {
    fn hex(&self, salt: &Salt, input: &'a str) -> Hex {
        let mut taken = self.0.borrow_mut();
        if let Some((_, hex)) = taken.iter().find(|(text, _)| *text == input) {
            return *hex;
        }
        let hex = salt.hex(input);
        if taken.len() < TAKEN_MAX {
            taken.push((input, hex));
        }
        hex
    }
}

/// How a record is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// An object of JSON.
    #[default]
    Json,
    /// The same as XML: [`crate::jsonx`].
    Jsonx,
}

/// What a device's options say about its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Whether accessors are hashed. Default true.
    pub hmac_accessor: bool,
    /// Whether nothing is hashed. Default false.
    pub log_raw: bool,
    /// Whether lists in answers are replaced by their lengths. Default false.
    pub elide_list_responses: bool,
    /// JSON, unless told otherwise.
    pub encoding: Encoding,
    /// Written before each line; has no line break.
    pub prefix: String,
}

impl Default for Format {
    fn default() -> Self {
        Self { hmac_accessor: true, log_raw: false, elide_list_responses: false, encoding: Encoding::Json, prefix: String::new() }
    }
}

/// The line of `record`, with a line feed at its end.
#[must_use]
pub fn write_line(record: &Record<'_>, format: &Format, salt: &Salt, headers: &HeaderRules) -> Vec<u8> {
    let mut out = Vec::with_capacity(LINE_BYTES_USUAL);
    out.extend_from_slice(format.prefix.as_bytes());
    match format.encoding {
        Encoding::Json => write_object(record, format, salt, headers, &mut out),
        Encoding::Jsonx => {
            let mut json = Vec::with_capacity(LINE_BYTES_USUAL);
            write_object(record, format, salt, headers, &mut json);
            crate::jsonx::write(&json, &mut out);
        }
    }
    out.push(b'\n');
    out
}

fn write_object(record: &Record<'_>, format: &Format, salt: &Salt, headers: &HeaderRules, out: &mut Vec<u8>) {
    let line = Line { format, salt, record, taken: Taken::default() };
    let mut object = Object::open(out);
    if let Some(auth) = &record.auth {
        object.nested("auth", |out| line.auth(auth, out));
    }
    object.text("error", record.error);
    object.nested("request", |out| line.request(&record.request, headers, out));
    if let (Some(response), RecordType::Response) = (&record.response, record.record_type) {
        object.nested("response", |out| line.response(response, out));
    }
    object.time("time", record.time);
    object.text("type", record.record_type.name());
    object.close();
}

/// A line being written. Each method appends one JSON value.
struct Line<'a> {
    format: &'a Format,
    salt: &'a Salt,
    record: &'a Record<'a>,
    taken: Taken<'a>,
}

impl<'a> Line<'a> {
    fn auth(&self, auth: &AuthRecord<'a>, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        self.accessor(&mut object, "accessor", auth.accessor);
        self.secret(&mut object, "client_token", auth.client_token);
        object.text("display_name", auth.display_name);
        object.flag("entity_created", auth.entity_created);
        object.text("entity_id", auth.entity_id);
        object.texts("identity_policies", auth.identity_policies);
        object.pairs("metadata", auth.metadata);
        object.flag("no_default_policy", auth.no_default_policy);
        object.number("num_uses", auth.num_uses);
        object.texts("policies", auth.policies);
        if let Some(results) = &auth.policy_results {
            object.nested("policy_results", |out| {
                let mut object = Object::open(out);
                object.raw("allowed", if results.allowed { b"true" } else { b"false" });
                if !results.granting_policies.is_empty() {
                    object.own("granting_policies");
                    list(object.out, results.granting_policies, |policy, out| {
                        let mut object = Object::open(out);
                        object.text("name", policy.name);
                        object.text("namespace_id", ROOT_NAMESPACE);
                        object.own("type");
                        string(policy.policy_type, object.out);
                        object.close();
                    });
                }
                object.close();
            });
        }
        object.number("remaining_uses", auth.remaining_uses);
        object.texts("token_policies", auth.token_policies);
        if let Some(issued) = auth.token_issue_time {
            object.time("token_issue_time", Timestamp::from_seconds(issued.seconds()));
        }
        object.number("token_ttl", auth.token_ttl.0);
        object.text("token_type", auth.token_type);
        object.close();
    }

    fn request(&self, request: &RequestRecord<'a>, headers: &HeaderRules, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.text("client_certificate_serial_number", request.client_certificate_serial_number);
        object.text("client_id", request.client_id);
        self.secret(&mut object, "client_token", request.client_token);
        self.accessor(&mut object, "client_token_accessor", request.client_token_accessor);
        if let Some(data) = request.data.filter(|data| !data.is_empty()) {
            self.data_within(&mut object, data, self.record.non_hmac_request_keys, Elide::Nothing, self.record.room.request_data);
        }
        if let Some(present) = request.headers {
            self.request_headers(&mut object, present, headers);
        }
        object.text("id", request.id);
        mount(&mut object, &request.mount, "mount_running_version");
        object.nested("namespace", |out| {
            let mut object = Object::open(out);
            object.text("id", ROOT_NAMESPACE);
            object.close();
        });
        object.text("operation", request.operation);
        object.text("path", request.path);
        object.text("remote_address", request.remote_address);
        object.number("remote_port", u64::from(request.remote_port));
        // Vault leaves the URI out when it says no more than the path.
        if request.request_uri != request.path {
            object.text("request_uri", &self.uri(request.request_uri));
        }
        object.number("wrap_ttl", request.wrap_ttl.0);
        object.close();
    }

    fn response(&self, response: &ResponseRecord<'a>, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        if let Some(auth) = &response.auth {
            object.nested("auth", |out| self.auth(auth, out));
        }
        if let Some(data) = response.data.filter(|data| !data.is_empty()) {
            let listing = self.format.elide_list_responses && self.record.request.operation == "list";
            let elide = if listing { Elide::Lists } else { Elide::Nothing };
            self.data_within(&mut object, data, self.record.non_hmac_response_keys, elide, self.record.room.response_data);
        }
        object.pairs("facts", response.facts);
        if let Some(headers) = response.headers {
            let mut values: Vec<(String, String)> = Vec::new();
            headers.each(&mut |name, value| values.push((name.to_owned(), value.to_owned())));
            object.grouped("headers", values, string);
        }
        mount(&mut object, &self.record.request.mount, "mount_running_plugin_version");
        object.text("redirect", response.redirect);
        if !response.lease_id.is_empty() {
            object.nested("secret", |out| {
                let mut object = Object::open(out);
                object.text("lease_id", response.lease_id);
                object.close();
            });
        }
        if let Some(wrap) = &response.wrap_info {
            object.nested("wrap_info", |out| self.wrap_info(wrap, out));
        }
        let brief = response.warnings.map(Brief);
        object.texts("warnings", brief.as_ref().map(|brief| brief as &dyn Strings));
        object.close();
    }

    fn wrap_info(&self, wrap: &WrapRecord<'a>, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        self.accessor(&mut object, "accessor", wrap.accessor);
        object.text("creation_path", wrap.creation_path);
        object.time("creation_time", wrap.creation_time);
        self.secret(&mut object, "token", wrap.token);
        object.number("ttl", wrap.ttl.0);
        self.accessor(&mut object, "wrapped_accessor", wrap.wrapped_accessor);
        object.close();
    }

    /// The headers that the rules name. Rules hold for raw devices as well: they say which headers are secret at all.
    fn request_headers(&self, object: &mut Object<'_>, present: &dyn Pairs, rules: &HeaderRules) {
        let mut values: Vec<(String, String)> = Vec::new();
        present.each(&mut |name, value| {
            if let Some((name, rule)) = rules.iter().find(|(rule, _)| rule.eq_ignore_ascii_case(name)) {
                values.push((name.to_owned(), if rule.hmac { self.salt.hash(value) } else { value.to_owned() }));
            }
        });
        object.grouped("headers", values, string);
    }

    /// The URI with the values in its query hashed: whatever is a parameter there would be a secret in the data as well.
    fn uri<'b>(&self, uri: &'b str) -> Cow<'b, str> {
        let Some((path, query)) = uri.split_once('?').filter(|_| !self.format.log_raw) else { return Cow::Borrowed(uri) };
        let stays = |key: &str| CLEAR_QUERY_KEYS.contains(&key) || self.record.non_hmac_request_keys.iter().any(|clear| clear == key);
        let mut out = format!("{path}?");
        for (index, parameter) in query.split('&').enumerate() {
            if index > 0 {
                out.push('&');
            }
            let (key, value) = parameter.split_once('=').unwrap_or(("", parameter));
            if value.is_empty() && is_name(key) || stays(key) || key.is_empty() && stays(value) || parameter.is_empty() {
                out.push_str(parameter);
            } else if is_name(key) {
                out.push_str(key);
                out.push('=');
                out.push_str(&self.salt.hash(&percent_decoded(value)));
            } else {
                // A bare word may be anything, a mistyped token too.
                out.push_str(&self.salt.hash(&percent_decoded(parameter)));
            }
        }
        Cow::Owned(out)
    }

    /// Data, or a summary where it takes more than `most` bytes.
    fn data_within(&self, object: &mut Object<'_>, data: &'a Map<String, Value>, clear_keys: &[String], elide: Elide, most: usize) {
        if room::fits(data, self.format, clear_keys, elide, most) {
            object.nested("data", |out| self.data(data, clear_keys, elide, out));
        } else {
            object.nested("data_elided", |out| room::summarise(data, self.salt, out));
        }
    }

    fn data(&self, data: &'a Map<String, Value>, clear_keys: &[String], elide: Elide, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        for (key, value) in data {
            object.key(key);
            match elide.count(key, value) {
                Some(count) => digits(count, object.out),
                None => self.value(value, is_clear(key, clear_keys), clear_keys, object.out),
            }
        }
        object.close();
    }

    /// A value below a key; `strings` says whether its own strings are hashed. A nested object asks anew for each of its keys.
    fn value(&self, value: &'a Value, strings: Leaves, clear_keys: &[String], out: &mut Vec<u8>) {
        match (value, strings) {
            (Value::String(text), Leaves::Hashed) if !self.format.log_raw => self.hashed(text, out),
            (Value::Array(items), _) => list(out, items, |item, out| self.value(item, strings, clear_keys, out)),
            (Value::Object(map), _) => self.data(map, clear_keys, Elide::Nothing, out),
            (plain, _) => json(plain, out),
        }
    }

    fn secret(&self, object: &mut Object<'_>, name: &'static str, text: &'a str) {
        if self.format.log_raw {
            object.text(name, text);
        } else if !text.is_empty() {
            object.own(name);
            self.hashed(text, object.out);
        }
    }

    /// The hash of `text` as a JSON string.
    fn hashed(&self, text: &'a str, out: &mut Vec<u8>) {
        hash(&self.taken.hex(self.salt, text), out);
    }

    fn accessor(&self, object: &mut Object<'_>, name: &'static str, text: &'a str) {
        if self.format.hmac_accessor { self.secret(object, name, text) } else { object.text(name, text) }
    }
}

/// Whether a request's data takes at most `most` bytes in a line of this format.
pub(crate) fn has_room(data: &Map<String, Value>, format: &Format, clear_keys: &[String], most: usize) -> bool {
    room::fits(data, format, clear_keys, Elide::Nothing, most)
}

/// Warnings, which may repeat names that a client chose: no more of them than [`WARNINGS_BYTES_MAX`].
struct Brief<'a>(&'a dyn Strings);

impl Strings for Brief<'_> {
    fn each(&self, visit: &mut dyn FnMut(&str)) {
        let (mut left, mut left_out) = (WARNINGS_BYTES_MAX, 0_u32);
        self.0.each(&mut |text| match left.checked_sub(text.len()) {
            Some(rest) => {
                left = rest;
                visit(text);
            }
            None => left_out = left_out.saturating_add(1),
        });
        if left_out > 0 {
            visit(&format!("{left_out} more are left out here: together they have more than {WARNINGS_BYTES_MAX} bytes"));
        }
    }
}

/// Whether the strings below a key are hashed.
#[derive(Clone, Copy)]
enum Leaves {
    Clear,
    Hashed,
}

fn is_clear(key: &str, clear_keys: &[String]) -> Leaves {
    if clear_keys.iter().any(|clear| clear == key) { Leaves::Clear } else { Leaves::Hashed }
}

/// What of an answer's data is replaced by its length.
#[derive(Clone, Copy)]
enum Elide {
    Lists,
    Nothing,
}

impl Elide {
    fn count(self, key: &str, value: &Value) -> Option<u64> {
        let count = match (self, key, value) {
            (Self::Lists, "keys", Value::Array(keys)) if keys.iter().all(Value::is_string) => keys.len(),
            (Self::Lists, "key_info", Value::Object(map)) => map.len(),
            _ => return None,
        };
        u64::try_from(count).ok()
    }
}

fn mount(object: &mut Object<'_>, mount: &MountRecord<'_>, version: &'static str) {
    object.text("mount_accessor", mount.accessor);
    object.text("mount_class", mount.class);
    object.text("mount_point", mount.point);
    object.text(version, mount.running_version);
    object.text("mount_type", mount.mount_type);
}

/// A JSON object being written; its methods leave out what is empty.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn close(self) {
        self.out.push(b'}');
    }

    /// A key that came from outside.
    fn key(&mut self, name: &str) {
        self.comma();
        string(name, self.out);
        self.out.push(b':');
    }

    /// A key of ours, which has nothing to escape.
    fn own(&mut self, name: &'static str) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
    }

    fn nested(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.own(name);
        write(self.out);
    }

    fn raw(&mut self, name: &'static str, value: &[u8]) {
        self.own(name);
        self.out.extend_from_slice(value);
    }

    fn text(&mut self, name: &'static str, text: &str) {
        if !text.is_empty() {
            self.own(name);
            string(text, self.out);
        }
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        if value {
            self.raw(name, b"true");
        }
    }

    fn number(&mut self, name: &'static str, value: u64) {
        if value != 0 {
            self.own(name);
            digits(value, self.out);
        }
    }

    fn time(&mut self, name: &'static str, time: Timestamp) {
        self.own(name);
        // Digits and punctuation: nothing to escape. Writing to a vector cannot fail.
        let _written = write!(self.out, "\"{time}\"");
    }

    fn texts(&mut self, name: &'static str, texts: Option<&dyn Strings>) {
        let mut first = true;
        if let Some(texts) = texts {
            texts.each(&mut |text| {
                if first {
                    self.own(name);
                }
                self.out.push(if std::mem::take(&mut first) { b'[' } else { b',' });
                string(text, self.out);
            });
        }
        if !first {
            self.out.push(b']');
        }
    }

    fn pairs(&mut self, name: &'static str, pairs: Option<&dyn Pairs>) {
        let Some(pairs) = pairs else { return };
        let start = self.out.len();
        let was_empty = self.empty;
        self.own(name);
        let mut object = Object::open(self.out);
        pairs.each(&mut |key, value| {
            object.key(key);
            string(value, object.out);
        });
        let nothing = object.empty;
        object.close();
        if nothing {
            self.out.truncate(start);
            self.empty = was_empty;
        }
    }

    /// An object of lists: values with the same name share one.
    fn grouped(&mut self, name: &'static str, mut pairs: Vec<(String, String)>, write: impl Fn(&str, &mut Vec<u8>)) {
        if pairs.is_empty() {
            return;
        }
        // Stable, so that values keep the order in which they came.
        pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
        self.own(name);
        let mut object = Object::open(self.out);
        for group in pairs.chunk_by(|(left, _), (right, _)| left == right) {
            let Some((name, _)) = group.first() else { continue };
            object.key(name);
            list(object.out, group, |(_, value), out| write(value, out));
        }
        object.close();
    }
}

fn list<'i, T>(out: &mut Vec<u8>, items: &'i [T], write: impl Fn(&'i T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _written = serde_json::to_writer(out, text);
}

fn json(value: &Value, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _written = serde_json::to_writer(out, value);
}

/// A hash as a JSON string.
fn hash(hex: &Hex, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(HASH_PREFIX.as_bytes());
    out.extend_from_slice(hex);
    out.push(b'"');
}

fn digits(number: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _written = write!(out, "{number}");
}

/// Whether a query key looks like the name of a parameter, and not like a token that was put in the wrong place.
fn is_name(key: &str) -> bool {
    !key.is_empty() && key.len() <= 40 && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// A query value as the server reads it, so that its hash is that of the parameter.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail.split_first_chunk::<2>()) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some((pair, after))) => match data_encoding::HEXLOWER_PERMISSIVE.decode(pair) {
                Ok(decoded) => {
                    bytes.extend_from_slice(&decoded);
                    rest = after;
                }
                Err(_not_hex) => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_not_utf8| text.to_owned())
}

/// Hashes of a line that are remembered while it is written.
const TAKEN_MAX: usize = 8;
const HASH_PREFIX: &str = "hmac-sha256:";
/// The one namespace that there is.
const ROOT_NAMESPACE: &str = "root";
/// Query parameters that are never secret, and that a reader of the log wants to see.
const CLEAR_QUERY_KEYS: [&str; 6] = ["after", "help", "limit", "list", "ttl", "version"];
/// Room that most lines fit in, in bytes.
const LINE_BYTES_USUAL: usize = 2048;
/// Bytes of warnings in a line. Those that are no names of a client's have some hundred each.
const WARNINGS_BYTES_MAX: usize = 16 << 10;

mod room;

#[cfg(test)]
mod tests;
