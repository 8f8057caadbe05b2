"""`visor.load` and `visor.Client` say, to the last digit, what `visor predict` and a server's JSON say."""

import base64
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import visor
from tests.integration.running import Server, Workspace, start_server, stop_server

SAME = ("label", "confidence", "probabilities", "score", "decision", "threshold", "review_from", "review_to", "promise")


@pytest.fixture(scope="module")
def model(workspace: Workspace, archive: Path) -> visor.Model:
    return visor.load(archive, public_key=workspace.public_key)


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[visor.Client]:
    url = f"http://{server.rest}" if request.param == "rest" else f"grpc://{server.grpc}"
    with visor.Client(url) as client:
        yield client


def facts(answer: visor.Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in SAME}


def command(workspace: Workspace, *arguments: str) -> list[dict[str, Any]]:
    lines = workspace.ok("predict", "--json", *arguments).splitlines()
    return [{name: value for name, value in json.loads(line).items() if name in SAME} for line in lines]


def test_the_archive_answers_as_the_command_line_does(
    workspace: Workspace, archive: Path, model: visor.Model, images: dict[Path, str]
) -> None:
    paths = list(images)
    told = command(workspace, *map(str, paths), "--archive", str(archive))
    assert [facts(answer) for answer in model.predict(paths)] == told
    assert [facts(model.predict(str(path))) for path in paths] == told
    assert list(told[0]["probabilities"]) == list(model.labels) == list(map(str, range(10)))
    assert sum(told[0]["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert max(told[0]["probabilities"].values()) == told[0]["confidence"]


def test_a_server_answers_as_the_command_line_and_its_own_json(
    workspace: Workspace, server: Server, client: visor.Client, model: visor.Model, images: dict[Path, str]
) -> None:
    paths = list(images)
    answers = client.predict(paths, explain=True)
    assert [facts(answer) for answer in answers] == command(workspace, *map(str, paths), "--url", f"http://{server.rest}")
    data = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    request = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}],
        "parameters": {"explain": True},
    }
    said = httpx.post(f"http://{server.rest}/v2/models/digits/infer", json=request, timeout=60).json()
    outputs = {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in said["outputs"]}
    for n, (answer, local) in enumerate(zip(answers, model.predict(paths, explain=True), strict=True)):
        assert f"{answer.confidence:.3f}" == f"{local.confidence:.3f}" == f"{outputs['confidence'][n]:.3f}"
        assert np.float32(answer.confidence) == np.float32(outputs["confidence"][n])
        assert [np.float32(p) for p in answer.probabilities.values()] == list(outputs["probabilities"][n].astype(np.float32))
        assert (answer.label, answer.decision) == (local.label, local.decision) == (outputs["label"][n], outputs["decision"][n])
        assert answer.heatmap is not None
        assert local.heatmap is not None
        assert np.array_equal(answer.heatmap.values, outputs["heatmap"][n].astype(np.float32))
        assert answer.heatmap.values == pytest.approx(local.heatmap.values, abs=1e-4)
        assert answer.overlay().size == local.overlay().size
        assert np.abs(np.asarray(answer.overlay()).astype(int) - np.asarray(local.overlay())).mean() < 0.5
    assert {answer.digest for answer in answers} == {model.digest} == {said["parameters"]["archive_digest"]}
    assert (client.name, client.labels) == (model.name, model.labels)
    assert answers[0].source is paths[0]


def test_each_kind_of_picture_gets_the_answer_of_its_file(
    client: visor.Client, model: visor.Model, images: dict[Path, str]
) -> None:
    path = next(iter(images))
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"))
        kinds: list[visor.Picture] = [path, str(path), path.read_bytes(), opened, pixels]
        for answering in (model, client):
            first, *others = answering.predict(kinds, explain=True)
            assert all(facts(answer) == facts(first) for answer in others)
            assert all(answer.heatmap == first.heatmap for answer in others)
            assert len({answer.overlay().tobytes() for answer in (first, *others)}) == 1
            assert answering.predict(pixels[None])[0].label == first.label
            assert answering.predict(iter([path]))[0].label == first.label
            assert answering.predict([]) == []


