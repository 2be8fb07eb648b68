"""The simulated car for RViz and Foxglove: its URDF."""

from __future__ import annotations

from .car import CHASSIS, WHEEL_RADIUS, WHEEL_WIDTH, WHEELS

_VISUAL = (
    '<visual><origin xyz="{xyz}" rpy="{rpy}"/><geometry>{shape}</geometry>'
    '<material name="{name}"><color rgba="{rgba}"/></material></visual>'
)


def urdf() -> str:
    """robot_description: `base_link` with the chassis, and a link per wheel, whose pose the base tells TF.

    The camera is not in it: whoever knows the mount tells TF (`edgeflock_ros.frames`).
    """
    (x, y, z), half = CHASSIS
    box = f'<box size="{" ".join(str(2 * side) for side in half)}"/>'
    body = _VISUAL.format(xyz=f"{x} {y} {z}", rpy="0 0 0", shape=box, name="red", rgba="0.8 0.15 0.1 1")
    tyre = f'<cylinder radius="{WHEEL_RADIUS}" length="{WHEEL_WIDTH}"/>'
    wheel = _VISUAL.format(xyz="0 0 0", rpy="1.5708 0 0", shape=tyre, name="black", rgba="0.1 0.1 0.1 1")
    parts = [f'<link name="base_link">{body}</link>']
    for name, (ahead, left) in WHEELS.items():
        parts.append(
            f'<link name="{name}">{wheel}</link><joint name="{name}_wheel" type="floating"><parent link="base_link"/>'
            f'<child link="{name}"/><origin xyz="{ahead} {left} {WHEEL_RADIUS}"/></joint>'
        )
    return f'<?xml version="1.0"?><robot name="fadnet_sim">{"".join(parts)}</robot>'
