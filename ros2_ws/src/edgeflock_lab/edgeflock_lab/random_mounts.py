"""Cameras as other robots wear them, and what the canonical view makes of their frames: borders, stretched uprights."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from edgeflock.runtime.bundle.manifest import TrainedCamera
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.frame import HEIGHT, WIDTH
from edgeflock.runtime.prepare.view import CanonicalView
from fadnet_sim.layout import log_uniform
from fadnet_sim.scene import CameraLook

TRAINED = TrainedCamera(height=0.4, pitch=math.radians(8.5), fovy=math.radians(86))
"""The middle of the cameras that worlds have."""

OWN = 0.25  # share of the episodes in which the camera stays where the world has it
HEIGHTS = (0.12, 1.0)  # m
PITCHES, YAWS, ROLLS, LENSES = (0.0, 28.0), (-4.0, 4.0), (-3.0, 3.0), (58.0, 112.0)  # degrees
COVERED = 0.7  # a camera that sees less of the view than this is no camera to steer by
MEASURED = 0.05, 1.5  # how wrongly a mount is measured: share of the height, degrees of every angle


def random_look(look: CameraLook, rng: np.random.Generator) -> CameraLook:
    """A camera as another robot may wear it, or this one as it is."""
    if rng.random() < OWN:
        return look
    while True:
        worn = replace(
            look,
            height=log_uniform(rng, *HEIGHTS),
            pitch=math.radians(rng.uniform(*PITCHES)),
            yaw=math.radians(rng.uniform(*YAWS)),
            roll=math.radians(rng.uniform(*ROLLS)),
            fovy=math.radians(rng.uniform(*LENSES)),
        )
        if view_of(worn.mount, Intrinsics.of_lens(WIDTH, HEIGHT, worn.fovy)).coverage >= COVERED:
            return worn


def as_measured(mount: Mount, rng: np.random.Generator) -> Mount:
    """The mount as its owner would measure it."""
    share, turn = MEASURED[0], math.radians(MEASURED[1])
    pitch, yaw, roll = np.array([mount.pitch, mount.yaw, mount.roll]) + rng.uniform(-turn, turn, 3)
    return Mount(height=mount.height * (1 + rng.uniform(-share, share)), pitch=pitch, yaw=yaw, roll=roll)


def view_of(mount: Mount, camera: Intrinsics) -> CanonicalView:
    """What brings frames of this camera to the whole picture of the trained one."""
    return CanonicalView(TRAINED, camera, mount, (0, 0, WIDTH, HEIGHT), (WIDTH, HEIGHT))


def in_view(color: np.ndarray, view: CanonicalView) -> np.ndarray:
    """A frame (h, w, 3) uint8 RGB as the trained camera would see it: uint8 (240, 320), as data sets store it."""
    grey = np.empty((HEIGHT, WIDTH), np.uint8)
    view(cv2.cvtColor(np.ascontiguousarray(color[view.seen]), cv2.COLOR_RGB2GRAY), grey)
    return grey
