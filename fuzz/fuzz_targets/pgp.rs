//! Public PGP keys come from strangers, before anybody has a token: whatever they send is refused, or it is a key that can be encrypted to.
#![no_main]

use daypass_barrier::pgp::{KEY_BYTES_MAX, Recipient, base64_of_file};
use daypass_base::sim::SeededEntropy;
use daypass_base::{Secret, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let now = Timestamp::from_seconds(1_780_272_000);
    if let Ok(recipient) = Recipient::from_bytes(bytes, now) {
        assert!(bytes.len() <= KEY_BYTES_MAX, "a key over the limit was read");
        let message = recipient.encrypt(&Secret::new("a share".to_owned()), &SeededEntropy::new(7), now);
        // A curve point may be of small order: then nothing is encrypted.
        assert!(message.is_err() || message.is_ok_and(|message| !message.is_empty()));
    }
    // What the command line makes of a file is read by the server, or refused by it.
    if let Ok(text) = base64_of_file(bytes) {
        let _either = Recipient::parse(&text, now);
    }
});
