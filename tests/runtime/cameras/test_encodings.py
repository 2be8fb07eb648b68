"""Every encoding that ROS cameras send becomes the same pixels; what cannot is refused with what can."""

import array
import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgeflock.runtime.cameras.encodings import (
    COLOR_ENCODINGS,
    DEPTH_ENCODINGS,
    decode_color,
    decode_depth,
    decode_rgb,
    is_color,
    is_depth,
    rows,
)
from edgeflock.runtime.errors import InputError


def raw(pixels, encoding, padding=0, big=False):
    """An Image as rclpy has it: its data are an array of bytes."""
    pixels = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    height = pixels.shape[0]
    lines = np.pad(np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1), ((0, 0), (0, padding)))
    return SimpleNamespace(
        encoding=encoding,
        height=height,
        width=pixels.shape[1],
        step=lines.shape[1],
        is_bigendian=int(big),
        data=array.array("B", lines.tobytes()),
    )


def compressed(data, kind="jpeg"):
    return SimpleNamespace(format=kind, data=np.frombuffer(data, np.uint8))


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture
def image():
    """Smooth, so that halved chroma and mosaics lose little: red rises to the right, blue downwards."""
    y, x = np.mgrid[0:48, 0:64]
    return np.dstack([40 + 3 * x, np.full_like(x, 120), 40 + 4 * y]).astype(np.uint8)


def packed(image, luma_first):
    return cv2.cvtColor(image, cv2.COLOR_RGB2YUV_YUY2 if luma_first else cv2.COLOR_RGB2YUV_UYVY)


def planar(image, v_first):
    i420 = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    height, width = image.shape[:2]
    u, v = i420[height:].reshape(2, -1, width // 2)
    return np.vstack([i420[:height], np.dstack([v, u] if v_first else [u, v]).reshape(-1, width)])


def mosaic(image, pattern):
    out = np.empty(image.shape[:2], np.uint8)
    for n, letter in enumerate(pattern):
        y, x = divmod(n, 2)
        out[y::2, x::2] = image[y::2, x::2, "rgb".index(letter)]
    return out


def alpha(image):
    return np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])


def wide(image):
    return image.astype(np.uint16) * 257


