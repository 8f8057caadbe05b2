"""A served archive counts each image that it answered in one bin of each figure, over every protocol and out of the cache."""

import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient import grpc as triton

from archives.contents import open_zip, unpacked
from handlers.entry import VisorHandler
from tests.integration.running import Server, Workspace, ask, start_server, stop_server

COUNTED = "visor_drift_images_total"


@pytest.fixture
def server(workspace: Workspace, archive: Path, tmp_path: Path) -> Iterator[Server]:
    running = start_server(workspace, str(archive), tmp_path / "log", "--workers", "2", "--cache-images", "100")
    yield running
    stop_server(running)


def exposed(server: Server, name: str) -> dict[tuple[str, str], float]:
    """What `/metrics` says of a metric: figure and bin → value."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"http://{server.rest}/metrics").text):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels.get("figure", ""), sample.labels.get("bin", "")] = sample.value
    return found


def bins_of(archive: Path, pictures: list[bytes]) -> list[list[int]]:
    """What the archive's handler answers of each picture, asked in this process."""
    with unpacked(archive) as folder:
        handler = VisorHandler()
        handler.initialize(SimpleNamespace(system_properties={"model_dir": str(folder)}))
        answers = [handler.answer(picture, {}) for picture in pictures]
    return [json.loads(text)["drift"] for _, text in answers]


def test_images_fall_into_one_bin_of_each_figure(server: Server, archive: Path, images: dict[Path, str]) -> None:
    with open_zip(archive) as mar, np.load(io.BytesIO(mar.read("reference.npz"))) as file:
        figures, counts, total = [str(name) for name in file["figures"]], file["counts"], int(file["images"])
        bins = [int(np.isfinite(edges).sum()) + 1 for edges in file["edges"]]
    before = exposed(server, COUNTED)
    assert before == {(name, str(n)): 0 for name, many in zip(figures, bins, strict=True) for n in range(many)}
    shares = exposed(server, "visor_drift_reference_share")
    assert shares == {
        (name, str(n)): pytest.approx((row[n] + 0.5) / (total + 0.5 * many))
        for name, row, many in zip(figures, counts, bins, strict=True)
        for n in range(many)
    }

    pictures = [path.read_bytes() for path in images]
    for picture in [*pictures, b"no picture", *pictures[:4]]:  # the last four out of the cache
        ask(server.rest, picture)
    tensor = triton.InferInput("image", [len(pictures)], "BYTES")
    tensor.set_data_from_numpy(np.array(pictures, dtype=object))
    with triton.InferenceServerClient(server.grpc) as client:
        client.infer("digits", [tensor])
    sent = [*pictures, *pictures[:4], *pictures]

    expected: Counter[tuple[str, str]] = Counter(before)
    for bins_ in bins_of(archive, sent):
        expected.update((name, str(bin_)) for name, bin_ in zip(figures, bins_, strict=True))
    deadline = time.monotonic() + 5
    while sum(exposed(server, COUNTED).values()) < len(sent) * len(figures) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert exposed(server, COUNTED) == expected
    by_figure = [sum(value for (one, _), value in expected.items() if one == name) for name in figures]
    assert by_figure == [len(sent)] * len(figures)
    hits = httpx.get(f"http://{server.rest}/v2/models/stats").json()["model_stats"][0]["inference_stats"]["cache_hit"]
    assert hits["count"] == 4 + len(pictures)
