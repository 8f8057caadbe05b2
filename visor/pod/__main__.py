"""Command `python -m visor.pod`: run the serving container of a pod.

It is the container's first process. Signals reach it alone, so it drains and stops what it started. It reaps no strangers:
TorchServe reaps its own workers, and when TorchServe ends, so does this process, and the container with all that is in it.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from visor.pod.check import REFUSAL, WAITING, check

Number = TypeVar("Number", int, float)

FAILED = 1
# In Standard mode KServe's own status shows a container's last words only after the Deployment's progress deadline, ten
# minutes. What a failing probe prints is an event at once, so a refusal stays for as long as the next probe may take to come.
LINGER_S = 5.0
# The kubelet shows this much of a container's last words and cuts off the end.
MESSAGE_CHARACTERS = 4000


class Stopped(BaseException):
    """The container was told to stop before it served."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 when stopped, 1 with a sentence on the errors that visor raises."""
    args = parse_args(argv)
    if args.check:
        return check(args.inference_port, args.edge_port, args.work, args.check_s)
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    # Imported here: the liveness probe is a process of its own every few seconds, and needs nothing of this.
    import asyncio
    import logging
    import signal

    from handlers.errors import VisorError
    from visor.errors import ArchiveMissing, ServerEnded
    from visor.pod import intake, serving
    from visor.serving.ports import Ports

    # As the first process it would not end by a signal that it does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    logging.basicConfig(level=logging.INFO, format="visor: %(message)s", stream=sys.stderr)
    settings = serving.PodSettings(
        work=args.work,
        workers=args.workers,
        picture_bytes=args.picture_memory_mib and args.picture_memory_mib << 20,
        hang_s=args.hang_s,
        ports=Ports(args.inference_port, args.management_port, args.metrics_port),
        edge_ports=frozenset(args.edge_port),
        grace_s=args.grace_s,
    )
    refusal, waiting = args.work / REFUSAL, args.work / WAITING
    for left in (refusal, waiting):
        left.unlink(missing_ok=True)

    def say(err: VisorError) -> None:
        print(f"visor: {err}", file=sys.stderr, flush=True)
        leave_message(args.termination_log, f"visor: {err}")
        refusal.write_text(f"visor: {err}")

    try:
        try:
            archive = intake.publish_archive(args.models, args.public_key, args.work, args.wait_s, args.digest, args.uri)
            asyncio.run(serving.serve(archive, settings))
        except VisorError as err:
            say(err)
            # Once it has served, clients wait for the next start, and no probe for the reason of a refusal.
            time.sleep(0 if isinstance(err, ServerEnded) else args.linger_s)
            return FAILED
    except Stopped:
        if refusal.exists():
            return FAILED  # it was told to stop while it lingered
        if waiting.exists():
            say(ArchiveMissing(f"told to stop while {waiting.read_text()}"))
            return FAILED
        return 0
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m visor.pod",
        description="Verify the one archive of a pod and serve it by TorchServe, until SIGTERM or SIGINT. Logs to standard "
        "error, and TorchServe's own lines to standard output.",
        epilog="Exit codes: 0 stopped by a signal, or with --check, TorchServe answers; 1 an error, printed to standard error as "
        "`visor: CODE: sentence`, also where a signal comes before there is an archive, or with --check, no answer; 2 a mistyped "
        "command line.",
    )
    parser.add_argument(
        "--models",
        type=Path,
        default=Path("/mnt/models"),
        metavar="DIR",
        help="folder below which storage puts the archive and its signature (default: %(default)s)",
    )
    parser.add_argument(
        "--uri",
        default="",
        metavar="URI",
        help="address from which storage takes the archive, named where there is none (default: not named)",
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        default=Path("/etc/visor/visor.pub"),
        metavar="FILE",
        help="public key of the archive's signer (default: %(default)s)",
    )
    parser.add_argument(
        "--digest",
        metavar="SHA256",
        help="digest that the archive must have, 64 hexadecimal digits as `visor inspect` prints them; another archive of the "
        "same signer is refused (default: any archive that the key has signed)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("/run/visor"),
        metavar="DIR",
        help="folder of all the pod's containers, where the verified archive appears as archive/NAME.mar (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of TorchServe's workers (default: one per CPU of the container's limit, rounded down, 1 at least)",
    )
    parser.add_argument(
        "--picture-memory-mib",
        type=positive(int),
        metavar="MIB",
        help="MiB that each worker may take for one picture and its request, above what it has once the archive is loaded; a "
        "picture that takes more is answered image.too_large (default: what the archive's limits come to, 336 for 50 megapixels)",
    )
    parser.add_argument(
        "--hang-s",
        type=positive(float),
        default=10.0,
        metavar="S",
        help="seconds without an answer after which a worker is killed, so that TorchServe starts another; the edge has the "
        "same flag (default: %(default)s)",
    )
    parser.add_argument(
        "--wait-s",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds to wait for the archive to appear (default: %(default)s)",
    )
    parser.add_argument(
        "--edge-port",
        type=int,
        nargs="+",
        default=[8080, 8081],
        metavar="PORT",
        help="TCP ports of the edge; after SIGTERM, TorchServe runs on while the edge listens on them, clients are connected to "
        "them or the edge is connected to TorchServe (default: 8080 8081)",
    )
    parser.add_argument(
        "--grace-s",
        type=float,
        default=20.0,
        metavar="S",
        help="seconds after SIGTERM in which TorchServe waits for the edge at most (default: %(default)s)",
    )
    parser.add_argument(
        "--inference-port",
        type=int,
        default=8085,
        metavar="PORT",
        help="TCP port of TorchServe's inference API, on loopback (default: %(default)s)",
    )
    parser.add_argument(
        "--management-port",
        type=int,
        default=8086,
        metavar="PORT",
        help="TCP port of TorchServe's management API, on loopback (default: %(default)s)",
    )
    parser.add_argument(
        "--metrics-port",
        type=int,
        default=8082,
        metavar="PORT",
        help="TCP port of TorchServe's metrics, on loopback (default: %(default)s)",
    )
    parser.add_argument(
        "--termination-log",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="FILE",
        help="file in which Kubernetes looks for a container's last error; written only if it exists (default: %(default)s)",
    )
    parser.add_argument(
        "--linger-s",
        type=float,
        default=LINGER_S,
        metavar="S",
        help="seconds between an error and the end of the process, in which a probe that runs --check can report the error; none "
        "where TorchServe has ended by itself (default: %(default)s)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="start nothing, but ask TorchServe at --inference-port for /ping: exit with 0 after any answer within 5 s, else "
        "print the reason, which a missing or refused archive leaves in --work, and exit with 1 (default: serve)",
    )
    parser.add_argument(
        "--check-s",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds for which --check goes on asking a TorchServe that starts, and then waits for the edge to listen on the "
        "first --edge-port: a startup probe so fails for a reason only (default: it asks once)",
    )
    return parser


def positive(kind: type[Number]) -> Callable[[str], Number]:
    """Make a parser of numbers above 0, for argparse's `type`."""

    def number(text: str) -> Number:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a mistyped flag ends the process with a usage line."""
    return make_parser().parse_args(argv)


def leave_message(path: Path, sentence: str) -> None:
    """Write a container's last words; long ones are cut in the middle, as the beginning says what and the end says why."""
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
