"""Each image holds the code and the packages that its container runs on, and none of those it is to do without."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OURS = {"archives", "console", "drawing", "handlers", "loadtests", "rollout", "training", "transformer", "visor", "watch"}
# What is imported once the container works, beside its entry point.
SERVING = (
    "visor.pod.__main__",
    "visor.pod.intake",
    "visor.pod.serving",
    "archives.contents",
    "archives.signing",
    "handlers.entry",
)
LAZY = (
    "archives.opening",
    "model_signing.verifying",
    "openvino",
    "safetensors",
    "psutil",
    "ts.metrics.metric_cache_yaml_impl",
)  # imported inside functions
CONSOLE = (
    *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted((ROOT / "console").rglob("*.py"))),
    *("boto3", "httptools", "psycopg2", "uvloop", "alembic.runtime.environment"),  # imported inside functions and packages
)
TRAINING = ("visor.cli", "training.jobs.train", "training.jobs.evaluate", "training.jobs.archive", "training.jobs.register")
IMAGES = {
    "serving": (*SERVING, *LAZY, "rollout.__main__"),
    "transformer": ("transformer.__main__",),
    "console": CONSOLE,
    "loadtest": ("loadtests.__main__", "loadtests.report", "loadtests.traffic", "tritonclient.grpc", "tritonclient.http"),
    "training": (
        *TRAINING,
        "training.packing.export",
        "training.data.sources",
        "visor.inspect",
        "visor.scoring.score",
        "visor.client",
    ),
}
# Of ours, the folders that an image holds: serving needs nothing of training, and the edge nothing of visor.
CODE = {
    "serving": {"archives", "handlers", "rollout", "visor"},
    "transformer": {"archives", "handlers", "transformer"},
    "console": {"console", "drawing", "handlers", "rollout", "watch"},
    "training": OURS - {"loadtests"},
    "loadtest": {"loadtests"},
}
WITHOUT = {
    "serving": {"torch", "timm", "torchvision", "mlflow", "sklearn", "matplotlib", "starlette", "grpc"},
    "transformer": {"torch", "PIL", "openvino", "ts", "kubernetes", "model_signing"},
    "training": {"triton", "ts", "kserve", "locust", "pytest"},
    "loadtest": {"torch", "openvino", "ts", "kubernetes", "mlflow"},
    "console": {"torch", "openvino", "matplotlib", "scipy", "mlflow", "tritonclient", "kubernetes", "grpc"},
}
SCRIPT = """
import importlib, json, sys
imports, without = map(json.loads, sys.argv[1:])
for name in without:
    sys.modules.setdefault(name, None)
for name in imports:
    importlib.import_module(name)
print(json.dumps({name: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)}))
"""


def lay_out(image: str, code: Path) -> None:
    """Copy into `code` what the image's Dockerfile copies there."""
    text = (ROOT / "docker" / image / "Dockerfile").read_text().replace("\\\n", " ")
    if "COPY . /source/" in text:
        for package in CODE[image]:
            shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    for *sources, target in (line.split() for line in re.findall(r"^COPY ([a-z].* /opt/visor/code/\S+)$", text, re.MULTILINE)):
        for source in sources:
            place = code / target.removeprefix("/opt/visor/code/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)


def locked(image: str) -> set[str]:
    """The distributions that the image's lock files name."""
    files = [f"{image}.txt", *(["torch.txt"] if image == "training" else [])]
    text = "".join((ROOT / "requirements" / file).read_text() for file in files)
    return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)) - {"triton"}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_what_it_imports(image: str, tmp_path: Path) -> None:
    lay_out(image, tmp_path)
    # As if nothing were installed but what the image installs.
    names = {module: {re.sub(r"[-_.]+", "-", one).lower() for one in found} for module, found in packages_distributions().items()}
    without = [module for module, distributions in names.items() if not distributions & locked(image) and module not in OURS]
    assert set(without) >= WITHOUT[image]
    command = [sys.executable, "-c", SCRIPT, json.dumps(IMAGES[image]), json.dumps(without)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files: dict[str, str] = json.loads(done.stdout)
    elsewhere = {name for name, file in files.items() if name.split(".")[0] in OURS and not file.startswith(str(tmp_path))}
    assert elsewhere == set()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_no_more_of_our_code_than_it_is_for(image: str, tmp_path: Path) -> None:
    lay_out(image, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == CODE[image]
    if image == "serving":
        assert {path.name for path in (tmp_path / "visor").iterdir()} == {"__init__.py", "errors.py", "pod", "serving"}


@pytest.mark.parametrize("image", IMAGES)
def test_the_entry_point_is_among_what_is_imported(image: str) -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "docker" / image / "Dockerfile").read_text(), re.MULTILINE)
    *python, name = json.loads(entry)
    assert (f"{name}.__main__" if python else "visor.cli") in IMAGES[image]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_its_labels_its_user_and_no_healthcheck(image: str) -> None:
    text = (ROOT / "docker" / image / "Dockerfile").read_text()
    for label in ("title", "description", "licenses", "source", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in text
    assert "\nUSER 1000:1000\n" in text
    assert "HEALTHCHECK" not in text


def test_the_build_of_the_console_fails_above_the_size_that_the_docs_promise() -> None:
    text = (ROOT / "docker/console/Dockerfile").read_text()
    [most] = re.findall(r'\[ "\$size" -le (\d+) \] \|\| \{ echo "[^"]*" >&2; exit 1; \}', text)
    assert int(most) == 300_000_000
    assert "at most 300 MB" in (ROOT / "docs/images.md").read_text()


def test_locks_of_images_say_what_the_whole_lock_says() -> None:
    line = re.compile(r"^([a-z0-9-]+==\S+)", re.MULTILINE)
    whole = {pin for name in ("visor.txt", "torch.txt") for pin in line.findall((ROOT / "requirements" / name).read_text())}
    locks = [*(ROOT / "requirements").glob("*.txt"), *ROOT.glob("tests/e2e/images/*/requirements.txt")]
    assert len(locks) == 9
    others = {pin for lock in locks for pin in line.findall(lock.read_text())} - whole
    assert {pin.split("==")[0] for pin in others} == {"kserve-storage"}  # of the tests' own image alone
