"""`edgeflock emotion`: read the faces of an image, a video or a camera."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from edgeflock.runtime.errors import CameraError, InputError, MissingExtra
from edgeflock.runtime.options import Keys

if TYPE_CHECKING:
    import numpy as np

    from edgeflock.runtime.cameras import FrameSource
    from edgeflock.runtime.faces.pipeline import FaceEmotion

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEOS = {".avi": "MJPG", ".mp4": "mp4v"}


def emotion(
    source: Annotated[
        str, typer.Argument(help="Image, video, recording, /dev/videoN, or camera (the first RealSense or webcam).")
    ],
    out: Annotated[Path | None, typer.Option(help="Annotated image (.jpg, .png) or video (.avi, .mp4).")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="One JSON object per frame, a line each; - prints them.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Emotion bundle; by default edgeflock's, trained on synthetic faces.")
    ] = None,
    detector: Annotated[Path | None, typer.Option(help="YuNet's ONNX file; by default OpenCV's Haar cascade.")] = None,
    min_face: Annotated[
        float, typer.Option(min=0.01, max=1, help="Smallest face, as a share of the frame's shorter side.")
    ] = 0.1,
    smoothing: Annotated[float, typer.Option(min=0, help="Time constant of the answers' smoothing, s; 0 = off.")] = 0.3,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    precision: Annotated[str | None, typer.Option(help="One of the bundle's; by default its own choice.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine; by default what `edgeflock tune` found.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    key: Keys = None,
) -> None:
    """Read the faces of an image, a video or a camera.

    Boxes, a bar per emotion, and where GLAMOR-Net looked in the scene are drawn into --out. Nothing is stored unless
    --out or --json ask for it.

    Example:

      edgeflock emotion people.mp4 --out annotated.avi --json faces.jsonl
    """
    from rich.console import Console
    from rich.progress import Progress

    from edgeflock.runtime.faces import open_detector
    from edgeflock.runtime.faces.pipeline import EmotionPipeline
    from edgeflock.runtime.tasks.emotion import EmotionRecognizer

    console = Console(stderr=True)
    with ExitStack() as stack:
        shown = stack.enter_context(_opened(source))
        write = stack.enter_context(_writer(out, shown)) if out else None
        recognizer = EmotionRecognizer(bundle, precision, threads, engine, key)
        pipeline = EmotionPipeline(recognizer, open_detector(detector, min_face), smoothing_s=smoothing)
        if "synthetic" in json.dumps(recognizer.bundle.manifest.training):
            console.print("This bundle's net was trained on synthetic faces: see docs/emotion.md before real use.")
        lines = stack.enter_context(json_file.open("w")) if json_file and str(json_file) != "-" else None
        total = min(frames or shown.frames, shown.frames) if shown.frames else frames
        bar = stack.enter_context(Progress(console=console, transient=True, disable=shown.still or shown.live))
        task = bar.add_task("frames", total=total)
        count = seen = 0
        with suppress(KeyboardInterrupt):  # how a camera is stopped; what was written stays whole
            for index, stamp_ns, image in shown.each:
                results = pipeline(image, "rgb8", stamp_ns)
                count, seen = count + 1, seen + len(results)
                line = json.dumps(_record(index, stamp_ns, results))
                if lines:
                    lines.write(line + "\n")
                elif json_file:
                    typer.echo(line)
                if write:
                    write(image, results)
                elif not json_file:
                    typer.echo(_row(index, results))
                bar.advance(task)
                if count == frames:
                    break
    made = ", ".join(str(path) for path in (out, json_file) if path and str(path) != "-")
    console.print(f"{seen} faces in {count} frames" + (f": {made}" if made else ""), highlight=False, soft_wrap=True)


class _Shown(NamedTuple):
    """A source of frames: index, stamp in ns and RGB image each."""

    each: Iterator[tuple[int, int, np.ndarray]]
    size: tuple[int, int]  # w, h
    fps: float
    frames: int | None = None
    still: bool = False
    live: bool = False


@contextmanager
def _opened(source: str) -> Iterator[_Shown]:
    import cv2

    from edgeflock.runtime.cameras import kind_of, open_source

    path = Path(source).expanduser()
    if path.suffix.lower() in IMAGES and path.is_file():
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise InputError(f"{path}: not an image that OpenCV {cv2.__version__} reads.")
        yield _Shown(iter([(0, 0, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))]), bgr.shape[1::-1], 1.0, 1, still=True)
        return
    if source == "camera":
        camera, length = _camera(), None
    else:
        kind = kind_of(path)
        camera = open_source(kind, path, real_time=False)
        length = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)) if kind == "video" else None
    try:
        size = camera.intrinsics.width, camera.intrinsics.height
        each = ((f.index, f.stamp_ns, f.color) for f in iter(lambda: camera.read(), None))
        yield _Shown(each, size, camera.fps, length if length and length > 0 else None, live=camera.live)
    finally:
        camera.close()


def _camera() -> FrameSource:
    """The first RealSense, else the first V4L2 camera."""
    from edgeflock.runtime.cameras import open_source

    try:
        return open_source("realsense")
    except (CameraError, MissingExtra) as realsense:
        devices = _webcams()
        if not devices:
            raise CameraError(f"found no camera: no /dev/video*, and {realsense}") from None
        return open_source("video", devices[0])


def _webcams() -> list[Path]:
    return sorted(Path("/dev").glob("video*"))


@contextmanager
def _writer(out: Path, shown: _Shown) -> Iterator[Callable[[np.ndarray, list[FaceEmotion]], None]]:
    import cv2

    from edgeflock.runtime.faces.draw import annotate

    suffix = out.suffix.lower()
    known = IMAGES if shown.still else tuple(VIDEOS)
    if suffix not in known:
        kind = "an image" if shown.still else "a video"
        raise InputError(f"--out of {kind} must end with {', '.join(known)}, got {out}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    video = (
        None
        if shown.still
        else cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*VIDEOS[suffix]), shown.fps, shown.size)
    )
    if video is not None and not video.isOpened():
        raise InputError(f"OpenCV {cv2.__version__} cannot write {out}: take .avi.")

    def write(image: np.ndarray, results: list[FaceEmotion]) -> None:
        drawn = cv2.cvtColor(annotate(image, results), cv2.COLOR_RGB2BGR)
        if video is not None:
            video.write(drawn)
        elif not cv2.imwrite(str(out), drawn):
            raise InputError(f"OpenCV {cv2.__version__} cannot write {out}.")

    try:
        yield write
    finally:
        if video is not None:
            video.release()


def _record(index: int, stamp_ns: int, results: list[FaceEmotion]) -> dict:
    """One line of --json."""
    return {
        "frame": index,
        "stamp_ns": stamp_ns,
        "faces": [
            {
                "id": r.face.id,
                "box": [round(v, 1) for v in r.face.box],
                "score": round(r.face.score, 3),
                "label": r.label,
                "confidence": round(r.confidence, 4),
                "distribution": {label: round(value, 4) for label, value in r.distribution.items()},
                "valence": r.valence,
                "arousal": r.arousal,
            }
            for r in results
        ],
    }


def _row(index: int, results: list[FaceEmotion]) -> str:
    faces = "  ".join(
        f"#{r.face.id} {r.label:8} {r.confidence:.2f}" for r in sorted(results, key=lambda r: r.face.id or 0)
    )
    return f"{index:6}  {faces or '-'}"
