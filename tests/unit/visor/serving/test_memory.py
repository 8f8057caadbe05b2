"""The sum of what serving takes, and who else says it: the chart's limit and the help of the flags."""

import logging
import math
import re
from pathlib import Path

import pytest
import yaml

from handlers.spec import Limits
from transformer.settings import EdgeLimits
from visor.errors import MemoryShort
from visor.serving import memory
from visor.serving.memory import MIB, ArchiveMemory

CHART = Path(__file__).parents[4] / "charts" / "visor" / "values.yaml"
ARCHIVE = ArchiveMemory(libraries=70 * MIB, loaded=100 * MIB, picture=300 * MIB)


def test_the_sum_is_java_and_what_all_share_and_each_worker_with_a_picture() -> None:
    # 64 of this process, 112 of Java, its heap of 64 + 2 x 48 and 32 + 2 x 48 beside it, 70 of libraries, 2 x (100 + 300)
    assert memory.needed(2, ARCHIVE) == (64 + 112 + 160 + 128 + 70 + 2 * 400) * MIB
    assert memory.least(2, ARCHIVE) == (64 + 112 + 70 + 2 * 100) * MIB


def test_a_picture_is_its_budget_and_slack_and_the_request_that_it_came_in() -> None:
    # 5 bytes for each of 50 megapixels, 32 MiB beside pixels and 65 of the request
    assert memory.of_archive("openvino", 10 * MIB, Limits()) == ArchiveMemory(72 * MIB, (56 + 30) * MIB, 250_000_000 + 97 * MIB)
    assert memory.of_archive("torch", 0, Limits(max_pixels=100_000_000)).picture == 500_000_000 + 97 * MIB
    assert EdgeLimits().max_body_bytes < memory.BODY


def test_a_limit_that_holds_all_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    memory.check_limit(None, 2, ARCHIVE)
    memory.check_limit(memory.needed(2, ARCHIVE), 2, ARCHIVE)
    assert caplog.text == ""


def test_a_limit_that_holds_all_but_the_largest_pictures_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        memory.check_limit(1024 * MIB, 2, ARCHIVE)
    [said] = caplog.messages
    assert said == (
        "serve.memory: with the largest pictures 2 workers may take 1334 MiB, 400 MiB each, and the memory limit is 1024 MiB; "
        "the kernel may end one of them: raise the limit, or lower --workers or the archive's max_pixels"
    )


def test_a_limit_that_is_too_little_to_start_is_refused() -> None:
    with pytest.raises(
        MemoryShort, match=r"^serve\.memory: .* 1 worker may .* is 120 MiB; they need 346 MiB to start: raise the limit or lower"
    ):
        memory.check_limit(120 * MIB, 1, ARCHIVE)


def test_the_chart_s_limit_is_the_sum_for_its_workers_and_a_network_of_18_mib() -> None:
    text = CHART.read_text()
    limits = yaml.safe_load(text)["resources"]["serving"]["limits"]
    archive = memory.of_archive("openvino-int8", 18 * MIB, Limits())  # EfficientNet-Lite0, in single precision and in 8 bits
    workers = int(limits["cpu"])
    assert limits["memory"] == f"{math.ceil(memory.needed(workers, archive) / (256 * MIB)) * 256}Mi"
    # And its comments have the sum's parts.
    shared = memory.needed(0, archive)
    parts = [shared, memory.needed(1, archive) - shared, archive.picture]
    said = re.search(r"(\d+) MiB for Java.* plus (\d+) for each worker, (\d+) of", text)
    assert said is not None
    assert [int(number) for number in said.groups()] == [math.ceil(part / MIB) for part in parts]
    assert f"Memory: {said[1]} MiB, plus {said[2]} for each worker;" in text


def test_the_page_on_kubernetes_has_the_same_sum() -> None:
    text = (CHART.parents[2] / "docs" / "kubernetes.md").read_text()
    archive = memory.of_archive("openvino-int8", 18 * MIB, Limits())
    shared = memory.needed(0, archive)
    of_java = sum(memory.java_heap(1)) - sum(memory.java_heap(0))
    parts = [shared, memory.needed(1, archive) - shared, archive.loaded, archive.picture, of_java]
    said = re.search(r"(\d+) MiB  Java.*\n(\d+) MiB  for each worker: (\d+) for the .*, (\d+) for one .*, (\d+) for Java", text)
    assert said is not None
    assert [int(number) for number in said.groups()] == [math.ceil(part / MIB) for part in parts]
    assert f"which is {int(said[1]) + 2 * int(said[2])} MiB for two workers" in text
