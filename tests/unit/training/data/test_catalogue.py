"""Published sets in their published layout are found, chosen from, and otherwise explained."""

import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.training.data.test_published import write_cifar, write_idx
from training.config import DataConfig, SplitConfig
from training.data import catalogue
from training.data.manifest import Manifest, verify
from training.data.sources import build_manifest, prepare
from training.errors import DataChanged, DataError, DataMissing, DownloadFailed

Plant = Callable[..., Path]
SPLITS = SplitConfig(val=0.2, calibration=0.2, test=0.2)
CALTECH = {"BACKGROUND_Google": 9, "airplanes": 8, "watch": 6, "Faces": 7, "ant": 5}
# Names as they are published, brackets, commas and blanks included; a leaf has one name in all three trees.
LEAVES = ("Apple___Apple_scab", "Corn_(maize)___Cercospora_leaf_spot Gray_leaf_spot", "Pepper,_bell___healthy")


def caltech(plant: Plant, root: str = "caltech") -> Path:
    return plant(
        *(f"101_ObjectCategories/{name}/image_{n:04d}.jpg" for name, count in CALTECH.items() for n in range(1, count + 1)),
        root=root,
    )


def plants(plant: Plant, root: str = "plants") -> Path:
    names = [f"{label}/{n:08x}-dbad-432d-ac58-d291718345d9___FREC_Scab {n}" for label in LEAVES for n in range(5)]
    return plant(
        *(f"{variant}/{name}{end}" for variant, end in
          (("color", ".JPG"), ("grayscale", ".JPG"), ("segmented", "_final_masked.jpg")) for name in names),
        root=root,
    )  # fmt: skip


def made(config: DataConfig, home: Path) -> Manifest:
    return build_manifest(prepare(config, home), config)


@pytest.mark.parametrize("below", ["", "101_ObjectCategories"])
def test_caltech_is_its_classes_without_the_clutter(plant: Plant, tmp_path: Path, below: str) -> None:
    manifest = made(DataConfig(source="caltech101", path=caltech(plant) / below, splits=SPLITS), tmp_path)
    assert manifest.labels == ("Faces", "airplanes", "ant", "watch")
    assert len(manifest.samples) == 8 + 6 + 7 + 5
    assert manifest.samples[0].path == "Faces/image_0001.jpg"


def test_the_largest_classes_are_chosen_and_verify_knows_of_it(plant: Plant, tmp_path: Path) -> None:
    folder = caltech(plant)
    manifest = made(DataConfig(source="caltech101", path=folder, splits=SPLITS, top_classes=2), tmp_path)
    assert manifest.labels == ("Faces", "airplanes")
    manifest.write(tmp_path / "manifest.json")
    again = Manifest.read(tmp_path / "manifest.json")
    assert again == manifest
    verify(folder / "101_ObjectCategories", again)
    plant("101_ObjectCategories/Faces/image_0099.jpg", "101_ObjectCategories/ant/image_0099.jpg", root="caltech")
    with pytest.raises(DataChanged, match=r"in 1 file .*: extra Faces/image_0099\.jpg$"):
        verify(folder / "101_ObjectCategories", again)


def test_named_classes_are_chosen(plant: Plant, tmp_path: Path) -> None:
    folder = caltech(plant)
    config = DataConfig(source="caltech101", path=folder, splits=SPLITS, classes=("watch", "BACKGROUND_Google"))
    assert made(config, tmp_path).labels == ("BACKGROUND_Google", "watch")
    with pytest.raises(DataError, match=r"data\.classes names 'wach', but the labels are BACKGROUND_Google, Faces"):
        made(config.model_copy(update={"classes": ("wach", "ant")}), tmp_path)
    with pytest.raises(DataError, match=r"data\.top_classes is 5, but there are 4 labels"):
        made(config.model_copy(update={"classes": None, "top_classes": 5}), tmp_path)


def test_equal_classes_are_taken_by_name(plant: Plant, tmp_path: Path) -> None:
    root = plant(*(f"{label}/{n}.png" for label in "dcba" for n in range(5)))
    config = DataConfig(source="imagefolder", path=root, splits=SPLITS, top_classes=2)
    assert made(config, tmp_path).labels == ("a", "b")


