"""Names and versions on disk."""

from pathlib import Path

import pytest

from archives import store
from archives.errors import StoreError


def put(root: Path, name: str, version: str) -> Path:
    path = store.path_of(root, name, version)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mar")
    return path


def test_versions_are_ordered_as_numbers_and_the_newest_is_meant(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        put(tmp_path, "roofs", version)
    (tmp_path / "roofs" / ".building-x").mkdir()
    store.reserve(tmp_path, "roofs", "11")  # without an archive
    store.reserve(tmp_path, "roofs", "10")
    assert store.versions(tmp_path, "roofs") == ["2", "9", "10"]
    assert store.next_version(tmp_path, "roofs") == "12"
    assert store.find(tmp_path, "roofs") == tmp_path / "roofs/10/roofs.mar"
    assert store.find(tmp_path, "roofs/9") == tmp_path / "roofs/9/roofs.mar"


def test_the_first_version_is_one(tmp_path: Path) -> None:
    assert store.versions(tmp_path, "roofs") == []
    assert store.next_version(tmp_path, "roofs") == "1"


def test_a_file_is_itself(tmp_path: Path) -> None:
    path = put(tmp_path, "roofs", "1")
    assert store.find(tmp_path / "elsewhere", str(path)) == path


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("rofs", r"no archive named 'rofs' \(it holds: roofs\)"),
        ("roofs/3", r"no version '3' .* \(it has: 1\)"),
        ("roofs/", None),
        ("x.mar", r"x\.mar does not exist"),
    ],
)
def test_what_is_not_there_is_named_beside_what_is(tmp_path: Path, what: str, words: str | None) -> None:
    path = put(tmp_path, "roofs", "1")
    if words is None:
        assert store.find(tmp_path, what) == path
    else:
        with pytest.raises(StoreError, match=words):
            store.find(tmp_path, what)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/models/roofs/9/roofs.mar", ("roofs", "9")),
        ("/models/leaves/7/leaves.mar", ("leaves", "7")),
        ("/models/roofs/1/../9/roofs.mar", ("roofs", "9")),
        ("/models/leaves/7/roofs.mar", ("roofs", None)),
        ("/models/roofs/latest/roofs.mar", ("roofs", None)),
        ("/mnt/models/roofs.mar", ("roofs", None)),
    ],
)
def test_a_place_says_a_name_and_in_a_store_a_version(path: str, place: tuple[str, str | None]) -> None:
    assert store.place_of(Path(path)) == place


def test_a_missing_store_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"/nowhere holds no archive named 'roofs' \(there is no such folder\).*VISOR_STORE"):
        store.find(tmp_path / "nowhere", "roofs")


def test_a_like_name_a_runs_folder_and_a_folder_of_archives_are_told_apart(tmp_path: Path) -> None:
    path, run = put(tmp_path / "store", "roofs", "1"), tmp_path / "runs/roofs"
    for what in ("rofs", "rofs/1", "somewhere/rofs.mar"):
        with pytest.raises(StoreError, match=r"; did you mean roofs\?"):
            store.find(tmp_path / "store", what)
    with pytest.raises(StoreError, match=f"^store.missing: {path.parents[1]} is a folder, and no archive; .* such as {path}$"):
        store.find(tmp_path / "store", str(path.parents[1]))
    run.mkdir(parents=True)
    (run / "run.json").touch()
    with pytest.raises(
        StoreError, match=rf"{run} is the folder of a run, .*`visor archive {run}` .*, and roofs names the newest"
    ):
        store.find(tmp_path / "store", str(run))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("README.md", "README.md is a file, and no archive, whose name ends in .mar"),
        ("space.yaml", "space.yaml is no archive; of a config, `visor train` makes a run"),
        ("runs/roofs/plots/a.png", "is a file of the run runs/roofs, which `visor archive runs/roofs` packs"),
        ("pictures", "pictures is a folder that holds no archive .*the archive is named before them"),
    ],
)
def test_what_is_there_and_no_archive_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, said: str) -> None:
    for name in ("README.md", "space.yaml", "runs/roofs/run.json", "runs/roofs/plots/a.png", "pictures/a/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    put(tmp_path / "store", "roofs", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=rf"{said}.*store holds no archive of that name \(it holds: roofs\)"):
        store.find(tmp_path / "store", what)


def test_a_name_in_the_store_goes_before_a_run_of_that_name_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "store", "roofs", "1")
    (tmp_path / "roofs").mkdir()
    (tmp_path / "roofs/run.json").touch()
    monkeypatch.chdir(tmp_path)
    assert store.find(tmp_path / "store", "roofs") == path
