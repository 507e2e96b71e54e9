//! What fuzz targets reach of the engine: readers of texts that strangers send. Not part of the API.

use daypass_sdk::{Entropy, Timestamp};

use super::key::VERSION_MAX;
use super::material::{self, Material};
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
    let _either = backup::read(text, NOW);
}

/// Restores these bytes, the JSON inside a backup, and does with the key what the server will. Panics when it cannot.
pub fn read_backup(json: &[u8]) {
    let Ok(read) = backup::read(&data_encoding::BASE64.encode(json), NOW) else { return };
    let mut key = read.key;
    assert!(key.versions.contains_key(&key.latest), "a backup that is read has its latest version");
    assert!(key.versions.values().all(|version| Material::parse(&key, version).is_ok()), "each version can be used");
    assert!(key.describe("k", None).is_ok(), "it can be shown");
    let _either = key.rotation_due(NOW);
    if key.key_type.is_rsa() {
        return;
    }
    let made = material::generate(key.key_type, key.key_size, &Sevens, NOW);
    let latest = key.latest;
    let added = made.and_then(|made| key.add(made)).is_ok();
    assert_eq!((added, key.latest), if latest < VERSION_MAX { (true, latest + 1) } else { (false, latest) }, "it can be rotated");
}

/// No chance at all: what is read is the same each time.
struct Sevens;

impl Entropy for Sevens {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

/// Now, to whoever reads a backup.
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
