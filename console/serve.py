"""Run the console's application until a signal."""

from collections.abc import Mapping
from typing import Any

import uvicorn

from console import log
from console.app import create_app
from console.settings import read_settings

GRACE_S = 20
KEEP_ALIVE_S = 75
"""Longer than the 60 s after which common proxies close an idle connection: the proxy, not the console, ends it."""


def serve(given: Mapping[str, Any]) -> None:
    """Serve with these settings, before those of the environment. Raises SettingsInvalid."""
    settings = read_settings(given)
    app = create_app(settings)
    log.configure()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    uvicorn.Server(config).run()
