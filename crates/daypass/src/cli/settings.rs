//! From flags, environment and files to a client: the flag wins over `DAYPASS_X`, which wins over `VAULT_X`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use daypass_base::{Secret, SystemClock, SystemEntropy, duration};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::token_place::TokenPlace;
use super::{Failure, prompt};
use crate::client::address::Address;
use crate::client::tls::Tls;
use crate::client::{Client, Config, Follow, Instead, Proxy};
use crate::show::Format;

/// Flags of every verb that talks to a server.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the command line")]
#[command(next_help_heading = "HTTP options")]
pub(crate) struct Http {
    /// Address of the server: http://, https:// or unix://PATH. Environment: VAULT_ADDR [default: https://127.0.0.1:8200]
    #[arg(long, value_name = "URL", hide_short_help = true)]
    address: Option<String>,
    /// Address of an agent to go through. Environment: VAULT_AGENT_ADDR
    #[arg(long, value_name = "URL", hide_short_help = true)]
    agent_address: Option<String>,
    /// PEM file of the authorities to trust. Environment: VAULT_CACERT
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    ca_cert: Option<PathBuf>,
    /// Directory of PEM files of authorities to trust. Environment: VAULT_CAPATH
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    ca_path: Option<PathBuf>,
    /// PEM file of a client certificate. Environment: VAULT_CLIENT_CERT
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    client_cert: Option<PathBuf>,
    /// PEM file of the client certificate's key. Environment: VAULT_CLIENT_KEY
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    client_key: Option<PathBuf>,
    /// Do not follow the one redirect that is followed otherwise. Environment: VAULT_DISABLE_REDIRECTS
    #[arg(long, hide_short_help = true)]
    disable_redirects: bool,
    /// A further header to send; may be repeated
    #[arg(long, value_name = "NAME=VALUE", hide_short_help = true)]
    header: Vec<String>,
    /// A second factor, sent as X-Vault-MFA; may be repeated. Environment: VAULT_MFA
    #[arg(long, value_name = "METHOD:VALUE", hide_short_help = true)]
    mfa: Vec<String>,
    /// Namespace to ask in. Environment: VAULT_NAMESPACE
    #[arg(long, alias = "ns", value_name = "NAME", hide_short_help = true)]
    namespace: Option<String>,
    /// Never ask on the terminal; fail instead
    #[arg(long, hide_short_help = true)]
    pub(crate) non_interactive: bool,
    /// Show a curl command that does the same, and do nothing
    #[arg(long, hide_short_help = true)]
    output_curl_string: bool,
    /// Show the policy that the request needs, and do nothing
    #[arg(long, hide_short_help = true)]
    output_policy: bool,
    /// Override a soft-mandatory Sentinel policy
    #[arg(long, hide_short_help = true)]
    policy_override: bool,
    /// Name that the server's certificate must have. Environment: VAULT_TLS_SERVER_NAME
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    tls_server_name: Option<String>,
    /// Do not verify the server's certificate: whoever sits between can read everything. Environment: VAULT_SKIP_VERIFY
    #[arg(long, hide_short_help = true)]
    tls_skip_verify: bool,
    /// Key that unlocks a locked namespace
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    unlock_key: Option<String>,
    /// Wrap the answer for this long; "unwrap" fetches it, once. Environment: VAULT_WRAP_TTL
    #[arg(long, value_name = "TTL", hide_short_help = true)]
    pub(crate) wrap_ttl: Option<String>,
    /// How much to log; taken for Vault's sake, the client logs nothing
    #[arg(long, value_name = "LEVEL", hide = true)]
    pub(crate) log_level: Option<String>,
}

/// How to lay out what is printed.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output options")]
pub(crate) struct Output {
    /// table, json or yaml (for "read" also raw). Environment: VAULT_FORMAT [default: table]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Which part of the answer to print.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output options")]
pub(crate) struct Field {
    /// Print this field alone, without a newline when piped
    #[arg(long, value_name = "NAME")]
    pub(crate) field: Option<String>,
}

/// Variables of the environment.
type Variables = Box<dyn Fn(&str) -> Option<String>>;

/// What all verbs share.
pub(crate) struct Ctx {
    /// `vault` or `daypass`, as called.
    pub(crate) program: &'static str,
    variables: Variables,
}

impl Ctx {
    /// With the environment of this process.
    pub(crate) fn new(program: &'static str) -> Self {
        Self { program, variables: Box::new(|name| std::env::var(name).ok()) }
    }

