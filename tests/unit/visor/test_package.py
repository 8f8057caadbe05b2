"""`import visor`: light, whole, and typed for whoever uses it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import visor

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "numpy", "PIL", "matplotlib", "mlflow", "openvino", "sklearn", "tritonclient", "pydantic")
SCRIPT = """
import json, sys
import visor
exec(sys.argv[1])
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""


def imported(code: str) -> set[str]:
    """What of HEAVY a process has imported after `import visor` and some code."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, code, json.dumps(HEAVY)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


def test_importing_it_imports_nothing_heavy() -> None:
    assert imported("") == set()


def test_a_client_needs_no_torch_no_network_and_no_plots() -> None:
    assert imported("visor.Client().close(); visor.VisorError") <= {"numpy", "PIL", "pydantic", "tritonclient"}
    assert not {"torch", "mlflow", "matplotlib"} & imported("visor.load, visor.Model, visor.ArchiveRefused")


def test_each_name_is_there_and_listed() -> None:
    names = {name for names in visor._PLACES.values() for name in names}
    assert names <= set(dir(visor))
    for name in names:
        assert getattr(visor, name)
    for declared in (ROOT / "visor/__init__.py").read_text().split("if TYPE_CHECKING:\n")[1].split("\n\n")[0].splitlines():
        assert declared.rsplit(" as ")[-1] in names
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = visor.laod


def test_its_errors_are_of_one_tree() -> None:
    names = {name for place, names in visor._PLACES.items() if place.endswith(".errors") for name in names}
    assert len(names) == 15
    assert all(issubclass(getattr(visor, name), visor.VisorError) for name in names)


USER = """
from pathlib import Path

import numpy as np
from PIL import Image

import visor


def ask(model: visor.Model | visor.Client, folder: Path) -> dict[str, visor.Decision]:
    one: visor.Answer = model.predict(folder / "a.jpg", explain=True, threshold=0.3)
    drawing: Image.Image = one.overlay()
    drawing.save("a.png")
    if one.heatmap is not None:
        print(one.heatmap.values.shape, one.heatmap.label)
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    several: list[visor.Answer] = model.predict([b"...", folder / "b.jpg", Image.open("c.png"), pixels])
    paths = sorted(folder.glob("*.jpg"))
    return {str(path): answer.decision for path, answer in zip(paths, model.predict(paths), strict=True) if answer.error is None}


with visor.Client("grpc://127.0.0.1:8081", model="roofs", headers={"Host": "roofs.example.com"}) as client:
    ask(client, Path("."))
try:
    ask(visor.load("roofs.mar", public_key="keys/visor.pub"), Path("."))
except (visor.ArchiveRefused, visor.ImageError) as err:
    print(err.code)
run: visor.Run = visor.train("roofs.yaml", name="mine", data={"path": "/data/roofs"})
accuracy: float = run.metrics["accuracy"]
data: visor.DataSet = visor.explore("roofs/", data={"layout": "labels"})
shares: dict[str, int] = data.counts["damaged"]
torn: list[str] = [pair.one for pair in data.near_duplicates(20) if pair.torn]
"""
WRONG = {
    'visor.load("a.mar").predict(7)': "No overload variant",
    'visor.load("a.mar").predict("a.jpg", explan=True)': "No overload variant",
    'x: int = visor.load("a.mar").predict("a.jpg").label': "Incompatible types",
    'visor.load("a.mar").predict(["a.jpg"]).label': '"label"',
    'visor.Client("http://h").predict("a.jpg").decision == "flagged"': "Non-overlapping",
    "visor.lood": "no attribute",
}


def check(tmp_path: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """mypy --strict on a user's script, which knows of visor what its packages say."""
    script = tmp_path / "user.py"
    script.write_text(text)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        os.devnull,
        "--cache-dir",
        str(tmp_path.parent / "mypy"),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    command += ["--follow-imports", "silent", "--ignore-missing-imports", str(script)]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_a_users_script_is_typed_and_its_mistakes_are_found(tmp_path: Path) -> None:
    good = check(tmp_path, USER)
    assert good.returncode == 0, good.stdout
    lines = "import visor\n" + "\n".join(WRONG)
    found = check(tmp_path, lines).stdout.splitlines()
    for number, (line, words) in enumerate(WRONG.items(), 2):
        assert any(f"user.py:{number}: error" in said and words in said for said in found), (line, found)


def test_each_package_says_that_it_is_typed() -> None:
    for package in ("archives", "console", "drawing", "handlers", "rollout", "training", "transformer", "visor", "watch"):
        assert (ROOT / package / "py.typed").is_file()
