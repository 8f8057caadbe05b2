"""The command line of `python -m loadtests`, checked as a whole before anything is sent."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from loadtests.errors import FlagsWrong
from loadtests.shapes import Shape, load_shape
from loadtests.slo import DEFAULT

# By name, as loadtests.clients has them; this module must be importable without locust.
REST_PROTOCOLS, GRPC_PROTOCOLS = ("rest-json", "rest-binary"), ("grpc",)
MOST_SECONDS, MOST_PER_SECOND, MOST_USERS = 3600.0, 2000.0, 256
RATE, USERS, CAPACITY_USERS = 20.0, 4, 8
SECONDS, OVERLOAD_SECONDS = 30.0, 75.0


@dataclass(frozen=True)
class Options:
    """What to run. `rest` and `grpc`: HOST:PORT or empty, both empty for a server of our own.

    `rate`: requests a second of an open loop, all protocols together; None for a closed one, and where it is measured first.
    `users`: of the closed loop, which an overload's capacity is measured in, too.
    """

    rest: str
    grpc: str
    host: str
    model: str
    protocols: tuple[str, ...]
    shape: Shape
    shape_name: str
    rate: float | None
    users: int
    duration_s: float
    even: bool
    seed: int
    explain: float
    pictures: Path | None
    timeout_s: float
    slo: Path
    out: Path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagsWrong(f"{message}; see --help")


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Raises FlagsWrong, ShapeInvalid."""
    args = _parser().parse_args(argv)
    shape = load_shape(args.shape)
    overload = shape.of == "capacity"
    closed = args.loop == "closed"
    rest = address(args.url) if args.url else ""
    if args.grpc and (":" not in args.grpc or "/" in args.grpc):
        raise FlagsWrong(f"--grpc {args.grpc!r} is not HOST:PORT")
    if closed and args.rate is not None:
        raise FlagsWrong("--rate is of an open loop; a closed one has --users")
    if not closed and args.users is not None and not overload:
        raise FlagsWrong("--users is of a closed loop; an open one has --rate")
    if overload and (closed or args.rate is not None):
        raise FlagsWrong(
            f"--shape {args.shape} is an open loop at a rate that is measured first: neither --rate nor --loop closed"
        )
    return Options(
        rest=rest,
        grpc=args.grpc,
        host=args.host_header,
        model=args.model,
        protocols=_protocols(args.protocol, rest, args.grpc),
        shape=shape,
        shape_name=args.shape,
        rate=None if closed or overload else args.rate or RATE,
        users=args.users or (CAPACITY_USERS if overload else USERS),
        duration_s=args.duration or (OVERLOAD_SECONDS if overload else SECONDS),
        even=args.arrivals == "even",
        seed=args.seed,
        explain=args.explain,
        pictures=args.pictures,
        timeout_s=args.timeout,
        slo=args.slo,
        out=args.out,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m loadtests", description="Load a V2 server, look at every answer, and judge by the SLO.")
    where = parser.add_argument_group("where to send")
    where.add_argument(
        "--url", default="", help="REST, http://HOST:PORT; without it and --grpc, visor serve of the newest archive"
    )
    where.add_argument("--grpc", default="", metavar="HOST:PORT", help="gRPC")
    where.add_argument("--host-header", default="", metavar="NAME", help="which of a gateway's servers: Host, gRPC's authority")
    where.add_argument("--model", default="", help="its name (default: the only one)")
    what = parser.add_argument_group("what to send")
    names = ", ".join((*REST_PROTOCOLS, *GRPC_PROTOCOLS))
    what.add_argument("--protocol", default="all", help=f"comma-separated: {names}; or all (default: all that have an address)")
    what.add_argument("--pictures", type=Path, metavar="FOLDER", help="pictures to send (default: generated roofs)")
    what.add_argument("--explain", type=_number(0, 1), default=0.25, help="share that asks for a heat map (default: %(default)s)")
    when = parser.add_argument_group("when")
    when.add_argument("--loop", choices=("open", "closed"), default="open", help="default: %(default)s")
    when.add_argument("--shape", default="steady", help="steady, ramp, spike, overload or a .yaml file (default: %(default)s)")
    when.add_argument("--rate", type=_number(0.1, MOST_PER_SECOND), help=f"open loop: requests a second (default: {RATE:g})")
    when.add_argument("--users", type=_whole(1, MOST_USERS), help=f"closed loop: users (default: {USERS})")
    when.add_argument(
        "--duration", type=_number(1, MOST_SECONDS), help=f"seconds (default: {SECONDS:g}, overload {OVERLOAD_SECONDS:g})"
    )
    when.add_argument("--arrivals", choices=("poisson", "even"), default="poisson", help="open loop (default: %(default)s)")
    when.add_argument("--seed", type=int, default=0, help="of the arrivals (default: %(default)s)")
    when.add_argument("--timeout", type=_number(0.1, 60), default=10.0, help="seconds for one request (default: %(default)s)")
    result = parser.add_argument_group("result")
    result.add_argument("--slo", type=Path, default=DEFAULT, help="the bounds (default: loadtests/slo.yaml)")
    result.add_argument("--out", type=Path, default=Path("runs/loadtest"), help="the report's folder (default: %(default)s)")
    return parser


def _protocols(text: str, rest: str, grpc: str) -> tuple[str, ...]:
    own_server = not rest and not grpc
    possible = (REST_PROTOCOLS if rest or own_server else ()) + (GRPC_PROTOCOLS if grpc or own_server else ())
    if text == "all":
        return possible
    chosen = tuple(dict.fromkeys(text.split(",")))
    for name in chosen:
        if name not in REST_PROTOCOLS + GRPC_PROTOCOLS:
            raise FlagsWrong(f"--protocol {name!r} is none of {', '.join(REST_PROTOCOLS + GRPC_PROTOCOLS)}")
        if name not in possible:
            raise FlagsWrong(f"--protocol {name} needs {'--grpc' if name in GRPC_PROTOCOLS else '--url'}")
    return chosen


def address(url: str) -> str:
    """HOST:PORT of an http:// address. Raises FlagsWrong for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.netloc or parts.path.strip("/") or parts.query:
        raise FlagsWrong(f"--url {url!r} is not http://HOST:PORT")
    return parts.netloc


def _number(low: float, high: float) -> Any:
    def number(text: str) -> float:  # argparse shows the name
        value = float(text)
        if not low <= value <= high:  # NaN, too
            raise argparse.ArgumentTypeError(f"{text} is not within {low:g} and {high:g}")
        return value

    return number


def _whole(low: int, high: int) -> Any:
    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not within {low} and {high}")
        return value

    return integer
