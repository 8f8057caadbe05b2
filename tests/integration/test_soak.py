"""In the chart's default memory: every reported input, then 10,000 drawn ones in `make soak`, and 200 otherwise, end nothing.

Two ways to serve, with two workers each. `pod`: the two containers' own commands, each in a memory cgroup of its container's
limit in charts/visor/values.yaml. `serve`: `visor serve`, edge and TorchServe in one cgroup of both limits' sum. Where no cgroup
can be made, no limit holds, and the rest is tried all the same.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import BoundedSemaphore, Lock

import grpc
import httpx
import psutil
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.cgroups import MIB, make_cgroup, oom_kills, remove_cgroup
from tests.integration.drawn import INFER, KINDS, Draw, Http, Rpc, paint, send_picture
from tests.integration.pods import ALLOCATOR, Pod, wait_until
from tests.integration.reported import reported
from tests.integration.running import ROOT, Server, Workspace, is_worker, start_server, stop_server
from tests.volume import SOAK, generated
from transformer.grpc.messages import SERVICE
from visor.serving.ports import free_ports

TOTAL = 10_000 if SOAK else 200
BOUND_S = 900.0 if SOAK else 120.0  # draws after it are not sent
AT_ONCE = 6
ANSWER_S = 90.0
PROBE_S, WITHIN_S, SHARE = (0.1, 1.0, 0.999) if SOAK else (0.1, 5.0, 1.0)
# What each process may have more than before. After 200 draws an edge of 48 MiB keeps 1 to 4 MiB, and each of two workers of 48
# up to 10; Java's heap grows as it likes up to its -Xmx, from 69 to 91 MiB in a soak of 10,000.
GROWTH, SLACK, JAVA_SLACK = 0.10, 10 * MIB, 24 * MIB
SETTLE_S = 30.0
HANG_S = "60"  # a loaded machine may take longer for a large picture than a worker has by default
# 501 and 504 are what docs/v2.md has for a transfer coding that is not known, and for who gives a request no time.
ODD_STATUS = {501: "request.transfer", 504: "request.deadline"}
GOOD_CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,  # 503's
}


@dataclass
class Target:
    """A server under test. `groups`: its cgroups by container; `edge`: its process id; `family`: all of its processes."""

    rest: str
    grpc: str
    edge: int
    family: Callable[[], list[psutil.Process]]
    groups: dict[str, Path]

    @property
    def port(self) -> int:
        return int(self.rest.rpartition(":")[2])

    def workers(self) -> set[int]:
        """The process ids of TorchServe's workers."""
        return {process.pid for process in self.family() if is_worker(process)}

    def memory(self) -> dict[str, list[int]]:
        """The bytes that the processes of each kind have for themselves."""
        held: defaultdict[str, list[int]] = defaultdict(list)
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                kind = "edge" if process.pid == self.edge else "workers" if is_worker(process) else process.name()
                held[kind].append(process.memory_full_info().uss)
        return dict(held)


def limits() -> dict[str, int]:
    """The chart's default memory limits by container, in bytes."""
    resources = yaml.safe_load((ROOT / "charts/visor/values.yaml").read_text())["resources"]
    texts = {name: each["limits"]["memory"] for name, each in resources.items()}
    assert all(text.endswith("Mi") for text in texts.values())
    return {name: int(text.removesuffix("Mi")) * MIB for name, text in texts.items()}


@pytest.fixture
def groups(request: pytest.FixtureRequest) -> Iterator[dict[str, Path]]:
    """A cgroup for each container, or one for both; none where this user may not make any."""
    wanted = limits() if request.param == "pod" else {"both": sum(limits().values())}
    made = {name: make_cgroup(f"visor-soak-{os.getpid()}-{name}", limit) for name, limit in wanted.items()}
    present = {name: group for name, group in made.items() if group is not None}
    yield present
    for group in present.values():
        remove_cgroup(group)


