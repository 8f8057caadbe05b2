"""Command `python -m transformer.check`: the edge's startup probe, which waits for the edge rather than failing at once.

Each failure of a probe is a warning event, and an edge that loads its archive as it should is no reason for one. It is a process
of its own, so it imports next to nothing.
"""

import argparse
import http.client
import sys
import time
from collections.abc import Sequence

FAILED = 1
TIMEOUT_S = 2.0
POLL_S = 0.2


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a mistyped flag ends the process with a usage line."""
    parser = argparse.ArgumentParser(
        prog="python -m transformer.check",
        description="Wait until the edge of this machine lives, and for the rest of the time until it is ready.",
        epilog="Exit codes: 0 it lives, ready or not; 1 it does not, and standard output says so; 2 a mistyped command line.",
    )
    parser.add_argument(
        "--http-port", type=int, default=8080, metavar="PORT", help="TCP port of the edge's REST (default: %(default)s)"
    )
    parser.add_argument("--wait-s", type=float, default=0.0, metavar="S", help="seconds to wait (default: it asks once)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0 once the edge is ready, or where it lives at the end of the time; else 1."""
    args = parse_args(argv)
    deadline = time.monotonic() + args.wait_s
    while not answers(args.http_port, "/v2/health/ready"):
        if time.monotonic() + POLL_S >= deadline:
            if answers(args.http_port, "/v2/health/live"):
                return 0
            print(f"the edge does not answer on 127.0.0.1:{args.http_port}")  # noqa: T201 - Kubernetes makes an event of it
            return FAILED
        time.sleep(POLL_S)
    return 0


def answers(port: int, path: str) -> bool:
    """Whether the edge answers a GET with success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
