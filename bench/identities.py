"""Signs identity tokens of a CI system with a key of the moment, for `cargo xtask soak logins`.

Prints the public key as PEM, an empty line, and so many tokens, one per line. They are good for two hours.
"""

import json
import sys
import time

from joserfc import jwt
from joserfc.jwk import ECKey

key = ECKey.generate_key("P-256", {"kid": "bench"}, private=True)
print(key.as_pem(private=False).decode())
now = int(time.time())
for number in range(int(sys.argv[1])):
    claims = {
        "iss": "https://ci.example.com",
        "aud": "daypass",
        "sub": f"repo:acme/app-{number}:ref:refs/heads/main",
        "repository": f"acme/app-{number}",
        "run_id": str(number),
        "iat": now,
        "nbf": now - 10,
        "exp": now + 7200,
        "jti": f"{number}-{now}",
    }
    print(jwt.encode({"alg": "ES256", "kid": "bench"}, claims, key))
