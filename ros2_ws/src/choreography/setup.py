from pathlib import Path

from setuptools import setup

setup(
    name="choreography",
    version="0.1.0",
    packages=["choreography"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/choreography"]),
        ("share/choreography", ["package.xml"]),
        ("share/choreography/launch", [str(p) for p in Path("launch").glob("*.launch.py")]),
    ],
    install_requires=["setuptools"],  # checked at every start: what pip installs elsewhere must not be listed
    zip_safe=False,
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "choreography_node = choreography.choreography_node:main",
            "tracker_node = choreography.tracker_node:main",
        ]
    },
)
