"""The documents are as wide as a terminal, their links and paths lead somewhere, and generated pages are what the code says."""

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from tests.unit.blocks import NEEDS, START, Block, blocks_of, pages_of_the_site
from tools import pages
from training.config import Config
from training.keys import keys_of
from transformer.__main__ import make_parser
from transformer.declared import Declared, Label

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PAGES = [Path(name) for name in TRACKED if name.endswith(".md") and name != "CHANGELOG.md" and (ROOT / name).is_file()]
OLD_PATHS = "## Old paths and new ones"


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines of a page that are neither code, nor a table, heading, image or HTML; lines count from 1."""
    fenced = False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith(("|", "#", "![", "<")):
            yield number, line


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_line_of_prose_is_wider_than_120_columns(page: Path) -> None:
    assert [f"{page}:{number}" for number, line in prose(page) if len(line) > 120 and " " in line.strip()] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_what_is_there(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_the_guide_names_the_keys_that_a_config_has_to_say() -> None:
    told = re.search(r"It has to say (.*?)`training/configs/", (ROOT / "docs/guide.md").read_text(), re.DOTALL)
    assert told
    named = re.findall(r"`([a-z_.]+)`", told[1])
    of_phases = {"epochs", "learning_rate"}
    named = [f"fit.phases[].{name}" if name in of_phases else name for name in named if name != "fit.phases"]
    required = [key for key in keys_of(Config) if key.required and not key.is_section]
    assert named == [key.path for key in required if not key.path.startswith("decision.subgroups.")]  # a section of its own
    examples = yaml.safe_load((ROOT / "training/configs/imagefolder.yaml").read_text())
    assert Config.model_validate(examples).model_dump(exclude_unset=True).keys() == examples.keys()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_modules_that_are_named_exist(page: Path) -> None:
    text = (ROOT / page).read_text().split(OLD_PATHS)[0]
    rooms = "archives|charts|docker|docs|handlers|k8s|loadtests|rollout|tests|tools|training|transformer|visor"
    named = set(re.findall(rf"`((?:{rooms})/[\w./-]+\.(?:py|ya?ml|j2|tpl|md|json|proto))`", text))
    assert {name for name in named if not (ROOT / name).exists() and not (ROOT / "charts/visor" / name).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_commands_name_are_there(page: Path) -> None:
    blocks = re.findall(r"^```\w+\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"(?<![\w/.-])((?:docs|training|loadtests)/[\w/.-]+\.\w+)", "\n".join(blocks)))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_pictures_that_commands_name_by_themselves_are_in_the_examples() -> None:
    asked = set(re.findall(r"visor predict (?:(\w+\.jpg) )+", (ROOT / "docs/guide.md").read_text().split("cd ../..")[0]))
    assert asked
    assert {name for name in asked if not (ROOT / "docs/examples" / name).is_file()} == set()


def test_moved_modules_are_where_the_table_says() -> None:
    table = (ROOT / "docs/developing.md").read_text().split(OLD_PATHS)[1]
    rows = re.findall(r"^\| (\S+\.\w+|\S+/\w+)(?:: `\w+`)? \| (\S+) \|$", table, re.MULTILINE)
    assert len(rows) > 150
    assert [new for _, new in rows if not (ROOT / new).exists()] == []
    assert [old for old, _ in re.findall(r"^\| ((?:\S+/)\S+) \| (\S+) \|$", table, re.MULTILINE) if (ROOT / old).is_file()] == []


SITE = pages_of_the_site()
MORE = {
    "cluster": re.compile(r"\b(?:helm|kubectl|cluster|gateway)\b|(?:visor|-m) rollout|127\.0\.0\.1:30080"),
    "docker": re.compile(r"\bdocker "),
    "registry": re.compile(r"registry\."),
    "apt as root": re.compile(r"\bsudo apt|make prometheus"),
}
"""What a block that needs this has, and none that is run here."""


@pytest.mark.parametrize("page", SITE)
def test_each_block_of_commands_is_found_and_has_a_mark_that_is_true_or_none(page: str) -> None:
    blocks = blocks_of(page)
    text = (ROOT / page).read_text()
    assert len(blocks) == len(re.findall(r"^ *```(?:sh|python|console(?=\n *\$ ))", text, re.MULTILINE))
    for block in blocks:
        if block.run_by:
            file, _, test = block.run_by.partition("::")
            assert re.search(rf"^(?:async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), block
        elif block.mark:
            assert block.needs in NEEDS, f"{block}: {block.mark}"
            assert block.needs not in MORE or MORE[block.needs].search(block.text), block
        else:
            assert [need for need, pattern in MORE.items() if pattern.search(block.text)] == [], block
    fences = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    known = re.compile(r"(?:visor|python|make|curl|helm|kubectl|docker|pip|uv|git|sudo) ")
    assert [told for language, told in fences if language not in ("sh", "make") and known.match(told)] == []


def test_blocks_are_counted() -> None:
    """A mark that is added is a promise that nobody keeps: look whether the block cannot be run."""

    def kind(block: Block) -> str:
        return block.needs or ("run by another test" if block.run_by else "run")

    assert Counter(kind(block) for page in SITE for block in blocks_of(page)) == {
        "run": 32,
        "run by another test": 24,
        "cluster": 35,
        "docker": 7,
        "internet": 6,
        "apt as root": 2,
        "registry": 1,
        "time": 2,
    }


def test_the_first_pages_are_walked_through_by_a_test_of_their_own() -> None:
    test = (ROOT / "tests/integration/test_tutorial.py").read_text()
    assert [page for page in START if f'"{page}"' not in test] == []


def test_no_command_reuses_an_older_chart_s_defaults() -> None:
    """Which lack what is new: `helm upgrade --reuse-values`. The chapter on upgrading says why."""
    told = ("NOTES.txt", "Chart.yaml", "values.yaml", ".gotmpl", "Makefile", "k8s/put-archive", "k8s/install", "k8s/cluster")
    notes = [Path(name) for name in TRACKED if name.endswith(told)]
    said = {
        f"{page}: {line.strip()}"
        for page in (*PAGES, *notes)
        for line in (ROOT / page).read_text().split("\n## Upgrading\n")[0].splitlines()
        if re.search(r"(^|[^\w-])--reuse-values", line)
    }
    assert said == set()
    chapter = (ROOT / "docs/kubernetes.md").read_text().split("\n## Upgrading\n")[1]
    rest = chapter.split("\n## ", 1)[1]
    assert "--reuse-values" not in rest.replace("--reset-then-reuse-values", "")
    assert "| `--reuse-values` | " in chapter


def test_commands_that_install_name_the_tag_that_make_images_makes() -> None:
    """Charts take their own version's tag by default, which a registry has and `make images` does not make."""
    lacking = []
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
            for command in re.sub(r"\\\n\s*", " ", block).splitlines():
                chart = re.match(r"helm (?:install|upgrade --install) \S+ charts/(visor|visor-console|visor-training)\s", command)
                tags = dict.fromkeys(("visor-console", "visor-training"), ("image.tag=",))
                tags["visor"] = ("images.serving.tag=", "images.transformer.tag=")
                if chart and not all(tag in command for tag in tags[chart[1]]):
                    lacking.append(f"{page}: {command}")
    assert lacking == []


