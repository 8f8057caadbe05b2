"""What a running console consists of; every route finds it in `app.state.console`."""

from dataclasses import dataclass
from typing import cast

from fastapi import Request

from console.access.keys import Keys
from console.access.sessions import Sessions
from console.metrics import Metrics
from console.reviews.room import Reviews
from console.room import Room
from console.servers.client import Servers
from console.settings import Settings


@dataclass(frozen=True)
class Console:
    """The parts of a console, open from the application's start to its end."""

    settings: Settings
    keys: Keys
    sessions: Sessions
    servers: Servers
    metrics: Metrics
    room: Room
    reviews: Reviews


def console_of(request: Request) -> Console:
    """The console that a request has come to."""
    return cast(Console, request.app.state.console)
