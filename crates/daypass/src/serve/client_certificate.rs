//! Whose certificates a request comes with: those of its connection, or the one that a trusted proxy forwards in a header.
//!
//! A proxy's own certificate never stands for its clients: what a proxy forwards has the certificate from the header, or none.

use std::sync::Arc;

use data_encoding::BASE64;
use daypass_base::{ClientChain, percent};
use daypass_server::{Peer, TlsFacts};
use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::listener::{CertDecoder, ForwardedFor};

/// The certificates of a request; `None` where there was no TLS to show them over. Errors: why the header cannot be believed or read.
pub(super) fn client_chain(
    rules: Option<&ForwardedFor>,
    peer: Peer,
    headers: &HeaderMap,
    tls: Option<&TlsFacts>,
) -> Result<Option<Arc<ClientChain>>, String> {
    let own = tls.map(|tls| Arc::clone(&tls.client_chain));
    let (Some(rules), Peer::Tcp(address)) = (rules, peer) else { return Ok(own) };
    let proxy = rules.proxies.iter().any(|proxy| proxy.contains(address.ip()));
    let Some(name) = &rules.client_cert_header else {
        // Forwarded, so the certificate of the connection is the proxy's.
        let forwarded = proxy && headers.contains_key("x-forwarded-for");
        return Ok(if forwarded { own.map(|_of_the_proxy| Arc::default()) } else { own });
    };
    let mut values = headers.get_all(name).iter();
    let (value, more) = (values.next(), values.next());
    match value {
        Some(_) if !proxy && rules.reject_not_authorized => {
            Err(format!("client address not authorized for {name} and configured to reject connection"))
        }
        _ if !proxy => Ok(own),
        None => Ok(Some(Arc::default())),
        Some(_) if more.is_some() => Err(format!("malformed {name} header: it is there more than once")),
        Some(value) if value.is_empty() => Ok(Some(Arc::default())),
        Some(value) => {
            let certificates =
                decoded(value.as_bytes(), &rules.client_cert_decoders).map_err(|why| format!("malformed {name} header: {why}"))?;
            let chain =
                ClientChain::of(certificates.iter().map(AsRef::as_ref)).map_err(|error| format!("malformed {name} header: {error}"))?;
            Ok(Some(Arc::new(chain)))
        }
    }
}

/// The certificates of a header in DER. More than one comes of PEM alone.
fn decoded(value: &[u8], decoders: &[CertDecoder]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut certificates = vec![value.to_vec()];
    for decoder in decoders {
        let mut next = Vec::new();
        for bytes in certificates {
            match decoder {
                CertDecoder::Base64 => next.push(base64(&bytes).ok_or("it is not valid base64")?),
                CertDecoder::Der => next.append(&mut of_pem(&bytes).ok_or("there is no PEM certificate in it")?),
                CertDecoder::Rfc9440 => next.push(byte_sequence(&bytes).ok_or("it is no byte sequence of RFC 9440, such as :MIIB:")?),
                // A plus stays one: it belongs to base64, and those who escape for URLs escape it.
                CertDecoder::Url => next.push(percent::decode(&bytes).ok_or("it is not valid URL encoding")?),
            }
        }
        certificates = next;
    }
    // A SEQUENCE: whatever is not decoded to its end is refused here, where the header can be named.
    if certificates.iter().any(|certificate| certificate.first() != Some(&0x30)) {
        return Err("it is no certificate in DER after x_forwarded_for_client_cert_header_decoders");
    }
    Ok(certificates)
}

fn base64(bytes: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(&text).ok()
}

fn byte_sequence(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = bytes.trim_ascii().strip_prefix(b":")?.strip_suffix(b":")?;
    BASE64.decode(text).ok()
}

