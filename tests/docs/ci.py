"""Recipes for build servers, run as the build server would run them: a `yaml` or `groovy` block of a page that says `ci=NAME`.

The block is read as the vendor reads it, its commands are run with the variables that the vendor documents, in an empty home and a workspace
with a Dockerfile; tokens come from `vendors.py`. `docker` and `buildkite-agent` are those of `bin/`: the docker has no engine, but asks the fake
ECR about each password, at login and again when something is pushed. Each recipe is run twice: for the project that was let in, which must push
its image, and for somebody else's, which must be refused before it has. On machines that other jobs use too, neither leaves a file behind.

What is not there is left out: GitHub's `uses:` steps, images and services, Jenkins's agents. On ECS the credentials are behind
AWS_CONTAINER_CREDENTIALS_RELATIVE_URI at 169.254.170.2; here they are behind the full URI at the sandbox, which SDKs read the same way.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import yaml
from vendors import COMMIT, Vendors
# Beside the vendors' issuer, below tests/clients.
from certificates import Authority
from cluster import Cluster

BIN = Path(__file__).resolve().parent / "bin"
OURS, STRANGERS = "acme", "evil"


class Job:
    """What a build server makes of a recipe: variables, and scripts with the shell that runs them."""

    def __init__(self):
        self.env, self.scripts = {}, []
        # Whether the machine is there after the job, for others.
        self.stays = True


class Recipes:
    """The build servers of one page."""

    def __init__(self, folder):
        self.folder, self.vendors, self.cluster, self.count = folder, Vendors(), Cluster(), 0
        # Files that operators have.
        (folder / "work/machines.pem").write_text(Authority("Acme machines").certificate)
        (folder / "work/cluster.pem").write_text(self.cluster.certificate)
        (folder / "work/reviewer.jwt").write_text(self.cluster.token("kube-system", "daypass-reviewer"))

    def here(self, text):
        names = {**self.vendors.usual(), "https://kubernetes.acme.example:6443": self.cluster.url}
        for usual, ours in sorted(names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(usual, ours)
        return text

    def command(self, command):
        """A set-up command with the issuer that stands for the vendor's own, which the command line knows."""
        found = re.match(r"daypass auth setup (github|gitlab|buildkite)\b", command)
        if found and "-url=" not in command:
            command = f"{found[0]} -url={self.vendors.name(found[1])}{command.removeprefix(found[0])}"
        return self.here(command)

    def run(self, name, text, shell):
        """Why the recipe does not do what it is there for; empty when it does."""
        for owner in (OURS, STRANGERS):
            job = Job()
            READERS[name](job, shell.here(text), owner, self, shell)
            code, out, pushed, left = self.run_job(job, shell)
            if job.stays and left:
                return f"left {', '.join(left)} to the next job"
            if owner == OURS and (code != 0 or not pushed):
                return f"ended with {code} and pushed {pushed or 'nothing'}; it printed:\n{out}"
            if owner != OURS and (code == 0 or pushed or "Error authenticating" not in out):
                return f"a job of somebody else's ended with {code} and pushed {pushed or 'nothing'}; it printed:\n{out}"
        return ""

    def run_job(self, job, shell):
        self.count += 1
        place = self.folder / f"job-{self.count}"
        for name in ("home", "work", "tmp"):
            (place / name).mkdir(parents=True)
        (place / "work/Dockerfile").write_text("FROM scratch\n")
        record = place / "docker.txt"
        kept = {name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ}
        env = {**kept, "PATH": f"{BIN}:{self.folder}/bin:{os.environ['PATH']}", "HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "CI": "true",
               "DOCKER_RECORD": str(record), "SANDBOX": f"http://{shell.addresses['127.0.0.1:4566']}", "AWS_EC2_METADATA_DISABLED": "true", **job.env}
        out, code = "", 0
        for words, script in job.scripts:
            done = subprocess.run([*words, script], env=env, cwd=place / "work", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, timeout=120, check=False)
            out, code = out + done.stdout, done.returncode
            if code != 0:
                break
        pushed = [line.removeprefix("pushed ") for line in (record.read_text().splitlines() if record.exists() else []) if line.startswith("pushed ")]
        left = sorted(str(path.relative_to(place)) for name in ("home", "tmp") for path in (place / name).rglob("*"))
        shutil.rmtree(place)
        return code, out, pushed, left

    def close(self):
        self.vendors.close()
        self.cluster.close()


def one(items, what):
    items = list(items)
    if len(items) != 1:
        raise ValueError(f"a recipe has one {what}, this one has {len(items)}")
    return items[0]


