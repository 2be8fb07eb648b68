"""The processes of one robot, for the launch file and for `edgeflock drive`; see `edgeflock_ros.nodes`."""

from __future__ import annotations

from typing import Any

from edgeflock_ros import nodes
from edgeflock_ros.nodes import NodeProcess

CAMERAS = ("sim", *nodes.KINDS, "none")
WORLDS = ("indoor", "outdoor", "tape", "indoor-wide", "outdoor-wide")  # fadnet_sim's: a robot need not have it


def robot(
    camera: str,
    camera_path: str = "",
    *,
    net: dict[str, Any] | None = None,
    composed: bool = False,
    use_sim: bool | None = None,
    world: str = "indoor",
    seed: int = 2,
    require_depth: bool | None = None,
    use_sim_time: bool = False,
    more_readers: int = 0,
    record: str = "",
    camera_info_url: str = "",
    frames: dict[str, Any] | None = None,
) -> list[NodeProcess]:
    """Simulated base, steering, guard, recorder and camera, in the order in which they are started.

    Parameters
    ----------
    camera : str
        Of `CAMERAS`; none: the images come from somebody else.
    camera_path : str
        Recording or device.
    net : dict, optional
        Parameters of the steering node.
    composed : bool
        Camera and steering in one process.
    use_sim : bool, optional
        Start the simulated base; None: with the simulated camera.
    world, seed
        Of the simulation.
    require_depth : bool, optional
        Of the guard; None: a video has no depth, for other cameras what the parameter file says.
    use_sim_time : bool
        Time comes from /clock.
    more_readers : int
        Nodes besides these for which the first image of a recording has to wait.
    record : str
        Data folder for what a person drives; empty: nothing is recorded.
    camera_info_url : str
        File of the camera's lens; empty: what the camera knows.
    frames : dict, optional
        Parameters of the nodes that name frames.

    Raises
    ------
    ValueError
        Arguments that do not go together, or a path at which there is nothing.
    """
    simulated = camera == "sim"
    if camera_path and camera in ("sim", "none"):
        raise ValueError(f"camera_path: the camera {camera} has none, got {camera_path}: leave it out.")
    if camera_info_url and camera in ("sim", "none"):
        raise ValueError(f"camera_info_url: it is for a camera of the robot, got camera:={camera}: leave it out.")
    if composed and camera in ("sim", "none"):
        raise ValueError(f"composed: expected a camera of the robot, got camera:={camera}: leave composed out.")
    clock = {"use_sim_time": True} if use_sim_time else {}
    frames = frames or {}
    place: dict[str, Any] = {"world": world, "seed": seed, **frames}
    steering = {**(net or {}), **clock, **frames}
    guard: dict[str, Any] = {**clock, **frames}
    if require_depth is not None or camera == "video":
        guard["require_depth"] = bool(require_depth)

    processes = []
    if use_sim or (use_sim is None and simulated):  # it is the clock, or goes by the wall's: no simulated time for it
        processes.append(NodeProcess("fadnet_sim", "base_node", {"base": place}, again=False))
    if not composed:
        processes.append(NodeProcess("fadnet_nav", "steering_node", {"steering": steering}))
    processes.append(NodeProcess("fadnet_nav", "guard_node", {"guard": guard}, delay_s=0.2))
    if record:
        processes.append(NodeProcess("fadnet_nav", "recorder_node", {"recorder": {"folder": record, **clock}}))
    if simulated:
        processes.append(NodeProcess("fadnet_sim", "camera_node", {"camera": {**place, **clock}}))
    elif camera != "none":
        readers = more_readers + (not composed) + bool(record)
        lens = {"camera_info_url": camera_info_url} if camera_info_url else {}
        eye = nodes.camera(camera, camera_path, readers, depth_readers=1, **lens, **clock, **frames)
        if composed:
            both = {**eye.parameters, "steering": steering}
            eye = NodeProcess("fadnet_nav", "composed", both, again=eye.again)
        processes.append(eye)
    return processes
