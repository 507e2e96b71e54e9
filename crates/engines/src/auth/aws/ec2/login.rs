//! A login by an instance's document: from what is handed in to a token, and how long that token lives on.

use std::collections::BTreeMap;

use daypass_aws::Instance;
use daypass_base::Brief;
use daypass_base::duration::go_string;
use daypass_sdk::{Changes, CommitFailure, Cx, Error, Login, Renewal, Result, Seconds, from_json};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::{Attempt, Entry, admit};
use super::document::Document;
use super::instance::{Place, check_place};
use super::tag::Tag;
use super::{Proof, Trusted, accesslist, denylist, role_tag};
use crate::auth::aws::identity::{self, IdentityConfig};
use crate::auth::aws::role::{EC2, Role, UNBOUND};
use crate::auth::aws::trouble::while_doing;
use crate::auth::aws::{AwsAuth, roles};
use crate::auth::cidr;

/// What a client hands in.
#[derive(Debug)]
pub(in crate::auth::aws) struct Ec2Login {
    /// In lower case; empty for the role that is named as the machine image.
    pub(in crate::auth::aws) role: String,
    pub(in crate::auth::aws) proof: Proof,
    pub(in crate::auth::aws) nonce: Option<String>,
}

/// What a token remembers of its login.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::auth::aws) struct Remembered {
    instance: String,
    account: String,
    region: String,
    role_name: String,
    tag_max_ttl: Seconds,
}

/// Fails with `BadRequest` unless AWS signed the document, the instance runs, the role lets it in, and it is who logged in before; with `Denied` from
/// outside the bound networks; with what could not be asked ([`crate::auth::aws::trouble`]).
pub(in crate::auth::aws) async fn log_in(engine: &AwsAuth, cx: &Cx, login: Ec2Login) -> Result<Login> {
    let document = verified(cx, &login.proof).await?;
    let name = if login.role.is_empty() { document.ami.clone() } else { login.role.clone() };
    let role = role_for_login(cx, &name).await?;
    // Before the instance's row is claimed: a document is no secret for long, and whoever has it elsewhere could keep the instance out by a nonce of theirs.
    if !cidr::allowed(&role.token.bound_cidrs, cx.request.remote) {
        return Err(Error::denied());
    }
    let place = document.place();
    check_region(&name, &role, place)?;
    // What needs no call comes first: others' documents are cheap to have.
    check_place(&name, &role, place).map_err(invalid)?;
    let instance = engine.running(cx, place).await.map_err(|error| while_doing("failed to verify instance ID", error))?;
    engine.check_instance(cx, (&name, &role), place, &instance).await.map_err(invalid)?;
    let tag = tag_of(cx, (&name, &role), &instance).await?;
    let nonce = note(cx, (&name, &role), &document, tag.as_ref(), login.nonce.as_deref()).await?;
    let config = identity::find(cx).await?;
    let tag_max_ttl = tag.as_ref().map(|tag| tag.max_ttl).unwrap_or_default();
    let alias = match config.ec2_alias.as_str() {
        "image_id" => document.ami.clone(),
        "instance_id" => document.instance.clone(),
        _ => role.role_id.clone(),
    };
    let mut metadata = metadata(&config, &document, &name, tag_max_ttl);
    metadata.extend(nonce.map(|nonce| ("nonce".to_owned(), nonce)));
    let base = role.token.login();
    let policies = tag.map(|tag| tag.policies).filter(|policies| !policies.is_empty()).unwrap_or(base.policies);
    let remembered = Remembered {
        role_name: name,
        tag_max_ttl,
        instance: document.instance.clone(),
        account: document.account,
        region: document.region,
    };
    Ok(Login {
        policies,
        metadata,
        display_name: document.instance,
        alias,
        max_ttl: shorter(base.max_ttl, tag_max_ttl),
        internal: Some(json!(remembered)),
        ..role.token.login()
    })
}

/// Fails with `BadRequest` when the role, the instance or what is remembered of it is gone, or the role does not let it in any more; with what could not
/// be asked.
pub(in crate::auth::aws) async fn renew(engine: &AwsAuth, cx: &Cx, remembered: Remembered) -> Result<Renewal> {
    let Remembered { instance, account, region, role_name, tag_max_ttl } = remembered;
    let role = role_for_login(cx, &role_name).await?;
    let place = Place { account: &account, region: &region, instance: &instance };
    check_region(&role_name, &role, place)?;
    let failed = |error| while_doing(&format!("failed to verify instance ID {instance:?}"), error);
    let described = engine.running(cx, place).await.map_err(failed)?;
    engine.check_instance(cx, (&role_name, &role), place, &described).await.map_err(invalid)?;
    let row = accesslist::row(&instance);
    let until = cx.clock.now() + longest(cx, &role, tag_max_ttl);
    let decide = |entry: Option<Entry>| {
        let gone = || Error::bad_request(format!("failed to verify the access list identity entry for instance ID: {instance:?}"));
        let entry = entry.ok_or_else(gone)?;
        Ok(Entry { last_updated_time: cx.clock.now(), expiration_time: until.max(entry.expiration_time), ..entry })
    };
    cx.store.change(&row, decide).await?;
    let mut renewal = role.token.renewal();
    renewal.terms.max_ttl = shorter(renewal.terms.max_ttl, tag_max_ttl);
    Ok(renewal)
}

/// The document, once its signature is verified. Errors: Vault's texts, and why.
async fn verified(cx: &Cx, proof: &Proof) -> Result<Document> {
    let trusted = Trusted::find(cx, proof.kind()).await?;
    proof.verified(&trusted).map_err(|why| {
        let how = match proof {
            Proof::Identity { .. } => "the SHA256 RSA digest",
            Proof::Pkcs7(_) => "pkcs7",
        };
        Error::bad_request(format!("failed to verify the instance identity document using {how}: {why}"))
    })
}

