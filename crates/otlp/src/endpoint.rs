//! The URL of a collector, and whose it is.

use std::net::IpAddr;

use http::Uri;

/// Where a collector takes traces: `http://127.0.0.1:4318/v1/traces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    secure: bool,
}

/// Longest URL, in bytes.
const BYTES_MAX: usize = 2048;

impl Endpoint {
    /// Reads a URL. Says what is wrong with it: anything but `http://` or `https://`, a name and password in it, a fragment, no path.
    ///
    /// ```
    /// use daypass_otlp::Endpoint;
    /// assert!(Endpoint::parse("https://otlp.example.com/v1/traces").is_ok());
    /// assert!(Endpoint::parse("otlp.example.com:4317").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(100).collect();
        let refuse = |why: &str| Err(format!("{shown:?} cannot be used: {why}; write it as \"http://127.0.0.1:4318/v1/traces\""));
        if text.len() > BYTES_MAX {
            return refuse(&format!("it has {} bytes, over the limit of {BYTES_MAX}", text.len()));
        }
        if text.contains('@') {
            // What stands before it may be a password: it is not repeated.
            return Err(
                "the URL holds an @: a user name in it is not supported; put what authorises into OTEL_EXPORTER_OTLP_HEADERS".to_owned()
            );
        }
        if text.contains('#') {
            return refuse("it has a fragment");
        }
        let uri: Uri = match text.parse() {
            Ok(uri) => uri,
            Err(_its_text_says_no_more) => return refuse("it is no URL"),
        };
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return refuse("it must begin with http:// or https://"),
        };
        if uri.host().is_none_or(str::is_empty) {
            return refuse("it has no host");
        }
        // A path is made up where there is none, so the text is asked.
        if text.split_once("://").is_none_or(|(_, rest)| !rest.contains('/')) {
            return refuse("it has no path, and most collectors take traces at /v1/traces");
        }
        Ok(Self { uri, secure })
    }

    /// Host and port, for the log.
    #[must_use]
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Whether what is sent can be read on the way: no TLS, and not to this machine.
    #[must_use]
    pub fn is_in_clear(&self) -> bool {
        !self.secure && !self.is_local()
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it leads to this machine, where no proxy stands between.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_collectors_are_read_and_others_refused_with_what_is_wrong() {
        for (good, in_clear) in [
            ("http://127.0.0.1:4318/v1/traces", false),
            ("http://[::1]:4318/", false),
            ("http://LocalHost/x", false),
            ("http://collector.observability:4318/v1/traces", true),
            ("https://otlp.example.com/v1/traces?team=a", false),
        ] {
            assert_eq!(Endpoint::parse(good).unwrap().is_in_clear(), in_clear, "{good}");
        }
        for (bad, why) in [
            ("", "it is no URL"),
            ("collector:4317", "it must begin with http:// or https://"),
            ("grpc://collector:4317/", "it must begin with http:// or https://"),
            ("/v1/traces", "it must begin with http:// or https://"),
            ("http:///v1/traces", "it is no URL"),
            ("http://collector:4318", "it has no path"),
            ("https://collector:4318?x=y", "it has no path"),
            ("https://collector/v1/traces#x", "it has a fragment"),
            ("http://a b/", "it is no URL"),
        ] {
            let text = Endpoint::parse(bad).unwrap_err();
            assert!(text.contains(why), "{bad}: {text}");
        }
        let refusal = Endpoint::parse("https://me:hunter2@collector/v1/traces").unwrap_err();
        assert!(refusal.contains("OTEL_EXPORTER_OTLP_HEADERS") && !refusal.contains("hunter2"), "{refusal}");
        assert!(Endpoint::parse(&format!("https://a/{}", "x".repeat(3000))).unwrap_err().contains("limit of 2048"));
    }
}
