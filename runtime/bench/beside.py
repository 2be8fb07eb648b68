"""A command that runs while something is measured: what else the machine has to do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from edgeflock.runtime.errors import EdgeflockError

FIRST_LINE_S = 300.0
GRACE_S = 10.0


@contextlib.contextmanager
def beside(command: str | None) -> Iterator[None]:
    """Run a shell command while the block runs; None: nothing.

    The block begins when the command has said its first line, such as `edgeflock fleet join` once its learner is there.
    Then it is interrupted, as by Ctrl-C, with all that it started.

    Raises
    ------
    EdgeflockError
        It says nothing, or it ended before the block did: what was measured is not what was asked for.
    """
    if command is None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        try:
            patience = time.monotonic() + FIRST_LINE_S
            while b"\n" not in log.read_bytes():
                _check(process, command, log)
                if time.monotonic() > patience:
                    raise EdgeflockError(f"`{command}` said no line in {FIRST_LINE_S:g} s: let it print when it works.")
                time.sleep(0.1)
            yield
            _check(process, command, log)
        finally:
            for how in (signal.SIGINT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)


def _check(process: subprocess.Popen, command: str, log: Path) -> None:
    if process.poll() is not None:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise EdgeflockError(f"`{command}` ended with code {process.returncode} before the measurement did:\n{tail}")
