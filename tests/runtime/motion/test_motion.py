"""Rotations, skeletons and files of motion, against independent rules and by round trips."""

import json
import os
import pickle

import numpy as np
import pytest

from edgeflock.runtime.errors import DataError, InputError
from edgeflock.runtime.motion.bvh import read_bvh, write_bvh
from edgeflock.runtime.motion.files import read_motion, write_motion
from edgeflock.runtime.motion.group import Group, group_of_rows, rows_of
from edgeflock.runtime.motion.rotations import (
    axis_angle_of_quaternion,
    matrix_of_6d,
    matrix_of_quaternion,
    multiply,
    quaternion_of_axis_angle,
    quaternion_of_matrix,
    six_of_matrix,
    slerp,
)
from edgeflock.runtime.motion.skeleton import BODY, Skeleton, foot_contacts, forward_kinematics

RNG = np.random.default_rng(3)


def turns(*shape):
    return quaternion_of_axis_angle(RNG.normal(0, 1.2, (*shape, 3)))


@pytest.fixture
def group():
    return Group(RNG.normal(0, 1, (3, 7, 3)), turns(3, 7, 24), 30.0)


def test_any_six_numbers_give_a_rotation():
    matrix = matrix_of_6d(RNG.normal(0, 2, (50, 6)))
    np.testing.assert_allclose(
        matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), matrix.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(matrix), 1)


def test_all_forms_of_a_rotation_come_back():
    axis_angle = RNG.normal(0, 1, (200, 3))
    axis_angle[0] = 0
    axis_angle[1] = 1e-9
    quaternion = quaternion_of_axis_angle(axis_angle)
    again = matrix_of_6d(six_of_matrix(matrix_of_quaternion(quaternion)))
    turned = np.linalg.norm(axis_angle, axis=1) < np.pi  # beyond, the shorter way round is the same rotation
    back = axis_angle_of_quaternion(quaternion_of_matrix(again))
    np.testing.assert_allclose(back[turned], axis_angle[turned], atol=1e-9)
    np.testing.assert_allclose(matrix_of_quaternion(quaternion_of_matrix(again)), again, atol=1e-12)


def test_quaternions_multiply_as_their_matrices():
    one, other = turns(20), turns(20)
    product = matrix_of_quaternion(multiply(one, other))
    np.testing.assert_allclose(product, matrix_of_quaternion(one) @ matrix_of_quaternion(other), atol=1e-12)


def test_slerp_turns_evenly_the_shorter_way_and_leaves_its_arguments_alone():
    start, turn = quaternion_of_axis_angle(np.array([0.3, 0.2, -0.4])), np.array([0.0, 0.0, 1.2])
    end = -multiply(quaternion_of_axis_angle(turn), start)  # the other sign of the same rotation
    kept = end.copy()
    for part in (0, 0.25, 1):
        wanted = multiply(quaternion_of_axis_angle(part * turn), start)
        assert abs(slerp(start, end, part) @ wanted) == pytest.approx(1)
    np.testing.assert_array_equal(end, kept)
    assert np.linalg.norm(slerp(start, start + 1e-6, 0.5)) == pytest.approx(1)


def test_a_body_at_rest_is_its_offsets():
    places = forward_kinematics(BODY, np.zeros(3), np.broadcast_to(np.eye(3), (24, 3, 3)))
    np.testing.assert_allclose(places[1:] - places[list(BODY.parents[1:])], BODY.offsets[1:], atol=1e-12)


def test_kinematics_agree_with_a_chain_of_4x4_transforms(group):
    frame = matrix_of_quaternion(group.turns[1, 2])
    world = {}
    for joint, parent in enumerate(BODY.parents):
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = frame[joint], BODY.offsets[joint] if joint else group.root[1, 2]
        world[joint] = world[parent] @ step if joint else step
    np.testing.assert_allclose(group.joints()[1, 2], [world[j][:3, 3] for j in range(24)], atol=1e-12)


def test_a_skeleton_with_a_cycle_is_refused(tmp_path):
    with pytest.raises(InputError, match="hang on themselves: b, c"):
        Skeleton(("a", "b", "c"), (-1, 2, 1), np.zeros((3, 3)))
    with pytest.raises(InputError, match="one root"):
        Skeleton(("a", "b"), (-1, -1), np.zeros((2, 3)))
    (tmp_path / "s.json").write_text(json.dumps({"names": ["a"], "parents": [0], "offsets": [[0, 0, 0]]}))
    with pytest.raises(DataError, match=r"s\.json: expected a skeleton"):
        Skeleton.read(tmp_path / "s.json")


def test_a_skeleton_comes_back_from_its_file(tmp_path):
    (tmp_path / "body.json").write_text(BODY.to_json())
    again = Skeleton.read(tmp_path / "body.json")
    assert (again.names, again.parents, again.feet) == (BODY.names, BODY.parents, BODY.feet)
    np.testing.assert_array_equal(again.offsets, BODY.offsets)


def test_a_foot_stands_where_it_is_slow_and_in_the_last_frame():
    places = np.zeros((1, 4, 24, 3))
    places[0, :, 7, 0] = [0, 0.02, 0.025, 0.025]  # 0.6, 0.15, 0 m/s at 30 Hz
    np.testing.assert_array_equal(foot_contacts(BODY, places, 30)[0, :, 0], [0, 1, 1, 1])


