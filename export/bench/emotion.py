"""What a frame with several faces costs: finding them, preparation, net; every bundle and engine side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edgeflock.export.bench.figures import write_figures
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.files import check_record
from edgeflock.runtime.options import Detector, Keys, next_command

if TYPE_CHECKING:
    from edgeflock.runtime.faces.pipeline import EmotionPipeline

CPU_ENGINES = ("onnxruntime-cpu", "openvino")
SCENES = 24
"""Different frames, over and over again."""
WARM_UP = 5
BAR_MS = 100.0


@dataclass(frozen=True)
class EmotionFigures:
    """One bundle on one engine; times in ms over all frames.

    Attributes
    ----------
    bundle : str
        Name of its folder.
    batch : int
        Faces that the net reads at once.
    faces : float
        Found per frame, mean.
    p50_ms, p99_ms, max_ms : float
        Image to answers; nearest sample above.
    cpu_ms : float
        Least CPU time of a frame, all threads; what else the machine does counts little.
    detect_ms, prepare_ms, net_ms, track_ms : float
        Medians of the stages.
    face_ms : float
        Median of preparation and net, per face.
    """

    bundle: str
    engine: str
    precision: str
    threads: int
    batch: int
    frames: int
    faces: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_ms: float
    detect_ms: float
    prepare_ms: float
    net_ms: float
    track_ms: float
    face_ms: float


def emotion_bars(
    bundle: Annotated[list[Path] | None, typer.Argument(help="Bundles to compare; by default edgeflock's own.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file; the table is written beside it as .md.")] = None,
    faces: Annotated[int, typer.Option(min=1, max=20, help="People in the frame.")] = 4,
    frames: Annotated[int, typer.Option(min=10, help="Frames of each row.")] = 400,
    threads: Annotated[list[int] | None, typer.Option(help="Threads of engine and OpenCV; repeat. Default: 2.")] = None,
    precision: Annotated[str, typer.Option(help="Of the net.")] = "int8",
    detector: Detector = "auto",
    key: Keys = None,
) -> None:
    """Time a 640x480 frame of several rendered people, from image to answers; ends with 3 over 100 ms (p99).

    With one number of threads all bundles and engines take turns, frame by frame, so that what else the machine does
    strikes all of them.

    Example:

      edgeflock bench emotion --out docs/perf/emotion.json
    """
    import cv2
    from rich.progress import Progress

    from edgeflock.export.datasets.synthetic.crowd import each_crowd_frame
    from edgeflock.runtime.bundle.bundle import default_bundle
    from edgeflock.runtime.engines import engine_problems
    from edgeflock.runtime.faces import open_detector
    from edgeflock.runtime.faces.pipeline import EmotionPipeline
    from edgeflock.runtime.tasks.emotion import EmotionRecognizer

    check_record(out)
    finder = open_detector(detector, stream=True, say=lambda text: typer.echo(text, err=True))
    images = [image for image, _, _ in each_crowd_frame(SCENES, faces, seed=0)]
    engines = [engine for engine in CPU_ENGINES if engine_problems()[engine] is None]
    rows: list[EmotionFigures] = []
    counts = threads or [2]
    with Progress(transient=True) as progress:
        bar = progress.add_task("frames", total=len(counts) * frames)
        for count in counts:
            cv2.setNumThreads(count)
            subjects = {
                (path.name, engine, count): EmotionPipeline(
                    EmotionRecognizer(path, precision, count, engine, key), finder
                )
                for path in bundle or [default_bundle("emotion")]
                for engine in engines
            }
            rows += measure(subjects, images, frames, lambda: progress.advance(bar))
    table = markdown(rows)
    print(table)
    if out:
        write_figures(out, table, rows, "edgeflock", "onnxruntime", "openvino", "opencv-python-headless")
    typer.echo(next_command("tune", (bundle or [default_bundle("emotion")])[0], keys=key), err=True)
    raise typer.Exit(0 if min(row.p99_ms for row in rows) < BAR_MS else 3)


def measure(
    subjects: dict[tuple[str, str, int], EmotionPipeline],
    images: Sequence[np.ndarray],
    frames: int,
    on_frame: Callable[[], object] = lambda: None,
) -> list[EmotionFigures]:
    """Time all pipelines in turns; keys are bundle, engine and threads."""
    spent: dict[tuple[str, str, int], list[dict[str, float]]] = {key: [] for key in subjects}
    for n in range(-WARM_UP, frames):
        for key, pipeline in subjects.items():
            begun, busy = time.perf_counter_ns(), time.process_time_ns()
            found = len(pipeline(images[n % len(images)], "rgb8", (n + WARM_UP) * 33_000_000))
            whole, cpu = time.perf_counter_ns() - begun, time.process_time_ns() - busy
            if n >= 0:
                spent[key].append({**pipeline.spent_ns, "whole": whole, "cpu": cpu, "faces": found})
        on_frame()
    rows = []
    for (name, engine, threads), pipeline in subjects.items():
        taken = spent[name, engine, threads]
        columns = {stage: np.array([frame[stage] for frame in taken]) for stage in taken[0]}
        if not columns["faces"].any():
            raise InputError("the detector found none of the rendered faces: there is nothing to time.")
        seen = columns["faces"] > 0
        per_face = (columns["prepare"] + columns["net"])[seen] / columns["faces"][seen]
        p50, p99, worst = np.percentile(columns["whole"], [50, 99, 100], method="higher") / 1e6
        stages = {f"{s}_ms": float(np.median(columns[s])) / 1e6 for s in ("detect", "prepare", "net", "track")}
        rows.append(
            EmotionFigures(
                bundle=name,
                engine=engine,
                precision=pipeline.recognizer.precision,
                threads=threads,
                batch=pipeline.recognizer.batch,
                frames=frames,
                faces=float(columns["faces"].mean()),
                p50_ms=float(p50),
                p99_ms=float(p99),
                max_ms=float(worst),
                cpu_ms=float(columns["cpu"].min()) / 1e6,
                face_ms=float(np.median(per_face)) / 1e6,
                **stages,
            )
        )
    return rows


def markdown(rows: Sequence[EmotionFigures]) -> str:
    """The table, and whether the bar is met."""
    lines = [
        "| bundle | engine | threads | batch | faces | p50 ms | p99 ms | max ms | CPU ms | detect | prepare | net "
        "| track | per face |",
        "|---|---|" + "---:|" * 12,
    ]
    lines += [
        f"| {r.bundle} {r.precision} | {r.engine} | {r.threads} | {r.batch} | {r.faces:.1f} | {r.p50_ms:.1f} | "
        f"{r.p99_ms:.1f} | {r.max_ms:.1f} | {r.cpu_ms:.1f} | {r.detect_ms:.1f} | {r.prepare_ms:.2f} | {r.net_ms:.2f} | "
        f"{r.track_ms:.2f} | {r.face_ms:.2f} |"
        for r in rows
    ]
    best = min(rows, key=lambda row: row.p99_ms)
    verdict = "met" if best.p99_ms < BAR_MS else "missed"
    lines += [
        "",
        f"Bar: p99 under {BAR_MS:.0f} ms: {verdict} ({best.engine}, {best.p99_ms:.1f} ms, {best.frames} frames).",
    ]
    return "\n".join(lines)
