//! Codes of virtual MFA devices: RFC 6238 with six digits, thirty seconds and SHA-1.

use aws_lc_rs::{constant_time, hmac};
use daypass_base::Timestamp;

/// The code that a device with this seed shows at `at`.
pub(crate) fn code(seed: &[u8], at: Timestamp) -> String {
    let step = at.seconds().div_euclid(STEP_SECONDS).to_be_bytes();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed), &step);
    let offset = usize::from(tag.as_ref().last().copied().unwrap_or(0) & 0x0f);
    let bits = tag.as_ref().iter().skip(offset).take(4).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    format!("{:06}", (bits & 0x7fff_ffff) % 1_000_000)
}

/// Whether `given` is the code of now, of the step before or of the step after.
pub(crate) fn fits(seed: &[u8], given: &str, now: Timestamp) -> bool {
    [-1, 0, 1].into_iter().any(|steps| {
        let at = Timestamp::from_seconds(now.seconds().saturating_add(steps * STEP_SECONDS));
        constant_time::verify_slices_are_equal(code(seed, at).as_bytes(), given.as_bytes()).is_ok()
    })
}

const STEP_SECONDS: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, the last six digits.
        for (seconds, shown) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            assert_eq!(code(b"12345678901234567890", Timestamp::from_seconds(seconds)), shown);
        }
        assert!(fits(b"12345678901234567890", "287082", Timestamp::from_seconds(85)));
        assert!(!fits(b"12345678901234567890", "287082", Timestamp::from_seconds(125)));
    }
}
