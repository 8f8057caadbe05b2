"""The demo's own steps; the whole of it runs in tests/integration."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from training.data.manifest import Manifest, Sample
from visor import demo
from visor.errors import DemoError


def test_a_step_keeps_its_log_time_and_last_line(tmp_path: Path) -> None:
    journal = demo.Journal(tmp_path / "logs")
    last = journal.run("keys", "keys", "--out", str(tmp_path / "keys"))
    assert "visor.pub" in last
    assert (tmp_path / "logs/keys.log").read_text().splitlines()[-1] == last
    assert journal.seconds["keys"] > 0


def test_a_failing_step_is_named_with_its_log(tmp_path: Path) -> None:
    journal = demo.Journal(tmp_path / "logs")
    with pytest.raises(DemoError, match=r"step 'archive' ended with 1; its log is .*archive\.log:\n(.|\n)*run\.invalid"):
        journal.run("archive", "archive", str(tmp_path / "nowhere"))
    assert "run.invalid" in (tmp_path / "logs/archive.log").read_text()


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ("visor: data.leak: 3 pairs lie in two splits: say data.leaks: warn", "data.leaks=warn"),
        ("deciding\nvisor: data.invalid: both readings are possible; say data.layout", "KEY=VALUE"),
        ("visor: run.invalid: runs/x belongs to another config; start over with --fresh, or choose with --out", "name=NAME"),
    ],
)
def test_advice_of_a_step_can_be_followed_from_the_demo(said: str, way: str, tmp_path: Path) -> None:
    [advice] = demo.advise(said, "My Leaves", tmp_path)
    assert f"`visor demo --data 'My Leaves' --set {way}`, or `make demo DATA='My Leaves' SET={way}`" in advice
    assert (str(tmp_path) in advice) == ("--fresh" in said)


def test_a_failing_step_ends_with_the_advice(tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    (tmp_path / "leaves.yaml").write_text(
        "name: leaves\ndata: {source: imagefolder, path: leaves}\npreprocessing: {height: 32, width: 32, mean: [0, 0, 0], "
        "std: [1, 1, 1]}\nmodel: {network: small_cnn}\nfit: {phases: [{epochs: 1, learning_rate: 0.1}]}\n"
    )
    with pytest.raises(DemoError, match=r"visor: data\.(.|\n)*SET=KEY=VALUE`\.$"):
        demo.Journal(tmp_path / "logs", "leaves").run("data", "data", "make", str(tmp_path / "leaves.yaml"))
    with pytest.raises(DemoError) as caught:  # of other errors there is nothing to add
        demo.Journal(tmp_path / "logs").run("archive", "archive", str(tmp_path / "nowhere"))
    assert "SET=" not in str(caught.value)


def test_data_is_a_built_in_name_or_a_folder(tmp_path: Path) -> None:
    assert demo._choose("digits", ["seed=1"]) == (demo.CONFIGS / "digits.yaml", ["seed=1"])
    folder = tmp_path / "Leaves of 2026!"
    folder.mkdir()
    config, overrides = demo._choose(str(folder), ["seed=1"])
    assert config == demo.CONFIGS / "imagefolder.yaml"
    assert overrides == [f"data.path={folder}", "name=leaves-of-2026", "seed=1"]
    with pytest.raises(DemoError, match="neither roofs nor digits nor a folder"):
        demo._choose(str(tmp_path / "nowhere"), [])


def test_answers_that_differ_between_the_protocols_stop_it() -> None:
    answer: dict[str, Any] = {"image": "a.jpg", "label": "intact", "confidence": 0.5}
    demo._compare({"rest": [answer], "grpc": [dict(answer)]})
    with pytest.raises(DemoError, match=r"disagree on a\.jpg: label, confidence"):
        demo._compare({"rest": [answer], "grpc": [{**answer, "label": "damaged", "confidence": 0.6}]})


def test_it_asks_about_every_label_in_turn(tmp_path: Path) -> None:
    labels = tuple("abcdefghij")
    samples = [Sample(f"{label}/{n}.png", 1, "0" * 64, label, "test" if n else "train") for label in labels for n in range(5)]
    Manifest(labels, tuple(samples)).write(tmp_path / "manifest.json")
    (tmp_path / "run.json").write_text('{"dataset_root": "images"}')
    picked = demo._pick(tmp_path)
    expected = {label: 2 if label in "abcdef" else 1 for label in labels}  # 16 pictures over ten labels
    assert Counter(picked.values()) == expected
    assert picked[Path("images/a/1.png")] == "a"
