from pathlib import Path

from setuptools import setup

setup(
    name="fleet_exchange",
    version="0.1.0",
    packages=["fleet_exchange"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/fleet_exchange"]),
        ("share/fleet_exchange", ["package.xml"]),
        ("share/fleet_exchange/launch", [str(p) for p in Path("launch").glob("*.launch.py")]),
    ],
    install_requires=["setuptools"],  # checked at every start: what pip installs elsewhere must not be listed
    zip_safe=False,
    license="Apache-2.0",
    entry_points={"console_scripts": ["fleet_node = fleet_exchange.fleet_node:main"]},
)
