//! Shamir's secret sharing, byte by byte over GF(2^8) with the field polynomial 0x11b.
//!
//! A share is the y bytes followed by one x byte, so shares made here can be combined by Vault and the other way round
//! (`tests/shamir_oracle.rs` proves both against Vault's own Go package). The field arithmetic has no table and no branch that
//! depends on a secret byte. Nothing here knows what the secret is for; see [`crate::seal`].

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use daypass_base::{Entropy, Secret};
use zeroize::{Zeroize, Zeroizing};

/// One share of a secret: y bytes, then the x byte. Wiped when dropped.
pub type Share = Secret<Vec<u8>>;

/// Bytes that a share is longer than the secret.
pub const SHARE_OVERHEAD: usize = 1;

/// The longest text taken for a share, in bytes; the longest true one has 66.
const SHARE_TEXT_BYTES_MAX: usize = 1024;

/// Why a secret could not be split or put together. The texts are those that Vault's users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShamirError {
    /// Two shares have the same x.
    #[error("duplicate part detected")]
    DuplicatePart,
    /// There is nothing to split.
    #[error("cannot split an empty secret")]
    EmptySecret,
    /// Fewer parts asked for than are needed to combine.
    #[error("parts cannot be less than threshold")]
    FewerPartsThanThreshold,
    /// The shares are not of one length, so they are not of one secret.
    #[error("all parts must be the same length")]
    LengthsDiffer,
    /// A share without y or x.
    #[error("parts must be at least two bytes")]
    PartTooShort,
    /// One share (or none) cannot be combined.
    #[error("less than two parts cannot be used to reconstruct the secret")]
    TooFewParts,
    /// There are only 255 values of x.
    #[error("parts cannot exceed 255")]
    TooManyParts,
    /// A threshold of 1 would make each share the secret itself.
    #[error("threshold must be at least 2")]
    ThresholdTooSmall,
}

/// Splits `secret` into `parts` shares (at most 255), of which any `threshold` (at least 2) give it back and fewer say nothing about it.
///
/// The x values are distinct, from 1 to 255, in random order.
pub fn split(secret: &[u8], parts: usize, threshold: usize, entropy: &dyn Entropy) -> Result<Vec<Share>, ShamirError> {
    if parts < threshold {
        return Err(ShamirError::FewerPartsThanThreshold);
    }
    if parts > usize::from(u8::MAX) {
        return Err(ShamirError::TooManyParts);
    }
    if threshold < 2 {
        return Err(ShamirError::ThresholdTooSmall);
    }
    if secret.is_empty() {
        return Err(ShamirError::EmptySecret);
    }
    let xs = shuffled_xs(entropy);
    let mut shares: Vec<Vec<u8>> = (0..parts).map(|_| Vec::with_capacity(secret.len() + SHARE_OVERHEAD)).collect();
    // One polynomial for each byte of the secret, highest coefficient first; the byte itself is the value at 0.
    let mut coefficients = Zeroizing::new(vec![0_u8; threshold - 1]);
    for byte in secret {
        entropy.fill(&mut coefficients);
        for (share, x) in shares.iter_mut().zip(xs) {
            let y = coefficients.iter().chain(std::iter::once(byte)).fold(0, |sum, coefficient| mul(sum, x) ^ coefficient);
            share.push(y);
        }
    }
    for (share, x) in shares.iter_mut().zip(xs) {
        share.push(x);
    }
    Ok(shares.into_iter().map(Secret::new).collect())
}

/// Puts a secret together from `shares`. Wrong shares, or fewer than the threshold, give wrong bytes and no error: the caller
/// must be able to tell a right secret from a wrong one.
pub fn combine(shares: &[Share]) -> Result<Secret<Vec<u8>>, ShamirError> {
    let (Some(first), true) = (shares.first(), shares.len() >= 2) else { return Err(ShamirError::TooFewParts) };
    // Exposed to be computed with; the result is a secret again.
    let length = first.expose().len();
    if length < 2 {
        return Err(ShamirError::PartTooShort);
    }
    let mut points = Vec::with_capacity(shares.len());
    let mut seen = [false; 256];
    for share in shares {
        if share.expose().len() != length {
            return Err(ShamirError::LengthsDiffer);
        }
        let Some((x, ys)) = share.expose().split_last() else { return Err(ShamirError::PartTooShort) };
        // An x is public: it numbers the share.
        if seen.get_mut(usize::from(*x)).is_none_or(|seen| std::mem::replace(seen, true)) {
            return Err(ShamirError::DuplicatePart);
        }
        points.push((*x, ys));
    }
    let mut secret = vec![0_u8; length - SHARE_OVERHEAD];
    for (x, ys) in &points {
        // Lagrange's basis at 0, the same for every byte: the product of x_j / (x_j - x_i), where minus is xor.
        let basis =
            points.iter().filter(|(other, _)| other != x).fold(1, |product, (other, _)| mul(product, mul(*other, inverse(other ^ x))));
        for (out, y) in secret.iter_mut().zip(ys.iter()) {
            *out ^= mul(*y, basis);
        }
    }
    Ok(Secret::new(secret))
}

