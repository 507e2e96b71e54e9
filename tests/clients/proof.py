"""What every session in Python does: say what it proves, count, and never print a secret."""

import os
import sys

SERVER = os.environ["VAULT_ADDR"]
TOKEN = os.environ["VAULT_TOKEN"]
# The fake AWS. Without it, sessions leave their AWS part out and say so: that is for trying them against other servers.
SANDBOX = os.environ.get("AWS_SANDBOX")


class Proof:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.secrets = []

    def __call__(self, sentence, holds, seen=""):
        if holds:
            self.passed += 1
            print(f"ok    {sentence}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {sentence}: saw {self.hide(seen)}", flush=True)
        return holds

    def raises(self, sentence, kind, action):
        """Proves that an action is refused with that kind of exception."""
        try:
            self(sentence, False, action())
        except kind as refusal:
            self(sentence, True)
            return refusal
        except Exception as other:  # Any other exception is the finding.
            self(sentence, False, repr(other))
        return None

    def secret(self, value):
        if value:
            self.secrets.append(value)
        return value

    def hide(self, seen):
        text = str(seen)
        for secret in self.secrets:
            text = text.replace(secret, "<secret>")
        return text.strip()[:1500]

    def end(self):
        if SANDBOX is None:
            print("      left out: everything with AWS, because AWS_SANDBOX names no fake AWS")
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)
