"""Frame to emotions: detector, tracker, net, and smoothing over time."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.faces.detector import FaceDetector
from edgeflock.runtime.faces.face import Face
from edgeflock.runtime.faces.tracker import FaceTracker
from edgeflock.runtime.prepare.frame import Encoding
from edgeflock.runtime.tasks.emotion import Emotion, EmotionRecognizer


class FaceEmotion(NamedTuple):
    """A face and what it shows."""

    face: Face
    emotion: Emotion
    """The net's answer to this frame alone."""
    distribution: dict[str, float]
    """Smoothed over time; by label, in the order of the bundle's."""
    label: str
    """The most probable one, of the smoothed distribution."""
    confidence: float
    """Its probability."""
    valence: float | None
    """-1..1, smoothed; None where the net does not give it."""
    arousal: float | None


class EmotionPipeline:
    """All faces of a frame, by id, with what they show.

    Parameters
    ----------
    recognizer : EmotionRecognizer
    detector : FaceDetector
    tracker : FaceTracker, optional
    smoothing_s : float
        Time constant of the exponential smoothing of each face's answers, by the frames' stamps; 0 is none.

    Attributes
    ----------
    spent_ns : dict of str to int
        What the last frame cost: "detect", "track" (with smoothing), "prepare", "net".
    """

    def __init__(
        self,
        recognizer: EmotionRecognizer,
        detector: FaceDetector,
        tracker: FaceTracker | None = None,
        smoothing_s: float = 0.0,
    ) -> None:
        if not 0 <= smoothing_s < math.inf:
            raise InputError(f"smoothing_s is a time constant in seconds, 0 for none, got {smoothing_s}.")
        self.recognizer, self.detector = recognizer, detector
        self.tracker = tracker or FaceTracker()
        self.smoothing_s = smoothing_s
        self.spent_ns = dict.fromkeys(("detect", "track", "prepare", "net"), 0)
        self._states: dict[int, tuple[int, np.ndarray]] = {}

    def __call__(self, image: np.ndarray, encoding: Encoding, stamp_ns: int) -> list[FaceEmotion]:
        """Answer one frame.

        Parameters
        ----------
        image : ndarray
            uint8, (H, W, 3) for rgb8 and bgr8 or (H, W) for mono8; not changed, not kept.
        encoding : {"rgb8", "bgr8", "mono8"}
        stamp_ns : int
            When the frame was taken.

        Returns
        -------
        list of FaceEmotion
            The largest face first; empty where there is none.

        Raises
        ------
        InputError
            The image is none of these.
        EngineError
            The net failed; ids and smoothing then go on from the frame before.
        """
        begun = time.perf_counter_ns()
        # A box may lie just outside the frame once it was made the head's.
        found = [face for face in self.detector(image, encoding) if _visible(face.box, *image.shape[:2])]
        detected = time.perf_counter_ns()
        emotions = self.recognizer(image, [face.box for face in found], encoding, [face.roll for face in found])
        read = time.perf_counter_ns()
        faces = self.tracker(found, stamp_ns)
        answers = [self._smoothed(face, emotion, stamp_ns) for face, emotion in zip(faces, emotions, strict=True)]
        self._states = {id_: state for id_, state in self._states.items() if id_ in self.tracker.ids}
        self.spent_ns = {
            "detect": detected - begun,
            "track": time.perf_counter_ns() - read,
            "prepare": read - detected - self.recognizer.net_ns,
            "net": self.recognizer.net_ns,
        }
        return answers

    def _smoothed(self, face: Face, emotion: Emotion, stamp_ns: int) -> FaceEmotion:
        values = np.array([*emotion.distribution.values(), *(emotion.affect or ())])
        if self.smoothing_s and face.id is not None:
            if face.id in self._states:
                before_ns, before = self._states[face.id]
                values += math.exp((before_ns - stamp_ns) / 1e9 / self.smoothing_s) * (before - values)
            self._states[face.id] = stamp_ns, values
        count = len(emotion.distribution)
        distribution = dict(zip(emotion.distribution, values[:count].tolist(), strict=True))
        label = max(distribution, key=distribution.__getitem__)
        valence, arousal = values[count:].tolist() if emotion.affect else (None, None)
        return FaceEmotion(face, emotion, distribution, label, distribution[label], valence, arousal)


def _visible(box: tuple[float, float, float, float], height: int, width: int) -> bool:
    x1, y1, x2, y2 = box
    return x1 < width and y1 < height and x2 > 0 and y2 > 0
