"""The keys of configs and spaces: suggestions, values set in lists, and errors without pydantic's own words."""

import re
import zipfile
from pathlib import Path

import pytest
import yaml

from training.config import Config, load
from training.errors import ConfigError
from training.keys import NAME_LENGTH, as_name, keys_of, read_yaml, written
from training.selection.search import Space, with_values

DIGITS = Path(__file__).parents[3] / "training" / "configs" / "digits.yaml"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("data.pth", "data.path"),
        ("fit.batchsize", "fit.batch_size"),
        ("batch_size", "fit.batch_size"),
        ("learning_rate", "fit.phases.0.learning_rate"),
        ("fit.phases.0.learning_rte", "fit.phases.0.learning_rate"),
        ("ft", "fit"),
        ("augmnt", "augment"),
        ("decision.max_fnr_confidense", "decision.max_fnr_confidence"),
    ],
)
def test_the_key_that_was_meant_is_named(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(DIGITS, [f"{wrong}=3"])
    said = str(raised.value)
    assert f"{wrong}: no such key; did you mean {meant}? (`visor config` lists all keys)" in said
    assert said.count(";") == 1  # and nothing else is said
    if not wrong.startswith("fit.phases"):
        with pytest.raises(ConfigError, match=re.escape(f"{wrong}: no such key; did you mean {meant}?")):
            with_values(load(DIGITS), {wrong: 3})


def test_nothing_is_suggested_for_what_is_like_nothing() -> None:
    with pytest.raises(ConfigError, match=r"zzz: no such key \(`visor config` lists all keys\)$"):
        load(DIGITS, ["zzz=3"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("fit.phases.0.unfreeze=x", "fit.phases.0.unfreeze: must be a whole number or 'all' (got 'x')"),
        ("fit.phases.0.epochs=0", "fit.phases.0.epochs: must be greater than or equal to 1 (got '0')"),
        ("model.pretrained=[1]", "model.pretrained: must be 'imagenet' or a path (got '[1]')"),
        ("decision.prevalence={a: x}", "decision.prevalence.a: must be a number (got 'x')"),
        ("decision.cost=[[a]]", "decision.cost.0.0: must be a number (got 'a')"),
        ("fit={}", "fit.phases: missing, and there is no default"),
        ("fit=3", "fit: must be a mapping of keys to values (got '3')"),
        ("fit.phases=[]", "fit.phases: it must have at least 1 item, not 0 (got '[]')"),
        ("decision.positive=Blume", "decision.positive: must be a list of texts, such as [Blume] (got 'Blume')"),
        ("decision.positive=a,b", "decision.positive: must be a list of texts, such as [a, b] (got 'a,b')"),
        (
            "preprocessing.mean=0.5",
            "preprocessing.mean: must be a list of 3 numbers, such as [0.5, 0.5, 0.5] (got '0.5')",
        ),
        ("preprocessing.mean=[0.5]", "preprocessing.mean: it must have at least 3 items, not 1 (got '[0.5]')"),
        ("preprocessing.mean=[1, 2, 3, 4]", "preprocessing.mean: it must have at most 3 items, not 4 (got '[1, 2, 3, 4]')"),
        ("decision.cost=5", "decision.cost: must be a list of lists of numbers, such as [[0, 1], [5, 0]] (got '5')"),
        ("decision.cost=[5]", "decision.cost.0: must be a list (got '5')"),
        ("fit.phases=3", "fit.phases: must be a list (got '3')"),
        (
            "fit.batch_size={a: [1, null, x y], b: 0.1}",
            "fit.batch_size: must be a whole number (got '{a: [1, null, x y], b: 0.1}')",
        ),
        ("name=2026", "name: must be text, with its quotes: \"2026\" (got '2026')"),
        ("name=true", "name: must be text (got 'true')"),
        ("augment.flip_horizontal=5", "augment.flip_horizontal: must be true or false (got '5')"),
        (f"fit.batch_size={10**20}", f"fit.batch_size: must be less than or equal to 1000000 (got '{10**20}')"),
        ("pretrain.batch_size=1000001", "pretrain.batch_size: must be less than or equal to 1000000 (got '1000001')"),
        ("fit.batch_size=1.5", "fit.batch_size: must be a whole number (got '1.5')"),
    ],
)
def test_an_error_names_the_key_alone_and_what_may_stand_there(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(DIGITS, [override])
    assert str(raised.value) == f"config.invalid: {DIGITS}: {said}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: a\nseed: 1\nname: b\n", "name: stands twice, on lines 1 and 3; keep one of the two"),
        (
            "name: a\nfit:\n  phases:\n    - epochs: 1\n      epochs: 2\n",
            "fit.phases.0.epochs: stands twice, on lines 4 and 5; keep one of the two",
        ),
        ("seed: 1\nname: a\nseed: 1\nname: b", "seed: stands twice, on lines 1 and 3; keep one of the two; name: stands twice"),
        ("fit: {epochs: 1, epochs: 2}", "fit.epochs: stands twice, on line 1; keep one of the two"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    for read in (load, Space.read):
        with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/config.yaml: {said}")):
            read(tmp_path / "config.yaml")


def test_yaml_is_read_as_pyyaml_reads_it() -> None:
    """Anchors, merges of which a key may override, and aliases that lead back are no keys that stand twice."""
    for text in (DIGITS.read_text(), "", "a: &b {c: 1}\nd: {<<: *b, c: 2}\ne: *b\n", "- &a [1, *a]", "[a, a]", "1"):
        assert repr(read_yaml(text)) == repr(yaml.safe_load(text))
    with pytest.raises(ConfigError, match=r"override .*: a: stands twice"):
        load(DIGITS, ["fit={a: 1, a: 2}"])


def test_a_packed_file_is_to_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "icons.ZIP"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/b.png", b"")
    with pytest.raises(ConfigError, match=rf"{path} is an archive of files, and a config is a YAML file; unpack it, and for a "):
        load(path)


def test_values_are_set_in_lists_by_number() -> None:
    assert load(DIGITS, ["fit.phases.0.epochs=3"]).fit.phases[0].epochs == 3
    with pytest.raises(ConfigError, match=r"fit.phases has 1 entry, the first is 0"):
        load(DIGITS, ["fit.phases.1.epochs=3"])
    with pytest.raises(ConfigError, match=r"fit.phases has 1 entry"):
        load(DIGITS, ["fit.phases.first.epochs=3"])


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            "parameters: {fit.batch_size: {type: int, lo: 1, high: 3}}",
            "parameters.fit.batch_size.lo: no such key; did you mean low?",
        ),
        ("parameters: {fit.batch_size: {type: int, low: 1}}", "parameters.fit.batch_size.high: missing, and there is no default"),
        (
            "parameters: {fit.batch_size: {type: int, low: 5, high: 3}}",
            "parameters.fit.batch_size: low must be below high, got 5 and 3",
        ),
        ("parameters: {fit.batch_size: 3}", "parameters.fit.batch_size: must be a mapping of keys to values (got '3')"),
        ("parametrs: {fit.seed: {choices: [1, 2]}}", "parametrs: no such key; did you mean parameters?"),
        ("parameters: {}", "parameters: names no key to search"),
        (
            "{objective: loss, parameters: {seed: {choices: [1, 2]}}}",
            "objective: must be 'val_loss' or 'val_accuracy' (got 'loss')",
        ),
    ],
)
def test_a_wrong_space_is_told_without_pydantics_words(tmp_path: Path, space: str, said: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(space)
    with pytest.raises(ConfigError) as raised:
        Space.read(path)
    assert said in str(raised.value)
    assert not re.search(r"function-after|Range|Choices|Discriminator|range\.", str(raised.value))


def test_a_folder_or_a_missing_file_is_not_called_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{tmp_path} is a folder, .*--set data.path={tmp_path}$"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"none.yaml cannot be read: No such file or directory; name a config, a YAML file$"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"none.yaml cannot be read: No such file or directory; name a search space"):
        Space.read(tmp_path / "none.yaml")


def test_sections_stand_before_their_keys_and_lists_are_marked() -> None:
    paths = [key.path for key in keys_of(Config)]
    assert paths[0] == "name"
    assert paths.index("fit") < paths.index("fit.batch_size") < paths.index("fit.phases[]") < paths.index("fit.phases[].epochs")
    assert len(paths) == len(set(paths))
    assert {key.path for key in keys_of(Config) if key.required} >= {"name", "data", "data.source", "fit.phases[].epochs"}


@pytest.mark.parametrize(
    ("name", "proposed"), [("my roofs", "my-roofs"), ("My_Roofs.v2", "my-roofs-v2"), ("Größe", "groe"), ("___", "images")]
)
def test_a_name_that_cannot_be_is_told_what_one_holds_and_which_it_could_be(name: str, proposed: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(DIGITS, [f"name={name}"])
    assert str(raised.value).endswith(
        f"name: holds small letters, digits and -, 53 at most, a letter or digit first and last; take {proposed} (got {name!r})"
    )
    assert load(DIGITS, [f"name={proposed}"]).name == proposed
    assert load(DIGITS, [f"name={as_name('x' * 80)}"]).name == "x" * NAME_LENGTH


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"name: digits\nseed: [1\nfit: {}\n",
            r"is not YAML: line 3, column 4: expected ',' or '\]', but got ':'; a line is KEY: V",
        ),
        (b"name: digits\n\tseed: 1\n", r"is not YAML: line 2, column 1: a tab stands where spaces belong; a line is KEY: VALUE"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", r"holds bytes that are no text, as of a picture or an archive; name a file of text"),
        ("name: Dächer\n".encode("latin-1"), r"is not UTF-8; save it as UTF-8$"),
        ("name: x\n".encode("utf-16"), r"is not UTF-8; save it as UTF-8$"),
        (b"Dear reader,\nthis is a letter.\n", r"must hold a mapping, got text; a line is KEY: VALUE.*; name a config$"),
        (b"", r"must hold a mapping, got nothing; a line is KEY: VALUE"),
        (b"name: x\ndata: {source: [\n", r"is not YAML: line 3, column 1: it ends within what \[ or { has opened; a line is"),
        (b'name: "x\n', r"is not YAML: line 2, column 1: it ends within what a quote has opened; a line is"),
        (b"seed: 1: 2\n", r"is not YAML: line 1, column 8: a second colon stands on the line"),
        (b"a:\n  b: 1\nfit\nname: x\n", r"is not YAML: line 4, column 1: a line without a colon; a line is"),
        (b"a\x00b: 1", r"is not YAML: special characters are not allowed; a line is"),
    ],
)
def test_what_is_no_config_is_told_on_one_line_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^config.invalid: {path} {said}") as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_a_value_of_set_that_is_no_yaml_is_told_on_one_line() -> None:
    with pytest.raises(
        ConfigError, match=r"override 'seed=\[1': the value is not YAML: line 1, column 3: it ends within what "
    ) as raised:
        load(DIGITS, ["seed=[1"])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        (True, "true"),
        (1e-4, "0.0001"),
        (0.4980392156862745, "0.4980392156862745"),
        ("yes", "'yes'"),
        (("a", "b c"), "[a, b c]"),
        ({"epochs": 2, "unfreeze": "all"}, "{epochs: 2, unfreeze: all}"),
        ([], "[]"),
        (list(range(100)), f"[{', '.join(map(str, range(23)))}, ...]"),  # of n numbers 4 n - 12 characters, which are 80 of 23
    ],
)
def test_a_value_is_written_as_a_config_has_it_and_shortened_at_an_element(value, said):
    assert written(value) == said
    if "..." not in said:
        assert yaml.safe_load(said) == (list(value) if isinstance(value, tuple) else value)
