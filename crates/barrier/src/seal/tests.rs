use daypass_base::sim::SeededEntropy;
use proptest::prelude::*;

use super::*;
use crate::rekey::rekey;

fn entropy(seed: u64) -> Arc<dyn Entropy> {
    Arc::new(SeededEntropy::new(seed))
}

fn shamir(shares: i64, threshold: i64, seed: u64) -> Initialised {
    let seal = Seal::Shamir(SealConfig::shamir(shares, threshold).unwrap());
    initialise(&seal, entropy(seed), Timestamp::from_seconds(1)).unwrap()
}

/// Hands in `shares` and returns the last step.
fn submit_all(unsealing: &mut Unsealing, shares: &[Share]) -> Result<Step, UnsealError> {
    let mut last = Ok(Step::Repeated(unsealing.progress()));
    for share in shares {
        last = unsealing.submit(share.clone(), &SeededEntropy::new(99));
    }
    last
}

#[test]
fn configuration_is_checked_with_vaults_texts() {
    let text = |shares, threshold| SealConfig::shamir(shares, threshold).unwrap_err().to_string();
    assert_eq!(text(0, 0), "shares must be at least one");
    assert_eq!(text(-3, 2), "shares must be at least one");
    assert_eq!(text(5, 0), "threshold must be at least one");
    assert_eq!(text(5, 1), "threshold must be greater than one for multiple shares");
    assert_eq!(text(3, 5), "threshold cannot be larger than shares");
    assert_eq!(text(3, i64::MAX), "threshold cannot be larger than shares");
    assert_eq!(text(256, 3), "shares must be less than 256");
    assert!(SealConfig::shamir(1, 1).is_ok() && SealConfig::shamir(255, 255).is_ok());
}

