//! OIDC identity providers: issuers whose tokens roles may trust.
//!
//! AWS takes `https` issuers alone and reads their keys from them. Here an issuer on this machine may be plain `http`, and is the only kind
//! whose keys can be read; keys of others come with the world or over `/_sandbox/control`.

use super::{Cx, exists, no_such, within_quota};
use crate::answer::Xml;
use crate::discovery;
use crate::fault::{Constraints, Fault, Result};
use crate::state::{Account, Provider, State, quota};

pub(super) fn create(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let url = cx.params.required("Url")?;
    let mut constraints = Constraints::default();
    constraints.length("url", url, 1, 255);
    constraints.check()?;
    if !url.starts_with("https://") && !discovery::is_reachable(url) {
        return Err(Fault::validation("Invalid Open ID Connect Provider URL"));
    }
    let name = bare(url);
    let audiences: Vec<String> = cx.params.list("ClientIDList").into_iter().map(str::to_owned).collect();
    within_quota(audiences.len().saturating_sub(1), quota::CLIENT_IDS, "ClientIdsPerOpenIdConnectProvider")?;
    within_quota(account.providers.len(), quota::PROVIDERS, "OpenIdConnectProvidersPerAccount")?;
    if account.providers.contains_key(name) {
        return Err(exists(format!("Provider with url {url} already exists.")));
    }
    account.providers.insert(name.to_owned(), Provider { issuer: url.to_owned(), audiences, keys: Vec::new(), fixed: false });
    let mut xml = Xml::default();
    xml.field("OpenIDConnectProviderArn", &arn(cx.account, name));
    Ok(xml)
}

pub(super) fn read(cx: &Cx<'_>, state: &State) -> Result<Xml> {
    let wanted = cx.params.required("OpenIDConnectProviderArn")?;
    let providers = state.account(cx.account).map(|account| &account.providers);
    let found = providers.and_then(|providers| providers.iter().find(|(name, _)| arn(cx.account, name) == wanted));
    let (name, provider) = found.ok_or_else(|| missing(wanted))?;
    let mut xml = Xml::default();
    // IAM shows the URL without its scheme.
    xml.field("Url", name);
    xml.texts("ClientIDList", provider.audiences.iter().map(String::as_str));
    Ok(xml)
}

pub(super) fn list(cx: &Cx<'_>, state: &State) -> Xml {
    let mut names: Vec<&String> = state.account(cx.account).into_iter().flat_map(|account| account.providers.keys()).collect();
    names.sort_unstable();
    let mut xml = Xml::default();
    xml.list("OpenIDConnectProviderList", names, |xml, name| {
        xml.field("Arn", &arn(cx.account, name));
    });
    xml
}

pub(super) fn delete(cx: &Cx<'_>, account: &mut Account) -> Result<Xml> {
    let wanted = cx.params.required("OpenIDConnectProviderArn")?;
    let name = account.providers.keys().find(|name| arn(cx.account, name) == wanted).cloned().ok_or_else(|| missing(wanted))?;
    account.providers.remove(&name);
    Ok(Xml::default())
}

pub(super) fn arn(account: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:oidc-provider/{name}")
}

/// An issuer as ARNs and condition keys name it.
pub(super) fn bare(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

fn missing(arn: &str) -> Fault {
    no_such(format!("OpenIDConnect Provider not found for arn {}", arn.chars().take(512).collect::<String>()))
}
