//! A request shown instead of made: as a curl command, or as the policy that it needs.

use super::{Call, Config};
use crate::show::value::Value;

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    /// A curl command that does the same.
    Curl,
    /// The least policy that allows it.
    Policy,
}

impl Instead {
    /// The text to print.
    pub(super) fn render(self, config: &Config, call: &Call) -> String {
        match self {
            Self::Curl => curl(config, call),
            Self::Policy => policy(call),
        }
    }
}

/// The token stays out of the command: the shell asks for it when it runs.
fn curl(config: &Config, call: &Call) -> String {
    let mut words = vec!["curl".to_owned()];
    let mut option = |flag: &str, value: Option<&std::path::Path>| {
        if let Some(path) = value {
            words.push(format!("{flag} {}", quoted(&path.display().to_string())));
        }
    };
    option("--cacert", config.tls.ca_file.as_deref());
    option("--capath", config.tls.ca_dir.as_deref());
    option("--cert", config.tls.client_cert.as_deref());
    option("--key", config.tls.client_key.as_deref());
    if config.tls.skip_verify {
        words.push("--insecure".to_owned());
    }
    if let super::Scheme::Unix(path) = &config.address.scheme {
        words.push(format!("--unix-socket {}", quoted(&path.display().to_string())));
    }
    if call.method != http::Method::GET {
        words.push(format!("-X {}", call.method));
    }
    let mut headers = vec!["X-Vault-Request: true".to_owned()];
    headers.extend(config.namespace.iter().map(|namespace| format!("X-Vault-Namespace: {namespace}")));
    headers.extend(call.wrap_ttl(config).map(|ttl| format!("X-Vault-Wrap-TTL: {ttl}")));
    headers.extend(call.content_type.iter().map(|kind| format!("Content-Type: {kind}")));
    headers.extend(config.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))));
    let mut headers: Vec<String> = headers.iter().map(|header| word(header)).collect();
    // The one thing that the shell is to put in.
    headers.push(format!("\"X-Vault-Token: $({} print token)\"", config.program));
    headers.sort_by(|left, right| left.trim_start_matches(QUOTES).cmp(right.trim_start_matches(QUOTES)));
    words.extend(headers.into_iter().map(|header| format!("-H {header}")));
    if let Some(body) = &call.body {
        words.push(format!("-d {}", quoted(&body.compact())));
    }
    words.push(word(&config.address.url(&call.path_and_query(&config.address))));
    words.join(" ")
}

/// A word of a shell's, in the double quotes that Vault has, or in single ones where a shell would find something to do in those.
fn word(text: &str) -> String {
    if text.contains(['"', '$', '`', '\\', '!', '\'']) { quoted(text) } else { format!("\"{text}\"") }
}

const QUOTES: [char; 2] = ['"', '\''];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

fn policy(call: &Call) -> String {
    let listing = call.query.iter().any(|(key, value)| key == "list" && value == "true");
    let mut capabilities = match call.method.as_str() {
        "GET" | "LIST" if listing || call.method.as_str() == "LIST" => vec!["list"],
        "GET" => vec!["read"],
        "DELETE" => vec!["delete"],
        "PATCH" => vec!["patch"],
        _ => vec!["create", "update"],
    };
    if needs_sudo(&call.path) {
        capabilities.push("sudo");
    }
    let list: Vec<String> = capabilities.iter().map(|name| Value::text(*name).compact()).collect();
    format!("path {} {{\n  capabilities = [{}]\n}}", Value::text(&*call.path).compact(), list.join(", "))
}

/// Paths that ask for `sudo` (protocol reference, section 13).
fn needs_sudo(path: &str) -> bool {
    const WHOLE: [&str; 9] = [
        "sys/audit",
        "sys/config/cors",
        "sys/leases",
        "sys/raw",
        "sys/remount",
        "sys/rotate",
        "sys/seal",
        "sys/step-down",
        "auth/token/accessors",
    ];
    const UNDER: [&str; 12] = [
        "sys/audit/",
        "sys/auth/",
        "sys/config/auditing/",
        "sys/config/ui/headers/",
        "sys/leases/lookup/",
        "sys/leases/revoke-force/",
        "sys/leases/revoke-prefix/",
        "sys/plugins/catalog/",
        "sys/raw/",
        "sys/revoke-force/",
        "sys/revoke-prefix/",
        "auth/token/revoke-orphan",
    ];
    WHOLE.contains(&path.trim_end_matches('/')) || UNDER.iter().any(|start| path.starts_with(start))
}
