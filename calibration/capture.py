"""Where the camera's calibration meets cameras and bundles: pictures in, intrinsics out to a file or into a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from edgeflock.calibration.board import Board, BoardView, distinct
from edgeflock.calibration.lens import CameraCalibration, Model, calibrate, uncovered
from edgeflock.runtime.bundle.bundle import Bundle, read_manifest, sign_bundle, write_bundle
from edgeflock.runtime.bundle.signing import TrustedKey, read_private_key
from edgeflock.runtime.cameras import FrameSource, Intrinsics, kind_of, open_source
from edgeflock.runtime.cameras.base import numbered
from edgeflock.runtime.cameras.pictures import PICTURES, is_picture, not_read, read_picture
from edgeflock.runtime.cameras.rosbag import is_recording
from edgeflock.runtime.errors import BundleKeyUntrusted, CameraError, InputError, MissingExtra

LIVE = "realsense"
"""Source that means the first RealSense on USB."""

_NO_BOARD = "no board found"
_EVERY_NS = 400_000_000  # a board is moved by hand: frames closer than that show the same pose, or are blurred

OnFrame = Callable[[int, int, str], None]
"""Gets how many images were looked at, how many distinct views were found, and where the board is still wanted."""


def factory_intrinsics(source: str, topic: str | None = None) -> Intrinsics:
    """Intrinsics that a RealSense, its recording or a bag's camera_info carries.

    Raises
    ------
    CameraError
        The source cannot be opened, or carries none.
    """
    with closing(open_frames(source, topic)) as opened:
        if opened.intrinsics.fx == 0:
            raise CameraError(f"{source} carries no calibration: film a checkerboard with it and give --board.")
        return opened.intrinsics


def calibrate_from(
    source: str,
    board: Board,
    model: Model = "plumb_bob",
    *,
    views: int = 40,
    topic: str | None = None,
    on_frame: OnFrame | None = None,
) -> CameraCalibration:
    """Calibrate from a folder of pictures, a video, a bag, a RealSense recording or a live camera.

    Parameters
    ----------
    source : str
        Folder or file; /dev/videoN or `LIVE` for a camera.
    board, model
        See `edgeflock.calibration.lens.calibrate`.
    views : int
        Distinct views after which no more are read.
    topic : str, optional
        Colour topic of a bag.
    on_frame : callable, optional
        See `OnFrame`.

    Raises
    ------
    InputError
        No board in any picture, pictures of different sizes, too few distinct views.
    CameraError
        The source cannot be opened.
    """
    found: list[BoardView] = []
    dropped: dict[str, str] = {}
    size, looked = (0, 0), 0
    for name, grey in grey_images(source, topic):
        looked += 1
        if isinstance(grey, str):
            dropped[name] = grey
            continue
        if size == (0, 0):
            size = grey.shape[1], grey.shape[0]
        elif grey.shape != size[::-1]:
            raise InputError(
                f"expected pictures of one size, got {size[0]}x{size[1]} and, in {name}, {grey.shape[1]}x"
                f"{grey.shape[0]}: intrinsics belong to one resolution."
            )
        corners = board.find(grey)
        if corners is None:
            dropped[name] = _NO_BOARD
        else:
            found, repeated = distinct([*found, BoardView(name, *corners)], size)
            dropped |= repeated
        if on_frame:
            missing = uncovered(found, Intrinsics.uncalibrated(*size))
            on_frame(looked, len(found), ", ".join(missing))
        if len(found) >= views:
            break
    if not found:
        raise InputError(_nowhere(board, source, looked, dropped))
    result = calibrate(found, size, board, model)
    result.dropped.update(dropped)
    return result


def store_camera(bundle: Path, camera: Intrinsics, key: Path) -> None:
    """Put the intrinsics into a bundle's manifest and sign it; the bundle must verify before.

    Raises
    ------
    BundleError
        And its subclasses: the bundle is not what was signed, or the key does not sign.
    """
    manifest = open_to_sign(bundle, key).manifest
    files: dict[str, bytes | Path] = {name: bundle / name for name in manifest.files}
    write_bundle(bundle, manifest.model_copy(update={"camera": camera, "files": {}}), files)
    sign_bundle(bundle, key)


def open_to_sign(bundle: Path, key: Path) -> Bundle:
    """Verify a bundle that is going to be signed anew with a private key, whose own signature is trusted.

    Raises
    ------
    BundleError
        As `store_camera`.
    """
    own = TrustedKey(read_private_key(key).public_key().public_bytes_raw(), "", key)
    try:
        return Bundle.open(bundle, [own])
    except BundleKeyUntrusted as error:
        signer = read_manifest(bundle)[0].key_id
        raise BundleKeyUntrusted(
            f"{bundle} is signed by key {signer}, which is neither that of {key} nor one that this machine trusts. If "
            f"you trust the signer, put its .pub file into ~/.config/edgeflock/keys."
        ) from error


def _nowhere(board: Board, source: str, looked: int, dropped: dict[str, str]) -> str:
    """What to do where no picture shows the board."""
    unread = {name: reason for name, reason in dropped.items() if reason != _NO_BOARD}
    if looked == len(unread):
        first = next(iter(unread.values()), "it holds no frame")
        return f"expected pictures in {source}, none of {looked} is one: {first}."
    text = (
        f"expected a board of {board.columns}x{board.rows} inner corners in {source}, found it in none of "
        f"{looked - len(unread)} pictures: count the corners where four squares meet, keep a white border around the "
        "board, avoid glare"
    )
    if board.marker_m is not None:
        other = (
            "leave out --legacy" if board.legacy else "add --legacy for one printed by OpenCV before 4.6 or calib.io"
        )
        text += f". Of a ChArUco also check --dictionary ({board.dictionary}), and {other}"
    return f"{text}."


def open_frames(source: str, topic: str | None) -> FrameSource:
    """Open a recording, a video or a camera, as fast as it can be read."""
    kind = "realsense" if source == LIVE else kind_of(source)
    if topic and kind != "bag":
        raise InputError(f"--topic {topic} names a topic of a bag, {source} is none: leave it out.")
    if source == LIVE:
        return open_source("realsense")
    return open_source(kind, source, real_time=False, **({"topic": topic} if topic else {}))


def pictures_in(source: str) -> list[Path]:
    """The pictures of a folder, by name; none where `source` is a recording or a camera.

    Raises
    ------
    InputError
        It is a folder with neither pictures nor a recording; names what lies there.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() or is_recording(folder):
        return []
    inside = sorted(folder.iterdir(), key=numbered)
    if found := [path for path in inside if path.is_file() and is_picture(path)]:
        return found
    below = [path for path in inside if path.is_dir() and any(map(is_picture, path.iterdir()))]
    if below:
        got = f"pictures in {', '.join(map(str, below[:5]))}: name one of these folders"
    else:
        others = not_read(inside) or f"{len(inside)} other files"
        got = f"{others}: make JPEG or PNG of them" if not_read(inside) else others
    raise InputError(f"{source}: expected pictures ({', '.join(PICTURES)}) or a recording in it, got {got}.")


def grey_images(source: str, topic: str | None) -> Iterator[tuple[str, np.ndarray | str]]:
    """Name and grey uint8 (H, W) of every picture worth looking at, or why it cannot be read."""
    pictures = pictures_in(source)
    if pictures and topic:
        raise InputError(f"--topic {topic} names a topic of a bag, {source} holds pictures: leave it out.")
    for path in pictures:
        try:
            image = read_picture(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
        except (InputError, MissingExtra, OSError) as error:
            yield path.name, f"it cannot be read ({error})"
        else:
            yield path.name, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if pictures:
        return
    with closing(open_frames(source, topic)) as opened:
        last = -_EVERY_NS
        while (frame := opened.read(5.0)) is not None:
            if frame.stamp_ns - last >= _EVERY_NS or frame.stamp_ns < last:
                last = frame.stamp_ns
                yield f"frame {frame.index}", cv2.cvtColor(frame.color, cv2.COLOR_RGB2GRAY)
