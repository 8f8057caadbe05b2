"""The flags of a release by evidence, each once: `visor rollout start` and the chart's Job have the same ones."""

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rollout.setup import Order

STEPS = "5:300:200 25:300:500 50:600:1000 100:300:0"
"""The steps where nothing else is said."""
GATES = ("errors", "refusals", "slow", "slower", "flagged", "reviewed", "disagreement")
"""Those of rollout/gates.py, which imports NumPy."""


def add_start(command: argparse.ArgumentParser) -> None:
    """Add what a release by evidence needs to know."""
    add_release(command)
    command.add_argument(
        "--prometheus",
        required=True,
        metavar="URL",
        help="address of the Prometheus that scrapes the release's pods, such as http://prometheus.monitoring:9090 (required)",
    )
    command.add_argument(
        "--step",
        action="append",
        type=_step,
        metavar="PERCENT:SECONDS:REQUESTS",
        help="one step: the canary's percentage of the requests, and the least seconds and requests of the canary until the "
        "next; 0 is the shadow, whose images are counted; may be given several times, in order, at least "
        f"once above 0 and below 100 (default: {STEPS})",
    )
    command.add_argument(
        "--margin",
        action="append",
        type=_margin,
        default=[],
        metavar="GATE=SHARE",
        help=f"how much larger the canary's share may be, above 0 and below 1, of one gate: {', '.join(GATES)}; may be given "
        "several times (default: errors and refusals 0.005, slow and slower 0.02, the others 0.05)",
    )
    command.add_argument(
        "--alpha",
        type=_share,
        default=0.05,
        metavar="PROBABILITY",
        help="probability, over all gates and looks, of rolling back a canary that is no worse, and of promoting one that is "
        "worse by a margin (default: %(default)s)",
    )
    command.add_argument(
        "--bound-ms",
        type=_positive,
        default=500.0,
        metavar="MS",
        help="milliseconds above which an answer is slow, a bound of visor_request_seconds' buckets (default: %(default)g)",
    )
    command.add_argument(
        "--every-s",
        type=_positive,
        default=15.0,
        metavar="S",
        help="seconds between two looks at the counters, no fewer than Prometheus' scrape interval (default: %(default)g)",
    )
    command.add_argument(
        "--ready-timeout-s",
        type=_positive,
        default=240.0,
        metavar="S",
        help="seconds within which the canary must serve, or it is rolled back (default: %(default)g)",
    )
    for flag, what in (("--archive", "canary"), ("--stable-archive", "stable release")):
        command.add_argument(
            flag, metavar="URI", help=f"storageUri that the {what} must name before this begins (default: whichever it names)"
        )
    command.add_argument(
        "--attempt",
        type=_attempt,
        default=1,
        metavar="N",
        help="number of the attempt; a higher one tries an archive again that was rolled back (default: %(default)s)",
    )
    for kind in ("http", "grpc"):
        command.add_argument(
            f"--{kind}route",
            action="append",
            default=[],
            metavar="NAME",
            help=f"{kind.upper()}Route whose weights are moved; may be given several times (default: with neither kind given, "
            "every route to the canary)",
        )
    command.add_argument(
        "--field-manager",
        default="helm",
        metavar="NAME",
        help="field manager that owns the release's objects in server-side apply (default: %(default)s)",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="look once, say what would be done, and change nothing (default: do it)"
    )


def add_release(command: argparse.ArgumentParser) -> None:
    """Add what names a release."""
    command.add_argument("name", type=_name, metavar="NAME", help="the release: the name of its stable InferenceService")
    command.add_argument(
        "--namespace",
        required=True,
        type=_name,
        metavar="NAME",
        help="namespace of the release (required)",
    )


def order_of(args: argparse.Namespace) -> "Order":
    """The order that the flags give."""
    from rollout.plan import Step
    from rollout.setup import Order

    steps = args.step or [_step(text) for text in STEPS.split()]
    return Order(
        name=args.name,
        namespace=args.namespace,
        prometheus=args.prometheus,
        steps=tuple(Step(*step) for step in steps),
        margins=dict(args.margin),
        alpha=args.alpha,
        bound_s=args.bound_ms / 1000,
        every_s=args.every_s,
        ready_s=args.ready_timeout_s,
        archive=args.archive,
        stable_archive=args.stable_archive,
        attempt=args.attempt,
        routes=(*(("HTTPRoute", name) for name in args.httproute), *(("GRPCRoute", name) for name in args.grpcroute)),
        manager=args.field_manager,
    )


def _step(text: str) -> tuple[int, float, int]:
    found = re.fullmatch(r"(\d{1,3}):(\d+(?:\.\d+)?):(\d+)", text)
    if not found or int(found[1]) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not PERCENT:SECONDS:REQUESTS, such as 5:300:200")
    return int(found[1]), float(found[2]), int(found[3])


def _margin(text: str) -> tuple[str, float]:
    gate, _, share = text.partition("=")
    if gate not in GATES:
        raise argparse.ArgumentTypeError(f"{gate!r} is no gate, which are {', '.join(GATES)}")
    return gate, _share(share)


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and below 1")
    return share


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _attempt(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of Kubernetes: small letters, digits and hyphens")
    return text
