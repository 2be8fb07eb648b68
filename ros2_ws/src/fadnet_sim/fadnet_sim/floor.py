"""A floor with round robots on two driven wheels each, by MuJoCo's physics, and pictures of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from edgeflock.runtime.errors import MissingExtra
from edgeflock.runtime.extras import needs
from edgeflock.runtime.figures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION

RADIUS = 0.2
"""m, of a robot seen from above."""
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)
"""Of the robots, one after the other."""

_WHEEL, _AXLE = 0.05, 0.15  # m: radius of a wheel, and from the middle to it
_STEP = 1 / 300

_WORLD = """
<mujoco>
  <option timestep="{step}" integrator="implicitfast"/>
  <visual><headlight ambient=".4 .4 .4" diffuse=".4 .4 .4"/><global offwidth="1920" offheight="1080"/></visual>
  <asset>
    <texture name="floor" type="2d" builtin="checker" rgb1=".8 .8 .8" rgb2=".7 .7 .74" width="256" height="256"/>
    <material name="floor" texture="floor" texrepeat="20 20"/>
    <texture type="skybox" builtin="gradient" rgb1="1 1 1" rgb2=".8 .85 .9" width="64" height="64"/>
  </asset>
  <worldbody>
    <light directional="true" pos="0 -3 6" dir=".2 .4 -1" diffuse=".4 .4 .4"/>
    <geom name="floor" type="plane" size="20 20 .1" material="floor"/>
    {bodies}
  </worldbody>
  <actuator>{motors}</actuator>
</mujoco>
"""
_BODY = """
    <body name="robot{n}">
      <freejoint name="robot{n}"/>
      <geom type="cylinder" size="{radius} .06" pos="0 0 .06" mass="5" rgba="{colour} 1"/>
      <geom type="box" size=".05 .02 .01" pos=".12 0 .13" mass=".01" rgba=".1 .1 .1 1" contype="0" conaffinity="0"/>
      <geom type="sphere" size=".02" pos=".15 0 -.03" mass=".05" condim="1" priority="1"/>
      <geom type="sphere" size=".02" pos="-.15 0 -.03" mass=".05" condim="1" priority="1"/>
      <body pos="0 {axle} 0"><joint name="left{n}" axis="0 1 0"/>
        <geom type="cylinder" size="{wheel} .015" euler="90 0 0" mass=".2"/></body>
      <body pos="0 -{axle} 0"><joint name="right{n}" axis="0 1 0"/>
        <geom type="cylinder" size="{wheel} .015" euler="90 0 0" mass=".2"/></body>
    </body>"""
_MOTORS = '<velocity joint="left{n}" kv=".5" forcerange="-2 2"/><velocity joint="right{n}" kv=".5" forcerange="-2 2"/>'


class Floor:
    """Robots on a floor.

    Parameters
    ----------
    poses : ndarray
        (N, 3): x, y in m and heading in rad of each robot, at rest.

    Attributes
    ----------
    touches : int
        How often two robots came to touch each other.
    """

    def __init__(self, poses: np.ndarray) -> None:
        with needs("A floor with robots", "sim"):
            import mujoco

        self._mujoco = mujoco
        self.robots, self.touches = len(poses), 0
        rgb = [" ".join(f"{int(text[i : i + 2], 16) / 255:.3f}" for i in (1, 3, 5)) for text in COLOURS]
        bodies = "".join(
            _BODY.format(n=n, radius=RADIUS, axle=_AXLE, wheel=_WHEEL, colour=rgb[n % len(rgb)])
            for n in range(self.robots)
        )
        motors = "".join(_MOTORS.format(n=n) for n in range(self.robots))
        self.model = mujoco.MjModel.from_xml_string(_WORLD.format(step=_STEP, bodies=bodies, motors=motors))
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(f"robot{n}") for n in range(self.robots)]
        self._at = np.array([joint.qposadr[0] for joint in joints])
        self._speeds = np.array([joint.dofadr[0] for joint in joints])
        self._bodies = [self.model.body(f"robot{n}").id for n in range(self.robots)]
        self._touching: set[tuple[int, int]] = set()
        self._owed = 0.0
        self.place(poses)

    def place(self, poses: np.ndarray) -> None:
        """Put all robots at poses (N, 3)."""
        for at, (x, y, heading) in zip(self._at, poses, strict=True):
            self.data.qpos[at : at + 7] = (x, y, _WHEEL, np.cos(heading / 2), 0, 0, np.sin(heading / 2))
        self._mujoco.mj_forward(self.model, self.data)

    def step(self, seconds: float, commands: np.ndarray) -> None:
        """Hold commands (N, 2), m/s ahead and rad/s, for so long."""
        ahead, around = commands.T
        self.data.ctrl[0::2] = (ahead - around * _AXLE) / _WHEEL
        self.data.ctrl[1::2] = (ahead + around * _AXLE) / _WHEEL
        self._owed += seconds / _STEP
        steps = int(self._owed + 1e-6)
        self._owed -= steps
        for _ in range(steps):
            self._mujoco.mj_step(self.model, self.data)
            self._watch_contacts()

    def _watch_contacts(self) -> None:
        contacts = self.data.contact.geom[: self.data.ncon]
        roots = np.sort(self.model.body_rootid[self.model.geom_bodyid[contacts]], axis=1)
        touching = {(int(one), int(other)) for one, other in roots if 0 < one != other}
        self.touches += len(touching - self._touching)
        self._touching = touching

    @property
    def poses(self) -> np.ndarray:
        """Where the robots are, (N, 3)."""
        w, x, y, z = self.data.xquat[self._bodies].T
        heading = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        return np.column_stack([self.data.xpos[self._bodies, :2], heading])

    @property
    def twists(self) -> np.ndarray:
        """How fast they are, (N, 2): m/s ahead and rad/s."""
        heading = self.poses[:, 2]
        vx, vy = self.data.qvel[self._speeds], self.data.qvel[self._speeds + 1]
        return np.column_stack([vx * np.cos(heading) + vy * np.sin(heading), self.data.qvel[self._speeds + 5]])

    def pictures(self, poses: np.ndarray, width: int = 480) -> Iterator[np.ndarray]:
        """Pictures uint8 (9/16 width, width, 3) of poses (K, N, 3), one after the other.

        Raises
        ------
        MissingExtra
            A library that MuJoCo draws with is not installed.
        """
        low, high = poses[..., :2].min((0, 1)), poses[..., :2].max((0, 1))
        camera = self._mujoco.MjvCamera()
        camera.lookat[:] = [*(low + high) / 2, 0]
        camera.distance, camera.azimuth, camera.elevation = 1.4 + 0.9 * float((high - low).max()), 90, -50
        try:
            renderer = self._mujoco.Renderer(self.model, width * 9 // 16, width)
        except Exception as error:  # mujoco raises its FatalError, PyOpenGL AttributeError or ImportError without GL
            what = f"A picture of a floor (MUJOCO_GL={os.environ.get('MUJOCO_GL')})"
            raise MissingExtra.apt(what, "libegl1 libopengl0 libgl1-mesa-dri", error) from error
        try:
            for one in poses:
                self.place(one)
                renderer.update_scene(self.data, camera)
                yield renderer.render()
        finally:
            renderer.close()
