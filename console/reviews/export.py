"""Reviews for others to read: Label Studio's JSON, and, where a folder is asked for, the pictures and what trainings read.

docs/reviews-export.md has the form of the latter: a line for each review, from which `visor data from-reviews` makes a data set.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import and_, select

from console.errors import ParameterInvalid
from console.reviews.database import Database
from console.reviews.errors import PictureGone
from console.reviews.pictures import Pictures
from console.reviews.tables import ITEMS, REVIEWS

TASKS, LINES, PICTURES = "tasks.json", "reviews.jsonl", "pictures"
"""Names of what `write` makes in a folder."""
LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves the files of a folder of its own machine."""
PAGE = 500
FROM, TO = "label", "image"
"""The names of Label Studio's tags: <Image name="image" value="$image"/> and <Choices name="label" toName="image">."""


def tasks(database: Database, prefix: str = "", model: str | None = None) -> Iterator[dict[str, Any]]:
    """Make a task of each labelled item whose picture is kept, in the order in which labels came. `prefix`: before digests.

    The annotation is the person's label and the prediction the model's; `data` says what the answer was decided by, whether the
    picture was drawn at random, and with which chance. A reviewer is a pseudonym.
    """
    last = 0
    while True:
        given = and_(REVIEWS.c.item == ITEMS.c.id, REVIEWS.c.label.is_not(None), REVIEWS.c.undone_s.is_(None))
        columns = [REVIEWS.c.id.label("review"), REVIEWS.c.label.label("given"), REVIEWS.c.reviewer, REVIEWS.c.at_s]
        rows = select(ITEMS, *columns).join(REVIEWS, given).where(ITEMS.c.digest.is_not(None), REVIEWS.c.id > last)
        if model is not None:
            rows = rows.where(ITEMS.c.model == model)
        with database.reading() as connection:
            page = connection.execute(rows.order_by(REVIEWS.c.id).limit(PAGE)).all()
        for row in page:
            last = row.review
            yield _task(row, prefix)
        if len(page) < PAGE:
            return


def write(database: Database, pictures: Pictures, folder: Path, prefix: str | None = None, model: str | None = None) -> int:
    """Write tasks.json, reviews.jsonl and the pictures into a folder; return how many reviews there are.

    Raises PicturesDown; ParameterInvalid for a model that the queue has never seen, and for a folder of something else.
    `prefix`: before a picture's digest in tasks.json, by default Label Studio's address of local files, in a folder of that name.
    """
    _check_model(database, model)
    _check_folder(folder)
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    prefix = f"{LOCAL_FILES}{folder.name}/{PICTURES}/" if prefix is None else prefix
    written = 0
    with (folder / f".{TASKS}.part").open("w") as file, (folder / f".{LINES}.part").open("w") as lines:
        file.write("[")
        for task in tasks(database, prefix, model):
            digest = task["data"]["digest"]
            try:
                (folder / PICTURES / digest).write_bytes(pictures.get(digest))
            except PictureGone:
                continue  # deleted since its row was read
            file.write(("," if written else "") + "\n" + json.dumps(task, ensure_ascii=False))
            lines.write(json.dumps(_line(task), ensure_ascii=False) + "\n")
            written += 1
        file.write("\n]\n")
    for name in (TASKS, LINES):
        (folder / f".{name}.part").replace(folder / name)
    return written


def _check_model(database: Database, model: str | None) -> None:
    with database.reading() as connection:
        seen = connection.execute(select(ITEMS.c.model).distinct().order_by(ITEMS.c.model)).scalars().all()
    if model is not None and model not in seen:
        raise ParameterInvalid(f"the queue has never seen a model {model}; it has {', '.join(seen) or 'none yet'}")


def _check_folder(folder: Path) -> None:
    """A former export is written anew; what lies beside it would be taken for a part of it."""
    if folder.exists() and not folder.is_dir():
        raise ParameterInvalid(f"{folder} is a file; name a new folder")
    own = {PICTURES, *(shape.format(name) for name in (TASKS, LINES) for shape in ("{}", ".{}.part"))}
    if folder.is_dir() and (others := sorted({path.name for path in folder.iterdir()} - own)):
        raise ParameterInvalid(f"{folder} holds other files, such as {others[0]}; name a new folder")


def _line(task: dict[str, Any]) -> dict[str, Any]:
    """What trainings read of a review: docs/reviews-export.md."""
    data, [annotation] = task["data"], task["annotations"]
    drawn = data["lane"] == "audit"
    return {
        "format": 1,
        "digest": data["digest"],
        "label": annotation["result"][0]["value"]["choices"][0],
        "why": "upload" if data["source"] == "upload" and not drawn else data["lane"],
        "probability": data["chance"] if drawn else None,
        "reviewer": data["reviewer"],
        "time": annotation["created_at"],
        "model": data["model"],
        "version": data["version"],
        "archive": data["archive"] or None,
    }


def _task(row: Any, prefix: str) -> dict[str, Any]:
    answer = {"model": row.model, "version": row.version, "archive": row.archive, "decision": row.decision, "score": row.score}
    draw = {"lane": row.lane, "chance": row.chance, "served_rule": row.served, "source": row.source, "item": row.id}
    annotation = {
        "id": row.review,
        "result": [_choice(row.given)],
        "was_cancelled": False,
        "created_at": datetime.fromtimestamp(row.at_s, UTC).isoformat(),
        "completed_by": {"email": f"{row.reviewer}@reviewers.invalid"},
    }
    prediction = {"model_version": f"{row.model} {row.version}", "score": row.confidence, "result": [_choice(row.label)]}
    return {
        "id": row.id,
        "data": {"image": f"{prefix}{row.digest}", "digest": row.digest, **answer, **draw, "reviewer": row.reviewer},
        "annotations": [annotation],
        "predictions": [prediction] if row.label else [],
    }


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": FROM, "to_name": TO, "type": "choices", "value": {"choices": [label]}}
