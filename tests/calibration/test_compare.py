"""The comparison ranks methods by what they do to the answers, on a net whose ranges decide."""

import numpy as np
import onnx
from onnxruntime import InferenceSession
from onnxruntime.quantization import QDQQuantizer, QuantType

from edgeflock.calibration.compare import compare


def quantize(model, ranges):
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "Relu"],
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


def predict(model, feeds):
    session = InferenceSession(model.SerializeToString())
    return {"y": np.concatenate([session.run(["y"], {"x": x[None]})[0] for x in feeds["x"]])}


def test_one_spike_costs_minmax_what_the_others_keep(small_net, tmp_path):
    rng = np.random.default_rng(0)
    draws = [{"x": rng.normal(0, 1, (16, 2, 256, 256)).astype(np.float32)} for _ in range(2)]
    for draw in draws:
        draw["x"][3, 0, 5, 5] = 300  # one of 2 million values, 18 behind the convolution
    validation = {"x": rng.normal(0, 1, (2, 2, 256, 256)).astype(np.float32)}
    steps = []
    rows = compare(
        small_net((1, 2, 256, 256), layers=1),
        draws,
        validation,
        quantize,
        predict,
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
