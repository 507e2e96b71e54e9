//! What is stored of a key, and every decision about it: pure, without storage or time of its own.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use daypass_sdk::{Error, Result, Seconds, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::key_type::KeyType;
use super::payload::Window;
use super::{pem, signing};

/// A named key with all its versions.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Key {
    #[serde(rename = "type")]
    pub(super) key_type: KeyType,
    /// Each use takes a context, from which the real key is derived.
    pub(super) derived: bool,
    /// Equal plaintexts with equal contexts have equal ciphertexts.
    pub(super) convergent: bool,
    pub(super) exportable: bool,
    pub(super) allow_plaintext_backup: bool,
    pub(super) deletion_allowed: bool,
    pub(super) auto_rotate_period: Seconds,
    /// Bytes of an HMAC key; 0 for other types.
    pub(super) key_size: usize,
    pub(super) latest: u64,
    pub(super) min_available: u64,
    pub(super) min_decryption: u64,
    pub(super) min_encryption: u64,
    /// Versions came from outside.
    #[serde(default)]
    pub(super) imported: bool,
    /// An imported key may get versions that are made here.
    #[serde(default)]
    pub(super) allow_rotation: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backed_up: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restored: Option<Stamp>,
    pub(super) versions: BTreeMap<u64, Version>,
}

/// One version of a key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) created: Timestamp,
    /// Random bytes (an ed25519 seed too), or PKCS#8; empty where only the public half is known.
    #[serde(with = "stored_secret")]
    pub(super) secret: Secret<Vec<u8>>,
    /// For HMACs, whatever the type.
    #[serde(with = "stored_secret")]
    pub(super) hmac_key: Secret<Vec<u8>>,
    /// Public half: 32 bytes of ed25519, or an X.509 SubjectPublicKeyInfo; empty where there is none.
    #[serde(with = "stored_bytes")]
    pub(super) public: Vec<u8>,
    /// Certificates for it in PEM, the leaf first; empty where there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) chain: String,
}

/// When a key was backed up or restored, and how far it was then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) time: Timestamp,
    pub(super) version: u64,
}

/// Changes of a key's settings, as they were sent.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) min_decryption: Option<i64>,
    pub(super) min_encryption: Option<i64>,
    pub(super) deletion_allowed: Option<bool>,
    pub(super) exportable: Option<bool>,
    pub(super) allow_plaintext_backup: Option<bool>,
    pub(super) auto_rotate_period: Option<Seconds>,
}

impl Key {
    /// A key without versions.
    pub(super) fn new(key_type: KeyType) -> Self {
        Self {
            key_type,
            derived: false,
            convergent: false,
            exportable: false,
            allow_plaintext_backup: false,
            deletion_allowed: false,
            auto_rotate_period: Seconds::ZERO,
            key_size: 0,
            latest: 0,
            min_available: 0,
            min_decryption: 1,
            min_encryption: 0,
            imported: false,
            allow_rotation: false,
            backed_up: None,
            restored: None,
            versions: BTreeMap::new(),
        }
    }

    /// Sets what a key is for. Errors: `BadRequest` where the type cannot do it.
    pub(super) fn derive(&mut self, derived: bool, convergent: bool) -> Result<()> {
        if convergent && !derived {
            return Err(Error::bad_request("convergent encryption requires derivation to be enabled"));
        }
        if derived && !self.key_type.derives() {
            let name = self.key_type.name();
            return Err(Error::bad_request(format!("key derivation and convergent encryption not supported for keys of type {name}")));
        }
        if convergent && self.key_type.aead().is_none() {
            return Err(Error::bad_request(format!("convergent encryption not supported for keys of type {}", self.key_type.name())));
        }
        (self.derived, self.convergent) = (derived, convergent);
        Ok(())
    }

