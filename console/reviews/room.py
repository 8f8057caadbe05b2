"""The review queue of a running console: its database, its pictures, its line, opened together and closed in order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from console.errors import ConsoleError
from console.log import get_logger
from console.metrics import Metrics
from console.reviews import erasing
from console.reviews.database import Database
from console.reviews.draw import Pseudonyms
from console.reviews.intake import Intake
from console.reviews.payloads import Pairs
from console.reviews.pictures import Pictures, open_pictures
from console.reviews.queue import Queue
from console.servers.models import Answer
from console.settings import Settings

log = get_logger(__name__)

TIDY_S = 3600.0
"""Between two looks for pictures that are too old, or that a crash has left."""


class Reviews:
    """The review queue, open within `async with`."""

    database: Database
    pictures: Pictures
    intake: Intake
    queue: Queue
    pseudonyms: Pseudonyms

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self.pairs = Pairs(settings.payload_mib)
        self._tidying: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Open and migrate. Raises DatabaseUnusable, PicturesDown."""
        settings = self._settings
        self.database = await asyncio.to_thread(Database.open, settings.database_url)
        self.pictures = await asyncio.to_thread(open_pictures, settings.pictures_place)
        self.pseudonyms = Pseudonyms(self.database.secret("pseudonym"))
        self.queue = Queue(self.database, settings.lease_s, settings.undo_s)
        self.intake = Intake(self.database, self.pictures, self._metrics, settings.audit_share, settings.line_mib)
        self.intake.start()
        self._tidying = asyncio.create_task(self._tidy())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self._tidying.cancel()
        with suppress(asyncio.CancelledError):
            await self._tidying
        await asyncio.to_thread(self.intake.close)
        self.database.close()

    def offer(self, answer: Answer, content: bytes, labels: Sequence[str]) -> None:
        """Take note of an answer of this console's own, at once: `Servers` calls this after each."""
        self.intake.offer(answer, content, labels)

    async def _tidy(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.tidy)
            except ConsoleError as err:
                log.warning("old pictures could not be deleted, and are tried again", reason=str(err))
            except Exception:  # whatever it is, pictures that are too old must not stay from then on
                log.exception("old pictures could not be deleted, and are tried again")
            await asyncio.sleep(TIDY_S)

    def tidy(self) -> None:
        """Delete pictures that are too old, where the owner set an age, and those that no row knows."""
        if self._settings.keep_days is not None:
            erasing.erase_older(self.database, self.pictures, self._settings.keep_days)
        erasing.sweep(self.database, self.pictures)
