"""`visor serve` twice, a stable release and its canary: what a shadow counts, and that users see nothing of a failing one."""

import json
import os
import shutil
import signal
import statistics
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient import grpc as triton

from archives import signing
from archives.contents import SPEC, unpacked
from handlers.entry import VisorHandler
from handlers.spec import Spec
from tests.integration.running import Server, Workspace, ask, start_server, stop_server
from transformer.shadow import DEADLINE_S, MAX_CALLS

SLOW_S = 1.5

pytestmark = pytest.mark.usefixtures("stable", "canary")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shadow")


@pytest.fixture(scope="module")
def other(workspace: Workspace, archive: Path, images: dict[Path, str], place: Path) -> Path:
    """The archive once more as version 2: less sure of everything, and with a threshold that half of the images are below."""
    with unpacked(archive) as folder:
        handler = VisorHandler()
        handler.initialize(SimpleNamespace(system_properties={"model_dir": str(folder)}))
        answers = [json.loads(handler.answer(path.read_bytes(), {})[1])["probabilities"] for path in images]
    flatter = [np.array(probabilities) ** (1 / 1.5) for probabilities in answers]  # of a temperature 1.5 times as high
    threshold = float(np.median([one.max() / one.sum() for one in flatter]))
    copy = Path(shutil.copy(archive, place))
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(copy, "w") as new:
        for member in old.infolist():
            data = old.read(member)
            if member.filename == SPEC:
                spec = Spec.parse(data, SPEC)
                rule = spec.decision.model_copy(update={"threshold": threshold})
                changed = spec.model_copy(update={"version": "2", "temperature": 1.5 * spec.temperature, "decision": rule})
                data = changed.model_dump_json().encode()
            new.writestr(member, data)
    signing.sign(copy, workspace.path / "keys" / "visor.key")
    return copy


@pytest.fixture(scope="module")
def canary(workspace: Workspace, other: Path, place: Path) -> Iterator[Server]:
    server = start_server(workspace, str(other), place / "canary.log", "--workers", "1", "--track", "canary")
    yield server
    stop_server(server)


@pytest.fixture(scope="module")
def stable(workspace: Workspace, archive: Path, canary: Server, place: Path) -> Iterator[Server]:
    shadow = ("--shadow-url", f"http://{canary.rest}", "--shadow-file", str(place / "shadow.json"))
    server = start_server(workspace, str(archive), place / "stable.log", "--workers", "1", "--track", "stable", *shadow)
    yield server
    stop_server(server)


def tell(stable: Server, place: Path, percent: float) -> None:
    """Have the stable server ask the canary about this share, and return once it does."""
    (place / "shadow.new").write_text(json.dumps({"percent": percent}))
    (place / "shadow.new").replace(place / "shadow.json")
    time.sleep(2.5)
    assert stable.process.poll() is None


def exposed(server: Server) -> dict[str, float]:
    """A shadow's figures: its images by result, and the other samples by their names and whose they are."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"http://{server.rest}/metrics").text):
        for sample in family.samples:
            if sample.name.startswith("visor_shadow") and "drawn" not in sample.name:  # one image of each request
                more = filter(None, (sample.labels.get("whose"), sample.labels.get("le")))
                key = sample.labels.get("result") or " ".join((sample.name, *more))
                found[key] = sample.value
    return found


def grown(before: dict[str, float], server: Server, images: int) -> dict[str, float]:
    """By how much a shadow's figures have grown, once they have by so many images."""
    results = ("agreed", "label", "decision", "error", "timeout", "dropped")
    deadline = time.monotonic() + 60
    while True:
        change = {key: value - before.get(key, 0.0) for key, value in exposed(server).items()}
        if (counted := sum(change.get(result, 0.0) for result in results)) >= images:
            assert counted == images
            return {key: value for key, value in change.items() if value}
        assert time.monotonic() < deadline, change
        time.sleep(0.05)


def row_of(server: Server, picture: bytes) -> dict[str, Any]:
    """What a server answers to one picture, over REST as JSON."""
    headers = {"Content-Type": "image/png"}
    answer = httpx.post(f"http://{server.rest}/v2/models/digits/infer", content=picture, headers=headers, timeout=60)
    assert answer.status_code == 200
    outputs = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    return {"label": outputs["label"][0], "decision": outputs["decision"][0], "score": outputs["score"][0],
            "probabilities": outputs["probabilities"]}  # fmt: skip


