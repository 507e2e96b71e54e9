//! The calls to GitHub's API: whose a token is, and which organisations and teams that user is in. Source: GitHub REST API, users, orgs and teams.
//!
//! Names are for people and change hands; whoever decides by them compares ids.

use std::time::Duration;

use daypass_base::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Ask, Idp, IdpError, Payload, Proof, Result, Trust, Url, percent_encoded, strict};

/// Longest call.
const ASK_MAX: Duration = Duration::from_secs(10);
/// Items of one page.
const PAGE: usize = 100;
/// Pages of one list.
const PAGES_MAX: usize = 10;

/// An API, and who asks it.
#[derive(Debug)]
pub struct Api<'a> {
    /// The base of its addresses, with a slash at the end: `https://api.github.com/`.
    pub base: &'a str,
    /// The token of the user who is asked about.
    pub token: Option<&'a Secret<String>>,
}

/// The user that a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct User {
    /// The user's name, which the user can change.
    pub login: String,
    /// The id, which stays.
    pub id: u64,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Organization {
    /// Its name, which can become another's.
    #[serde(default)]
    pub login: String,
    /// The id, which stays.
    pub id: u64,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Team {
    /// Its name.
    pub name: String,
    /// Its name as addresses have it.
    pub slug: String,
    /// Whose team it is.
    pub organization: Organization,
}

/// Whose the token is.
pub async fn user(idp: &dyn Idp, api: &Api<'_>) -> Result<User> {
    let user: User = one(idp, api, "user").await?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if user.login.is_empty() || user.login.len() > 128 || !user.login.chars().all(plain) {
        return Err(IdpError::Nonsense("GitHub's answer names no user".to_owned()));
    }
    Ok(user)
}

/// An organisation by its present name.
pub async fn organization(idp: &dyn Idp, api: &Api<'_>, name: &str) -> Result<Organization> {
    one(idp, api, &format!("orgs/{}", percent_encoded(name))).await
}

/// The organisation of this id, if the user is in it.
pub async fn membership(idp: &dyn Idp, api: &Api<'_>, organization: u64) -> Result<Option<Organization>> {
    let mut page = 1;
    loop {
        let (items, last) = list::<Organization>(idp, api, "user/orgs", page).await?;
        if let Some(found) = items.into_iter().find(|item| item.id == organization) {
            return Ok(Some(found));
        }
        if last {
            return Ok(None);
        }
        page += 1;
    }
}

/// The user's teams in an organisation.
pub async fn teams(idp: &dyn Idp, api: &Api<'_>, organization: u64) -> Result<Vec<Team>> {
    let (mut all, mut page) = (Vec::new(), 1);
    loop {
        let (items, last) = list::<Team>(idp, api, "user/teams", page).await?;
        all.extend(items.into_iter().filter(|team| team.organization.id == organization));
        if last {
            return Ok(all);
        }
        page += 1;
    }
}

/// One page, and whether it is the last. Errors: `Nonsense` when there are too many: a part of a list would decide wrongly.
async fn list<T: DeserializeOwned>(idp: &dyn Idp, api: &Api<'_>, path: &str, page: usize) -> Result<(Vec<T>, bool)> {
    let (host, body) = asked(idp, api, &format!("{path}?per_page={PAGE}&page={page}")).await?;
    let nonsense = |why: &str| IdpError::Nonsense(format!("the list {path} of {host} cannot be used: {why}"));
    let items = strict::list(&body).map_err(|why| nonsense(&why))?;
    if items.len() > PAGE {
        return Err(nonsense(&format!("a page has {} items, {PAGE} were asked for", items.len())));
    }
    let last = items.len() < PAGE;
    if !last && page >= PAGES_MAX {
        return Err(nonsense(&format!("it has more than {} items, which is the limit", PAGE * PAGES_MAX)));
    }
    let items: std::result::Result<Vec<T>, _> = items.into_iter().map(T::deserialize).collect();
    Ok((items.map_err(|_its_text_may_repeat_the_answer| nonsense("an item is not what was asked for"))?, last))
}

async fn one<T: DeserializeOwned>(idp: &dyn Idp, api: &Api<'_>, path: &str) -> Result<T> {
    let (host, body) = asked(idp, api, path).await?;
    let nonsense = |why: &str| IdpError::Nonsense(format!("the answer of {host} cannot be used: {why}"));
    let found = strict::object(&body).map_err(|why| nonsense(&why))?;
    T::deserialize(Value::Object(found)).map_err(|_its_text_may_repeat_the_answer| nonsense("it is not what was asked for"))
}

async fn asked(idp: &dyn Idp, api: &Api<'_>, path: &str) -> Result<(String, bytes::Bytes)> {
    let url = Url::parse(&format!("{}{path}", api.base)).map_err(IdpError::Settings)?;
    let host = url.host().to_owned();
    // To GitHub, which checks it.
    let proof = api.token.map_or(Proof::Nothing, |token| Proof::Bearer(token.clone()));
    let body = idp.ask(Ask { url, payload: Payload::Nothing, proof, trust: Trust::System, deadline: ASK_MAX }).await?.json(&host)?;
    Ok((host, body))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ScriptedIdp;

    const BASE: &str = "https://api.github.com/";

    fn api(token: &Secret<String>) -> Api<'_> {
        Api { base: BASE, token: Some(token) }
    }

    fn page(path: &str, number: usize) -> String {
        format!("{BASE}{path}?per_page=100&page={number}")
    }

    fn orgs(ids: std::ops::Range<u64>) -> Value {
        ids.map(|id| json!({"login": format!("o{id}"), "id": id})).collect()
    }

    #[tokio::test]
    async fn a_user_is_asked_for_with_the_users_own_token() {
        let (idp, token) = (ScriptedIdp::default(), Secret::from("ghp_x"));
        idp.answers(&format!("{BASE}user"), &json!({"login": "octocat", "id": 7, "name": "Mona"}));
        assert_eq!(user(&idp, &api(&token)).await.unwrap(), User { login: "octocat".to_owned(), id: 7 });
        assert_eq!(idp.asked().remove(0).proof, "Bearer ghp_x");
        for bad in [
            json!({"login": "", "id": 7}),
            json!({"login": "a b", "id": 7}),
            json!({"login": "x"}),
            json!({"login": "x", "id": "7"}),
            json!([]),
        ] {
            idp.answers(&format!("{BASE}user"), &bad);
            assert!(user(&idp, &api(&token)).await.is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn lists_are_read_page_by_page_and_not_without_end() {
        let (idp, token) = (ScriptedIdp::default(), Secret::from("ghp_x"));
        idp.answers(&page("user/orgs", 1), &orgs(0..100));
        idp.answers(&page("user/orgs", 2), &orgs(100..130));
        assert_eq!(membership(&idp, &api(&token), 120).await.unwrap().unwrap().login, "o120");
        assert_eq!(membership(&idp, &api(&token), 130).await.unwrap(), None);
        idp.asked();
        assert_eq!(membership(&idp, &api(&token), 99).await.unwrap().unwrap().id, 99);
        assert_eq!(idp.asked().len(), 1, "whoever is found is looked for no further");
        for number in 1..=11 {
            idp.answers(&page("user/orgs", number), &orgs(0..100));
        }
        idp.asked();
        let error = membership(&idp, &api(&token), 130).await.unwrap_err().to_string();
        assert!(error.contains("more than 1000 items"), "{error}");
        assert_eq!(idp.asked().len(), 10);
        idp.answers(&page("user/orgs", 1), &orgs(0..101));
        assert!(membership(&idp, &api(&token), 130).await.unwrap_err().to_string().contains("101 items"));
    }

    #[tokio::test]
    async fn teams_are_those_of_the_organisation_by_its_id() {
        let (idp, token) = (ScriptedIdp::default(), Secret::from("ghp_x"));
        let team = |name: &str, id: u64| json!({"name": name, "slug": name, "organization": {"login": "acme", "id": id}});
        idp.answers(&page("user/teams", 1), &json!([team("a", 1), team("b", 2)]));
        let names: Vec<String> = teams(&idp, &api(&token), 1).await.unwrap().into_iter().map(|team| team.name).collect();
        assert_eq!(names, ["a"]);
        idp.answers(&page("user/teams", 1), &json!([{"name": "a", "slug": "a"}]));
        assert!(teams(&idp, &api(&token), 1).await.is_err(), "a team of nobody knows whom");
    }

    #[tokio::test]
    async fn errors_say_nothing_that_was_sent() {
        let (idp, token) = (ScriptedIdp::default(), Secret::from("ghp_x"));
        idp.answers_raw(&format!("{BASE}user"), 401, "application/json", r#"{"message": "Bad credentials ghp_x"}"#);
        let error = user(&idp, &api(&token)).await.unwrap_err();
        assert_eq!(error.to_string(), "api.github.com answered 401");
        idp.answers_raw(&format!("{BASE}user"), 302, "text/html", "");
        assert!(matches!(user(&idp, &api(&token)).await, Err(IdpError::Redirected { .. })));
        let elsewhere = Api { base: "http://api.github.com/", token: Some(&token) };
        assert!(matches!(user(&idp, &elsewhere).await, Err(IdpError::Settings(_))), "a token travels encrypted");
    }
}
