#!/usr/bin/env python3
"""Serves the sandbox's AWS API: `localcloud.py --listen 10.77.0.1:4566`. Ends cleanly on SIGTERM and SIGINT."""

import argparse
import signal
import sys
import threading
from types import FrameType


def main() -> int:
    arguments = parse_arguments()
    from localcloud.server import serve

    server = serve(*arguments.listen)

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
    return parser.parse_args()


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not IP:PORT")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
