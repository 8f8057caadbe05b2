"""The site's pages: what a page is named, where its links lead, and what is refused."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.site.__main__ import SiteBroken, stage
from tools.site.staging import LinkBroken, Site, fenced, name_of, rewrite, tracked

ROOT = Path(__file__).parents[3]
FILES = {
    "README.md": "# Not staged, as index.md stands for it\n",
    "SECURITY.md": "# Weakness\n",
    "charts/visor/README.md": "# Chart\n[up](../../docs/a.md#one) [values](values.yaml)\n",
    "charts/visor/values.yaml": "key: |\n  ```\n",
    "docs/a.md": "# A\n## One\n",
    "docs/index.md": "# Start\n",
    "docs/deep/README.md": "# Deep\n",
    "docs/deep/b.md": "# B\n[a](../a.md) [deep](README.md) [start](../../README.md) ![p](p.svg) [folder](../../samples)\n",
    "docs/deep/p.svg": "<svg/>",
    "samples/.hidden/c.yml": "c: 1\n",
    "samples/one.py": "print()\n",
    "samples/two.bin": "\x00",
}
"""A small repository."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def gather(root: Path) -> dict[str, str]:
    return {name: content.decode() for name, content in Site(root, list(FILES)).gather().items()}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("docs/guide.md", "guide.md"),
        ("docs/concepts/drift.md", "concepts/drift.md"),
        ("docs/decisions-log/README.md", "decisions-log/index.md"),
        ("charts/visor/README.md", "charts/visor.md"),
        ("k8s/README.md", "k8s.md"),
        ("docs/README.md", "index.md"),
        ("docs/examples/README.md.txt", "examples/README.md.txt"),
        ("CHANGELOG.md", "changelog.md"),
        ("SECURITY.md", "reporting.md"),
        ("docs/security.md", "security.md"),
    ],
)
def test_a_page_is_where_it_is_in_the_repository(path: str, name: str) -> None:
    assert name_of(path) == name


def test_links_lead_to_staged_pages(root: Path) -> None:
    staged = gather(root)
    assert staged["charts/visor.md"] == "# Chart\n[up](../a.md#one) [values](../source/charts/visor/values.yaml.md)\n"
    assert staged["deep/b.md"].splitlines()[1] == (
        "[a](../a.md) [deep](index.md) [start](../index.md) ![p](p.svg) [folder](../source/samples/index.md)"
    )
    assert "README.md" not in staged


def test_what_is_no_page_is_shown_by_one_that_search_leaves_out(root: Path) -> None:
    staged = gather(root)
    sample = staged["source/charts/visor/values.yaml.md"]
    assert sample.startswith("---\nsearch:\n  exclude: true\n---\n# charts/visor/values.yaml\n")
    assert sample.endswith("````yaml\nkey: |\n  ```\n````\n")
    assert staged["deep/p.svg"] == "<svg/>"
    assert staged["source/samples/two.bin"] == "\x00"
    assert [line for line in staged["source/samples/index.md"].splitlines() if line.startswith("- ")] == [
        "- [.hidden/c.yml](hidden/c.yml.md)",
        "- [one.py](one.py.md)",
        "- [two.bin](two.bin)",
    ]


def test_each_link_that_leads_nowhere_is_named(root: Path) -> None:
    (root / "docs/a.md").write_text("[x](gone.md) [y](gone.md#z) ![z](../docs/none.png) [out](../../elsewhere.md)\n")
    with pytest.raises(LinkBroken) as caught:
        gather(root)
    assert str(caught.value).splitlines()[1:] == [
        "  docs/a.md: gone.md",
        "  docs/a.md: gone.md#z",
        "  docs/a.md: ../docs/none.png",
        "  docs/a.md: ../../elsewhere.md",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](b.md)", ["b.md"]),
        ("[a\nb](b.md) and ![c](d.png)", ["b.md", "d.png"]),
        ("[![c](d.png)](b.md)", ["d.png", "b.md"]),
        ("[a]: b.md\n\n [a]", ["b.md"]),
        ('<picture><source srcset="dark.svg"><img alt="" src="light.svg"></picture>', ["dark.svg", "light.svg"]),
        ("`[a](b.md)` and ``a ` [b](c.md)`` [d](e.md)", ["e.md"]),
        ("```md\n[a](b.md)\n```\n[c](d.md)", ["d.md"]),
        ("````md\n```\n[a](b.md)\n```\n[a](b.md)\n````\n[c](d.md)", ["d.md"]),
        ("- item\n\n    ```sh\n    [a](b.md)\n    ```\n\n    [c](d.md)", ["d.md"]),
        ("<!-- [a](b.md) -->[c](d.md)", ["d.md"]),
        ("| `a | b` | [c](d.md) |", ["d.md"]),
        ("a lone ` and [b](c.md)\n\nanother ` there", ["c.md"]),
    ],
)
def test_links_are_found_but_in_code_and_comments(text: str, found: list[str]) -> None:
    seen: list[str] = []

    def replace(target: str) -> str:
        seen.append(target)
        return f"<{target}>"

    made = rewrite(text, replace)
    assert seen == found
    for target in found:
        text = text[: text.rindex(target)] + f"<{target}>" + text[text.rindex(target) + len(target) :]
    assert made == text