@pytest.mark.parametrize(
    ("below", "variant", "end"),
    [("", None, ".JPG"), ("color", None, ".JPG"), ("", "segmented", "_final_masked.jpg"), ("segmented", "segmented", ".jpg")],
)
def test_one_variant_of_plantvillage_is_read(plant: Plant, tmp_path: Path, below: str, variant: str | None, end: str) -> None:
    folder = plants(plant)
    config = DataConfig(source="plantvillage", path=folder / below, variant=variant, splits=SPLITS)
    assert prepare(config, tmp_path) == folder / (variant or "color")
    manifest = made(config, tmp_path)
    assert manifest.labels == LEAVES
    assert len(manifest.samples) == 15
    assert all(sample.path.startswith(LEAVES) and sample.path.endswith(end) for sample in manifest.samples)


def test_the_repository_of_plantvillage_is_known(plant: Plant, tmp_path: Path) -> None:
    folder = plants(plant, "repository/raw").parent
    assert prepare(DataConfig(source="plantvillage", path=folder, variant="grayscale"), tmp_path) == folder / "raw/grayscale"


def test_variants_of_plantvillage_do_not_become_labels(plant: Plant, tmp_path: Path) -> None:
    folder = plants(plant)
    with pytest.raises(DataError, match=r"the same leaves as color and grayscale and segmented.*data\.source: plantvillage"):
        prepare(DataConfig(source="imagefolder", path=folder), tmp_path)
    assert prepare(DataConfig(source="imagefolder", path=folder / "grayscale"), tmp_path) == folder / "grayscale"
    with pytest.raises(DataError, match=r"is the variant grayscale, but data\.variant says color"):
        prepare(DataConfig(source="plantvillage", path=folder / "grayscale", variant="color"), tmp_path)


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_cifar_is_found_by_name(tmp_path: Path, below: str) -> None:
    (tmp_path / "set" / below).mkdir(parents=True)
    write_cifar(tmp_path / "set" / below)
    root = prepare(DataConfig(source="cifar10", path=tmp_path / "set"), tmp_path / "home")
    assert sorted(path.name for path in (root / "train").iterdir()) == ["airplane", "fire truck"]


