"""Pictures, arrays and data sets become samples."""

import wave

import cv2
import numpy as np
import pytest

from edgeflock.export.foreign.frames import open_frames
from edgeflock.export.foreign.meaning import Meaning, Taken
from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.recording.dronet import DronetWriter


def image(color="rgb", **told):
    shape = (1, 1 if color == "grey" else 3, 12, 16)
    return [Taken.of("x", shape, "float32", Meaning(color=color, **told), None)]


@pytest.fixture
def red(tmp_path):
    """Three pictures, all red, and their classes."""
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((24, 32, 3), (0, 0, 200 + i), np.uint8))
    (tmp_path / "labels.csv").write_text("file,label\n0.png,2\n1.png,0\n2.png,1\n")
    return tmp_path


def test_pictures_get_the_nets_size_and_colours(red):
    frames = open_frames(red).samples(image())
    assert frames.feeds["x"].shape == (3, 3, 12, 16)
    assert frames.feeds["x"][0, :, 0, 0].tolist() == [200, 0, 0]
    assert open_frames(red).samples(image("bgr")).feeds["x"][0, :, 0, 0].tolist() == [0, 0, 200]
    assert frames.labels["label"].tolist() == [2, 0, 1] and frames.names[1] == "1.png"


def test_classes_go_by_their_names_where_the_labels_are_named(red, tmp_path):
    (red / "labels.csv").write_text("file,label\n0.png,Stop\n1.png,go\n2.png,stop\n")
    named = open_frames(red, labels=["slow", "go", "stop"])
    assert named.samples(image()).labels["label"].tolist() == [2, 1, 2]
    for name in ("stop", "go"):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "sorted" / name / "0.png"), np.zeros((24, 32, 3), np.uint8))
    folders = tmp_path / "sorted"
    assert open_frames(folders).samples(image()).labels["label"].tolist() == [0, 1]
    assert open_frames(folders, labels=["stop", "go"]).samples(image()).labels["label"].tolist() == [1, 0]
    with pytest.raises(InputError, match="'stop' is none of the --labels go, slow"):
        open_frames(folders, labels=["go", "slow"])


def test_masks_beside_pictures_are_labels_of_pixels(red):
    (red / "labels.csv").unlink()
    (red / "masks").mkdir()
    for i in range(3):
        cv2.imwrite(str(red / "masks" / f"{i}.png"), np.full((12, 16), i, np.uint8))
    assert open_frames(red).samples(image()).labels["label"][:, 0, 0].tolist() == [0, 1, 2]
    (red / "masks" / "1.png").unlink()
    with pytest.raises(DataError, match=r"the class of each pixel of 1\.png"):
        open_frames(red).samples(image())


def test_sounds_are_cut_into_what_the_net_takes(tmp_path):
    samples = (np.arange(2500) % 100 * 100).astype(np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.stack([samples, samples], 1).tobytes())
    sound = [Taken.of("s", (1, 1000), "float32", Meaning(kind="audio", rate=8000), None)]
    found = open_frames(tmp_path).samples(sound)
    assert found.feeds["s"].shape == (2, 1000) and found.names == ["a.wav[0]", "a.wav[1]"]
    np.testing.assert_array_equal(found.feeds["s"][1], samples[1000:2000] / np.float32(2**15))
    for kind, said in (
        ({"kind": "audio", "rate": 16000}, "expected 16000 samples a second .* got 8000 of 16"),
        ({"kind": "vector"}, "say --kind audio"),
    ):
        with pytest.raises(InputError, match=said):
            open_frames(tmp_path).samples([Taken.of("s", (1, 1000), "float32", Meaning(**kind), None)])


def test_scans_get_the_nets_grid(tmp_path):
    nib = pytest.importorskip("nibabel")
    grey = np.random.default_rng(0).random((8, 10, 12))
    nib.save(nib.Nifti1Image(grey * 700 - 100, np.eye(4)), tmp_path / "a.nii.gz")
    scan = [Taken.of("v", (1, 1, 4, 5, 6), "float32", Meaning(kind="volume"), None)]
    feed = open_frames(tmp_path).samples(scan).feeds["v"]
    assert feed.shape == (1, 1, 4, 5, 6) and 0 <= feed.min() < 0.4 < 0.6 < feed.max() <= 1


def test_a_bag_gives_its_colour_frames_without_a_steering_topic(write_bag, tmp_path):
    red = np.full((24, 32, 3), (200, 0, 0), np.uint8)
    bag = write_bag(tmp_path / "bag", [("camera/image_raw", 10**18 + i * 10**8, ("rgb8", red)) for i in range(3)])
    samples = open_frames(bag).samples(image())
    assert samples.feeds["x"].shape == (3, 3, 12, 16) and samples.feeds["x"][0, :, 0, 0].tolist() == [200, 0, 0]
    assert samples.labels == {} and samples.names[2].endswith("[2]")


def test_fewer_are_chosen_where_fewer_are_wanted(red):
    assert len(open_frames(red).samples(image(), 2)) == 2


def test_arrays_of_bytes_are_pictures_of_any_size_and_others_are_taken_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 24, 32, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels, h=np.ones((2, 4), np.float32), label=np.array([1, 0]))
    state = Taken.of("h", (1, 4), "float32", Meaning(), np.dtype("float32"))
    samples = open_frames(tmp_path / "a.npz").of(["x", "h"]).samples([*image(), state])
    assert samples.feeds["x"].shape == (2, 3, 12, 16) and samples.feeds["h"].dtype == np.float32
    assert samples.labels["label"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arrays", "error", "said"),
    [
        ({"y": np.zeros((2, 4))}, InputError, "for each of the inputs h, got y"),
        ({"h": np.zeros((2, 5))}, InputError, r"is \[2, 5\]: expected \[N, 4\]"),
        ({"h": np.full((2, 4), np.nan)}, DataError, "holds NaN or infinity at 0"),
        ({"h": np.array(["a"])}, InputError, "expected"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, error, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(error, match=said):
        open_frames(tmp_path / "a.npz").of(["h"]).samples([Taken.of("h", (1, 4), "float32", Meaning(), None)])


def test_a_recording_of_driving_gives_grey_frames_with_their_angles(tmp_path):
    with DronetWriter(tmp_path / "drive" / "lane_1", {"world": "lanes", "seed": 1}) as writer:
        for angle in (0.1, -0.2):
            writer.add(np.full((240, 320), 90, np.uint8), angle, 1.0, 0.0, 0.0, 0.0)
    samples = open_frames(tmp_path / "drive").samples(image())
    assert (samples.feeds["x"] == 90).all()
    np.testing.assert_allclose(samples.labels["angle"], [0.1, -0.2], atol=1e-6)


def test_what_is_missing_is_named(tmp_path, red):
    with pytest.raises(InputError, match="nothing is there"):
        open_frames(tmp_path / "nowhere")
    (red / "labels.csv").write_text("file,label\n0.png,2\n")
    with pytest.raises(DataError, match=r"none for 1\.png and 1 more"):
        open_frames(red)
    with pytest.raises(DataError, match="npz"):
        (tmp_path / "b.npz").write_bytes(b"PK\x03\x04")
        open_frames(tmp_path / "b.npz")