    /// Adds a version. Errors: `BadRequest` for one that cannot be used, and when there can be no more.
    pub(super) fn add(&mut self, version: Version) -> Result<()> {
        if self.derived && version.is_bare() {
            return Err(Error::bad_request("a key with derivation needs its private half: nothing can be derived from the public one"));
        }
        let full = || Error::bad_request(format!("the key has reached version {VERSION_MAX}, the limit: make a new key"));
        let next = self.latest.checked_add(1).filter(|next| *next <= VERSION_MAX).ok_or_else(full)?;
        self.latest = next;
        self.versions.insert(next, version);
        Ok(())
    }

    /// Takes in what was brought: as the private half that a version lacks, which is the `wanted` one or the latest; else, where none is wanted,
    /// as a new version. Errors: `BadRequest` when the wanted one cannot take it.
    pub(super) fn bring(&mut self, wanted: Option<i64>, brought: Version) -> Result<()> {
        let number = wanted.map_or(Ok(self.latest), u64::try_from).unwrap_or(0);
        match (self.versions.get_mut(&number), wanted) {
            (Some(found), _) if found.is_bare() && !brought.is_bare() && found.public == brought.public => {
                found.secret = brought.secret;
                Ok(())
            }
            (_, None) => self.add(brought),
            (None, Some(wanted)) => {
                Err(Error::bad_request(format!("version {wanted} of the key does not exist, so it cannot be completed")))
            }
            (Some(found), Some(wanted)) => Err(Error::bad_request(if !found.is_bare() {
                format!("version {wanted} has its private half already: leave version out to bring a new one in")
            } else if brought.is_bare() {
                format!("version {wanted} has its public half: send the private one, wrapped, as ciphertext")
            } else {
                format!("the private half that was sent is not that of version {wanted}")
            })),
        }
    }

    /// Whether the latest version can do what it is for: nothing can be derived from a public half. Before it there may be such versions, of which each
    /// use is refused: keys have them from servers that let them in. Errors: `BadRequest`.
    pub(super) fn check_latest(&self) -> Result<()> {
        if self.derived && self.versions.get(&self.latest).is_some_and(Version::is_bare) {
            return Err(Error::bad_request(format!(
                "version {}, the latest, has no private half, which a key with derivation needs: bring that half in, or rotate the key",
                self.latest
            )));
        }
        Ok(())
    }

    /// A version that the caller knows to be within limits. Errors: `BadRequest` when it was trimmed away.
    pub(super) fn version(&self, number: u64) -> Result<&Version> {
        self.versions.get(&number).ok_or_else(|| {
            Error::bad_request(format!("version {number} of the key is not available: versions below {} were trimmed", self.min_available))
        })
    }

    /// The version that a request means; 0 is the latest. Errors: `BadRequest` with the words for this `use`.
    pub(super) fn usable(&self, wanted: i64, words: &Words) -> Result<u64> {
        if wanted == 0 {
            return Ok(self.latest);
        }
        let wanted = u64::try_from(wanted).map_err(|error| Error::bad_request(words.negative).because(error))?;
        if wanted > self.latest {
            return Err(Error::bad_request(words.too_new));
        }
        if wanted < self.min_encryption {
            return Err(Error::bad_request(words.too_old));
        }
        self.in_use(wanted)?;
        Ok(wanted)
    }

    /// A version that may still be used, for whatever. One below `min_decryption_version` is retired, and what it signed or encrypted could never be
    /// verified or decrypted. Errors: `BadRequest` with Vault's text.
    pub(super) fn in_use(&self, number: u64) -> Result<&Version> {
        let found = self.versions.get(&number).filter(|_| number >= self.min_decryption);
        found.ok_or_else(|| Error::bad_request("no such key version"))
    }

    /// Versions that decrypt and verify.
    pub(super) fn window(&self) -> Window {
        Window { oldest: self.min_decryption, latest: self.latest }
    }

