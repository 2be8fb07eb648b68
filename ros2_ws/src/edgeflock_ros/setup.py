from pathlib import Path

from setuptools import setup

setup(
    name="edgeflock_ros",
    version="0.1.0",
    packages=["edgeflock_ros"],
    package_data={"edgeflock_ros": ["config/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/edgeflock_ros"]),
        ("share/edgeflock_ros", ["package.xml"]),
        ("share/edgeflock_ros/launch", [str(p) for p in Path("launch").glob("*.launch.py")]),
        ("share/edgeflock_ros/config", [str(p) for p in Path("edgeflock_ros/config").iterdir()]),
    ],
    install_requires=["setuptools"],  # checked at every start: what pip installs elsewhere must not be listed
    zip_safe=False,
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"{node} = edgeflock_ros.{node}:main" for node in ("camera_node", "net_node", "registration_node")
        ]
    },
)
