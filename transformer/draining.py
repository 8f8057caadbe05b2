"""Draining: clients leave the edge before it stops, so that no request that a client has sent is lost.

To stop at once would lose requests. A listening socket that is closed resets the connections in its backlog, an idle connection
that is closed may have a request on its way, and gRPC cancels calls that arrive after its stop began [1 to 10 of 16 busy
clients lost a call; after draining none]. So no new connection is accepted, every request is still answered, and clients
close their connections on their own: REST answers say `connection: close`, and a gRPC connection is told to end once it has
its age.
"""

import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path


def take_backlog(listening: socket.socket) -> list[socket.socket]:
    """Stop listening, and return the connections that were made and not accepted yet."""
    backlog = []
    while True:
        try:
            backlog.append(listening.accept()[0])
        except BlockingIOError:
            # At once, not when its owner closes it: a connection that comes in between is reset.
            listening.shutdown(socket.SHUT_RDWR)
            return backlog


def stop_listening(port: int) -> None:
    """Stop listening at a port of this process, although the socket belongs to a library.

    For gRPC, which has no call for it; it logs `Closing acceptor`, once. Its clients have sent no call yet over a connection
    in the backlog, which is reset: they wait for the server's first words.
    """
    for own in _sockets({port}):
        if _listens(own):
            own.shutdown(socket.SHUT_RDWR)


def is_connected(ports: Collection[int]) -> bool:
    """Whether there is a connection, accepted and not yet closed, to one of these ports of this process."""
    return any(_is_connection(own) for own in _sockets(ports))


def _listens(own: socket.socket) -> bool:
    return bool(own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_connection(own: socket.socket) -> bool:
    try:
        own.getpeername()
    except OSError:
        return False
    return True


def _sockets(ports: Collection[int]) -> Iterator[socket.socket]:
    """Yield copies of this process's TCP sockets at these local ports; each is closed again after its turn."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            copy = os.dup(int(entry.name))
        except OSError:
            continue  # closed meanwhile
        try:
            own = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            continue  # no socket
        with own:
            if own.family in (socket.AF_INET, socket.AF_INET6) and own.getsockname()[1] in ports:
                yield own
