"""Parts of a scoring: done is what is there and whole, and nothing else."""

import os
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from visor.errors import ScoreError
from visor.scoring import parts


def scoring(images=70, **values):
    given = {"name": "tiny", "version": "1", "archive_digest": "a" * 64, "labels": ("dark", "light"), "threshold": 0.5}
    rule = {"threshold_overridden": False, "review_from": 0.5, "review_to": 0.5, "group": None, "promise": None}
    return parts.Scoring(**(given | rule | {"explain": False, "images": images, "listing_digest": "b" * 64} | values))


def row(number):
    if number % 10 == 9:
        return {"path": f"{number}.png", "error": "image.empty"}
    probabilities = np.array([0.25, 0.75], dtype=np.float32)
    answer = {"label": "light", "confidence": 0.75, "probabilities": probabilities, "decision": "flag"}
    return {"path": f"{number}.png", "digest": "c" * 64, **answer}


def write(folder, what, number):
    return parts.write(folder, what, number, [row(n) for n in what.rows(number)])


@pytest.mark.parametrize("images", [1, 32, 33, 8191, 8192, 8193, 262_144, 262_145, 1_000_000])
def test_parts_cover_every_row_once_in_order_and_so_do_shards(images):
    what = scoring(images)
    rows = [what.rows(number) for number in range(what.parts)]
    assert rows[0].start == 0
    assert rows[-1].stop == images
    assert all(before.stop == after.start and len(before) == what.part_rows for before, after in pairwise(rows))
    assert 32 <= what.part_rows <= 1024
    for count in (1, 2, 3, 7, 1000):
        shards = [what.of_shard(index, count) for index in range(count)]
        assert [number for shard in shards for number in shard] == list(range(what.parts))
        assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_what_is_written_is_read(tmp_path):
    what = scoring()
    parts.claim(tmp_path, what)
    counts = write(tmp_path, what, 1)
    assert (counts.decisions, counts.errors) == (Counter(flag=29), Counter({"image.empty": 3}))
    table = parts.read(tmp_path, what, 1)
    assert table.num_rows == 32
    assert table["path"].to_pylist() == [f"{n}.png" for n in range(32, 64)]
    rest = dict.fromkeys(("score", "prediction_set", "review_from", "review_to", "promise", "drift", "error"))
    assert table.slice(0, 1).to_pylist() == [{**row(32), "probabilities": [0.25, 0.75], **rest}]
    assert table.slice(7, 1).to_pylist()[0]["label"] is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_part_that_is_not_there_or_not_whole_is_to_be_done(tmp_path):
    what = scoring()
    assert parts.read(tmp_path, what, 0) is None
    write(tmp_path, what, 0)
    path = parts.path_of(tmp_path, 0)
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(3)
    last = column.data_page_offset + column.total_compressed_size - 1  # a byte of a page, whose checksum tells
    for damaged in (b"", whole[:100], whole[:-1], whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :]):
        path.write_bytes(damaged)
        assert parts.read(tmp_path, what, 0) is None
    path.write_bytes(whole)
    assert parts.read(tmp_path, what, 0) is not None
    path.rename(parts.path_of(tmp_path, 1))  # another part's rows
    assert parts.read(tmp_path, what, 1) is None


@pytest.mark.parametrize(
    "other", [{"threshold": 0.4}, {"archive_digest": "d" * 64}, {"listing_digest": "e" * 64}, {"images": 71}]
)
def test_another_scoring_s_folder_and_parts_are_refused(tmp_path, other):
    what = scoring()
    parts.claim(tmp_path, what)
    parts.claim(tmp_path, what)
    write(tmp_path, what, 0)
    [name] = other
    with pytest.raises(ScoreError, match=f"another scoring \\({name} "):
        parts.claim(tmp_path, scoring(**other))
    with pytest.raises(ScoreError, match=f"another scoring \\({name} "):
        parts.read(tmp_path, scoring(**other), 0)


def test_a_folder_with_other_files_is_refused_and_a_volume_s_own_folder_is_none(tmp_path):
    (tmp_path / "lost+found").mkdir()
    parts.claim(tmp_path, scoring())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(ScoreError, match=r"holds other files, such as thesis\.tex"):
        parts.claim(tmp_path / "other", scoring())


def test_what_killed_writers_left_goes_after_an_hour(tmp_path):
    old, new = tmp_path / ".part-000000.parquet.1.tmp", tmp_path / ".part-000000.parquet.2.tmp"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    parts.claim(tmp_path, scoring())
    assert not old.exists()
    assert new.exists()


def test_the_one_file_has_all_rows_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS_A_GROUP", 40)
    what = scoring()
    for number in range(what.parts):
        write(tmp_path, what, number)
    parts.merge(tmp_path, what, tmp_path / "all.parquet")
    file = pq.ParquetFile(tmp_path / "all.parquet")
    assert file.num_row_groups == 2
    assert file.read()["path"].to_pylist() == [f"{n}.png" for n in range(70)]
    assert parts.parse(tmp_path / "all.parquet", file.schema_arrow.metadata) == what


def test_a_part_that_went_missing_leaves_no_file(tmp_path):
    write(tmp_path, scoring(), 0)
    with pytest.raises(ScoreError, match=r"part-000001\.parquet is gone or damaged"):
        parts.merge(tmp_path, scoring(), tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_a_parquet_file_of_somebody_else_s(tmp_path):
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "part-000000.parquet")
    with pytest.raises(ScoreError, match="not written by `visor score`"):
        parts.read(tmp_path, scoring(), 0)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScoreError, match="cannot be written"):
        parts.claim(tmp_path / "file", scoring())


@pytest.mark.parametrize("code", ["image.unreadable", "image.changed"])
def test_a_finished_file_is_cut_into_the_parts_all_of_whose_images_were_read(tmp_path, code):
    what, again, file = scoring(), tmp_path / "again", tmp_path / "scores.parquet"
    parts.claim(tmp_path / "first", what)
    for number in range(what.parts):
        rows = [row(n) for n in what.rows(number)]
        parts.write(tmp_path / "first", what, number, [*rows[:-1], {"path": "x.png", "error": code}] if number == 1 else rows)
    parts.merge(tmp_path / "first", what, file)
    counts = parts.Counts().add(pq.read_table(file))
    assert (parts.unread(counts), counts.errors) == (1, Counter({"image.empty": 7, code: 1}))  # 9, 19, ... 69
    parts.claim(again, what)
    parts.cut(again, what, pq.read_table(file))
    assert [parts.path_of(again, number).exists() for number in range(what.parts)] == [True, False, True]
    for number in (0, 2):
        assert parts.read(again, what, number).equals(parts.read(tmp_path / "first", what, number))
    write(again, what, 1)  # it was done anew since, and stays
    parts.cut(again, what, pq.read_table(file))
    assert parts.unread(parts.Counts().add(parts.read(again, what, 1))) == 0
