"""Loopback ports: TorchServe's own, and such as are free."""

import itertools
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from visor.errors import ServeError

# Ports that neither the kernel gives to whoever asks for any (32768 on, on Linux) nor Kubernetes to its Services (30000 on): one
# that is free here is still free seconds later, when Java binds it. Each process begins elsewhere and goes on from there.
UNASSIGNED = range(10_240, 30_000)
PORTS_APART = 16
_TURNS = itertools.count(os.getpid() * PORTS_APART)


@dataclass(frozen=True)
class Ports:
    """Where TorchServe listens, on 127.0.0.1; the defaults are those of a pod, where no other process takes ports."""

    inference: int = 8085
    management: int = 8086
    metrics: int = 8082

    @classmethod
    def free(cls) -> Self:
        """Choose ports that were free just now, for a machine that other processes use too."""
        return cls(*free_ports(3))


def url(port: int) -> str:
    """The address of a loopback port."""
    return f"http://127.0.0.1:{port}"


def free_ports(count: int) -> list[int]:
    """Choose distinct loopback ports that were free just now, and that nobody is given before they are taken.

    Raises:
        ServeError: every port of UNASSIGNED is taken.
    """
    chosen: list[int] = []
    for turn in itertools.islice(_TURNS, len(UNASSIGNED)):
        port = UNASSIGNED[turn % len(UNASSIGNED)]
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise ServeError(f"none of the loopback ports {UNASSIGNED[0]} to {UNASSIGNED[-1]} is free")
