"""From frame to emotions: what a robot sees, with the bundle that ships, and everything that can go wrong."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from edgeflock.export.datasets.synthetic.faces import EMOTIONS, each_scene
from edgeflock.runtime.errors import EngineError, InputError
from edgeflock.runtime.faces import Face
from edgeflock.runtime.faces.pipeline import EmotionPipeline

MS = 1_000_000


class Given:
    """Detector whose faces are known beforehand."""

    def __init__(self, *boxes) -> None:
        self.boxes = boxes

    def __call__(self, image, encoding="rgb8"):
        return [Face(tuple(map(float, box)), 1.0) for box in self.boxes]


@pytest.fixture
def pipeline(shipped, haar):
    return EmotionPipeline(shipped, haar)


def left_to_right(results):
    return sorted(results, key=lambda result: result.face.box[0])


def test_everybody_is_found_read_and_keeps_an_id(pipeline, shipped, crowd) -> None:
    ids = []
    for n, frame in enumerate(crowd.frames):
        results = left_to_right(pipeline(frame, "rgb8", n * 33 * MS))
        ids.append([result.face.id for result in results])
        for result in results:
            [alone] = shipped(frame, [result.face.box])
            assert result.emotion.distribution == result.distribution == pytest.approx(alone.distribution, abs=1e-6)
            assert (result.label, result.confidence) == (alone.label, pytest.approx(alone.confidence, abs=1e-6))
            assert (result.valence, result.arousal) == (None, None)  # this net does not give them
            assert result.emotion.attention.shape == (7, 7)
    assert len(ids[0]) == 4 and ids == [ids[0]] * len(ids)
    assert set(pipeline.spent_ns) == {"detect", "track", "prepare", "net"} and min(pipeline.spent_ns.values()) > 0


def test_the_shipped_net_reads_synthetic_faces_that_the_detector_found(pipeline) -> None:
    """Chance is 1 in 7. Says nothing about people: all of them are rendered."""
    right = []
    for n, (frame, (x1, _, x2, _), label, *_) in enumerate(each_scene(28, 11, (480, 640))):
        for result in pipeline(frame, "rgb8", n * 10**10):
            if abs(result.face.box[0] + result.face.box[2] - x1 - x2) < x2 - x1:  # found where the face is
                right.append(result.label == EMOTIONS[label])
    assert len(right) >= 14 and np.mean(right) > 0.5


LIGHT = {
    "grey": lambda image: (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), "mono8"),
    "half as bright": lambda image: ((image * 0.5).astype(np.uint8), "rgb8"),
    "a quarter as bright, grey": lambda image: (cv2.cvtColor(image // 4, cv2.COLOR_RGB2GRAY), "mono8"),
    "warm": lambda image: (np.clip(image * np.array([1.15, 1.0, 0.75]), 0, 255).astype(np.uint8), "rgb8"),
    "cold": lambda image: (np.clip(image * np.array([0.8, 1.0, 1.2]), 0, 255).astype(np.uint8), "rgb8"),
    "bright": lambda image: (np.clip(image * 1.5, 0, 255).astype(np.uint8), "rgb8"),
}


@pytest.fixture(scope="module")
def lit():
    """Scenes that training has not seen."""
    return list(each_scene(56, 11, (480, 640)))


@pytest.mark.parametrize("change", LIGHT.values(), ids=LIGHT)
def test_the_shipped_net_reads_grey_frames_and_other_light_as_well(shipped, lit, change) -> None:
    right = {"as it is": 0, "changed": 0}
    for image, box, label, _ in lit:
        for name, (seen, encoding) in (("as it is", (image, "rgb8")), ("changed", change(image))):
            right[name] += shipped(seen, [box], encoding)[0].label == EMOTIONS[label]
    assert right["as it is"] > 0.6 * len(lit) and right["changed"] > 0.75 * right["as it is"]


def test_encodings_agree(shipped, haar, crowd) -> None:
    frame = crowd.frames[0]
    rgb, bgr = (
        EmotionPipeline(shipped, haar)(image, encoding, 0)
        for image, encoding in ((frame, "rgb8"), (np.ascontiguousarray(frame[:, :, ::-1]), "bgr8"))
    )
    assert [r[:1] + r[2:] for r in rgb] == [r[:1] + r[2:] for r in bgr]
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    three = EmotionPipeline(shipped, haar)(np.repeat(grey[:, :, None], 3, 2), "rgb8", 0)
    one = EmotionPipeline(shipped, haar)(grey, "mono8", 0)
    assert len(one) == 4 and [r[2:] for r in one] == [r[2:] for r in three]


# ---- smoothing


def test_answers_are_smoothed_over_time_per_face(shipped, crowd) -> None:
    given = Given(crowd.boxes[0][0], crowd.boxes[0][3])
    pipeline = EmotionPipeline(shipped, given, smoothing_s=0.5)
    first = pipeline(crowd.frames[0], "rgb8", 0)
    assert all(r.distribution == pytest.approx(r.emotion.distribution) for r in first)
    dark = crowd.frames[0] // 4
    second = pipeline(dark, "rgb8", 200 * MS)
    keep = math.exp(-0.2 / 0.5)
    for before, now in zip(first, second, strict=True):
        assert now.emotion.distribution != pytest.approx(before.emotion.distribution, abs=1e-3)
        for label, value in now.distribution.items():
            expected = keep * before.distribution[label] + (1 - keep) * now.emotion.distribution[label]
            assert value == pytest.approx(expected, abs=1e-6)
        assert sum(now.distribution.values()) == pytest.approx(1, abs=1e-5)
        assert now.confidence == now.distribution[now.label] == max(now.distribution.values())


def test_somebody_new_starts_afresh_and_those_who_left_are_forgotten(shipped, crowd) -> None:
    given = Given(crowd.boxes[0][0])
    pipeline = EmotionPipeline(shipped, given, smoothing_s=10)
    pipeline(crowd.frames[0], "rgb8", 0)
    [late] = pipeline(crowd.frames[0] // 4, "rgb8", 5_000 * MS)
    assert late.face.id == 1 and late.distribution == pytest.approx(late.emotion.distribution)
    given.boxes = ()
    pipeline(crowd.frames[0], "rgb8", 10_000 * MS)
    assert pipeline._states == {}


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_other_time_constants_are_refused(shipped, haar, seconds) -> None:
    with pytest.raises(InputError, match="time constant"):
        EmotionPipeline(shipped, haar, smoothing_s=seconds)


# ---- bad input


def test_a_frame_without_a_face_has_no_answer(pipeline) -> None:
    assert pipeline(np.full((480, 640, 3), 120, np.uint8), "rgb8", 0) == []
    assert pipeline.spent_ns["net"] == 0


def test_faces_cut_by_the_border_are_answered(shipped, crowd) -> None:
    boxes = [(-60, 100, 60, 240), (600, -30, 700, 120), (300, 420, 400, 560), (-500, -500, 1200, 1000)]
    results = EmotionPipeline(shipped, Given(*boxes))(crowd.frames[0], "rgb8", 0)
    assert len(results) == 4
    assert all(sum(result.distribution.values()) == pytest.approx(1, abs=1e-5) for result in results)


def test_a_face_that_ends_up_outside_the_frame_is_none(shipped, crowd) -> None:
    """A detector's square at the border can do so when it is made the head's."""
    pipeline = EmotionPipeline(shipped, Given((700, 0, 760, 60), (10, -60, 70, 0), (100, 100, 200, 220)))
    assert [result.face.box[0] for result in pipeline(crowd.frames[0], "rgb8", 0)] == [100]


@pytest.mark.parametrize(
    ("image", "encoding", "message"),
    [
        (np.zeros((1, 1, 3), np.uint8), "rgb8", "at least 8"),
        (np.zeros((1, 1), np.uint8), "mono8", "at least 8"),
        (np.zeros((480, 640), np.uint8), "rgb8", r"shape \(H, W, 3\)"),
        (np.zeros((480, 640, 3), np.uint8), "mono8", r"shape \(H, W\)"),
        (np.zeros((480, 640, 4), np.uint8), "rgb8", r"shape \(H, W, 3\)"),
        (np.zeros((480, 640, 3), np.uint8), "rgba8", "encoding must be one of"),
        (np.zeros((480, 640, 3), np.float32), "rgb8", "uint8"),
        (None, "rgb8", "numpy array"),
    ],
)
def test_what_is_no_image_is_refused_and_the_next_frame_is_answered(pipeline, crowd, image, encoding, message) -> None:
    before = pipeline(crowd.frames[0], "rgb8", 0)
    with pytest.raises(InputError, match=message):
        pipeline(image, encoding, 33 * MS)
    after = pipeline(crowd.frames[0], "rgb8", 66 * MS)
    assert [r.face for r in after] == [r.face for r in before]


def test_forty_faces_are_all_answered(shipped, crowd) -> None:
    boxes = [(80 * i + 5, 96 * j + 5, 80 * i + 75, 96 * j + 90) for i in range(8) for j in range(5)]
    results = EmotionPipeline(shipped, Given(*boxes))(crowd.frames[0], "rgb8", 0)
    assert [result.face.id for result in results] == list(range(40))
    assert len({tuple(result.distribution.values()) for result in results}) == 40


@pytest.mark.parametrize("output", ["probabilities", "attention"])
def test_a_net_that_answers_nan_is_an_error_and_ids_go_on(shipped, haar, crowd, monkeypatch, output) -> None:
    pipeline = EmotionPipeline(shipped, haar, smoothing_s=1.0)
    before = pipeline(crowd.frames[0], "rgb8", 0)
    run = shipped.engine.run

    def broken() -> None:
        run()
        shipped.outputs[output][0].flat[0] = np.nan

    with monkeypatch.context() as patched:
        patched.setattr(shipped.engine, "run", broken)
        with pytest.raises(EngineError, match=f"answered {output} .*nan"):
            pipeline(crowd.frames[0], "rgb8", 33 * MS)
    after = pipeline(crowd.frames[0], "rgb8", 66 * MS)
    assert [r.face for r in after] == [r.face for r in before]
    assert all(np.isfinite(list(r.distribution.values())).all() for r in after)
