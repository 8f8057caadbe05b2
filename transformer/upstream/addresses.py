"""The addresses of a host's name, looked up in a thread of its own, so that a resolver that hangs holds nothing else up.

The event loop would look them up in its executor, whose few threads read users' large requests, and a look-up whose caller has
given up holds its thread until the resolver gives up, too.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading


class Addresses:
    """The addresses of one host, of which one look-up at most is under way, whoever waits for it."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._under_way: asyncio.Future[list[str]] | None = None

    async def find(self) -> list[str]:
        """Look the addresses up, in the resolver's order. Cancelled, the look-up goes on, for those who ask next.

        Raises OSError where there are none.
        """
        if _is_address(self._host):
            return [self._host]
        if self._under_way is None:
            found = asyncio.get_running_loop().create_future()
            # No executor's: the process would wait for its threads before it ends.
            threading.Thread(target=self._look_up, args=(found,), name="resolver", daemon=True).start()
            self._under_way = found
        return await asyncio.shield(self._under_way)

    def _look_up(self, found: "asyncio.Future[list[str]]") -> None:
        result: list[str] | Exception
        try:
            infos = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
            result = [str(address[0]) for *_, address in infos]
        except OSError as err:
            result = err
        except UnicodeError as err:
            result = OSError(f"{self._host} is no host's name ({err})")
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            found.get_loop().call_soon_threadsafe(self._end, found, result)

    def _end(self, found: "asyncio.Future[list[str]]", result: list[str] | Exception) -> None:
        self._under_way = None
        if isinstance(result, Exception):
            found.set_exception(result)
            found.exception()  # seen, also where all have given up
        else:
            found.set_result(result)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