EXACT = {
    "rgb8": lambda i: i,
    "bgr8": lambda i: i[..., ::-1],
    "8UC3": lambda i: i[..., ::-1],
    "rgba8": alpha,
    "bgra8": lambda i: alpha(i[..., ::-1]),
    "8UC4": lambda i: alpha(i[..., ::-1]),
    "rgb16": wide,
    "bgr16": lambda i: wide(i[..., ::-1]),
    "rgba16": lambda i: wide(alpha(i)),
    "bgra16": lambda i: wide(alpha(i[..., ::-1])),
}
NEAR = {
    "yuv422": lambda i: packed(i, luma_first=False),
    "uyvy": lambda i: packed(i, luma_first=False),
    "yuv422_yuy2": lambda i: packed(i, luma_first=True),
    "yuyv": lambda i: packed(i, luma_first=True),
    **{f"bayer_{p}8": lambda i, p=p: mosaic(i, p) for p in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{p}16": lambda i, p=p: wide(mosaic(i, p)) for p in ("rggb", "bggr", "gbrg", "grbg")},
}
GREY = {"mono8": lambda i: i[..., 0], "8UC1": lambda i: i[..., 0], "mono16": lambda i: wide(i[..., 0])}
PLANES = {"nv12": lambda i: planar(i, v_first=False), "nv21": lambda i: planar(i, v_first=True)}


def test_no_encoding_is_left_untried():
    assert set(COLOR_ENCODINGS) == {*EXACT, *NEAR, *GREY, *PLANES}


@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", [*EXACT, *GREY])
def test_colours_come_out_as_they_were(image, encoding, padding, big):
    expected = np.dstack([image[..., 0]] * 3) if encoding in GREY else image
    message = raw({**EXACT, **GREY}[encoding](image), encoding, padding, big)
    np.testing.assert_array_equal(decode_rgb(message), expected)
    assert is_color(message) and not is_depth(message)


@pytest.mark.parametrize("encoding", NEAR)
def test_mosaics_and_halved_chroma_come_out_near(image, encoding):
    got = decode_rgb(raw(NEAR[encoding](image), encoding, padding=6)).astype(int)
    assert np.abs(got - image)[2:-2, 2:-2].max() <= 12


@pytest.mark.parametrize("encoding", PLANES)
def test_planes_below_the_picture_are_its_colours(image, encoding):
    message = raw(PLANES[encoding](image), encoding)
    message.height = 48  # of the picture; the message has half as many rows more
    assert np.abs(decode_rgb(message).astype(int) - image)[2:-2, 2:-2].max() <= 12


def test_what_nets_take_is_a_view(image):
    for encoding, pixels in (("rgb8", image), ("bgr8", image), ("mono8", image[..., 0])):
        message = raw(pixels, encoding, padding=4)
        got, name = decode_color(message)
        assert name == encoding and np.shares_memory(got, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize("kind", ["jpeg", "rgb8; jpeg compressed bgr8", "bgr8; png compressed bgr8", ""])
def test_compressed_colour_keeps_its_colours(image, kind):
    data = png(image[..., ::-1])
    np.testing.assert_array_equal(decode_rgb(compressed(data, kind)), image)
    assert decode_color(compressed(png(image[..., 0]), kind))[1] == "mono8"


@pytest.mark.parametrize("name", ["empty", "jpeg cut in half", "png cut in half", "no image"])
def test_broken_compressed_images_are_refused(image, name):
    jpg = cv2.imencode(".jpg", image)[1].tobytes()
    data = {
        "empty": b"",
        "jpeg cut in half": jpg[: len(jpg) // 2],
        "png cut in half": png(image)[:60],
        "no image": b"x" * 99,
    }
    with pytest.raises(InputError, match=rf"expected a whole JPEG or PNG image, got {len(data[name])} bytes"):
        decode_rgb(compressed(data[name]))
    with pytest.raises(InputError, match="expected a whole JPEG or PNG image"):
        decode_depth(compressed(data[name], "16UC1; compressedDepth png"))


def test_a_refusal_lists_only_what_is_accepted_for_that_purpose(image):
    with pytest.raises(
        InputError, match=r"expected a colour image, got '16UC1': that is a depth image.*Read are rgb8,"
    ) as refused:
        decode_color(raw(image[..., 0].astype(np.uint16), "16UC1"))
    assert "32FC1" not in str(refused.value)
    with pytest.raises(
        InputError, match=r"depth, got 'rgb8': that is a colour image.*Read are 16UC1, mono16, 32FC1, 64FC1"
    ):
        decode_depth(raw(image, "rgb8"))
    for encoding in ("32SC3", "RGB8", ""):
        with pytest.raises(InputError, match=rf"got '{encoding}': set another format"):
            decode_color(raw(image, encoding))


@pytest.mark.parametrize("name", ["short", "narrow", "no rows", "odd"])
def test_messages_that_do_not_fit_their_size_are_refused(image, name):
    message = raw(image, "rgb8")
    if name == "short":
        message.data = message.data[:-1]
    elif name == "narrow":
        message.step = 191
    elif name == "no rows":
        message.height, message.data = 0, array.array("B")
    else:
        message = raw(packed(image, True)[:, :63], "yuv422_yuy2")
    with pytest.raises(InputError, match=r"rows of at least|message is empty|an even width"):
        decode_color(message)


MM = np.array([[0, 1, 499, 2000], [65535, 20000, 3, 1500]], np.uint16)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", DEPTH_ENCODINGS)
def test_depth_is_millimetres(encoding, big, padding):
    dtype = {"32FC1": np.float32, "64FC1": np.float64}.get(encoding)
    pixels = MM if dtype is None else (MM / 1000).astype(dtype)
    got = decode_depth(raw(pixels, encoding, padding, big))
    assert got.dtype == np.uint16 and got.dtype.isnative
    np.testing.assert_array_equal(got, MM)


def test_values_that_are_no_distance_are_no_measurement():
    metres = np.float32([[np.nan, np.inf, -np.inf, -1.0, 70.0, 0.0]])
    assert decode_depth(raw(metres, "32FC1")).tolist() == [[0, 65535, 0, 0, 65535, 0]]


def test_compressed_depth_in_millimetres():
    header = struct.pack("<iff", 0, 0, 0)
    for message in (
        compressed(header + png(MM), "16UC1; compressedDepth png"),
        compressed(header + png(MM), "16UC1; compressedDepth"),
        compressed(png(MM), "16UC1; png compressed"),
    ):
        np.testing.assert_array_equal(decode_depth(message), MM)
        assert is_depth(message) and not is_color(message)


def test_compressed_metres_are_inverse_depth_by_the_numbers_of_their_header():
    """compressed_depth_image_transport stores a / depth + b, here with its defaults of 100 and 10 m."""
    metres, a, b = np.float32([[0.5, 1.0, 2.0, 4.0, 9.5]]), 10100.0, -1009.0
    stored = np.rint(a / metres + b).astype(np.uint16)
    stored = np.hstack([stored, np.zeros((1, 1), np.uint16)])  # 0: no measurement
    message = compressed(struct.pack("<iff", 0, a, b) + png(stored), "32FC1; compressedDepth png")
    np.testing.assert_allclose(decode_depth(message), [[500, 1000, 2000, 4000, 9500, 0]], atol=5)


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (struct.pack("<iff", 0, 0, 0) + png(MM), "32FC1; compressedDepth png", "broken header"),
        (png(MM), "32FC1; png compressed", "with its header"),
        (bytes(12) + b"\x01" * 99, "16UC1; compressedDepth rvl", "set the publisher's parameter"),
        (bytes(12) + png(MM.astype(np.uint8)), "16UC1; compressedDepth png", "16-bit PNG, got uint8"),
        (cv2.imencode(".jpg", MM.astype(np.uint8))[1].tobytes(), "16UC1; jpeg compressed mono8", "JPEG does not keep"),
    ],
)
def test_depth_that_cannot_be_read_says_what_to_do(data, kind, why):
    with pytest.raises(InputError, match=why):
        decode_depth(compressed(data, kind))


def test_rows_is_a_view_without_the_padding():
    data = np.arange(3 * 8, dtype=np.uint8)
    image = rows(data, 3, 3, 8, np.dtype("<u2"))
    assert image.shape == (3, 3) and image.base is not None and np.shares_memory(image, data)
    assert image[1].tolist() == [8 + 9 * 256, 10 + 11 * 256, 12 + 13 * 256]


@pytest.mark.parametrize(("length", "step"), [(23, 8), (24, 5), (0, 8)])
def test_too_few_bytes_are_refused(length, step):
    with pytest.raises(InputError, match="3 rows of at least 6 bytes"):
        rows(np.zeros(length, np.uint8), 3, 3, step, np.dtype("<u2"))
