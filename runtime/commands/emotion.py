"""`edgeflock emotion`: read the faces of pictures, a video or a camera."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from edgeflock.runtime.errors import CameraError, FileError, InputError, MissingExtra
from edgeflock.runtime.files import check_outputs, left_over, replacing, write_atomically
from edgeflock.runtime.options import Detector, Keys, next_command, refuse_unused

if TYPE_CHECKING:
    import numpy as np

    from edgeflock.runtime.cameras import FrameSource
    from edgeflock.runtime.faces.pipeline import FaceEmotion

WRITTEN = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = {".avi": "MJPG", ".mp4": "mp4v"}
FILMS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""Endings by which videos are told that lie among pictures."""


def emotion(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Picture, folder of them, video, recording, /dev/videoN, or camera (the first RealSense or webcam)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Annotated picture (.jpg, .png ...), video (.avi, .mp4), or folder for a folder of pictures."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="One JSON object per frame, a line each; - prints them.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Emotion bundle; by default edgeflock's, trained on synthetic faces.")
    ] = None,
    detector: Detector = "auto",
    min_face: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help="Smallest face, as a share of the frame's shorter side; by default 0.1, and of pictures 0.02 with "
            "YuNet, 0.05 with the cascade.",
        ),
    ] = None,
    smoothing: Annotated[float, typer.Option(min=0, help="Time constant of the answers' smoothing, s; 0 = off.")] = 0.3,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    precision: Annotated[str | None, typer.Option(help="One of the bundle's; by default its own choice.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine; by default what `edgeflock tune` found.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    key: Keys = None,
) -> None:
    """Read the faces of pictures, a video or a camera.

    Boxes, a bar per emotion, and where GLAMOR-Net looked in the scene are drawn into --out. Nothing is stored unless
    --out or --json ask for it. The pictures of a folder are read one by one, each for itself.

    Example:

      edgeflock emotion people.mp4 --out annotated.avi --json faces.jsonl
    """
    from rich.console import Console
    from rich.progress import Progress

    from edgeflock.runtime.faces import open_detector
    from edgeflock.runtime.faces.pipeline import EmotionPipeline
    from edgeflock.runtime.tasks.emotion import EmotionRecognizer

    console = Console(stderr=True)
    to_file = json_file if json_file and str(json_file) != "-" else None
    ended: CameraError | None = None
    with ExitStack() as stack:
        shown = stack.enter_context(_opened(source))
        many = bool(shown.pictures)
        if shown.still:
            refuse_unused(context, "on pictures, each of which is read for itself", "smoothing")
        read = [Path(source).expanduser(), bundle, Path(detector), *shown.pictures]
        places = _places(out, shown.pictures) if out and many else {}
        check_outputs([None if many else out, to_file, *places.values()], [out if many else None], read)
        write = stack.enter_context(_writer(out, shown, places)) if out else None
        recognizer, found = (
            EmotionRecognizer(bundle, precision, threads, engine, key),
            open_detector(
                detector, min_face, not shown.still, lambda text: console.print(text, highlight=False, markup=False)
            ),
        )
        pipeline = EmotionPipeline(recognizer, found, smoothing_s=smoothing)
        if recognizer.bundle.manifest.training.synthetic:
            console.print("This bundle's net was trained on synthetic faces: see docs/emotion.md before real use.")
        lines = None
        if to_file:  # of a camera lines are followed while they come, of a file they are there in the end
            place = to_file if shown.live else stack.enter_context(replacing(to_file))
            lines = stack.enter_context(place.open("w", buffering=1))
        total = min(frames or shown.frames, shown.frames) if shown.frames else frames
        bar = stack.enter_context(Progress(console=console, transient=True, disable=shown.live or shown.frames == 1))
        task = bar.add_task("frames", total=total)
        count = seen = 0
        try:
            with suppress(KeyboardInterrupt):  # how a camera is stopped; what was written stays whole
                for index, stamp_ns, image, name in shown.each:
                    if shown.still:
                        pipeline = EmotionPipeline(recognizer, found)  # nobody is followed from picture to picture
                    results = pipeline(image, "rgb8", stamp_ns)
                    count, seen = count + 1, seen + len(results)
                    line = json.dumps(({"file": name} if many else {}) | _record(index, stamp_ns, results))
                    if lines:
                        lines.write(line + "\n")
                    elif json_file:
                        typer.echo(line)
                    if write:
                        write(image, results, name)
                    elif not json_file:
                        typer.echo(_row(name if many else f"{index:6}", results))
                    bar.advance(task)
                    if count == frames:
                        break
        except CameraError as error:  # what came before it is worth keeping
            if not count:
                raise
            ended = error
    if shown.unread:
        console.print(
            f"{source}, not read:\n  " + "\n  ".join(shown.unread),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if not count:
            raise InputError(f"{source}: none of its pictures can be read.")
    if out and many:
        for line in left_over(out, places.values(), *(f"*{ending}" for ending in WRITTEN)):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    made = ", ".join(str(path) for path in (out, to_file) if path)
    console.print(f"{seen} faces in {count} frames" + (f": {made}" if made else ""), highlight=False, soft_wrap=True)
    if ended is not None:
        raise ended
    then = next_command("tune", recognizer.bundle.path, keys=key)
    console.print(then, highlight=False, markup=False, soft_wrap=True)
    if not frames and not shown.still and shown.frames and count < 0.9 * shown.frames:
        raise CameraError(
            f"{source} says that it has {shown.frames} frames, and ends after {count}: it was cut off or is damaged. "
            "What was read is kept."
        )


class _Shown(NamedTuple):
    """A source of frames: index, stamp in ns, RGB image and name each."""

    each: Iterator[tuple[int, int, np.ndarray, str]]
    size: tuple[int, int]  # w, h
    fps: float
    unread: list[str]  # pictures that turned out to be damaged, while they are read
    frames: int | None = None
    still: bool = False
    live: bool = False
    pictures: Sequence[Path] = ()  # of a folder


@contextmanager
def _opened(source: str) -> Iterator[_Shown]:
    import cv2

    from edgeflock.runtime.cameras import kind_of, open_source
    from edgeflock.runtime.cameras.pictures import UNREAD, is_picture

    path = Path(source).expanduser()
    if path.is_file() and (is_picture(path) or path.suffix.lower() in UNREAD):
        image = _rgb(path)
        yield _Shown(iter([(0, 0, image, path.name)]), image.shape[1::-1], 1.0, _later(path), 1, still=True)
        return
    if source == "camera":
        camera, length = _camera(), None
    else:
        kind = kind_of(path)
        if kind == "video" and path.is_dir():
            yield _photographs(path)
            return
        camera = open_source(kind, path, real_time=False)
        length = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)) if kind == "video" else None
    try:
        size = camera.intrinsics.width, camera.intrinsics.height
        each = ((f.index, f.stamp_ns, f.color, "") for f in iter(lambda: camera.read(), None))
        yield _Shown(each, size, camera.fps, [], length if length and length > 0 else None, live=camera.live)
    finally:
        camera.close()


