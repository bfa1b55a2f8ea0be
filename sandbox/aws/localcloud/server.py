"""The HTTP server, and the order in which moto is loaded and mended."""

import gc
import os
import socket
import socketserver
import ssl
from pathlib import Path

from werkzeug.serving import ThreadedWSGIServer

# moto reads these when it is imported. The account's id must not depend on the caller's key.
os.environ["MOTO_ACCOUNT_ID"] = "123456789012"
os.environ.pop("MOTO_AMIS_PATH", None)
# moto asks boto3 for lists of regions; it must ask neither the user's configuration nor a metadata service.
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ.pop("AWS_PROFILE", None)

from . import offerings

offerings.postpone()

from moto.moto_server.werkzeug_app import MotoRequestHandler  # noqa: E402

from . import cloudwatch, images, key_pairs, launch, lifecycle, network, network_acls, resize, s3, security_groups, ssm  # noqa: E402
from .front import Front  # noqa: E402

IDLE_SECONDS = 30  # AWS's services close a connection on which nothing comes for some time, too


class Handler(MotoRequestHandler):
    """Sends answers at once instead of waiting to fill packets, and logs nothing: requests carry signatures."""

    disable_nagle_algorithm = True

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def handle_expect_100(self) -> bool:
        return True  # run_wsgi answers 100 Continue; once is enough

    def run_wsgi(self) -> None:
        """Answers one request and keeps the connection for the next, as AWS does; werkzeug's own closes each."""
        if self.headers.get("Expect", "").strip().lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.environ = environ = self.make_environ()
        answer: list[tuple[str, list[tuple[str, str]]]] = []
        body = self.server.app(environ, lambda status, headers, _=None: answer.append((status, headers)))
        try:
            # An unread rest of the request's body would be taken for the next request.
            self.close_connection = self.close_connection or "Transfer-Encoding" in self.headers
            content = b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()
        status, headers = answer[-1]
        code, _, message = status.partition(" ")
        self.send_response(int(code), message)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in names and self.command != "HEAD" and int(code) not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def log_request(self, *_: object) -> None:
        pass


class Server(ThreadedWSGIServer):
    """One thread a connection, daemons all, so that the end of the process waits for none of them."""

    def server_bind(self) -> None:
        # The standard library asks a name server for the address's name here. Nothing may leave the computer.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


class TlsServer(Server):
    """The server over https. Each connection's thread does its own handshake, so a slow one delays nobody."""

    def __init__(self, address: tuple[str, int], front: Front, certificate: Path, key: Path):
        super().__init__(*address, front, handler=Handler)
        self.ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ssl_context.load_cert_chain(certificate, key)

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        try:
            wrapped = self.ssl_context.wrap_socket(request, server_side=True)
        except OSError:
            return  # a client that does not trust the certificate disconnects
        with wrapped:
            super().finish_request(wrapped, client_address)


def prepare() -> Front:
    """The application, once for all listeners."""
    for part in (offerings, network, network_acls, lifecycle, launch, resize, key_pairs, security_groups, images, s3, ssm, cloudwatch):
        part.install()
    gc.freeze()  # what is loaded now stays; collections need not look at it again
    return Front()


def serve(address: tuple[str, int], front: Front) -> Server:
    """A server that listens; the caller runs it."""
    return Server(*address, front, handler=Handler)
