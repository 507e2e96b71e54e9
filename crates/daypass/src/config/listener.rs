//! `listener "tcp" { }` and `listener "unix" { }`.

use std::net::IpAddr;
use std::path::PathBuf;

use daypass_base::Seconds;
use daypass_base::hcl::Block;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

use super::section::{Section, expected, texts};
use super::{Findings, known};

/// One place to listen, with its rules.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "the file's switches, one each")]
pub(crate) struct Listener {
    /// Where.
    pub(crate) place: Place,
    /// TLS; absent means none.
    pub(crate) tls: Option<Tls>,
    /// Whose word on the client's address is believed.
    pub(crate) forwarded_for: Option<ForwardedFor>,
    /// Most bytes of a request's body; absent means 32 MiB, 0 (or less, in the file) means no limit of its own.
    pub(crate) max_request_size: Option<u64>,
    /// Longest that a request may take; absent means what the file says for all listeners, else 90 s.
    pub(crate) max_request_duration: Option<Seconds>,
    /// Times of the HTTP connection.
    pub(crate) timeouts: Timeouts,
    /// Limits on the shape of a JSON body.
    pub(crate) json: JsonLimits,
    /// Headers added to answers, by status.
    pub(crate) custom_headers: Vec<StatusHeaders>,
    /// Whether `sys/metrics` needs no token.
    pub(crate) open_metrics: bool,
    /// Whether `sys/in-flight-req` needs no token.
    pub(crate) open_in_flight_requests: bool,
    /// Whether addresses are left out of answers that need no token.
    pub(crate) redact_addresses: bool,
    /// Whether the cluster's name is left out of answers that need no token.
    pub(crate) redact_cluster_name: bool,
    /// Whether the version is left out of answers that need no token.
    pub(crate) redact_version: bool,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Host and port.
    Tcp(String),
    /// A socket file.
    Unix {
        /// The file.
        path: PathBuf,
        /// Who may use it.
        access: UnixAccess,
    },
}

/// Who may use a socket file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UnixAccess {
    /// Its mode; absent leaves what the process makes.
    pub(crate) mode: Option<u32>,
    /// Its user, by name or number.
    pub(crate) user: Option<String>,
    /// Its group, by name or number.
    pub(crate) group: Option<String>,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificate chain, PEM.
    pub(crate) cert_file: PathBuf,
    /// Its key, PEM.
    pub(crate) key_file: PathBuf,
    /// Oldest version accepted.
    pub(crate) min_version: TlsVersion,
    /// Certificates of clients.
    pub(crate) client_certificates: ClientCertificates,
}

/// Versions of TLS that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    /// 1.2, the default.
    Tls12,
    /// 1.3.
    Tls13,
}

/// What is asked of clients' certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    /// Taken as they come; the cert method checks them.
    Any,
    /// Not asked for.
    None,
    /// Taken when signed by this authority, and not needed.
    Checked(PathBuf),
    /// Needed, and signed by this authority; without a file by one that the system trusts.
    Required(Option<PathBuf>),
}

/// Rules for `X-Forwarded-For`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardedFor {
    /// Proxies that are believed.
    pub(crate) proxies: Vec<Cidr>,
    /// How many proxies stand between that one and the client.
    pub(crate) hop_skips: u64,
    /// Whether a request without the header is refused. Vault's default is yes.
    pub(crate) reject_not_present: bool,
    /// Whether a request from elsewhere that has the header is refused. Vault's default is yes.
    pub(crate) reject_not_authorized: bool,
    /// Header that carries the client's certificate.
    pub(crate) client_cert_header: Option<HeaderName>,
    /// How to decode it, one after the other, until it is DER.
    pub(crate) client_cert_decoders: Vec<CertDecoder>,
}

/// A step from the text of a header to a certificate in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertDecoder {
    /// Base64 becomes bytes.
    Base64,
    /// PEM becomes DER.
    Der,
    /// The byte sequence of RFC 9440, base64 between colons, becomes bytes.
    Rfc9440,
    /// Percent signs become bytes.
    Url,
}

/// Addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// Times of a connection; absent or zero means Vault's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Timeouts {
    /// To read a whole request; 30 s.
    pub(crate) read: Option<Seconds>,
    /// To read its headers; 10 s.
    pub(crate) read_header: Option<Seconds>,
    /// Between requests; 5 min.
    pub(crate) idle: Option<Seconds>,
}