def _photographs(folder: Path) -> _Shown:
    """The pictures of a folder, of whatever sizes; those that cannot be read are noted and passed over."""
    from edgeflock.runtime.cameras.base import numbered
    from edgeflock.runtime.cameras.pictures import PICTURES, is_picture, not_read

    entries = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=numbered)
    pictures = [path for path in entries if path.is_file() and is_picture(path)]
    unread = [f"{other}: make JPEG or PNG of them" for other in [not_read(entries)] if other]
    films = [path for path in entries if path.suffix.lower() in FILMS]
    for kind, apart in (("video", films), ("folder", [path for path in entries if path.is_dir()])):
        if apart:
            unread.append(f"{len(apart)} {kind}{'s' * (len(apart) > 1)}: to be read alone, as {apart[0]}")
    if not pictures:
        inside = "; ".join(unread) or f"{len(entries)} other files"
        raise InputError(f"{folder}: expected pictures ({', '.join(PICTURES)}) or a recording in it, got {inside}.")

    def each() -> Iterator[tuple[int, int, np.ndarray, str]]:
        for index, path in enumerate(pictures):
            try:
                image = _rgb(path)
                unread.extend(_later(path))
            except (InputError, MissingExtra) as error:
                unread.append(str(error) if isinstance(error, InputError) else f"{path}: {error}")
            except OSError as error:
                unread.append(f"{path}: {error.strerror}")
            else:
                yield index, 0, image, path.name

    return _Shown(each(), (0, 0), 1.0, unread, len(pictures), still=True, pictures=pictures)


