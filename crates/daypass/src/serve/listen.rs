//! Listeners as the configuration names them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use daypass_base::{Entropy, Seconds};
use daypass_core::Opened;
use daypass_server::listener::UnixAccess;
use daypass_server::tls::{ClientCertificates, MinVersion};
use daypass_server::{Bound, Limits, Listener, Reloader, TlsFiles};
use zeroize::Zeroizing;

use super::bridge::Rules;
use super::memory;
use crate::cli::server::ServerArgs;
use crate::config::Config;
use crate::config::listener::{self, Place, TlsVersion};

/// What was bound.
pub(super) struct Listeners {
    pub(super) listeners: Vec<(Bound, Rules)>,
    /// Certificates that SIGHUP reads again.
    pub(super) reloaders: Vec<Arc<Reloader>>,
}

/// Binds every listener. Errors say which and why.
pub(super) async fn bind(args: &ServerArgs, config: &Config, entropy: &dyn Entropy) -> Result<Listeners, String> {
    let mut out = Listeners { listeners: Vec::new(), reloaders: Vec::new() };
    if args.dev {
        let address = args.dev_listen_address.as_deref().unwrap_or("127.0.0.1:8200");
        let tls = if args.dev_tls { Some(dev_tls(args, address, entropy)?) } else { None };
        out.add(tcp(address).await?, tls, Limits::default(), Rules::default())?;
    }
    let count = config.listeners.len();
    for listener in &config.listeners {
        let bound = match &listener.place {
            Place::Tcp(address) => tcp(address).await?,
            Place::Unix { path, access } => unix(path, access).await?,
        };
        let rules = Rules {
            forwarded_for: listener.forwarded_for.clone(),
            custom_headers: listener.custom_headers.clone(),
            opened: Opened { in_flight_requests: listener.open_in_flight_requests, metrics: listener.open_metrics },
        };
        out.add(bound, listener.tls.as_ref().map(tls_files).transpose()?, limits(listener, count), rules)?;
    }
    if out.listeners.is_empty() {
        return Err("The configuration has no listener. Add for example:\n\n    listener \"tcp\" { address = \"127.0.0.1:8200\" tls_cert_file = \"cert.pem\" tls_key_file = \"key.pem\" }".to_owned());
    }
    Ok(out)
}

impl Listeners {
    fn add(&mut self, listener: Listener, tls: Option<TlsFiles>, limits: Limits, rules: Rules) -> Result<(), String> {
        let tls = tls.map(|files| Reloader::load(files).map_err(|error| error.to_string())).transpose()?;
        self.reloaders.extend(tls.clone());
        self.listeners.push((Bound { listener, tls, limits }, rules));
        Ok(())
    }
}

async fn tcp(address: &str) -> Result<Listener, String> {
    // No host means all addresses, as in Go: of both families where the machine has both.
    if let Some(port) = address.strip_prefix(':') {
        let port = port.parse().map_err(|_no_port| format!("The listener address {address:?} has no port: write it as \":8200\""))?;
        return Listener::everywhere(port).await.map_err(|error| format!("Cannot listen on {address}: {error}"));
    }
    let resolved: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| format!("The listener address {address:?} is not usable: {error}"))?
        .collect();
    let first = resolved.first().ok_or_else(|| format!("The listener address {address:?} names no host"))?;
    Listener::tcp(*first).await.map_err(|error| format!("Cannot listen on {address}: {error}"))
}

async fn unix(path: &Path, access: &listener::UnixAccess) -> Result<Listener, String> {
    let number = |name: &Option<String>, what: &str| -> Result<Option<u32>, String> {
        let parse = |text: &String| {
            text.parse().map_err(|_not_a_number| format!("socket_{what} {text:?} of {}: give the number of the {what}", path.display()))
        };
        name.as_ref().filter(|name| !name.is_empty()).map(parse).transpose()
    };
    let access =
        UnixAccess { mode: access.mode.unwrap_or(0o600), user: number(&access.user, "user")?, group: number(&access.group, "group")? };
    Listener::unix(path, access).await.map_err(|error| format!("Cannot listen on {}: {error}", path.display()))
}

/// The longest body that one of so many listeners takes, in bytes.
pub(super) fn body_bytes(listener: &listener::Listener, listeners: usize) -> usize {
    let defaults = Limits::default();
    let all = memory::bodies(listeners, defaults.all_bodies_bytes);
    match listener.max_request_size {
        // More would have more room than there is for all: bodies have half of it.
        None => defaults.body_bytes.min(all / 2),
        Some(0) => all,
        Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
    }
}

