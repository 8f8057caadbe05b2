"""An edge as a process, before a stand-in for the workers: `python -m tests.integration.transformer.edge_process [SECONDS]`.

It prints its pid and ports. What it is asked about costs it no more than its bytes: whatever memory it takes is the edge's.
The workers take SECONDS for an image, and say so; by default they take 0.05 and say 0.001.
"""

import asyncio
import logging
import os
import sys
import time

import orjson
import uvloop

from handlers.spec import Limits
from tests.unit.specs import make_spec
from transformer.listening import Listening
from transformer.request_log import json_handler
from transformer.server import serve_edge, stop_on_signals
from transformer.settings import EdgeSettings
from transformer.upstream.connection import Reply
from transformer.upstream.torchserve import TorchServe

ANSWER = {
    "label": "intact",
    "confidence": 0.5,
    "probabilities": [0.5, 0.5],
    "decision": "pass",
    "threshold": 0.4,
    "heatmap": None,
    "heatmap_label": None,
}
INFER_S, SAID_S = (float(sys.argv[1]),) * 2 if sys.argv[1:] else (0.05, 0.001)


class _Workers(TorchServe):
    """Two workers that take INFER_S for an image and look at none."""

    def begin(self, *_: object, **__: object) -> "asyncio.Future[Reply]":
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        answer = Reply(200, orjson.dumps(ANSWER | {"seconds": {"infer": SAID_S}}))
        loop.call_later(INFER_S, lambda: reply.done() or reply.set_result(answer))
        return reply

    async def ready(self) -> bool:
        self.workers = 2
        self._ready_until = time.monotonic() + 1
        self.on_change()
        return True


def _announce(listening: Listening) -> None:
    sys.stdout.write(f"{os.getpid()} {listening.http_port} {listening.grpc_port}\n")
    sys.stdout.flush()


async def _serve() -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    spec = make_spec(("intact", "damaged"), name="roofs", version="1", limits=Limits())
    settings = EdgeSettings(http_port=0, grpc_port=0, torchserve_keys=None, drain_s=1.0, request_log="errors")
    await serve_edge(spec, "ab" * 32, settings, _announce, stop)


if __name__ == "__main__":
    import transformer.server

    transformer.server.TorchServe = _Workers  # type: ignore[misc, attr-defined]
    logging.basicConfig(level=logging.INFO, handlers=[json_handler()])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
