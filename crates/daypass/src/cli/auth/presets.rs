//! What build servers put into their tokens, and what follows for a configuration and a role: pure.
//!
//! Every preset binds the audience and whom the tokens are of. Sources: the vendors' own pages about their tokens, named at each, as they were in
//! November 2026.

use crate::show::value::Value;

/// A build server whose tokens are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    Bitbucket,
    Buildkite,
    CircleCi,
    Eks,
    GitHub,
    GitLab,
    Jenkins,
    TerraformCloud,
}

/// What an operator says about the tokens to take.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// Organisation, group, workspace, namespace: whose tokens.
    pub(super) org: Option<String>,
    /// Which of its projects; all where none is named. A `*` stands for any text.
    pub(super) project: Option<String>,
    /// Which branch or tag: `refs/heads/main`, `refs/tags/v1`, or `main`, a branch. A `*` stands for any text.
    pub(super) git_ref: Option<String>,
    pub(super) audience: Option<String>,
    /// The issuer, where the preset cannot know it.
    pub(super) url: Option<String>,
    /// Address of this server: the audience where the build server leaves it to us.
    pub(super) server: String,
}

/// What is to be written, before the token fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) user_claim: &'static str,
    /// Claim and the values of which one must fit.
    pub(super) bound: Vec<(&'static str, Vec<String>)>,
    /// Claims that are no texts, and what they must be.
    pub(super) flags: Vec<(&'static str, bool)>,
    /// Claim and its name in the metadata.
    pub(super) mapped: Vec<(&'static str, &'static str)>,
}

impl Preset {
    /// All of them, by the names that the command line takes.
    pub(super) const ALL: [(&'static str, Self); 8] = [
        ("bitbucket", Self::Bitbucket),
        ("buildkite", Self::Buildkite),
        ("circleci", Self::CircleCi),
        ("eks", Self::Eks),
        ("github", Self::GitHub),
        ("gitlab", Self::GitLab),
        ("jenkins", Self::Jenkins),
        ("terraform-cloud", Self::TerraformCloud),
    ];

    /// By name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, preset)| preset)
    }

    /// Decides what is to be written. Says which flag is missing, and what belongs there.
    pub(super) fn plan(self, wish: &Wish) -> Result<Plan, String> {
        match self {
            Self::Bitbucket => bitbucket(wish),
            Self::Buildkite => buildkite(wish),
            Self::CircleCi => circleci(wish),
            Self::Eks => eks(wish),
            Self::GitHub => github(wish),
            Self::GitLab => gitlab(wish),
            Self::Jenkins => jenkins(wish),
            Self::TerraformCloud => terraform_cloud(wish),
        }
    }

    /// Lines for a pipeline that logs in so.
    pub(super) fn snippet(self, server: &str, path: &str, role: &str, audience: &str) -> String {
        let login = format!("daypass login -method=jwt -path={path} role={role}");
        match self {
            Self::GitHub => format!(
                "permissions:\n  id-token: write\n  contents: read\nsteps:\n  - uses: hashicorp/vault-action@v3\n    with:\n      url: {server}\n      \
                 method: jwt\n      path: {path}\n      role: {role}\n      jwtGithubAudience: {audience}\n      secrets: |\n        \
                 aws/sts/deploy access_key | AWS_ACCESS_KEY_ID"
            ),
            Self::GitLab => format!(
                "job:\n  id_tokens:\n    VAULT_ID_TOKEN:\n      aud: {audience}\n  variables:\n    VAULT_ADDR: {server}\n  script:\n    - {OWN_HOME}\n    \
                 - {login}"
            ),
            Self::Jenkins => format!(
                "withCredentials([string(credentialsId: 'daypass', variable: 'VAULT_ID_TOKEN')]) {{  // an \"OpenID Connect id token\" with audience \
                 {audience}\n  sh '''\n    {OWN_HOME}\n    export VAULT_ADDR={server}\n    {login}\n    # what needs the login: it is over with this sh\n  '''\n}}"
            ),
            // There a second dollar keeps one for the job's shell.
            Self::Buildkite => format!(
                "steps:\n  - commands:\n      - {}\n      - buildkite-agent oidc request-token --audience {audience} | VAULT_ADDR={server} {login} jwt=-",
                OWN_HOME.replace('$', "$$")
            ),
            Self::CircleCi => format!("- run: VAULT_ADDR={server} {login}   # reads CIRCLE_OIDC_TOKEN_V2"),
            Self::Bitbucket => {
                format!("- step:\n    oidc: true\n    script:\n      - VAULT_ADDR={server} {login}   # reads BITBUCKET_STEP_OIDC_TOKEN")
            }
            Self::TerraformCloud => format!(
                "# Variables of the workspace:\nTFC_VAULT_PROVIDER_AUTH=true\nTFC_VAULT_ADDR={server}\nTFC_VAULT_AUTH_PATH={path}\n\
                 TFC_VAULT_RUN_ROLE={role}\nTFC_VAULT_WORKLOAD_IDENTITY_AUDIENCE={audience}"
            ),
            Self::Eks => format!(
                "volumes:\n  - name: token\n    projected:\n      sources:\n        - serviceAccountToken: {{path: token, audience: \"{audience}\"}}\n\
                 # in the container, with the volume at /run/token:\nVAULT_ADDR={server} {login} jwt=@/run/token/token"
            ),
        }
    }
}

/// The line before a login on machines that jobs share: without it each uses the token of the last one that logged in. Gone with the job.
const OWN_HOME: &str = "own=$(mktemp -d); trap 'rm -rf \"$own\"' EXIT; export HOME=$own";

impl Plan {
    /// The body of the configuration.
    pub(super) fn config(&self, ca_pem: Option<&str>) -> Value {
        let mut body = Value::map([("oidc_discovery_url", Value::text(&*self.issuer)), ("bound_issuer", Value::text(&*self.issuer))]);
        if let Some(pem) = ca_pem {
            body.set("oidc_discovery_ca_pem", Value::text(pem));
        }
        body
    }

    /// The body of the role, before its token fields.
    pub(super) fn role(&self) -> Value {
        let glob = self.bound.iter().flat_map(|(_, values)| values).any(|value| value.contains('*'));
        let bound = self.bound.iter().map(|(claim, values)| match values.as_slice() {
            [one] => (*claim, Value::text(&**one)),
            all => (*claim, Value::texts(all.iter().map(String::as_str))),
        });
        let bound = bound.chain(self.flags.iter().map(|(claim, flag)| (*claim, Value::Bool(*flag))));
        Value::map([
            ("role_type", Value::text("jwt")),
            ("user_claim", Value::text(self.user_claim)),
            ("bound_audiences", Value::texts([self.audience.as_str()])),
            ("bound_claims_type", Value::text(if glob { "glob" } else { "string" })),
            ("bound_claims", Value::map(bound)),
            ("claim_mappings", Value::map(self.mapped.iter().map(|(claim, name)| (*claim, Value::text(*name))))),
        ])
    }
}

/// By names, not by the subject: that is another in repositories made since July 2026, and an organisation may shape it as it likes.
///
/// Source: docs.github.com, "OpenID Connect reference".
fn github(wish: &Wish) -> Result<Plan, String> {
    let org = needed(wish.org.as_deref(), "-org=ORGANISATION (or user) whose workflows may log in")?;
    let mut bound = vec![("repository_owner", vec![org.to_owned()])];
    bound.extend(wish.project.as_deref().map(|project| ("repository", vec![below(org, project)])));
    bound.extend(git_ref(wish)?.map(|wanted| ("ref", vec![wanted.full()])));
    Ok(Plan {
        issuer: issuer(wish, "https://token.actions.githubusercontent.com"),
        audience: audience(wish, || format!("https://github.com/{org}")),
        user_claim: "repository",
        bound,
        flags: Vec::new(),
        mapped: same(&["actor", "environment", "event_name", "job_workflow_ref", "ref", "repository", "run_id", "sha", "workflow"]),
    })
}

/// A `namespace_path` is the whole path of the group that the project is in. A `ref` is the bare name, of a branch as of a tag: many who may push no
/// protected branch may push a tag of its name.
///
/// Source: docs.gitlab.com, "OpenID Connect (OIDC) authentication using ID tokens".
fn gitlab(wish: &Wish) -> Result<Plan, String> {
    let group = needed(wish.org.as_deref(), "-org=GROUP whose jobs may log in")?;
    let mut bound = match wish.project.as_deref() {
        Some(project) => vec![("project_path", vec![below(group, project)])],
        None => vec![("namespace_path", vec![group.to_owned(), format!("{group}/*")])],
    };
    match git_ref(wish)? {
        Some(GitRef::Branch(name)) => bound.extend([
            ("ref", vec![name.to_owned()]),
            ("ref_type", vec!["branch".to_owned()]),
            ("pipeline_source", GITLAB_OF_A_BRANCH.map(str::to_owned).to_vec()),
        ]),
        Some(GitRef::Tag(name)) => bound.extend([("ref", vec![name.to_owned()]), ("ref_type", vec!["tag".to_owned()])]),
        Some(GitRef::Other(name)) => return Err(neither(name)),
        None => {}
    }
    Ok(Plan {
        issuer: issuer(wish, "https://gitlab.com"),
        audience: audience(wish, || wish.server.clone()),
        user_claim: "project_path",
        bound,
        flags: Vec::new(),
        mapped: same(&[
            "environment",
            "job_id",
            "namespace_path",
            "pipeline_id",
            "pipeline_source",
            "project_path",
            "ref",
            "ref_protected",
            "ref_type",
            "user_login",
        ]),
    })
}

/// Where a pipeline comes from that runs what its branch holds. One of a merge request (`merge_request_event`, and `parent_pipeline` where that begins another)
/// has the source branch for its `ref` and the source project for its `project_path`, whatever it is merged into and wherever it runs.
const GITLAB_OF_A_BRANCH: [&str; 7] = ["api", "chat", "pipeline", "push", "schedule", "trigger", "web"];

/// The subject is `JOB_URL`, unless the administrator made claim templates.
///
/// Source: plugins.jenkins.io, "OpenID Connect Provider"; its sources for the defaults and for the issuers of folders.
fn jenkins(wish: &Wish) -> Result<Plan, String> {
    no_ref(wish, "a job of a multibranch project is named by -project=FOLDER/JOB/BRANCH")?;
    let url = needed(wish.url.as_deref(), "-url=https://JENKINS/oidc, the issuer that the OpenID Connect Provider plugin shows")?;
    let wanted = wish.project.as_deref().or(wish.org.as_deref());
    let folder = needed(wanted, "-project=FOLDER or FOLDER/JOB whose builds may log in")?;
    let job = jenkins_job(url.trim_end_matches('/'), folder)?;
    Ok(Plan {
        issuer: url.to_owned(),
        audience: audience(wish, || wish.server.clone()),
        user_claim: "sub",
        // What is below a folder has its address before it.
        bound: vec![("sub", vec![format!("{job}/"), format!("{job}/*")])],
        flags: Vec::new(),
        mapped: same(&["build_number", "sub"]),
    })
}

/// The address of a job or folder, without a slash at its end.
fn jenkins_job(issuer: &str, job: &str) -> Result<String, String> {
    if job.starts_with("https://") || job.starts_with("http://") {
        return Ok(job.trim_end_matches('/').to_owned());
    }
    // A credential of a folder has an issuer of its own: JENKINS/oidc/job/FOLDER.
    let root = issuer.split_once("/oidc/job/").map(|(root, _)| root).or_else(|| issuer.strip_suffix("/oidc"));
    let Some(root) = root else {
        return Err(format!(
            "{issuer} is no issuer of Jenkins's own (those end in /oidc): give -project=https://JENKINS/job/FOLDER, an address"
        ));
    };
    let parts = job.split('/').filter(|part| !part.is_empty());
    Ok(parts.fold(root.to_owned(), |url, part| format!("{url}/job/{}", part.replace('%', "%25").replace(' ', "%20"))))
}

/// The subject alone tells a branch from a tag: `build_branch` of a tag's build may be the tag's name. A job that asks for another subject is not let in
/// where a branch or tag is bound.
///
/// Source: buildkite.com/docs, "OIDC in Buildkite Pipelines".
fn buildkite(wish: &Wish) -> Result<Plan, String> {
    let org = needed(wish.org.as_deref(), "-org=ORGANISATION whose jobs may log in")?;
    let mut bound = vec![("organization_slug", vec![org.to_owned()])];
    bound.extend(wish.project.clone().map(|pipeline| ("pipeline_slug", vec![pipeline])));
    if let Some(wanted) = git_ref(wish)? {
        let pipeline = wish.project.as_deref().unwrap_or("*");
        bound.push(("sub", vec![format!("organization:{org}:pipeline:{pipeline}:ref:{}:commit:*", wanted.full())]));
        match wanted {
            GitRef::Branch(name) => bound.push(("build_branch", vec![name.to_owned()])),
            GitRef::Tag(name) => bound.push(("build_tag", vec![name.to_owned()])),
            GitRef::Other(name) => return Err(neither(name)),
        }
    }
    Ok(Plan {
        issuer: issuer(wish, "https://agent.buildkite.com"),
        audience: audience(wish, || format!("https://buildkite.com/{org}")),
        user_claim: "pipeline_slug",
        bound,
        flags: Vec::new(),
        mapped: same(&["build_branch", "build_commit", "build_number", "job_id", "organization_slug", "pipeline_slug", "step_key"]),
    })
}

/// Jobs that were run again with SSH are left out: somebody is inside of them. `vcs-origin` and `vcs-ref` of a fork's build are the fork's.
///
/// Source: circleci.com/docs, "Using OpenID Connect tokens in jobs".
fn circleci(wish: &Wish) -> Result<Plan, String> {
    let org = needed(wish.org.as_deref(), "-org=ORGANISATION-ID, a UUID from the organisation's settings")?;
    let project = needed(wish.project.as_deref(), "-project=PROJECT-ID, a UUID from the project's settings")?;
    let mut bound = vec![("oidc.circleci.com/project-id", vec![project.to_owned()])];
    bound.extend(git_ref(wish)?.map(|wanted| ("oidc.circleci.com/vcs-ref", vec![wanted.full()])));
    Ok(Plan {
        issuer: issuer(wish, &format!("https://oidc.circleci.com/org/{org}")),
        audience: audience(wish, || org.to_owned()),
        user_claim: "oidc.circleci.com/project-id",
        bound,
        flags: vec![("oidc.circleci.com/ssh-rerun", false)],
        mapped: vec![
            ("oidc.circleci.com/job-id", "job_id"),
            ("oidc.circleci.com/pipeline-id", "pipeline_id"),
            ("oidc.circleci.com/project-id", "project_id"),
            ("oidc.circleci.com/vcs-origin", "vcs_origin"),
            ("oidc.circleci.com/vcs-ref", "vcs_ref"),
            ("sub", "sub"),
        ],
    })
}

/// Source: developer.hashicorp.com, "Workload identity" of dynamic provider credentials.
fn terraform_cloud(wish: &Wish) -> Result<Plan, String> {
    no_ref(wish, "which branch a workspace takes its runs from is a setting of the workspace")?;
    let org = needed(wish.org.as_deref(), "-org=ORGANISATION whose runs may log in")?;
    let mut bound = vec![("terraform_organization_name", vec![org.to_owned()])];
    bound.extend(wish.project.clone().map(|workspace| ("terraform_workspace_name", vec![workspace])));
    Ok(Plan {
        issuer: issuer(wish, "https://app.terraform.io"),
        audience: audience(wish, || "vault.workload.identity".to_owned()),
        user_claim: "terraform_full_workspace",
        bound,
        flags: Vec::new(),
        mapped: vec![
            ("terraform_organization_name", "organization"),
            ("terraform_project_name", "project"),
            ("terraform_run_id", "run_id"),
            ("terraform_run_phase", "run_phase"),
            ("terraform_workspace_name", "workspace"),
        ],
    })
}

/// Identifiers of everything but the workspace in the audience have their braces.
///
/// Source: support.atlassian.com, "Integrate Pipelines with resource servers using OIDC".
fn bitbucket(wish: &Wish) -> Result<Plan, String> {
    let workspace = needed(wish.org.as_deref(), "-org=WORKSPACE whose steps may log in")?;
    let audience =
        needed(wish.audience.as_deref(), "-audience=ari:cloud:bitbucket::workspace/UUID, from the repository's OpenID Connect page")?;
    let repository = needed(wish.project.as_deref(), "-project={UUID} of the repository, with its braces, from the same page")?;
    let mut bound = vec![("repositoryUuid", vec![repository.to_owned()])];
    match git_ref(wish)? {
        Some(GitRef::Branch(name)) => bound.push(("branchName", vec![name.to_owned()])),
        Some(GitRef::Tag(name) | GitRef::Other(name)) => {
            return Err(format!(
                "-ref={name}: Bitbucket's tokens name branches alone: give -ref=BRANCH, or a deployment environment of its own"
            ));
        }
        None => {}
    }
    Ok(Plan {
        issuer: issuer(wish, &format!("https://api.bitbucket.org/2.0/workspaces/{workspace}/pipelines-config/identity/oidc")),
        audience: audience.to_owned(),
        user_claim: "repositoryUuid",
        bound,
        flags: Vec::new(),
        mapped: vec![
            ("branchName", "branch"),
            ("deploymentEnvironmentUuid", "environment"),
            ("pipelineUuid", "pipeline"),
            ("repositoryUuid", "repository"),
            ("stepUuid", "step"),
        ],
    })
}

/// Source: kubernetes.io, "Managing service accounts", the claims of bound tokens.
fn eks(wish: &Wish) -> Result<Plan, String> {
    no_ref(wish, "give the builds of each branch a service account of their own")?;
    let url = needed(wish.url.as_deref(), "-url=https://oidc.eks.REGION.amazonaws.com/id/ID, the cluster's OIDC issuer")?;
    let namespace = needed(wish.org.as_deref(), "-org=NAMESPACE whose pods may log in")?;
    let mut bound = vec![("/kubernetes.io/namespace", vec![namespace.to_owned()])];
    bound.extend(wish.project.clone().map(|account| ("/kubernetes.io/serviceaccount/name", vec![account])));
    Ok(Plan {
        issuer: url.to_owned(),
        audience: audience(wish, || wish.server.clone()),
        user_claim: "sub",
        bound,
        flags: Vec::new(),
        mapped: vec![
            ("/kubernetes.io/namespace", "namespace"),
            ("/kubernetes.io/pod/name", "pod"),
            ("/kubernetes.io/serviceaccount/name", "service_account"),
        ],
    })
}

/// What `-ref` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GitRef<'w> {
    Branch(&'w str),
    /// Neither, in full: `refs/pull/1/merge`.
    Other(&'w str),
    Tag(&'w str),
}

impl GitRef<'_> {
    /// As git writes it.
    fn full(self) -> String {
        match self {
            Self::Branch(name) => format!("refs/heads/{name}"),
            Self::Other(name) => name.to_owned(),
            Self::Tag(name) => format!("refs/tags/{name}"),
        }
    }
}

/// A bare name is a branch's, wherever a vendor's tokens have bare names: nobody thinks of tags who writes `-ref=main`.
fn git_ref(wish: &Wish) -> Result<Option<GitRef<'_>>, String> {
    let Some(given) = wish.git_ref.as_deref() else { return Ok(None) };
    let (heads, tags) = (given.strip_prefix("refs/heads/"), given.strip_prefix("refs/tags/"));
    match heads.or(tags).unwrap_or(given) {
        "" => Err(format!("-ref={given} names nothing: give -ref=BRANCH, -ref=refs/heads/BRANCH or -ref=refs/tags/TAG")),
        name if tags.is_some() => Ok(Some(GitRef::Tag(name))),
        name if heads.is_none() && name.starts_with("refs/") => Ok(Some(GitRef::Other(name))),
        name => Ok(Some(GitRef::Branch(name))),
    }
}

fn neither(name: &str) -> String {
    format!("-ref={name} is neither a branch nor a tag: give -ref=BRANCH, -ref=refs/heads/BRANCH or -ref=refs/tags/TAG")
}

/// A flag without an effect would let in more than was meant.
fn no_ref(wish: &Wish, instead: &str) -> Result<(), String> {
    match &wish.git_ref {
        Some(name) => Err(format!("-ref={name}: these tokens name no branch: {instead}")),
        None => Ok(()),
    }
}

fn needed<'w>(given: Option<&'w str>, what: &str) -> Result<&'w str, String> {
    match given {
        Some(given) if given.contains('*') => Err(format!("{given:?} has a star, which could stand for anybody: give {what}")),
        Some(given) if !given.is_empty() => Ok(given),
        _ => Err(format!("give {what}")),
    }
}

fn issuer(wish: &Wish, usual: &str) -> String {
    wish.url.clone().unwrap_or_else(|| usual.to_owned())
}

fn audience(wish: &Wish, usual: impl FnOnce() -> String) -> String {
    wish.audience.clone().unwrap_or_else(usual)
}

/// `app` of `acme` as `acme/app`; what is below it already stays as it is.
fn below(org: &str, project: &str) -> String {
    if project.split_once('/').is_some_and(|(first, _)| first == org) { project.to_owned() } else { format!("{org}/{project}") }
}

fn same(names: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    names.iter().map(|name| (*name, *name)).collect()
}
