"""What the HTTP protocol puts into a request's ASGI scope beside what ASGI has there."""

from collections.abc import Callable

CLIENT = "visor.client"
"""The key of the request's `Client` in an ASGI scope."""

REFUSAL = "visor.refusal"
"""The key, in an ASGI scope, of the error with which a request is answered that HTTP does not allow."""


def do_nothing() -> None:
    """Ignore that a client has left: no request of its connection is being answered."""


class Client:
    """The client of one connection. `gone`: whether the connection is closed; `on_gone` is called when it closes."""

    def __init__(self) -> None:
        self.gone = False
        self.on_gone: Callable[[], object] = do_nothing
