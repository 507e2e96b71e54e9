//! `create`, `create-orphan`, `create/{role}`: what a new token may be, decided in Vault's order, with Vault's texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::lenient::{KvPairs, StringList, null_is_absent};
use daypass_base::{Brief, Seconds, Secret, duration};
use daypass_sdk::{Cx, Error, Kind, Operation, Outcome, Reply, Result, check_metadata};
use schemars::JsonSchema;
use serde::Deserialize;

use super::roles::{self, Role};
use super::{TokenRoom, caller, open};
use crate::logins::{auth_of, check_assignable, normal_policies, with_identity};
use crate::node::Unsealed;
use crate::stages::judge::policy_operation;
use crate::tokens::{self, AliasRef, Known, TokenRow};
use crate::ttl::{self, Wish};

/// What is wanted of a new token.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CreateParams {
    /// A token of the caller's own choice; for root and sudo.
    id: Option<Secret<String>>,
    /// Names of its policies; the parent's when left out.
    policies: Option<StringList>,
    /// Facts to keep with it.
    meta: Option<KvPairs>,
    /// Let it outlive its parent; for root and sudo.
    #[serde(default)]
    no_parent: bool,
    /// Leave out the `default` policy.
    #[serde(default)]
    no_default_policy: bool,
    /// Whether it can be renewed; yes unless said otherwise.
    #[serde(default, deserialize_with = "null_is_absent")]
    renewable: Option<bool>,
    /// Lifetime, in seconds or as a duration.
    ttl: Option<String>,
    /// Older name of `ttl`.
    lease: Option<String>,
    /// A limit that renewals cannot move, in seconds or as a duration.
    explicit_max_ttl: Option<String>,
    /// Every renewal sets the lifetime to this, without an end; for root and sudo. In seconds or as a duration.
    period: Option<String>,
    /// Requests it is good for; 0 is without limit.
    #[serde(default)]
    num_uses: i64,
    /// A name for logs.
    display_name: Option<String>,
    /// `service` or `batch`.
    #[serde(default)]
    r#type: String,
    /// The entity it shall belong to; with a role only.
    #[serde(default)]
    entity_alias: String,
    /// The role, from the path.
    #[serde(default)]
    role_name: String,
}

pub(super) async fn create(room: Arc<TokenRoom>, cx: Cx, params: CreateParams) -> Result<Reply> {
    made(room, cx, params, Lineage::Child, None).await
}

pub(super) async fn create_orphan(room: Arc<TokenRoom>, cx: Cx, params: CreateParams) -> Result<Reply> {
    made(room, cx, params, Lineage::Orphan, None).await
}

pub(super) async fn create_with_role(room: Arc<TokenRoom>, cx: Cx, params: CreateParams) -> Result<Reply> {
    let name = params.role_name.clone();
    let role = roles::find(&cx, &name).await?.ok_or_else(|| Error::bad_request(format!("unknown role {name}")))?;
    made(room, cx, params, Lineage::Child, Some((name, role))).await
}

/// Whether the path itself makes orphans.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lineage {
    Child,
    Orphan,
}

/// A decided token.
struct Decided {
    row: TokenRow,
    wanted: Option<Secret<String>>,
    batch: bool,
    warnings: Vec<String>,
}

async fn made(room: Arc<TokenRoom>, cx: Cx, params: CreateParams, lineage: Lineage, role: Option<(String, Role)>) -> Result<Reply> {
    let (_, unsealed) = open(&room).await?;
    let (_, parent) = caller(&cx, &unsealed).await.map_err(|error| match error.kind {
        Kind::Denied => Error::bad_request("parent token lookup failed: no parent found"),
        // A store that could not be read says nothing of the parent.
        _ => error,
    })?;
    let sudo = has_sudo(&unsealed, &cx, &parent).await?;
    let entity_alias = params.entity_alias.trim().to_owned();
    let Decided { mut row, wanted, batch, mut warnings } = decide(&cx, params, lineage, role, &parent, sudo)?;
    if !entity_alias.is_empty() {
        take_alias(&unsealed, &cx, &mut row, entity_alias).await?;
    }
    let standing = unsealed.identities.standing(&row, unsealed.table.load().config_version).await?;
    for policy in &row.policies {
        if !unsealed.policies.exists(policy).await? {
            warnings.push(format!("Policy {:?} does not exist", Brief(policy)));
        }
    }
    if wanted.is_some() {
        warnings.push("Supplying a custom ID for the token uses the weaker SHA1 hashing instead of the more secure SHA2-256 HMAC for token obfuscation. SHA1 hashed tokens on the wire leads to less secure lookups.".to_owned());
    }
    let now = cx.clock.now();
    let made = if batch { unsealed.tokens.create_batch(row)? } else { unsealed.tokens.create(row, wanted, &[]).await? };
    let reply = Reply::from(Outcome::Token(Box::new(with_identity(auth_of(&made, now), &standing))));
    Ok(warnings.into_iter().fold(reply, Reply::warn))
}

