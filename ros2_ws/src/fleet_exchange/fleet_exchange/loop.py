"""An asyncio loop in a thread of its own, beside the executor that spins the node."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class LoopThread:
    """Starts at once. All methods are for other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)
        self._thread.start()

    def begin(self, story: Coroutine[Any, Any, Answer]) -> concurrent.futures.Future[Answer]:
        """Let a coroutine run."""
        return asyncio.run_coroutine_threadsafe(story, self._loop)

    def soon(self, call: Callable[[], object]) -> None:
        """Call a function in the loop's thread; returns at once."""
        self._loop.call_soon_threadsafe(call)

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """Call a function in the loop's thread and wait for its answer."""

        async def answer() -> Answer:
            return call()

        return self.begin(answer()).result()

    def close(self) -> None:
        """End what still runs, and the loop."""

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.begin(end()).result()
        self.soon(self._loop.stop)
        self._thread.join()
        self._loop.close()
