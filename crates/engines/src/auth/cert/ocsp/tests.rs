//! Answers, right and wrong in each way: what counts, and what does not whoever sends it.

use daypass_idp::responder::{OcspAnswer, OcspResponder, OcspStatus, cert_id_of, der, nonce_of};
use daypass_sdk::Timestamp;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SigningKey};

use super::super::tests::{Ca, NOW, moment};
use super::super::trusted::Origin;
use super::signer::Signer;
use super::verify::{Question, Told, Trouble, Trust, judge};
use super::wire::{Status, question};
use crate::hash::sha256;

const NONCE: &[u8] = &[9; 32];
const SERIAL: &[u8] = &[7];

/// An authority whose certificate number 7 is asked about.
struct Case {
    ca: Ca,
    issuer: Signer,
    named: Vec<Signer>,
    /// A revocation list names the responder.
    revoked: bool,
}

fn seconds(later: i64) -> Timestamp {
    Timestamp::from_seconds(NOW + later)
}

impl Case {
    fn new() -> Self {
        let ca = Ca::root("root");
        Self { issuer: Signer::read(&ca.made().der).unwrap(), ca, named: Vec::new(), revoked: false }
    }

    fn request(&self) -> Vec<u8> {
        question(&self.issuer, SERIAL, NONCE)
    }

    /// A good answer, before it is signed.
    fn answer(&self) -> OcspAnswer {
        OcspAnswer::good(&self.request(), seconds(0))
    }

    fn judge_at(&self, bytes: &[u8], now: Timestamp) -> Result<Told, Trouble> {
        let question = Question { issuer: &self.issuer, serial: SERIAL, nonce: NONCE };
        let revoked = |_: &Origin| self.revoked;
        judge(bytes, &question, &Trust { named: &self.named, revoked: &revoked }, now)
    }

    fn judge(&self, bytes: &[u8]) -> Result<Told, Trouble> {
        self.judge_at(bytes, seconds(0))
    }

    /// What comes of this answer, signed by the issuer.
    fn signed(&self, answer: &OcspAnswer) -> Result<Told, Trouble> {
        self.judge(&answer.signed(|bytes| self.ca.sign(bytes)))
    }

    #[track_caller]
    fn refuses(&self, answer: &OcspAnswer, why: &str) {
        wrong(&self.signed(answer), why);
    }

    /// An answer by a responder with a certificate that `ca` made.
    fn by_delegate(&self, ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Result<Told, Trouble> {
        let key = KeyPair::generate().unwrap();
        let certificate = ca.issue_for(&key, "responder", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
            change(params);
        });
        let name = Signer::read(&certificate.der).unwrap().name;
        let answer = OcspAnswer { responder: OcspResponder::Name(name), certificates: vec![certificate.der], ..self.answer() };
        self.judge(&answer.signed(|bytes| key.sign(bytes).unwrap()))
    }
}

#[track_caller]
fn wrong(outcome: &Result<Told, Trouble>, why: &str) {
    assert!(matches!(outcome, Err(Trouble::Wrong(text)) if text.contains(why)), "{why:?} was expected, not {outcome:?}");
}

fn is_good(outcome: &Result<Told, Trouble>) -> bool {
    matches!(outcome, Ok(Told { status: Status::Good, .. }))
}

#[test]
fn the_issuer_itself_says_what_a_certificate_is() {
    let case = Case::new();
    for (status, read) in [(OcspStatus::Good, Status::Good), (OcspStatus::Revoked, Status::Revoked), (OcspStatus::Unknown, Status::Unknown)]
    {
        let told = case.signed(&OcspAnswer { status, ..case.answer() }).unwrap();
        assert_eq!(told, Told { status: read, this_update: seconds(0), next_update: Some(seconds(3_600)) });
    }
    let by_name = OcspAnswer { responder: OcspResponder::Name(case.issuer.name.clone()), ..case.answer() };
    assert!(is_good(&case.signed(&by_name)));
}

#[test]
fn an_answer_about_another_certificate_is_none() {
    let case = Case::new();
    let other = Ca::root("root");
    let elsewhere = Signer::read(&other.made().der).unwrap();
    let mut renamed = case.issuer.clone();
    renamed.name = Signer::read(&Ca::root("elsewhere").made().der).unwrap().name;
    for request in [
        question(&case.issuer, &[8], NONCE),
        question(&case.issuer, &[0, 7], NONCE),
        question(&elsewhere, SERIAL, NONCE),
        question(&renamed, SERIAL, NONCE),
    ] {
        let cert_id = cert_id_of(&request);
        case.refuses(&OcspAnswer { cert_id, ..case.answer() }, "about another certificate");
    }
    let twice = OcspAnswer { others: vec![(case.answer().cert_id, OcspStatus::Revoked)], ..case.answer() };
    case.refuses(&twice, "twice");
    let more = OcspAnswer { others: vec![(cert_id_of(&question(&case.issuer, &[8], NONCE)), OcspStatus::Revoked)], ..case.answer() };
    assert!(is_good(&case.signed(&more)), "what is said of others does not matter");
}

