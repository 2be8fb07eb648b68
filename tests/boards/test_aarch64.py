"""The runtime on the Arm processors of RB5 and Jetson Nano, executed under emulation (docs/board-checks.md).

Emulated time says nothing about a board and is never printed.
"""

from functools import partial

import numpy as np
import pytest

from edgeflock.export.nets import EMOTION_NETS, STEERING_NETS
from edgeflock.runtime.bundle.bundle import Bundle, default_bundle
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.frame import FramePreprocess

FP32 = 1e-5

pytestmark = pytest.mark.parametrize("profile", ["rb5", "nano"])


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open(default_bundle())


def test_runtime_verifies_the_shipped_bundle_and_answers_its_references(profile, emulate, bundle, checked, tmp_path):
    rng = np.random.default_rng(1)
    frames = {
        "rgb8-camera": rng.integers(0, 256, (480, 640, 3), np.uint8),
        "bgr8-odd": rng.integers(0, 256, (241, 427, 3), np.uint8),
        "mono8-small": rng.integers(0, 256, (120, 160), np.uint8),
    }
    np.savez(tmp_path / "frames.npz", **frames)
    precisions = [p for p in ("int8", "fp32") if p in bundle.manifest.artefacts]

    told = emulate(
        *(profile, "bookworm", "site-runtime", "runtime.py"),
        *(bundle.path, ",".join(precisions), tmp_path / "frames.npz", tmp_path / "prepared.npz"),
    )

    assert (told["machine"], told["engine"]) == ("aarch64", "onnxruntime-cpu")
    assert told["deviations"]["fp32"] <= FP32
    assert told["deviations"]["int8"] <= bundle.manifest.outputs[0].tolerance
    prepare = FramePreprocess(bundle.manifest.inputs[0])
    with np.load(tmp_path / "prepared.npz") as prepared:
        for name, frame in frames.items():
            np.testing.assert_array_equal(prepared[name], prepare(frame, name.split("-")[0]), err_msg=name)
        fisheye = Intrinsics(640, 480, 300.0, 300.0, 322.0, 236.0, "equidistant", (-0.02, 0.004, -0.002, 0.0003))
        prepare.look_through(bundle.manifest.trained_camera, fisheye, Mount(height=0.25, pitch=0.3, yaw=0.05))
        np.testing.assert_array_equal(prepared["view"], prepare(frames["rgb8-camera"]))
    where = f"aarch64, {profile} profile, ONNX Runtime {told['onnxruntime']}"
    count = len(bundle.vectors()["image"])
    for precision in precisions:
        worst = f"{count} reference answers, largest distance {told['deviations'][precision]:.1e}"
        checked(where, bundle.manifest.net, precision, "executed under emulation", f"shipped bundle verified, {worst}")
    checked(where, bundle.manifest.net, "grey, resize, crop, view", "executed under emulation", "bit-equal with x86")


def test_integers_of_int8_are_those_of_x86(
    profile, emulate, here, answer, integers, same_integers, bundle, nets, checked
):
    models = {bundle.manifest.net: (bundle.artefact("int8"), {"image": bundle.vectors()["image"]})}
    for net in (*STEERING_NETS, *EMOTION_NETS):
        if net not in models and nets.path(net, "int8").is_file():
            models[net] = (nets.path(net, "int8"), nets.feeds(net))
    exposed = [integers(path) for path, _ in models.values()]
    feeds = [given for _, given in models.values()]

    _, expected = answer(here, exposed, feeds)
    told, got = answer(partial(emulate, profile, "bookworm", "site-runtime"), exposed, feeds)

    where = f"aarch64, {profile} profile, ONNX Runtime {told['onnxruntime']}"
    for net, path, mine, theirs in zip(models, exposed, expected, got, strict=True):
        said = same_integers(path, mine, theirs)
        checked(where, net, "int8", "executed under emulation", f"against x86: {said}")
