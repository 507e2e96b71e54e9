use std::io::Read;

use daypass_base::sim::SeededEntropy;
use pgp::composed::{EncryptionCaps, KeyType, Message, SecretKeyParamsBuilder, SignedSecretKey, SubkeyParamsBuilder};
use pgp::crypto::ecc_curve::ECCCurve;
use pgp::ser::Serialize;
use pgp::types::{KeyVersion, Password};

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn entropy(seed: u64) -> SeededEntropy {
    SeededEntropy::new(seed)
}

fn made_at() -> pgp::types::Timestamp {
    // The library signs with the time of this machine, which may be before or after the simulated one: keys are made long ago.
    pgp::types::Timestamp::from_secs(1_600_000_000)
}

/// A pair of keys: what signs, what encrypts.
fn pair(signing: KeyType, encrypting: Option<KeyType>, version: KeyVersion) -> SignedSecretKey {
    let entropy = entropy(7);
    let mut params = SecretKeyParamsBuilder::default();
    params.version(version).key_type(signing).can_certify(true).can_sign(true).created_at(made_at());
    params.primary_user_id("Holder <holder@example.com>".into());
    if let Some(encrypting) = encrypting {
        let subkey = SubkeyParamsBuilder::default()
            .version(version)
            .key_type(encrypting)
            .can_encrypt(EncryptionCaps::All)
            .created_at(made_at())
            .build()
            .unwrap();
        params.subkey(subkey);
    }
    params.build().unwrap().generate(Chance(&entropy)).unwrap()
}

fn public(secret: &SignedSecretKey) -> Vec<u8> {
    secret.to_public_key().to_bytes().unwrap()
}

fn later() -> Timestamp {
    // After whatever time this machine shows.
    Timestamp::from_seconds(4_000_000_000)
}

fn decrypted(message: &[u8], secret: &SignedSecretKey) -> String {
    let message = Message::from_bytes(message).unwrap();
    let mut message = message.decrypt(&Password::empty(), secret).unwrap();
    let mut out = String::new();
    message.read_to_string(&mut out).unwrap();
    out
}

#[test]
fn only_the_holder_reads_what_was_encrypted_whatever_kind_the_key_is() {
    let kinds = [
        (KeyType::Ed25519Legacy, KeyType::ECDH(ECCCurve::Curve25519Legacy), KeyVersion::V4),
        (KeyType::Ed25519, KeyType::X25519, KeyVersion::V4),
        (KeyType::ECDSA(ECCCurve::P256), KeyType::ECDH(ECCCurve::P256), KeyVersion::V4),
        (KeyType::ECDSA(ECCCurve::P384), KeyType::ECDH(ECCCurve::P384), KeyVersion::V4),
        (KeyType::ECDSA(ECCCurve::P521), KeyType::ECDH(ECCCurve::P521), KeyVersion::V4),
        (KeyType::Ed448, KeyType::X448, KeyVersion::V4),
        (KeyType::Ed25519, KeyType::X25519, KeyVersion::V6),
    ];
    for (signing, encrypting, version) in kinds {
        let secret = pair(signing, Some(encrypting), version);
        let text = BASE64.encode(&public(&secret));
        let recipient = Recipient::parse(&text, later()).unwrap();
        assert_eq!(recipient.fingerprint(), HEXLOWER.encode(secret.fingerprint().as_bytes()));
        let share = Secret::new("6bb2d1ea2d4c9a1d90ab4a".repeat(3));
        let message = recipient.encrypt(&share, &entropy(3), NOW).unwrap();
        assert_eq!(&decrypted(&message, &secret), share.expose());
        // A second message of the same text is another: nothing is reused.
        assert_ne!(recipient.encrypt(&share, &entropy(4), NOW).unwrap(), message);
        let stranger = pair(KeyType::Ed25519, Some(KeyType::X25519), version);
        let opened = Message::from_bytes(&message[..]).unwrap().decrypt(&Password::empty(), &stranger);
        assert!(opened.is_err() || stranger.fingerprint() == secret.fingerprint());
    }
}

#[test]
fn what_is_no_public_key_is_refused_with_the_reason() {
    let secret = pair(KeyType::Ed25519, Some(KeyType::X25519), KeyVersion::V4);
    let public = public(&secret);
    let refused = |bytes: &[u8]| Recipient::from_bytes(bytes, later()).unwrap_err().to_string();
    assert!(refused(&[]).ends_with("it is empty"));
    assert!(refused(b"hello").contains("tag byte does not have MSB set"));
    assert!(refused(&secret.to_bytes().unwrap()).contains("it is a secret key"));
    assert!(refused(&[public.as_slice(), &public].concat()).contains("more follows after the first key"));
    assert!(refused(&vec![0x99; KEY_BYTES_MAX + 1]).contains("over the limit of 65536"));
    for cut in 1..public.len() {
        assert!(Recipient::from_bytes(&public[..cut], later()).is_err(), "cut at {cut}");
    }
    assert_eq!(
        Recipient::parse("short", later()).unwrap_err().to_string(),
        "error decoding given PGP key: illegal base64 data at input byte 4"
    );
}