def test_fashion_mnist_has_its_names(tmp_path: Path) -> None:
    folder = tmp_path / "set/FashionMNIST/raw"
    folder.mkdir(parents=True)
    write_idx(folder, packed=True)
    root = prepare(DataConfig(source="fashion-mnist", path=tmp_path / "set"), tmp_path / "home")
    assert sorted(path.name for path in (root / "test").iterdir()) == ["Pullover", "T-shirt-top", "Trouser"]
    # As an imagefolder, numbers stay numbers.
    root = prepare(DataConfig(source="imagefolder", path=folder), tmp_path / "home")
    assert sorted(path.name for path in (root / "test").iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("source", "origin", "layout"),
    [
        ("cifar10", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz, or set data.download: true", "data_batch_1.bin"),
        ("fashion-mnist", "https://github.com/zalandoresearch/fashion-mnist", "train-images-idx3-ubyte"),
        ("caltech101", "https://data.caltech.edu/records/mzrjq-6wc02", "101_ObjectCategories/CLASS/image_0001.jpg"),
        ("plantvillage", "https://github.com/spMohanty/PlantVillage-Dataset", "color/PLANT___DISEASE/*.JPG"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_what_is_missing_is_said_with_origin_and_layout(
    tmp_path: Path, source: str, origin: str, layout: str, there: bool
) -> None:
    if there:
        (tmp_path / "set").mkdir()
    with pytest.raises(DataMissing) as caught:
        prepare(DataConfig(source=source, path=tmp_path / "set"), tmp_path / "home")
    said = str(caught.value)
    assert said.startswith(f"data.missing: {tmp_path / 'set'} {'holds no' if there else 'does not exist'}")
    assert origin in said
    assert layout in said


@pytest.mark.parametrize("source", ["cifar10", "imagefolder"])
def test_pickles_are_refused(tmp_path: Path, source: str) -> None:
    folder = tmp_path / "set/cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(DataError, match=r"pickled.*get the binary version, https://www\.cs\.toronto\.edu/~kriz/cifar-10-binary"):
        prepare(DataConfig(source=source, path=tmp_path / "set"), tmp_path / "home")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that is served over HTTP, and its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield folder, f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def digest(path: Path) -> str:
    return md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_cifar_is_downloaded_once(tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, address = site
    (tmp_path / "cifar-10-batches-bin").mkdir()
    write_cifar(tmp_path / "cifar-10-batches-bin")
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "cifar-10-batches-bin", "cifar-10-batches-bin")
    monkeypatch.setattr(catalogue, "CIFAR_URL", address + archive.name)
    monkeypatch.setattr(catalogue, "CIFAR_MD5", digest(archive))
    config = DataConfig(source="cifar10", download=True)
    root = prepare(config, tmp_path / "home")
    assert len(list(root.rglob("*.png"))) == 6
    archive.unlink()
    assert prepare(config, tmp_path / "home") == root


def test_fashion_mnist_is_downloaded_by_torchvision(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    folder, address = site
    write_idx(folder, packed=True)
    monkeypatch.setattr(FashionMNIST, "mirrors", [address])
    monkeypatch.setattr(FashionMNIST, "resources", [(path.name, digest(path)) for path in sorted(folder.iterdir())])
    root = prepare(DataConfig(source="fashion-mnist", download=True, path=tmp_path / "new"), tmp_path / "home")
    assert len(list(root.rglob("*.png"))) == 10
    assert (tmp_path / "new/FashionMNIST/raw/t10k-labels-idx1-ubyte").is_file()


def test_caltech_is_downloaded_by_torchvision(
    plant: Plant, tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import caltech as torchvisions
    from torchvision.datasets.utils import download_and_extract_archive

    folder, address = site
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as file:
        file.add(caltech(plant) / "101_ObjectCategories", "101_ObjectCategories")
    with zipfile.ZipFile(folder / "caltech-101.zip", "w") as file:
        file.writestr("caltech-101/101_ObjectCategories.tar.gz", tar.getvalue())

    def fetch(url: str, md5: str, **options: str) -> None:
        assert url.endswith("/caltech-101.zip")
        assert len(md5) == 32
        download_and_extract_archive(address + "caltech-101.zip", md5=digest(folder / "caltech-101.zip"), **options)

    monkeypatch.setattr(torchvisions, "download_and_extract_archive", fetch)
    config = DataConfig(source="caltech101", download=True, splits=SPLITS)
    assert made(config, tmp_path / "home").labels == ("Faces", "airplanes", "ant", "watch")


@pytest.mark.parametrize("damage", ["digest", "network"])
def test_a_failed_download_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder, address = site
    (folder / "x.tar.gz").write_bytes(b"not this")
    monkeypatch.setattr(catalogue, "CIFAR_URL", address + ("x.tar.gz" if damage == "digest" else "nothing.tar.gz"))
    with pytest.raises(DownloadFailed, match=r"data\.download: CIFAR-10.* could not be downloaded: .*; fetch it from .* by hand"):
        prepare(DataConfig(source="cifar10", download=True, path=tmp_path / "new"), tmp_path / "home")
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))


def test_nothing_is_downloaded_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "set/a.png")
    with pytest.raises(DataMissing, match="is not empty, and holds no CIFAR-10"):
        prepare(DataConfig(source="cifar10", download=True, path=tmp_path / "set"), tmp_path / "home")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "plantvillage", "path": "x", "download": True}, "data.download is for cifar10, fashion-mnist, caltech101"),
        ({"source": "cifar10"}, "say where cifar10 is"),
        ({"source": "digits", "path": "x"}, "not to one that is built in"),
        ({"source": "digits", "top_classes": 3, "classes": ["1", "2"]}, "leave one of them out"),
    ],
)
def test_contradictions_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate(values)
