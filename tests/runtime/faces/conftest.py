"""Frames of rendered people whose faces the Haar cascade finds, and the recogniser that ships."""

from types import SimpleNamespace

import pytest

from edgeflock.export.datasets.synthetic.crowd import each_crowd_frame
from edgeflock.runtime.faces import open_detector
from edgeflock.runtime.tasks.emotion import EmotionRecognizer


@pytest.fixture(scope="session")
def crowd():
    """Four people, from left to right: `frames` RGB 480x640 and the `boxes` of the heads in each."""
    frames, boxes, _ = zip(*each_crowd_frame(4, 4, seed=0), strict=True)
    return SimpleNamespace(frames=frames, boxes=boxes)


@pytest.fixture(scope="session")
def haar():
    return open_detector("cascade", stream=True)


@pytest.fixture(scope="session")
def shipped():
    """The recogniser of the bundle that ships."""
    return EmotionRecognizer(engine="onnxruntime-cpu")