/// Limits on the shape of a JSON body; absent means Vault's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_field_names, reason = "the unit stands before `max`, as everywhere")]
pub(crate) struct JsonLimits {
    /// Nesting; 300.
    pub(crate) depth_max: Option<u64>,
    /// Bytes of one text; 1 MiB.
    pub(crate) text_bytes_max: Option<u64>,
    /// Entries of one object; 10 000.
    pub(crate) entries_max: Option<u64>,
    /// Elements of one array; 10 000.
    pub(crate) elements_max: Option<u64>,
    /// Tokens in all; 500 000.
    pub(crate) tokens_max: Option<u64>,
}

/// Headers for answers of some statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusHeaders {
    /// `default`, `2xx` or `301`.
    pub(crate) status: String,
    /// Names and values.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Cidr {
    /// `10.0.0.0/8`, `::1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse().ok()?, Some(bits.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let width = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self { address, bits })
    }

    /// Whether an address is one of these. An IPv4 address written as IPv6 counts as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.bits);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.bits);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// Reads one block. `None` when its type is not known, which is noted.
pub(super) fn read(block: &Block<'_>, file: &std::path::Path, findings: &mut Findings) -> Option<Listener> {
    let kind = block.labels.first().copied().unwrap_or_default();
    let mut section = Section::new(file, format!("listener {kind:?}"), block.items, block.at.line);
    // As a label or as a key; where both are there they must not disagree.
    if let Some(other) = section.text("type", findings).filter(|other| other != kind) {
        section.wrong(section.line_of("type"), "type", &format!("{other:?} is not what the block's label says"), findings);
    }
    let place = place(kind, &mut section, findings);
    if !matches!(kind, "tcp" | "unix") {
        return None;
    }
    let tls = tls(kind, &mut section, findings);
    let listener = Listener {
        // A wrong address is noted already; the rest is read for its own mistakes.
        place: place.unwrap_or(Place::Tcp(String::new())),
        tls,
        forwarded_for: forwarded_for(&mut section, findings),
        max_request_size: section.number_or_off("max_request_size", findings),
        max_request_duration: section.seconds("max_request_duration", findings),
        timeouts: Timeouts {
            read: section.seconds("http_read_timeout", findings),
            read_header: section.seconds("http_read_header_timeout", findings),
            idle: section.seconds("http_idle_timeout", findings),
        },
        json: JsonLimits {
            depth_max: section.number("max_json_depth", findings),
            text_bytes_max: section.number("max_json_string_value_length", findings),
            entries_max: section.number("max_json_object_entry_count", findings),
            elements_max: section.number("max_json_array_element_count", findings),
            tokens_max: tokens_max(&mut section, findings),
        },
        custom_headers: custom_headers(&mut section, findings),
        open_metrics: open("telemetry", "unauthenticated_metrics_access", &mut section, findings),
        open_in_flight_requests: open("inflight_requests_logging", "unauthenticated_in_flight_requests_access", &mut section, findings),
        redact_addresses: section.flag("redact_addresses", findings).unwrap_or_default(),
        redact_cluster_name: section.flag("redact_cluster_name", findings).unwrap_or_default(),
        redact_version: section.flag("redact_version", findings).unwrap_or_default(),
    };
    section.finish(known::LISTENER, findings);
    Some(listener)
}

/// Vault reads `max_json_token`; some of its texts say `max_json_token_count`. Of both the stricter.
fn tokens_max(section: &mut Section<'_>, findings: &mut Findings) -> Option<u64> {
    let limits = ["max_json_token", "max_json_token_count"].map(|key| section.number(key, findings));
    limits.into_iter().flatten().filter(|limit| *limit > 0).min()
}

fn place(kind: &str, section: &mut Section<'_>, findings: &mut Findings) -> Option<Place> {
    let address = section.text("address", findings);
    match kind {
        "tcp" => {
            let address = address.unwrap_or_else(|| "127.0.0.1:8200".to_owned());
            let place = address_with_port(&address).map(Place::Tcp);
            if place.is_none() {
                let wrong = format!("{address:?} is no address; write host and port, such as \"0.0.0.0:8200\"");
                section.wrong(section.line_of("address"), "address", &wrong, findings);
            }
            place
        }
        "unix" => {
            let mode = section.text("socket_mode", findings);
            let access = UnixAccess {
                mode: mode.and_then(|mode| socket_mode(&mode, section, findings)),
                user: section.text("socket_user", findings),
                group: section.text("socket_group", findings),
            };
            if address.is_none() {
                section.wrong(section.line, "address", "the path of the socket is missing", findings);
            }
            address.map(|path| Place::Unix { path: path.into(), access })
        }
        other => {
            findings.mistake(section.file, section.line, format!("listener {other:?}: only \"tcp\" and \"unix\" are known"));
            None
        }
    }
}

