"""The TorchServe entry, driven by TorchServe's own context as its worker drives it."""

import inspect
import io
import json
import math
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from ts.context import Context
from ts.service import RequestProcessor

from handlers import decode, entry
from handlers.entry import VisorHandler
from handlers.errors import ArchiveBroken
from handlers.networks import build
from handlers.spec import GroupRule
from tests.unit.references import make_reference
from tests.unit.specs import TINY


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build("small_cnn", 2)
    torch.nn.init.normal_(model.head.weight)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "spec.json").write_text(TINY.model_dump_json())
    return tmp_path


@pytest.fixture
def handler(model_dir: Path) -> VisorHandler:
    loaded = VisorHandler()
    loaded.initialize(Context("tiny", str(model_dir), {}, 4, None, "0.12"))
    return loaded


def ask(handler: VisorHandler, *requests: tuple[Any, dict[str, str]]) -> tuple[list[dict[str, Any]], list[int]]:
    """Bodies with their headers as one batch → the answers and their statuses."""
    context = Context("tiny", "", {}, 4, None, "0.12")
    context.request_processor = [RequestProcessor(headers) for _, headers in requests]
    bodies = handler.handle([{"body": body} for body, _ in requests], context)
    assert [context.get_response_content_type(n) for n in range(len(requests))] == ["application/json"] * len(requests)
    statuses = [context.get_response_status(n)[0] for n in range(len(requests))]
    return [json.loads(body) for body in bodies], statuses


def test_the_module_defines_exactly_one_class() -> None:
    own = [value for value in vars(entry).values() if inspect.isclass(value) and value.__module__ == entry.__name__]
    assert own == [VisorHandler]


def test_the_answer_has_bins_where_the_archive_has_a_reference(handler: VisorHandler, model_dir: Path) -> None:
    [answer], _ = ask(handler, (jpeg(0), {}))
    assert answer["drift"] is None
    features = TINY.feature_map[0]
    reference = replace(make_reference(), centre=np.zeros(features, np.float32), axes=np.eye(features, dtype=np.float32)[:2])
    np.savez(model_dir / "reference.npz", **reference.arrays)
    watched = VisorHandler()
    watched.initialize(Context("tiny", str(model_dir), {}, 4, None, "0.12"))
    [answer, bad], statuses = ask(watched, (jpeg(0), {}), (b"", {}))
    assert statuses == [200, 400]
    assert len(answer["drift"]) == len(reference.figures)
    assert [answer["drift"][reference.figures.index(name)] for name in ("width", "height", "brightness")] == [0, 0, 2]
    assert "drift" not in bad


def test_pictures_are_decoded_within_the_process_s_limit(handler: VisorHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def read(*_: object) -> None:
        limits.append(resource.getrlimit(resource.RLIMIT_DATA)[0])
        raise MemoryError

    monkeypatch.setattr(decode, "_pixels", read)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    [answer], [status] = ask(handler, (jpeg(0), {}))
    assert (status, answer["error"]["code"]) == (400, "image.too_large")
    assert 0 < limits[0] < 1 << 50
    assert limits[0] != before[0]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_an_image_is_answered(handler: VisorHandler) -> None:
    (answer,), statuses = ask(handler, (bytearray(jpeg(0)), {}))
    assert statuses == [200]
    assert answer["label"] in ("damaged", "intact")
    assert math.isclose(sum(answer["probabilities"]), 1, abs_tol=1e-6)
    assert answer["confidence"] == max(answer["probabilities"])
    assert answer["decision"] == ("flag" if answer["probabilities"][0] >= 0.5 else "pass")
    assert answer["threshold"] == 0.5
    assert all(answer[name] is None for name in ("heatmap", "heatmap_label", "heatmap_peak", "heatmap_box"))
    assert set(answer["seconds"]) == {"decode", "infer", "decide", "explain"}


def test_options_are_of_each_request(handler: VisorHandler) -> None:
    image = jpeg(1)
    answers, statuses = ask(
        handler, (image, {"x-visor-explain": "true"}), (image, {"x-visor-threshold": "0"}), (image, {"x-visor-threshold": "1"})
    )
    assert statuses == [200, 200, 200]
    assert np.array(answers[0]["heatmap"]).shape == (2, 2)
    assert answers[0]["heatmap_peak"] >= 0
    assert answers[0]["heatmap_box"] == [0, 0, 1, 1]
    assert answers[1]["heatmap"] is None
    assert [answer["threshold"] for answer in answers] == [0.5, 0, 1]
    assert [answer["decision"] for answer in answers[1:]] == ["flag", "pass"]


def test_a_group_s_name_is_percent_encoded(model_dir: Path) -> None:
    group = GroupRule(name="Straße=Nö 1", threshold=0.0, images=9, positives=3)
    rule = TINY.decision.model_copy(update={"groups": (group,)})
    (model_dir / "spec.json").write_text(TINY.model_copy(update={"decision": rule}).model_dump_json())
    grouped = VisorHandler()
    grouped.initialize(Context("tiny", str(model_dir), {}, 4, None, "0.12"))
    answers, statuses = ask(
        grouped, (jpeg(1), {"x-visor-group": "Stra%C3%9Fe%3DN%C3%B6%201"}), (jpeg(1), {"x-visor-group": "site%3Dnorth"})
    )
    assert statuses == [200, 400]
    assert (answers[0]["threshold"], answers[0]["decision"]) == (0.0, "flag")
    assert answers[1]["error"]["code"] == "request.group"


def test_a_bad_image_answers_for_itself(handler: VisorHandler) -> None:
    alone, _ = ask(handler, (jpeg(2), {}))
    answers, statuses = ask(
        handler, (jpeg(2), {}), (b"no image", {}), (b"", {}), ({"a": 1}, {}), (jpeg(2), {"x-visor-threshold": "x"})
    )
    assert statuses == [200, 400, 400, 400, 400]
    assert answers[0]["probabilities"] == pytest.approx(alone[0]["probabilities"])
    codes = [answer["error"]["code"] for answer in answers[1:]]
    assert codes == ["image.undecodable", "image.empty", "request.parameter", "request.parameter"]


def test_pixels_are_what_their_shape_says(handler: VisorHandler) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    answers, statuses = ask(
        handler,
        (pixels.tobytes(), {"x-visor-shape": "16,16"}),
        (png.getvalue(), {}),
        (pixels.tobytes(), {"x-visor-shape": "16,17"}),
        (pixels.tobytes(), {"x-visor-shape": "wide"}),
    )
    assert statuses == [200, 200, 400, 400]
    assert answers[0]["probabilities"] == pytest.approx(answers[1]["probabilities"])
    assert {answer["error"]["code"] for answer in answers[2:]} == {"request.parameter"}


def test_a_folder_without_a_spec_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(ArchiveBroken, match=r"spec\.json"):
        VisorHandler().initialize(Context("tiny", str(tmp_path), {}, 1, None, "0.12"))


def test_handle_before_initialize_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="before initialize"):
        VisorHandler().handle([], Context("tiny", "", {}, 1, None, "0.12"))
