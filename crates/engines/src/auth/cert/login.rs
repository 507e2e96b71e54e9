//! `login`: from a client's certificate to a token, and how long that token lives on.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::ClientChain;
use daypass_sdk::{Cx, Endpoint, Error, Login, Operation, Renewal, Result, from_json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chain::{Judge, Path, Refusal};
use super::leaf::Leaf;
use super::role::Entry;
use super::trusted::{Authority, Pinned, Trusted};
use super::{Cert, certs, config, crls, ocsp};
use crate::auth::cidr;
use crate::auth::token_fields::same_policies;

/// Who wants to log in.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct LoginParams {
    /// The trusted certificate to log in by; all are tried unless given. Example: `runners`.
    name: String,
}

/// What a token remembers of its login.
#[derive(Serialize, Deserialize)]
struct Remembered {
    cert_name: String,
    /// SHA-256 of the certificate, in hex.
    certificate: String,
    policies: Vec<String>,
}

pub(super) fn endpoint() -> Endpoint<Cert> {
    Endpoint::at(["login"])
        .summary("Log in with the certificate that is shown over TLS.")
        .help("The client shows its certificate in the TLS handshake. Answers with a token that has the policies and lifetimes of the trusted certificate.")
        .on_proof()
        .on(Operation::Update, login)
}

/// Fails with `BadRequest` for whoever is not let in, with `Denied` from outside the bound networks, and with `Failed` when no responder could be asked.
async fn login(cert: Arc<Cert>, cx: Cx, params: LoginParams) -> Result<Login> {
    let (chain, leaf) = shown(&cx)?;
    let (name, entry, path) = admitted(&cx, &chain, &leaf, &params.name.to_lowercase()).await?;
    let role = &entry.role;
    if !cidr::allowed(&role.token.bound_cidrs, cx.request.remote) {
        return Err(Error::denied());
    }
    if leaf.common_name.is_empty() {
        return Err(Error::bad_request("the certificate has no common name, which is to name whoever logs in"));
    }
    still_good(&cert, &cx, &entry, &path).await?;
    let internal = Remembered { cert_name: name.clone(), certificate: fingerprint(&leaf), policies: role.token.policies.clone() };
    Ok(Login {
        metadata: role.metadata(&name, &leaf),
        display_name: role.display_name.clone(),
        internal: Some(json!(internal)),
        alias: leaf.common_name,
        ..role.token.login()
    })
}

/// The certificates of the connection. Errors: `BadRequest` in Vault's words.
fn shown(cx: &Cx) -> Result<(Arc<ClientChain>, Leaf)> {
    let chain = cx.request.client_chain.clone().ok_or_else(|| Error::bad_request("tls connection required"))?;
    let own = chain.own().ok_or_else(|| Error::bad_request("client certificate must be supplied"))?;
    let leaf = Leaf::read(own).map_err(|why| unverified(&why))?;
    Ok((chain, leaf))
}

/// The entry that lets a certificate in, and the chain by which it does. Errors: `BadRequest` in Vault's words.
async fn admitted(cx: &Cx, chain: &ClientChain, leaf: &Leaf, name: &str) -> Result<(String, Arc<Entry>, Path)> {
    let entries = match name {
        "" => certs::all(cx).await?,
        name => certs::find(cx, name).await?.map(|entry| (name.to_owned(), entry)).into_iter().collect(),
    };
    let lists = crls::all(cx).await?;
    let judge = Judge { now: cx.clock.now(), lists: &lists };
    decide(&judge, chain, leaf, &entries).map(|((name, entry), path)| (name.clone(), Arc::clone(entry), path))
}

/// Has responders asked where the entry says so: last of all, so that only whoever would be let in makes anybody be asked. That entry's word is
/// final: no other is tried after it. Errors: `BadRequest`; `Failed` when nobody could be asked.
async fn still_good(cert: &Cert, cx: &Cx, entry: &Entry, path: &Path) -> Result<()> {
    match &entry.responders {
        Some(responders) => ocsp::check(cert, cx, responders, path).await,
        None => Ok(()),
    }
}

/// Pure. Certificates that are trusted by themselves come before authorities, as in Vault.
fn decide<'a>(
    judge: &Judge<'_>,
    chain: &ClientChain,
    leaf: &Leaf,
    entries: &'a [(String, Arc<Entry>)],
) -> Result<(&'a (String, Arc<Entry>), Path)> {
    judge.usable(leaf).map_err(|refusal| unverified(&refusal.to_string()))?;
    let mut refusals = Refusals::default();
    for named in entries {
        if let Trusted::Leaf(pinned) = &named.1.trusted {
            match refusals.sort(own(judge, pinned, leaf)) {
                Some(path) if named.1.role.admits(leaf) => return Ok((named, path)),
                Some(_) => refusals.trusted = true,
                None => refusals.mismatch |= looks_like(pinned, leaf),
            }
        }
    }
    // Many entries may trust the same authorities, each for other names: the path to them is verified once.
    let mut known: BTreeMap<&str, Result<Path, Refusal>> = BTreeMap::new();
    for named in entries {
        if let Trusted::Authorities(authorities) = &named.1.trusted {
            let verdict = match authorities.iter().find(|authority| authority.der == leaf.der) {
                Some(own) => itself(judge, own, &named.1),
                None => known.entry(&named.1.role.certificate).or_insert_with(|| judge.vouched(chain, authorities)).clone(),
            };
            match refusals.sort(verdict) {
                Some(path) if named.1.role.admits(leaf) => return Ok((named, path)),
                Some(_) => refusals.trusted = true,
                None => {}
            }
        }
    }
    Err(refusals.error())
}