/// Gives the token the owner that was asked for, whoever makes it. Errors: `Denied` while that one is disabled.
async fn take_alias(unsealed: &Unsealed, cx: &Cx, row: &mut TokenRow, name: String) -> Result<()> {
    let accessor = cx.mount.accessor.clone();
    let (entity_id, config_version) = unsealed.identities.entity_of_alias(&accessor, &name).await?;
    let (entity_id, standing) = unsealed.identities.owner_of_login(entity_id, (&accessor, &[]), config_version).await?;
    row.entity_id = entity_id;
    row.entity_since = None;
    row.alias = Some(AliasRef { name, mount_accessor: accessor, metadata: Some(BTreeMap::new()), groups: Vec::new(), login: None });
    if standing.refuses(row.entity_since()) {
        return Err(Error::new(Kind::Denied, "entity from given entity alias is disabled"));
    }
    Ok(())
}

/// Whether the caller has `sudo` on the path it asked. The request itself was judged before: what else its rule demands is not asked again.
async fn has_sudo(unsealed: &Arc<Unsealed>, cx: &Cx, parent: &Known) -> Result<bool> {
    let config_version = unsealed.table.load().config_version;
    let acl = unsealed.authority(&parent.row, config_version).await?.acl;
    Ok(acl.has_sudo(&cx.request.path, policy_operation(Operation::Update)))
}

fn decide(cx: &Cx, params: CreateParams, lineage: Lineage, role: Option<(String, Role)>, parent: &Known, sudo: bool) -> Result<Decided> {
    if parent.batch {
        return Err(Error::bad_request("batch tokens cannot create more tokens"));
    }
    if parent.row.num_uses != 0 {
        return Err(Error::bad_request("restricted use token cannot generate child tokens"));
    }
    let batch = kind(&params, role.as_ref().map(|(_, role)| role))?;
    if params.num_uses < 0 {
        return Err(Error::bad_request("number of uses cannot be negative"));
    }
    check_entity_alias(&params, role.as_ref().map(|(_, role)| role))?;
    check_id(params.id.as_ref(), sudo)?;
    let policies = policies(&params, role.as_ref().map(|(_, role)| role), parent, sudo)?;
    let orphan = orphan(&params, lineage, role.as_ref().map(|(_, role)| role), sudo)?;
    let is_root = policies.iter().any(|policy| policy == "root");
    if is_root {
        check_root(batch, parent)?;
    }
    let times = Times::read(&params, role.as_ref().map(|(_, role)| role), sudo, is_root)?;
    let mut warnings = times.warnings.clone();
    let now = cx.clock.now();
    let path = match &role {
        None if lineage == Lineage::Orphan => "auth/token/create-orphan".to_owned(),
        None => "auth/token/create".to_owned(),
        Some((name, role)) if role.path_suffix.is_empty() => format!("auth/token/create/{name}"),
        Some((name, role)) => format!("auth/token/create/{name}/{}", role.path_suffix),
    };
    let mut row = tokens::row(policies, &path, &display_name(params.display_name.as_deref()), now);
    row.meta = params.meta.map(|meta| meta.0).filter(|meta: &BTreeMap<String, String>| !meta.is_empty());
    row.meta.as_ref().map_or(Ok(()), check_metadata)?;
    row.parent = (!orphan).then_some(parent.id.0);
    row.parent_created = (batch && !orphan && tokens::is_of_choice(parent.id)).then_some(parent.row.created);
    if !orphan {
        row.inherit_owner(parent);
        row.bound_cidrs.clone_from(&parent.row.bound_cidrs);
    }
    row.num_uses = params.num_uses;
    row.renewable = params.renewable.unwrap_or(true) && !batch;
    if let Some((name, role)) = &role {
        row.role = Some(name.clone());
        row.bound_cidrs.clone_from(&role.token_bound_cidrs);
        row.renewable = row.renewable && role.renewable;
        if role.token_num_uses > 0 && (row.num_uses == 0 || row.num_uses > role.token_num_uses) && !batch {
            row.num_uses = role.token_num_uses;
        }
    }
    row.explicit_max_ttl = times.explicit_max;
    row.role_max_ttl = times.role_max;
    row.period = times.period;
    warnings.extend(live_for(&mut row, &times, parent, cx)?);
    Ok(Decided { row, wanted: params.id.filter(|id| !id.is_empty()), batch, warnings })
}

