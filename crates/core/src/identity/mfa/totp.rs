//! Passcodes by time: RFC 6238 on top of RFC 4226. Pure: the seed, the moment and what was used before decide.

use aws_lc_rs::hmac;
use daypass_base::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq};

/// The hash below the passcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    #[serde(rename = "SHA1")]
    Sha1,
    #[serde(rename = "SHA256")]
    Sha256,
    #[serde(rename = "SHA512")]
    Sha512,
}

impl Algorithm {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha512].into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            // What authenticator apps speak. HMAC does not rest on what SHA-1 lost.
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// How passcodes of a seed are made: fixed when the seed is, because the app that has it is told then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) algorithm: Algorithm,
    /// 6 or 8.
    pub(crate) digits: u8,
    /// Seconds for which a passcode is shown.
    pub(crate) period: u64,
    /// Steps before and after the present one whose passcodes are taken, too.
    pub(crate) skew: u8,
}

/// What a passcode turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Good, as that of this step.
    Good(u64),
    /// It was good once: it, or one after it, was used.
    Used,
    Wrong,
}

impl Shape {
    /// The step that a moment is in.
    pub(crate) fn step(&self, now: Timestamp) -> u64 {
        u64::try_from(now.seconds()).unwrap_or(0) / self.period.max(1)
    }

    /// Judges a passcode as it was sent: nothing is trimmed from it. `used` is the newest step of which a passcode was taken; that one and
    /// those before it are never taken again. All passcodes that could be right are compared, each in constant time.
    pub(crate) fn judge(&self, seed: &[u8], passcode: &str, now: Timestamp, used: Option<u64>) -> Verdict {
        if passcode.len() != usize::from(self.digits) || !passcode.bytes().all(|byte| byte.is_ascii_digit()) {
            return Verdict::Wrong;
        }
        let (step, skew) = (self.step(now), u64::from(self.skew));
        let mut verdict = Verdict::Wrong;
        for candidate in step.saturating_sub(skew)..=step.saturating_add(skew) {
            let same: Choice = self.passcode(seed, candidate).as_bytes().ct_eq(passcode.as_bytes());
            let fresh = used.is_none_or(|used| candidate > used);
            match (bool::from(same), fresh) {
                (true, true) => verdict = Verdict::Good(candidate),
                (true, false) if verdict == Verdict::Wrong => verdict = Verdict::Used,
                _ => {}
            }
        }
        verdict
    }

    /// The passcode of a step.
    pub(crate) fn passcode(&self, seed: &[u8], step: u64) -> String {
        let tag = hmac::sign(&hmac::Key::new(self.algorithm.hmac(), seed), &step.to_be_bytes());
        let bytes = tag.as_ref();
        let offset = usize::from(bytes.last().copied().unwrap_or(0) & 0x0f);
        let word = bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
        let number = u32::from_be_bytes(word) & 0x7fff_ffff;
        let width = usize::from(self.digits);
        format!("{:0width$}", u64::from(number) % 10_u64.pow(u32::from(self.digits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: one seed for each hash, as long as its output.
    const SEEDS: [(Algorithm, usize); 3] = [(Algorithm::Sha1, 20), (Algorithm::Sha256, 32), (Algorithm::Sha512, 64)];

    fn seed(bytes: usize) -> Vec<u8> {
        b"1234567890".iter().copied().cycle().take(bytes).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn shape(algorithm: Algorithm, digits: u8, skew: u8) -> Shape {
        Shape { algorithm, digits, period: 30, skew }
    }

    #[test]
    fn the_passcodes_are_those_of_rfc_6238() {
        let vectors = [
            (59, ["94287082", "46119246", "90693936"]),
            (1_111_111_109, ["07081804", "68084774", "25091201"]),
            (1_111_111_111, ["14050471", "67062674", "99943326"]),
            (1_234_567_890, ["89005924", "91819424", "93441116"]),
            (2_000_000_000, ["69279037", "90698825", "38618901"]),
            (20_000_000_000, ["65353130", "77737706", "47863826"]),
        ];
        for (seconds, wanted) in vectors {
            for ((algorithm, bytes), wanted) in SEEDS.into_iter().zip(wanted) {
                let shape = shape(algorithm, 8, 0);
                // The last moment is past what a timestamp holds: the step says it.
                let step = u64::try_from(seconds).unwrap() / 30;
                assert_eq!(shape.passcode(&seed(bytes), step), wanted, "{} at {seconds}", algorithm.name());
                if seconds < 9_000_000_000 {
                    assert_eq!(shape.judge(&seed(bytes), wanted, at(seconds), None), Verdict::Good(step));
                }
            }
        }
    }

    #[test]
    fn the_passcodes_are_those_of_rfc_4226() {
        let shape = shape(Algorithm::Sha1, 6, 0);
        let shown: Vec<String> = (0..10).map(|count| shape.passcode(&seed(20), count)).collect();
        let wanted =
            ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"].map(str::to_owned);
        assert_eq!(shown, wanted);
    }

    #[test]
    fn a_passcode_is_good_once_and_none_before_it_afterwards() {
        let (shape, seed) = (shape(Algorithm::Sha1, 6, 1), seed(20));
        let code = |step| shape.passcode(&seed, step);
        let now = at(100 * 30 + 7);
        for step in 99..=101 {
            assert_eq!(shape.judge(&seed, &code(step), now, None), Verdict::Good(step));
        }
        assert_eq!(shape.judge(&seed, &code(98), now, None), Verdict::Wrong);
        assert_eq!(shape.judge(&seed, &code(102), now, None), Verdict::Wrong);
        assert_eq!(shape.judge(&seed, &code(100), now, Some(100)), Verdict::Used);
        assert_eq!(shape.judge(&seed, &code(99), now, Some(100)), Verdict::Used, "one before it, which nobody has used");
        assert_eq!(shape.judge(&seed, &code(101), now, Some(100)), Verdict::Good(101));
    }

    #[test]
    fn what_is_not_exactly_the_digits_is_no_passcode() {
        let (shape, seed) = (shape(Algorithm::Sha1, 6, 1), seed(20));
        let good = shape.passcode(&seed, 100);
        let now = at(100 * 30);
        for bad in [
            format!(" {good}"),
            format!("{good} "),
            format!("{good}\n"),
            format!("0{good}"),
            good[1..].to_owned(),
            format!("+{}", &good[1..]),
            format!("{}\u{0660}", &good[..5]),
            String::new(),
        ] {
            assert_eq!(shape.judge(&seed, &bad, now, None), Verdict::Wrong, "{bad:?}");
        }
    }
}
