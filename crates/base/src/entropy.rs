//! Randomness, as everything in daypass sees it. Nothing else may ask the system for it (`clippy.toml` bans it).

/// The source of randomness. Production has [`SystemEntropy`]; tests have [`crate::sim::SeededEntropy`].
pub trait Entropy: Send + Sync + 'static {
    /// Fills `out` with random bytes fit for keys.
    fn fill(&self, out: &mut [u8]);
}

impl dyn Entropy {
    /// An array of `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// `length` characters of `0-9A-Za-z`, each equally likely (5.95 bits apiece).
    #[must_use]
    pub fn base62(&self, length: usize) -> String {
        let mut out = String::with_capacity(length);
        let mut block = [0_u8; 64];
        while out.len() < length {
            self.fill(&mut block);
            // 248 = 4 * 62: larger bytes are dropped, so that no character is more likely than another.
            for byte in block.iter().filter(|byte| **byte < 248) {
                if out.len() == length {
                    break;
                }
                out.push(char::from(BASE62.get(usize::from(byte % 62)).copied().unwrap_or(b'0')));
            }
        }
        out
    }

    /// A number below `limit` (0 when `limit` is 0), for jitter and choices; its bias is below 2^-32.
    #[must_use]
    pub fn below(&self, limit: u64) -> u64 {
        let wide = u128::from(u64::from_le_bytes(self.bytes::<8>()));
        u64::try_from((wide * u128::from(limit)) >> 64).unwrap_or(0)
    }
}

/// Digits, capitals, small letters: Vault's alphabet for ids and tokens.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The operating system's random number generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for randomness")]
    fn fill(&self, out: &mut [u8]) {
        if getrandom::fill(out).is_err() {
            // There is no safe way on: a key made of zeros is worse than no process.
            std::process::abort();
        }
    }
}
