"""The packages of the distribution: found in the rooms, so that a new folder ships without being listed."""

from setuptools import find_packages, setup

ROOMS = {f"edgeflock.{room}": room for room in ("runtime", "calibration", "export")} | {
    package: f"ros2_ws/src/{package}/{package}"
    for package in (
        "edgeflock_ros",
        "fadnet_nav",
        "emotion_recognition",
        "fleet_exchange",
        "choreography",
        "fadnet_sim",
        "edgeflock_lab",
    )
}

setup(
    package_dir=ROOMS,
    packages=[
        name for room, folder in ROOMS.items() for name in (room, *(f"{room}.{p}" for p in find_packages(folder)))
    ],
)
