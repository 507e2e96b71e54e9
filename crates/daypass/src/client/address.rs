//! Where the server is: `http://`, `https://` or `unix://`, with an optional path in front of `/v1`.

use std::fmt::Write as _;
use std::path::PathBuf;

/// A server address that has been understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// How to speak.
    pub(crate) scheme: Scheme,
    /// Host name or number, without brackets; the socket's stand-in is `localhost`.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// `host:port` as written, for the `Host` header and messages.
    pub(crate) authority: String,
    /// Path in front of `/v1`, without a slash at its end.
    pub(crate) prefix: String,
}

/// How to speak to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP inside TLS.
    Https,
    /// HTTP over a socket file.
    Unix(PathBuf),
}

impl Address {
    /// Reads an address. The error is what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix://") {
            if path.is_empty() {
                return Err("no path after unix://".to_owned());
            }
            let scheme = Scheme::Unix(PathBuf::from(path));
            return Ok(Self { scheme, host: "localhost".to_owned(), port: 80, authority: "localhost".to_owned(), prefix: String::new() });
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some((other, _)) => return Err(format!("unsupported protocol scheme {other:?}")),
            None => return Err("unsupported protocol scheme \"\"".to_owned()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let parsed: http::uri::Authority = authority.parse().map_err(|error| format!("invalid host {authority:?}: {error}"))?;
        if authority.contains('@') {
            return Err("a user name in the address is not supported".to_owned());
        }
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("no host in the address".to_owned());
        }
        let named_port = parsed.as_str().len() > parsed.host().len();
        let port = match parsed.port_u16() {
            Some(port) => port,
            None if named_port => return Err(format!("invalid port in {authority:?}")),
            None if scheme == Scheme::Https => 443,
            None => 80,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { scheme, host, port, authority: authority.to_owned(), prefix })
    }

    /// The whole URL of a path with query, as messages show it.
    pub(crate) fn url(&self, path_and_query: &str) -> String {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        format!("{scheme}://{}{path_and_query}", self.authority)
    }

    /// Whether the host is this machine, which no proxy is asked about.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Percent-encodes a path as Go does, after taking out what cannot be meant: doubled slashes and single dots.
pub(crate) fn encode_path(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    encode(&segments.join("/"), b"-_.~$&+,/:;=@")
}

/// A query string from pairs, sorted by name as Go writes it; empty for no pairs.
pub(crate) fn encode_query(pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<&(String, String)> = pairs.iter().collect();
    pairs.sort_by(|left, right| left.0.cmp(&right.0));
    let escape = |text: &str| encode(text, b"-_.~ ").replace(' ', "+");
    pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect::<Vec<_>>().join("&")
}

fn encode(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let address = Address::parse("https://vault.example/proxy/vault/").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.prefix.as_str()), ("vault.example", 443, "/proxy/vault"));
        let address = Address::parse("http://[::1]:8200").unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 8200));
        assert!(address.is_loopback());
        assert_eq!(address.url("/v1/a"), "http://[::1]:8200/v1/a");
        assert_eq!(Address::parse("unix:///run/d.sock").unwrap().scheme, Scheme::Unix("/run/d.sock".into()));
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for (text, wrong) in [
            ("nonsense", "scheme"),
            ("ftp://x", "\"ftp\""),
            ("127.0.0.1:8200", "scheme"),
            ("http://", "host"),
            ("http://h:99999", "port"),
            ("unix://", "path"),
            ("http://u:p@h", "user name"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }

    #[test]
    fn paths_and_queries_are_encoded_as_go_does() {
        assert_eq!(encode_path("//a b//c:d@e/./é"), "a%20b/c:d@e/%C3%A9");
        assert_eq!(encode_query(&[("b".into(), "1 2&3".into()), ("a".into(), "é/".into())]), "a=%C3%A9%2F&b=1+2%263");
    }
}
