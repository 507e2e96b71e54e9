"""The API server of a Kubernetes cluster, on loopback behind TLS: tokens of service accounts, the review of tokens, labels of namespaces."""

import json
import uuid

from certificates import loopback
from issuer import Issuer
from standin import Answering, serve

NAME = "https://kubernetes.default.svc.cluster.local"


class Cluster:
    def __init__(self):
        self.issuer = Issuer()
        self.uids, self.known, self.labels, self.reviews = {}, {}, {}, []
        self.certificate, context = loopback("the cluster")
        self.server = serve(self, Handler, context)
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def token(self, namespace, name, audience=None):
        """A token of this account; without an audience it is for the API server."""
        uid = self.uids.setdefault((namespace, name), str(uuid.uuid4()))
        claims = {"iss": NAME, "aud": [audience or NAME], "sub": f"system:serviceaccount:{namespace}:{name}", "jti": str(uuid.uuid4()),
                  "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}, "pod": {"name": "pod-1", "uid": "p"}}}
        token = self.issuer.token(**claims)
        self.known[token] = claims
        return token

    def forget(self, token):
        """The account or its pod is deleted."""
        self.known.pop(token, None)

    def review(self, spec):
        claims = self.known.get(spec["token"])
        fits = [one for one in claims["aud"] if one in spec.get("audiences", [NAME])] if claims else []
        if not fits:
            return {"authenticated": False, "error": "invalid bearer token"}
        identity = claims["kubernetes.io"]["serviceaccount"]
        groups = ["system:serviceaccounts", "system:authenticated"]
        return {"authenticated": True, "audiences": fits, "user": {"username": claims["sub"], "uid": identity["uid"], "groups": groups}}

    def close(self):
        self.server.shutdown()
        self.issuer.server.shutdown()


class Handler(Answering):
    def caller(self):
        """Whoever asks, if the cluster knows their token for itself."""
        claims = self.owner.known.get(self.headers.get("authorization", "").removeprefix("Bearer "))
        return claims["sub"] if claims and NAME in claims["aud"] else None

    def refuse(self, status, reason):
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}, status)

    def do_GET(self):
        namespace = self.path.removeprefix("/api/v1/namespaces/")
        if self.caller() is None:
            self.refuse(401, "Unauthorized")
        elif namespace == self.path or "/" in namespace:
            self.refuse(404, "NotFound")
        else:
            self.answer({"kind": "Namespace", "metadata": {"name": namespace, "labels": self.owner.labels.get(namespace, {})}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.caller() is None:
            self.refuse(401, "Unauthorized")
        elif self.path != "/apis/authentication.k8s.io/v1/tokenreviews" or body.get("kind") != "TokenReview":
            self.refuse(404, "NotFound")
        else:
            self.owner.reviews.append(self.caller())
            self.answer({**body, "status": self.owner.review(body["spec"])}, 201)
