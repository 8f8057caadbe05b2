"""The export: Label Studio's tasks, of labelled pictures alone, in the order of labels, without names."""

import json
from pathlib import Path

from console.reviews import export
from console.reviews.pictures import digest_of
from tests.unit.console.reviews.conftest import ANNA, BEN, answer_of
from training.data.reviews import Export


def test_a_task_has_label_answer_and_draw(desk) -> None:
    desk.offer(b"one", answer_of(0.3))
    desk.offer(b"two", answer_of(0.25))
    first = desk.queue.take(BEN)
    desk.queue.label(first.id, "intact", BEN)
    second = desk.queue.take(ANNA)
    desk.queue.label(second.id, "damaged", ANNA)
    desk.queue.undo(ANNA)
    [task] = export.tasks(desk.database, "pictures/", "roofs")
    digest = digest_of(b"two")  # the dearer one, nearer to the threshold 0.2
    assert task["data"] == {
        "image": f"pictures/{digest}", "digest": digest, "model": "roofs", "version": "3", "archive": "a" * 64,
        "decision": "review", "score": 0.25, "lane": "review", "chance": 0.0, "served_rule": True, "source": "console",
        "item": first.id, "reviewer": "ben",
    }  # fmt: skip
    choice = {"from_name": "label", "to_name": "image", "type": "choices"}
    assert task["annotations"][0]["result"] == [{**choice, "value": {"choices": ["intact"]}}]
    assert task["predictions"] == [
        {"model_version": "roofs 3", "score": 0.75, "result": [{**choice, "value": {"choices": ["intact"]}}]}
    ]
    assert list(export.tasks(desk.database, model="leaves")) == []


def test_a_folder_has_the_tasks_and_their_pictures(desk, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export, "PAGE", 2)
    desk.offer_reviews(5)
    for _ in range(5):
        desk.queue.label(desk.queue.take(ANNA).id, "damaged", ANNA)
    out = tmp_path / "reviews"
    assert export.write(desk.database, desk.pictures, out) == 5
    tasks = json.loads((out / "tasks.json").read_text())
    assert len({task["id"] for task in tasks}) == 5
    for task in tasks:
        digest = task["data"]["digest"]
        assert task["data"]["image"] == f"/data/local-files/?d=reviews/pictures/{digest}"
        assert digest_of((out / "pictures" / digest).read_bytes()) == digest
    assert sorted(path.name for path in out.iterdir()) == ["pictures", "reviews.jsonl", "tasks.json"]


def test_a_folder_has_what_trainings_read(desk, tmp_path: Path) -> None:
    desk.offer(b"doubt", answer_of(0.3))
    desk.offer(b"named", answer_of(0.01, "pass", digest=""), source="upload", lane="drift")
    desk.intake.share = 1.0
    desk.offer(b"drawn", answer_of(0.02, "pass"))
    labels = {digest_of(b"doubt"): "damaged", digest_of(b"named"): "intact", digest_of(b"drawn"): "damaged"}
    for _ in labels:
        taken = desk.queue.take(ANNA)
        desk.queue.label(taken.id, labels[taken.digest], ANNA)
    export.write(desk.database, desk.pictures, tmp_path / "out")
    read = Export.read(tmp_path / "out")
    found = {review.digest: review for review in read.reviews}
    assert {digest: review.label for digest, review in found.items()} == labels
    assert [read.picture(digest_of(one)) for one in (b"doubt", b"named", b"drawn")] == [b"doubt", b"named", b"drawn"]
    said = [(found[digest_of(one)].why, found[digest_of(one)].probability) for one in (b"doubt", b"named", b"drawn")]
    assert said == [("review", None), ("upload", None), ("audit", 1.0)]
    assert {review.reviewer for review in read.reviews} == {"anna"}
    assert {review.time.timestamp() for review in read.reviews} == {desk.clock.now}
    assert [found[digest_of(one)].archive for one in (b"doubt", b"named")] == ["a" * 64, None]