def test_one_bad_picture_is_raised_and_among_others_has_its_own_error(
    client: visor.Client, model: visor.Model, images: dict[Path, str], tmp_path: Path
) -> None:
    good = next(iter(images))
    sentences = []
    for answering in (model, client):
        with pytest.raises(visor.ImageError, match=r"image\.undecodable: 8 bytes are not a whole image"):
            answering.predict(b"no image")
        with pytest.raises(visor.ImageUnreadable, match=r"nowhere\.png cannot be read"):
            answering.predict(tmp_path / "nowhere.png")
        with pytest.raises(visor.ImageError, match="an array of float64"):
            answering.predict(np.zeros((2, 2, 3)))
        answers = answering.predict([b"no image", good, tmp_path / "nowhere.png", b"", good])
        assert [answer.error and answer.error.code for answer in answers] == [
            "image.undecodable", None, "image.unreadable", "image.empty", None,
        ]  # fmt: skip
        assert facts(answers[1]) == facts(answers[4])
        with pytest.raises(visor.ImageError):
            answers[0].overlay()
        with pytest.raises(visor.NoHeatMap, match="explain=True"):
            answers[1].overlay()
        sentences.append([str(answer.error) for answer in answers])
    assert sentences[0] == sentences[1]


def test_a_threshold_of_ones_own_decides_and_a_wrong_one_is_refused(
    client: visor.Client, model: visor.Model, images: dict[Path, str]
) -> None:
    path = next(iter(images))
    for answering in (model, client):
        answer = answering.predict(path, threshold=1.0)
        assert (answer.decision, answer.threshold) == ("review", 1.0)
        with pytest.raises(visor.VisorError, match="threshold must be a number from 0 to 1"):
            answering.predict(path, threshold=2.0)
        with pytest.raises(visor.VisorError, match=r"request\.group"):
            answering.predict(path, group="site=north")


def test_an_archive_that_does_not_hold_is_refused(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(archive, tmp_path))
    with pytest.raises(visor.ArchiveRefused):
        visor.load(copy, public_key=workspace.public_key)  # no signature
    shutil.copy(f"{archive}.sig", f"{copy}.sig")
    with pytest.raises(visor.ArchiveUnexpected, match="asked for"):
        visor.load(copy, public_key=workspace.public_key, digest="0" * 64)
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    with pytest.raises(visor.ArchiveRefused):
        visor.load(copy, public_key=workspace.public_key)
    with pytest.raises(visor.KeyFileError):
        visor.load(archive, public_key=tmp_path / "nowhere.pub")
    with pytest.raises(visor.StoreError, match="digits"):
        visor.load("rofs", public_key=workspace.public_key, store=workspace.store)
    assert visor.load("digits", public_key=workspace.public_key, store=workspace.store).name == "digits"


def test_a_server_that_asks_for_a_token_gets_it(
    workspace: Workspace, archive: Path, images: dict[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISOR_TOKEN", raising=False)
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-this-test\n")
    running = start_server(workspace, str(archive), tmp_path / "log", "--workers", "1", "--token-file", str(tokens))
    path = next(iter(images))
    try:
        for url in (f"http://{running.rest}", f"grpc://{running.grpc}"):
            with visor.Client(url) as client, pytest.raises(visor.ClientError, match=r"request\.unauthenticated"):
                client.predict(path)
            for access in ({"token": "a-token-of-this-test"}, {"token_file": str(tokens)}):
                with visor.Client(url, **access) as client:
                    assert client.predict(path).label
        assert httpx.get(f"http://{running.rest}/").status_code == 200  # the page asks for the token itself
        assert httpx.get(f"http://{running.rest}/docs").status_code == 401
    finally:
        stop_server(running)


def test_a_server_that_cannot_be_asked_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"grpc://127.0.0.1:{port}"):
        with visor.Client(url) as client, pytest.raises(visor.ClientError, match=str(port)):
            client.predict(b"picture")
    with pytest.raises(visor.ClientError, match="ftp"):
        visor.Client("ftp://127.0.0.1")


def test_training_takes_other_values_and_refuses_wrong_ones(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("name: a\n")
    with pytest.raises(visor.ConfigError, match="data"):
        visor.train(config, home=tmp_path)
    with pytest.raises(visor.ConfigError, match=r"fit\.batch_sise"):
        visor.train(config, home=tmp_path, fit={"batch_sise": 4})
    with pytest.raises(visor.RunError):
        _ = visor.Run(tmp_path).metrics
    assert list(tmp_path.iterdir()) == [config]
