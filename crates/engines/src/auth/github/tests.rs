//! The engine by itself, with a GitHub from a script.

use std::sync::Arc;

use daypass_idp::ScriptedIdp;
use daypass_sdk::{Operation, Outcome};
use serde_json::{Value, json};

use super::GitHub;
use crate::testing::{Answer, Bench};

const API: &str = "https://api.github.com/";
const TOKEN: &str = "ghp_0123456789";

struct House {
    bench: Bench,
    idp: Arc<ScriptedIdp>,
}

impl House {
    /// A mount for the organisation `acme`, whose id is 1, and its member Octocat, who is in the team `Build Crew`.
    async fn new() -> Self {
        let idp = Arc::new(ScriptedIdp::default());
        let house = Self { bench: Bench::new(GitHub::new(Arc::clone(&idp) as Arc<_>), "auth/github/", "github"), idp };
        house.github("orgs/acme", &json!({"login": "acme", "id": 1}));
        house.github("user", &json!({"login": "Octocat", "id": 7}));
        house.member_of(&json!([{"login": "acme", "id": 1}]));
        house.in_teams(&json!([{"name": "Build Crew", "slug": "build-crew", "organization": {"login": "acme", "id": 1}}]));
        house.config(json!({"organization": "acme"})).await;
        house.write("map/teams/build-crew", "builds, Reads").await;
        house
    }

    fn github(&self, path: &str, body: &Value) {
        self.idp.answers(&format!("{API}{path}"), body);
    }

    fn member_of(&self, orgs: &Value) {
        self.github("user/orgs?per_page=100&page=1", orgs);
    }

    fn in_teams(&self, teams: &Value) {
        self.github("user/teams?per_page=100&page=1", teams);
    }

    async fn config(&self, fields: Value) {
        let answer = self.bench.call("POST", "config", fields).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        self.idp.asked();
    }

    async fn write(&self, path: &str, value: &str) {
        assert_eq!(self.bench.call("POST", path, json!({"value": value})).await.status, 204);
    }

    async fn login(&self) -> Answer {
        self.bench.call("POST", "login", json!({"token": TOKEN})).await
    }

    async fn policies(&self) -> Value {
        let answer = self.login().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["auth"]["policies"].clone()
    }

    /// What the token of a login remembers.
    async fn remembered(&self) -> Value {
        let found = self.bench.mounted.find("login").unwrap();
        let fields = json!({"token": TOKEN}).as_object().unwrap().clone();
        let input = daypass_sdk::Input { fields, captures: Vec::new() };
        let reply = self.bench.mounted.run(&found, self.bench.cx("login", Operation::Update), Operation::Update, input).await.unwrap();
        let Outcome::Login(login) = reply.outcome else { panic!("no login") };
        login.internal.unwrap()
    }

    async fn renew(&self, internal: &Value) -> Result<Vec<String>, String> {
        let cx = self.bench.cx("login", Operation::Update);
        let renewal = self.bench.mounted.renew_login(cx, internal.clone()).await;
        renewal.map(|renewal| renewal.groups.unwrap()).map_err(|error| error.message)
    }
}

