"""A call in a process of its own, so that what it imports and takes goes with that process."""

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from visor.errors import ServeError

T = TypeVar("T")


def in_child(call: Callable[..., T], *arguments: object) -> T:
    """Make a call in a child of this process, and return what it returns. Raises what it raises, ServeError where it is killed.

    The child ignores SIGINT, which a terminal sends to both: this process says what becomes of it. Where this process is killed,
    the child ends with its call.
    """
    context = get_context("fork")
    answers, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, call, arguments), daemon=True)
    child.start()
    sender.close()
    try:
        error, answer = answers.recv()
    except EOFError:
        child.join()
        raise ServeError(f"the process that opened the archive ended with {child.exitcode}; has it memory enough?") from None
    finally:
        child.join()
    if error:
        raise error
    return cast(T, answer)


def _answer(sender: Connection, call: Callable[..., T], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sender.send((None, call(*arguments)))
    except Exception as err:
        sender.send((err, None))
