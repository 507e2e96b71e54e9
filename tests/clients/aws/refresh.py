"""AWS's own SDK and CLI with nothing of ours on their side: credentials from the server's container-credentials endpoint, which last for
20 seconds, and are renewed when they end. And what comes of a role besides keys: registry logins and a way into the console."""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import botocore.exceptions

STAGING = "arn:aws:iam::111111111111:role/ecr-staging"
MOUNT = "cdp/aws/staging"


class Refresh:
    def __init__(self, prove, run, aws, registry, daypass, server, sandbox):
        self.prove, self.run, self.aws, self.registry = prove, run, aws, registry
        self.daypass, self.server, self.sandbox = daypass, server, sandbox
        self.home = Path(os.environ["HOME"])
        self.token = ""

    def all(self):
        self.set_up()
        self.bare_http()
        self.cli()
        with ThreadPoolExecutor() as builds:
            # They wait for the end of their credentials while boto() does.
            long_builds = self.long_builds(builds)
            self.boto()
            self.ended(long_builds)
        self.command()
        self.logins()
        self.console()

    def ours(self, *arguments, sentence=None, **variables):
        done = self.run(self.daypass, *arguments, **variables)
        if sentence:
            self.prove(sentence, done.returncode == 0, done.stderr)
        return done.stdout.strip()

    def set_up(self):
        self.ours("write", f"{MOUNT}/roles/short", "credential_type=assumed_role", f"role_arns={STAGING}", "default_sts_ttl=20s",
                  sentence="a role whose credentials last for 20 seconds")
        rules = self.home / "short.hcl"
        rules.write_text(f'path "{MOUNT}/container/short" {{ capabilities = ["read"] }}\n')
        self.ours("policy", "write", "short", str(rules), sentence="a policy that allows a workload these credentials alone")
        self.token = self.prove.secret(self.ours("token", "create", "-policy=short", "-ttl=1h", "-field=token"))
        self.prove("a token for the workload", bool(self.token))

    def endpoint(self, role="short", **more):
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.server}/v1/{MOUNT}/container/{role}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token,
            **more,
        }

    def fetch(self, authorization, path=f"{MOUNT}/container/short"):
        request = urllib.request.Request(f"{self.server}/v1/{path}", headers={"Authorization": authorization})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)

    def bare_http(self):
        status, body = self.fetch(self.token)
        for name in ("SecretAccessKey", "Token"):
            self.prove.secret(body.get(name))
        self.prove("the answer is what a container's endpoint gives, and nothing else",
                   status == 200 and sorted(body) == ["AccessKeyId", "AccountId", "Expiration", "RoleArn", "SecretAccessKey", "Token"], sorted(body))
        self.prove("with the role and its account", (body.get("RoleArn"), body.get("AccountId")) == (STAGING, "111111111111"), body.get("RoleArn"))
        self.prove("and an end in whole seconds of UTC", body.get("Expiration", "").endswith("Z") and "." not in body.get("Expiration", "."), body.get("Expiration"))
        status, _ = self.fetch(f"Bearer {self.token}")
        self.prove("a token with Bearer before it is taken too", status == 200, status)
        status, body = self.fetch("hvs.wrong")
        self.prove("a wrong token is refused in AWS's words", (status, body.get("code")) == (403, "AccessDenied") and body.get("message"), body)
        status, body = self.fetch(self.token, f"{MOUNT}/container/ecr-staging")
        self.prove("another role is not given", (status, body.get("code")) == (403, "AccessDenied"), body)
        status, body = self.fetch(self.token, "auth/token/lookup-self")
        self.prove("elsewhere a token without Bearer is none", status == 403 and "code" not in body, body)

    def cli(self):
        done = self.aws("sts", "get-caller-identity", "--query", "Arn", "--output", "text", **self.endpoint())
        self.prove("the AWS CLI fetches a credential by itself", done.stdout.startswith("arn:aws:sts::111111111111:assumed-role/ecr-staging/"), done.stderr)
        file = self.home / "workload-token"
        file.write_text(self.token)
        variables = self.endpoint(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(file))
        variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = ""
        done = self.aws("sts", "get-caller-identity", "--query", "Account", "--output", "text", **variables)
        self.prove("also with the token in a file", done.stdout.strip() == "111111111111", done.stderr)
        done = self.aws("sts", "get-caller-identity", **self.endpoint("ecr-staging"))
        self.prove("and is told why when it may not", done.returncode != 0 and "permission denied" in done.stderr, done.stderr)

    def boto(self):
        os.environ.update(self.endpoint())
        session = boto3.Session(region_name="us-east-1")
        sts = session.client("sts", endpoint_url=self.sandbox)
        first = sts.get_caller_identity()["Arn"]
        self.prove("boto3 fetches a credential by itself", first.startswith("arn:aws:sts::111111111111:assumed-role/ecr-staging/"), first)
        frozen = session.get_credentials().get_frozen_credentials()
        for secret in (frozen.secret_key, frozen.token):
            self.prove.secret(secret)
        kept = boto3.client("sts", endpoint_url=self.sandbox, aws_access_key_id=frozen.access_key,
                            aws_secret_access_key=frozen.secret_key, aws_session_token=frozen.token)
        self.prove("a copy of it works while it lasts", kept.get_caller_identity()["Account"] == "111111111111")
        time.sleep(21)
        refusal = self.prove.raises("after 21 seconds the copy has expired", botocore.exceptions.ClientError, kept.get_caller_identity)
        self.prove("which AWS says so", refusal is not None and refusal.response["Error"]["Code"] == "ExpiredToken", refusal)
        arn = sts.get_caller_identity()["Arn"]
        self.prove("and the session goes on with a new one", arn.startswith("arn:aws:sts::111111111111:assumed-role/ecr-staging/"), arn)
        fresh = session.get_credentials().get_frozen_credentials()
        for secret in (fresh.secret_key, fresh.token):
            self.prove.secret(secret)
        self.prove("whose key is another", fresh.access_key != frozen.access_key)
        self.ours("token", "revoke", self.token)
        failed = self.prove.raises("once its token is revoked the workload gets no more", Exception, sts.get_caller_identity)
        self.prove("and is told that it was denied", "permission denied" in str(failed), failed)

    def long_builds(self, builds):
        config = self.home / "short-config"
        config.write_text(f"[profile short]\ncredential_process = {self.daypass} aws credential-process {MOUNT} short\n")
        build = [sys.executable, "-B", str(Path(__file__).with_name("long_build.py"))]
        return {
            "container-role": builds.submit(self.run, self.daypass, "run", f"-mount={MOUNT}", "-role=short", "--", *build, AWS_ACCESS_KEY_ID="AKIAOTHER"),
            "custom-process": builds.submit(self.run, *build, AWS_CONFIG_FILE=str(config), AWS_PROFILE="short"),
        }

    def ended(self, long_builds):
        for method, name in (("container-role", "daypass run"), ("custom-process", "credential_process")):
            done = long_builds[method].result()
            seen = json.loads(done.stdout) if done.returncode == 0 else {}
            self.prove(f"{name}: boto3 finds a credential", seen.get("method") == method and "assumed-role/ecr-staging/" in seen.get("first", ""), done.stderr or seen)
            self.prove(f"{name}: once that has expired", seen.get("copy") == "ExpiredToken", seen)
            self.prove(f"{name}: the build goes on with another", seen.get("renewed") and "assumed-role/ecr-staging/" in seen.get("again", ""), seen)
            self.prove(f"{name}: with no key in its environment", seen.get("hidden"), seen)

    def command(self):
        cli = [os.environ.get("AWS", "aws"), "sts", "get-caller-identity", "--query", "Account", "--output", "text"]
        done = self.run(self.daypass, "run", f"-mount={MOUNT}", "-role=ecr-staging", "--", *cli, AWS_ACCESS_KEY_ID="AKIAOTHER")
        self.prove("the AWS CLI under daypass run", done.stdout.strip() == "111111111111", done.stderr)
        done = self.run(self.daypass, "run", f"-mount={MOUNT}", "-role=nobody", "--", *cli)
        self.prove("does not begin without a credential", done.returncode == 2 and not done.stdout and "nobody" in done.stderr, done.stdout + done.stderr)

    def logins(self):
        self.ours("secrets", "enable", "ecr", sentence="daypass secrets enable ecr")
        self.ours("write", "ecr/roles/app", f"role_arn={STAGING}", sentence="daypass write ecr/roles/app")
        password = self.prove.secret(self.ours("read", "-field=password", "ecr/creds/app"))
        self.prove("its password opens the account's registry", self.registry(password) == (200, "111111111111"), self.registry(password))
        again = self.ours("read", "-field=password", "ecr/creds/app")
        self.prove("the next reader shares it", again == password)
        helper = self.home / "docker-credential-daypass"
        helper.symlink_to(self.daypass)
        host = "111111111111.dkr.ecr.us-east-1.amazonaws.com"
        done = self.run("sh", "-c", f"echo {host} | '{helper}' get", DAYPASS_ECR_ROLE="app")
        login = json.loads(done.stdout) if done.returncode == 0 else {}
        self.prove("a credential helper hands it to docker", login == {"ServerURL": host, "Username": "AWS", "Secret": password}, done.stdout + done.stderr)
        done = self.run("sh", "-c", f"echo docker.io | '{helper}' get", DAYPASS_ECR_ROLE="app")
        self.prove("and has none for others", (done.returncode, done.stdout) == (1, "credentials not found in native keychain\n"), done.stdout)
        self.ours("write", "ecr/roles/public", f"role_arn={STAGING}", "public=true")
        password = self.prove.secret(self.ours("read", "-field=password", "ecr/creds/public"))
        self.prove("ECR Public gives one too", self.registry(password)[0] == 200, self.registry(password))

    def console(self):
        url = self.prove.secret(self.ours("read", "-field=url", f"{MOUNT}/console/ecr-staging", "destination=/ecr/home"))
        self.prove("a URL to sign in to the console", "Action=login" in url and "SigninToken=" in url, url[:60])

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        try:
            urllib.request.build_opener(Stay).open(url, timeout=10)
        except urllib.error.HTTPError as answer:
            self.prove("opens it as the role, on the page that was asked for",
                       answer.code == 302 and answer.headers["Location"] == "https://console.aws.amazon.com/ecr/home"
                       and answer.headers["X-Principal"].startswith("arn:aws:sts::111111111111:assumed-role/ecr-staging/"), answer.code)
        done = self.run(self.daypass, "read", f"{MOUNT}/console/ecr-staging", "destination=https://evil.example/")
        self.prove("and leads nowhere but to the console", done.returncode == 2 and "console.aws.amazon.com" in done.stderr, done.stderr)
