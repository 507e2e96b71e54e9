//! Logins with access tokens of GitHub through the whole pipeline: renewal asks again, and the access token stays where nobody reads it.

use daypass_storage::Space;
use daypass_testkit::{Answer, TestServer};
use serde_json::json;

const API: &str = "https://api.github.com/";
const TOKEN: &str = "ghp_thisIsNobodysToken0123456789abcdefgh";

async fn house() -> TestServer {
    let server = TestServer::start().await;
    let says = |path: &str, body: serde_json::Value| server.idp().answers(&format!("{API}{path}"), &body);
    says("orgs/acme", json!({"login": "acme", "id": 1}));
    says("user", json!({"login": "octocat", "id": 7}));
    says("user/orgs?per_page=100&page=1", json!([{"login": "acme", "id": 1}]));
    says("user/teams?per_page=100&page=1", json!([{"name": "Devs", "slug": "devs", "organization": {"login": "acme", "id": 1}}]));
    server.put("sys/auth/github", json!({"type": "github"})).await.ok();
    server.put("auth/github/config", json!({"organization": "acme", "token_ttl": "10m"})).await.ok();
    server.put("auth/github/map/teams/devs", json!({"value": "devs"})).await.ok();
    server
}

async fn login(server: &TestServer) -> Answer {
    server.put("auth/github/login", json!({"token": TOKEN})).nobody().await
}

#[tokio::test]
async fn a_member_logs_in_and_stays_as_long_as_github_says_so() {
    let server = house().await;
    let answer = login(&server).await.ok();
    assert_eq!(answer["auth"]["policies"], json!(["default", "devs"]));
    let token = answer.token();
    assert_eq!(server.get("auth/token/lookup-self").token(&token).await.ok().text("/data/display_name"), "github-octocat");
    server.put("auth/token/renew-self", json!({})).token(&token).await.ok();
    server.idp().answers(&format!("{API}user/orgs?per_page=100&page=1"), &json!([]));
    let refused = server.put("auth/token/renew-self", json!({})).token(&token).await;
    assert!(refused.refused(400).contains("user is not part of required org"));
    login(&server).await.refused(400);
    server.seconds(601).await;
    assert_eq!(server.status_of(&token).await, 403);
}

/// Story: GitHub was asked too often and answered 403 for a while. That was taken for a word on the token, and clients gave theirs up.
#[tokio::test]
async fn a_limit_of_githubs_refuses_no_renewal_for_good() {
    let server = house().await;
    let token = login(&server).await.ok().token();
    let renew = || server.put("auth/token/renew-self", json!({})).token(&token);
    let limited = r#"{"message": "API rate limit exceeded for user ID 7."}"#;
    server.idp().answers_raw(&format!("{API}user"), 403, "application/json", limited);
    assert!(renew().await.refused(500).contains("api.github.com answered 403: it limits how often it is asked"));
    login(&server).await.refused(500);
    server.idp().answers(&format!("{API}user"), &json!({"login": "octocat", "id": 7}));
    renew().await.ok();
    server.idp().answers_raw(&format!("{API}user"), 401, "application/json", "{}");
    assert!(renew().await.refused(400).contains("GitHub does not take the token"));
}

#[tokio::test]
async fn whoever_finds_too_many_waiting_for_github_is_told_when_to_come_back() {
    let server = house().await;
    server.idp().is_crowded(&format!("{API}user"));
    let answer = login(&server).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")));
    assert_eq!(answer.text("/errors/0"), "GitHub was not asked: 256 calls to it wait already: try again in a few seconds");
}

#[tokio::test]
async fn teams_are_members_of_external_groups() {
    let server = house().await;
    let group =
        server.put("identity/group", json!({"name": "g", "type": "external", "policies": "from-the-group"})).await.ok().text("/data/id");
    let accessor = server.get("sys/auth/github").await.ok().text("/data/accessor");
    server.put("identity/group-alias", json!({"name": "devs", "mount_accessor": accessor, "canonical_id": group})).await.ok();
    assert_eq!(login(&server).await.ok()["auth"]["identity_policies"], json!(["from-the-group"]));
}

/// Story: of the names that a login reports the first thousand were looked up, and each team has two. Whoever may make teams made 600 whose names
/// come early, and was out of the group that a policy denies and out of the one that needs a second factor; a renewal let go of them as well.
#[tokio::test]
async fn whoever_makes_many_teams_stays_in_those_that_restrict() {
    let server = house().await;
    let accessor = server.get("sys/auth/github").await.ok().text("/data/accessor");
    let group = server.put("identity/group", json!({"type": "external", "policies": "restricted"})).await.ok().text("/data/id");
    server.put("identity/group-alias", json!({"name": "contractors", "mount_accessor": accessor, "canonical_id": group})).await.ok();
    let team = |name: String, slug: String| json!({"name": name, "slug": slug, "organization": {"login": "acme", "id": 1}});
    let mut teams = vec![team("contractors".to_owned(), "contractors".to_owned())];
    let says = |teams: &[serde_json::Value]| {
        for (page, teams) in (1..).zip(teams.chunks(100)) {
            server.idp().answers(&format!("{API}user/teams?per_page=100&page={page}"), &json!(teams));
        }
    };
    says(&teams);
    let token = login(&server).await.ok().token();
    teams.extend((0..600).map(|number| team(format!("A {number:04}"), format!("a-{number:04}"))));
    says(&teams);
    assert_eq!(login(&server).await.ok()["auth"]["identity_policies"], json!(["restricted"]));
    let renewed = server.put("auth/token/renew-self", json!({})).token(&token).await.ok();
    assert_eq!(renewed["auth"]["identity_policies"], json!(["restricted"]));
    let method = server.put("identity/mfa/method/totp", json!({"issuer": "Example"})).await.ok().text("/data/method_id");
    let wanted = json!({"mfa_method_ids": [method], "identity_group_ids": [group]});
    server.put("identity/mfa/login-enforcement/contractors", wanted).await.ok();
    assert_eq!(login(&server).await.ok().token(), "", "no token without the second factor");
}

#[tokio::test]
async fn the_access_token_is_neither_shown_nor_logged_nor_stored_in_clear() {
    let server = house().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    server.put("sys/audit/file", json!({"type": "file", "options": {"file_path": path.display().to_string()}})).await.ok();
    let token = login(&server).await.ok();
    assert!(!token.body.to_string().contains(TOKEN));
    let own = server.get("auth/token/lookup-self").token(&token.token()).await.ok();
    assert!(!own.body.to_string().contains(TOKEN));
    server.idp().answers_raw(&format!("{API}user"), 500, "text/plain", TOKEN);
    assert!(!login(&server).await.refused(500).contains(TOKEN));
    assert!(!std::fs::read_to_string(&path).unwrap().contains(TOKEN));
    for space in [Space::Config, Space::Token, Space::Lease, Space::Index] {
        for (_, value) in server.rows(space).await {
            assert!(!String::from_utf8_lossy(&value).contains(TOKEN));
        }
    }
}
