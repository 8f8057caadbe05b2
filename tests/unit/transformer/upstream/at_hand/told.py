"""Workers that read whatever comes, and answer when they are told to; and how images are asked about."""

import asyncio
import contextlib

import orjson

from transformer.images import Picture
from transformer.upstream.worker import LENGTHS, READS_ONE, WITHDRAWN, WITHDRAWN_STATUS


class Told:
    """A worker that reads whatever comes. `asked`: the bodies, in their order; it echoes them when it is told to `answer`.

    `withdrawn`: those of them that it will not answer. `late`: it has begun with the next image before it sees a mark.
    """

    def __init__(self):
        self.asked = []
        self.withdrawn = []
        self.late = False
        self.connections = 0
        self._unanswered = []
        self._writer = None

    async def serve(self, reader, writer):
        self.connections += 1
        self._writer = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lengths = await reader.readexactly(LENGTHS.size)
                if lengths == WITHDRAWN:
                    if len(self._unanswered) > 1 and not self.late:
                        self.withdrawn.append(self._unanswered[-1])
                        self._unanswered[-1] = None
                    continue
                head, body = LENGTHS.unpack(lengths)
                await reader.readexactly(head)
                if (head, body) == (0, 0):
                    writer.write(LENGTHS.pack(READS_ONE, 0))
                    continue
                self.asked.append(bytes(await reader.readexactly(body)))
                self._unanswered.append(self.asked[-1])
        writer.close()

    def answer(self, count=1):
        for _ in range(count):
            text = orjson.dumps(self.text(self._unanswered.pop(0)))
            self._writer.write(LENGTHS.pack(200, len(text)) + text)
            if self._unanswered[:1] == [None]:
                self._unanswered.pop(0)
                self._writer.write(LENGTHS.pack(WITHDRAWN_STATUS, 0))

    @staticmethod
    def text(body):
        return {"echo": body.decode()}

    def die(self):
        self._unanswered.clear()
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def told(folder, name):
    worker = Told()
    server = await asyncio.start_unix_server(worker.serve, folder / name)
    try:
        yield worker
    finally:
        server.close()
        (folder / name).unlink()


def begin(upstream, body):
    return upstream.begin(Picture(body), explain=False, threshold=None)


async def echo(call):
    async with asyncio.timeout(5):
        return orjson.loads((await call).body)["echo"]


async def until(check):
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def settle():
    """Give what should not happen the time to."""
    await asyncio.sleep(0.05)


async def leave(upstream, call):
    waiting = asyncio.create_task(upstream.answer(call))
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