/// The address with Vault's port where it has none.
fn address_with_port(address: &str) -> Option<String> {
    let bare_ip = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match bare_ip {
        Ok(IpAddr::V4(ip)) => return Some(format!("{ip}:8200")),
        Ok(IpAddr::V6(ip)) => return Some(format!("[{ip}]:8200")),
        Err(_) => {}
    }
    match address.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Some(address.to_owned()),
        Some(_) => None,
        None => Some(format!("{address}:8200")),
    }
}

fn socket_mode(text: &str, section: &Section<'_>, findings: &mut Findings) -> Option<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Some(mode),
        _ => {
            let wrong = format!("{text:?} is no mode; write it in octal digits and quotes, such as \"660\"");
            section.wrong(section.line_of("socket_mode"), "socket_mode", &wrong, findings);
            None
        }
    }
}

fn tls(kind: &str, section: &mut Section<'_>, findings: &mut Findings) -> Option<Tls> {
    let disabled = section.flag("tls_disable", findings).unwrap_or_default();
    let (cert_file, key_file) = (section.path("tls_cert_file", findings), section.path("tls_key_file", findings));
    let min_version = min_version(section, findings);
    let authority = section.path("tls_client_ca_file", findings);
    let required = section.flag("tls_require_and_verify_client_cert", findings).unwrap_or_default();
    let unwanted = section.flag("tls_disable_client_certs", findings).unwrap_or_default();
    if required && unwanted {
        let key = "tls_disable_client_certs";
        section.wrong(section.line_of(key), key, "it cannot be set together with tls_require_and_verify_client_cert", findings);
    }
    let client_certificates = match (required, authority) {
        (true, authority) => ClientCertificates::Required(authority),
        (false, _) if unwanted => ClientCertificates::None,
        (false, Some(authority)) => ClientCertificates::Checked(authority),
        (false, None) => ClientCertificates::Any,
    };
    if disabled {
        return None;
    }
    if let (Some(cert_file), Some(key_file)) = (&cert_file, &key_file) {
        return Some(Tls { cert_file: cert_file.clone(), key_file: key_file.clone(), min_version, client_certificates });
    }
    // A socket file has its mode for protection.
    if kind == "unix" && cert_file.is_none() && key_file.is_none() {
        return None;
    }
    for (key, missing) in [("tls_cert_file", cert_file.is_none()), ("tls_key_file", key_file.is_none())] {
        if missing {
            section.wrong(section.line, key, "missing; name a PEM file, or set tls_disable = true to listen without TLS", findings);
        }
    }
    None
}

fn min_version(section: &mut Section<'_>, findings: &mut Findings) -> TlsVersion {
    let line = section.line_of("tls_min_version");
    match section.text("tls_min_version", findings).as_deref() {
        None | Some("tls12") => TlsVersion::Tls12,
        Some("tls13") => TlsVersion::Tls13,
        Some(old @ ("tls10" | "tls11")) => {
            findings.warning(
                section.file,
                line,
                format!("{}: {old} is not spoken; the oldest version accepted is tls12", section.full("tls_min_version")),
            );
            TlsVersion::Tls12
        }
        Some(other) => {
            section.wrong(line, "tls_min_version", &format!("{other:?} is not known; write \"tls12\" or \"tls13\""), findings);
            TlsVersion::Tls12
        }
    }
}

fn forwarded_for(section: &mut Section<'_>, findings: &mut Findings) -> Option<ForwardedFor> {
    let key = "x_forwarded_for_authorized_addrs";
    let mut proxies = Vec::new();
    for text in section.texts(key, findings) {
        match Cidr::parse(&text) {
            Some(cidr) => proxies.push(cidr),
            None => section.wrong(section.line_of(key), key, &format!("{text:?} is no address or block such as \"10.0.0.0/8\""), findings),
        }
    }
    let rules = ForwardedFor {
        proxies,
        hop_skips: section.number("x_forwarded_for_hop_skips", findings).unwrap_or_default(),
        reject_not_present: section.flag("x_forwarded_for_reject_not_present", findings).unwrap_or(true),
        reject_not_authorized: section.flag("x_forwarded_for_reject_not_authorized", findings).unwrap_or(true),
        client_cert_header: client_cert_header(section, findings),
        client_cert_decoders: client_cert_decoders(section, findings),
    };
    // Without proxies to believe, Vault does not look at the header at all.
    (!rules.proxies.is_empty()).then_some(rules)
}

