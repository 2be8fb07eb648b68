"""`edgeflock bench prepare`: what a frame costs before the net, resized as it is and brought to the canonical view."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from edgeflock.runtime.bench.latency import Latency
from edgeflock.runtime.bench.load import back_to_back, warm_up
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.errors import BundleError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount, read_mount
from edgeflock.runtime.options import Keys
from edgeflock.runtime.prepare.frame import FramePreprocess

SIZES = ((640, 480), (848, 480), (1280, 720))  # colour streams of a RealSense
MOUNT = Mount(height=0.25, pitch=math.radians(20))


def prepare(
    bundle: Annotated[Path | None, typer.Argument(help="Steering bundle (default: the one of edgeflock).")] = None,
    mount: Annotated[Path | None, typer.Option(help="Mount file (default: 0.25 m high, 20 degrees down).")] = None,
    fov: Annotated[float, typer.Option(min=10, max=150, help="Lens, degrees from top to bottom.")] = 65.0,
    seconds: Annotated[float, typer.Option(min=0.05, help="Of each measurement.")] = 3.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of OpenCV.")] = 1,
    key: Keys = None,
) -> None:
    """Measure grey, resize and crop of rgb8 frames, and the same with the canonical view instead of the resize.

    Example: edgeflock bench prepare --mount mount.yaml --fov 43
    """
    from rich.console import Console
    from rich.table import Table

    manifest = Bundle.open(bundle or default_bundle(), key).manifest
    if manifest.trained_camera is None:
        raise BundleError(f"expected a bundle with a trained camera, {manifest.name} names none: there is no view.")
    worn = read_mount(mount) if mount else MOUNT
    cv2.setNumThreads(threads)
    table = Table("frame", "", "p50, ms", "p90, ms", "least, ms", "seen")
    for width, height in SIZES:
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        plain, through = FramePreprocess(manifest.inputs[0]), FramePreprocess(manifest.inputs[0])
        lens = Intrinsics.of_lens(width, height, math.radians(fov))
        seen = through.look_through(manifest.trained_camera, lens, worn).coverage
        for name, steps, share in (("as it is", plain, ""), ("canonical view", through, f"{seen:.0%}")):
            call = functools.partial(steps, frame)
            latency = Latency.of(back_to_back(call, seconds, warm_up(call, seconds).run_ns).service)
            figures = (latency.percentiles["p50"].ms, latency.percentiles["p90"].ms, latency.min_ms)
            written = ("-" if value is None else f"{value:.3f}" for value in figures)
            table.add_row(f"{width}x{height}", name, *written, share)
    Console().print(table)
