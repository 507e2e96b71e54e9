//! `config`: whose members log in, and what all of them get.

use std::sync::Arc;

use daypass_idp::Url;
use daypass_idp::github::{self, Api};
use daypass_sdk::{Changes, CommitFailure, Cx, Endpoint, Error, Expect, Operation, Reply, Result, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::GitHub;
use crate::auth::token_fields::{OlderNames, OlderParams, TokenFields, With};

/// What is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) organization: String,
    pub(super) organization_id: u64,
    base_url: String,
    pub(super) token: TokenFields,
    /// The older names of token fields that were used, and are shown again.
    older: OlderNames,
}

/// The configuration's own fields; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ConfigParams {
    /// The organisation that users must be in. Example: `acme`.
    organization: Option<String>,
    /// The organisation's id. GitHub is asked for it when it is left out. Example: `1342004`.
    organization_id: Option<u64>,
    /// The base of the API's addresses, for an enterprise server: https, or http on this machine. Example: `https://github.acme.example/api/v3/`.
    base_url: Option<String>,
    /// Older name of `token_ttl`.
    ttl: Option<Seconds>,
    /// Older name of `token_max_ttl`.
    max_ttl: Option<Seconds>,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn endpoint() -> Endpoint<GitHub> {
    Endpoint::at(["config"])
        .summary("Say which organisation's members log in, or read that.")
        .help(
            "The organisation is known by its id from then on: if it is renamed, its members go on logging in, and whoever takes its name does not. A \
             write asks GitHub for the id of an organisation that is new here, unless it says the id itself.",
        )
        .on(Operation::Read, read)
        .on(Operation::Update, write)
}

/// The configuration in force.
pub(super) async fn find(cx: &Cx) -> Result<Option<Arc<Config>>> {
    Ok(cx.store.find(ROW).await?.map(|(config, _)| config))
}

async fn read(_: Arc<GitHub>, cx: Cx, _: NoParams) -> Result<Reply> {
    Ok(Reply::data(find(&cx).await?.ok_or_else(Error::not_found)?.shown()))
}

/// Fails with `BadRequest` for what cannot be used, and when GitHub does not tell the organisation's id.
async fn write(github: Arc<GitHub>, cx: Cx, params: With<ConfigParams>) -> Result<()> {
    let id_given = params.own.organization_id.is_some_and(|id| id != 0);
    let mut asked: Option<Config> = None;
    for _ in 0..ATTEMPTS_MAX {
        let read = cx.store.find::<Config>(ROW).await?;
        let old = read.as_ref().map(|(config, _)| Config::clone(config)).unwrap_or_default();
        let mut config = old.clone();
        config.apply(With { own: params.own.clone(), token: params.token.clone() })?;
        let known = config.organization_id != 0 && config.is_about_the_same_as(&old);
        if !id_given && !known {
            let before = asked.filter(|asked| config.is_about_the_same_as(asked));
            config.organization_id = match before {
                Some(before) => before.organization_id,
                None => id_of(&github, &config).await?,
            };
            asked = Some(config.clone());
        }
        // What another wrote while GitHub was asked stays.
        let same = read.map_or(Expect::Absent, |(_, version)| Expect::Version(version));
        match cx.store.commit(Changes::new().expect(ROW, same).put_json(ROW, &config)?).await {
            Ok(()) => return Ok(()),
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// Asks GitHub for the organisation's id. Errors: `BadRequest` when it does not tell.
async fn id_of(github: &GitHub, config: &Config) -> Result<u64> {
    let unknown =
        |why: &str| Error::bad_request(format!("unable to fetch the organization_id, you must manually set it in the config: {why}"));
    let api = Api { base: config.base(), token: None };
    let found = github::organization(github.idp.as_ref(), &api, &config.organization).await;
    match found.map_err(|error| unknown(&error.to_string()))?.id {
        0 => Err(unknown("GitHub says it is 0, which is nobody's")),
        id => Ok(id),
    }
}

impl Config {
    fn apply(&mut self, params: With<ConfigParams>) -> Result<()> {
        let With { own, token } = params;
        let older = OlderParams { policies: None, ttl: own.ttl, max_ttl: own.max_ttl, period: None, num_uses: None, bound_cidrs: None };
        let token = self.older.merge(token, older);
        self.token.apply(token)?;
        if let Some(organization) = own.organization {
            self.organization = organization;
        }
        if self.organization.is_empty() {
            return Err(Error::bad_request("organization is a required parameter"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.organization.len() > NAME_BYTES_MAX || !self.organization.chars().all(plain) {
            return Err(Error::bad_request(format!(
                "organization has {} bytes: a name on GitHub has letters, digits and '-', at most {NAME_BYTES_MAX} of them",
                self.organization.len()
            )));
        }
        self.organization_id = own.organization_id.unwrap_or(self.organization_id);
        if let Some(base) = own.base_url {
            self.base_url = if base.is_empty() || base.ends_with('/') { base } else { format!("{base}/") };
        }
        if self.base_url.contains('?') {
            return Err(Error::bad_request("base_url: it has a query"));
        }
        Url::parse(self.base()).map(drop).map_err(|why| Error::bad_request(format!("base_url: {why}")))
    }

    /// Whether the organisation has the same name at the same place.
    fn is_about_the_same_as(&self, other: &Self) -> bool {
        self.organization == other.organization && self.base_url == other.base_url
    }

    /// The base of the API's addresses.
    pub(super) fn base(&self) -> &str {
        if self.base_url.is_empty() { GITHUB } else { &self.base_url }
    }

    fn shown(&self) -> Map<String, Value> {
        let fields = [
            ("base_url", json!(self.base_url)),
            ("organization", json!(self.organization)),
            ("organization_id", json!(self.organization_id)),
        ];
        let mut out: Map<String, Value> = fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        self.token.show(&mut out);
        self.older.show(&self.token, &mut out);
        out
    }
}

const ROW: &str = "config";
const GITHUB: &str = "https://api.github.com/";
const NAME_BYTES_MAX: usize = 128;
/// How often a write is decided again, because another was faster.
const ATTEMPTS_MAX: usize = 20;
