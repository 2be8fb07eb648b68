"""The simulated robot: a car with Ackermann steering, 0.5 m long, 0.36 m wheelbase."""

from __future__ import annotations

import math

from .expert import MAX_STEERING, WHEELBASE

WHEEL_RADIUS = 0.07  # m
TRACK = 0.30  # m between the wheels' middles
WHEEL_WIDTH = 0.04  # m
WIDTH = 0.36  # m over the wheels
CHASSIS = (0.18, 0.0, 0.11), (0.25, 0.13, 0.04)  # m: middle and half the sides of the box
WHEELS = {
    "fl": (WHEELBASE, TRACK / 2),
    "fr": (WHEELBASE, -TRACK / 2),
    "rl": (0.0, TRACK / 2),
    "rr": (0.0, -TRACK / 2),
}
"""x and y of each wheel, m."""

_WHEEL = (
    '<joint name="{name}_spin" axis="0 1 0" damping=".01" armature=".002"/>'
    '<geom type="cylinder" size="{r} {half}" euler="1.5708 0 0" mass=".2" friction="1.2" contype="1" conaffinity="1" '
    'rgba=".1 .1 .1 1"/>'
)


def _wheel(name: str, x: float, y: float, steered: bool) -> str:
    wheel = _WHEEL.format(name=name, r=WHEEL_RADIUS, half=WHEEL_WIDTH / 2)
    if not steered:
        return f'<body name="{name}" pos="{x} {y} {WHEEL_RADIUS}">{wheel}</body>'
    return (
        f'<body name="{name}_knuckle" pos="{x} {y} {WHEEL_RADIUS}">'
        f'<joint name="{name}_steer" axis="0 0 1" range="-0.8 0.8" limited="true" armature=".002" damping=".02"/>'
        '<inertial pos="0 0 0" mass=".05" diaginertia="1e-4 1e-4 1e-4"/>'
        f'<body name="{name}">{wheel}</body></body>'
    )


# The frame `car` is the base_link of REP 105 for Ackermann drive: the rear axle's middle, on the ground.
CAR_XML = (
    '<body name="car" pos="0 0 0.002"><freejoint/>'
    f'<geom name="chassis" type="box" pos="{" ".join(map(str, CHASSIS[0]))}" size="{" ".join(map(str, CHASSIS[1]))}" '
    'mass="4" contype="1" conaffinity="1" rgba=".8 .15 .1 1"/>'
    '<camera name="front" pos="{camera_pos}" xyaxes="{camera_axes}" fovy="{camera_fovy}"/>'
    + "".join(_wheel(name, x, y, steered=name.startswith("f")) for name, (x, y) in WHEELS.items())
    + "</body></worldbody><actuator>"
    '<position joint="fl_steer" kp="30" kv=".6"/><position joint="fr_steer" kp="30" kv=".6"/>'
    '<velocity joint="rl_spin" kv="1.5"/><velocity joint="rr_spin" kv="1.5"/></actuator>'
    # Chassis and wheels must not push each other apart.
    "<contact>" + "".join(f'<exclude body1="car" body2="{w}"/>' for w in WHEELS) + "</contact></mujoco>"
)


def ackermann(steering: float) -> tuple[float, float]:
    """Left and right front wheel angle (rad) whose axes meet on the rear axle, for a bicycle angle (rad)."""
    steering = min(max(steering, -MAX_STEERING), MAX_STEERING)
    if abs(steering) < 1e-6:
        return steering, steering
    radius = WHEELBASE / math.tan(steering)
    return math.atan(WHEELBASE / (radius - TRACK / 2)), math.atan(WHEELBASE / (radius + TRACK / 2))


def differential(speed: float, steering: float) -> tuple[float, float]:
    """Left and right rear wheel speed (rad/s) for a speed (m/s) of the rear axle's middle and a bicycle angle (rad)."""
    bias = TRACK / 2 * math.tan(min(max(steering, -MAX_STEERING), MAX_STEERING)) / WHEELBASE
    return speed * (1 - bias) / WHEEL_RADIUS, speed * (1 + bias) / WHEEL_RADIUS
