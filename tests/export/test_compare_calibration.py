"""The comparison ranks methods by what they do to the answers, on a net whose ranges decide."""

import numpy as np

from edgeflock.export.compare_calibration import compare_methods


def test_one_spike_costs_minmax_what_the_others_keep(small_net, tmp_path):
    rng = np.random.default_rng(0)
    draws = [{"x": rng.normal(0, 1, (16, 2, 256, 256)).astype(np.float32)} for _ in range(2)]
    for draw in draws:
        draw["x"][3, 0, 5, 5] = 300  # one of 2 million values, 18 behind the convolution
    validation = {"x": rng.normal(0, 1, (2, 2, 256, 256)).astype(np.float32)}
    steps = []
    rows = compare_methods(
        small_net((1, 2, 256, 256), layers=1),
        draws,
        validation,
        "int8",
        cache=tmp_path,
        on_progress=lambda *step: steps.append(step[:2]),
    )
    found = {row.method: row for row in rows}
    assert list(found)[:5] == ["minmax", "moving-average", "percentile", "entropy", "mse"]
    assert steps[-1] == (18, 18)
    assert all(len(row.sqnr_db) == 2 for row in rows)
    assert found["minmax"].sqnr_db == found["ONNX Runtime minmax"].sqnr_db
    for better in ("percentile", "entropy", "mse"):
        assert min(found[better].sqnr_db) > max(found["minmax"].sqnr_db) + 10
        assert found[better].worst < found["minmax"].worst
