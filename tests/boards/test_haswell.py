"""An x86 board with AVX2 and without VNNI, where INT8 saturates silently unless ONNX Runtime is told; checks.md 5."""

import numpy as np

from edgeflock.runtime.bundle.bundle import Bundle, default_bundle


def test_engine_notices_the_missing_vnni_and_answers_as_elsewhere(emulate_haswell, here, checked, tmp_path):
    bundle = Bundle.open(default_bundle())
    np.savez(tmp_path / "frames.npz", **{"rgb8-camera": np.zeros((480, 640, 3), np.uint8)})
    arguments = (bundle.path, "int8", tmp_path / "frames.npz", tmp_path / "prepared.npz")

    told = emulate_haswell("runtime.py", *arguments)

    assert told["deviations"]["int8"] <= 1e-6
    checked(
        f"x86-64 Haswell, ONNX Runtime {told['onnxruntime']}, x64quantprecision",
        *(bundle.manifest.net, "int8", "executed under emulation"),
        f"shipped bundle verified, largest distance {told['deviations']['int8']:.1e}",
    )


def test_without_the_engines_help_it_saturates(emulate_haswell, here, answer, integers, checked):
    bundle = Bundle.open(default_bundle())
    models, feeds = [integers(bundle.artefact("int8"))], [{"image": bundle.vectors()["image"][:4]}]

    _, (expected,) = answer(here, models, feeds)
    told, (exact,) = answer(emulate_haswell, models, feeds, {"session.x64quantprecision": "1"})
    _, (fast,) = answer(emulate_haswell, models, feeds)

    for k, (mine, theirs) in enumerate(zip(expected, exact, strict=True)):
        if mine.dtype != np.float32:
            np.testing.assert_array_equal(theirs, mine, err_msg=f"integer tensor {k}")
    wrong = sum(not np.array_equal(mine, theirs) for mine, theirs in zip(expected, fast, strict=True))
    assert wrong, "nothing saturates here: either the check has no teeth, or ONNX Runtime no longer needs the option"
    where = f"x86-64 Haswell, ONNX Runtime {told['onnxruntime']}"
    said = "executed under emulation"
    checked(f"{where}, x64quantprecision", bundle.manifest.net, "int8", said, "every integer bit-equal with VNNI")
    error = float(np.abs(fast[0] - expected[0]).max())
    checked(f"{where}, without it", bundle.manifest.net, "int8", said, f"saturates as expected, off by {error:.2g}")