def github(job, text, owner, recipes, _shell):
    workflow = yaml.safe_load(re.sub(r"\$\{\{ *github\.sha *\}\}", COMMIT, text))
    if "${{" in str(workflow):
        raise ValueError("this expression of GitHub's is not imitated")
    recipe = one(workflow["jobs"].values(), "job")
    job.env = {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": f"{owner}/app", "GITHUB_SHA": COMMIT, **recipe.get("env", {})}
    if {**workflow, **recipe}["permissions"].get("id-token") == "write":
        job.env["ACTIONS_ID_TOKEN_REQUEST_URL"] = f"{recipes.vendors.url}/github/_apis/idtoken?api-version=2.0"
        job.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = recipes.vendors.admit("github", owner)
    job.scripts = [(["bash", "-e", "-c"], step["run"]) for step in recipe["steps"] if "run" in step]


def gitlab(job, text, owner, recipes, shell):
    recipe = one(yaml.safe_load(text).values(), "job")
    given = {"GITLAB_CI": "true", "CI_PROJECT_PATH": f"{owner}/app", "CI_COMMIT_SHORT_SHA": COMMIT[:8], "AWS_ENDPOINT_URL": f"http://{shell.addresses['127.0.0.1:4566']}"}
    expanded = {name: re.sub(r"\$(CI_\w+)", lambda found: given[found[1]], value) for name, value in recipe["variables"].items()}
    tokens = {name: recipes.vendors.token("gitlab", owner, wanted["aud"]) for name, wanted in recipe["id_tokens"].items()}
    job.env = {**given, **expanded, **tokens}
    job.scripts = [(["bash", "-c"], "set -eo pipefail\n" + "\n".join(recipe["script"]))]


def buildkite(job, text, owner, recipes, _shell):
    given = {"BUILDKITE": "true", "BUILDKITE_COMMIT": COMMIT, "BUILDKITE_ORGANIZATION_SLUG": owner, "BUILDKITE_PIPELINE_SLUG": "app"}
    # `pipeline upload` fills in the variables of the build; a second dollar keeps one for the job's shell.
    text = re.sub(r"\$(\$|[A-Z_]+\b)", lambda found: "$" if found[1] == "$" else given.get(found[1], ""), text)
    recipe = one(yaml.safe_load(text)["steps"], "step")
    asks = {"BUILDKITE_JOB_ID": "0184990a-477b-4fa8-9968-496074483cee", "BUILDKITE_AGENT_ENDPOINT": f"{recipes.vendors.url}/buildkite/v3",
            "BUILDKITE_AGENT_ACCESS_TOKEN": recipes.vendors.admit("buildkite", owner)}
    job.env = {**given, **asks, **recipe.get("env", {})}
    job.scripts = [(["bash", "-e", "-c"], "\n".join(recipe["commands"]))]


def jenkins(job, text, owner, recipes, shell):
    given = {"JENKINS_URL": f"{recipes.vendors.url}/jenkins/", "JOB_NAME": f"{owner}/app", "BUILD_NUMBER": "1"}
    declared = re.search(r"environment \{(.*?)\}", text, re.S)
    pairs = re.findall(r"""^\s*(\w+) = (['"])(.*)\2$""", declared[1] if declared else "", re.M)
    job.env = {**given, **{name: value for name, _, value in pairs}}
    bound = re.search(r"withCredentials\(\[string\(credentialsId: '\w+', variable: '(\w+)'\)\]\)", text)
    if bound:
        # The credential's audience is set in Jenkins itself: the server's address.
        job.env[bound[1]] = recipes.vendors.token("jenkins", owner, shell.here("https://vault.acme.example"))
    job.scripts = [(["sh", "-xe", "-c"], script) for script in re.findall(r"\bsh '''(.*?)'''", text, re.S)]


def jenkins_on_ecs(job, text, owner, recipes, shell):
    jenkins(job, text, owner, recipes, shell)
    if owner == OURS:
        job.env |= shell.task_identity()
    else:
        # A user of the same account.
        job.env |= {"AWS_ACCESS_KEY_ID": "AKIADAYPASSSANDBOX22", "AWS_SECRET_ACCESS_KEY": "sandbox/only/never/a/real/secret/key/000"}


def kubernetes(job, text, owner, recipes, _shell):
    pod = yaml.safe_load(text)
    job.stays = False
    container = one(pod["spec"]["containers"], "container")
    job.env = {pair["name"]: pair["value"] for pair in container["env"]}
    namespace = pod["metadata"]["namespace"] if owner == OURS else owner
    script = one(container["args"], "script")
    for volume in pod["spec"]["volumes"]:
        wanted = one(volume["projected"]["sources"], "source")["serviceAccountToken"]
        folder = recipes.folder / f"volume-{owner}-{volume['name']}"
        folder.mkdir()
        (folder / wanted["path"]).write_text(recipes.cluster.token(namespace, pod["spec"]["serviceAccountName"], wanted["audience"]))
        place = one((mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume["name"]), "mount of a volume")
        script = script.replace(place, str(folder))
    job.scripts = [(container["command"], script)]


READERS = {"kubernetes": kubernetes, "github": github, "gitlab": gitlab, "buildkite": buildkite, "jenkins": jenkins, "jenkins-on-ecs": jenkins_on_ecs}