def test_rows_hold_root_then_rotations_then_contacts(group):
    rows = rows_of(group)
    assert rows.shape == (3, 7, 151) and rows.dtype == np.float32
    np.testing.assert_allclose(rows[..., :3], group.root, atol=1e-6)
    assert set(np.unique(rows[..., 147:])) <= {0, 1}
    np.testing.assert_allclose(group_of_rows(rows).joints(), group.joints(), atol=1e-5)
    with pytest.raises(InputError, match="151"):
        group_of_rows(rows[..., :150])


def test_a_group_at_another_rate_passes_through_the_same_places(group):
    faster = group.at_rate(60)
    assert len(faster) == 13
    np.testing.assert_allclose(faster.frames(0, 13).joints()[:, ::2], group.joints(), atol=1e-9)
    np.testing.assert_allclose(faster.at_rate(30).joints(), group.joints(), atol=1e-9)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_a_group_without_dancers_or_frames_is_refused(shape):
    with pytest.raises(InputError, match="at least 1"):
        Group(np.zeros((*shape, 3)), np.zeros((*shape, 24, 4)))


def test_bvh_comes_back(group, tmp_path):
    write_bvh(tmp_path / "d.bvh", group, 1)
    again = read_motion(tmp_path / "d.bvh")
    assert again.skeleton.names == BODY.names or set(again.skeleton.names) == set(BODY.names)
    where = [again.skeleton.names.index(name) for name in BODY.names]
    np.testing.assert_allclose(again.joints()[0][:, where], group.joints()[1], atol=1e-6)
    assert again.rate == pytest.approx(30)


def test_bvh_keeps_a_pose_at_the_pole_of_its_angles(tmp_path):
    pole = quaternion_of_axis_angle(np.array([np.pi / 2, 0, 0]))
    pose = np.tile(multiply(pole, quaternion_of_axis_angle(np.array([0, 0.7, 0]))), (1, 1, 24, 1))
    bent = Group(np.zeros((1, 1, 3)), pose)
    write_bvh(tmp_path / "d.bvh", bent)
    again = read_bvh(tmp_path / "d.bvh")
    where = [again.skeleton.names.index(name) for name in BODY.names]
    np.testing.assert_allclose(again.joints()[0][:, where], bent.joints()[0], atol=1e-6)


@pytest.mark.parametrize("broken", ["", "HIERARCHY", "HIERARCHY ROOT a { OFFSET 0 0 } MOTION", "hello world"])
def test_what_is_no_bvh_is_refused(broken, tmp_path):
    (tmp_path / "d.bvh").write_text(broken)
    with pytest.raises(DataError, match=r"d\.bvh: expected a BVH"):
        read_bvh(tmp_path / "d.bvh")


def test_bvh_with_too_few_numbers_is_refused(group, tmp_path):
    write_bvh(tmp_path / "d.bvh", group)
    text = (tmp_path / "d.bvh").read_text()
    (tmp_path / "d.bvh").write_text(text[: text.rindex(" ")])
    with pytest.raises(DataError, match="numbers, got"):
        read_bvh(tmp_path / "d.bvh")


def test_our_own_file_comes_back(group, tmp_path):
    write_motion(tmp_path / "g.npz", group)
    np.testing.assert_allclose(read_motion(tmp_path / "g.npz").joints(), group.joints(), atol=1e-5)


LAYOUTS = {
    "aioz": lambda p, r: {"smpl_poses": p, "root_trans": r, "meta": {"orig_start": 0, "orig_end": 7}},
    "apart": lambda p, r: {"smpl_poses": p[..., 3:], "smpl_orients": p[..., :3], "root_trans": r},
    "gcd": lambda p, r: {"transl": r, "body_pose": p[..., 3:], "global_orient": p[..., :3]},
    "aist": lambda p, r: {"smpl_poses": p[0], "smpl_trans": r[0] * 90, "smpl_scaling": np.array([90.0])},
    "edge": lambda p, r: {"pos": r[0], "q": p[0]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("protocol", [2, 5])
def test_the_layouts_of_others_are_read(layout, protocol, group, tmp_path):
    poses = axis_angle_of_quaternion(group.turns).reshape(3, 7, 72)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(LAYOUTS[layout](poses, group.root), protocol))
    read = read_motion(tmp_path / "m.pkl")
    np.testing.assert_allclose(read.joints(), group.joints()[: read.dancers], atol=1e-6)
    assert read.rate == (60 if layout in ("aist", "edge") else 30)


class _Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "bang"))
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"smpl_poses": _Bomb()}))
    with pytest.raises(DataError, match=r"would call posix\.mkdir"):
        read_motion(tmp_path / "m.pkl")
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize("name", ["m.pkl", "m.npz", "m.xyz"])
def test_what_is_no_motion_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"not motion")
    with pytest.raises(DataError, match="expected motion"):
        read_motion(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_motion(tmp_path / "none.pkl")


def test_a_file_with_z_up_is_stood_up(group, tmp_path):
    flat = Group(np.stack([group.root[..., 0], -group.root[..., 2], group.root[..., 1]], -1), group.turns.copy())
    flat.turns[:, :, 0] = multiply(np.array([np.sqrt(0.5), np.sqrt(0.5), 0, 0]), group.turns[:, :, 0])
    write_motion(tmp_path / "g.npz", flat)
    np.testing.assert_allclose(read_motion(tmp_path / "g.npz", up="z").joints(), group.joints(), atol=1e-5)
