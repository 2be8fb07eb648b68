"""The physics of the robot in a world."""

from __future__ import annotations

import math

import numpy as np

from fadnet_sim.scene import World

from .car import ackermann, differential

_REPEAT_S = 1.0  # s without contact after which the next one counts as another collision


class Simulation:
    """MuJoCo physics of the car in a world; no rendering (see `camera.SimCamera`).

    Parameters
    ----------
    world : World
        Where to drive.
    """

    def __init__(self, world: World) -> None:
        import mujoco

        self._mujoco = mujoco
        self.world = world
        self.model = world.compile(textures=False)
        self.data = mujoco.MjData(self.model)
        car = self.model.body("car").id
        self._is_car = self.model.body_rootid[self.model.geom_bodyid] == car
        self._ground = self.model.geom("ground").id
        self.reset()

    def reset(self, s: float = 0.0, lateral: float = 0.0, heading: float = 0.0) -> None:
        """Put the robot at rest at arc length `s` m, `lateral` m left of the path, `heading` rad off its direction."""
        (x, y), yaw, _ = self.world.path.at(s)
        x, y, yaw = x - lateral * math.sin(yaw), y + lateral * math.cos(yaw), yaw + heading
        self._mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:7] = (x, y, 0.002, math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))
        self._mujoco.mj_forward(self.model, self.data)
        self.distance = 0.0
        self.collisions = 0
        self._last_contact = -math.inf
        self._ticks = 0
        self._owed = 0.0

    def step(self, duration: float, steering: float, speed: float) -> None:
        """Hold a command for `duration` s: front wheel angle (rad, left positive) and speed (m/s)."""
        self.data.ctrl[:2] = ackermann(steering)
        self.data.ctrl[2:] = differential(speed, steering)
        self._owed += duration / self.model.opt.timestep
        steps = int(self._owed + 1e-6)
        self._owed -= steps
        for _ in range(steps):
            self._mujoco.mj_step(self.model, self.data)
            self.distance += self.speed * self.model.opt.timestep
            if self.data.ncon:
                self._watch_contacts()
        self._ticks += steps
        if self.world.half_road is not None and abs(self._off_centre()) > self.world.half_road:
            self._count_collision()

    def push(self, lateral_velocity: float) -> None:
        """Kick the robot to its left (m/s, negative: right)."""
        yaw = self.pose[2]
        self.data.qvel[:2] += lateral_velocity * np.array([-math.sin(yaw), math.cos(yaw)])

    def _off_centre(self) -> float:
        return self.world.centreline.project(*self.pose[:2])[1]

    def _watch_contacts(self) -> None:
        for g1, g2 in self.data.contact.geom[: self.data.ncon]:
            other = g2 if self._is_car[g1] else g1
            if other != self._ground and not self._is_car[other]:
                self._count_collision()

    def _count_collision(self) -> None:
        if self.data.time - self._last_contact > _REPEAT_S:
            self.collisions += 1
        self._last_contact = self.data.time

    @property
    def time_ns(self) -> int:
        """Simulated time since the reset, ns."""
        return round(self._ticks * self.model.opt.timestep * 1e9)

    @property
    def qpos(self) -> np.ndarray:
        """Generalised positions; the first seven are the car's position (m) and quaternion (w, x, y, z)."""
        return self.data.qpos

    @property
    def pose(self) -> tuple[float, float, float]:
        """Rear axle x, y in m and yaw in rad."""
        x, y, _, w, i, j, k = self.data.qpos[:7]
        return float(x), float(y), math.atan2(2 * (w * k + i * j), 1 - 2 * (j * j + k * k))

    def pose_in_car(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        """Place (3,) in m and quaternion (4,) x, y, z, w of a body of the car, in the car's frame."""
        mj, car, part = self._mujoco, self.data.body("car"), self.data.body(body)
        back, place, turn = np.empty(4), np.empty(3), np.empty(4)
        mj.mju_negQuat(back, car.xquat)
        mj.mju_rotVecQuat(place, part.xpos - car.xpos, back)
        mj.mju_mulQuat(turn, back, part.xquat)
        return place, turn[[1, 2, 3, 0]]

    @property
    def speed(self) -> float:
        """Forward speed, m/s."""
        yaw = self.pose[2]
        return float(self.data.qvel[0] * math.cos(yaw) + self.data.qvel[1] * math.sin(yaw))

    @property
    def twist(self) -> tuple[float, float]:
        """Forward speed (m/s) and yaw rate (rad/s)."""
        return self.speed, float(self.data.qvel[5])

    @property
    def steering(self) -> float:
        """Mean angle of the front wheels, rad."""
        return float((self.data.joint("fl_steer").qpos[0] + self.data.joint("fr_steer").qpos[0]) / 2)

    @property
    def lateral_error(self) -> float:
        """Signed distance of the rear axle to the reference path, m, left positive."""
        return self.world.path.project(*self.pose[:2])[1]
