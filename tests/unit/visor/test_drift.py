"""What `visor drift` says of a Parquet that cannot be read, in words of its own and with what to do next."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from visor.drift import read_scored
from visor.errors import DriftError


def test_a_parquet_that_is_not_there_says_how_one_is_made(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    with pytest.raises(DriftError) as raised:
        read_scored(file, "a" * 64, Path("model-store/roofs/1/roofs.mar"))
    made = f"`visor score model-store/roofs/1/roofs.mar IMAGES --out {file}` makes it"
    assert str(raised.value) == f"drift.failed: {file} is not there; {made}, or name a folder of images"


@pytest.mark.parametrize("content", [b"", b"path,score\n", b"PAR1 cut off"])
def test_what_is_no_parquet_is_said_without_arrow_s_words(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "scores.parquet"
    file.write_bytes(content)
    with pytest.raises(DriftError) as raised:
        read_scored(file, "a" * 64, Path("roofs.mar"))
    again = "score the images again by `visor score roofs.mar IMAGES --out FILE.parquet`"
    assert str(raised.value) == f"drift.failed: {file} is no Parquet file, or a damaged one; {again}"


def test_a_damaged_page_is_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"path": ["a.png"]}), file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DriftError, match="is no Parquet file, or a damaged one; score the images again"):
        read_scored(file, "a" * 64, Path("roofs.mar"))
