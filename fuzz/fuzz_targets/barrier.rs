//! Whatever lies on the disk, the barrier opens only what it sealed itself, at the key it was sealed for.
#![no_main]

use daypass_barrier::{Barrier, Keyring, RootKey};
use daypass_base::sim::SeededEntropy;
use daypass_base::{Entropy, Timestamp};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

static BARRIER: LazyLock<Barrier> = LazyLock::new(|| {
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(7));
    let root = RootKey::generate(&*entropy);
    let keyring = Keyring::generate(&*entropy, Timestamp::from_seconds(0));
    Barrier::new(keyring, root, entropy).expect("a fresh keyring opens")
});

fuzz_target!(|data: &[u8]| {
    // Made up from nothing: never opens.
    assert!(BARRIER.open(b"key", data).is_err(), "a forged value opened");
    assert!(BARRIER.open_token(data).is_err(), "a forged token opened");
    let other = SeededEntropy::new(8);
    assert!(Keyring::open(data, &RootKey::generate(&other)).is_err(), "a forged keyring opened");

    // A real value, changed where the input says: opens only unchanged, and only at its own key.
    let (at, plain) = data.split_at(data.len().min(2));
    let mut sealed = BARRIER.seal(b"key", plain).expect("sealing works");
    assert_eq!(BARRIER.open(b"key", &sealed).expect("a sealed value opens").as_slice(), plain);
    assert!(BARRIER.open(b"other key", &sealed).is_err(), "a value opened at another key");
    if let [position, change] = at
        && *change != 0
    {
        let position = usize::from(*position) % sealed.len();
        sealed[position] ^= change;
        assert!(BARRIER.open(b"key", &sealed).is_err(), "a changed value opened");
    }
});