def _rgb(path: Path) -> np.ndarray:
    import cv2

    from edgeflock.runtime.cameras.pictures import read_picture
    from edgeflock.runtime.prepare.frame import MIN_SIDE

    image = cv2.cvtColor(read_picture(path), cv2.COLOR_BGR2RGB)
    if min(image.shape[:2]) < MIN_SIDE:
        raise InputError(
            f"{path}: expected at least {MIN_SIDE} pixels each way, got {image.shape[1]}x{image.shape[0]}."
        )
    return image


def _later(path: Path) -> list[str]:
    """What is not read of a file with several pictures, such as an animated GIF."""
    import cv2

    several = path.suffix.lower() in (".gif", ".tif", ".tiff", ".webp") and cv2.imcount(str(path)) > 1
    return [f"{path}: all but the first of its {cv2.imcount(str(path))} pictures"] if several else []


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


def _places(out: Path, pictures: Iterable[Path]) -> dict[str, Path]:
    """File in --out of each picture, by its name."""
    places: dict[str, Path] = {}
    for picture in pictures:
        name = picture.name
        place = out / name if picture.suffix.lower() in WRITTEN else out / f"{name}.png"
        places[name] = place if place not in places.values() else out / f"{name}.{len(places)}.png"
    return places


@contextmanager
def _writer(
    out: Path, shown: _Shown, places: Mapping[str, Path]
) -> Iterator[Callable[[np.ndarray, list[FaceEmotion], str], None]]:
    """What draws a frame into --out: a picture, a picture at each of `places`, or a video, complete or not at all."""
    import cv2

    from edgeflock.runtime.faces.draw import annotate

    suffix = out.suffix.lower()
    known = WRITTEN if shown.still else tuple(VIDEOS)
    if places and suffix in (*WRITTEN, *VIDEOS):
        raise InputError(f"--out of a folder of pictures is a folder, got {out}.")
    if not places and suffix not in known:
        kind = "an image" if shown.still else "a video"
        raise InputError(f"--out of {kind} must end with {', '.join(known)}, got {out}.")

    def picture(image: np.ndarray, results: list[FaceEmotion], name: str) -> None:
        path = places.get(name, out)
        done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(annotate(image, results), cv2.COLOR_RGB2BGR))
        if not done:
            raise InputError(f"OpenCV {cv2.__version__} cannot write {path}: take .png.")
        write_atomically(path, encoded.tobytes(), sync=False)

    if shown.still:
        yield picture
        return
    written = 0
    with replacing(out, sync=False) as draft:
        video = cv2.VideoWriter(str(draft), cv2.VideoWriter.fourcc(*VIDEOS[suffix]), shown.fps, shown.size)
        if not video.isOpened():
            raise InputError(f"OpenCV {cv2.__version__} cannot write {out}: take .avi.")

        def frame(image: np.ndarray, results: list[FaceEmotion], name: str) -> None:
            nonlocal written
            video.write(cv2.cvtColor(annotate(image, results), cv2.COLOR_RGB2BGR))
            written += 1

        try:
            yield frame
        finally:
            video.release()
        held = int(cv2.VideoCapture(str(draft)).get(cv2.CAP_PROP_FRAME_COUNT))  # the writer says nothing of a full disk
        if held < written:
            raise FileError(f"{out} would hold {held} of {written} frames: is the disk full? It was not written.")


def _record(index: int, stamp_ns: int, results: list[FaceEmotion]) -> dict:
    """One line of --json."""
    return {
        "frame": index,
        "stamp_ns": stamp_ns,
        "faces": [
            {
                "id": r.face.id,
                "box": [round(v, 1) for v in r.face.box],
                "roll": round(r.face.roll, 3),
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


def _row(name: str, results: list[FaceEmotion]) -> str:
    faces = "  ".join(
        f"#{r.face.id} {r.label:8} {r.confidence:.2f}" for r in sorted(results, key=lambda r: r.face.id or 0)
    )
    return f"{name}  {faces or '-'}"
