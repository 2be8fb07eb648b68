"""Judges of nets of one's own."""

import numpy as np
import pytest

from edgeflock.export.recipe import Samples
from edgeflock.export.recipes.generic import miou
from edgeflock.export.recipes.limits import NetLimits
from edgeflock.runtime.errors import InputError


def pixels(classes):
    """Scores (N, 3, H, W) that name these classes (N, H, W)."""
    return {"map": np.eye(3, dtype=np.float32)[classes].transpose(0, 3, 1, 2)}


def labelled(labels):
    return Samples({"x": np.zeros((len(labels), 1))}, {"label": labels}, [str(i) for i in range(len(labels))], "")


LABELS = np.array([[[0, 0, 1, 1], [0, 0, 1, 255]], [[2, 2, 1, 1], [2, 2, 0, 0]]])


def test_miou_is_the_mean_over_the_classes_that_occur():
    right = np.where(LABELS == 255, 2, LABELS)  # what is ignored may be anything
    verdict = miou(pixels(right), pixels(right), labelled(LABELS), NetLimits())
    assert (verdict.value, verdict.fp32, verdict.passed) == (1, 1, True)
    assert verdict.constant == pytest.approx(6 / 15 / 3)
    worse = right.copy()
    worse[1, 0, 0] = 0
    verdict = miou(pixels(right), pixels(worse), labelled(LABELS), NetLimits())
    assert verdict.value == pytest.approx((6 / 7 + 1 + 3 / 4) / 3)
    assert [c.passed for c in verdict.criteria] == [False, True] and verdict.worst[0].startswith("1: map")


def test_labels_of_another_size_or_class_are_refused():
    right = np.where(LABELS == 255, 2, LABELS)
    for labels, said in ((LABELS[:, :1], "of its size"), (LABELS + 3, "labels 0..2 or 255")):
        with pytest.raises(InputError, match=said):
            miou(pixels(right), pixels(right), labelled(labels), NetLimits())
