"""The commands, as `python -m console` runs them: on the database and the pictures that the flags or the environment name."""

import asyncio
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from console.__main__ import main
from console.reviews.database import Database
from console.reviews.pictures import digest_of
from tests.unit.console.conftest import encoded
from tests.unit.console.reviews.conftest import ANNA


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    status = main(argv)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_tables_are_made_by_a_command(url: str, capsys) -> None:
    for _ in range(2):
        status, said = ask(capsys, "migrate", "--database", url)
        assert status == 0
        assert said.endswith(f"{url.partition('://')[2]} is of this version\n")
    Database.open(url).close()


def test_reviews_are_written_and_pictures_deleted(desk, url: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("VISOR_CONSOLE_DATABASE", url)
    monkeypatch.setenv("VISOR_CONSOLE_PICTURES", str(tmp_path / "pictures"))
    desk.offer_reviews(3)
    for _ in range(2):
        desk.queue.label(desk.queue.take(ANNA).id, "damaged", ANNA)
    assert ask(capsys, "export", "--out", str(tmp_path / "out")) == (0, f"2 labelled pictures in {tmp_path / 'out'}\n")
    assert len(json.loads((tmp_path / "out/tasks.json").read_text())) == 2

    (tmp_path / "copy.jpg").write_bytes(b"picture 0")
    assert ask(capsys, "erase", str(tmp_path / "copy.jpg"), digest_of(b"picture 1"))[1] == "2 pictures deleted\n"
    assert ask(capsys, "erase", digest_of(b"picture 1"))[1] == "0 pictures deleted\n"
    assert ask(capsys, "erase", "--older-than-days", "30")[1] == "1 pictures deleted\n"
    assert list(desk.pictures.digests()) == []


def test_what_names_no_picture_is_told(tmp_path: Path, capsys) -> None:
    for argv in (("erase",), ("erase", "nowhere.jpg")):
        status, said = ask(capsys, *argv, "--folder", str(tmp_path))
        assert status == 1
        assert said.startswith("console: console.parameter: ")
    with pytest.raises(SystemExit):
        main(["erase", "--older-than-days", "-1"])


async def test_pictures_are_added_to_a_running_console(console: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded("PNG"))
    (tmp_path / "two.png").write_bytes(b"no picture")
    names = [str(tmp_path / name) for name in ("one.png", "two.png")]
    assert await asyncio.to_thread(main, ["add", names[0], "--console", str(console.base_url)]) == 0
    assert await asyncio.to_thread(main, ["add", *names, "--console", str(console.base_url)]) == 1
    assert await asyncio.to_thread(main, ["add", names[0], "--console", "http://127.0.0.1:1"]) == 1


@contextmanager
def answering(content: bytes) -> Iterator[str]:
    """Something that answers everything with these bytes: its address."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(content)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("404 Not Found", b'{"error": "no such path"}'),  # as a V2 server says it
        ("404 Not Found", b"<html>"),
        ("200 OK", b"<html>"),
        ("200 OK", b"[]"),
        ("200 OK", b'{"queued": true}'),
        (None, b"\x00\x00\x18\x04\x00\x00\x00\x00\x00"),  # as a gRPC port begins
    ],
)
def test_what_answers_and_is_no_console_is_told(status: str | None, body: bytes, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() if status else b""
    with answering(head + body) as address:
        told = ask(capsys, "add", str(tmp_path / "a.png"), "--console", address)
    said = "answers, but is no console; is `visor console serve` running there?"
    assert told == (1, f"{tmp_path / 'a.png'}  {address} {said}\n")


def test_where_nothing_answers_the_next_step_is_told(tmp_path: Path, free_port: int, capsys) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    status, said = ask(capsys, "add", str(tmp_path / "a.png"), "--console", f"http://127.0.0.1:{free_port}")
    assert status == 1
    assert said.endswith("; is `visor console serve` running there?\n")


@pytest.mark.parametrize("argv", [("export", "--out", "out"), ("erase", "--older-than-days", "1")])
def test_a_queue_that_is_not_there_is_no_empty_one(argv: tuple[str, ...], tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = ask(capsys, *argv, "--folder", "nowhere")
    assert status == 1
    assert "nowhere/console.db is not there" in said
    assert "--folder" in said
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_a_queue_is_told(postgresql, tmp_path: Path, capsys) -> None:
    url = postgresql.make_database()
    status, said = ask(capsys, "export", "--out", str(tmp_path / "out"), "--database", url)
    assert status == 1
    assert "no console has written it" in said
    assert not (tmp_path / "out").exists()


def test_an_export_names_models_and_spares_other_folders(desk, url: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("VISOR_CONSOLE_DATABASE", url)
    monkeypatch.setenv("VISOR_CONSOLE_PICTURES", str(tmp_path / "pictures"))
    desk.offer_reviews(1)
    out = tmp_path / "out"
    status, said = ask(capsys, "export", "--out", str(out), "--model", "nope")
    assert (status, said) == (1, "console: console.parameter: the queue has never seen a model nope; it has roofs\n")
    assert not out.exists()
    for _ in range(2):
        assert ask(capsys, "export", "--out", str(out), "--model", "roofs")[0] == 0
    (out / "notes.txt").write_text("mine")
    status, said = ask(capsys, "export", "--out", str(out))
    assert status == 1
    assert "holds other files, such as notes.txt" in said


def test_what_cannot_be_read_is_told_and_the_others_are_sent(tmp_path: Path, capsys) -> None:
    status, said = ask(capsys, "add", str(tmp_path / "none.png"), str(tmp_path))
    assert status == 1
    assert said == f"{tmp_path / 'none.png'}  cannot be read: no such file\n{tmp_path}  cannot be read: Is a directory\n"
    for more, told in ((("--key-file", "/not/there"), "is not there"), (("--console", "localhost:8090"), "an address wanted")):
        status, said = ask(capsys, "add", "a.png", *more)
        assert status == 1
        assert told in said
