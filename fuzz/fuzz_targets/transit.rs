//! Transit reads texts of strangers: ciphertexts, signatures, HMACs, PEM and backups. Whatever they hold, they are read or refused, and
//! what is read is what would be written.
#![no_main]

use daypass_engines::secrets::transit::fuzzing::{read, read_backup};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        read(text);
        read(&format!("vault:v3:{text}"));
    }
    read_backup(bytes);
});
