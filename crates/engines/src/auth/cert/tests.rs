//! The engine by itself, with authorities and certificates made for the test.

use std::sync::Arc;

use daypass_base::ClientChain;
use daypass_idp::ScriptedIdp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, SigningKey,
};
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::Cert;
use crate::testing::{Answer, Bench};

mod attacks;
mod entries;
mod lists;
mod responders;

/// What the simulated clock shows at first.
pub(super) const NOW: i64 = 1_767_323_045;

pub(super) fn moment(days: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap() + Duration::days(days)
}

/// An authority, and certificates from it.
pub(super) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate, with what is needed to show it.
pub(super) struct Made {
    pub(super) der: Vec<u8>,
    pub(super) pem: String,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.remove(DnType::CommonName);
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    (params.not_before, params.not_after) = (moment(-10), moment(100));
    params.use_authority_key_identifier_extension = true;
    params
}

fn of_authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub(super) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(super) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = of_authority(name);
        change(&mut params);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority below this one.
    pub(super) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = of_authority(name);
        change(&mut params);
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// A certificate of a client.
    pub(super) fn issue(&self, name: &str) -> Made {
        self.issue_with(name, |_| {})
    }

    pub(super) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
        self.issue_for(&KeyPair::generate().unwrap(), name, change)
    }

    pub(super) fn issue_for(&self, key: &KeyPair, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let mut params = params(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(key, &self.0).unwrap();
        Made { der: certificate.der().to_vec(), pem: certificate.pem() }
    }

    /// A signature of its key, with ECDSA and SHA-256.
    pub(super) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.key().sign(bytes).unwrap()
    }

    pub(super) fn made(&self) -> Made {
        Made { der: self.0.der().to_vec(), pem: self.0.pem() }
    }

    /// A list in PEM of these serial numbers, good for ten days from `from` days on.
    pub(super) fn list(&self, serials: &[u8], from: i64) -> String {
        let revoked = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from(vec![*serial]),
            revocation_time: moment(from),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: moment(from),
            next_update: moment(from + 10),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A certificate that signed itself and is no authority's.
pub(super) fn alone(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = params(name);
    change(&mut params);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    Made { der: certificate.der().to_vec(), pem: certificate.pem() }
}

pub(super) fn numbered(serial: u8) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.serial_number = Some(SerialNumber::from(vec![serial]))
}

pub(super) struct House {
    pub(super) bench: Bench,
    pub(super) idp: Arc<ScriptedIdp>,
}

impl House {
    pub(super) fn new() -> Self {
        let idp = Arc::new(ScriptedIdp::default());
        Self { bench: Bench::new(Cert::new(Arc::clone(&idp) as Arc<_>), "auth/cert/", "cert"), idp }
    }

    /// A mount that trusts this certificate under the name `ci`.
    pub(super) async fn trusting(trusted: &Made) -> Self {
        let house = Self::new();
        house.trust("ci", trusted, json!({})).await;
        house
    }

    pub(super) async fn trust(&self, name: &str, trusted: &Made, more: Value) {
        let answer = self.try_trust(name, trusted, more).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// With more fields than the usual ones; `null` takes one of those away.
    pub(super) async fn try_trust(&self, name: &str, trusted: &Made, more: Value) -> Answer {
        let mut fields = Map::from_iter([("certificate".to_owned(), json!(trusted.pem)), ("token_policies".to_owned(), json!("ci"))]);
        if let Value::Object(more) = more {
            fields.extend(more);
        }
        fields.retain(|_, value| !value.is_null());
        self.bench.call("POST", &format!("certs/{name}"), Value::Object(fields)).await
    }

    pub(super) async fn list(&self, name: &str, pem: &str) {
        let answer = self.bench.call("POST", &format!("crls/{name}"), json!({"crl": pem})).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// What a client gets that shows these certificates.
    pub(super) async fn login(&mut self, chain: &[&Made]) -> Answer {
        self.login_by("", chain).await
    }

    pub(super) async fn login_by(&mut self, name: &str, chain: &[&Made]) -> Answer {
        self.bench.client_chain = Some(Arc::new(ClientChain::of(chain.iter().map(|made| made.der.as_slice())).unwrap()));
        self.bench.call("POST", "login", json!({"name": name})).await
    }

    #[track_caller]
    /// Nobody could be asked, and may be soon.
    pub(super) fn cannot_tell(answer: &Answer, text: &str) {
        let told = answer.body["errors"][0].as_str().unwrap_or_default();
        assert!(answer.status == 500 && told.contains(text), "{text:?} was expected, not {answer:?}");
    }

    pub(super) fn refuses(answer: &Answer, text: &str) {
        let told = answer.body["errors"][0].as_str().unwrap_or_default();
        assert!(answer.status == 400 && told.contains(text), "{text:?} was expected, not {answer:?}");
    }
}

pub(super) const UNKNOWN: &str = "invalid certificate or no client certificate supplied";
pub(super) const UNFIT: &str = "no chain matching all constraints could be found for this login certificate";
pub(super) const MISMATCH: &str = "certificate mismatch of a trusted leaf certificate";
pub(super) const REVOKED: &str = "a certificate was revoked";
