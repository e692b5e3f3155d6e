"""Texts of several requests become vectors in one batch, by one thread; the queue before it is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sdretrieval.ragged import Array
from sdretrieval.serve.opened import Current, Opened

Side = Literal["query", "document"]


class QueueFull(Exception):
    """More texts wait than the server lets wait."""


class Encoded(NamedTuple):
    """Vectors (N, D) of a request's texts, the tokens that were read of them, and what made them."""

    vectors_ND: Array
    tokens: int
    by: Opened


@dataclass
class Waiting:
    """A request's texts."""

    texts: Sequence[str]
    side: Side
    made: asyncio.Future[Encoded]


@dataclass
class Batcher:
    """Encodes together, at most about `most` at a time, the texts that came while the batch before was encoded and, if
    there are several requests, within another `wait` seconds.

    `room`: texts that may wait. `observe`: is told the number of texts of each batch.
    """

    current: Current
    wait: float = 0.002
    most: int = 64
    room: int = 1024
    observe: Callable[[int], None] = lambda count: None
    waiting: int = 0
    _queue: asyncio.Queue[Waiting] = field(default_factory=asyncio.Queue)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "encode"))
    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to encode. Belongs to the running loop."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Encode what waits, then end."""
        await self._queue.join()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    async def encode(self, texts: Sequence[str], side: Side) -> Encoded:
        """Vectors of one request's texts, all by the same version. Raises QueueFull at once if there is no room."""
        if self.waiting + len(texts) > self.room and self.waiting:
            raise QueueFull
        request = Waiting(texts, side, asyncio.get_running_loop().create_future())
        self.waiting += len(texts)
        self._queue.put_nowait(request)
        try:
            return await asyncio.shield(request.made)
        finally:
            self.waiting -= len(texts)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = self._drained([await self._queue.get()])
            if len(batch) > 1:  # others are busy, too: a moment brings more; a request alone does not wait
                await asyncio.sleep(self.wait)
                batch = self._drained(batch)
            await loop.run_in_executor(self._thread, self._encode, batch, loop)
            for _ in batch:
                self._queue.task_done()

    def _drained(self, batch: list[Waiting]) -> list[Waiting]:
        """With what else is in the queue, as far as it fits."""
        while not self._queue.empty() and sum(len(one.texts) for one in batch) < self.most:
            batch.append(self._queue.get_nowait())
        return batch

    def _encode(self, batch: Sequence[Waiting], loop: asyncio.AbstractEventLoop) -> None:
        by, sides = self.current.now, ("query", "document")
        self.observe(sum(len(one.texts) for one in batch))
        for side in sides:
            requests = [one for one in batch if one.side == side]
            if not requests:
                continue
            encoder = by.search.encoder
            try:
                texts = [text for one in requests for text in one.texts]
                vectors_ND, tokens_N = encoder.encode(texts, side == "query")
                start = 0
                for one in requests:
                    rows = slice(start, start + len(one.texts))
                    made, start = Encoded(vectors_ND[rows], int(sum(tokens_N[rows])), by), rows.stop
                    loop.call_soon_threadsafe(_give, one.made, made, None)
            except Exception as problem:  # a request must not wait for ever, whatever went wrong
                for one in requests:
                    loop.call_soon_threadsafe(_give, one.made, None, problem)


def _give(future: asyncio.Future[Encoded], made: Encoded | None, problem: Exception | None) -> None:
    """Its request may have gone away meanwhile."""
    if future.done():
        return
    if made is None:
        future.set_exception(problem or RuntimeError("no vectors"))
    else:
        future.set_result(made)
