"""A session with the AWS CLI: the credentials that the server mints are taken for what they are, and for nothing more.

The CLI of this project stands in as Vault's own here, under both its names: what users type must work as they type it.
"""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from proof import SANDBOX, SERVER, TOKEN, Proof  # noqa: E402
from refresh import Refresh  # noqa: E402
from signed_login import SignedLogin  # noqa: E402

prove = Proof()
DAYPASS = os.environ.get("DAYPASS_BIN", "daypass")
ACCOUNTS = {"staging": "111111111111", "production": "222222222222"}


def run(*command, **variables):
    env = {**os.environ, "VAULT_ADDR": SERVER, "VAULT_TOKEN": TOKEN, "AWS_PAGER": "", "AWS_ENDPOINT_URL": SANDBOX or "", **variables}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL, check=False)


def aws(*arguments, **variables):
    return run(os.environ.get("AWS", "aws"), *arguments, **variables)


def set_up():
    vault = Path(os.environ["HOME"], "vault")
    vault.symlink_to(DAYPASS)
    for (environment, account), cli in zip(ACCOUNTS.items(), (DAYPASS, str(vault)), strict=True):
        name = Path(cli).name
        mount, role = f"cdp/aws/{environment}", f"ecr-{environment}"
        done = run(cli, "secrets", "enable", f"-path={mount}", "aws")
        prove(f"{name} secrets enable -path={mount} aws", done.returncode == 0 and "Success! Enabled the aws secrets engine at" in done.stdout, done.stderr)
        done = run(cli, "write", f"{mount}/roles/{role}", "credential_type=assumed_role", f"role_arns=arn:aws:iam::{account}:role/{role}")
        prove(f"{name} write {mount}/roles/{role}", done.returncode == 0 and "Success! Data written to:" in done.stdout, done.stderr)
        done = run(cli, "write", f"{mount}/sts/{role}", "ttl=60m")
        prove(f"{name} write {mount}/sts/{role} ttl=60m", done.returncode == 0 and done.stdout.splitlines()[0].split() == ["Key", "Value"], done.stderr)


def mint(environment):
    done = run(DAYPASS, "read", "-format=json", f"cdp/aws/{environment}/sts/ecr-{environment}", "ttl=15m")
    data = json.loads(done.stdout)["data"] if done.returncode == 0 else {}
    prove.secret(data.get("secret_key"))
    prove.secret(data.get("security_token"))
    prove(f"a {environment} credential for 15 minutes", 890 <= data.get("ttl", 0) <= 900, done.stderr or data.get("ttl"))
    return {
        "AWS_ACCESS_KEY_ID": data.get("access_key", ""),
        "AWS_SECRET_ACCESS_KEY": data.get("secret_key", ""),
        "AWS_SESSION_TOKEN": data.get("security_token", ""),
    }


def registry(password):
    """What a registry hears when it asks the fake ECR about a password: status and account."""
    login = base64.b64encode(f"AWS:{password}".encode()).decode()
    request = urllib.request.Request(f"{SANDBOX}/_sandbox/ecr/verify", headers={"Authorization": f"Basic {login}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["X-Account"]
    except urllib.error.HTTPError as refusal:
        return refusal.code, None


def use(environment):
    account = ACCOUNTS[environment]
    credential = mint(environment)
    done = aws("sts", "get-caller-identity", "--output", "json", **credential)
    arn = json.loads(done.stdout)["Arn"] if done.returncode == 0 else ""
    prove(f"its bearer is ecr-{environment} of {account}", arn.startswith(f"arn:aws:sts::{account}:assumed-role/ecr-{environment}/vault-"), done.stderr or arn)
    done = aws("sts", "get-caller-identity", **{**credential, "AWS_SECRET_ACCESS_KEY": "x" * 40})
    prove("with another secret key the signature does not match", done.returncode != 0 and "SignatureDoesNotMatch" in done.stderr, done.stderr)
    done = aws("sts", "get-caller-identity", **{**credential, "AWS_SESSION_TOKEN": credential["AWS_SESSION_TOKEN"][:-8] + "AAAAAAAA"})
    prove("with a changed session token it is refused", done.returncode != 0 and "Token" in done.stderr, done.stderr)
    done = aws("sts", "get-caller-identity", **{k: v for k, v in credential.items() if k != "AWS_SESSION_TOKEN"})
    prove("and without the session token too", done.returncode != 0, done.stderr)
    done = aws("ecr", "get-login-password", **credential)
    password = prove.secret(done.stdout.strip())
    prove("ECR gives a registry password", done.returncode == 0 and len(password) > 20, done.stderr)
    prove("which is good for that account's registry", registry(password) == (200, account), registry(password))
    prove("and a changed one does not", registry(password[:-2] + "xx")[0] == 401)
    done = aws("iam", "create-user", "--user-name", "mallory", **credential)
    prove("what the role does not allow is denied", done.returncode != 0 and "AccessDenied" in done.stderr, done.stderr)


if SANDBOX:
    set_up()
    for name in ACCOUNTS:
        use(name)
    config = Path(os.environ["HOME"], "aws-config")
    config.write_text(f"[profile build]\ncredential_process = {DAYPASS} aws credential-process cdp/aws/staging ecr-staging\nregion = us-east-1\n")
    done = aws("--profile", "build", "sts", "get-caller-identity", "--query", "Account", "--output", "text", AWS_CONFIG_FILE=str(config))
    prove("a profile's credential_process fetches one by itself", done.stdout.strip() == ACCOUNTS["staging"], done.stderr)
    SignedLogin(prove, run, DAYPASS, SERVER, mint("staging")).all()
    Refresh(prove, run, aws, registry, DAYPASS, SERVER, SANDBOX).all()
prove.end()
