"""Mount of a camera from pictures, a recording or a live camera; the geometry is in `edgeflock.calibration.floor`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from edgeflock.calibration.board import Board, BoardView
from edgeflock.calibration.capture import factory_intrinsics, grey_images, open_frames, pictures_in
from edgeflock.calibration.floor import Floor, FoundMount, floor_from_board, floor_from_depth, together
from edgeflock.runtime.errors import CameraError, InputError
from edgeflock.runtime.intrinsics import Intrinsics

OnImage = Callable[[int, int], None]
"""Gets how many images were looked at, and in how many the floor was found."""


def mount_from_board(
    source: str,
    board: Board,
    camera: Intrinsics | None = None,
    *,
    images: int = 20,
    topic: str | None = None,
    on_image: OnImage | None = None,
) -> FoundMount:
    """Mount from pictures of a board that lies on the floor.

    Parameters
    ----------
    source, topic
        See `edgeflock.calibration.capture.calibrate_from`.
    board : Board
    camera : Intrinsics, optional
        By default those that the source carries.
    images : int
        With a board after which no more are read.
    on_image : callable, optional

    Raises
    ------
    InputError
        No board in any image, or a camera that is not theirs.
    CameraError
        The source cannot be opened, or carries no calibration.
    """
    if camera is None:
        if pictures_in(source):
            raise InputError(
                f"pictures carry no calibration: give --camera beside {source} (`edgeflock calibrate camera`)."
            )
        camera = factory_intrinsics(source, topic)
    floors: list[Floor] = []
    for looked, (name, grey) in enumerate(grey_images(source, topic), start=1):
        if not isinstance(grey, str):
            if grey.shape != (camera.height, camera.width):
                raise InputError(
                    f"expected images of the camera's {camera.width}x{camera.height}, got {grey.shape[1]}x"
                    f"{grey.shape[0]} in {name}: intrinsics belong to one resolution."
                )
            if (corners := board.find(grey)) is not None:
                floors.append(floor_from_board(board, BoardView(name, *corners), camera))
        if on_image:
            on_image(looked, len(floors))
        if len(floors) >= images:
            break
    return together(floors)


def mount_from_depth(
    source: str, *, images: int = 20, topic: str | None = None, on_image: OnImage | None = None
) -> FoundMount:
    """Mount from the floor in the depth images of a recording or a live camera.

    Raises
    ------
    InputError
        No floor in any image.
    CameraError
        The source cannot be opened, or has no depth.
    """
    floors: list[Floor] = []
    with closing(open_frames(source, topic)) as opened:
        lens = opened.depth_intrinsics
        if lens is None:
            raise CameraError(f"{source} has no depth: lay a checkerboard on the floor and give --board.")
        looked = 0
        while len(floors) < images and looked < 10 * images and (frame := opened.read(5.0)) is not None:
            if frame.depth is None:
                continue
            looked += 1
            if (floor := floor_from_depth(frame.depth, lens)) is not None:
                floors.append(floor)
            if on_image:
                on_image(looked, len(floors))
    return together(floors)