/// What one of so many listeners grants.
pub(super) fn limits(listener: &listener::Listener, listeners: usize) -> Limits {
    let defaults = Limits::default();
    let body = body_bytes(listener, listeners);
    let timeouts = &listener.timeouts;
    // Zero is as good as absent: a limit of no time at all would cut everybody off.
    let or = |time: Option<Seconds>, usual| time.and_then(Seconds::set).map_or(usual, Seconds::duration);
    Limits {
        body_bytes: body,
        all_bodies_bytes: memory::bodies(listeners, defaults.all_bodies_bytes).max(body),
        header_timeout: or(timeouts.read_header, defaults.header_timeout),
        body_timeout: or(timeouts.read, defaults.body_timeout),
        idle_timeout: or(timeouts.idle, defaults.idle_timeout),
        ..defaults
    }
}

fn tls_files(tls: &listener::Tls) -> Result<TlsFiles, String> {
    let client_certificates = match &tls.client_certificates {
        listener::ClientCertificates::Any => ClientCertificates::Ask,
        listener::ClientCertificates::None => ClientCertificates::Ignore,
        listener::ClientCertificates::Checked(file) => ClientCertificates::Verify { issuers: file.clone() },
        listener::ClientCertificates::Required(Some(file)) => ClientCertificates::Require { issuers: file.clone() },
        listener::ClientCertificates::Required(None) => {
            return Err(
                "tls_require_and_verify_client_cert needs tls_client_ca_file: name the authority that signs the clients' certificates"
                    .to_owned(),
            );
        }
    };
    let min_version = match tls.min_version {
        TlsVersion::Tls12 => MinVersion::Tls12,
        TlsVersion::Tls13 => MinVersion::Tls13,
    };
    Ok(TlsFiles { certificate: tls.cert_file.clone(), key: tls.key_file.clone(), client_certificates, min_version })
}

/// A certificate of a new authority, made for this run.
fn dev_tls(args: &ServerArgs, address: &str, entropy: &dyn Entropy) -> Result<TlsFiles, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let problem = |what: &dyn std::fmt::Display| format!("-dev-tls cannot make a certificate: {what}");
    let at = |path: &Path, error: &io::Error| problem(&format_args!("{}: {error}", path.display()));
    let own = || std::env::temp_dir().join(format!("daypass-tls-{}", entropy.base62(22)));
    let directory = args.dev_tls_cert_dir.clone().unwrap_or_else(own);
    // Everyone may write beside one that is named here: whatever has that name already is not ours.
    let made = DirBuilder::new().mode(0o700).recursive(args.dev_tls_cert_dir.is_some()).create(&directory);
    made.map_err(|error| at(&directory, &error))?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), host.to_owned()];
    names.retain(|name| !name.is_empty());
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| problem(&error))?;
    let certificate = directory.join("vault-cert.pem");
    let key = directory.join("vault-key.pem");
    let write = |path: &Path, mode, text: &Zeroizing<String>| make_anew(path, mode, text.as_bytes()).map_err(|error| at(path, &error));
    let public = Zeroizing::new(made.cert.pem());
    write(&directory.join("vault-ca.pem"), 0o644, &public)?;
    write(&certificate, 0o644, &public)?;
    write(&key, 0o600, &Zeroizing::new(made.signing_key.serialize_pem()))?;
    crate::show::out(&format!(
        "The certificate of -dev-tls is {}; clients need it as VAULT_CACERT.\n",
        directory.join("vault-ca.pem").display()
    ));
    Ok(TlsFiles { certificate, key, client_certificates: ClientCertificates::Ask, min_version: MinVersion::Tls12 })
}

/// In place of what an earlier run left there: a new file, never what a link leads to.
fn make_anew(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: &str) -> Limits {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.hcl");
        std::fs::write(&file, format!("listener \"tcp\" {{\n tls_disable = true\n{settings}\n}}")).unwrap();
        let (config, _) = crate::config::load_with(&[file], |_| None).unwrap();
        super::limits(&config.listeners[0], 1)
    }

    /// Story: `http_read_header_timeout = 0`, which means the default in Vault, gave clients no time at all: nobody got an answer.
    #[test]
    fn a_time_of_zero_is_the_default() {
        let usual = limits("");
        let zero = limits("http_read_header_timeout = 0\nhttp_read_timeout = \"0s\"\nhttp_idle_timeout = \"0\"");
        let times = |limits: &Limits| (limits.header_timeout, limits.body_timeout, limits.idle_timeout);
        assert_eq!(times(&zero), times(&usual));
        assert_eq!(limits("http_read_header_timeout = 3").header_timeout, Seconds(3).duration());
    }

    #[tokio::test]
    async fn an_address_without_a_host_is_all_addresses() {
        let listener = tcp(":0").await.unwrap();
        let port = listener.tcp_address().unwrap().port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert!(tcp(":http").await.unwrap_err().contains("has no port"));
    }
}
