from setuptools import setup

setup(
    name="fadnet_sim",
    version="0.1.0",
    packages=["fadnet_sim"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/fadnet_sim"]),
        ("share/fadnet_sim", ["package.xml"]),
    ],
    install_requires=["setuptools"],  # checked at every start: what pip installs elsewhere must not be listed
    zip_safe=False,
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["base_node = fadnet_sim.base_node:main", "camera_node = fadnet_sim.camera_node:main"]
    },
)
