"""`edgeflock calibrate`: thin, every verb calls one function."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeflock.runtime.commands.registry import verbs
from edgeflock.runtime.errors import InputError, MissingExtra, ResultError
from edgeflock.runtime.files import check_outputs, left_over
from edgeflock.runtime.options import next_command, refuse_unused, this_command

calibrate_app = typer.Typer(
    cls=verbs("edgeflock calibrate", "edgeflock.calibrate"),
    no_args_is_help=True,
    help="Calibrate a camera, or compare calibration methods.",
)


@calibrate_app.callback()
def calibration() -> None:
    """Calibrate a camera, or compare the methods that find INT8 ranges."""


@calibrate_app.command()
def camera(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help='Folder of pictures, video, bag, RealSense recording, /dev/videoN, or "realsense".')
    ],
    board: Annotated[
        str | None, typer.Option(help="Inner corners of the board, 9x6; without it the camera's own calibration.")
    ] = None,
    square: Annotated[float, typer.Option(help="Side of a square in metres.")] = 0.025,
    marker: Annotated[float | None, typer.Option(help="Side of a marker in metres: the board is a ChArUco.")] = None,
    dictionary: Annotated[str, typer.Option(help="Of the ChArUco markers.")] = "DICT_5X5_100",
    legacy: Annotated[
        bool, typer.Option("--legacy", help="ChArUco printed by OpenCV before 4.6, or by calib.io.")
    ] = False,
    model: Annotated[
        Literal["plumb_bob", "rational_polynomial"], typer.Option(help="5 coefficients, or 8 for wide lenses.")
    ] = "plumb_bob",
    views: Annotated[int, typer.Option(min=8, help="Distinct views after which no more are read.")] = 40,
    max_rms: Annotated[float, typer.Option(min=0, help="Refuse a larger reprojection error, px.")] = 0.5,
    min_coverage: Annotated[
        float,
        typer.Option(min=0, max=1, help="Refuse where the inner corners were seen in a smaller share of the image."),
    ] = 0.4,
    topic: Annotated[str | None, typer.Option(help="Colour topic of a bag.")] = None,
    out: Annotated[Path, typer.Option(help="camera_info YAML of ROS, or .json.")] = Path("camera.yaml"),
    name: Annotated[str, typer.Option(help="Name of the camera in the YAML.")] = "camera",
    bundle: Annotated[Path | None, typer.Option(help="Store it in this bundle too.")] = None,
    key: Annotated[Path | None, typer.Option(help="Private key that signs the bundle.")] = None,
) -> None:
    """Find a camera's intrinsics with a checkerboard, or read those that a RealSense or a bag carries.

    Refused where the error is large, the board was not tilted, or parts of the image never saw it; a picture beside
    the file shows why.

    Example:

      edgeflock calibrate camera pictures/ --board 9x6 --square 0.025 --out camera.yaml
    """
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    from edgeflock.calibration.board import Board
    from edgeflock.calibration.capture import (
        calibrate_from,
        factory_intrinsics,
        open_to_sign,
        pictures_in,
        store_camera,
    )
    from edgeflock.calibration.picture import draw
    from edgeflock.runtime.bundle.bundle import check_bundle_place
    from edgeflock.runtime.cameras.camera_info import check_file_name, write_camera

    check_file_name(out)
    if board is None:
        refuse_unused(
            context,
            "without --board",
            "square",
            "marker",
            "dictionary",
            "legacy",
            "model",
            "views",
            "max_rms",
            "min_coverage",
        )
    if marker is None:
        refuse_unused(context, "without --marker", "dictionary", "legacy")
    if bundle and not key:
        raise InputError("expected a private key to sign the bundle with: give --key (`edgeflock bundle keygen`).")
    if bundle is None:
        refuse_unused(context, "without --bundle", "key")
    picture = out.with_suffix(".png")
    read = [Path(source).expanduser(), key]
    of_pictures = read[:1] if board and pictures_in(source) else []
    check_outputs([out, picture if board else None], inputs=read, whole=[*of_pictures, bundle])
    if bundle and key:
        open_to_sign(bundle, key)  # a wrong key shall not show up after minutes of work
        check_bundle_place(bundle)
        check_outputs(folders=[bundle])
    console = Console()
    if board is None:
        found = factory_intrinsics(source, topic)
    else:
        marks = Board(*_corners(board), square, marker, dictionary, legacy)
        with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[text]}"), console=console) as bar:
            task = bar.add_task("views", total=views, text="")

            def update(looked: int, distinct: int, wanted: str) -> None:
                text = f"{looked} pictures" + (f", not yet seen: {wanted}" if wanted else "")
                bar.update(task, completed=distinct, text=text)

            result = calibrate_from(
                source,
                marks,
                model,
                views=views,
                topic=topic,
                on_frame=update,
            )
        for view, reason in result.dropped.items():
            console.print(f"left out {view}: {reason}", highlight=False, markup=False, soft_wrap=True)
        try:
            draw(picture, result)
            console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
        except MissingExtra as missing:
            console.print(f"No picture: {missing}")
        found = result.intrinsics
        console.print(
            f"RMS {result.rms:.3f} px over {len(result.views)} views, {result.coverage:.0%} of the image, tilt "
            f"{result.tilt:.0f} degrees; standard deviations "
            + ", ".join(f"{n} {d:.2f}" for n, d in zip(("fx", "fy", "cx", "cy"), result.deviations, strict=True))
            + " px",
            highlight=False,
        )
        if problems := result.problems(max_rms, min_coverage):
            for line in left_over(out.parent, [], out.name):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            raise ResultError(f"the calibration is refused, {out} is not written: {'; '.join(problems)}.")
    write_camera(out, found, name)
    console.print(
        f"{found.width}x{found.height}, fx {found.fx:.2f}, fy {found.fy:.2f}, cx {found.cx:.2f}, cy {found.cy:.2f}, "
        f"{found.model} {[round(c, 5) for c in found.coeffs]}: {out}",
        highlight=False,
    )
    if bundle and key:
        store_camera(bundle, found, key)
        console.print(f"stored in {bundle}, signed", highlight=False, soft_wrap=True)
        then = next_command("bundle", "verify", bundle, "--key", key.with_suffix(".pub"))
    else:
        then = f"next: {this_command()} --bundle BUNDLE --key FLEET.pem"
    console.print(then, highlight=False, markup=False, soft_wrap=True)


@calibrate_app.command()
def mount(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help='Folder of pictures, video, bag, RealSense recording, /dev/videoN, or "realsense".')
    ],
    board: Annotated[
        str | None, typer.Option(help="Inner corners of a board on the floor, 9x6; without it the depth's floor.")
    ] = None,
    square: Annotated[float, typer.Option(help="Side of a square in metres.")] = 0.025,
    camera: Annotated[
        Path | None, typer.Option(help="What `calibrate camera` wrote (default: what the source itself carries).")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="With a floor, after which no more are read.")] = 20,
    topic: Annotated[str | None, typer.Option(help="Colour topic of a bag.")] = None,
    out: Annotated[Path, typer.Option(help="File of ROS parameters, for nodes and tools.")] = Path("mount.yaml"),
) -> None:
    """Find how high a camera is and how far it looks down: from a board on the floor, or from its depth.

    Let the robot stand on a level floor. Yaw leaves no trace in a floor: write it into the file by hand.

    Example:

      edgeflock calibrate mount realsense --out mount.yaml
    """
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    from edgeflock.calibration.board import Board
    from edgeflock.calibration.capture import pictures_in
    from edgeflock.calibration.mount import mount_from_board, mount_from_depth
    from edgeflock.runtime.cameras.camera_info import read_camera
    from edgeflock.runtime.mount import write_mount

    if board is None:
        refuse_unused(context, "without --board", "square", "camera")
        if pictures_in(source):
            raise InputError(
                f"{source} holds pictures, which carry no depth: lay a board on the floor and give --board."
            )
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"expected a file name ending in .yaml, got {out}.")
    read = [Path(source).expanduser(), camera]
    check_outputs([out], inputs=read, whole=read[:1] if board and pictures_in(source) else [])
    console = Console()
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[text]}"), console=console) as bar:
        task = bar.add_task("images", total=images, text="")

        def update(looked: int, found: int) -> None:
            bar.update(task, completed=found, text=f"{looked} looked at")

        if board is None:
            result = mount_from_depth(source, images=images, topic=topic, on_image=update)
        else:
            lens = read_camera(camera) if camera else None
            shown = Board(*_corners(board), square)
            result = mount_from_board(source, shown, lens, images=images, topic=topic, on_image=update)
    height, pitch, roll = result.spread
    console.print(
        f"{result.mount}, from {result.images} images (standard deviations {1000 * height:.1f} mm, "
        f"{math.degrees(pitch):.2f} and {math.degrees(roll):.2f} degrees; {result.share:.0%} of the points fit)",
        highlight=False,
    )
    if problems := result.problems():
        raise ResultError(f"the mount is refused, {out} is not written: {'; '.join(problems)}.")
    write_mount(out, result.mount)
    console.print(f"written: {out}; yaw is 0 in it", highlight=False, soft_wrap=True)
    launch = ["ros2", "launch", "fadnet_nav", "fadnet_nav.launch.py", "camera:=realsense", f"mount:={out}"]
    console.print(f"next: {shlex.join(launch)}", highlight=False, markup=False, soft_wrap=True)


def _corners(board: str) -> tuple[int, int]:
    columns, _, rows = board.lower().partition("x")
    if not (columns.isdigit() and rows.isdigit()):
        raise InputError(f"expected the board as COLUMNSxROWS of inner corners, such as 9x6, got {board!r}.")
    return int(columns), int(rows)
