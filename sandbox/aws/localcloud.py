#!/usr/bin/env python3
"""Serves the sandbox's AWS API: `localcloud.py --listen 10.77.0.1:4566`, and over https too if it has a
certificate. Ends cleanly on SIGTERM and SIGINT."""

import argparse
import signal
import sys
import threading
from pathlib import Path
from types import FrameType


def main() -> int:
    arguments = parse_arguments()
    from localcloud.server import TlsServer, prepare, serve

    front = prepare()
    server = serve(arguments.listen, front)
    if arguments.listen_tls is not None:
        tls = TlsServer(arguments.listen_tls, front, arguments.certificate, arguments.key)
        threading.Thread(target=tls.serve_forever, daemon=True).start()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the serving loop, which runs in this very thread.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"serving the AWS API on http://{arguments.listen[0]}:{server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()
    server.server_close()
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", type=address, required=True, metavar="IP:PORT", help="where to serve")
    parser.add_argument("--listen-tls", type=address, metavar="IP:PORT", help="where to serve https as well")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="PEM, with --listen-tls")
    parser.add_argument("--key", type=Path, metavar="FILE", help="PEM, with --listen-tls")
    arguments = parser.parse_args()
    if arguments.listen_tls is not None and not (arguments.certificate and arguments.key):
        parser.error("--listen-tls needs --certificate and --key")
    return arguments


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not IP:PORT")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
