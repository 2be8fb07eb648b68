"""Faces in frames: found (detector), followed from frame to frame (tracker), read (pipeline) and drawn (draw)."""

from __future__ import annotations

from edgeflock.runtime.faces.detector import FaceDetector, open_detector
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.faces.tracker import FaceTracker

__all__ = ["Face", "FaceDetector", "FaceTracker", "open_detector"]
