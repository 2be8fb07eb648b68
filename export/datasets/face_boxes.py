"""Face boxes for data sets that have none (CAER-S, SFEW's whole frames), so that nets with context can read them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import track

from edgeflock.runtime.cameras.pictures import PICTURES, is_picture, read_picture
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.faces import FaceDetector
from edgeflock.runtime.files import write_atomically


def write_boxes(folder: Path, detector: FaceDetector, console: Console | None = None) -> tuple[int, int]:
    """Find the largest face of every image in a folder, and write its box where `read_folder` looks for it.

    That is a text file beside the image, "x1,y1,x2,y2", with "0,0,0,0" for no face. Images that have one are passed
    over, so an interrupted run goes on.

    Parameters
    ----------
    folder : Path
        Searched with all its folders.
    detector : FaceDetector
        Such as `edgeflock.runtime.faces.open_detector` gives.
    console : Console, optional
        Shows the progress.

    Returns
    -------
    int, int
        Images looked at in which a face was found, and in which none was.

    Raises
    ------
    DataError
        There is no image, or one is broken.
    """
    images = sorted(filter(is_picture, folder.rglob("*")))
    if not images:
        raise DataError(f"{folder}: expected images ({', '.join(PICTURES)}) in it, found none.")
    left = [path for path in images if not path.with_suffix(".txt").exists()]
    found = 0
    for path in track(left, "Faces", console=console) if console else left:
        try:
            faces = detector(read_picture(path), "bgr8")
        except InputError as error:
            raise DataError(str(error)) from error
        box = [round(value) for value in faces[0].box] if faces else [0, 0, 0, 0]
        write_atomically(path.with_suffix(".txt"), ",".join(map(str, box)).encode())
        found += bool(faces)
    return found, len(left) - found
