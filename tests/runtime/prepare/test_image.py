"""A picture of any size becomes the image input of any net."""

import cv2
import numpy as np
import pytest

from edgeflock.runtime.bundle.manifest import ImageInput
from edgeflock.runtime.errors import InputError
from edgeflock.runtime.prepare.image import PADDING, ImagePreprocess


def spec(color="rgb", crop=None, size=(16, 12), **changes):
    channels = 1 if color == "grey" else 3
    fields = {"resize": size, "crop": crop, "interpolation": "linear_exact", "range": (0, 255)}
    return ImageInput(name="x", shape=(1, channels, *size[::-1]), color=color, **(fields | changes))


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def test_stretched_is_what_opencv_resizes(picture):
    expected = cv2.resize(picture, (16, 12), interpolation=cv2.INTER_LINEAR_EXACT).transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(ImagePreprocess(spec())(picture), expected)


def test_every_encoding_becomes_the_colours_that_the_net_takes(picture):
    rgb = ImagePreprocess(spec())(picture).copy()
    np.testing.assert_array_equal(ImagePreprocess(spec())(picture[..., ::-1], "bgr8"), rgb)
    np.testing.assert_array_equal(ImagePreprocess(spec("bgr"))(picture), rgb[:, ::-1])
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    one = ImagePreprocess(spec("grey"))(picture)
    np.testing.assert_array_equal(one, ImagePreprocess(spec("grey"))(grey, "mono8"))
    np.testing.assert_array_equal(ImagePreprocess(spec())(grey, "mono8"), np.repeat(one, 3, 1))


def test_centre_keeps_the_aspect_and_cuts_the_sides(picture):
    wide = np.concatenate([np.zeros((24, 8, 3), np.uint8), picture, np.zeros((24, 8, 3), np.uint8)], 1)
    np.testing.assert_array_equal(ImagePreprocess(spec(crop="centre"))(wide), ImagePreprocess(spec())(picture))


def test_letterbox_keeps_the_aspect_and_fills_with_grey(picture):
    prepare = ImagePreprocess(spec(crop="letterbox", size=(16, 16)))
    got = prepare(picture)
    np.testing.assert_array_equal(got[:, :, 2:14], ImagePreprocess(spec())(picture))
    assert (got[:, :, :2] == PADDING).all() and (got[:, :, 14:] == PADDING).all()
    tall = prepare(picture.transpose(1, 0, 2))
    assert (tall[..., :2] == PADDING).all() and not (tall[:, :, :2, 2:14] == PADDING).all()


@pytest.mark.parametrize(
    "other",
    [
        spec(crop="bottom"),
        spec(resize=(8, 8)),
        spec(range=(0, 1)),
        spec(interpolation="cubic"),
    ],
)
def test_a_preparation_that_is_not_known_is_refused(other):
    with pytest.raises(InputError, match="expected one image"):
        ImagePreprocess(other)
