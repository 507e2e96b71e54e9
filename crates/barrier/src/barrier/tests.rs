use std::collections::HashSet;

use daypass_base::sim::SeededEntropy;
use proptest::prelude::*;

use super::*;

fn barrier(seed: u64) -> Barrier {
    let entropy = Arc::new(SeededEntropy::new(seed));
    let keyring = Keyring::generate(&*entropy, Timestamp::from_seconds(1));
    let root = RootKey::generate(&*entropy);
    Barrier::new(keyring, root, entropy).unwrap()
}

fn rotate(barrier: &Barrier) -> Vec<u8> {
    let rotation = barrier.rotate(Timestamp::from_seconds(9)).unwrap();
    let sealed = rotation.sealed().to_vec();
    barrier.install(rotation).unwrap();
    sealed
}

#[test]
fn sealed_form_is_version_term_nonce_text_and_tag() {
    let barrier = barrier(1);
    let sealed = barrier.seal(b"kv/a", b"hello").unwrap();
    assert_eq!(sealed.len(), VALUE_OVERHEAD + 5);
    assert_eq!(sealed[..5], [1, 0, 0, 0, 1]);
    assert_eq!(barrier.open(b"kv/a", &sealed).unwrap().as_slice(), b"hello");
    assert_eq!(sealed.capacity(), sealed.len(), "one allocation of the right size");
}

#[test]
fn a_moved_row_does_not_open() {
    let barrier = barrier(2);
    let (left, right) = (barrier.seal(b"kv/a", b"left").unwrap(), barrier.seal(b"kv/b", b"right").unwrap());
    assert_eq!(barrier.open(b"kv/a", &right), Err(OpenError::NotAuthentic));
    assert_eq!(barrier.open(b"kv/b", &left), Err(OpenError::NotAuthentic));
}

#[test]
fn each_way_of_being_wrong_has_its_own_error() {
    let barrier = barrier(3);
    let sealed = barrier.seal(b"k", b"value").unwrap();
    assert_eq!(barrier.open(b"k", &[]), Err(OpenError::Truncated(0)));
    assert_eq!(barrier.open(b"k", &sealed[..VALUE_OVERHEAD - 1]), Err(OpenError::Truncated(VALUE_OVERHEAD - 1)));
    assert_eq!(barrier.open(b"k", &sealed[..VALUE_OVERHEAD]), Err(OpenError::NotAuthentic));
    let with = |at: usize, byte: u8| {
        let mut bytes = sealed.clone();
        bytes[at] = byte;
        barrier.open(b"k", &bytes).unwrap_err()
    };
    assert_eq!(with(0, 7), OpenError::UnknownFormat(7));
    assert_eq!(with(4, 2), OpenError::UnknownTerm(2));
    assert_eq!(barrier.seal(b"k", &vec![0; VALUE_BYTES_MAX + 1]), Err(SealError::TooLong(VALUE_BYTES_MAX + 1)));
}

#[test]
fn tokens_and_values_are_never_taken_for_each_other() {
    let barrier = barrier(4);
    let token = barrier.seal_token(b"content").unwrap();
    assert_eq!(barrier.open_token(&token).unwrap().as_slice(), b"content");
    assert_eq!(barrier.open(TOKEN_AAD, &token), Err(OpenError::NotAuthentic));
    let value = barrier.seal(TOKEN_AAD, b"content").unwrap();
    assert_eq!(barrier.open_token(&value), Err(OpenError::NotAuthentic));
    let root = barrier.seal_root(&barrier.root()).unwrap();
    assert_eq!(barrier.open(ROOT_AAD, &root), Err(OpenError::NotAuthentic));
}

#[test]
fn rotation_takes_effect_when_installed_and_old_values_stay_readable() {
    let barrier = barrier(5);
    let old = barrier.seal(b"k", b"old").unwrap();
    let rotation = barrier.rotate(Timestamp::from_seconds(5)).unwrap();
    assert_eq!((rotation.term(), barrier.status().term), (2, 1));
    barrier.install(rotation).unwrap();
    assert_eq!(barrier.status(), TermStatus { term: 2, installed: Timestamp::from_seconds(5), encryptions: 0 });
    let new = barrier.seal(b"k", b"new").unwrap();
    assert_eq!(new[..5], [1, 0, 0, 0, 2]);
    assert_eq!(barrier.open(b"k", &old).unwrap().as_slice(), b"old");
    assert_eq!(barrier.open(b"k", &new).unwrap().as_slice(), b"new");
}

#[test]
fn a_dropped_rotation_leaves_no_trace_and_a_stale_one_is_refused() {
    let barrier = barrier(6);
    drop(barrier.rotate(Timestamp::default()).unwrap());
    let (first, second) = (barrier.rotate(Timestamp::default()).unwrap(), barrier.rotate(Timestamp::default()).unwrap());
    barrier.install(first).unwrap();
    assert_eq!(barrier.install(second), Err(InstallError::Stale));
    assert_eq!(barrier.status().term, 2);
}

/// Story: the sums of a snapshot were sealed under a key that was made while the state was exported, which the state itself lacks.
#[test]
fn frozen_keys_are_those_of_their_moment() {
    let barrier = barrier(8);
    rotate(&barrier);
    let (frozen, stored) = (barrier.frozen().unwrap(), barrier.sealed_keyring().unwrap());
    rotate(&barrier);
    let sealed = frozen.seal(b"k", b"sums").unwrap();
    assert_eq!((frozen.status().term, barrier.status().term), (2, 3));
    for keys in [barrier.reopen(&stored).unwrap(), barrier] {
        assert_eq!(keys.open(b"k", &sealed).unwrap().as_slice(), b"sums");
    }
}

