"""A board whose ONNX Runtime is years old: 1.16.3, Python 3.9, glibc 2.31, executed under emulation.

It guards opset, IR version and opset_import: one operator set that nobody uses and the file is refused.
"""

from functools import partial

import numpy as np
import onnx
import pytest

from edgeflock.runtime.bundle.bundle import Bundle, default_bundle


def test_shipped_bundle_answers_the_same_on_onnxruntime_1_16(emulate, here, answer, integers, same_integers, checked):
    bundle = Bundle.open(default_bundle())
    feeds = {"image": bundle.vectors()["image"][:4]}
    models = [integers(bundle.artefact("int8")), bundle.artefact("fp32")]

    _, (int8, fp32) = answer(here, models, [feeds, feeds])
    told, (old_int8, old_fp32) = answer(partial(emulate, "rb5", "bullseye", "site-old"), models, [feeds, feeds])

    assert told["onnxruntime"] == "1.16.3"
    distance = np.abs(old_fp32[0] - fp32[0]).max()
    assert distance <= 1e-5
    where = "aarch64, bullseye, ONNX Runtime 1.16.3"
    said = same_integers(models[0], int8, old_int8)
    checked(where, bundle.manifest.net, "int8", "executed under emulation", f"against today's x86: {said}")
    said = f"against today's x86: answers within {distance:.1g}"
    checked(where, bundle.manifest.net, "fp32", "executed under emulation", said)


def test_it_would_notice_an_operator_set_that_nobody_uses(emulate, answer, tmp_path):
    bundle = Bundle.open(default_bundle())
    model = onnx.load(bundle.artefact("fp32"))
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 5))
    onnx.save(model, tmp_path / "stamped.onnx")

    with pytest.raises(AssertionError, match=r"ai\.onnx\.ml"):
        answer(
            partial(emulate, "rb5", "bullseye", "site-old"),
            [tmp_path / "stamped.onnx"],
            [{"image": bundle.vectors()["image"][:1]}],
        )
