"""What goes around every HTTP request, whatever it asks: its id, its record, and the last word of a server that stops."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transformer.request_log import ID_HEADER, Record
from transformer.service import Service

RECORD = "visor.record"  # where a scope has it


class Envelope:
    """Around the app's routes and their errors.

    Answers carry their request's id. Those of a service that drains say `connection: close`: the client's next request goes
    to a server that stays.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = Record("rest", scope["path"], scope["method"])
        record.name(_header(scope, ID_HEADER.encode()))
        scope[RECORD] = record

        async def send_enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = [*message["headers"], (ID_HEADER.encode(), record.id.encode())]
                message["headers"] = [*headers, (b"connection", b"close")] if self._service.draining else headers
            await send(message)

        try:
            await self._app(scope, receive, send_enveloped)
        except BaseException as err:
            record.fail(err)
            raise
        finally:
            self._service.end(record)


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
