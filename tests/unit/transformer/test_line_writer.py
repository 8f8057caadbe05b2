"""Lines get out in their order, and a reader that does not read holds up nobody."""

import os
import re
import select

import pytest

from transformer.line_writer import LineWriter


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


def read(end, size):
    data = b""
    while len(data) < size:
        data += os.read(end, size - len(data))
    return data


def test_lines_come_in_their_order_and_close_waits_for_the_last(pipe):
    writer = LineWriter(pipe[1])
    lines = [b"%d\n" % n for n in range(500)]
    for line in lines:
        assert writer.write(line) == len(line)
    writer.close()
    assert read(pipe[0], len(b"".join(lines))) == b"".join(lines)


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(pipe):
    line = b"x" * 999 + b"\n"
    writer = LineWriter(pipe[1], max_lines=100)
    for _ in range(100_000):  # 100 MB, of which a pipe takes 64 KiB
        writer.write(line)
    taken, lost = b"", 0
    while taken.count(line) + lost < 100_000:  # however often the thread looked meanwhile, none goes without being told
        assert select.select([pipe[0]], [], [], 30)[0]
        taken += os.read(pipe[0], 1 << 16)
        lost = sum(int(count) for count in re.findall(rb'"count":(\d+)}\n', taken))
    assert taken.count(line) + lost == 100_000
    assert taken.count(line) <= 100 * (1 + taken.count(b"lost"))  # what it may hold, for each look
    writer.close()


def test_draining_waits_for_what_was_taken_but_not_for_a_reader_that_does_not_read(pipe):
    writer = LineWriter(pipe[1])
    writer.write("text\n")
    writer.drain()
    assert read(pipe[0], 5) == b"text\n"
    writer.write(bytes(1 << 20))
    writer.drain()
    assert writer.lost == 0
    while select.select([pipe[0]], [], [], 0.5)[0]:
        os.read(pipe[0], 1 << 16)
    writer.close()


def test_what_was_lost_is_counted(pipe):
    writer = LineWriter(pipe[1], max_lines=1)
    for _ in range(50):
        writer.write(b"x\n")
    assert 0 < writer.lost < 50
    writer.close()


def test_a_reader_that_has_gone_is_no_error():
    out, into = os.pipe()
    os.close(out)
    writer = LineWriter(into)
    writer.write(b"x\n")
    writer.close()
    os.close(into)
