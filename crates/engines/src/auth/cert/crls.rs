//! `crls/`: revocation lists, brought by operators or fetched from where they say.

use std::sync::Arc;
use std::time::Duration;

use daypass_idp::{Ask, Payload, Proof, Trust, Url};
use daypass_sdk::{Changes, Cx, Endpoint, Error, Keys, Operation, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::crl::{Crl, Stored};
use super::{Cert, pem};

/// A list.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct CrlParams {
    /// Name of the list; case does not matter. Example: `acme`.
    name: String,
    /// The list in PEM, or its DER in base64; at most 512 KiB of DER.
    crl: Option<String>,
    /// Where it is fetched from, now and from then on about once an hour: `https://`, or plain `http://` from this machine. Example: `https://pki.acme.example/crl`.
    url: Option<String>,
}

/// Which list.
#[derive(Deserialize, JsonSchema)]
struct NameParams {
    /// Name of the list; case does not matter. Example: `acme`.
    name: String,
}

/// Nothing is asked for.
#[derive(Deserialize, JsonSchema)]
struct NoParams {}

pub(super) fn list_endpoint() -> Endpoint<Cert> {
    Endpoint::at(["crls/?"]).summary("List revocation lists.").on(Operation::List, list)
}

pub(super) fn endpoint() -> Endpoint<Cert> {
    Endpoint::at(["crls/{name}"])
        .summary("Bring, read or remove a revocation list.")
        .help(
            "A list counts for all certificates of its issuer, at each login. One that its issuer did not sign, or that is out of date, lets none of that \
             issuer's certificates in until it is replaced or removed.",
        )
        .on(Operation::Read, read)
        .on(Operation::Update, write)
        .on(Operation::Delete, delete)
}

/// All lists.
pub(super) async fn all(cx: &Cx) -> Result<Vec<Arc<Crl>>> {
    let mut out = Vec::new();
    for name in cx.store.list(ROWS).await? {
        out.extend(find(cx, &name).await?);
    }
    Ok(out)
}

async fn find(cx: &Cx, name: &str) -> Result<Option<Arc<Crl>>> {
    if name.len() > NAME_BYTES_MAX {
        return Ok(None);
    }
    Ok(cx.store.find(&row(name)).await?.map(|(crl, _)| crl))
}

async fn list(_: Arc<Cert>, cx: Cx, _: NoParams) -> Result<Keys> {
    Ok(Keys(cx.list(ROWS).await?))
}

async fn read(_: Arc<Cert>, cx: Cx, params: NameParams) -> Result<Reply> {
    Ok(Reply::data(find(&cx, &params.name).await?.ok_or_else(|| missing(&params.name))?.shown()))
}

/// Fails with `BadRequest` for a list that cannot be read or fetched.
async fn write(cert: Arc<Cert>, cx: Cx, params: CrlParams) -> Result<()> {
    if params.name.len() > NAME_BYTES_MAX {
        return Err(Error::bad_request(format!("the name has {} bytes; at most {NAME_BYTES_MAX} are allowed", params.name.len())));
    }
    let stored = match (params.crl, params.url) {
        (Some(crl), None) => {
            let failed = |why: String| Error::bad_request(format!("failed to parse CRL: {why}"));
            let der = pem::list(&crl).map_err(failed)?;
            Crl::read(&der, Stored::of(&der, "", cx.clock.now())).map_err(failed)?.stored
        }
        (None, Some(url)) if url.is_empty() => return Err(Error::bad_request("empty CRL url")),
        (None, Some(url)) => {
            let url = Url::parse(&url).map_err(|why| Error::bad_request(format!("invalid CRL url: {why}")))?;
            fetch(&cert, &cx, url).await.map_err(|why| Error::bad_request(format!("error fetching CRL: {why}")))?.stored
        }
        (None, None) => return Err(Error::bad_request("one of 'crl' or 'url' must be provided")),
        (Some(_), Some(_)) => return Err(Error::bad_request("only one of 'crl' and 'url' can be given")),
    };
    let names = cx.store.list(ROWS).await?;
    if names.len() >= LISTS_MAX && !names.contains(&params.name.to_lowercase()) {
        return Err(Error::bad_request(format!("there are {LISTS_MAX} revocation lists already; remove one first")));
    }
    cx.store.put_json(&row(&params.name), &stored).await
}

/// Fails with `BadRequest` when it is not there.
async fn delete(_: Arc<Cert>, cx: Cx, params: NameParams) -> Result<()> {
    find(&cx, &params.name).await?.ok_or_else(|| missing(&params.name))?;
    cx.store.delete(&row(&params.name)).await
}

/// Fetches the lists that are due. What cannot be had stays as it is: out of date it lets nobody in.
pub(super) async fn refresh(cert: &Cert, cx: &Cx) -> Result<()> {
    for name in cx.store.list(ROWS).await? {
        let Some((old, version)) = cx.store.find::<Crl>(&row(&name)).await? else { continue };
        if !old.is_due(cx.clock.now()) {
            continue;
        }
        let fetched = match Url::parse(&old.stored.url) {
            Ok(url) => fetch(cert, cx, url).await,
            Err(why) => Err(why),
        };
        let fresh = fetched.and_then(|new| new.may_replace(&old).map(|()| new).map_err(str::to_owned));
        match fresh {
            Ok(new) => {
                // Whoever wrote it meanwhile knows better.
                let changes = Changes::new().expect(row(&name), daypass_sdk::Expect::Version(version)).put_json(row(&name), &new.stored)?;
                if let Err(daypass_sdk::CommitFailure::Error(error)) = cx.store.commit(changes).await {
                    return Err(error);
                }
            }
            Err(why) => {
                tracing::warn!(mount = %cx.mount.path, list = %name, why, "a revocation list was not fetched again; the old one stays");
            }
        }
    }
    Ok(())
}

async fn fetch(cert: &Cert, cx: &Cx, url: Url) -> Result<Crl, String> {
    let (host, from) = (url.host().to_owned(), url.as_str().to_owned());
    let ask = Ask { url, payload: Payload::Nothing, proof: Proof::Nothing, trust: Trust::System, deadline: FETCH };
    let answer = cert.idp.ask(ask).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("{host} answered {}", answer.status));
    }
    let text = std::str::from_utf8(&answer.body).ok().filter(|text| text.contains("-----BEGIN"));
    let der = text.map_or_else(|| Ok(answer.body.to_vec()), pem::list)?;
    Crl::read(&der, Stored::of(&der, &from, cx.clock.now()))
}

fn missing(name: &str) -> Error {
    Error::bad_request(format!("no such CRL {}", name.to_lowercase()))
}

fn row(name: &str) -> String {
    format!("{ROWS}{}", name.to_lowercase())
}

const ROWS: &str = "crl/";
/// Longest name of a list, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// Lists of one mount.
const LISTS_MAX: usize = 64;
/// For fetching one list.
const FETCH: Duration = Duration::from_secs(10);