#[test]
fn a_key_that_does_not_encrypt_is_refused() {
    let secret = pair(KeyType::Ed25519, None, KeyVersion::V4);
    let error = Recipient::from_bytes(&public(&secret), later()).unwrap_err();
    assert!(matches!(error, PgpError::Unusable { why: Unusable::NoEncryption, .. }), "{error}");
    assert!(error.to_string().contains(&HEXLOWER.encode(secret.fingerprint().as_bytes())));
}

#[test]
fn a_key_from_the_future_is_refused() {
    let secret = pair(KeyType::Ed25519, Some(KeyType::X25519), KeyVersion::V4);
    let error = Recipient::from_bytes(&public(&secret), Timestamp::from_seconds(1_500_000_000)).unwrap_err();
    assert!(matches!(error, PgpError::Unusable { why: Unusable::NotYet, .. }), "{error}");
}

#[test]
fn a_changed_byte_of_a_signature_takes_the_key_out() {
    let secret = pair(KeyType::Ed25519, Some(KeyType::X25519), KeyVersion::V4);
    let public = public(&secret);
    let last = public.len() - 1;
    let mut broken = public.clone();
    broken[last] ^= 1;
    assert!(Recipient::from_bytes(&broken, later()).is_err());
    assert!(Recipient::from_bytes(&public, later()).is_ok());
}

#[test]
fn a_file_is_read_in_each_of_its_forms() {
    let secret = pair(KeyType::Ed25519, Some(KeyType::X25519), KeyVersion::V4);
    let bytes = public(&secret);
    let base64 = BASE64.encode(&bytes);
    let armoured = secret.to_public_key().to_armored_string(pgp::composed::ArmorOptions::default()).unwrap();
    assert_eq!(base64_of_file(&bytes).unwrap(), base64);
    assert_eq!(base64_of_file(format!("{base64}\n").as_bytes()).unwrap(), base64);
    assert_eq!(base64_of_file(armoured.as_bytes()).unwrap(), base64);
    assert!(matches!(base64_of_file(armoured.repeat(2).as_bytes()), Err(ArmorError::Several)));
    assert!(matches!(base64_of_file(b" \n"), Err(ArmorError::Empty)));
    assert!(matches!(base64_of_file(&vec![b'x'; 200_000]), Err(ArmorError::TooLarge(200_000))));
}

#[test]
fn a_text_longer_than_shares_and_tokens_is_refused() {
    let secret = pair(KeyType::Ed25519, Some(KeyType::X25519), KeyVersion::V4);
    let recipient = Recipient::from_bytes(&public(&secret), later()).unwrap();
    let longest = Secret::new("x".repeat(180));
    assert_eq!(&decrypted(&recipient.encrypt(&longest, &entropy(1), NOW).unwrap(), &secret), longest.expose());
    assert!(matches!(recipient.encrypt(&Secret::new("x".repeat(181)), &entropy(1), NOW), Err(PgpError::PlainTooLong(181))));
}

// Keys that GnuPG made, on 2026-01-01 by its clock.
const ADA: &[u8] = include_bytes!("tests/ada.asc");
const JUNE: Timestamp = Timestamp::from_seconds(1_780_272_000);

fn judged(file: &[u8], now: Timestamp) -> Result<Recipient, PgpError> {
    Recipient::parse(&base64_of_file(file).unwrap(), now)
}

#[test]
fn holders_with_keys_of_gnupg_read_their_shares() {
    let secrets: [(&[u8], &str); 2] =
        [(ADA, include_str!("tests/ada.sec.asc")), (include_bytes!("tests/bob.asc"), include_str!("tests/bob.sec.asc"))];
    for (public, secret) in secrets {
        let (secret, _) = SignedSecretKey::from_string(secret).unwrap();
        let recipient = judged(public, JUNE).unwrap();
        let message = recipient.encrypt(&Secret::new("a share".to_owned()), &entropy(1), JUNE).unwrap();
        assert_eq!(decrypted(&message, &secret), "a share");
    }
    assert_eq!(judged(ADA, JUNE).unwrap().fingerprint(), "0416869cc51eb7777c9fc2cceeabcb0deed5eed3");
}

