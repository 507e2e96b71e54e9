"""GitHub's API on loopback: users with access tokens, organisations and teams, a page at a time."""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class GitHub:
    def __init__(self):
        self.organizations = {"acme": 1}
        # By access token: name, id, ids of organisations, teams as (name, slug, id of the organisation).
        self.users = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: Handler(self, *arguments))
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v3"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def names(self):
        return {number: name for name, number in self.organizations.items()}


class Handler(BaseHTTPRequestHandler):
    def __init__(self, github, *arguments):
        self.github = github
        super().__init__(*arguments)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = urllib.parse.parse_qs(query)
        path = path.removeprefix("/api/v3/")
        if path.startswith("orgs/"):
            number = self.github.organizations.get(path.removeprefix("orgs/"))
            return self.say(200, {"login": path.removeprefix("orgs/"), "id": number}) if number else self.say(404, {"message": "Not Found"})
        user = self.github.users.get(self.headers.get("authorization", "").removeprefix("Bearer "))
        if user is None:
            return self.say(401, {"message": "Bad credentials"})
        name, number, organizations, teams = user
        organization = lambda number: {"login": self.github.names().get(number, ""), "id": number}
        if path == "user":
            return self.say(200, {"login": name, "id": number})
        lists = {
            "user/orgs": [organization(one) for one in organizations],
            "user/teams": [{"name": team, "slug": slug, "organization": organization(one)} for team, slug, one in teams],
        }
        if path not in lists:
            return self.say(404, {"message": "Not Found"})
        size, page = int(asked.get("per_page", ["30"])[0]), int(asked.get("page", ["1"])[0])
        return self.say(200, lists[path][size * (page - 1) : size * page])

    def say(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=utf-8")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass
