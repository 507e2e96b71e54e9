"""A responder of OCSP that OpenSSL is: it reads the questions and makes the answers; this hands them over by HTTP."""

import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from standin import Answering, serve


class Handler(Answering):
    kind = "application/ocsp-response"

    def do_POST(self):
        question = self.rfile.read(int(self.headers["content-length"]))
        self.owner.asked.append((self.headers["content-type"], len(question)))
        body = self.owner.answered(question)
        self.send_response(200)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Responder:
    """Answers for one authority, with the authority's own key or by somebody with a certificate from it."""

    def __init__(self, authority, signer=None):
        self.folder, self.asked, self.status = Path(authority.folder.name), [], {}
        self.ca = self.folder / "ocsp-ca.pem"
        self.ca.write_text(authority.certificate)
        if signer is None:
            key = authority.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            (self.folder / "ocsp-ca.key").write_bytes(key)
            signer = [self.ca, self.folder / "ocsp-ca.key"]
        self.signer, self.more = signer, []
        self.server = serve(self, Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def knows(self, files, status="V"):
        """From now on a certificate is good (`V`) or revoked (`R`)."""
        serial = x509.load_pem_x509_certificate(Path(files[0]).read_bytes()).serial_number
        self.status[serial] = status

    def answered(self, question):
        index, request, answer = (self.folder / name for name in ("index.txt", "request.der", "answer.der"))
        lines = [f"{status}\t391231235959Z\t{'260101000000Z' if status == 'R' else ''}\t{serial:02X}\tunknown\t/CN=any\n" for serial, status in self.status.items()]
        index.write_text("".join(lines))
        request.write_bytes(question)
        command = ["openssl", "ocsp", "-index", index, "-CA", self.ca, "-rsigner", self.signer[0], "-rkey", self.signer[1]]
        command += ["-reqin", request, "-respout", answer, "-ndays", "1", *self.more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return answer.read_bytes()

    def close(self):
        self.server.shutdown()
