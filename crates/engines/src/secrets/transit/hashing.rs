//! Hash functions by name, and HMAC with each of them.

use aws_lc_rs::{digest, hmac};
use daypass_base::Brief;
use daypass_sdk::{Error, Result, Secret};
use zeroize::Zeroizing;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) name: &'static str,
    pub(super) algorithm: &'static digest::Algorithm,
}

impl Hash {
    /// Reads a name. Errors: `BadRequest` with these words and the name.
    pub(super) fn parse(name: &str, otherwise: &str) -> Result<Self> {
        if name == "sha3-224" {
            return Err(Error::bad_request("sha3-224 is not available here: use sha3-256, sha3-384, sha3-512 or a sha2 hash"));
        }
        Self::find(name).ok_or_else(|| Error::bad_request(format!("{otherwise} {:?}", Brief(name))))
    }

    pub(super) fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|hash| hash.name == name)
    }

    pub(super) fn digest(self, data: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm, data).as_ref().to_vec()
    }

    /// HMAC with this hash (RFC 2104).
    pub(super) fn hmac(self, key: &Secret<Vec<u8>>, data: &[u8]) -> Vec<u8> {
        // Into the HMAC and nowhere else, as below.
        let key = key.expose();
        if let Some(algorithm) = self.library() {
            return hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec();
        }
        // The library's HMAC knows no SHA-3; its digests do.
        let block = self.algorithm.block_len();
        let mut padded = Zeroizing::new(if key.len() > block { self.digest(key) } else { key.clone() });
        padded.resize(block, 0);
        let keyed = |pad: u8, data: &[u8]| {
            let start = Zeroizing::new(padded.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>());
            let mut context = digest::Context::new(self.algorithm);
            context.update(&start);
            context.update(data);
            context.finish()
        };
        keyed(0x5c, keyed(0x36, data).as_ref()).as_ref().to_vec()
    }

    fn library(self) -> Option<hmac::Algorithm> {
        Some(match self.name {
            "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            "sha2-224" => hmac::HMAC_SHA224,
            "sha2-256" => hmac::HMAC_SHA256,
            "sha2-384" => hmac::HMAC_SHA384,
            "sha2-512" => hmac::HMAC_SHA512,
            _ => return None,
        })
    }
}

const ALL: [Hash; 8] = [
    Hash { name: "sha1", algorithm: &digest::SHA1_FOR_LEGACY_USE_ONLY },
    Hash { name: "sha2-224", algorithm: &digest::SHA224 },
    Hash { name: "sha2-256", algorithm: &digest::SHA256 },
    Hash { name: "sha2-384", algorithm: &digest::SHA384 },
    Hash { name: "sha2-512", algorithm: &digest::SHA512 },
    Hash { name: "sha3-256", algorithm: &digest::SHA3_256 },
    Hash { name: "sha3-384", algorithm: &digest::SHA3_384 },
    Hash { name: "sha3-512", algorithm: &digest::SHA3_512 },
];

/// What is used unless a request names another.
pub(super) const USUAL: &str = "sha2-256";

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn mac(name: &str, key: &[u8], data: &[u8]) -> String {
        HEXLOWER.encode(&Hash::parse(name, "").unwrap().hmac(&Secret::new(key.to_vec()), data))
    }

    #[test]
    fn hmacs_are_those_of_the_published_vectors() {
        // RFC 4231, test case 1; the same input with SHA-3 from NIST's "HMAC with SHA-3" examples of that shape.
        let key = [0x0b; 20];
        assert_eq!(mac("sha2-256", &key, b"Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_eq!(mac("sha3-256", &key, b"Hi There"), "ba85192310dffa96e2a3a40e69774351140bb7185e1202cdcc917589f95e16bb");
        // RFC 4231, test case 6: a key that is longer than a block.
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(mac("sha2-256", &[0xaa; 131], text), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