fn client_cert_header(section: &mut Section<'_>, findings: &mut Findings) -> Option<HeaderName> {
    let key = "x_forwarded_for_client_cert_header";
    let text = section.text(key, findings)?;
    let name = HeaderName::try_from(&text);
    if name.is_err() {
        section.wrong(section.line_of(key), key, &format!("{text:?} is no name of a header"), findings);
    }
    name.ok()
}

fn client_cert_decoders(section: &mut Section<'_>, findings: &mut Findings) -> Vec<CertDecoder> {
    let key = "x_forwarded_for_client_cert_header_decoders";
    let mut decoders = Vec::new();
    for text in section.texts(key, findings) {
        match text.to_ascii_uppercase().as_str() {
            "BASE64" => decoders.push(CertDecoder::Base64),
            "DER" => decoders.push(CertDecoder::Der),
            "RFC9440" => decoders.push(CertDecoder::Rfc9440),
            "URL" => decoders.push(CertDecoder::Url),
            _ => section.wrong(section.line_of(key), key, &format!("{text:?} is not known; write URL, BASE64, DER or RFC9440"), findings),
        }
    }
    decoders
}

fn custom_headers(section: &mut Section<'_>, findings: &mut Findings) -> Vec<StatusHeaders> {
    let key = "custom_response_headers";
    let mut found = Vec::new();
    for item in section.items(key) {
        for entry in item.value.objects().into_iter().flatten() {
            let status = entry.name();
            if !is_status(status) {
                section.wrong(entry.line(), key, &format!("{status:?} is no status; write \"default\", \"2xx\" or \"301\""), findings);
            }
            let mut headers = Vec::new();
            for header in entry.value.objects().into_iter().flatten() {
                let name = header.name();
                // A single text may hold commas of its own.
                let value = texts(&header.value).map(|values| header.value.as_text().unwrap_or_else(|| values.join("; ")));
                match value.and_then(|value| answer_header(name, &value)) {
                    Ok(header) => headers.push(header),
                    Err(wrong) => section.wrong(header.line(), key, &format!("{name}: {wrong}"), findings),
                }
            }
            found.push(StatusHeaders { status: status.to_owned(), headers });
        }
        if item.value.objects().is_empty() {
            section.wrong(item.line(), key, &expected("a block", &item.value), findings);
        }
    }
    // What a later group sets takes the place of what an earlier one did: the closest to the status comes last, wherever it stands in the file.
    found.sort_by_key(|group: &StatusHeaders| match group.status.as_str() {
        "default" => 0,
        class if class.ends_with("xx") => 1,
        _ => 2,
    });
    found
}

/// A header that may be added to answers. Those that say how an answer is read belong to the server: a wrong one cuts every answer short.
fn answer_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    if name.to_ascii_lowercase().starts_with("x-vault-") {
        return Err("X-Vault headers cannot be set".to_owned());
    }
    let parsed = HeaderName::try_from(name).map_err(|_named_by_the_caller| "this is no name of a header".to_owned())?;
    if FRAMING.contains(&parsed) {
        return Err("the server alone sets this header: it says where an answer ends and how it is packed".to_owned());
    }
    let value = HeaderValue::try_from(value).map_err(|_bytes| "its value has characters that no header can carry".to_owned())?;
    Ok((parsed, value))
}

fn is_status(text: &str) -> bool {
    let digits = text.strip_suffix("xx").map_or(3, |_| 1);
    let (head, tail) = text.split_at_checked(digits).unwrap_or_default();
    text == "default"
        || (matches!(tail, "" | "xx")
            && head.len() == digits
            && head.starts_with(['1', '2', '3', '4', '5'])
            && head.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A switch in a block of its own: `telemetry { unauthenticated_metrics_access = true }`.
fn open(block: &'static str, key: &'static str, section: &mut Section<'_>, findings: &mut Findings) -> bool {
    let Some(mut inner) = section.inner(block, findings) else { return false };
    let open = inner.flag(key, findings).unwrap_or_default();
    let ignored: &[known::Ignored] = &[("disallow_metrics", "metrics can be read where the token may")];
    inner.finish(ignored, findings);
    open
}

/// Headers that say where an answer ends and how it is packed.
const FRAMING: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
