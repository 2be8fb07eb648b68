"""The policy: a frame in, an angle out, and never an answer that the bundle's own vectors contradict."""

import tracemalloc

import cv2
import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import save

from edgeflock.runtime.bundle.bundle import Bundle, sign_bundle, write_bundle
from edgeflock.runtime.engines import onnxruntime as engine_module
from edgeflock.runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgeflock.runtime.errors import BundleError, BundleFileMissing, InputError, ParityError
from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.mount import Mount
from edgeflock.runtime.prepare.frame import FramePreprocess
from edgeflock.runtime.tasks import open_task
from edgeflock.runtime.tasks.steering import STEERING_OUTPUT, SteeringPolicy


@pytest.fixture
def opened(bundle, key):
    return Bundle.open(bundle, [key.with_suffix(".pub")])


@pytest.fixture
def frame():
    rng = np.random.default_rng(5)
    return cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), (0, 0), 3)


def rebuilt(tmp_path, key, manifest, contents, **vectors):
    if vectors:
        contents = {**contents, "vectors.safetensors": save(vectors)}
    folder = sign_bundle(write_bundle(tmp_path / "rebuilt", manifest, contents), key)
    return Bundle.open(folder, [key.with_suffix(".pub")])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_angle_is_the_nets_answer_to_the_prepared_frame(opened, frame, nets, precision):
    session = onnxruntime.InferenceSession(getattr(nets, precision), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": FramePreprocess()(frame)})[0].item()
    answer = SteeringPolicy(opened, precision)(frame)
    assert answer.angle == pytest.approx(expected, abs=1e-6) and type(answer.angle) is float
    assert 0 < answer.inference_ns < 1e9


def test_the_precision_is_the_manifests_unless_told(opened):
    assert SteeringPolicy(opened).precision == "int8"
    policy = SteeringPolicy(opened, "fp32", threads=2)
    assert (policy.precision, policy.engine.precision, policy.engine.name) == ("fp32", "fp32", "onnxruntime-cpu")


def test_a_folder_is_verified_before_it_is_used(bundle, key, home):
    keys = home / ".config/edgeflock/keys"
    keys.mkdir(parents=True)
    (keys / "test.pub").write_bytes(key.with_suffix(".pub").read_bytes())
    assert SteeringPolicy(bundle).bundle.manifest.name == "test"
    (bundle / "fadnet_int8.onnx").unlink()
    with pytest.raises(BundleFileMissing):
        SteeringPolicy(str(bundle))


def test_the_task_of_a_bundle_is_found_by_its_manifest(tmp_path, key, opened, manifest, contents):
    assert isinstance(open_task(opened), SteeringPolicy)
    manifest.task = "juggling"
    with pytest.raises(BundleError, match=r"task 'juggling', this edgeflock knows .*steering"):
        open_task(rebuilt(tmp_path, key, manifest, contents))


def test_the_example_is_a_frame_that_it_answers(opened):
    policy = SteeringPolicy(opened)
    assert np.isfinite(policy(*policy.example()).angle)


def test_encodings_agree(opened, frame):
    policy = SteeringPolicy(opened)
    rgb = policy(frame, "rgb8").angle
    assert policy(np.ascontiguousarray(frame[..., ::-1]), "bgr8").angle == rgb
    assert policy(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), "mono8").angle == rgb


def test_a_bad_frame_is_refused_and_the_next_good_one_answered(opened, frame):
    policy = SteeringPolicy(opened)
    before = policy(frame).angle
    with pytest.raises(InputError):
        policy(frame.astype(np.float32))
    assert policy(frame).angle == before


