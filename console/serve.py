"""Run the console's application until a signal."""

import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn

from console import log
from console.app import create_app
from console.errors import SettingsInvalid
from console.http_protocol import Protocol
from console.reviews.database import Database
from console.reviews.pictures import open_pictures
from console.settings import Settings, read_settings

GRACE_S = 20
KEEP_ALIVE_S = 75
"""Longer than the 60 s after which common proxies close an idle connection: the proxy, not the console, ends it."""
BACKLOG = 2048


def serve(given: Mapping[str, Any], say: Callable[[str], object]) -> None:
    """Serve with these settings, before those of the environment, until SIGTERM or Ctrl-C. `say`: prints a line.

    Raises SettingsInvalid, where nothing is served yet.
    """
    settings = read_settings(given)
    server = make_server(settings)
    with listen(settings) as listening:
        # Keys and port are had by now: a start that fails by them leaves the database as it was.
        Database.open(settings.database_url).close()  # what is wrong with it is told in a sentence, before anything is served
        open_pictures(settings.pictures_place)
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        log.configure()
        stop_by_signals(server)
        say(f"console  {address}/")
        say(f"API      {address}/docs")
        if settings.keys_file is None:
            say("keys     none: everybody on this machine may do everything; `visor console key --help` makes some")
        gc.freeze()  # modules and routes stay to the end: no collection need walk over them
        server.run(sockets=[listening])


def stop_by_signals(server: uvicorn.Server) -> None:
    """Let SIGTERM and Ctrl-C end the server in order from now on, before it runs, too.

    uvicorn takes signals once it runs, and raises them again at its end. An exception before that would leave a coroutine behind
    that nobody has awaited.
    """

    def stop(_number: int, _frame: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def make_server(settings: Settings) -> uvicorn.Server:
    """Make a server of the console's application. Raises KeysUnusable."""
    config = uvicorn.Config(
        create_app(settings),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(config)


def listen(settings: Settings) -> socket.socket:
    """Listen at the settings' address. Raises SettingsInvalid where it cannot be had."""
    host = settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, settings.port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6()
        )
    except OSError as err:
        why = os.strerror(err.errno) if err.errno else str(err)
        raise SettingsInvalid(
            f"{host} port {settings.port} cannot be had ({why}); choose another one by --port, or stop what listens there"
        ) from err
