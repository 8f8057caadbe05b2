"""A pod's two containers as processes: `python -m visor.pod` with a real TorchServe, and the edge beside it."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from archives.contents import read_spec
from tests.integration.cgroups import MIB, make_cgroup, oom_kills, remove_cgroup
from tests.integration.pods import READY_TIMEOUT_S, Pod, wait_until
from tests.integration.running import Workspace, ask, copy_without_weights, is_worker, picture
from visor.serving import memory
from visor.serving.torchserve import free_ports


@pytest.fixture
def pod(workspace: Workspace, archive: Path, tmp_path: Path) -> Iterator[Pod]:
    """A pod whose storage holds the archive; whatever runs of it afterwards is ended."""
    made = Pod(tmp_path, free_ports(5), workspace.public_key)
    made.models.mkdir()
    for end in ("", ".sig"):
        shutil.copy(f"{archive}{end}", made.models)
    yield made
    for process in (made.edge, made.serving):
        if process and process.poll() is None:
            process.kill()  # TorchServe's guard ends what it started
            process.wait()


def images_waiting(pod: Pod) -> float:
    """How many wait at the edge for a worker, by its metrics."""
    [value] = re.findall(r"^visor_queue_images\{.*\} (\S+)$", httpx.get(f"{pod.rest}/metrics").text, re.MULTILINE)
    return float(value)


def takes_nobody(pod: Pod) -> bool:
    """Whether the edge has stopped listening."""
    try:
        httpx.get(f"{pod.rest}/v2/health/live")
    except httpx.TransportError as err:
        return isinstance(err, httpx.ConnectError)
    return False


def test_a_pod_serves_and_ends_in_order(pod: Pod, archive: Path, images: dict[Path, str]) -> None:
    edge, serving = pod.start_edge(), pod.start_serving()  # the edge waits for the archive
    pod.wait_ready()
    family = psutil.Process(serving.pid).children(recursive=True)
    pictures = [path.read_bytes() for path in images]

    answer = pod.infer(pictures).json()
    assert answer["parameters"]["archive_digest"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert {output["name"]: output["shape"][0] for output in answer["outputs"]}["decision"] == len(pictures)
    assert pod.check() == 0
    metrics = httpx.get(f"{pod.rest}/metrics").text
    bins = re.findall(r"^visor_drift_images_total\{.*figure=\"brightness\".*\} (\S+)$", metrics, re.MULTILINE)
    assert sum(map(float, bins)) >= len(pictures)
    # The edge asked the worker itself: of the model's requests TorchServe has counted none.
    counted = httpx.get(f"http://127.0.0.1:{pod.ports[2]}/metrics").text
    assert "ts_inference_requests_total{" not in counted

    (worker,) = filter(is_worker, family)
    mapped = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "libopenvino" in mapped
    assert "libtorch" not in mapped

    # The kubelet tells both at once; here the edge learns of it later, and finds TorchServe still there.
    serving.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert pod.infer(pictures).status_code == 200
    answers: list[int] = []
    under_way = threading.Thread(target=lambda: answers.append(pod.infer(pictures * 5).status_code))
    worker.suspend()  # a request is under way for as long as this test needs it
    try:
        under_way.start()
        wait_until(lambda: images_waiting(pod) > 0)
        edge.send_signal(signal.SIGTERM)
        wait_until(lambda: takes_nobody(pod))
        assert answers == []
    finally:
        worker.resume()
    under_way.join()
    assert answers == [200]
    assert edge.wait(30) == 0
    assert serving.wait(30) == 0
    assert "visor: the edge is done" in pod.log
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert pod.last_words == ""
    assert pod.check() == 1


def test_a_tampered_archive_is_refused_before_anything_opens_it(pod: Pod) -> None:
    copy = pod.models / "digits.mar"
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    assert pod.start_serving().wait(60) == 1
    assert pod.log == f"visor: archive.refused: {copy} is refused: {pod.log.split('is refused: ')[1]}"
    assert pod.log == pod.last_words + "\n"
    assert not (pod.work / "archive").exists()


def test_two_archives_are_refused(pod: Pod) -> None:
    shutil.copytree(pod.models, pod.models / "2")
    assert pod.start_serving().wait(60) == 1
    assert pod.last_words.startswith("visor: archive.ambiguous: 2 archives lie below")


def test_a_worker_that_cannot_load_leaves_its_reason(pod: Pod, workspace: Workspace, tmp_path: Path) -> None:
    run = copy_without_weights(workspace, tmp_path / "run")
    store = tmp_path / "store"
    broken = workspace.ok("archive", str(run), "--backend", "torch", "--store", str(store)).strip().splitlines()[-1]
    for end in ("", ".sig"):
        shutil.copy(f"{broken}{end}", pod.models)
    serving = pod.start_serving()
    assert serving.wait(READY_TIMEOUT_S) == 1
    assert pod.last_words.startswith("visor: serve.failed: the worker cannot load the archive")
    assert "model.safetensors does not fit" in pod.last_words
    left = [process for process in psutil.process_iter(["environ"]) if str(pod.work) in (process.info["environ"] or {}).values()]
    assert left == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pod_that_still_waits_for_its_archive_ends_at_once(pod: Pod, number: int) -> None:
    shutil.rmtree(pod.models)
    edge, serving = pod.start_edge(), pod.start_serving()
    for log in (pod.folder / "edge.log", pod.folder / "serving.log"):
        wait_until(lambda log=log: "waiting for" in log.read_text())
    for process in (edge, serving):
        assert process.poll() is None, pod.log
        os.kill(process.pid, number)
    assert edge.wait(30) == 0
    assert serving.wait(30) == 1
    assert pod.last_words.startswith("visor: archive.missing: ")


@pytest.fixture
def make_group(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a control group of so many bytes of memory, of the kernel's version 1 or 2, where this user may."""
    made: list[Path] = []

    def make(limit: int) -> Path:
        group = make_cgroup(f"visor-{os.getpid()}-{tmp_path.name}-{len(made)}", limit)
        if group is None:
            pytest.skip("no memory cgroup can be made here")
        made.append(group)
        return group

    yield make
    for group in made:
        remove_cgroup(group)


