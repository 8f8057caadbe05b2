"""`visor predict`: the same answers over REST, gRPC and offline, heat maps drawn, bad images named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.integration.running import Server, Workspace


def predict(workspace: Workspace, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in workspace.ok("predict", "--json", *arguments).splitlines()]


def test_rest_grpc_and_offline_agree(
    workspace: Workspace, archive: Path, server: Server, images: dict[Path, str], tmp_path: Path
) -> None:
    paths = [str(path) for path in images]
    rest = predict(workspace, *paths, "--url", f"http://{server.rest}", "--explain", str(tmp_path))
    grpc = predict(workspace, *paths, "--url", f"grpc://{server.grpc}", "--explain", str(tmp_path))
    offline = predict(workspace, *paths, "--archive", str(archive), "--explain", str(tmp_path))
    assert rest == grpc
    assert [one["image"] for one in rest] == paths
    for served, local in zip(rest, offline, strict=True):
        assert served["confidence"] == pytest.approx(local["confidence"], abs=1e-5)
        assert served["score"] == pytest.approx(local["score"], abs=1e-5)
        assert served["probabilities"] == pytest.approx(local["probabilities"], abs=1e-5)
        assert list(served["probabilities"]) == list(local["probabilities"])
        unlike = {"confidence": 0, "score": 0, "probabilities": {}}
        assert served | unlike == local | unlike
    right = sum(one["label"] == truth for one, truth in zip(rest, images.values(), strict=True))
    assert right >= 9  # of 12, after two epochs
    for one in rest:
        assert 0 <= one["confidence"] <= 1
        assert one["probabilities"][one["label"]] == one["confidence"] == max(one["probabilities"].values())
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert one["decision"] in ("pass", "review")
        with Image.open(one["overlay"]) as drawn:
            assert drawn.width == 256  # an 8 x 8 digit, enlarged until the map can be seen
            assert drawn.height > 256  # a legend below it
            assert drawn.mode == "RGB"


def test_a_threshold_of_ones_own_is_used_and_told(workspace: Workspace, server: Server, images: dict[Path, str]) -> None:
    path = str(next(iter(images)))
    url = ("--url", f"http://{server.rest}")
    accepted = predict(workspace, path, *url, "--threshold", "0")[0]
    refused = predict(workspace, path, *url, "--threshold", "1")[0]
    assert (accepted["decision"], accepted["threshold"]) == ("pass", 0)
    assert (refused["decision"], refused["threshold"]) == ("review", 1)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_bad_images_are_named_and_the_others_answered(
    workspace: Workspace, server: Server, images: dict[Path, str], tmp_path: Path, protocol: str
) -> None:
    bad, empty, good = tmp_path / "bad.jpg", tmp_path / "empty.png", next(iter(images))
    bad.write_bytes(b"no image")
    empty.write_bytes(b"")
    url = f"http://{server.rest}" if protocol == "rest" else f"grpc://{server.grpc}"
    done = workspace.visor("predict", str(bad), str(good), str(empty), "--url", url, "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [one["error"] for one in answers] == ["image.undecodable", "", "image.empty"]
    assert answers[0]["error_message"] == "image.undecodable: 8 bytes are not a whole image: no header of an image"
    for arguments in (("--url", url), ("--archive", "digits")):
        alone = workspace.visor("predict", str(bad), str(empty), *arguments)
        assert alone.returncode == 1
        assert alone.stdout.splitlines() == [
            f"{bad}  image.undecodable: 8 bytes are not a whole image: no header of an image",
            f"{empty}  image.empty: the image has 0 bytes; send an encoded picture, such as a JPEG",
        ]


def test_two_pictures_of_one_name_keep_both_heat_maps(
    workspace: Workspace, server: Server, images: dict[Path, str], tmp_path: Path
) -> None:
    first, second = (tmp_path / side / "same.png" for side in ("left", "right"))
    for source, path in zip(images, (first, second), strict=False):
        path.parent.mkdir()
        path.write_bytes(source.read_bytes())
    answers = predict(workspace, str(first), str(second), "--url", f"http://{server.rest}", "--explain", str(tmp_path / "out"))
    drawn = [np.asarray(Image.open(one["overlay"])) for one in answers]
    assert len({one["overlay"] for one in answers}) == 2
    assert drawn[0].tobytes() != drawn[1].tobytes()


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--url", "ftp://127.0.0.1:1"], "client.failed", "ftp://"),
        (["--url", "http://127.0.0.1:1"], "client.failed", "visor serve"),
        (["--url", "grpc://127.0.0.1:1"], "client.failed", "127.0.0.1:1"),
    ],
)
def test_a_server_that_cannot_be_asked_is_named(
    workspace: Workspace, images: dict[Path, str], arguments: list[str], code: str, word: str
) -> None:
    done = workspace.visor("predict", str(next(iter(images))), *arguments)
    assert done.returncode == 1
    assert code in done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_image_is_named(workspace: Workspace, server: Server) -> None:
    done = workspace.visor("predict", "nowhere.jpg", "--url", f"http://{server.rest}")
    assert done.returncode == 1
    assert done.stdout == "nowhere.jpg  image.unreadable: nowhere.jpg cannot be read: No such file or directory\n"


def test_a_missing_image_and_a_folder_leave_the_others_their_answers(
    workspace: Workspace, server: Server, images: dict[Path, str], tmp_path: Path
) -> None:
    first, last, *_ = map(str, images)
    for arguments in (("--url", f"http://{server.rest}"), ("--url", f"grpc://{server.grpc}"), ("--archive", "digits")):
        done = workspace.visor("predict", first, "nowhere.jpg", str(tmp_path), last, "--json", *arguments)
        assert done.returncode == 1, done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert [one["error"] for one in told] == ["", "image.unreadable", "image.unreadable", ""]
        assert told[0]["label"]
        assert told[3]["label"]


def test_a_folder_is_sent_to_score(workspace: Workspace, server: Server, tmp_path: Path) -> None:
    for arguments in (("--url", f"http://{server.rest}"), ("--archive", "digits")):
        done = workspace.visor("predict", str(tmp_path), *arguments)
        assert done.returncode == 1
        assert f"image.unreadable: {tmp_path} cannot be read: it is a folder; `visor score NAME {tmp_path}" in done.stdout


def test_swapped_ports_are_told(workspace: Workspace, server: Server, images: dict[Path, str]) -> None:
    picture = str(next(iter(images)))
    done = workspace.visor("predict", picture, "--url", f"http://{server.grpc}")
    assert done.returncode == 1
    assert f"if it is the port of gRPC, ask grpc://{server.grpc}" in done.stderr
    done = workspace.visor("predict", picture, "--url", f"grpc://{server.rest}")
    assert done.returncode == 1
    assert f"answers HTTP/1.1, as REST does, and no gRPC; ask http://{server.rest}" in done.stderr


def test_a_mistyped_flag_gets_the_commands_own_usage(workspace: Workspace) -> None:
    done = workspace.visor("predict", "a.jpg", "--exlain", "out")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: visor predict ")
    assert done.stderr.endswith("visor predict: error: unrecognized arguments: --exlain out; did you mean --explain?\n")
