"""Choreography from a bundle: music in blocks of any size in, pieces of a steady dance out."""

import itertools
import shutil

import numpy as np
import pytest

from edgeflock.runtime.bundle.bundle import Bundle, read_manifest, sign_bundle, write_bundle
from edgeflock.runtime.bundle.manifest import MANIFEST, SIGNATURE
from edgeflock.runtime.errors import BundleError, DataError, InputError, ParityError
from edgeflock.runtime.tasks import open_task
from edgeflock.runtime.tasks.choreography import FEATURES, MUSIC, Choreographer

SONG = np.random.default_rng(0).normal(0, 0.3, (400, 52)).astype(np.float32)


@pytest.fixture(scope="module")
def task(dance_bundle):
    return open_task(dance_bundle.path, "fp32", keys=[dance_bundle.key])


def places(pieces):
    return np.concatenate([piece.joints() for piece in pieces], 1)


def test_opens_by_the_bundles_task_and_dances_a_chunk(task):
    assert isinstance(task, Choreographer) and task.dancers == 2 and task.deviation < 1e-5
    group = task(*task.example())
    assert group.root.shape == (2, 150, 3)


@pytest.mark.parametrize("frames", [1, 75, 150, 151, 225, 226, 400])
def test_a_dance_is_as_long_as_its_music(task, frames):
    pieces = list(task.stream([SONG[:frames]], steps=2))
    assert sum(map(len, pieces)) == frames
    assert all(len(piece) == 75 for piece in pieces[:-1])


def test_blocks_of_any_size_and_the_same_seed_give_the_same_dance(task):
    whole = places(task.stream([SONG], steps=2, seed=3))
    blocks = np.split(SONG, [1, 90, 91, 91, 260])
    np.testing.assert_array_equal(places(task.stream(blocks, steps=2, seed=3)), whole)
    assert np.abs(places(task.stream([SONG], steps=2, seed=4)) - whole).max() > 1e-3


def test_a_piece_comes_with_the_last_music_of_its_chunk(task):
    asked = []

    def endless():
        for number in itertools.count():
            asked.append(number)
            yield SONG[:75]

    pieces = list(itertools.islice(task.stream(endless(), steps=2), 4))
    assert len(pieces) == 4 and len(asked) == 5


def test_no_joint_jumps_from_piece_to_piece(task):
    at = places(task.stream([SONG], steps=4))
    jumps = np.linalg.norm(np.diff(at, axis=1), axis=-1).max((0, 2))
    borders = jumps[74::75]
    inside = np.delete(jumps, np.arange(74, len(jumps), 75))
    assert borders.max() <= np.percentile(inside, 99)


def test_fewer_dancers_are_the_first_of_the_group(task):
    both, one = (next(task.stream([SONG[:150]], dancers=count, steps=2)) for count in (2, 1))
    np.testing.assert_array_equal(one.root[0], both.root[0])
    for count in (0, 3, 10):
        with pytest.raises(InputError, match=f"expected 1 to 2 dancers .* got {count}"):
            task.stream([SONG], dancers=count)


def test_other_features_are_refused(task):
    with pytest.raises(InputError, match="expected music of 52 features a frame, got"):
        next(task.stream([SONG[:, :35]]))


def test_a_sound_file_is_danced_to_as_it_is_read(task, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "noise.flac", np.random.default_rng(0).normal(0, 0.1, 6 * 15360), 15360)
    assert sum(map(len, task.dance(tmp_path / "noise.flac", steps=2))) == 180
    with pytest.raises(DataError, match="no such file"):
        next(task.dance(tmp_path / "gone.flac"))


def test_music_that_this_board_hears_otherwise_is_refused(dance_bundle, monkeypatch):
    vectors = Bundle.vectors
    monkeypatch.setattr(Bundle, "vectors", lambda bundle: {**vectors(bundle), FEATURES: vectors(bundle)[FEATURES] + 1})
    with pytest.raises(ParityError, match="hears reference music 0"):
        Choreographer(dance_bundle.path, "fp32", keys=[dance_bundle.key])


def test_a_bundle_that_cannot_hear_is_refused(dance_bundle, tmp_path):
    folder = tmp_path / "deaf"
    shutil.copytree(dance_bundle.path, folder)
    manifest, _ = read_manifest(folder)
    left_out = (MANIFEST, SIGNATURE, MUSIC)
    files = {path.name: path for path in dance_bundle.path.iterdir() if path.name not in left_out}
    write_bundle(folder, manifest, files)
    sign_bundle(folder, dance_bundle.private)
    with pytest.raises(BundleError, match=f"lacks {MUSIC}"):
        Choreographer(folder, keys=[dance_bundle.key])


def test_a_net_of_other_inputs_is_refused(dance_bundle):
    manifest, _ = read_manifest(dance_bundle.path)
    task = object.__new__(Choreographer)
    with pytest.raises(BundleError, match="choreography needs"):
        task.check(manifest.model_copy(update={"inputs": manifest.inputs[:2]}))