fn of_pem(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let found: Vec<Vec<u8>> =
        CertificateDer::pem_slice_iter(bytes).map(|one| one.map(|der| der.to_vec())).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::listener::Cidr;

    const DER: &[u8] = &[0x30, 0x03, 0x02, 0x01, 0xfb];
    const HEADER: &str = "x-client-cert";

    fn rules(decoders: &[CertDecoder], reject: bool) -> ForwardedFor {
        ForwardedFor {
            proxies: vec![Cidr::parse("10.0.0.0/8").unwrap()],
            hop_skips: 0,
            reject_not_present: false,
            reject_not_authorized: reject,
            client_cert_header: Some(http::HeaderName::from_static(HEADER)),
            client_cert_decoders: decoders.to_vec(),
        }
    }

    fn tls() -> TlsFacts {
        TlsFacts { client_chain: Arc::new(ClientChain::of([b"of the connection".as_slice()]).unwrap()), server_name: None }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (http::HeaderName::from_static(HEADER), value.parse().unwrap())).collect()
    }

    fn seen(rules: &ForwardedFor, from: &str, values: &[&str]) -> Result<Option<Vec<u8>>, String> {
        let peer = Peer::Tcp(from.parse().unwrap());
        let chain = client_chain(Some(rules), peer, &headers(values), Some(&tls()))?;
        Ok(chain.unwrap().own().map(<[u8]>::to_vec))
    }

    #[test]
    fn a_trusted_proxy_forwards_the_certificate_of_its_client() {
        let base64 = data_encoding::BASE64.encode(DER);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        let url = pem.replace('\n', "%0A").replace('+', "%2B").replace(' ', "%20");
        let ways = [
            (&[CertDecoder::Base64][..], base64.clone()),
            (&[CertDecoder::Rfc9440][..], format!(":{base64}:")),
            (&[CertDecoder::Url, CertDecoder::Der][..], url.clone()),
            (&[CertDecoder::Url, CertDecoder::Base64][..], base64.replace('=', "%3D")),
        ];
        for (decoders, value) in ways {
            assert_eq!(seen(&rules(decoders, true), "10.0.0.1:1", &[&value]).unwrap().as_deref(), Some(DER), "{decoders:?}");
        }
        // Over a connection without TLS, too: it is the proxy that has the TLS.
        let rules = rules(&[CertDecoder::Base64], true);
        let chain = client_chain(Some(&rules), Peer::Tcp("10.0.0.1:1".parse().unwrap()), &headers(&[&base64]), None).unwrap();
        assert_eq!(chain.unwrap().own(), Some(DER));
    }

    #[test]
    fn a_header_that_cannot_be_read_is_refused() {
        let base64 = data_encoding::BASE64.encode(DER);
        let long = data_encoding::BASE64.encode(&vec![0x30; 33 * 1024]);
        let rules = rules(&[CertDecoder::Base64], true);
        for (values, why) in [
            (vec!["%%"], "base64"),
            (vec!["Zm9v"], "no certificate in DER"),
            (vec![base64.as_str(), base64.as_str()], "more than once"),
            (vec![long.as_str()], "bytes"),
        ] {
            let error = seen(&rules, "10.0.0.1:1", &values).unwrap_err();
            assert!(error.contains(why) && error.contains(HEADER), "{error}");
        }
    }

    #[test]
    fn a_stranger_cannot_name_a_certificate() {
        let base64 = data_encoding::BASE64.encode(DER);
        let error = seen(&rules(&[CertDecoder::Base64], true), "192.0.2.1:1", &[&base64]).unwrap_err();
        assert!(error.contains("not authorized"), "{error}");
        let own = seen(&rules(&[CertDecoder::Base64], false), "192.0.2.1:1", &[&base64]).unwrap();
        assert_eq!(own.as_deref(), Some(b"of the connection".as_slice()));
        assert_eq!(client_chain(None, Peer::Unix, &headers(&[&base64]), None).unwrap(), None);
    }

    #[test]
    fn a_proxys_own_certificate_never_stands_for_its_clients() {
        assert_eq!(seen(&rules(&[CertDecoder::Base64], true), "10.0.0.1:1", &[]).unwrap(), None);
        assert_eq!(seen(&rules(&[CertDecoder::Base64], true), "10.0.0.1:1", &[""]).unwrap(), None);
        let without = ForwardedFor { client_cert_header: None, ..rules(&[], true) };
        let mut forwarded = HeaderMap::new();
        forwarded.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let asked = |headers: &HeaderMap| client_chain(Some(&without), Peer::Tcp("10.0.0.1:1".parse().unwrap()), headers, Some(&tls()));
        assert!(asked(&forwarded).unwrap().unwrap().is_empty());
        assert_eq!(asked(&HeaderMap::new()).unwrap().unwrap().len(), 1, "what a proxy sends for itself is its own");
    }
}
