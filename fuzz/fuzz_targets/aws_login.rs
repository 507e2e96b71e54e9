//! Logins with an IAM identity come from strangers: method, URL, body and headers of a request. Whatever they hold, the request is refused or
//! is one `GetCallerIdentity` with each header once.
#![no_main]

use daypass_engines::auth::aws::fuzzing::{read_arn, read_request};
use libfuzzer_sys::fuzz_target;

const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=ASIA1/20260102/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, \
                             Signature=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fuzz_target!(|text: &str| {
    read_arn(text);
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (method, url, body, headers) = (next(), next(), next(), next());
    read_request(method, url, body, headers);
    // The other parts as they should be, so that each is reached.
    let (good_url, good_body) = ("https://sts.amazonaws.com/", "Action=GetCallerIdentity&Version=2011-06-15");
    read_request("POST", good_url, good_body, headers);
    read_request("GET", url, "", "{\"Host\":\"sts.amazonaws.com\"}");
    let inner = headers.trim().trim_start_matches('{').trim_end_matches('}');
    let more = if inner.is_empty() { "" } else { "," };
    let signed = format!("{{\"Authorization\":\"{AUTHORIZATION}\",\"X-Amz-Date\":\"20260102T030405Z\"{more}{inner}}}");
    read_request("POST", good_url, body, &signed);
    read_request("POST", url, good_body, &signed);
});
