"""`edgeflock emotion-bars`: camera, emotion and steering node as processes, and what each of them made of every frame.

Latency runs from the stamp of an image, which the camera node gives it when it has the pixels, to the arrival of the
last message about it (`tracked`) at the listener: publishing, transport, detector, tracker, net and all messages.

A frame is *lost* to a node when the camera sent it and the node never got it. The emotion node also *skips*: a frame
that came while it was busy is dropped for a newer one, which is meant to be.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgeflock.runtime.errors import EdgeflockError, InputError
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_outputs, write_atomically
from edgeflock.runtime.options import Detector, Keys

P99_BAR_MS = 100.0
WIDTH, HEIGHT = 640, 480
MOST_FACES = 16
LOOP_S = 5
SETTLE_S = 2.0
START_TIMEOUT_S = 60.0
AFTER_S = 1.5


@dataclass(frozen=True)
class FacesResult:
    """Figures of one run; times in ms."""

    engine: str
    precision: str
    bundle_sha256: str
    detector: str
    messages: str
    faces: int
    rate_hz: float
    seconds: float
    sent: int
    """Frames that the camera published in that time."""
    answered: int
    all_faces: int
    """Answered frames in which every face was found."""
    skipped: int
    lost: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    detect_ms: float
    """Mean per frame, of one sample a second, as the next two."""
    prepare_ms: float
    net_ms: float
    per_face_ms: float
    """Preparation and net, divided by the faces."""
    steering_answered: int | None
    steering_lost: int | None
    """Frames without a steering; None: no steering node ran."""
    cpu_cores: dict[str, float]
    """Of each process."""


def bars(
    bundle: Annotated[Path | None, typer.Option(help="Bundle (default: edgeflock's own for emotion).")] = None,
    key: Keys = None,
    precision: Annotated[str, typer.Option(help="Of the net.")] = "int8",
    engine: Annotated[str, typer.Option(help="To run the net.")] = "onnxruntime-cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of the engine and of the detector.")] = 2,
    detector: Detector = "auto",
    faces: Annotated[int, typer.Option(min=1, max=MOST_FACES, help="Rendered faces in the 640x480 frame.")] = 4,
    rate: Annotated[float, typer.Option(min=1, max=240, help="Frames per second of the camera.")] = 10.0,
    seconds: Annotated[float, typer.Option(min=1, help="Of measurement.")] = 30.0,
    steering: Annotated[bool, typer.Option("--steering", help="FADNet steers by the same camera.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")] = None,
) -> None:
    """Time image to messages over the real nodes, on rendered faces. Ends with 3 when the p99 misses 100 ms.

    Example: edgeflock emotion-bars; edgeflock emotion-bars --steering --rate 30 --threads 1
    """
    from rich.console import Console
    from rich.table import Table

    node = {"precision": precision, "engine": engine, "threads": threads}
    node |= {
        "bundle": str(bundle.absolute()) if bundle else "",
        "keys": os.pathsep.join(str(path.absolute()) for path in key or ()),
        "detector": detector if detector in ("auto", "cascade") else str(Path(detector).absolute()),
    }
    check_outputs([json_file], inputs=[Path(detector)], whole=[bundle])
    result = measure(node, faces, rate, seconds, steering)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in asdict(result).items():
        parts = value if isinstance(value, dict) else {"": value}
        shown = (f"{part} {v:.2f}" if isinstance(v, float) else f"{v}" for part, v in parts.items())
        table.add_row(f"[dim]{name}[/]", ", ".join(shown).strip())
    Console().print(table, soft_wrap=True)
    if json_file:
        write_atomically(json_file, json.dumps(asdict(result), indent=2) + "\n")
    met = result.p99_ms < P99_BAR_MS
    print(f"p99 under {P99_BAR_MS:.0f} ms with {faces} faces: {'met' if met else 'missed'}")
    if met:
        print("next: ros2 launch emotion_recognition emotion.launch.py")
    raise typer.Exit(0 if met else 3)


def crowd(faces: int) -> np.ndarray:
    """uint8 (480, 640, 3) RGB frame with rendered faces in a grid, each one that the Haar cascade finds. Synthetic.

    Raises
    ------
    MissingExtra
        The renderer is not installed.
    InputError
        More than fit.
    """
    if not 1 <= faces <= MOST_FACES:
        raise InputError(f"expected 1 to {MOST_FACES} faces, which fit into {WIDTH}x{HEIGHT}, got {faces}.")
    with needs("Rendered faces", "export"):
        from edgeflock.export.datasets.synthetic.faces import each_face
    from edgeflock.runtime.faces import open_detector

    columns = math.ceil(math.sqrt(faces))
    tile = min(WIDTH // columns, HEIGHT // math.ceil(faces / columns))
    detect, image, margin = open_detector("cascade", stream=True), np.full((HEIGHT, WIDTH, 3), 120, np.uint8), tile // 6
    side, n = tile - 2 * margin, 0
    for portrait, *_ in each_face(100 * faces, 0, side):
        y, x = (tile * at + margin for at in divmod(n, columns))
        image[y : y + side, x : x + side] = portrait
        n = len(detect(image, "rgb8"))
        if n == faces:
            return image
    raise EdgeflockError(f"The cascade found {n} of {faces} rendered faces.")


def write_video(path: Path, image: np.ndarray, rate_hz: float, seconds: float) -> Path:
    """A video of the image that moves in a small circle, once a second, so that the tracker has work."""
    import cv2

    height, width = image.shape[:2]
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (width, height))
    for n in range(round(rate_hz * seconds)):
        angle = 2 * math.pi * n / rate_hz
        shift = np.array([[1, 0, 6 * math.cos(angle)], [0, 1, 6 * math.sin(angle)]])
        moved = cv2.warpAffine(image, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        out.write(cv2.cvtColor(moved, cv2.COLOR_RGB2BGR))
    out.release()
    return path


def measure(node: dict[str, Any], faces: int, rate_hz: float, seconds: float, steering: bool) -> FacesResult:
    """Run the nodes on rendered faces and listen.

    Parameters
    ----------
    node : dict
        Parameters of the emotion node.
    faces : int
        In every frame.
    rate_hz : float
        Of the camera.
    seconds : float
        Of measurement, after every node was heard of and `SETTLE_S` more.
    steering : bool
        Whether FADNet steers by the same camera, with the bundle that ships.

    Raises
    ------
    MissingExtra
        ROS 2 or the renderer is not installed.
    EdgeflockError
        A node died, or nothing came from it in time.
    """
    with needs("edgeflock emotion-bars", "drive"):
        from edgeflock_lab.emotion_watch import Watch
    from edgeflock_lab.supervisor import Supervisor, listening, stay_on_this_machine
    from edgeflock_ros import topics

    stay_on_this_machine()
    humans = f"/run_{os.getpid()}/humans"
    with (
        tempfile.TemporaryDirectory() as folder,
        listening(lambda context: Watch(humans, context=context)) as (watch, spin),
        Supervisor(Path(folder) / "logs") as nodes,
    ):

        def wait(condition: Callable[[], object], patience_s: float, otherwise: str = "") -> None:
            end = time.monotonic() + patience_s
            while not condition():
                if time.monotonic() > end:
                    if otherwise:
                        raise EdgeflockError(f"Nothing came from {otherwise} within {patience_s:.0f} s.")
                    return
                spin()
                nodes.check()

        video = write_video(Path(folder) / "faces.avi", crowd(faces), rate_hz, LOOP_S)
        readers = 1 + steering
        nodes.start_node("emotion", "emotion_recognition.emotion_node", {**node, "humans": humans})
        if steering:
            nodes.start_node("steering", "fadnet_nav.steering_node", {})
        wait(lambda: watch.count_subscribers(topics.image(topics.COLOR)) == readers, START_TIMEOUT_S, "the nodes")
        camera = {"source": "video", "path": str(video), "loop": True}
        nodes.start_node("camera", "edgeflock_ros.camera_node", camera)
        wait(lambda: watch.reports and (watch.steered or not steering), START_TIMEOUT_S, "the nodes after the camera")
        wait(lambda: False, SETTLE_S)
        first, reported, busy, begun = len(watch.sent), len(watch.reports), nodes.cpu_s(), time.monotonic()
        wait(lambda: False, seconds)
        sent, took = watch.sent[first:], time.monotonic() - begun
        cpu = {name: (s - busy[name]) / took for name, s in nodes.cpu_s().items()}
        wait(lambda: False, AFTER_S)  # answers to the last frames, and the report on them
    reports = watch.reports[reported:]
    answered = [stamp for stamp in sent if stamp in watch.answers]
    whole = [stamp for stamp in answered if watch.answers[stamp][1] == faces]
    if not whole or not reports:
        raise EdgeflockError(f"No frame of {len(sent)} was answered with {faces} faces: give another --detector.")
    latency = np.array([(watch.answers[stamp][0] - stamp) / 1e6 for stamp in whole])
    lost = int(reports[-1]["missed"]) - int(watch.reports[reported - 1]["missed"])
    parts = {part: float(np.mean([float(r[f"{part}_ms"]) for r in reports])) for part in ("detect", "prepare", "net")}
    node_said: dict[str, Any] = {k: reports[-1][k] for k in ("engine", "precision", "detector", "messages")}
    percentiles: dict[str, Any] = {f"p{q}_ms": float(np.percentile(latency, q)) for q in (50, 90, 99)}
    return FacesResult(
        **node_said,
        bundle_sha256=reports[-1]["bundle"],
        faces=faces,
        rate_hz=len(sent) / took,
        seconds=took,
        sent=len(sent),
        answered=len(answered),
        all_faces=len(whole),
        skipped=len(sent) - len(answered) - lost,
        lost=lost,
        **percentiles,
        max_ms=float(latency.max()),
        detect_ms=parts["detect"],
        prepare_ms=parts["prepare"],
        net_ms=parts["net"],
        per_face_ms=(parts["prepare"] + parts["net"]) / faces,
        steering_answered=sum(stamp in watch.steered for stamp in sent) if steering else None,
        steering_lost=sum(stamp not in watch.steered for stamp in sent) if steering else None,
        cpu_cores=cpu,
    )