/// Sets how long the token lives. Returns a remark when that is less than was asked for.
fn live_for(row: &mut TokenRow, times: &Times, parent: &Known, cx: &Cx) -> Result<Option<String>> {
    let endless = row.is_root() && times.ttl.is_zero() && times.period.is_zero() && times.explicit_max.is_zero();
    if endless {
        if parent.row.expires.is_some() {
            return Err(Error::bad_request("expiring root tokens cannot create non-expiring root tokens"));
        }
        row.renewable = false;
        return Ok(None);
    }
    let wish = Wish {
        issued: row.created,
        now: row.created,
        mount_default: cx.mount.default_lease_ttl,
        mount_max: cx.mount.max_lease_ttl,
        ttl: times.ttl,
        max_ttl: Seconds::ZERO,
        explicit_max: ttl::least([times.explicit_max, times.role_max]),
        period: times.period,
        increment: Seconds::ZERO,
    };
    let granted = ttl::grant(&wish).map_err(|_past| Error::bad_request("ttl must be positive"))?;
    row.creation_ttl = granted.ttl;
    row.expires = Some(row.created + granted.ttl);
    // A root token has no lifetime by default that its maximum could cut.
    Ok(granted.warning.filter(|_| !row.is_root() || !times.ttl.is_zero() || !times.period.is_zero()))
}

fn kind(params: &CreateParams, role: Option<&Role>) -> Result<bool> {
    let asked = match params.r#type.as_str() {
        "" => None,
        "service" => Some(false),
        "batch" => Some(true),
        _ => return Err(Error::bad_request("invalid 'token_type' value")),
    };
    let batch = match role.map(|role| role.token_type.as_str()) {
        Some("batch") => true,
        Some("service") => false,
        Some("default-batch") => asked.unwrap_or(true),
        _ => asked.unwrap_or(false),
    };
    if !batch {
        return Ok(false);
    }
    // `0s` is what the command line sends for "not set".
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| duration::parse(text).is_ok_and(|given| !given.size.is_zero()));
    for (name, given) in
        [("explicit_max_ttl", set(&params.explicit_max_ttl)), ("num_uses", params.num_uses != 0), ("period", set(&params.period))]
    {
        if given {
            return Err(Error::bad_request(format!("batch tokens cannot have {name:?} set")));
        }
    }
    Ok(true)
}

fn check_entity_alias(params: &CreateParams, role: Option<&Role>) -> Result<()> {
    if params.entity_alias.is_empty() {
        return Ok(());
    }
    let Some(role) = role else {
        return Err(Error::bad_request("'entity_alias' is only allowed in combination with token role"));
    };
    let wanted = params.entity_alias.to_lowercase();
    if role.allowed_entity_aliases.iter().flatten().any(|pattern| roles::glob(&pattern.to_lowercase(), &wanted)) {
        return Ok(());
    }
    Err(Error::bad_request("invalid 'entity_alias' value"))
}

fn check_id(id: Option<&Secret<String>>, sudo: bool) -> Result<()> {
    let Some(id) = id.filter(|id| !id.is_empty()) else { return Ok(()) };
    if !sudo {
        return Err(Error::bad_request("root or sudo privileges required to specify token id"));
    }
    // Exposed to be checked; no part of it is echoed.
    let text = id.expose();
    if text.starts_with("hvs.") {
        return Err(Error::bad_request("custom token ID cannot have the 'hvs.' prefix"));
    }
    if text.starts_with("s.") {
        return Err(Error::bad_request("custom token ID cannot have the 's.' prefix"));
    }
    if text.contains('.') {
        return Err(Error::bad_request("custom token ID cannot have a '.' in the value"));
    }
    if text.len() > 1024 || text.bytes().any(|byte| !(0x21..=0x7e).contains(&byte)) {
        return Err(Error::bad_request("custom token ID must be at most 1024 printable ASCII characters without blanks"));
    }
    Ok(())
}

/// The policies of the token. Errors: `BadRequest` with Vault's texts.
fn policies(params: &CreateParams, role: Option<&Role>, parent: &Known, sudo: bool) -> Result<Vec<String>> {
    let mut policies = wanted_policies(params, role, parent, sudo)?;
    // The caller's word stands against a `default` of whatever origin; a role's only keeps it from being added.
    if params.no_default_policy {
        policies.retain(|policy| policy != "default");
    }
    // Judged by what the token would have: a role may name what a request may not.
    check_assignable(&policies)?;
    Ok(policies)
}