    /// Takes new settings. Errors: `BadRequest` with Vault's texts; then nothing is changed that matters, because the caller drops it.
    pub(super) fn configure(&mut self, settings: &Settings) -> Result<()> {
        if let Some(wanted) = settings.min_decryption {
            self.min_decryption = self.limit("min decryption version", wanted)?.max(1);
        }
        if let Some(wanted) = settings.min_encryption {
            self.min_encryption = self.limit("min encryption version", wanted)?;
        }
        self.check_limits()?;
        if let Some(period) = settings.auto_rotate_period {
            self.auto_rotate_period = checked_period(period)?;
        }
        self.deletion_allowed = settings.deletion_allowed.unwrap_or(self.deletion_allowed);
        // Once out, a key cannot be taken back in: these two only ever go on.
        self.exportable |= settings.exportable.unwrap_or_default();
        self.allow_plaintext_backup |= settings.allow_plaintext_backup.unwrap_or_default();
        Ok(())
    }

    /// Whether the oldest versions for each use fit together. Errors: `BadRequest` with Vault's texts.
    pub(super) fn check_limits(&self) -> Result<()> {
        if self.min_encryption > 0 && self.min_encryption < self.min_decryption {
            return Err(Error::bad_request(format!(
                "cannot set min encryption/decryption values; min encryption version of {} must be greater than or equal to min decryption \
                 version of {}",
                self.min_encryption, self.min_decryption
            )));
        }
        if self.min_decryption < self.min_available {
            return Err(Error::bad_request("min decryption version should not be less than min available version"));
        }
        if self.min_encryption > 0 && self.min_encryption < self.min_available {
            return Err(Error::bad_request("min encryption version should not be less than min available version"));
        }
        Ok(())
    }

    fn limit(&self, what: &str, wanted: i64) -> Result<u64> {
        let number = u64::try_from(wanted).map_err(|error| Error::bad_request(format!("{what} cannot be negative")).because(error))?;
        if number > self.latest {
            return Err(Error::bad_request(format!("cannot set {what} of {number}, latest key version is {}", self.latest)));
        }
        Ok(number)
    }

    /// Forgets versions below this one for good. Errors: `BadRequest` with Vault's texts.
    pub(super) fn trim(&mut self, wanted: i64) -> Result<()> {
        let refuse = |what: &str| Error::bad_request(format!("minimum available version cannot be {what}"));
        let wanted = u64::try_from(wanted).map_err(|error| refuse("negative").because(error))?;
        if wanted < self.min_available {
            return Err(refuse("decremented"));
        }
        if self.min_encryption == 0 {
            return Err(refuse("set when minimum encryption version is not set"));
        }
        if wanted > self.latest {
            return Err(refuse("greater than the latest key version"));
        }
        if wanted > self.min_encryption {
            return Err(refuse("greater than minimum encryption version"));
        }
        if wanted > self.min_decryption {
            return Err(refuse("greater than minimum decryption version"));
        }
        self.min_available = wanted;
        self.versions = self.versions.split_off(&wanted);
        Ok(())
    }

    /// Whether a new version is due by time.
    pub(super) fn rotation_due(&self, now: Timestamp) -> bool {
        let made_here = !self.imported || self.allow_rotation;
        let latest = self.versions.get(&self.latest);
        !self.auto_rotate_period.is_zero() && made_here && latest.is_some_and(|latest| latest.created + self.auto_rotate_period <= now)
    }

