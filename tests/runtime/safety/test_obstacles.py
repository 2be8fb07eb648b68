"""The free way along a curve, against a robot that is moved in small steps until it touches the points it saw."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from edgeflock.runtime.intrinsics import Intrinsics
from edgeflock.runtime.safety.limits import GuardLimits
from edgeflock.runtime.safety.obstacles import MIN_POINTS, Obstacles

LIMITS = GuardLimits(camera_pitch=0.12)
LENS = Intrinsics(160, 120, 90.0, 90.0, 80.0, 60.0)


def rays(lens, limits):
    """Origin and direction of each pixel's ray in the base frame, per metre along the optical axis."""
    v, u = np.mgrid[0 : lens.height, 0 : lens.width].astype(float)
    optical = np.stack([(u - lens.cx) / lens.fx, (v - lens.cy) / lens.fy, np.ones_like(u)], -1)
    level = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)  # optical right, down, ahead -> base ahead, left, up
    p = limits.camera_pitch
    down = np.array([[math.cos(p), 0, math.sin(p)], [0, 1, 0], [-math.sin(p), 0, math.cos(p)]])
    return np.array([limits.camera_forward, 0.0, limits.camera_height]), optical @ (down @ level).T


def see(pillars=(), floor=True, wall_x=None, lens=LENS, limits=LIMITS, height=0.5):
    """Depth image (mm) of round pillars (x, y, radius), a floor, and a wall."""
    origin, ray = rays(lens, limits)
    depth = np.full(ray.shape[:2], np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        if floor:
            depth = np.where(ray[..., 2] < 0, -origin[2] / ray[..., 2], depth)
        if wall_x is not None:
            depth = np.minimum(depth, np.where(ray[..., 0] > 0, (wall_x - origin[0]) / ray[..., 0], np.inf))
        for x, y, radius in pillars:
            dx, dy = origin[0] - x, origin[1] - y
            a = ray[..., 0] ** 2 + ray[..., 1] ** 2
            b = dx * ray[..., 0] + dy * ray[..., 1]
            root = b * b - a * (dx * dx + dy * dy - radius**2)
            t = (-b - np.sqrt(np.where(root >= 0, root, np.nan))) / a
            top = origin[2] + t * ray[..., 2]
            depth = np.fmin(depth, np.where((t > 0) & (top < height) & (top > 0), t, np.nan))
    return np.where(np.isfinite(depth) & (depth < 10), depth * 1000, 0).round().astype(np.uint16)


def distance(depth, steering, lens=LENS, limits=LIMITS):
    obstacles = Obstacles(limits)
    obstacles.update(depth, lens)
    return obstacles.distance(steering)


def driven(depth, steering, wider=0.0, step=0.004):
    """Way in m after which MIN_POINTS of the seen points are inside the body, moved along its circle step by step."""
    origin, ray = rays(LENS, LIMITS)
    points = (origin + ray * (depth / 1000.0)[..., None])[::2, ::2][depth[::2, ::2] > 0]
    x, y, _ = points[(points[:, 2] > 0.05 + 0.04 * points[:, 0]) & (points[:, 2] < 0.42)].T
    half = LIMITS.robot_width / 2 + LIMITS.margin / 2 + wider
    for way in np.arange(0, 2.5, step):
        turn = way * math.tan(steering) / LIMITS.wheelbase
        radius = LIMITS.wheelbase / math.tan(steering) if steering else math.inf
        px, py = (radius * math.sin(turn), radius * (1 - math.cos(turn))) if steering else (way, 0.0)
        ahead = (x - px) * math.cos(turn) + (y - py) * math.sin(turn)
        left = -(x - px) * math.sin(turn) + (y - py) * math.cos(turn)
        if np.count_nonzero((ahead > 0) & (ahead < LIMITS.front) & (abs(left) < half)) >= MIN_POINTS:
            return way
    return math.inf


@settings(max_examples=60, deadline=None)
@example(x=0.703125, y=0.26, radius=0.03, steering=0.0)
@given(st.floats(0.7, 1.8), st.floats(-0.9, 0.9), st.floats(0.03, 0.3), st.floats(-0.6, 0.6))
def test_the_free_way_is_what_the_body_can_really_drive(x, y, radius, steering):
    steering = 0.0 if abs(steering) < 0.005 else steering
    depth = see([(x, y, radius)])
    answer = distance(depth, steering)
    # A point exactly on the body's side may count or not, so the truth lies between two bodies.
    first, last = (driven(depth, steering, wider) for wider in (0.002, -0.002))
    assume(first > 0)
    if min(answer, first) < 1.5:  # later the circle comes back to points beside the start
        assert first - 0.03 <= answer <= last + 0.03


def test_a_wall_is_as_far_as_it_is():
    assert distance(see(wall_x=1.43), 0.0) == pytest.approx(1.0, abs=0.005)


def test_left_is_left():
    pillar = see([(1.2, 0.5, 0.1)])
    assert distance(pillar, 0.0) == math.inf and distance(pillar, -0.3) == math.inf
    assert distance(pillar, 0.25) < 1.0


def test_the_way_between_two_pillars_is_free_and_a_narrow_gap_is_not():
    assert distance(see([(1.2, 0.4, 0.1), (1.2, -0.4, 0.1)]), 0.0) == math.inf
    assert distance(see([(1.2, 0.25, 0.1), (1.2, -0.25, 0.1)]), 0.0) < 0.8


@pytest.mark.parametrize("error", np.radians([-2, 0, 2]))
def test_the_floor_is_free_though_mount_and_body_pitch(error):
    """Two degrees are more than braking and randomised mounts make; checked over what a second of driving covers."""
    tilted = GuardLimits(camera_pitch=LIMITS.camera_pitch + error)
    assert distance(see(limits=tilted), 0.0) > 1.0


def test_what_hangs_above_the_robot_is_free():
    bar = see(wall_x=1.4)
    _, ray = rays(LENS, LIMITS)
    bar[0.3 + ray[..., 2] * bar / 1000.0 < 0.45] = 0  # keeps the wall above 0.45 m only
    assert np.count_nonzero(bar) > 500 and distance(bar, 0.0) == math.inf


def test_holes_and_single_wrong_pixels_are_no_obstacles():
    assert distance(np.zeros((120, 160), np.uint16), 0.0) == math.inf
    speckled = see()
    speckled[40:80:40, 60:100:8] = 500
    assert distance(speckled, 0.0) == math.inf


def test_the_fraction_of_measured_pixels_is_told():
    obstacles = Obstacles(LIMITS)
    half = np.full((120, 160), 3000, np.uint16)
    half[:60] = 0
    obstacles.update(half, LENS)
    assert obstacles.valid == 0.5


def test_a_vga_image_is_looked_at_as_coarsely_and_gives_the_same_distance():
    lens = Intrinsics(640, 480, 360.0, 360.0, 320.0, 240.0)
    assert distance(see([(1.2, 0.0, 0.1)], lens=lens), 0.0, lens) == pytest.approx(0.67, abs=0.01)
