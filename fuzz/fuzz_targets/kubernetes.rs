//! Answers about tokens come from API servers, selectors from operators. Whatever they hold, they are read or refused; nobody comes of an answer
//! that is not about the audience, and a selector that wants a label does not fit what has none.
#![no_main]

use daypass_engines::auth::kubernetes::fuzzing::{read_review, read_selector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(read_review(bytes, "vault"), "an account is whole, and for the audience that was asked about");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (label, selector) = text.split_once('\n').unwrap_or(("team=build", text));
        assert!(read_selector(selector, label), "a selector that wants labels does not fit what has none");
        // A user that is fine, so that the rest is reached.
        let review = format!(r#"{{"status":{{"authenticated":true,"user":{{"username":"system:serviceaccount:a:b","uid":"u"}},"audiences":{text}}}}}"#);
        assert!(read_review(review.as_bytes(), "vault"), "the same for any audiences");
    }
});
