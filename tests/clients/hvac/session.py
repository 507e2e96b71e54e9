"""A session with hvac, Python's client, which Ansible and many build scripts use."""

import base64
import sys
import time
from pathlib import Path

import hvac
import pyotp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hvac import exceptions

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from certificates import Authority, Behind  # noqa: E402
from cluster import Cluster  # noqa: E402
from collector import Collector, Traced  # noqa: E402
from github import GitHub  # noqa: E402
from issuer import Issuer  # noqa: E402
from proof import SANDBOX, SERVER, TOKEN, Proof  # noqa: E402
from responder import Responder  # noqa: E402

prove = Proof()
root = hvac.Client(url=SERVER, token=TOKEN)


def login():
    prove("the client finds itself authenticated", root.is_authenticated())
    prove("health answers 200 to its HEAD", root.sys.read_health_status().status_code == 200)
    prove("the server is neither sealed nor new", not root.sys.is_sealed() and root.sys.is_initialized())
    prove("a wrong token is not authenticated", not hvac.Client(url=SERVER, token="s.wrong").is_authenticated())


def machines():
    root.sys.enable_auth_method("approle")
    root.auth.approle.create_or_update_approle("job", token_policies=["default"], token_ttl="10m")
    role = root.auth.approle.read_role_id("job")["data"]["role_id"]
    made = root.auth.approle.generate_secret_id("job", metadata={"build": "9"})["data"]
    job = hvac.Client(url=SERVER)
    auth = job.auth.approle.login(role, prove.secret(made["secret_id"]))["auth"]
    prove.secret(auth["client_token"])
    prove("AppRole login", auth["lease_duration"] == 600 and auth["metadata"] == {"role_name": "job", "build": "9"}, auth["metadata"])
    prove("the client uses the token it got", job.auth.token.lookup_self()["data"]["path"] == "auth/approle/login")
    job.logout(revoke_token=True)
    root.auth.approle.destroy_secret_id_accessor("job", made["secret_id_accessor"])
    prove.raises("a destroyed secret id is refused", exceptions.InvalidRequest, lambda: hvac.Client(url=SERVER).auth.approle.login(role, made["secret_id"]))
    root.sys.disable_auth_method("approle")


def build_servers():
    issuer = Issuer()
    root.sys.enable_auth_method("jwt", path="jwt-job")
    method = root.auth.jwt
    bound = {"bound_audiences": ["vault"], "bound_claims": {"repository": "acme/app"}, "claim_mappings": {"repository": "repository"}}

    def login(**claims):
        token = prove.secret(issuer.token(**{"aud": "vault", "sub": "job", "repository": "acme/app", **claims}))
        return hvac.Client(url=SERVER).auth.jwt.jwt_login("job", token, path="jwt-job")["auth"]

    def read_back(name):
        return method.read_config(path="jwt-job")["data"][name]

    for way in [{"jwt_validation_pubkeys": [issuer.pem().strip()]}, {"jwks_url": f"{issuer.url}/keys"}, {"oidc_discovery_url": issuer.url}]:
        name = next(iter(way))
        method.configure(**way, bound_issuer=issuer.url, path="jwt-job")
        prove(f"JWT by {name}: the configuration is read back", read_back(name) == way[name])
        method.create_role("job", "sub", [], role_type="jwt", **bound, token_policies=["default"], token_ttl="10m", path="jwt-job")
        auth = login()
        prove.secret(auth["client_token"])
        prove(f"JWT by {name}: login", auth["lease_duration"] == 600 and auth["metadata"] == {"repository": "acme/app", "role": "job"}, auth)
        job = hvac.Client(url=SERVER, token=auth["client_token"])
        prove(f"JWT by {name}: the token works", job.auth.token.lookup_self()["data"]["display_name"] == "jwt-job-job")
        prove.raises(f"JWT by {name}: another repository is refused", exceptions.InvalidRequest, lambda: login(repository="acme/other"))
        prove.raises(f"JWT by {name}: another audience is refused", exceptions.InvalidRequest, lambda: login(aud="other"))
        prove.raises(f"JWT by {name}: a token of yesterday is refused", exceptions.InvalidRequest, lambda: login(exp=1))
    prove("roles are listed", method.list_roles(path="jwt-job")["data"]["keys"] == ["job"])
    method.delete_role("job", path="jwt-job")
    prove.raises("a deleted role is not found", exceptions.InvalidPath, lambda: method.read_role("job", path="jwt-job"))
    root.sys.disable_auth_method("jwt-job")


