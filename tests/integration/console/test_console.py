"""`visor console serve` as a process in front of a real `visor serve`: what docs/console.md promises of it."""

import asyncio
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from loadtests.bench.pictures import photo
from tests.integration.console.consoles import Console, environment, running
from tests.integration.running import ROOT, Server, Workspace, start_server, stop_server
from tests.unit.blocks import blocks_of
from tests.volume import EXAMPLES, SOAK, generated

UPLOADS = 200
PROFILE = EXAMPLES["soak" if SOAK else "ci"]


@pytest.fixture(scope="module")
def console(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console that everybody on this machine may use."""
    with running(tmp_path_factory.mktemp("console"), "--servers", f"http://{server.rest}") as started:
        yield started


async def test_two_hundred_uploads_of_100_kb_at_once_are_all_answered(console: Console, server: Server) -> None:
    pictures = [photo(seed, 768, 512) for seed in range(8)]
    assert 80_000 < sum(map(len, pictures)) / len(pictures) < 130_000
    limits = httpx.Limits(max_connections=UPLOADS)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        expected = []
        for picture in pictures:
            files = {"image": ("a.jpg", picture, "image/jpeg")}
            own = (await client.post(f"http://{server.rest}/v2/models/digits/infer", files=files)).json()
            expected.append({output["name"]: output["data"] for output in own["outputs"]}["label"][0])

        async def upload(n: int) -> tuple[int, str]:
            answer = await client.post(f"{console.url}/predict", files={"image": (f"{n}.jpg", pictures[n % 8])})
            return answer.status_code, answer.json().get("label")

        answered = await asyncio.gather(*(upload(n) for n in range(UPLOADS)))
    assert answered == [(200, expected[n % 8]) for n in range(UPLOADS)]


@pytest.mark.parametrize(
    ("path", "mode", "share"),
    [
        ("/predict", GenerationMode.POSITIVE, 1.0),
        ("/predict", GenerationMode.NEGATIVE, 1.0),
        ("/batch_predict", GenerationMode.POSITIVE, 0.5),
        ("/batch_predict", GenerationMode.NEGATIVE, 0.5),
        (None, GenerationMode.POSITIVE, 0.5),
        (None, GenerationMode.NEGATIVE, 0.5),
    ],
)
def test_nothing_is_answered_that_the_document_does_not_have(
    console: Console, path: str | None, mode: GenerationMode, share: float
) -> None:
    document = schemathesis.openapi.from_dict(httpx.get(f"{console.url}/openapi.json").json())
    asked = document[path]["POST"] if path else document
    count, sent = round(share * PROFILE), 0
    with requests.Session() as session:

        @generated(count)
        @given(asked.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal sent
            sent += 1
            response = case.call(base_url=console.url, session=session)
            assert response.status_code < 500, response.text
            assert response.headers["x-content-type-options"] == ["nosniff"]
            case.validate_response(
                response, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
            )

        ask()
    assert sent >= count


def test_the_document_says_every_status_and_has_examples(console: Console) -> None:
    document = httpx.get(f"{console.url}/openapi.json").json()
    predict = document["paths"]["/predict"]["post"]
    statuses = {"200", "400", "401", "403", "404", "406", "408", "413", "415", "422", "429", "502", "503", "504"}
    assert set(predict["responses"]) == statuses
    assert set(document["paths"]["/batch_predict"]["post"]["responses"]) == statuses | {"507"}
    error = document["components"]["schemas"]["ErrorBody"]["properties"]
    assert error["code"]["examples"] == ["image.undecodable"]
    assert {"image/png", "image/jpeg", "image/webp"} < set(predict["responses"]["200"]["content"])


def test_the_page_of_the_api_needs_no_other_host(console: Console) -> None:
    page = httpx.get(f"{console.url}/docs")
    assert page.status_code == 200
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert named
    for name in named:
        if not name.startswith("data:"):
            assert httpx.get(f"{console.url}/{name}").status_code == 200, name
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(f"{console.url}/docs/..%2f..%2fsettings.py").status_code == 404


def test_the_pages_commands_are_answered(console: Console, images: dict[Path, str], tmp_path: Path) -> None:
    blocks = blocks_of("docs/console.md", "tests/integration/console/test_console.py::test_the_pages_commands_are_answered")
    assert len(blocks) == 8
    first, second, *_ = images
    shutil.copy(first, tmp_path / "a.png")
    shutil.copy(second, tmp_path / "b.png")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as made:
        made.write(first, "a.png")
        made.write(second, "b.png")
    answers = []
    for block in blocks:
        here = block.text.replace("http://127.0.0.1:8090", console.url)
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", here],
            cwd=tmp_path,
            env={**environment(), "KEY": "unused"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{here}\n{done.stdout!r}\n{done.stderr!r}"
        answers.append(done.stdout)
    raw, form = (json.loads(answer) for answer in answers[:2])
    assert raw == form
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "answers.csv").read_text().count("\n") == 3


def test_a_key_of_the_command_opens_the_console_and_its_log_has_none(
    server: Server, workspace: Workspace, images: dict[Path, str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    secret = workspace.ok("console", "key", "shop", "--scope", "predict", "--keys-file", str(keys)).strip()
    picture = next(iter(images)).read_bytes()
    with running(tmp_path, "--servers", f"http://{server.rest}", "--keys-file", str(keys)) as console:
        url = f"{console.url}/predict"
        assert httpx.post(url, files={"image": picture}).status_code == 401
        assert httpx.post(url, files={"image": picture}, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert httpx.post(f"{url}?key={secret}", files={"image": picture}).status_code == 401
    log = console.log.read_text()  # whole once it has ended: a request's line is written after its answer
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    asked = [line for line in lines if line.get("path") == "/predict"]
    assert [(line["status"], line["asked_by"], line["code"]) for line in asked] == [
        (401, "", "console.unauthenticated"),
        (200, "shop", ""),
        (401, "", "console.unauthenticated"),
    ]
    assert secret not in log


def test_a_console_whose_server_is_killed_says_so_and_finds_the_next_one(
    workspace: Workspace, archive: Path, images: dict[Path, str], tmp_path: Path
) -> None:
    picture = next(iter(images)).read_bytes()
    first = start_server(workspace, str(archive), tmp_path / "server.log", "--workers", "1")
    port = first.rest.rpartition(":")[2]
    try:
        with running(tmp_path, "--servers", f"http://{first.rest}", "--max-wait-s", "5") as console:
            assert httpx.post(f"{console.url}/predict", files={"image": picture}).status_code == 200
            stop_server(first)
            answer = httpx.post(f"{console.url}/predict", files={"image": picture}, timeout=30)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "console.server_down")
            second = start_server(workspace, str(archive), tmp_path / "second.log", "--workers", "1", "--port", port)
            try:
                assert httpx.post(f"{console.url}/predict", files={"image": picture}, timeout=30).status_code == 200
            finally:
                stop_server(second)
    finally:
        if first.process.poll() is None:
            stop_server(first)


async def test_large_uploads_at_once_take_no_more_memory_than_they_may(server: Server, tmp_path: Path) -> None:
    """Thirty uploads of 15 MiB are 450 MiB: they wait for room, and the server refuses what is no picture."""
    with running(tmp_path, "--servers", f"http://{server.rest}", "--memory-mib", "64") as console:
        status = Path(f"/proc/{console.process.pid}/status")

        def peak_mib() -> int:
            found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
            assert found
            return int(found[1]) >> 10

        async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=30)) as client:
            kind = {"Content-Type": "image/png"}
            await client.post(f"{console.url}/predict", content=b"x", headers=kind)
            before = peak_mib()
            content = bytes(15 << 20)
            answers = await asyncio.gather(
                *(client.post(f"{console.url}/predict", content=content, headers=kind) for _ in range(30))
            )
        assert {answer.status_code for answer in answers} == {400}
        assert peak_mib() - before < 64 + 32


def test_it_ends_by_sigterm_and_answers_what_it_has_begun(server: Server, images: dict[Path, str], tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for n, path in enumerate(images):
            made.write(path, f"{n}.png")
    with running(tmp_path, "--servers", f"http://{server.rest}") as console:
        kind = {"Content-Type": "application/zip"}
        with httpx.stream("POST", f"{console.url}/batch_predict", content=file.getvalue(), headers=kind, timeout=60) as answer:
            console.process.send_signal(signal.SIGTERM)
            assert len(list(answer.iter_lines())) == len(images)
        assert console.process.wait(60) == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--host", "0.0.0.0"), "visor: console.settings: .*visor console key"),
        (("--keys-file", "none.json"), "visor: console.keys: none.json is not there"),
        (("--servers", "nothing"), "visor: console.settings: --servers: entry 1: address"),
        (("--prot", "1"), "unrecognized arguments: --prot"),
    ],
)
def test_what_it_does_not_start_with_is_told(tmp_path: Path, flags: tuple[str, ...], told: str) -> None:
    command = [sys.executable, "-m", "visor.cli", "console", "serve", *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert re.search(told, done.stderr), done.stderr
    assert done.stdout == ""


def test_a_port_that_is_taken_is_told(console: Console) -> None:
    port = console.url.rpartition(":")[2]
    command = [sys.executable, "-m", "console", "--port", port]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"port {port} cannot be had" in done.stderr
