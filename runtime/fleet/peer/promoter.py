"""Turns a model that passed the validation gate into the driving bundle, in a process beside learning and driving."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeflock.runtime.fleet.peer.trainer import stand_back


class Promoter:
    """Runs `edgeflock fleet promote` one at a time; a model that comes meanwhile waits for its turn.

    Parameters
    ----------
    arguments : sequence of str
        What follows `edgeflock fleet promote`.
    log : Path
        Gets all that the command says.
    say : callable
        Takes a line for a person: what drives now, or why nothing changed.
    idle : bool
        Whether it takes only the time that nothing else wants.
    """

    def __init__(self, arguments: Sequence[str], log: Path, say: Callable[[str], None], idle: bool) -> None:
        self._command = [sys.executable, "-m", "edgeflock.runtime.cli", "fleet", "promote", *arguments]
        self._log, self._say, self._idle = log, say, idle
        self._again = False
        self._running: asyncio.Task[None] | None = None

    def promote(self) -> None:
        """Begin, or begin again when the one that runs has ended; returns at once."""
        self._again = True
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run())

    async def ended(self) -> None:
        """Wait for what runs and waits."""
        if self._running is not None:
            await self._running

    async def close(self) -> None:
        """End what runs; the driving bundle is as it was, or the new one."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def _run(self) -> None:
        while self._again:
            self._again = False
            with self._log.open("ab") as log:
                start = log.tell()
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=stand_back if self._idle else None,
                    start_new_session=True,  # Ctrl-C is for the robot, which then ends this process
                )
                try:
                    await process.wait()
                except asyncio.CancelledError:
                    process.terminate()
                    await process.wait()
                    raise
            said = self._log.read_bytes()[start:].decode(errors="replace").split("\n")
            last = f"promote ended with {process.returncode}"
            self._say(next((line for line in reversed(said) if line.strip()), last))
