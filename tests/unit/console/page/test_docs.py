"""docs/console-page.md shows what the tool makes, and no other picture."""

import re

from console.page import releases
from tools import console_screenshots as tool


def test_the_docs_show_what_the_tool_makes() -> None:
    made = {f"{shot.name}.webp" for shot in tool.SHOTS}
    assert made == {path.name for path in tool.FOLDER.iterdir()}
    assert made == set(re.findall(r"\]\(console/([\w-]+\.webp)\)", (tool.FOLDER.parent / "console-page.md").read_text()))
    assert all(path.stat().st_size < 150_000 for path in tool.FOLDER.iterdir())


def test_the_simulated_release_is_one_that_goes_on() -> None:
    release = releases.Release("roofs", tool.simulated())
    assert release.kind == "going"
    assert not any(gate.found.alarm for gate in release.findings)
