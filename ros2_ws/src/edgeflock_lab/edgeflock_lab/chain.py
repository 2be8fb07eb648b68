"""Scope `chain` of `edgeflock bench run`: camera message to command, through the processes that a robot runs.

The same nodes, on loopback, as `edgeflock drive`, without its report. Latency runs from the stamp of the image, which
the camera node gives it when it has the pixels, to the arrival of the command with that stamp at the monitor:
publishing, transport, pre-processing, net and guard.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeflock.runtime.bench.measure import Chain
from edgeflock.runtime.errors import EdgeflockError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.model_options import validated
from edgeflock_lab.supervisor import Supervisor, stay_on_this_machine

SETTLE_S = 0.5  # wall time for the answers to the last frames


def chain(
    bundle: Path,
    engine: str,
    precision: str,
    source: str,
    rate_hz: float,
    seconds: float,
    settle_s: float,
    keys: Sequence[Path] = (),
) -> Chain:
    """Run the nodes on a source for a while and listen.

    Parameters
    ----------
    bundle : Path
    engine, precision : str
        To run the net.
    source : str
        sim, realsense or the path of a recording or video, which has to last for all of it.
    rate_hz : float
        Frames per second (sim, live camera; a recording keeps its own).
    seconds : float
        Of measurement.
    settle_s : float
        Not counted, after every node was heard of.
    keys : sequence of Path
        `.pub` files to trust besides the installed ones.

    Raises
    ------
    MissingExtra
        ROS 2, or the simulator for the source sim, is not installed.
    EdgeflockError
        A node died or none was heard of in time.
    """
    with needs("Scope chain", "drive"):
        from edgeflock_lab.drive import DriveOptions, drive_world, listening, start_nodes
    stay_on_this_machine()
    with tempfile.TemporaryDirectory() as folder:
        given = {"source": source, "engine": engine, "precision": precision, "bundle": bundle, "keys": tuple(keys)}
        timing = {"duration": settle_s + seconds, "fps": round(rate_hz)}
        options = validated(DriveOptions, {"out": Path(folder), **given, **timing})
        with needs("The source sim", "sim"):
            world = drive_world(options)
        with listening(options, world) as (monitor, spin), Supervisor(Path(folder) / "logs") as nodes:
            start_nodes(nodes, options, world, monitor, spin)
            settled = time.monotonic() + settle_s
            while time.monotonic() < settled:
                spin()
                nodes.check()
            busy, start = sum(nodes.cpu_s().values()), time.monotonic()
            while not (monitor.over or nodes.ended("camera")):
                spin()
                nodes.check()
            if not monitor.over:
                seen_s = time.monotonic() - start + settle_s
                raise EdgeflockError(f"{source} ended after {seen_s:.1f} s: a longer one is needed.")
            cpu_s, memory = sum(nodes.cpu_s().values()) - busy, _peak_rss_mib(nodes)
            end_ns, patience = monitor.end(), time.monotonic() + SETTLE_S
            while not monitor.answered(end_ns) and time.monotonic() < patience:
                spin()
    trace, begin = monitor.trace, (monitor.start_ns or 0) + round(settle_s * 1e9)
    frames = [stamp for stamp in trace.frames if begin <= stamp < end_ns]
    return Chain(
        latency_ns=np.array([trace.commands[stamp] - stamp for stamp in frames if stamp in trace.commands]),
        seconds=(end_ns - begin) / 1e9,
        dropped=sum(stamp not in trace.steering for stamp in frames),
        cpu_ns=round(cpu_s * 1e9),
        peak_rss_mib=memory,
        engine=trace.engine or engine,
        precision=trace.precision or precision,
    )


def _peak_rss_mib(nodes: Supervisor) -> float:
    """Sum of the nodes' high-water marks."""
    total = 0
    for process in nodes.processes.values():
        status = Path(f"/proc/{process.pid}/status").read_text()
        total += int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    return round(total / 1024, 1)