def needs(pod: Pod) -> memory.ArchiveMemory:
    archive = pod.models / "digits.mar"
    spec, _ = read_spec(archive)
    return memory.of_archive(spec.backend, archive.stat().st_size, spec.limits)


def test_a_torchserve_that_is_killed_ends_the_pod_at_once_with_its_reason(pod: Pod) -> None:
    edge, serving = pod.start_edge(), pod.start_serving("--linger-s", "60")
    pod.wait_ready()
    family = psutil.Process(serving.pid).children(recursive=True)
    [java] = [process for process in family if process.name() == "java"]
    java.kill()
    assert serving.wait(3) == 1
    assert pod.last_words.startswith("visor: serve.ended: TorchServe was killed (137), by somebody or")
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert httpx.get(f"{pod.rest}/v2/health/ready").status_code == 503
    assert httpx.get(f"{pod.rest}/v2/health/live").status_code == 200
    pod.start_serving()  # as the kubelet does
    pod.wait_ready()
    assert edge.poll() is None


def test_a_torchserve_that_the_kernel_kills_for_memory_is_named_so(make_group: Callable[[int], Path], pod: Pod) -> None:
    limit = 900 * MIB
    group = make_group(limit)
    serving = pod.start_serving(cgroup=group)
    pod.start_edge()
    pod.wait_ready()
    [java] = [child for child in psutil.Process(serving.pid).children(recursive=True) if child.name() == "java"]
    Path(f"/proc/{java.pid}/oom_score_adj").write_text("1000")  # so that it is chosen
    hog = "import sys, time; open(sys.argv[1], 'w').write('0'); taken = bytearray(b'x') * int(sys.argv[2]); time.sleep(60)"
    command = [sys.executable, "-c", hog, str(group / "cgroup.procs"), str(limit)]
    with subprocess.Popen(command) as process:
        try:
            assert serving.wait(30) == 1
        finally:
            process.kill()
    assert pod.last_words.startswith(
        "visor: serve.ended: TorchServe was killed (137, OOM): the memory limit of 900 MiB was reached"
    )


def test_a_limit_in_which_no_worker_starts_is_refused_before_one_does(make_group: Callable[[int], Path], pod: Pod) -> None:
    assert pod.start_serving(cgroup=make_group(240 * MIB)).wait(60) == 1
    assert pod.last_words.startswith("visor: serve.memory: with the largest pictures 1 worker may take")
    assert "the memory limit is 240 MiB; they need" in pod.last_words


def test_the_limit_that_the_sum_gives_holds_whatever_pictures_come(make_group: Callable[[int], Path], pod: Pod) -> None:
    group = make_group(-(-memory.needed(1, needs(pod)) // MIB) * MIB)
    serving = pod.start_serving(cgroup=group)
    pod.start_edge()
    pod.wait_ready()
    [worker] = filter(is_worker, psutil.Process(serving.pid).children(recursive=True))
    pictures = [
        picture("PNG", 7000, 7000),
        picture("PNG", 5500, 5500, "RGBA"),
        picture("JPEG", 6000, 6000, progressive=True, subsampling=0),
        picture("WEBP", 3900, 3900, "RGBA", lossless=True),
        picture("TIFF", 7000, 7000, compression="tiff_deflate"),
        picture("PNG", 100_000, 400),
        picture("BMP", 2600, 2600),
    ]
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda data: ask(pod.rest.removeprefix("http://"), data), 2 * pictures))
    assert {answer.status_code for answer in answers} <= {200, 400}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 400} <= {"image.too_large"}
    assert [answer.status_code for answer in answers].count(200) >= 2 * 5
    assert oom_kills(group) == 0
    assert worker.is_running()
    assert "serve.memory" not in pod.log
