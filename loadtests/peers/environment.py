"""The Python that runs a peer: `python -m loadtests.peers.environment NAME` makes its environment and prints its python.

A peer with a requirements.txt has an environment of its own, below ${XDG_CACHE_HOME:-~/.cache}/visor/peers and keyed by the
lock's digest: made once, and made anew where the lock changes. A peer without runs in this one.
"""

import argparse
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent
ROOT = PEERS.parents[1]
PYTHON = "3.11"


class EnvironmentFailed(Exception):
    """A peer's environment could not be made; the message has uv's last words."""


def peer_names() -> list[str]:
    """The peers that there are."""
    return sorted(server.parent.name for server in PEERS.glob("*/server.py"))


def python_of(name: str) -> Path:
    """The python that runs a peer, its packages installed. Raises EnvironmentFailed."""
    lock = PEERS / name / "requirements.txt"
    return make(f"peers/{name}", lock) if lock.exists() else Path(sys.executable)


def make(name: str, lock: Path) -> Path:
    """The python of an environment with what a lock file lists, below visor's caches. Raises EnvironmentFailed."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visor" / f"{name}-{digest}"
    python, done = home / "bin" / "python", home / ".installed"
    if not done.exists():
        _uv("venv", "--python", PYTHON, "--clear", str(home))
        _uv("pip", "install", "--python", str(python), "--require-hashes", "--no-deps", "--requirement", str(lock))
        done.touch()
    return python


def environment_of() -> dict[str, str]:
    """This process's environment with `handlers` and `loadtests` importable: peers run the checkout's own decoding."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free just now, for servers that cannot say which one they took."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentFailed(f"uv {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr.strip()}")


def main(argv: list[str] | None = None) -> int:
    """Print the path of a peer's python."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.peers.environment",
        description="Make the Python environment of a server that visor is compared with, and print the path of its python. "
        "It lies below $XDG_CACHE_HOME/visor/peers (~/.cache without the variable), is made once, which downloads packages, "
        "and anew when the server's requirements change; a server without requirements of its own runs in this Python.",
        epilog="Exit codes: 0 the environment is there; 1 it could not be made, with a traceback; 2 a mistyped command line.",
    )
    parser.add_argument("name", choices=peer_names(), help="name of the server, which is its folder in loadtests/peers")
    sys.stdout.write(f"{python_of(parser.parse_args(argv).name)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
