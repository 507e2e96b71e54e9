//! Every preset against the engine itself, with tokens as the vendors document them, signed by a key of the test's.

use daypass_idp::Signer;
use daypass_testkit::TestServer;
use serde_json::{Value as Json, json};

use super::*;

const SERVER: &str = "https://vault.acme.example";
const NOW: i64 = 1_767_323_045;

/// A vendor's token, and what has to be changed in it so that it is somebody else's.
struct Known {
    preset: &'static str,
    wish: Wish,
    claims: Json,
    strangers: Vec<(&'static str, Json)>,
}

fn wish(org: &str, project: Option<&str>) -> Wish {
    Wish { org: Some(org.to_owned()), project: project.map(str::to_owned), server: SERVER.to_owned(), ..Wish::default() }
}

fn known() -> Vec<Known> {
    let mut all = vec![github(), github_of_a_bare_branch(), gitlab(), gitlab_of_a_group(), gitlab_of_a_branch(), gitlab_of_tags()];
    all.extend([jenkins(), jenkins_of_a_folder(), buildkite(), buildkite_of_a_branch(), buildkite_of_tags()]);
    all.extend([circleci(), circleci_of_branches(), terraform_cloud(), bitbucket(), bitbucket_of_a_branch(), eks()]);
    all
}

fn github() -> Known {
    Known {
        preset: "github",
        wish: Wish { git_ref: Some("refs/heads/main".to_owned()), ..wish("acme", Some("app")) },
        claims: json!({
            "jti": "a1", "sub": "repo:acme@5/app@6:ref:refs/heads/main", "aud": "https://github.com/acme", "ref": "refs/heads/main",
            "sha": "0a1b", "repository_visibility": "private", "actor_id": "7", "base_ref": "", "head_ref": "", "repository": "acme/app", "repository_owner": "acme", "repository_owner_id": "5", "run_id": "42",
            "run_number": "7", "run_attempt": "1", "actor": "ann", "workflow": "build", "event_name": "push", "ref_type": "branch",
            "ref_protected": "true", "job_workflow_ref": "acme/app/.github/workflows/build.yml@refs/heads/main", "repository_id": "6",
            "runner_environment": "github-hosted", "iss": "https://token.actions.githubusercontent.com",
        }),
        strangers: vec![
            ("repository_owner", json!("evil")),
            ("repository", json!("acme/app2")),
            ("repository", json!("evil/app")),
            ("ref", json!("refs/heads/main2")),
            ("ref", json!("refs/tags/main")),
            ("ref", json!("refs/pull/1/merge")),
            ("aud", json!("https://github.com/evil")),
            ("iss", json!("https://token.actions.githubusercontent.com/evil")),
        ],
    }
}

fn github_of_a_bare_branch() -> Known {
    let known = github();
    Known { wish: Wish { git_ref: Some("main".to_owned()), ..known.wish }, ..known }
}

fn gitlab() -> Known {
    Known {
        preset: "gitlab",
        wish: wish("acme", Some("team/app")),
        claims: gitlab_claims(),
        strangers: vec![
            ("project_path", json!("acme/team/app2")),
            ("project_path", json!("evil/team/app")),
            ("aud", json!("https://other.example")),
            ("aud", json!(null)),
        ],
    }
}

fn gitlab_of_a_group() -> Known {
    let strangers =
        vec![("namespace_path", json!("acme2")), ("namespace_path", json!("evil/acme")), ("namespace_path", json!("acme2/team"))];
    Known { preset: "gitlab", wish: wish("acme", None), claims: gitlab_claims(), strangers }
}

/// Story: the role bound `ref` alone, which is `main` for the tag `main` too. Whoever may push a tag, and no protected branch, was let in. So was, later, whoever
/// may ask for `main` to be merged somewhere else, where the pipeline's file is his own.
fn gitlab_of_a_branch() -> Known {
    let mut known = gitlab();
    known.wish.git_ref = Some("main".to_owned());
    known.strangers.extend([("ref_type", json!("tag")), ("ref", json!("other"))]);
    known.strangers.extend(["merge_request_event", "parent_pipeline"].map(|source| ("pipeline_source", json!(source))));
    known
}

fn gitlab_of_tags() -> Known {
    let mut known = gitlab();
    known.wish.git_ref = Some("refs/tags/v*".to_owned());
    (known.claims["ref"], known.claims["ref_type"], known.claims["ref_path"]) = (json!("v1"), json!("tag"), json!("refs/tags/v1"));
    known.strangers.extend([("ref_type", json!("branch")), ("ref", json!("other"))]);
    known
}

fn gitlab_claims() -> Json {
    json!({
        "namespace_id": "72", "namespace_path": "acme/team", "project_id": "20", "project_path": "acme/team/app", "user_id": "1",
        "user_login": "ann", "user_email": "ann@acme.example", "pipeline_id": "574", "pipeline_source": "push", "job_id": "302",
        "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true", "runner_id": 1,
        "runner_environment": "self-hosted", "sha": "714a", "jti": "235b", "iss": "https://gitlab.com", "aud": SERVER,
        "sub": "project_path:acme/team/app:ref_type:branch:ref:main",
    })
}

fn jenkins() -> Known {
    Known {
        preset: "jenkins",
        wish: Wish { url: Some("https://jenkins.acme.example/oidc".to_owned()), org: None, ..wish("", Some("team/app")) },
        claims: json!({
            "iss": "https://jenkins.acme.example/oidc", "aud": SERVER, "sub": "https://jenkins.acme.example/job/team/job/app/",
            "build_number": 9,
        }),
        strangers: vec![
            ("sub", json!("https://jenkins.acme.example/job/team/job/app2/")),
            ("sub", json!("https://jenkins.acme.example/job/team/")),
            ("sub", json!("https://jenkins.evil.example/job/team/job/app/")),
            ("aud", json!("other")),
        ],
    }
}

/// With a credential of the folder itself.
fn jenkins_of_a_folder() -> Known {
    let mut known = jenkins();
    let issuer = "https://jenkins.acme.example/oidc/job/team";
    known.wish.url = Some(issuer.to_owned());
    known.claims["iss"] = json!(issuer);
    known.strangers.push(("iss", json!("https://jenkins.acme.example/oidc")));
    known
}

fn buildkite() -> Known {
    Known {
        preset: "buildkite",
        wish: wish("acme", Some("app")),
        claims: json!({
            "iss": "https://agent.buildkite.com", "aud": "https://buildkite.com/acme", "organization_slug": "acme", "pipeline_slug": "app",
            "sub": "organization:acme:pipeline:app:ref:refs/heads/main:commit:9f31:step:", "jti": "b1", "build_number": 1, "build_branch": "main",
            "build_tag": null, "build_commit": "9f31", "step_key": null, "job_id": "0184", "agent_id": "0185", "build_source": "ui",
            "runner_environment": "buildkite-hosted",
        }),
        strangers: vec![
            ("organization_slug", json!("evil")),
            ("pipeline_slug", json!("other")),
            ("aud", json!("https://buildkite.com/evil")),
        ],
    }
}

/// Story: as GitLab's, by `build_branch`, which may be the name of a tag.
fn buildkite_of_a_branch() -> Known {
    let mut known = buildkite();
    known.wish.git_ref = Some("main".to_owned());
    known.strangers.extend([
        ("sub", json!("organization:acme:pipeline:app:ref:refs/tags/main:commit:9f31:step:")),
        ("sub", json!("01990000-0000-7000-8000-000000000000")),
        ("build_branch", json!("other")),
    ]);
    known
}

fn buildkite_of_tags() -> Known {
    let mut known = buildkite();
    known.wish = Wish { git_ref: Some("refs/tags/v*".to_owned()), ..wish("acme", None) };
    (known.claims["build_branch"], known.claims["build_tag"]) = (json!("v1"), json!("v1"));
    known.claims["sub"] = json!("organization:acme:pipeline:app:ref:refs/tags/v1:commit:9f31:step:");
    known.strangers = vec![
        ("organization_slug", json!("evil")),
        ("build_tag", json!(null)),
        ("sub", json!("organization:acme:pipeline:app:ref:refs/heads/v1:commit:9f31:step:")),
    ];
    known
}

/// With a glob beside the flag that says whether somebody is inside of the job.
fn circleci_of_branches() -> Known {
    let mut known = circleci();
    known.wish.git_ref = Some("refs/heads/*".to_owned());
    known.strangers.push(("oidc.circleci.com/vcs-ref", json!("refs/tags/v1")));
    known
}

fn circleci() -> Known {
    let (org, project) = ("11111111-2222-4333-8444-555555555555", "66666666-7777-4888-8999-000000000000");
    Known {
        preset: "circleci",
        wish: wish(org, Some(project)),
        claims: json!({
            "aud": org, "iss": format!("https://oidc.circleci.com/org/{org}"), "sub": format!("org/{org}/project/{project}/user/u"),
            "oidc.circleci.com/project-id": project, "oidc.circleci.com/org-id": org, "oidc.circleci.com/context-ids": ["c"],
            "oidc.circleci.com/ssh-rerun": false, "oidc.circleci.com/workflow-id": "w", "oidc.circleci.com/pipeline-definition-id": "d",
            "oidc.circleci.com/job-id": "j",
            "oidc.circleci.com/pipeline-id": "p", "oidc.circleci.com/vcs-origin": "github.com/acme/app",
            "oidc.circleci.com/vcs-ref": "refs/heads/main",
        }),
        strangers: vec![
            ("oidc.circleci.com/project-id", json!("other")),
            ("oidc.circleci.com/ssh-rerun", json!(true)),
            ("aud", json!("other")),
        ],
    }
}

fn terraform_cloud() -> Known {
    Known {
        preset: "terraform-cloud",
        wish: wish("acme", Some("prod")),
        claims: json!({
            "jti": "12", "iss": "https://app.terraform.io", "aud": "vault.workload.identity",
            "sub": "organization:acme:project:Default Project:workspace:prod:run_phase:apply", "terraform_run_phase": "apply",
            "terraform_workspace_id": "ws-1", "terraform_workspace_name": "prod", "terraform_organization_id": "org-1",
            "terraform_organization_name": "acme", "terraform_project_id": "prj-1", "terraform_project_name": "Default Project",
            "terraform_run_id": "run-1", "terraform_full_workspace": "organization:acme:project:Default Project:workspace:prod",
        }),
        strangers: vec![
            ("terraform_organization_name", json!("evil")),
            ("terraform_workspace_name", json!("dev")),
            ("aud", json!("aws.workload.identity")),
        ],
    }
}

fn bitbucket() -> Known {
    let audience = "ari:cloud:bitbucket::workspace/1111";
    Known {
        preset: "bitbucket",
        wish: Wish { audience: Some(audience.to_owned()), ..wish("acme", Some("{2222}")) },
        claims: json!({
            "iss": "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", "aud": audience, "sub": "{2222}:{3333}",
            "branchName": "main", "workspaceUuid": "{1111}", "repositoryUuid": "{2222}", "pipelineUuid": "{4444}", "stepUuid": "{3333}",
        }),
        strangers: vec![("repositoryUuid", json!("{9999}")), ("aud", json!("other"))],
    }
}

fn bitbucket_of_a_branch() -> Known {
    let mut known = bitbucket();
    known.wish.git_ref = Some("refs/heads/main".to_owned());
    known.strangers.extend([("branchName", json!("other")), ("branchName", json!(null))]);
    known
}

fn eks() -> Known {
    let identity = |namespace: &str, account: &str| json!({"namespace": namespace, "serviceaccount": {"name": account, "uid": "u"}, "pod": {"name": "pod-1"}});
    Known {
        preset: "eks",
        wish: Wish { url: Some("https://oidc.eks.eu-west-1.amazonaws.com/id/ABC".to_owned()), ..wish("builds", Some("runner")) },
        claims: json!({
            "iss": "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC", "aud": [SERVER], "sub": "system:serviceaccount:builds:runner",
            "kubernetes.io": identity("builds", "runner"),
        }),
        strangers: vec![
            ("kubernetes.io", identity("builds", "other")),
            ("kubernetes.io", identity("other", "runner")),
            ("kubernetes.io", json!(null)),
            ("aud", json!(["https://kubernetes.default.svc"])),
        ],
    }
}

fn arguments(name: &str, flags: &[&str]) -> SetupArgs {
    let words = [&["daypass", "auth", "setup", "--role=ci", "--policies=deploy"], flags, &["--", name]].concat();
    let matches = crate::cli::root("daypass").try_get_matches_from(words).unwrap();
    let (_, verb) = matches.subcommand_matches("auth").and_then(|auth| auth.subcommand()).unwrap();
    <SetupArgs as clap::FromArgMatches>::from_arg_matches(verb).unwrap()
}

async fn set_up(known: &Known, signer: &Signer, flags: &[&str]) -> TestServer {
    let preset = Preset::parse(known.preset).unwrap();
    let plan = preset.plan(&known.wish).unwrap();
    let server = TestServer::start().await;
    server.put("sys/auth/ci", json!({"type": "jwt"})).await.ok();
    let keys = format!("{}/keys", plan.issuer);
    server.idp().answers(&format!("{}/.well-known/openid-configuration", plan.issuer), &json!({"issuer": plan.issuer, "jwks_uri": keys}));
    server.idp().answers(&keys, &Signer::set(&[signer]));
    for (path, body) in writes(&arguments(known.preset, flags), &plan, preset, "ci").unwrap() {
        server.put(&path, serde_json::from_str(&body.compact()).unwrap()).await.ok();
    }
    server
}

#[tokio::test]
async fn every_vendors_token_logs_in_and_nobody_elses_does() {
    let signer = Signer::new("RS256", "one");
    for known in known() {
        let server = set_up(&known, &signer, &[]).await;
        let login = |claims: &Json| server.put("auth/ci/login", json!({"role": "ci", "jwt": signer.sign(claims)})).nobody();
        let mut claims = known.claims.clone();
        (claims["iat"], claims["nbf"], claims["exp"]) = (json!(NOW), json!(NOW), json!(NOW + 300));
        let auth = login(&claims).await.ok().body["auth"].clone();
        let kind = if known.preset == "terraform-cloud" { "service" } else { "batch" };
        assert_eq!((&auth["token_policies"], &auth["lease_duration"]), (&json!(["default", "deploy"]), &json!(900)), "{}", known.preset);
        assert_eq!(auth["token_type"], kind, "{}", known.preset);
        assert!(auth["metadata"].as_object().unwrap().len() > 1, "{}: {auth}", known.preset);
        for (claim, value) in &known.strangers {
            let mut strange = claims.clone();
            strange[*claim] = value.clone();
            let answer = login(&strange).await;
            assert_eq!(answer.status, 400, "{}: {claim} {value}: {:?}", known.preset, answer.body);
        }
    }
}

/// Story: service tokens, for builds that outlast a login, got their first end as their last one: no renewal added anything, and `daypass run` ended with
/// the first 15 minutes.
#[tokio::test]
async fn a_service_token_is_renewed_until_its_last_end() {
    let (signer, known) = (Signer::new("RS256", "one"), gitlab());
    for (flags, max) in [(&["--token-type=service"][..], 43_200_usize), (&["--token-type=service", "--max-ttl=1h"], 3600)] {
        let server = set_up(&known, &signer, flags).await;
        let role = server.get("auth/ci/role/ci").await.ok();
        let ends = ["token_type", "token_ttl", "token_max_ttl"].map(|name| role.body["data"][name].clone());
        assert_eq!(ends, [json!("service"), json!(900), json!(max)]);
        let mut claims = known.claims.clone();
        (claims["iat"], claims["nbf"], claims["exp"]) = (json!(NOW), json!(NOW), json!(NOW + 300));
        let token = server.put("auth/ci/login", json!({"role": "ci", "jwt": signer.sign(&claims)})).nobody().await.token();
        // As `daypass run` does it: at half of what is left.
        for left in std::iter::repeat_n(900, max / 450 - 2).chain([450, 225]) {
            server.seconds(if left == 225 { 225 } else { 450 }).await;
            let renewed = server.put("auth/token/renew-self", json!({})).token(&token).await.ok();
            assert_eq!(renewed.body["auth"]["lease_duration"], json!(left), "{flags:?}");
        }
        server.seconds(226).await;
        assert_eq!(server.status_of(&token).await, 403, "gone by tonight");
    }
}

#[test]
fn ends_that_contradict_each_other_are_refused_before_anything_is_written() {
    let told = |kind: &str, flags: &[&str]| max_ttl(&arguments("gitlab", flags), kind).map_err(|failure| failure.text().to_owned());
    assert_eq!(told("batch", &[]).as_deref(), Ok("15m"));
    assert_eq!(told("batch", &["--ttl=2h"]).as_deref(), Ok("2h"));
    assert_eq!(told("service", &["--ttl=2h"]).as_deref(), Ok("12h"));
    assert_eq!(told("service", &["--ttl=24h"]).as_deref(), Ok("24h"), "longer than the usual end");
    assert_eq!(told("service", &["--ttl=1h", "--max-ttl=3600"]).as_deref(), Ok("3600"));
    let why = |kind: &str, flags: &[&str]| told(kind, flags).unwrap_err();
    assert_eq!(why("service", &["--max-ttl=10m"]), "-max-ttl=10m is shorter than -ttl=15m");
    assert!(why("batch", &["--max-ttl=12h"]).contains("batch tokens cannot be"));
    assert!(why("service", &["--max-ttl=soon"]).contains("invalid value \"soon\" for flag -max-ttl"));
    assert_eq!(usual_type(Preset::TerraformCloud), "service");
}

/// Story: `-ref` for build servers whose tokens name no branch was passed over in silence, and builds of all branches were let in.
#[test]
fn a_preset_says_what_it_needs() {
    let of = |name: &str| Wish { git_ref: Some(name.to_owned()), ..wish("acme", Some("app")) };
    for (preset, wish, told) in [
        ("github", Wish::default(), "give -org=ORGANISATION (or user) whose workflows may log in"),
        ("github", wish("*", None), "has a star, which could stand for anybody"),
        ("gitlab", Wish::default(), "give -org=GROUP"),
        ("jenkins", wish("team", None), "give -url=https://JENKINS/oidc"),
        ("jenkins", Wish { url: Some("https://keys.acme.example".to_owned()), ..wish("team", None) }, "is no issuer of Jenkins's own"),
        ("circleci", wish("org", None), "give -project=PROJECT-ID"),
        ("bitbucket", wish("acme", Some("{1}")), "give -audience=ari:cloud:bitbucket"),
        ("eks", wish("builds", None), "give -url=https://oidc.eks"),
        ("terraform-cloud", Wish::default(), "give -org=ORGANISATION"),
        ("buildkite", Wish::default(), "give -org=ORGANISATION"),
        ("buildkite", of("refs/pull/1/head"), "is neither a branch nor a tag"),
        ("gitlab", of("refs/merge-requests/1/head"), "is neither a branch nor a tag: give -ref=BRANCH"),
        ("gitlab", of("refs/tags/"), "names nothing"),
        ("github", of(""), "names nothing"),
        ("bitbucket", Wish { audience: Some("a".to_owned()), ..of("refs/tags/v1") }, "Bitbucket's tokens name branches alone"),
        ("jenkins", of("main"), "these tokens name no branch"),
        ("terraform-cloud", of("main"), "these tokens name no branch"),
        ("eks", of("main"), "these tokens name no branch"),
    ] {
        let error = Preset::parse(preset).unwrap().plan(&wish).unwrap_err();
        assert!(error.contains(told), "{preset}: {error}");
    }
    assert_eq!(Preset::parse("travis"), None);
}

#[test]
fn snippets_name_server_mount_role_and_audience() {
    for known in known() {
        let preset = Preset::parse(known.preset).unwrap();
        let plan = preset.plan(&known.wish).unwrap();
        let snippet = preset.snippet(SERVER, "the-mount", "the-role", &plan.audience);
        assert!(snippet.contains("the-mount") && snippet.contains("the-role") && snippet.contains(SERVER), "{snippet}");
        // CircleCI and Bitbucket choose the audience themselves.
        assert!(snippet.contains(&plan.audience) || matches!(known.preset, "circleci" | "bitbucket"), "{snippet}");
    }
}
