"""`edgeflock dance show`: a motion file as a moving picture, drawn by MuJoCo without a display."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.extras import needs
from edgeflock.runtime.files import check_outputs, replacing
from edgeflock.runtime.motion.group import Group

_STAGE = """
<mujoco>
  <visual><headlight ambient=".45 .45 .45" diffuse=".5 .5 .5"/><global offwidth="1920" offheight="1080"/>
    <quality shadowsize="1024"/></visual>
  <asset>
    <texture name="floor" type="2d" builtin="checker" rgb1=".93 .93 .93" rgb2=".85 .85 .88" width="256" height="256"/>
    <material name="floor" texture="floor" texrepeat="20 20"/>
    <texture type="skybox" builtin="gradient" rgb1="1 1 1" rgb2=".8 .85 .9" width="64" height="64"/>
  </asset>
  <worldbody>
    <light directional="true" pos="0 -3 6" dir=".2 .4 -1" diffuse=".4 .4 .4"/>
    <geom type="plane" size="20 20 .1" material="floor"/>
  </worldbody>
</mujoco>
"""
_COLOURS = ("0072B2", "E69F00", "009E73", "D55E00", "CC79A7", "56B4E9", "F0E442", "8c8c8c")  # Okabe and Ito's palette
_RADIUS, _HEAD = 0.05, 0.11


def show(
    motion: Annotated[Path, typer.Argument(help="Motion of a group: .npz, .pkl, .bvh.")],
    out: Annotated[Path, typer.Option(help="GIF to write.")] = Path("dance.gif"),
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="At most so many are drawn.")] = 6,
    fps: Annotated[int, typer.Option(min=1, max=30)] = 15,
    width: Annotated[int, typer.Option(min=64, max=1920)] = 480,
    up: Annotated[str, typer.Option(help="Axis of the file that points away from the floor: y or z.")] = "y",
) -> None:
    """Draw a dance as a GIF.

    Example:

      edgeflock dance show dance/motion.npz --out dance.gif
    """
    from rich.progress import track

    from edgeflock.runtime.motion.files import read_motion

    if out.suffix != ".gif":
        raise InputError(f"expected a .gif to write, got {out}.")
    if up not in ("y", "z"):
        raise InputError(f"--up expects y or z, got {up!r}.")
    check_outputs([out], inputs=[motion])
    with needs("a picture of a dance", "report"):
        from PIL import Image

    group = read_motion(motion, up=up).at_rate(fps)
    group = group.frames(0, round(seconds * fps))
    pictures = [Image.fromarray(picture) for picture in track(draw(group, width), "drawing", total=len(group))]
    with replacing(out) as draft:
        pictures[0].save(draft, format="GIF", save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0)
    typer.echo(f"{out}: {len(pictures)} pictures of {group.dancers} dancers")


def draw(group: Group, width: int = 480) -> Iterator[np.ndarray]:
    """Pictures uint8 (9/16 width, width, 3) of every frame, one after the other, seen from the front.

    Raises
    ------
    MissingExtra
        mujoco or a library that it draws with is not installed.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when mujoco is imported
    with needs("a picture of a dance"):
        import mujoco

    model = mujoco.MjModel.from_xml_string(_STAGE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    joints = group.joints()[..., [0, 2, 1]] * [1, -1, 1]  # z up, the front towards -y
    low, high = joints.min((0, 1, 2)), joints.max((0, 1, 2))
    camera = mujoco.MjvCamera()
    camera.lookat[:] = [*(low + high)[:2] / 2, 0.9]
    camera.distance, camera.azimuth, camera.elevation = 2.2 + float((high - low)[:2].max()), 90, -18
    bones = [(parent, joint) for joint, parent in enumerate(group.skeleton.parents) if parent >= 0]
    heads = [joint for joint, name in enumerate(group.skeleton.names) if name.lower().endswith("head")]
    try:
        renderer = mujoco.Renderer(
            model, width * 9 // 16, width, max_geom=10 + (len(bones) + len(heads)) * group.dancers
        )
    except Exception as error:  # mujoco raises its FatalError, PyOpenGL AttributeError or ImportError, as GL is missing
        what = f"A picture of a dance (MUJOCO_GL={os.environ['MUJOCO_GL']})"
        raise MissingExtra.apt(what, "libegl1 libopengl0 libgl1-mesa-dri", error) from error
    try:
        for frame in range(len(group)):
            renderer.update_scene(data, camera)
            scene = renderer.scene
            for dancer in range(group.dancers):
                text = _COLOURS[dancer % len(_COLOURS)]
                colour = np.array([*(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)), 1], np.float32)
                at = joints[dancer, frame]
                for first, second in bones:
                    _add(mujoco, scene, colour)
                    mujoco.mjv_connector(
                        scene.geoms[scene.ngeom - 1], mujoco.mjtGeom.mjGEOM_CAPSULE, _RADIUS, at[first], at[second]
                    )
                for head in heads:
                    _add(mujoco, scene, colour, at[head])
            yield renderer.render()
    finally:
        renderer.close()


def _add(mujoco: Any, scene: Any, colour: np.ndarray, at: np.ndarray | None = None) -> None:
    """One more geometry in a scene, a ball of a head's size until it is said otherwise."""
    size, place = np.full(3, _HEAD), np.zeros(3) if at is None else at
    mujoco.mjv_initGeom(scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_SPHERE, size, place, np.eye(3).ravel(), colour)
    scene.ngeom += 1
