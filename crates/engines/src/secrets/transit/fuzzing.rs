//! What fuzz targets reach of the engine: readers of texts that strangers send. Not part of the API.

use super::payload::{self, Alphabet, Form, Window};
use super::{backup, certificates, pem};

/// Reads `text` as everything that transit takes. Panics when what is read is not what would be written.
pub fn read(text: &str) {
    let window = Window { oldest: 2, latest: 9 };
    for form in [Form::Ciphertext, Form::Hmac, Form::Signature] {
        for alphabet in [Alphabet::Standard, Alphabet::Url] {
            if let Ok((version, bytes)) = payload::open(form, text, window, alphabet) {
                assert!((2..=9).contains(&version), "version {version} is outside the window");
                let again = payload::open(form, &payload::seal(version, &bytes, alphabet), window, alphabet);
                assert!(again.is_ok_and(|again| again == (version, bytes)), "what is written is read back");
            }
        }
    }
    if let Ok(bytes) = payload::decode(text) {
        let _inside = pem::inside_pkcs8(&bytes);
    }
    let _either = pem::read("PUBLIC KEY", text);
    certificates::read(text);
    let _either = backup::read(text);
}

/// Reads these bytes as the JSON inside a backup.
pub fn read_backup(json: &[u8]) {
    if let Ok(read) = backup::read(&data_encoding::BASE64.encode(json)) {
        assert!(read.key.versions.contains_key(&read.key.latest), "a backup that is read has its latest version");
    }
}
