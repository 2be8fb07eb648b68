from setuptools import setup

setup(
    name="edgeflock_lab",
    version="0.1.0",
    packages=["edgeflock_lab", "edgeflock_lab.demo"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/edgeflock_lab"]),
        ("share/edgeflock_lab", ["package.xml"]),
    ],
    install_requires=["setuptools"],  # checked at every start: what pip installs elsewhere must not be listed
    zip_safe=False,
    license="Apache-2.0",
)
