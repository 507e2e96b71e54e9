//! `config`: whose tokens are taken, and how the provider is reached.

use std::sync::Arc;

use daypass_base::Brief;
use daypass_base::lenient::CommaList;
use daypass_idp::{Trust, Url};
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Jwt;
use super::keys::{KeySet, Place, Source};
use crate::auth::jose::key::Key;
use crate::auth::jose::token::Algorithm;

/// What is stored.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) oidc_discovery_url: String,
    oidc_discovery_ca_pem: String,
    pub(super) oidc_client_id: String,
    oidc_client_secret: String,
    pub(super) oidc_response_mode: String,
    pub(super) oidc_response_types: Vec<String>,
    jwks_url: String,
    jwks_ca_pem: String,
    jwks_pairs: Vec<Pair>,
    jwt_validation_pubkeys: Vec<String>,
    pub(super) bound_issuer: String,
    jwt_supported_algs: Vec<String>,
    pub(super) default_role: String,
    namespace_in_state: bool,
    unsupported_critical_cert_extensions: Vec<String>,
}

/// One key set of several.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Pair {
    jwks_url: String,
    jwks_ca_pem: String,
}

/// A configuration with its keys, ready for logins.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) source: Source,
    /// The algorithms that a machine's token may have.
    pub(super) algorithms: Option<Vec<Algorithm>>,
}

/// The whole configuration: a write replaces all of it.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[derive(Default)]
struct ConfigParams {
    /// Name of a provider with OpenID Connect discovery, to the last slash as it stands in its tokens: `https://gitlab.example.com`.
    oidc_discovery_url: String,
    /// Certificates in PEM that the provider's own is signed by; by default the system's.
    oidc_discovery_ca_pem: String,
    /// Our name at the provider, for logins of people.
    oidc_client_id: String,
    /// Our password there. It is not shown again.
    oidc_client_secret: Secret<String>,
    /// How the provider sends people back: `query` (the default) or `form_post`.
    oidc_response_mode: String,
    /// What it sends along: `code` (the default), `id_token`, or both.
    oidc_response_types: CommaList,
    /// Where a key set is, for tokens of an issuer without discovery: `https://example.com/jwks.json`.
    jwks_url: String,
    /// Certificates in PEM that the key set's server is signed by; by default the system's.
    jwks_ca_pem: String,
    /// Several key sets, each as `{"jwks_url": "https://...", "jwks_ca_pem": "..."}`. At most 16.
    jwks_pairs: Option<Value>,
    /// Public keys in PEM, for tokens whose issuer publishes none. At most 64.
    jwt_validation_pubkeys: CommaList,
    /// The issuer (`iss`) that a token must have; with `oidc_discovery_url` that URL unless this says otherwise.
    bound_issuer: String,
    /// Algorithms that are taken, such as `RS256,ES256`; by default all of RS, PS and ES with 256, 384 and 512, and EdDSA. HMAC and `none` never
    /// are.
    jwt_supported_algs: CommaList,
    /// Role of a login that names none: `ci`.
    default_role: String,
    /// Settings of particular providers; none is supported yet, so it has to be empty.
    provider_config: Option<Value>,
    /// Kept for clients that set it: daypass has no namespaces.
    namespace_in_state: Option<bool>,
    /// Kept for clients that set it: certificates with unknown critical extensions are refused.
    unsupported_critical_cert_extensions: CommaList,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn endpoint() -> Endpoint<Jwt> {
    Endpoint::at(["config"])
        .summary("Say whose tokens are taken, or read that.")
        .help(
            "Exactly one of oidc_discovery_url, jwks_url, jwks_pairs and jwt_validation_pubkeys is needed. URLs are https://; plain http:// is for \
             addresses of this machine. They are asked at once, so that a mistake shows here and not at the first login.",
        )
        .on(Operation::Read, read)
        .on(Operation::Update, write)
}

/// The configuration in force with its keys. Kept in memory for as long as what is stored stays the same.
pub(super) async fn prepared(jwt: &Jwt, cx: &Cx) -> Result<Option<Arc<Prepared>>> {
    let Some((config, _)) = cx.store.find::<Config>(ROW).await? else { return Ok(None) };
    if let Some(known) = jwt.prepared.read().as_ref()
        && known.config == *config
    {
        return Ok(Some(Arc::clone(known)));
    }
    let config = Config::clone(&config);
    let made = Prepared::of(config).map_err(|why| Error::internal(format!("the stored configuration cannot be used: {why}")))?;
    let made = Arc::new(made);
    *jwt.prepared.write() = Some(Arc::clone(&made));
    Ok(Some(made))
}

async fn read(_: Arc<Jwt>, cx: Cx, _: NoParams) -> Result<Reply> {
    let config: Option<Config> = cx.store.get_json(ROW).await?;
    Ok(Reply::data(config.ok_or_else(Error::not_found)?.shown()))
}

/// Fails with `BadRequest` for contradictions, keys that are none, and URLs that do not answer as they should.
async fn write(jwt: Arc<Jwt>, cx: Cx, params: ConfigParams) -> Result<()> {
    let config = Config::of(params).map_err(Error::bad_request)?;
    let made = Prepared::of(config).map_err(Error::bad_request)?;
    if let Source::Fetched(sets) = &made.source {
        for (number, set) in sets.iter().enumerate() {
            set.check(&cx, jwt.idp.as_ref()).await.map_err(|why| Error::bad_request(made.config.unchecked(number, &why.to_string())))?;
        }
    }
    cx.store.put_json(ROW, &made.config).await?;
    *jwt.prepared.write() = Some(Arc::new(made));
    Ok(())
}

impl Config {
    fn of(params: ConfigParams) -> Result<Self, String> {
        let provider = match params.provider_config {
            Some(Value::Object(map)) => map.get("provider").map(Value::to_string).or_else(|| (!map.is_empty()).then(String::new)),
            _ => None,
        };
        if let Some(name) = provider {
            return Err(format!("invalid provider_config: provider {} is not supported; leave it empty", Brief(&name)));
        }
        Ok(Self {
            oidc_discovery_url: params.oidc_discovery_url,
            oidc_discovery_ca_pem: params.oidc_discovery_ca_pem,
            oidc_client_id: params.oidc_client_id,
            // Into the sealed row.
            oidc_client_secret: params.oidc_client_secret.expose().clone(),
            oidc_response_mode: params.oidc_response_mode,
            oidc_response_types: params.oidc_response_types.0,
            jwks_url: params.jwks_url,
            jwks_ca_pem: params.jwks_ca_pem,
            jwks_pairs: pairs(params.jwks_pairs)?,
            jwt_validation_pubkeys: params.jwt_validation_pubkeys.0,
            bound_issuer: params.bound_issuer,
            jwt_supported_algs: params.jwt_supported_algs.0,
            default_role: params.default_role,
            namespace_in_state: params.namespace_in_state.unwrap_or(true),
            unsupported_critical_cert_extensions: params.unsupported_critical_cert_extensions.0,
        })
    }