#[test]
fn an_issuer_may_be_named_by_sha_256() {
    let case = Case::new();
    let algorithm = der(0x30, &[&der(0x06, &[&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01]])]);
    let (name, key) = (sha256(&case.issuer.name), sha256(&case.issuer.key));
    let id = |key: &[u8]| der(0x30, &[&algorithm, &der(0x04, &[&name]), &der(0x04, &[key]), &der(0x02, &[SERIAL])]);
    assert!(is_good(&case.signed(&OcspAnswer { cert_id: id(&key), ..case.answer() })));
    case.refuses(&OcspAnswer { cert_id: id(&name), ..case.answer() }, "about another certificate");
}

#[test]
fn an_answer_that_somebody_else_signed_is_none() {
    let case = Case::new();
    let (answer, stranger) = (case.answer(), Ca::root("root"));
    wrong(&case.judge(&answer.signed(|bytes| stranger.sign(bytes))), "not signed by the issuer");
    wrong(&case.judge(&answer.signed(|_| Vec::new())), "not signed by the issuer");
    // Whoever says to be somebody else, with a signature of the issuer's, is not believed either.
    case.refuses(&OcspAnswer { responder: OcspResponder::Key(vec![0; 20]), ..case.answer() }, "not signed by the issuer");
    // The issuer's certificate may come along, the stranger's helps nobody.
    let with = |certificate: Vec<u8>| OcspAnswer { certificates: vec![certificate], ..case.answer() };
    assert!(is_good(&case.signed(&with(case.ca.made().der))));
    wrong(&case.judge(&with(stranger.made().der).signed(|bytes| stranger.sign(bytes))), "not signed by the issuer");
}

#[test]
fn a_signature_with_sha_1_counts_for_nothing() {
    let case = Case::new();
    // 1.2.840.10045.4.1
    let algorithm = vec![0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    case.refuses(&OcspAnswer { algorithm, ..case.answer() }, "not signed by the issuer");
}

#[test]
fn a_responder_answers_whom_the_issuer_let() {
    let mut case = Case::new();
    assert!(is_good(&case.by_delegate(&case.ca, |_| {})));
    wrong(&case.by_delegate(&case.ca, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), "is not for OCSP");
    wrong(&case.by_delegate(&case.ca, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]), "is not for OCSP");
    wrong(&case.by_delegate(&case.ca, |params| params.extended_key_usages = Vec::new()), "is not for OCSP");
    wrong(&case.by_delegate(&case.ca, |params| params.not_after = moment(-1)), "not valid now");
    wrong(&case.by_delegate(&case.ca, |params| params.not_before = moment(1)), "not valid now");
    wrong(&case.by_delegate(&case.ca, |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]), "key usage");
    assert!(is_good(&case.by_delegate(&case.ca, |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature])));
    wrong(&case.by_delegate(&Ca::root("root"), |_| {}), "is not the issuer's");
    wrong(&case.by_delegate(&Ca::root("elsewhere"), |_| {}), "is not the issuer's");
    // An authority below the issuer may not pass the right on.
    wrong(&case.by_delegate(&case.ca.below("below", |_| {}), |_| {}), "is not the issuer's");
    wrong(&case.by_delegate(&case.ca, super::super::tests::numbered(7)), "answers for itself");
    case.revoked = true;
    wrong(&case.by_delegate(&case.ca, |_| {}), "was revoked");
}

#[test]
fn whom_the_operator_named_may_answer() {
    let mut case = Case::new();
    let (authority, plain) = (Ca::root("ocsp"), KeyPair::generate().unwrap());
    let responder = authority.issue_for(&plain, "responder", |_| {});
    let signed = |case: &Case| {
        let responder = OcspResponder::Name(Signer::read(&responder.der).unwrap().name);
        case.judge(&OcspAnswer { responder, ..case.answer() }.signed(|bytes| plain.sign(bytes).unwrap()))
    };
    wrong(&signed(&case), "not signed by the issuer");
    case.named = vec![Signer::read(&responder.der).unwrap()];
    assert!(is_good(&signed(&case)), "a responder that is named itself");
    wrong(&case.by_delegate(&authority, |_| {}), "is not the issuer's");
    case.named = vec![Signer::read(&authority.made().der).unwrap()];
    assert!(is_good(&case.by_delegate(&authority, |_| {})), "a responder of an authority that is named");
    wrong(&case.by_delegate(&authority, |params| params.extended_key_usages = Vec::new()), "is not for OCSP");
    wrong(&signed(&case), "not signed by the issuer");
    let old = Ca::root_with("old", |params| params.not_after = moment(-1));
    case.named = vec![Signer::read(&old.made().der).unwrap()];
    wrong(&case.by_delegate(&old, |_| {}), "is not the issuer's");
}