def pods():
    cluster = Cluster()
    reviewer = prove.secret(cluster.token("vault", "reviewer"))
    root.sys.enable_auth_method("kubernetes")
    method = root.auth.kubernetes
    method.configure(cluster.url, kubernetes_ca_cert=cluster.certificate, token_reviewer_jwt=reviewer)
    read = method.read_config()
    prove("Kubernetes: the configuration is read back", read["kubernetes_host"] == cluster.url and read["token_reviewer_jwt_set"] and "token_reviewer_jwt" not in read, list(read))
    method.create_role("runner", "runner,builder-*", "builds", ttl="10m", policies=["reader"], audience="vault")
    role = method.read_role("runner")
    prove("its role too", role["bound_service_account_names"] == ["runner", "builder-*"] and role["audience"] == "vault" and role["token_ttl"] == 600, role)
    prove("and listed", method.list_roles()["keys"] == ["runner"])

    def login(namespace, name, audience="vault", role="runner"):
        return pod.auth.kubernetes.login(role, prove.secret(cluster.token(namespace, name, audience)))["auth"]

    pod = hvac.Client(url=SERVER)
    auth = login("builds", "runner")
    prove.secret(auth["client_token"])
    known = auth["metadata"]
    prove("a pod logs in", known["service_account_name"] == "runner" and known["service_account_namespace"] == "builds" and auth["lease_duration"] == 600, known)
    prove("the reviewer was asked to review", cluster.reviews == ["system:serviceaccount:vault:reviewer"], cluster.reviews)
    prove("the client uses the token it got", pod.auth.token.lookup_self()["data"]["display_name"] == "kubernetes-builds-runner")
    prove("so does a name that fits a star", login("builds", "builder-7")["metadata"]["service_account_name"] == "builder-7")
    prove.raises("another account does not", exceptions.Forbidden, lambda: login("builds", "other"))
    prove.raises("nor another namespace", exceptions.Forbidden, lambda: login("other", "runner"))
    prove.raises("nor another audience", exceptions.Forbidden, lambda: login("builds", "runner", "elsewhere"))
    gone = prove.secret(cluster.token("builds", "runner", "vault"))
    cluster.forget(gone)
    prove.raises("nor a token of a pod that is gone", exceptions.Forbidden, lambda: pod.auth.kubernetes.login("runner", gone))
    cluster.labels["builds"] = {"team": "build"}
    selector = '{"matchLabels": {"team": "build"}}'
    bound = {"bound_service_account_names": "*", "bound_service_account_namespace_selector": selector, "audience": "vault", "alias_name_source": "serviceaccount_name"}
    root.write_data("auth/kubernetes/role/labelled", data=bound)
    prove("a namespace is let in by its labels", login("builds", "any", role="labelled")["metadata"]["role"] == "labelled")
    prove.raises("one without them is not", exceptions.Forbidden, lambda: login("other", "any", role="labelled"))
    method.configure(cluster.url, kubernetes_ca_cert=cluster.certificate)
    method.create_role("plain", "runner", "builds", policies=["reader"])
    cluster.reviews.clear()
    login("builds", "runner", None, role="plain")
    prove("without a reviewer a token reviews itself", cluster.reviews == ["system:serviceaccount:builds:runner"], cluster.reviews)
    method.configure(cluster.url, kubernetes_ca_cert=Cluster().certificate)
    prove.raises("a cluster with another certificate is not asked", exceptions.Forbidden, lambda: login("builds", "runner", None, role="plain"))
    method.delete_role("runner")
    root.sys.disable_auth_method("kubernetes")
    cluster.close()


def certificates():
    ours, others = Authority("ours"), Authority("others")
    runner, stranger = ours.issue("runner"), others.issue("runner")
    with Behind() as server:
        operator = hvac.Client(url=server.url, token=server.token, verify=server.ca)
        operator.sys.enable_auth_method("cert")
        method = operator.auth.cert
        method.create_ca_certificate_role("ci", certificate=ours.certificate, allowed_common_names="run*", token_policies=["reader"], token_ttl="10m")
        role = method.read_ca_certificate_role("ci")["data"]
        prove("certificates: the role is read back", role["allowed_common_names"] == ["run*"] and role["token_ttl"] == 600 and role["display_name"] == "ci", role)
        prove("and listed", method.list_certificate_roles()["data"]["keys"] == ["ci"])

        def login(files, name="ci"):
            return hvac.Client(url=server.url, verify=server.ca).auth.cert.login(name=name, cert_pem=files[0], key_pem=files[1])["auth"]

        auth = login(runner)
        known = auth["metadata"]
        prove("a client logs in with its certificate", known["common_name"] == "runner" and known["cert_name"] == "ci" and auth["lease_duration"] == 600, known)
        token = prove.secret(auth["client_token"])
        held = hvac.Client(url=server.url, token=token, verify=server.ca, cert=tuple(runner))
        prove("the client uses the token it got", held.auth.token.lookup_self()["data"]["display_name"] == "cert-ci")
        prove("and renews it", held.auth.token.renew_self()["auth"]["lease_duration"] == 600)
        stolen = hvac.Client(url=server.url, token=token, verify=server.ca, cert=tuple(ours.issue("runner")))
        prove.raises("with another certificate it is not renewed", exceptions.InvalidRequest, stolen.auth.token.renew_self)
        prove.raises("a certificate of another authority is refused", exceptions.InvalidRequest, lambda: login(stranger))
        prove.raises("and another name", exceptions.InvalidRequest, lambda: login(ours.issue("other")))
        prove.raises("and no certificate", exceptions.InvalidRequest, lambda: hvac.Client(url=server.url, verify=server.ca).write("auth/cert/login"))
        operator.write_data("auth/cert/crls/ours", data={"crl": ours.revoked(runner[0])})
        prove.raises("and one that was revoked", exceptions.InvalidRequest, lambda: login(runner))
        method.configure_tls_certificate(disable_binding=True)
        prove("without the binding whoever has the token renews it", stolen.auth.token.renew_self()["auth"]["lease_duration"] == 600)
        asking_responders(operator, ours, login)
        method.delete_certificate_role("ci")
        prove.raises("a deleted role is not found", exceptions.InvalidPath, lambda: method.read_ca_certificate_role("ci"))


