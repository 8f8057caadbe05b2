"""An archive in 8 bits is served, heat maps included, and answers as single precision does; ONNX beside an archive."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from archives.contents import SPEC, read, unpacked
from handlers.backends import load_backend
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec
from tests.integration.running import Server, Workspace, start_server, stop_server
from training import runs
from training.data.manifest import Manifest
from training.data.pixels import decode_good
from training.evaluation.answers import spread
from training.packing import archive as archives
from training.packing import lineage
from training.packing.export import convert, convert_int8


@pytest.fixture(scope="module")
def int8_archive(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's network in 8 bits, whatever its parity: after two epochs many images are close between two labels."""
    run = Path(shutil.copytree(workspace.home / "digits", tmp_path_factory.mktemp("runs") / "digits"))
    spec, root = (
        Spec.read(run / SPEC).model_copy(update={"backend": "openvino-int8"}),
        workspace.path / runs.read_record(run).dataset_root,
    )
    learnt = spread(Manifest.read(run / runs.MANIFEST).samples_of("train"), 300)
    convert_int8(run, spec, list(decode_good(root, learnt, spec.preprocessing, spec.limits))).write(run)
    (run / SPEC).write_text(spec.model_dump_json())
    store = tmp_path_factory.mktemp("store")
    return archives.build(run, store, lineage.collect(run), workspace.path / "keys/visor.key")


@pytest.fixture(scope="module")
def int8_server(workspace: Workspace, int8_archive: Path) -> Iterator[Server]:
    running = start_server(workspace, str(int8_archive), workspace.path / "int8-server.log")
    yield running
    stop_server(running)


def test_eight_bits_are_served_and_answer_as_single_precision(
    int8_server: Server, int8_archive: Path, images: dict[Path, str]
) -> None:
    metadata = httpx.get(f"http://{int8_server.rest}/v2/models/digits").json()
    assert metadata["platform"] == "visor_openvino-int8"

    pictures = [path.read_bytes() for path in images]
    elements = [base64.b64encode(picture).decode() for picture in pictures]
    body = {
        "inputs": [{"name": "image", "shape": [len(elements)], "datatype": "BYTES", "data": elements}],
        "parameters": {"explain": True},
    }
    reply = httpx.post(f"http://{int8_server.rest}/v2/models/digits/infer", json=body, timeout=60).json()
    served = {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in reply["outputs"]}

    with unpacked(int8_archive) as folder:
        convert(folder, spec := Spec.read(folder / SPEC).model_copy(update={"backend": "openvino"})).write(folder)
        reference = predict([Item(picture, explain=True) for picture in pictures], spec, load_backend(folder, spec))
    answers = [answer for answer in reference if isinstance(answer, Answer)]
    expected = np.stack([answer.probabilities for answer in answers])
    difference = np.abs(served["probabilities"] - expected).max()
    assert 1e-5 < difference < 0.2  # rounded, so that it is not single precision that was served, and no more than that
    correlations = [
        np.corrcoef(heatmap.ravel(), answer.heatmap.ravel())[0, 1]
        for heatmap, label, answer in zip(served["heatmap"], served["heatmap_label"], answers, strict=True)
        if answer.heatmap is not None and label == answer.heatmap_label
    ]
    assert len(correlations) >= 10  # of 12
    assert np.mean(correlations) > 0.95


def test_an_archive_in_single_precision_is_there_for_the_asking_with_onnx_beside_it(workspace: Workspace, tmp_path: Path) -> None:
    run = shutil.copytree(workspace.home / "digits", tmp_path / "digits")  # which is evaluated again on that backend
    shown = workspace.ok("archive", str(run), "--backend", "openvino", "--store", str(tmp_path / "store"), "--onnx")
    archive, onnx = (Path(line) for line in shown.splitlines())
    contents = read(archive)
    assert (contents.spec.backend, list(contents.lineage.parity)) == ("openvino", ["openvino"])
    assert onnx == archive.with_suffix(".onnx")
    assert onnx.with_name("digits.onnx.sig").is_file()
    (tracked,) = workspace.home.glob("mlartifacts/*/artifacts/model/digits.onnx")
    assert tracked.read_bytes() == onnx.read_bytes()
