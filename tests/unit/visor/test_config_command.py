"""`visor config` prints what docs/config.md has, and what a config makes of it."""

import re
from pathlib import Path

import pytest
import yaml

from training.config import Config, load
from training.keys import keys_of
from visor import cli

ROOT = Path(__file__).parents[3]
ROOFS = ROOT / "training" / "configs" / "roofs.yaml"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["config", *arguments]) == 0
    return capsys.readouterr().out


def plain(text: str) -> str:
    """The words alone, without marks and line breaks."""
    return " ".join(re.sub("[`*]", "", text).split())


def test_every_key_is_printed_with_its_default_and_meaning_as_in_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys)
    words, page = plain(shown), plain((ROOT / "docs" / "config.md").read_text())
    for key in keys_of(Config):
        about = plain(key.about)
        assert about in words
        assert about in page
        if not key.is_section:
            assert plain(f"{key.path}  ({key.head}) {about}") in words
            assert plain(f"{key.path} ({key.head}): {about}") in page
    assert "fit.batch_size  (whole number ≥ 1, ≤ 1000000; default 32)\n    Number of images" in shown


def test_a_configs_values_stand_beside_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, str(ROOFS), "--set", "fit.batch_size=7")
    config = load(ROOFS)
    assert "fit.batch_size  (whole number ≥ 1, ≤ 1000000; default 32)\n    = 7\n" in shown
    assert "data.source" in shown
    assert re.search(r"^data\.source .*\n    = roofs$", shown, re.MULTILINE)
    rates = ", ".join(f"{phase.learning_rate:g}" for phase in config.fit.phases)
    assert re.search(rf"^fit\.phases\[\]\.learning_rate .*\n    = {rates}$", shown, re.MULTILINE)
    assert re.search(r"^decision\.subgroups\.metadata .*\n    = none$", shown, re.MULTILINE)


def test_all_values_make_the_same_config_again(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, str(ROOFS), "--yaml", "--set", "seed=9")
    assert Config.model_validate(yaml.safe_load(shown)) == load(ROOFS, ["seed=9"])


@pytest.mark.parametrize("arguments", [("--yaml",), ("--set", "seed=1")])
def test_values_are_of_a_config(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", *arguments]) == 1
    assert "config.invalid" in capsys.readouterr().err
