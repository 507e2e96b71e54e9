//! The types of keys and what each can do.

use aws_lc_rs::aead;
use aws_lc_rs::rsa::KeySize;
use daypass_base::Brief;
use daypass_sdk::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a key is made of. Stored and shown by its name in Vault's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeyType {
    #[serde(rename = "aes128-gcm96")]
    Aes128Gcm96,
    #[serde(rename = "aes256-gcm96")]
    Aes256Gcm96,
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    #[serde(rename = "ecdsa-p521")]
    EcdsaP521,
    #[serde(rename = "ed25519")]
    Ed25519,
    #[serde(rename = "hmac")]
    Hmac,
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl KeyType {
    /// Reads a name; the empty one is Vault's default. Errors: `BadRequest` with Vault's text.
    pub(super) fn parse(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Ok(Self::Aes256Gcm96);
        }
        ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| Error::bad_request(format!("unknown key type {}", Brief(name))))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm96 => "aes128-gcm96",
            Self::Aes256Gcm96 => "aes256-gcm96",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::EcdsaP521 => "ecdsa-p521",
            Self::Ed25519 => "ed25519",
            Self::Hmac => "hmac",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// The name beside a public key: curves go by their own.
    pub(super) fn public_name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "P-256",
            Self::EcdsaP384 => "P-384",
            Self::EcdsaP521 => "P-521",
            other => other.name(),
        }
    }

    /// The cipher, for keys that have one with associated data.
    pub(super) fn aead(self) -> Option<&'static aead::Algorithm> {
        match self {
            Self::Aes128Gcm96 => Some(&aead::AES_128_GCM),
            Self::Aes256Gcm96 => Some(&aead::AES_256_GCM),
            Self::ChaCha20Poly1305 => Some(&aead::CHACHA20_POLY1305),
            _ => None,
        }
    }

    pub(super) fn rsa(self) -> Option<KeySize> {
        match self {
            Self::Rsa2048 => Some(KeySize::Rsa2048),
            Self::Rsa3072 => Some(KeySize::Rsa3072),
            Self::Rsa4096 => Some(KeySize::Rsa4096),
            _ => None,
        }
    }

    pub(super) fn is_rsa(self) -> bool {
        self.rsa().is_some()
    }

    pub(super) fn is_ecdsa(self) -> bool {
        matches!(self, Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521)
    }

    pub(super) fn encrypts(self) -> bool {
        self.aead().is_some() || self.is_rsa()
    }

    pub(super) fn signs(self) -> bool {
        self.is_rsa() || self.is_ecdsa() || self == Self::Ed25519
    }

    pub(super) fn derives(self) -> bool {
        self.aead().is_some() || self == Self::Ed25519
    }

    /// There is a public half.
    pub(super) fn is_asymmetric(self) -> bool {
        self.signs()
    }

    /// Bytes of a key that is nothing but random bytes; an HMAC key may have another size.
    pub(super) fn random_bytes(self) -> Option<usize> {
        match self {
            Self::Ed25519 | Self::Hmac => Some(32),
            other => other.aead().map(aead::Algorithm::key_len),
        }
    }
}

const ALL: [KeyType; 11] = [
    KeyType::Aes128Gcm96,
    KeyType::Aes256Gcm96,
    KeyType::ChaCha20Poly1305,
    KeyType::EcdsaP256,
    KeyType::EcdsaP384,
    KeyType::EcdsaP521,
    KeyType::Ed25519,
    KeyType::Hmac,
    KeyType::Rsa2048,
    KeyType::Rsa3072,
    KeyType::Rsa4096,
];
