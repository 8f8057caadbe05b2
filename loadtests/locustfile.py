"""For locust's own command and web page: the same users in a closed loop, every answer looked at.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8080 --grpc 127.0.0.1:8081

The SLO's verdict, raw latencies and the open loop are `python -m loadtests`.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests import pictures
from loadtests.clients import Target, only_model
from loadtests.errors import LoadTestError
from loadtests.options import GRPC_PROTOCOLS, REST_PROTOCOLS, address
from loadtests.users import ClosedUser, Load, V2User


def add_options(parser: LocustArgumentParser) -> None:
    """Ours beside locust's."""
    parser.add_argument("--grpc", default="", help="gRPC, HOST:PORT (REST is locust's own --host)")
    parser.add_argument("--host-header", default="", help="which of a gateway's servers")
    parser.add_argument("--model", default="", help="its name (default: the only one)")
    parser.add_argument("--pictures", default="", help="a folder (default: generated roofs)")
    parser.add_argument("--explain", type=float, default=0.25, help="share that asks for a heat map")


def prepare(environment: Environment, **_: Any) -> None:
    """One load for all users; protocols without an address are left out."""
    options = environment.parsed_options or Namespace()
    try:
        target = Target(address(environment.host) if environment.host else "", options.grpc, options.host_header)
        sent = pictures.read([Path(options.pictures)] if options.pictures else pictures.generate())
        V2User.load = Load(target, options.model or only_model(target), sent, options.explain)
    except LoadTestError as err:
        raise SystemExit(f"loadtests: {err}") from err
    possible = (REST_PROTOCOLS if target.rest else ()) + (GRPC_PROTOCOLS if target.grpc else ())
    environment.user_classes = [user for user in environment.user_classes if getattr(user, "protocol", "") in possible]


class RestJsonUser(ClosedUser):
    """V2 over REST, JSON with base64."""

    protocol = "rest-json"


class RestBinaryUser(ClosedUser):
    """V2 over REST, binary extension."""

    protocol = "rest-binary"


class GrpcUser(ClosedUser):
    """V2 over gRPC."""

    protocol = "grpc"


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(prepare)
