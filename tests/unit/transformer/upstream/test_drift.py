"""The bins that a worker answers are counted, whichever way the answer came: over TorchServe's HTTP, and out of the cache."""

import json
from collections import Counter

import httpx
import numpy as np
import pytest

from tests.unit.transformer.conftest import DIGEST, load_handler, write_archive
from tests.unit.transformer.references import make_reference
from tests.unit.transformer.test_metrics import by_bin
from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.service import Service
from transformer.upstream.answer_cache import AnswerCache

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}
REFERENCE = make_reference([[10, 10, 10]] * 9)


@pytest.fixture(scope="module")
def handler(spec, tmp_path_factory):
    """The archive's real handler, with a reference beside its network."""
    folder = write_archive(tmp_path_factory.mktemp("archive"), spec)
    np.savez(folder / "reference.npz", **REFERENCE.arrays)
    return load_handler(folder)


async def test_images_are_counted_by_the_bins_that_the_handler_answers(upstream, torchserve, spec, images, ask_handler):
    expected = [Counter(dict.fromkeys(range(3), 0)) for _ in REFERENCE.figures]
    metrics = Metrics(spec, DIGEST, reference=REFERENCE)
    service = Service(spec, DIGEST, upstream, metrics, cache=AnswerCache(2))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
        for image in (images[0], images[1], images[1], b"none", images[2]):
            answered = await client.post(URL, content=image, headers=ONE)
            if image == b"none":
                assert answered.json()["code"] == "image.undecodable"
                continue
            for counted, bin_ in zip(expected, ask_handler(image)["drift"], strict=True):
                counted[bin_] += 1
        await service.close()
    assert len(torchserve.calls) == 4  # one came from the cache
    assert by_bin(metrics) == {name: [*counted.values()] for name, counted in zip(REFERENCE.figures, expected, strict=True)}


async def test_a_worker_of_another_archive_is_found_out(upstream, spec, images):
    """Its figures have three bins, and those of this edge's archive two: an answer in the third cannot be its."""
    metrics = Metrics(spec, DIGEST, reference=make_reference([[10, 10]] * 9))
    service = Service(spec, DIGEST, upstream, metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
        answer = await client.post(URL, content=images[0], headers=ONE)
        await service.close()
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream.failed")
    assert "drift bins" in json.loads(answer.content)["error"]
    assert {sum(bins) for bins in by_bin(metrics).values()} == {0}
