//! What Kubernetes puts into each pod, where this server is one: a token of its own and the certificate of the cluster's authority.

use std::io::Read as _;
use std::path::Path;

use daypass_sdk::Secret;

/// The folder of both. Source: Kubernetes documentation, "Accessing the Kubernetes API from a Pod".
pub(super) const POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The pod's own token. It is renewed by the kubelet, so it is read each time.
pub(super) fn token(pod: &Path) -> Option<Secret<String>> {
    read(&pod.join("token")).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).map(Secret::new)
}

/// The certificate of the cluster's authority, in PEM.
pub(super) fn authority(pod: &Path) -> Option<String> {
    read(&pod.join("ca.crt")).filter(|text| !text.trim().is_empty())
}

/// A file that is absent, too long or no text is none: the server runs elsewhere.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    // A small file in memory, which Kubernetes mounts there.
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES_MAX) => Some(text),
        _ => None,
    }
}
