"""Logins with requests that AWS's own SDK signs: a session of a role, as a build on ECS has one, shows its identity to the server."""

import base64
import http.client
import json

import boto3
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest

STAGING = "arn:aws:iam::111111111111:role/ecr-staging"
SERVER_ID = "vault.example.com"
BODY = "Action=GetCallerIdentity&Version=2011-06-15"
HEADER = "X-Vault-AWS-IAM-Server-ID"


class SignedLogin:
    def __init__(self, prove, run, daypass, server, credential):
        self.prove, self.run, self.daypass, self.server = prove, run, daypass, server
        session = boto3.Session(credential["AWS_ACCESS_KEY_ID"], credential["AWS_SECRET_ACCESS_KEY"], credential["AWS_SESSION_TOKEN"])
        self.keys = session.get_credentials()

    def ours(self, *arguments):
        done = self.run(self.daypass, *arguments)
        self.prove(" ".join(arguments[:2]), done.returncode == 0, done.stderr)

    def all(self):
        self.ours("auth", "enable", "aws")
        self.ours("write", "auth/aws/config/client", f"iam_server_id_header_value={SERVER_ID}")
        for role, bound in (("build", STAGING), ("other", STAGING.replace("111111111111", "222222222222"))):
            self.ours("write", f"auth/aws/role/{role}", f"bound_iam_principal_arn={bound}", "resolve_aws_unique_ids=false", "token_type=batch")
        signed = self.signed()
        status, answer = self.login("build", signed)
        auth = answer.get("auth") or {}
        self.prove.secret(auth.get("client_token"))
        self.prove("a request that botocore signed logs a role's session in", status == 200 and auth["metadata"]["account_id"] == "111111111111", answer.get("errors"))
        self.prove("for a batch token, of which nothing is stored", auth.get("token_type") == "batch")
        status, answer = self.login("build", signed, source="127.0.0.2")
        self.prove("the same request from another address is refused", status == 400 and not answer.get("auth"), answer.get("errors"))
        self.refused("a request for a role of another account", "other", self.signed())
        self.refused("one that names another server", "build", self.signed(server="other.example.com"))
        self.refused("one that names the server without signing that", "build", self.signed(named_afterwards=True))
        forged = self.signed()
        forged["Authorization"] = forged["Authorization"][:-6] + "000000"
        self.refused("one whose signature was changed", "build", forged)
        self.refused("one for another action", "build", self.signed(body="Action=GetSessionToken&Version=2011-06-15"), "Action=GetSessionToken&Version=2011-06-15")
        self.presigned()

    def presigned(self):
        """A URL that is signed instead of headers: what other tools pass around. It names no server, so it is no login here."""
        request = AWSRequest("GET", f"https://sts.amazonaws.com/?{BODY}")
        SigV4QueryAuth(self.keys, "sts", "us-east-1", expires=900).add_auth(request)
        fields = {"iam_http_request_method": "GET", "iam_request_url": packed(request.url), "iam_request_headers": packed(json.dumps({"Host": ["sts.amazonaws.com"]}))}
        status, answer = self.post({"role": "build", **fields})
        self.prove("a presigned URL, which names no server, logs nobody in", status == 400 and not answer.get("auth"), answer.get("errors"))

    def signed(self, body=BODY, server=SERVER_ID, named_afterwards=False):
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        if not named_afterwards:
            headers[HEADER] = server
        request = AWSRequest("POST", "https://sts.amazonaws.com/", data=body, headers=headers)
        SigV4Auth(self.keys, "sts", "us-east-1").add_auth(request)
        found = dict(request.headers.items())
        if named_afterwards:
            found[HEADER] = server
        return found

    def login(self, role, headers, body=BODY, source="127.0.0.1"):
        return self.post(source=source, fields={
            "role": role,
            "iam_http_request_method": "POST",
            "iam_request_url": packed("https://sts.amazonaws.com/"),
            "iam_request_body": packed(body),
            "iam_request_headers": packed(json.dumps({name: [value] for name, value in headers.items()})),
        })

    def refused(self, what, role, headers, body=BODY):
        status, answer = self.login(role, headers, body)
        self.prove(f"{what} is refused", status in (400, 403) and not answer.get("auth"), answer.get("errors"))

    def post(self, fields, source="127.0.0.1"):
        connection = http.client.HTTPConnection(self.server.removeprefix("http://"), timeout=30, source_address=(source, 0))
        connection.request("POST", "/v1/auth/aws/login", json.dumps(fields), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def packed(text):
    return base64.b64encode(text.encode()).decode()
