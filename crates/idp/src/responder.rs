//! Answers of OCSP for tests: in DER that is written here and by nothing that reads it. Whoever makes one says what it holds, right or wrong.

use daypass_base::Timestamp;

/// What is answered about one certificate, and how.
#[derive(Debug, Clone)]
pub struct OcspAnswer {
    /// Which certificate, as [`cert_id_of`] finds it in a request.
    pub cert_id: Vec<u8>,
    /// What it is.
    pub status: OcspStatus,
    /// Since when that holds.
    pub this_update: Timestamp,
    /// Until when.
    pub next_update: Option<Timestamp>,
    /// When this was signed.
    pub produced: Timestamp,
    /// The nonce that is repeated.
    pub nonce: Option<Vec<u8>>,
    /// What is answered about others.
    pub others: Vec<(Vec<u8>, OcspStatus)>,
    /// SHA-1 of the signer's key, or its name in DER.
    pub responder: OcspResponder,
    /// Certificates that go along, in DER.
    pub certificates: Vec<Vec<u8>>,
    /// Object id of the signature's algorithm.
    pub algorithm: Vec<u8>,
}

/// What a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspStatus {
    /// It was not revoked.
    Good,
    /// It was.
    Revoked,
    /// Nobody knows it.
    Unknown,
}

/// Who says to have signed.
#[derive(Debug, Clone)]
pub enum OcspResponder {
    /// SHA-1 of its key.
    Key(Vec<u8>),
    /// Its name in DER.
    Name(Vec<u8>),
}

impl OcspAnswer {
    /// That the certificate is good from this moment on, for an hour, by the issuer whose key the request names. Without its nonce.
    #[must_use]
    pub fn good(request: &[u8], now: Timestamp) -> Self {
        let cert_id = cert_id_of(request);
        Self {
            responder: OcspResponder::Key(issuer_key_of(&cert_id)),
            cert_id,
            status: OcspStatus::Good,
            this_update: now,
            next_update: Some(now + std::time::Duration::from_hours(1)),
            produced: now,
            nonce: None,
            others: Vec::new(),
            certificates: Vec::new(),
            algorithm: ECDSA_SHA256.to_vec(),
        }
    }

    /// The whole answer, signed by `sign`.
    #[must_use]
    pub fn signed(&self, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let responder = match &self.responder {
            OcspResponder::Key(hash) => der(0xa2, &[&der(0x04, &[hash])]),
            OcspResponder::Name(name) => der(0xa1, &[name]),
        };
        let about: Vec<Vec<u8>> = std::iter::once((&self.cert_id, self.status))
            .chain(self.others.iter().map(|(id, status)| (id, *status)))
            .map(|(id, status)| self.single(id, status))
            .collect();
        let nonce = self.nonce.as_ref().map(|nonce| der(0x30, &[&der(0x06, &[NONCE]), &der(0x04, &[&der(0x04, &[nonce])])]));
        let extensions = nonce.map(|nonce| der(0xa1, &[&der(0x30, &[&nonce])])).unwrap_or_default();
        let data = der(0x30, &[&responder, &moment(self.produced), &der(0x30, &[&about.concat()]), &extensions]);
        let certificates = match self.certificates.concat() {
            none if none.is_empty() => none,
            some => der(0xa0, &[&der(0x30, &[&some])]),
        };
        let algorithm = der(0x30, &[&der(0x06, &[&self.algorithm])]);
        let basic = der(0x30, &[&data, &algorithm, &der(0x03, &[&[0], &sign(&data)]), &certificates]);
        let typed = der(0x30, &[&der(0x06, &[BASIC]), &der(0x04, &[&basic])]);
        der(0x30, &[&der(0x0a, &[&[0]]), &der(0xa0, &[&typed])])
    }

    fn single(&self, id: &[u8], status: OcspStatus) -> Vec<u8> {
        let status = match status {
            OcspStatus::Good => der(0x80, &[]),
            OcspStatus::Revoked => der(0xa1, &[&moment(self.this_update)]),
            OcspStatus::Unknown => der(0x82, &[]),
        };
        let next = self.next_update.map(|next| der(0xa0, &[&moment(next)])).unwrap_or_default();
        der(0x30, &[id, &status, &moment(self.this_update), &next])
    }

    /// An answer that says nothing: 3 for "try later", 6 for "unauthorized".
    #[must_use]
    pub fn excuse(code: u8) -> Vec<u8> {
        der(0x30, &[&der(0x0a, &[&[code]])])
    }
}

/// The id of the certificate that a request asks about, whole; empty when that is no request.
#[must_use]
pub fn cert_id_of(request: &[u8]) -> Vec<u8> {
    // OCSPRequest, TBSRequest, requestList, Request, CertID.
    let request = opened(request).and_then(|(_, content, _)| opened(content));
    let one = request.and_then(|(_, content, _)| opened(content)).and_then(|(_, content, _)| opened(content));
    one.and_then(|(_, content, _)| opened(content)).map(|(whole, _, _)| whole.to_vec()).unwrap_or_default()
}

/// The nonce of a request; empty without one.
#[must_use]
pub fn nonce_of(request: &[u8]) -> Vec<u8> {
    let tbs = opened(request).and_then(|(_, content, _)| opened(content));
    let after_list = tbs.and_then(|(_, content, _)| opened(content)).map(|(_, _, rest)| rest);
    let extension = after_list.and_then(opened).and_then(|(_, list, _)| opened(list)).and_then(|(_, one, _)| opened(one));
    let value = extension.and_then(|(_, parts, _)| opened(parts)).and_then(|(_, _, rest)| opened(rest));
    value.and_then(|(_, octets, _)| opened(octets)).map(|(_, nonce, _)| nonce.to_vec()).unwrap_or_default()
}

/// SHA-1 of the issuer's key as an id has it.
fn issuer_key_of(cert_id: &[u8]) -> Vec<u8> {
    let parts = opened(cert_id).and_then(|(_, content, _)| opened(content)).map(|(_, _, rest)| rest);
    let key = parts.and_then(opened).and_then(|(_, _, rest)| opened(rest));
    key.map(|(_, hash, _)| hash.to_vec()).unwrap_or_default()
}

/// The first element whole, what is in it, and what follows.
fn opened(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (first, rest) = bytes.get(1..)?.split_first()?;
    let (length, rest) = match first {
        short @ 0..=0x7f => (usize::from(*short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((bytes.get(..bytes.len() - after.len())?, content, after))
}

/// An element in DER.
#[must_use]
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

fn moment(at: Timestamp) -> Vec<u8> {
    let digits: String = at.to_string().chars().take(19).filter(char::is_ascii_digit).collect();
    der(0x18, &[digits.as_bytes(), b"Z"])
}

const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
/// 1.2.840.10045.4.3.2
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
