"""Runs every command of the project's pages, in order, in a fresh directory, and compares exit codes and what the page says is printed.

    DAYPASS_BIN=target/debug/daypass python tests/docs/run.py [--stage NAME] PAGE [--part HEADING PAGE]...

Commands stand in ```console blocks. A line that begins with `$ ` is a command; a `\\` at its end, or a here-document up to `END`, continues it. What
follows is what it prints: `…` stands for any text within a line, a line of `…` alone for any lines; nothing at all leaves it open.

    ```console exit=2       the last command of the block ends with this code
    ```console stage=story  needs what only that stage of `cargo xtask test` has, and is run by it: with --stage story
    ```yaml ci=github       a recipe for a build server, run as that would: see ci.py

A command that ends in `&` is a server: it is started, waited for, and ended with the page. With --part, the indented lines below that heading are
commands too. A command anywhere else on a page is an error: nobody would run it.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from ci import READERS, Recipes

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"^\s*(\$ |daypass |vault |bao |aws |podman |docker |skopeo |export )")
ATTRIBUTES = re.compile(r"^```console((?: (?:exit=\d+|stage=[a-z/]+))*)$")
# What a page calls the server and the fake AWS; free ports are used instead, so that pages can be run anywhere.
USUAL = ["127.0.0.1:8200", "127.0.0.1:4566"]
# What recipes call the server.
PUBLIC = "https://vault.acme.example"
RECIPE = re.compile(r"^```(?:yaml|groovy) ci=([a-z-]+)$")
SECRETS = re.compile(r"hvs\.[\w-]+|hvb\.[\w-]+|[A-Za-z0-9+/=_-]{60,}")
# Lines of a page that are for a person's shell: what they bring is here already.
FOR_PEOPLE = re.compile(r"^(cargo build |export PATH=)")


class Block:
    def __init__(self, line, exit_code=0, stage=None):
        self.line, self.exit_code, self.stage = line, exit_code, stage
        self.commands = []  # (line, command, what is printed or None)
        self.ci = None  # (name of the build server, recipe)


def blocks_of(page):
    """The blocks of a page, and what is wrong with it."""
    blocks, wrong, lines, at = [], [], page.read_text().splitlines(), 0
    known = set(re.findall(r'name: "([^"]+)", about', (ROOT / "xtask/src/test.rs").read_text()))
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.startswith("```"):
            if line.startswith("    ") and COMMAND.match(line):
                wrong.append(f"{page.name}:{at}: a command outside a console block: {line.strip()}")
            continue
        begin = at
        while at < len(lines) and not lines[at].startswith("```"):
            at += 1
        inside = lines[begin:at]
        at += 1
        recipe = RECIPE.match(line)
        if recipe:
            blocks.append(Block(begin))
            blocks[-1].ci = (recipe[1], "\n".join(inside) + "\n")
            if recipe[1] not in READERS:
                wrong.append(f"{page.name}:{begin}: no build server is called {recipe[1]}")
            continue
        if line == "```json":
            wrong += not_json(page.name, begin, "\n".join(inside))
        if not line.startswith("```console"):
            wrong += [f"{page.name}:{begin}: a command in a block of another kind: {text}" for text in inside if COMMAND.match(text)]
            continue
        found = ATTRIBUTES.match(line)
        if not found:
            wrong.append(f"{page.name}:{begin}: not understood: {line}")
            continue
        given = dict(pair.split("=") for pair in found[1].split())
        block = Block(begin, int(given.get("exit", 0)), given.get("stage"))
        if block.stage and block.stage not in known:
            wrong.append(f"{page.name}:{begin}: no stage is called {block.stage}")
        read_commands(block, inside, begin)
        blocks.append(block)
    return blocks, wrong


def not_json(name, line, text):
    try:
        json.loads(text)
        return []
    except ValueError as error:
        return [f"{name}:{line}: no JSON: {error}"]


def read_commands(block, inside, begin):
    at = 0
    while at < len(inside):
        number, command = begin + at + 1, inside[at].removeprefix("$ ")
        at += 1
        while command.endswith("\\") and at < len(inside):
            command += "\n" + inside[at]
            at += 1
        if "<<'END'" in command:
            while at < len(inside) and not command.endswith("\nEND"):
                command += "\n" + inside[at]
                at += 1
        printed = []
        while at < len(inside) and not inside[at].startswith("$ "):
            printed.append(inside[at])
            at += 1
        block.commands.append((number, command, printed or None))


def part_of(page, heading):
    """The indented lines below a heading, as a block."""
    block, on = Block(1), False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith("#"):
            on = line.lstrip("# ") == heading
            continue
        if not on or not line.startswith("    "):
            continue
        line = line[4:]
        if block.commands and block.commands[-1][1].endswith("\\"):
            before, command, _ = block.commands[-1]
            block.commands[-1] = (before, command + "\n" + line, None)
        elif not FOR_PEOPLE.match(line):
            block.commands.append((number, line, None))
    return [block]


def like(printed):
    """A pattern for what the page says is printed."""
    pattern = ""
    for line in printed:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += r"[^\n]*?".join(re.escape(piece) for piece in line.rstrip().split("…")) + r"[ ]*\n"
    return re.compile(pattern)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Shell:
    """Where the commands of one page run, one after the other."""

    def __init__(self, daypass, folder, in_place):
        self.folder, self.servers, self.recipes = folder, [], None
        self.addresses = {usual: usual if in_place else f"127.0.0.1:{free_port()}" for usual in USUAL}
        (folder / "bin").mkdir()
        (folder / "bin/daypass").symlink_to(daypass)
        (folder / "home").mkdir()
        (folder / "work").mkdir()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("VAULT_", "BAO_", "DAYPASS_")) and (in_place or not k.startswith("AWS_"))}
        home = os.environ["HOME"] if in_place else str(folder / "home")
        self.env = {**inherited, "PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": home, "AWS_EC2_METADATA_DISABLED": "true"}

    def here(self, text):
        text = text.replace(PUBLIC, f"http://{self.addresses['127.0.0.1:8200']}")
        for usual, ours in self.addresses.items():
            text = text.replace(usual, ours)
        return self.recipes.here(text) if self.recipes else text

    def run(self, command):
        command = self.here(self.recipes.command(command) if self.recipes else command)
        if command.endswith("&"):
            return self.serve(command.removesuffix("&").strip())
        state = self.folder / "state"
        script = f'{command}\nended=$?\nexport -p > "{state}"\nexit $ended'
        if state.exists():
            script = f'. "{state}"\n{script}'
        done = subprocess.run(["bash", "-c", script], env=self.env, cwd=self.folder / "work", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        return done.returncode, done.stdout

    def serve(self, command):
        address = self.addresses["127.0.0.1:8200"]
        if "-dev-listen-address" not in command:
            command = command.replace("server -dev", f"server -dev -dev-listen-address={address}", 1)
        with open(self.folder / "server.log", "ab") as log:
            server = subprocess.Popen(["bash", "-c", f"exec {command}"], env=self.env, cwd=self.folder / "work", stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log, start_new_session=True)
        self.servers.append(server)
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://{address}/v1/sys/health", timeout=2):
                    return 0, ""
            except (urllib.error.URLError, OSError):
                if server.poll() is not None:
                    break
                time.sleep(0.1)
        return 1, f"the server did not answer; its last words:\n{(self.folder / 'server.log').read_text(errors='replace')[-2000:]}"

    def run_recipe(self, name, text):
        try:
            return self.recipes.run(name, text, self)
        except (KeyError, ValueError, subprocess.TimeoutExpired) as error:
            return f"it cannot be run: {error!r}"

    def task_identity(self):
        """The variables that make a process the task of the fake AWS, as the server printed them."""
        log = (self.folder / "server.log").read_text(errors="replace")
        return dict(re.findall(r"^\s*\$ export (AWS_CONTAINER_\w+|AWS_REGION)=(.*)$", log, re.M))

    def end(self):
        if self.recipes:
            self.recipes.close()
        for server in self.servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
                try:
                    server.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(server.pid, signal.SIGKILL)


def check(shell, block, command, printed, code, out):
    """Why a command did not do what the page says; empty when it did."""
    last = command == block.commands[-1][1]
    wanted = block.exit_code if last else 0
    if code != wanted:
        return f"ended with {code}, the page says {wanted}; it printed:\n{out}"
    text = "".join(line.rstrip() + "\n" for line in out.splitlines())
    if printed and not like([shell.here(line) for line in printed]).fullmatch(text):
        return f"printed something else than the page says:\n{out}"
    return ""


def told(why, what):
    if why:
        print(f"FAIL  {what}\n      " + SECRETS.sub("<secret>", why).strip().replace("\n", "\n      "), flush=True)
    else:
        print(f"ok    {what}", flush=True)


def run_page(daypass, name, blocks, stage):
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="daypass-docs.") as folder:
        shell = Shell(daypass, Path(folder), in_place=stage is not None)
        if any(block.ci for block in blocks):
            shell.recipes = Recipes(Path(folder))
        try:
            for block in blocks:
                if block.stage and block.stage != stage:
                    continue
                if block.ci:
                    why = shell.run_recipe(*block.ci)
                    passed, failed = passed + (not why), failed + bool(why)
                    told(why, f"{name}:{block.line}: the recipe for {block.ci[0]}")
                for number, command, printed in block.commands:
                    why = check(shell, block, command, printed, *shell.run(command))
                    passed, failed = passed + (not why), failed + bool(why)
                    told(why, f"{name}:{number}: {command.splitlines()[0]}")
        finally:
            shell.end()
    return passed, failed


def main():
    arguments, stage, passed, failed = sys.argv[1:], None, 0, 0
    daypass = Path(os.environ["DAYPASS_BIN"]).resolve()
    while arguments:
        word = arguments.pop(0)
        if word == "--stage":
            stage = arguments.pop(0)
            continue
        heading = arguments.pop(0) if word == "--part" else None
        page = Path(arguments.pop(0) if heading else word)
        blocks, wrong = (part_of(page, heading), []) if heading else blocks_of(page)
        for line in wrong:
            print(f"FAIL  {line}", flush=True)
        if not any(block.commands for block in blocks):
            print(f"FAIL  {page.name} has no commands", flush=True)
            failed += 1
        of_page = run_page(daypass, page.name, blocks, stage)
        passed, failed = passed + of_page[0], failed + of_page[1] + len(wrong)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
