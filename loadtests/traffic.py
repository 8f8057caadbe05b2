"""Run locust inside this process, bounded in time and number of requests; each run returns the raw samples."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gevent
from gevent.event import Event
from locust.env import Environment

from loadtests.samples import Sample
from loadtests.shapes import Shape
from loadtests.users import ClosedUser, Load, OpenUser, V2User

TICK_S = 0.25

# What locust says of its users, spawning and CPU is of interest to its own command only.
logging.getLogger("locust").setLevel(logging.WARNING)


def run_closed(load: Load, protocols: Sequence[str], shape: Shape, users: int, duration_s: float) -> list[Sample]:
    """Run a closed loop of `users` in all, times the shape's level (at least one a protocol); each asks again once answered."""
    environment, samples = _environment(load, ClosedUser, {name: {} for name in protocols})
    runner = environment.create_local_runner()
    load.begin()
    count = 0
    while (at := load.now() / duration_s) < 1:
        if (wanted := max(len(protocols), round(users * shape.level(at)))) != count:
            count = wanted
            runner.start(user_count=count, spawn_rate=count)
        gevent.sleep(min(TICK_S, (1 - at) * duration_s))
    runner.quit()
    load.close()
    return samples


def run_open(load: Load, due: Mapping[str, Iterable[float]]) -> list[Sample]:
    """Run an open loop: send the requests of each protocol at the times that they are due."""
    begun, done = Event(), [Event() for _ in due]
    own = {name: {"due": due[name], "begun": begun, "done": end} for name, end in zip(due, done, strict=True)}
    environment, samples = _environment(load, OpenUser, own)
    runner = environment.create_local_runner()
    runner.start(user_count=len(due), spawn_rate=len(due), wait=True)
    load.begin()
    begun.set()
    gevent.wait(done)
    runner.quit()
    load.close()
    return samples


def _environment(load: Load, base: type[V2User], own: Mapping[str, Mapping[str, Any]]) -> tuple[Environment, list[Sample]]:
    """Make an environment with one class of users for each protocol, and the list that their samples are appended to."""
    classes = [
        type(f"{base.__name__}:{name}", (base,), {"abstract": False, "protocol": name, "load": load, **more})
        for name, more in own.items()
    ]
    environment = Environment(user_classes=classes, stop_timeout=load.timeout_s)
    samples: list[Sample] = []

    def record(context: Mapping[str, Any], **_: object) -> None:
        samples.append(context["sample"])

    environment.events.request.add_listener(record)
    return environment, samples
