"""Build servers as identity providers, on loopback: each vendor's discovery document, its keys, and the tokens that it gives to jobs.

The claims are those of the vendors' own pages, read in November 2026:

    GitHub     docs.github.com, "OpenID Connect reference"; the subject is that of repositories made since July 2026, with ids
    GitLab     docs.gitlab.com, "OpenID Connect (OIDC) authentication using ID tokens"
    Buildkite  buildkite.com/docs, "OIDC in Buildkite Pipelines"
    Jenkins    plugins.jenkins.io, "OpenID Connect Provider", with its default claims
"""

import secrets
import sys
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))
from issuer import Issuer  # noqa: E402
from standin import Answering, serve  # noqa: E402

COMMIT = "9f3182061f1e2cca4702c368cbc039b7dc9d4485"
# What a page calls each vendor's issuer.
PUBLIC = {
    "github": "https://token.actions.githubusercontent.com",
    "gitlab": "https://gitlab.com",
    "buildkite": "https://agent.buildkite.com",
    "jenkins": "https://jenkins.acme.example/oidc",
}


class Vendors:
    """One server for all of them; a vendor's issuer is `URL/vendor`, Jenkins's `URL/jenkins/oidc`."""

    def __init__(self):
        self.issuer = Issuer()
        self.server = serve(self, Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        # Who may ask for a token: what proves it, and whose job it is.
        self.jobs = {}

    def name(self, vendor):
        """The issuer of a vendor here."""
        return f"{self.url}/{vendor}/oidc" if vendor == "jenkins" else f"{self.url}/{vendor}"

    def usual(self):
        """What a page calls the issuers, and what they are called here."""
        return {"https://jenkins.acme.example": f"{self.url}/jenkins", **{name: self.name(vendor) for vendor, name in PUBLIC.items()}}

    def admit(self, vendor, owner):
        """What a job of this owner proves itself with when it asks for a token."""
        proof = secrets.token_hex(16)
        self.jobs[proof] = (vendor, owner)
        return proof

    def token(self, vendor, owner, audience=None):
        claims = CLAIMS[vendor](owner, self)
        if audience:
            claims["aud"] = audience
        return self.issuer.token(**{"iss": self.name(vendor), **claims})

    def close(self):
        self.server.shutdown()
        self.issuer.server.shutdown()


def github(owner, _vendors):
    return {
        "aud": f"https://github.com/{owner}", "sub": f"repo:{owner}@5/app@6:ref:refs/heads/main", "jti": secrets.token_hex(8),
        "repository": f"{owner}/app", "repository_id": "6", "repository_owner": owner, "repository_owner_id": "5",
        "repository_visibility": "private", "ref": "refs/heads/main", "ref_type": "branch", "sha": COMMIT, "workflow": "build",
        "workflow_ref": f"{owner}/app/.github/workflows/build.yml@refs/heads/main", "workflow_sha": COMMIT,
        "job_workflow_ref": f"{owner}/app/.github/workflows/build.yml@refs/heads/main", "job_workflow_sha": COMMIT, "event_name": "push",
        "actor": "ann", "actor_id": "7", "base_ref": "", "head_ref": "", "run_id": "42", "run_number": "1", "run_attempt": "1",
        "runner_environment": "github-hosted",
    }


def gitlab(owner, vendors):
    return {
        "aud": vendors.name("gitlab"), "sub": f"project_path:{owner}/app:ref_type:branch:ref:main", "jti": secrets.token_hex(8),
        "namespace_id": "72", "namespace_path": owner, "project_id": "20", "project_path": f"{owner}/app", "user_id": "1",
        "user_login": "ann", "user_email": "ann@acme.example", "user_access_level": "developer", "project_visibility": "private",
        "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main", "ref_type": "branch",
        "ref_path": "refs/heads/main", "ref_protected": "true", "runner_id": 1, "runner_environment": "gitlab-hosted", "sha": COMMIT,
        "ci_config_ref_uri": f"gitlab.com/{owner}/app//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": COMMIT,
    }


def buildkite(owner, _vendors):
    return {
        "aud": f"https://buildkite.com/{owner}", "sub": f"organization:{owner}:pipeline:app:ref:refs/heads/main:commit:{COMMIT}:step:",
        "jti": secrets.token_hex(8), "organization_slug": owner, "pipeline_slug": "app", "build_number": 1, "build_branch": "main",
        "build_tag": None, "build_commit": COMMIT, "step_key": None, "job_id": "0184990a-477b-4fa8-9968-496074483cee",
        "agent_id": "0184990a-4782-42b5-afc1-16715b10b8ff", "build_source": "webhook", "runner_environment": "self-hosted",
    }


def jenkins(owner, vendors):
    return {"sub": f"{vendors.url}/jenkins/job/{owner}/job/app/", "build_number": 1}


CLAIMS = {"github": github, "gitlab": gitlab, "buildkite": buildkite, "jenkins": jenkins}


class Handler(Answering):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        vendor = path.split("/")[1]
        name = self.owner.name(vendor)
        below = f"{self.owner.url}{path}".removeprefix(name)
        if vendor in CLAIMS and below == "/.well-known/openid-configuration":
            self.answer({"issuer": name, "jwks_uri": f"{name}/jwks", "id_token_signing_alg_values_supported": ["RS256"]})
        elif vendor in CLAIMS and below == "/jwks":
            self.answer(self.owner.issuer.keys())
        else:
            self.give_token(vendor, dict(urllib.parse.parse_qsl(query)).get("audience"))

    def give_token(self, vendor, audience):
        proof = self.headers.get("authorization", "").removeprefix("Bearer ").removeprefix("Token ")
        of, owner = self.owner.jobs.get(proof, (None, None))
        if of is None or of != vendor:
            return self.answer({"message": "unauthorized"}, 401)
        token = self.owner.token(vendor, owner, audience)
        # GitHub says `value`, Buildkite `token`.
        return self.answer({"count": len(token), "value": token} if vendor == "github" else {"token": token})