@pytest.fixture
def target(
    request: pytest.FixtureRequest, groups: dict[str, Path], workspace: Workspace, archive: Path, tmp_path: Path
) -> Iterator[Target]:
    """The server, which two workers serve."""
    flags = ["--workers", "2", "--hang-s", HANG_S]
    if request.node.callspec.params["groups"] == "serve":
        server = start_server(workspace, str(archive), tmp_path / "log", *flags, cgroup=groups.get("both"), env=ALLOCATOR)
        yield _of_serve(server, groups)
        stop_server(server)
        return
    pod = Pod(tmp_path, free_ports(5), workspace.public_key)
    pod.models.mkdir()
    for end in ("", ".sig"):
        (pod.models / f"{archive.name}{end}").write_bytes(Path(f"{archive}{end}").read_bytes())
    try:
        edge = pod.start_edge("--hang-s", HANG_S, cgroup=groups.get("transformer"))
        serving = pod.start_serving(*flags, cgroup=groups.get("serving"))
        pod.wait_ready()

        def family() -> list[psutil.Process]:
            roots = [psutil.Process(edge.pid), psutil.Process(serving.pid)]
            return [*roots, *(child for root in roots for child in root.children(recursive=True))]

        yield Target(f"127.0.0.1:{pod.ports[3]}", f"127.0.0.1:{pod.ports[4]}", edge.pid, family, groups)
    finally:
        for process in (pod.edge, pod.serving):
            if process and process.poll() is None:
                process.terminate()
                process.wait(60)


def _of_serve(server: Server, groups: dict[str, Path]) -> Target:
    root = psutil.Process(server.process.pid)
    return Target(server.rest, server.grpc, root.pid, lambda: [root, *server.family()], groups)


class Probe:
    """A process that asks for /v2/health/live every PROBE_S, whether or not the last one is answered."""

    CODE = """
import concurrent.futures, json, select, socket, sys, time
late = []
def ask(start):
    late.append(time.monotonic() - start)
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60) as connection:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    except Exception as err:
        print(repr(err), file=sys.stderr)
        return 60.0
    return time.monotonic() - start
with concurrent.futures.ThreadPoolExecutor(200) as pool:
    asked, due = [], time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        asked.append(pool.submit(ask, due))
        due += float(sys.argv[2])
    print(json.dumps([[each.result() for each in asked], late]))
"""

    def __init__(self, target: Target) -> None:
        command = [sys.executable, "-c", self.CODE, str(target.port), str(PROBE_S)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def times(self) -> tuple[list[float], list[float]]:
        """The seconds of each answer from when it was due, 60 for none; and those that the probe itself was late. Sorted."""
        told, _ = self._process.communicate("\n", timeout=120)
        answered, late = map(sorted, json.loads(told))
        return answered, late


@dataclass
class Sender:
    """Sends draws, and keeps what came back. `seen`: how often each outcome; `wrong`: what should not have come back."""

    target: Target
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    _lock: Lock = field(default_factory=Lock)

    def send(self, draw: Draw) -> None:
        start = time.monotonic()
        try:
            outcome, good = self._send(draw)
        except Exception as err:
            outcome, good = f"{type(err).__name__}: {err}", False
        took = time.monotonic() - start
        with self._lock:
            self.seen[outcome if good else "wrong"] += 1
            self.slowest = max(self.slowest, (took, draw.told))
            if not good:
                self.wrong.append(f"{draw.told}: {outcome} after {took:.1f} s")

    def _send(self, draw: Draw) -> tuple[str, bool]:
        if isinstance(draw, Http):
            return self._post(draw.headers, draw.body())
        if isinstance(draw, Rpc):
            return self._call(draw)
        with self._connect(20.0) as connection:
            connection.settimeout(3.0)
            try:
                with suppress(TimeoutError):  # who reads no answers is not read either
                    connection.sendall(draw.data())
                if not draw.waits:
                    return "left", True
                connection.settimeout(20.0)
                got = connection.recv(100)
            except ConnectionError as err:  # what has no end is cut off
                return type(err).__name__, True
        return self._judge(int(got.split()[1]), "") if got else ("closed", True)

    def _connect(self, timeout_s: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.target.port), timeout=timeout_s)

    def _post(self, headers: str, body: bytes) -> tuple[str, bool]:
        with self._connect(ANSWER_S) as connection:
            head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode())
            connection.sendall(body)
            got = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        status, code = int(got[9:12]), ""
        with suppress(ValueError, AttributeError):
            code = json.loads(got.split(b"\r\n\r\n", 1)[1]).get("code", "")
        return self._judge(status, code)

    @staticmethod
    def _judge(status: int, code: str) -> tuple[str, bool]:
        good = status < 500 or status == 503 or (status in ODD_STATUS and code in ("", ODD_STATUS[status]))
        return f"{status} {code}".strip(), good

    def _call(self, draw: Rpc) -> tuple[str, bool]:
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        coding = grpc.Compression.Gzip if draw.gzip else grpc.Compression.NoCompression
        with grpc.insecure_channel(self.target.grpc, options=options) as channel:
            path = f"/{SERVICE}/{draw.method}"
            try:
                if draw.method == "ModelStreamInfer":
                    list(channel.stream_stream(path)(iter(draw.bodies()), timeout=ANSWER_S, compression=coding))
                else:
                    channel.unary_unary(path)(draw.bodies()[0], timeout=ANSWER_S, compression=coding)
            except grpc.RpcError as err:
                code = dict(err.trailing_metadata() or ()).get("visor-code", "")
                outcome = f"{err.code().name} {code}".strip()
                return (outcome, True) if err.code() in GOOD_CODES else (f"{outcome}: {err.details()}", False)
        return "OK", True


