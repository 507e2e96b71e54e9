use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// A certificate that signed itself for `localhost`, as `openssl req -x509` makes it: an authority's. And the key that it is for.
fn self_signed(change: impl Fn(&mut CertificateParams)) -> (CertificateDer<'static>, KeyPair) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().der().clone(), key)
}

fn naming(certificates: &[&CertificateDer<'static>]) -> Roots {
    let mut roots = Roots::default();
    for one in certificates {
        roots.name((*one).clone()).unwrap();
    }
    roots
}

/// A whole handshake with a server that shows `own` and has `key`; what the client says of it.
async fn handshake(roots: Roots, (own, key): (&CertificateDer<'static>, &KeyPair), name: &'static str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    // By itself: the builder would see that a key is another certificate's.
    let signer = rustls::sign::CertifiedKey::new(vec![own.clone()], provider.key_provider.load_private_key(key).unwrap());
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(signer)));
    let (near, far) = duplex(64 * 1024);
    let client = TlsConnector::from(client_config(roots).unwrap());
    let name = ServerName::try_from(name).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let (connected, _accepted) = tokio::join!(client.connect(name, near), acceptor.accept(far));
    connected.map(drop).map_err(|error| error.to_string())
}

/// Story: a server with a certificate from `openssl req -x509`, and a client that was told to trust that very certificate: it was refused with
/// `CaUsedAsEndEntity`, where the `vault` command line, curl and Python go on.
#[tokio::test]
async fn an_authority_that_was_named_may_be_the_server_itself() {
    let (own, key) = self_signed(|_| ());
    assert_eq!(handshake(naming(&[&own]), (&own, &key), "localhost").await, Ok(()));
    let plain = self_signed(|params| params.is_ca = IsCa::NoCa);
    assert_eq!(handshake(naming(&[&own, &plain.0]), (&plain.0, &plain.1), "localhost").await, Ok(()));
}

#[tokio::test]
async fn a_server_that_was_named_needs_nobody_who_vouches_for_it() {
    let (other, _) = self_signed(|_| ());
    // An issuer of its own name, and one that is called as every certificate here is.
    for (name, why) in [(Some("acme"), "UnknownIssuer"), (None, "BadSignature")] {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap().der().clone();
        assert_eq!(handshake(naming(&[&own, &other]), (&own, &key), "localhost").await, Ok(()));
        let refused = handshake(naming(&[&other]), (&own, &key), "localhost").await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn only_that_very_certificate_for_its_own_names_and_with_its_own_key() {
    let ((own, key), (other, other_key)) = (self_signed(|_| ()), self_signed(|_| ()));
    let refused = async |roots, server, name| handshake(roots, server, name).await.unwrap_err();
    // One that resembles it in all but the key.
    let text = refused(naming(&[&other]), (&own, &key), "localhost").await;
    assert!(text.contains("an authority's certificate (CA:TRUE) that is not itself among those that were named"), "{text}");
    assert!(refused(naming(&[&own]), (&own, &key), "elsewhere").await.contains("not valid for name \"elsewhere\""));
    assert!(refused(naming(&[&own]), (&own, &other_key), "localhost").await.contains("BadSignature"));
    // What the system trusts are authorities and no servers.
    let mut authorities = RootCertStore::empty();
    authorities.add(own.clone()).unwrap();
    let text = refused(Roots::of_authorities(authorities), (&own, &key), "localhost").await;
    assert!(text.contains("CA:TRUE"), "{text}");
}

#[tokio::test]
async fn an_old_certificate_is_refused_though_it_was_named() {
    let mut said = Vec::new();
    for (from, to) in [(2001, 2002), (2900, 2901)] {
        let (own, key) = self_signed(|params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        });
        said.push(handshake(naming(&[&own]), (&own, &key), "localhost").await.unwrap_err());
    }
    assert!(said[0].contains("certificate expired") && said[1].contains("not valid yet"), "{said:?}");
}