    /// Whether people can log in with a browser.
    pub(super) fn has_browser_flow(&self) -> bool {
        !self.oidc_client_id.is_empty()
    }

    pub(super) fn client_secret(&self) -> Secret<String> {
        Secret::new(self.oidc_client_secret.clone())
    }

    pub(super) fn discovery_trust(&self) -> Trust {
        Trust::of_pem(&self.oidc_discovery_ca_pem)
    }

    /// The issuer that tokens must have. OpenID Connect wants a provider's tokens to name the provider; the configuration may know better.
    pub(super) fn issuer(&self) -> Option<&str> {
        [&self.bound_issuer, &self.oidc_discovery_url].into_iter().map(String::as_str).find(|name| !name.is_empty())
    }

    /// Whether this type of answer is asked of the provider; a code is, where nothing is said.
    pub(super) fn asks_for(&self, kind: &str) -> bool {
        if self.oidc_response_types.is_empty() { kind == "code" } else { self.oidc_response_types.iter().any(|known| known == kind) }
    }

    fn check(&self) -> Result<(), String> {
        let ways = [
            !self.oidc_discovery_url.is_empty(),
            !self.jwks_url.is_empty(),
            !self.jwks_pairs.is_empty(),
            !self.jwt_validation_pubkeys.is_empty(),
        ];
        if ways.iter().filter(|used| **used).count() != 1 {
            let text = "exactly one of 'jwt_validation_pubkeys', 'jwks_url', 'jwks_pairs' or 'oidc_discovery_url' must be set";
            return Err(text.to_owned());
        }
        if self.oidc_client_id.is_empty() != self.oidc_client_secret.is_empty() {
            return Err("both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC".to_owned());
        }
        if !self.oidc_client_id.is_empty() && self.oidc_discovery_url.is_empty() {
            return Err("'oidc_discovery_url' must be set for OIDC".to_owned());
        }
        if !self.jwks_pairs.is_empty() && !self.bound_issuer.is_empty() {
            return Err("Bound issuer is not supported for use with 'jwks_pairs'".to_owned());
        }
        if self.jwks_pairs.len() > 1 && self.jwks_pairs.iter().any(|pair| pair.jwks_ca_pem.is_empty()) {
            return Err("CA PEMs must be provided as part of the 'jwks_pairs' when using multiple JWKS URLs".to_owned());
        }
        if !matches!(self.oidc_response_mode.as_str(), "" | "query" | "form_post") {
            return Err(format!("invalid response_mode: {:?}", Brief(&self.oidc_response_mode)));
        }
        if let Some(other) = self.oidc_response_types.iter().find(|kind| !matches!(kind.as_str(), "code" | "id_token")) {
            return Err(format!("unsupported response_type: {:?}", Brief(other)));
        }
        if self.asks_for("id_token") && self.oidc_response_mode != "form_post" {
            return Err("query response_mode may not be used with an id_token response_type".to_owned());
        }
        Ok(())
    }