def send_drawn(sender: Sender, kind: str, count: int, until: float) -> int:
    """Draw and send this many of a kind, some at once, as long as there is time; how many were sent."""
    sent = 0
    turns = BoundedSemaphore(2 * AT_ONCE)
    strategy: st.SearchStrategy[Draw] = KINDS[kind][1]
    with ThreadPoolExecutor(AT_ONCE) as pool:

        @generated(count)
        @given(strategy)
        def ask(draw: Draw) -> None:
            nonlocal sent
            if sent == count or time.monotonic() > until:
                return
            sent += 1
            turns.acquire()
            pool.submit(sender.send, draw).add_done_callback(lambda _: turns.release())

        ask()
    return sent


def honest_answers(target: Target, images: dict[Path, str]) -> list[object]:
    """Labels and scores of honest pictures, without what differs from request to request."""
    answers = []
    for path in images:
        headers = {"Content-Type": "image/png"}
        answer = httpx.post(f"http://{target.rest}{INFER}", content=path.read_bytes(), headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        answers.append({one["name"]: one["data"] for one in answer.json()["outputs"] if one["name"] in ("label", "confidence")})
    return list(answers)


def large(target: Target, clients: int) -> Counter[str]:
    """Send an honest request of 60 MiB from each of so many clients, over either protocol; what each got."""
    picture = paint("JPEG", "RGB", 1500, 1000, noisy=True, frames=1)
    padded = picture + bytes(20 * MIB - len(picture) - 100)  # as cameras pad theirs
    sender = Sender(target)
    for way in ("binary", "gRPC"):
        draw = send_picture("honest", lambda: padded, way, 3)
        body = draw.body() if isinstance(draw, Http) else draw.bodies()[0] if isinstance(draw, Rpc) else b""
        shared = (
            replace(draw, body=lambda body=body: body)
            if isinstance(draw, Http)
            else replace(draw, bodies=lambda body=body: [body])
        )
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(sender.send, [shared] * clients))
    assert sender.wrong == []
    return sender.seen


