"""`POST /batch_predict` against a real edge: every picture has its own answer or error, whatever the others are."""

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from console.api.batch import Picture, in_order
from console.api.items import Item
from console.settings import MIB, Settings
from tests.unit.console.api.test_predict import code_of
from tests.unit.console.conftest import running

ZIP = {"Content-Type": "application/zip"}


def zipped(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return file.getvalue()


def told(answer: httpx.Response) -> list[tuple[int, str, str]]:
    """Each item's place, name, and label or error."""
    assert answer.status_code == 200, answer.text
    items = [Item.model_validate_json(line) for line in answer.text.splitlines()]
    return [(one.index, one.name, one.answer.label if one.answer else one.error.code if one.error else "") for one in items]


async def labels(console: httpx.AsyncClient, images: list[bytes]) -> list[str]:
    kind = {"Content-Type": "image/png"}
    return [(await console.post("/predict", content=image, headers=kind)).json()["label"] for image in images]


async def test_files_and_zips_of_a_form_are_answered_in_their_order(console: httpx.AsyncClient, images: list[bytes]) -> None:
    own = await labels(console, images)
    packed = zipped(("in/a.png", images[1]), ("__MACOSX/in/._a.png", b"x"), ("<b>.png", b"no picture"))
    files = [
        ("images", ("1.png", images[0], "image/png")),
        ("images", ("all.zip", packed, "application/zip")),
        ("images", ("../../2.svg", b"<svg/>", "image/png")),
        ("other", ("3.png", images[2], "image/png")),
    ]
    assert told(await console.post("/batch_predict", files=files)) == [
        (0, "1.png", own[0]),
        (1, "all.zip/in/a.png", own[1]),
        (2, "all.zip/<b>.png", "image.undecodable"),
        (3, "../../2.svg", "image.unsupported"),
        (4, "3.png", own[2]),
    ]


async def test_an_entry_of_a_zip_that_is_not_read_has_its_own_error(console: httpx.AsyncClient, images: list[bytes]) -> None:
    own = await labels(console, images)
    inner = zipped(("x.png", images[0]))
    answer = await console.post(
        "/batch_predict",
        content=zipped(("a.png", images[0]), ("../b.png", images[1]), ("c.zip", inner), ("empty.png", b""), ("d.png", images[3])),
        headers=ZIP,
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert told(answer) == [
        (0, "a.png", own[0]),
        (1, "../b.png", "console.zip"),
        (2, "c.zip", "console.zip"),
        (3, "empty.png", "image.empty"),
        (4, "d.png", own[3]),
    ]


async def test_accept_chooses_an_array_or_csv(console: httpx.AsyncClient, images: list[bytes]) -> None:
    own = await labels(console, images)
    data = zipped(*((f"{n}.png", image) for n, image in enumerate(images)))
    array = await console.post("/batch_predict", content=data, headers={**ZIP, "Accept": "application/json"})
    table = await console.post("/batch_predict", content=data, headers={**ZIP, "Accept": "text/csv"})
    assert [item["answer"]["label"] for item in array.json()] == own
    assert [row["label"] for row in csv.DictReader(io.StringIO(table.text))] == own
    assert table.headers["content-type"].startswith("text/csv")
    assert table.headers["content-disposition"] == 'inline; filename="answers.csv"'


async def test_options_hold_for_every_picture(console: httpx.AsyncClient, images: list[bytes]) -> None:
    files = [("images", (f"{n}.png", image)) for n, image in enumerate(images)]
    answer = await console.post("/batch_predict?explain=true", files=files, data={"threshold": "0"})
    items = [json.loads(line)["answer"] for line in answer.text.splitlines()]
    assert [item["decision"] for item in items] == ["flag"] * 4
    assert all(item["heatmap"] for item in items)


@pytest.mark.parametrize(
    ("send", "status", "code"),
    [
        ({"content": b"x", "headers": {"Content-Type": "image/png"}}, 415, "console.content"),
        ({"content": b"not a zip", "headers": ZIP}, 400, "console.zip"),
        ({"content": b"", "headers": ZIP}, 400, "console.zip"),
        ({"files": {"images": ("a.zip", b"PK\x03\x04 cut")}}, 400, "console.zip"),
        ({"files": {"images": ("", b"")}}, 400, "console.upload"),
        ({"content": zipped(), "headers": {**ZIP, "Accept": "text/html"}}, 406, "console.accept"),
        ({"content": zipped(), "headers": ZIP, "params": {"model": "other"}}, 404, "console.model"),
        ({"content": zipped(), "headers": ZIP, "params": {"threshold": "-1"}}, 422, "console.parameter"),
        ({"files": {"images": ("a.png", b"x")}, "data": {"more": "1"}}, 422, "console.parameter"),
    ],
)
async def test_what_is_wrong_with_the_whole_is_told_before_anything_is_asked(
    console: httpx.AsyncClient, send: dict[str, Any], status: int, code: str
) -> None:
    assert code_of(await console.post("/batch_predict", **send)) == (status, code)


async def test_a_file_without_a_name_is_a_picture_too(console: httpx.AsyncClient, images: list[bytes]) -> None:
    [own] = await labels(console, images[:1])
    body = b'--b\r\nContent-Disposition: form-data; name="a"; filename=""\r\n\r\n%s\r\n--b--\r\n' % images[0]
    answer = await console.post("/batch_predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert told(answer) == [(0, "", own)]


async def test_an_empty_zip_has_no_answers(console: httpx.AsyncClient) -> None:
    assert told(await console.post("/batch_predict", content=zipped(), headers=ZIP)) == []


async def test_more_bytes_or_pictures_than_allowed_are_refused(choose: Callable[..., Settings], images: list[bytes]) -> None:
    chosen = choose(max_zip_mib=1, max_zip_entries=3, max_image_mib=1)
    async with running(chosen) as (address, _), httpx.AsyncClient(base_url=address) as client:
        files = [("images", (f"{n}.png", images[0])) for n in range(4)]
        small = zipped(("a", bytes(700_000)))
        refused = [
            await client.post("/batch_predict", files=files),
            await client.post("/batch_predict", files=[*files[:2], ("images", ("b.zip", zipped(("a", b"1"), ("b", b"2"))))]),
            await client.post("/batch_predict", content=zipped(*((str(n), b"x") for n in range(4))), headers=ZIP),
            await client.post("/batch_predict", content=bytes(MIB + (1 << 20)), headers=ZIP),
            await client.post("/batch_predict", content=bomb(3), headers=ZIP),
            await client.post("/batch_predict", files=[("images", (f"{n}.zip", one)) for n, one in enumerate([small, small])]),
        ]
        assert [code_of(answer) for answer in refused] == [(413, "console.too_large")] * 6


def bomb(mebibytes: int) -> bytes:
    """A ZIP of some kilobytes that unpacks to so many MiB, in entries of less than one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for n in range(3):
            made.writestr(str(n), bytes(mebibytes * MIB // 3 - 1))
    assert len(file.getvalue()) < 10_000
    return file.getvalue()


async def test_a_form_in_pieces_is_read_as_one_in_a_whole(console: httpx.AsyncClient, images: list[bytes]) -> None:
    own = await labels(console, images)
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n%s\r\n' % (n, image)
        for n, image in enumerate(images)
    ]
    whole = b"".join(parts) + b"--b--\r\n"

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(whole), 997):
            yield whole[at : at + 997]

    answer = await console.post("/batch_predict", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert told(answer) == [(n, f"{n}.png", label) for n, label in enumerate(own)]


async def test_items_come_in_order_and_only_so_many_are_asked_at_once() -> None:
    asked = most = 0

    async def ask(index: int, picture: Picture) -> Item:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(0.001 * (index % 3))
        asked -= 1
        return Item(index=index, name=picture.name)

    pictures = [Picture(str(n), 1, bytes) for n in range(30)]
    assert [item.name async for item in in_order(pictures, ask, 4)] == [str(n) for n in range(30)]
    assert most == 4


async def test_a_client_that_leaves_gives_its_batchs_place_back(choose: Callable[..., Settings], images: list[bytes]) -> None:
    async with running(choose(max_batches=1)) as (address, console), httpx.AsyncClient(base_url=address) as client:
        data = zipped(*((f"{n}.png", images[n % 4]) for n in range(200)))
        for _ in range(3):
            async with client.stream("POST", "/batch_predict", content=data, headers=ZIP) as answer:
                assert await anext(answer.aiter_lines())
        assert len(told(await client.post("/batch_predict", content=data, headers=ZIP))) == 200
        assert console.metrics.registry.get_sample_value("visor_console_upload_bytes") == 0


async def test_many_zips_bring_no_more_than_one_may(choose: Callable[..., Settings]) -> None:
    left_out = zipped(*((f"._{n:200}", b"") for n in range(9000)), ("a.png", b"x"))  # a directory of 2.4 MiB, and one picture
    three = zipped(*((f"{n}.png", b"x") for n in range(3)))
    async with running(choose(max_zip_entries=5)) as (address, _), httpx.AsyncClient(base_url=address, timeout=30) as client:
        for each, says in ((left_out, "directory"), (three, "more than 5")):
            assert (await client.post("/batch_predict", headers=ZIP, content=each)).status_code == 200
            refused = await client.post("/batch_predict", files=[("images", (f"{n}.zip", each)) for n in range(2)])
            assert code_of(refused) == (413, "console.too_large")
            assert says in refused.text
