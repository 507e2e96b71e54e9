"""A server behind TLS that asks for certificates, and an authority that makes them."""

import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


def loopback(name):
    """A certificate of 127.0.0.1 that vouches for itself, in PEM, and what a server needs to show it."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder().subject_name(named).issuer_name(named).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    certificate = made.sign(key, hashes.SHA256()).public_bytes(PEM).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        (Path(folder) / "pem").write_text(pem + certificate)
        context.load_cert_chain(Path(folder) / "pem")
    return certificate, context


class Authority:
    """Makes certificates of clients, each in a folder with its key."""

    def __init__(self, name):
        self.folder = tempfile.TemporaryDirectory()
        self.key, self.name, self.serial = ec.generate_private_key(ec.SECP256R1()), self.named(name), 1
        self.certificate = self.make(self.name, self.key, x509.BasicConstraints(True, 0)).public_bytes(PEM).decode()

    @staticmethod
    def named(name):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def make(self, name, key, extension):
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key()).serial_number(self.serial)
        made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        self.serial += 1
        return made.add_extension(extension, isinstance(extension, x509.BasicConstraints)).sign(self.key, hashes.SHA256())

    def issue(self, name, purpose=ExtendedKeyUsageOID.CLIENT_AUTH):
        """The files of a client's certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self.make(self.named(name), key, x509.ExtendedKeyUsage([purpose]))
        files = [str(Path(self.folder.name, f"{name}-{made.serial_number}.{kind}")) for kind in ("pem", "key")]
        Path(files[0]).write_bytes(made.public_bytes(PEM))
        Path(files[1]).write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return files

    def revoked(self, *files):
        """A list of these certificates in PEM."""
        now = datetime.datetime.now(datetime.timezone.utc)
        made = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now).next_update(now + datetime.timedelta(days=1))
        made = made.add_extension(x509.CRLNumber(1), False)
        for file in files:
            serial = x509.load_pem_x509_certificate(Path(file).read_bytes()).serial_number
            made = made.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build())
        return made.sign(self.key, hashes.SHA256()).public_bytes(PEM).decode()


class Behind:
    """The server, for as long as the block lasts."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url, self.token, self.ca = f"https://{address}", "root", str(Path(self.folder.name, "vault-ca.pem"))
        flags = ["-dev-tls", f"-dev-tls-cert-dir={self.folder.name}", f"-dev-root-token-id={self.token}", "-dev-no-store-token"]
        program = [os.environ["DAYPASS_BIN"], "server", "-dev", f"-dev-listen-address={address}", *flags]
        self.process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                context = ssl.create_default_context(cafile=self.ca)
                urllib.request.urlopen(f"{self.url}/v1/sys/health", context=context, timeout=5).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise RuntimeError("the server behind TLS does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.folder.cleanup()
