"""The OpenAPI document: a validator accepts it, and a client that a public generator makes from it reads and writes a secret."""

import importlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from proof import SERVER, TOKEN, Proof  # noqa: E402

from openapi_spec_validator import OpenAPIV30SpecValidator  # noqa: E402

prove = Proof()
WORK = Path.cwd() / "openapi-client"


def ask(method, path, body=None, token=TOKEN):
    headers = {"X-Vault-Token": token} if token else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{SERVER}/v1/{path}", data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def mounts():
    catalog = ask("GET", "sys/plugins/catalog")["data"]
    for kind in catalog["secret"]:
        ask("POST", f"sys/mounts/x-{kind}", {"type": kind})
    for kind in catalog["auth"]:
        ask("POST", f"sys/auth/x-{kind}", {"type": kind})


def document():
    whole = ask("GET", "sys/internal/specs/openapi")
    for name, served in [
        ("the document", whole),
        ("the document with generic mount paths", ask("GET", "sys/internal/specs/openapi?generic_mount_paths=true")),
        ("the document that a stranger sees", ask("GET", "sys/internal/specs/openapi", token=None)),
        ("the document of a help page", ask("GET", "secret/data/x?help=1")["openapi"]),
        ("the document of a mount's help page", ask("GET", "x-aws?help=1")["openapi"]),
    ]:
        faults = [f"{'/'.join(map(str, fault.absolute_path))}: {fault.message[:200]}" for fault in OpenAPIV30SpecValidator(served).iter_errors()]
        prove(f"{name} is valid OpenAPI 3.0", not faults, faults[:5])
    operations = [operation for item in whole["paths"].values() for method, operation in item.items() if method in METHODS]
    names = [operation["operationId"] for operation in operations]
    prove(f"{len(names)} operations, each with a name of its own", len(names) > 200 and len(names) == len(set(names)))
    prove("every operation has a summary and refusals", all(o["summary"] and "403" in o["responses"] for o in operations))
    generic = ask("GET", "sys/internal/specs/openapi?generic_mount_paths=true")["paths"]
    prove("generic paths name the mount as a parameter", "/{secret_mount_path}/data/{path}" in generic and "/auth/token/create" in generic)
    return whole


METHODS = {"get", "post", "put", "patch", "delete", "head"}


def generated(whole):
    WORK.mkdir(exist_ok=True)
    (WORK / "document.json").write_text(json.dumps(whole))
    (WORK / "config.yml").write_text("project_name_override: daypass_api\npackage_name_override: daypass_api\npost_hooks: []\n")
    generate = [Path(sys.executable).parent / "openapi-python-client", "generate", "--meta=none", "--overwrite"]
    generate += [f"--path={WORK / 'document.json'}", f"--config={WORK / 'config.yml'}", f"--output-path={WORK / 'daypass_api'}"]
    made = subprocess.run(generate, capture_output=True, text=True, timeout=170)
    words = made.stdout + made.stderr
    prove("the generator makes a client", made.returncode == 0 and (WORK / "daypass_api/client.py").is_file(), words[-1500:])
    # It leaves out, with a warning, what it cannot express; nothing may be left out.
    prove("and leaves nothing out", "WARNING" not in words, words[:1500])


def used():
    sys.path.insert(0, str(WORK))
    api = importlib.import_module("daypass_api")
    client = api.AuthenticatedClient(base_url=f"{SERVER}/v1", token=TOKEN, auth_header_name="X-Vault-Token", prefix="")
    call = lambda group, name: importlib.import_module(f"daypass_api.api.{group}.{name}")  # noqa: E731
    write, read = call("secrets", "update_secret_data_path"), call("secrets", "read_secret_data_path")
    body = importlib.import_module("daypass_api.models.update_secret_data_path_body").UpdateSecretDataPathBody
    written = write.sync_detailed("made/by/generator", client=client, body=body.from_dict({"data": {"user": "robot"}}))
    prove("the generated client writes a secret", written.status_code == 200 and written.parsed.data["version"] == 1, written.content)
    got = read.sync("made/by/generator", client=client)
    prove("and reads it", got.data["data"] == {"user": "robot"} and got.mount_type == "kv", got)
    prove("the server has it too", ask("GET", "secret/data/made/by/generator")["data"]["data"] == {"user": "robot"})
    true = importlib.import_module("daypass_api.models.list_secret_metadata_path_list").ListSecretMetadataPathList("true")
    listed = call("secrets", "list_secret_metadata_path").sync("made", client=client, list_=true)
    prove("it lists", listed.data.keys == ["by/"], listed)
    missing = read.sync_detailed("nothing/there", client=client)
    prove("a missing secret is a 404", missing.status_code == 404, missing.content)
    health = call("system", "read_sys_health").sync_detailed(client=api.Client(base_url=f"{SERVER}/v1"))
    prove("health needs no token", health.status_code == 200)
    stranger = read.sync_detailed("made/by/generator", client=api.AuthenticatedClient(base_url=f"{SERVER}/v1", token="s.wrong", auth_header_name="X-Vault-Token", prefix=""))
    prove("a wrong token is refused", stranger.status_code == 403 and "permission denied" in stranger.parsed.errors[0], stranger.content)


mounts()
generated(document())
used()
prove.end()