async fn role_for_login(cx: &Cx, name: &str) -> Result<Role> {
    let shown = Brief(name);
    let role = roles::find(cx, name).await?.ok_or_else(|| Error::bad_request(format!("entry for role {shown:?} not found")))?;
    if !role.is_bound() {
        return Err(Error::bad_request(UNBOUND));
    }
    if role.auth_type != EC2 {
        return Err(Error::bad_request(format!("auth method ec2 not allowed for role {shown}")));
    }
    Ok(role)
}

fn check_region(name: &str, role: &Role, place: Place<'_>) -> Result<()> {
    let wanted = role.bound("bound_region");
    if wanted.is_empty() || wanted.iter().any(|region| region == place.region) {
        return Ok(());
    }
    Err(Error::bad_request(format!("Region {:?} does not satisfy the constraint on role {name:?}", place.region)))
}

fn invalid(error: Error) -> Error {
    while_doing("Error validating instance", error)
}

/// What the instance's role tag says, where the role asks for one. Errors: Vault's texts.
async fn tag_of(cx: &Cx, (name, role): (&str, &Role), instance: &Instance) -> Result<Option<Tag>> {
    if role.role_tag.is_empty() {
        return Ok(None);
    }
    let refuse = |text: &str| Err(Error::bad_request(text));
    let Some(value) = instance.tags.get(&role.role_tag).filter(|value| !value.is_empty()) else {
        return refuse(&format!("missing tag with key {:?} on the instance", role.role_tag));
    };
    let tag = role_tag::read(cx, value).await?;
    if tag.role != name {
        return refuse("role on the tag is not matching the role supplied");
    }
    if tag.instance.as_ref().is_some_and(|wanted| *wanted != instance.id) {
        return refuse("role tag is being used by an unauthorized instance");
    }
    if denylist::has(cx, value).await? {
        return refuse("role tag is in the deny list");
    }
    if !role_tag::are_of(&role.token.policies, &tag.policies) {
        return refuse("policies on the role tag must be subset of policies on the role");
    }
    Ok(Some(tag))
}

/// Decides whether the instance may log in again and notes the login. Gives the nonce that was made for it.
async fn note(cx: &Cx, (name, role): (&str, &Role), document: &Document, tag: Option<&Tag>, nonce: Option<&str>) -> Result<Option<String>> {
    let row = accesslist::row(&document.instance);
    let attempt = Attempt {
        nonce,
        pending: document.pending,
        allow_migration: role.allow_instance_migration,
        once: role.disallow_reauthentication || tag.is_some_and(|tag| tag.once),
    };
    for _ in 0..ATTEMPTS_MAX {
        let found = cx.store.get(&row).await?;
        let stored: Option<Entry> = found.as_ref().map(|entry| from_json(&row, &entry.value)).transpose()?;
        let fresh = || uuid::Builder::from_random_bytes(cx.entropy.bytes::<16>()).into_uuid().to_string();
        let admitted = admit(stored.as_ref(), attempt, fresh).map_err(Error::bad_request)?;
        let now = cx.clock.now();
        let entry = Entry {
            role: stored.as_ref().map_or_else(|| name.to_owned(), |entry| entry.role.clone()),
            nonce_digest: admitted.nonce_digest,
            creation_time: stored.as_ref().map_or(now, |entry| entry.creation_time),
            last_updated_time: now,
            expiration_time: now + longest(cx, role, tag.map(|tag| tag.max_ttl).unwrap_or_default()),
            pending_time: document.pending,
            disallow_reauthentication: admitted.disallow_reauthentication,
        };
        match cx.store.commit(Changes::new().unchanged(row.clone(), found.as_ref()).put_json(row.clone(), &entry)?).await {
            Ok(()) => return Ok(admitted.echo),
            // Another login of the same instance was faster: it is decided anew.
            Err(CommitFailure::Conflict(_)) => {}
            Err(CommitFailure::Error(error)) => return Err(error),
        }
    }
    Err(Error::from(CommitFailure::Conflict(0)))
}

/// The longest that a token of the login can live; what is remembered of the instance has to live as long.
fn longest(cx: &Cx, role: &Role, tag_max_ttl: Seconds) -> Seconds {
    cx.mount.max_lease_ttl.max(role.token.max_ttl).max(tag_max_ttl)
}

/// The shorter of two limits, of which zero is none.
fn shorter(one: Seconds, other: Seconds) -> Seconds {
    match (one.set(), other.set()) {
        (Some(one), Some(other)) => one.min(other),
        (one, other) => one.or(other).unwrap_or_default(),
    }
}

fn metadata(config: &IdentityConfig, document: &Document, name: &str, tag_max_ttl: Seconds) -> BTreeMap<String, String> {
    let mut out =
        BTreeMap::from([("role".to_owned(), name.to_owned()), ("role_tag_max_ttl".to_owned(), go_string(tag_max_ttl.duration()))]);
    for field in &config.ec2_metadata {
        let value = match field.as_str() {
            "account_id" => document.account.clone(),
            "ami_id" => document.ami.clone(),
            "auth_type" => EC2.to_owned(),
            "instance_id" => document.instance.clone(),
            "region" => document.region.clone(),
            _unknown => continue,
        };
        out.insert(field.clone(), value);
    }
    out
}

impl Document {
    fn place(&self) -> Place<'_> {
        Place { account: &self.account, region: &self.region, instance: &self.instance }
    }
}

/// How often a login is decided again before it gives up.
const ATTEMPTS_MAX: usize = 20;
