"""The archive that `visor archive` makes by default computes in 8 bits, and is served as single precision would be."""

import base64
from pathlib import Path

import httpx
import numpy as np

from handlers.backends import load_backend
from handlers.predictor import Answer, Item, predict
from tests.integration.running import Server, Workspace
from training import archive as archives


def test_eight_bits_are_served_and_answer_as_single_precision(server: Server, archive: Path, images: dict[Path, str]) -> None:
    metadata = httpx.get(f"http://{server.rest}/v2/models/digits").json()
    assert metadata["platform"] == "visor_openvino-int8"

    pictures = [path.read_bytes() for path in images]
    elements = [base64.b64encode(picture).decode() for picture in pictures]
    body = {
        "inputs": [{"name": "image", "shape": [len(elements)], "datatype": "BYTES", "data": elements}],
        "parameters": {"explain": True},
    }
    reply = httpx.post(f"http://{server.rest}/v2/models/digits/infer", json=body, timeout=60)
    served = {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in reply.json()["outputs"]}

    contents = archives.read(archive)
    assert contents.lineage.parity["openvino"].holds
    with archives.unpacked(archive) as folder:
        spec = contents.spec.model_copy(update={"backend": "openvino"})
        reference = predict([Item(picture, explain=True) for picture in pictures], spec, load_backend(folder, spec))
    for n, answer in enumerate(reference):
        assert isinstance(answer, Answer)
        assert answer.heatmap is not None
        assert served["label"][n] == answer.label
        np.testing.assert_allclose(served["probabilities"][n], answer.probabilities, atol=0.1)
        assert served["heatmap_label"][n] == answer.heatmap_label
        assert np.corrcoef(served["heatmap"][n].ravel(), answer.heatmap.ravel())[0, 1] > 0.9
    # Rounded all the same: it is not single precision that was served.
    confidences = [answer.confidence for answer in reference if isinstance(answer, Answer)]
    assert np.abs(served["confidence"] - confidences).max() > 1e-5


def test_an_archive_in_single_precision_is_there_for_the_asking(workspace: Workspace, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    path = workspace.ok("archive", "runs/digits", "--backend", "openvino", "--store", store, "--onnx").strip().splitlines()
    contents = archives.read(Path(path[0]))
    assert (contents.spec.backend, list(contents.lineage.parity)) == ("openvino", ["openvino"])
    onnx = Path(path[1])
    assert onnx == Path(path[0]).with_suffix(".onnx")
    assert onnx.with_name("digits.onnx.sig").is_file()
    tracked = list(workspace.home.glob("mlartifacts/*/artifacts/model/digits.onnx"))
    assert [file.read_bytes() for file in tracked] == [onnx.read_bytes()]
