"""`python -m transformer`: the edge alone, as the container of it runs, beside a TorchServe that someone else starts."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from handlers.archive import read_archive
from handlers.errors import VisorError
from handlers.spec import MIB
from transformer.archive import wait_for_archive
from transformer.request_log import LEVELS, json_handler
from transformer.server import serve_edge
from transformer.settings import Bound, EdgeSettings, default_track

logger = logging.getLogger("transformer")

# Longer than a gRPC connection lives: in a pod there is time for everybody to leave.
DRAIN_S = 1.2 * EdgeSettings.grpc_age_s


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; a mistyped flag ends the process with a usage line."""
    default = {name: field.default for name, field in EdgeSettings.__dataclass_fields__.items()}
    parser = argparse.ArgumentParser(prog="transformer", description=__doc__)
    parser.add_argument(
        "--archive", type=Path, required=True, help="the .mar that TorchServe serves, or a folder to wait in until it holds one"
    )
    parser.add_argument(
        "--track", default=default_track(), help="stable or canary, for answers and metrics (VISOR_TRACK, or none)"
    )
    parser.add_argument(
        "--protocol", choices=("both", "rest", "grpc"), default="both", help="rest: no gRPC; REST is always there (%(default)s)"
    )
    parser.add_argument("--torchserve", default=default["inference_url"], help="TorchServe's inference API (%(default)s)")
    parser.add_argument("--management", default=default["management_url"], help="TorchServe's management API (%(default)s)")
    parser.add_argument(
        "--worker-sockets", type=Path, metavar="DIR", help="where its workers listen for the edge (none: go through TorchServe)"
    )
    parser.add_argument("--host", default=default["host"], help="address to listen on (%(default)s)")
    parser.add_argument("--http-port", type=int, default=default["http_port"], help="REST; 0 for a free one (%(default)s)")
    parser.add_argument("--grpc-port", type=int, default=default["grpc_port"], help="gRPC; 0 for a free one (%(default)s)")
    parser.add_argument("--max-body-mib", type=int, default=64, help="largest request (%(default)s)")
    parser.add_argument("--max-images", type=int, default=default["max_images"], help="images in one request (%(default)s)")
    parser.add_argument(
        "--concurrency", type=int, help="calls to TorchServe at once (one for each worker that is asked directly, else two)"
    )
    parser.add_argument(
        "--max-queue", type=int, help="images that may wait; more are refused (32 a worker, and not below --max-images)"
    )
    parser.add_argument("--timeout-s", type=float, default=default["timeout_s"], help="for one request (%(default)s)")
    parser.add_argument(
        "--cache-images",
        type=int,
        default=default["cache_images"],
        help="answers that are kept for images that come again; 0 for none (%(default)s)",
    )
    parser.add_argument(
        "--request-log", choices=LEVELS, default=default["request_log"], help="which requests get a line (%(default)s)"
    )
    parser.add_argument("--grpc-age-s", type=float, default=default["grpc_age_s"], help="of a gRPC connection (%(default)s)")
    parser.add_argument("--grace-s", type=float, default=default["grace_s"], help="to finish in, after SIGTERM (%(default)s)")
    parser.add_argument("--drain-s", type=float, default=DRAIN_S, help="of it, for clients to leave by themselves (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 when drained, 1 when the edge could not start."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, handlers=[json_handler()])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(args))
    except VisorError as err:
        logger.error("%s", err)  # noqa: TRY400 - the sentence says it, a traceback would bury it
        return 1
    return 0


async def _serve(args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    is_file = args.archive.is_file() or args.archive.suffix == ".mar"
    archive = args.archive if is_file else await wait_for_archive(args.archive, stop)
    if archive is None:
        return  # stopped before there was anything to serve
    spec, digest = read_archive(archive)
    settings = EdgeSettings(
        spec=spec,
        archive_digest=digest,
        inference_url=args.torchserve,
        management_url=args.management,
        worker_sockets=args.worker_sockets,
        host=args.host,
        http_port=args.http_port,
        grpc_port=None if args.protocol == "rest" else args.grpc_port,
        track=args.track,
        max_body_bytes=args.max_body_mib * MIB,
        max_images=args.max_images,
        concurrency=args.concurrency,
        max_queue=args.max_queue,
        timeout_s=args.timeout_s,
        cache_images=args.cache_images,
        request_log=args.request_log,
        grace_s=args.grace_s,
        drain_s=args.drain_s,
        grpc_age_s=args.grpc_age_s,
    )

    def announce(bound: Bound) -> None:
        grpc = "" if bound.grpc_port is None else f", gRPC on {bound.host}:{bound.grpc_port}"
        logger.info("%s version %s: REST on %s:%d%s", spec.name, spec.version, bound.host, bound.http_port, grpc)

    await serve_edge(settings, announce, stop)


if __name__ == "__main__":
    sys.exit(main())
