//! A key in a file, for servers that must start unattended where no AWS KMS is at hand.
//!
//! Whoever can read the file and the store can read everything, so a file that others may read is refused.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use daypass_base::{Entropy, Secret};
use zeroize::Zeroizing;

use crate::primitive::KEY_BYTES;
use crate::seal::SealKey;

/// More than any of the three forms needs, in bytes; a longer file is not a key.
const FILE_BYTES_MAX: u64 = 256;

/// Why the key file cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is one already; its key may be the only one that opens a store.
    #[error("key file {0} exists already; it is never overwritten")]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} key file {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason given.
        source: std::io::Error,
    },
    /// A directory, a device or a pipe.
    #[error("key file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Its content is not 32 bytes in a form that is known.
    #[error(
        "key file {path} does not hold a key: {reason}; it must hold 32 random bytes, raw or in hex or base64 (head -c 32 /dev/urandom | base64)"
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content, without any of it.
        reason: &'static str,
    },
    /// Its mode gives group or others a right.
    #[error("key file {path} has mode {mode:04o}, so that group or others may use it; allow its owner alone: chmod 600 {path}")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A key file by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The key file at `path`, which need not exist yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the key. The mode is checked on the open file, so it cannot be exchanged in between.
    pub fn read(&self) -> Result<SealKey, KeyFileError> {
        // Not blocking, so that a pipe in its place is refused and does not hang the start.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path).map_err(|source| self.io("open", source))?;
        let metadata = file.metadata().map_err(|source| self.io("inspect", source))?;
        if !metadata.is_file() {
            return Err(KeyFileError::NotAFile(self.path.clone()));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(KeyFileError::TooOpen { path: self.path.clone(), mode: metadata.mode() & 0o7777 });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|source| self.io("read", source))?;
        parse(&bytes).map_err(|reason| KeyFileError::NotAKey { path: self.path.clone(), reason })
    }

    /// Makes the file with a new random key in base64, mode 0600, and returns the key when file and directory entry are on disk.
    pub fn create(&self, entropy: &dyn Entropy) -> Result<SealKey, KeyFileError> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(KeyFileError::Exists(self.path.clone())),
            Err(source) => return Err(self.io("create", source)),
        };
        let key = Secret::new(entropy.bytes::<KEY_BYTES>());
        // Exposed to the file.
        let text = Zeroizing::new(BASE64.encode(key.expose()) + "\n");
        if let Err(source) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
            // Half a key would be taken for one that must not be overwritten.
            let _left_behind = std::fs::remove_file(&self.path);
            return Err(self.io("write", source));
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| self.io("sync the directory of", source))?;
        Ok(SealKey::new(key))
    }

    fn io(&self, action: &'static str, source: std::io::Error) -> KeyFileError {
        KeyFileError::Io { action, path: self.path.clone(), source }
    }
}

/// 32 raw bytes, or the same in hex or base64 with white space around.
fn parse(bytes: &[u8]) -> Result<SealKey, &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if let Ok(raw) = <[u8; KEY_BYTES]>::try_from(bytes) {
        let raw = Secret::new(raw);
        // 32 random bytes are all printable once in 10^13 files; 16 bytes in hex always are, and are half a key.
        // Exposed to be looked at.
        if raw.expose().iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            return Err("it holds 32 characters of text instead of 32 random bytes");
        }
        return checked(raw);
    }
    let text = bytes.trim_ascii();
    let decoded = match text.len() {
        64 => HEXLOWER_PERMISSIVE.decode(text).map_err(|_content| "its 64 characters are not hex")?,
        44 => BASE64.decode(text).map_err(|_content| "its 44 characters are not base64")?,
        _ => return Err("its length fits none of the forms"),
    };
    let decoded = Zeroizing::new(decoded);
    let key = <[u8; KEY_BYTES]>::try_from(decoded.as_slice()).map_err(|_length| "what it encodes is not 32 bytes long")?;
    checked(Secret::new(key))
}

/// Refuses the key that a full disk or `/dev/zero` leaves.
fn checked(key: Secret<[u8; KEY_BYTES]>) -> Result<SealKey, &'static str> {
    // Exposed to be looked at.
    let bytes = key.expose();
    if bytes.iter().all(|byte| Some(byte) == bytes.first()) { Err("all its bytes are the same") } else { Ok(SealKey::new(key)) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use data_encoding::HEXLOWER;
    use daypass_base::sim::SeededEntropy;

    use super::*;

    fn written(folder: &Path, content: &[u8], mode: u32) -> KeyFile {
        let path = folder.join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        KeyFile::at(path)
    }

    #[test]
    fn a_created_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::at(folder.path().join("seal.key"));
        let key = file.create(&SeededEntropy::new(1)).unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(file.read().unwrap(), key);
        assert!(matches!(file.create(&SeededEntropy::new(2)), Err(KeyFileError::Exists(_))));
        assert_eq!(file.read().unwrap(), key, "a second attempt leaves the key alone");
    }

    #[test]
    fn raw_hex_and_base64_are_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let key: Vec<u8> = (100..132).collect();
        let raw = written(folder.path(), &key, 0o600).read().unwrap();
        for text in [HEXLOWER.encode(&key), HEXLOWER.encode(&key).to_uppercase() + "\n", format!(" {}\r\n", BASE64.encode(&key))] {
            assert_eq!(written(folder.path(), text.as_bytes(), 0o400).read().unwrap(), raw);
            std::fs::remove_file(folder.path().join("key")).unwrap();
        }
    }

    #[test]
    fn a_file_that_others_may_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o666, 0o601] {
            let file = written(folder.path(), &[1; 32], mode);
            let error = file.read().unwrap_err();
            assert!(matches!(error, KeyFileError::TooOpen { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&format!("{mode:04o}")) && error.to_string().contains("chmod 600"));
        }
    }

    #[test]
    fn what_is_no_key_is_named_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let cases: [(&[u8], &str); 7] = [
            (b"", "empty"),
            (b"0123456789abcdef0123456789abcdef", "32 characters of text"),
            (&[7; 32], "all its bytes are the same"),
            (b"short", "length fits none"),
            (&[b'x'; 300], "length fits none"),
            (&[b'z'; 64], "not hex"),
            (&[b'!'; 44], "not base64"),
        ];
        for (content, reason) in cases {
            let error = written(folder.path(), content, 0o600).read().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("0123456789abcdef"));
        }
        assert!(matches!(KeyFile::at(folder.path()).read(), Err(KeyFileError::NotAFile(_))));
        assert!(KeyFile::at(folder.path().join("none")).read().unwrap_err().to_string().starts_with("cannot open key file"));
    }
}
