"""Ask by three protocols, each by the protocol's most used client, tritonclient, one question at a time.

All of it runs under gevent, which locust needs. tritonclient's REST client is made of gevent's own sockets. Its gRPC client
is not: grpcio waits in C, where one waiting call would hold up every other user (eight users together got 131 answers a
second, no more than one alone; with `init_gevent` 269). `init_gevent` makes each call wait in a thread of gevent's pool. It must
come after the standard library is patched and before the first channel; importing locust does the former, this module the latter.

That pool has ten threads unless told otherwise, and calls beyond wait for one of them even when their answer is there: behind
fifteen calls of 2 s a refusal that takes 10 ms was seen after 1.5 s. So it gets a thread for each request that may be in flight.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import gevent
import grpc.experimental.gevent
import locust  # noqa: F401  (patches the standard library; must precede what uses sockets)
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from loadtests.answers import OUTPUTS, Answer, Question
from loadtests.errors import TargetUnready

MOST_IN_FLIGHT = 256
"""Bound on requests in flight for each protocol; those beyond wait, and in an open loop their latency counts the wait."""
OTHER_THREADS = 16  # for what else gevent does in threads, such as looking up names

grpc.experimental.gevent.init_gevent()
gevent.get_hub().threadpool.maxsize = MOST_IN_FLIGHT + OTHER_THREADS

REFUSALS = frozenset({"503", "StatusCode.RESOURCE_EXHAUSTED"})
TIMEOUTS = frozenset({"StatusCode.DEADLINE_EXCEEDED"})
# Sizes without a limit, as in tritonclient's own options, which these replace. A connection for each client, as clients on
# other machines would have, where grpcio shares one among a process's channels to one address.
# grpc.enable_retries stays on, as it is by itself: no request is sent twice without a retry policy, which nobody sets here, but
# one that met the end of its connection before the server had it is sent over the next [off, 13 of 12,700 calls failed so at a
# server that ends connections after 0.2 s; on, none of 19,500]. The edge ends each after its age, as gRPC's servers do.
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class Target:
    """Says where to send: `rest` and `grpc` are HOST:PORT or empty; `host` names the server to a gateway that has several."""

    rest: str = ""
    grpc: str = ""
    host: str = ""
    timeout_s: float = 10.0


class Client(Protocol):
    """Sends requests over one connection, one after the other."""

    def ask(self, question: Question) -> Answer:
        """Ask one question. Raises InferenceServerException, OSError or ValueError where there is no answer."""
        ...

    def close(self) -> None:
        """Close the client's connections."""
        ...


class RestClient:
    """Sends V2 over REST. `binary`: tensors by the binary extension, otherwise all JSON with the picture in base64."""

    def __init__(self, target: Target, *, binary: bool) -> None:
        self._binary = binary
        self._headers = {"Host": target.host} if target.host else {}
        self._client = _connect_rest(target)

    def ask(self, question: Question) -> Answer:
        """Send one request."""
        tensor = tritonclient.http.InferInput("image", [1], "BYTES")
        data = question.picture if self._binary else base64.b64encode(question.picture)
        tensor.set_data_from_numpy(np.array([data], np.object_), binary_data=self._binary)
        names = (*OUTPUTS, "heatmap") if question.explain else OUTPUTS
        outputs = [tritonclient.http.InferRequestedOutput(name, binary_data=self._binary) for name in names]
        result = self._client.infer(
            question.model, [tensor], outputs=outputs, request_id=question.id, headers=dict(self._headers),
            parameters={"explain": question.explain},
        )  # fmt: skip
        said = result.get_response()
        return Answer(said.get("id", ""), said["model_name"], {name: result.as_numpy(name) for name in (*OUTPUTS, "heatmap")})

    def close(self) -> None:
        """Close the client's connection."""
        self._client.close()


class GrpcClient:
    """Sends V2 over gRPC with raw contents."""

    def __init__(self, target: Target) -> None:
        self._timeout_s = target.timeout_s
        self._client = _connect_grpc(target)

    def ask(self, question: Question) -> Answer:
        """Send one request."""
        tensor = tritonclient.grpc.InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([question.picture], np.object_))
        result = self._client.infer(
            question.model, [tensor], request_id=question.id, client_timeout=self._timeout_s,
            parameters={"explain": question.explain},
        )  # fmt: skip
        said = result.get_response()
        return Answer(said.id, said.model_name, {name: result.as_numpy(name) for name in (*OUTPUTS, "heatmap")})

    def close(self) -> None:
        """Close the client's channel."""
        self._client.close()


Connect: TypeAlias = Callable[[Target], Client]
PROTOCOLS: Mapping[str, Connect] = {
    "rest-json": lambda target: RestClient(target, binary=False),
    "rest-binary": lambda target: RestClient(target, binary=True),
    "grpc": GrpcClient,
}


def failure_of(err: Exception) -> tuple[str, bool]:
    """Classify what `Client.ask` raised: (code, whether the server refused for lack of room).

    The code is the one that the server's sentence begins with, where it has one, else the status.
    """
    if isinstance(err, TimeoutError):
        return "client.timeout", False
    if not isinstance(err, InferenceServerException):
        return f"client.{type(err).__name__}", False
    status = err.status() or ""
    if status in TIMEOUTS:
        return "client.timeout", False
    code, colon, _ = (err.message() or "").partition(":")
    known = colon and "." in code and " " not in code
    return code if known else f"status.{status.removeprefix('StatusCode.') or 'none'}", status in REFUSALS


def only_model(target: Target) -> str:
    """Return the name of the one model that the target serves. Raises TargetUnready when it is not ready or has not just one."""
    try:
        if target.rest:
            rest = _connect_rest(target)
            headers = {"Host": target.host} if target.host else {}
            names = [str(model["name"]) for model in rest.get_model_repository_index(headers=headers)]
        else:
            channel = _connect_grpc(target)
            names = [str(model.name) for model in channel.get_model_repository_index(client_timeout=target.timeout_s).models]
    except (InferenceServerException, OSError, ValueError) as err:
        raise TargetUnready(
            f"{target.rest or target.grpc} does not say which models it has: {err}; name one with --model"
        ) from err
    if len(names) != 1:
        raise TargetUnready(f"{target.rest or target.grpc} has {len(names)} models ({', '.join(names)}); name one with --model")
    return names[0]


def _connect_rest(target: Target) -> Any:
    return tritonclient.http.InferenceServerClient(
        target.rest, connection_timeout=target.timeout_s, network_timeout=target.timeout_s
    )


def _connect_grpc(target: Target) -> Any:
    authority = [("grpc.default_authority", target.host)] if target.host else []
    return tritonclient.grpc.InferenceServerClient(target.grpc, channel_args=CHANNEL + authority)