/// A text that is neither hex nor base64 of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("'key' must be a valid hex or base64 string")]
pub struct NotAShare;

/// Reads a share from hex or standard base64. Hex is tried first, and taken only when the length fits `bytes_min` to `bytes_max`:
/// base64 of a share may happen to be valid hex as well. What base64 gives is not judged by length; that is the receiver's to say.
pub fn decode_share(text: &str, bytes_min: usize, bytes_max: usize) -> Result<Share, NotAShare> {
    if text.len() > SHARE_TEXT_BYTES_MAX {
        return Err(NotAShare);
    }
    if let Ok(mut bytes) = HEXLOWER_PERMISSIVE.decode(text.as_bytes()) {
        if (bytes_min..=bytes_max).contains(&bytes.len()) {
            return Ok(Secret::new(bytes));
        }
        bytes.zeroize();
    }
    // Line ends inside are skipped, as Go's decoder does: shares get pasted from mails.
    let packed = Zeroizing::new(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect::<Vec<u8>>());
    BASE64.decode(&packed).map(Secret::new).map_err(|_detail_might_quote_the_share| NotAShare)
}

/// A share as lower-case hex.
#[must_use]
pub fn encode_hex(share: &Share) -> Secret<String> {
    // Exposed to the encoder; its output is a secret again.
    Secret::new(HEXLOWER.encode(share.expose()))
}

/// A share as standard base64 with padding.
#[must_use]
pub fn encode_base64(share: &Share) -> Secret<String> {
    // Exposed to the encoder; its output is a secret again.
    Secret::new(BASE64.encode(share.expose()))
}

/// The values 1 to 255 in an order that tells nothing.
fn shuffled_xs(entropy: &dyn Entropy) -> [u8; 255] {
    let mut xs = [0_u8; 255];
    for (x, value) in xs.iter_mut().zip(1..=u8::MAX) {
        *x = value;
    }
    for last in (1..xs.len()).rev() {
        let limit = u64::try_from(last).unwrap_or(0) + 1;
        xs.swap(last, usize::try_from(entropy.below(limit)).unwrap_or(0));
    }
    xs
}

/// The product of two elements: shift and add, always eight rounds, choices by mask instead of by branch.
fn mul(left: u8, right: u8) -> u8 {
    let mut product = 0_u8;
    let mut shifted = left;
    let mut bits = right;
    for _ in 0..8 {
        product ^= shifted & (bits & 1).wrapping_neg();
        shifted = (shifted << 1) ^ ((shifted >> 7).wrapping_neg() & REDUCTION);
        bits >>= 1;
    }
    product
}

/// The element that gives 1 when multiplied; 0 for 0. It is the 254th power, since every element but 0 has order dividing 255.
fn inverse(element: u8) -> u8 {
    // 254 = 0b1111_1110: seven ones and a zero, so square and multiply seven times, then square.
    let mut power = element;
    for _ in 0..6 {
        power = mul(mul(power, power), element);
    }
    mul(power, power)
}

