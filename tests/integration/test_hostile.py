"""Two thousand hostile requests, ten thousand in `make soak`: no 5xx, no worker lost, and no memory kept."""

import itertools
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import grpc
import httpx
import psutil
import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.integration.hostile import broken_connections, crafted_pictures, damaged_pictures, whole_pictures
from tests.integration.running import Server, Workspace, start_server, stop_server
from tests.volume import SOAK, generated
from transformer.grpc.messages import SERVICE, message

MODEL = "digits"
INFER = f"/v2/models/{MODEL}/infer"
TOTAL = 10_000 if SOAK else 2_000
SHARES = {"schema": 0.10, "framing": 0.20, "protobuf": 0.25, "pictures": 0.37, "connections": 0.08}
REQUESTS = {kind: round(share * TOTAL) for kind, share in SHARES.items()}
WARM_UP = 600
MEMORY_GROWTH = 0.05
PARTS = 5
SETTLE_S = 30.0
AT_ONCE = 8  # far from the queue's end, so that nothing is refused for it
GOOD_STATUS = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
LATE = grpc.StatusCode.DEADLINE_EXCEEDED  # for who gives a request no time, by the parameter `timeout`
ONE_IMAGE = {"Content-Type": "image/png"}
EXTREMES = st.sampled_from([0, 1, -1, 4, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64, -(2**63), 10**400])
ODD = EXTREMES | st.sampled_from([None, True, 0.5, float("nan"), "", "x", "\0", "9" * 200, [], [[]], [0], [None], {}, {"x": {}}])
NESTED = st.recursive(ODD, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@pytest.fixture(scope="module")
def victim(workspace: Workspace, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, warm: it has seen every kind of picture and connection, and has the memory that it needs for them."""
    running = start_server(workspace, str(archive), tmp_path_factory.mktemp("hostile") / "log")
    pictures = [*(4 * list(crafted_pictures().values())), *itertools.islice(damaged_pictures(Random(9)), WARM_UP)]
    assert set(post_all(running, pictures)) <= {200, 400}
    connect_all(running, WARM_UP // 4)
    yield running
    stop_server(running)


@pytest.fixture
def unharmed(victim: Server) -> Iterator[Server]:
    """The server, which has the same workers after the test as before, and is ready."""
    workers = victim.workers()
    yield victim
    assert victim.workers() == workers
    assert httpx.get(f"http://{victim.rest}/v2/health/ready").status_code == 200


class Memory:
    """What edge and workers hold, looked at PARTS times while a test goes on.

    An allocator keeps, now and then, what the last large picture needed, so that one look says little: what leaks is there
    at every later one.
    """

    def __init__(self, server: Server, requests: int) -> None:
        self._pids = {"edge": [server.process.pid], "workers": list(server.workers())}
        self._every = requests // PARTS
        self._requests = 0
        self._held: list[dict[str, int]] = []

    def count(self, requests: int = 1) -> None:
        """So many more were answered."""
        self._requests += requests
        if self._requests >= self._every * (len(self._held) + 1):
            self._held.append(self._read())

    def check(self) -> None:
        """The least of the last two looks, or of later ones, is no more than MEMORY_GROWTH above the most of those before.

        Later ones, as clients that left without waiting may have left work that is still under way.
        """
        assert len(self._held) >= PARTS
        before, after = self._held[: PARTS - 2], self._held[PARTS - 2 :]
        deadline = time.monotonic() + SETTLE_S
        while grown := [
            name
            for name in self._pids
            if min(held[name] for held in after) > max(held[name] for held in before) * (1 + MEMORY_GROWTH)
        ]:
            assert time.monotonic() < deadline, f"{grown}: {before} {after}"
            time.sleep(1)
            after.append(self._read())

    def _read(self) -> dict[str, int]:
        return {name: sum(psutil.Process(pid).memory_info().rss for pid in pids) for name, pids in self._pids.items()}


def post_all(server: Server, pictures: Iterable[bytes]) -> list[int]:
    """The status of each picture, sent alone."""
    with httpx.Client(base_url=f"http://{server.rest}", timeout=60) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda picture: client.post(INFER, content=picture, headers=ONE_IMAGE).status_code, pictures))


def connect_all(server: Server, count: int, first: int = 0) -> list[tuple[bytes, int | None]]:
    """What went over each connection, and the status that came back, if any did. `first`: how many came before these."""
    host, port = server.rest.split(":")
    turns = itertools.islice(itertools.cycle(broken_connections(INFER, whole_pictures()["jpeg"])), first, first + count)

    def go(turn: tuple[bytes, bool]) -> tuple[bytes, int | None]:
        data, waits = turn
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            # Closed with a reset, as by a client that died.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                connection.sendall(data)
                return data, int(connection.recv(100).split()[1]) if waits else None
            except ConnectionError:
                return data, None  # refused before all of it was sent

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(go, turns))


@pytest.mark.parametrize(
    ("path", "mode", "share"),
    [
        ("/v2/models/{name}/infer", GenerationMode.POSITIVE, 0.4),
        ("/v2/models/{name}/infer", GenerationMode.NEGATIVE, 0.3),
        ("/v2/repository/index", GenerationMode.NEGATIVE, 0.1),
        ("/v2/repository/models/{name}/load", GenerationMode.NEGATIVE, 0.1),
        (None, GenerationMode.POSITIVE, 0.05),
        (None, GenerationMode.NEGATIVE, 0.05),
    ],
)
def test_what_the_document_allows_and_what_it_does_not(
    unharmed: Server, path: str | None, mode: GenerationMode, share: float
) -> None:
    base = f"http://{unharmed.rest}"
    count = round(share * REQUESTS["schema"])
    document = schemathesis.openapi.from_dict(httpx.get(f"{base}/openapi.json").json())
    asked = document[path]["POST"] if path else document
    sent = 0
    with requests.Session() as session:

        @generated(count)
        @given(asked.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal sent
            sent += 1
            response = case.call(base_url=base, session=session)
            assert response.status_code < 500 or response.json()["code"] == "request.deadline", response.text
            # What is of the right form may still be no picture.
            case.validate_response(response, excluded_checks=[positive_data_acceptance])

        ask()
    assert sent >= count


@st.composite
def framings(draw: st.DrawFn) -> tuple[bytes, str]:
    """A binary request's body and the length that it says its JSON has, each right or wrong."""
    pictures = draw(st.lists(st.sampled_from([*whole_pictures().values(), b"", b"x"]), max_size=3))
    lengths = [draw(st.just(len(picture)) | st.integers(0, 2**32 - 1)) for picture in pictures]
    raw = b"".join(struct.pack("<I", length) + picture for length, picture in zip(lengths, pictures, strict=True))
    raw = draw(st.just(raw) | st.binary(max_size=40) | st.integers(0, len(raw)).map(lambda end: raw[:end]))
    tensor = {
        "name": draw(st.sampled_from(["image", "pixels"]) | ODD),
        "datatype": draw(st.sampled_from(["BYTES", "UINT8", "FP32"]) | ODD),
        "shape": draw(st.just([len(pictures)]) | st.lists(EXTREMES, max_size=5) | ODD),
        "parameters": {"binary_data_size": draw(st.just(len(raw)) | st.integers(-1, 2 * len(raw)) | ODD)},
        **draw(st.just({}) | st.fixed_dictionaries({"data": NESTED})),
    }
    fields = {
        "inputs": [tensor] * draw(st.integers(1, 2)),
        **draw(st.dictionaries(st.sampled_from(["id", "outputs", "parameters"]), ODD, max_size=1)),
    }
    text = json.dumps(fields).encode()
    length = draw(st.just(len(text)) | st.integers(-1, 2 * len(text)) | EXTREMES)
    return text + raw, draw(
        st.just(str(length)) | st.sampled_from(["", "x", "1e3", "+1", "0x1", "\xb2", "0, 0", "00", "9" * 5000])
    )


def test_binary_contents_that_contradict_themselves(unharmed: Server) -> None:
    statuses: Counter[int] = Counter()
    held = Memory(unharmed, REQUESTS["framing"])
    with httpx.Client(base_url=f"http://{unharmed.rest}", timeout=60) as client:

        @generated(REQUESTS["framing"])
        @given(framings())
        def ask(framing: tuple[bytes, str]) -> None:
            body, length = framing
            headers = [(b"Inference-Header-Content-Length", length.encode("latin-1"))]
            response = client.post(INFER, content=body, headers=headers)
            statuses[response.status_code] += 1
            held.count()
            assert response.status_code in (200, 400, 413), response.text
            assert response.status_code == 200 or response.json()["error"].startswith(response.json()["code"])

        ask()
    assert statuses.total() >= REQUESTS["framing"]
    assert min(statuses[200], statuses[400]) > 0
    held.check()


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A ModelInferRequest on the wire: noise, or a whole one with its fields and its bytes damaged."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=300))
    pictures = draw(st.lists(st.sampled_from([*whole_pictures().values(), b""]), min_size=1, max_size=3))
    raw = draw(st.booleans())
    contents = {} if raw else {"contents": {"bytes_contents": pictures}}
    datatype = draw(st.sampled_from(["BYTES", "BYTES", "BYTES", "UINT8", "FP16", ""]))
    shape = draw(st.just([len(pictures)]) | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
    elements = [struct.pack("<I", len(picture)) + picture for picture in pictures]
    option = st.builds(dict, int64_param=st.integers(-(2**63), 2**63 - 1)) | st.builds(dict, double_param=st.floats())
    options = st.dictionaries(
        st.sampled_from(["explain", "top_k", "threshold", "timeout", "x"]),
        option | st.builds(dict, string_param=st.text(max_size=9)) | st.builds(dict, bool_param=st.booleans()) | st.just({}),
    )
    whole = message("ModelInferRequest")(
        model_name=draw(st.sampled_from([MODEL, MODEL, MODEL, "", "x"])),
        model_version=draw(st.sampled_from(["", "", "1", "2"])),
        id=draw(st.text(max_size=9)),
        inputs=[
            {"name": draw(st.sampled_from(["image", "image", "pixels", ""])), "datatype": datatype, "shape": shape, **contents}
        ],
        outputs=[{"name": name} for name in draw(st.lists(st.sampled_from(["label", "heatmap", "x"]), max_size=2))],
        parameters=draw(options),
        raw_input_contents=draw(st.just([b"".join(elements)]) | st.just(elements)) if raw else [],
    ).SerializeToString()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(whole)))
        whole = whole[:at] + draw(st.binary(max_size=6)) + whole[at + draw(st.integers(0, 6)) :]
    return whole


def test_messages_that_are_none(unharmed: Server) -> None:
    statuses: Counter[grpc.StatusCode] = Counter()
    held = Memory(unharmed, REQUESTS["protobuf"])
    with grpc.insecure_channel(unharmed.grpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")  # bytes as they are

        @generated(REQUESTS["protobuf"])
        @given(messages())
        def ask(body: bytes) -> None:
            try:
                call(body, timeout=60)
                status, details = grpc.StatusCode.OK, ""
            except grpc.RpcError as err:
                status, details = err.code(), err.details()
            statuses[status] += 1
            held.count()
            assert status in GOOD_STATUS or (status is LATE and b"timeout" in body), details

        ask()
    assert statuses.total() >= REQUESTS["protobuf"]
    assert set(statuses) >= GOOD_STATUS
    held.check()


def test_damaged_pictures(unharmed: Server) -> None:
    crafted = list(crafted_pictures().values())
    damaged = itertools.islice(damaged_pictures(Random(1)), REQUESTS["pictures"] - 5 * len(crafted))
    pictures = [*damaged, *(5 * crafted)]
    Random(2).shuffle(pictures)
    statuses: Counter[int] = Counter()
    held = Memory(unharmed, len(pictures))
    for part in range(PARTS):
        answers = post_all(unharmed, pictures[part::PARTS])
        statuses.update(answers)
        held.count(len(answers))
    assert set(statuses) == {200, 400}
    assert statuses.total() == REQUESTS["pictures"]
    held.check()


def test_connections_that_go_wrong(unharmed: Server) -> None:
    statuses: list[tuple[bytes, int | None]] = []
    held = Memory(unharmed, REQUESTS["connections"])
    for _ in range(PARTS):
        statuses += connect_all(unharmed, REQUESTS["connections"] // PARTS, len(statuses))
        held.count(REQUESTS["connections"] // PARTS)
    held.check()
    assert len(statuses) == REQUESTS["connections"]
    # 501 is what RFC 9112 (section 6.1) has for a transfer coding that is not known.
    assert [(data[:200], status) for data, status in statuses if status is not None and status >= 500 and status != 501] == []
    assert {400, 404, 405, 413, 415, 431, 501} <= {status for _, status in statuses}


def test_slow_clients_keep_nobody_waiting(unharmed: Server) -> None:
    host, port = unharmed.rest.split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(200)]
    try:
        for n, connection in enumerate(slow):
            connection.sendall(
                (b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + bytes(900))[: 10 * n]
            )
        assert set(post_all(unharmed, 50 * [whole_pictures()["png"]])) == {200}
    finally:
        for connection in slow:
            connection.close()
