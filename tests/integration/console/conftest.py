"""A console before real servers, and a browser to look at it with: each started once for a module."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.integration.running import QUICK, ROOT, Server, Workspace, start_server, stop_server
from tests.postgres import postgresql
from tools import browser as chromium

__all__ = ("postgresql",)

WAIT_MS = 30_000
"""Milliseconds that a page may take to show what a test looks for."""
FLAGGING = [
    "--set", "name=eights", "--set", "decision.positive=['8']", "--set", "decision.false_negative=5",
    "--set", "decision.max_fnr=0.2", "--set", "decision.set_coverage=0.9", "--set", "explanation_images=0",
]  # fmt: skip
"""What makes of the digits a model that flags one of them, with a promise, a curve, a band and prediction sets."""


@pytest.fixture(scope="session")
def flagging(workspace: Workspace) -> Iterator[Server]:
    """A server of the model `eights`."""
    run = workspace.home / "eights"
    workspace.ok("train", str(ROOT / "training/configs/digits.yaml"), *QUICK, *FLAGGING, "--out", str(run))
    archive = workspace.path / workspace.ok("archive", str(run)).strip().splitlines()[-1]
    server = start_server(workspace, str(archive), workspace.path / "eights.log", "--workers", "1")
    yield server
    stop_server(server)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Where there is none its tests are left out, but in CI, which installs one."""
    path = chromium.find()
    if path is None and not os.environ.get("CI"):
        pytest.skip("no Chromium; `make browser` installs one")
    assert path, "CI has a Chromium: `make browser`"
    expect.set_options(timeout=WAIT_MS)
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=flags)
        yield found
        found.close()