/// x^8 reduced by 0x11b.
const REDUCTION: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use daypass_base::SystemEntropy;
    use daypass_base::sim::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    fn from_hex(texts: &[&str]) -> Vec<Share> {
        texts.iter().map(|text| Secret::new(HEXLOWER.decode(text.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn field_matches_worked_examples() {
        // FIPS 197, sections 4.2 and 4.2.1, and its S-box inverse of 0x53.
        assert_eq!(mul(0x57, 0x83), 0xc1);
        assert_eq!(mul(0x57, 0x13), 0xfe);
        assert_eq!(inverse(0x53), 0xca);
        assert_eq!(inverse(0), 0);
        for element in 1..=u8::MAX {
            assert_eq!(mul(element, inverse(element)), 1, "{element}");
        }
    }

    #[test]
    fn known_vector_stays_the_same() {
        // Written by Vault's package (v1.21.4), 3 of 5, of the secret "daypass known vector".
        let shares = from_hex(&KNOWN_SHARES);
        for pick in [[0, 1, 2], [4, 2, 0], [1, 3, 4]] {
            let picked: Vec<Share> = pick.iter().map(|at| shares[*at].clone()).collect();
            assert_eq!(combine(&picked).unwrap().expose(), b"daypass known vector");
        }
        // And our own from a seed: a changed byte here would be a changed algorithm.
        let ours = split(b"daypass", 3, 2, &SeededEntropy::new(7)).unwrap();
        let texts: Vec<String> = ours.iter().map(|share| encode_hex(share).expose().clone()).collect();
        assert_eq!(texts, KNOWN_OURS);
    }

    #[test]
    fn limits_are_refused_with_vaults_texts() {
        let entropy = SystemEntropy;
        let text = |secret: &[u8], parts, threshold| split(secret, parts, threshold, &entropy).unwrap_err().to_string();
        assert_eq!(text(b"x", 2, 3), "parts cannot be less than threshold");
        assert_eq!(text(b"x", 256, 3), "parts cannot exceed 255");
        assert_eq!(text(b"x", 3, 1), "threshold must be at least 2");
        assert_eq!(text(b"", 3, 2), "cannot split an empty secret");
        let text = |shares: &[&str]| combine(&from_hex(shares)).unwrap_err().to_string();
        assert_eq!(text(&[]), "less than two parts cannot be used to reconstruct the secret");
        assert_eq!(text(&["0102"]), "less than two parts cannot be used to reconstruct the secret");
        assert_eq!(text(&["01", "02"]), "parts must be at least two bytes");
        assert_eq!(text(&["0102", "010203"]), "all parts must be the same length");
        assert_eq!(text(&["0102", "0302"]), "duplicate part detected");
    }

    #[test]
    fn xs_are_distinct_and_shuffled() {
        let shares = split(b"s", 255, 255, &SeededEntropy::new(1)).unwrap();
        let mut xs: Vec<u8> = shares.iter().map(|share| share.expose()[1]).collect();
        let sorted: Vec<u8> = (1..=255).collect();
        assert_ne!(xs, sorted);
        xs.sort_unstable();
        assert_eq!(xs, sorted);
        assert_eq!(combine(&shares).unwrap().expose(), b"s");
    }

    #[test]
    fn texts_are_read_as_hex_first() {
        let share: Share = Secret::new((0..33).collect());
        assert_eq!(decode_share(encode_hex(&share).expose(), 16, 33).unwrap(), share);
        assert_eq!(decode_share(&encode_hex(&share).expose().to_uppercase(), 16, 33).unwrap(), share);
        assert_eq!(decode_share(encode_base64(&share).expose(), 16, 33).unwrap(), share);
        assert_eq!(decode_share(&encode_base64(&share).expose().replace("BA", "B\r\nA"), 16, 33).unwrap(), share);
        // 44 hex digits are 22 bytes of hex, and 33 bytes of base64: hex wins while it fits.
        assert_eq!(decode_share(&"a".repeat(44), 16, 33).unwrap().expose().len(), 22);
        assert_eq!(decode_share(&"a".repeat(44), 23, 33).unwrap().expose().len(), 33);
        assert_eq!(decode_share("YWJj", 16, 33).unwrap().expose(), b"abc");
        for bad in ["zz!", "not a key", &"A".repeat(4096)] {
            assert_eq!(decode_share(bad, 16, 33).unwrap_err().to_string(), "'key' must be a valid hex or base64 string");
        }
    }

    proptest! {
        #[test]
        fn any_threshold_of_the_shares_gives_the_secret_back(
            secret in proptest::collection::vec(any::<u8>(), 1..70), threshold in 2_usize..12, extra in 0_usize..6, seed: u64, start in 0_usize..18,
        ) {
            let mut shares = split(&secret, threshold + extra, threshold, &SeededEntropy::new(seed)).unwrap();
            let turn = start % shares.len();
            shares.rotate_left(turn);
            for picked in [&shares[..threshold], &shares] {
                let combined = combine(picked).unwrap();
                prop_assert_eq!(combined.expose(), &secret);
            }
        }

        #[test]
        fn one_share_too_few_never_gives_the_secret(secret in proptest::collection::vec(any::<u8>(), 16..33), threshold in 3_usize..9, seed: u64) {
            let shares = split(&secret, threshold, threshold, &SeededEntropy::new(seed)).unwrap();
            let combined = combine(&shares[..threshold - 1]).unwrap();
            prop_assert_ne!(combined.expose(), &secret);
        }

        #[test]
        fn decoding_never_fails_otherwise_than_by_its_error(text in ".{0,80}") {
            if let Ok(share) = decode_share(&text, 16, 33) {
                prop_assert!(share.expose().len() <= 80);
            }
        }
    }

    const KNOWN_SHARES: [&str; 5] = [
        "7860a89e61eaf6eedcda3e6575ba5d1aed63bb6a51",
        "85fd8927ef2a4def8a81b840b82c91dd506c4fd79f",
        "b80f9fdf442fa93b1ba502a5536b35f4db056254c7",
        "68f193f431eba64bc5ec100d670ac22dcc62bdc7e6",
        "c500aaf5d32475070db37004677217da8ae69dd17b",
    ];
    const KNOWN_OURS: [&str; 3] = ["8418435f88fc86d4", "cee1a2a01e10d21e", "86853c7716bfd341"];
}
