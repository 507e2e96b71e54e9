//! The certificates that a client showed: carried from the listener to the methods that judge them, shared by all requests of a connection.

/// What a client showed of itself over TLS: its own certificate first, then those that it sent along, each in DER; empty when it showed none.
/// That the client holds the key of the first was proven, by the handshake or to the proxy that says so. Whether anybody vouches for it was not.
///
/// ```
/// use daypass_base::ClientChain;
/// let chain = ClientChain::of([b"own".as_slice(), b"issuer"]).unwrap();
/// assert_eq!(chain.own(), Some(b"own".as_slice()));
/// assert_eq!(chain.sent_along().count(), 1);
/// assert!(ClientChain::of([b"x".as_slice(); 11]).is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientChain(Box<[Box<[u8]>]>);

/// A chain of certificates is longer than anybody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a client showed more than {CERTIFICATES_MAX} certificates, or more than {BYTES_MAX} bytes of them")]
pub struct TooLong;

impl ClientChain {
    /// A chain of these. Errors: more certificates, or more bytes, than a chain may have.
    pub fn of<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, TooLong> {
        let mut chain: Vec<Box<[u8]>> = Vec::new();
        let mut bytes = 0;
        for certificate in certificates {
            bytes += certificate.len();
            if chain.len() == CERTIFICATES_MAX || bytes > BYTES_MAX {
                return Err(TooLong);
            }
            chain.push(certificate.into());
        }
        Ok(Self(chain.into()))
    }

    /// The client's own certificate, if it showed one.
    #[must_use]
    pub fn own(&self) -> Option<&[u8]> {
        self.0.first().map(AsRef::as_ref)
    }

    /// Those that it sent along with it, in its order.
    pub fn sent_along(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().skip(1).map(AsRef::as_ref)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the client showed none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Certificates of one chain; those in use have two to four.
const CERTIFICATES_MAX: usize = 10;
/// Bytes of one chain, which are held for as long as its connection.
const BYTES_MAX: usize = 32 * 1024;