def test_no_array_is_allocated_per_frame(opened, frame):
    policy = SteeringPolicy(opened)
    policy(frame)
    tracemalloc.start()
    try:
        for _ in range(5):
            policy(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4096


# ---- reference vectors


def test_on_the_exporting_machine_int8_is_bit_equal(opened):
    assert SteeringPolicy(opened, "int8").deviation == 0
    assert SteeringPolicy(opened, "fp32").deviation < 1e-6


@pytest.mark.parametrize(
    ("precision", "off", "fails"), [("fp32", 2e-5, True), ("int8", 0.005, False), ("int8", 0.02, True)]
)
def test_answers_off_by_more_than_the_tolerance_are_refused(
    tmp_path, key, manifest, contents, nets, precision, off, fails
):
    steering = {f"steering_{p}": y.copy() for p, y in nets.steering.items()}
    steering[f"steering_{precision}"][2] += off
    opened = rebuilt(tmp_path, key, manifest, contents, image=nets.images, **steering)
    if fails:
        with pytest.raises(
            ParityError, match=rf"{precision} answers reference input 2.*Use another precision \(fp32, int8\)"
        ):
            SteeringPolicy(opened, precision)
    else:
        assert SteeringPolicy(opened, precision).deviation == pytest.approx(off, abs=1e-6)


def test_a_cpu_that_computes_wrongly_is_found(opened, monkeypatch):
    class Saturating(OnnxRuntimeEngine):
        def run(self):
            super().run()
            np.clip(self._bound[1]["steering"], -0.01, 0.01, out=self._bound[1]["steering"])

    monkeypatch.setattr(engine_module, "OnnxRuntimeEngine", Saturating)
    with pytest.raises(ParityError):
        SteeringPolicy(opened)


def test_a_net_that_answers_nan_to_its_vectors_is_refused(tmp_path, key, manifest, contents, nets):
    image = nets.images.copy()
    image[1] = np.nan
    steering = {f"steering_{p}": y for p, y in nets.steering.items()}
    with pytest.raises(ParityError, match=r"input 1.*steering nan rad"):
        SteeringPolicy(rebuilt(tmp_path, key, manifest, contents, image=image, **steering), "fp32")


@pytest.mark.parametrize(
    "vectors",
    [
        lambda v: {**v, "image": v["image"][:0], "steering_int8": v["steering_int8"][:0]},
        lambda v: {**v, "image": v["image"][:2]},
        lambda v: {**v, "image": v["image"][..., :100]},
        lambda v: {**v, "steering_int8": v["steering_int8"][:, 0]},
        lambda v: {"image": v["image"], "steering_fp32": v["steering_fp32"]},
        lambda v: {"steering_int8": v["steering_int8"]},
    ],
)
def test_missing_or_misshapen_vectors_are_refused(tmp_path, key, manifest, contents, nets, vectors):
    whole = {"image": nets.images, **{f"steering_{p}": y for p, y in nets.steering.items()}}
    with pytest.raises(BundleError, match=r"vectors\.safetensors.*'steering': \(1,\).*int8"):
        SteeringPolicy(rebuilt(tmp_path, key, manifest, contents, **vectors(whole)), "int8")


# ---- bundles for something else


def test_a_bundle_for_another_task_or_sign_convention_is_refused(tmp_path, key, manifest, contents):
    manifest.task = "emotion"
    with pytest.raises(BundleError, match="task 'emotion'"):
        SteeringPolicy(rebuilt(tmp_path, key, manifest, contents))
    manifest.task, manifest.outputs = "steering", [STEERING_OUTPUT.model_copy(update={"positive": "right"})]
    with pytest.raises(BundleError, match="'positive': 'left'"):
        SteeringPolicy(rebuilt(tmp_path, key, manifest, contents))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_bundle_that_ships_is_trusted_and_answers_its_vectors_here(precision, home):
    policy = SteeringPolicy(precision=precision)
    assert policy.deviation <= (1e-5 if precision == "fp32" else 1e-2)
    assert abs(policy(np.full((480, 640, 3), 128, np.uint8)).angle) < 1


# ---- nets of other size and colour


@pytest.fixture
def wide(wide_bundle, key):
    return SteeringPolicy(wide_bundle, keys=[key.with_suffix(".pub")])


def test_a_net_of_other_size_and_colour_steers_by_the_frames_of_any_camera(wide):
    blue = np.zeros((480, 640, 3), np.uint8)
    blue[..., 2] = 102
    assert wide(blue, "rgb8").angle == pytest.approx(0.4)
    assert wide(blue, "bgr8").angle == pytest.approx(-0.4)
    assert wide(blue[..., 2], "mono8").angle == pytest.approx(0)


def test_its_frames_are_taken_as_they_are(wide):
    with pytest.raises(InputError, match="frames are taken as they are"):
        wide.look_through(Intrinsics.of_lens(640, 480, 1.0), Mount(height=0.3, pitch=0.1))
