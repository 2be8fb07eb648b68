"""Ids: who moves keeps theirs, who was away for long gets a new one, nobody gets somebody else's."""

from __future__ import annotations

import numpy as np

from edgeflock.runtime.faces import Face, FaceTracker

MS = 1_000_000


def face(x: float, y: float = 200, side: float = 80) -> Face:
    return Face((x - side / 2, y - side / 2, x + side / 2, y + side / 2), 0.9)


def ids(faces: list[Face]) -> list[int | None]:
    return [face.id for face in faces]


def test_faces_that_move_keep_their_ids_in_any_order() -> None:
    track, rng = FaceTracker(), np.random.default_rng(0)
    for n in range(60):
        faces = [face(100 + 4 * n), face(300 - n, 210 + 2 * n), face(520, side=80 + n)]
        order = rng.permutation(3)
        got = track([faces[i] for i in order], n * 33 * MS)
        assert ids(got) == order.tolist() if n else sorted(ids(got)) == [0, 1, 2]
        if n == 0:
            track = FaceTracker()
            track(faces, 0)
        assert [g[:2] for g in got] == [faces[i][:2] for i in order]


def test_missed_for_a_few_frames_is_not_gone() -> None:
    track = FaceTracker(patience_s=0.5)
    assert ids(track([face(100), face(300)], 0)) == [0, 1]
    for n in range(1, 15):  # 14 frames, 462 ms
        assert ids(track([face(300)], n * 33 * MS)) == [1]
    assert ids(track([face(110), face(300)], 495 * MS)) == [0, 1]


def test_away_for_longer_is_somebody_new() -> None:
    track = FaceTracker(patience_s=0.5)
    track([face(100)], 0)
    assert ids(track([], 400 * MS)) == [] and track.ids == {0}
    assert ids(track([face(100)], 501 * MS)) == [1] and track.ids == {1}


def test_a_jump_is_somebody_new() -> None:
    track = FaceTracker()
    track([face(100)], 0)
    assert ids(track([face(400)], 33 * MS)) == [1]
    assert ids(track([face(400, side=15)], 66 * MS)) == [2]  # in the same place, but far behind


def test_the_nearest_is_matched_first() -> None:
    track = FaceTracker()
    track([face(100), face(190)], 0)
    assert ids(track([face(150), face(200)], 33 * MS)) == [0, 1]  # 150 is nearer to 190, but 200 is nearer still


def test_time_that_jumps_back_makes_everybody_new_and_ids_are_never_given_twice() -> None:
    track, seen = FaceTracker(), set()
    for loop in range(3):
        for n in range(3):
            got = track([face(100), face(300)], 10**9 + n * 33 * MS)
            assert ids(got) == [2 * loop, 2 * loop + 1]
            seen.update(ids(got))
    assert seen == set(range(6))


def test_many_faces_and_none() -> None:
    track = FaceTracker()
    grid = [face(50 + 100 * i, 50 + 100 * j, 60) for i in range(8) for j in range(5)]
    assert ids(track(grid, 0)) == list(range(40))
    assert ids(track(grid[::-1], 33 * MS)) == list(range(40))[::-1]
    assert track([], 66 * MS) == []