#[track_caller]
fn refusal(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    answer.body["errors"][0].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_member_gets_what_name_and_teams_are_mapped_to() {
    let house = House::new().await;
    let answer = house.login().await;
    assert_eq!(answer.body["auth"]["policies"], json!(["builds", "default", "reads"]));
    assert_eq!(answer.body["auth"]["metadata"], json!({"username": "Octocat", "org": "acme"}));
    house.write("map/users/octocat", "own").await;
    house.write("map/users/default", "all").await;
    house.write("map/teams/default", "every-team").await;
    assert_eq!(house.policies().await, json!(["all", "builds", "default", "every-team", "own", "reads"]));
    assert!(house.idp.asked().iter().all(|asked| asked.proof == format!("Bearer {TOKEN}") && asked.url.starts_with(API)));
}

#[tokio::test]
async fn case_of_names_does_not_matter_and_nothing_else_is_forgiven() {
    let house = House::new().await;
    house.write("map/users/OctoCat", "own").await;
    assert_eq!(house.policies().await, json!(["builds", "default", "own", "reads"]));
    assert_eq!(house.bench.call("GET", "map/users/OCTOCAT", Value::Null).await.body["data"], json!({"key": "octocat", "value": "own"}));
    house.github("user", &json!({"login": "octocat2", "id": 8}));
    assert_eq!(house.policies().await, json!(["builds", "default", "reads"]));
    let listed = house.bench.call("LIST", "map/users", Value::Null).await;
    assert_eq!(listed.body["data"]["keys"], json!(["octocat"]));
    house.bench.call("DELETE", "map/users/octocat", Value::Null).await;
    assert_eq!(house.bench.call("GET", "map/users/octocat", Value::Null).await.status, 404);
}

#[tokio::test]
async fn whoever_is_not_in_the_organisation_stays_outside() {
    let house = House::new().await;
    for orgs in [json!([]), json!([{"login": "other", "id": 2}])] {
        house.member_of(&orgs);
        assert_eq!(refusal(&house.login().await, 400), "user is not part of required org");
    }
}

#[tokio::test]
async fn another_organisation_that_took_the_name_lets_nobody_in_and_a_renamed_one_lets_its_members_in() {
    let house = House::new().await;
    house.member_of(&json!([{"login": "acme", "id": 666}]));
    assert_eq!(refusal(&house.login().await, 400), "user is not part of required org");
    house.member_of(&json!([{"login": "acme-industries", "id": 1}]));
    assert_eq!(house.login().await.body["auth"]["metadata"]["org"], "acme-industries");
    house.github("orgs/acme", &json!({"login": "acme", "id": 666}));
    house.config(json!({"organization": "acme", "token_ttl": "1h"})).await;
    let read = house.bench.call("GET", "config", Value::Null).await;
    assert_eq!(read.body["data"]["organization_id"], 1, "what is known is not asked for again");
}

#[tokio::test]
async fn teams_of_another_organisation_give_nothing() {
    let house = House::new().await;
    house.in_teams(&json!([{"name": "build-crew", "slug": "build-crew", "organization": {"login": "acme", "id": 2}}]));
    assert_eq!(house.policies().await, json!(["default"]));
    house.in_teams(&json!([{"name": "../users/octocat", "slug": "x", "organization": {"login": "acme", "id": 1}}]));
    house.write("map/users/octocat", "own").await;
    assert_eq!(house.policies().await, json!(["default", "own"]));
}

#[tokio::test]
async fn redirects_and_endless_lists_are_not_followed() {
    let house = House::new().await;
    house.idp.answers_raw(&format!("{API}user"), 301, "text/html", "");
    assert!(refusal(&house.login().await, 500).contains("redirect (301), which is not followed"));
    house.github("user", &json!({"login": "octocat", "id": 7}));
    let full: Value = (2..102).map(|id| json!({"login": format!("o{id}"), "id": id})).collect();
    for page in 1..=20 {
        house.github(&format!("user/orgs?per_page=100&page={page}"), &full);
    }
    house.idp.asked();
    assert!(refusal(&house.login().await, 500).contains("more than 1000 items"));
    assert_eq!(house.idp.asked().len(), 1 + 10);
}

#[tokio::test]
async fn errors_never_hold_the_access_token() {
    let house = House::new().await;
    house.idp.answers_raw(
        &format!("{API}user"),
        401,
        "application/json",
        &json!({"message": format!("Bad credentials: {TOKEN}")}).to_string(),
    );
    assert_eq!(refusal(&house.login().await, 400), "GitHub does not take the token: api.github.com answered 401");
    house.idp.answers_raw(&format!("{API}user"), 200, "application/json", TOKEN);
    assert!(!refusal(&house.login().await, 500).contains(TOKEN));
    house.idp.is_down(&format!("{API}user"));
    assert!(!refusal(&house.login().await, 500).contains(TOKEN));
    house.idp.asked();
    for bad in ["a\r\nx-evil: 1", "a b", "é", &"x".repeat(2000)] {
        let answer = house.bench.call("POST", "login", json!({"token": bad})).await;
        assert!(!refusal(&answer, 400).contains("evil"));
    }
    assert!(house.idp.asked().is_empty(), "what is no token is sent to nobody");
}

#[tokio::test]
async fn a_configuration_needs_an_organisation_whose_id_is_known() {
    let idp = Arc::new(ScriptedIdp::default());
    let bench = Bench::new(GitHub::new(Arc::clone(&idp) as Arc<_>), "auth/github/", "github");
    assert_eq!(refusal(&bench.call("POST", "login", json!({"token": "t"})).await, 400), "configuration has not been set");
    assert_eq!(bench.call("GET", "config", Value::Null).await.status, 404);
    let write = async |fields: Value| bench.call("POST", "config", fields).await;
    assert_eq!(refusal(&write(json!({})).await, 400), "organization is a required parameter");
    assert!(
        refusal(&write(json!({"organization": "acme"})).await, 400)
            .starts_with("unable to fetch the organization_id, you must manually set it")
    );
    for (base, why) in
        [("http://github.acme.example/api/v3", "plain http://"), ("https://u:p@a.example", "user name"), ("https://a.example/?x=", "query")]
    {
        let refused = refusal(&write(json!({"organization": "acme", "organization_id": 1, "base_url": base})).await, 400);
        assert!(refused.contains(why), "{refused}");
    }
    assert!(refusal(&write(json!({"organization": "a/../b", "organization_id": 1})).await, 400).contains("organization has"));
    assert_eq!(
        write(json!({"organization": "acme", "organization_id": 9, "ttl": "1h", "base_url": "http://127.0.0.1:9/api"})).await.status,
        204
    );
    let read = bench.call("GET", "config", Value::Null).await.body["data"].clone();
    assert_eq!(
        (&read["organization_id"], &read["base_url"], &read["ttl"], &read["token_ttl"]),
        (&json!(9), &json!("http://127.0.0.1:9/api/"), &json!(3600), &json!(3600))
    );
    idp.answers("http://127.0.0.1:9/api/orgs/acme", &json!({"login": "acme", "id": 10}));
    assert_eq!(write(json!({"organization": "acme", "base_url": "http://127.0.0.1:9/api"})).await.status, 204);
    assert_eq!(bench.call("GET", "config", Value::Null).await.body["data"]["organization_id"], 9, "the same organisation stays the same");
    idp.answers("http://127.0.0.1:9/api/orgs/other", &json!({"login": "other", "id": 10}));
    assert_eq!(write(json!({"organization": "other"})).await.status, 204);
    assert_eq!(bench.call("GET", "config", Value::Null).await.body["data"]["organization_id"], 10);
}

/// Story: a write asked GitHub for an id, for up to ten seconds, and then stored what it had read before that: what another had written meanwhile was gone.
#[tokio::test]
async fn what_is_written_while_github_is_asked_stays() {
    let house = House::new().await;
    house.github("orgs/other", &json!({"login": "other", "id": 10}));
    let write = |fields: Value| house.bench.call("POST", "config", fields);
    let (slow, quick) = tokio::join!(write(json!({"organization": "other"})), write(json!({"token_ttl": "1h"})));
    assert_eq!((slow.status, quick.status), (204, 204));
    let read = house.bench.call("GET", "config", Value::Null).await.body["data"].clone();
    assert_eq!((&read["organization"], &read["organization_id"], &read["token_ttl"]), (&json!("other"), &json!(10), &json!(3600)));
    assert_eq!(house.idp.asked().len(), 1, "and nobody is asked twice for it");
}

#[tokio::test]
async fn each_renewal_asks_again() {
    let house = House::new().await;
    let internal = house.remembered().await;
    assert_eq!(house.renew(&internal).await.unwrap(), ["Build Crew", "build-crew"]);
    house.write("map/teams/build-crew", "builds").await;
    assert_eq!(house.renew(&internal).await.unwrap_err(), "policies do not match");
    house.write("map/teams/build-crew", "reads,builds").await;
    house.renew(&internal).await.unwrap();
    house.github("user", &json!({"login": "Octocat", "id": 8}));
    assert!(house.renew(&internal).await.unwrap_err().contains("another user's"));
    house.github("user", &json!({"login": "Octocat", "id": 7}));
    house.member_of(&json!([]));
    assert_eq!(house.renew(&internal).await.unwrap_err(), "user is not part of required org");
    house.idp.answers_raw(&format!("{API}user"), 401, "application/json", "{}");
    assert!(house.renew(&internal).await.unwrap_err().contains("does not take the token"), "a revoked access token renews nothing");
}

#[tokio::test]
async fn bound_networks_are_looked_at_before_anybody_is_asked() {
    let mut house = House::new().await;
    house.config(json!({"token_bound_cidrs": "10.0.0.0/8"})).await;
    house.bench.remote = "192.0.2.1".parse().ok();
    assert_eq!(house.login().await.status, 403);
    assert!(house.idp.asked().is_empty());
}
