"""What merging the ranges of a fleet is worth, on robots whose places differ in brightness."""

import numpy as np
import pytest

from edgeflock.export.shared_calibration import compare_ranges, worth
from edgeflock.runtime.errors import InputError


def test_a_place_that_a_robot_never_saw_costs_it_what_merged_ranges_keep(small_net, tmp_path):
    def place(scale, seed, count=16):
        return {"x": np.random.default_rng(seed).normal(0, scale, (count, 2, 16, 16)).astype(np.float32)}

    calibration = {"dim": place(1, 1), "bright": place(20, 2)}
    validation = {name: (place(*of), np.zeros((16, 1, 1))) for name, of in {"dim": (1, 3), "bright": (20, 4)}.items()}
    steps = []
    rows, exact = compare_ranges(
        small_net((1, 2, 16, 16), layers=2), calibration, validation, "int8", "entropy",
        cache=tmp_path, on_progress=lambda *step: steps.append(step[:2]),
    )  # fmt: skip
    found = {row.robot: row for row in rows}
    assert exact and steps[-1] == (4, 4)
    assert all(row.merged == row.centralised for row in rows)
    assert found["bright"].worst_other > 5 * found["bright"].own  # clipped at what was seen in the dim
    assert found["bright"].merged < found["bright"].worst_other / 10
    assert found["dim"].own < found["dim"].worst_other  # steps as wide as the bright needs


def test_one_robot_alone_has_nobody_to_merge_with(tmp_path):
    with pytest.raises(InputError, match="two robots or more"):
        worth([tmp_path])
