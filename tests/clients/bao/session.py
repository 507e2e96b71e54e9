"""A session with the `bao` CLI, which is Vault's CLI by another name: what an operator and a pipeline type."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from certificates import Authority, Behind  # noqa: E402
from issuer import Issuer  # noqa: E402
from proof import SANDBOX, SERVER, TOKEN, Proof  # noqa: E402

BAO = os.environ.get("BAO", "bao")
prove = Proof()


def bao(*arguments, token=TOKEN, stdin="", **variables):
    env = {**os.environ, "BAO_ADDR": SERVER, "BAO_TOKEN": token or "", "VAULT_TOKEN": token or "", "NO_COLOR": "1", **variables}
    if token is None:
        env.pop("BAO_TOKEN")
        env.pop("VAULT_TOKEN")
    done = subprocess.run([BAO, *arguments], env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    return done


def answer(done):
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return {}


def status():
    done = bao("status", "-format=json")
    said = answer(done)
    prove("status: initialised, unsealed, exit code 0", done.returncode == 0 and said.get("sealed") is False and said.get("initialized") is True, done)
    prove("the version is a semantic version", said.get("version", "").count(".") >= 2, said)


def login():
    created = bao("token", "create", "-policy=default", "-ttl=10m", "-format=json")
    token = prove.secret(answer(created).get("auth", {}).get("client_token", ""))
    done = bao("login", "-", token=None, stdin=token)
    prove("login with a token from stdin", done.returncode == 0 and "Success! You are now authenticated" in done.stdout, done.stdout + done.stderr)
    kept = Path(os.environ["HOME"], ".vault-token")
    prove("the token is kept at home, for this user alone", kept.read_text() == token and kept.stat().st_mode & 0o077 == 0, kept)
    done = bao("token", "lookup", "-format=json", token=None)
    prove("the kept token is used from then on", answer(done).get("data", {}).get("id") == token, done.stderr)
    done = bao("login", "-", token=None, stdin="s.wrong")
    prove("a wrong token is refused with exit code 2", done.returncode == 2 and "permission denied" in done.stderr, done.stderr)


def snapshots():
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "taken.snap"))
        bao("secrets", "enable", "-path=kept", "kv")
        bao("write", "kept/app", "value=then")
        done = bao("operator", "raft", "snapshot", "save", file)
        prove("snapshot save: the CLI finds it complete", done.returncode == 0 and Path(file).stat().st_size > 500, done.stderr)
        bao("write", "kept/app", "value=now")
        done = bao("operator", "raft", "snapshot", "restore", file)
        value = bao("read", "-field=value", "kept/app").stdout
        prove("snapshot restore brings back what was there, and the server serves on", done.returncode == 0 and value == "then", done.stderr + value)
        done = bao("write", "sys/storage/revocation", "paused=false")
        prove("revocation is let go on", done.returncode == 0 and answer(bao("read", "-format=json", "sys/storage/revocation")).get("data", {}).get("paused") is False, done.stderr)
        done = bao("operator", "raft", "snapshot", "restore", "-force", file)
        prove("snapshot restore -force", done.returncode == 0 and bao("read", "-field=value", "kept/app").stdout == "then", done.stderr)
        bao("write", "sys/storage/revocation", "paused=false")
        whole = Path(file).read_bytes()
        Path(file).write_bytes(whole[: len(whole) // 2])
        done = bao("operator", "raft", "snapshot", "restore", "-force", file)
        prove("half a snapshot is refused", done.returncode != 0 and "cut off" in done.stderr, done.stderr)
        done = subprocess.run([os.environ["DAYPASS_BIN"], "operator", "raft", "snapshot", "inspect", file], capture_output=True, text=True, timeout=60, check=False)
        prove("and daypass says so without any server", done.returncode == 2 and "cut off" in done.stderr, done.stderr)
        bao("secrets", "disable", "kept")


def people_and_machines():
    bao("auth", "enable", "userpass")
    prove("auth enable shows in auth list", "userpass/" in answer(bao("auth", "list", "-format=json")))
    done = bao("write", "auth/userpass/users/ada", "-", stdin='{"password": "engine", "token_policies": "default"}')
    prove("a user is made", done.returncode == 0, done.stderr)
    done = bao("login", "-method=userpass", "-format=json", "-no-store", "username=ada", "password=engine", token=None)
    auth = answer(done).get("auth") or {}
    prove.secret(auth.get("client_token"))
    prove("login -method=userpass", auth.get("metadata") == {"username": "ada"} and auth.get("policies") == ["default"], done.stderr)
    done = bao("login", "-method=userpass", "-no-store", "username=ada", "password=wrong", token=None)
    prove("a wrong password is refused", done.returncode == 2 and "invalid username or password" in done.stderr, done.stderr)
    bao("auth", "enable", "approle")
    done = bao("write", "auth/approle/role/job", "token_policies=default", "token_ttl=20m", "secret_id_num_uses=1")
    prove("an AppRole is made", done.returncode == 0, done.stderr)
    role = bao("read", "-field=role_id", "auth/approle/role/job/role-id").stdout.strip()
    secret = prove.secret(bao("write", "-f", "-field=secret_id", "auth/approle/role/job/secret-id").stdout.strip())
    ask = json.dumps({"role_id": role, "secret_id": secret})
    done = bao("write", "-format=json", "auth/approle/login", "-", token=None, stdin=ask)
    auth = answer(done).get("auth") or {}
    prove.secret(auth.get("client_token"))
    prove("a job logs in with role and secret id", auth.get("lease_duration") == 1200 and auth.get("metadata") == {"role_name": "job"}, done.stderr)
    done = bao("write", "auth/approle/login", "-", token=None, stdin=ask)
    prove("a secret id for one use is used up", done.returncode == 2 and "invalid role or secret ID" in done.stderr, done.stderr)
    prove("auth disable", bao("auth", "disable", "approle").returncode == 0 and bao("auth", "disable", "userpass").returncode == 0)


def build_servers_and_browsers():
    issuer = Issuer()
    bao("auth", "enable", "jwt")
    for way in [f"jwt_validation_pubkeys={issuer.pem()}", f"jwks_url={issuer.url}/keys"]:
        name = way.partition("=")[0]
        done = bao("write", "auth/jwt/config", way, f"bound_issuer={issuer.url}")
        prove(f"jwt: configured by {name}", done.returncode == 0, done.stderr)
        role = json.dumps({"role_type": "jwt", "user_claim": "sub", "bound_audiences": "vault", "bound_claims": {"ref": ["main"]}, "token_ttl": "5m"})
        done = bao("write", "auth/jwt/role/ci", "-", stdin=role)
        prove(f"jwt: a role is made ({name})", done.returncode == 0, done.stderr)
        token = prove.secret(issuer.token(aud="vault", sub="job", ref="main"))
        done = bao("write", "-format=json", "auth/jwt/login", "role=ci", "jwt=-", token=None, stdin=token)
        auth = answer(done).get("auth") or {}
        prove.secret(auth.get("client_token"))
        prove(f"jwt: login by {name}", auth.get("lease_duration") == 300 and auth.get("metadata") == {"role": "ci"}, done.stderr)
        done = bao("write", "auth/jwt/login", "role=ci", "jwt=-", token=None, stdin=issuer.token(aud="vault", sub="job", ref="dev"))
        text = 'claim "ref" does not match any associated bound claim values'
        prove(f"jwt: another branch is refused ({name})", done.returncode == 2 and text in done.stderr, done.stderr)
    bao("auth", "disable", "jwt")
    bao("auth", "enable", "oidc")
    done = bao("write", "auth/oidc/config", f"oidc_discovery_url={issuer.url}", "oidc_client_id=us", "oidc_client_secret=password", "default_role=people")
    prove("oidc: configured by discovery", done.returncode == 0, done.stderr)
    redirect = "http://localhost:8250/oidc/callback"
    done = bao("write", "auth/oidc/role/people", "user_claim=email", f"allowed_redirect_uris={redirect}", "groups_claim=groups")
    prove("oidc: a role is made", done.returncode == 0, done.stderr)
    env = {**os.environ, "BAO_ADDR": SERVER, "NO_COLOR": "1"}
    env.pop("BAO_TOKEN", None)
    command = [BAO, "login", "-method=oidc", "-format=json", "-no-store", "role=people", "skip_browser=true"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as person:
        watchdog = threading.Timer(60, person.kill)
        watchdog.start()
        page = next((line.strip() for line in person.stderr if line.strip().startswith(issuer.url)), None)
        if page:
            with urllib.request.urlopen(page, timeout=20) as shown:
                shown.read()
        out, err = person.communicate()
        watchdog.cancel()
    try:
        auth = json.loads(out).get("auth") or {}
    except json.JSONDecodeError:
        auth = {}
    prove.secret(auth.get("client_token"))
    prove("oidc: a person logs in with a browser", auth.get("metadata") == {"role": "people"}, out + err)
    found = answer(bao("token", "lookup", "-format=json", token=auth.get("client_token") or "none")).get("data") or {}
    prove("oidc: the token is that person's", found.get("display_name") == "oidc-ann@acme.example", found)
    bao("auth", "disable", "oidc")


def policies():
    rules = 'path "secret/data/ci/*" { capabilities = ["create", "read", "update", "patch"] }'
    done = bao("policy", "write", "ci", "-", stdin=rules)
    prove("policy write from stdin", done.returncode == 0 and "Success! Uploaded policy: ci" in done.stdout, done.stderr)
    prove("policy read prints it as written", bao("policy", "read", "ci").stdout.strip() == rules)
    prove("policy list names it", "ci" in bao("policy", "list").stdout.split())
    done = bao("policy", "write", "broken", "-", stdin='path "x" { capabilities = ["fly"] }')
    prove("a policy with an unknown capability is refused", done.returncode == 2 and "fly" in done.stderr, done.stderr)
    prove("policy delete", bao("policy", "write", "gone", "-", stdin=rules).returncode == 0 and bao("policy", "delete", "gone").returncode == 0)
    done = bao("policy", "read", "gone")
    prove("and then it is not there, exit code 2", done.returncode == 2 and "No policy named: gone" in done.stderr, done.stderr)


def kv2():
    done = bao("kv", "put", "-format=json", "-mount=secret", "ci/app", "user=robot", "password=first")
    prove("kv put makes version 1", answer(done).get("data", {}).get("version") == 1, done.stderr)
    done = bao("kv", "put", "-format=json", "secret/ci/app", "user=robot", "password=second")
    prove("kv put by path makes version 2", answer(done).get("data", {}).get("version") == 2, done.stderr)
    prove("kv get -field", bao("kv", "get", "-mount=secret", "-field=password", "ci/app").stdout == "second")
    prove("kv get -version", bao("kv", "get", "-mount=secret", "-version=1", "-field=password", "ci/app").stdout == "first")
    done = bao("kv", "put", "-mount=secret", "-cas=1", "ci/app", "user=late")
    prove("check-and-set with an old version is refused", done.returncode == 2 and "check-and-set" in done.stderr, done.stderr)
    done = bao("kv", "patch", "-mount=secret", "ci/app", "password=third")
    fields = answer(bao("kv", "get", "-format=json", "-mount=secret", "ci/app")).get("data", {}).get("data")
    prove("kv patch changes one field and keeps the other", fields == {"user": "robot", "password": "third"}, done.stderr)
    bao("kv", "delete", "-mount=secret", "ci/app")
    prove("after kv delete the secret is not there, exit code 2", bao("kv", "get", "-mount=secret", "-field=user", "ci/app").returncode == 2)
    bao("kv", "undelete", "-mount=secret", "-versions=3", "ci/app")
    prove("kv undelete brings it back", bao("kv", "get", "-mount=secret", "-field=user", "ci/app").stdout == "robot")
    bao("kv", "destroy", "-mount=secret", "-versions=1", "ci/app")
    meta = answer(bao("kv", "metadata", "get", "-format=json", "-mount=secret", "ci/app")).get("data", {})
    prove("kv destroy shows in the metadata", meta.get("versions", {}).get("1", {}).get("destroyed") is True, meta)
    prove("kv list", answer(bao("kv", "list", "-format=json", "-mount=secret", "ci")) == ["app"])
    prove("kv metadata delete", bao("kv", "metadata", "delete", "-mount=secret", "ci/app").returncode == 0)
    prove("a list of nothing ends with exit code 2", bao("kv", "list", "-format=json", "-mount=secret", "ci").returncode == 2)


def kv1():
    prove("secrets enable -version=1", bao("secrets", "enable", "-path=plain", "-version=1", "kv").returncode == 0)
    prove("write", "Success! Data written to: plain/a" in bao("write", "plain/a", "one=1", "two=2").stdout)
    prove("read -format=json", answer(bao("read", "-format=json", "plain/a")).get("data") == {"one": "1", "two": "2"})
    prove("kv get finds out the version by itself", bao("kv", "get", "-field=one", "plain/a").stdout == "1")
    prove("list", answer(bao("list", "-format=json", "plain")) == ["a"])
    done = bao("write", "plain/b", "-", stdin='{"deep": {"list": [1, "two", null, 1.5]}}')
    deep = answer(bao("read", "-format=json", "plain/b")).get("data", {}).get("deep")
    prove("JSON from stdin keeps its types", done.returncode == 0 and deep == {"list": [1, "two", None, 1.5]}, deep)
    prove("secrets move", bao("secrets", "move", "plain/", "moved/deep/").returncode == 0 and bao("read", "-field=two", "moved/deep/a").stdout == "2")
    prove("secrets tune", bao("secrets", "tune", "-default-lease-ttl=30m", "moved/deep/").returncode == 0)
    mounts = answer(bao("secrets", "list", "-format=json", "-detailed"))
    prove("secrets list shows it tuned", mounts.get("moved/deep/", {}).get("config", {}).get("default_lease_ttl") == 1800, mounts.get("moved/deep/"))
    prove("secrets disable", bao("secrets", "disable", "moved/deep/").returncode == 0 and bao("read", "moved/deep/a").returncode == 2)


def tokens():
    done = bao("token", "create", "-policy=ci", "-ttl=20m", "-format=json", "-metadata=build=77", "-display-name=job")
    auth = answer(done).get("auth", {})
    job = prove.secret(auth.get("client_token", ""))
    prove("token create with a policy and a ttl", auth.get("policies") == ["ci", "default"] and auth.get("lease_duration") == 1200, done.stderr)
    prove("the job writes what its policy allows", bao("kv", "put", "-mount=secret", "ci/job", "a=1", token=job).returncode == 0)
    done = bao("kv", "put", "-mount=secret", "other", "a=1", token=job)
    prove("and nothing else: exit code 2, permission denied", done.returncode == 2 and "permission denied" in done.stderr, done.stderr)
    prove("token capabilities", bao("token", "capabilities", "secret/data/ci/x", token=job).stdout.strip() == "create, patch, read, update")
    seen = answer(bao("token", "lookup", "-format=json", token=job)).get("data", {})
    prove("lookup tells metadata and display name", seen.get("meta") == {"build": "77"} and seen.get("display_name") == "token-job", seen.keys())
    done = bao("token", "renew", "-increment=10m", "-format=json", token=job)
    prove("renew", 590 <= answer(done).get("auth", {}).get("lease_duration", 0) <= 1200, done.stderr)
    accessor = seen.get("accessor", "")
    prove("lookup by accessor", answer(bao("token", "lookup", "-format=json", "-accessor", accessor)).get("data", {}).get("accessor") == accessor)
    prove("revoke by accessor", bao("token", "revoke", "-accessor", accessor).returncode == 0)
    prove("a revoked token is denied", bao("token", "lookup", token=job).returncode == 2)
    one = prove.secret(bao("token", "create", "-policy=default", "-use-limit=1", "-field=token").stdout.strip())
    prove("a token for one use works once", bao("token", "lookup", token=one).returncode == 0 and bao("token", "lookup", token=one).returncode == 2)
    batch = prove.secret(bao("token", "create", "-policy=default", "-type=batch", "-ttl=5m", "-field=token").stdout.strip())
    seen = answer(bao("token", "lookup", "-format=json", token=batch)).get("data", {})
    prove("a batch token looks itself up and cannot be renewed", seen.get("type") == "batch" and seen.get("renewable") is False, seen)


def wrapping():
    done = bao("token", "create", "-policy=default", "-wrap-ttl=2m", "-format=json")
    wrapped = prove.secret(answer(done).get("wrap_info", {}).get("token", ""))
    done = bao("unwrap", "-format=json", wrapped)
    prove("a wrapped answer is unwrapped once", "client_token" in (answer(done).get("auth") or {}), done.stderr)
    prove("and not twice", bao("unwrap", wrapped).returncode == 2)


def aws():
    mount = "cdp/aws/staging"
    prove("enable the AWS engine at a deep path", bao("secrets", "enable", f"-path={mount}", "aws").returncode == 0)
    role = "arn:aws:iam::111111111111:role/ecr-staging"
    done = bao("write", f"{mount}/roles/ecr-staging", "credential_type=assumed_role", f"role_arns={role}")
    prove("write a role", done.returncode == 0, done.stderr)
    prove("read the role", answer(bao("read", "-format=json", f"{mount}/roles/ecr-staging")).get("data", {}).get("role_arns") == [role])
    prove("list roles", answer(bao("list", "-format=json", f"{mount}/roles")) == ["ecr-staging"])
    leases = []
    for verb, arguments in (("write", ("write", "-format=json", f"{mount}/sts/ecr-staging", "ttl=60m")),
                            ("write -f", ("write", "-f", "-format=json", f"{mount}/sts/ecr-staging")),
                            ("read", ("read", "-format=json", f"{mount}/sts/ecr-staging")),
                            ("read creds/ with a ttl", ("read", "-format=json", f"{mount}/creds/ecr-staging", "ttl=15m"))):
        done = bao(*arguments)
        said = answer(done)
        data = said.get("data") or {}
        prove.secret(data.get("secret_key"))
        prove.secret(data.get("security_token"))
        whole = data.get("access_key", "").startswith("ASIA") and data.get("secret_key") and data.get("security_token") == data.get("session_token")
        prove(f"{verb} mints a credential", bool(whole) and f"{mount}/" in said.get("lease_id", ""), done.stderr or sorted(data))
        leases.append((said.get("lease_id", ""), said.get("lease_duration", 0), said.get("renewable")))
    prove("leases tell their true length and are not renewable",
          [3590 <= d <= 3600 and r is False for _, d, r in leases[:3]] == [True] * 3 and 890 <= leases[3][1] <= 900, leases)
    done = bao("write", f"{mount}/sts/ecr-staging", "ttl=1m")
    prove("a ttl under AWS's floor is refused", done.returncode == 2 and "900" in done.stderr, done.stderr)
    done = bao("read", f"{mount}/sts/nobody")
    prove("an unknown role is refused by name", done.returncode == 2 and "nobody" in done.stderr, done.stderr)
    return leases[0][0]


def lease(lease_id):
    done = bao("lease", "lookup", "-format=json", lease_id)
    seen = answer(done).get("data", {})
    prove("lease lookup tells the time left", 3500 <= seen.get("ttl", 0) <= 3600 and seen.get("renewable") is False, done.stderr or seen)
    done = bao("lease", "renew", lease_id)
    prove("lease renew is refused", done.returncode == 2 and "not renewable" in done.stderr, done.stderr)
    prove("lease revoke", bao("lease", "revoke", lease_id).returncode == 0)
    prove("a revoked lease is not found", bao("lease", "lookup", lease_id).returncode == 2)
    prove("lease revoke -prefix", bao("lease", "revoke", "-prefix", "cdp/aws/staging").returncode == 0)
    done = bao("lease", "lookup", "cdp/aws/staging/sts/ecr-staging/forged")
    prove("a lease id that was never given is not found", done.returncode == 2, done.stderr)


def ceremonies():
    started = answer(bao("operator", "generate-root", "-init", "-format=json", token=None))
    prove.secret(started.get("otp"))
    prove("generate-root -init shows a one-time password", started.get("started") is True and len(started.get("otp", "")) == started.get("otp_length"), started.keys())
    done = bao("operator", "generate-root", "-init", token=None)
    prove("a second attempt at once is refused", done.returncode == 2 and "root generation already in progress" in done.stderr, done.stderr)
    seen = answer(bao("operator", "generate-root", "-status", "-format=json", token=None))
    prove("generate-root -status", seen.get("nonce") == started.get("nonce") and not seen.get("otp"), seen.keys())
    done = bao("operator", "generate-root", "-cancel", token=None)
    seen = answer(bao("operator", "generate-root", "-status", "-format=json", token=None))
    prove("generate-root -cancel", done.returncode == 0 and seen.get("started") is False, done.stderr)
    otp = prove.secret(bao("operator", "generate-root", "-generate-otp", token=None).stdout.strip())
    prove("generate-root -generate-otp is as long as the server wants it", len(otp) == started.get("otp_length"))
    started = answer(bao("operator", "rekey", "-init", "-key-shares=3", "-key-threshold=2", "-format=json", token=None))
    prove("rekey -init", (started.get("n"), started.get("t"), started.get("started")) == (3, 2, True), started)
    seen = answer(bao("operator", "rekey", "-status", "-format=json", token=None))
    prove("rekey -status", seen.get("nonce") == started.get("nonce"), seen)
    done = bao("operator", "rekey", "-cancel", token=None)
    prove("a young rekey is not given up without its nonce", done.returncode == 2 and "invalid request" in done.stderr, done.stderr)
    # This command line sends no nonce with -cancel, so the request is made by hand.
    ask = urllib.request.Request(f"{SERVER}/v1/sys/rekey/init", json.dumps({"nonce": started.get("nonce")}).encode(), method="DELETE")
    with urllib.request.urlopen(ask, timeout=60) as ended:
        status_code = ended.status
    seen = answer(bao("operator", "rekey", "-status", "-format=json", token=None))
    prove("and with it, it is", status_code == 204 and seen.get("started") is False, status_code)
    before = answer(bao("operator", "key-status", "-format=json"))
    done = bao("operator", "rotate")
    after = answer(bao("operator", "key-status", "-format=json"))
    prove("rotate starts a new key", "Success! Rotated key" in done.stdout and after.get("term") == before.get("term", 0) + 1, done.stderr)


class Holders:
    """People with keys of GnuPG's, and files with their public halves."""

    def __init__(self):
        # Not under the home: the agent's socket has no room for a long path.
        self.folder = Path(tempfile.mkdtemp(prefix="gpg-"))
        self.files, self.fingerprints = {}, {}

    def gpg(self, *arguments, stdin=b""):
        command = ["gpg", "--homedir", str(self.folder), "--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
        return subprocess.run([*command, *arguments], input=stdin, capture_output=True, timeout=60, check=False)

    def join(self, name, signs, encrypts, armour):
        self.gpg("--quick-gen-key", f"{name} <{name}@example.com>", signs, "cert,sign", "1d")
        listed = self.gpg("--with-colons", "--list-keys", name).stdout.decode()
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
        self.gpg("--quick-add-key", fingerprint, encrypts, "encr", "1d")
        self.files[name] = str(self.folder / f"{name}.{'asc' if armour else 'gpg'}")
        self.gpg(*(["--armor"] if armour else []), "--output", self.files[name], "--export", fingerprint)
        self.fingerprints[name] = fingerprint.lower()

    def read(self, message):
        return prove.secret(self.gpg("--decrypt", stdin=message).stdout.decode().strip())

    def end(self):
        subprocess.run(["gpgconf", "--homedir", str(self.folder), "--kill", "all"], capture_output=True, timeout=60, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def pgp(fresh):
    holders = Holders()
    try:
        holders.join("ada", "rsa3072", "rsa3072", armour=True)
        holders.join("bob", "ed25519", "cv25519", armour=False)
        root = set_up(holders, fresh)
        exchange(holders, fresh, root)
    finally:
        holders.end()


def set_up(holders, fresh):
    ada, bob = holders.files["ada"], holders.files["bob"]
    done = bao("operator", "init", "-key-shares=2", "-key-threshold=2", f"-pgp-keys={ada},{bob}", f"-root-token-pgp-key={ada}",
               "-format=json", token=None, BAO_ADDR=fresh)
    made = answer(done)
    prove("init for two holders of PGP keys", done.returncode == 0 and len(made.get("unseal_keys_b64", [])) == 2, done.stderr)
    hexadecimal = [bytes.fromhex(key) for key in made.get("unseal_keys_hex", [])]
    messages = [base64.b64decode(key) for key in made.get("unseal_keys_b64", [])]
    prove("both forms of a share are the same message", hexadecimal == messages)
    prove("each message names its holder's key alone", [m.hex() for m in messages] != [] and all(
        holders.gpg("--list-packets", stdin=m).stdout.count(b"pubkey enc packet") == 1 for m in messages))
    for message in messages:
        share = holders.read(message)
        prove("GnuPG reads a share, in hex", len(share) == 66 and int(share or "0", 16) > 0)
        # This command line reads no share from stdin.
        unsealed = bao("operator", "unseal", "-format=json", share, token=None, BAO_ADDR=fresh)
    prove("and these shares unseal", answer(unsealed).get("sealed") is False, unsealed.stderr)
    root = holders.read(base64.b64decode(made.get("root_token", "")))
    seen = answer(bao("token", "lookup", "-format=json", token=root, BAO_ADDR=fresh)).get("data", {})
    prove("the root token is for its holder", root.startswith("hvs.") and seen.get("policies") == ["root"], sorted(seen))
    holders.shares = [holders.read(message) for message in messages]
    return root


def exchange(holders, fresh, root):
    ada, bob = holders.files["ada"], holders.files["bob"]
    started = answer(bao("operator", "rekey", "-init", "-key-shares=1", "-key-threshold=1", f"-pgp-keys={bob}", "-backup", "-format=json",
                         token=None, BAO_ADDR=fresh))
    prove("rekey -init tells whose the new share will be", started.get("pgp_fingerprints") == [holders.fingerprints["bob"]], started)
    for share in holders.shares:
        done = bao("operator", "rekey", f"-nonce={started.get('nonce')}", "-format=json", "-", token=None, stdin=share, BAO_ADDR=fresh)
    new = answer(done)
    share = holders.read(base64.b64decode((new.get("keys_base64") or [""])[0]))
    prove("GnuPG reads the new share", len(share) == 64 and new.get("backup") is True, done.stderr)
    done = bao("operator", "rekey", "-backup-retrieve", "-format=json", token=root, BAO_ADDR=fresh)
    kept = answer(done)
    kept = kept.get("data", kept)
    messages = (kept.get("keys_base64") or {}).get(holders.fingerprints["bob"], [""])
    prove("rekey -backup-retrieve brings it back", holders.read(base64.b64decode(messages[0])) == share and share, done.stderr)
    done = bao("operator", "rekey", "-backup-delete", token=root, BAO_ADDR=fresh)
    gone = bao("operator", "rekey", "-backup-retrieve", token=root, BAO_ADDR=fresh)
    prove("rekey -backup-delete", done.returncode == 0 and gone.returncode == 2 and "no backed-up keys found" in gone.stderr, gone.stderr)
    ours = subprocess.run([os.environ["DAYPASS_BIN"], "operator", "generate-root", "-init", f"-pgp-key={ada}", "-format=json"],
                          env={**os.environ, "VAULT_ADDR": fresh}, capture_output=True, text=True, timeout=60, check=False)
    started = answer(ours)
    prove("daypass starts a root token for a holder", started.get("pgp_fingerprint") == holders.fingerprints["ada"], ours.stderr)
    done = bao("operator", "generate-root", f"-nonce={started.get('nonce')}", "-format=json", "-", token=None, stdin=share, BAO_ADDR=fresh)
    token = holders.read(base64.b64decode(answer(done).get("encoded_token", "")))
    seen = answer(bao("token", "lookup", "-format=json", token=token, BAO_ADDR=fresh)).get("data", {})
    prove("GnuPG reads the new root token, and it works", seen.get("policies") == ["root"] and token != root, done.stderr)


def certificates():
    ours, others = Authority("ours"), Authority("others")
    with Behind() as server:
        here = {"BAO_ADDR": server.url, "BAO_CACERT": server.ca}
        done = bao("auth", "enable", "cert", token=server.token, **here)
        prove("certificates: the method is enabled", done.returncode == 0, done.stderr)
        done = bao("write", "auth/cert/certs/ci", "certificate=-", "display_name=runners", "policies=default", "ttl=600",
                   token=server.token, stdin=ours.certificate, **here)
        prove("and an authority trusted, by older names of fields too", done.returncode == 0, done.stderr)
        certificate, key = ours.issue("runner")
        shown = [f"-client-cert={certificate}", f"-client-key={key}"]
        done = bao("login", "-method=cert", *shown, "-no-store", "-format=json", "name=ci", token=None, **here)
        auth = answer(done).get("auth", {})
        token = prove.secret(auth.get("client_token", ""))
        prove("a client logs in with its certificate", auth.get("metadata", {}).get("common_name") == "runner" and auth.get("lease_duration") == 600, done.stderr)
        renewed = answer(bao("token", "renew", *shown, "-format=json", token=token, **here)).get("auth") or {}
        bare = bao("token", "renew", token=token, **here)
        prove("who shows it renews the token, and nobody else", renewed.get("lease_duration") == 600 and "client certificate must be supplied" in bare.stderr, bare.stderr)
        certificate, key = others.issue("runner")
        done = bao("login", "-method=cert", f"-client-cert={certificate}", f"-client-key={key}", token=None, **here)
        prove("a certificate of another authority is refused", done.returncode == 2 and "invalid certificate or no client certificate supplied" in done.stderr, done.stderr)
        env = {**os.environ, "VAULT_ADDR": server.url, "VAULT_CACERT": server.ca}
        program = [os.environ["DAYPASS_BIN"], "login", "-method=cert", "-token-only"]
        ours_too = subprocess.run([*program, *shown], env=env, capture_output=True, text=True, timeout=60, check=False)
        prove.secret(ours_too.stdout.strip())
        prove("daypass logs in like that, too", ours_too.returncode == 0 and ours_too.stdout.startswith("hvs."), ours_too.stderr)
        bare = subprocess.run(program, env=env, capture_output=True, text=True, timeout=60, check=False)
        prove("and says which files it wants", bare.returncode == 2 and "-client-cert and -client-key" in bare.stderr, bare.stderr)


status()
login()
people_and_machines()
certificates()
build_servers_and_browsers()
policies()
kv2()
kv1()
tokens()
wrapping()
snapshots()
ceremonies()
if os.environ.get("FRESH"):
    pgp(os.environ["FRESH"])
else:
    print("      left out: holders of PGP keys, because FRESH names no server that is not initialised")
if SANDBOX:
    lease(aws())
prove.end()
