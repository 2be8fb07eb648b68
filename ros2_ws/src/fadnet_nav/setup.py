from pathlib import Path

from setuptools import setup

setup(
    name="fadnet_nav",
    version="0.1.0",
    packages=["fadnet_nav"],
    package_data={"fadnet_nav": ["config/*", "viewers/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/fadnet_nav"]),
        ("share/fadnet_nav", ["package.xml"]),
        ("share/fadnet_nav/launch", [str(p) for p in Path("launch").glob("*.launch.py")]),
        *((f"share/fadnet_nav/{d}", [str(p) for p in Path("fadnet_nav", d).iterdir()]) for d in ("config", "viewers")),
    ],
    install_requires=["setuptools"],  # checked at every start: what pip installs elsewhere must not be listed
    extras_require={"test": ["pytest"]},  # how colcon test knows of test/
    zip_safe=False,
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "steering_node = fadnet_nav.steering_node:main",
            "guard_node = fadnet_nav.guard_node:main",
            "recorder_node = fadnet_nav.recorder_node:main",
            "composed = fadnet_nav.composed:main",
        ]
    },
)
