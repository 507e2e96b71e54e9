"""An identity provider on loopback: discovery, keys, a login page that lets everybody in, and tokens for machines."""

import base64
import hashlib
import json
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from standin import Answering, serve


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes = {}
        self.server = serve(self, Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def pem(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def keys(self):
        numbers = self.key.public_key().public_numbers()
        return {"keys": [{"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "n": encoded(numbers.n.to_bytes(256, "big")), "e": "AQAB"}]}

    def token(self, **claims):
        now = int(time.time())
        claims = {"iss": self.url, "iat": now, "nbf": now, "exp": now + 300, **claims}
        header = {"alg": "RS256", "kid": "one", "typ": "JWT"}
        message = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        return f"{message}.{encoded(self.key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Handler(Answering):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        url = self.owner.url
        if path == "/.well-known/openid-configuration":
            endpoints = {"jwks_uri": f"{url}/keys", "authorization_endpoint": f"{url}/login", "token_endpoint": f"{url}/token"}
            self.answer({"issuer": url, **endpoints, "response_types_supported": ["code"], "id_token_signing_alg_values_supported": ["RS256"]})
        elif path == "/keys":
            self.answer(self.owner.keys())
        elif path == "/login":
            asked = dict(urllib.parse.parse_qsl(query))
            code = f"code-{len(self.owner.codes)}"
            self.owner.codes[code] = asked
            self.send_response(302)
            self.send_header("location", f"{asked['redirect_uri']}?{urllib.parse.urlencode({'code': code, 'state': asked['state']})}")
            self.end_headers()
        else:
            self.answer({}, 404)

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        asked = self.owner.codes.pop(form.get("code"), None)
        proof = encoded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if not asked or asked.get("code_challenge") != proof or asked["redirect_uri"] != form.get("redirect_uri"):
            self.answer({"error": "invalid_grant"}, 400)
        else:
            token = self.owner.token(aud=asked["client_id"], sub="7", email="ann@acme.example", groups=["deploy"], nonce=asked["nonce"])
            self.answer({"id_token": token, "access_token": "access", "token_type": "Bearer"})
