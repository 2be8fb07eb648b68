"""A frame becomes the net's input: the same bytes everywhere, nothing allocated, nothing wrong accepted."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.frame import (
    STEERING_INPUT,
    FramePreprocess,
    crop_200,
    crop_source,
    grey_320x240,
    squeezed,
)

GOLDEN = "7da7620d0f9f760a5b87a4c069f7197218326037828b2bc296ad55e603b667e9"


def frame(height=480, width=640, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "note"),
    [
        ((640, 480), None),
        ((320, 238), None),
        ((640, 360), "640x360 are squeezed to 4:3, by 1.33 in width"),
        ((360, 640), "360x640 are squeezed to 4:3, by 2.37 in height"),
    ],
)
def test_frames_that_are_no_four_to_three_are_said(size, note):
    assert (squeezed(*size) is None) if note is None else note in squeezed(*size)


def test_grey_is_the_15_bit_fixed_point_formula_and_halving_is_the_mean_of_four():
    image = frame()
    grey = (image.astype(np.int64) @ [9798, 19235, 3735] + (1 << 14)) >> 15
    # A factor of exactly two puts every sample point in the middle of four pixels; halves round up.
    halved = (grey.reshape(240, 2, 320, 2).sum((1, 3)) + 2) // 4
    assert np.array_equal(grey_320x240(image), halved)


def test_bytes_are_the_recorded_ones_on_every_board():
    # A change of this digest means that frames recorded before no longer match what a robot sees now.
    y, x = np.mgrid[0:376, 0:1241]
    image = np.stack([x * 7 + y * 3, x * x // 5 + y, (x ^ y) * 11], -1).astype(np.uint8)
    assert hashlib.sha256(grey_320x240(image)).hexdigest() == GOLDEN


@pytest.mark.parametrize("size", [(480, 640), (240, 320), (376, 1241), (8, 8), (481, 17)])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_data_sets_and_the_robot_see_the_same_bytes(size, encoding):
    image = frame(*size) if encoding != "mono8" else frame(*size)[..., 0]
    net_input = FramePreprocess()(image, encoding)
    assert net_input.shape == (1, 1, 200, 200) and net_input.dtype == np.float32
    assert np.array_equal(net_input[0, 0], crop_200(grey_320x240(image, encoding)))


def test_the_part_that_the_crop_shows_gives_the_bytes_that_the_whole_frame_gives():
    rng, pre = np.random.default_rng(5), FramePreprocess()
    sizes = [(240 + 6 * n, 320 + 16 * (n * 7 % 121)) for n in range(0, 141, 4)]
    for size in [*sizes, (480, 848), (720, 1280), (1080, 1920), (240, 424), (481, 640), (480, 641), (234, 640)]:
        image = rng.integers(0, 256, size, np.uint8)
        assert np.array_equal(pre(image, "mono8")[0, 0], crop_200(grey_320x240(image, "mono8"))), size


@pytest.mark.parametrize(
    ("size", "seen"), [((480, 640), (slice(80, 480), slice(120, 520))), ((481, 640), None), ((240, 300), None)]
)
def test_half_of_a_usual_frame_is_never_touched(size, seen):
    assert crop_source(*size) == seen


def test_crop_is_centred_and_bottom_aligned():
    y, x = np.mgrid[0:240, 0:320]
    assert (crop_200(y)[0, 0], crop_200(y)[-1, 0]) == (40, 239)
    assert (crop_200(x)[0, 0], crop_200(x)[0, -1]) == (60, 259)


def test_channel_order_matters():
    image = frame()
    assert np.array_equal(grey_320x240(image, "rgb8"), grey_320x240(image[..., ::-1].copy(), "bgr8"))
    assert not np.array_equal(grey_320x240(image, "rgb8"), grey_320x240(image, "bgr8"))


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1],
        lambda a: a[..., ::-1],
        lambda a: a[::2, ::3],
        lambda a: a[5:400, 7:500],
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.broadcast_to(a[:1], a.shape),
        lambda a: np.frombuffer(a.tobytes(), np.uint8).reshape(a.shape),  # read-only, as ROS messages come
        lambda a: np.asfortranarray(a),
    ],
)
@pytest.mark.parametrize("encoding", ["rgb8", "mono8"])
def test_any_strides(view, encoding):
    image = view(frame())
    image = image if encoding == "rgb8" else image[..., 1]
    pre = FramePreprocess()
    assert np.array_equal(pre(image, encoding).copy(), pre(np.ascontiguousarray(image), encoding))


def test_frames_do_not_leak_into_each_other_when_the_size_changes():
    pre = FramePreprocess()
    for size in [(480, 640), (100, 90), (480, 640), (720, 1280)]:
        assert np.array_equal(pre(frame(*size))[0, 0], crop_200(grey_320x240(frame(*size))))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_nothing_is_allocated_per_frame(encoding):
    pre = FramePreprocess()
    image = frame() if encoding != "mono8" else frame()[..., 0].copy()
    first = pre(image, encoding)
    tracemalloc.start()
    try:
        for _ in range(3):
            assert pre(image, encoding) is first
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4096  # views and tuples: the smallest image buffer is 40,000 bytes


@pytest.mark.parametrize(
    ("image", "encoding", "says"),
    [
        (frame(), "rgb16", "rgb8, bgr8, mono8.*'rgb16'"),
        (frame(), "mono8", r"\(H, W\).*\(480, 640, 3\)"),
        (frame()[..., 0], "rgb8", r"\(H, W, 3\).*\(480, 640\)"),
        (np.zeros((480, 640, 4), np.uint8), "rgb8", r"\(H, W, 3\).*\(480, 640, 4\)"),
        (np.zeros((1, 480, 640, 3), np.uint8), "rgb8", r"\(1, 480, 640, 3\)"),
        (np.zeros((0, 640, 3), np.uint8), "rgb8", "at least 8.*"),
        (np.zeros((480, 7), np.uint8), "mono8", "at least 8"),
        (frame().astype(np.float32), "rgb8", "uint8.*float32"),
        (frame().astype(np.uint16), "rgb8", "uint8.*uint16"),
        (frame().tolist()[:8], "rgb8", "numpy array.*list"),
        (None, "rgb8", "numpy array.*NoneType"),
    ],
)
def test_what_is_not_a_frame_is_refused_and_the_message_says_why(image, encoding, says):
    with pytest.raises(InputError, match=says):
        FramePreprocess()(image, encoding)
    with pytest.raises(InputError, match=says):
        grey_320x240(image, encoding)


def test_crop_refuses_other_sizes():
    with pytest.raises(InputError, match="grey_320x240"):
        crop_200(np.zeros((480, 640), np.uint8))


def test_a_manifest_that_asks_for_another_preparation_is_refused():
    with pytest.raises(InputError, match=r"interpolation='area'.*linear_exact"):
        FramePreprocess(STEERING_INPUT.model_copy(update={"interpolation": "area"}))
    assert FramePreprocess(STEERING_INPUT.model_copy(update={"name": "camera"})).spec.name == "camera"
