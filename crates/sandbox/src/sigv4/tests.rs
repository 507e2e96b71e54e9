//! AWS's published test suite by value, an independent signer for other tests, and hostile input.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;

/// Signs requests without using the code under test, but for its date format.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) key_id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
    pub(crate) region: String,
    pub(crate) service: String,
}

impl Signer {
    pub(crate) fn new(key_id: &str, secret: &str, token: Option<&str>, service: &str) -> Self {
        Self {
            key_id: key_id.to_owned(),
            secret: secret.to_owned(),
            token: token.map(str::to_owned),
            region: "us-east-1".to_owned(),
            service: service.to_owned(),
        }
    }

    /// A POST to `/` with `body`; `target` makes it a JSON call.
    pub(crate) fn post(&self, body: &str, target: Option<&str>, at: Timestamp) -> Request {
        let stamp = stamp_of(at);
        let kind = if target.is_some() { "application/x-amz-json-1.1" } else { "application/x-www-form-urlencoded; charset=utf-8" };
        let mut headers = vec![("content-type", kind.to_owned()), ("host", "127.0.0.1:4566".to_owned()), ("x-amz-date", stamp.clone())];
        headers.extend(self.token.iter().map(|token| ("x-amz-security-token", token.clone())));
        headers.extend(target.iter().map(|target| ("x-amz-target", (*target).to_owned())));
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().flat_map(|(name, value)| [*name, ":", value.as_str(), "\n"]).collect();
        let sha = |text: &str| HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", sha(body));
        let scope = format!("{}/{}/{}/aws4_request", &stamp[..8], self.region, self.service);
        let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
        let key = scope.split('/').fold(format!("AWS4{}", self.secret).into_bytes(), |key, part| mac(&key, part));
        let signature = HEXLOWER.encode(&mac(&key, &format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha(&canonical))));
        headers.push((
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.key_id),
        ));
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        request("POST", "/", "", &pairs, body)
    }
}

/// A request by its parts; the host is taken from the headers.
pub(crate) fn request(method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let host = map.get("host").map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default();
    let peer = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    Request {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        path: path.to_owned(),
        query: query.to_owned(),
        host,
        headers: map,
        body: Bytes::from(body.to_owned()),
        peer,
    }
}

fn suite_key() -> hmac::Key {
    signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "service")
}

fn suite_now() -> Timestamp {
    parse_stamp("20150830T123600Z").unwrap()
}

/// Method, path, query, more headers, body, signed headers, signature.
type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);

