"""Define locust's users: what they send, how each request is recorded, and the two ways to decide when the next one leaves.

A `ClosedUser` waits for its answer before it asks again, as a person does: a slow server slows its own load down. An
`OpenUser` stands for clients that know nothing of each other: requests leave when they are due, whether or not those before
were answered, and their latency counts from then.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

import gevent
from gevent.event import Event
from gevent.pool import Pool
from locust import User, constant, task
from locust.exception import StopUser

from loadtests.answers import AnswerWrong, Question, check
from loadtests.clients import MOST_IN_FLIGHT, PROTOCOLS, Target, failure_of
from loadtests.connections import Connections
from loadtests.samples import Sample

MOST_REQUESTS = 1_000_000
"""Bounds the number of requests of one run, whatever its options say."""


class Load:
    """Holds what the users of one run share: server, questions, and the run's clock, which starts with the run."""

    def __init__(self, target: Target, model: str, pictures: Sequence[bytes], explain: float) -> None:
        """Take what to send. `pictures`: at least one, sent in turn. `explain`: share of requests with a heat map, 0 to 1."""
        self.timeout_s = target.timeout_s
        self._model = model
        self._pictures = pictures
        self._explain = explain
        self._sent = 0
        self._connections = {name: Connections(partial(connect, target)) for name, connect in PROTOCOLS.items()}
        self.begin()

    def begin(self) -> None:
        """Start the run's clock."""
        self._start = time.perf_counter()

    def now(self) -> float:
        """Return the seconds since the run began."""
        return time.perf_counter() - self._start

    @property
    def exhausted(self) -> bool:
        """Say whether the run has sent all that it may."""
        return self._sent >= MOST_REQUESTS

    def send(self, protocol: str, due_s: float | None = None) -> Sample:
        """Ask one question, check the answer and return a sample, whatever happens. `due_s`: None for now."""
        question = self._next_question()
        connections = self._connections[protocol]
        sent_s = self.now()
        failure, refused, client = "", False, None
        try:
            client = connections.take()
            check(client.ask(question), question)
        except AnswerWrong as err:
            failure = err.code
        except Exception as err:
            # Any end but a whole answer counts the same here: the client did not get what it asked for.
            failure, refused = failure_of(err)
        ended_s = self.now()
        if client and failure.startswith("client."):
            client.close()  # whatever still arrives on it belongs to no later question
        elif client:
            connections.give_back(client)
        return Sample(protocol, sent_s if due_s is None else due_s, sent_s, ended_s, failure, refused)

    def close(self) -> None:
        """Close all connections."""
        for connections in self._connections.values():
            connections.close()

    def _next_question(self) -> Question:
        number, self._sent = self._sent, self._sent + 1
        explain = int((number + 1) * self._explain) > int(number * self._explain)
        return Question(f"load-{number}", self._model, self._pictures[number % len(self._pictures)], explain)


class V2User(User):
    """Sends over one protocol and reports each request to locust, with the raw sample in the event's context."""

    abstract = True
    protocol: ClassVar[str]
    load: ClassVar[Load]

    def send(self, due_s: float | None = None) -> None:
        """Send one request."""
        self.report(self.load.send(self.protocol, due_s))

    def report(self, sample: Sample) -> None:
        """Report the request to locust."""
        self.environment.events.request.fire(
            request_type=sample.protocol,
            name="infer",
            response_time=1e3 * sample.latency_s,
            response_length=0,
            exception=RuntimeError(sample.failure) if sample.failure else None,
            context={"sample": sample},
        )


class ClosedUser(V2User):
    """Asks, waits for the answer, and asks again at once."""

    abstract = True
    wait_time = constant(0)

    @task
    def ask(self) -> None:
        """Send one request."""
        if self.load.exhausted:
            raise StopUser
        self.send()


class OpenUser(V2User):
    """Sends all requests of its protocol when they are due; one such user a protocol is enough.

    `due`: seconds since the run began, ascending. `begun`: set when the run's clock starts; `done`: set at the end.
    """

    abstract = True
    due: ClassVar[Iterable[float]]
    begun: ClassVar[Event]
    done: ClassVar[Event]

    @task
    def send_all(self) -> None:
        """Send the whole schedule. What could not even be sent until a timeout after the last was due has failed, too."""
        due = list(itertools.islice(self.due, MOST_REQUESTS))
        end_s = (due[-1] if due else 0.0) + self.load.timeout_s
        flights = Pool(MOST_IN_FLIGHT)
        self.begun.wait()
        for due_s in due:
            gevent.sleep(max(0.0, due_s - self.load.now()))
            if flights.wait_available(max(0.0, end_s - self.load.now())):
                flights.spawn(self.send, due_s)
            else:
                now = self.load.now()
                self.report(Sample(self.protocol, due_s, now, now, "client.unsent"))
        flights.join()
        self.done.set()
        raise StopUser
