"""The story that must always work, told by real clients: a build pipeline gets AWS credentials that are gone by tonight.

A Vault-compatible CLI (`bao`) sets up two accounts. Terraform asks for a credential for each and hands it to Packer, which builds an
image, tags it, logs in to ECR with the credential and pushes. skopeo finds the images. Up to there the only thing of ours on the client's
side is the fake AWS. Then podman and skopeo log in by the ecr engine instead, and everything that must be refused is tried. At the end the guide
of docs/aws.md is followed to the letter.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from world import ACCOUNTS, REGION, ROOT_TOKEN, SANDBOX, World, registry_of, tail

HERE = Path(__file__).resolve().parent


class Story:
    def __init__(self, world):
        self.world = world
        self.passed = 0
        self.failed = 0
        self.secrets = []
        self.job_token = ""

    def prove(self, sentence, holds, why=""):
        if holds:
            self.passed += 1
            print(f"ok    {sentence}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {sentence}\n      {self.hide(why)}", flush=True)
        return holds

    def hide(self, text):
        """A failure is printed with what the client said, but never with a secret in it."""
        for secret in self.secrets:
            text = text.replace(secret, "<secret>")
        return text.strip().replace("\n", "\n      ")[-4000:]

    def bao(self, *args, token=ROOT_TOKEN, stdin=None):
        return self.world.run(["bao", *args], stdin=stdin, VAULT_TOKEN=token, BAO_TOKEN=token)

    def set_up_accounts(self):
        for environment, account in ACCOUNTS.items():
            mount = f"cdp/aws/{environment}"
            code, _, err = self.bao("secrets", "enable", f"-path={mount}", "aws")
            self.prove(f"an operator enables the AWS engine at {mount}", code == 0, err)
            code, _, err = self.bao("write", f"{mount}/roles/ecr-{environment}", "credential_type=assumed_role",
                                    f"role_arns=arn:aws:iam::{account}:role/ecr-{environment}")
            self.prove(f"and names the IAM role that {environment} builds may assume; no key is configured anywhere", code == 0, err)
        # The provider makes a child token, which the default policy does not allow.
        rules = 'path "auth/token/create" { capabilities = ["update"] }\n' + "".join(
            f'path "cdp/aws/{e}/sts/ecr-{e}" {{ capabilities = ["read", "update"] }}\n' for e in ACCOUNTS)
        code, _, err = self.bao("policy", "write", "image-build", "-", stdin=rules)
        self.prove("a policy allows a build these two credentials and nothing else", code == 0, err)
        code, out, err = self.bao("token", "create", "-policy=image-build", "-ttl=1h", "-field=token")
        self.job_token = out.strip()
        self.secrets.append(self.job_token or "-")
        self.prove("the job gets a token of its own", code == 0 and self.job_token, err)

    def build_images(self):
        provider = os.environ.get("DAYPASS_TF_PROVIDER")
        kind = "provider" if provider else "standin"
        work = self.world.root / "work"
        shutil.copytree(HERE / "pipeline" / kind, work)
        rc = ""
        if provider:
            plugins = self.world.root / "plugins"
            plugins.mkdir()
            (plugins / "terraform-provider-vault").symlink_to(Path(provider).resolve())
            rc = f'provider_installation {{\n  dev_overrides {{ "hashicorp/vault" = "{plugins}" }}\n  direct {{}}\n}}\n'
        self.world.write("home/terraform.rc", rc)
        who = "Vault's Terraform provider" if provider else "Terraform with a Vault-compatible CLI"
        env = {
            "VAULT_TOKEN": self.job_token,
            "BAO_TOKEN": self.job_token,
            "TF_VAR_accounts": json.dumps(ACCOUNTS),
            "TF_VAR_template": str(HERE / "pipeline/image.json"),
        }
        if not provider:
            code, out, err = self.world.run(["terraform", "init", "-no-color", "-input=false"], cwd=work, **env)
            if not self.prove("terraform init needs nothing from outside", code == 0, err or out):
                return
        started = time.monotonic()
        # One at a time: both builds share the container engine's storage.
        code, out, err = self.world.run(["terraform", "apply", "-no-color", "-input=false", "-auto-approve", "-parallelism=1"],
                                        cwd=work, timeout=300, **env)
        seconds = time.monotonic() - started
        self.prove(f"{who} mints, Packer builds, tags, logs in to ECR and pushes, for both accounts ({seconds:.0f} s)", code == 0, err + out)
        logins = out.count("Login Succeeded")
        self.prove("Packer logged in to the registry of each account with that account's credential", logins == len(ACCOUNTS), f"{logins} logins: {out}")
        self.prove("the job's log shows no token", self.job_token not in out + err, "a token is in Terraform's output")
        self.prove("no credential is left in a file", not list(work.glob("*.json")), "a variable file is left")

    def credential(self, environment):
        code, out, err = self.bao("read", "-format=json", f"cdp/aws/{environment}/sts/ecr-{environment}", token=self.job_token)
        answer = json.loads(out) if code == 0 else {}
        data = answer.get("data", {})
        self.secrets += [data[k] for k in ("secret_key", "security_token") if data.get(k)]
        self.prove(f"reading a {environment} credential works as writing does, and its lease tells the truth: about an hour, not renewable",
                   code == 0 and 3590 <= answer.get("lease_duration", 0) <= 3600 and answer.get("renewable") is False, err or out)
        return {
            "AWS_ACCESS_KEY_ID": data.get("access_key", ""),
            "AWS_SECRET_ACCESS_KEY": data.get("secret_key", ""),
            "AWS_SESSION_TOKEN": data.get("security_token", ""),
        }

    def find_images(self):
        passwords = {}
        for environment, account in ACCOUNTS.items():
            aws = self.credential(environment)
            code, out, err = self.world.run(["aws", "--endpoint-url", SANDBOX, "sts", "get-caller-identity", "--output", "json"], **aws)
            arn = json.loads(out)["Arn"] if code == 0 else ""
            self.prove(f"AWS knows its bearer as the assumed role ecr-{environment} of {account}",
                       arn.startswith(f"arn:aws:sts::{account}:assumed-role/ecr-{environment}/"), err or out)
            code, out, err = self.world.run(["aws", "--endpoint-url", SANDBOX, "ecr", "get-login-password"], **aws)
            passwords[environment] = out.strip()
            self.secrets.append(out.strip() or "-")
            self.prove("and ECR gives it a registry password", code == 0, err)
        for environment in ACCOUNTS:
            image = f"docker://{registry_of(environment)}/app:1.0"
            code, _, err = self.world.run(["skopeo", "login", "--username", "AWS", "--password-stdin", registry_of(environment)],
                                          stdin=passwords[environment])
            self.prove(f"skopeo logs in to {registry_of(environment)}", code == 0, err)
            code, out, err = self.world.run(["skopeo", "inspect", image])
            labels = (json.loads(out).get("Labels") or {}) if code == 0 else {}
            self.prove(f"the image for {environment} arrived, labelled by Packer", labels.get("built-for") == environment, err or out)
        return passwords

    def engine_logins(self):
        """The ecr engine in place of AWS's own tools: the same images, and no AWS credential on the client's side at all."""
        code, _, err = self.bao("secrets", "enable", "ecr")
        self.prove("an operator enables the ecr engine", code == 0, err)
        rules = ""
        for environment, account in ACCOUNTS.items():
            code, _, err = self.bao("write", f"ecr/roles/{environment}", f"role_arn=arn:aws:iam::{account}:role/ecr-{environment}")
            self.prove(f"and a role for the registry of {environment}", code == 0, err)
            rules += f'path "ecr/creds/{environment}" {{ capabilities = ["read"] }}\n'
        self.bao("policy", "write", "image-pull", "-", stdin=rules)
        _, out, _ = self.bao("token", "create", "-policy=image-pull", "-ttl=1h", "-field=token")
        token = out.strip()
        self.secrets.append(token or "-")
        daypass = str(self.world.daypass)
        staging = registry_of("staging")
        code, password, err = self.world.run([daypass, "read", "-field=password", "ecr/creds/staging"], VAULT_TOKEN=token)
        self.secrets.append(password.strip() or "-")
        self.world.write("home/typed.json", "{}")
        typed = {"REGISTRY_AUTH_FILE": f"{self.world.root}/home/typed.json"}
        code, _, err = self.world.run(["podman", "login", "--username", "AWS", "--password-stdin", staging], stdin=password, **typed)
        self.prove(f"daypass read -field=password ecr/creds/staging | podman login --password-stdin {staging}", code == 0, err)
        code, out, err = self.world.run(["skopeo", "inspect", f"docker://{staging}/app:1.0"], **typed)
        self.prove("opens the registry", code == 0, err)
        code, text, err = self.world.run([daypass, "read", "-field=dockerconfigjson", "ecr/creds/production", "format=dockerconfigjson"],
                                         VAULT_TOKEN=token)
        self.secrets += [login["password"] for login in json.loads(text)["auths"].values()] if code == 0 else []
        self.world.write("home/kubernetes.json", text)
        code, out, err = self.world.run(["skopeo", "inspect", "--authfile", f"{self.world.root}/home/kubernetes.json",
                                         f"docker://{registry_of('production')}/app:1.0"])
        self.prove("the text for a Kubernetes secret opens the registry that it is for", code == 0, err)
        helper = self.world.root / "bin/docker-credential-daypass"
        helper.symlink_to(daypass)
        self.world.write("home/helper.json", json.dumps({"credHelpers": {registry_of(e): "daypass" for e in ACCOUNTS}}))
        helped = {"REGISTRY_AUTH_FILE": f"{self.world.root}/home/helper.json", "DAYPASS_ECR_ROLE": ",".join(ACCOUNTS), "VAULT_TOKEN": token}
        for environment in ACCOUNTS:
            code, _, err = self.world.run(["podman", "pull", "--quiet", f"{registry_of(environment)}/app:1.0"], **helped)
            self.prove(f"podman pulls from {environment} with no login at all: the credential helper asks the server", code == 0, err)
        code, _, err = self.world.run(["skopeo", "inspect", f"docker://{staging}/app:1.0"], **{**helped, "VAULT_TOKEN": "s.wrong"})
        self.prove("and without a good token it does not", code != 0 and "permission denied" in err, err)

    def refusals(self, passwords):
        staging, production = (registry_of(e) for e in ACCOUNTS)
        self.world.run(["skopeo", "logout", "--all"])
        code, _, err = self.world.run(["skopeo", "inspect", f"docker://{staging}/app:1.0"])
        self.prove("without a password the registry refuses", code != 0 and ("unauthorized" in err or "401" in err or "authentication" in err), err)
        code, _, err = self.world.run(["skopeo", "login", "--username", "AWS", "--password-stdin", staging], stdin="not-the-password")
        self.prove("with a wrong password it refuses", code != 0, err)
        code, _, err = self.world.run(["skopeo", "login", "--username", "AWS", "--password-stdin", production], stdin=passwords["staging"])
        self.prove("the staging password does not open production", code != 0, err)
        code, _, err = self.bao("read", "cdp/aws/staging/roles/ecr-staging", token=self.job_token)
        self.prove("the job may not read the role's definition", code == 2 and "permission denied" in err, err)
        code, _, err = self.bao("write", "cdp/aws/staging/sts/ecr-staging", "ttl=60m", token="s.no-such-token")
        self.prove("an unknown token gets nothing", code == 2 and "permission denied" in err, err)
        code, _, err = self.bao("write", "cdp/aws/staging/sts/ecr-staging", "role_arn=arn:aws:iam::222222222222:role/ecr-production",
                                token=self.job_token)
        self.prove("the staging role does not assume the production role", code == 2, err)

    def the_guide(self):
        """docs/aws.md as a reader types it, on a new server. Only here is a registry that its images can go to."""
        self.world.stop_daypass()
        page = HERE.parents[1] / "docs/aws.md"
        code, out, err = self.world.run([sys.executable, "-B", str(HERE.parent / "docs/run.py"), "--stage", "story", str(page)],
                                        timeout=300, DAYPASS_BIN=self.world.daypass)
        wrong = "\n".join(line for line in out.splitlines() if not line.startswith("ok ")) + err
        self.prove("every command of docs/aws.md does what the page says", code == 0, wrong)
        self.prove("the push to the registry among them", "podman push" in out, "no command of the page pushes")

    def nothing_leaked(self):
        for log in sorted((self.world.root / "logs").glob("*.log")):
            if log.name.startswith("front"):
                continue
            text = log.read_text(errors="replace")
            # The dev server prints its root token by design; what it minted for others it must never print.
            self.prove(f"the log of {log.stem} holds no secret", not any(s in text for s in self.secrets if len(s) > 8), "a secret is in it")


def main():
    world = World(os.environ["STORY_DIR"], os.environ["DAYPASS_BIN"])
    story = Story(world)
    try:
        print(f"building the world: certificates, registries, a container engine ({REGION})", flush=True)
        world.build()
        world.start_daypass()
        story.set_up_accounts()
        story.build_images()
        passwords = story.find_images()
        story.engine_logins()
        story.refusals(passwords)
        story.nothing_leaked()
        story.the_guide()
    finally:
        world.close()
        if story.failed:
            for log in sorted((world.root / "logs").glob("*.log")):
                print(f"--- last lines of {log.name}\n{story.hide(tail(log))}")
    print(f"{story.passed} passed, {story.failed} failed")
    return 1 if story.failed else 0


if __name__ == "__main__":
    sys.exit(main())
