"""The worker's own limits; as a process it is tests/integration's part."""

import io
import json
import resource
from pathlib import Path

import pytest

from handlers.errors import ImageTooLarge
from visor.serving import worker


class Full(io.BytesIO):
    """A stream of which there is no memory for more than so much at once."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > worker.BUFFER_BYTES:
            raise MemoryError
        return super().read(size)


def test_a_body_that_does_not_fit_is_passed_over() -> None:
    stream = Full(b"x" * 200_000 + b"next")
    assert worker.read_or_skip(stream, 200_000) is None
    assert worker.read_or_skip(stream, 4) == b"next"
    with pytest.raises(EOFError):
        worker.read_or_skip(Full(b"x" * 100_000), 200_000)


class Context:
    """TorchServe's, which notes the statuses of a batch."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}

    def set_response_status(self, status: int, _: str, index: int) -> None:
        self.statuses[index] = status

    def set_response_content_type(self, _: int, __: str) -> None:
        pass


def test_what_java_brings_is_refused_where_there_is_no_memory_for_it() -> None:
    def handle(data: list[bytes], _: object) -> list[str]:
        if data == [b"much"]:
            raise MemoryError
        return [body.decode() for body in data]

    reader, context = worker.Reader(), Context()
    ask = worker.refuse_without_memory(handle, reader)
    assert ask([b"little"], context) == ["little"]
    assert context.statuses == {}
    assert ask([b"much"], context) == [worker.TOO_LARGE]
    assert context.statuses == {0: 400}
    reader.skipped = True  # its body was passed over
    assert ask([b""], context) == [worker.TOO_LARGE]
    assert ask([b"little"], context) == ["little"]


def test_what_it_says_then_is_the_handler_s_error() -> None:
    error = json.loads(worker.TOO_LARGE)["error"]
    assert error["code"] == ImageTooLarge.code
    assert error["message"].startswith(f"{ImageTooLarge.code}: ")


@pytest.mark.parametrize(
    ("hard", "expected"),
    [(resource.RLIM_INFINITY, 7 * resource.getpagesize() + 1000), (5000, 5000)],
    ids=["free", "a hard limit"],
)
def test_memory_is_bounded_above_what_there_is(hard: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "statm").write_text("1 2 3 4 5 7 6\n")
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(worker, "STATM", tmp_path / "statm")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (hard, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append((kind, pair)))
    worker.bound_memory(1000)
    assert limits == [(resource.RLIMIT_DATA, (expected, hard))]


def test_where_the_kernel_does_not_say_there_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STATM", tmp_path / "statm")
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("a limit was set"))
    worker.bound_memory(1000)