def infer_grpc(server: Server, pictures: list[bytes]) -> list[str]:
    tensor = triton.InferInput("image", [len(pictures)], "BYTES")
    tensor.set_data_from_numpy(np.array(pictures, dtype=object))
    with triton.InferenceServerClient(server.grpc) as client:
        answer = client.infer("digits", [tensor])
    columns = [answer.as_numpy(name).tolist() for name in ("label", "decision")]
    return [f"{label.decode()} {decision.decode()}" for label, decision in zip(*columns, strict=True)]


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """These processes do nothing meanwhile, and their connections stay open."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_agreement_is_counted_by_arithmetic(
    stable: Server, canary: Server, place: Path, archive: Path, images: dict[Path, str]
) -> None:
    """Each picture once over REST and, all in one request, over gRPC; what is expected comes of asking the canary itself."""
    pictures = [path.read_bytes() for path in images]
    theirs = [row_of(canary, picture) for picture in pictures]
    tell(stable, place, 100)
    requests = httpx.get(f"http://{canary.rest}/v2/models/digits/stats").json()
    before = exposed(stable)
    ours = [row_of(stable, picture) for picture in pictures]
    assert infer_grpc(stable, pictures) == [f"{row['label']} {row['decision']}" for row in ours]
    found = grown(before, stable, 2 * len(pictures))

    with zipfile.ZipFile(archive) as mar:
        rule = json.loads(mar.read(SPEC))["decision"]

    def cost_of(row: dict[str, Any]) -> float:
        """A review costs 0.2; a pass 1 times the chance that another label is right."""
        assert rule["review_cost"] == 0.2
        return 0.2 if row["decision"] == "review" else 1 - max(row["probabilities"])

    pairs = list(zip(ours, theirs, strict=True))
    assert [mine["label"] for mine in ours] == [row["label"] for row in theirs]  # the same network
    expected = Counter("agreed" if mine["decision"] == row["decision"] else "decision" for mine, row in pairs)
    assert set(expected) == {"agreed", "decision"}, "pictures that tell nothing"
    assert {key: value for key, value in found.items() if " " not in key and not key.startswith("visor")} == {
        result: 2 * count for result, count in expected.items()
    }
    for bound in (-0.2, -0.1, -0.05, 0.1):
        below = sum(row["score"] - mine["score"] <= bound for mine, row in pairs)
        assert found.get(f"visor_shadow_score_difference_bucket {bound}", 0) == 2 * below
    assert found["visor_shadow_score_difference_count"] == found["visor_shadow_priced_images_total"] == 2 * len(pairs)
    assert found["visor_shadow_cost_total stable"] == pytest.approx(2 * sum(map(cost_of, ours)), abs=1e-4)
    assert found["visor_shadow_cost_total canary"] == pytest.approx(2 * sum(map(cost_of, theirs)), abs=1e-4)
    assert httpx.get(f"http://{canary.rest}/v2/models/digits/stats").json() == requests  # none of its own


def users(stable: Server, pictures: list[bytes]) -> tuple[list[dict[str, Any]], list[str], float]:
    """What users are answered over REST and gRPC, and the seconds of the median request over REST."""
    rows, seconds = [], []
    for picture in pictures:
        began = time.perf_counter()
        rows.append(row_of(stable, picture))
        seconds.append(time.perf_counter() - began)
    return rows, infer_grpc(stable, pictures), statistics.median(seconds)


def test_a_canary_that_is_slow_or_hangs_or_dies_changes_nothing_for_users(
    stable: Server, canary: Server, place: Path, images: dict[Path, str]
) -> None:
    """The same answers, and none that waits for the canary, which takes SLOW_S at least; what a shadow costs is measured by
    `loadtests.bench.shadow`."""
    pictures = [path.read_bytes() for path in images]
    count = 2 * len(pictures)
    tell(stable, place, 0)
    rows, over_grpc, _ = users(stable, pictures)
    tell(stable, place, 100)

    def see_nothing(before: dict[str, float]) -> dict[str, float]:
        began = time.monotonic()
        answered = users(stable, pictures)
        assert answered[:2] == (rows, over_grpc)
        assert answered[2] < SLOW_S / 2
        assert time.monotonic() - began < DEADLINE_S
        return before

    assert set(grown(see_nothing(exposed(stable)), stable, count)) & {"error", "timeout", "dropped"} == set()

    before = exposed(stable)
    with stopped(*canary.workers()):  # slow: it answers 1.5 s later
        see_nothing(before)
        time.sleep(SLOW_S)
    slow = grown(before, stable, count)
    assert set(slow) & {"error", "timeout", "dropped"} == set()
    assert slow["visor_shadow_seconds_sum"] > SLOW_S * MAX_CALLS

    before = exposed(stable)
    with stopped(canary.process.pid):  # it hangs: connections are made, and nobody reads
        see_nothing(before)
        hung = grown(before, stable, count)
    assert {result for result in hung if not result.startswith("visor")} == {"timeout"}

    before = exposed(stable)
    canary.process.kill()
    canary.process.wait()
    dead = grown(see_nothing(before), stable, count)
    assert dead["error"] == count
    assert {result for result in dead if not result.startswith("visor")} == {"error"}
    assert "has no answer" in stable.log.read_text()
    assert ask(stable.rest, pictures[0]).status_code == 200