#[test]
fn a_key_counts_while_it_is_in_force_and_no_longer() {
    type Case = (&'static [u8], Option<Unusable>);
    let cases: [Case; 10] = [
        (include_bytes!("tests/expired.asc"), Some(Unusable::Expired)),
        (include_bytes!("tests/extended.asc"), None),
        (include_bytes!("tests/expired-subkey.asc"), Some(Unusable::NoneInForce)),
        (include_bytes!("tests/second-subkey.asc"), None),
        (include_bytes!("tests/no-encryption.asc"), Some(Unusable::NoEncryption)),
        (include_bytes!("tests/weak.asc"), Some(Unusable::NoneInForce)),
        (include_bytes!("tests/dsa.asc"), Some(Unusable::Algorithm)),
        (include_bytes!("tests/revoked.asc"), Some(Unusable::Revoked)),
        (include_bytes!("tests/revoked-subkey.asc"), Some(Unusable::NoneInForce)),
        (include_bytes!("tests/primary-encrypts.asc"), None),
    ];
    for (index, (file, wanted)) in cases.into_iter().enumerate() {
        let why = match judged(file, JUNE) {
            Ok(_) => None,
            Err(PgpError::Unusable { why, .. }) => Some(why),
            Err(other) => panic!("case {index}: {other}"),
        };
        assert_eq!(why, wanted, "case {index}");
    }
    let january = Timestamp::from_seconds(1_768_000_000);
    assert!(judged(include_bytes!("tests/expired.asc"), january).is_ok(), "it had not expired then");
    assert!(matches!(judged(ADA, Timestamp::from_seconds(1_700_000_000)), Err(PgpError::Unusable { why: Unusable::NotYet, .. })));
}

#[test]
fn the_newest_subkey_in_force_is_encrypted_to_and_the_key_itself_where_it_says_so() {
    let second = judged(include_bytes!("tests/second-subkey.asc"), JUNE).unwrap();
    assert_eq!(second.part, choice::Part::Subkey(1));
    assert_eq!(judged(include_bytes!("tests/primary-encrypts.asc"), JUNE).unwrap().part, choice::Part::Primary);
}

/// A key, and the user id that is in it.
fn holder() -> (pgp::composed::SignedPublicKey, pgp::types::SignedUser) {
    let key = pair(KeyType::Ed25519, Some(KeyType::X25519), KeyVersion::V4).to_public_key();
    let user = key.details.users.first().unwrap().clone();
    (key, user)
}

/// Why it is not taken, if it is not.
fn why_not(key: &pgp::composed::SignedPublicKey) -> Option<Unusable> {
    match Recipient::from_bytes(&key.to_bytes().unwrap(), later()) {
        Ok(_) => None,
        Err(PgpError::Unusable { why, .. }) => Some(why),
        Err(other) => panic!("{other}"),
    }
}

/// Story: whoever starts a rekey needs no token, and each signature costs a millisecond. Now they are counted, of a key and of all keys of a request.
#[test]
fn a_flood_of_signatures_is_not_checked() {
    let (mut key, user) = holder();
    key.details.users = vec![user.clone(); 20];
    let bytes = key.to_bytes().unwrap();
    let mut reader = KeyReader { now: later(), checks: 50 };
    for _ in 0..2 {
        reader.read_bytes(&bytes).unwrap();
    }
    let error = reader.read_bytes(&bytes).unwrap_err();
    assert!(matches!(error, PgpError::Unusable { why: Unusable::OthersSignatures, .. }), "{error}");
    key.details.users = vec![user; 70];
    assert_eq!(why_not(&key), Some(Unusable::Signatures));
}

/// Story: wrong signatures cost nothing to make and as much to check as right ones.
#[test]
fn a_key_with_many_wrong_signatures_is_given_up() {
    let (mut key, user) = holder();
    let good = user.signatures.first().unwrap();
    let mut broken = good.to_bytes().unwrap();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let broken = pgp::packet::Signature::try_from_reader(*good.packet_header(), &broken[..]).unwrap();
    for (wrong, wanted) in [(8, None), (9, Some(Unusable::WrongSignatures))] {
        key.details.users.first_mut().unwrap().signatures = [vec![broken.clone(); wrong], vec![good.clone()]].concat();
        assert_eq!(why_not(&key), wanted);
    }
}

/// Story: checking one signature of an RSA key of 8192 bits with a large exponent took four milliseconds, and it may have 64.
#[test]
fn rsa_keys_of_more_than_4096_bits_are_refused_unchecked() {
    let key = |bytes: u16| {
        let number = [&(bytes * 8).to_be_bytes()[..], &vec![0xff; usize::from(bytes)], &[0, 17, 1, 0, 1]].concat();
        let body = [&[4, 0x5f, 0, 0, 0, 1][..], &number].concat();
        [&[0x99][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body, &[0xb4, 1, b'a']].concat()
    };
    let why = |bytes| match Recipient::from_bytes(&key(bytes), JUNE) {
        Err(PgpError::Unusable { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(1024), Unusable::TooLong(8192));
    assert_eq!(why(512), Unusable::SelfSignature, "of 4096 bits, which nobody signed");
}

/// Story: the library's words for a key that it could not read reached strangers: names of its types, and where the environment asked for backtraces
/// one of those.
#[test]
fn a_damaged_key_is_refused_in_words_of_our_own() {
    let error = Recipient::from_bytes(&[0x99, 1, 0, 4], JUNE).unwrap_err();
    let text = "error parsing given PGP key: openpgp: invalid data: it is damaged, or of a kind that is not read here; export it again";
    assert_eq!(error.to_string(), text);
    assert!(std::error::Error::source(&error).is_some(), "the log has the reason");
}