def check_memory(target: Target, before: dict[str, list[int]]) -> dict[str, list[int]]:
    """Wait until the processes of each kind have no more than before, but for GROWTH, and SLACK for each; what they have."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        now = target.memory()
        if all(
            sum(held) <= sum(before.get(name, [])) * (1 + GROWTH) + (JAVA_SLACK if name == "java" else SLACK) * len(held)
            for name, held in now.items()
        ):
            return now
        assert time.monotonic() < deadline, f"{before} -> {now}"
        time.sleep(1)


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("groups", ["pod", "serve"] if SOAK else ["pod"], indirect=True)
def test_nothing_hostile_ends_a_server_of_the_chart_s_memory(target: Target, images: dict[Path, str]) -> None:
    expected = honest_answers(target, images)
    assert large(target, 1) == {"200": 1, "OK": 1}  # each process has met what an honest request may bring
    wait_until(lambda: len(target.workers()) == 2)
    time.sleep(3)  # after which the edge has given back what that took
    workers, before = target.workers(), target.memory()
    sender, probe, start = Sender(target), Probe(target), time.monotonic()
    held = [socket.create_connection(("127.0.0.1", target.port)) for _ in range(100)]  # clients that never finish
    for n, connection in enumerate(held):
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n"[: 20 + n].encode())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(sender.send, reported()))
    told = [f"reported: {sender.seen.total()} in {time.monotonic() - start:.0f} s: {dict(sender.seen.most_common())}"]
    begin, end = time.monotonic(), time.monotonic() + BOUND_S
    sent = {}
    for kind, (share, _) in KINDS.items():
        at, sender.seen = time.monotonic(), Counter()
        sent[kind] = send_drawn(sender, kind, round(share * TOTAL), end)
        told.append(f"{kind}: {sent[kind]} in {time.monotonic() - at:.0f} s: {dict(sender.seen.most_common())}")
    took = time.monotonic() - begin
    if SOAK:  # else tests/integration/transformer/test_memory.py is enough
        clients = large(target, 16)
        told.append(f"16 clients of 60 MiB each, REST and gRPC: {dict(clients)}")
        assert set(clients) <= {"200", "OK", "503 server.memory", "RESOURCE_EXHAUSTED server.memory"}
        assert min(clients["200"], clients["OK"]) > 0
    for connection in held:
        connection.close()

    times, late = probe.times()
    within = sum(each <= WITHIN_S for each in times) / len(times)
    kills = {name: oom_kills(group) for name, group in target.groups.items()}
    assert honest_answers(target, images) == expected
    told += [
        f"drawn: {sum(sent.values())} in {took:.0f} s; slowest answer {sender.slowest[0]:.1f} s ({sender.slowest[1]})",
        f"probes: {len(times)}, {within:.3%} within {WITHIN_S:g} s, the slowest {times[-1]:.2f} s",
        f"probes: median {times[len(times) // 2]:.3f} s, p99 {times[len(times) * 99 // 100]:.3f} s",
        f"probes: late themselves by {late[-1]:.2f} s at most, {sum(each > WITHIN_S for each in late)} by over {WITHIN_S:g} s",
        f"workers {sorted(workers)} -> {sorted(target.workers())}; OOM kills {kills or 'not known: no cgroup'}",
        f"wrong: {len(sender.wrong)}",
    ]
    sys.stdout.write("\n".join(["", *told, *sender.wrong, ""]))
    after = check_memory(target, before)
    change = {name: (sum(before.get(name, [])) // MIB, sum(held) // MIB) for name, held in after.items()}
    share = sum(map(sum, after.values())) / sum(map(sum, before.values()))
    sys.stdout.write(f"MiB of memory: {change}, all together {share:.3f} of what it was\n")
    assert sender.wrong == []
    assert not any(kills.values())
    assert target.workers() == workers
    assert within >= SHARE, times[-20:]
    assert all(sent.values())
    assert not SOAK or sum(sent.values()) >= TOTAL