def test_each_decision_is_listed_and_says_when_to_look_again() -> None:
    folder = ROOT / "docs/decisions-log"
    written = {page.name for page in folder.glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text())) == written
    for name in written:
        headings = re.findall(r"^## (.*)$", (folder / name).read_text(), re.MULTILINE)
        assert headings == ["Context", "Choices", "Decision", "Look again when"], name


def test_generated_pages_are_what_the_code_says() -> None:
    for name, page in pages.make_all().items():
        assert (ROOT / "docs" / name).read_text() == page, f"docs/{name}: call make pages"


def test_the_edge_s_page_says_where_visor_serve_has_another_default() -> None:
    """`visor serve` is for its own machine alone unless told otherwise, and a pod's edge for others."""
    page = pages.edge_page(make_parser())
    [host] = re.findall(r"^- \*\*`--host HOST` \(([^)]*)\)", page, re.MULTILINE)
    assert host == "also of `visor serve`, whose default is `127.0.0.1`"
    assert page.count("whose default is") == 1


class Inner(BaseModel):
    """A section."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Rate of something."""
    names: tuple[str, ...] = ()
    """Names of others."""


class Outer(BaseModel):
    """A config."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    inner: tuple[Inner, ...]
    """Sections in order."""
    path: Path | None = None
    """Path of a file that
    is long."""


def test_a_config_page_has_single_keys_first_and_then_sections() -> None:
    text = pages.config_page(Outer)
    assert text.split(pages.CONFIG)[1].strip().splitlines() == [
        "- **`path` (path; default none)**: Path of a file that is long.",
        "",
        "## `inner[]`",
        "",
        "Sections in order. Required.",
        "",
        "- **`inner[].rate` (number > 0, ≤ 1; default `0.5`)**: Rate of something.",
        "- **`inner[].names` (list of texts; default `[]`)**: Names of others.",
    ]


def test_a_metrics_page_has_each_metric_with_its_labels_and_buckets() -> None:
    """Series: three a label of the archive's for the counter, and 2 x (2 + 3) for the histogram."""
    label, decision = Label("label", "a label", None), Label("decision", "a decision", 3)
    state = Label("state", "`on`", ("on", "off"))
    table, labels, buckets, series = pages.metrics_page(
        [
            Declared("visor_x_total", "counter", "Xs.", (label, decision)),
            Declared("visor_y_seconds", "histogram", "Ys.", (state,), (0.1, 10.0)),
        ]
    ).split("\n## ")
    assert table.strip().splitlines()[-2:] == [
        "| `visor_x_total` | counter | Xs. | `label`, `decision` |",
        "| `visor_y_seconds` | histogram | Ys. | `state` |",
    ]
    assert labels.strip().splitlines()[-3:] == [
        "| `label` | a label | `visor_x_total` |",
        "| `decision` | a decision | `visor_x_total` |",
        "| `state` | `on` | `visor_y_seconds` |",
    ]
    assert buckets.strip().splitlines()[-1:] == ["- `visor_y_seconds`: 0.1, 10.0."]
    assert "at most 16 with an archive of two labels and 310 with" in series.replace("\n", " ")


def test_a_key_flag_or_metric_without_a_description_is_an_error() -> None:
    class Bare(BaseModel):
        key: int = 1

    with pytest.raises(SystemExit, match="the config key key has no description"):
        pages.config_page(Bare)
    parser = argparse.ArgumentParser()
    parser.add_argument("--flag")
    with pytest.raises(SystemExit, match="the edge's flag --flag has no help text"):
        pages.edge_page(parser)
    with pytest.raises(SystemExit, match="the metric visor_x has no description"):
        pages.metrics_page([Declared("visor_x", "counter", "")])


def test_what_was_found_is_held_by_tests_that_there_are() -> None:
    section = (ROOT / "docs/security.md").read_text().split("## What was found")[1]
    rows = [
        line for line in section.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| # ", "| sentence"))
    ]
    assert len(rows) == 26 + 17 + 15
    missing = []
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, row
        missing += [
            f"{file}::{name}" for file, name in named if not re.search(rf"def {name}\(", (ROOT / "tests" / file).read_text())
        ]
    assert missing == []
