"""Give locust's own command and web page the users of the load tests: a closed loop in which every answer is checked.

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
    """Add the flags of the load tests to locust's own."""
    parser.add_argument(
        "--grpc", default="", help="address HOST:PORT of the gRPC API; REST has locust's own --host (default: none)"
    )
    parser.add_argument(
        "--host-header", default="", help="host name that selects one of the servers behind a gateway (default: the address's)"
    )
    parser.add_argument("--model", default="", help="name of the model on the server (default: its only model)")
    parser.add_argument("--pictures", default="", help="folder of pictures to send (default: generated roofs)")
    parser.add_argument(
        "--explain", type=float, default=0.25, help="share of the requests, from 0 to 1, that ask for a heat map (default: 0.25)"
    )


def prepare(environment: Environment, **_: Any) -> None:
    """Make the load that all users share, and leave out the protocols that have no address."""
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
    """Sends V2 over REST as JSON with base64."""

    protocol = "rest-json"


class RestBinaryUser(ClosedUser):
    """Sends V2 over REST with the binary tensor extension."""

    protocol = "rest-binary"


class GrpcUser(ClosedUser):
    """Sends V2 over gRPC."""

    protocol = "grpc"


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(prepare)