    /// The description that most answers about keys carry. `context` shows the public keys of a derived key.
    pub(super) fn describe(&self, name: &str, context: Option<&[u8]>) -> Result<Map<String, Value>> {
        let shown = json!({
            "allow_plaintext_backup": self.allow_plaintext_backup,
            "auto_rotate_period": self.auto_rotate_period,
            "deletion_allowed": self.deletion_allowed,
            "derived": self.derived,
            "exportable": self.exportable,
            "imported_key": self.imported,
            "latest_version": self.latest,
            "min_available_version": self.min_available,
            "min_decryption_version": self.min_decryption,
            "min_encryption_version": self.min_encryption,
            "name": name,
            "supports_decryption": self.key_type.encrypts(),
            "supports_derivation": self.key_type.derives(),
            "supports_encryption": self.key_type.encrypts(),
            "supports_signing": self.key_type.signs(),
            "type": self.key_type,
        });
        let Value::Object(mut data) = shown else { return Err(Error::internal("a description is an object")) };
        data.insert("keys".to_owned(), self.describe_versions(context)?);
        let mut add = |name: &str, value: Value| data.insert(name.to_owned(), value);
        if self.key_size > 0 {
            add("key_size", json!(self.key_size));
        }
        if self.imported {
            add("imported_key_allow_rotation", json!(self.allow_rotation));
        }
        if self.derived {
            add("kdf", json!("hkdf_sha256"));
            add("convergent_encryption", json!(self.convergent));
            if self.convergent {
                // Vault keeps the number with each version of the key and shows this instead.
                add("convergent_encryption_version", json!(-1));
            }
        }
        if let Some(stamp) = &self.backed_up {
            add("backup_info", json!(stamp));
        }
        if let Some(stamp) = &self.restored {
            add("restore_info", json!(stamp));
        }
        Ok(data)
    }

    fn describe_versions(&self, context: Option<&[u8]>) -> Result<Value> {
        let mut keys = Map::new();
        for (number, version) in self.versions.range(self.min_decryption.max(self.min_available)..) {
            let shown = if self.key_type.is_asymmetric() {
                json!({
                    "certificate_chain": version.chain,
                    "creation_time": version.created,
                    "hybrid_public_key": "",
                    "name": self.key_type.public_name(),
                    "public_key": self.public_text(version, context)?,
                })
            } else {
                json!(version.created.seconds())
            };
            keys.insert(number.to_string(), shown);
        }
        Ok(Value::Object(keys))
    }

    /// The public half as answers show it: base64 for ed25519, else PEM. A derived key has one only for a context.
    pub(super) fn public_text(&self, version: &Version, context: Option<&[u8]>) -> Result<String> {
        match (self.key_type, context) {
            (KeyType::Ed25519, Some(context)) if self.derived => Ok(BASE64.encode(&signing::derived_public(version, context)?)),
            (KeyType::Ed25519, _) if self.derived => Ok(String::new()),
            (KeyType::Ed25519, _) => Ok(BASE64.encode(&version.public)),
            _ => Ok(pem::write("PUBLIC KEY", &version.public)),
        }
    }
}

impl Version {
    /// Only the public half is known.
    pub(super) fn is_bare(&self) -> bool {
        // Only its length is looked at.
        self.secret.expose().is_empty()
    }
}

/// The highest number of a version: far more than a key can have before its row is full of them.
pub(super) const VERSION_MAX: u64 = u32::MAX as u64;

/// How one use of a key names its errors about versions.
pub(super) struct Words {
    pub(super) negative: &'static str,
    pub(super) too_new: &'static str,
    pub(super) too_old: &'static str,
}

/// Checks the time between automatic rotations. Errors: `BadRequest` with Vault's text.
pub(super) fn checked_period(period: Seconds) -> Result<Seconds> {
    if !period.is_zero() && period < Seconds::hour() {
        return Err(Error::bad_request("auto rotate period must be 0 to disable or at least an hour"));
    }
    Ok(period)
}

/// Secret bytes in a stored row, as base64.
mod stored_secret {
    use data_encoding::BASE64;
    use daypass_sdk::Secret;
    use serde::{Deserialize, Deserializer, Serializer, de};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(secret: &Secret<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        // Into a row, which the barrier seals, or into a backup, which the key allows.
        serializer.serialize_str(&Zeroizing::new(BASE64.encode(secret.expose())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<Vec<u8>>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        BASE64.decode(text.as_bytes()).map(Secret::new).map_err(de::Error::custom)
    }
}

/// Public bytes in a stored row, as base64.
mod stored_bytes {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(deserializer)?.as_bytes()).map_err(de::Error::custom)
    }
}
