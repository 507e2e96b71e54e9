//! Unseal shares are typed by people: any text is a share or is refused, and any shares combine or do not.
#![no_main]

use daypass_barrier::shamir;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shares = text.split(' ').take(6).filter_map(|word| shamir::decode_share(word, 16, 33).ok());
    // Base64 of any length is read; only what has the length of a share is one.
    let shares: Vec<_> = shares.filter(|share| (16..=33).contains(&share.expose().len())).collect();
    for share in &shares {
        let hex = shamir::encode_hex(share);
        let base64 = shamir::encode_base64(share);
        for written in [hex.expose(), base64.expose()] {
            let again = shamir::decode_share(written, share.expose().len(), share.expose().len());
            assert!(again.is_ok_and(|s| s.expose() == share.expose()), "a share did not survive being written down");
        }
    }
    let _ = shamir::combine(&shares);
});