    /// `DAYPASS_name`, else `VAULT_name`; empty is unset.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        ["DAYPASS_", "VAULT_"].iter().find_map(|prefix| self.plain_variable(&format!("{prefix}{name}")))
    }

    /// A variable of exactly this name; empty is unset.
    pub(crate) fn plain_variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    fn switch(&self, flag: bool, name: &str) -> Result<bool, Failure> {
        match self.variable(name).as_deref() {
            _ if flag => Ok(true),
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(other) => Err(Failure::usage(format!("could not parse VAULT_{name}: {other:?} is neither true nor false"))),
        }
    }

    /// The format asked for.
    pub(crate) fn format(&self, output: &Output) -> Result<Format, Failure> {
        let asked = output.format.clone().or_else(|| self.variable("FORMAT")).unwrap_or_default();
        Format::parse(&asked)
            .ok_or_else(|| Failure::usage(format!("Invalid output format: {asked}")).hint("the formats are table, json and yaml"))
    }

    /// The format asked for, where raw makes no sense.
    pub(crate) fn format_but_raw(&self, output: &Output) -> Result<Format, Failure> {
        match self.format(output)? {
            Format::Raw => Err(Failure::usage("This command does not support the -format=raw option.")),
            format => Ok(format),
        }
    }

    /// Where logins are kept.
    pub(crate) fn token_place(&self) -> Result<TokenPlace, Failure> {
        let home = self
            .plain_variable("HOME")
            .ok_or_else(|| Failure::usage("HOME is not set, so there is no place for ~/.vault-token").hint("set VAULT_TOKEN instead"))?;
        place_of(&home)
    }

    /// The token to send: from the environment, else from where the last login has left it.
    pub(crate) fn token(&self) -> Result<Option<Secret<String>>, Failure> {
        if let Some(token) = self.variable("TOKEN") {
            return Ok(Some(Secret::new(token)));
        }
        let Some(home) = self.plain_variable("HOME") else { return Ok(None) };
        let place = place_of(&home)?;
        place.read().map_err(|error| Failure::usage(format!("error reading {}: {}", place.name(), super::data::plain(&error))))
    }

