"""Replays what real clients once said to a real server, word for word, and compares our answers with the recorded ones.

The recordings (`*.jsonl`, one exchange a line) lie in the folder that is the first argument: Vault's Terraform provider in the whole
pipeline (`story`), and as it makes, checks and takes away one resource of each kind (`terraform-apply`, `-plan`, `-destroy`).

What a server makes up (tokens, accessors, ids, times) differs from server to server: the first time such a value is seen, it is
remembered which of ours stands for which of theirs, and it is replaced in all that follows. All else must be equal: status, keys,
types, values. `later.txt` names what the server does not have yet; a line there that is needed no more is an error.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from proof import SANDBOX, SERVER, TOKEN, Proof  # noqa: E402

prove = Proof()

# Who speaks, from which exchange on. The recordings hide tokens; this was read off what each exchange does.
SPEAKERS = {
    "story": {0: "root", 18: "job", 20: "child", 22: "root", 26: "job"},
    "terraform": {0: "root", 2: "child"},
    "terraform-destroy": {0: "root", 2: "child", 39: "root", 41: "child"},
}

# What a server makes up, by its form.
MINTED = re.compile(
    r"^("
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # ids
    r"|hv[sbr]\.\S+"  # tokens
    r"|[A-Za-z0-9]{24}"  # accessors
    r"|[a-z_-]+_[0-9a-f]{8}"  # accessors of mounts
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*"  # times
    r"|A[KS]IA[A-Z0-9]{12,}"  # access keys
    r"|vault-cluster-[0-9a-f]+"
    r"|v?\d+\.\d+\.\d+\S*"  # versions
    r")$"
)
TIME = re.compile(r"^\d{4}-\d\d-\d\dT")
# And by name.
MINTED_KEYS = {"secret_key", "security_token", "session_token", "build_date", "cluster_name", "cluster_id", "client_token", "nonce", "arn", "storage_type", "client_id"}
# Numbers that pass with time, in seconds.
CLOCKS = {"ttl", "lease_duration", "creation_time", "last_used_time"}


class Replay:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.ours = {"/tmp/wire-audit.log": str(Path(os.environ["HOME"], "audit.log")), "http://127.0.0.1:4599": SANDBOX or "http://127.0.0.1:4599"}
        self.tokens = {"root": TOKEN}
        self.later = {}
        for line in (HERE / "later.txt").read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                prefix, _, reason = line.strip().partition(" ")
                assert reason, f"later.txt: {prefix} has no reason"
                self.later[prefix] = []

    def file(self, name):
        speakers = SPEAKERS.get(name) or SPEAKERS["terraform"]
        speaker = "root"
        for number, line in enumerate((self.folder / f"{name}.jsonl").read_text().splitlines()):
            speaker = speakers.get(number, speaker)
            said = json.loads(line)
            differences = self.exchange(said, speaker)
            title = f"{name} {number:02} {said['method']} {said['path'].removeprefix('/v1/')} as {speaker}"
            waiting = next((p for p in self.later if said["path"].removeprefix("/v1/").startswith(p)), None)
            if waiting is None:
                prove(title, not differences, "; ".join(differences))
            else:
                self.later[waiting].append(not differences)

    def exchange(self, said, speaker):
        path = self.translate(said["path"])
        body = None if said["body"] is None else json.dumps(self.translate(said["body"])).encode()
        headers = {k: v for k, v in said["headers"].items() if k not in ("X-Vault-Token", "Accept-Encoding")}
        if "X-Vault-Token" in said["headers"]:
            headers["X-Vault-Token"] = self.tokens.get(speaker, "none")
        status, answer = ask(said["method"], path, headers, body)
        self.learn(said, answer)
        if status != said["status"]:
            return [f"status {status} instead of {said['status']}: {json.dumps(answer)[:300]}"]
        return list(self.compare("", said["answer"], answer))

    def learn(self, said, answer):
        """Remembers the tokens that were made for the speakers."""
        token = ((answer or {}).get("auth") or {}).get("client_token") if isinstance(answer, dict) else None
        if token and said["path"] == "/v1/auth/token/create":
            prove.secret(token)
            body = said["body"] or {}
            if body.get("display_name") == "terraform":
                self.tokens["child"] = token
            elif "job" not in self.tokens:
                self.tokens["job"] = token

    def translate(self, value):
        """Theirs to ours, in a path, a text or a whole body."""
        if isinstance(value, str):
            for theirs, mine in self.ours.items():
                value = value.replace(theirs, mine)
            return value
        if isinstance(value, list):
            return [self.translate(v) for v in value]
        if isinstance(value, dict):
            return {self.translate(k): self.translate(v) for k, v in value.items()}
        return value

    def compare(self, where, theirs, mine, key=""):
        if key == "request_id":
            return
        if key == "options" and not theirs and not mine:
            # Nothing given, or given as nothing: no client tells them apart.
            return
        if kind(theirs) != kind(mine):
            yield f"{where or '/'}: {kind(mine)} {json.dumps(mine)[:100]} instead of {kind(theirs)} {json.dumps(theirs)[:100]}"
        elif isinstance(theirs, dict):
            for name in sorted(set(theirs) - set(mine)):
                yield f"{where}/{name} is missing"
            for name in sorted(set(mine) - set(theirs)):
                yield f"{where}/{name} is too much"
            for name in theirs.keys() & mine.keys():
                yield from self.compare(f"{where}/{name}", theirs[name], mine[name], name)
        elif isinstance(theirs, list):
            if len(theirs) != len(mine):
                yield f"{where}: {len(mine)} items instead of {len(theirs)}: {json.dumps(mine)[:200]}"
            for number, (left, right) in enumerate(zip(theirs, mine)):
                yield from self.compare(f"{where}/{number}", left, right, key)
        elif isinstance(theirs, str):
            yield from self.compare_text(where, theirs, mine, key)
        elif key in CLOCKS and isinstance(theirs, int):
            # A moment in time may be any; a span must be nearly the same.
            if theirs < 1_000_000_000 and abs(theirs - mine) > 5:
                yield f"{where}: {mine} instead of about {theirs}"
        elif theirs != mine:
            yield f"{where}: {json.dumps(mine)} instead of {json.dumps(theirs)}"

    def compare_text(self, where, theirs, mine, key):
        if key == "lease_id" and theirs and mine:
            # The tail is made up, the path before it is not.
            theirs, mine = theirs.rpartition("/")[0], mine.rpartition("/")[0]
        elif key == "running_plugin_version" and theirs and mine:
            # Every mount names the server's own version; theirs names that of a plugin.
            return
        elif key in MINTED_KEYS and bool(theirs) == bool(mine):
            return
        elif MINTED.match(theirs) and MINTED.match(mine):
            # Long enough not to stand by chance in another text.
            if len(theirs) >= 8 and not re.match(r"\d{4}-\d\d-\d\dT", theirs):
                self.ours[theirs] = mine
            return
        if steady(self.translate(theirs)) != steady(mine):
            yield f"{where}: {json.dumps(mine)[:300]} instead of {json.dumps(self.translate(theirs))[:300]}"

    def settle(self):
        for prefix, matches in self.later.items():
            if not matches:
                prove(f"later.txt: {prefix} is asked for by a recording", False, "no exchange")
            elif all(matches):
                prove(f"later.txt: {prefix} waits for something", False, "all its exchanges match: remove the line")
            else:
                print(f"      left for later: {len(matches)} exchanges below {prefix}")


def steady(text):
    """AWS's refusals name sessions and request ids, which differ each time. Ours add who the server itself is, on purpose."""
    text = re.sub(r"\n\tthe server itself is \S+", "", text)
    # Two of AWS's limits may both be exceeded, and which one is named depends on the roles in the fake.
    text = re.sub(r"exceeds the (MaxSessionDuration set for this role|1 hour session limit for roles assumed by role chaining)", "is too long", text)
    text = re.sub(r"assumed-role/[^ ]+", "assumed-role/<role>/<session>", text)
    return re.sub(r"(?i)request ?id: [0-9a-f-]+", "request id: <id>", text)


def kind(value):
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a fraction", type(None): "nothing"}[type(value)]


def ask(method, path, headers, body):
    request = urllib.request.Request(SERVER + path, data=body, method=method, headers=headers)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        status, text = refusal.code, refusal.read()
    try:
        return status, json.loads(text) if text.strip() else None
    except json.JSONDecodeError:
        return status, text.decode(errors="replace")


replay = Replay(sys.argv[1])
replay.file("story")
# The recordings were made on servers of their own: what the pipeline left must not be seen by what follows.
for leftover in ("sys/policies/acl/jenkins", "sys/mounts/cdp/aws/staging", "sys/mounts/cdp/aws/production"):
    ask("DELETE", f"/v1/{leftover}", {"X-Vault-Token": TOKEN, "X-Vault-Request": "true"}, None)
for step in ("apply", "plan", "destroy"):
    replay.file(f"terraform-{step}")
replay.settle()
prove.end()
