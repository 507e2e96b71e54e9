//! Instances log in with a document that AWS signed: a PKCS#7 message in BER, or JSON with a signature. Whatever bytes come, they are refused
//! unless a key that is believed made the signature.
#![no_main]

use daypass_engines::auth::aws::fuzzing::read_document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_document(bytes));