    /// A client for the server that flags and environment name.
    pub(crate) fn client(&self, http: &Http) -> Result<Client, Failure> {
        let config = self.config(http)?;
        Client::new(config, Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
            .map_err(|error| Failure::server(format!("cannot start: {error}")))
    }

    fn config(&self, http: &Http) -> Result<Config, Failure> {
        let pick = |flag: &Option<String>, name: &str| flag.clone().filter(|value| !value.is_empty()).or_else(|| self.variable(name));
        let path = |flag: &Option<PathBuf>, name: &str| flag.clone().or_else(|| self.variable(name).map(PathBuf::from));
        let tls = Tls {
            ca_file: path(&http.ca_cert, "CACERT"),
            ca_dir: path(&http.ca_path, "CAPATH"),
            ca_bytes: self.variable("CACERT_BYTES"),
            client_cert: path(&http.client_cert, "CLIENT_CERT"),
            client_key: path(&http.client_key, "CLIENT_KEY"),
            server_name: pick(&http.tls_server_name, "TLS_SERVER_NAME"),
            skip_verify: self.switch(http.tls_skip_verify, "SKIP_VERIFY")?,
        };
        let wrap_ttl = match &http.wrap_ttl {
            Some(ttl) => Some(go_duration("wrap-ttl", ttl)?).filter(|ttl| ttl != "0s"),
            None => self.variable("WRAP_TTL"),
        };
        Ok(Config {
            address: self.address(http)?,
            token: self.token()?,
            namespace: pick(&http.namespace, "NAMESPACE").map(|name| super::mount_path(&name)).filter(|name| name != "/"),
            wrap_ttl,
            headers: self.headers(http)?,
            tls,
            proxy: self.proxy(),
            timeout: self.timeout()?,
            retries_max: self.retries()?,
            follow: if self.switch(http.disable_redirects, "DISABLE_REDIRECTS")? { Follow::Never } else { Follow::Once },
            instead: match (http.output_curl_string, http.output_policy) {
                (true, true) => return Err(Failure::usage("cannot specify both -output-curl-string and -output-policy")),
                (true, false) => Some(Instead::Curl),
                (false, true) => Some(Instead::Policy),
                (false, false) => None,
            },
            program: self.program.to_owned(),
        })
    }

    fn address(&self, http: &Http) -> Result<Address, Failure> {
        let agent = http.agent_address.clone().or_else(|| self.variable("AGENT_ADDR"));
        let chosen = agent.or_else(|| http.address.clone().filter(|text| !text.is_empty())).or_else(|| self.variable("ADDR"));
        let text = chosen.unwrap_or_else(|| "https://127.0.0.1:8200".to_owned());
        Address::parse(&text).map_err(|why| {
            Failure::server(format!("invalid server address {text:?}: {why}"))
                .hint("an address starts with http://, https:// or unix://, for example VAULT_ADDR=http://127.0.0.1:8200")
        })
    }

    fn headers(&self, http: &Http) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for pair in &http.header {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Failure::usage("missing = in KV pair of flag -header").hint("write it as -header=Name=value"))?;
            if name.trim().to_ascii_lowercase().starts_with("x-vault-") {
                let text = format!("failed to setup Headers[{name}]: Header starting by 'X-Vault-' are for internal usage only");
                return Err(Failure::server(text));
            }
            add_header(&mut headers, name.trim(), value)?;
        }
        let factors = if http.mfa.is_empty() { self.variable("MFA").into_iter().collect() } else { http.mfa.clone() };
        for factor in &factors {
            add_header(&mut headers, "X-Vault-MFA", factor)?;
        }
        if http.policy_override {
            add_header(&mut headers, "X-Vault-Policy-Override", "true")?;
        }
        if let Some(key) = &http.unlock_key {
            add_header(&mut headers, "X-Vault-Unlock-Key", key)?;
        }
        Ok(headers)
    }

    fn proxy(&self) -> Proxy {
        let either = |name: &str| self.plain_variable(name).or_else(|| self.plain_variable(&name.to_ascii_lowercase()));
        Proxy {
            always: self.variable("PROXY_ADDR").or_else(|| self.variable("HTTP_PROXY")),
            http: either("HTTP_PROXY"),
            https: either("HTTPS_PROXY"),
            except: either("NO_PROXY"),
        }
    }

    fn timeout(&self) -> Result<Duration, Failure> {
        let Some(text) = self.variable("CLIENT_TIMEOUT") else { return Ok(Duration::from_mins(1)) };
        let parsed = duration::parse(&text).map_err(|error| Failure::usage(format!("could not parse VAULT_CLIENT_TIMEOUT: {error}")))?;
        if parsed.negative || parsed.size.is_zero() {
            return Err(Failure::usage(format!("VAULT_CLIENT_TIMEOUT is {text:?}: a time above zero is needed")));
        }
        Ok(parsed.size)
    }

    fn retries(&self) -> Result<u32, Failure> {
        let Some(text) = self.variable("MAX_RETRIES") else { return Ok(2) };
        text.parse().map_err(|error| Failure::usage(format!("could not parse VAULT_MAX_RETRIES {text:?}: {error}")))
    }
}

fn place_of(home: &str) -> Result<TokenPlace, Failure> {
    TokenPlace::of_home(home).map_err(|error| {
        Failure::usage(format!("no place for the token: {}", super::data::plain(&error)))
            .hint("VAULT_TOKEN in the environment needs none; mend ~/.vault, or move it away")
    })
}

/// Asks for a secret, unless nobody is to be asked.
pub(crate) fn ask_hidden(http: &Http, text: &str) -> Result<Secret<String>, prompt::NoSecret> {
    if http.non_interactive {
        return Err(prompt::NoSecret::NoTerminal("-non-interactive forbids asking".to_owned()));
    }
    prompt::hidden(text)
}

/// A duration flag as servers read it: `1h0m0s`.
pub(crate) fn go_duration(flag: &str, text: &str) -> Result<String, Failure> {
    let parsed = duration::parse(text).map_err(|error| Failure::usage(format!("invalid value {text:?} for flag -{flag}: {error}")))?;
    let sign = if parsed.negative { "-" } else { "" };
    Ok(format!("{sign}{}", duration::go_string(parsed.size)))
}

fn add_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Failure> {
    let bad = |what: &str| Failure::usage(format!("invalid header {name:?}: its {what} contains characters that no HTTP header can carry"));
    let parsed: HeaderName = name.parse().map_err(|_named_above: http::header::InvalidHeaderName| bad("name"))?;
    let value = HeaderValue::from_str(value).map_err(|_might_be_secret| bad("value"))?;
    headers.append(parsed, value);
    Ok(())
}

#[cfg(test)]
mod tests;