def asking_responders(operator, ours, login):
    """Whether a certificate was revoked is asked of OpenSSL, which reads the questions and signs the answers."""
    operator.delete("auth/cert/crls/ours")
    good, bad, unknown = (ours.issue("runner") for _ in range(3))
    by_itself = Responder(ours)
    delegated = Responder(ours, ours.issue("responder", ExtendedKeyUsageOID.OCSP_SIGNING))
    unfit = Responder(ours, ours.issue("responder"))
    for responder, kind in ((by_itself, "the authority's own"), (delegated, "one with a certificate for it")):
        responder.knows(good)
        responder.knows(bad, "R")
        settings = {"ocsp_enabled": True, "ocsp_servers_override": responder.url, "ocsp_max_retries": 0}
        operator.write_data("auth/cert/certs/ci", data=settings)
        prove(f"OCSP, {kind}: who is good is let in", login(good)["metadata"]["common_name"] == "runner")
        prove("in one question of the right type", responder.asked[:1] == [("application/ocsp-request", responder.asked[0][1])] and len(responder.asked) == 1, responder.asked)
        login(good)
        prove("and the answer is kept", len(responder.asked) == 1, responder.asked)
        refusal = prove.raises("who was revoked is not", exceptions.InvalidRequest, lambda: login(bad))
        prove("and is told so", "a certificate was revoked" in str(refusal), refusal)
        refusal = prove.raises("nor whom OpenSSL does not know", exceptions.InvalidRequest, lambda: login(unknown))
        prove("and is told that", "does not know the certificate" in str(refusal), refusal)
    for flags, kind in ((["-resp_key_id"], "named by its key"), (["-no_certs"], "without its certificate"), (["-rmd", "sha384"], "with SHA-384")):
        by_itself.more = flags
        operator.write_data("auth/cert/certs/ci", data={"ocsp_servers_override": by_itself.url, "ocsp_this_update_max_age": f"{len(kind)}h"})
        prove(f"OCSP, the authority {kind}: who is good is let in", login(good)["metadata"]["common_name"] == "runner")
    by_itself.more = ["-rmd", "sha1"]
    operator.write_data("auth/cert/certs/ci", data={"ocsp_servers_override": by_itself.url, "ocsp_this_update_max_age": 0, "ocsp_fail_open": True})
    refusal = prove.raises("a signature with SHA-1 is refused", exceptions.InvalidRequest, lambda: login(good))
    prove("and is taken for none", "is not signed by the issuer" in str(refusal), refusal)
    unfit.knows(good)
    operator.write_data("auth/cert/certs/ci", data={"ocsp_servers_override": unfit.url})
    refusal = prove.raises("an answer by somebody with a client's certificate is refused", exceptions.InvalidRequest, lambda: login(good))
    prove("and it is said why", "is not for OCSP" in str(refusal), refusal)
    by_itself.close()
    operator.write_data("auth/cert/certs/ci", data={"ocsp_servers_override": "http://127.0.0.1:1/"})
    prove("where an entry says so, who cannot be asked about is let in", login(good)["metadata"]["common_name"] == "runner")
    operator.write_data("auth/cert/certs/ci", data={"ocsp_fail_open": False})
    prove.raises("and where it does not, is not, and may come again", exceptions.InternalServerError, lambda: login(good))
    operator.write_data("auth/cert/certs/ci", data={"ocsp_enabled": False})


def policies():
    root.sys.create_or_update_policy("reader", 'path "secret/data/app" { capabilities = ["read"] }')
    prove("a policy is written and listed", "reader" in root.sys.list_policies()["data"]["policies"])
    prove("and read back", "secret/data/app" in root.sys.read_policy("reader")["data"]["rules"])
    prove.raises("a policy that does not parse is refused", exceptions.InvalidRequest, lambda: root.sys.create_or_update_policy("bad", "path {"))
    root.sys.create_or_update_policy("gone", 'path "x" { capabilities = ["read"] }')
    root.sys.delete_policy("gone")
    prove.raises("a deleted policy is not found", exceptions.InvalidPath, lambda: root.sys.read_policy("gone"))