/// Whether this is the very certificate that is trusted, and still is.
fn own(judge: &Judge<'_>, pinned: &Pinned, leaf: &Leaf) -> Result<Path, Refusal> {
    if pinned.leaf.der != leaf.der {
        return Err(Refusal::Unknown);
    }
    judge.pinned(pinned)?;
    Ok(Path::of(std::iter::once(leaf.der.clone()).chain(pinned.issuer.clone()).collect()))
}

/// Whether an authority that shows its own certificate is still trusted. Certificates that signed themselves mostly say to be an authority's, since tools make
/// them so; as in Vault they let in whoever shows them. No chain leads to them, so webpki is not asked: it takes no authority's for a client's.
fn itself(judge: &Judge<'_>, own: &Authority, entry: &Entry) -> Result<Path, Refusal> {
    judge.authority(own)?;
    if entry.responders.is_some() {
        // No issuer stands behind it whose word could be asked for.
        return Err(Refusal::Unsound(
            "x509: nobody can be asked about the certificate of a trusted authority itself (ocsp_enabled)".to_owned(),
        ));
    }
    Ok(Path::of(vec![own.der.clone()]))
}

/// Whether a certificate that is not the trusted one passes itself off as it: under its number, by the same issuer.
fn looks_like(pinned: &Pinned, leaf: &Leaf) -> bool {
    pinned.leaf.der != leaf.der && pinned.leaf.serial_number == leaf.serial_number && pinned.leaf.authority_key_id == leaf.authority_key_id
}

/// Why nobody let a certificate in.
#[derive(Default)]
struct Refusals {
    mismatch: bool,
    /// It is trusted, and fits no entry's other fields.
    trusted: bool,
    unsound: Option<String>,
    revoked: Option<&'static str>,
}

impl Refusals {
    /// Keeps a refusal.
    fn sort(&mut self, verdict: Result<Path, Refusal>) -> Option<Path> {
        match verdict {
            Ok(path) => return Some(path),
            Err(Refusal::Unknown) => {}
            Err(Refusal::Unsound(text)) => self.unsound = self.unsound.take().or(Some(text)),
            Err(Refusal::Revoked(text)) => self.revoked = self.revoked.or(Some(text)),
        }
        None
    }

    fn error(self) -> Error {
        match self {
            Self { revoked: Some(text), .. } => unfit(text),
            Self { mismatch: true, .. } => Error::bad_request("certificate mismatch of a trusted leaf certificate"),
            Self { trusted: true, .. } => Error::bad_request(UNFIT),
            Self { unsound: Some(text), .. } => unverified(&text),
            _ => Error::bad_request("invalid certificate or no client certificate supplied"),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("x509: certificate signed by unknown authority"),
            Self::Unsound(text) => f.write_str(text),
            Self::Revoked(text) => f.write_str(text),
        }
    }
}

/// In Vault's words.
pub(super) fn unfit(why: &str) -> Error {
    Error::bad_request(format!("{UNFIT}; additionally got errors during verification: {why}"))
}

fn unverified(why: &str) -> Error {
    Error::bad_request(format!("failed to verify client's certificate: {why}"))
}

fn fingerprint(leaf: &Leaf) -> String {
    data_encoding::HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &leaf.der).as_ref())
}

/// Fails with `BadRequest` when whoever renews shows another certificate than at the login, or one that is let in no more; with `NotFound` when the
/// entry is gone: the token keeps the end it has. `Failed` when no responder could be asked: one may be soon.
pub(super) async fn renew(cert: Arc<Cert>, cx: Cx, internal: Value) -> Result<Renewal> {
    let remembered: Remembered = from_json("the login of a token", internal.to_string().as_bytes())?;
    let entry = certs::find(&cx, &remembered.cert_name).await?.ok_or_else(Error::not_found)?;
    if !config::find(&cx).await?.disable_binding {
        let (chain, leaf) = shown(&cx)?;
        if fingerprint(&leaf) != remembered.certificate {
            return Err(Error::bad_request("client identity during renewal not matching client identity used during login"));
        }
        let (_, entry, path) = admitted(&cx, &chain, &leaf, &remembered.cert_name).await?;
        still_good(&cert, &cx, &entry, &path).await?;
    }
    if !same_policies(&entry.role.token.policies, &remembered.policies) {
        return Err(Error::bad_request("policies have changed, not renewing"));
    }
    Ok(entry.role.token.renewal())
}

const UNFIT: &str = "no chain matching all constraints could be found for this login certificate";
