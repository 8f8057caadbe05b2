import hashlib
import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.runs import make_record, make_run
from training import runs
from training.config import Config
from training.errors import RunError

CONFIG = {
    "name": "leaves",
    "data": {"source": "imagefolder", "path": "data/äpfel"},
    "preprocessing": {"height": 64, "width": 48, "fit": "crop", "resize": 70, "mean": [127 / 255] * 3, "std": [128 / 255] * 3},
    "model": {"network": "resnet18", "pretrained": "weights.pth"},
    "fit": {"phases": [{"epochs": 1, "learning_rate": 1e-3}, {"epochs": 2, "learning_rate": 0.1, "unfreeze": "all"}]},
    "decision": {"positive": ["ill"], "cost": [[0, 5], [1, 0]]},
}


def test_a_config_comes_back_as_it_was(tmp_path):
    config = Config.model_validate(CONFIG)
    runs.write_config(tmp_path, config)
    assert runs.read_config(tmp_path) == config
    assert runs.read_config(tmp_path).digest == config.digest


def test_the_written_config_names_every_value(tmp_path):
    runs.write_config(tmp_path, Config.model_validate(CONFIG))
    text = (tmp_path / "config.yaml").read_text()
    assert all(key in text for key in ("label_smoothing", "max_pixels", "pointing_tolerance", "äpfel"))


def test_a_record_comes_back_as_it_was(tmp_path):
    record = make_record()
    runs.write_record(tmp_path, record)
    assert runs.read_record(tmp_path) == record
    assert json.loads((tmp_path / "run.json").read_text())["dataset_root"] == "data"


@pytest.mark.parametrize("read", [runs.read_config, runs.read_record, runs.read_finished])
def test_a_folder_without_a_run_is_named(tmp_path, read):
    with pytest.raises(RunError, match=f"{tmp_path} holds no run .*visor train"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"extra": 1}', "[]"])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        runs.read_record(tmp_path)


def test_the_same_weights_make_the_same_bytes_whatever_their_layout(tmp_path):
    weight = torch.randn(4, 3, 2, 2)
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    other = {"b": torch.ones(2), "a": weight.contiguous(memory_format=torch.channels_last)}
    assert runs.write_weights(first, {"a": weight, "b": torch.ones(2)}) == runs.write_weights(second, other)
    assert torch.equal(load_file(second / "model.safetensors")["a"], weight)


def test_a_finished_run_is_read_with_its_metrics(tmp_path):
    written = make_run(tmp_path)
    record, metrics = runs.read_finished(tmp_path)
    assert (record, metrics) == (written, {"accuracy": 0.75})


@pytest.mark.parametrize("name", runs.RESULTS)
def test_a_run_that_lacks_a_result_is_not_finished(tmp_path, name):
    make_run(tmp_path)
    assert runs.is_finished(tmp_path)
    (tmp_path / name).unlink()
    assert not runs.is_finished(tmp_path)
    with pytest.raises(RunError, match="is not finished"):
        runs.read_finished(tmp_path)


@pytest.mark.parametrize("record", [{"model_version": None}, {"weights_digest": "0" * 64}])
def test_a_run_that_is_not_registered_or_whose_weights_changed_is_not_finished(tmp_path, record):
    make_run(tmp_path, **record)
    assert not runs.is_finished(tmp_path)


def test_metrics_that_are_no_json_are_named(tmp_path):
    make_run(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"metrics\.json cannot be read"):
        runs.read_finished(tmp_path)


def test_clear_deletes_what_a_run_wrote_and_nothing_else(tmp_path):
    make_run(tmp_path)
    runs.write_history(tmp_path, [{"epoch": 1}])
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "confusion.png").touch()
    (tmp_path / "notes.txt").write_text("mine")
    runs.clear(tmp_path)
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*")} == {Path("notes.txt"), Path("plots")}
    runs.clear(tmp_path / "nothing there")


def test_a_lock_is_held_by_one_at_a_time_and_waiting_is_said_once(tmp_path):
    lock, order, waiting = tmp_path / "new" / ".home.lock", [], threading.Event()

    def second():
        with runs.exclusive(lock, lambda: (order.append("waits"), waiting.set())):
            order.append("second")

    with runs.exclusive(lock, lambda: order.append("nobody is there")):
        other = threading.Thread(target=second)
        other.start()
        assert waiting.wait(30)
        order.append("first")
    other.join(30)
    assert order == ["waits", "first", "second"]


def test_a_lock_is_released_by_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), runs.exclusive(tmp_path / ".home.lock"):
        raise ZeroDivisionError
    with runs.exclusive(tmp_path / ".home.lock", lambda: pytest.fail("it is still held")):
        pass


def older_config(folder: Path) -> Config:
    """Write a run's config as visor 0.2 wrote it, and return what it is."""
    config = Config.model_validate(CONFIG).decoded_by(1)
    runs.write_config(folder, config)
    assert "decoding" not in (folder / runs.CONFIG).read_text()
    return config


def test_a_run_from_before_the_second_decoding_rule_keeps_the_first(tmp_path):
    older, newer = older_config(tmp_path), Config.model_validate(CONFIG)
    assert newer.preprocessing.decoding == 2
    assert runs.read_config(tmp_path) == older
    runs.write_record(tmp_path, make_record(config_digest=older.digest))
    assert runs.keep_rule(tmp_path, newer) == older
    runs.write_record(tmp_path, make_record(config_digest=newer.digest))
    assert runs.keep_rule(tmp_path, newer) == newer
    assert runs.keep_rule(tmp_path / "nothing", newer) == newer


def test_the_first_rule_s_config_has_the_digest_that_it_always_had():
    """Of its canonical JSON without the key, as the commit before the key computed it."""
    config = Config.model_validate(CONFIG)
    tree = config.model_dump(mode="json")
    del tree["preprocessing"]["decoding"]
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    assert config.decoded_by(1).digest == hashlib.sha256(text.encode()).hexdigest() != config.digest


def test_the_run_that_may_be_meant_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISOR_HOME", raising=False)
    make_run(tmp_path / "runs/stamps")
    for what in ("stamps", "stmps", "elsewhere/stamps", "runs/stampz"):
        with pytest.raises(RunError, match=r"there is no such folder\); did you mean runs/stamps\?"):
            runs.read_finished(Path(what))
    with pytest.raises(
        RunError,
        match=r"stamps.mar is an archive, packed from a run already, and .* the folder of a run, such as runs/stamps",
    ):
        runs.read_record(Path("model-store/stamps/1/stamps.mar"))
    monkeypatch.setenv("VISOR_HOME", "other")
    make_run(tmp_path / "other/leaves")
    with pytest.raises(RunError, match="did you mean other/leaves"):
        runs.read_config(Path("leaves"))
    with pytest.raises(RunError, match="make one with `visor train CONFIG --out nothing`"):
        runs.read_config(Path("nothing"))
    with pytest.raises(RunError, match="make one with `visor train CONFIG --out 'no thing'`"):
        runs.read_config(Path("no thing"))
