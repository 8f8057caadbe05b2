"""Command `python -m rollout`: wait for a release, and move traffic between its stable version and its canary.

`start` is the chart's Job; people type `visor rollout`.
"""

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from handlers.errors import VisorError
from rollout.cluster import Cluster
from rollout.flags import add_start, order_of
from rollout.shift import Shift, shift
from rollout.wait import Wait, wait

FAILED, NOT_PROMOTED = 1, 3
# The kubelet keeps this much of a container's last words.
MESSAGE_BYTES = 4096

logger = logging.getLogger("rollout")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a mistyped flag ends the process with a usage line."""
    parser = argparse.ArgumentParser(
        prog="python -m rollout",
        description="Wait for a release on Kubernetes, and move traffic between its stable version and its canary.",
        epilog="Exit codes: those of the command, see `python -m rollout COMMAND --help`.",
    )
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="COMMAND",
        help="the command to run; `python -m rollout COMMAND --help` describes it",
    )
    command = commands.add_parser(
        "shift",
        help="wait until the canary serves its archive, then give it its share of the requests",
        description="Wait until the canary serves its archive, then set the weights of the routes, of which one at least must "
        "be named with --httproute or --grpcroute. Logs what it waits for and each weight to standard error.",
        epilog="Exit codes: 0 all weights are set; 1 an error, logged to standard error: the canary failed, was not ready in "
        "time or a route is not as expected; 2 a mistyped command line, or no route; 143 ended by SIGTERM.",
    )
    command.add_argument(
        "--namespace", required=True, metavar="NAME", help="namespace of the InferenceService and the routes (required)"
    )
    command.add_argument("--inferenceservice", required=True, metavar="NAME", help="InferenceService of the canary (required)")
    command.add_argument(
        "--httproute",
        action="append",
        default=[],
        metavar="NAME",
        help="HTTPRoute whose weights are set, those of REST and of gRPC; may be given several times "
        "(default: none, then --grpcroute is required)",
    )
    command.add_argument(
        "--grpcroute",
        action="append",
        default=[],
        metavar="NAME",
        help="GRPCRoute whose weights are set, where gRPC has one; may be given several times "
        "(default: none, then --httproute is required)",
    )
    command.add_argument(
        "--canary-percent",
        type=_percent,
        required=True,
        metavar="N",
        help="percentage of the requests that the canary gets, 0 to 100; 0 does not wait until the canary serves (required)",
    )
    command.add_argument(
        "--archive", metavar="URI", help="storageUri that the canary must serve (default: whichever its InferenceService names)"
    )
    command.add_argument(
        "--timeout-s",
        type=float,
        default=240.0,
        metavar="S",
        help="seconds within which the canary must serve (default: %(default)s)",
    )
    command.add_argument(
        "--field-manager",
        default="helm",
        metavar="NAME",
        help="field manager that owns the routes in server-side apply (default: %(default)s)",
    )
    _add_termination_log(command)
    _add_wait(commands)
    command = commands.add_parser(
        "start",
        help="release the canary by evidence, step by step",
        description="Move a canary's share step by step, and promote it or roll it back by what it does. Goes on with the record "
        "of a release that was interrupted. Logs what it does to standard error.",
        epilog="Exit codes: 0 promoted; 3 rolled back, aborted or overtaken by another change; 1 an error, logged to standard "
        "error; 2 a mistyped command line; 143 ended by SIGTERM.",
    )
    add_start(command)
    _add_termination_log(command)
    args = parser.parse_args(argv)
    if args.command == "shift" and not (args.httproute or args.grpcroute):
        command.error("name a route: --httproute, --grpcroute or both")
    return args


def _add_wait(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "wait",
        help="wait until a release serves its archive on all of its pods, behind routes that the gateway has taken",
        description="Wait until all pods of a release are of what its InferenceService and ServingRuntime name now and are "
        "ready, and the gateway has taken the routes to them. Right after any scaling, by hand or by a scaler, in Standard and "
        "in Knative mode. Logs what it waits for to standard error.",
        epilog="Exit codes: 0 the release serves; 1 an error, logged to standard error: the release cannot start, as its pods or "
        "KServe say, was not ready in time, or the cluster refuses; 2 a mistyped command line; 143 ended by SIGTERM.",
    )
    command.add_argument(
        "name", metavar="NAME", help="the release: the name of its InferenceService; NAME-canary is its canary's"
    )
    command.add_argument("--namespace", required=True, metavar="NAME", help="namespace of the release (required)")
    command.add_argument(
        "--archive", metavar="URI", help="storageUri that the release must serve (default: whichever its InferenceService names)"
    )
    command.add_argument(
        "--digest",
        metavar="SHA256",
        help="digest that the release's pods must ask of their archive (default: whichever they ask, or none)",
    )
    command.add_argument(
        "--timeout-s",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds within which the release must serve (default: %(default)s)",
    )
    _add_termination_log(command)


def _add_termination_log(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--termination-log",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="FILE",
        help="file in which Kubernetes looks for a container's last error; written only if it exists (default: %(default)s)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 with a sentence on the errors that visor raises, 2 on a mistyped command."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="visor: %(message)s", stream=sys.stderr)
    # A container's first process does not end by a signal that it does not handle.
    signal.signal(signal.SIGTERM, _stop)
    try:
        with contextlib.closing(Cluster(args.namespace)) as cluster:
            return _run(cluster, args)
    except VisorError as err:
        logger.error("%s", err)  # noqa: TRY400 - the sentence says it, a traceback would bury it
        if args.termination_log.exists():
            args.termination_log.write_bytes(f"visor: {err}".encode()[:MESSAGE_BYTES])
        return FAILED


def _run(cluster: Cluster, args: argparse.Namespace) -> int:
    if args.command == "wait":
        wait(cluster, Wait(args.name, args.archive, args.digest, args.timeout_s))
        return 0
    if args.command == "start":
        return _start(cluster, args)
    order = Shift(
        service=args.inferenceservice,
        routes=(*(("HTTPRoute", name) for name in args.httproute), *(("GRPCRoute", name) for name in args.grpcroute)),
        percent=args.canary_percent,
        archive=args.archive,
        timeout_s=args.timeout_s,
        manager=args.field_manager,
    )
    shift(cluster, order)
    return 0


def _start(cluster: Cluster, args: argparse.Namespace) -> int:
    # NumPy is loaded for this command alone.
    from rollout import dry_run, record
    from rollout.run import run

    order = order_of(args)
    if args.dry_run:
        for line in dry_run.outlook(cluster, order):
            logger.info("%s", line)
        return 0
    ended = run(cluster, order)
    logger.info("%s", record.sentence(ended))
    return 0 if ended.state.phase == "promoted" else NOT_PROMOTED


def _percent(text: str) -> int:
    percent = int(text)
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a percentage from 0 to 100")
    return percent


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
