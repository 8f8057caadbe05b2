"""Command `python -m transformer`: run the edge alone, beside a TorchServe that runs already, as in its own container."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from archives.contents import read_reference, read_spec
from handlers.errors import VisorError
from transformer.request_log import json_handler
from transformer.server import serve_edge, stop_on_signals
from transformer.settings import EdgeSettings, Listening, default_track
from transformer.waiting import wait_for_archive

logger = logging.getLogger("transformer")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line, with every flag of the edge."""
    parser = argparse.ArgumentParser(
        prog="python -m transformer",
        description="Serve one archive over the Open Inference Protocol (V2), REST and gRPC, in front of a running TorchServe. "
        "Logs lines of JSON to standard error and runs until SIGTERM, SIGINT or SIGHUP.",
        epilog="Exit codes: 0 stopped by a signal, open requests answered; 1 it could not start, for the reason logged; "
        "2 a mistyped command line.",
    )
    parser.add_argument(
        "--archive",
        type=Path,
        required=True,
        metavar="FILE|DIR",
        help="archive (.mar) that TorchServe serves, or a folder, in which the edge waits for an archive without a limit of "
        "time; several archives in it are an error",
    )
    EdgeSettings.add_flags(parser)
    parser.set_defaults(track=default_track())
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a mistyped flag ends the process with a usage line."""
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; 0 when drained, 1 when the edge could not start."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, handlers=[json_handler()])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(args.archive, EdgeSettings.from_args(args)))
    except VisorError as err:
        logger.error("%s", err)  # noqa: TRY400 - the sentence says it, a traceback would bury it
        return 1
    return 0


async def _serve(place: Path, settings: EdgeSettings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    archive = place if place.is_file() or place.suffix == ".mar" else await wait_for_archive(place, stop)
    if archive is None:
        return  # stopped before there was anything to serve
    spec, digest = read_spec(archive)
    reference = read_reference(archive)

    def announce(where: Listening) -> None:
        grpc = f", gRPC on {where.grpc_address}" if where.grpc_address else ""
        logger.info("%s version %s: REST on %s%s", spec.name, spec.version, where.http_address, grpc)

    await serve_edge(spec, digest, settings, announce, stop, reference)


if __name__ == "__main__":
    sys.exit(main())
