"""`python -m visor.pod`: the serving container's command.

It is the container's first process. Signals reach it alone, so it drains and stops what it started. It reaps no strangers:
TorchServe reaps its own workers, and when TorchServe ends, so does this process, and the container with all that is in it.
"""

import argparse
import http.client
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

FAILED = 1
CHECK_TIMEOUT_S = 5.0
# In Standard mode KServe's own status tells of a container's last words only after the Deployment's progress deadline, ten
# minutes. What a failing probe prints is an event at once, so a refusal stays for as long as a probe needs to come by.
REFUSAL = "refusal"
LINGER_S = 5.0
# The kubelet shows this much of a container's last words and cuts off the end.
MESSAGE_CHARACTERS = 4000


class Stopped(BaseException):
    """The container was told to stop before it served."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 when stopped, 1 with a sentence on the errors that visor raises."""
    args = parse_args(argv)
    if args.check:
        return check(args.inference_port, args.work / REFUSAL)
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    # Imported here: the liveness probe is a process of its own every few seconds, and needs nothing of this.
    import asyncio
    import logging
    import signal
    import time

    from handlers.errors import VisorError
    from visor import torchserve
    from visor.pod import intake, serving

    # As the first process it would not end by a signal that it does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    logging.basicConfig(level=logging.INFO, format="visor: %(message)s", stream=sys.stderr)
    settings = serving.PodSettings(
        work=args.work,
        workers=args.workers or torchserve.cpu_limit(),
        ports=torchserve.Ports(args.inference_port, args.management_port, args.metrics_port),
        edge_ports=frozenset(args.edge_port),
        grace_s=args.grace_s,
    )
    refusal: Path = args.work / REFUSAL
    refusal.unlink(missing_ok=True)
    try:
        try:
            taken = intake.take(args.models, args.public_key, args.work, args.wait_s)
            asyncio.run(serving.serve(taken, settings))
        except VisorError as err:
            print(f"visor: {err}", file=sys.stderr, flush=True)
            leave_message(args.termination_log, f"visor: {err}")
            refusal.write_text(f"visor: {err}")
            time.sleep(args.linger_s)
            return FAILED
    except Stopped:
        return 0
    return 0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; a mistyped flag ends the process with a usage line."""
    parser = argparse.ArgumentParser(prog="visor.pod", description="Serve the one archive of a pod by TorchServe.")
    parser.add_argument("--models", type=Path, default=Path("/mnt/models"), help="where storage puts it (%(default)s)")
    parser.add_argument("--public-key", type=Path, default=Path("/etc/visor/visor.pub"), help="its signer's (%(default)s)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("/run/visor"),
        help="a folder that the pod's containers share; the verified archive appears in it, as archive/NAME.mar (%(default)s)",
    )
    parser.add_argument("--workers", type=int, help="processes that answer (one for each CPU of the container's limit)")
    parser.add_argument("--wait-s", type=float, default=300.0, help="for the archive to appear (%(default)s)")
    parser.add_argument(
        "--edge-port",
        type=int,
        nargs="+",
        default=[8080, 8081],
        metavar="PORT",
        help="the edge's ports; at the end, TorchServe stays until nobody is connected to them (8080 8081)",
    )
    parser.add_argument("--grace-s", type=float, default=20.0, help="but no longer than this (%(default)s)")
    parser.add_argument("--inference-port", type=int, default=8085, help="TorchServe's, on loopback (%(default)s)")
    parser.add_argument("--management-port", type=int, default=8086, help="TorchServe's, on loopback (%(default)s)")
    parser.add_argument("--metrics-port", type=int, default=8082, help="TorchServe's, on loopback (%(default)s)")
    parser.add_argument(
        "--termination-log",
        type=Path,
        default=Path("/dev/termination-log"),
        help="where Kubernetes looks for a container's last words; written if it is there (%(default)s)",
    )
    parser.add_argument(
        "--linger-s", type=float, default=LINGER_S, help="after an error, for a probe to come by and report it (%(default)s)"
    )
    parser.add_argument(
        "--check", action="store_true", help="end with 0 if TorchServe answers, else say why and end with 1; starts nothing"
    )
    return parser.parse_args(argv)


def check(port: int, refusal: Path) -> int:
    """0 if TorchServe answers, else 1; what it prints becomes an event of the pod's."""
    if is_alive(port):
        return 0
    print(refusal.read_text() if refusal.exists() else f"TorchServe does not answer on 127.0.0.1:{port}")
    return FAILED


def is_alive(port: int) -> bool:
    """Whether TorchServe answers /ping, in whatever words: a worker that is started again is no reason to stop the others."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CHECK_TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def leave_message(path: Path, sentence: str) -> None:
    """Write a container's last words; of long ones the beginning, which says what, and the end, which says why."""
    if not path.exists():
        return
    if len(sentence) > MESSAGE_CHARACTERS:
        half = MESSAGE_CHARACTERS // 2
        sentence = f"{sentence[:half]}\n...\n{sentence[-half:]}"
    path.write_text(sentence)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
