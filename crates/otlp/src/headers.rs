//! What a collector wants to see besides the spans, as `OTEL_EXPORTER_OTLP_HEADERS` has it: `NAME=VALUE`, several with commas between.

use daypass_base::{Secret, percent};
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers of each request. Their values may authorise us, so they are secret.
#[derive(Default)]
pub struct Headers(Vec<(HeaderName, Secret<String>)>);

/// Headers at most.
const HEADERS_MAX: usize = 32;
/// Bytes of all of them together.
const BYTES_MAX: usize = 16 * 1024;
/// Those that say how the request itself is to be read.
const OURS: [HeaderName; 6] = [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING];

impl Headers {
    /// Reads them; values may hold `%20` and the like (OpenTelemetry, "Specifying headers via environment variables"). Says what is wrong
    /// with which of them, and never repeats one: names are secret too where the `=` is missing.
    ///
    /// ```
    /// use daypass_otlp::Headers;
    /// assert!(Headers::parse("authorization=Bearer%20abc, x-team=a").is_ok());
    /// assert!(Headers::parse("Bearer abc").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("it has {} bytes, over the limit of {BYTES_MAX}", text.len()));
        }
        let mut headers = Vec::new();
        for (number, entry) in (1..).zip(text.split(',').map(str::trim)).filter(|(_, entry)| !entry.is_empty()) {
            let refuse = |why: &str| format!("entry {number} {why}");
            let (name, value) = entry.split_once('=').ok_or_else(|| refuse("is not NAME=VALUE"))?;
            let name: HeaderName = name.trim().parse().map_err(|_says_no_more| refuse("has a name that no header can have"))?;
            if OURS.contains(&name) {
                return Err(refuse("is a header that the server sets itself"));
            }
            let value = percent::decode(value.trim().as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
            let value = value.ok_or_else(|| refuse("has a % that two hexadecimal digits do not follow"))?;
            HeaderValue::from_str(&value).map_err(|_says_no_more| refuse("has a value that no header can have"))?;
            headers.push((name, Secret::new(value)));
            if headers.len() > HEADERS_MAX {
                return Err(format!("it has more than {HEADERS_MAX} headers"));
            }
        }
        Ok(Self(headers))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            // To the collector, which checks it.
            if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
                value.set_sensitive(true);
                headers.append(name.clone(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let mut map = HeaderMap::new();
        Headers::parse(text)?.add_to(&mut map);
        Ok(map.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect())
    }

    #[test]
    fn headers_are_read_as_the_environment_variable_has_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read("a=b").unwrap(), [pair("a", "b")]);
        let several = [pair("authorization", "Basic dXNlcjpw="), pair("x-team", "a,b"), pair("x-empty", "")];
        assert_eq!(read(" Authorization=Basic%20dXNlcjpw= ,x-team = a%2Cb,, x-empty=,").unwrap(), several);
        assert_eq!(read("authorization=Bearer abc").unwrap(), [pair("authorization", "Bearer abc")]);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        for (text, why) in [
            ("a=b,hunter2", "entry 2 is not NAME=VALUE"),
            ("hun ter2=x", "entry 1 has a name"),
            ("=hunter2", "entry 1 has a name"),
            ("a=hunter2%4", "entry 1 has a %"),
            ("a=hunter2%ff", "entry 1 has a %"),
            ("a=hunter2%0a", "entry 1 has a value"),
            ("content-type=hunter2", "entry 1 is a header that the server sets itself"),
        ] {
            let refusal = read(text).unwrap_err();
            assert!(refusal.starts_with(why) && !refusal.contains("hunter2"), "{text}: {refusal}");
        }
        assert!(read(&"a=b,".repeat(40)).unwrap_err().contains("more than 32"));
        assert!(read(&"x".repeat(20_000)).unwrap_err().contains("limit of 16384"));
    }
}