#[test]
fn published_test_suite_passes() {
    let long = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let cases: [Case<'_>; 11] = [
        ("GET", "/", "", &[], "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "", &[], "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "/",
            "Param2=value2&Param1=value1",
            &[],
            "",
            "host;x-amz-date",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("GET", &format!("/{long}"), "", &[], "", "host;x-amz-date", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        (
            "GET",
            "/",
            &format!("{long}={long}"),
            &[],
            "",
            "host;x-amz-date",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        ("GET", "/\u{1234}", "", &[], "", "host;x-amz-date", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("GET", "/./example/..", "", &[], "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "Param1=value1", &[], "", "host;x-amz-date", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        (
            "GET",
            "/",
            "",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "host;my-header1;my-header2;x-amz-date",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "GET",
            "/",
            "",
            &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
            "",
            "host;my-header1;x-amz-date",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "POST",
            "/",
            "",
            &form,
            "Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ];
    for (method, path, query, extra, body, signed, signature) in cases {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={signed}, Signature={signature}"
        );
        let mut headers =
            vec![("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"), ("authorization", authorization.as_str())];
        headers.extend(extra.iter().copied());
        let request = request(method, path, query, &headers, body);
        let presented = read(&request).unwrap().unwrap();
        verify(&request, &presented, &suite_key(), suite_now())
            .unwrap_or_else(|fault| panic!("{method} {path}?{query}: {fault:?}\n{}", canonical_request(&request, &presented).unwrap()));
    }
}

#[test]
fn any_change_breaks_the_signature() {
    let now = suite_now();
    let signer = Signer::new("AKIDEXAMPLE", "secret", Some("token"), "sts");
    let key = signing_key("secret", "20150830", "us-east-1", "sts");
    let check = |request: &Request| verify(request, &read(request).unwrap().unwrap(), &key, now).map_err(|fault| fault.code);
    let fresh = || signer.post("Action=GetCallerIdentity&Version=2011-06-15", None, now);
    assert_eq!(check(&fresh()), Ok(()));
    let mut changed = fresh();
    changed.body = Bytes::from_static(b"Action=AssumeRole");
    assert_eq!(check(&changed), Err("SignatureDoesNotMatch"));
    let mut changed = fresh();
    changed.headers.insert("x-amz-security-token", HeaderValue::from_static("other"));
    assert_eq!(check(&changed), Err("SignatureDoesNotMatch"));
    let mut changed = fresh();
    changed.headers.insert("x-amz-extra", HeaderValue::from_static("unsigned"));
    assert_eq!(check(&changed), Err("SignatureDoesNotMatch"));
    let mut changed = fresh();
    changed.query = "a=b".to_owned();
    assert_eq!(check(&changed), Err("SignatureDoesNotMatch"));
    let mut changed = fresh();
    changed.host = "elsewhere".to_owned();
    assert_eq!(check(&changed), Err("SignatureDoesNotMatch"));
    let mut changed = fresh();
    changed.headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    assert_eq!(check(&changed), Err("SignatureDoesNotMatch"));
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let now = suite_now();
    let signer = Signer::new("AKIDEXAMPLE", "secret", None, "sts");
    let key = signing_key("secret", "20150830", "us-east-1", "sts");
    for (offset, message) in [
        (-300, None),
        (300, None),
        (-301, Some("Signature expired: 20150830T123059Z is now earlier than 20150830T123100Z (20150830T123600Z - 5 min.)")),
        (301, Some("Signature not yet current: 20150830T124101Z is still later than 20150830T124100Z (20150830T123600Z + 5 min.)")),
    ] {
        let request = signer.post("", None, Timestamp::from_seconds(now.seconds() + offset));
        let result = verify(&request, &read(&request).unwrap().unwrap(), &key, now);
        assert_eq!(result.err().map(|fault| fault.message).as_deref(), message);
    }
}

#[test]
fn incomplete_claims_are_named() {
    let date = ("x-amz-date", "20150830T123600Z");
    for (authorization, part) in [
        ("Basic x", "Unsupported AWS 'algorithm': 'Basic'"),
        ("AWS4-HMAC-SHA256 nonsense", "missing equal-sign"),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request",
            "requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter.",
        ),
        ("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=x", "exactly 5 slash-delimited elements"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=x", "valid terminator"),
        ("AWS4-HMAC-SHA256 Credential=a, Credential=b", "twice"),
    ] {
        let fault = read(&request("POST", "/", "", &[date, ("authorization", authorization)], "")).unwrap_err();
        assert!(fault.message.contains(part), "{fault:?}");
    }
    let undated = request(
        "POST",
        "/",
        "",
        &[("authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=x")],
        "",
    );
    assert!(read(&undated).unwrap_err().message.contains("'X-Amz-Date'"));
    assert_eq!(read(&request("POST", "/", "", &[], "")).unwrap(), None);
}

#[test]
fn presigned_requests_live_as_long_as_they_say() {
    let scope = "AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fsts%2Faws4_request";
    let query = format!(
        "Action=GetCallerIdentity&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={scope}&X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
    );
    let unsigned = request("GET", "/", &format!("{query}&X-Amz-Signature=00"), &[("host", "h")], "");
    let presented = read(&unsigned).unwrap().unwrap();
    let key = signing_key("secret", "20150830", "us-east-1", "sts");
    let canonical = canonical_request(&unsigned, &presented).unwrap();
    assert!(canonical.starts_with(&format!("GET\n/\n{query}\nhost:h\n\nhost\n")), "{canonical}");
    let signature = HEXLOWER.encode(hmac::sign(&key, string_to_sign(&presented, &canonical).as_bytes()).as_ref());
    let signed = request("GET", "/", &format!("{query}&X-Amz-Signature={signature}"), &[("host", "h")], "");
    let presented = read(&signed).unwrap().unwrap();
    for (offset, good) in [(0, true), (60, true), (61, false), (-300, true), (-301, false)] {
        assert_eq!(verify(&signed, &presented, &key, Timestamp::from_seconds(suite_now().seconds() + offset)).is_ok(), good, "{offset}");
    }
}

proptest! {
    #[test]
    fn no_claim_makes_it_panic(authorization in "(AWS4-HMAC-SHA256 )?[ -~]{0,200}", date in "[ -~]{0,20}", query in "[ -~]{0,80}", path in "/[ -~é]{0,40}") {
        let request = request("POST", &path, &query, &[("authorization", &authorization), ("x-amz-date", &date)], "");
        if let Ok(Some(presented)) = read(&request) {
            prop_assert!(verify(&request, &presented, &suite_key(), suite_now()).is_err());
        }
    }

    #[test]
    fn no_query_makes_it_panic(query in "(X-Amz-(Algorithm=AWS4-HMAC-SHA256|Credential=[a-z0-9/]{0,30}|Date=[0-9TZ]{0,17}|Expires=[0-9]{0,6}|SignedHeaders=[a-z;]{0,9}|Signature=[0-9a-g]{0,66})&|[%&=a-z0-9]{0,8}){0,8}") {
        let request = request("GET", "/", &query, &[("host", "h")], "");
        if let Ok(Some(presented)) = read(&request) {
            prop_assert!(verify(&request, &presented, &suite_key(), suite_now()).is_err());
        }
    }
}
