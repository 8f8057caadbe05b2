"""The command line of `python -m loadtests`, checked as a whole before anything is sent."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

from loadtests.errors import FlagsWrong
from loadtests.shapes import Shape, load_shape
from loadtests.slo import DEFAULT

# By name, as loadtests.clients has them; this module must be importable without locust.
REST_PROTOCOLS, GRPC_PROTOCOLS = ("rest-json", "rest-binary"), ("grpc",)
MOST_SECONDS, MOST_PER_SECOND, MOST_USERS = 3600.0, 2000.0, 256
RATE, USERS, CAPACITY_USERS = 20.0, 4, 8
SECONDS, OVERLOAD_SECONDS, STEP_SECONDS, SOAK_SECONDS = 30.0, 75.0, 20.0, 1800.0
SHARE = 0.7
Search = Literal["capacity", "soak"]


@dataclass(frozen=True)
class Options:
    """Says what to send, where to and when. `rest`, `grpc`: HOST:PORT or empty; both are empty where the test starts a server.

    `rate`: requests a second in an open loop, all protocols together; None in a closed loop, and where it is measured first.
    `users`: users in a closed loop, which also measures the capacity before an overload. `search`: "capacity" searches the
    highest rate within the SLO, in steps of `duration_s`; "soak" runs for `duration_s` at `rate`, or else at `share` of that
    capacity, which it then searches first. `pid`: the server's first process on this machine, where it is known.
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
    search: Search | None = None
    share: float = SHARE
    pid: int | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagsWrong(f"{message}; see --help")


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Parse and check the whole command line. Raises FlagsWrong, ShapeInvalid."""
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
    search: Search | None = "capacity" if args.find_capacity else "soak" if args.soak else None
    if search and (closed or args.shape != "steady"):
        raise FlagsWrong(
            f"--{'soak' if args.soak else 'find-capacity'} is an open loop at steady rates, without --loop and --shape"
        )
    if search == "capacity" and args.rate is not None:
        raise FlagsWrong("--find-capacity searches the rate; leave out --rate")
    if args.share is not None and (search != "soak" or args.rate is not None):
        raise FlagsWrong("--share is of a --soak without --rate")
    seconds = {"capacity": STEP_SECONDS, "soak": SOAK_SECONDS, None: OVERLOAD_SECONDS if overload else SECONDS}[search]
    return Options(
        rest=rest,
        grpc=args.grpc,
        host=args.host_header,
        model=args.model,
        protocols=_protocols(args.protocol, rest, args.grpc),
        shape=shape,
        shape_name=args.shape,
        rate=args.rate if search else None if closed or overload else args.rate or RATE,
        users=args.users or (CAPACITY_USERS if overload or search else USERS),
        duration_s=args.duration or seconds,
        even=args.arrivals == "even",
        seed=args.seed,
        explain=args.explain,
        pictures=args.pictures,
        timeout_s=args.timeout,
        slo=args.slo,
        out=args.out,
        search=search,
        share=args.share or SHARE,
        pid=args.pid,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m loadtests",
        description="Send pictures to a V2 inference server, check every answer, and judge the run by an SLO. Prints the figures "
        "and the verdict, and writes report.html, report.json and samples.csv into --out.",
        epilog="Exit codes: 0 the SLO is met; 1 it is violated; 2 no test was made, for the reason printed; 130 interrupted.",
    )
    where = parser.add_argument_group("where to send")
    where.add_argument(
        "--url",
        default="",
        metavar="http://HOST:PORT",
        help="address of the server's REST API (default: none; without --grpc, too, `visor serve` serves the newest archive of "
        "./model-store for the test, verified by keys/visor.pub; where there is none, a small network is trained first, in "
        "half a minute)",
    )
    where.add_argument("--grpc", default="", metavar="HOST:PORT", help="address of the server's gRPC API (default: none)")
    where.add_argument(
        "--host-header",
        default="",
        metavar="NAME",
        help="host name, sent as HTTP's Host and gRPC's authority, that selects one of the servers behind a gateway; "
        "without effect where neither --url nor --grpc is given (default: the address's own)",
    )
    where.add_argument(
        "--model", default="", metavar="NAME", help="name of the model on the server (default: the only model that it has)"
    )
    what = parser.add_argument_group("what to send")
    names = ", ".join((*REST_PROTOCOLS, *GRPC_PROTOCOLS))
    what.add_argument(
        "--protocol",
        default="all",
        metavar="NAME,...",
        help=f"protocols to use, separated by commas: {names}; or all, which takes those that have an address, or "
        "all three where neither --url nor --grpc is given (default: all)",
    )
    what.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="folder of pictures to send, searched at any depth; the first 500 are taken, and more than 256 MiB of them "
        "are an error (default: roofs in three sizes, generated at the first run in about 20 s)",
    )
    what.add_argument(
        "--explain",
        type=_number(0, 1),
        default=0.25,
        metavar="SHARE",
        help="share of the requests, from 0 to 1, that ask for a heat map (default: %(default)s)",
    )
    when = parser.add_argument_group("when to send")
    when.add_argument(
        "--loop",
        choices=("open", "closed"),
        default="open",
        help="open: requests are sent at the times that --rate and --shape give, whether or not earlier ones are answered; "
        "closed: each user sends the next request once the last is answered (default: %(default)s)",
    )
    when.add_argument(
        "--shape",
        default="steady",
        metavar="NAME|FILE",
        help="how the load changes over the run, in multiples of --rate or --users: steady (1), ramp (0.1 up to 1), spike (0.5, "
        "for a moment 3); or of the capacity, which is measured first: overload (3, then 0.5); or a .yaml file like those in "
        "loadtests/shapes (default: %(default)s)",
    )
    when.add_argument(
        "--rate",
        type=_number(0.1, MOST_PER_SECOND),
        metavar="NUMBER",
        help=f"requests a second in an open loop, all protocols together, 0.1 to {MOST_PER_SECOND:g}, which --shape multiplies; "
        f"an error with --loop closed, --find-capacity and --shape overload (default: {RATE:g}; with --soak, --share of the "
        "capacity)",
    )
    when.add_argument(
        "--users",
        type=_whole(1, MOST_USERS),
        metavar="NUMBER",
        help=f"number of users in a closed loop, 1 to {MOST_USERS}, which --shape multiplies, and of which each protocol gets "
        f"one at least; an error with --loop open, but for overload (default: {USERS}; {CAPACITY_USERS} for the capacity that "
        f"overload measures)",
    )
    when.add_argument(
        "--duration",
        type=_number(1, MOST_SECONDS),
        metavar="SECONDS",
        help=f"length of the run in seconds, 1 to {MOST_SECONDS:g}, without the up to 10 s in which overload measures the "
        f"capacity before; with --find-capacity, of each rate that is tried (default: {SECONDS:g}; {OVERLOAD_SECONDS:g} for "
        f"overload, {STEP_SECONDS:g} with --find-capacity, {SOAK_SECONDS:g} with --soak)",
    )
    when.add_argument(
        "--arrivals",
        choices=("poisson", "even"),
        default="poisson",
        help="spacing of an open loop's requests: at random, as from many independent clients, or even (default: %(default)s)",
    )
    when.add_argument(
        "--seed", type=int, default=0, help="seed of the poisson arrivals, and of nothing else (default: %(default)s)"
    )
    when.add_argument(
        "--timeout",
        type=_number(0.1, 60),
        default=10.0,
        metavar="SECONDS",
        help="seconds, 0.1 to 60, after which a request without an answer has failed (default: %(default)g)",
    )
    found = parser.add_argument_group("capacity and soak")
    either = found.add_mutually_exclusive_group()
    either.add_argument(
        "--find-capacity",
        action="store_true",
        help="search the highest rate at which the server keeps the SLO, within 5 %%, in 12 steps at most; the report has each "
        "rate, and what the capacity took of the CPUs (default: one run at --rate)",
    )
    either.add_argument(
        "--soak",
        action="store_true",
        help="run long at a share of the capacity, which is searched first, or at --rate, and judge whether the server's memory "
        "grows in the last two thirds: by 1 MiB a minute or more, or surely at all (default: one run at --rate)",
    )
    found.add_argument(
        "--share",
        type=_number(0.01, 1),
        metavar="SHARE",
        help="share of the capacity, from 0.01 to 1, that --soak sends; an error without --soak, and with --rate "
        f"(default: {SHARE:g})",
    )
    found.add_argument(
        "--pid",
        type=_whole(1, 1 << 22),
        metavar="NUMBER",
        help="process id of the server, where it runs on this machine: memory and CPU time of it and all that it started are "
        "measured (default: that of the server that the test starts itself)",
    )
    result = parser.add_argument_group("result")
    result.add_argument(
        "--slo",
        type=Path,
        default=DEFAULT,
        metavar="FILE",
        help="YAML file of the limits to judge by (default: loadtests/slo.yaml)",
    )
    result.add_argument(
        "--out",
        type=Path,
        default=Path("runs/loadtest"),
        metavar="FOLDER",
        help="folder of the report; the report of an earlier run in it is overwritten (default: %(default)s)",
    )
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
    """Take HOST:PORT from an http:// address. Raises FlagsWrong for anything else."""
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
