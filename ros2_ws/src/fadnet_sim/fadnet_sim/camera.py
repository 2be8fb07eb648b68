"""The robot's camera: renders what it sees from a pose, colour and aligned depth."""

from __future__ import annotations

import math
import os
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgeflock.runtime.errors import InputError, MissingExtra
from edgeflock.runtime.intrinsics import Intrinsics
from fadnet_sim.scene import CameraLook, World, camera_axes

if TYPE_CHECKING:
    import mujoco

_NOISE_FRAMES = 4
_MAX_DEPTH_M = 10.0  # beyond it a stereo camera gives no depth


class Exposure:
    """Lens blur, exposure and sensor noise of a world's camera, laid over rendered frames.

    Parameters
    ----------
    world : World
        It fixes them.
    width, height : int
        Of the frames, px.
    """

    def __init__(self, world: World, width: int, height: int) -> None:
        self._look, self._seed = world.look, world.seed
        rng = np.random.default_rng([world.seed, 1])
        grain = rng.normal(0, world.look.noise, (_NOISE_FRAMES, height, width, 1)).astype(np.int16)
        self._noise = np.repeat(grain, 3, axis=3)

    def __call__(self, frame: np.ndarray, index: int) -> None:
        """Change a frame (height, width, 3) uint8 in place; its number fixes the noise."""
        look = self._look
        if look.blur:
            sigma = look.blur * frame.shape[1] / 640
            cv2.GaussianBlur(frame, (0, 0), sigma, dst=frame)
        drift = 1 + 0.08 * math.sin(index / 97 + self._seed)
        cv2.convertScaleAbs(frame, dst=frame, alpha=look.gain * drift)
        # Rolled noise: a few stored fields give a long sequence that hardly repeats.
        noise, shift = self._noise[index % _NOISE_FRAMES], (index * 7919) % len(frame)
        split = len(noise) - shift
        for rows, grain in ((frame[shift:], noise[:split]), (frame[:shift], noise[split:])):
            if len(rows):
                cv2.add(rows, grain, dst=rows, dtype=cv2.CV_8U)


class SimCamera:
    """Off-screen colour and depth camera in a world (MuJoCo, EGL, also without a GPU).

    Make and use it in one thread: the OpenGL context belongs to the thread that made it.

    Parameters
    ----------
    world : World
        Where the robot drives; it also fixes mount, lens and sensor noise.
    width, height : int
        Of the colour image, px.
    depth_size : (int, int)
        Width and height of the depth image; it covers the same view as the colour image.

    Raises
    ------
    MissingExtra
        Without mujoco, or without EGL; the message has the line that installs it.

    Attributes
    ----------
    look : CameraLook
        How it is worn; see `wear`.
    """

    def __init__(
        self, world: World, width: int = 640, height: int = 480, depth_size: tuple[int, int] = (160, 120)
    ) -> None:
        if not (16 <= width <= 1920 and 16 <= height <= 1080):
            raise InputError(f"Expected a camera size from 16x16 to 1920x1080, got {width}x{height}.")
        self.world = world
        model = world.compile()
        try:
            import mujoco

            self._mujoco = mujoco
            self._data = mujoco.MjData(model)
            self._color = _renderer(model, width, height)
        except Exception as e:  # mujoco raises its FatalError, PyOpenGL AttributeError or ImportError, as GL is missing
            what = f"The simulated camera (MUJOCO_GL={os.environ.get('MUJOCO_GL')})"
            raise MissingExtra.apt(what, "libegl1 libopengl0 libgl1-mesa-dri", e) from e
        # The camera sits at the front, over the bumper; hiding the body keeps it out of view for every random tilt.
        car = model.body("car").id
        model.geom_rgba[model.body_rootid[model.geom_bodyid] == car, 3] = 0
        self._model = model
        self.look = world.look
        self._metres = np.empty((depth_size[1], depth_size[0]), np.float32)
        self._millimetres = np.empty(self._metres.shape, np.uint16)
        self._rgb = np.empty((height, width, 3), np.uint8)
        self._expose = Exposure(world, width, height)

    @cached_property
    def _depth(self) -> mujoco.Renderer:
        height, width = self._metres.shape
        renderer = _renderer(self._model, width, height)
        renderer.enable_depth_rendering()
        renderer.scene.flags[self._mujoco.mjtRndFlag.mjRND_REFLECTION] = 0  # in colour only glossy floors have any
        return renderer

    def wear(self, look: CameraLook) -> None:
        """Mount the camera elsewhere, with another lens; what its sensor does to light stays."""
        camera = self._model.camera("front")
        right, up = camera_axes(look)
        self._mujoco.mju_mat2Quat(camera.quat, np.column_stack([right, up, np.cross(right, up)]).ravel())
        camera.pos[:] = look.forward, 0.0, look.height
        camera.fovy[:] = math.degrees(look.fovy)
        self.look = look

    @property
    def intrinsics(self) -> Intrinsics:
        """Of the colour image."""
        return Intrinsics.of_lens(self._rgb.shape[1], self._rgb.shape[0], self.look.fovy)

    @property
    def depth_intrinsics(self) -> Intrinsics:
        """Of the depth image."""
        return Intrinsics.of_lens(self._metres.shape[1], self._metres.shape[0], self.look.fovy)

    def render(self, *pose: float, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Render colour and depth from a pose of the base; parameters as for `color`.

        Returns
        -------
        color : ndarray (height, width, 3) uint8
            RGB; overwritten by the next call.
        depth : ndarray (h, w) uint16
            Millimetres along the optical axis, 0 where none was measured; overwritten by the next call.
        """
        color = self.color(*pose, index=index)
        self._depth.update_scene(self._data, camera="front")
        self._depth.render(out=self._metres)
        self._metres[self._metres > _MAX_DEPTH_M] = 0
        np.multiply(self._metres, 1000, out=self._millimetres, casting="unsafe")
        return color, self._millimetres

    def color(
        self, x: float, y: float, yaw: float, z: float = 0.002, roll: float = 0.0, pitch: float = 0.0, *, index: int = 0
    ) -> np.ndarray:
        """Render colour alone.

        Parameters
        ----------
        x, y, z : float
            Rear axle on the ground, m.
        yaw, roll, pitch : float
            rad.
        index : int
            Frame number; with the world's seed it fixes the sensor noise.

        Returns
        -------
        ndarray (height, width, 3) uint8
            RGB; overwritten by the next call.
        """
        self._data.qpos[:7] = (x, y, z, *_quaternion(roll, pitch, yaw))
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)
        self._color.update_scene(self._data, camera="front")
        self._color.render(out=self._rgb)
        self._expose(self._rgb, index)
        return self._rgb

    def close(self) -> None:
        """Free the OpenGL contexts."""
        self._color.close()
        if "_depth" in vars(self):
            self._depth.close()


def _renderer(model: mujoco.MjModel, width: int, height: int) -> mujoco.Renderer:
    import mujoco

    # Mesa clears the whole buffer for every picture.
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    renderer = mujoco.Renderer(model, height, width)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    return renderer


def _quaternion(roll: float, pitch: float, yaw: float) -> tuple[float, float, float, float]:
    cr, sr, cp, sp = math.cos(roll / 2), math.sin(roll / 2), math.cos(pitch / 2), math.sin(pitch / 2)
    cy, sy = math.cos(yaw / 2), math.sin(yaw / 2)
    return (
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    )
