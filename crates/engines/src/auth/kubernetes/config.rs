//! `config`: which cluster, and as whom it is asked.

use std::sync::Arc;

use daypass_base::lenient::CommaList;
use daypass_idp::kubernetes::Cluster;
use daypass_idp::{Trust, Url};
use daypass_sdk::{Cx, Endpoint, Error, Operation, Reply, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Kubernetes, local};
use crate::auth::jose::key::Key;
use crate::auth::jose::token::Token;

/// What is stored.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    kubernetes_host: String,
    kubernetes_ca_cert: String,
    token_reviewer_jwt: String,
    pem_keys: Vec<String>,
    issuer: String,
    disable_iss_validation: bool,
    disable_local_ca_jwt: bool,
}

/// The whole configuration: a write replaces all of it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ConfigParams {
    /// The cluster's API server: a URL, or a host with or without a port. Example: `https://10.0.0.1:6443`.
    kubernetes_host: String,
    /// Certificates in PEM that the API server's own is signed by; empty for those of this server's own pod, else the system's.
    kubernetes_ca_cert: String,
    /// Token of a service account that may review tokens (`system:auth-delegator`). Empty for that of this server's own pod, else the token that logs in
    /// reviews itself. It is not shown again.
    token_reviewer_jwt: Secret<String>,
    /// Public keys or certificates in PEM, by one of which tokens have to be signed before the API server is asked. At most 64.
    pem_keys: CommaList,
    /// The issuer (`iss`) that tokens must have, where `disable_iss_validation` is false; empty for `kubernetes/serviceaccount`.
    issuer: String,
    /// Leave it to the API server to know its issuer; true at first.
    disable_iss_validation: Option<bool>,
    /// Take neither certificate nor token of the pod that this server runs in.
    disable_local_ca_jwt: bool,
    /// Kept for clients that send it: annotations of service accounts are not read, so it has to be false.
    use_annotations_as_alias_metadata: bool,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn endpoint() -> Endpoint<Kubernetes> {
    Endpoint::at(["config"])
        .summary("Say which cluster's service accounts log in, or read that.")
        .help(
            "The API server is asked about each token that logs in (TokenReview). Its URL is https://; plain http:// is for addresses of this machine. \
             A server inside of the cluster needs kubernetes_host=https://kubernetes.default.svc and nothing else.",
        )
        .on(Operation::Read, read)
        .on(Operation::Update, write)
}

/// The configuration in force.
pub(super) async fn find(cx: &Cx) -> Result<Option<Config>> {
    cx.store.get_json(ROW).await
}

async fn read(_: Arc<Kubernetes>, cx: Cx, _: NoParams) -> Result<Reply> {
    Ok(Reply::data(find(&cx).await?.ok_or_else(Error::not_found)?.shown()))
}

/// Fails with `BadRequest` for what cannot be used. Nothing is asked of the API server.
async fn write(_: Arc<Kubernetes>, cx: Cx, params: ConfigParams) -> Result<()> {
    let config = Config::of(params).map_err(Error::bad_request)?;
    cx.store.put_json(ROW, &config).await
}

impl Config {
    fn of(params: ConfigParams) -> Result<Self, String> {
        if params.kubernetes_host.is_empty() {
            return Err("no host provided".to_owned());
        }
        if params.use_annotations_as_alias_metadata {
            return Err("use_annotations_as_alias_metadata is not supported: leave it false".to_owned());
        }
        if params.pem_keys.0.len() > KEYS_MAX {
            return Err(format!("pem_keys has {} keys; at most {KEYS_MAX} are allowed", params.pem_keys.0.len()));
        }
        if params.kubernetes_ca_cert.len() > CERTIFICATES_BYTES_MAX {
            let length = params.kubernetes_ca_cert.len();
            return Err(format!("kubernetes_ca_cert has {length} bytes; at most {CERTIFICATES_BYTES_MAX} are allowed"));
        }
        if !params.token_reviewer_jwt.is_empty() {
            // Read and not believed: it goes to the API server, which checks it.
            Token::parse(params.token_reviewer_jwt.expose().trim()).map_err(|why| format!("token_reviewer_jwt is no JWT: {why}"))?;
        }
        let config = Self {
            kubernetes_host: params.kubernetes_host,
            kubernetes_ca_cert: params.kubernetes_ca_cert,
            // Into the sealed row.
            token_reviewer_jwt: params.token_reviewer_jwt.expose().trim().to_owned(),
            pem_keys: params.pem_keys.0,
            issuer: params.issuer,
            disable_iss_validation: params.disable_iss_validation.unwrap_or(true),
            disable_local_ca_jwt: params.disable_local_ca_jwt,
        };
        Url::parse(&config.base()).map_err(|why| format!("kubernetes_host: {why}"))?;
        config.keys()?;
        Ok(config)
    }

    /// The base of the API server's addresses.
    fn base(&self) -> String {
        let host = self.kubernetes_host.trim_end_matches('/');
        if host.contains("://") { host.to_owned() } else { format!("https://{host}") }
    }

    /// The keys that tokens have to be signed by; none leaves that to the API server.
    pub(super) fn keys(&self) -> Result<Vec<Key>, String> {
        self.pem_keys.iter().map(|text| Key::from_pem(text).map_err(|why| format!("pem_keys: {why}"))).collect()
    }

    /// The issuer that tokens must have, if it matters.
    pub(super) fn wanted_issuer(&self) -> Option<&str> {
        let wanted = if self.issuer.is_empty() { ISSUER } else { &self.issuer };
        (!self.disable_iss_validation).then_some(wanted)
    }

    /// The API server, to be asked about `token`: by the configured reviewer, else by this server's own pod, else by the token itself.
    pub(super) fn cluster(&self, kubernetes: &Kubernetes, token: &Secret<String>) -> Cluster {
        let ours = !self.disable_local_ca_jwt;
        let configured = Some(self.token_reviewer_jwt.clone()).filter(|text| !text.is_empty()).map(Secret::new);
        let proof = configured.or_else(|| ours.then(|| local::token(&kubernetes.pod)).flatten()).unwrap_or_else(|| token.clone());
        let authority = Some(self.kubernetes_ca_cert.clone()).filter(|pem| !pem.trim().is_empty());
        let authority = authority.or_else(|| ours.then(|| local::authority(&kubernetes.pod)).flatten());
        Cluster { host: self.base(), trust: Trust::of_pem(&authority.unwrap_or_default()), proof }
    }

    fn shown(&self) -> Map<String, Value> {
        let fields = [
            ("disable_iss_validation", json!(self.disable_iss_validation)),
            ("disable_local_ca_jwt", json!(self.disable_local_ca_jwt)),
            ("issuer", json!(self.issuer)),
            ("kubernetes_ca_cert", json!(self.kubernetes_ca_cert)),
            ("kubernetes_host", json!(self.kubernetes_host)),
            ("pem_keys", json!(self.pem_keys)),
            ("token_reviewer_jwt_set", json!(!self.token_reviewer_jwt.is_empty())),
            ("use_annotations_as_alias_metadata", json!(false)),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }
}

const ROW: &str = "config";
/// Keys of one configuration.
const KEYS_MAX: usize = 64;
/// Longest text of certificates.
const CERTIFICATES_BYTES_MAX: usize = 256 * 1024;
/// The issuer of tokens that are kept in secrets.
const ISSUER: &str = "kubernetes/serviceaccount";
