"""schemathesis makes requests up from the served OpenAPI document and judges the answers by it: no failure of the server, no status
and no content type that the document does not know, no body of another shape.

DAYPASS_SCHEMATHESIS_SECONDS: how long (60). DAYPASS_SEED: the seed of a run to repeat.
"""

import collections
import json
import os
import random
import re
import sys
import time
import urllib.request
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from proof import SERVER, TOKEN, Proof  # noqa: E402

import hypothesis  # noqa: E402
import schemathesis  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance  # noqa: E402

SECONDS = float(os.environ.get("DAYPASS_SCHEMATHESIS_SECONDS") or 60)
SEED = int(os.environ.get("DAYPASS_SEED") or random.SystemRandom().randrange(2**31))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

# Left out: what would end the run itself or reach beyond this machine. Method, path, reason.
LEFT_OUT = [
    ("POST", r"/sys/seal", "a sealed server answers nothing more"),
    ("POST", r"/auth/token/revoke-self", "revokes the token of the run"),
    ("POST", r"/sys/(leases/)?(revoke|revoke-prefix|revoke-force)(/\{.*\})?", "a prefix of one letter ends every token, that of the run too"),
    ("POST", r"/sys/audit/\{path\}", "would write files anywhere, and a device that fails stops every request"),
    ("POST", r"/sys/quotas/.*", "a made-up limit refuses every later request"),
    ("GET", r"/sys/monitor", "never ends by itself"),
    ("GET", r"/sys/pprof/.*", "runs for as long as it is told"),
    ("POST", r"/.*/config/(root|client|rotate-root)", "makes the server call hosts that were made up"),
    ("POST", r"/.*/config", "the same, for methods that ask an identity provider"),
    ("POST", r"/sys/raw.*", "writes over the server's own rows"),
]

# Failures that Vault answers with status 500, word for word as it was recorded. Clients know these texts; they stay.
VAULTS_OWN_500 = [
    r"at least one origin or the wildcard must be provided",
    r"to allow all origins the '\*' must be the only value for allowed_origins",
    r"at least one constraint should be enabled on the role",
    r"failed to validate CIDR blocks",
    r"failed to find accessor entry for secret_id_accessor",
    r"role_id already in use",
    r"SecretID is already registered",
    r"username does not exist",
    r"password hash has incorrect length",
    r"failed to determine alias name from login request",
    r"could not load backend configuration",
    r"missing data fields",
    r"no token found",
    r"client token empty",
    r"auth methods cannot create root tokens",
    r"role rotation period out of range",
    r"only one of policy or arn should be provided",
    r"should be a subset of CIDR blocks",
    r"no configuration found for config/root",
    r"error decoding base64'd token",
    r"error xoring token",
    r"invalid rekey seal configuration",
]

# Answers that Vault gives without the body that their content type promises: method, path, status, reason.
NO_BODY = [
    ("(GET|PATCH)", r"/[^/]+/(data|metadata)/\{path\}", 404, "recorded: a version that is gone has no body"),
    (".*", r".*\{.*", 400, "recorded: a path with control characters is refused before anything is asked, without a content type"),
]

prove = Proof()


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{SERVER}/v1/{path}", data=data, headers={"X-Vault-Token": TOKEN}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def prepare():
    """A mount of every type, and something in each that requests can be about."""
    catalog = ask("GET", "sys/plugins/catalog")["data"]
    for kind in catalog["secret"]:
        ask("POST", f"sys/mounts/x-{kind}", {"type": kind})
    for kind in catalog["auth"]:
        ask("POST", f"sys/auth/x-{kind}", {"type": kind})
    ask("POST", "auth/x-approle/role/sample", {"token_policies": "default"})
    ask("POST", "auth/x-userpass/users/sample", {"password": "correct horse"})
    ask("POST", "x-aws/roles/sample", {"credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ecr-staging"})
    ask("POST", "secret/data/sample", {"data": {"a": 1}})
    ask("POST", "x-kv/sample", {"a": 1})


def is_listed(entries, method, path):
    return any(method == m and re.fullmatch(pattern, path) for m, pattern, *_ in entries)


def complaints(case, response, path):
    """What is wrong with an answer, one line for each check that fails."""
    if response.status_code == 500 and any(re.search(text, response.text) for text in VAULTS_OWN_500):
        return
    for check in CHECKS:
        if check in (content_type_conformance, response_schema_conformance) and not response.content:
            if response.status_code in (202, 204, 307) or case.method == "HEAD":
                continue
            if any(re.fullmatch(m, case.method) and re.fullmatch(p, path) and response.status_code == s for m, p, s, _ in NO_BODY):
                continue
        try:
            case.validate_response(response, checks=[check])
        except (Exception, BaseExceptionGroup) as fault:  # noqa: BLE001
            causes = getattr(fault, "exceptions", [fault])
            first = str(causes[0]).replace("\n", " ")[:160]
            yield f"{check.__name__}: {response.status_code}: {first}: {response.text[:200]!r}"


def try_operation(operation, path, mode, count, seed, seen, counts, until):
    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate])
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def one(case):
        if time.monotonic() > until:
            return
        if '"help"' in json.dumps(case.query or {}, default=str):
            return
        try:
            response = case.call(base_url=f"{SERVER}/v1", headers={"X-Vault-Token": TOKEN}, allow_redirects=False, timeout=30)
        except UnicodeError:
            return
        counts[response.status_code] += 1
        for complaint in complaints(case, response, path):
            key = (operation.method.upper(), path, complaint.split(":")[0], response.status_code)
            if key not in seen:
                seen[key] = f"{complaint} for {case.as_curl_command()[:600]}"

    try:
        one()
    except hypothesis.errors.Unsatisfiable:
        return False
    except Exception as error:  # noqa: BLE001
        if "negat" in str(error).lower():
            return False
        raise
    return True


def main():
    warnings.simplefilter("ignore")
    prepare()
    document = ask("GET", "sys/internal/specs/openapi")
    schema = schemathesis.openapi.from_dict(document)
    operations = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if not is_listed(LEFT_OUT, operation.method.upper(), operation.path):
            operations.append(operation)
    total = sum(1 for item in document["paths"].values() for method in item if method in ("get", "post", "patch", "delete", "head"))
    print(f"seed {SEED}: {SECONDS:.0f} s for {len(operations)} of {total} operations", flush=True)
    until = time.monotonic() + SECONDS
    seen, counts, tried, chance, rounds = {}, collections.Counter(), set(), random.Random(SEED), 0
    # The first round goes through to its end, however long it takes: every operation is asked something.
    while rounds == 0 or time.monotonic() < until:
        chance.shuffle(operations)
        for operation in operations:
            if rounds and time.monotonic() > until:
                break
            mode = schemathesis.GenerationMode.NEGATIVE if rounds % 3 == 2 else schemathesis.GenerationMode.POSITIVE
            end = until if rounds else until + 3600
            try_operation(operation, operation.path, mode, 2 + 4 * min(rounds, 3), chance.randrange(2**31), seen, counts, end)
            tried.add((operation.method, operation.path))
        rounds += 1
    for (method, path, *_), complaint in sorted(seen.items()):
        prove(f"{method} {path}", False, complaint)
    failed = {(method, path) for method, path, *_ in seen}
    prove.passed += sum(1 for method, path in tried if (method.upper(), path) not in failed)
    print(f"{sum(counts.values())} requests in {rounds} rounds: {dict(sorted(counts.items()))}")
    prove("every operation was tried", len(tried) == len(operations), f"{len(tried)} of {len(operations)}")
    prove("the server is up", ask("GET", "sys/seal-status")["sealed"] is False)
    prove.end()


main()