#[test]
fn configuration_survives_json() {
    for config in [SealConfig::shamir(5, 3).unwrap(), SealConfig::key_file()] {
        assert_eq!(SealConfig::from_json(&config.to_json()).unwrap(), config);
    }
    let json = SealConfig::shamir(5, 3).unwrap().to_json();
    assert_eq!(String::from_utf8(json).unwrap(), r#"{"type":"shamir","secret_shares":5,"secret_threshold":3,"stored_shares":1}"#);
    for bad in [
        "",
        "{}",
        r#"{"type":"awskms","secret_shares":1,"secret_threshold":1}"#,
        r#"{"type":"shamir","secret_shares":1,"secret_threshold":2}"#,
    ] {
        assert!(SealConfig::from_json(bad.as_bytes()).is_err());
    }
}

#[test]
fn any_three_of_five_shares_unseal_a_stored_installation() {
    let new = shamir(5, 3, 1);
    let sealed_value = new.barrier.seal(b"k", b"v").unwrap();
    let mut unsealing = Unsealing::new(&new.config, new.sealed_root.clone());
    let Step::Ready(Opened { root, .. }) = submit_all(&mut unsealing, &new.shares[1..4]).unwrap() else { panic!("not ready") };
    let barrier = Barrier::open_keyring(&new.sealed_keyring, root, entropy(2)).unwrap();
    assert_eq!(barrier.open(b"k", &sealed_value).unwrap().as_slice(), b"v");
    assert_eq!(barrier.mac(crate::Purpose::Token, b"t"), new.barrier.mac(crate::Purpose::Token, b"t"));
}

#[test]
fn progress_advances_once_for_each_share_and_names_the_attempt() {
    let new = shamir(5, 3, 3);
    let mut unsealing = Unsealing::new(&new.config, new.sealed_root.clone());
    assert_eq!(unsealing.progress(), Progress { progress: 0, threshold: 3, nonce: String::new() });
    let Step::Progress(first) = submit_all(&mut unsealing, &new.shares[..1]).unwrap() else { panic!("no progress") };
    assert_eq!((first.progress, first.nonce.len()), (1, 36));
    assert_eq!((&first.nonce[14..15], &first.nonce[8..9]), ("4", "-"));
    let Step::Repeated(same) = submit_all(&mut unsealing, &new.shares[..1]).unwrap() else { panic!("taken twice") };
    assert_eq!(same, first);
    let Step::Progress(second) = submit_all(&mut unsealing, &new.shares[4..]).unwrap() else { panic!("no progress") };
    assert_eq!((second.progress, &second.nonce), (2, &first.nonce));
    unsealing.reset();
    assert_eq!(unsealing.progress().progress, 0);
}

#[test]
fn wrong_shares_are_forgotten_together() {
    let (new, other) = (shamir(3, 3, 4), shamir(3, 3, 5));
    let mut unsealing = Unsealing::new(&new.config, new.sealed_root.clone());
    let mixed = [new.shares[0].clone(), new.shares[1].clone(), other.shares[2].clone()];
    let error = submit_all(&mut unsealing, &mixed).unwrap_err();
    // Two shares of different secrets may happen to have the same x, which is told apart.
    assert!(matches!(error, UnsealError::InvalidKey | UnsealError::Combine(ShamirError::DuplicatePart)));
    assert_eq!(UnsealError::InvalidKey.to_string(), "Unseal failed, invalid key");
    assert_eq!(unsealing.progress(), Progress { progress: 0, threshold: 3, nonce: String::new() });
    assert!(matches!(submit_all(&mut unsealing, &new.shares).unwrap(), Step::Ready(_)));
}

/// Story: with two seals stored a wrong share counted for the seal that wants more of them. The right one then came as the second, and nobody tried
/// it where one is enough.
#[test]
fn the_right_share_opens_behind_a_wrong_one_where_two_seals_are_stored() {
    let (old, new, other) = (shamir(3, 3, 6), shamir(3, 2, 7), shamir(3, 2, 8));
    let both = || Unsealing::new(&new.config, new.sealed_root.clone()).or_previous(&old.config, old.sealed_root.clone());
    let alone = shamir(1, 1, 9);
    let mut unsealing = Unsealing::new(&alone.config, alone.sealed_root.clone()).or_previous(&old.config, old.sealed_root.clone());
    let wrong_then_right = [other.shares[0].clone(), alone.shares[0].clone()];
    assert!(matches!(submit_all(&mut unsealing, &wrong_then_right).unwrap(), Step::Ready(Opened { under: Under::Current, .. })));
    let wrong_then_right = [other.shares[0].clone(), new.shares[2].clone(), new.shares[0].clone()];
    assert!(matches!(submit_all(&mut both(), &wrong_then_right).unwrap(), Step::Ready(Opened { under: Under::Current, .. })));
    assert!(matches!(submit_all(&mut both(), &old.shares).unwrap(), Step::Ready(Opened { under: Under::Previous, .. })));
    let mut unsealing = both();
    let wrong = [other.shares[0].clone(), new.shares[0].clone(), other.shares[1].clone()];
    assert!(submit_all(&mut unsealing, &wrong).is_err());
    assert_eq!(unsealing.progress().progress, 0, "all of them are forgotten when neither seal can be opened");
}

#[test]
fn lengths_are_refused_with_vaults_texts_and_change_nothing() {
    let new = shamir(3, 2, 6);
    let mut unsealing = Unsealing::new(&new.config, new.sealed_root.clone());
    submit_all(&mut unsealing, &new.shares[..1]).unwrap();
    let mut text = |length| submit_all(&mut unsealing, &[Secret::new(vec![9; length])]).unwrap_err().to_string();
    assert_eq!(text(0), "invalid key: key is shorter than minimum 16 bytes");
    assert_eq!(text(15), "invalid key: key is shorter than minimum 16 bytes");
    assert_eq!(text(34), "invalid key: key is longer than maximum 33 bytes");
    assert_eq!(unsealing.progress().progress, 1);
    let error = submit_all(&mut unsealing, &[Secret::new(vec![9; 20])]).unwrap_err();
    assert_eq!(error.to_string(), "invalid key: failed to compute combined key: all parts must be the same length");
    assert_eq!(unsealing.progress().progress, 0);
}

#[test]
fn a_single_share_is_the_key_itself() {
    let new = shamir(1, 1, 7);
    assert_eq!((new.shares.len(), new.shares[0].expose().len()), (1, 32));
    let mut unsealing = Unsealing::new(&new.config, new.sealed_root.clone());
    let mut text = |share: Vec<u8>| submit_all(&mut unsealing, &[Secret::new(share)]).unwrap_err().to_string();
    assert_eq!(text(vec![1; 33]), "invalid key: failed to setup unseal key: crypto/aes: invalid key size 33");
    assert_eq!(text(vec![1; 32]), "Unseal failed, invalid key");
    assert!(matches!(submit_all(&mut unsealing, &new.shares).unwrap(), Step::Ready(_)));
}

#[test]
fn a_key_file_unseals_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = KeyFile::at(folder.path().join("key"));
    let seal = Seal::KeyFile(file.clone());
    assert!(matches!(initialise(&seal, entropy(8), Timestamp::default()), Err(SealingError::KeyFile(_))));
    file.create(&*entropy(8)).unwrap();
    let new = initialise(&seal, entropy(9), Timestamp::default()).unwrap();
    assert!(new.shares.is_empty());
    assert_eq!(new.config.seal_type().name(), "keyfile");
    let root = open_root(&new.sealed_root, &file.read().unwrap()).unwrap();
    assert!(Barrier::open_keyring(&new.sealed_keyring, root, entropy(10)).is_ok());
}

