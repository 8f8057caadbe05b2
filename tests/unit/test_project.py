"""What pyproject.toml, requirements/*.in, the Dockerfiles and .dockerignore say of each other."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from handlers.errors import counted

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {"archives", "console", "drawing", "handlers", "loadtests", "rollout", "training", "transformer", "visor", "watch"}
# Which extras an image's packages are of; those of torch, for the serving image of the backend torch, are training's.
EXTRAS = {
    "serving": ("serve", "cluster"),
    "serving-torch": ("serve", "cluster", "train"),
    "transformer": ("serve",),
    "console": ("console",),
    "training": ("train",),
    "loadtest": ("load",),
}


def named(requirements: list[str]) -> set[str]:
    """The packages that requirements name, without their extras."""
    return {re.split(r"[\[=<>; ]", line)[0] for line in requirements}


def listed(image: str) -> set[str]:
    """The packages of requirements/IMAGE.in, and of the lists that it includes."""
    lines = [line for line in (ROOT / f"requirements/{image}.in").read_text().splitlines() if not line.startswith("#")]
    included = [line.removeprefix("-r ").removesuffix(".in") for line in lines if line.startswith("-r ")]
    return named([line for line in lines if not line.startswith("-r ")]).union(*map(listed, included))


@pytest.mark.parametrize("image", EXTRAS)
def test_an_images_packages_are_those_of_its_extras(image: str) -> None:
    project = PYPROJECT["project"]
    extras = named([line for extra in EXTRAS[image] for line in project["optional-dependencies"][extra]])
    build = named(PYPROJECT["build-system"]["requires"]) if image == "training" else set()  # which installs the code itself
    assert listed(image) - extras - named(project["dependencies"]) == build


def test_the_training_image_has_all_of_its_extra() -> None:
    project = PYPROJECT["project"]
    wanted = named(project["dependencies"] + project["optional-dependencies"]["train"])
    assert wanted - listed("training") == {"rich"}  # of visor demo alone


def test_the_serving_images_have_all_of_their_extras() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = named([*PYPROJECT["project"]["dependencies"], *extras["serve"], *extras["cluster"]])
    assert wanted - listed("serving") - listed("transformer") == {"tritonclient"}  # of visor predict


def test_the_extra_all_names_every_use() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert extras["all"] == [f"visor[{','.join(extra for extra in extras if extra not in {'all', 'dev'})}]"]


@pytest.mark.parametrize("image", ["loadtest", "serving", "transformer", "training"])
def test_the_builder_is_sent_what_a_dockerfile_copies(image: str) -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    text = (ROOT / "docker" / image / "Dockerfile").read_text().replace("\\\n", " ")
    sources = {source for line in re.findall(r"^COPY ([^-\n].*)$", text, re.MULTILINE) for source in line.split()[:-1]} - {"."}
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(place.match(pattern) for place in (Path(source), *Path(source).parents) for pattern in sent), source


def test_the_import_contracts_see_every_module() -> None:
    roots = PYPROJECT["tool"]["importlinter"]["root_packages"]
    folders = {path.parent.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py")}
    unseen = {".".join(folder.parts) for folder in folders if not (ROOT / folder / "__init__.py").exists()} - set(roots)
    assert set(roots) >= OURS
    assert unseen == set()


def test_one_of_a_thing_is_no_plural() -> None:
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [counted(number, "class is", "classes are") for number in (1, 3)] == ["1 class is", "3 classes are"]
    bare = re.compile(r"(?:%d|\{len\([^{}]*\)\}) (?:files|images|pairs|epochs|groups|tokens|elements)\b")
    templates = re.compile(r"length\)? \}\} (?:images|labels|files|pairs)\b")
    places = [ROOT / name for name in ("archives", "handlers", "training", "transformer", "visor")]
    sources = [path for place in places for path in place.rglob("*.py")]
    assert [f"{path.relative_to(ROOT)}: {found[0]}" for path in sources for found in bare.finditer(path.read_text())] == []
    pages = [path for place in places for path in place.rglob("*.j2")]
    assert pages
    assert [f"{path.name}: {found[0]}" for path in pages for found in templates.finditer(path.read_text())] == []


def test_a_command_that_is_shown_quotes_its_paths() -> None:
    """In backticks, a path that was given stands as a shell reads it."""
    bare = re.compile(r"`(?:visor|dvc) [^`\n]*\{(?!shlex\.|(?:record\.)?job\})[^`\n]*`")
    sources = [path for name in ("archives", "training", "visor") for path in (ROOT / name).rglob("*.py")]
    assert [f"{path.relative_to(ROOT)}: {found[0]}" for path in sources for found in bare.finditer(path.read_text())] == []


def test_what_the_documents_have_written_into_the_checkout_is_ignored_by_git() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    written = ("heatmaps/", "data.html", "report.html", "manifest.json", "scores", "scores.parquet", "roofs.cdx.json", "tokens")
    assert [name for name in written if name not in pages] == []
    places = [*written[:4], "docs/examples/heatmaps/a.png", "scores/part-00000.parquet", *written[5:]]
    asked = subprocess.run(["git", "check-ignore", *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert asked.stdout.splitlines() == places