#[test]
fn another_node_follows_a_rotation_and_a_rekey() {
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(7));
    let here = barrier(7);
    let stored = here.sealed_keyring().unwrap();
    let there = Barrier::open_keyring(&stored, here.root(), entropy).unwrap();
    let rotated = rotate(&here);
    let value = here.seal(b"k", b"v").unwrap();
    assert_eq!(there.open(b"k", &value), Err(OpenError::UnknownTerm(2)));
    there.reload(&rotated, None).unwrap();
    assert_eq!(there.open(b"k", &value).unwrap().as_slice(), b"v");
    assert_eq!(there.reload(&stored, None), Err(InstallError::Stale), "an older keyring never replaces a newer one");

    let newer = RootKey::generate(here.entropy());
    let for_peers = here.seal_root(&newer).unwrap();
    here.adopt_root(newer);
    let rekeyed = here.sealed_keyring().unwrap();
    assert_eq!(there.reload(&rekeyed, None), Err(InstallError::Keyring(KeyringError::NotAuthentic)));
    there.reload(&rekeyed, Some(&for_peers)).unwrap();
    there.reload(&rotate(&here), None).unwrap();
    assert_eq!(there.status().term, 3);
}

#[test]
fn encryptions_are_counted_over_restart_and_stop_at_the_limit() {
    let barrier = barrier(8);
    for _ in 0..9 {
        barrier.seal(b"k", b"v").unwrap();
    }
    barrier.seal_token(b"t").unwrap();
    assert_eq!(barrier.encryptions(), 10);
    assert!(barrier.wants_rotation(10) && !barrier.wants_rotation(11));
    let stored = barrier.sealed_keyring().unwrap();
    let again = Barrier::open_keyring(&stored, barrier.root(), Arc::new(SeededEntropy::new(1))).unwrap();
    assert_eq!(again.encryptions(), 10);

    again.0.keys.load().newest.encryptions.store(ENCRYPTIONS_MAX, Ordering::Relaxed);
    assert_eq!(again.seal(b"k", b"v"), Err(SealError::Exhausted(1)));
    assert!(again.wants_rotation(u64::MAX));
    rotate(&again);
    again.seal(b"k", b"v").unwrap();
}

#[test]
fn macs_differ_by_purpose_and_survive_rotation() {
    let barrier = barrier(9);
    let all = || Purpose::ALL.map(|purpose| barrier.mac(purpose, b"message"));
    let before = all();
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), Purpose::ALL.len());
    rotate(&barrier);
    assert_eq!(all(), before);
    assert!(barrier.verify_mac(Purpose::Token, b"message", &barrier.mac(Purpose::Token, b"message")));
    assert!(!barrier.verify_mac(Purpose::Accessor, b"message", &barrier.mac(Purpose::Token, b"message")));
    assert!(!barrier.verify_mac(Purpose::Token, b"message", b"short"));
}

#[test]
fn threads_seal_open_and_rotate_at_once() {
    let barrier = barrier(10);
    std::thread::scope(|scope| {
        for thread in 0_u8..4 {
            let barrier = barrier.clone();
            scope.spawn(move || {
                for round in 0_u8..200 {
                    let sealed = barrier.seal(&[thread], &[round]).unwrap();
                    assert_eq!(barrier.open(&[thread], &sealed).unwrap().as_slice(), [round]);
                }
            });
        }
        for _ in 0..20 {
            rotate(&barrier);
        }
    });
    let keyring = barrier.keyring();
    assert_eq!(keyring.terms().iter().map(|term| term.encryptions).sum::<u64>(), 800, "no encryption goes uncounted");
}

proptest! {
    #[test]
    fn any_value_survives(aad in proptest::collection::vec(any::<u8>(), 0..40), plain in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let barrier = barrier(11);
        let sealed = barrier.seal(&aad, &plain).unwrap();
        let opened = barrier.open(&aad, &sealed).unwrap();
        prop_assert_eq!(opened.as_slice(), plain.as_slice());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_seen(
        aad in proptest::collection::vec(any::<u8>(), 1..40), plain in proptest::collection::vec(any::<u8>(), 0..200), at: usize, bit in 0_u8..8,
    ) {
        let barrier = barrier(12);
        rotate(&barrier);
        rotate(&barrier);
        let sealed = barrier.seal(&aad, &plain).unwrap();
        let mut changed = sealed.clone();
        let index = at % changed.len();
        changed[index] ^= 1 << bit;
        prop_assert!(barrier.open(&aad, &changed).is_err());
        let mut moved = aad.clone();
        let index = at % moved.len();
        moved[index] ^= 1 << bit;
        prop_assert_eq!(barrier.open(&moved, &sealed), Err(OpenError::NotAuthentic));
    }

    #[test]
    fn bytes_from_anywhere_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let barrier = barrier(13);
        prop_assert!(barrier.open(b"k", &bytes).is_err());
        prop_assert!(barrier.open_token(&bytes).is_err());
        prop_assert!(barrier.reload(&bytes, Some(&bytes)).is_err());
    }
}