@pytest.mark.parametrize("target", ["https://example.com/a.md", "mailto:a@example.com", "#one", "http://127.0.0.1:8080/"])
def test_addresses_and_anchors_of_the_page_stay(root: Path, target: str) -> None:
    (root / "docs/a.md").write_text(f"# A\n[x]({target})\n")
    assert gather(root)["a.md"] == f"# A\n[x]({target})\n"


@pytest.mark.parametrize(("content", "ticks"), [("a", 3), ("`a`", 3), ("```", 4), ("a\n`````\n", 6)])
def test_a_fence_is_longer_than_any_in_it(content: str, ticks: int) -> None:
    first, *_, last = fenced(content, "yaml").splitlines()
    assert (first, last) == ("`" * ticks + "yaml", "`" * ticks)


def test_the_files_of_a_checkout_are_git_s_and_those_that_it_would_add(root: Path) -> None:
    subprocess.run(["git", "init", "--quiet", root], check=True)
    (root / ".gitignore").write_text("*.bin\n")
    subprocess.run(["git", "add", "docs"], cwd=root, check=True)
    (root / "docs/a.md").unlink()
    assert tracked(root) == sorted({".gitignore", *FILES} - {"samples/two.bin", "docs/a.md"})


def test_a_page_that_is_in_no_menu_is_an_error(root: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", root], check=True)
    with pytest.raises(SiteBroken, match=r": no line for a\.md; no line for deep/b\.md; no line for deep/index\.md; no page "):
        stage(root, tmp_path / "work")


PAGES = sorted(Site(ROOT, tracked(ROOT)).pages)
ITEM = re.compile(r"(?:[-*]|(\d+)\.) ")


def blocks(path: str) -> Iterator[list[str]]:
    """A page's blocks of lines between empty ones; a block of code is one."""
    block: list[str] = []
    fence = ""
    for line in [*(ROOT / path).read_text().splitlines(), ""]:
        mark = re.match(r" *(`{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif fence and line.strip() == fence:
            fence = ""
        if line.strip() or fence:
            block.append(line)
        elif block:
            yield block
            block = []


@pytest.mark.parametrize("path", PAGES)
def test_lists_are_written_so_that_a_forge_and_the_site_show_the_same(path: str) -> None:
    """The site's Markdown has a block in a list's item at four columns, not two, and begins no list within a paragraph."""
    wrong = []
    for block in blocks(path):
        if re.match(r" {1,3}\S", block[0]):
            wrong.append(f"indent this by four columns: {block[0]}")
        if not ITEM.match(block[0]) and "```" not in block[0]:
            begun = [line for line in block[1:] if (item := ITEM.match(line)) and item[1] in (None, "1")]
            wrong += [f"put an empty line before: {line}" for line in begun]
    assert wrong == []


def test_every_page_of_this_checkout_is_in_the_menu_and_its_links_lead_to_files(tmp_path: Path) -> None:
    """What `make docs` would say at once; anchors are the generator's to check, tests/integration/test_site.py."""
    stage(ROOT, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"pages", "zensical.toml"}
    names = [file.relative_to(tmp_path).as_posix().lower() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(set(names)) == len(names)  # also where a file system does not tell letters' cases apart
