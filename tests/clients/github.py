"""GitHub's API on loopback: users with access tokens, organisations and teams, a page at a time."""

import urllib.parse

from standin import Answering, serve


class GitHub:
    def __init__(self):
        self.organizations = {"acme": 1}
        # By access token: name, id, ids of organisations, teams as (name, slug, id of the organisation).
        self.users = {}
        self.server = serve(self, Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v3"

    def names(self):
        return {number: name for name, number in self.organizations.items()}


class Handler(Answering):
    kind = "application/json; charset=utf-8"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = urllib.parse.parse_qs(query)
        path = path.removeprefix("/api/v3/")
        if path.startswith("orgs/"):
            number = self.owner.organizations.get(path.removeprefix("orgs/"))
            return self.answer({"login": path.removeprefix("orgs/"), "id": number}) if number else self.answer({"message": "Not Found"}, 404)
        user = self.owner.users.get(self.headers.get("authorization", "").removeprefix("Bearer "))
        if user is None:
            return self.answer({"message": "Bad credentials"}, 401)
        name, number, organizations, teams = user
        organization = lambda number: {"login": self.owner.names().get(number, ""), "id": number}
        if path == "user":
            return self.answer({"login": name, "id": number})
        lists = {
            "user/orgs": [organization(one) for one in organizations],
            "user/teams": [{"name": team, "slug": slug, "organization": organization(one)} for team, slug, one in teams],
        }
        if path not in lists:
            return self.answer({"message": "Not Found"}, 404)
        size, page = int(asked.get("per_page", ["30"])[0]), int(asked.get("page", ["1"])[0])
        return self.answer(lists[path][size * (page - 1) : size * page])