def kv2():
    kv = root.secrets.kv.v2
    prove("KV 2: create", kv.create_or_update_secret("app", {"user": "robot", "n": 5})["data"]["version"] == 1)
    prove("read keeps types", kv.read_secret_version("app", raise_on_deleted_version=True)["data"]["data"] == {"user": "robot", "n": 5})
    prove("patch", kv.patch("app", {"n": 6})["data"]["version"] == 2)
    prove("read an old version", kv.read_secret_version("app", version=1, raise_on_deleted_version=True)["data"]["data"]["n"] == 5)
    prove.raises("check-and-set with an old version is refused", exceptions.InvalidRequest, lambda: kv.create_or_update_secret("app", {}, cas=1))
    kv.update_metadata("app", max_versions=3, custom_metadata={"team": "ci"})
    prove("metadata", kv.read_secret_metadata("app")["data"]["custom_metadata"] == {"team": "ci"})
    prove("list", kv.list_secrets("")["data"]["keys"] == ["app"])
    kv.delete_latest_version_of_secret("app")
    prove.raises("a deleted version is not found", exceptions.InvalidPath, lambda: kv.read_secret_version("app", raise_on_deleted_version=True))
    kv.undelete_secret_versions("app", [2])
    prove("undelete", kv.read_secret_version("app", raise_on_deleted_version=True)["data"]["data"]["n"] == 6)
    kv.destroy_secret_versions("app", [1])
    prove("destroy", kv.read_secret_metadata("app")["data"]["versions"]["1"]["destroyed"] is True)


def kv1():
    root.sys.enable_secrets_engine("kv", path="plain", options={"version": "1"})
    kv = root.secrets.kv.v1
    kv.create_or_update_secret("a/b", {"x": "y"}, mount_point="plain")
    prove("KV 1: write and read", kv.read_secret("a/b", mount_point="plain")["data"] == {"x": "y"})
    prove("list shows the folder", kv.list_secrets("", mount_point="plain")["data"]["keys"] == ["a/"])
    kv.delete_secret("a/b", mount_point="plain")
    prove.raises("delete", exceptions.InvalidPath, lambda: kv.read_secret("a/b", mount_point="plain"))
    mounts = root.sys.list_mounted_secrets_engines()["data"]
    prove("mounts are listed with their version", mounts["plain/"]["options"] == {"version": "1"} and mounts["secret/"]["options"]["version"] == "2")
    root.sys.disable_secrets_engine("plain")
    prove("and disabled", "plain/" not in root.sys.list_mounted_secrets_engines()["data"])


def tokens():
    made = root.auth.token.create(policies=["reader"], ttl="10m", display_name="job", meta={"build": "9"})["auth"]
    job = hvac.Client(url=SERVER, token=prove.secret(made["client_token"]))
    prove("a token with a policy", made["policies"] == ["default", "reader"] and made["lease_duration"] == 600, made["policies"])
    prove("reads what it may", job.secrets.kv.v2.read_secret_version("app", raise_on_deleted_version=True)["data"]["data"]["n"] == 6)
    prove.raises("writes nothing", exceptions.Forbidden, lambda: job.secrets.kv.v2.create_or_update_secret("app", {}))
    prove("looks itself up", job.auth.token.lookup_self()["data"]["meta"] == {"build": "9"})
    prove("renews itself", 290 <= job.auth.token.renew_self(increment="5m")["auth"]["lease_duration"] <= 600)
    prove("capabilities", root.sys.get_capabilities(["secret/data/app"], token=made["client_token"])["data"]["secret/data/app"] == ["read"])
    root.auth.token.revoke_accessor(made["accessor"])
    prove.raises("a revoked token is denied", exceptions.Forbidden, job.auth.token.lookup_self)
    root.auth.token.create_or_update_role("ci", allowed_policies="reader", orphan=True, path_suffix="builds")
    made = root.auth.token.create(role_name="ci", policies=["reader"])["auth"]
    prove.secret(made["client_token"])
    prove("a token by a role is an orphan", made["orphan"] is True)
    prove("token roles are listed", root.auth.token.list_roles()["data"]["keys"] == ["ci"])
    wrapped = root.auth.token.create(policies=["default"], wrap_ttl="60s")["wrap_info"]["token"]
    prove("a wrapped answer is unwrapped", "client_token" in root.sys.unwrap(prove.secret(wrapped))["auth"])


def transit():
    root.sys.enable_secrets_engine("transit")
    engine = root.secrets.transit
    text = base64.b64encode(b"hello").decode()
    engine.create_key("app")
    sealed = engine.encrypt_data("app", plaintext=text)["data"]["ciphertext"]
    prove("transit: encrypt", sealed.startswith("vault:v1:"), sealed)
    prove("decrypt", engine.decrypt_data("app", ciphertext=sealed)["data"]["plaintext"] == text)
    engine.rotate_key("app")
    prove("rotate", engine.read_key("app")["data"]["latest_version"] == 2)
    rewrapped = engine.rewrap_data("app", ciphertext=sealed)["data"]["ciphertext"]
    prove("rewrap", rewrapped.startswith("vault:v2:"), rewrapped)
    prove("both versions decrypt", all(engine.decrypt_data("app", ciphertext=c)["data"]["plaintext"] == text for c in (sealed, rewrapped)))
    batch = engine.encrypt_data("app", batch_input=[{"plaintext": text}, {"plaintext": text}])["data"]["batch_results"]
    prove("a batch", len(batch) == 2 and batch[0]["ciphertext"] != batch[1]["ciphertext"])
    prove.raises("a tampered ciphertext is refused", exceptions.InvalidRequest, lambda: engine.decrypt_data("app", ciphertext=rewrapped[:-8] + "AAAAAAA="))
    prove("a data key", len(base64.b64decode(prove.secret(engine.generate_data_key("app", key_type="plaintext")["data"]["plaintext"]))) == 32)
    prove("random bytes", len(engine.generate_random_bytes(n_bytes=16, output_format="hex")["data"]["random_bytes"]) == 32)
    prove("a hash", engine.hash_data(text, algorithm="sha2-256")["data"]["sum"].startswith("2cf24dba5fb0a30e"))
    mac = engine.generate_hmac("app", hash_input=text)["data"]["hmac"]
    prove("an HMAC verifies", engine.verify_signed_data("app", hash_input=text, hmac=mac)["data"]["valid"] is True)
    for key_type in ("ed25519", "ecdsa-p256", "rsa-2048"):
        engine.create_key(key_type, key_type=key_type)
        signature = engine.sign_data(key_type, hash_input=text)["data"]["signature"]
        other = base64.b64encode(b"other").decode()
        prove(f"{key_type}: sign and verify", engine.verify_signed_data(key_type, hash_input=text, signature=signature)["data"]["valid"] is True)
        prove("another message does not verify", engine.verify_signed_data(key_type, hash_input=other, signature=signature)["data"]["valid"] is False)
    prove.raises("a key is not exported unless it may be", exceptions.InvalidRequest, lambda: engine.export_key("app", key_type="encryption-key"))
    engine.update_key_configuration("app", min_decryption_version=2, deletion_allowed=True, exportable=True, allow_plaintext_backup=True)
    prove.raises("a version that went out of use decrypts no more", exceptions.InvalidRequest, lambda: engine.decrypt_data("app", ciphertext=sealed))
    backup = prove.secret(engine.backup_key("app")["data"]["backup"])
    engine.delete_key("app")
    engine.restore_key(backup)
    prove("a restored key decrypts", engine.decrypt_data("app", ciphertext=rewrapped)["data"]["plaintext"] == text)
    prove("keys are listed", engine.list_keys()["data"]["keys"] == ["app", "ecdsa-p256", "ed25519", "rsa-2048"])
    root.sys.disable_secrets_engine("transit")


def aws():
    mount = "cdp/aws/staging"
    root.sys.enable_secrets_engine("aws", path=mount)
    engine = root.secrets.aws
    # hvac gives an ARN as a plain string where the API takes a list; both must do.
    engine.create_or_update_role("ecr-staging", "assumed_role", role_arns="arn:aws:iam::111111111111:role/ecr-staging", mount_point=mount)
    prove("AWS: the role is read back", engine.read_role("ecr-staging", mount_point=mount)["data"]["credential_type"] == "assumed_role")
    prove("and listed", engine.list_roles(mount_point=mount)["data"]["keys"] == ["ecr-staging"])
    minted = engine.generate_credentials("ecr-staging", ttl="60m", endpoint="sts", mount_point=mount)
    data = minted["data"]
    prove.secret(data["secret_key"])
    prove.secret(data["security_token"])
    prove("sts/ mints a credential", data["access_key"].startswith("ASIA") and data["arn"].startswith("arn:aws:sts::111111111111:assumed-role/ecr-staging/"))
    prove("its lease tells the truth", 3590 <= minted["lease_duration"] <= 3600 and minted["renewable"] is False, minted["lease_duration"])
    wrong = lambda: engine.generate_credentials("ecr-staging", endpoint="sts", role_arn="arn:aws:iam::222222222222:role/other", mount_point=mount)
    prove.raises("another account's role is refused", exceptions.InvalidRequest, wrong)
    lease = minted["lease_id"]
    prove("lease lookup", 3500 <= root.sys.read_lease(lease)["data"]["ttl"] <= 3600)
    prove.raises("lease renew is refused", exceptions.InvalidRequest, lambda: root.sys.renew_lease(lease))
    root.sys.revoke_lease(lease)
    prove.raises("a revoked lease is not found", exceptions.InvalidRequest, lambda: root.sys.read_lease(lease))


