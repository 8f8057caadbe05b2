import re
import unicodedata
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

import training
from training.config import Config, DecisionConfig, SplitConfig, load
from training.errors import ConfigError

CONFIGS = sorted((Path(training.__file__).parent / "configs").glob("*.yaml"))
SMALLEST = """
name: leaves
data: {source: digits}
preprocessing: {height: 32, width: 32, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
model: {network: small_cnn}
fit: {phases: [{epochs: 1, learning_rate: 0.1}]}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(SMALLEST)
    return path


def test_the_examples_are_these():
    assert [path.stem for path in CONFIGS] == ["digits", "imagefolder", "roofs-pretrain", "roofs"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_example_is_short_valid_and_says_what_to_expect_what_it_costs_and_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 35
    comment = re.match(r"(?:# .*\n)+", text).group()
    assert all(word in comment for word in ("Expect:", "ost", f"visor train training/configs/{path.name}"))
    config = load(path)
    assert config.data.source == path.stem.split("-")[0]
    tree = yaml.safe_load(text)
    assert Config.model_validate(tree) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_imagenet_weights_get_the_preprocessing_they_were_trained_with(path):
    config = load(path)
    if config.model.pretrained == "imagenet":
        assert config.preprocessing.mean == (127 / 255,) * 3
        assert config.preprocessing.std == (128 / 255,) * 3


def test_overrides_are_yaml_and_make_what_is_not_there(path):
    config = load(path, ["seed=3", "fit.phases=[{epochs: 2, learning_rate: 1e-3, unfreeze: all}]", "augment.zoom=0.5"])
    assert (config.seed, config.augment.zoom) == (3, 0.5)
    assert (config.fit.phases[0].learning_rate, config.fit.phases[0].unfreeze) == (0.001, "all")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit.batch=8", "fit.batch: no such key"),
        ("fit.batch_size=0", "fit.batch_size: .*got '0'"),
        ("name=Two Words", "name: .*got 'Two Words'"),
        ("batch_size", "is not KEY=VALUE"),
        ("name.first=x", "name holds a value"),
        ("decision.false_negative=1e300", "decision.false_negative: .*less than or equal to 1000000000"),
        ("decision.false_positive=.inf", "decision.false_positive: .*less than or equal to 1000000000"),
        ("decision.review_cost=1e10", "decision.review_cost: .*less than or equal to 1000000000"),
        ("data={source: roofs, seed: -1}", "data.seed -1 draws no roofs; give 0 or more"),
        ("seed=[1", "the value is not YAML"),
        ("data.path=here", "data.path belongs to source imagefolder"),
        ("data.source=imagefolder", "data.path belongs to source imagefolder"),
        ("data.splits={val: 0.4, calibration: 0.3, test: 0.3}", "must stay under 0.9, got 1.00"),
        ("preprocessing.std=[0, 0, 0]", r"preprocessing: std must be positive, got \[0\.0, 0\.0, 0\.0\]$"),
        (
            "preprocessing.std=[0.5, 58, 0.5]",
            r"std is of pixels from 0 to 1, got \[0.5, 58.0, 0.5\]; of 0 to 255, divide by 255$",
        ),
        ("preprocessing.mean=[127, 127, 127]", r"preprocessing.mean is of pixels from 0 to 1, got \[127"),
        ("preprocessing.mean=[.nan, -1, 0]", "preprocessing.mean is of pixels from 0 to 1, got"),
        ("data={source: digits, path: x}", "data: data.path belongs to .*, not to one that is built in$"),
        ('data={source: imagefolder, path: ""}', "data.path: .*must name a folder; the one that the command runs in is ."),
        ("name=", "name: must be text .got nothing.$"),
        ("preprocessing.fit=crop", "fit crop needs resize"),
        ("model.network=vgg", "model.network: .*got 'vgg'"),
        ("fit.phases=[]", "fit.phases: "),
        ("model.dropout=1", "model.dropout: "),
        ("fit.phases=[{epochs: 2, learning_rate: 0.1, warmup_epochs: 2}]", "less than the phase's 2 epochs, got 2"),
        ("fit.ema_decay=1", "fit.ema_decay: "),
        ("augment.rand_augment_magnitude=31", "augment.rand_augment_magnitude: "),
    ],
)
def test_a_wrong_key_or_value_is_named(path, override, message):
    with pytest.raises(ConfigError, match=message):
        load(path, [override])


@pytest.mark.parametrize(("content", "message"), [("- a", "must hold a mapping, got list"), ("a: [", "is not YAML")])
def test_a_file_that_is_no_mapping_is_named(path, content, message):
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"{path} {message}"):
        load(path)


def test_a_vision_transformer_wants_whole_patches(path):
    assert load(path, ["model.network=vit_tiny_patch16"]).preprocessing.width == 32
    with pytest.raises(ConfigError, match=r"in multiples of 16, got 40 and 32"):
        load(path, ["model.network=vit_tiny_patch16", "preprocessing.height=40"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        load(tmp_path / "none.yaml")


def test_the_digest_is_of_the_values_and_not_of_how_they_are_written(path, tmp_path):
    digest = load(path).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    other = tmp_path / "other.yaml"
    tree = yaml.safe_load(SMALLEST) | {"seed": 0}
    other.write_text(yaml.safe_dump(dict(reversed(tree.items()))))
    assert load(other).digest == digest
    assert load(path, ["seed=1"]).digest != digest


def test_labels_are_in_unicode_s_composed_form_as_those_of_the_data_are(path):
    nfc, nfd = (unicodedata.normalize(form, "fêlé") for form in ("NFC", "NFD"))
    config = load(
        path,
        [f"data.classes=[{nfd}, ok]", f"decision.positive=[{nfd}]", f"decision.prevalence={{{nfd}: 0.1, ok: 0.9}}"],
    )
    assert (config.data.classes, config.decision.positive) == ((nfc, "ok"), (nfc,))
    assert config.decision.prevalence == {nfc: 0.1, "ok": 0.9}


def test_a_config_does_not_change(path):
    with pytest.raises(ValueError, match="frozen"):
        load(path).seed = 1


def keys(model: type[BaseModel], prefix: str = "") -> dict[str, str | None]:
    """The description of each key of a section, and of the sections below it, by its dotted name."""
    found = {}
    for name, field in model.model_fields.items():
        found[prefix + name] = field.description
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= keys(kind, f"{prefix}{name}.")
    return found


def test_every_key_has_a_description_of_whole_sentences():
    described = keys(Config)
    assert "fit.phases.learning_rate" in described
    assert "decision.subgroups.metadata" in described
    assert [name for name, text in described.items() if not text or not re.match(r"[A-Z].*\.$", text, re.DOTALL)] == []


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"max_fnr_confidence": 0.95}, "give max_fnr, too"),
        ({"subgroups": {"metadata": "x.csv", "thresholds": True}}, "name the labels in positive"),
    ],
)
def test_a_promise_without_what_it_needs_is_refused(decision, words):
    with pytest.raises(ValidationError, match=words):
        DecisionConfig.model_validate(decision)


def test_the_sealed_split_counts_among_what_is_held_out():
    assert SplitConfig().sealed == 0
    with pytest.raises(ValidationError, match=r"must stay under 0\.9, got 0\.95"):
        SplitConfig(sealed=0.5)


def test_a_config_decodes_by_the_newest_rule_unless_it_says_another(path):
    assert load(path).preprocessing.decoding == 2
    assert load(path, ["preprocessing.decoding=1"]).preprocessing.decoding == 1
    assert load(path, decoding=1).preprocessing.decoding == 1
    with pytest.raises(ConfigError, match=r"preprocessing\.decoding"):
        load(path, ["preprocessing.decoding=3"])