#[test]
fn rekeying_leaves_values_and_makes_the_old_shares_worthless() {
    let new = shamir(3, 2, 11);
    let value = new.barrier.seal(b"k", b"v").unwrap();
    let rekeyed = rekey(&new.barrier, &Seal::Shamir(SealConfig::shamir(1, 1).unwrap())).unwrap();
    let (config, sealed_root, sealed_keyring) = (rekeyed.config.clone(), rekeyed.sealed_root.clone(), rekeyed.sealed_keyring.clone());
    let shares = rekeyed.shares.clone();
    rekeyed.adopt(&new.barrier);

    let Step::Ready(Opened { root: old_root, .. }) =
        submit_all(&mut Unsealing::new(&new.config, new.sealed_root.clone()), &new.shares[..2]).unwrap()
    else {
        panic!()
    };
    assert!(Barrier::open_keyring(&sealed_keyring, old_root, entropy(1)).is_err());
    let Step::Ready(Opened { root, .. }) = submit_all(&mut Unsealing::new(&config, sealed_root), &shares).unwrap() else { panic!() };
    let barrier = Barrier::open_keyring(&sealed_keyring, root.clone(), entropy(1)).unwrap();
    assert_eq!(barrier.open(b"k", &value).unwrap().as_slice(), b"v");
    // A rotation after the rekey is stored under the new root key.
    let rotation = new.barrier.rotate(Timestamp::default()).unwrap();
    assert!(Barrier::open_keyring(rotation.sealed(), root, entropy(1)).is_ok());
}

#[test]
fn a_rewrapped_root_key_opens_the_same_keyring() {
    let new = shamir(3, 2, 12);
    let key = SealKey::new(Secret::new([5; 32]));
    let root = open_root(&rewrap(&new.barrier, &key).unwrap(), &key).unwrap();
    assert!(Barrier::open_keyring(&new.sealed_keyring, root, entropy(1)).is_ok());
}

#[test]
fn a_stored_root_key_that_is_none_is_named() {
    let key = SealKey::new(Secret::new([3; 32]));
    assert!(matches!(open_root(&[], &key), Err(UnsealError::NoRootKey(_))));
    assert!(matches!(open_root(&[2; 61], &key), Err(UnsealError::NoRootKey(_))));
    assert!(matches!(open_root(&[1; 61], &key), Err(UnsealError::InvalidKey)));
}

proptest! {
    #[test]
    fn fewer_shares_than_the_threshold_never_open_the_root_key(shares in 2_i64..8, seed: u64) {
        let new = shamir(shares, shares, seed);
        // Someone who changes the stored threshold gets no further.
        let lowered = SealConfig::shamir(shares - 1, (shares - 1).max(1)).unwrap();
        let mut unsealing = Unsealing::new(&lowered, new.sealed_root.clone());
        let few = &new.shares[..new.shares.len() - 1];
        prop_assert!(submit_all(&mut unsealing, few).is_err());
    }

    #[test]
    fn one_flipped_bit_in_the_sealed_root_is_seen(at in 0_usize..61, bit in 0_u8..8) {
        let key = SealKey::new(Secret::new([3; 32]));
        let mut sealed = wrap_root(&RootKey::new(Secret::new([4; 32])), &key, &SeededEntropy::new(1)).unwrap();
        prop_assert_eq!(sealed.len(), 61);
        sealed[at] ^= 1 << bit;
        prop_assert!(open_root(&sealed, &key).is_err());
    }
}
