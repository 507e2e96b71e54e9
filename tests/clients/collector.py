"""A collector of OpenTelemetry behind TLS, whose protobuf others wrote, and a server of its own that sends its traces there."""

import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from certificates import loopback
from standin import Answering, serve


class Collector:
    """Asks for a second of patience first, and takes everything after that."""

    def __init__(self):
        self.certificate, context = loopback("the collector")
        self.requests, self.heads, self.raw, self.refused = [], [], b"", 0
        self.server = serve(self, Handler, context)
        self.url = f"https://127.0.0.1:{self.server.server_port}/v1/traces"

    def spans(self):
        groups = [group for request in self.requests for group in request.resource_spans]
        return [span for group in groups for scope in group.scope_spans for span in scope.spans]

    def traces(self):
        """The spans of each trace, by its id."""
        found = {}
        for span in self.spans():
            found.setdefault(span.trace_id.hex(), []).append(span)
        return found


class Handler(Answering):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.owner.heads.append((self.path, dict(self.headers.items())))
        if not self.owner.refused:
            self.owner.refused += 1
            return self.finish_with(503, b"", {"retry-after": "1"})
        self.owner.raw += body
        self.owner.requests.append(ExportTraceServiceRequest.FromString(body))
        return self.finish_with(200, ExportTraceServiceResponse().SerializeToString(), {})

    def finish_with(self, status, body, headers):
        self.send_response(status)
        for name, value in {"content-type": "application/x-protobuf", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Traced:
    """A server with a fake AWS inside that sends its traces to a collector, for as long as the block lasts."""

    def __init__(self, collector, token):
        self.collector, self.token = collector, token

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        config, trust, self.log = (Path(self.folder.name, name) for name in ("daypass.hcl", "trust.pem", "log"))
        config.write_text(f'telemetry {{\n  otlp_traces_endpoint = "{self.collector.url}"\n  otlp_traces_ratio = 1\n}}\n')
        trust.write_text(self.collector.certificate)
        flags = ["-dev", "-dev-no-store-token", "-dev-aws-sandbox", f"-dev-root-token-id={self.token}", f"-dev-listen-address={address}"]
        environment = {**os.environ, "SSL_CERT_FILE": str(trust), "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20for-the-collector"}
        with self.log.open("w") as log:
            program = [os.environ["DAYPASS_BIN"], "server", f"-config={config}", *flags]
            self.process = subprocess.Popen(program, env=environment, stdout=log, stderr=log)
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.url}/v1/sys/health", timeout=5).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise RuntimeError("the server with traces does not answer")

    def end(self):
        """Ends the server in order; gives what it said."""
        self.process.terminate()
        self.process.wait(30)
        return self.log.read_text()

    def __exit__(self, *_):
        self.end()
        self.folder.cleanup()
