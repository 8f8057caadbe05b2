"""The console's application: its rooms, and what lies around every request."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from console.access.keys import Keys
from console.access.sessions import Sessions
from console.access.sites import HostCheck, allowed_hosts
from console.api import batch, docs, health, models, predict
from console.envelope import Envelope, add_error_answers
from console.metrics import Metrics
from console.page import routes as page
from console.reviews import routes as reviews
from console.reviews.room import Reviews
from console.room import Room
from console.servers.client import Servers
from console.settings import MIB, Settings
from console.state import Console

ROUTERS: tuple[Callable[[Console], APIRouter], ...] = (
    predict.routes,
    health.routes,
    batch.routes,
    models.routes,
    docs.routes,
    page.routes,
    reviews.routes,
)
"""The rooms, each of which makes its routes for a console; a request is compared with them in this order."""


def create_app(settings: Settings) -> FastAPI:
    """Make the application. Raises KeysUnusable."""
    metrics, keys = Metrics(), Keys.open(settings.keys_file)
    sessions = Sessions.open(keys, settings.secret_file)
    room = Room(
        settings.memory_mib * MIB,
        settings.max_wait_s,
        f"there was no memory for this picture within {settings.max_wait_s:g} s; send fewer at once",
        metrics.upload_bytes.inc,
    )
    console = Console(settings, keys, sessions, Servers(settings, metrics), metrics, room, Reviews(settings, metrics))
    console.servers.tell = console.reviews.offer
    open_while_running: tuple[AbstractAsyncContextManager[object], ...] = (console.reviews, console.servers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in open_while_running:
                await stack.enter_async_context(part)
            yield

    app = FastAPI(
        title="visor console",
        version=version("visor"),
        description="Ask classifiers about pictures. Send a key as `Authorization: Bearer KEY`.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # FastAPI would look for each of these with every request; the metrics are the console's own.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.console = console
    for routes in ROUTERS:
        app.router.routes.extend(routes(console).routes)  # `include_router` would match each request at two levels
    add_error_answers(app)
    app.add_middleware(HostCheck, allowed=allowed_hosts(settings.host, settings.allowed_hosts, open_to_all=keys.open_to_all))
    app.add_middleware(Envelope, console=console)
    return app
