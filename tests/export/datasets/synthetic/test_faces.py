"""Rendered faces and scenes: repeatable, balanced, different from each other, and what the emotion changes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeflock.export.datasets.synthetic.faces import (
    EMOTIONS,
    each_face,
    each_scene,
    expression,
    rendered_faces,
    rendered_scenes,
    shown_affect,
)
from edgeflock.export.datasets.synthetic.head import ACTION_UNITS, Head
from edgeflock.runtime.errors import InputError


def test_a_seed_gives_the_same_images_and_a_longer_set_begins_like_a_shorter() -> None:
    for render, size in ((rendered_faces, 48), (rendered_scenes, (60, 80))):
        short, long, other = render(5, 7, size), render(9, 7, size), render(5, 8, size)
        assert all(np.array_equal(a, b[:5]) for a, b in zip(short, long, strict=True))
        assert not np.array_equal(short[0], other[0])


def test_every_emotion_comes_equally_often() -> None:
    labels = rendered_faces(21, 1, 32)[1]
    assert np.bincount(labels, minlength=len(EMOTIONS)).tolist() == [3] * len(EMOTIONS)
    assert len(set(labels[:7])) == 7


def test_images_are_rgb_pictures_of_their_own() -> None:
    images, labels = rendered_faces(8, 2, 64)
    assert images.shape == (8, 64, 64, 3) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert images.reshape(8, -1).std(1).min() > 15
    distance = np.abs(images[:, None].astype(int) - images[None]).mean((2, 3, 4))
    assert distance[~np.eye(8, dtype=bool)].min() > 10


def test_boxes_lie_in_the_frame_around_the_face() -> None:
    images, boxes, _ = rendered_scenes(14, 3)
    assert images.shape == (14, 240, 320, 3)
    x1, y1, x2, y2 = boxes.T
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= 320).all() and (y2 <= 240).all()
    assert ((x2 - x1) > 20).all() and ((y2 - y1) > 60).all()


def drawn(**units: float) -> np.ndarray:
    """The same person with these action units, 128x128 in grey."""
    person = Head.random(np.random.default_rng(0), units)
    person.yaw = person.pitch = person.roll = person.skew = 0.0
    person.gaze, person.hair_style, person.glasses, person.beard = (0.0, 0.0), 0, False, False
    canvas = np.full((128, 128, 3), 128, np.uint8)
    person.draw(canvas, (64, 64), 60)
    return canvas.mean(2)


@pytest.mark.parametrize(
    ("unit", "rows"),
    [
        ("AU1", (20, 60)),
        ("AU4", (30, 65)),
        ("AU5", (48, 68)),
        ("AU12", (65, 112)),
        ("AU15", (80, 118)),
        ("AU26", (80, 128)),
    ],
)
def test_an_action_unit_changes_its_part_of_the_face_alone(unit: str, rows: tuple[int, int]) -> None:
    change = np.abs(drawn(**{unit: 1.0}) - drawn()) > 8
    inside = change[slice(*rows)]
    assert inside.sum() > 20 and change.sum() == inside.sum()


def test_every_action_unit_shows() -> None:
    neutral = drawn()
    assert [unit for unit in ACTION_UNITS if np.abs(drawn(**{unit: 1.0}) - neutral).max() < 20] == []


def test_expressions_vary_between_people_and_stay_in_range() -> None:
    some = [expression("Fear", np.random.default_rng(seed)) for seed in range(20)]
    strengths = np.array([[units[name] for name in ACTION_UNITS] for units in some])
    assert strengths.min() >= 0 and strengths.max() <= 1.2
    assert strengths[:, list(ACTION_UNITS).index("AU5")].min() > 0.35 and strengths.std(0).min() > 0


def felt(emotion: str) -> np.ndarray:
    """Valence and arousal of 60 faces of one emotion."""
    return np.array([shown_affect(expression(emotion, np.random.default_rng(seed))) for seed in range(60)])


def test_a_face_without_expression_lies_in_the_centre_and_intensity_leads_outwards() -> None:
    calm = dict.fromkeys(ACTION_UNITS, 0.0)
    assert shown_affect(calm) == (0, 0)
    half, full = (np.array(shown_affect(calm | {"AU6": 0.9 * k, "AU12": k, "AU25": 0.6 * k})) for k in (0.5, 1.0))
    assert np.allclose(full, (0.76, 0.48)) and np.allclose(half, full / 2)


def test_emotions_lie_in_their_quarters_of_the_circumplex() -> None:
    signs = {
        "Happy": (1, 1),
        "Surprise": (1, 1),
        "Anger": (-1, 1),
        "Fear": (-1, 1),
        "Disgust": (-1, 1),
        "Sad": (-1, -1),
    }
    for emotion, (valence, arousal) in signs.items():
        mean = felt(emotion).mean(0)
        assert mean[0] * valence > 0.2 and mean[1] * arousal > 0.1, emotion
    assert np.linalg.norm(felt("Neutral").mean(0)) < 0.1


def test_faces_of_one_emotion_differ_in_affect_and_mostly_lie_among_their_own() -> None:
    points = np.concatenate([felt(emotion) for emotion in EMOTIONS])
    labels = np.repeat(np.arange(len(EMOTIONS)), 60)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + 9 * np.eye(len(points))
    assert np.abs(points).max() <= 1 and distance.min() > 0
    same = labels[np.argsort(distance)[:, :8]] == labels[:, None]
    assert 0.8 < same.mean() < 0.98  # near enough to help, not so near that the label stands in it


def test_portraits_and_scenes_come_with_the_affect_of_the_face() -> None:
    means = np.array([felt(emotion).mean(0) for emotion in EMOTIONS])
    for each in (each_face(14, 4, 48), each_scene(14, 4, (60, 80))):
        assert all(np.linalg.norm(means[label] - affect) < 0.4 for *_, label, affect in each)


@pytest.mark.parametrize("render", [lambda: rendered_faces(3, 0, 16), lambda: rendered_scenes(3, 0, (64, 16))])
def test_images_too_small_for_a_face_are_refused(render) -> None:
    with pytest.raises(InputError, match="at least 32 pixels on a side, got 16"):
        render()