fn wanted_policies(params: &CreateParams, role: Option<&Role>, parent: &Known, sudo: bool) -> Result<Vec<String>> {
    // Who sends names that are blank has said something, and inherits nothing: `-policy="$UNSET"` must not make a root token.
    let given = params.policies.as_ref().map(|list| list.0.as_slice()).filter(|names| !names.is_empty());
    let asked = given.map(normal_policies);
    let with_default = |mut policies: Vec<String>, add: bool| {
        if add && !policies.iter().any(|policy| policy == "default" || policy == "root") {
            policies.push("default".to_owned());
            policies.sort_unstable();
        }
        policies
    };
    if let Some(role) = role
        && role.restricts_policies()
    {
        return roles::policies(role, asked, params.no_default_policy, parent);
    }
    let Some(asked) = asked else { return Ok(parent.row.policies.clone()) };
    let no_default = params.no_default_policy || role.is_some_and(|role| role.token_no_default_policy);
    if sudo {
        if asked == ["root"] && !parent.row.is_root() {
            return Err(Error::bad_request("root tokens may not be created without parent token being root"));
        }
        return Ok(with_default(asked, !no_default));
    }
    if !parent.row.is_root() && !asked.iter().all(|policy| parent.row.policies.contains(policy)) {
        return Err(Error::bad_request("child policies must be subset of parent"));
    }
    let add = !no_default && parent.row.policies.iter().any(|policy| policy == "default");
    Ok(with_default(asked, add))
}

fn check_root(batch: bool, parent: &Known) -> Result<()> {
    if !parent.row.is_root() {
        return Err(Error::bad_request("root tokens may not be created without parent token being root"));
    }
    if batch {
        return Err(Error::bad_request("batch tokens cannot be root tokens"));
    }
    Ok(())
}

fn orphan(params: &CreateParams, lineage: Lineage, role: Option<&Role>, sudo: bool) -> Result<bool> {
    if let Some(role) = role {
        return Ok(role.orphan);
    }
    if lineage == Lineage::Orphan {
        return Ok(true);
    }
    if params.no_parent && !sudo {
        return Err(Error::bad_request("root or sudo privileges required to create orphan token"));
    }
    Ok(params.no_parent)
}

/// Lifetimes of a request and its role.
struct Times {
    ttl: Seconds,
    explicit_max: Seconds,
    /// The role's own limit: it holds, but look-ups do not show it.
    role_max: Seconds,
    period: Seconds,
    warnings: Vec<String>,
}

impl Times {
    fn read(params: &CreateParams, role: Option<&Role>, sudo: bool, _root: bool) -> Result<Self> {
        let mut warnings = Vec::new();
        let mut explicit_max = positive(params.explicit_max_ttl.as_deref(), "explicit_max_ttl")?;
        let mut period = positive(params.period.as_deref(), "period")?;
        if !period.is_zero() && !sudo {
            return Err(Error::bad_request("root or sudo privileges required to create periodic token"));
        }
        let ttl = match params.ttl.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => positive(Some(text), "ttl")?,
            None => positive(params.lease.as_deref(), "lease")?,
        };
        let mut role_max = Seconds::ZERO;
        if let Some(role) = role {
            if explicit_max.is_zero() {
                role_max = role.token_explicit_max_ttl;
            } else {
                explicit_max = lesser(explicit_max, role.token_explicit_max_ttl, "Explicit max TTL", &mut warnings);
            }
            period = lesser(period, role.token_period, "Period", &mut warnings);
        }
        Ok(Self { ttl, explicit_max, role_max, period, warnings })
    }
}

fn positive(text: Option<&str>, name: &str) -> Result<Seconds> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Seconds::ZERO) };
    let signed = duration::parse(text).map_err(|error| Error::bad_request(error.to_string()))?;
    if signed.negative && !signed.size.is_zero() {
        return Err(Error::bad_request(format!("{name} must be positive")));
    }
    Ok(signed.size.into())
}

fn lesser(request: Seconds, role: Seconds, what: &str, warnings: &mut Vec<String>) -> Seconds {
    match (request.set(), role.set()) {
        (Some(request), Some(role)) => {
            let least = request.min(role);
            warnings.push(format!("{what} specified both during creation call and in role; using the lesser value of {} seconds", least.0));
            least
        }
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => Seconds::ZERO,
    }
}

/// `token-` and the name with everything but letters, digits and dashes replaced.
fn display_name(name: Option<&str>) -> String {
    match name.filter(|name| !name.is_empty()) {
        None => "token".to_owned(),
        Some(name) => {
            let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            format!("token-{}", safe.trim_matches('-'))
        }
    }
}
