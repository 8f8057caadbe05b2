"""What a command writes replaces no picture, no config and nothing else of a data set; what visor wrote itself it may."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visor
from tests.unit.visor.test_cli import COMMANDS
from training.data.manifest import Manifest, Sample
from visor import cli
from visor.errors import OutputRefused
from visor.outputs import check_apart, check_output
from visor.scoring import listing

CONFIGS = Path(__file__).parents[3] / "training" / "configs"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label in ("oak", "elm"):
        for n in range(20):
            picture = tmp_path / "photos" / label / f"{n:02}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([n, len(label), ord(label[0])]).integers(0, 255, (32, 32, 3))
            Image.fromarray(noise.astype(np.uint8)).save(picture)
    shutil.copy(CONFIGS / "imagefolder.yaml", tmp_path / "config.yaml")
    return tmp_path / "photos"


FILES = {
    ("data", "report"): ("x", "--out", ".html"),
    ("data", "manifest"): ("x", "--out", ".json"),
    ("drift",): ("x y", "--report", ".html"),
    ("audit",): ("x y --labels z", "--metrics", ".prom"),
    ("rollout", "status"): ("x --namespace y", "--html", ".html"),
}


@pytest.mark.parametrize("command", FILES, ids=" ".join)
def test_a_suffix_that_is_not_the_outputs_own_is_a_mistyped_command(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    needed, flag, suffix = FILES[command]
    arguments = [*command, *needed.split(), flag]
    assert getattr(cli.parse_args([*arguments, f"OUT{suffix.upper()}"]), flag[2:]) == Path(f"OUT{suffix.upper()}")
    for name in ("photo.jpg", "config.yaml", "nothing"):
        with pytest.raises(SystemExit, match="2"):
            cli.parse_args([*arguments, name])
        assert f"argument {flag}: {name} does not end in {suffix}" in capsys.readouterr().err


def test_every_flag_that_names_a_file_to_write_says_its_suffix() -> None:
    written = [
        (command, action.option_strings[-1])
        for command, parser in COMMANDS.items()
        for action in parser._actions
        if str(action.metavar).startswith("FILE.") and action.option_strings
    ]
    assert {command for command, _ in written} == set(FILES)
    for command, flag in [*written, (("data", "manifest"), "--out")]:
        [action] = [one for one in COMMANDS[command]._actions if flag in one.option_strings]
        with pytest.raises(Exception, match="does not end in"):
            action.type("photo.jpg")  # type: ignore[operator, misc]


@pytest.mark.parametrize(("verb", "suffix"), [("report", "html"), ("manifest", "json")])
def test_a_page_and_a_manifest_replace_themselves_and_nothing_else_of_a_data_set(
    photos: Path, verb: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, own, other = photos.parent / "config.yaml", photos / f"own.{suffix}", photos / f"other.{suffix}"
    command = ["data", verb, str(config), "--home", str(photos.parent / "home"), "--set", "data.leaks=allow"]
    command += ["--set", f"data.path={photos}", "--out"]
    for _ in range(2):
        assert cli.main([*command, str(own)]) == 0
    other.write_text('{"annotations": []}\n')
    capsys.readouterr()
    assert cli.main([*command, str(other)]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"visor: output.refused: {other} lies in the folder of the images, {photos}, and was not written by visor, so it is not "
        "replaced; name another file\n"
    )
    assert other.read_text() == '{"annotations": []}\n'
    outside = photos.parent / f"earlier.{suffix}"
    outside.write_text("of an earlier version")
    assert cli.main([*command, str(outside)]) == 0
    (photos.parent / f"folder.{suffix}").mkdir()
    assert cli.main([*command, str(photos.parent / f"folder.{suffix}")]) == 1
    assert "is a folder, and what is to be written is a file" in capsys.readouterr().err


def test_a_config_is_not_replaced_by_what_is_made_of_it(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (photos.parent / "config.yaml").rename(photos.parent / "config.json")  # YAML reads JSON's names, too
    before = config.read_bytes()
    out = config.parent / "photos/../config.json"
    assert cli.main(["data", "manifest", str(config), "--set", f"data.path={photos}", "--out", str(out)]) == 1
    assert "config.json is what this command reads, and would be replaced" in capsys.readouterr().err
    assert config.read_bytes() == before


def test_a_search_and_a_pipeline_do_not_replace_their_config(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (photos.parent / "config.yaml").rename(photos.parent / "leaves-best.yaml")
    before = config.read_bytes()
    for arguments in (
        ["search", str(config), "space.yaml", "--study", "leaves", "--home", str(photos.parent)],
        ["pipeline", str(config), "--step", "train", "--run-file", str(config)],
    ):
        assert cli.main(arguments) == 1
        assert capsys.readouterr().err.startswith(f"visor: output.refused: {config} is what this command reads, and would be")
    assert config.read_bytes() == before


def test_what_is_not_there_yet_is_written_anywhere(tmp_path: Path) -> None:
    check_output(tmp_path / "new.html", [tmp_path / "none.yaml"], tmp_path)


def test_a_manifest_is_known_by_its_beginning(tmp_path: Path) -> None:
    Manifest((), ()).write(tmp_path / "manifest.json")
    check_output(tmp_path / "manifest.json", data=tmp_path)
    (tmp_path / "manifest.html").write_bytes((tmp_path / "manifest.json").read_bytes())
    with pytest.raises(OutputRefused, match="was not written by visor"):
        check_output(tmp_path / "manifest.html", data=tmp_path)


def test_a_folder_among_images_is_refused_whatever_leads_there(tmp_path: Path) -> None:
    photos, link = tmp_path / "photos", tmp_path / "link"
    photos.mkdir()
    link.symlink_to(photos)
    check_apart("--out", tmp_path / "photos-scores", [photos])
    check_apart("--out", tmp_path, [photos])
    for folder in (photos, photos / "maps", link / "a/b", tmp_path / "x/../photos/maps"):
        with pytest.raises(OutputRefused, match="lies in the folder of the images"):
            check_apart("--out", folder, [tmp_path / "others", photos])


@pytest.mark.parametrize(
    ("command", "flag"),
    [("train", "--out"), ("train", "--home"), ("pretrain", "--out"), ("pretrain", "--home"), ("search", "--home")],
)
def test_no_run_is_written_among_the_images_that_it_learns_from(
    command: str, flag: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    space = [str(CONFIGS.parents[1] / "docs/examples/space.yaml"), "--study", "first"] if command == "search" else []
    assert cli.main([command, "config.yaml", *space, "--set", "data.path=photos", flag, "photos/first"]) == 1
    assert f"visor: output.refused: {flag} photos/first lies in the folder of the images, photos" in capsys.readouterr().err
    assert sorted(path.name for path in photos.iterdir()) == ["elm", "oak"]


@pytest.mark.parametrize("flag", ["out", "home"])
def test_python_writes_no_run_among_the_images_either(flag: str, photos: Path) -> None:
    with pytest.raises(OutputRefused, match="lies in the folder of the images"):
        visor.train(photos.parent / "config.yaml", data={"path": photos}, **{flag: photos / "first"})
    assert sorted(path.name for path in photos.iterdir()) == ["elm", "oak"]


@pytest.mark.parametrize(
    ("where", "folder", "refused"),
    [
        ("photos/oak", "photos/oak", True),
        ("photos/oak", "photos/oak/maps", True),
        ("photos/oak", "photos", False),
        ("photos/oak", "maps", False),
        (".", "maps", False),
        (".", ".", True),
    ],
)
def test_maps_are_not_drawn_among_the_pictures_that_are_asked_about(
    where: str, folder: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / where).mkdir(parents=True, exist_ok=True)
    (tmp_path / where / "1.png").touch()
    assert cli.main(["predict", f"{where}/1.png", "--archive", "none", "--explain", folder]) == 1
    assert capsys.readouterr().err.startswith("visor: output.refused: --explain" if refused else "visor: store.missing: ")


def test_the_folders_of_a_list_are_those_of_its_images_and_of_a_manifest_its_root(tmp_path: Path) -> None:
    (tmp_path / "photos/oak").mkdir(parents=True)
    for name in ("photos/oak/1.png", "2.png"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("photos/oak/1.png\n2.png\n")
    sample = Sample("photos/oak/1.png", 0, "0" * 64, "oak", "train")
    Manifest(("oak",), (sample,)).write(tmp_path / "manifest.json")
    found = {name: listing.read(tmp_path / name).folders(tmp_path / name) for name in ("photos", "list.txt", "manifest.json")}
    assert found == {"photos": {tmp_path / "photos"}, "list.txt": {tmp_path / "photos/oak"}, "manifest.json": {tmp_path}}


@pytest.mark.parametrize("command", ["compare x --out", "bound x --out", "predict x.png --archive none --explain"])
def test_a_file_is_no_folder_to_write_into(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for out in ("file", "file/below/it"):
        assert cli.main([*command.split(), out]) == 1
        there = "file" if out == "file" else tmp_path / "file"
        assert capsys.readouterr().err == f"visor: output.refused: {there} is a file, and {out} is to be a folder; name another\n"
