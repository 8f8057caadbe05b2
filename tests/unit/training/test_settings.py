import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from training import settings
from training.errors import ConfigError


def test_home_is_the_environments_or_runs(monkeypatch):
    monkeypatch.delenv("VISOR_HOME", raising=False)
    assert settings.home() == Path("runs")
    monkeypatch.setenv("VISOR_HOME", "/data/visor")
    assert settings.home() == Path("/data/visor")


def test_the_trusted_key_is_the_environments_or_the_folders(monkeypatch):
    monkeypatch.delenv("VISOR_PUBLIC_KEY", raising=False)
    assert settings.public_key() == Path("keys/visor.pub")
    monkeypatch.setenv("VISOR_PUBLIC_KEY", "/etc/visor/visor.pub")
    assert settings.public_key() == Path("/etc/visor/visor.pub")


def test_tracking_uri_is_the_environments_or_a_file_under_home(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert settings.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert settings.tracking_uri(tmp_path) == "http://mlflow:5000"


def test_now_is_utc_in_whole_seconds(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    now = settings.now()
    assert abs((datetime.now(UTC) - now).total_seconds()) < 60
    assert now.microsecond == 0


def test_source_date_epoch_stands_in_for_now(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert settings.now() == datetime(1970, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("value", ["yesterday", "1.5", "9" * 30])
def test_a_wrong_source_date_epoch_is_named(monkeypatch, value):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(ConfigError, match=value.replace(".", r"\.")):
        settings.now()


def test_mlflow_sends_no_statistics_unless_the_user_wants_it(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    settings.prepare_mlflow()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"


def test_the_rank_is_torchruns_or_zero(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert settings.rank() == 0
    monkeypatch.setenv("RANK", "3")
    assert settings.rank() == 3
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigError, match="'first'"):
        settings.rank()


def test_the_number_of_processes_is_torchruns_or_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert settings.world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert settings.world_size() == 4
    monkeypatch.setenv("WORLD_SIZE", "0")
    with pytest.raises(ConfigError, match="WORLD_SIZE must be a whole number from 1, as torchrun sets it, got '0'"):
        settings.world_size()
