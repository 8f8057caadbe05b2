"""Built-in sets appear on disk once and whole; a folder of images is taken as it is."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from training.config import DataConfig
from training.data.manifest import build
from training.data.roofs import roofs
from training.data.sources import prepare
from training.errors import DataError
from visor import cli


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    config = DataConfig(source="digits")
    root = prepare(config, tmp_path)
    images, labels = load_digits(return_X_y=True)
    for index in (0, 900, 1796):
        picture = Image.open(root / str(labels[index]) / f"{index:04d}.png")
        assert picture.mode == "L"
        # 0 to 16 become 0 to 255.
        assert np.array_equal(np.asarray(picture), np.round(images[index].reshape(8, 8) / 16 * 255))
    manifest = build(root, config)
    assert manifest.labels == tuple("0123456789")
    assert Counter(sample.label for sample in manifest.samples) == Counter(map(str, labels))
    before = root.stat().st_mtime_ns
    assert prepare(config, tmp_path) == root
    assert root.stat().st_mtime_ns == before


def test_roofs_are_written_by_count_size_and_seed(tmp_path: Path) -> None:
    roots = [
        prepare(DataConfig(source="roofs", count=count, size=48, seed=seed), tmp_path)
        for count, seed in ((40, 0), (42, 0), (40, 1), (40, 0))
    ]
    assert len(set(roots)) == 3
    assert roots[0] == roots[3] == tmp_path / "data" / f"roofs-v{roofs.FORMAT}-40-48px-seed0"
    assert [len(list(root.glob("*/*.jpg"))) for root in roots] == [40, 42, 40, 40]


def test_an_imagefolder_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert prepare(DataConfig(source="imagefolder", path=tmp_path / "photos"), tmp_path) == tmp_path / "photos"
    with pytest.raises(DataError, match="nowhere is not a folder"):
        prepare(DataConfig(source="imagefolder", path=tmp_path / "nowhere"), tmp_path)


def test_interrupted_digits_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "fromarray", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare(DataConfig(source="digits"), tmp_path)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ([], "photos holds no label; give it a folder of images for each of two labels or more"),
        (["oak"], "photos holds one label, 'oak'"),
        (["site0/heil", "site0/schaden", "site1/heil", "site1/schaden"], "nobody can tell which are the labels"),
    ],
)
def test_what_training_refuses_is_not_made(
    tmp_path: Path, folders: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for folder in folders:
        (tmp_path / "photos" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / folder / "1.png")
    config = str(Path(__file__).parents[4] / "training/configs/imagefolder.yaml")
    arguments = ["--home", str(tmp_path / "home"), "--set", f"data.path={tmp_path / 'photos'}"]
    for command in (["data", "make", config], ["train", config]):
        assert cli.main([*command, *arguments]) == 1
        assert said in capsys.readouterr().err
    reported = cli.main(["data", "report", str(tmp_path / "photos"), "--out", str(tmp_path / "x.html")])
    assert reported == (0 if folders == ["oak"] else 1)  # of one label, the page says that training refuses it