    /// What Vault says when a URL does not answer as it should, and why.
    fn unchecked(&self, number: usize, why: &str) -> String {
        if !self.oidc_discovery_url.is_empty() {
            return format!("error checking oidc discovery URL: {why}");
        }
        let url = self.jwks_pairs.get(number).map_or(&self.jwks_url, |pair| &pair.jwks_url);
        format!("error checking jwks URL {}: {why}", Brief(url))
    }

    fn shown(&self) -> Map<String, Value> {
        let pairs: Vec<Value> =
            self.jwks_pairs.iter().map(|pair| json!({"jwks_url": pair.jwks_url, "jwks_ca_pem": pair.jwks_ca_pem})).collect();
        let fields = [
            ("bound_issuer", json!(self.bound_issuer)),
            ("default_role", json!(self.default_role.to_lowercase())),
            ("jwks_ca_pem", json!(self.jwks_ca_pem)),
            ("jwks_pairs", json!(pairs)),
            ("jwks_url", json!(self.jwks_url)),
            ("jwt_supported_algs", json!(self.jwt_supported_algs)),
            ("jwt_validation_pubkeys", json!(self.jwt_validation_pubkeys)),
            ("namespace_in_state", json!(self.namespace_in_state)),
            ("oidc_client_id", json!(self.oidc_client_id)),
            ("oidc_discovery_ca_pem", json!(self.oidc_discovery_ca_pem)),
            ("oidc_discovery_url", json!(self.oidc_discovery_url)),
            ("oidc_response_mode", json!(self.oidc_response_mode)),
            ("oidc_response_types", json!(self.oidc_response_types)),
            ("provider_config", json!({})),
            ("unsupported_critical_cert_extensions", json!(self.unsupported_critical_cert_extensions)),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}

impl Prepared {
    fn of(config: Config) -> Result<Self, String> {
        config.check()?;
        let parsed = |name: &String| {
            Algorithm::parse(name).ok_or_else(|| format!("invalid jwt_supported_algs: unsupported algorithm {:?}", Brief(name)))
        };
        let algorithms: Vec<Algorithm> = config.jwt_supported_algs.iter().map(parsed).collect::<Result<_, _>>()?;
        let checked = |what: String, url: &str| Url::parse(url).map(drop).map_err(|why| format!("error checking {what}: {why}"));
        let source = if !config.jwt_validation_pubkeys.is_empty() {
            Source::Fixed(fixed(&config.jwt_validation_pubkeys)?)
        } else if !config.oidc_discovery_url.is_empty() {
            checked("oidc discovery URL".to_owned(), &config.oidc_discovery_url)?;
            Source::Fetched(vec![KeySet::new(Place::Discovery(config.oidc_discovery_url.clone()), config.discovery_trust())])
        } else {
            let one = Pair { jwks_url: config.jwks_url.clone(), jwks_ca_pem: config.jwks_ca_pem.clone() };
            let pairs = if config.jwks_pairs.is_empty() { std::slice::from_ref(&one) } else { config.jwks_pairs.as_slice() };
            for pair in pairs {
                checked(format!("jwks URL {}", Brief(&pair.jwks_url)), &pair.jwks_url)?;
            }
            let set = |pair: &Pair| KeySet::new(Place::Url(pair.jwks_url.clone()), Trust::of_pem(&pair.jwks_ca_pem));
            Source::Fetched(pairs.iter().map(set).collect())
        };
        Ok(Self { config, source, algorithms: (!algorithms.is_empty()).then_some(algorithms) })
    }

    /// Whether a machine's token may be signed so.
    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        self.algorithms.as_ref().is_none_or(|known| known.contains(&algorithm))
    }

    /// Whether a person's token may be signed so: RS256 alone where nothing is said, as OpenID Connect has it.
    pub(super) fn takes_from_browser(&self, algorithm: Algorithm) -> bool {
        self.algorithms.as_ref().map_or(algorithm == Algorithm::Rs256, |known| known.contains(&algorithm))
    }
}

fn fixed(texts: &[String]) -> Result<Vec<Key>, String> {
    if texts.len() > FIXED_MAX {
        return Err(format!("error parsing public key: {} keys are given; at most {FIXED_MAX} are allowed", texts.len()));
    }
    texts.iter().map(|text| Key::from_pem(text).map_err(|why| format!("error parsing public key: {why}"))).collect()
}

fn pairs(given: Option<Value>) -> Result<Vec<Pair>, String> {
    let wrong = || "error parsing jwks_pairs: it must be a list of objects with \"jwks_url\" and \"jwks_ca_pem\"".to_owned();
    let given = match given {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => return Ok(Vec::new()),
        // The command line sends it as a text.
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|_its_place_says_little| wrong())?,
        Some(other) => other,
    };
    let pairs: Vec<Pair> = serde_json::from_value(given).map_err(|_its_place_says_little| wrong())?;
    if pairs.len() > SETS_MAX {
        return Err(format!("error parsing jwks_pairs: {} are given; at most {SETS_MAX} are allowed", pairs.len()));
    }
    Ok(pairs)
}

const ROW: &str = "config";
/// Keys that a configuration names itself.
const FIXED_MAX: usize = 64;
/// Key sets of one configuration.
const SETS_MAX: usize = 16;