#[test]
fn an_answer_counts_while_it_says_so() {
    let case = Case::new();
    let bytes = case.answer().signed(|bytes| case.ca.sign(bytes));
    assert!(is_good(&case.judge_at(&bytes, seconds(3_599))));
    wrong(&case.judge_at(&bytes, seconds(3_600)), "out of date");
    assert!(is_good(&case.judge_at(&bytes, seconds(-300))), "clocks differ a little");
    wrong(&case.judge_at(&bytes, seconds(-301)), "of the future");
    case.refuses(&OcspAnswer { produced: seconds(301), ..case.answer() }, "of the future");
    case.refuses(&OcspAnswer { this_update: seconds(200), next_update: Some(seconds(100)), ..case.answer() }, "out of date");
    // One without an end would be good for ever, were it repeated.
    let open = OcspAnswer { next_update: None, ..case.answer() };
    let bytes = open.signed(|bytes| case.ca.sign(bytes));
    assert!(is_good(&case.judge_at(&bytes, seconds(86_400))));
    wrong(&case.judge_at(&bytes, seconds(86_401)), "over a day old");
    let repeats = OcspAnswer { nonce: Some(NONCE.to_vec()), this_update: seconds(-90_000), ..open };
    assert!(is_good(&case.signed(&repeats)), "it was made for this question");
}

#[test]
fn a_nonce_is_repeated_or_left_out() {
    let case = Case::new();
    assert_eq!(nonce_of(&case.request()), NONCE);
    assert!(is_good(&case.signed(&OcspAnswer { nonce: Some(NONCE.to_vec()), ..case.answer() })));
    for nonce in [vec![8; 32], vec![9; 31], Vec::new()] {
        case.refuses(&OcspAnswer { nonce: Some(nonce), ..case.answer() }, "the nonce differs");
    }
}

#[test]
fn who_answers_nothing_says_why() {
    let case = Case::new();
    for (code, text) in [(2, "internalError"), (3, "tryLater")] {
        let outcome = case.judge(&OcspAnswer::excuse(code));
        assert!(matches!(&outcome, Err(Trouble::Busy(why)) if why.contains(text)), "{outcome:?}");
    }
    for (code, text) in [(1, "malformedRequest"), (5, "sigRequired"), (6, "unauthorized")] {
        let outcome = case.judge(&OcspAnswer::excuse(code));
        assert!(matches!(&outcome, Err(Trouble::Excused(why)) if why.contains(text)), "{outcome:?}");
    }
    for code in [0, 4, 7] {
        wrong(&case.judge(&OcspAnswer::excuse(code)), "cannot be read");
    }
}

#[test]
fn what_is_no_answer_is_refused_wherever_it_breaks() {
    let case = Case::new();
    let whole = OcspAnswer { nonce: Some(NONCE.to_vec()), certificates: vec![case.ca.made().der], ..case.answer() }
        .signed(|bytes| case.ca.sign(bytes));
    assert!(is_good(&case.judge(&whole)));
    for length in 0..whole.len() {
        wrong(&case.judge(&whole[..length]), "cannot be read");
    }
    wrong(&case.judge(&[whole.as_slice(), &[0]].concat()), "cannot be read");
    wrong(&case.judge(b"<html>not found</html>"), "cannot be read");
    wrong(&case.judge(&vec![0x30; 64 * 1024 + 1]), "longer than an answer may be");
    let certificates = vec![case.ca.made().der; 9];
    case.refuses(&OcspAnswer { certificates, ..case.answer() }, "more certificates");
    let others = vec![(case.answer().cert_id, OcspStatus::Good); 64];
    case.refuses(&OcspAnswer { others, ..case.answer() }, "more certificates");
    // No bit of what is signed can be turned. Certificates that come along are not signed, nor needed here.
    let end = whole.len() - case.ca.made().der.len() - 8;
    for place in 0..end {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        let outcome = case.judge(&bytes);
        assert!(!matches!(outcome, Ok(Told { status: Status::Revoked | Status::Unknown, .. })), "{place}: {outcome:?}");
        assert!(!is_good(&outcome), "{place}: {outcome:?}");
    }
}