def quotas():
    root.sys.enable_secrets_engine("kv", path="paced", options={"version": "1"})
    root.sys.create_or_update_quota("paced", 1, path="paced", interval="10m")
    read = root.sys.read_quota("paced")["data"]
    prove("a quota is read back", (read["path"], read["rate"], read["interval"]) == ("paced/", 1, 600), read)
    prove("and listed", "paced" in root.sys.list_quotas()["data"]["keys"])
    kv = root.secrets.kv.v1
    kv.create_or_update_secret("a", {"x": "y"}, method="PUT", mount_point="paced")
    prove.raises("who goes over it is told so", exceptions.RateLimitExceeded, lambda: kv.read_secret("a", mount_point="paced"))
    root.sys.delete_quota("paced")
    prove("without the quota the read is answered", kv.read_secret("a", mount_point="paced")["data"] == {"x": "y"})
    root.sys.disable_secrets_engine("paced")


def snapshots():
    kv = root.secrets.kv.v1
    root.sys.enable_secrets_engine("kv", path="kept", options={"version": "1"})
    kv.create_or_update_secret("a", {"x": "then"}, method="PUT", mount_point="kept")
    taken = root.sys.take_raft_snapshot().content
    kv.create_or_update_secret("a", {"x": "now"}, method="PUT", mount_point="kept")
    prove("a snapshot is restored", root.sys.restore_raft_snapshot(taken).status_code == 204)
    prove("and what it had is back", kv.read_secret("a", mount_point="kept")["data"] == {"x": "then"})
    prove("also by force", root.sys.force_restore_raft_snapshot(taken).status_code == 204)
    prove.raises("half a snapshot is refused", exceptions.InvalidRequest, lambda: root.sys.restore_raft_snapshot(taken[: len(taken) // 2]))
    root.write("sys/storage/revocation", paused=False)
    prove("revocation goes on", root.read("sys/storage/revocation")["data"]["paused"] is False)
    root.sys.disable_secrets_engine("kept")


def metrics():
    shown = root.adapter.get("/v1/sys/metrics")
    prove("metrics as JSON", {"vault.core.unsealed", "vault.core.active"} <= {gauge["Name"] for gauge in shown["Gauges"]})
    text = root.adapter.get("/v1/sys/metrics", params={"format": "prometheus"}).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    figures = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    prove("and as Prometheus reads them", figures["vault_core_unsealed"] == 1 and figures["vault_core_handle_request_count"] > 10, len(figures))
    prove("a request sees itself", any(one["request_path"] == "/v1/sys/in-flight-req" for one in root.adapter.get("/v1/sys/in-flight-req").values()))
    prove("the machine is described", root.adapter.get("/v1/sys/host-info")["data"]["memory"]["total"] > 0)
    prove.raises("metrics need a right", exceptions.Forbidden, lambda: hvac.Client(url=SERVER, token="none").adapter.get("/v1/sys/metrics"))


login()
machines()
build_servers()
pods()
certificates()
policies()
kv2()
kv1()
tokens()
transit()
quotas()
snapshots()
metrics()


def second_factors():
    """Passcodes by pyotp, which others wrote."""
    root.sys.enable_auth_method("userpass", path="people")
    root.auth.userpass.create_or_update_user("ann", "password", mount_point="people")
    person = hvac.Client(url=SERVER)
    entity = person.auth.userpass.login("ann", "password", mount_point="people")["auth"]["entity_id"]
    accessor = root.sys.list_auth_methods()["data"]["people/"]["accessor"]
    method = root.write_data("identity/mfa/method/totp", data={"issuer": "Example Inc", "method_name": "phones", "algorithm": "SHA256"})["data"]["method_id"]
    made = root.write_data("identity/mfa/method/totp/admin-generate", data={"method_id": method, "entity_id": entity})["data"]
    app = pyotp.parse_uri(prove.secret(made["url"]))
    prove("the URL of a TOTP secret is read by others", app.issuer == "Example Inc" and app.name == entity and app.interval == 30)
    prove("its picture is a PNG", base64.b64decode(made["barcode"]).startswith(b"\x89PNG\r\n\x1a\n"))
    root.write_data("identity/mfa/login-enforcement/people", data={"mfa_method_ids": [method], "auth_method_accessors": [accessor]})
    asked = person.auth.userpass.login("ann", "password", mount_point="people", use_token=False)["auth"]
    wanted = asked["mfa_requirement"]
    prove("a login needs a second factor", asked["client_token"] == "" and wanted["mfa_constraints"]["people"]["any"][0]["id"] == method, wanted)

    def validate(code):
        return person.write_data("sys/mfa/validate", data={"mfa_request_id": wanted["mfa_request_id"], "mfa_payload": {method: [code]}})

    code = app.now()
    wrong = next(f"{n:06}" for n in range(1000000) if not app.verify(f"{n:06}", valid_window=2))
    prove.raises("a wrong passcode is refused", exceptions.Forbidden, lambda: validate(wrong))
    prove.raises("so is the right one with a blank", exceptions.Forbidden, lambda: validate(f" {code}"))
    auth = validate(code)["auth"]
    prove.secret(auth["client_token"])
    prove("the right one is answered with the token", auth["entity_id"] == entity and auth["metadata"] == {"username": "ann"}, auth["metadata"])
    prove("which is good", hvac.Client(url=SERVER, token=auth["client_token"]).is_authenticated())
    again = hvac.Client(url=SERVER)
    again.session.headers["X-Vault-MFA"] = f"phones:{code}"
    prove.raises("the same passcode is not good again, in a header either", exceptions.Forbidden, lambda: again.auth.userpass.login("ann", "password", mount_point="people"))
    later = app.at(int(time.time()) + 30)
    again.session.headers["X-Vault-MFA"] = f"phones:{later}"
    prove("the next one is", again.auth.userpass.login("ann", "password", mount_point="people")["auth"]["entity_id"] == entity)
    root.delete("identity/mfa/login-enforcement/people")
    root.delete(f"identity/mfa/method/totp/{method}")
    root.sys.disable_auth_method("people")


def github():
    hub = GitHub()
    hub.users = {
        "ghp_ann": ("Ann", 7, [1], [("Build Crew", "build-crew", 1)]),
        "ghp_bob": ("bob", 8, list(range(2, 140)), []),
    }
    root.sys.enable_auth_method("github")
    method = root.auth.github
    method.configure(organization="acme", base_url=hub.url, ttl="10m")
    read = method.read_configuration()["data"]
    prove("GitHub: the organisation's id was asked for", read["organization_id"] == 1 and read["organization"] == "acme", read)
    method.map_team("build-crew", ["reader"])
    method.map_user("ann", ["own"])
    prove("mappings are read back", method.read_team_mapping("build-crew")["data"]["value"] == "reader" and method.read_user_mapping("Ann")["data"]["value"] == "own")
    person = hvac.Client(url=SERVER)
    auth = person.auth.github.login(prove.secret("ghp_ann"))["auth"]
    prove.secret(auth["client_token"])
    prove("a member logs in", auth["policies"] == ["default", "own", "reader"] and auth["metadata"] == {"username": "Ann", "org": "acme"}, auth["policies"])
    prove("and renews", person.auth.token.renew_self()["auth"]["lease_duration"] == 600)
    hub.organizations = {"acme": 999, "acme-old": 1}
    prove("also when the organisation was renamed", hvac.Client(url=SERVER).auth.github.login("ghp_ann")["auth"]["metadata"]["org"] == "acme-old")
    hub.users["ghp_ann"] = ("Ann", 7, [999], [])
    prove.raises("whoever is in another that took its name does not get in", exceptions.InvalidRequest, lambda: hvac.Client(url=SERVER).auth.github.login("ghp_ann"))
    prove.raises("nor does the token live on", exceptions.InvalidRequest, person.auth.token.renew_self)
    prove.raises("somebody in a hundred others neither", exceptions.InvalidRequest, lambda: hvac.Client(url=SERVER).auth.github.login("ghp_bob"))
    prove.raises("nor a token that GitHub does not know", exceptions.InvalidRequest, lambda: hvac.Client(url=SERVER).auth.github.login("ghp_nobody"))
    root.sys.disable_auth_method("github")


def iam_logins():
    """Requests that hvac signs itself; the fake STS verifies each signature."""
    root.sys.enable_auth_method("aws")
    method = root.auth.aws
    method.create_role("person", bound_iam_principal_arn="arn:aws:iam::999999999999:user/daypass-root", resolve_aws_unique_ids=False, policies=["reader"])
    method.create_role("stranger", bound_iam_principal_arn="arn:aws:iam::222222222222:user/daypass-root", resolve_aws_unique_ids=False, policies=["reader"])
    root.write_data("auth/aws/role/session", data={"bound_iam_principal_arn": "arn:aws:iam::111111111111:role/ecr-staging", "resolve_aws_unique_ids": False, "token_type": "batch"})
    key, secret = "AKIADAYPASSSANDBOX22", "sandbox/only/never/a/real/secret/key/000"

    def login(role, **more):
        return hvac.Client(url=SERVER).auth.aws.iam_login(key, secret, role=role, **more)["auth"]

    auth = login("person", header_value="vault.example.com")
    prove.secret(auth["client_token"])
    prove("an IAM user logs in with a request that it signed", auth["metadata"]["account_id"] == "999999999999" and "reader" in auth["policies"], auth["metadata"])
    prove.raises("the same name in another account does not", exceptions.InvalidRequest, lambda: login("stranger", header_value="b"))
    # hvac signs for the global host whatever the region is; whether the region's own STS takes that, the fake one cannot tell: it has one address.
    prove.raises("a wrong key is refused by STS", exceptions.InvalidRequest, lambda: hvac.Client(url=SERVER).auth.aws.iam_login(key, secret + "x", role="person"))
    root.write_data("auth/aws/config/client", data={"iam_server_id_header_value": "vault.example.com"})
    prove.raises("a login for another server is refused", exceptions.InvalidRequest, lambda: login("person", header_value="other.example.com"))
    prove("one for this server is not", login("person", header_value="vault.example.com")["lease_duration"] > 0)
    root.sys.enable_secrets_engine("aws", path="for-logins")
    root.secrets.aws.create_or_update_role("deploy", "assumed_role", role_arns="arn:aws:iam::111111111111:role/ecr-staging", mount_point="for-logins")
    minted = root.secrets.aws.generate_credentials("deploy", endpoint="sts", mount_point="for-logins")["data"]
    access, hidden, session = minted["access_key"], prove.secret(minted["secret_key"]), prove.secret(minted["security_token"])
    sessions = hvac.Client(url=SERVER).auth.aws
    auth = sessions.iam_login(access, hidden, session_token=session, role="session", header_value="vault.example.com")["auth"]
    prove("a role session logs in for a batch token", auth["token_type"] == "batch" and auth["metadata"]["account_id"] == "111111111111", auth["metadata"])
    root.sys.disable_secrets_engine("for-logins")
    root.sys.disable_auth_method("aws")


def traces():
    """Spans of a server of its own, decoded with OpenTelemetry's own messages."""
    collector, token = Collector(), prove.secret("hvs-root-of-the-traced-server")
    with Traced(collector, token) as server:
        client = hvac.Client(url=server.url, token=token)
        client.sys.enable_secrets_engine("aws", path="cloud")
        role = "arn:aws:iam::111111111111:role/ecr-staging"
        client.secrets.aws.create_or_update_role("deploy", "assumed_role", role_arns=role, mount_point="cloud")
        minted = client.secrets.aws.generate_credentials("deploy", endpoint="sts", mount_point="cloud")
        hidden = [prove.secret(minted["data"][name]) for name in ("secret_key", "security_token")]
        client.secrets.kv.v2.create_or_update_secret("hidden-path", {"hidden-key": "hidden-value"})
        client.session.headers["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        client.sys.list_mounted_secrets_engines()
        client.session.headers["traceparent"] = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
        client.sys.list_mounted_secrets_engines()
        for _ in range(300):
            if collector.requests:
                break
            time.sleep(0.1)
        prove("traces reach a collector behind TLS, which asked for patience first", collector.requests and collector.refused == 1)
        client.session.headers.pop("traceparent")
        last = client.secrets.kv.v2.read_secret_version("hidden-path", raise_on_deleted_version=True)["request_id"]
        said = server.end()
    path, head = collector.heads[-1]
    head = {name.lower(): value for name, value in head.items()}
    prove("as protobuf over HTTP, with the headers of the environment",
          path == "/v1/traces" and head["content-type"] == "application/x-protobuf" and head["authorization"] == "Bearer for-the-collector", head)

    def known(span):
        return {one.key: one.value.int_value if one.value.HasField("int_value") else one.value.string_value for one in span.attributes}

    found = collector.traces()
    by_request = {known(spans[0]).get("daypass.request_id"): spans for spans in found.values()}
    mint = by_request.get(minted["request_id"], [])
    names = [span.name for span in mint]
    prove("the trace of a mint carries the id of its answer", names == ["POST /v1/cloud/sts/{name}", "identify", "audit", "run", "STS.AssumeRole"], names)
    request, *stages, sts = mint
    facts = known(request)
    prove("it says what was asked, by declared names", facts["http.request.method"] == "POST" and facts["http.response.status_code"] == 200
          and facts["http.route"] == "/v1/cloud/sts/{name}" and facts["daypass.mount.type"] == "aws" and facts["daypass.mount.path"] == "cloud/", facts)
    prove("a server span with its stages, and the call to STS below the last", request.kind == request.SPAN_KIND_SERVER and request.parent_span_id == b""
          and all(stage.parent_span_id == request.span_id and stage.kind == stage.SPAN_KIND_INTERNAL for stage in stages)
          and sts.parent_span_id == stages[-1].span_id and sts.kind == sts.SPAN_KIND_CLIENT)
    prove("whose times fit into each other", all(request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
          <= request.end_time_unix_nano for span in mint) and abs(request.end_time_unix_nano / 1e9 - time.time()) < 120)
    kept = found.get("4bf92f3577b34da6a3ce929d0e0e4736", [])
    prove("a caller's own trace goes on", [span.parent_span_id.hex() for span in kept][:1] == ["00f067aa0ba902b7"] and known(kept[0])["http.route"] == "/v1/sys/mounts")
    prove("one that it does not keep is left out", "5bf92f3577b34da6a3ce929d0e0e4736" not in found)
    prove("what was still there when the server ended came too", last in by_request)
    resource = {one.key: one.value.string_value for one in collector.requests[0].resource_spans[0].resource.attributes}
    prove("the sender says who it is", resource["service.name"] == "daypass" and resource["service.version"] != "", resource)
    secrets = [token, *hidden, "hidden-path", "hidden-key", "hidden-value"]
    prove("nothing that a client sent is in them", not any(secret.encode() in collector.raw for secret in secrets))
    prove("nor is what authorises us in the server's log", "for-the-collector" not in said and "spans of traces were dropped" not in said)


second_factors()
github()
if SANDBOX:
    iam_logins()
    aws()
    traces()
prove.end()
