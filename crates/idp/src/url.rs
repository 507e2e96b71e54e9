//! URLs of identity providers: HTTPS, or plain HTTP to this machine; of responders whose answers are signed, plain HTTP to elsewhere too.

use std::fmt::Write;
use std::net::IpAddr;

use http::Uri;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// A URL that may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    uri: Uri,
    secure: bool,
    local: bool,
}

impl Url {
    /// Reads a URL. Says what is wrong with it: anything but `https://`, unless it leads to this machine; a name and password in it; a
    /// fragment.
    ///
    /// ```
    /// use daypass_idp::Url;
    /// assert!(Url::parse("https://token.actions.githubusercontent.com/.well-known/jwks").is_ok());
    /// assert!(Url::parse("http://127.0.0.1:8080/jwks").is_ok());
    /// assert!(Url::parse("http://idp.example/jwks").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text, Plain::ThisMachine)
    }

    /// Reads a URL whose answers are signed, as those of OCSP are, so that plain `http://` may leave this machine too. It never leads back to it by
    /// another name, nor to addresses of the link (`169.254.0.0/16`), where clouds tell secrets. Says what is wrong with it.
    ///
    /// ```
    /// use daypass_idp::Url;
    /// assert!(Url::parse_of_signed("http://ocsp.example/").is_ok());
    /// assert!(Url::parse_of_signed("http://169.254.169.254/latest").is_err());
    /// ```
    pub fn parse_of_signed(text: &str) -> Result<Self, String> {
        Self::read(text, Plain::Abroad)
    }

    fn read(text: &str, plain: Plain) -> Result<Self, String> {
        let shown: String = text.chars().take(200).collect();
        let refuse = |why: &str| Err(format!("the URL {shown:?} cannot be used: {why}"));
        if text.len() > URL_BYTES_MAX {
            return refuse(&format!("it has {} bytes, over the limit of {URL_BYTES_MAX}", text.len()));
        }
        if text.contains('#') {
            return refuse("it has a fragment");
        }
        let uri: Uri = match text.parse() {
            Ok(uri) => uri,
            Err(_its_text_says_no_more) => return refuse("it is no URL"),
        };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return refuse("it must begin with https:// and a host");
        };
        if authority.as_str().contains('@') {
            return refuse("a user name in it is not supported");
        }
        let host = authority.host();
        if host.is_empty() {
            return refuse("it has no host");
        }
        let (secure, local) = (scheme == "https", is_this_machine(host));
        match scheme {
            "https" => {}
            "http" if local => {}
            "http" if plain == Plain::Abroad && is_address_at_home(host) => return refuse("it leads to this machine or its link"),
            "http" if plain == Plain::Abroad => {}
            "http" => return refuse("plain http:// is for addresses of this machine alone; use https://"),
            _ => return refuse("it must begin with https://"),
        }
        Ok(Self { text: text.to_owned(), uri, secure, local })
    }

    /// The URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port, for errors.
    #[must_use]
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Scheme, host and port: who is asked.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.host().to_ascii_lowercase())
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether it leads to this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local
    }
}

/// Where plain HTTP may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Abroad,
    ThisMachine,
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_address_at_home(host: &str) -> bool {
    bare(host).parse().is_ok_and(is_at_home)
}

/// Whether an address is of this machine, of its link, or of nobody in particular.
pub(crate) fn is_at_home(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            four.is_loopback()
                || four.is_unspecified()
                || four.is_link_local()
                || four.is_multicast()
                || four.is_broadcast()
                || four.octets().first() == Some(&0)
        }
        IpAddr::V6(six) => six.is_loopback() || six.is_unspecified() || six.is_unicast_link_local() || six.is_multicast(),
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || bare(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A text as `application/x-www-form-urlencoded` has it, with `%20` for a space, which every reader takes.
///
/// ```
/// assert_eq!(daypass_idp::percent_encoded("a b/ü"), "a%20b%2F%C3%BC");
/// ```
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _always_ok = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_leaves_the_machine() {
        for good in ["https://a.example", "https://a.example:8443/x?y=z", "http://localhost:1/x", "http://127.0.0.1/", "http://[::1]:9/x"] {
            assert!(Url::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "/x",
            "ftp://a.example",
            "http://a.example",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://169.254.169.254/latest",
            "http://0.0.0.0/",
            "https://u:p@a.example",
            "https://a.example/#x",
            "https:///x",
            "http://127.0.0.1@a.example/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        assert!(Url::parse_of_signed("http://a.example/x").is_ok() && Url::parse_of_signed("http://10.0.0.1/").is_ok());
        assert!(Url::parse_of_signed("http://127.0.0.1:1/").unwrap().is_local());
        for bad in [
            "http://169.254.169.254/",
            "http://0.0.0.0/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "ftp://a.example",
            "ldap://a",
        ] {
            assert!(Url::parse_of_signed(bad).is_err(), "{bad}");
        }
        assert!(Url::parse(&format!("https://a.example/{}", "x".repeat(3000))).unwrap_err().contains("limit of 2048"));
    }
}
