from pathlib import Path

from setuptools import setup

setup(
    name="emotion_recognition",
    version="0.1.0",
    packages=["emotion_recognition"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/emotion_recognition"]),
        ("share/emotion_recognition", ["package.xml"]),
        ("share/emotion_recognition/launch", [str(p) for p in Path("launch").glob("*.launch.py")]),
    ],
    install_requires=["setuptools"],  # checked at every start: what pip installs elsewhere must not be listed
    zip_safe=False,
    license="Apache-2.0",
    entry_points={"console_scripts": ["emotion_node = emotion_recognition.emotion_node:main"]},
)
