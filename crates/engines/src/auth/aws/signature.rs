//! What a signature says of itself: who, when, for where, over which headers. Source: AWS, "Elements of an AWS API request signature".

use daypass_sdk::Timestamp;
use time::PrimitiveDateTime;
use time::macros::format_description;

/// The claims of a signature. STS alone can tell whether they are true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// The region of its scope.
    pub(super) region: String,
    /// Names of the headers that it covers, in lower case.
    pub(super) signed_headers: Vec<String>,
    /// The signature itself.
    pub(super) bytes: [u8; 32],
}

impl Signature {
    /// Reads the header `Authorization`. Errors: what is wrong, without any value.
    pub(super) fn of_header(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' '));
        let rest = rest.ok_or_else(|| format!("the Authorization header does not begin with {ALGORITHM}"))?;
        let (mut credential, mut headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or("the Authorization header has a part that is no pair")?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return Err("the Authorization header has a part that is unknown".to_owned()),
            };
            if place.replace(value).is_some() {
                return Err(format!("the Authorization header has {name} twice"));
            }
        }
        match (credential, headers, signature) {
            (Some(credential), Some(headers), Some(signature)) => Self::of_parts(credential, headers, signature),
            _ => Err("the Authorization header lacks Credential, SignedHeaders or Signature".to_owned()),
        }
    }

    /// Reads the parts, which a presigned query has as they are.
    pub(super) fn of_parts(credential: &str, headers: &str, signature: &str) -> Result<Self, String> {
        let scope: Vec<&str> = credential.split('/').collect();
        let [key, date, region, service, "aws4_request"] = scope.as_slice() else {
            return Err("the Credential of the signature has not five parts of which the last is aws4_request".to_owned());
        };
        if *service != "sts" {
            return Err("the signature is not for the service sts".to_owned());
        }
        if region.is_empty() {
            return Err("region missing from Authorization header".to_owned());
        }
        let sound = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !sound(key, 128) || date.len() != 8 || !sound(date, 8) || region.len() > 32 {
            return Err("the Credential of the signature has an impossible part".to_owned());
        }
        let signed_headers: Vec<String> = headers.split(';').map(str::to_owned).collect();
        let written =
            |name: &String| !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte > b'~');
        let once = |(at, name): (usize, &String)| !signed_headers.iter().skip(at + 1).any(|other| other == name);
        if signed_headers.len() > SIGNED_MAX || !signed_headers.iter().all(written) || !signed_headers.iter().enumerate().all(once) {
            return Err("SignedHeaders are not names in lower case, each once".to_owned());
        }
        if !signed_headers.iter().any(|name| name == "host") {
            return Err("the signature does not cover the header Host".to_owned());
        }
        let bytes = data_encoding::HEXLOWER.decode(signature.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or("the Signature is not 64 digits of lower-case hexadecimal")?;
        Ok(Self { region: (*region).to_owned(), signed_headers, bytes })
    }

    /// Whether it covers a header, by its name in lower case.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.signed_headers.iter().any(|signed| signed == name)
    }
}

/// Reads a time as signatures have it: `20260102T030405Z`.
pub(super) fn time_of(text: &str) -> Option<Timestamp> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let parsed = PrimitiveDateTime::parse(text, format).ok().filter(|_| text.len() == 16)?;
    Some(Timestamp::from_seconds(parsed.assume_utc().unix_timestamp()))
}

/// The one algorithm that is taken: signatures of the others can be written in more than one way.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SIGNED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(credential: &str, headers: &str, signature: &str) -> String {
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={headers}, Signature={signature}")
    }

    #[test]
    fn a_header_says_region_and_headers() {
        let hex = "ab".repeat(32);
        let read = Signature::of_header(&header("AKIA1/20260102/eu-west-1/sts/aws4_request", "host;x-amz-date", &hex)).unwrap();
        assert_eq!((read.region.as_str(), read.covers("host"), read.covers("Host"), read.bytes), ("eu-west-1", true, false, [0xab; 32]));
        let tight = format!("AWS4-HMAC-SHA256 Credential=AKIA1/20260102/eu-west-1/sts/aws4_request,SignedHeaders=host,Signature={hex}");
        assert!(Signature::of_header(&tight).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        let (scope, hex) = ("AKIA1/20260102/eu-west-1/sts/aws4_request", "ab".repeat(32));
        for (credential, headers, signature) in [
            ("AKIA1/20260102/eu-west-1/s3/aws4_request", "host", hex.as_str()),
            ("AKIA1/20260102//sts/aws4_request", "host", &hex),
            ("AKIA1/2026/eu-west-1/sts/aws4_request", "host", &hex),
            ("AKIA1/20260102/eu-west-1/sts", "host", &hex),
            ("AK IA/20260102/eu-west-1/sts/aws4_request", "host", &hex),
            (scope, "x-amz-date", &hex),
            (scope, "host;host", &hex),
            (scope, "Host", &hex),
            (scope, "host;", &hex),
            (scope, "host", "ab"),
            (scope, "host", &hex.to_uppercase()),
        ] {
            assert!(Signature::of_header(&header(credential, headers, signature)).is_err(), "{credential} {headers} {signature}");
        }
        let good = header(scope, "host", &hex);
        for text in [
            "",
            "Bearer x",
            "AWS4-HMAC-SHA256",
            &good.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            &format!("{good}, Signature={hex}"),
            &format!("{good}, More=1"),
            &format!("{good},"),
        ] {
            assert!(Signature::of_header(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_one_form() {
        assert_eq!(time_of("20260102T030405Z"), Some(Timestamp::from_seconds(1_767_323_045)));
        for text in ["", "2026-01-02T03:04:05Z", "20260102T030405", "20261302T030405Z", "+0020260102T030405Z", "20260102T030405Z "] {
            assert_eq!(time_of(text), None, "{text}");
        }
    }
}
