"""What the stand-ins of other people's servers have in common: a server on loopback that answers in JSON, and says nothing on the terminal."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(owner, handler, context=None):
    """Starts a server whose handlers know `owner`; behind TLS where there is a context for that."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: handler(owner, *arguments))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Answering(BaseHTTPRequestHandler):
    kind = "application/json"

    def __init__(self, owner, *arguments):
        self.owner = owner
        super().__init__(*arguments)

    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
